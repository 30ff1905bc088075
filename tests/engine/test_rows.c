/*
 * test_rows.c - several rows in one narrow pass give bit for bit what single steps give: rows of one session, rows of
 * several, some that want no logits; every kernel table, type of weights, keys and values, predictor and budget.
 *
 * usage: test_rows MODEL.gguf...     one test a file
 */
#define _GNU_SOURCE
#include <unistd.h>

#include "support.h"

#include "engine/run.h"
#include "engine/session.h"
#include "predictor_fixture.h"

#define ROWS_MAX 8u
#define STEPS 2u /* passes of a run */
#define TOKENS (ROWS_MAX * STEPS)

typedef struct way {
    uint32_t predictor, kernels, kv_type, threads, audit;
    enum { SMALLEST, HALF, EVERYTHING } budget;
} way;

static const char *model_path;
static char mixed_path[64]; /* low-rank and sketch by turns, for the model at hand */
static int brief;           /* of files beyond the first: what their type changes */
static size_t vocab;

/* Places for as many sessions as rows: that is how many rows a pass may have. */
static flashinfer_model *open_way(const way *how)
{
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_error error;
    flashinfer_plan plan = {.size = sizeof plan};
    flashinfer_info info = {.size = sizeof info};

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.predictor = how->predictor;
    options.kernels = how->kernels;
    options.kv_type = how->kv_type;
    options.threads = how->threads;
    options.audit_interval = how->audit;
    if (how->predictor == FLASHINFER_PREDICTOR_MIXED) options.predictor_path = mixed_path;
    options.context_tokens = TOKENS + 1;
    options.session_count = ROWS_MAX;
    assert_ok(flashinfer_plan_file(model_path, &options, &plan, &error));
    if (how->budget == SMALLEST) options.memory_budget = plan.minimum_bytes;
    if (how->budget == HALF) options.memory_budget = (plan.minimum_bytes + plan.maximum_bytes) / 2;
    assert_ok(flashinfer_model_open(model_path, &options, &model, &error));
    assert_int_equal(flashinfer_model_info(model, &info), 0);
    assert_int_equal(model->pass.rows_max, ROWS_MAX);
    vocab = info.vocab_count;
    return model;
}

static int32_t token_of(uint32_t session, uint32_t position)
{
    uint64_t mixed = (session * 977u + position + 1) * 0x9e3779b97f4a7c15u;

    return (int32_t)((mixed >> 33) % vocab);
}

static flashinfer_session *session_of(flashinfer_model *model)
{
    flashinfer_session *session;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_session_create(model, &session, &error));
    return session;
}

/* Logits of `count` tokens of each of `sessions` sessions, one by one: (sessions, count, vocab). */
static float *run_alone(flashinfer_model *model, uint32_t sessions, uint32_t count)
{
    float *all = malloc((size_t)sessions * count * vocab * sizeof *all);
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_non_null(all);
    for (uint32_t s = 0; s < sessions; s++) {
        flashinfer_session *session = session_of(model);
        for (uint32_t i = 0; i < count; i++) {
            assert_ok(flashinfer_step(session, token_of(s, i), &error));
            memcpy(all + ((size_t)s * count + i) * vocab, flashinfer_logits(session, NULL),
                   vocab * sizeof *all);
        }
        flashinfer_session_destroy(session);
    }
    return all;
}

/* k rows of one session a pass, each row with logits of its own, against `expected` (count, vocab). */
static void check_one_session(flashinfer_model *model, uint32_t k, const float *expected)
{
    flashinfer_session *session = session_of(model);
    float *logits = malloc((size_t)k * vocab * sizeof *logits);
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_non_null(logits);
    for (uint32_t first = 0; first + k <= STEPS * k && first + k <= TOKENS; first += k) {
        flin_row rows[ROWS_MAX];
        for (uint32_t i = 0; i < k; i++)
            rows[i] = (flin_row){session, first + i, token_of(0, first + i),
                                 /* one of them is not asked for */
                                 i == 1 && k > 2 ? NULL : logits + (size_t)i * vocab};
        assert_ok(flin_run_narrow(model, rows, k, &error));
        assert_int_equal(flashinfer_session_position(session), first + k);
        for (uint32_t i = 0; i < k; i++)
            if (rows[i].logits != NULL)
                assert_memory_equal(rows[i].logits, expected + (size_t)(first + i) * vocab,
                                    vocab * sizeof(float));
    }
    free(logits);
    flashinfer_session_destroy(session);
}

/* One row of each of k sessions a pass; session s begins a pass later than s - 1, so that positions differ.
   expected: (k, STEPS, vocab) */
static void check_sessions(flashinfer_model *model, uint32_t k, const float *expected)
{
    flashinfer_session *sessions[ROWS_MAX];
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    for (uint32_t s = 0; s < k; s++) sessions[s] = session_of(model);
    for (uint32_t pass = 0; pass < STEPS + k; pass++) {
        flin_row rows[ROWS_MAX];
        uint32_t count = 0, who[ROWS_MAX];
        for (uint32_t s = 0; s < k; s++) {
            uint32_t position = pass - s;
            if (pass < s || position >= STEPS) continue;
            who[count] = s;
            rows[count++] =
                (flin_row){sessions[s], position, token_of(s, position), sessions[s]->logits};
        }
        if (count == 0) continue;
        assert_ok(flin_run_narrow(model, rows, count, &error));
        for (uint32_t i = 0; i < count; i++) {
            const float *logits = flashinfer_logits(sessions[who[i]], NULL);
            assert_non_null(logits);
            assert_memory_equal(logits,
                                expected + ((size_t)who[i] * STEPS + rows[i].position) * vocab,
                                vocab * sizeof *logits);
        }
    }
    for (uint32_t s = 0; s < k; s++) flashinfer_session_destroy(sessions[s]);
}

static void check_way(const way *how)
{
    static const uint32_t counts[] = {2, 3, 4, 8};
    flashinfer_model *model = open_way(how);
    float *one = run_alone(model, 1, TOKENS), *several = run_alone(model, ROWS_MAX, STEPS);
    flashinfer_stats before = {.size = sizeof before}, after = {.size = sizeof after};

    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (how->kernels != FLASHINFER_KERNELS_DEFAULT && counts[i] != 3 && counts[i] != 8)
            continue;
        check_one_session(model, counts[i], one);
        check_sessions(model, counts[i], several);
    }
    assert_int_equal(flashinfer_model_stats(model, &before), 0);
    check_sessions(model, 2, several);
    assert_int_equal(flashinfer_model_stats(model, &after), 0);
    assert_int_equal(after.tokens - before.tokens, 2 * STEPS);
    assert_true(after.predicted + after.streamed > before.predicted + before.streamed);
    free(one);
    free(several);
    assert_int_equal(flashinfer_model_close(model), 0);
}

static void rows_have_the_bits_of_steps(void **state)
{
    const way ways[] = {
        {.predictor = FLASHINFER_PREDICTOR_SKETCH, .threads = 2, .budget = SMALLEST},
        {.predictor = FLASHINFER_PREDICTOR_SKETCH, .threads = 1, .budget = EVERYTHING},
        {.predictor = FLASHINFER_PREDICTOR_EXACT, .threads = 1, .budget = SMALLEST},
        {.predictor = FLASHINFER_PREDICTOR_EXACT, .threads = 2, .budget = HALF},
        {.predictor = FLASHINFER_PREDICTOR_EXACT, .threads = 1, .budget = EVERYTHING},
        {.predictor = FLASHINFER_PREDICTOR_ALL, .threads = 1, .budget = SMALLEST},
        {.predictor = FLASHINFER_PREDICTOR_SKETCH,
         .threads = 1,
         .budget = HALF,
         .kv_type = FLASHINFER_KV_F16},
        {.predictor = FLASHINFER_PREDICTOR_SKETCH,
         .threads = 1,
         .budget = HALF,
         .kv_type = FLASHINFER_KV_Q8_0},
        {.predictor = FLASHINFER_PREDICTOR_SKETCH, .threads = 1, .budget = HALF, .audit = 1},
        {.predictor = FLASHINFER_PREDICTOR_MIXED, .threads = 1, .budget = HALF},
    };

    int file;

    (void)state;
    (void)snprintf(mixed_path, sizeof mixed_path, "/tmp/flin-rows-XXXXXX");
    file = mkstemp(mixed_path);
    assert_true(file >= 0);
    (void)close(file);
    make_predictors(model_path, FLASHINFER_PREDICTOR_MIXED, mixed_path);
    for (uint32_t kernels = FLASHINFER_KERNELS_DEFAULT; kernels <= FLASHINFER_KERNELS_NEON;
         kernels++) {
        if (flin_kernels_choose(kernels) == NULL) continue;
        if (kernels != FLASHINFER_KERNELS_DEFAULT &&
            flin_kernels_choose(kernels) == flin_kernels_choose(0))
            continue;
        for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
            way how = ways[i];
            /* the engine's code is the same: tables differ in products */
            if (i % 5 != 0 && (kernels != FLASHINFER_KERNELS_DEFAULT || brief)) continue;
            if (kernels == FLASHINFER_KERNELS_REF && how.predictor == FLASHINFER_PREDICTOR_ALL)
                continue;
            how.kernels = kernels;
            check_way(&how);
        }
    }
    (void)remove(mixed_path);
}

/* A pass that fails moves nobody. */
static void a_failed_pass_moves_no_session(void **state)
{
    flashinfer_model *model =
        open_way(&(way){.predictor = FLASHINFER_PREDICTOR_SKETCH, .threads = 1, .budget = HALF});
    flashinfer_session *sessions[2] = {session_of(model), session_of(model)};
    flashinfer_error error;
    flin_row rows[2];

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (uint32_t i = 0; i < 2; i++)
        rows[i] = (flin_row){sessions[i], 0, token_of(i, 0), sessions[i]->logits};
    for (uint32_t i = 0; i < 2; i++) sessions[i]->call = flin_session_call(sessions[i]);
    flashinfer_session_cancel(sessions[1]);
    assert_int_equal(flin_run_narrow(model, rows, 2, &error), FLASHINFER_ECANCELED);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(flashinfer_session_position(sessions[i]), 0);
        assert_null(flashinfer_logits(sessions[i], NULL));
        sessions[i]->call = flin_session_call(sessions[i]);
    }
    assert_ok(flin_run_narrow(model, rows, 2, &error));
    for (uint32_t i = 0; i < 2; i++) flashinfer_session_destroy(sessions[i]);
    assert_int_equal(flashinfer_model_close(model), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_have_the_bits_of_steps),
        cmocka_unit_test(a_failed_pass_moves_no_session),
    };
    int failed = 0;

    if (argc < 2) return 2;
    for (int i = 1; i < argc; i++) {
        model_path = argv[i];
        brief = i > 1;
        failed += cmocka_run_group_tests_name(model_path, tests, NULL, NULL);
    }
    return failed != 0;
}
