/*
 * test_uring.c - what only io_uring can do wrong: a kernel that refuses it, one that takes a part of what is submitted,
 * a ring closed with reads still out. test_storage.c and test_batch.c run it beside every other backend.
 *
 * Linked with --wrap for each function below. Exits 77 (skipped) where the build or the kernel has no io_uring.
 */
#define _GNU_SOURCE
#include "storage_fixture.h"

#ifdef FLIN_HAVE_URING
#include <liburing.h>

/* How the kernel behaves. All zero: as it is. */
static struct {
    int init_status;       /* every queue_init fails with it */
    int flags_unknown;     /* -EINVAL for setup flags, as an older kernel */
    uint32_t features_off; /* features that are not there */
    int submit_status;     /* submit fails with it */
    uint32_t submit_fails; /* times */
    uint32_t take_max;     /* entries one submit takes; 0: all */
    int libaio_status;     /* io_setup fails with it */
    uint32_t inits;        /* counted */
    uint32_t submits;
} kernel;

int __real_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
int __wrap_io_uring_submit(struct io_uring *ring);

#ifdef FLIN_HAVE_LIBAIO
int __real_io_setup(int events, void *context);
int __wrap_io_setup(int events, void *context);

int __wrap_io_setup(int events, void *context)
{
    return kernel.libaio_status != 0 ? kernel.libaio_status : __real_io_setup(events, context);
}
#endif

int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params)
{
    int status;

    kernel.inits++;
    if (kernel.init_status != 0) return kernel.init_status;
    if (kernel.flags_unknown && params->flags != 0) return -EINVAL;
    status = __real_io_uring_queue_init_params(entries, ring, params);
    params->features &= ~kernel.features_off;
    return status;
}

int __wrap_io_uring_submit(struct io_uring *ring)
{
    unsigned count = io_uring_sq_ready(ring);

    kernel.submits++;
    if (kernel.submit_fails != 0) {
        kernel.submit_fails--;
        return kernel.submit_status;
    }
    if (kernel.take_max == 0 || count <= kernel.take_max) return __real_io_uring_submit(ring);
    /* publish all, let the kernel take some: what it does when it runs out of memory midway */
    ring->sq.sqe_head = ring->sq.sqe_tail;
    *ring->sq.ktail = ring->sq.sqe_tail;
    return io_uring_enter((unsigned)ring->ring_fd, kernel.take_max, 0, 0, NULL);
}

static const flin_storage_config uring_config = {.kind = FLASHINFER_STORAGE_URING, .depth = 16};

static void expect_refused(const fixture *made, int code, const char *words)
{
    flashinfer_error error = {.size = sizeof error};
    flin_storage storage;
    int status = flin_storage_open_path(&storage, made->path, &uring_config, &error);

    if (status != code || strstr(error.text, words) == NULL) print_error("%s\n", error.text);
    assert_int_equal(status, code);
    assert_non_null(strstr(error.text, "io_uring"));
    assert_non_null(strstr(error.text, words));
    flin_storage_close(&storage);
}

static const char *default_name(const fixture *made)
{
    static const flin_storage_config plain;
    flashinfer_error error = {.size = sizeof error, .code = 77};
    flin_storage storage;
    const char *name;

    assert_int_equal(flin_storage_open_path(&storage, made->path, &plain, &error), 0);
    assert_int_equal(error.code, 77);
    name = storage.name;
    flin_storage_close(&storage);
    return name;
}

/* Asked for: one clear error. By default: the next kind, without a word. */
static void test_refused(void **state)
{
    const fixture *made = *state;
    static const struct {
        int status, code;
        const char *words;
    } cases[] = {
        {-ENOSYS, FLASHINFER_EUNSUPPORTED, "use libaio"},
        {-EPERM, FLASHINFER_EUNSUPPORTED, "io_uring_disabled"},
        {-EACCES, FLASHINFER_EUNSUPPORTED, "sandbox"},
        {-EINVAL, FLASHINFER_EUNSUPPORTED, "use libaio"},
        {-ENOMEM, FLASHINFER_ENOMEM, "io_depth"},
        {-EMFILE, FLASHINFER_EIO, "cannot open a queue"},
    };

    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        memset(&kernel, 0, sizeof kernel);
        kernel.init_status = cases[index].status;
        kernel.libaio_status = -EAGAIN;
        expect_refused(made, cases[index].code, cases[index].words);
        assert_string_equal(default_name(made), "pread");
    }
    memset(&kernel, 0, sizeof kernel);
    kernel.libaio_status = -EAGAIN;
    assert_string_equal(default_name(made), "io_uring");
    kernel.features_off = IORING_FEAT_EXT_ARG;
    expect_refused(made, FLASHINFER_EUNSUPPORTED, "5.11");
}

static void test_older_kernel(void **state)
{
    const fixture *made = *state;
    flin_storage storage;
    uint8_t data[9000];

    memset(&kernel, 0, sizeof kernel);
    kernel.flags_unknown = 1;
    assert_int_equal(flin_storage_open_path(&storage, made->path, &uring_config, NULL), 0);
    assert_int_equal(kernel.inits, 2);
    assert_int_equal(flin_storage_read(&storage, 5, data, sizeof data, "x", NULL), 0);
    assert_memory_equal(data, made->truth + 5, sizeof data);
    flin_storage_close(&storage);
}

/* Ring and entries are memory of the handle; they grow with the depth. */
static void test_held_bytes(void **state)
{
    const fixture *made = *state;
    uint64_t before = 0;

    memset(&kernel, 0, sizeof kernel);
    for (uint32_t depth = 64; depth <= 4096; depth *= 8) {
        flin_storage_config config = {.kind = FLASHINFER_STORAGE_URING, .depth = depth};
        flin_storage storage;

        assert_int_equal(flin_storage_open_path(&storage, made->path, &config, NULL), 0);
        assert_true(storage.held_bytes > before + depth * (sizeof(struct io_uring_sqe) / 2));
        assert_int_equal(storage.caps.depth, depth);
        before = storage.held_bytes;
        flin_storage_close(&storage);
    }
}

typedef struct scatter {
    flin_arena arena;
    flin_batch *batch;
    uint8_t *slots;
    flin_fetch fetches[200];
} scatter;

static void scatter_open(scatter *made, flin_storage *storage)
{
    const flin_batch_limits limits = {200, 16384, 0, 0};
    uint64_t grid = storage->caps.alignment;

    assert_int_equal(flin_arena_open(&made->arena, 4u << 20, "test", NULL), 0);
    made->batch = flin_batch_layout(&made->arena, storage, &limits);
    made->slots = aligned_alloc(4096, 200 * 4096);
    for (uint32_t index = 0; index < 200; index++)
        made->fetches[index] =
            (flin_fetch){index * 5120, made->slots + (size_t)index * 4096,
                         (uint32_t)(grid > 512 ? 4096 : 512 * (1 + index % 8)), 0};
}

static void scatter_close(scatter *made)
{
    flin_arena_close(&made->arena);
    free(made->slots);
}

static void scatter_run(scatter *made, const fixture *truth, flin_storage *storage)
{
    uint32_t landed, indices[200], total = 0;
    flashinfer_error error = {.size = sizeof error};

    memset(made->slots, 0, 200 * 4096);
    assert_int_equal(flin_batch_begin(made->batch, made->fetches, 200, &error), 0);
    do {
        assert_int_equal(flin_batch_collect(made->batch, 1, indices, 200, &landed, NULL, &error),
                         0);
        total += landed;
    } while (landed != 0);
    assert_int_equal(total, 200);
    assert_int_equal(storage->in_flight, 0);
    for (uint32_t index = 0; index < 200; index++)
        assert_memory_equal(made->fetches[index].data, truth->truth + made->fetches[index].offset,
                            made->fetches[index].bytes);
}

/* What a submission leaves behind is submitted again, once; every read lands exactly where it belongs. */
static void test_partial_submission(void **state)
{
    const fixture *truth = *state;
    flin_storage storage;
    scatter made;

    memset(&kernel, 0, sizeof kernel);
    assert_int_equal(flin_storage_open_path(&storage, truth->path, &uring_config, NULL), 0);
    scatter_open(&made, &storage);
    for (uint32_t take = 0; take <= 9; take += 3) {
        kernel.take_max = take;
        scatter_run(&made, truth, &storage);
    }
    kernel.take_max = 0;
    kernel.submit_status = -EAGAIN;
    for (uint32_t fails = 1; fails <= 3; fails++) {
        assert_int_equal(flin_batch_begin(made.batch, made.fetches, 200, NULL), 0);
        kernel.submit_fails = fails; /* the queue is full of reads: only later ones meet it */
        flin_batch_abandon(made.batch);
        kernel.submit_fails = 0;
    }
    scatter_run(&made, truth, &storage);

    /* one system call a batch of reads, not one a read */
    kernel.submits = 0;
    assert_int_equal(flin_batch_begin(made.batch, made.fetches, 16, NULL), 0);
    assert_int_equal(kernel.submits, 1);
    flin_batch_abandon(made.batch);
    flin_storage_close(&storage);
    scatter_close(&made);
}

/* A kernel that takes nothing although nothing is out: an error, not a wait for ever. */
static void test_never_taken(void **state)
{
    const fixture *truth = *state;
    flashinfer_error error = {.size = sizeof error};
    flin_storage storage;
    uint8_t data[100];

    memset(&kernel, 0, sizeof kernel);
    assert_int_equal(flin_storage_open_path(&storage, truth->path, &uring_config, NULL), 0);
    kernel.submit_status = -EAGAIN;
    kernel.submit_fails = 1000;
    assert_int_equal(flin_storage_read(&storage, 0, data, 100, "x", &error), FLASHINFER_EIO);
    assert_int_equal(error.sys_errno, EAGAIN);
    kernel.submit_status = -EBUSY;
    assert_int_equal(flin_storage_read(&storage, 0, data, 100, "x", &error), FLASHINFER_EIO);
    kernel.submit_status = -ENXIO;
    assert_int_equal(flin_storage_read(&storage, 0, data, 100, "x", &error), FLASHINFER_EIO);
    assert_int_equal(error.sys_errno, ENXIO);
    kernel.submit_fails = 0;
    assert_int_equal(flin_storage_read(&storage, 0, data, 100, "x", &error), 0);
    assert_memory_equal(data, truth->truth, 100);
    flin_storage_close(&storage);
}

/* Closing waits for reads that are out: their memory is the caller's again afterwards. */
static void test_close_in_flight(void **state)
{
    const fixture *truth = *state;
    flin_storage storage;
    scatter made;

    memset(&kernel, 0, sizeof kernel);
    for (uint32_t round = 0; round < 20; round++) {
        assert_int_equal(flin_storage_open_path(&storage, truth->path, &uring_config, NULL), 0);
        scatter_open(&made, &storage);
        assert_int_equal(flin_batch_begin(made.batch, made.fetches, 200, NULL), 0);
        storage.in_flight = 0; /* as if they had been given up */
        flin_storage_close(&storage);
        memset(made.slots, 0x77, 200 * 4096);
        usleep(2000);
        for (size_t at = 0; at < 200 * 4096; at += 512) assert_int_equal(made.slots[at], 0x77);
        scatter_close(&made);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_older_kernel),
        cmocka_unit_test(test_held_bytes),  cmocka_unit_test(test_partial_submission),
        cmocka_unit_test(test_never_taken), cmocka_unit_test(test_close_in_flight),
    };
    struct io_uring ring;
    int status = io_uring_queue_init(8, &ring, 0);

    if (status != 0) {
        (void)printf("SKIP: this kernel refuses io_uring: %s\n", strerror(-status));
        return 77;
    }
    io_uring_queue_exit(&ring);
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

#else

int main(void)
{
    (void)printf("SKIP: this build has no io_uring\n");
    return 77;
}

#endif
