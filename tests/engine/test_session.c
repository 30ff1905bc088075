/*
 * test_session.c - sessions through the public API: misuse, limits, rewinding, saved state, cancel, statistics, budget.
 */
#include <pthread.h>

#include "support.h"

#include "engine/run.h"

static const char *model_path;

static flashinfer_model *open_with(flashinfer_options *options)
{
    flashinfer_model *model;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_model_open(model_path, options, &model, &error));
    return model;
}

static flashinfer_options small_options(void)
{
    flashinfer_options options;

    flashinfer_options_init(&options, sizeof options);
    options.threads = 1;
    options.context_tokens = 16;
    return options;
}

static void budgets_below_the_minimum_name_one_that_works(void **state)
{
    const uint32_t predictors[] = {FLASHINFER_PREDICTOR_EXACT, FLASHINFER_PREDICTOR_SKETCH,
                                   FLASHINFER_PREDICTOR_ALL};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        flashinfer_options options = small_options();
        flashinfer_model *model = NULL;
        flashinfer_session *session;
        flashinfer_error error;
        flashinfer_plan plan = {.size = sizeof plan};
        char number[32];
        flashinfer_error_init(&error, sizeof error);
        options.predictor = predictors[i];
        options.memory_budget = 1000;
        assert_ok(flashinfer_plan_file(model_path, &options, &plan, &error));
        options.memory_budget = plan.minimum_bytes - 1;
        assert_int_equal(flashinfer_model_open(model_path, &options, &model, &error),
                         FLASHINFER_EBUDGET);
        assert_null(model);
        (void)snprintf(number, sizeof number, "%llu", (unsigned long long)plan.minimum_bytes);
        assert_non_null(strstr(error.text, number));
        options.memory_budget = plan.minimum_bytes;
        model = open_with(&options);
        assert_int_equal(flashinfer_model_plan(model, &plan), 0);
        assert_true(plan.planned_bytes <= plan.budget_bytes);
        assert_ok(flashinfer_session_create(model, &session, &error));
        assert_ok(flashinfer_step(session, 2, &error));
        flashinfer_session_destroy(session);
        assert_int_equal(flashinfer_model_close(model), 0);
    }
}

/* Whatever the budget, the parts add up, page tables included, and less than a neuron and two pages stay unused. */
static void plans_fill_budgets(void **state)
{
    flashinfer_options options = small_options();
    flashinfer_plan plan = {.size = sizeof plan};
    flashinfer_error error;
    uint64_t minimum, step;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    options.memory_budget = 1000;
    assert_ok(flashinfer_plan_file(model_path, &options, &plan, &error));
    minimum = plan.minimum_bytes;
    step = (plan.maximum_bytes - minimum) / 41;
    for (uint64_t budget = minimum; budget < plan.maximum_bytes; budget += step) {
        options.memory_budget = budget;
        assert_ok(flashinfer_plan_file(model_path, &options, &plan, &error));
        assert_int_equal(plan.planned_bytes,
                         plan.metadata_bytes + plan.resident_bytes + plan.predictor_bytes +
                             plan.cache_bytes + plan.kv_bytes + plan.scratch_bytes + plan.io_bytes +
                             plan.thread_bytes + plan.page_table_bytes);
        assert_true(plan.planned_bytes <= budget);
        assert_true(budget - plan.planned_bytes < plan.slot_bytes + 2 * 4096);
        assert_true(plan.page_table_bytes * 513 >= plan.planned_bytes);
        assert_int_equal(plan.minimum_bytes, minimum);
    }
}

static void misuse_is_refused(void **state)
{
    flashinfer_options options = small_options();
    flashinfer_model *model = open_with(&options);
    flashinfer_session *session, *second;
    flashinfer_error error;
    const int32_t bad[] = {2, 4096};
    int32_t many[17];

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_session_create(model, &session, &error));
    assert_int_equal(flashinfer_session_create(model, &second, &error), FLASHINFER_ESESSIONS);
    assert_non_null(strstr(error.text, "options.session_count was 1"));
    assert_null(second);
    assert_null(flashinfer_logits(session, NULL));
    assert_int_equal(flashinfer_step(session, -1, &error), FLASHINFER_ETOKEN);
    assert_int_equal(flashinfer_step(session, 4096, &error), FLASHINFER_ETOKEN);
    assert_int_equal(flashinfer_eval(session, bad, 2, &error), FLASHINFER_ETOKEN);
    assert_int_equal(flashinfer_session_position(session), 0);
    for (int i = 0; i < 17; i++) many[i] = 5;
    assert_int_equal(flashinfer_eval(session, many, 17, &error), FLASHINFER_ECONTEXT);
    assert_ok(flashinfer_eval(session, many, 16, &error));
    assert_int_equal(flashinfer_step(session, 5, &error), FLASHINFER_ECONTEXT);
    /* what is refused before it runs leaves position and logits */
    assert_int_equal(flashinfer_eval(session, many, 1, &error), FLASHINFER_ECONTEXT);
    assert_non_null(flashinfer_logits(session, NULL));
    assert_int_equal(flashinfer_session_rewind(session, 8, &error), 0);
    assert_ok(flashinfer_step(session, 5, &error));
    assert_int_equal(flashinfer_eval(session, bad, 2, &error), FLASHINFER_ETOKEN);
    assert_non_null(flashinfer_logits(session, NULL));
    assert_int_equal(flashinfer_session_position(session), 9);
    assert_int_equal(flashinfer_session_rewind(session, 17, &error), FLASHINFER_EINVAL);
    assert_int_equal(flashinfer_model_close(model), FLASHINFER_EBUSY);
    assert_int_equal(flashinfer_step(NULL, 1, &error), FLASHINFER_EINVAL);
    flashinfer_session_destroy(session);
    flashinfer_session_destroy(NULL);
    assert_int_equal(flashinfer_model_close(model), 0);
    assert_int_equal(flashinfer_model_close(NULL), 0);
    assert_int_equal(flashinfer_model_open(NULL, NULL, &model, &error), FLASHINFER_EINVAL);
    assert_null(model);
}

static void options_are_checked(void **state)
{
    struct {
        flashinfer_options options;
        uint64_t tail;
    } newer;
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
#define REFUSED(field, number, code)                                                               \
    do {                                                                                           \
        options = small_options();                                                                 \
        options.field = (number);                                                                  \
        assert_int_equal(flashinfer_model_open(model_path, &options, &model, &error), code);       \
    } while (0)
    REFUSED(predictor, 99, FLASHINFER_EINVAL);
    REFUSED(storage, 99, FLASHINFER_EINVAL);
    REFUSED(io_gap_bytes, 65537, FLASHINFER_EINVAL);
    REFUSED(verify, 99, FLASHINFER_EINVAL);
    REFUSED(kernels, 99, FLASHINFER_EUNSUPPORTED);
    REFUSED(kv_type, 99, FLASHINFER_EINVAL);
    REFUSED(flags, 1u << 30, FLASHINFER_EINVAL);
    REFUSED(threads, 1000, FLASHINFER_EINVAL);
    REFUSED(context_tokens, 100000, FLASHINFER_EINVAL);
    REFUSED(size, 2, FLASHINFER_EINVAL);
    memset(&newer, 0, sizeof newer);
    newer.options = small_options();
    newer.options.size = sizeof newer;
    assert_ok(flashinfer_model_open(model_path, &newer.options, &model, &error));
    assert_int_equal(flashinfer_model_close(model), 0);
    newer.tail = 1;
    assert_int_equal(flashinfer_model_open(model_path, &newer.options, &model, &error),
                     FLASHINFER_EINVAL);
}

/* Steps tokens and copies the last logits out. */
static float *steps(flashinfer_session *session, const int32_t *ids, size_t count, size_t *vocab)
{
    flashinfer_error error;
    float *copy;

    flashinfer_error_init(&error, sizeof error);
    for (size_t i = 0; i < count; i++) assert_ok(flashinfer_step(session, ids[i], &error));
    copy = malloc(4096 * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, flashinfer_logits(session, vocab), 4096 * sizeof *copy);
    assert_int_equal(*vocab, 4096);
    return copy;
}

static void rewind_and_state_restore_the_sequence(void **state)
{
    const int32_t ids[] = {2, 300, 301, 302, 303, 304};
    const uint32_t kv_types[] = {FLASHINFER_KV_F32, FLASHINFER_KV_F16, FLASHINFER_KV_Q8_0};

    (void)state;
    for (size_t kind = 0; kind < 3; kind++) {
        flashinfer_options options = small_options();
        flashinfer_model *model;
        flashinfer_session *session, *other;
        flashinfer_error error;
        size_t vocab, bytes, written;
        float *expected, *got;
        char *saved;
        flashinfer_error_init(&error, sizeof error);
        options.session_count = 2;
        options.kv_type = kv_types[kind];
        model = open_with(&options);
        assert_ok(flashinfer_session_create(model, &session, &error));
        assert_ok(flashinfer_session_create(model, &other, &error));
        free(steps(session, ids, 3, &vocab));
        bytes = flashinfer_state_bytes(session);
        saved = malloc(bytes);
        assert_non_null(saved);
        written = 0;
        assert_int_equal(flashinfer_state_save(session, NULL, 0, &written, &error),
                         FLASHINFER_EBUFFER);
        assert_int_equal(written, bytes);
        memset(saved, 0x5a, bytes);
        written = 0;
        assert_int_equal(flashinfer_state_save(session, saved, bytes - 1, &written, &error),
                         FLASHINFER_EBUFFER);
        assert_int_equal(written, bytes);
        assert_int_equal(saved[0], 0x5a);
        assert_int_equal(flashinfer_state_save(session, NULL, bytes, &written, &error),
                         FLASHINFER_EINVAL);
        assert_int_equal(written, 0);
        assert_ok(flashinfer_state_save(session, saved, bytes, &written, &error));
        assert_int_equal(written, bytes);
        expected = steps(session, ids + 3, 3, &vocab);

        assert_ok(flashinfer_session_rewind(session, 3, &error));
        assert_null(flashinfer_logits(session, NULL));
        got = steps(session, ids + 3, 3, &vocab);
        assert_memory_equal(expected, got, vocab * sizeof *got);
        free(got);

        assert_ok(flashinfer_state_load(other, saved, bytes, &error));
        assert_int_equal(flashinfer_session_position(other), 3);
        assert_non_null(flashinfer_logits(other, NULL));
        got = steps(other, ids + 3, 3, &vocab);
        assert_memory_equal(expected, got, vocab * sizeof *got);
        free(got);
        free(expected);

        for (size_t at = 0; at < bytes; at += 1 + bytes / 37) {
            saved[at] = (char)(saved[at] ^ 4);
            assert_int_equal(flashinfer_state_load(other, saved, bytes, &error), FLASHINFER_ESTATE);
            saved[at] = (char)(saved[at] ^ 4);
        }
        assert_int_equal(flashinfer_state_load(other, saved, bytes - 1, &error), FLASHINFER_ESTATE);
        assert_int_equal(flashinfer_state_load(other, saved, 3, &error), FLASHINFER_ESTATE);
        assert_int_equal(flashinfer_session_position(other), 6);
        free(saved);
        flashinfer_session_destroy(session);
        flashinfer_session_destroy(other);
        assert_int_equal(flashinfer_model_close(model), 0);
    }
}

/* A state does not depend on how the model was opened: in memory a head's positions are context_tokens apart, in a state
   a later position only adds to what the earlier ones have. */
static void states_move_between_contexts(void **state)
{
    const int32_t ids[] = {2, 300, 301, 302, 303, 304};
    const uint32_t contexts[] = {64, 40};
    char *saved[2][2];
    flashinfer_info info = {.size = sizeof info};
    size_t bytes[2], vocab, written;
    float *logits[2];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        flashinfer_options options = small_options();
        flashinfer_session *session;
        flashinfer_model *model;
        flashinfer_error error;

        flashinfer_error_init(&error, sizeof error);
        options.context_tokens = contexts[i];
        model = open_with(&options);
        assert_ok(flashinfer_model_info(model, &info));
        assert_ok(flashinfer_session_create(model, &session, &error));
        for (size_t count = 0; count < 2; count++) { /* three tokens, then one more */
            if (i == 1 && count == 0)
                assert_ok(flashinfer_state_load(session, saved[0][0], bytes[0], &error));
            else
                free(steps(session, ids + 3 * count, count == 0 ? 3 : 1, &vocab));
            bytes[count] = flashinfer_state_bytes(session);
            saved[i][count] = malloc(bytes[count]);
            assert_non_null(saved[i][count]);
            assert_ok(
                flashinfer_state_save(session, saved[i][count], bytes[count], &written, &error));
        }
        logits[i] = steps(session, ids + 4, 2, &vocab);
        flashinfer_session_destroy(session);
        assert_int_equal(flashinfer_model_close(model), 0);
    }
    assert_memory_equal(logits[0], logits[1], vocab * sizeof *logits[0]);
    for (size_t count = 0; count < 2; count++)
        assert_memory_equal(saved[0][count], saved[1][count], bytes[count]);
    /* The first layer's keys come first after header and logits: those of three positions begin those of four. */
    written = bytes[0] - (bytes[1] - bytes[0]) * 3 - sizeof(uint64_t);
    assert_memory_equal(saved[0][0] + written, saved[0][1] + written,
                        (bytes[1] - bytes[0]) * 3 / (2 * info.layer_count));
    for (size_t i = 0; i < 2; i++) {
        free(logits[i]);
        free(saved[i][0]);
        free(saved[i][1]);
    }
}

static void choose(flashinfer_session *session, flashinfer_sampler *sampler, int32_t *chosen,
                   size_t count)
{
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    for (size_t i = 0; i < count; i++) {
        size_t vocab;
        const float *logits = flashinfer_logits(session, &vocab);
        assert_ok(flashinfer_sampler_sample(sampler, logits, vocab, &chosen[i], &error));
        assert_ok(flashinfer_step(session, chosen[i], &error));
    }
}

/* A session and its sampler, saved in the middle of a text: elsewhere it goes on with the same draws. */
static void saved_draws_go_on_alike(void **state)
{
    flashinfer_options options = small_options();
    flashinfer_sampler_options sampling;
    flashinfer_sampler *samplers[2];
    flashinfer_session *sessions[2];
    int32_t chosen[6], again[6];
    flashinfer_model *model;
    flashinfer_error error;
    unsigned char drawn[256];
    size_t bytes, drawn_bytes;
    void *saved;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    flashinfer_sampler_options_init(&sampling, sizeof sampling);
    sampling.seed = 7;
    sampling.temperature = 2;
    sampling.repetition_penalty = 1.2f;
    options.session_count = 2;
    model = open_with(&options);
    for (int i = 0; i < 2; i++) {
        assert_ok(flashinfer_session_create(model, &sessions[i], &error));
        assert_ok(flashinfer_sampler_create(&sampling, 4096, &samplers[i], &error));
        assert_ok(flashinfer_step(sessions[i], 2, &error));
    }
    choose(sessions[0], samplers[0], chosen, 4);
    bytes = flashinfer_state_bytes(sessions[0]);
    saved = malloc(bytes);
    assert_non_null(saved);
    assert_ok(flashinfer_state_save(sessions[0], saved, bytes, &bytes, &error));
    assert_ok(
        flashinfer_sampler_state_save(samplers[0], drawn, sizeof drawn, &drawn_bytes, &error));
    choose(sessions[0], samplers[0], chosen, 6);
    assert_ok(flashinfer_state_load(sessions[1], saved, bytes, &error));
    assert_ok(flashinfer_sampler_state_load(samplers[1], drawn, drawn_bytes, &error));
    choose(sessions[1], samplers[1], again, 6);
    assert_memory_equal(chosen, again, sizeof chosen);
    free(saved);
    for (int i = 0; i < 2; i++) {
        flashinfer_session_destroy(sessions[i]);
        flashinfer_sampler_destroy(samplers[i]);
    }
    assert_int_equal(flashinfer_model_close(model), 0);
}

static int stop_at(const flashinfer_progress *progress, void *user)
{
    uint64_t *limit = user;
    return strcmp(progress->stage, "eval") == 0 && progress->done >= *limit;
}

static void cancel_keeps_the_session_usable(void **state)
{
    const int32_t ids[] = {2, 300, 301, 302, 303, 304};
    flashinfer_options options = small_options();
    flashinfer_model *model;
    flashinfer_session *session;
    flashinfer_error error;
    uint64_t limit = 3;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    options.progress = stop_at;
    options.progress_user = &limit;
    model = open_with(&options);
    assert_ok(flashinfer_session_create(model, &session, &error));
    assert_int_equal(flashinfer_eval(session, ids, 6, &error), FLASHINFER_ECANCELED);
    assert_int_equal(flashinfer_session_position(session), 3);
    limit = 100;
    flashinfer_session_cancel(session); /* too late: no call runs */
    assert_ok(flashinfer_eval(session, ids + 3, 3, &error));
    assert_int_equal(flashinfer_session_position(session), 6);
    assert_non_null(flashinfer_logits(session, NULL));
    limit = 0;
    assert_int_equal(flashinfer_eval(session, ids, 2, &error), FLASHINFER_ECANCELED);
    assert_null(flashinfer_logits(session, NULL));
    assert_int_equal(flashinfer_session_position(session), 6);
    flashinfer_session_destroy(session);
    assert_int_equal(flashinfer_model_close(model), 0);
}

typedef struct nested {
    flashinfer_model *model;
    flashinfer_session *session;
    uint32_t calls;
} nested;

/* What a callback may ask of the model that calls it, and what it may not. */
static int call_back(const flashinfer_progress *progress, void *user)
{
    nested *at = user;
    flashinfer_stats stats = {.size = sizeof stats};
    flashinfer_plan plan = {.size = sizeof plan};
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    if (strcmp(progress->stage, "eval") != 0) return 0;
    at->calls++;
    assert_int_equal(flashinfer_session_position(at->session), progress->done);
    assert_int_equal(flashinfer_model_stats(at->model, &stats), 0);
    assert_int_equal(stats.tokens, progress->done);
    assert_int_equal(flashinfer_model_plan(at->model, &plan), 0);
    assert_int_not_equal(flashinfer_state_bytes(at->session), 0);
    assert_int_equal(flashinfer_step(at->session, 5, &error), FLASHINFER_EBUSY);
    assert_int_equal(flashinfer_session_rewind(at->session, 0, &error), FLASHINFER_EBUSY);
    assert_int_equal(flashinfer_model_set_budget(at->model, 0, &error), FLASHINFER_EBUSY);
    assert_int_equal(flashinfer_model_close(at->model), FLASHINFER_EBUSY);
    flashinfer_session_destroy(at->session);
    return 0;
}

static void callbacks_do_not_deadlock(void **state)
{
    const int32_t ids[] = {2, 300, 301};
    flashinfer_options options = small_options();
    flashinfer_error error;
    nested at = {NULL, NULL, 0};

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    options.progress = call_back;
    options.progress_user = &at;
    at.model = open_with(&options);
    assert_ok(flashinfer_session_create(at.model, &at.session, &error));
    assert_ok(flashinfer_eval(at.session, ids, 3, &error));
    assert_int_equal(at.calls, 3);
    assert_int_equal(flashinfer_session_position(at.session), 3);
    flashinfer_session_destroy(at.session);
    assert_int_equal(flashinfer_model_close(at.model), 0);
}

static void statistics_add_up(void **state)
{
    const int32_t ids[] = {2, 300, 301, 302, 303, 304};
    flashinfer_options options = small_options();
    flashinfer_model *model;
    flashinfer_session *session;
    flashinfer_stats stats = {.size = sizeof stats};
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    options.predictor = FLASHINFER_PREDICTOR_SKETCH;
    options.audit_interval = 1;
    model = open_with(&options);
    assert_ok(flashinfer_session_create(model, &session, &error));
    assert_ok(flashinfer_eval(session, ids, 6, &error));
    assert_int_equal(flashinfer_model_stats(model, &stats), 0);
    assert_int_equal(stats.tokens, 6);
    assert_int_equal(stats.neurons, 6ull * 6 * 2560);
    assert_int_equal(stats.resident + stats.missing, stats.predicted);
    assert_true(stats.active != 0 && stats.active <= stats.predicted &&
                stats.predicted < stats.neurons);
    assert_true(stats.flash_bytes >= stats.missing * 1280 && stats.flash_reads != 0);
    assert_true(stats.audited_active != 0 && stats.audited_missed < stats.audited_active &&
                stats.audit_bytes != 0);
    assert_int_equal(flashinfer_model_reset_stats(model), 0);
    assert_int_equal(flashinfer_model_stats(model, &stats), 0);
    assert_int_equal(stats.tokens, 0);
    flashinfer_session_destroy(session);
    assert_int_equal(flashinfer_model_close(model), 0);
}

typedef struct worker {
    flashinfer_model *model;
    float logits[4096];
    int failed;
} worker;

static void *work(void *user)
{
    const int32_t ids[] = {2, 300, 301, 302};
    worker *own = user;
    flashinfer_session *session;

    own->failed = flashinfer_session_create(own->model, &session, NULL);
    for (size_t i = 0; i < 4 && own->failed == 0; i++)
        own->failed = flashinfer_step(session, ids[i], NULL);
    if (own->failed == 0) memcpy(own->logits, flashinfer_logits(session, NULL), sizeof own->logits);
    flashinfer_session_destroy(session);
    return NULL;
}

/* Two models at once, and two sessions of one model at once: no shared state, same results. */
/* What a step asked for, neuron by neuron of every layer. */
typedef struct asked {
    uint8_t *named; /* (layers, neurons) */
    uint32_t count;
} asked;

static void keep_asked(const flashinfer_trace *trace, void *user)
{
    asked *at = user;

    for (uint32_t i = 0; i < trace->count; i++)
        at->named[trace->layer * trace->ffn_length + trace->ids[i]] = 1;
    at->count += trace->count;
}

/* The cache knows of all that a step wanted and of nothing else, whether something was missing or nothing was. */
static void expect_remembered(const flashinfer_model *model, const asked *at)
{
    const flin_cache *cache = &model->cache;

    for (uint32_t i = 0; i < cache->layer_count * cache->neurons; i++) {
        const flin_cache_entry *entry =
            &cache->layers[i / cache->neurons].entries[i % cache->neurons];
        assert_int_equal(entry->last_token == model->token_count, at->named[i]);
        if (at->named[i])
            assert_true(entry->wave > cache->wave - cache->layer_count && entry->recent > 0);
    }
}

static void hits_are_remembered(void **state)
{
    (void)state;
    for (uint32_t threads = 1; threads <= 3; threads++) {
        flashinfer_options options = small_options();
        asked at = {NULL, 0};
        flashinfer_model *model;
        flashinfer_session *session;
        flashinfer_error error;
        uint32_t without = 0;

        flashinfer_error_init(&error, sizeof error);
        options.threads = threads;
        options.predictor = FLASHINFER_PREDICTOR_SKETCH;
        options.trace = keep_asked;
        options.trace_user = &at;
        model = open_with(&options);
        at.named = calloc(model->shape.layers, model->shape.ffn);
        assert_non_null(at.named);
        assert_ok(flashinfer_session_create(model, &session, &error));
        for (uint32_t turn = 0; turn < 12; turn++) {
            const uint64_t missing = model->stats.missing, waited_ns = model->stats.io_wait_ns;
            memset(at.named, 0, (size_t)model->shape.layers * model->shape.ffn);
            at.count = 0;
            assert_ok(flashinfer_session_rewind(session, turn / 6, &error));
            assert_ok(flashinfer_step(session, 2 + (int32_t)(turn % 3), &error));
            assert_true(at.count > 100);
            if (model->stats.missing == missing) { /* the cache's own time is no waiting */
                assert_int_equal(model->stats.io_wait_ns, waited_ns);
                without++;
            }
            expect_remembered(model, &at);
        }
        assert_true(without >= 3); /* a token again, at the same position: nothing was missing */
        flashinfer_session_destroy(session);
        assert_int_equal(flashinfer_model_close(model), 0);
        free(at.named);
    }
}

static void threads_do_not_disturb_each_other(void **state)
{
    flashinfer_options options = small_options();
    flashinfer_model *models[2];
    worker *workers = calloc(4, sizeof *workers);
    pthread_t threads[4];

    (void)state;
    assert_non_null(workers);
    options.session_count = 2;
    options.threads = 2;
    for (int i = 0; i < 2; i++) models[i] = open_with(&options);
    for (int i = 0; i < 4; i++) {
        workers[i].model = models[i / 2];
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(workers[i].failed, 0);
        assert_memory_equal(workers[0].logits, workers[i].logits, sizeof workers[0].logits);
    }
    for (int i = 0; i < 2; i++) assert_int_equal(flashinfer_model_close(models[i]), 0);
    free(workers);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budgets_below_the_minimum_name_one_that_works),
        cmocka_unit_test(plans_fill_budgets),
        cmocka_unit_test(misuse_is_refused),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(rewind_and_state_restore_the_sequence),
        cmocka_unit_test(states_move_between_contexts),
        cmocka_unit_test(saved_draws_go_on_alike),
        cmocka_unit_test(cancel_keeps_the_session_usable),
        cmocka_unit_test(callbacks_do_not_deadlock),
        cmocka_unit_test(statistics_add_up),
        cmocka_unit_test(hits_are_remembered),
        cmocka_unit_test(threads_do_not_disturb_each_other),
    };

    if (argc != 2) return 2;
    model_path = argv[1];
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
