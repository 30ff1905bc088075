/*
 * test_storage.c - opening every backend, synchronous reads of any alignment, failures, lost reads.
 */
#define _GNU_SOURCE
#include "storage_fixture.h"

#include <sys/resource.h>

static const flin_storage_config plain;

#define EXPECT_ERROR(call, code_, errno_, words)                                                   \
    do {                                                                                           \
        flashinfer_error error = {.size = sizeof error};                                           \
        int status = (call);                                                                       \
        if (status != (code_) || strstr(error.text, (words)) == NULL)                              \
            print_error("%d: %s\n", status, error.text);                                           \
        assert_int_equal(status, (code_));                                                         \
        assert_int_equal(error.code, (code_));                                                     \
        assert_int_equal(error.sys_errno, (errno_));                                               \
        assert_non_null(strstr(error.text, (words)));                                              \
        assert_null(strchr(error.text, '\n'));                                                     \
    } while (0)

/* ------------------------------------------------------------------------- reading */

/* Random extents, lengths and addresses; the bytes around the destination stay as they were. */
static void read_random(flin_storage *storage, const fixture *made, uint32_t rounds)
{
    static const uint64_t most[] = {1, 17, 511, 4096, 9000, 70000, 400000};
    uint8_t *memory = aligned_alloc(4096, 1024 * 1024);
    uint64_t seed = 7;

    for (uint32_t round = 0; round < rounds; round++) {
        uint64_t bytes = 1 + random_next(&seed) % most[round % 7];
        uint64_t offset = random_next(&seed) % (FILE_BYTES - bytes + 1);
        uint64_t start = 64 + random_next(&seed) % 4200;

        if (round % 3 == 0) start = 4096 + offset % 4096; /* so that the middle goes direct */
        if (round % 5 == 0) offset = FILE_BYTES - bytes;
        memset(memory, 0xa5, start + bytes + 64);
        assert_int_equal(flin_storage_read(storage, offset, memory + start, bytes, "a test", NULL),
                         0);
        assert_memory_equal(memory + start, made->truth + offset, bytes);
        for (uint32_t index = 1; index <= 64; index++) {
            assert_int_equal(memory[start - index], 0xa5);
            assert_int_equal(memory[start + bytes + index - 1], 0xa5);
        }
    }
    free(memory);
}

static void test_reads(void **state)
{
    const fixture *made = *state;
    uint8_t *whole = aligned_alloc(4096, 2 * 1024 * 1024);

    for (uint32_t backend = 0; backend < BACKEND_COUNT; backend++) {
        static const uint32_t depths[] = {1, 2, 32};

        for (uint32_t index = 0; index < 3; index++) {
            flin_storage storage;
            host self;

            if (!open_backend(&storage, made, backend, &self, depths[index])) continue;
            read_random(&storage, made, 60);
            memset(whole, 0, FILE_BYTES);
            assert_int_equal(flin_storage_read(&storage, 0, whole, FILE_BYTES, "all", NULL), 0);
            assert_memory_equal(whole, made->truth, FILE_BYTES);
            assert_int_equal(flin_storage_read(&storage, FILE_BYTES, whole, 0, "none", NULL), 0);
            if (backend == BACKEND_HOST) assert_int_equal(self.violations, 0);
            if (backend == BACKEND_HOST && depths[index] > 8) assert_true(self.in_flight_max > 1);
            assert_int_equal(storage.in_flight, 0);
            flin_storage_close(&storage);
            if (backend >= BACKEND_HOST) assert_int_equal(self.closed, 1);
            flin_storage_close(&storage); /* zeroed: nothing happens */
        }
    }
    free(whole);
}

static void test_past_the_end(void **state)
{
    const fixture *made = *state;
    uint8_t data[64];

    for (uint32_t backend = 0; backend < BACKEND_COUNT; backend++) {
        flin_storage storage;
        host self;

        if (!open_backend(&storage, made, backend, &self, 4)) continue;
        EXPECT_ERROR(flin_storage_read(&storage, FILE_BYTES - 3, data, 4, "tensor 'x'", &error),
                     FLASHINFER_EFORMAT, 0, "truncated: tensor 'x' needs 4 bytes");
        EXPECT_ERROR(flin_storage_read(&storage, UINT64_MAX, data, 1, "x", &error),
                     FLASHINFER_EFORMAT, 0, "truncated");
        EXPECT_ERROR(flin_storage_read(&storage, 8, data, UINT64_MAX - 4, "x", &error),
                     FLASHINFER_EFORMAT, 0, "truncated");
        flin_storage_close(&storage);
    }
}

/* A file shorter than a block, down to one byte. */
static void test_small_files(void **state)
{
    static const size_t sizes[] = {1, 513, 4096};
    const fixture *made = *state;
    char path[320];

    (void)snprintf(path, sizeof path, "%s/small", made->directory);
    for (uint32_t index = 0; index < sizeof sizes / sizeof sizes[0]; index++) {
        for (uint32_t kind = 1; kind <= FLASHINFER_STORAGE_URING; kind++) {
            flin_storage_config config = {.kind = kind};
            uint8_t data[8192];
            flin_storage storage;
            int status;

            write_file(path, made->truth, sizes[index]);
            status = flin_storage_open_path(&storage, path, &config, NULL);
            if (status == FLASHINFER_EUNSUPPORTED && kind != FLASHINFER_STORAGE_BUFFERED) continue;
            assert_int_equal(status, 0);
            assert_int_equal(flin_storage_read(&storage, 0, data, sizes[index], "all", NULL), 0);
            assert_memory_equal(data, made->truth, sizes[index]);
            flin_storage_close(&storage);
        }
    }
    (void)unlink(path);
}

/* ------------------------------------------------------------------------- opening */

static void test_open_errors(void **state)
{
    const fixture *made = *state;
    flin_storage_config config = {.kind = 9};
    flin_storage storage;
    char path[320];

    EXPECT_ERROR(flin_storage_open_path(&storage, NULL, &plain, &error), FLASHINFER_EINVAL, 0,
                 "no path");
    EXPECT_ERROR(flin_storage_open_path(&storage, "", &plain, &error), FLASHINFER_EINVAL, 0,
                 "no path");
    (void)snprintf(path, sizeof path, "%s/missing", made->directory);
    EXPECT_ERROR(flin_storage_open_path(&storage, path, &plain, &error), FLASHINFER_EIO, ENOENT,
                 "missing");
    EXPECT_ERROR(flin_storage_open_path(&storage, made->directory, &plain, &error), FLASHINFER_EIO,
                 EISDIR, "not a model file");
    (void)snprintf(path, sizeof path, "%s/empty", made->directory);
    write_file(path, made->truth, 0);
    EXPECT_ERROR(flin_storage_open_path(&storage, path, &plain, &error), FLASHINFER_EFORMAT, 0,
                 "empty");
    (void)unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    EXPECT_ERROR(flin_storage_open_path(&storage, path, &plain, &error), FLASHINFER_EIO, ESPIPE,
                 "neither a regular file");
    (void)unlink(path);
    EXPECT_ERROR(flin_storage_open_path(&storage, made->path, &config, &error), FLASHINFER_EINVAL,
                 0, "unknown storage kind");
    config = (flin_storage_config){.depth = 1000000};
    EXPECT_ERROR(flin_storage_open_path(&storage, made->path, &config, &error), FLASHINFER_EINVAL,
                 0, "io_depth");
    config = (flin_storage_config){.kind = FLASHINFER_STORAGE_BUFFERED, .lanes = 1000000};
    EXPECT_ERROR(flin_storage_open_path(&storage, made->path, &config, &error), FLASHINFER_EINVAL,
                 0, "io_lanes");
    EXPECT_ERROR(flin_storage_open_memory(&storage, NULL, 4, &plain, &error), FLASHINFER_EFORMAT, 0,
                 "empty");
    flin_storage_close(&storage); /* a failed open leaves a storage that may be closed */
}

/* No descriptor left: the error says so, and not that the file has no direct I/O. */
static void test_no_descriptors(void **state)
{
    const fixture *made = *state;
    struct rlimit before, few;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (uint32_t kind = FLASHINFER_STORAGE_LIBAIO; kind <= FLASHINFER_STORAGE_URING; kind++) {
        flin_storage_config config = {.kind = kind};
        flashinfer_error error = {.size = sizeof error};
        int fd = open(made->path, O_RDONLY);
        flin_storage storage;
        int status;

        few = before;
        few.rlim_cur = (rlim_t)fd + 1;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        status = flin_storage_open_fd(&storage, fd, 0, 0, &config, &error);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(close(fd), 0);
        if (status == FLASHINFER_EUNSUPPORTED && error.sys_errno == 0) continue; /* no direct I/O */
        assert_int_equal(status, FLASHINFER_EIO);
        assert_int_equal(error.sys_errno, EMFILE);
    }
}

/* Kind DEFAULT takes the first that works and leaves the error record alone. */
static void test_default_kind(void **state)
{
    const fixture *made = *state;
    flashinfer_error error = {.size = sizeof error, .code = 77};
    flin_storage first, chosen;
    host unused;
    static const uint32_t order[] = {BACKEND_LIBAIO, BACKEND_URING, BACKEND_PREAD,
                                     BACKEND_BUFFERED};
    uint32_t place = 0;

    while (!open_backend(&first, made, order[place], &unused, 4)) place++;
    assert_int_equal(flin_storage_open_path(&chosen, made->path, &plain, &error), 0);
    assert_string_equal(chosen.name, first.name);
    assert_int_equal(chosen.caps.alignment, first.caps.alignment);
    assert_int_equal(chosen.caps.depth, 64);
    assert_int_equal(error.code, 77);
    flin_storage_close(&first);
    flin_storage_close(&chosen);
}

static void read_part(const fixture *made, int fd, uint64_t offset, uint64_t length,
                      const flin_storage_config *config, const char *name)
{
    uint64_t bytes = length != 0 ? length : FILE_BYTES - offset;
    uint8_t *data = aligned_alloc(4096, 2 * 1024 * 1024);
    flin_storage storage;

    assert_int_equal(flin_storage_open_fd(&storage, fd, offset, length, config, NULL), 0);
    if (name != NULL) assert_string_equal(storage.name, name);
    assert_true(storage.caps.length_bytes == bytes);
    assert_int_equal(flin_storage_read(&storage, 0, data, bytes, "part", NULL), 0);
    assert_memory_equal(data, made->truth + offset, bytes);
    EXPECT_ERROR(flin_storage_read(&storage, bytes, data, 1, "part", &error), FLASHINFER_EFORMAT, 0,
                 "truncated");
    flin_storage_close(&storage);
    free(data);
}

static void test_part_of_a_file(void **state)
{
    const fixture *made = *state;
    const flin_storage_config direct = {.kind = FLASHINFER_STORAGE_PREAD};
    const flin_storage_config buffered = {.kind = FLASHINFER_STORAGE_BUFFERED};
    int fd = open(made->path, O_RDONLY);
    flin_storage storage, chosen;
    const char *name;

    assert_true(fd >= 0);
    assert_int_equal(flin_storage_open_path(&chosen, made->path, &plain, NULL), 0);
    name = chosen.name;
    assert_int_equal(lseek(fd, 123, SEEK_SET), 123);
    read_part(made, fd, 0, 0, &plain, name);
    read_part(made, fd, 8192, 0, &plain, name);
    read_part(made, fd, 4096, 100000, &plain, name);
    read_part(made, fd, 12288, 1, &plain, name);
    read_part(made, fd, 8192, 50000, &buffered, "buffered");
    /* off the grid only the page cache can help */
    read_part(made, fd, 4097, 0, &plain, "buffered");
    read_part(made, fd, 512, 77777, &plain, "buffered");
    EXPECT_ERROR(flin_storage_open_fd(&storage, fd, 512, 0, &direct, &error),
                 FLASHINFER_EUNSUPPORTED, 0, "not a multiple of 4096");
    EXPECT_ERROR(flin_storage_open_fd(&storage, fd, FILE_BYTES, 0, &plain, &error),
                 FLASHINFER_EFORMAT, 0, "truncated");
    EXPECT_ERROR(flin_storage_open_fd(&storage, fd, 1, FILE_BYTES, &plain, &error),
                 FLASHINFER_EFORMAT, 0, "truncated");
    EXPECT_ERROR(flin_storage_open_fd(&storage, fd, UINT64_MAX, UINT64_MAX, &plain, &error),
                 FLASHINFER_EFORMAT, 0, "truncated");
    /* the descriptor is as the caller left it */
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 123);
    assert_int_equal(close(fd), 0);
    EXPECT_ERROR(flin_storage_open_fd(&storage, fd, 0, 0, &plain, &error), FLASHINFER_EINVAL, EBADF,
                 "file descriptor");
    fd = open(made->path, O_WRONLY);
    EXPECT_ERROR(flin_storage_open_fd(&storage, fd, 0, 0, &plain, &error), FLASHINFER_EINVAL, EBADF,
                 "not open for reading");
    assert_int_equal(close(fd), 0);
    flin_storage_close(&chosen);
}

/* An asset without a name, and a storage that outlives the descriptor it came from. */
static void test_unlinked_file(void **state)
{
    const fixture *made = *state;
    uint8_t data[5000];
    flin_storage storage;
    char path[320];
    int fd;

    (void)snprintf(path, sizeof path, "%s/gone", made->directory);
    write_file(path, made->truth, 300000);
    fd = open(path, O_RDONLY);
    (void)unlink(path);
    assert_int_equal(flin_storage_open_fd(&storage, fd, 4096, 0, &plain, NULL), 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(flin_storage_read(&storage, 777, data, sizeof data, "asset", NULL), 0);
    assert_memory_equal(data, made->truth + 4096 + 777, sizeof data);
    flin_storage_close(&storage);
}

/* The file shrinks under an open storage: an error, and what is left can still be read. */
static void test_file_shrinks(void **state)
{
    const fixture *made = *state;
    char path[320];

    (void)snprintf(path, sizeof path, "%s/shrinks", made->directory);
    for (uint32_t kind = FLASHINFER_STORAGE_LIBAIO; kind <= FLASHINFER_STORAGE_URING; kind++) {
        flin_storage_config config = {.kind = kind};
        uint8_t data[9000];
        flin_storage storage;

        write_file(path, made->truth, 100000);
        if (flin_storage_open_path(&storage, path, &config, NULL) == FLASHINFER_EUNSUPPORTED &&
            kind != FLASHINFER_STORAGE_BUFFERED)
            continue;
        assert_int_equal(truncate(path, 50001), 0);
        EXPECT_ERROR(flin_storage_read(&storage, 45000, data, 9000, "tensor 'y'", &error),
                     FLASHINFER_EIO, 0, "tensor 'y'");
        EXPECT_ERROR(flin_storage_read(&storage, 90000, data, 9000, "tensor 'y'", &error),
                     FLASHINFER_EIO, 0, "the file changed");
        assert_int_equal(flin_storage_read(&storage, 41001, data, 9000, "rest", NULL), 0);
        assert_memory_equal(data, made->truth + 41001, 9000);
        flin_storage_close(&storage);
    }
    (void)unlink(path);
}

/* ------------------------------------------------------------------------- the host's callbacks */

static int caps_fail(void *user, flashinfer_storage_caps *caps)
{
    (void)user, (void)caps;
    return -EACCES;
}

static void test_ops_misuse(void **state)
{
    host self = make_host(*state, 512, 4, 4);
    flin_storage storage;
    struct {
        flashinfer_storage_ops ops;
        uint64_t tail;
    } newer = {host_ops(&self), 0};
    flashinfer_storage_ops ops;

#define REFUSED(change, code, number, words)                                                       \
    do {                                                                                           \
        self = make_host(*state, 512, 4, 4);                                                       \
        ops = host_ops(&self);                                                                     \
        change;                                                                                    \
        EXPECT_ERROR(flin_storage_open_ops(&storage, &ops, &plain, &error), code, number, words);  \
        assert_int_equal(self.closed, 0);                                                          \
    } while (0)

    EXPECT_ERROR(flin_storage_open_ops(&storage, NULL, &plain, &error), FLASHINFER_EINVAL, 0,
                 "size");
    REFUSED(ops.size = 8, FLASHINFER_EINVAL, 0, "size");
    REFUSED(ops.caps = NULL, FLASHINFER_EINVAL, 0, "caps()");
    REFUSED(ops.caps = caps_fail, FLASHINFER_EIO, EACCES, "caps() failed");
    REFUSED(ops.submit = NULL, FLASHINFER_EINVAL, 0, "together");
    REFUSED((ops.wait = NULL, ops.read = host_read_alone), FLASHINFER_EINVAL, 0, "together");
    REFUSED((ops.wait = NULL, ops.submit = NULL), FLASHINFER_EINVAL, 0, "or read()");
    REFUSED(self.caps.alignment = 0, FLASHINFER_EINVAL, 0, "alignment 0");
    REFUSED(self.caps.alignment = 1536, FLASHINFER_EINVAL, 0, "alignment 1536");
    REFUSED(self.caps.alignment = 8192, FLASHINFER_EINVAL, 0, "alignment 8192");
    REFUSED(self.caps.depth = 0, FLASHINFER_EINVAL, 0, "depth");
    REFUSED(self.caps.segments_max = 0, FLASHINFER_EINVAL, 0, "segments_max");
    REFUSED(self.caps.length_bytes = 0, FLASHINFER_EFORMAT, 0, "empty");
    REFUSED(self.caps.length_bytes = UINT64_MAX, FLASHINFER_EINVAL, 0, "length_bytes");

    self = make_host(*state, 512, 4, 4);
    newer.ops.size = sizeof newer;
    newer.tail = 1;
    EXPECT_ERROR(flin_storage_open_ops(&storage, &newer.ops, &plain, &error),
                 FLASHINFER_EUNSUPPORTED, 0, "newer");
    newer.tail = 0;
    assert_int_equal(flin_storage_open_ops(&storage, &newer.ops, &plain, NULL), 0);
    storage.host_close = NULL; /* as when opening the model fails later */
    flin_storage_close(&storage);
    assert_int_equal(self.closed, 0);
}

/* A host that takes one read at a time, is busy at first, and reports reads nobody asked for. */
static void test_difficult_host(void **state)
{
    const fixture *made = *state;
    host self = make_host(made, 4096, 16, 1);
    flin_storage storage;
    uint8_t *data = aligned_alloc(4096, 200000 / 4096 * 4096 + 4096);

    open_host(&storage, &self, 0);
    self.take_max = 1;
    self.busy = 1;
    self.wrong_tags = 3;
    assert_int_equal(flin_storage_read(&storage, 8192, data, 200000, "x", NULL), 0);
    assert_memory_equal(data, made->truth + 8192, 200000);
    assert_int_equal(self.violations, 0);
    assert_int_equal(storage.in_flight, 0);
    self.busy = UINT32_MAX;
    EXPECT_ERROR(flin_storage_read(&storage, 8192, data, 5000, "x", &error), FLASHINFER_EIO, EAGAIN,
                 "reading x at offset 8192");
    flin_storage_close(&storage);
    free(data);
}

static int64_t read_broken(void *user, uint64_t offset, void *data, size_t bytes)
{
    (void)user, (void)offset, (void)data;
    return offset == 0 ? -EIO : (int64_t)bytes + 1;
}

static void test_broken_read_callback(void **state)
{
    host self = make_host(*state, 1, 1, 1);
    flashinfer_storage_ops ops = host_read_ops(&self);
    flin_storage storage;
    uint8_t data[16];

    ops.read = read_broken;
    assert_int_equal(flin_storage_open_ops(&storage, &ops, &plain, NULL), 0);
    EXPECT_ERROR(flin_storage_read(&storage, 0, data, 16, "x", &error), FLASHINFER_EIO, EIO, "x");
    EXPECT_ERROR(flin_storage_read(&storage, 5, data, 16, "x", &error), FLASHINFER_EIO, EPROTO,
                 "at offset 5");
    flin_storage_close(&storage);
}

/* ------------------------------------------------------------------------- failures */

/* One read that fails or comes back short, of any number, is made good; one that keeps failing is
   an error; after each the same storage reads on. */
static void fail_nth(const fixture *made, flin_storage *storage, uint8_t *data)
{
    const uint64_t offset = 1000, bytes = 90000;
    flin_fault_plan plan = {0};
    uint64_t reads = 0;

    assert_int_equal(flin_storage_add_fault(storage, &plan, NULL), 0);
    for (uint64_t nth = 0; nth <= reads; nth++) {
        plan = (flin_fault_plan){.fail_read = nth, .fail_errno = EIO};
        memset(data, 0, bytes + 2000);
        assert_int_equal(flin_storage_read(storage, offset, data + 1000, bytes, "x", NULL), 0);
        assert_memory_equal(data + 1000, made->truth + offset, bytes);
        if (nth == 0) reads = plan.reads; /* without any failure */
        assert_true(reads >= 1);
        assert_true(plan.reads == reads + (nth != 0));

        plan = (flin_fault_plan){.short_read = nth};
        memset(data, 0, bytes + 2000);
        assert_int_equal(flin_storage_read(storage, offset, data + 1000, bytes, "x", NULL), 0);
        assert_memory_equal(data + 1000, made->truth + offset, bytes);
        assert_true(plan.reads == reads + (nth != 0));
        if (nth == 0) continue;

        plan = (flin_fault_plan){.fail_read = nth, .fail_count = 1000, .fail_errno = EILSEQ};
        EXPECT_ERROR(flin_storage_read(storage, offset, data + 1000, bytes, "'w'", &error),
                     FLASHINFER_EIO, EILSEQ, "reading 'w' at offset");
        assert_int_equal(storage->in_flight, 0);
    }
    plan = (flin_fault_plan){.corrupt_read = 1, .corrupt_count = reads};
    assert_int_equal(flin_storage_read(storage, offset, data + 1000, bytes, "x", NULL), 0);
    assert_memory_not_equal(data + 1000, made->truth + offset, bytes);
    flin_storage_close(storage);
}

static void test_failures(void **state)
{
    uint8_t *data = aligned_alloc(4096, 128 * 1024);

    for (uint32_t backend = 0; backend < BACKEND_COUNT; backend++) {
        for (uint32_t depth = 1; depth <= 6; depth += 5) {
            flin_storage storage;
            host self;

            if (open_backend(&storage, *state, backend, &self, depth))
                fail_nth(*state, &storage, data);
        }
    }
    free(data);
}

static void test_hang(void **state)
{
    const fixture *made = *state;
    uint8_t *data = aligned_alloc(4096, 65536);

    for (uint32_t backend = 0; backend < BACKEND_COUNT; backend++) {
        flin_fault_plan plan = {.hang_read = 1};
        flin_storage storage;
        host self;

        if (!open_backend(&storage, made, backend, &self, 4)) continue;
        storage.timeout_ns = SHORT_TIMEOUT_NS;
        assert_int_equal(flin_storage_add_fault(&storage, &plan, NULL), 0);
        EXPECT_ERROR(flin_storage_read(&storage, 4096, data, 65536, "tensor 'z'", &error),
                     FLASHINFER_ETIMEDOUT, 0, "no answer within 150 ms; ");
        assert_true(flin_storage_reap(&storage) >= 1);
        /* it may still write: nothing is begun beside it */
        EXPECT_ERROR(flin_storage_read(&storage, 0, data, 1, "x", &error), FLASHINFER_ETIMEDOUT, 0,
                     "still out");
        flin_storage_close(&storage);
        if (backend >= BACKEND_HOST) assert_int_equal(self.closed, 1);
    }
    free(data);
}

/* Reads that land after their time was up: from then on the storage works again. */
static void test_late_landing(void **state)
{
    const fixture *made = *state;
    host self = make_host(made, 4096, 4, 1);
    uint8_t *data = aligned_alloc(4096, 16384);
    flin_storage storage;

    open_host(&storage, &self, SHORT_TIMEOUT_NS);
    self.holding = 1;
    EXPECT_ERROR(flin_storage_read(&storage, 100, data, 9000, "x", &error), FLASHINFER_ETIMEDOUT, 0,
                 "no answer");
    assert_true(flin_storage_reap(&storage) > 0);
    self.holding = 0;
    assert_int_equal(flin_storage_reap(&storage), 0);
    assert_int_equal(storage.in_flight, 0);
    assert_int_equal(flin_storage_read(&storage, 100, data, 9000, "x", NULL), 0);
    assert_memory_equal(data, made->truth + 100, 9000);
    flin_storage_close(&storage);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),          cmocka_unit_test(test_past_the_end),
        cmocka_unit_test(test_small_files),    cmocka_unit_test(test_open_errors),
        cmocka_unit_test(test_no_descriptors), cmocka_unit_test(test_default_kind),
        cmocka_unit_test(test_part_of_a_file), cmocka_unit_test(test_unlinked_file),
        cmocka_unit_test(test_file_shrinks),   cmocka_unit_test(test_ops_misuse),
        cmocka_unit_test(test_difficult_host), cmocka_unit_test(test_broken_read_callback),
        cmocka_unit_test(test_failures),       cmocka_unit_test(test_hang),
        cmocka_unit_test(test_late_landing),
    };

    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
