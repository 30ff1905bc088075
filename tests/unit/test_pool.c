/*
 * test_pool.c - every part of the work is done once, whoever does it and whether threads were awake or asleep, and what is
 * asked for ahead is what will be read.
 */
#define _GNU_SOURCE
#include "support.h"

#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "util/cpus.h"
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

/* What is asked for begins where kernels begin: at every side of the part that lies in one matrix. */
static void a_part_is_asked_for_side_by_side(void **state)
{
    static const uint8_t first[1000 * 300], second[1000 * 300];
    const flin_ahead ahead = {{first, second, NULL}, {1000, 1000, 0}, 10, 4, 300};
    flin_asking asking;

    (void)state;
    assert_int_equal(flin_ahead_rows(&ahead), 2000);
    flin_asking_begin(&asking, &ahead, 100, 900); /* in the first */
    assert_ptr_equal(asking.next, first + 100 * 300);
    assert_int_equal(asking.sides, 4);
    assert_int_equal(asking.side_bytes, 200 * 300);
    assert_int_equal(asking.left_bytes, 200 * 300);
    flin_asking_begin(&asking, &ahead, 900, 1500); /* in both: what is in the first comes first */
    assert_ptr_equal(asking.next, first + 900 * 300);
    assert_int_equal(asking.side_bytes, 25 * 300);
    flin_asking_begin(&asking, &ahead, 1900, 2000); /* in the second */
    assert_ptr_equal(asking.next, second + 900 * 300);
    flin_asking_begin(&asking, &ahead, 1994,
                      1999); /* fewer rows than there is room for side by side */
    assert_int_equal(asking.side_bytes, 2 * 300);
    assert_int_equal(asking.sides, 3);
    flin_asking_begin(&asking, &ahead, 50, 50);
    assert_int_equal(flin_ask(&asking), 0);
}

/* A line of each side a time, up to the end of a side or as much as a thread may ask for. */
static void asking_ends(void **state)
{
    static const uint8_t rows[1 << 20];
    const flin_ahead narrow = {{rows, NULL, NULL}, {1024, 0, 0}, 16, 8, 100};
    const flin_ahead wide = {{rows, NULL, NULL}, {1024, 0, 0}, 16, 8, 1024};
    flin_asking asking;
    uint32_t lines;

    (void)state;
    flin_asking_begin(&asking, &narrow, 0, 80);
    for (lines = 0; flin_ask(&asking); lines++)
        ;
    assert_int_equal(lines, 1000 / 64 + 1);
    flin_asking_begin(&asking, &wide, 0, 1024);
    for (lines = 0; flin_ask(&asking); lines++)
        ;
    assert_int_equal(lines, FLIN_AHEAD_BYTES / 8 / 64);
}

/* Whatever is expected, tasks run as they would; and an expectation is forgotten with the run it came before. */
static void expecting_changes_nothing(void **state)
{
    static counts at;
    static const uint8_t rows[4096 * 64];
    const flin_ahead ahead = {{rows, rows, rows}, {4096, 100, 7}, 16, 8, 64};

    (void)state;
    for (uint32_t threads = 1; threads <= 4; threads++) {
        flin_pool pool;

        open_pool(&pool, threads);
        for (uint32_t turn = 0; turn < 200; turn++) {
            memset(&at, 0, sizeof at);
            at.total = 4203;
            at.grain = 16;
            if (turn % 3 != 0) flin_pool_expect(&pool, turn % 3 == 1 ? &ahead : NULL);
            flin_pool_split(&pool, at.total, at.grain, count_items, &at);
            assert_int_equal(flin_ahead_rows(&pool.ahead), 0);
            if (turn % 50 == 0) rest(300000);
            for (uint32_t i = 0; i < at.total; i++) assert_int_equal(at.items[i], 1);
            assert_int_equal(at.wrong, 0);
        }
        flin_pool_close(&pool);
    }
}

static long cpu_time_us(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (long)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

/* Threads that there are no CPUs for sleep while they wait: a spinning one takes 100 microseconds each time. */
static void who_has_no_cpu_sleeps(void **state)
{
    const uint32_t threads = FLIN_POOL_THREADS_MAX, turns = 20;
    static counts at;
    flin_pool pool;
    long before_us;

    (void)state;
    if (flin_cpus() >= threads) skip();
    open_pool(&pool, threads);
    memset(&at, 0, sizeof at);
    before_us = cpu_time_us();
    for (uint32_t turn = 1; turn <= turns; turn++) {
        flin_pool_run(&pool, count_thread, &at);
        for (uint32_t i = 0; i < threads; i++) assert_int_equal(at.threads[i], turn);
        rest(10000000);
    }
    assert_true(cpu_time_us() - before_us < 50 * (long)(threads * turns));
    flin_pool_close(&pool);
}

/* The other thread comes late each time, as if its CPU were taken: the caller soon no longer spins. */
static void a_spin_in_vain_is_not_repeated(void **state)
{
    const uint32_t turns = 300;
    static counts at;
    flin_pool pool;
    long before_us;

    (void)state;
    if (flin_cpus() < 2) skip();
    open_pool(&pool, 2);
    memset(&at, 0, sizeof at);
    at.slow_ns = 300000;
    before_us = cpu_time_us();
    for (uint32_t turn = 1; turn <= turns; turn++) flin_pool_run(&pool, count_thread, &at);
    print_message("%ld us a turn\n", (cpu_time_us() - before_us) / (long)turns);
    assert_true(cpu_time_us() - before_us < 100 * (long)turns);
    assert_int_equal(at.threads[1], turns);
    at.slow_ns = 0; /* and tries again when it is fine */
    for (uint32_t turn = 0; turn < 10000 && pool.quiet != 0; turn++)
        flin_pool_run(&pool, count_thread, &at);
    assert_int_equal(pool.quiet, 0);
    flin_pool_close(&pool);
}

/* What another guest of the machine takes now and then changes nothing: waking a thread with every task costs
   more. Savings and rest are set by hand, because other work on this machine disturbs them. */
static void single_spins_in_vain_are_forgiven(void **state)
{
    static counts at;
    flin_pool pool;
    uint32_t full;

    (void)state;
    if (flin_cpus() < 2) skip();
    open_pool(&pool, 2);
    memset(&at, 0, sizeof at);
    full = pool.saved;
    at.slow_ns = 2000000;
    for (uint32_t late = 0; late < 4; late++) {
        flin_pool_run(&pool, count_thread, &at);
        assert_int_equal(pool.quiet, 0);
    }
    assert_true(pool.saved < full);
    pool.saved = 0;
    flin_pool_run(&pool, count_thread, &at);
    assert_int_not_equal(pool.quiet, 0);
    flin_pool_close(&pool);
}

#ifdef __linux__
static void only_cpus_that_may_be_used_count(void **state)
{
    cpu_set_t before, one;
    size_t first = 0;

    (void)state;
    assert_int_equal(flin_cpus_of_quota("max 100000\n"), FLIN_CPUS_NO_LIMIT);
    assert_int_equal(flin_cpus_of_quota("200000 100000\n"), 2);
    assert_int_equal(flin_cpus_of_quota("150000 100000\n"), 2);
    assert_int_equal(flin_cpus_of_quota("1000 100000\n"), 1);
    assert_int_equal(flin_cpus_of_quota("0 100000\n"), FLIN_CPUS_NO_LIMIT);
    assert_int_equal(flin_cpus_of_quota("100000"), FLIN_CPUS_NO_LIMIT);
    assert_int_equal(flin_cpus_of_quota(""), FLIN_CPUS_NO_LIMIT);
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_in_range(flin_cpus(), 1, CPU_COUNT(&before));
    while (!CPU_ISSET(first, &before)) first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(flin_cpus(), 1);
    assert_int_equal(flin_pool_default_count(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_has_one_turn),
        cmocka_unit_test(every_item_is_in_one_part),
        cmocka_unit_test(who_is_done_takes_the_rest),
        cmocka_unit_test(a_part_is_asked_for_side_by_side),
        cmocka_unit_test(asking_ends),
        cmocka_unit_test(expecting_changes_nothing),
        cmocka_unit_test(who_has_no_cpu_sleeps),
        cmocka_unit_test(a_spin_in_vain_is_not_repeated),
        cmocka_unit_test(single_spins_in_vain_are_forgiven),
#ifdef __linux__
        cmocka_unit_test(only_cpus_that_may_be_used_count),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
