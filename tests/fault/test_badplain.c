/*
 * test_badplain.c - GGUF files that are not in flash layout, damaged or on a device that fails: one clear error, and the
 * next call works.
 *
 * usage: test_badplain PLAIN.gguf
 */
#include "fault/host_file.h"

static host_file good;

static flashinfer_model *open_smallest(host_file *file, uint32_t timeout_ms)
{
    flashinfer_options options = host_options(0);
    flashinfer_plan plan = {.size = sizeof plan};
    flashinfer_model *model;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    options.io_timeout_ms = timeout_ms;
    assert_ok(host_open(file, &options, &model, &error));
    assert_int_equal(flashinfer_model_plan(model, &plan), 0);
    assert_int_equal(flashinfer_model_close(model), 0);
    options.memory_budget = plan.minimum_bytes;
    assert_ok(host_open(file, &options, &model, &error));
    return model;
}

static void same(flashinfer_model *model, const float *expected)
{
    flashinfer_error error;
    int code;
    float *got;

    flashinfer_error_init(&error, sizeof error);
    got = host_run(model, &code, &error);
    assert_ok(code);
    assert_memory_equal(got, expected, 4096 * sizeof *got);
    free(got);
}

static float *expected_logits(uint64_t *open_reads, uint64_t *all_reads)
{
    host_file file = good;
    flashinfer_model *model;
    flashinfer_error error;
    float *logits;
    int code;

    flashinfer_error_init(&error, sizeof error);
    file.reads = 0;
    model = open_smallest(&file, 0);
    *open_reads = file.reads;
    logits = host_run(model, &code, &error);
    assert_ok(code);
    *all_reads = file.reads;
    assert_int_equal(flashinfer_model_close(model), 0);
    return logits;
}

static void a_read_that_fails_is_tried_once_more(void **state)
{
    uint64_t open_reads, all_reads;
    float *expected = expected_logits(&open_reads, &all_reads);

    (void)state;
    assert_true(all_reads > open_reads + 100);
    for (uint64_t n = open_reads + 1; n <= all_reads; n += (all_reads - open_reads) / 30 + 1) {
        host_file file = good;
        flashinfer_model *model = open_smallest(&file, 0);
        file.fail_from = n;
        file.fail_to = n + 1;
        same(model, expected);
        assert_int_equal(flashinfer_model_close(model), 0);
    }
    free(expected);
}

static void a_device_that_fails_is_named_and_the_next_call_works(void **state)
{
    uint64_t open_reads, all_reads;
    float *expected = expected_logits(&open_reads, &all_reads);
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (uint64_t n = open_reads + 1; n < all_reads - 20; n += (all_reads - open_reads) / 30 + 1) {
        host_file file = good;
        flashinfer_model *model;
        int code;
        file.reads = 0;
        model = open_smallest(&file, 0);
        file.fail_from = n;
        file.fail_to = UINT64_MAX;
        assert_null(host_run(model, &code, &error));
        assert_int_equal(code, FLASHINFER_EIO);
        assert_int_equal(error.sys_errno, EIO);
        assert_true(error.offset > 0);
        assert_true(strstr(error.text, "blk.") != NULL || strstr(error.text, "token_embd") != NULL ||
                    strstr(error.text, "output") != NULL || strstr(error.text, "position") != NULL);
        file.fail_from = 0;
        same(model, expected);
        assert_int_equal(flashinfer_model_close(model), 0);
    }
    free(expected);
}

static void a_device_that_hangs_is_given_up_and_comes_back(void **state)
{
    uint64_t open_reads, all_reads;
    float *expected = expected_logits(&open_reads, &all_reads);
    host_file file = good;
    flashinfer_model *model;
    flashinfer_error error;
    int code;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    file.reads = 0;
    model = open_smallest(&file, 200);
    file.hung = 1;
    file.hang_at = (open_reads + all_reads) / 2;
    assert_null(host_run(model, &code, &error));
    assert_int_equal(code, FLASHINFER_ETIMEDOUT);
    assert_null(host_run(model, &code, &error)); /* its memory is not free yet */
    assert_int_equal(code, FLASHINFER_ETIMEDOUT);
    file.hung = 0;
    for (int turn = 0; turn < 100 && code != 0; turn++) {
        (void)poll(NULL, 0, 20);
        free(host_run(model, &code, &error));
    }
    assert_ok(code);
    same(model, expected);
    assert_int_equal(flashinfer_model_close(model), 0);
    free(expected);
}

static void a_file_that_ends_early_is_refused(void **state)
{
    flashinfer_options options = host_options(0);
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (uint64_t bytes = 0; bytes < good.bytes; bytes += bytes < 4096 ? 61 : good.bytes / 37) {
        host_file file = good;
        flashinfer_model *model = NULL;
        int code;
        file.bytes = bytes;
        code = host_open(&file, &options, &model, &error);
        if (code == 0) fail_msg("%llu bytes open", (unsigned long long)bytes);
        assert_null(model);
        assert_true(error.text[0] != '\0' && strchr(error.text, '\n') == NULL);
    }
}

/* Whatever a header says, opening and a token end with an answer. */
static void spoilt_headers_are_answered(void **state)
{
    static const unsigned char values[] = {0, 1, 0x7f, 0xff};
    flashinfer_options options = host_options(0);
    host_file file = good;
    uint64_t opened = 0, refused = 0;
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    file.data = malloc(good.bytes);
    assert_non_null(file.data);
    memcpy(file.data, good.data, good.bytes);
    for (uint64_t at = 0; at < 150000 && at < good.bytes; at += at < 3000 ? 7 : 1999) {
        for (size_t i = 0; i < sizeof values; i++) {
            flashinfer_model *model = NULL;
            int code;
            file.data[at] = values[i];
            code = host_open(&file, &options, &model, &error);
            if (code == 0) free(host_run(model, &code, &error));
            if (model != NULL)
                opened++;
            else
                refused++;
            (void)flashinfer_model_close(model);
        }
        file.data[at] = good.data[at];
    }
    print_message("%llu spoilt headers opened, %llu were refused\n", (unsigned long long)opened,
                  (unsigned long long)refused);
    assert_true(opened > 0 && refused > 0);
    free(file.data);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_that_fails_is_tried_once_more),
        cmocka_unit_test(a_device_that_fails_is_named_and_the_next_call_works),
        cmocka_unit_test(a_device_that_hangs_is_given_up_and_comes_back),
        cmocka_unit_test(a_file_that_ends_early_is_refused),
        cmocka_unit_test(spoilt_headers_are_answered),
    };
    size_t bytes;
    int failed;

    if (argc != 2) return 2;
    good.data = read_file(argv[1], &bytes);
    good.bytes = bytes;
    if (good.data == NULL) return 2;
    failed = cmocka_run_group_tests_name("bad plain files", tests, NULL, NULL);
    free(good.data);
    return failed;
}
