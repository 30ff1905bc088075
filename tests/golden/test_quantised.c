/*
 * test_quantised.c - files of Q8_0 and Q4_0 against the float16 model they were made from: perplexity over golden windows.
 *
 * usage: test_quantised GOLDEN_DIR WINDOWS Q8_0.gguf Q4_0.gguf MIXED.gguf     MIXED: resident Q8_0, bundles Q4_0
 *
 * The float16 model's figures are transformers', window by window: test_golden holds the library to them within 1e-3.
 */
#include "golden.h"

#define FILES 3

typedef struct quantised {
    const char *path;
    uint32_t dtype_resident, dtype_ffn;
    double bound; /* on the share by which perplexity may differ from float16's */
} quantised;

static quantised files[FILES] = {
    {NULL, FLASHINFER_DTYPE_Q8_0, FLASHINFER_DTYPE_Q8_0, 0.005},
    {NULL, FLASHINFER_DTYPE_Q4_0, FLASHINFER_DTYPE_Q4_0, 0.05},
    {NULL, FLASHINFER_DTYPE_Q8_0, FLASHINFER_DTYPE_Q4_0, 0.05},
};
static uint32_t windows;

static void perplexity_is_close(const quantised *file)
{
    flashinfer_info info = {.size = sizeof info};
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_session *session;
    flashinfer_error error;
    size_t bytes, expected_bytes;
    int32_t *ids = golden("valid_ids", &bytes);
    double *expected = golden("window_nll", &expected_bytes), nll = 0, reference = 0, share;

    assert_int_equal(bytes, WINDOWS * WINDOW * sizeof *ids);
    assert_int_equal(expected_bytes, WINDOWS * sizeof *expected);
    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.predictor = FLASHINFER_PREDICTOR_EXACT;
    options.threads = 1;
    assert_ok(flashinfer_model_open(file->path, &options, &model, &error));
    assert_int_equal(flashinfer_model_info(model, &info), 0);
    assert_int_equal(info.dtype_resident, file->dtype_resident);
    assert_int_equal(info.dtype_ffn, file->dtype_ffn);
    assert_ok(flashinfer_session_create(model, &session, &error));
    for (uint32_t i = 0; i < windows; i++) {
        nll += window_nll(session, ids + i * WINDOW) / windows;
        reference += expected[i] / windows;
    }
    share = exp(nll - reference) - 1;
    print_message("perplexity of %u windows: %.4f, of float16 %.4f: %+.3f %%\n", windows, exp(nll),
                  exp(reference), 100 * share);
    assert_true(fabs(share) <= file->bound);
    flashinfer_session_destroy(session);
    assert_int_equal(flashinfer_model_close(model), 0);
    free(ids);
    free(expected);
}

static void q8_0_is_close(void **state)
{
    (void)state;
    perplexity_is_close(&files[0]);
}

static void q4_0_is_close(void **state)
{
    (void)state;
    perplexity_is_close(&files[1]);
}

static void q8_0_with_q4_0_bundles_is_close(void **state)
{
    (void)state;
    perplexity_is_close(&files[2]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(q8_0_is_close),
        cmocka_unit_test(q4_0_is_close),
        cmocka_unit_test(q8_0_with_q4_0_bundles_is_close),
    };

    if (argc != 3 + FILES) return 2;
    golden_dir = argv[1];
    windows = (uint32_t)strtoul(argv[2], NULL, 10);
    if (windows == 0 || windows > WINDOWS) return 2;
    for (int i = 0; i < FILES; i++) {
        FILE *file;
        files[i].path = argv[3 + i];
        file = fopen(files[i].path, "rb");
        if (file == NULL) {
            (void)printf("SKIP: %s is not here\n", files[i].path);
            return 77;
        }
        (void)fclose(file);
    }
    return cmocka_run_group_tests_name("golden quantised", tests, NULL, NULL);
}
