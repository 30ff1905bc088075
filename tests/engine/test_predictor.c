/*
 * test_predictor.c - predictors made, saved and run by: every kind, mixed kinds, files of other models, damaged files.
 */
#define _GNU_SOURCE
#include <math.h>

#include "support.h"

#define TOKENS 12u

static const char *model_path, *checkpoint_path;
static char gated_checkpoint[512];
static char predictor_path[512];
static const int32_t tokens[TOKENS] = {2, 300, 17, 801, 45, 1200, 9, 77, 350, 410, 23, 999};

static flashinfer_model *open_with(uint32_t kind, const char *predictors)
{
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.threads = 3;
    options.context_tokens = 16;
    options.predictor = kind;
    options.predictor_path = predictors;
    assert_ok(flashinfer_model_open(model_path, &options, &model, &error));
    return model;
}

/* Logits after TOKENS tokens, one by one: a prompt would ask no predictor. The model is closed. */
static float *run(flashinfer_model *model, size_t *count)
{
    flashinfer_session *session;
    flashinfer_error error;
    float *copy;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_session_create(model, &session, &error));
    for (size_t i = 0; i < TOKENS; i++) assert_ok(flashinfer_step(session, tokens[i], &error));
    assert_non_null(flashinfer_logits(session, count));
    copy = malloc(*count * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, flashinfer_logits(session, count), *count * sizeof *copy);
    flashinfer_session_destroy(session);
    assert_int_equal(flashinfer_model_close(model), 0);
    return copy;
}

static void assert_same_logits(flashinfer_model *left, flashinfer_model *right)
{
    size_t count, other;
    float *of_left = run(left, &count), *of_right = run(right, &other);

    assert_int_equal(count, other);
    assert_memory_equal(of_left, of_right, count * sizeof *of_left);
    free(of_left);
    free(of_right);
}

static uint32_t kind_of(flashinfer_model *model)
{
    flashinfer_plan plan = {.size = sizeof plan};

    assert_int_equal(flashinfer_model_plan(model, &plan), 0);
    return plan.predictor;
}

static flashinfer_info info_of(flashinfer_model *model)
{
    flashinfer_info info = {.size = sizeof info};

    assert_int_equal(flashinfer_model_info(model, &info), 0);
    return info;
}

static flashinfer_predictor *begin(flashinfer_model *model)
{
    flashinfer_predictor *predictor;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_predictor_create(model, &predictor, &error));
    return predictor;
}

/* The deciding matrix itself as two factors: the first is the identity. All its scores are the true sums. */
static void set_full_rank(flashinfer_model *model, flashinfer_predictor *predictor, uint32_t layer)
{
    flashinfer_info info = info_of(model);
    size_t width = info.embedding_length, neurons = info.ffn_length;
    float *identity = calloc(width * width, sizeof *identity);
    float *up = malloc(neurons * width * sizeof *up), *bias = malloc(neurons * sizeof *bias);
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_true(identity != NULL && up != NULL && bias != NULL);
    for (size_t i = 0; i < width; i++) identity[i * width + i] = 1;
    assert_ok(flashinfer_model_ffn_rows(model, layer,
                                        info.ffn_gated ? FLASHINFER_PART_GATE : FLASHINFER_PART_UP,
                                        0, info.ffn_length, up, &error));
    assert_ok(flashinfer_model_ffn_bias(model, layer, bias, &error));
    assert_ok(flashinfer_predictor_set_lowrank(predictor, layer, info.embedding_length, 0, identity,
                                               up, bias, &error));
    free(identity);
    free(up);
    free(bias);
}

/* The same weights sketched again are the sketch that packing made, and run the same. */
static void a_sketch_made_again_is_the_packed_one(void **state)
{
    flashinfer_model *model = open_with(FLASHINFER_PREDICTOR_SKETCH, NULL);
    flashinfer_predictor *made = begin(model), *packed;
    flashinfer_info info = info_of(model);
    float *bias = malloc(info.ffn_length * sizeof *bias),
          *other = malloc(info.ffn_length * sizeof *other);
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    assert_true(bias != NULL && other != NULL);
    assert_ok(flashinfer_predictor_copy(model, &packed, &error));
    for (uint32_t i = 0; i < info.layer_count; i++) {
        assert_int_equal(flashinfer_predictor_bytes(made, i), 0);
        assert_ok(flashinfer_predictor_set_sketch(made, i, 3, -1, &error));
        assert_int_equal(flashinfer_predictor_bytes(made, i),
                         flashinfer_predictor_bytes(packed, i));
        assert_ok(flashinfer_predictor_bias(made, i, bias, &error));
        assert_ok(flashinfer_predictor_bias(packed, i, other, &error));
        assert_memory_equal(bias, other, info.ffn_length * sizeof *bias);
    }
    assert_ok(flashinfer_predictor_save(made, predictor_path, &error));
    flashinfer_predictor_destroy(made);
    flashinfer_predictor_destroy(packed);
    free(bias);
    free(other);
    assert_same_logits(model, open_with(FLASHINFER_PREDICTOR_SKETCH, predictor_path));
}

/* Factors whose product is the deciding matrix name exactly what fires, so the output is the dense model's. */
static void full_rank_is_exact(void **state)
{
    flashinfer_model *model = open_with(FLASHINFER_PREDICTOR_EXACT, NULL);
    flashinfer_predictor *made = begin(model);
    flashinfer_info info = info_of(model);
    flashinfer_model *lowrank;
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (uint32_t i = 0; i < info.layer_count; i++) set_full_rank(model, made, i);
    assert_ok(flashinfer_predictor_save(made, predictor_path, &error));
    flashinfer_predictor_destroy(made);
    lowrank = open_with(FLASHINFER_PREDICTOR_DEFAULT, predictor_path);
    assert_int_equal(kind_of(lowrank), FLASHINFER_PREDICTOR_LOWRANK);
    assert_string_equal(info_of(lowrank).predictors, "exact,lowrank,all");
    assert_same_logits(model, lowrank);
}

/* Layers of both kinds in one file; the sketched ones miss nothing when their thresholds name everything. */
static void kinds_may_differ_by_layer(void **state)
{
    flashinfer_model *model = open_with(FLASHINFER_PREDICTOR_EXACT, NULL), *mixed;
    flashinfer_predictor *made = begin(model);
    flashinfer_info info = info_of(model);
    float *high = malloc(info.ffn_length * sizeof *high);
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    assert_non_null(high);
    for (uint32_t i = 0; i < info.ffn_length; i++) high[i] = 1e30f;
    for (uint32_t i = 0; i < info.layer_count; i++) {
        if (i % 2 == 0) {
            set_full_rank(model, made, i);
            continue;
        }
        assert_ok(flashinfer_predictor_set_sketch(made, i, 1 + i % 4, 0, &error));
        assert_ok(flashinfer_predictor_set_bias(made, i, high, &error));
    }
    assert_ok(flashinfer_predictor_save(made, predictor_path, &error));
    flashinfer_predictor_destroy(made);
    free(high);
    mixed = open_with(FLASHINFER_PREDICTOR_MIXED, predictor_path);
    assert_int_equal(kind_of(mixed), FLASHINFER_PREDICTOR_MIXED);
    assert_same_logits(model, mixed);
}

/* What scores say is what a running model names. */
typedef struct watching {
    const flashinfer_predictor *predictor;
    float *scores, *bias, *x;
    uint32_t neurons, compared;
} watching;

static void keep_input(const flashinfer_ffn_input *input, void *user)
{
    memcpy(((watching *)user)->x, input->x, input->width * sizeof(float));
}

static void compare_names(const flashinfer_trace *asked, void *user)
{
    watching *at = user;
    flashinfer_error error;
    uint32_t next = 0;

    flashinfer_error_init(&error, sizeof error);
    if (at->predictor == NULL) return;
    assert_ok(flashinfer_predictor_scores(at->predictor, asked->layer, at->x, at->scores, &error));
    assert_ok(flashinfer_predictor_bias(at->predictor, asked->layer, at->bias, &error));
    for (uint32_t i = 0; i < at->neurons; i++) {
        int named = next < asked->count && asked->ids[next] == i;
        assert_int_equal(at->scores[i] > -at->bias[i], named);
        next += (uint32_t)named;
    }
    at->compared++;
}

static void scores_are_what_a_model_names_by(const char *path)
{
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_predictor *copy;
    flashinfer_error error;
    watching at = {0};
    size_t count;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.context_tokens = 16;
    options.predictor_path = path;
    options.ffn_input = keep_input;
    options.trace = compare_names;
    options.ffn_input_user = options.trace_user = &at;
    assert_ok(flashinfer_model_open(model_path, &options, &model, &error));
    at.neurons = info_of(model).ffn_length;
    at.scores = malloc(at.neurons * sizeof(float));
    at.bias = malloc(at.neurons * sizeof(float));
    at.x = malloc(info_of(model).embedding_length * sizeof(float));
    assert_true(at.scores != NULL && at.bias != NULL && at.x != NULL);
    assert_ok(flashinfer_predictor_copy(model, &copy, &error));
    at.predictor = copy;
    count = info_of(model).layer_count;
    free(run(model, &(size_t){0}));
    assert_int_equal(at.compared, count * TOKENS);
    flashinfer_predictor_destroy(copy);
    free(at.scores);
    free(at.bias);
    free(at.x);
}

static void scores_name_the_same(void **state)
{
    (void)state;
    scores_are_what_a_model_names_by(NULL);           /* the model file's sketch */
    scores_are_what_a_model_names_by(predictor_path); /* the mixed one of the test before */
}

static void assert_refused(const char *path, int expected, const char *word)
{
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.predictor_path = path;
    assert_int_equal(flashinfer_model_open(model_path, &options, &model, &error), expected);
    assert_null(model);
    if (strstr(error.text, word) == NULL) fail_msg("%s does not say %s", error.text, word);
}

/* Made for the same shape with other weights, damaged, cut off, missing, or no predictor at all. */
static void wrong_files_are_refused(void **state)
{
    size_t bytes;
    char *data = read_file(predictor_path, &bytes), other_path[540];
    flashinfer_pack_options options;
    flashinfer_error error;
    const char *plain_path = model_path;
    flashinfer_model *model;
    flashinfer_predictor *other;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    assert_non_null(data);
    data[bytes / 2] = (char)(data[bytes / 2] ^ 1);
    write_file(predictor_path, data, bytes);
    assert_refused(predictor_path, FLASHINFER_ECORRUPT, "checksum");
    write_file(predictor_path, data, bytes / 2);
    assert_refused(predictor_path, FLASHINFER_EFORMAT, "");
    free(data);
    assert_refused("/nowhere/at all", FLASHINFER_EIO, "/nowhere");
    assert_refused(model_path, FLASHINFER_EFORMAT, "not a predictor file");

    (void)snprintf(other_path, sizeof other_path, "%s.f32", predictor_path);
    flashinfer_pack_options_init(&options, sizeof options);
    options.dtype = FLASHINFER_DTYPE_F32; /* other bytes, so another model */
    assert_ok(flashinfer_pack(checkpoint_path, other_path, &options, &error));
    model_path = other_path;
    model = open_with(FLASHINFER_PREDICTOR_SKETCH, NULL);
    model_path = plain_path;
    assert_ok(flashinfer_predictor_copy(model, &other, &error));
    assert_ok(flashinfer_predictor_save(other, predictor_path, &error));
    flashinfer_predictor_destroy(other);
    assert_int_equal(flashinfer_model_close(model), 0);
    assert_refused(predictor_path, FLASHINFER_EFORMAT, "another model");
    assert_int_equal(remove(other_path), 0);
}

/* A predictor file in a model's place says what it is and what it is for. */
static void predictor_is_no_model(void **state)
{
    flashinfer_model *model = open_with(FLASHINFER_PREDICTOR_SKETCH, NULL);
    flashinfer_info info = info_of(model);
    flashinfer_predictor *copy;
    flashinfer_error error;
    char name[160];

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    (void)snprintf(name, sizeof name, "made for the model \"%.100s\"", info.name);
    assert_ok(flashinfer_predictor_copy(model, &copy, &error));
    assert_ok(flashinfer_predictor_save(copy, predictor_path, &error));
    flashinfer_predictor_destroy(copy);
    assert_int_equal(flashinfer_model_close(model), 0);
    assert_int_equal(flashinfer_model_open(predictor_path, NULL, &model, &error),
                     FLASHINFER_EFORMAT);
    if (strstr(error.text, name) == NULL) fail_msg("%s does not say %s", error.text, name);
    assert_non_null(strstr(error.text, "options.predictor_path"));
}

/* A sketch of other dimensions is to be made again, not the model to be packed again. */
static void other_dimensions_are_refused(void **state)
{
    static const char tensor[] = "blk.0.ffn_sketch.bias";
    flashinfer_model *model = open_with(FLASHINFER_PREDICTOR_SKETCH, NULL);
    flashinfer_predictor *copy;
    flashinfer_options options;
    flashinfer_error error;
    char *data, *at;
    size_t bytes;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_predictor_copy(model, &copy, &error));
    assert_ok(flashinfer_predictor_save(copy, predictor_path, &error));
    flashinfer_predictor_destroy(copy);
    assert_int_equal(flashinfer_model_close(model), 0);
    data = read_file(predictor_path, &bytes);
    assert_non_null(data);
    at = memmem(data, bytes, tensor, sizeof tensor - 1);
    assert_non_null(at);
    at[sizeof tensor - 1 + 4] ^=
        16; /* lowest byte of its length, behind the number of dimensions */
    write_file(predictor_path, data, bytes);
    free(data);
    flashinfer_options_init(&options, sizeof options);
    options.predictor_path = predictor_path;
    options.verify = FLASHINFER_VERIFY_NONE; /* of the header that was changed */
    assert_int_equal(flashinfer_model_open(model_path, &options, &model, &error),
                     FLASHINFER_EFORMAT);
    if (strstr(error.text, "make one from this model") == NULL) fail_msg("%s", error.text);
    assert_null(strstr(error.text, "pack the model again"));
}

static void wrong_arguments_are_refused(void **state)
{
    flashinfer_model *model = open_with(FLASHINFER_PREDICTOR_EXACT, NULL);
    flashinfer_predictor *made = begin(model), *none;
    flashinfer_info info = info_of(model);
    size_t neurons = info.ffn_length, width = info.embedding_length;
    float *zeros = calloc(neurons * 4 + width * 4, sizeof *zeros), *bad;
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    assert_non_null(zeros);
    bad = malloc((neurons * 4 + width * 4) * sizeof *bad);
    assert_non_null(bad);
    memcpy(bad, zeros, neurons * 4 * sizeof *bad);
    bad[7] = NAN;
#define REFUSED(call) assert_int_equal((call), FLASHINFER_EINVAL)
    REFUSED(flashinfer_predictor_copy(model, &none, &error)); /* exact has none */
    assert_null(none);
    REFUSED(flashinfer_predictor_save(made, predictor_path, &error));
    REFUSED(flashinfer_predictor_scores(made, 0, zeros, zeros, &error));
    REFUSED(flashinfer_predictor_set_sketch(made, info.layer_count, 3, -1, &error));
    REFUSED(flashinfer_predictor_set_sketch(made, 0, 5, -1, &error));
    REFUSED(flashinfer_predictor_set_sketch(made, 0, 3, NAN, &error));
    REFUSED(flashinfer_predictor_set_lowrank(made, 0, 0, 0, zeros, zeros, zeros, &error));
    REFUSED(flashinfer_predictor_set_lowrank(made, 0, 4, 2, zeros, zeros, zeros, &error));
    REFUSED(flashinfer_predictor_set_lowrank(made, 0, 4, 0, zeros, bad, zeros, &error));
    assert_int_equal(error.neuron, 1);
    REFUSED(flashinfer_predictor_set_lowrank(made, 0, 4, 0, zeros, zeros, bad, &error));
    assert_int_equal(error.neuron, 7);
    assert_int_equal(flashinfer_predictor_bytes(made, 0), 0);
    assert_ok(flashinfer_predictor_set_lowrank(made, 0, 4, 0, zeros, zeros, zeros, &error));
    REFUSED(flashinfer_predictor_set_lowrank(made, 1, 4, 1, zeros, zeros, zeros, &error));
    REFUSED(flashinfer_predictor_set_bias(made, 0, bad, &error));
    REFUSED(flashinfer_model_ffn_rows(model, 0, 3, 0, 1, zeros, &error));
    if (!info.ffn_gated) {
        REFUSED(flashinfer_model_ffn_rows(model, 0, FLASHINFER_PART_GATE, 0, 1, zeros, &error));
        assert_non_null(strstr(error.text, "FLASHINFER_PART_GATE"));
    }
    REFUSED(flashinfer_model_ffn_rows(model, 0, 0, info.ffn_length, 1, zeros, &error));
#undef REFUSED
    flashinfer_predictor_destroy(made);
    flashinfer_predictor_destroy(NULL);
    free(zeros);
    free(bad);
    assert_int_equal(flashinfer_model_close(model), 0);
}

static int run_on(const char *path, const char *checkpoint, const char *name)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sketch_made_again_is_the_packed_one),
        cmocka_unit_test(full_rank_is_exact),
        cmocka_unit_test(kinds_may_differ_by_layer),
        cmocka_unit_test(scores_name_the_same),
        cmocka_unit_test(wrong_files_are_refused),
        cmocka_unit_test(predictor_is_no_model),
        cmocka_unit_test(other_dimensions_are_refused),
        cmocka_unit_test(wrong_arguments_are_refused),
    };
    int failed;

    model_path = path;
    checkpoint_path = checkpoint;
    (void)snprintf(predictor_path, sizeof predictor_path, "%.480s.predictor", model_path);
    failed = cmocka_run_group_tests_name(name, tests, NULL, NULL);
    (void)remove(predictor_path);
    return failed;
}

int main(int argc, char **argv)
{
    int failed;

    if (argc < 2) return 2;
    failed = run_on(argv[1], environment("FLASHINFER_TEST_CHECKPOINT", "examples/models/fable-14m"),
                    "predictor");
    if (argc < 3 || !is_here(argv[2])) return failed;
    (void)snprintf(gated_checkpoint, sizeof gated_checkpoint, "%.480s/fable-llama-18m",
                   environment("FLASHINFER_TEST_MODELS", "../shared/models"));
    return failed + run_on(argv[2], gated_checkpoint, "predictor, gated");
}
