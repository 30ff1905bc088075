/*
 * test_logprobs.c - log probabilities: those of chosen tokens and of the likeliest, beside sums in long double and a whole
 * sort; logits that are infinite or no numbers; wrong arguments.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "flashinfer.h"

#define COUNT 500

/* Multiples of 1/64 in -8 to 8, so equal ones occur. */
static void make_logits(float *logits, size_t count)
{
    uint64_t state = 3;

    for (size_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        logits[i] = (float)((state >> 33) % 1024) / 64.0f - 8.0f;
    }
}

static double expected(const float *logits, size_t count, size_t token)
{
    long double sum = 0;

    for (size_t i = 0; i < count; i++) sum += expl((long double)logits[i]);
    return (double)((long double)logits[token] - logl(sum));
}

static const float *sorted;

static int by_logit(const void *left, const void *right)
{
    const int32_t a = *(const int32_t *)left, b = *(const int32_t *)right;

    if (sorted[a] != sorted[b]) return sorted[a] > sorted[b] ? -1 : 1;
    return a < b ? -1 : 1;
}

static void probabilities_are_the_softmax(void **state)
{
    static const size_t tops[] = {0, 1, 2, 3, 20, 100, COUNT - 1, COUNT};
    float logits[COUNT], kept[COUNT];
    int32_t order[COUNT];

    (void)state;
    make_logits(logits, COUNT);
    memcpy(kept, logits, sizeof logits);
    for (int32_t i = 0; i < COUNT; i++) order[i] = i;
    sorted = logits;
    qsort(order, COUNT, sizeof *order, by_logit);
    for (size_t t = 0; t < sizeof tops / sizeof *tops; t++) {
        flashinfer_logprob asked[3] = {{.token = 0}, {.token = COUNT - 1}, {.token = order[0]}};
        flashinfer_logprob *top = calloc(COUNT + 1, sizeof *top);
        flashinfer_error error = {.size = sizeof error};
        double total = 0;
        assert_non_null(top);
        top[tops[t]].token = -77;
        assert_int_equal(flashinfer_logprobs(logits, COUNT, asked, 3, top, tops[t], &error), 0);
        for (size_t i = 0; i < 3; i++)
            assert_true(fabs((double)asked[i].logprob -
                             expected(logits, COUNT, (size_t)asked[i].token)) < 1e-6);
        for (size_t i = 0; i < tops[t]; i++) {
            assert_int_equal(top[i].token, order[i]);
            assert_true(fabs((double)top[i].logprob - expected(logits, COUNT, (size_t)order[i])) <
                        1e-6);
            total += exp((double)top[i].logprob);
        }
        assert_int_equal(top[tops[t]].token, -77);
        if (tops[t] != 0) assert_true(top[0].logprob == asked[2].logprob);
        if (tops[t] == COUNT) assert_true(fabs(total - 1) < 1e-5);
        free(top);
    }
    assert_memory_equal(kept, logits, sizeof logits);
}

static void infinite_and_undefined_logits(void **state)
{
    float logits[5] = {NAN, 1, -INFINITY, 1, NAN};
    flashinfer_logprob asked[3] = {{.token = 0}, {.token = 1}, {.token = 2}}, top[5];
    flashinfer_error error = {.size = sizeof error};

    (void)state;
    assert_int_equal(flashinfer_logprobs(logits, 5, asked, 3, top, 5, &error), 0);
    assert_true(asked[0].logprob == -INFINITY && asked[2].logprob == -INFINITY);
    assert_true(fabs((double)asked[1].logprob + log(2)) < 1e-7);
    for (int i = 0; i < 5; i++) assert_int_equal(top[i].token, ((const int[]){1, 3, 0, 2, 4})[i]);
    assert_true(top[1].logprob == asked[1].logprob && top[2].logprob == -INFINITY);
    logits[0] = logits[3] = logits[4] = INFINITY;
    assert_int_equal(flashinfer_logprobs(logits, 5, asked, 3, top, 1, &error), 0);
    assert_true(fabs((double)asked[0].logprob + log(3)) < 1e-7);
    assert_true(asked[1].logprob == -INFINITY);
    assert_int_equal(top[0].token, 0);
    /* far apart, and far from 0 */
    logits[0] = 3e38f;
    logits[1] = -3e38f;
    assert_int_equal(flashinfer_logprobs(logits, 2, asked, 2, NULL, 0, &error), 0);
    assert_true(asked[0].logprob == 0 && asked[1].logprob < -1e38f);
    for (int i = 0; i < 5; i++) logits[i] = i % 2 != 0 ? NAN : -INFINITY;
    assert_int_equal(flashinfer_logprobs(logits, 5, asked, 3, top, 1, &error), FLASHINFER_EINVAL);
    assert_non_null(strstr(error.text, "all 5 logits"));
    assert_int_equal(top[0].token, 0);
}

static void wrong_arguments_are_refused(void **state)
{
    const float logits[4] = {1, 2, 3, 4};
    flashinfer_logprob asked[2] = {{1, 77}, {4, 77}}, top[5] = {{-5, 77}};
    flashinfer_error error = {.size = sizeof error};

    (void)state;
#define REFUSED(wanted, words, ...)                                                                \
    error.text[0] = '\0';                                                                          \
    assert_int_equal(flashinfer_logprobs(__VA_ARGS__, &error), wanted);                            \
    assert_non_null(strstr(error.text, words))
    REFUSED(FLASHINFER_EINVAL, "logits is NULL", NULL, 4, asked, 1, top, 1);
    REFUSED(FLASHINFER_EINVAL, "asked is NULL", logits, 4, NULL, 1, top, 1);
    REFUSED(FLASHINFER_EINVAL, "top is NULL", logits, 4, asked, 1, NULL, 1);
    REFUSED(FLASHINFER_EINVAL, "0 logits", logits, 0, asked, 1, top, 0);
    REFUSED(FLASHINFER_EINVAL, "16777217 logits", logits, (1u << 24) + 1, asked, 1, top, 1);
    REFUSED(FLASHINFER_EINVAL, "likeliest 5", logits, 4, asked, 1, top, 5);
    REFUSED(FLASHINFER_ETOKEN, "asked[1] is token 4", logits, 4, asked, 2, top, 1);
    asked[1].token = -1;
    REFUSED(FLASHINFER_ETOKEN, "asked[1] is token -1", logits, 4, asked, 2, top, 1);
#undef REFUSED
    assert_true(asked[0].logprob == 77 && top[0].token == -5);
    assert_int_equal(flashinfer_logprobs(logits, 4, NULL, 0, NULL, 0, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probabilities_are_the_softmax),
        cmocka_unit_test(infinite_and_undefined_logits),
        cmocka_unit_test(wrong_arguments_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
