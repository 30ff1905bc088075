/*
 * test_bitwise.c - the second promise: the logits depend on the model file and the tokens alone, bit for bit; never on
 * budget, cache policy, window, storage backend, merging, order of bundles, thread count, KV place, audit, or what else
 * ran before. All of it holds for every type of weights, keys and values, and for gated FFNs as for others.
 */
#include "support.h"

#define TOKENS 10

static const int32_t tokens[TOKENS] = {2, 1031, 398, 285, 2044, 510, 17, 3999, 260, 12};

/* One way of running; zero fields are defaults. */
typedef struct way {
    uint32_t predictor, threads, policy, window, storage, audit, lanes, gap;
    enum { EVERYTHING, HALF, SMALLEST } budget;
} way;

static const char *model_path, *float16_path, *checkpoint_path;
static char gated_checkpoint[512], mixed_path[512]; /* of the gated model */
static uint32_t kv_type;                            /* FLASHINFER_KV_... of all that is run */
static size_t vocab;

/* NULL where this system has no io_uring. */
static flashinfer_model *open_way(const way *how)
{
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_error error;
    flashinfer_plan plan = {.size = sizeof plan};

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.predictor = how->predictor;
    options.threads = how->threads != 0 ? how->threads : 1;
    options.cache_policy = how->policy;
    options.window_tokens = how->window;
    options.storage = how->storage;
    options.audit_interval = how->audit;
    options.io_lanes = how->lanes;
    options.io_gap_bytes = how->gap;
    options.context_tokens = 32;
    options.kv_type = kv_type;
    if (flashinfer_plan_file(model_path, &options, &plan, &error) == FLASHINFER_EUNSUPPORTED &&
        how->storage == FLASHINFER_STORAGE_URING) {
        print_message("not here: %s\n", error.text);
        return NULL;
    }
    assert_ok(flashinfer_plan_file(model_path, &options, &plan, &error));
    if (how->budget == HALF) /* of the file, or of what makes a difference */
        options.memory_budget = plan.file_bytes / 2 >= plan.minimum_bytes
                                    ? plan.file_bytes / 2
                                    : (plan.minimum_bytes + plan.maximum_bytes) / 2;
    if (how->budget == SMALLEST) options.memory_budget = plan.minimum_bytes;
    assert_ok(flashinfer_model_open(model_path, &options, &model, &error));
    return model;
}

/* All logits of all tokens, (TOKENS, vocab); free them. */
static float *run_session(flashinfer_model *model)
{
    flashinfer_session *session;
    flashinfer_error error;
    float *all = NULL;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_session_create(model, &session, &error));
    for (size_t i = 0; i < TOKENS; i++) {
        const float *logits;
        assert_ok(flashinfer_step(session, tokens[i], &error));
        logits = flashinfer_logits(session, &vocab);
        if (all == NULL) all = malloc(TOKENS * vocab * sizeof *all);
        assert_non_null(all);
        memcpy(all + i * vocab, logits, vocab * sizeof *all);
    }
    flashinfer_session_destroy(session);
    return all;
}

static float *run_way(const way *how)
{
    flashinfer_model *model = open_way(how);
    float *all = model != NULL ? run_session(model) : NULL;

    assert_int_equal(flashinfer_model_close(model), 0);
    return all;
}

static void assert_same_bits(const float *expected, float *got)
{
    if (got == NULL) return; /* not here */
    assert_memory_equal(expected, got, TOKENS * vocab * sizeof *got);
    free(got);
}

static void every_way_gives_the_same_bits(uint32_t predictor)
{
    const way reference = {.predictor = predictor};
    const way ways[] = {
        {.budget = HALF},
        {.budget = SMALLEST, .policy = FLASHINFER_CACHE_FREQUENCY},
        {.threads = 2},
        {.threads = 4, .budget = HALF, .policy = FLASHINFER_CACHE_WINDOW},
        {.window = 1, .budget = HALF, .gap = 1},
        {.window = 4, .threads = 2},
        {.storage = FLASHINFER_STORAGE_LIBAIO, .budget = HALF},
        {.storage = FLASHINFER_STORAGE_URING, .budget = SMALLEST, .threads = 2},
        {.storage = FLASHINFER_STORAGE_PREAD,
         .budget = HALF,
         .threads = 2,
         .policy = FLASHINFER_CACHE_FREQUENCY},
        {.storage = FLASHINFER_STORAGE_PREAD, .budget = SMALLEST, .lanes = 1, .gap = 65536},
        {.storage = FLASHINFER_STORAGE_BUFFERED,
         .budget = SMALLEST,
         .policy = FLASHINFER_CACHE_BALANCED},
        {.storage = FLASHINFER_STORAGE_BUFFERED, .budget = SMALLEST, .threads = 4, .window = 2},
        {.audit = 1, .budget = HALF},
    };
    float *expected = run_way(&reference);

    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        way how = ways[i];
        how.predictor = predictor;
        assert_same_bits(expected, run_way(&how));
    }
    free(expected);
}

static void exact_is_the_same_every_way(void **state)
{
    (void)state;
    every_way_gives_the_same_bits(FLASHINFER_PREDICTOR_EXACT);
}

static void sketch_is_the_same_every_way(void **state)
{
    (void)state;
    every_way_gives_the_same_bits(FLASHINFER_PREDICTOR_SKETCH);
}

static void check_exact_equals_dense(void)
{
    const way exact = {.predictor = FLASHINFER_PREDICTOR_EXACT, .budget = HALF};
    const way dense = {.predictor = FLASHINFER_PREDICTOR_ALL, .threads = 2};
    float *expected = run_way(&exact);

    assert_same_bits(expected, run_way(&dense));
    free(expected);
}

static void exact_equals_dense(void **state)
{
    (void)state;
    check_exact_equals_dense();
}

/* Another file, another type of keys and values, for the rest of a test. */
static void use(const char *variable, const char *file, uint32_t kv)
{
    model_path = environment(variable, file);
    kv_type = kv;
}

/* The gated model in other types is packed for the test. */
static void pack_mixed(void)
{
    flashinfer_pack_options options;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_pack_options_init(&options, sizeof options);
    options.dtype_resident = FLASHINFER_DTYPE_Q8_0;
    options.dtype_ffn = FLASHINFER_DTYPE_Q4_0;
    assert_ok(flashinfer_pack(checkpoint_path, mixed_path, &options, &error));
    model_path = mixed_path;
    kv_type = FLASHINFER_KV_Q8_0;
}

static int back_to_float16(void **state)
{
    (void)state;
    model_path = float16_path;
    kv_type = FLASHINFER_KV_DEFAULT;
    return 0;
}

static void quantised_is_the_same_every_way(void **state)
{
    (void)state;
    use("FLASHINFER_TEST_MODEL_MIXED", "fable-14m-mixed.gguf", FLASHINFER_KV_Q8_0);
    every_way_gives_the_same_bits(FLASHINFER_PREDICTOR_EXACT);
    every_way_gives_the_same_bits(FLASHINFER_PREDICTOR_SKETCH);
}

static void quantised_gates_are_the_same_every_way(void **state)
{
    (void)state;
    pack_mixed();
    check_exact_equals_dense();
    every_way_gives_the_same_bits(FLASHINFER_PREDICTOR_SKETCH);
    assert_int_equal(remove(mixed_path), 0);
}

static void exact_equals_dense_in_every_type(void **state)
{
    const struct {
        const char *variable, *file;
        uint32_t kv;
    } files[] = {
        {"FLASHINFER_TEST_MODEL_BF16", "fable-14m-bf16.gguf", FLASHINFER_KV_F16},
        {"FLASHINFER_TEST_MODEL_Q8_0", "fable-14m-q8_0.gguf", FLASHINFER_KV_F32},
        {"FLASHINFER_TEST_MODEL_Q4_0", "fable-14m-q4_0.gguf", FLASHINFER_KV_Q8_0},
        {"FLASHINFER_TEST_MODEL_MIXED", "fable-14m-mixed.gguf", FLASHINFER_KV_Q8_0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        use(files[i].variable, files[i].file, files[i].kv);
        check_exact_equals_dense();
    }
}

/* The tests above can fail: other types of weights, keys and values give other bits. */
static void types_differ(void **state)
{
    const way how = {.predictor = FLASHINFER_PREDICTOR_EXACT};
    float *runs[4];

    (void)state;
    runs[0] = run_way(&how);
    use("FLASHINFER_TEST_MODEL", float16_path, FLASHINFER_KV_Q8_0);
    runs[1] = run_way(&how);
    use("FLASHINFER_TEST_MODEL_MIXED", "fable-14m-mixed.gguf", FLASHINFER_KV_Q8_0);
    runs[2] = run_way(&how);
    kv_type = FLASHINFER_KV_F32;
    runs[3] = run_way(&how);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < i; k++)
            assert_memory_not_equal(runs[i], runs[k], TOKENS * vocab * sizeof(float));
    for (int i = 0; i < 4; i++) free(runs[i]);
}

/* The test can fail: another predictor gives other bits. */
static void sketch_differs_from_exact(void **state)
{
    const way exact = {.predictor = FLASHINFER_PREDICTOR_EXACT},
              sketch = {.predictor = FLASHINFER_PREDICTOR_SKETCH};
    float *first = run_way(&exact), *second = run_way(&sketch);

    (void)state;
    assert_memory_not_equal(first, second, TOKENS * vocab * sizeof *first);
    free(first);
    free(second);
}

static void history_of_the_cache_does_not_matter(void **state)
{
    const way how = {.predictor = FLASHINFER_PREDICTOR_SKETCH, .budget = HALF};
    flashinfer_model *model = open_way(&how);
    float *first = run_session(model);

    (void)state;
    for (int i = 0; i < 3; i++) assert_same_bits(first, run_session(model));
    free(first);
    assert_int_equal(flashinfer_model_close(model), 0);
}

static void check_changing_budget(void)
{
    const uint32_t predictors[] = {FLASHINFER_PREDICTOR_SKETCH, FLASHINFER_PREDICTOR_EXACT};

    for (size_t i = 0; i < 2; i++) {
        way how = {.predictor = predictors[i]};
        flashinfer_model *model = open_way(&how);
        flashinfer_plan plan = {.size = sizeof plan};
        flashinfer_error error;
        float *expected = run_session(model);
        flashinfer_error_init(&error, sizeof error);
        assert_int_equal(flashinfer_model_plan(model, &plan), 0);
        assert_ok(flashinfer_model_set_budget(model, plan.minimum_bytes, &error));
        assert_same_bits(expected, run_session(model));
        assert_ok(flashinfer_model_set_budget(model, (plan.minimum_bytes + plan.maximum_bytes) / 2,
                                              &error));
        assert_same_bits(expected, run_session(model));
        assert_ok(flashinfer_model_set_budget(model, plan.minimum_bytes + 300000, &error));
        assert_same_bits(expected, run_session(model));
        assert_ok(flashinfer_model_set_budget(model, 0, &error));
        assert_same_bits(expected, run_session(model));
        assert_int_equal(flashinfer_model_set_budget(model, plan.minimum_bytes - 1, &error),
                         FLASHINFER_EBUDGET);
        assert_same_bits(expected, run_session(model));
        free(expected);
        assert_int_equal(flashinfer_model_close(model), 0);
    }
}

static void changing_the_budget_changes_no_bit(void **state)
{
    (void)state;
    check_changing_budget();
    if (checkpoint_path == gated_checkpoint) return;
    use("FLASHINFER_TEST_MODEL_MIXED", "fable-14m-mixed.gguf", FLASHINFER_KV_Q8_0);
    check_changing_budget();
}

static void learn(const flashinfer_trace *trace, void *user)
{
    assert_int_equal(flashinfer_order_add(user, trace, NULL), 0);
}

/* The model packed again in the order that its own tokens suggest. */
static void pack_ordered(const char *path)
{
    flashinfer_info info = {.size = sizeof info};
    flashinfer_pack_options packing;
    flashinfer_order *order = NULL;
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    flashinfer_pack_options_init(&packing, sizeof packing);
    assert_ok(flashinfer_model_open(model_path, &options, &model, &error));
    assert_int_equal(flashinfer_model_info(model, &info), 0);
    assert_int_equal(info.ordered, 0);
    assert_ok(flashinfer_order_create(info.layer_count, info.ffn_length, &order, &error));
    assert_int_equal(flashinfer_model_close(model), 0);
    options.trace = learn;
    options.trace_user = order;
    options.context_tokens = 32;
    assert_ok(flashinfer_model_open(model_path, &options, &model, &error));
    free(run_session(model));
    assert_int_equal(flashinfer_model_close(model), 0);
    packing.order = order;
    assert_ok(flashinfer_pack(checkpoint_path, path, &packing, &error));
    flashinfer_order_destroy(order);
}

static void order_of_bundles_changes_no_bit(void **state)
{
    const way ways[] = {
        {.predictor = FLASHINFER_PREDICTOR_SKETCH},
        {.predictor = FLASHINFER_PREDICTOR_EXACT, .budget = HALF},
        {.predictor = FLASHINFER_PREDICTOR_ALL, .threads = 2},
        {.predictor = FLASHINFER_PREDICTOR_SKETCH, .budget = SMALLEST, .gap = 65536, .threads = 2},
        {.predictor = FLASHINFER_PREDICTOR_SKETCH, .budget = HALF, .gap = 1, .audit = 1},
        {.predictor = FLASHINFER_PREDICTOR_EXACT,
         .budget = SMALLEST,
         .storage = FLASHINFER_STORAGE_PREAD},
        {.predictor = FLASHINFER_PREDICTOR_SKETCH,
         .budget = SMALLEST,
         .storage = FLASHINFER_STORAGE_URING,
         .policy = FLASHINFER_CACHE_FREQUENCY},
        {.predictor = FLASHINFER_PREDICTOR_SKETCH,
         .budget = HALF,
         .storage = FLASHINFER_STORAGE_BUFFERED,
         .window = 2},
    };
    const char *plain_path = model_path;
    char ordered_path[512];

    (void)state;
    (void)snprintf(ordered_path, sizeof ordered_path, "%.480s.ordered", model_path);
    pack_ordered(ordered_path);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        const way reference = {.predictor = ways[i].predictor};
        float *expected = run_way(&reference);
        model_path = ordered_path;
        assert_same_bits(expected, run_way(&ways[i]));
        model_path = plain_path;
        free(expected);
    }
    assert_int_equal(remove(ordered_path), 0);
}

/* The same again with gate rows in the bundles. */
static int run_gated(const char *path)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_is_the_same_every_way),
        cmocka_unit_test(sketch_is_the_same_every_way),
        cmocka_unit_test(exact_equals_dense),
        cmocka_unit_test(sketch_differs_from_exact),
        cmocka_unit_test_teardown(quantised_gates_are_the_same_every_way, back_to_float16),
        cmocka_unit_test(history_of_the_cache_does_not_matter),
        cmocka_unit_test(changing_the_budget_changes_no_bit),
        cmocka_unit_test(order_of_bundles_changes_no_bit),
    };

    model_path = float16_path = path;
    (void)snprintf(gated_checkpoint, sizeof gated_checkpoint, "%.480s/fable-llama-18m",
                   environment("FLASHINFER_TEST_MODELS", "../shared/models"));
    checkpoint_path = gated_checkpoint;
    (void)snprintf(mixed_path, sizeof mixed_path, "%.480s.mixed", path);
    return cmocka_run_group_tests_name("bitwise, gated", tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_is_the_same_every_way),
        cmocka_unit_test(sketch_is_the_same_every_way),
        cmocka_unit_test(exact_equals_dense),
        cmocka_unit_test(sketch_differs_from_exact),
        cmocka_unit_test_teardown(quantised_is_the_same_every_way, back_to_float16),
        cmocka_unit_test_teardown(exact_equals_dense_in_every_type, back_to_float16),
        cmocka_unit_test_teardown(types_differ, back_to_float16),
        cmocka_unit_test(history_of_the_cache_does_not_matter),
        cmocka_unit_test_teardown(changing_the_budget_changes_no_bit, back_to_float16),
        cmocka_unit_test(order_of_bundles_changes_no_bit),
    };

    int failed;

    if (argc < 2) return 2;
    model_path = float16_path = argv[1];
    checkpoint_path = environment("FLASHINFER_TEST_CHECKPOINT", "examples/models/fable-14m");
    failed = cmocka_run_group_tests_name("bitwise", tests, NULL, NULL);
    return argc > 2 && is_here(argv[2]) ? failed + run_gated(argv[2]) : failed;
}
