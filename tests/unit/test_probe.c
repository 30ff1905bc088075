/*
 * test_probe.c - measuring a file and a directory, what follows from the numbers, results as files, and all that can be
 * wrong with the three.
 */
#define _GNU_SOURCE
#include "storage_fixture.h"

#include <dirent.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "probe/probe.h"
#include "util/hash.h"

#define MODEL_BYTES (4u << 20)
#define SHORT_MS 150u
#define assert_ok(call) assert_int_equal(call, 0)

typedef struct watch {
    uint64_t calls, last, total;
    uint64_t cancel_at; /* the nth call cancels; 0: none */
    uint32_t disorder;
    uint32_t shrink_at; /* the nth call cuts the file; 0: none */
    const char *path;
} watch;

static int watch_progress(const flashinfer_progress *progress, void *user)
{
    watch *seen = user;

    seen->calls++;
    if (strcmp(progress->stage, "probe") != 0 || progress->done >= progress->total)
        seen->disorder++;
    if (seen->calls > 1 && (progress->done <= seen->last || progress->total != seen->total))
        seen->disorder++;
    seen->last = progress->done;
    seen->total = progress->total;
    if (seen->calls == seen->shrink_at && truncate(seen->path, 5000) != 0) seen->disorder++;
    return seen->calls == seen->cancel_at;
}

static flashinfer_probe_options short_options(void)
{
    flashinfer_probe_options options;

    flashinfer_probe_options_init(&options, sizeof options);
    options.time_ms = SHORT_MS;
    options.threads = 2;
    options.file_bytes = MODEL_BYTES;
    return options;
}

static uint32_t entries_in(const char *directory)
{
    DIR *folder = opendir(directory);
    uint32_t count = 0;

    assert_non_null(folder);
    while (readdir(folder) != NULL) count++;
    (void)closedir(folder);
    return count;
}

/* A file long enough to be probed. */
static void make_model(const fixture *made, char path[320])
{
    (void)snprintf(path, 320, "%s/long", made->directory);
    write_file(path, made->truth, FILE_BYTES);
    assert_int_equal(truncate(path, MODEL_BYTES), 0);
}

static void assert_legal(const flashinfer_probe_result *result)
{
    assert_int_equal(result->size, sizeof *result);
    assert_true(result->io_depth >= 1 && result->io_depth <= 64);
    assert_true(result->io_gap_bytes >= 1 && result->io_gap_bytes <= 65536);
    assert_true(result->io_lanes <= 64);
    assert_int_equal(result->read_bytes[0], 4096);
    assert_int_equal(result->read_bytes[5], 1048576);
    assert_int_equal(result->depths[0], 1);
    assert_int_equal(result->depths[3], 64);
    for (uint32_t size = 0; size < 4; size++)
        for (uint32_t depth = 0; depth < 2; depth++)
            assert_true(result->read_bytes_per_s[size][depth] != 0);
    assert_true(result->latency_ns != 0 && result->latency_p99_ns >= result->latency_ns);
    assert_true(result->dram_bytes_per_s > 1000000 && result->matvec_bytes_per_s > 1000000);
    assert_int_equal(result->threads, 2);
    assert_true(result->kernels >= FLASHINFER_KERNELS_REF);
    assert_true(result->elapsed_ns != 0);
}

/* ------------------------------------------------------------------------- measuring */

static void test_directory(void **state)
{
    const fixture *made = *state;
    flashinfer_probe_options options = short_options();
    flashinfer_probe_result result = {.size = sizeof result};
    flashinfer_error error;
    watch seen = {0};
    uint32_t before = entries_in(made->directory);

    flashinfer_error_init(&error, sizeof error);
    options.progress = watch_progress;
    options.progress_user = &seen;
    if (flashinfer_probe(made->directory, &options, &result, &error) != 0)
        fail_msg("%s", error.text);
    assert_legal(&result);
    assert_true(result.file_bytes == MODEL_BYTES);
    assert_true(seen.calls > 20 && seen.disorder == 0);
    assert_int_equal(entries_in(made->directory), before);
}

static void test_kinds(void **state)
{
    const fixture *made = *state;
    char path[320];

    make_model(made, path);
    for (uint32_t kind = 0; kind <= FLASHINFER_STORAGE_URING; kind++) {
        flashinfer_probe_options options = short_options();
        flashinfer_probe_result result = {.size = sizeof result};
        flashinfer_error error;
        int code;

        flashinfer_error_init(&error, sizeof error);
        options.storage = kind;
        code = flashinfer_probe(path, &options, &result, &error);
        if (code == FLASHINFER_EUNSUPPORTED && kind != FLASHINFER_STORAGE_BUFFERED && kind != 0) {
            print_message("not here: %s\n", error.text);
            continue;
        }
        if (code != 0) fail_msg("kind %u: %s", kind, error.text);
        assert_legal(&result);
        assert_true(result.file_bytes == MODEL_BYTES);
        if (kind != 0) assert_int_equal(result.storage, kind);
    }
    (void)unlink(path);
}

/* The file is read, never written. */
static void test_file_is_left_alone(void **state)
{
    const fixture *made = *state;
    flashinfer_probe_options options = short_options();
    flashinfer_probe_result result = {.size = sizeof result};
    uint8_t *after = malloc(FILE_BYTES);
    FILE *file;

    assert_int_equal(flashinfer_probe(made->path, &options, &result, NULL), 0);
    assert_true(result.file_bytes == FILE_BYTES);
    file = fopen(made->path, "rb");
    assert_int_equal(fread(after, 1, FILE_BYTES, file), FILE_BYTES);
    (void)fclose(file);
    assert_memory_equal(after, made->truth, FILE_BYTES);
    free(after);
}

/* Whenever the host wants to stop: at once, and nothing is left. */
static void test_cancel(void **state)
{
    static const uint64_t at[] = {1, 3, 20};
    const fixture *made = *state;
    uint32_t before = entries_in(made->directory);

    for (size_t index = 0; index < sizeof at / sizeof at[0]; index++) {
        flashinfer_probe_options options = short_options();
        flashinfer_probe_result result = {.size = sizeof result, .io_depth = 77};
        flashinfer_error error;
        watch seen = {.cancel_at = at[index]};
        int code;

        flashinfer_error_init(&error, sizeof error);
        options.progress = watch_progress;
        options.progress_user = &seen;
        code = flashinfer_probe(made->directory, &options, &result, &error);
        assert_int_equal(code, FLASHINFER_ECANCELED);
        assert_int_equal(seen.calls, at[index]);
        assert_int_equal(result.io_depth, 77);
        assert_int_equal(entries_in(made->directory), before);
    }
}

/* ------------------------------------------------------------------------- what can be wrong */

static void expect_failure(const char *path, flashinfer_probe_options *options, int code,
                           int number, const char *words)
{
    flashinfer_probe_result result = {.size = sizeof result, .io_depth = 77};
    flashinfer_error error;
    int got;

    flashinfer_error_init(&error, sizeof error);
    got = flashinfer_probe(path, options, &result, &error);
    if (got != code || strstr(error.text, words) == NULL) print_error("%d %s\n", got, error.text);
    assert_int_equal(got, code);
    assert_int_equal(error.code, code);
    assert_int_equal(error.sys_errno, number);
    assert_non_null(strstr(error.text, words));
    assert_int_equal(result.io_depth, 77);
}

static void test_refused_arguments(void **state)
{
    const fixture *made = *state;
    flashinfer_probe_options options = short_options();
    flashinfer_probe_result result = {.size = sizeof result}, no_size = {.size = 0};
    struct {
        flashinfer_probe_options options;
        uint64_t tail;
    } newer = {short_options(), 1};

    assert_int_equal(flashinfer_probe(NULL, NULL, &result, NULL), FLASHINFER_EINVAL);
    assert_int_equal(flashinfer_probe(made->path, NULL, NULL, NULL), FLASHINFER_EINVAL);
    assert_int_equal(flashinfer_probe(made->path, NULL, &no_size, NULL), FLASHINFER_EINVAL);
    options.threads = 65;
    expect_failure(made->path, &options, FLASHINFER_EINVAL, 0, "threads");
    options = short_options();
    options.storage = 99;
    expect_failure(made->path, &options, FLASHINFER_EINVAL, 0, "storage kind 99");
    options = short_options();
    options.file_bytes = 1000;
    expect_failure(made->path, &options, FLASHINFER_EINVAL, 0, "file_bytes");
    options.file_bytes = UINT64_MAX;
    expect_failure(made->path, &options, FLASHINFER_EINVAL, 0, "9223372036854775807");
    newer.options.size = sizeof newer;
    expect_failure(made->path, &newer.options, FLASHINFER_EINVAL, 0, "flashinfer_probe_options");
}

static void test_refused_paths(void **state)
{
    const fixture *made = *state;
    flashinfer_probe_options options = short_options();
    char path[320];

    (void)snprintf(path, sizeof path, "%s/missing", made->directory);
    expect_failure(path, &options, FLASHINFER_EIO, ENOENT, "missing");
    expect_failure("/proc", &options, FLASHINFER_EIO, ENOENT, "/proc");
    write_file(path, made->truth, 100000);
    expect_failure(path, &options, FLASHINFER_EINVAL, 0, "100000 bytes");
    (void)unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_failure(path, &options, FLASHINFER_EIO, ESPIPE, "neither a regular file");
    (void)unlink(path);
}

static void test_read_only_directory(void **state)
{
    const fixture *made = *state;
    flashinfer_probe_options options = short_options();
    uid_t user = geteuid();
    char path[320];

    (void)snprintf(path, sizeof path, "%s/locked", made->directory);
    assert_int_equal(mkdir(path, 0555), 0);
    assert_int_equal(chmod(made->directory, 0755), 0);
    if (user == 0 && seteuid(65534) != 0) skip(); /* root may write everywhere */
    expect_failure(path, &options, FLASHINFER_EIO, EACCES, "locked");
    if (user == 0) assert_int_equal(seteuid(user), 0);
    (void)rmdir(path);
}

/* Room runs out while the file is written: the error says so, and nothing stays behind. */
static void test_full(void **state)
{
    const fixture *made = *state;
    flashinfer_probe_options options = short_options();
    struct rlimit before, little;
    uint32_t entries = entries_in(made->directory);

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    little = before;
    little.rlim_cur = MODEL_BYTES / 2;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    expect_failure(made->directory, &options, FLASHINFER_EIO, EFBIG, "file_bytes asks for fewer");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(entries_in(made->directory), entries);
}

/* The file is cut while it is read: an error naming the place, not a number. */
static void test_file_shrinks(void **state)
{
    const fixture *made = *state;
    char path[320];
    watch seen = {.shrink_at = 6, .path = path};
    flashinfer_probe_options options = short_options();

    make_model(made, path);
    options.progress = watch_progress;
    options.progress_user = &seen;
    expect_failure(path, &options, FLASHINFER_EIO, 0, "the file changed");
    assert_int_equal(seen.disorder, 0);
    (void)unlink(path);
}

/* ------------------------------------------------------------------------- what follows */

/* A device that takes begin_s to begin a read, serves up to ways of them at once, and moves peak bytes a second. */
static flashinfer_probe_result model_device(double begin_s, double ways, double peak)
{
    static const uint32_t sizes[] = {4096, 16384, 32768, 65536, 262144, 1048576};
    static const uint32_t depths[] = {1, 4, 16, 64};
    flashinfer_probe_result result = {.size = sizeof result};

    memcpy(result.read_bytes, sizes, sizeof sizes);
    memcpy(result.depths, depths, sizeof depths);
    for (uint32_t size = 0; size < 6; size++) {
        for (uint32_t depth = 0; depth < 4; depth++) {
            double at_once = depths[depth] < ways ? depths[depth] : ways;
            double one_s = begin_s / at_once + sizes[size] / peak;
            result.read_bytes_per_s[size][depth] = (uint64_t)(sizes[size] / one_s);
        }
    }
    memcpy(result.kind_bytes_per_s[FLASHINFER_STORAGE_PREAD], result.read_bytes_per_s[2],
           sizeof result.read_bytes_per_s[2]);
    return result;
}

static void test_recommend(void **state)
{
    flashinfer_probe_result result = model_device(320e-6, 16, 2e9);

    (void)state;
    flin_probe_recommend(&result);
    assert_int_equal(result.io_depth, 16);
    assert_int_equal(result.io_lanes, 16);
    /* 20 us at 2 GB/s are 40000 bytes; the largest read measured falls a little short of the peak */
    assert_true(result.io_gap_bytes > 36000 && result.io_gap_bytes <= 40000);
    assert_int_equal(result.io_gap_bytes % 512, 0);

    result = model_device(10e-6, 1, 100e6); /* one at a time: depth is of no use */
    flin_probe_recommend(&result);
    assert_int_equal(result.io_depth, 1);
    assert_true(result.io_gap_bytes >= 512 && result.io_gap_bytes <= 1024);

    result = model_device(0, 64, 1e9); /* beginning is free: no gap is worth reading */
    flin_probe_recommend(&result);
    assert_int_equal(result.io_gap_bytes, 1);

    result = model_device(1, 64, 1e9); /* a tape */
    flin_probe_recommend(&result);
    assert_int_equal(result.io_gap_bytes, 65536);

    memset(&result, 0, sizeof result); /* nothing measured: nothing recommended */
    flin_probe_recommend(&result);
    assert_int_equal(result.io_depth, 0);
    assert_int_equal(result.io_lanes, 0);
    assert_int_equal(result.io_gap_bytes, 0);
}

static void test_apply(void **state)
{
    flashinfer_probe_result result = {
        .size = sizeof result, .io_depth = 16, .io_lanes = 8, .io_gap_bytes = 20480};
    flashinfer_options options;
    flashinfer_error error;
    struct {
        flashinfer_probe_result result;
        uint64_t tail;
    } newer = {result, 1};

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    assert_int_equal(flin_probe_apply(&options, NULL), 0);
    assert_int_equal(options.io_depth, 0);
    options.probe = &result;
    options.io_lanes = 3; /* the caller's own word counts more */
    assert_int_equal(flin_probe_apply(&options, NULL), 0);
    assert_int_equal(options.io_depth, 16);
    assert_int_equal(options.io_lanes, 3);
    assert_int_equal(options.io_gap_bytes, 20480);
    assert_null(options.probe);

    result.size =
        offsetof(flashinfer_probe_result, io_lanes); /* a caller with less of the struct */
    flashinfer_options_init(&options, sizeof options);
    options.probe = &result;
    assert_int_equal(flin_probe_apply(&options, NULL), 0);
    assert_int_equal(options.io_depth, 16);
    assert_int_equal(options.io_gap_bytes, 0);

#define REFUSED(field, number)                                                                     \
    do {                                                                                           \
        result = (flashinfer_probe_result){.size = sizeof result};                                 \
        result.field = (number);                                                                   \
        options.probe = &result;                                                                   \
        assert_int_equal(flin_probe_apply(&options, &error), FLASHINFER_EINVAL);                   \
        assert_non_null(strstr(error.text, #field));                                               \
    } while (0)
    REFUSED(size, 0);
    REFUSED(io_depth, 4097);
    REFUSED(io_lanes, 257);
    REFUSED(io_gap_bytes, 65537);
    newer.result.size = sizeof newer;
    options.probe = &newer.result;
    assert_int_equal(flin_probe_apply(&options, NULL), FLASHINFER_EINVAL);
}

/* ------------------------------------------------------------------------- results as files */

typedef struct saved {
    char path[320];
    char text[8192];
    size_t bytes;
    flashinfer_probe_result result;
} saved;

static void save(const fixture *made, saved *at)
{
    FILE *file;

    at->result = model_device(1e-4, 8, 3e9);
    at->result.storage = FLASHINFER_STORAGE_URING;
    at->result.latency_ns = UINT64_MAX;
    at->result.io_depth = UINT32_MAX;
    at->result.kind_bytes_per_s[7][3] = 12345;
    (void)snprintf(at->path, sizeof at->path, "%s/saved", made->directory);
    assert_int_equal(flashinfer_probe_save(&at->result, at->path, NULL), 0);
    file = fopen(at->path, "rb");
    at->bytes = fread(at->text, 1, sizeof at->text, file);
    (void)fclose(file);
    assert_true(at->bytes > 500 && at->bytes < sizeof at->text);
}

static int load(const saved *at, const void *data, size_t bytes, flashinfer_error *error)
{
    flashinfer_probe_result result = {.size = sizeof result, .io_depth = 77};
    int code;

    write_file(at->path, data, bytes);
    flashinfer_error_init(error, sizeof *error);
    code = flashinfer_probe_load(at->path, &result, error);
    if (code != 0) {
        assert_int_equal(result.io_depth, 77);
        assert_int_equal(error->code, code);
        assert_non_null(strstr(error->text, "saved"));
    }
    return code;
}

static void test_save_and_load(void **state)
{
    const fixture *made = *state;
    flashinfer_probe_result again = {.size = sizeof again}, part;
    uint32_t before = entries_in(made->directory);
    saved at;

    save(made, &at);
    assert_int_equal(entries_in(made->directory), before + 1); /* nothing beside it */
    assert_int_equal(flashinfer_probe_load(at.path, &again, NULL), 0);
    assert_memory_equal(&again, &at.result, sizeof again);
    memset(&part, 0x33, sizeof part); /* an older caller's struct: what it has room for */
    part.size = offsetof(flashinfer_probe_result, io_lanes);
    assert_int_equal(flashinfer_probe_load(at.path, &part, NULL), 0);
    assert_int_equal(part.io_depth, at.result.io_depth);
    assert_int_equal(part.io_lanes, 0x33333333);
    assert_int_equal(flashinfer_probe_save(&again, at.path, NULL), 0); /* over the old one */
    (void)unlink(at.path);
}

/* Cut anywhere, any byte changed, anything appended: refused. */
static void test_damaged_files(void **state)
{
    flashinfer_error error;
    saved at;
    char changed[8192 + 1];

    save(*state, &at);
    for (size_t bytes = 0; bytes < at.bytes; bytes++)
        assert_int_not_equal(load(&at, at.text, bytes, &error), 0);
    for (size_t place = 0; place < at.bytes; place++) {
        int code;
        memcpy(changed, at.text, at.bytes);
        changed[place] ^= (char)(1 << place % 8);
        code = load(&at, changed, at.bytes, &error);
        if (code != FLASHINFER_ECORRUPT)
            assert_true(code == FLASHINFER_EFORMAT ||
                        (code == FLASHINFER_EUNSUPPORTED && place == 17));
    }
    memcpy(changed, at.text, at.bytes);
    changed[at.bytes] = '\n';
    assert_int_equal(load(&at, changed, at.bytes + 1, &error), FLASHINFER_ECORRUPT);
    memset(changed, '1', sizeof changed);
    memcpy(changed, at.text, 19);
    assert_int_equal(load(&at, changed, sizeof changed, &error), FLASHINFER_EFORMAT);
    (void)unlink(at.path);
}

/* The text with `from` replaced, and the sum made right again. */
static int load_changed(const saved *at, const char *from, const char *to, flashinfer_error *error)
{
    char text[9000];
    const char *place = strstr(at->text, from);
    size_t before = (size_t)(place - at->text), kept;

    assert_non_null(place);
    memcpy(text, at->text, before);
    strcpy(text + before, to);
    strcat(text, place + strlen(from));
    kept = (size_t)(strstr(text, "xxh3=") - text);
    (void)snprintf(text + kept, 64, "xxh3=%016llx\n", (unsigned long long)flin_hash(text, kept));
    return load(at, text, strlen(text), error);
}

static void test_hostile_files(void **state)
{
    flashinfer_error error;
    saved at;

    save(*state, &at);
    at.text[at.bytes] = '\0';
    assert_int_equal(load_changed(&at, "io_lanes=", "io_lanes=", &error), 0);
    assert_int_equal(load_changed(&at, "io_lanes=", "later=1 2 x\nio_lanes=", &error), 0);
    assert_int_equal(load_changed(&at, "probe 1\n", "probe 2\n", &error), FLASHINFER_EUNSUPPORTED);
    assert_int_equal(load_changed(&at, "probe 1\n", "probe 99999999999\n", &error),
                     FLASHINFER_EFORMAT);
    static const char *const wrong[][2] = {
        {"io_lanes=", "io_lane="},
        {"io_lanes=", "io_lanes=-"},
        {"io_lanes=", "io_lanes= "},
        {"io_lanes=", "io_lanes=1\nio_lanes="},
        {"io_lanes=0\n", "io_lanes=4294967296\n"},
        {"io_lanes=0\n", "io_lanes=\n"},
        {"io_lanes=0\n", "io_lanes=1 2\n"},
        {"latency_ns=18446744073709551615\n", "latency_ns=18446744073709551616\n"},
        {"depths=1 4 16 64\n", "depths=1 4 16\n"},
        {"depths=1 4 16 64\n", "depths=1 4 16 64 \n"},
        {"depths=1 4 16 64\n", "depths=1  4 16 64\n"},
    };
    for (size_t index = 0; index < sizeof wrong / sizeof wrong[0]; index++)
        assert_int_equal(load_changed(&at, wrong[index][0], wrong[index][1], &error),
                         FLASHINFER_EFORMAT);
    /* a sum that fits, over a last line that does not end */
    assert_int_equal(load_changed(&at, "\nxxh3", "xxh3", &error), FLASHINFER_ECORRUPT);
    assert_int_equal(load(&at, "flashinfer-probe 1\n\0xxh3=0123456789abcdef\n", 42, &error),
                     FLASHINFER_EFORMAT);
    (void)unlink(at.path);
}

static void test_files_that_fail(void **state)
{
    const fixture *made = *state;
    flashinfer_probe_result result = {.size = sizeof result};
    flashinfer_error error;
    struct rlimit before, little;
    uint32_t entries = entries_in(made->directory);
    char path[320];

    flashinfer_error_init(&error, sizeof error);
    (void)snprintf(path, sizeof path, "%s/no/file", made->directory);
    assert_int_equal(flashinfer_probe_save(&result, path, &error), FLASHINFER_EIO);
    assert_int_equal(error.sys_errno, ENOENT);
    assert_int_equal(flashinfer_probe_load(path, &result, &error), FLASHINFER_EIO);
    assert_int_equal(error.sys_errno, ENOENT);
    assert_int_equal(flashinfer_probe_load(made->directory, &result, &error), FLASHINFER_EIO);
    assert_int_equal(error.sys_errno, EISDIR);
    assert_int_equal(flashinfer_probe_load(made->path, &result, &error), FLASHINFER_EFORMAT);
    assert_int_equal(flashinfer_probe_save(NULL, path, NULL), FLASHINFER_EINVAL);
    assert_int_equal(flashinfer_probe_save(&result, NULL, NULL), FLASHINFER_EINVAL);
    assert_int_equal(flashinfer_probe_load(NULL, &result, NULL), FLASHINFER_EINVAL);
    assert_int_equal(flashinfer_probe_load(path, NULL, NULL), FLASHINFER_EINVAL);
    flashinfer_error_init(&error, sizeof error);
    result.size = 3;
    assert_int_equal(flashinfer_probe_load(made->path, &result, &error), FLASHINFER_EINVAL);
    assert_int_equal(error.code, FLASHINFER_EINVAL);
    assert_non_null(strstr(error.text, "size is 3"));
    result.size = sizeof result;

    (void)snprintf(path, sizeof path, "%s/full", made->directory);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    little = before;
    little.rlim_cur = 100;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    assert_int_equal(flashinfer_probe_save(&result, path, &error), FLASHINFER_EIO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(error.sys_errno, EFBIG);
    assert_int_equal(entries_in(made->directory), entries);
}

/* ------------------------------------------------------------------------- how files are written */

/* Only regular files are written over; of a link, itself and not what it leads to. */
static void test_save_targets(void **state)
{
    const fixture *made = *state;
    flashinfer_probe_result result = {.size = sizeof result};
    flashinfer_error error;
    struct stat status;
    uint32_t entries = entries_in(made->directory);
    char path[320], link[320];

    flashinfer_error_init(&error, sizeof error);
    (void)snprintf(path, sizeof path, "%s/pipe", made->directory);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(flashinfer_probe_save(&result, path, &error), FLASHINFER_EINVAL);
    assert_non_null(strstr(error.text, "pipe is a FIFO"));
    (void)unlink(path);
    assert_int_equal(flashinfer_probe_save(&result, "/dev/null", &error), FLASHINFER_EINVAL);
    assert_non_null(strstr(error.text, "/dev/null is a device"));
    assert_int_equal(flashinfer_probe_save(&result, made->directory, &error), FLASHINFER_EINVAL);
    assert_non_null(strstr(error.text, "is a directory"));
    (void)snprintf(path, sizeof path, "%s/", made->directory);
    assert_int_equal(flashinfer_probe_save(&result, path, &error), FLASHINFER_EINVAL);

    (void)snprintf(path, sizeof path, "%s/precious", made->directory);
    write_file(path, (const uint8_t *)"precious", 8);
    for (int beside = 0; beside < 2; beside++) {
        (void)snprintf(link, sizeof link, "%s/link%s", made->directory, beside ? ".partial" : "");
        assert_int_equal(symlink("precious", link), 0);
        (void)snprintf(link, sizeof link, "%s/link", made->directory);
        assert_int_equal(flashinfer_probe_save(&result, link, &error), 0);
        assert_true(lstat(link, &status) == 0 && S_ISREG(status.st_mode));
        assert_true(stat(path, &status) == 0 && status.st_size == 8);
    }
    (void)unlink(link);
    (void)snprintf(link, sizeof link, "%s/link.partial", made->directory);
    assert_true(lstat(link, &status) == 0 && S_ISLNK(status.st_mode));
    (void)unlink(link);
    (void)unlink(path);
    assert_int_equal(entries_in(made->directory), entries);
}

static void test_save_long_name(void **state)
{
    const fixture *made = *state;
    flashinfer_probe_result result = {.size = sizeof result};
    flashinfer_error error;
    char path[600];
    size_t used = (size_t)snprintf(path, sizeof path, "%s/", made->directory);

    flashinfer_error_init(&error, sizeof error);
    memset(path + used, 'n', 255);
    path[used + 255] = '\0';
    assert_ok(flashinfer_probe_save(&result, path, &error));
    assert_ok(flashinfer_probe_load(path, &result, &error));
    (void)unlink(path);
}

/* An unfinished file nobody has locked is removed; one that is locked has a writer, and stays. */
static void test_save_abandoned(void **state)
{
    const fixture *made = *state;
    flashinfer_probe_result result = {.size = sizeof result};
    unsigned long long hash = flin_hash("kept", 4), other = flin_hash("other", 5);
    char path[320], abandoned[400], used[400], foreign[400];
    int fd;

    (void)snprintf(path, sizeof path, "%s/kept", made->directory);
    (void)snprintf(abandoned, sizeof abandoned, "%s/.flin-%016llx-1-2.partial", made->directory,
                   hash);
    (void)snprintf(used, sizeof used, "%s/.flin-%016llx-1-3.partial", made->directory, hash);
    (void)snprintf(foreign, sizeof foreign, "%s/.flin-%016llx-1-4.partial", made->directory, other);
    write_file(abandoned, (const uint8_t *)"x", 1);
    write_file(used, (const uint8_t *)"x", 1);
    write_file(foreign, (const uint8_t *)"x", 1);
    fd = open(used, O_RDWR);
    assert_true(fd >= 0 && flock(fd, LOCK_EX) == 0);
    assert_int_equal(flashinfer_probe_save(&result, path, NULL), 0);
    assert_int_equal(access(abandoned, F_OK), -1);
    assert_int_equal(access(used, F_OK), 0);
    assert_int_equal(access(foreign, F_OK), 0);
    (void)close(fd);
    assert_int_equal(flashinfer_probe_save(&result, path, NULL), 0);
    assert_int_equal(access(used, F_OK), -1);
    (void)unlink(foreign);
    (void)unlink(path);
}

/* Several write the same name and one reads it: every file that is ever seen is whole. */
static void test_save_beside_others(void **state)
{
    enum { WRITERS = 3, TIMES = 60 };
    const fixture *made = *state;
    flashinfer_probe_result result = {.size = sizeof result};
    flashinfer_error error;
    uint32_t entries = entries_in(made->directory), left = WRITERS;
    char path[320];
    int status;

    flashinfer_error_init(&error, sizeof error);
    (void)snprintf(path, sizeof path, "%s/shared", made->directory);
    assert_ok(flashinfer_probe_save(&result, path, &error));
    for (uint32_t writer = 0; writer < WRITERS; writer++) {
        pid_t child = fork();

        assert_true(child >= 0);
        if (child != 0) continue;
        status = 0;
        for (uint32_t time = 0; time < TIMES && status == 0; time++) {
            result.io_depth = time * (writer == 0 ? 1 : 1000000); /* of different lengths */
            status = flashinfer_probe_save(&result, path, NULL);
        }
        _exit(status != 0);
    }
    while (left != 0) {
        assert_ok(flashinfer_probe_load(path, &result, &error));
        if (waitpid(-1, &status, WNOHANG) <= 0) continue;
        assert_int_equal(status, 0);
        left--;
    }
    (void)unlink(path);
    assert_int_equal(entries_in(made->directory), entries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directory),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_file_is_left_alone),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_refused_arguments),
        cmocka_unit_test(test_refused_paths),
        cmocka_unit_test(test_read_only_directory),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_file_shrinks),
        cmocka_unit_test(test_recommend),
        cmocka_unit_test(test_apply),
        cmocka_unit_test(test_save_and_load),
        cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_hostile_files),
        cmocka_unit_test(test_files_that_fail),
        cmocka_unit_test(test_save_targets),
        cmocka_unit_test(test_save_long_name),
        cmocka_unit_test(test_save_abandoned),
        cmocka_unit_test(test_save_beside_others),
    };

    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
