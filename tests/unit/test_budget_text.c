/*
 * test_budget_text.c - budgets as people write them: what is meant to the byte, beside an independent computation with
 * long decimal numbers, and everything else refused by name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "flashinfer.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define G (UINT64_C(1) << 30)

static void parses(const char *text, uint64_t file_bytes, uint64_t wanted)
{
    flashinfer_error error = {.size = sizeof error};
    uint64_t bytes = 0;

    if (flashinfer_budget_parse(text, file_bytes, &bytes, &error) != 0)
        fail_msg("\"%s\": %s", text, error.text);
    if (bytes != wanted)
        fail_msg("\"%s\" is %llu, not %llu", text, (unsigned long long)bytes,
                 (unsigned long long)wanted);
}

static void is_refused(const char *text, uint64_t file_bytes, const char *words)
{
    flashinfer_error error = {.size = sizeof error};
    uint64_t bytes = 77;
    int code = flashinfer_budget_parse(text, file_bytes, &bytes, &error);

    if (code != FLASHINFER_EINVAL) fail_msg("\"%s\" gives %d", text, code);
    assert_int_equal(error.code, FLASHINFER_EINVAL);
    if (strstr(error.text, words) == NULL) fail_msg("\"%s\": %s", text, error.text);
    assert_int_equal(bytes, 77);
}

static void bytes_and_units(void **state)
{
    (void)state;
    parses("123456", 0, 123456);
    parses("1", 0, 1);
    parses("00012", 0, 12);
    parses("800M", 0, 800u << 20);
    parses("1.5G", 0, G + G / 2);
    parses("1K", 0, 1024);
    parses("2T", 0, 2048 * G);
    parses("18446744073709551614", 0, UINT64_MAX - 1);
    parses("16777215.99999999999999999999T", 0, UINT64_MAX); /* 2^64 - 2^40 / 10^20, rounded down */
    /* rounded down once, whatever the number of digits */
    parses("0.1K", 0, 102);
    parses("0.3G", 0, 322122547);
    parses("0.0009765625K", 0, 1);
    parses("1.9990234374999999999999999999999999999999K", 0, 2046);
    parses("1.9990234375000000000000000000000000000000K", 0, 2047);
    parses("0.99999999999999999999999999999999999999999999999999999999999G", 0, G - 1);
}

static void shares(void **state)
{
    const uint64_t odd = 27877345;

    (void)state;
    parses("50%", odd, 13938672);
    parses("100%", odd, odd);
    parses("0.5%", odd, 139386);
    parses("12.5%", 1000, 125);
    parses("33.3333333333333333333333333333333%", 300, 99);
    parses("33.333333333333333333333333333333%", INT64_MAX, UINT64_C(3074457345618258602));
    parses("120%", odd, 33452814);
    parses("100%", INT64_MAX, INT64_MAX);
    parses("200%", INT64_MAX, 2 * (uint64_t)INT64_MAX);
    parses("1%", 199, 1);
    /* as binary floating point cannot: 1.1 % of 1000000 is 11000 and not 11000.000000000002 or 10999 */
    for (uint64_t i = 1; i < 1000; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "%llu.%llu%%", (unsigned long long)(i / 10),
                       (unsigned long long)(i % 10));
        parses(text, 1000000, i * 1000);
        parses(text, odd * 1000, odd * i);
    }
}

static void nonsense_is_refused(void **state)
{
    static const char *const nonsense[] = {
        "",       " ",   "%",    "K",    "-1",   "+5",   "50 %", " 50%", "50%%",     "50%x",
        "5k",     "5MB", "5KiB", "1e9",  "0x10", "1,5G", ".5G",  "5.G",  "1.5",      "1.",
        "1.2.3G", "nan", "inf",  "half", "5\n",  "5%\n", "5P",   "G5",   "\xc2\xb2", "\xff"};

    (void)state;
    for (size_t i = 0; i < COUNT(nonsense); i++)
        is_refused(nonsense[i], 1000, "share of the model");
    is_refused("50%", 0, "a file of 0 bytes");
    is_refused("50%", (uint64_t)INT64_MAX + 1, "a file of 9223372036854775808 bytes");
    /* no byte at all would stand for everything */
    is_refused("0", 1000, "not a byte");
    is_refused("0G", 1000, "not a byte");
    is_refused("0%", 1000, "not a byte");
    is_refused("0.0009765624999999999999999K", 1000, "not a byte");
    is_refused("0.05%", 1000, "not a byte");
    /* too much */
    is_refused("18446744073709551615", 1000, "2^64");
    is_refused("18446744073709551616", 1000, "2^64");
    is_refused("99999999999999999999999999999999999999999999", 1000, "2^64");
    is_refused("16777216T", 1000, "2^64");
    is_refused("201%", INT64_MAX, "2^64");
    is_refused("99999999999999999999999999%", 1000, "2^64");
    is_refused("18446744073709551615%", 1000, "2^64");
}

static void missing_arguments_are_refused(void **state)
{
    flashinfer_error error = {.size = sizeof error};
    uint64_t bytes;

    (void)state;
    assert_int_equal(flashinfer_budget_parse(NULL, 1, &bytes, &error), FLASHINFER_EINVAL);
    assert_non_null(strstr(error.text, "text"));
    assert_int_equal(flashinfer_budget_parse("1", 1, NULL, &error), FLASHINFER_EINVAL);
    assert_non_null(strstr(error.text, "budget_bytes"));
    assert_int_equal(flashinfer_budget_parse("x", 1, &bytes, NULL), FLASHINFER_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_and_units),
        cmocka_unit_test(shares),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(missing_arguments_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
