/*
 * test_activations.c - small gated models of random weights under every activation: what fires and what it adds is what
 * info says, by a computation of the test's own; exact gives the bits of all; sketches know the threshold; where every
 * neuron fires there is no sketch, and whoever asks for one is told why.
 */
#define _GNU_SOURCE
#include <math.h>

#include "unit/pack_fixture.h"

#define TOKENS 6u
#define LAYERS 2u
#define NEURONS 50u
#define WIDTH 40u
#define VOCAB 20u

static const int32_t tokens[TOKENS] = {2, 7, 4, 19, 0, 11};

typedef struct activation_case {
    const char *name, *config;
    uint32_t number, sparse;
    float threshold;
} activation_case;

static const activation_case cases[] = {
    {"relu", NULL, FLASHINFER_ACTIVATION_RELU, 1, 0},
    {"relu2", NULL, FLASHINFER_ACTIVATION_RELU2, 1, 0},
    {"fatrelu", "\"hidden_act_param\":0.25,", FLASHINFER_ACTIVATION_FATRELU, 1, 0.25f},
    {"drelu", NULL, FLASHINFER_ACTIVATION_DRELU, 1, 0},
    {"silu", NULL, FLASHINFER_ACTIVATION_SILU, 0, 0},
};
enum { RELU = 0, FATRELU = 2, DRELU = 3, SILU = 4, CASES = 5 };

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        int assert_code_ = (call);                                                                 \
        if (assert_code_ != 0)                                                                     \
            fail_msg("%s: %s: %s", #call, flashinfer_error_name(assert_code_), error.text);        \
    } while (0)

static void cook_and_pack(const workspace *made, const activation_case *one)
{
    cook(made, &(recipe){.llama = 1, .width = WIDTH, .neurons = NEURONS, .heads = 10, .kv_heads = 2, .head_width = 6,
                         .vocab = VOCAB, .activation = one->name, .config = one->config});
    pack_well(made, &plain);
}

static flashinfer_options plain_options(void)
{
    flashinfer_options options;

    flashinfer_options_init(&options, sizeof options);
    options.threads = 2;
    return options;
}

static flashinfer_model *open_model(const workspace *made, const flashinfer_options *options)
{
    flashinfer_model *model;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_model_open(made->path, options, &model, &error));
    return model;
}

static flashinfer_info info_of(flashinfer_model *model)
{
    flashinfer_info info = {.size = sizeof info};

    assert_int_equal(flashinfer_model_info(model, &info), 0);
    return info;
}

/* Logits of all tokens; the model is closed. */
static void run(flashinfer_model *model, float logits[TOKENS][VOCAB])
{
    flashinfer_session *session;
    flashinfer_error error;
    size_t count;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_session_create(model, &session, &error));
    for (uint32_t i = 0; i < TOKENS; i++) {
        assert_ok(flashinfer_step(session, tokens[i], &error));
        memcpy(logits[i], flashinfer_logits(session, &count), VOCAB * sizeof(float));
        assert_int_equal(count, VOCAB);
        for (uint32_t k = 0; k < VOCAB; k++) assert_true(isfinite(logits[i][k]));
    }
    flashinfer_session_destroy(session);
    assert_int_equal(flashinfer_model_close(model), 0);
}

/* ---------------------------------------------------------------------------------------------------- what fires */

/* The rows of one layer, and what is to be added up. */
typedef struct watching {
    flashinfer_model *model; /* another one, of the same file */
    float x[WIDTH];
    uint32_t reports, active, predicted;
} watching;

static void keep_input(const flashinfer_ffn_input *input, void *user)
{
    memcpy(((watching *)user)->x, input->x, sizeof ((watching *)user)->x);
}

static double dot(const float *a, const float *b)
{
    double sum = 0;

    for (uint32_t i = 0; i < WIDTH; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* What a neuron's down column is multiplied with; 0: it does not fire. As flashinfer.h says. */
static double weight_of(const flashinfer_info *info, double s, double u)
{
    int fires = s > (double)info->ffn_threshold;

    switch (info->ffn_activation) {
    case FLASHINFER_ACTIVATION_RELU2:
        return fires ? s * s * u : 0;
    case FLASHINFER_ACTIVATION_DRELU:
        return fires && u > 0 ? s * u : 0;
    default:
        return fires ? s * u : 0;
    }
}

static void compare(const flashinfer_audit *audit, void *user)
{
    static float gate[NEURONS][WIDTH], up[NEURONS][WIDTH], down[NEURONS][WIDTH];
    watching *at = user;
    flashinfer_info info = info_of(at->model);
    float bias[NEURONS];
    double sums[WIDTH] = {0}, norm = 0;
    uint32_t active = 0;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_model_ffn_rows(at->model, audit->layer, FLASHINFER_PART_GATE, 0, NEURONS, gate[0], &error));
    assert_ok(flashinfer_model_ffn_rows(at->model, audit->layer, FLASHINFER_PART_UP, 0, NEURONS, up[0], &error));
    assert_ok(flashinfer_model_ffn_rows(at->model, audit->layer, FLASHINFER_PART_DOWN, 0, NEURONS, down[0], &error));
    assert_ok(flashinfer_model_ffn_bias(at->model, audit->layer, bias, &error));
    for (uint32_t i = 0; i < NEURONS; i++) {
        double s = dot(gate[i], at->x) + (double)bias[i], weight = weight_of(&info, s, dot(up[i], at->x));
        assert_true(bias[i] == 0 && fabs(s - (double)info.ffn_threshold) > 1e-5); /* near that nobody could tell */
        active += fabs(weight) > 0;
        for (uint32_t c = 0; c < WIDTH; c++) sums[c] += weight * (double)down[i][c];
    }
    for (uint32_t c = 0; c < WIDTH; c++) norm += sums[c] * sums[c];
    norm = sqrt(norm);
    assert_int_equal(audit->active, active);
    assert_true(fabs(audit->output_norm - norm) < 1e-4 * (1 + norm));
    assert_true(audit->missed <= audit->active && audit->missed_norm <= 2 * norm);
    at->reports++;
    at->active += active;
    at->predicted += audit->predicted;
}

static watching watch(const workspace *made)
{
    flashinfer_options options = plain_options();
    watching at = {.model = open_model(made, &options)};
    float logits[TOKENS][VOCAB];

    options.ffn_input = keep_input;
    options.audit = compare;
    options.ffn_input_user = options.audit_user = &at;
    options.audit_interval = 1;
    options.audit_layers = LAYERS;
    run(open_model(made, &options), logits);
    assert_int_equal(flashinfer_model_close(at.model), 0);
    assert_int_equal(at.reports, TOKENS * LAYERS);
    return at;
}

static void what_fires_is_what_info_says(void **state)
{
    watching found[CASES];

    for (uint32_t i = 0; i < CASES; i++) {
        if (!cases[i].sparse) continue; /* nothing is missed, so nothing audited */
        cook_and_pack(*state, &cases[i]);
        found[i] = watch(*state);
        print_message("%s: %u fire, %u named, of %u\n", cases[i].name, found[i].active, found[i].predicted,
                      found[i].reports * NEURONS);
        assert_true(found[i].active != 0 && found[i].active < found[i].reports * NEURONS);
    }
    /* the models differ in later layers only by what the first adds; a threshold or a second cut leaves fewer */
    assert_true(found[FATRELU].active < found[RELU].active && found[FATRELU].predicted < found[RELU].predicted);
    assert_true(found[DRELU].active < found[RELU].active);
}

static void info_says_what_was_packed(void **state)
{
    for (uint32_t i = 0; i < CASES; i++) {
        flashinfer_options options = plain_options();
        flashinfer_model *model;
        flashinfer_info info;

        cook_and_pack(*state, &cases[i]);
        model = open_model(*state, &options);
        info = info_of(model);
        assert_string_equal(info.architecture, "llama");
        assert_int_equal(info.ffn_gated, 1);
        assert_int_equal(info.ffn_activation, cases[i].number);
        assert_int_equal(info.ffn_sparse, cases[i].sparse);
        assert_true(info.ffn_threshold >= cases[i].threshold && info.ffn_threshold <= cases[i].threshold);
        assert_int_equal(info.head_count, 10);
        assert_int_equal(info.kv_head_count, 2);
        assert_int_equal(info.head_length, 6);
        assert_int_equal(info.bundle_bytes, 3 * 2 * WIDTH);
        assert_string_equal(info.predictors, cases[i].sparse ? "exact,sketch,all" : "exact,all");
        assert_int_equal(flashinfer_model_close(model), 0);
    }
}

/* ----------------------------------------------------------------------------------------------------------- bits */

static void run_by(const workspace *made, uint32_t predictor, int smallest, uint32_t sparse,
                   float logits[TOKENS][VOCAB])
{
    flashinfer_options options = plain_options();
    flashinfer_plan plan = {.size = sizeof plan};
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    options.predictor = predictor;
    assert_ok(flashinfer_plan_file(made->path, &options, &plan, &error));
    if (predictor == FLASHINFER_PREDICTOR_DEFAULT)
        assert_int_equal(plan.predictor, sparse ? FLASHINFER_PREDICTOR_SKETCH : FLASHINFER_PREDICTOR_EXACT);
    if (smallest) options.memory_budget = plan.minimum_bytes;
    run(open_model(made, &options), logits);
}

static void exact_gives_the_bits_of_all(void **state)
{
    float first[TOKENS][VOCAB], other[TOKENS][VOCAB];

    for (uint32_t i = 0; i < CASES; i++) {
        uint32_t sparse = cases[i].sparse;
        cook_and_pack(*state, &cases[i]);
        run_by(*state, FLASHINFER_PREDICTOR_ALL, 0, sparse, first);
        run_by(*state, FLASHINFER_PREDICTOR_EXACT, 0, sparse, other);
        assert_memory_equal(first, other, sizeof first);
        run_by(*state, FLASHINFER_PREDICTOR_EXACT, 1, sparse, other);
        assert_memory_equal(first, other, sizeof first);
        run_by(*state, FLASHINFER_PREDICTOR_ALL, 1, sparse, other);
        assert_memory_equal(first, other, sizeof first);
        run_by(*state, FLASHINFER_PREDICTOR_DEFAULT, 0, sparse, other);
        if (!sparse) assert_memory_equal(first, other, sizeof first);
    }
}

/* The test above can fail: every activation gives other bits. */
static void activations_differ(void **state)
{
    float logits[CASES][TOKENS][VOCAB];

    for (uint32_t i = 0; i < CASES; i++) {
        cook_and_pack(*state, &cases[i]);
        run_by(*state, FLASHINFER_PREDICTOR_EXACT, 0, cases[i].sparse, logits[i]);
        for (uint32_t k = 0; k < i; k++) assert_memory_not_equal(logits[k], logits[i], sizeof logits[i]);
    }
}

/* ------------------------------------------------------------------------------------------------------- sketches */

/* The packed sketch's biases, those of one made again, and scores of both, which must be the same. */
static void biases_of(const workspace *made, float bias[LAYERS][NEURONS])
{
    flashinfer_options options = plain_options();
    flashinfer_model *model = open_model(made, &options);
    flashinfer_predictor *packed, *again;
    float x[WIDTH], other[NEURONS], scores[2][NEURONS];
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    for (uint32_t i = 0; i < WIDTH; i++) x[i] = sinf((float)i);
    assert_ok(flashinfer_predictor_copy(model, &packed, &error));
    assert_ok(flashinfer_predictor_create(model, &again, &error));
    for (uint32_t layer = 0; layer < LAYERS; layer++) {
        assert_ok(flashinfer_predictor_set_sketch(again, layer, 3, -1, &error));
        assert_ok(flashinfer_predictor_bias(packed, layer, bias[layer], &error));
        assert_ok(flashinfer_predictor_bias(again, layer, other, &error));
        assert_memory_equal(bias[layer], other, sizeof other);
        assert_ok(flashinfer_predictor_scores(packed, layer, x, scores[0], &error));
        assert_ok(flashinfer_predictor_scores(again, layer, x, scores[1], &error));
        assert_memory_equal(scores[0], scores[1], sizeof scores[0]);
    }
    flashinfer_predictor_destroy(packed);
    flashinfer_predictor_destroy(again);
    assert_int_equal(flashinfer_model_close(model), 0);
}

static void sketches_know_the_threshold(void **state)
{
    float without[LAYERS][NEURONS], with[LAYERS][NEURONS];

    cook_and_pack(*state, &cases[RELU]); /* the same weights */
    biases_of(*state, without);
    cook_and_pack(*state, &cases[FATRELU]);
    biases_of(*state, with);
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        for (uint32_t i = 0; i < NEURONS; i++)
            assert_true(fabsf(with[layer][i] + cases[FATRELU].threshold - without[layer][i]) < 1e-5f);
}

static void count_warning(int level, const char *text, void *user)
{
    if (level == FLASHINFER_LOG_WARNING && strstr(text, "no sketch") != NULL && strstr(text, "silu") != NULL)
        ++*(int *)user;
}

static void where_all_fire_nothing_is_predicted(void **state)
{
    const workspace *made = *state;
    flashinfer_pack_options packing = plain;
    flashinfer_options options = plain_options();
    flashinfer_predictor *predictor;
    flashinfer_model *model;
    flashinfer_error error;
    int warned = 0;

    cook_and_pack(made, &cases[SILU]);
    packing.log = count_warning;
    packing.log_user = &warned;
    packing.sketch_bits = 2;
    pack_well(made, &packing);
    assert_int_equal(warned, 1);
    packing.sketch_bits = 0;
    packing.no_sketch = 1; /* nobody expects one */
    pack_well(made, &packing);
    assert_int_equal(warned, 1);

    flashinfer_error_init(&error, sizeof error);
    for (uint32_t i = 0; i < 3; i++) {
        const uint32_t kinds[] = {FLASHINFER_PREDICTOR_SKETCH, FLASHINFER_PREDICTOR_LOWRANK,
                                  FLASHINFER_PREDICTOR_MIXED};
        options.predictor = kinds[i];
        assert_int_equal(flashinfer_model_open(made->path, &options, &model, &error), FLASHINFER_EUNSUPPORTED);
        assert_non_null(strstr(error.text, "silu"));
    }
    options.predictor = FLASHINFER_PREDICTOR_DEFAULT;
    model = open_model(made, &options);
    assert_int_equal(flashinfer_predictor_create(model, &predictor, &error), FLASHINFER_EUNSUPPORTED);
    assert_null(predictor);
    assert_non_null(strstr(error.text, "silu"));
    assert_int_equal(flashinfer_model_close(model), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORKSPACE(info_says_what_was_packed),   IN_WORKSPACE(what_fires_is_what_info_says),
        IN_WORKSPACE(exact_gives_the_bits_of_all), IN_WORKSPACE(activations_differ),
        IN_WORKSPACE(sketches_know_the_threshold), IN_WORKSPACE(where_all_fire_nothing_is_predicted),
    };

    return cmocka_run_group_tests_name("activations", tests, NULL, NULL);
}
