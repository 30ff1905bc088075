/*
 * test_import.c - predictors taken out of PowerInfer's files: the same scores and thresholds as the factors given by
 * hand; files of other models, damaged, cut off, hostile and of our own are refused and change nothing.
 */
#include <float.h>
#include <math.h>

#include "powerinfer_file.h"

static flashinfer_model *model;
static flashinfer_info info;
static const char *model_path;
static char path[512], saved_path[512];

enum spoil { NOTHING, MISSING, WIDER, TALLER, FLATTER, DEEPER, QUANTISED, NUMBER };

/* A file to make. Zeros: as PowerInfer makes it, in float32. */
typedef struct recipe {
    const char *magic;      /* NULL: PowerInfer's */
    uint32_t version;       /* 0: 3 */
    uint32_t type;          /* of both factors */
    uint32_t alignment;     /* 0: 32, and not said */
    uint32_t more_layers;   /* than the model has */
    uint32_t zero;          /* factors of zeros */
    const float *threshold; /* NULL: not said */
    const char *extra;      /* one more tensor of this name */
    const char *spoilt;     /* tensor, NULL: all */
    enum spoil how;
    float number; /* NUMBER: the tensor's last */
} recipe;

static uint32_t rank_of(uint32_t layer)
{
    return 5 + layer;
}

static float *first_factor(uint32_t layer)
{
    return some_numbers((size_t)rank_of(layer) * info.embedding_length, 2 * layer);
}

static float *second_factor(uint32_t layer)
{
    return some_numbers((size_t)rank_of(layer) * info.ffn_length, 2 * layer + 1);
}

static void add_factor(gguf_made *made, const recipe *from, uint32_t layer, const char *suffix,
                       uint64_t columns, uint64_t rows, float *numbers)
{
    char name[64];
    enum spoil how;
    uint64_t sizes[3] = {columns, rows, 1};
    uint32_t dimensions = 2;
    float *room = calloc((columns + 1) * (rows + 1), sizeof *room);
    size_t bytes;
    void *data;

    assert_true(numbers != NULL && room != NULL);
    (void)snprintf(name, sizeof name, "blk.%u.%s", layer, suffix);
    how = from->spoilt == NULL || strcmp(from->spoilt, name) == 0 ? from->how : NOTHING;
    if (!from->zero) memcpy(room, numbers, columns * rows * sizeof *room);
    if (how == NUMBER) room[columns * rows - 1] = from->number;
    if (how == WIDER) sizes[0]++;
    if (how == TALLER) sizes[1]++;
    if (how == FLATTER) sizes[0] *= sizes[1], sizes[1] = 1, dimensions = 1;
    if (how == DEEPER) sizes[0] /= 2, sizes[2] = 2, dimensions = 3; /* of an even number */
    data = narrow(from->type, room, (columns + 1) * (rows + 1), &bytes);
    if (how != MISSING)
        add_tensor(made, name, how == QUANTISED ? TYPE_IQ3_S : from->type, dimensions, sizes, data,
                   sizes[0] * sizes[1] * sizes[2] * (from->type == TYPE_F32 ? 4 : 2));
    free(data);
    free(room);
    free(numbers);
}

/* Parts of the model around the factors: of types that we read, that we do not, and of odd lengths. */
static void add_others(gguf_made *made, uint32_t layer)
{
    const uint64_t three[1] = {3}, big[2] = {256, 3}, small[2] = {32, 2};
    char name[64], zeros[1024] = {0};

    (void)snprintf(name, sizeof name, "blk.%u.ffn_norm.bias", layer);
    add_tensor(made, name, TYPE_F32, 1, three, zeros, 12);
    (void)snprintf(name, sizeof name, "blk.%u.ffn_down_t.weight", layer);
    add_tensor(made, name, TYPE_Q6_K, 2, big, zeros, 3 * 210);
    (void)snprintf(name, sizeof name, "blk.%u.ffn_up.weight", layer);
    add_tensor(made, name, TYPE_Q4_0, 2, small, zeros, 36);
}

static char *make(const recipe *from, size_t *header, size_t *bytes)
{
    gguf_made made = {.alignment = from->alignment != 0 ? from->alignment : 32};
    const float zeros[4] = {0};

    add_value(&made, "general.architecture", 8, "opt", 0);
    if (from->alignment != 0) add_value(&made, "general.alignment", 4, &from->alignment, 4);
    if (from->threshold != NULL)
        add_value(&made, "powerinfer.sparse_threshold", 6, from->threshold, 4);
    for (uint32_t i = 0; i < info.layer_count + from->more_layers; i++) {
        add_others(&made, i);
        add_factor(&made, from, i, "fc1.weight", info.embedding_length, rank_of(i),
                   first_factor(i));
        add_factor(&made, from, i, "fc2.weight", rank_of(i), info.ffn_length, second_factor(i));
    }
    if (from->extra != NULL) add_matrix(&made, from->extra, TYPE_F32, 2, 2, zeros);
    return gguf_finish(&made, from->magic != NULL ? from->magic : POWERINFER_MAGIC,
                       from->version != 0 ? from->version : 3, header, bytes);
}

static void write_made(const recipe *from)
{
    size_t header, bytes;
    char *data = make(from, &header, &bytes);

    write_file(path, data, bytes);
    free(data);
}

static flashinfer_predictor *begin(void)
{
    flashinfer_predictor *predictor;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_predictor_create(model, &predictor, &error));
    return predictor;
}

/* --------------------------------------------------------------------------------- what arrives */

/* The same factors without a file. */
static void set_by_hand(flashinfer_predictor *predictor, uint32_t layer, float bias_of_all)
{
    float *down = first_factor(layer), *up = second_factor(layer);
    float *bias = malloc(info.ffn_length * sizeof *bias);
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_non_null(bias);
    for (uint32_t i = 0; i < info.ffn_length; i++) bias[i] = bias_of_all;
    assert_ok(flashinfer_predictor_set_lowrank(predictor, layer, rank_of(layer), 1, down, up, bias,
                                               &error));
    free(down);
    free(up);
    free(bias);
}

static void assert_same_layer(const flashinfer_predictor *left, const flashinfer_predictor *right,
                              uint32_t layer)
{
    size_t bytes = info.ffn_length * sizeof(float);
    float *of_left = malloc(bytes), *of_right = malloc(bytes);
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_true(of_left != NULL && of_right != NULL);
    assert_int_equal(flashinfer_predictor_bytes(left, layer),
                     flashinfer_predictor_bytes(right, layer));
    assert_ok(flashinfer_predictor_bias(left, layer, of_left, &error));
    assert_ok(flashinfer_predictor_bias(right, layer, of_right, &error));
    assert_memory_equal(of_left, of_right, bytes);
    for (uint32_t seed = 0; seed < 3; seed++) {
        float *x = some_numbers(info.embedding_length, 100 + seed);
        assert_ok(flashinfer_predictor_scores(left, layer, x, of_left, &error));
        assert_ok(flashinfer_predictor_scores(right, layer, x, of_right, &error));
        assert_memory_equal(of_left, of_right, bytes);
        free(x);
    }
    free(of_left);
    free(of_right);
}

static void factors_arrive_as_they_are(void **state)
{
    static const float half = 0.5f, negative = -2, tiny = 1e-44f;
    const recipe recipes[] = {
        {.type = TYPE_F16},
        {.type = TYPE_F32},
        {.type = TYPE_BF16},
        {.type = TYPE_F16, .version = 2, .magic = GGUF_MAGIC},
        {.type = TYPE_F16, .alignment = 64, .threshold = &half},
        {.type = TYPE_F32, .alignment = 4096, .threshold = &negative},
        {.type = TYPE_F16, .alignment = 8, .version = 2, .threshold = &tiny},
    };

    (void)state;
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        flashinfer_predictor *imported = begin(), *by_hand = begin();
        float threshold = recipes[i].threshold != NULL ? *recipes[i].threshold : 0;
        flashinfer_error error;
        flashinfer_error_init(&error, sizeof error);
        write_made(&recipes[i]);
        assert_ok(flashinfer_predictor_import(imported, path, &error));
        for (uint32_t layer = 0; layer < info.layer_count; layer++) {
            set_by_hand(by_hand, layer, -nextafterf(threshold, -INFINITY));
            assert_same_layer(imported, by_hand, layer);
        }
        flashinfer_predictor_destroy(imported);
        flashinfer_predictor_destroy(by_hand);
    }
}

/* Layers of another kind, or low-rank without the relu, give way. */
static void what_was_there_is_replaced(void **state)
{
    flashinfer_predictor *imported = begin(), *again = begin();
    float *numbers = some_numbers((size_t)info.embedding_length + info.ffn_length, 7);
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    write_made(&(recipe){.type = TYPE_F16});
    assert_ok(flashinfer_predictor_set_sketch(imported, 0, 2, -1, &error));
    for (uint32_t i = 1; i < info.layer_count; i++)
        assert_ok(
            flashinfer_predictor_set_lowrank(imported, i, 1, 0, numbers, numbers, numbers, &error));
    assert_ok(flashinfer_predictor_import(again, path, &error));
    assert_ok(flashinfer_predictor_import(imported, path, &error));
    assert_ok(flashinfer_predictor_import(imported, path, &error));
    for (uint32_t i = 0; i < info.layer_count; i++) assert_same_layer(imported, again, i);
    flashinfer_predictor_destroy(imported);
    flashinfer_predictor_destroy(again);
    free(numbers);
}

/* Neurons named for a few tokens by what is imported from the file, saved and opened. */
static uint64_t names(void)
{
    static const int32_t tokens[] = {2, 300, 17, 801};
    flashinfer_predictor *imported = begin();
    flashinfer_stats stats = {.size = sizeof stats};
    flashinfer_model *running;
    flashinfer_session *session;
    flashinfer_options options;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.context_tokens = 16;
    options.predictor_path = saved_path;
    assert_ok(flashinfer_predictor_import(imported, path, &error));
    assert_ok(flashinfer_predictor_save(imported, saved_path, &error));
    flashinfer_predictor_destroy(imported);
    assert_ok(flashinfer_model_open(model_path, &options, &running, &error));
    assert_ok(flashinfer_session_create(running, &session, &error));
    assert_ok(flashinfer_eval(session, tokens, 4, &error));
    flashinfer_session_destroy(session);
    assert_int_equal(flashinfer_model_stats(running, &stats), 0);
    assert_int_equal(flashinfer_model_close(running), 0);
    return stats.predicted;
}

/* Factors of zeros give every neuron a score of exactly 0: named at a threshold of 0, as PowerInfer has it, and not at
   the smallest number above. */
static void a_score_at_the_threshold_is_named(void **state)
{
    static const float zero = 0, minus_zero = -0.0f, above = 1e-45f, below = -1e-45f;
    uint64_t all = (uint64_t)4 * info.layer_count * info.ffn_length;

    (void)state;
    write_made(&(recipe){.zero = 1});
    assert_int_equal(names(), all);
    write_made(&(recipe){.zero = 1, .threshold = &zero});
    assert_int_equal(names(), all);
    write_made(&(recipe){.zero = 1, .threshold = &minus_zero});
    assert_int_equal(names(), all);
    write_made(&(recipe){.zero = 1, .threshold = &below});
    assert_int_equal(names(), all);
    write_made(&(recipe){.zero = 1, .threshold = &above});
    assert_int_equal(names(), 0);
    write_made(&(recipe){.type = TYPE_F16});
    assert_in_range(names(), 1, all - 1);
}

/* ------------------------------------------------------------------------------ what is refused */

/* The file is refused with these words, and a predictor is left as it was. */
static void assert_refused(const char *file, int expected, const char *words)
{
    flashinfer_predictor *predictor = begin(), *same = begin();
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    set_by_hand(predictor, 0, 1);
    set_by_hand(same, 0, 1);
    assert_int_equal(flashinfer_predictor_import(predictor, file, &error), expected);
    assert_int_equal(error.code, expected);
    if (strstr(error.text, words) == NULL) fail_msg("\"%s\" does not say %s", error.text, words);
    assert_null(strchr(error.text, '\n'));
    assert_same_layer(predictor, same, 0);
    for (uint32_t i = 1; i < info.layer_count; i++)
        assert_int_equal(flashinfer_predictor_bytes(predictor, i), 0);
    flashinfer_predictor_destroy(predictor);
    flashinfer_predictor_destroy(same);
}

static void refused(const recipe *from, int expected, const char *words)
{
    write_made(from);
    assert_refused(path, expected, words);
}

static void other_shapes_are_refused(void **state)
{
    char words[256];

    (void)state;
    refused(&(recipe){.spoilt = "blk.2.fc1.weight", .how = WIDER}, FLASHINFER_EFORMAT,
            "blk.2.fc1.weight is [321, 7], but this model's predictors are [320, rank]");
    (void)snprintf(words, sizeof words, "blk.5.fc2.weight is [10, %u]", info.ffn_length + 1);
    refused(&(recipe){.spoilt = "blk.5.fc2.weight", .how = TALLER}, FLASHINFER_EFORMAT, words);
    refused(&(recipe){.spoilt = "blk.5.fc2.weight", .how = WIDER}, FLASHINFER_EFORMAT, "[10, ");
    refused(&(recipe){.spoilt = "blk.1.fc1.weight", .how = TALLER}, FLASHINFER_EFORMAT,
            "blk.1.fc2.weight is [6, ");
    refused(&(recipe){.spoilt = "blk.0.fc1.weight", .how = FLATTER}, FLASHINFER_EFORMAT,
            "blk.0.fc1.weight is [1600]");
    refused(&(recipe){.spoilt = "blk.0.fc1.weight", .how = DEEPER}, FLASHINFER_EFORMAT,
            "blk.0.fc1.weight is [160, 5, 2]");
}

static void other_layers_are_refused(void **state)
{
    char words[64];

    (void)state;
    refused(&(recipe){.spoilt = "blk.3.fc1.weight", .how = MISSING}, FLASHINFER_EFORMAT,
            "blk.3.fc1.weight is missing");
    refused(&(recipe){.spoilt = "blk.0.fc2.weight", .how = MISSING}, FLASHINFER_EFORMAT,
            "blk.0.fc2.weight is missing");
    refused(&(recipe){.how = MISSING}, FLASHINFER_EFORMAT, "no predictor tensors");
    (void)snprintf(words, sizeof words, "blk.%u.fc1.weight", info.layer_count);
    refused(&(recipe){.more_layers = 1}, FLASHINFER_EFORMAT, words);
    refused(&(recipe){.extra = "blk.4.fc2.bias"}, FLASHINFER_EUNSUPPORTED, "blk.4.fc2.bias");
    refused(&(recipe){.extra = "blk.4.fc1.weight"}, FLASHINFER_EFORMAT, "twice");
}

static void other_numbers_are_refused(void **state)
{
    const uint32_t types[] = {TYPE_F32, TYPE_F16, TYPE_BF16};
    char words[64];
    static const float nothing = NAN, infinite = INFINITY, lowest = -FLT_MAX;

    (void)state;
    (void)snprintf(words, sizeof words, "row %u, column 9", info.ffn_length - 1);
    for (size_t i = 0; i < 3; i++) {
        recipe from = {
            .type = types[i], .spoilt = "blk.5.fc2.weight", .how = NUMBER, .number = NAN};
        refused(&from, FLASHINFER_EFORMAT, words);
        from.number = -INFINITY;
        refused(&from, FLASHINFER_EFORMAT, "blk.5.fc2.weight holds an infinity");
        from.spoilt = "blk.0.fc1.weight";
        refused(&from, FLASHINFER_EFORMAT, "row 4, column 319");
        from.number = 65536;
        if (types[i] != TYPE_F16) refused(&from, FLASHINFER_EUNSUPPORTED, "65536");
    }
    refused(&(recipe){.spoilt = "blk.1.fc2.weight", .how = QUANTISED}, FLASHINFER_EUNSUPPORTED,
            "blk.1.fc2.weight has GGUF type 21");
    refused(&(recipe){.threshold = &nothing}, FLASHINFER_EFORMAT, "sparse_threshold is nan");
    refused(&(recipe){.threshold = &infinite}, FLASHINFER_EFORMAT, "sparse_threshold is inf");
    refused(&(recipe){.threshold = &lowest}, FLASHINFER_EFORMAT, "sparse_threshold");
}

static void other_files_are_refused(void **state)
{
    flashinfer_predictor *own = begin();
    gguf_made made = {.alignment = 32};
    const uint32_t whole = 1;
    const uint64_t sizes[1] = {4};
    size_t header, bytes;
    flashinfer_error error;
    char *data;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (uint32_t i = 0; i < info.layer_count; i++) set_by_hand(own, i, 0);
    assert_ok(flashinfer_predictor_save(own, saved_path, &error));
    flashinfer_predictor_destroy(own);
    assert_refused(saved_path, FLASHINFER_EFORMAT, "options.predictor_path");
    assert_refused(model_path, FLASHINFER_EFORMAT, "options.predictor_path");
    assert_refused("/nowhere/at all", FLASHINFER_EIO, "/nowhere");
    write_file(path, "\2\0\0\0\0\0\0\0{}", 10);
    assert_refused(path, FLASHINFER_EFORMAT,
                   "is a safetensors file, not a GGUF file of PowerInfer: give one");
    refused(&(recipe){.magic = "GGML"}, FLASHINFER_EFORMAT, "not a GGUF file");
    refused(&(recipe){.version = 1}, FLASHINFER_EFORMAT, "version 1");
    refused(&(recipe){.version = 4}, FLASHINFER_EFORMAT, "version 4");
    refused(&(recipe){.alignment = 24}, FLASHINFER_EFORMAT, "general.alignment is 24");
    add_value(&made, "powerinfer.sparse_threshold", 4, &whole, 4);
    add_tensor(&made, "blk.0.gpu_idx", 18, 1, sizes, "0123456789abcdef", 16);
    data = gguf_finish(&made, POWERINFER_MAGIC, 3, &header, &bytes);
    write_file(path, data, bytes);
    free(data);
    assert_refused(path, FLASHINFER_EFORMAT, "not an f32");
}

/* Cut off anywhere, a file is refused: in the header, between it and the data, in the data. */
static void every_truncation_is_refused(void **state)
{
    size_t header, bytes;
    char *data = make(&(recipe){.type = TYPE_F16}, &header, &bytes);
    const size_t places[] = {
        0,          1,          4,      8,          16,
        23,         24,         25,     header / 3, header / 2,
        header - 8, header - 1, header, header + 1, header + (bytes - header) / 2,
        bytes - 1};

    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        write_file(path, data, places[i]);
        assert_refused(path, FLASHINFER_EFORMAT, "");
    }
    write_file(path, data, bytes / 2);
    assert_refused(path, FLASHINFER_EFORMAT, "truncated");
    free(data);
}

/* Any byte of the header changed: whatever it means now, it is refused in one line or read as what it says. */
static void no_header_does_harm(void **state)
{
    static const unsigned char changes[] = {0xff, 0x80, 0x01};
    size_t header, bytes;
    char *data = make(&(recipe){.type = TYPE_F16}, &header, &bytes);
    flashinfer_predictor *predictor = begin();
    uint32_t failed = 0;

    (void)state;
    for (size_t at = 0; at < header; at++) {
        flashinfer_error error;
        unsigned char change = changes[at % 3];
        int code;
        flashinfer_error_init(&error, sizeof error);
        data[at] = (char)(data[at] ^ change);
        write_file(path, data, bytes);
        data[at] = (char)(data[at] ^ change);
        code = flashinfer_predictor_import(predictor, path, &error);
        assert_int_equal(error.code, code);
        assert_int_equal(error.text[0] == '\0', code == 0);
        assert_null(strchr(error.text, '\n'));
        failed += code != 0;
    }
    assert_true(failed > header / 4);
    flashinfer_predictor_destroy(predictor);
    free(data);
}

static void arguments_are_needed(void **state)
{
    flashinfer_predictor *predictor = begin();
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    assert_int_equal(flashinfer_predictor_import(NULL, path, &error), FLASHINFER_EINVAL);
    assert_int_equal(flashinfer_predictor_import(predictor, NULL, &error), FLASHINFER_EINVAL);
    assert_int_equal(flashinfer_predictor_import(predictor, "/nowhere", NULL), FLASHINFER_EIO);
    flashinfer_predictor_destroy(predictor);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factors_arrive_as_they_are),
        cmocka_unit_test(what_was_there_is_replaced),
        cmocka_unit_test(a_score_at_the_threshold_is_named),
        cmocka_unit_test(other_shapes_are_refused),
        cmocka_unit_test(other_layers_are_refused),
        cmocka_unit_test(other_numbers_are_refused),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(no_header_does_harm),
        cmocka_unit_test(arguments_are_needed),
    };
    flashinfer_options options;
    int failed;

    if (argc != 2) return 2;
    model_path = argv[1];
    (void)snprintf(path, sizeof path, "%.480s.powerinfer", model_path);
    (void)snprintf(saved_path, sizeof saved_path, "%.480s.imported", model_path);
    flashinfer_options_init(&options, sizeof options);
    info.size = sizeof info;
    if (flashinfer_model_open(model_path, &options, &model, NULL) != 0 ||
        flashinfer_model_info(model, &info) != 0)
        return 2;
    failed = cmocka_run_group_tests_name("import", tests, NULL, NULL);
    (void)flashinfer_model_close(model);
    (void)remove(path);
    (void)remove(saved_path);
    return failed;
}
