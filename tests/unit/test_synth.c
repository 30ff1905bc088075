/*
 * test_synth.c - a tiny synthetic model: the library opens and runs it, it says what it is, and its
 * FFN fires as the header of synth_weights.h promises.
 */
#define _GNU_SOURCE
#include "support.h"

#include <unistd.h>

#include "activity_measure.h"
#include "synth_write.h"
#include "zipf.h"

#define TOKENS 320u
#define TOLERANCE 0.15

static char folder[240], path[256], other[256];
static int32_t tokens[TOKENS];

static synth_options tiny(void)
{
    synth_options options = {.shape = {3, 256, 4, 1024, 2048, 512},
                             .name = "synthetic model of a test",
                             .description = "SYNTHETIC",
                             .sketch_bits = 3,
                             .threads = 2,
                             .seed = 1};
    return options;
}

static flashinfer_model *open_model(uint32_t predictor, uint64_t budget_bytes)
{
    flashinfer_options options;
    flashinfer_model *model = NULL;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.predictor = predictor;
    options.memory_budget = budget_bytes;
    options.threads = 2;
    assert_ok(flashinfer_model_open(path, &options, &model, &error));
    return model;
}

static void assert_near(double found, double wanted)
{
    if (!(found > wanted * (1 - TOLERANCE) && found < wanted * (1 + TOLERANCE)))
        fail_msg("%.5f is not within %.0f%% of %.5f", found, 100 * TOLERANCE, wanted);
}

static activity_result measure(const char *model_path)
{
    const activity_options options = {2, 4, 32, 0.10};
    activity_result result;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(activity_measure(model_path, tokens, TOKENS, &options, &result, &error));
    return result;
}

static int make(void **state)
{
    const synth_options options = tiny();
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    (void)snprintf(folder, sizeof folder, "%.200s/test_synth_XXXXXX",
                   environment("TMPDIR", P_tmpdir));
    if (mkdtemp(folder) == NULL) return -1;
    (void)snprintf(path, sizeof path, "%s/tiny.gguf", folder);
    (void)snprintf(other, sizeof other, "%s/other.gguf", folder);
    if (bench_zipf_tokens(options.shape.vocab, 1, tokens, TOKENS) != 0) return -1;
    return synth_write(path, &options, NULL, &error);
}

static int clean(void **state)
{
    (void)state;
    (void)unlink(path);
    (void)unlink(other);
    return rmdir(folder);
}

static void test_is_whole_and_says_what_it_is(void **state)
{
    flashinfer_model *model = open_model(FLASHINFER_PREDICTOR_DEFAULT, 0);
    flashinfer_info info = {.size = sizeof info};
    flashinfer_error error;
    const char *text = "Any \xc3\xa4 bytes\n";
    int32_t ids[32];
    char back[32];
    size_t count, bytes;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_model_verify(model, &error));
    assert_ok(flashinfer_model_info(model, &info));
    assert_memory_equal(info.name, "synthetic", 9);
    assert_string_equal(info.predictors, "exact,sketch,all");
    assert_ok(flashinfer_tokenize(model, text, strlen(text), 0, ids, 32, &count, &error));
    assert_int_equal(count, strlen(text));
    assert_ok(flashinfer_detokenize(model, ids, count, back, sizeof back, &bytes, &error));
    assert_int_equal(bytes, strlen(text));
    assert_memory_equal(back, text, bytes);
    assert_ok(flashinfer_model_close(model));
}

/* The engine's own count must be the measured one, to the neuron. */
static void test_fires_as_the_paper_says(void **state)
{
    flashinfer_model *model = open_model(FLASHINFER_PREDICTOR_EXACT, 0);
    flashinfer_session *session = NULL;
    flashinfer_stats stats = {.size = sizeof stats};
    flashinfer_error error;
    activity_result result = measure(path);

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    assert_near(result.mean.active.share, 0.03);
    assert_near(result.mean.named.share, 0.10);
    assert_near(result.mean.named.cached, 0.24);
    assert_near(result.mean.named.loaded, 0.024);
    assert_true(result.mean.sketch_recall > 0.97);
    assert_true(result.mean.sketch.share < 0.06);
    assert_ok(flashinfer_session_create(model, &session, &error));
    for (size_t i = 0; i < TOKENS; i++) assert_ok(flashinfer_step(session, tokens[i], &error));
    assert_ok(flashinfer_model_stats(model, &stats));
    assert_int_equal(stats.active, result.firing);
    flashinfer_session_destroy(session);
    assert_ok(flashinfer_model_close(model));
    activity_release(&result);
}

static void test_sketch_names_what_was_asked_for(void **state)
{
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (uint32_t bits = 1; bits <= 4; bits += 3) {
        synth_options options = tiny();
        activity_result result;
        options.sketch_bits = bits;
        options.named_share = bits == 1 ? 0.25 : 0.10;
        assert_ok(synth_write(other, &options, NULL, &error));
        result = measure(other);
        assert_near(result.mean.sketch.share, options.named_share);
        assert_true(result.mean.sketch_recall > 0.97);
        activity_release(&result);
    }
}

static void test_threads_change_nothing(void **state)
{
    synth_options options = tiny();
    flashinfer_error error;
    size_t bytes, other_bytes;
    void *data, *other_data;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    options.threads = 3;
    assert_ok(synth_write(other, &options, NULL, &error));
    data = read_file(path, &bytes);
    other_data = read_file(other, &other_bytes);
    assert_non_null(data);
    assert_non_null(other_data);
    assert_int_equal(bytes, other_bytes);
    assert_memory_equal(data, other_data, bytes);
    free(data);
    free(other_data);
}

/* Widths and counts that fill neither a block, a tile nor a pair; float32. */
static void test_odd_shapes(void **state)
{
    synth_options options = tiny();
    activity_result result;
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    options.shape = (synth_shape){2, 105, 3, 333, 2048, 512};
    options.dtype_resident = options.dtype_ffn = FLASHINFER_DTYPE_F32;
    assert_ok(synth_write(other, &options, NULL, &error));
    result = measure(other);
    assert_true(result.mean.active.share > 0.02 && result.mean.active.share < 0.04);
    activity_release(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_whole_and_says_what_it_is),
        cmocka_unit_test(test_fires_as_the_paper_says),
        cmocka_unit_test(test_sketch_names_what_was_asked_for),
        cmocka_unit_test(test_threads_change_nothing),
        cmocka_unit_test(test_odd_shapes),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
