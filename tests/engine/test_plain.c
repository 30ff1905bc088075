/*
 * test_plain.c - GGUF files that are not in flash layout: the same logits as of the packed model, and the same bits at
 * every budget, by every backend, with any number of threads, live changes of the budget and sessions between.
 *
 * usage: test_plain PLAIN.gguf PACKED.gguf [PLAIN.gguf PACKED.gguf]     files that are not here are skipped
 */
#include <math.h>

#include "support.h"

#define PROMPT 70u
#define STEPS 6u
#define RUNS (STEPS + 2) /* logits after a prompt, each step, and a second prompt */
#define PERCENT_SMALLEST 0u

static const char *plain_path, *packed_path;

typedef struct way {
    uint32_t percent; /* of the file; PERCENT_SMALLEST: the smallest budget */
    uint32_t threads, storage, kernels, predictor;
} way;

static flashinfer_options options_of(const way *by)
{
    flashinfer_options options;

    flashinfer_options_init(&options, sizeof options);
    options.threads = by->threads;
    options.storage = by->storage;
    options.kernels = by->kernels;
    options.predictor = by->predictor;
    options.context_tokens = 128;
    options.session_count = 2;
    return options;
}

static flashinfer_model *open_by(const char *path, const way *by, flashinfer_plan *plan)
{
    flashinfer_options options = options_of(by);
    flashinfer_model *model;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    *plan = (flashinfer_plan){.size = sizeof *plan};
    assert_ok(flashinfer_plan_file(path, &options, plan, &error));
    options.memory_budget = by->percent == PERCENT_SMALLEST ? plan->minimum_bytes
                                                            : plan->file_bytes * by->percent / 100;
    if (options.memory_budget < plan->minimum_bytes) options.memory_budget = plan->minimum_bytes;
    assert_ok(flashinfer_model_open(path, &options, &model, &error));
    assert_int_equal(flashinfer_model_plan(model, plan), 0);
    assert_true(plan->planned_bytes <= plan->budget_bytes);
    return model;
}

static int32_t token_of(uint32_t at)
{
    return (int32_t)(at * 97 % 4000 + 5);
}

/* Logits of a session's calls: (RUNS, vocab). */
static float *run_session(flashinfer_model *model, size_t *vocab)
{
    flashinfer_session *session;
    flashinfer_error error;
    int32_t tokens[PROMPT];
    float *all = NULL;

    flashinfer_error_init(&error, sizeof error);
    for (uint32_t i = 0; i < PROMPT; i++) tokens[i] = token_of(i);
    assert_ok(flashinfer_session_create(model, &session, &error));
    for (uint32_t i = 0; i < RUNS; i++) {
        const float *logits;
        if (i == 0) {
            assert_ok(flashinfer_eval(session, tokens, PROMPT, &error));
        } else if (i <= STEPS) {
            assert_ok(flashinfer_step(session, token_of(PROMPT + i), &error));
        } else {
            assert_ok(flashinfer_eval(session, tokens, PROMPT / 2, &error));
        }
        logits = flashinfer_logits(session, vocab);
        assert_non_null(logits);
        if (all == NULL) all = malloc(RUNS * *vocab * sizeof *all);
        assert_non_null(all);
        memcpy(all + i * *vocab, logits, *vocab * sizeof *all);
    }
    flashinfer_session_destroy(session);
    return all;
}

static float *run(const char *path, const way *by, size_t *vocab)
{
    flashinfer_plan plan;
    flashinfer_model *model = open_by(path, by, &plan);
    float *all = run_session(model, vocab);

    assert_int_equal(flashinfer_model_close(model), 0);
    return all;
}

static const way everything = {1000, 1, 0, 0, 0};

/* The packed model adds columns where the plain one multiplies rows: sums round differently. */
static void logits_are_the_packed_models(void **state)
{
    way packed = everything;
    size_t vocab = 0;
    float *plain_logits, *packed_logits;
    double most = 0;

    (void)state;
    packed.predictor = FLASHINFER_PREDICTOR_EXACT;
    plain_logits = run(plain_path, &everything, &vocab);
    packed_logits = run(packed_path, &packed, &vocab);
    for (size_t i = 0; i < RUNS * vocab; i++) {
        const double apart = fabs((double)plain_logits[i] - (double)packed_logits[i]);
        if (!(apart <= most)) most = apart;
    }
    print_message("largest distance of logits %.2g\n", most);
    assert_true(most < 1e-3);
    free(plain_logits);
    free(packed_logits);
}

static void bits_are_the_same_by_every_way(void **state)
{
    static const way ways[] = {{PERCENT_SMALLEST, 1, 0, 0, 0},
                               {PERCENT_SMALLEST, 2, FLASHINFER_STORAGE_LIBAIO, 0, 0},
                               {30, 1, FLASHINFER_STORAGE_PREAD, 0, 0},
                               {30, 2, FLASHINFER_STORAGE_BUFFERED, 0, 0},
                               {60, 2, 0, 0, 0},
                               {80, 1, FLASHINFER_STORAGE_URING, 0, 0},
                               {1000, 2, 0, 0, FLASHINFER_PREDICTOR_ALL}};
    size_t vocab = 0;
    float *wanted = run(plain_path, &everything, &vocab);

    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        flashinfer_options options = options_of(&ways[i]);
        flashinfer_plan plan = {.size = sizeof plan};
        float *all;
        if (flashinfer_plan_file(plain_path, &options, &plan, NULL) != 0) {
            print_message("storage %u does not work here\n", ways[i].storage);
            continue;
        }
        all = run(plain_path, &ways[i], &vocab);
        assert_memory_equal(all, wanted, RUNS * vocab * sizeof *all);
        free(all);
    }
    free(wanted);
}

static void ref_gives_its_bits_at_every_budget(void **state)
{
    const way all_in_memory = {1000, 2, 0, FLASHINFER_KERNELS_REF, 0};
    const way smallest = {PERCENT_SMALLEST, 1, 0, FLASHINFER_KERNELS_REF, 0};
    size_t vocab = 0;
    float *wanted = run(plain_path, &all_in_memory, &vocab);
    float *all = run(plain_path, &smallest, &vocab);

    (void)state;
    assert_memory_equal(all, wanted, RUNS * vocab * sizeof *all);
    free(all);
    free(wanted);
}

/* What a token reads is what the plan says, and no more than that plus rounding of reads. */
static void a_token_reads_what_the_plan_says(void **state)
{
    static const uint32_t percents[] = {PERCENT_SMALLEST, 30, 60, 1000};

    (void)state;
    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        const way by = {percents[i], 2, 0, 0, 0};
        flashinfer_stats before = {.size = sizeof before}, after = {.size = sizeof after};
        flashinfer_plan plan;
        flashinfer_model *model = open_by(plain_path, &by, &plan);
        flashinfer_session *session;
        flashinfer_error error;
        double each;

        flashinfer_error_init(&error, sizeof error);
        assert_ok(flashinfer_session_create(model, &session, &error));
        for (uint32_t token = 0; token < 44; token++) {
            if (token == 4) assert_int_equal(flashinfer_model_stats(model, &before), 0);
            assert_ok(flashinfer_step(session, token_of(token), &error));
        }
        assert_int_equal(flashinfer_model_stats(model, &after), 0);
        each = (double)(after.flash_bytes - before.flash_bytes) / 40;
        print_message("%u %%: %.0f bytes a token, planned %llu\n", percents[i], each,
                      (unsigned long long)plan.streamed_bytes);
        if (percents[i] == 1000) {
            assert_int_equal(plan.streamed_bytes, 0);
            assert_int_equal(after.flash_bytes - before.flash_bytes, 0);
        } else {
            assert_true(plan.streamed_bytes > 0);
            assert_true(each > 0.97 * (double)plan.streamed_bytes);
            assert_true(each <
                        1.15 * (double)plan.streamed_bytes + 8192 * 64); /* reads are small here */
        }
        flashinfer_session_destroy(session);
        assert_int_equal(flashinfer_model_close(model), 0);
    }
}

static void the_budget_moves_between_calls(void **state)
{
    static const uint32_t percents[] = {60, PERCENT_SMALLEST, 90, 30, 200, PERCENT_SMALLEST};
    flashinfer_plan plan;
    flashinfer_model *model = open_by(plain_path, &everything, &plan);
    size_t vocab = 0;
    float *wanted = run_session(model, &vocab);
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        uint64_t budget = plan.file_bytes * percents[i] / 100;
        float *all;
        if (budget < plan.minimum_bytes) budget = plan.minimum_bytes;
        assert_ok(flashinfer_model_set_budget(model, budget, &error));
        all = run_session(model, &vocab);
        assert_memory_equal(all, wanted, RUNS * vocab * sizeof *all);
        free(all);
    }
    free(wanted);
    assert_int_equal(flashinfer_model_set_budget(model, plan.minimum_bytes - 1, &error),
                     FLASHINFER_EBUDGET);
    assert_int_equal(flashinfer_model_close(model), 0);
}

/* Asked for during a prompt, from its progress callback. */
static int cancel_once(const flashinfer_progress *progress, void *user)
{
    uint32_t *left = user;

    if (strcmp(progress->stage, "eval") != 0 || *left == 0) return 0;
    return --*left == 0;
}

static void a_cancelled_call_leaves_the_ring_in_order(void **state)
{
    const way smallest = {PERCENT_SMALLEST, 2, 0, 0, 0};
    flashinfer_options options = options_of(&smallest);
    flashinfer_plan plan = {.size = sizeof plan};
    flashinfer_model *model;
    flashinfer_session *session;
    flashinfer_error error;
    int32_t tokens[PROMPT];
    uint32_t left = 1;
    size_t vocab = 0;
    float *wanted = run(plain_path, &everything, &vocab), *all;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (uint32_t i = 0; i < PROMPT; i++) tokens[i] = token_of(i);
    options.progress = cancel_once;
    options.progress_user = &left;
    assert_ok(flashinfer_plan_file(plain_path, &options, &plan, &error));
    options.memory_budget = plan.minimum_bytes;
    assert_ok(flashinfer_model_open(plain_path, &options, &model, &error));
    assert_ok(flashinfer_session_create(model, &session, &error));
    for (uint32_t turn = 1; turn < 4; turn++) {
        left = turn;
        (void)flashinfer_eval(session, tokens, PROMPT, &error);
        assert_ok(flashinfer_session_rewind(session, 0, &error));
    }
    left = 0;
    flashinfer_session_destroy(session);
    all = run_session(model, &vocab);
    assert_memory_equal(all, wanted, RUNS * vocab * sizeof *all);
    free(all);
    free(wanted);
    assert_int_equal(flashinfer_model_close(model), 0);
}

typedef struct told {
    uint64_t done, total;
    uint32_t calls;
} told;

static int tell(const flashinfer_progress *progress, void *user)
{
    told *before = user;

    assert_string_equal(progress->stage, "open");
    assert_true(progress->done >= before->done && progress->done <= progress->total);
    if (before->calls++ != 0) assert_int_equal(progress->total, before->total);
    before->done = progress->done;
    before->total = progress->total;
    return 0;
}

/* One count from the first tensor to the last matrix. */
static void opening_says_how_far_it_is(void **state)
{
    flashinfer_options options = options_of(&everything);
    flashinfer_model *model;
    flashinfer_error error;
    told all = {0};

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    options.progress = tell;
    options.progress_user = &all;
    assert_ok(flashinfer_model_open(plain_path, &options, &model, &error));
    assert_true(all.calls > 4);
    assert_int_equal(all.done, all.total);
    assert_int_equal(flashinfer_model_close(model), 0);
}

/* What only files in flash layout have is refused by name. */
static void what_needs_bundles_is_refused(void **state)
{
    static const uint32_t predictors[] = {FLASHINFER_PREDICTOR_EXACT, FLASHINFER_PREDICTOR_SKETCH,
                                          FLASHINFER_PREDICTOR_LOWRANK, FLASHINFER_PREDICTOR_MIXED};
    way by = everything;
    flashinfer_plan plan;
    flashinfer_model *model;
    flashinfer_error error;
    float row[8192];

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (size_t i = 0; i < sizeof predictors / sizeof predictors[0]; i++) {
        flashinfer_options options;
        by.predictor = predictors[i];
        options = options_of(&by);
        assert_int_equal(flashinfer_model_open(plain_path, &options, &model, &error),
                         FLASHINFER_EUNSUPPORTED);
        assert_non_null(strstr(error.text, "not in flash layout"));
    }
    model = open_by(plain_path, &everything, &plan);
    assert_int_equal(flashinfer_model_verify(model, &error), FLASHINFER_EUNSUPPORTED);
    assert_int_equal(flashinfer_model_ffn_rows(model, 0, FLASHINFER_PART_UP, 0, 1, row, &error),
                     FLASHINFER_EUNSUPPORTED);
    assert_int_equal(flashinfer_model_close(model), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_the_packed_models),
        cmocka_unit_test(bits_are_the_same_by_every_way),
        cmocka_unit_test(ref_gives_its_bits_at_every_budget),
        cmocka_unit_test(a_token_reads_what_the_plan_says),
        cmocka_unit_test(the_budget_moves_between_calls),
        cmocka_unit_test(a_cancelled_call_leaves_the_ring_in_order),
        cmocka_unit_test(opening_says_how_far_it_is),
        cmocka_unit_test(what_needs_bundles_is_refused),
    };
    int failed = 0;

    for (int i = 1; i + 1 < argc; i += 2) {
        plain_path = argv[i];
        packed_path = argv[i + 1];
        if (is_here(plain_path)) failed += cmocka_run_group_tests(tests, NULL, NULL);
    }
    return failed;
}
