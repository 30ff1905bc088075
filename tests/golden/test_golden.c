/*
 * test_golden.c - the library against what transformers computes from the same float16 weights in float32.
 *
 * usage: test_golden MODEL.gguf GOLDEN_DIR EXACT_WINDOWS SKETCH_WINDOWS [PERPLEXITY RECALL NAMED]
 *
 * GOLDEN_DIR: output of npz_to_raw.py. The last three are bounds on sketch mode: the share by which perplexity may differ
 * from exact mode (0.01), the share of firing neurons that must be named, the share of all neurons that may be.
 *
 * Exact mode runs over the first EXACT_WINDOWS of the 16 windows, sketch mode over the first SKETCH_WINDOWS; with no
 * window logits and continuations are all, which an emulator manages in a minute. Each process has one
 * compute thread: two of them run side by side.
 */
#include "golden.h"

#define PROMPTS 4

static const char *model_path;
static uint32_t exact_windows, sketch_windows;
static double perplexity_bound = 0.01, recall_bound, named_bound;

static flashinfer_model *open_model(uint32_t predictor, const char *share)
{
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_error error;
    flashinfer_plan plan = {.size = sizeof plan};

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.predictor = predictor;
    options.threads = 1;
    assert_ok(flashinfer_plan_file(model_path, &options, &plan, &error));
    if (strcmp(share, "half") == 0) options.memory_budget = plan.file_bytes / 2;
    if (options.memory_budget != 0 && options.memory_budget < plan.minimum_bytes)
        options.memory_budget = plan.minimum_bytes;
    assert_ok(flashinfer_model_open(model_path, &options, &model, &error));
    return model;
}

static void close_model(flashinfer_model *model, flashinfer_session *session)
{
    flashinfer_session_destroy(session);
    assert_int_equal(flashinfer_model_close(model), 0);
}

static void logits_match(void **state)
{
    flashinfer_error error;
    flashinfer_model *model = open_model(FLASHINFER_PREDICTOR_EXACT, "all");
    flashinfer_session *session;
    double worst = 0;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_session_create(model, &session, &error));
    for (int prompt = 0; prompt < PROMPTS; prompt++) {
        char name[64];
        size_t id_bytes, logit_bytes, vocab;
        int32_t *ids;
        float *expected;
        (void)snprintf(name, sizeof name, "prompt%d_ids", prompt);
        ids = golden(name, &id_bytes);
        (void)snprintf(name, sizeof name, "prompt%d_logits", prompt);
        expected = golden(name, &logit_bytes);
        assert_ok(flashinfer_session_rewind(session, 0, &error));
        for (size_t i = 0; i < id_bytes / 4; i++) {
            const float *logits;
            assert_ok(flashinfer_step(session, ids[i], &error));
            logits = flashinfer_logits(session, &vocab);
            assert_int_equal(logit_bytes, id_bytes * vocab);
            for (size_t v = 0; v < vocab; v++) {
                double distance = fabs((double)logits[v] - (double)expected[i * vocab + v]);
                if (!(distance <= worst)) worst = distance;
            }
        }
        free(ids);
        free(expected);
    }
    print_message("largest distance of a logit: %.2e\n", worst);
    assert_true(worst <= 2e-3);
    close_model(model, session);
}

static int32_t likeliest(const float *logits, size_t vocab)
{
    size_t best = 0;

    for (size_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

static void greedy_continuations_match(void **state)
{
    flashinfer_error error;
    flashinfer_model *model;
    flashinfer_session *session;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (int prompt = 0; prompt < PROMPTS; prompt++) {
        char name[64];
        size_t prompt_bytes, bytes, vocab;
        int32_t *ids, *expected;
        (void)snprintf(name, sizeof name, "prompt%d_ids", prompt);
        ids = golden(name, &prompt_bytes);
        (void)snprintf(name, sizeof name, "prompt%d_greedy", prompt);
        expected = golden(name, &bytes);
        assert_int_equal(bytes - prompt_bytes, 64 * 4);
        model = open_model(FLASHINFER_PREDICTOR_EXACT, prompt == 0 ? "half" : "all");
        assert_ok(flashinfer_session_create(model, &session, &error));
        assert_ok(flashinfer_eval(session, ids, prompt_bytes / 4, &error));
        for (size_t i = prompt_bytes / 4; i < bytes / 4; i++) {
            const float *logits = flashinfer_logits(session, &vocab);
            assert_int_equal(likeliest(logits, vocab), expected[i]);
            assert_ok(flashinfer_step(session, expected[i], &error));
        }
        free(ids);
        free(expected);
        close_model(model, session);
    }
}

/* Exact against transformers, window by window and, over all of them, valid_nll; sketch must stay near exact on the
   same windows. */
static void compare_perplexity(void)
{
    flashinfer_error error;
    flashinfer_model *exact = open_model(FLASHINFER_PREDICTOR_EXACT, "all");
    flashinfer_model *sketch = open_model(FLASHINFER_PREDICTOR_SKETCH, "half");
    flashinfer_session *exact_session, *sketch_session;
    size_t bytes, nll_bytes, window_bytes;
    int32_t *ids = golden("valid_ids", &bytes);
    double *valid_nll = golden("valid_nll", &nll_bytes);
    double *expected = golden("window_nll", &window_bytes), exact_nll = 0, difference = 0;

    flashinfer_error_init(&error, sizeof error);
    assert_int_equal(bytes, WINDOWS * WINDOW * 4);
    assert_int_equal(nll_bytes, 8);
    assert_int_equal(window_bytes, WINDOWS * 8);
    assert_ok(flashinfer_session_create(exact, &exact_session, &error));
    assert_ok(flashinfer_session_create(sketch, &sketch_session, &error));
    for (uint32_t i = 0; i < exact_windows; i++) {
        double nll = window_nll(exact_session, ids + i * WINDOW);
        assert_true(fabs(nll - expected[i]) <= 1e-3);
        exact_nll += nll / exact_windows;
        if (i < sketch_windows)
            difference += (window_nll(sketch_session, ids + i * WINDOW) - nll) / sketch_windows;
    }
    print_message("nll of %u windows: %.6f (transformers, 16 windows: %.6f); perplexity of sketch "
                  "over %u windows %+.3f %%\n",
                  exact_windows, exact_nll, *valid_nll, sketch_windows,
                  100 * (exp(difference) - 1));
    if (exact_windows == WINDOWS) assert_true(fabs(exact_nll - *valid_nll) <= 1e-3);
    assert_true(fabs(exp(difference) - 1) <= perplexity_bound);
    free(ids);
    free(valid_nll);
    free(expected);
    close_model(exact, exact_session);
    close_model(sketch, sketch_session);
}

static void perplexity_matches(void **state)
{
    (void)state;
    if (exact_windows == 0) skip();
    compare_perplexity();
}

/* Every layer audited at every tenth token of the first windows, within half of the file. */
static void sketch_names_what_fires(void **state)
{
    flashinfer_options options;
    flashinfer_stats stats = {.size = sizeof stats};
    flashinfer_error error;
    flashinfer_plan plan = {.size = sizeof plan};
    flashinfer_model *model;
    flashinfer_session *session;
    size_t bytes;
    int32_t *ids;
    double recall, named;

    (void)state;
    if (recall_bound <= 0 || sketch_windows == 0) skip();
    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.predictor = FLASHINFER_PREDICTOR_SKETCH;
    options.threads = 1;
    options.audit_interval = 10;
    options.audit_layers = UINT32_MAX;
    assert_ok(flashinfer_plan_file(model_path, &options, &plan, &error));
    options.memory_budget = plan.file_bytes / 2;
    assert_ok(flashinfer_model_open(model_path, &options, &model, &error));
    assert_ok(flashinfer_session_create(model, &session, &error));
    ids = golden("valid_ids", &bytes);
    for (uint32_t i = 0; i < sketch_windows; i++) (void)window_nll(session, ids + i * WINDOW);
    assert_int_equal(flashinfer_model_stats(model, &stats), 0);
    recall = 1 - (double)stats.audited_missed / (double)stats.audited_active;
    named = (double)stats.predicted / (double)stats.neurons;
    print_message("sketch names %.2f %% of the neurons and %.3f %% of those that fire\n",
                  100 * named, 100 * recall);
    assert_true(recall >= recall_bound);
    assert_true(named <= named_bound);
    free(ids);
    close_model(model, session);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_match),
        cmocka_unit_test(greedy_continuations_match),
        cmocka_unit_test(perplexity_matches),
        cmocka_unit_test(sketch_names_what_fires),
    };
    FILE *model;

    if (argc != 5 && argc != 8) return 2;
    model_path = argv[1];
    golden_dir = argv[2];
    exact_windows = (uint32_t)strtoul(argv[3], NULL, 10);
    sketch_windows = (uint32_t)strtoul(argv[4], NULL, 10);
    if (argc == 8) {
        perplexity_bound = strtod(argv[5], NULL);
        recall_bound = strtod(argv[6], NULL);
        named_bound = strtod(argv[7], NULL);
    }
    if ((sketch_windows == 0) != (exact_windows == 0)) return 2;
    if (sketch_windows > exact_windows || exact_windows > WINDOWS) return 2;
    model = fopen(model_path, "rb");
    if (model == NULL) {
        (void)printf("SKIP: %s is not here\n", model_path);
        return 77;
    }
    (void)fclose(model);
    return cmocka_run_group_tests_name("golden", tests, NULL, NULL);
}
