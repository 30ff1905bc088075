/*
 * test_batch.c - many fetches at once: every backend, merging, failing and hanging reads.
 */
#define _GNU_SOURCE
#include "storage_fixture.h"

#define FETCHES_MAX 300u
#define SLOTS_BYTES (4u * 1024u * 1024u)

/* A batch and the memory it fills. */
typedef struct bench {
    flin_storage *storage;
    flin_arena arena;
    flin_batch *batch;
    uint8_t *slots; /* (SLOTS_BYTES) */
    flin_fetch fetches[FETCHES_MAX];
    uint32_t count;
    uint32_t landed[FETCHES_MAX]; /* times each was handed on */
} bench;

static void bench_open(bench *made, flin_storage *storage, const flin_batch_limits *limits)
{
    flin_arena measure;

    memset(made, 0, sizeof *made);
    made->storage = storage;
    flin_arena_measure(&measure);
    assert_null(flin_batch_layout(&measure, storage, limits));
    assert_int_equal(flin_arena_open(&made->arena, measure.used, "test", NULL), 0);
    made->batch = flin_batch_layout(&made->arena, storage, limits);
    assert_non_null(made->batch);
    assert_true(made->arena.used == measure.used);
    made->slots = aligned_alloc(4096, SLOTS_BYTES);
}

/* Storage first: reads that are lost may land until it is closed. */
static void bench_close(bench *made)
{
    flin_storage_close(made->storage);
    flin_arena_close(&made->arena);
    free(made->slots);
}

/* Random extents on the storage's grid: some touching, some with small and large gaps, some slots
   touching, some apart. The last may reach past the end of the file. */
static void draw(bench *made, uint64_t *seed)
{
    uint64_t grid = made->storage->caps.alignment < 16 ? 16 : made->storage->caps.alignment;
    uint64_t offset = random_next(seed) % 20 * grid;
    uint64_t slot = 0;

    made->count = 0;
    memset(made->landed, 0, sizeof made->landed);
    memset(made->slots, 0x5a, SLOTS_BYTES);
    while (made->count < FETCHES_MAX) {
        uint64_t bytes = (1 + random_next(seed) % 5) * grid;
        uint64_t choice = random_next(seed) % 10;

        if (choice == 8) offset += (1 + random_next(seed) % 4) * grid;
        if (choice == 9) offset += random_next(seed) % 100 * grid;
        if (random_next(seed) % 4 == 0) slot += (random_next(seed) % 3) * grid;
        if (offset >= FILE_BYTES || slot + bytes > SLOTS_BYTES) break;
        if (offset + bytes > FILE_BYTES)
            bytes = (FILE_BYTES - offset + made->storage->caps.alignment - 1) &
                    ~((uint64_t)made->storage->caps.alignment - 1);
        made->fetches[made->count++] = (flin_fetch){offset, made->slots + slot, (uint32_t)bytes, 0};
        offset += bytes;
        slot += bytes;
    }
}

static int is_right(const fixture *truth, const flin_fetch *fetch)
{
    uint64_t bytes = FILE_BYTES - fetch->offset;

    if (bytes > fetch->bytes) bytes = fetch->bytes;
    return memcmp(fetch->data, truth->truth + fetch->offset, bytes) == 0;
}

/* Collect to the end; every fetch comes once, whole. Returns the batch's status. */
static int collect(bench *made, const fixture *truth, uint32_t capacity, uint32_t *failed,
                   flashinfer_error *error)
{
    uint32_t indices[FETCHES_MAX];
    uint32_t polls = 0;

    while (flin_batch_outstanding(made->batch) != 0) {
        uint32_t landed;
        int wait = capacity != 7 || ++polls % 50 == 0; /* 7: mostly polling */
        int status =
            flin_batch_collect(made->batch, wait, indices, capacity, &landed, failed, error);

        if (status != 0) {
            assert_int_equal(landed, 0);
            return status;
        }
        if (wait) assert_int_not_equal(landed, 0);
        for (uint32_t index = 0; index < landed; index++) {
            assert_true(indices[index] < made->count);
            assert_int_equal(made->landed[indices[index]]++, 0);
            if (!is_right(truth, &made->fetches[indices[index]])) return 1;
        }
    }
    for (uint32_t index = 0; index < made->count; index++) assert_int_equal(made->landed[index], 1);
    return 0;
}

/* At once, or prepared and then pushed so many times as one does who computes meanwhile. */
static void begin(bench *made, uint32_t pushes, flashinfer_error *error)
{
    uint64_t reads = flin_batch_read_counts(made->batch).reads;

    if (pushes == 0) {
        assert_int_equal(flin_batch_begin(made->batch, made->fetches, made->count, error), 0);
        return;
    }
    assert_int_equal(flin_batch_prepare(made->batch, made->fetches, made->count, error), 0);
    assert_int_equal(flin_batch_outstanding(made->batch), made->count);
    assert_int_equal(made->storage->in_flight, 0);
    for (uint32_t i = 0; i < pushes; i++) {
        flin_batch_push(made->batch);
        assert_true(made->count == 0 || made->storage->in_flight != 0 ||
                    flin_batch_read_counts(made->batch).reads > reads);
    }
    assert_int_equal(flin_batch_outstanding(made->batch), made->count); /* none handed on yet */
}

static void run(bench *made, const fixture *truth, uint32_t capacity)
{
    flashinfer_error error = {.size = sizeof error};
    int status;

    begin(made, capacity == 7 ? 40 : 0, &error);
    status = collect(made, truth, capacity, NULL, &error);
    if (status != 0) print_error("%d: %s\n", status, error.text);
    assert_int_equal(status, 0);
    assert_int_equal(made->storage->in_flight, 0);
}

/* ------------------------------------------------------------------------- every backend */

static void test_backends(void **state)
{
    static const uint32_t depths[] = {1, 3, 40, 64};
    static const uint32_t gaps[] = {0, 4096, 12288, 1 << 20};

    for (uint32_t backend = 0; backend < BACKEND_COUNT; backend++) {
        for (uint32_t index = 0; index < 4; index++) {
            const flin_batch_limits limits = {FETCHES_MAX, 262144, gaps[index], 0};
            uint64_t seed = 99 + index, fetches = 0, wanted = 0;
            flin_storage storage;
            flin_batch_counts counts;
            bench made;
            host self;

            if (!open_backend(&storage, *state, backend, &self, depths[index])) continue;
            bench_open(&made, &storage, &limits);
            flin_storage_pump(&storage, 0);
            for (uint32_t round = 0; round < 12; round++) {
                draw(&made, &seed);
                run(&made, *state, round % 3 == 0 ? 1 : round % 3 == 1 ? 7 : FETCHES_MAX);
                fetches += made.count;
                for (uint32_t fetch = 0; fetch < made.count; fetch++) {
                    const flin_fetch *last = &made.fetches[fetch];

                    wanted += last->bytes;
                    if (last->offset + last->bytes > FILE_BYTES)
                        wanted -= last->offset + last->bytes - FILE_BYTES;
                }
            }
            counts = flin_batch_read_counts(made.batch);
            assert_true(counts.reads < fetches);
            assert_true(gaps[index] == 0 ? counts.bytes == wanted : counts.bytes > wanted);
            assert_int_equal(counts.retries, 0);
            if (backend == BACKEND_HOST) {
                assert_int_equal(self.violations, 0);
                assert_true(self.in_flight_max <= depths[index]);
                assert_true(self.in_flight_max > depths[index] / 2);
            }
            bench_close(&made);
        }
    }
}

/* ------------------------------------------------------------------------- merging */

typedef struct extent {
    uint32_t block, blocks, slot; /* of 4096 bytes */
} extent;

/* The reads and segments that these extents become. */
static void expect_reads(const fixture *truth, const extent *extents, uint32_t count,
                         uint32_t segments_max, uint32_t gap, uint32_t reads, uint32_t segments)
{
    const flin_batch_limits limits = {8, 6 * 4096, gap, 0};
    host self = make_host(truth, 4096, 8, segments_max);
    flin_storage storage;
    bench made;

    open_host(&storage, &self, 0);
    bench_open(&made, &storage, &limits);
    for (uint32_t index = 0; index < count; index++)
        made.fetches[index] =
            (flin_fetch){extents[index].block * 4096, made.slots + extents[index].slot * 4096,
                         extents[index].blocks * 4096, 0};
    made.count = count;
    run(&made, truth, 8);
    assert_int_equal(self.reads, reads);
    assert_int_equal(self.segments, segments);
    assert_int_equal(self.violations, 0);
    assert_true(flin_batch_read_counts(made.batch).reads == reads);
    bench_close(&made);
}

static void test_merging(void **state)
{
    const extent touching[] = {{0, 1, 0}, {1, 2, 1}, {3, 1, 3}, {4, 1, 4}};
    const extent scattered[] = {{0, 1, 6}, {1, 2, 1}, {3, 1, 9}, {4, 1, 4}};
    const extent gaps[] = {{0, 1, 0}, {2, 1, 1}, {5, 1, 2}};
    const extent far[] = {{0, 1, 0}, {100, 1, 1}, {200, 1, 2}};
    const extent longer[] = {{0, 4, 0}, {4, 4, 4}, {8, 2, 8}, {10, 9, 10}};

    /*                                          segments, gap,       reads, segments */
    expect_reads(*state, touching, 4, 8, 0, 1, 1);
    expect_reads(*state, touching, 4, 1, 0, 1, 1);
    expect_reads(*state, scattered, 4, 8, 0, 1, 4);
    expect_reads(*state, scattered, 4, 3, 0, 2, 4);
    expect_reads(*state, scattered, 4, 1, 0, 4, 4);
    expect_reads(*state, gaps, 3, 8, 0, 3, 3);
    expect_reads(*state, gaps, 3, 8, 4096, 2, 4);      /* one block apart, then two */
    expect_reads(*state, gaps, 3, 8, 4096 + 77, 2, 4); /* the gap rounded to the grid */
    expect_reads(*state, gaps, 3, 8, 8192, 1, 5);
    expect_reads(*state, gaps, 3, 4, 8192, 2, 4); /* a gap needs two segments */
    expect_reads(*state, far, 3, 8, 8192, 3, 3);
    expect_reads(*state, longer, 4, 8, 0, 3, 3); /* at most six blocks, or one fetch */
}

/* Two batches and synchronous reads under way at the same time share the queue. */
static void test_interleaved(void **state)
{
    const fixture *truth = *state;
    const flin_batch_limits limits = {FETCHES_MAX, 16384, 0, 0};

    for (uint32_t backend = 0; backend < BACKEND_COUNT; backend++) {
        uint64_t seed = 5;
        flin_storage storage;
        bench first, second;
        uint8_t data[7000];
        uint32_t index, landed;
        host self;

        if (!open_backend(&storage, truth, backend, &self, 4)) continue;
        bench_open(&first, &storage, &limits);
        bench_open(&second, &storage, &limits);
        draw(&first, &seed);
        draw(&second, &seed);
        assert_int_equal(flin_batch_begin(first.batch, first.fetches, first.count, NULL), 0);
        assert_int_equal(flin_batch_begin(second.batch, second.fetches, second.count, NULL), 0);
        for (uint32_t round = 0; round < 10; round++) {
            assert_int_equal(flin_storage_read(&storage, 333 * round, data, sizeof data, "x", NULL),
                             0);
            assert_memory_equal(data, truth->truth + 333 * round, sizeof data);
            assert_int_equal(flin_batch_collect(first.batch, 1, &index, 1, &landed, NULL, NULL), 0);
            assert_int_equal(landed, 1);
            assert_int_equal(first.landed[index]++, 0);
        }
        assert_int_equal(collect(&second, truth, 20, NULL, NULL), 0);
        assert_int_equal(collect(&first, truth, 20, NULL, NULL), 0);
        assert_int_equal(storage.in_flight, 0);
        flin_arena_close(&second.arena);
        free(second.slots);
        bench_close(&first);
    }
}

/* ------------------------------------------------------------------------- failures */

static void fail_nth(bench *made, const fixture *truth, flin_fault_plan *plan)
{
    uint64_t reads, retries;

    *plan = (flin_fault_plan){0};
    run(made, truth, 16);
    reads = plan->reads;
    for (uint64_t nth = 1; nth <= reads; nth++) {
        flashinfer_error error = {.size = sizeof error};
        uint32_t failed = UINT32_MAX;

        /* once: made good */
        for (uint32_t once = 0; once < 2; once++) {
            *plan = (flin_fault_plan){.fail_errno = EIO};
            if (once == 0) plan->fail_read = nth;
            if (once == 1) plan->short_read = nth;
            retries = flin_batch_read_counts(made->batch).retries;
            memset(made->landed, 0, sizeof made->landed);
            memset(made->slots, 0, SLOTS_BYTES);
            run(made, truth, 16);
            assert_true(plan->reads == reads + 1);
            assert_true(flin_batch_read_counts(made->batch).retries == retries + 1);
        }

        /* again and again: an error that names the place */
        *plan = (flin_fault_plan){.fail_read = nth, .fail_count = 9999, .fail_errno = EILSEQ};
        memset(made->landed, 0, sizeof made->landed);
        begin(made, nth % 2 == 0 ? 200 : 0, &error);
        assert_int_equal(collect(made, truth, 16, &failed, &error), FLASHINFER_EIO);
        assert_int_equal(error.sys_errno, EILSEQ);
        assert_true(failed < made->count);
        assert_int_equal(made->landed[failed], 0);
        assert_true(error.offset == (int64_t)made->fetches[failed].offset);
        assert_int_equal(flin_batch_outstanding(made->batch), 0);
        assert_int_equal(made->storage->in_flight, 0);

        /* the batch can be used again */
        *plan = (flin_fault_plan){.corrupt_read = nth};
        memset(made->landed, 0, sizeof made->landed);
        assert_int_equal(flin_batch_begin(made->batch, made->fetches, made->count, &error), 0);
        assert_int_equal(collect(made, truth, 16, NULL, &error), 1); /* handed on as it came */
        flin_batch_abandon(made->batch);
        *plan = (flin_fault_plan){0};
        memset(made->landed, 0, sizeof made->landed);
        run(made, truth, 16);
    }
}

static void test_failures(void **state)
{
    const flin_batch_limits limits = {12, 32768, 0, 0};

    for (uint32_t backend = 0; backend < BACKEND_COUNT; backend++) {
        for (uint32_t depth = 1; depth <= 5; depth += 4) {
            flin_fault_plan plan = {0};
            uint64_t seed = 3;
            flin_storage storage;
            bench made;
            host self;

            if (!open_backend(&storage, *state, backend, &self, depth)) continue;
            assert_int_equal(flin_storage_add_fault(&storage, &plan, NULL), 0);
            bench_open(&made, &storage, &limits);
            draw(&made, &seed);
            made.count = 12;
            fail_nth(&made, *state, &plan);
            bench_close(&made);
        }
    }
}

/* The file ends earlier than it did: the fetch that lacks bytes is the one named. */
static void test_short_storage(void **state)
{
    const fixture *truth = *state;
    const flin_batch_limits limits = {8, 65536, 0, 0};
    host self = make_host(truth, 4096, 4, 8);
    flashinfer_error error = {.size = sizeof error};
    uint32_t failed = 0;
    flin_storage storage;
    bench made;

    open_host(&storage, &self, 0);
    self.bytes = 3 * 4096 + 100;
    bench_open(&made, &storage, &limits);
    for (uint32_t index = 0; index < 6; index++)
        made.fetches[index] = (flin_fetch){index * 4096, made.slots + (7 - index) * 4096, 4096, 0};
    made.count = 6;
    assert_int_equal(flin_batch_begin(made.batch, made.fetches, 6, NULL), 0);
    assert_int_equal(collect(&made, truth, 6, &failed, &error), FLASHINFER_EIO);
    assert_int_equal(failed, 3);
    assert_true(error.offset == 3 * 4096);
    assert_int_equal(error.sys_errno, 0);
    assert_non_null(strstr(error.text, "the file changed"));
    bench_close(&made);
}

/* A read that never comes: an error after the time limit, and nothing is begun beside it. */
static void test_hang(void **state)
{
    const flin_batch_limits limits = {FETCHES_MAX, 16384, 4096, 0};

    for (uint32_t backend = 0; backend < BACKEND_COUNT; backend++) {
        flashinfer_error error = {.size = sizeof error};
        flin_fault_plan plan = {.hang_read = 2};
        uint64_t seed = 11;
        uint32_t failed = UINT32_MAX;
        flin_storage storage;
        bench made;
        host self;

        if (!open_backend(&storage, *state, backend, &self, 4)) continue;
        storage.timeout_ns = SHORT_TIMEOUT_NS;
        assert_int_equal(flin_storage_add_fault(&storage, &plan, NULL), 0);
        bench_open(&made, &storage, &limits);
        draw(&made, &seed);
        assert_int_equal(flin_batch_begin(made.batch, made.fetches, made.count, NULL), 0);
        assert_int_equal(collect(&made, *state, 16, &failed, &error), FLASHINFER_ETIMEDOUT);
        assert_true(failed < made.count && made.landed[failed] == 0);
        assert_non_null(strstr(error.text, "no answer within 150 ms; "));
        assert_true(flin_batch_lost(made.batch) >= 1);
        assert_int_equal(flin_batch_outstanding(made.batch), 0);
        assert_int_equal(flin_batch_begin(made.batch, made.fetches, made.count, &error),
                         FLASHINFER_ETIMEDOUT);
        bench_close(&made);
    }
}

/* The host answers late: the batch works again once everything has landed. */
static void test_late_landing(void **state)
{
    const flin_batch_limits limits = {FETCHES_MAX, 16384, 4096, 0};
    host self = make_host(*state, 512, 4, 4);
    uint64_t seed = 21;
    flin_storage storage;
    bench made;

    open_host(&storage, &self, SHORT_TIMEOUT_NS);
    bench_open(&made, &storage, &limits);
    draw(&made, &seed);
    self.holding = 1;
    assert_int_equal(flin_batch_begin(made.batch, made.fetches, made.count, NULL), 0);
    assert_int_equal(collect(&made, *state, 16, NULL, NULL), FLASHINFER_ETIMEDOUT);
    assert_int_equal(flin_batch_lost(made.batch), 4);
    assert_int_equal(flin_batch_begin(made.batch, made.fetches, made.count, NULL),
                     FLASHINFER_ETIMEDOUT);
    self.holding = 0;
    assert_int_equal(flin_batch_lost(made.batch), 0);
    assert_int_equal(storage.lost, 0);
    run(&made, *state, 16);

    /* the same by abandoning */
    self.holding = 1;
    assert_int_equal(flin_batch_begin(made.batch, made.fetches, made.count, NULL), 0);
    flin_batch_abandon(made.batch);
    assert_int_equal(flin_batch_outstanding(made.batch), 0);
    assert_int_equal(storage.lost, 4);
    self.holding = 0;
    memset(made.landed, 0, sizeof made.landed);
    run(&made, *state, 16);
    assert_int_equal(self.violations, 0);
    bench_close(&made);
}

static void test_abandon(void **state)
{
    const flin_batch_limits limits = {FETCHES_MAX, 16384, 4096, 0};

    for (uint32_t backend = 0; backend < BACKEND_COUNT; backend++) {
        uint64_t seed = 31;
        uint32_t index, landed;
        flin_storage storage;
        bench made;
        host self;

        if (!open_backend(&storage, *state, backend, &self, 8)) continue;
        bench_open(&made, &storage, &limits);
        flin_batch_abandon(made.batch); /* nothing under way */
        for (uint32_t round = 0; round < 5; round++) {
            draw(&made, &seed);
            assert_int_equal(flin_batch_begin(made.batch, made.fetches, made.count, NULL), 0);
            if (round > 2)
                assert_int_equal(flin_batch_collect(made.batch, 1, &index, 1, &landed, NULL, NULL),
                                 0);
            flin_batch_abandon(made.batch);
            assert_int_equal(flin_batch_outstanding(made.batch), 0);
            assert_int_equal(storage.in_flight, 0);
        }
        draw(&made, &seed);
        run(&made, *state, 16);
        bench_close(&made);
    }
}

/* ------------------------------------------------------------------------- shared blocks */

/* Bundles smaller than the alignment: neighbours lie in one block, which lands in both slots. */
static void test_shared_blocks(void **state)
{
    for (uint32_t backend = 0; backend < BACKEND_COUNT; backend++) {
        const flin_batch_limits limits = {FETCHES_MAX, 65536, 8192, 0};
        uint64_t grid, offset = 0;
        flin_storage storage;
        bench made;
        host self;

        if (!open_backend(&storage, *state, backend, &self, 8)) continue;
        bench_open(&made, &storage, &limits);
        grid = storage.caps.alignment < 16 ? 16 : storage.caps.alignment;
        for (made.count = 0; made.count < 24; made.count++) {
            uint8_t *slot = made.slots + made.count * 2 * grid;

            made.fetches[made.count] = (flin_fetch){offset, slot, (uint32_t)(2 * grid), 0};
            if (made.count % 3 != 0) offset += grid; /* every third comes twice */
        }
        run(&made, *state, 3);
        bench_close(&made);
    }
}

/* ------------------------------------------------------------------------- misuse */

static void test_misuse(void **state)
{
    const flin_batch_limits limits = {4, 65536, 0, 0};
    host self = make_host(*state, 512, 2, 4);
    const uint64_t last = FILE_BYTES / 512 * 512;
    flin_storage storage;
    uint32_t index, landed;
    bench made;

#define REFUSED(code, ...)                                                                         \
    do {                                                                                           \
        const flin_fetch wrong[] = {__VA_ARGS__};                                                  \
        assert_int_equal(                                                                          \
            flin_batch_begin(made.batch, wrong, sizeof wrong / sizeof wrong[0], NULL), code);      \
        assert_int_equal(flin_batch_outstanding(made.batch), 0);                                   \
    } while (0)

    open_host(&storage, &self, 0);
    bench_open(&made, &storage, &limits);
    REFUSED(FLASHINFER_EINVAL, {0, NULL, 512, 0});
    REFUSED(FLASHINFER_EINVAL, {0, made.slots, 0, 0});
    REFUSED(FLASHINFER_EINVAL, {0, made.slots, 511, 0});
    REFUSED(FLASHINFER_EINVAL, {1, made.slots, 512, 0});
    REFUSED(FLASHINFER_EINVAL, {0, made.slots + 1, 512, 0});
    REFUSED(FLASHINFER_EINVAL, {512, made.slots, 512, 0}, {0, made.slots + 512, 512, 0});
    REFUSED(FLASHINFER_EFORMAT, {last, made.slots, 1024, 0});
    REFUSED(FLASHINFER_EFORMAT, {last + 512, made.slots, 512, 0});
    REFUSED(FLASHINFER_EFORMAT, {UINT64_MAX - 511, made.slots, 512, 0});
    REFUSED(FLASHINFER_EFORMAT, {0, made.slots, UINT32_MAX - 511, 0});
    REFUSED(FLASHINFER_EINVAL, {0, made.slots, 512, 0}, {512, made.slots, 512, 0},
            {1024, made.slots, 512, 0}, {1536, made.slots, 512, 0}, {2048, made.slots, 512, 0});
    assert_int_equal(self.reads, 0);

    assert_int_equal(flin_batch_begin(made.batch, NULL, 0, NULL), 0);
    assert_int_equal(flin_batch_collect(made.batch, 1, &index, 1, &landed, NULL, NULL), 0);
    assert_int_equal(landed, 0);
    made.fetches[0] = (flin_fetch){last, made.slots, 512, 0};
    made.count = 1;
    assert_int_equal(flin_batch_begin(made.batch, made.fetches, 1, NULL), 0);
    assert_int_equal(flin_batch_begin(made.batch, made.fetches, 1, NULL), FLASHINFER_EBUSY);
    assert_int_equal(collect(&made, *state, 1, NULL, NULL), 0);
    self.busy = UINT32_MAX; /* takes nothing, ever */
    assert_int_equal(flin_batch_begin(made.batch, made.fetches, 1, NULL), 0);
    assert_int_equal(collect(&made, *state, 1, NULL, NULL), FLASHINFER_EIO);
    assert_int_equal(self.violations, 0);
    bench_close(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backends),      cmocka_unit_test(test_merging),
        cmocka_unit_test(test_interleaved),   cmocka_unit_test(test_failures),
        cmocka_unit_test(test_short_storage), cmocka_unit_test(test_hang),
        cmocka_unit_test(test_late_landing),  cmocka_unit_test(test_abandon),
        cmocka_unit_test(test_shared_blocks), cmocka_unit_test(test_misuse),
    };

    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
