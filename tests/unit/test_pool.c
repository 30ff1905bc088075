/*
 * test_pool.c - every part of the work is done once, whoever does it and whether threads were awake or asleep.
 */
#include "support.h"

#include <stdatomic.h>
#include <time.h>

#include "util/pool.h"

#define TOTAL_MAX 5000u

static void open_pool(flin_pool *pool, uint32_t threads)
{
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flin_pool_open(pool, threads, &error));
}

static void rest(long nanoseconds)
{
    const struct timespec time = {0, nanoseconds};

    (void)nanosleep(&time, NULL);
}

/* How often each thread and each item had its turn. */
typedef struct counts {
    _Atomic uint32_t threads[FLIN_POOL_THREADS_MAX];
    _Atomic uint32_t items[TOTAL_MAX];
    _Atomic uint32_t wrong; /* parts that are not as promised */
    uint32_t total, grain;
    long slow_ns; /* what a thread other than the caller's takes for its turn */
} counts;

static void count_thread(void *context, uint32_t index, uint32_t count)
{
    counts *at = context;

    if (index >= count) atomic_fetch_add(&at->wrong, 1);
    if (index != 0 && at->slow_ns != 0) rest(at->slow_ns);
    atomic_fetch_add(&at->threads[index], 1);
}

static void count_items(void *context, uint32_t begin, uint32_t end)
{
    counts *at = context;

    if (begin >= end || end > at->total || begin % at->grain != 0 ||
        (end % at->grain != 0 && end != at->total))
        atomic_fetch_add(&at->wrong, 1);
    for (uint32_t i = begin; i < end && i < TOTAL_MAX; i++) atomic_fetch_add(&at->items[i], 1);
}

/* Short pauses find threads awake, long ones asleep; slow threads let the caller fall asleep. */
static void every_thread_has_one_turn(void **state)
{
    static const long pauses_ns[] = {0, 20000, 300000};
    static counts at;

    (void)state;
    for (uint32_t threads = 1; threads <= 5; threads++)
        for (uint32_t kind = 0; kind < 9; kind++) {
            flin_pool pool;

            open_pool(&pool, threads);
            memset(&at, 0, sizeof at);
            at.slow_ns = pauses_ns[kind / 3];
            for (uint32_t turn = 1; turn <= 40; turn++) {
                flin_pool_run(&pool, count_thread, &at);
                for (uint32_t i = 0; i < threads; i++) assert_int_equal(at.threads[i], turn);
                if (pauses_ns[kind % 3] != 0) rest(pauses_ns[kind % 3]);
            }
            assert_int_equal(at.wrong, 0);
            flin_pool_close(&pool);
        }
}

static void every_item_is_in_one_part(void **state)
{
    static const uint32_t totals[] = {0, 1, 15, 16, 17, 255, 256, 1000, 4096, 4999};
    static const uint32_t grains[] = {1, 16, 64, 300};
    static counts at;

    (void)state;
    for (uint32_t threads = 1; threads <= 7; threads += 2) {
        flin_pool pool;

        open_pool(&pool, threads);
        for (uint32_t kind = 0; kind < 4 * sizeof totals / sizeof *totals; kind++) {
            memset(&at, 0, sizeof at);
            at.total = totals[kind / 4];
            at.grain = grains[kind % 4];
            flin_pool_split(&pool, at.total, at.grain, count_items, &at);
            assert_int_equal(at.wrong, 0);
            for (uint32_t i = 0; i < TOTAL_MAX; i++)
                assert_int_equal(at.items[i], i < at.total ? 1 : 0);
        }
        flin_pool_close(&pool);
    }
}

/* The share of one thread takes long; parts of the rest are counted in `threads` by whether that has ended. */
static void sleep_over_a_share(void *context, uint32_t begin, uint32_t end)
{
    counts *at = context;
    const uint32_t shared = at->total * 3 / 4;

    if (begin == shared / 2) {
        rest(300000000);
        atomic_store(&at->threads[2], 1);
    }
    if (begin >= shared) atomic_fetch_add(&at->threads[atomic_load(&at->threads[2])], 1);
    count_items(context, begin, end);
}

static void who_is_done_takes_the_rest(void **state)
{
    static counts at;
    flin_pool pool;

    (void)state;
    open_pool(&pool, 2);
    memset(&at, 0, sizeof at);
    at.total = 4096;
    at.grain = 16;
    flin_pool_split(&pool, at.total, at.grain, sleep_over_a_share, &at);
    for (uint32_t i = 0; i < at.total; i++) assert_int_equal(at.items[i], 1);
    assert_int_equal(at.threads[2], 1);
    assert_true(at.threads[0] > 4 * at.threads[1]); /* before the slow one had ended; after */
    flin_pool_close(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_has_one_turn),
        cmocka_unit_test(every_item_is_in_one_part),
        cmocka_unit_test(who_is_done_takes_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
