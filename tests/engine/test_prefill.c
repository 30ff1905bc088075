/*
 * test_prefill.c - prompts in chunks: the logits of single steps up to rounding, the same bits whatever the budget, the
 * threads and the backend, cancelling, what stays in the cache, and what the statistics say.
 */
#include <math.h>
#include <pthread.h>
#include <time.h>

#include "support.h"

#define TOKENS 77u /* several chunks of the bundled model, and a rest */

static const char *model_path;
static int32_t tokens[TOKENS];

static flashinfer_model *open_with(const flashinfer_options *options)
{
    flashinfer_model *model;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_model_open(model_path, options, &model, &error));
    return model;
}

static flashinfer_options options_of(uint32_t predictor)
{
    flashinfer_options options;

    flashinfer_options_init(&options, sizeof options);
    options.predictor = predictor;
    options.threads = 1;
    options.context_tokens = TOKENS + 8;
    return options;
}

static flashinfer_session *session_of(flashinfer_model *model)
{
    flashinfer_session *session;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_session_create(model, &session, &error));
    return session;
}

static float *copy_logits(const flashinfer_session *session, size_t *count)
{
    const float *logits = flashinfer_logits(session, count);
    float *copy = malloc(*count * sizeof *copy);

    assert_non_null(logits);
    assert_non_null(copy);
    return memcpy(copy, logits, *count * sizeof *copy);
}

/* Logits after the prompt, run as one call. */
static float *evaluate(const flashinfer_options *options, size_t *count)
{
    flashinfer_model *model = open_with(options);
    flashinfer_session *session = session_of(model);
    flashinfer_error error;
    float *logits;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_eval(session, tokens, TOKENS, &error));
    logits = copy_logits(session, count);
    flashinfer_session_destroy(session);
    assert_ok(flashinfer_model_close(model));
    return logits;
}

static float distance(const float *left, const float *right, size_t count)
{
    float most = 0;

    for (size_t i = 0; i < count; i++)
        if (!(fabsf(left[i] - right[i]) <= most)) most = fabsf(left[i] - right[i]);
    return most;
}

/* Chunks sum in another order than steps. With quantised weights they multiply by the inputs themselves, where steps round
   those to levels, 1/65278 of a block's largest; that moves logits by as much as rounding keys and values to float16 may, so
   the two together get twice the bound. Either makes a key or value here and there come out a digit higher or lower, and a
   digit of Q8_0, 1/127 of a block's largest, is 16 of float16's, 1/2048. */
static float close_enough(uint32_t dtype, uint32_t kv_type)
{
    int quantised = dtype == FLASHINFER_DTYPE_Q8_0 || dtype == FLASHINFER_DTYPE_Q4_0;
    float bound = 2e-3f;

    if (quantised && kv_type != FLASHINFER_KV_F32) bound *= 2;
    return kv_type == FLASHINFER_KV_Q8_0 ? 16 * bound : bound;
}

static void chunks_equal_steps(void **state)
{
    const struct {
        const char *variable;
        uint32_t kv_type;
    } runs[] = {
        {"FLASHINFER_TEST_MODEL", FLASHINFER_KV_F32},
        {"FLASHINFER_TEST_MODEL", FLASHINFER_KV_F16},
        {"FLASHINFER_TEST_MODEL", FLASHINFER_KV_Q8_0},
        {"FLASHINFER_TEST_MODEL_BF16", FLASHINFER_KV_F32},
        {"FLASHINFER_TEST_MODEL_Q8_0", FLASHINFER_KV_F32},
        {"FLASHINFER_TEST_MODEL_Q4_0", FLASHINFER_KV_F32},
        {"FLASHINFER_TEST_MODEL_MIXED", FLASHINFER_KV_F16},
        {"FLASHINFER_TEST_MODEL_MIXED", FLASHINFER_KV_Q8_0},
    };
    const char *float16_path = model_path;

    (void)state;
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        flashinfer_options options = options_of(FLASHINFER_PREDICTOR_EXACT);
        flashinfer_info info = {.size = sizeof info};
        flashinfer_model *model;
        flashinfer_session *session;
        flashinfer_error error;
        float *chunked, *stepped, bound;
        size_t count;
        model_path = environment(runs[i].variable, float16_path);
        options.kv_type = runs[i].kv_type;
        options.threads = 2;
        chunked = evaluate(&options, &count);
        flashinfer_error_init(&error, sizeof error);
        model = open_with(&options);
        session = session_of(model);
        for (size_t t = 0; t < TOKENS; t++) assert_ok(flashinfer_step(session, tokens[t], &error));
        stepped = copy_logits(session, &count);
        assert_ok(flashinfer_model_info(model, &info));
        bound = close_enough(info.dtype_resident, runs[i].kv_type);
        print_message("%s, KV %u: largest distance %g, bound %g\n", runs[i].variable,
                      runs[i].kv_type, (double)distance(chunked, stepped, count), (double)bound);
        assert_true(distance(chunked, stepped, count) < bound);
        free(chunked);
        free(stepped);
        flashinfer_session_destroy(session);
        assert_ok(flashinfer_model_close(model));
    }
    model_path = float16_path;
}

/* No predictor is asked: every one gives the bits of the dense model. */
static void every_way_gives_the_same_bits(void **state)
{
    const uint32_t predictors[] = {FLASHINFER_PREDICTOR_EXACT, FLASHINFER_PREDICTOR_SKETCH,
                                   FLASHINFER_PREDICTOR_ALL};
    flashinfer_options first = options_of(FLASHINFER_PREDICTOR_EXACT);
    size_t count;
    float *expected = evaluate(&first, &count);

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        for (uint32_t way = 0; way < 3; way++) {
            flashinfer_options options = options_of(predictors[i]);
            flashinfer_plan plan = {.size = sizeof plan};
            flashinfer_error error;
            float *logits;
            flashinfer_error_init(&error, sizeof error);
            options.threads = way + 1;
            if (way >= 2) options.storage = FLASHINFER_STORAGE_PREAD;
            assert_ok(flashinfer_plan_file(model_path, &options, &plan, &error));
            if (way != 1) options.memory_budget = plan.minimum_bytes;
            logits = evaluate(&options, &count);
            assert_memory_equal(expected, logits, count * sizeof *logits);
            free(logits);
        }
    }
    free(expected);
}

/* A second prompt in a model whose layers are all in memory reads nothing and gives the same bits. */
static void what_is_in_memory_is_not_read(void **state)
{
    flashinfer_options options = options_of(FLASHINFER_PREDICTOR_ALL);
    size_t count;
    float *expected = evaluate(&options, &count);

    (void)state;
    for (uint32_t predictor = 0; predictor < 2; predictor++) {
        flashinfer_stats stats = {.size = sizeof stats};
        flashinfer_info info;
        flashinfer_model *model;
        flashinfer_session *session;
        flashinfer_error error;
        options =
            options_of(predictor == 0 ? FLASHINFER_PREDICTOR_EXACT : FLASHINFER_PREDICTOR_SKETCH);
        flashinfer_error_init(&error, sizeof error);
        model = open_with(&options);
        session = session_of(model);
        for (uint32_t round = 0; round < 3; round++) {
            uint64_t read_bytes = stats.prefill_bytes;
            assert_ok(flashinfer_session_rewind(session, 0, &error));
            assert_ok(flashinfer_eval(session, tokens, TOKENS, &error));
            assert_memory_equal(expected, flashinfer_logits(session, &count),
                                count * sizeof *expected);
            assert_ok(flashinfer_model_stats(model, &stats));
            assert_true(round == 0 ? stats.prefill_bytes > 0 : stats.prefill_bytes == read_bytes);
        }
        /* the first chunk read every bundle once, its others nothing */
        info.size = sizeof info;
        assert_ok(flashinfer_model_info(model, &info));
        assert_true(stats.prefill_bytes <= (uint64_t)info.layer_count * info.ffn_length *
                                               info.bundle_stride_bytes * 21 / 20);
        assert_int_equal(stats.prefill_tokens, 3 * TOKENS);
        assert_true(stats.prefill_ns > stats.prefill_wait_ns);
        assert_int_equal(stats.tokens, 0);
        assert_int_equal(stats.neurons, 0);
        assert_int_equal(stats.flash_bytes, 0);
        flashinfer_session_destroy(session);
        assert_ok(flashinfer_model_close(model));
    }
    free(expected);
}

/* The neurons of a prompt's end are in the cache when its continuation asks. */
static void the_end_of_a_prompt_stays_cached(void **state)
{
    flashinfer_options options = options_of(FLASHINFER_PREDICTOR_SKETCH);
    flashinfer_model *model = open_with(&options);
    flashinfer_session *session = session_of(model);
    flashinfer_stats stats = {.size = sizeof stats};
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_eval(session, tokens, TOKENS, &error));
    assert_ok(flashinfer_step(session, tokens[TOKENS - 1], &error));
    assert_ok(flashinfer_model_stats(model, &stats));
    assert_int_equal(stats.tokens, 1);
    print_message("%llu of %llu predicted neurons were cached\n",
                  (unsigned long long)stats.resident, (unsigned long long)stats.predicted);
    assert_true(stats.resident * 2 > stats.predicted);
    flashinfer_session_destroy(session);
    assert_ok(flashinfer_model_close(model));
}

static uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *cancel_soon(void *session)
{
    const struct timespec soon = {0, 20000000};

    (void)nanosleep(&soon, NULL);
    flashinfer_session_cancel(session);
    return NULL;
}

/* Cancelled in a chunk: the session stands where a chunk ended, and goes on from there to the same bits. */
static void cancel_leaves_a_session_that_goes_on(void **state)
{
    flashinfer_options options = options_of(FLASHINFER_PREDICTOR_EXACT);
    size_t count;
    float *expected = evaluate(&options, &count);
    flashinfer_model *model = open_with(&options);
    flashinfer_session *session = session_of(model);
    flashinfer_error error;
    uint32_t cancelled = 0;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (uint32_t round = 0; round < 20 && cancelled < 3; round++) {
        pthread_t thread;
        uint32_t position;
        int code;
        assert_ok(flashinfer_session_rewind(session, 0, &error));
        assert_int_equal(pthread_create(&thread, NULL, cancel_soon, session), 0);
        code = flashinfer_eval(session, tokens, TOKENS, &error);
        assert_int_equal(pthread_join(thread, NULL), 0);
        if (code == 0) continue; /* was faster */
        assert_int_equal(code, FLASHINFER_ECANCELED);
        cancelled++;
        position = flashinfer_session_position(session);
        assert_null(flashinfer_logits(session, &count));
        assert_ok(flashinfer_eval(session, tokens + position, TOKENS - position, &error));
        assert_memory_equal(expected, flashinfer_logits(session, &count), count * sizeof *expected);
    }
    print_message("cancelled %u times\n", cancelled);
    flashinfer_session_destroy(session);
    assert_ok(flashinfer_model_close(model));
    free(expected);
}

static int stop_at_once(const flashinfer_progress *progress, void *user)
{
    (void)user;
    return strcmp(progress->stage, "eval") == 0 && progress->done >= 48;
}

static void progress_is_told_of_chunks(void **state)
{
    flashinfer_options options = options_of(FLASHINFER_PREDICTOR_EXACT);
    flashinfer_model *model;
    flashinfer_session *session;
    flashinfer_error error;
    uint64_t begun;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    options.progress = stop_at_once;
    model = open_with(&options);
    session = session_of(model);
    begun = now_ns();
    assert_int_equal(flashinfer_eval(session, tokens, TOKENS, &error), FLASHINFER_ECANCELED);
    assert_true(now_ns() > begun);
    assert_in_range(flashinfer_session_position(session), 48, TOKENS - 1);
    flashinfer_session_destroy(session);
    assert_ok(flashinfer_model_close(model));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_equal_steps),
        cmocka_unit_test(every_way_gives_the_same_bits),
        cmocka_unit_test(what_is_in_memory_is_not_read),
        cmocka_unit_test(the_end_of_a_prompt_stays_cached),
        cmocka_unit_test(cancel_leaves_a_session_that_goes_on),
        cmocka_unit_test(progress_is_told_of_chunks),
    };

    if (argc < 2) return 1;
    model_path = argv[1];
    for (uint32_t i = 0; i < TOKENS; i++) tokens[i] = (int32_t)(5 + i * 37 % 900);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
