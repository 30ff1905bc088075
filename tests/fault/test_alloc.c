/*
 * test_alloc.c - every allocation at open, of a probe, an import, a new budget, a sampler and a decoder with stop strings
 * fails once: one clear error, nothing leaks (the sanitizer build says so), and the next try without a failure works.
 *
 * usage: test_alloc MODEL.gguf        linked with --wrap for each function below
 */
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fault/host_file.h"
#include "powerinfer_file.h"

/* Counts down; the allocation that reaches zero fails. 0: none fails. */
static _Atomic uint64_t countdown;
static _Atomic uint64_t failures;

static int fails_now(void)
{
    uint64_t before = countdown;

    if (before == 0) return 0;
    countdown = before - 1;
    if (before != 1) return 0;
    failures++;
    return 1;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
int __real_posix_memalign(void **memory, size_t alignment, size_t bytes);
/* what mmap() is called where file offsets have 64 bits: _FILE_OFFSET_BITS=64 on glibc */
void *__real_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__real_mremap(void *address, size_t old_bytes, size_t bytes, int flags);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t bytes);
void *__wrap_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mremap(void *address, size_t old_bytes, size_t bytes, int flags);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);

void *__wrap_malloc(size_t bytes)
{
    if (!fails_now()) return __real_malloc(bytes);
    errno = ENOMEM;
    return NULL;
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    if (!fails_now()) return __real_calloc(count, bytes);
    errno = ENOMEM;
    return NULL;
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    if (!fails_now()) return __real_aligned_alloc(alignment, bytes);
    errno = ENOMEM;
    return NULL;
}

int __wrap_posix_memalign(void **memory, size_t alignment, size_t bytes)
{
    return fails_now() ? ENOMEM : __real_posix_memalign(memory, alignment, bytes);
}

void *__wrap_mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (!fails_now()) return __real_mmap64(address, bytes, protection, flags, fd, offset);
    errno = ENOMEM;
    return MAP_FAILED;
}

void *__wrap_mremap(void *address, size_t old_bytes, size_t bytes, int flags)
{
    if (!fails_now()) return __real_mremap(address, old_bytes, bytes, flags);
    errno = ENOMEM;
    return MAP_FAILED;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument)
{
    return fails_now() ? EAGAIN : __real_pthread_create(thread, attributes, start, argument);
}

static host_file good;
static const char *model_path;

/* How many different allocations failed until one try went through. */
static uint64_t fail_each(int (*attempt)(uint32_t predictor, flashinfer_error *error),
                          uint32_t predictor)
{
    for (uint64_t n = 1; n < 10000; n++) {
        flashinfer_error error;
        uint64_t before = failures;
        int code;
        flashinfer_error_init(&error, sizeof error);
        countdown = n;
        code = attempt(predictor, &error);
        countdown = 0;
        if (failures == before) {
            assert_ok(code);
            return n - 1;
        }
        if (code == 0) continue; /* a fallback took over: fine, as long as it works */
        if (code != FLASHINFER_ENOMEM && code != FLASHINFER_ETHREAD)
            fail_msg("allocation %llu failing gives %d: %s", (unsigned long long)n, code,
                     error.text);
        assert_int_equal(error.code, code);
        assert_true(error.text[0] != '\0');
    }
    fail_msg("no end of allocations");
    return 0;
}

/* Open, run two tokens, close. Closing always works. */
static int open_and_run(uint32_t predictor, flashinfer_error *error)
{
    flashinfer_options options = host_options(predictor);
    flashinfer_model *model;
    host_file file = good;
    float *logits;
    int code;

    options.threads = 3;
    options.io_lanes = 2;
    file.reads = 0;
    code = host_open(&file, &options, &model, error);
    if (code != 0) {
        assert_null(model);
        return code;
    }
    logits = host_run(model, &code, error);
    free(logits);
    assert_int_equal(flashinfer_model_close(model), 0);
    return code;
}

/* The same through the file system; direct I/O may fall back from one backend to the next. */
static int open_file(uint32_t predictor, flashinfer_error *error)
{
    flashinfer_options options = host_options(predictor);
    flashinfer_model *model;
    int code;

    options.storage = FLASHINFER_STORAGE_PREAD;
    code = flashinfer_model_open(model_path, &options, &model, error);
    if (code != 0) return code;
    assert_int_equal(flashinfer_model_close(model), 0);
    return 0;
}

/* A probe of a directory, its result saved and loaded. */
static int probe(uint32_t predictor, flashinfer_error *error)
{
    flashinfer_probe_options options;
    flashinfer_probe_result result = {.size = sizeof result};
    const char *directory = environment("TMPDIR", "/tmp");
    char path[512];
    int code;

    (void)predictor;
    flashinfer_probe_options_init(&options, sizeof options);
    options.time_ms = 1;
    options.threads = 2;
    options.file_bytes = 1u << 20;
    options.storage = FLASHINFER_STORAGE_LIBAIO;
    code = flashinfer_probe(directory, &options, &result, error);
    if (code == FLASHINFER_EUNSUPPORTED) {
        options.storage = FLASHINFER_STORAGE_BUFFERED;
        code = flashinfer_probe(directory, &options, &result, error);
    }
    (void)snprintf(path, sizeof path, "%s/flashinfer-alloc-%d", directory, (int)getpid());
    if (code == 0) code = flashinfer_probe_save(&result, path, error);
    if (code == 0) code = flashinfer_probe_load(path, &result, error);
    (void)unlink(path);
    return code;
}

static flashinfer_model *imported_for;
static char powerinfer_path[512];

/* Predictors from a PowerInfer file: all layers or none. */
static int import(uint32_t predictor, flashinfer_error *failure)
{
    flashinfer_info info = {.size = sizeof info};
    uint64_t armed = countdown, bytes = 0;
    flashinfer_predictor *made;
    flashinfer_error error;
    int code;

    (void)predictor;
    flashinfer_error_init(&error, sizeof error);
    countdown = 0;
    assert_int_equal(flashinfer_model_info(imported_for, &info), 0);
    assert_ok(flashinfer_predictor_create(imported_for, &made, &error));
    countdown = armed;
    code = flashinfer_predictor_import(made, powerinfer_path, failure);
    for (uint32_t i = 0; i < info.layer_count; i++) bytes += flashinfer_predictor_bytes(made, i);
    assert_int_equal(bytes == 0, code != 0);
    flashinfer_predictor_destroy(made);
    return code;
}

static void write_powerinfer(void)
{
    flashinfer_info info = {.size = sizeof info};
    gguf_made made = {.alignment = 32};
    size_t header, bytes;
    char name[64], *data;

    assert_int_equal(flashinfer_model_info(imported_for, &info), 0);
    for (uint32_t i = 0; i < info.layer_count; i++) {
        float *numbers = some_numbers((size_t)2 * (info.embedding_length + info.ffn_length), i);
        (void)snprintf(name, sizeof name, "blk.%u.fc1.weight", i);
        add_matrix(&made, name, TYPE_F16, info.embedding_length, 2, numbers);
        (void)snprintf(name, sizeof name, "blk.%u.fc2.weight", i);
        add_matrix(&made, name, TYPE_F16, 2, info.ffn_length, numbers);
        free(numbers);
    }
    data = gguf_finish(&made, POWERINFER_MAGIC, 3, &header, &bytes);
    write_file(powerinfer_path, data, bytes);
    free(data);
}

/* Growing and shrinking the budget: a failure leaves the old budget in force and the model running. */
static int change_budget(uint32_t predictor, flashinfer_error *failure)
{
    flashinfer_options options = host_options(predictor);
    uint64_t armed = countdown;
    flashinfer_model *model;
    flashinfer_error error;
    flashinfer_plan plan = {.size = sizeof plan}, after = {.size = sizeof after};
    host_file file = good;
    float *logits;
    int code, ran;

    flashinfer_error_init(&error, sizeof error);
    countdown = 0;
    file.reads = 0;
    assert_ok(host_open(&file, &options, &model, &error));
    assert_int_equal(flashinfer_model_plan(model, &plan), 0);
    assert_ok(flashinfer_model_set_budget(model, plan.minimum_bytes, &error));
    assert_int_equal(flashinfer_model_plan(model, &plan), 0);
    countdown = armed;
    code = flashinfer_model_set_budget(model, 0, failure);
    countdown = 0;
    assert_int_equal(flashinfer_model_plan(model, &after), 0);
    if (code != 0) assert_memory_equal(&plan, &after, sizeof plan);
    logits = host_run(model, &ran, &error);
    assert_int_equal(ran, 0);
    free(logits);
    assert_int_equal(flashinfer_model_close(model), 0);
    return code;
}

/* A sampler with everything, its copy and its state. */
static int sample(uint32_t predictor, flashinfer_error *error)
{
    const flashinfer_logit_bias biases[] = {{3, 1.5f}, {1, -2}};
    const float logits[8] = {0, 1, 2, 3, 4, 3, 2, 1};
    flashinfer_sampler *sampler = NULL, *copy = NULL;
    flashinfer_sampler_options options;
    unsigned char state[256];
    size_t written;
    int32_t token;
    int code;

    (void)predictor;
    flashinfer_sampler_options_init(&options, sizeof options);
    options.temperature = 1;
    options.repetition_penalty = 1.5f;
    options.logit_bias_count = 2;
    options.logit_biases = biases;
    code = flashinfer_sampler_create(&options, 8, &sampler, error);
    if (code == 0) code = flashinfer_sampler_sample(sampler, logits, 8, &token, error);
    if (code == 0) code = flashinfer_sampler_copy(sampler, &copy, error);
    if (code == 0)
        code = flashinfer_sampler_state_save(sampler, state, sizeof state, &written, error);
    if (code == 0) code = flashinfer_sampler_state_load(copy, state, written, error);
    assert_int_equal(copy == NULL, code != 0);
    flashinfer_sampler_destroy(sampler);
    flashinfer_sampler_destroy(copy);
    return code;
}

/* A decoder whose stop strings are set and set again. */
static int decode(uint32_t predictor, flashinfer_error *error)
{
    static const char *const texts[] = {"upon a", "time"}, *const others[] = {"once"};
    flashinfer_decoder *decoder = NULL;
    const char *text;
    int code = flashinfer_decoder_create(imported_for, &decoder, error);

    (void)predictor;
    if (code == 0) code = flashinfer_decoder_set_stops(decoder, texts, NULL, 2, error);
    if (code == 0) code = flashinfer_decoder_push(decoder, 300, &text, NULL, error);
    if (code == 0) code = flashinfer_decoder_set_stops(decoder, others, NULL, 1, error);
    flashinfer_decoder_destroy(decoder);
    return code;
}

static void each_allocation_of_samplers_and_decoders_may_fail(void **state)
{
    flashinfer_options options;
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.flags = FLASHINFER_OPEN_METADATA;
    assert_ok(flashinfer_model_open(model_path, &options, &imported_for, &error));
    assert_int_equal(fail_each(sample, 0), 2);
    assert_int_equal(fail_each(decode, 0), 3);
    assert_int_equal(flashinfer_model_close(imported_for), 0);
}

static void each_allocation_at_open_may_fail(void **state)
{
    const uint32_t predictors[] = {FLASHINFER_PREDICTOR_SKETCH, FLASHINFER_PREDICTOR_EXACT,
                                   FLASHINFER_PREDICTOR_ALL};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        uint64_t count = fail_each(open_and_run, predictors[i]);
        print_message("%llu allocations\n", (unsigned long long)count);
        assert_true(count >= 6);
    }
}

static void each_allocation_for_a_file_may_fail(void **state)
{
    (void)state;
    assert_true(fail_each(open_file, FLASHINFER_PREDICTOR_SKETCH) >= 6);
}

static void each_allocation_of_a_probe_may_fail(void **state)
{
    (void)state;
    assert_true(fail_each(probe, 0) >= 6);
}

static void each_allocation_of_an_import_may_fail(void **state)
{
    flashinfer_options options;
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    (void)snprintf(powerinfer_path, sizeof powerinfer_path, "%.480s.alloc", model_path);
    assert_ok(flashinfer_model_open(model_path, &options, &imported_for, &error));
    write_powerinfer();
    assert_true(fail_each(import, 0) >= 40); /* six and more for each of six layers */
    assert_int_equal(flashinfer_model_close(imported_for), 0);
    assert_int_equal(remove(powerinfer_path), 0);
}

static void each_allocation_of_a_new_budget_may_fail(void **state)
{
    (void)state;
    /* one for slots; exact mode has one more a layer for up rows */
    assert_int_equal(fail_each(change_budget, FLASHINFER_PREDICTOR_SKETCH), 1);
    assert_int_equal(fail_each(change_budget, FLASHINFER_PREDICTOR_EXACT), 7);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_at_open_may_fail),
        cmocka_unit_test(each_allocation_for_a_file_may_fail),
        cmocka_unit_test(each_allocation_of_a_probe_may_fail),
        cmocka_unit_test(each_allocation_of_an_import_may_fail),
        cmocka_unit_test(each_allocation_of_a_new_budget_may_fail),
        cmocka_unit_test(each_allocation_of_samplers_and_decoders_may_fail),
    };
    size_t bytes;
    int failed;

    if (argc != 2) return 2;
    model_path = argv[1];
    good.data = read_file(argv[1], &bytes);
    good.bytes = bytes;
    if (good.data == NULL) return 2;
    failed = cmocka_run_group_tests_name("failing allocations", tests, NULL, NULL);
    free(good.data);
    return failed;
}
