/*
 * test_audit.c - what the audit reports is what a predictor missed, by a computation of its own; whose turn it is; that
 * looking changes nothing.
 */
#include <math.h>

#include "support.h"

#define TOKENS 8u
#define LAYERS_MAX 16u

static const char *model_path;
static char predictor_path[512];
static const int32_t tokens[TOKENS] = {2, 300, 17, 801, 45, 1200, 9, 77};

/* All that the callbacks saw. */
typedef struct seen {
    uint32_t width, neurons, audits, steps;
    float *x;       /* (TOKENS, LAYERS_MAX, width) */
    uint8_t *named; /* (TOKENS, LAYERS_MAX, neurons) */
    flashinfer_audit report[TOKENS * LAYERS_MAX];
} seen;

static void keep_input(const flashinfer_ffn_input *input, void *user)
{
    seen *at = user;
    memcpy(at->x + ((input->step - 1) * LAYERS_MAX + input->layer) * input->width, input->x,
           input->width * sizeof(float));
}

static void keep_names(const flashinfer_trace *trace, void *user)
{
    seen *at = user;
    uint8_t *named = at->named + ((trace->step - 1) * LAYERS_MAX + trace->layer) * at->neurons;
    for (uint32_t i = 0; i < trace->count; i++) named[trace->ids[i]] = 1;
}

static void keep_report(const flashinfer_audit *audit, void *user)
{
    seen *at = user;
    assert_true(at->audits < TOKENS * LAYERS_MAX);
    assert_int_equal(audit->size, sizeof *audit);
    at->report[at->audits++] = *audit;
}

static flashinfer_info info_of(flashinfer_model *model)
{
    flashinfer_info info = {.size = sizeof info};

    assert_int_equal(flashinfer_model_info(model, &info), 0);
    return info;
}

static flashinfer_model *open_seen(seen *at, const char *predictors, uint32_t interval,
                                   uint32_t layers)
{
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_info info;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    memset(at, 0, sizeof *at);
    options.threads = 2;
    options.context_tokens = 16;
    options.predictor_path = predictors;
    options.audit_interval = interval;
    options.audit_layers = layers;
    options.ffn_input = keep_input;
    options.trace = keep_names;
    options.audit = keep_report;
    options.ffn_input_user = options.trace_user = options.audit_user = at;
    assert_ok(flashinfer_model_open(model_path, &options, &model, &error));
    info = info_of(model);
    assert_true(info.layer_count <= LAYERS_MAX);
    at->width = info.embedding_length;
    at->neurons = info.ffn_length;
    at->x = calloc((size_t)TOKENS * LAYERS_MAX * at->width, sizeof *at->x);
    at->named = calloc((size_t)TOKENS * LAYERS_MAX, at->neurons);
    assert_true(at->x != NULL && at->named != NULL);
    return model;
}

/* Runs the tokens; logits of the last, to be freed. */
static float *run(flashinfer_model *model, size_t *count)
{
    flashinfer_session *session;
    flashinfer_error error;
    float *copy;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_session_create(model, &session, &error));
    assert_ok(flashinfer_eval(session, tokens, TOKENS, &error));
    assert_non_null(flashinfer_logits(session, count));
    copy = malloc(*count * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, flashinfer_logits(session, count), *count * sizeof *copy);
    flashinfer_session_destroy(session);
    return copy;
}

static void close_seen(seen *at, flashinfer_model *model)
{
    free(at->x);
    free(at->named);
    assert_int_equal(flashinfer_model_close(model), 0);
}

/* A predictor file of one-bit sketches with all biases moved. */
static void save_moved(float shift)
{
    seen at;
    flashinfer_model *model = open_seen(&at, NULL, 0, 0);
    flashinfer_predictor *made;
    flashinfer_error error;
    float *bias = malloc(at.neurons * sizeof *bias);

    flashinfer_error_init(&error, sizeof error);
    assert_non_null(bias);
    assert_ok(flashinfer_predictor_create(model, &made, &error));
    for (uint32_t layer = 0; layer < info_of(model).layer_count; layer++) {
        assert_ok(flashinfer_predictor_set_sketch(made, layer, 1, 0, &error));
        assert_ok(flashinfer_predictor_bias(made, layer, bias, &error));
        for (uint32_t i = 0; i < at.neurons; i++) bias[i] += shift;
        assert_ok(flashinfer_predictor_set_bias(made, layer, bias, &error));
    }
    assert_ok(flashinfer_predictor_save(made, predictor_path, &error));
    flashinfer_predictor_destroy(made);
    free(bias);
    close_seen(&at, model);
}

/* What one layer of one step should report. unsure: neurons too near zero to tell. */
typedef struct truth {
    uint32_t active, missed, unsure, named;
    double output_norm, missed_norm;
} truth;

static double dot(const float *a, const float *b, uint32_t count)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

static truth compute(flashinfer_model *model, const seen *at, uint32_t step, uint32_t layer)
{
    size_t cells = (size_t)at->neurons * at->width, place = (size_t)step * LAYERS_MAX + layer;
    float *rows = malloc(cells * sizeof *rows), *down = malloc(cells * sizeof *down);
    float *up = malloc(cells * sizeof *up);
    const float *x = at->x + place * at->width;
    float *bias = malloc(at->neurons * sizeof *bias);
    double *sums = calloc(2 * (size_t)at->width, sizeof *sums);
    const uint8_t *named = at->named + place * at->neurons;
    int gated = info_of(model).ffn_gated != 0;
    flashinfer_error error;
    truth found = {0};

    flashinfer_error_init(&error, sizeof error);
    assert_int_equal(info_of(model).ffn_activation, FLASHINFER_ACTIVATION_RELU);
    assert_true(rows != NULL && up != NULL && down != NULL && bias != NULL && sums != NULL);
    assert_ok(flashinfer_model_ffn_rows(model, layer,
                                        gated ? FLASHINFER_PART_GATE : FLASHINFER_PART_UP, 0,
                                        at->neurons, rows, &error));
    assert_ok(
        flashinfer_model_ffn_rows(model, layer, FLASHINFER_PART_UP, 0, at->neurons, up, &error));
    assert_ok(flashinfer_model_ffn_rows(model, layer, FLASHINFER_PART_DOWN, 0, at->neurons, down,
                                        &error));
    assert_ok(flashinfer_model_ffn_bias(model, layer, bias, &error));
    for (uint32_t i = 0; i < at->neurons; i++) {
        double z = dot(rows + (size_t)i * at->width, x, at->width) + (double)bias[i];
        double weight = gated ? z * dot(up + (size_t)i * at->width, x, at->width) : z;
        found.named += named[i];
        found.unsure += fabs(z) < 1e-4;
        if (!(z > 0)) continue;
        found.active++;
        found.missed += !named[i];
        for (uint32_t c = 0; c < at->width; c++) {
            double part = weight * (double)down[(size_t)i * at->width + c];
            sums[c] += part;
            if (!named[i]) sums[at->width + c] += part;
        }
    }
    for (uint32_t c = 0; c < at->width; c++) {
        found.output_norm += sums[c] * sums[c];
        found.missed_norm += sums[at->width + c] * sums[at->width + c];
    }
    found.output_norm = sqrt(found.output_norm);
    found.missed_norm = sqrt(found.missed_norm);
    free(rows);
    free(up);
    free(down);
    free(bias);
    free(sums);
    return found;
}

static void assert_near(uint32_t value, uint32_t expected, uint32_t unsure)
{
    assert_in_range(value + unsure, expected, expected + 2 * unsure);
}

/* missing: how much is missed: 0 nothing, 1 some, 2 all */
static void reports_are_true(float shift, int missing)
{
    seen at;
    flashinfer_model *model;
    flashinfer_stats stats = {.size = sizeof stats};
    uint64_t active = 0, missed = 0;
    size_t count;

    save_moved(shift);
    model = open_seen(&at, predictor_path, 1, 1000);
    free(run(model, &count));
    assert_int_equal(flashinfer_model_stats(model, &stats), 0);
    assert_int_equal(at.audits, TOKENS * info_of(model).layer_count);
    for (uint32_t i = 0; i < at.audits; i++) {
        const flashinfer_audit *report = &at.report[i];
        truth expected;
        active += report->active;
        missed += report->missed;
        assert_true(report->missed <= report->active && report->active < at.neurons);
        if (i % 17 != 0) continue; /* a slow computation */
        expected = compute(model, &at, (uint32_t)report->step - 1, report->layer);
        assert_int_equal(report->predicted, expected.named);
        assert_near(report->active, expected.active, expected.unsure);
        assert_near(report->missed, expected.missed, expected.unsure);
        assert_true(fabs(report->output_norm - expected.output_norm) <
                    1e-3 * (1 + expected.output_norm));
        assert_true(fabs(report->missed_norm - expected.missed_norm) <
                    1e-3 * (1 + expected.output_norm));
        if (missing == 2) assert_true(report->missed_norm == report->output_norm);
    }
    assert_true(missing == 0 ? missed == 0 : missing == 2 ? missed == active : missed != 0);
    assert_true(active != 0 && missed <= active);
    assert_int_equal(stats.audited_active, active);
    assert_int_equal(stats.audited_missed, missed);
    close_seen(&at, model);
}

static void what_was_missed_is_reported(void **state)
{
    (void)state;
    reports_are_true(-0.4f, 1);
    reports_are_true(1e30f, 0);
    reports_are_true(-1e30f, 2);
}

/* Every third token two layers, going round. */
static void layers_take_turns(void **state)
{
    const uint32_t layers = 6, interval = 3, at_once = 2;
    seen at;
    flashinfer_model *model = open_seen(&at, NULL, interval, at_once);
    uint32_t next = 0;
    size_t count;

    (void)state;
    assert_int_equal(info_of(model).layer_count, layers);
    free(run(model, &count));
    for (uint32_t step = 1; step <= TOKENS; step++) {
        uint32_t first = step / interval * at_once % layers;
        if (step % interval != 0) continue;
        for (uint32_t i = 0; i < at_once; i++) {
            assert_int_equal(at.report[next].step, step);
            assert_int_equal(at.report[next].layer, first + i);
            next++;
        }
    }
    assert_int_equal(at.audits, next);
    assert_int_equal(next, TOKENS / interval * at_once);
    close_seen(&at, model);
}

static void looking_changes_nothing(void **state)
{
    seen at;
    flashinfer_model *model = open_seen(&at, NULL, 0, 0);
    size_t count, other;
    float *logits = run(model, &count), *watched;

    (void)state;
    assert_int_equal(at.audits, 0);
    close_seen(&at, model);
    model = open_seen(&at, NULL, 1, 6);
    watched = run(model, &other);
    assert_int_equal(at.audits, 6 * TOKENS);
    assert_int_equal(count, other);
    assert_memory_equal(logits, watched, count * sizeof *logits);
    free(logits);
    free(watched);
    close_seen(&at, model);
}

static int run_on(const char *path, const char *name)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_missed_is_reported),
        cmocka_unit_test(layers_take_turns),
        cmocka_unit_test(looking_changes_nothing),
    };
    int failed;

    model_path = path;
    (void)snprintf(predictor_path, sizeof predictor_path, "%.480s.audit", model_path);
    failed = cmocka_run_group_tests_name(name, tests, NULL, NULL);
    (void)remove(predictor_path);
    return failed;
}

int main(int argc, char **argv)
{
    int failed;

    if (argc < 2) return 2;
    failed = run_on(argv[1], "audit");
    return argc > 2 && is_here(argv[2]) ? failed + run_on(argv[2], "audit, gated") : failed;
}
