/*
 * budget_text.c - see budget_text.h.
 */
#include "plan/budget_text.h"

#include <string.h>

/* DIGITS[.DIGITS]UNIT */
typedef struct number {
    uint64_t whole;
    const char *digits; /* (digit_count) behind the point */
    size_t digit_count;
    const char *unit; /* what follows */
} number;

static size_t count_digits(const char *text)
{
    size_t count = 0;

    while (text[count] >= '0' && text[count] <= '9') count++;
    return count;
}

/* *sum = factor * value + addend, or 0 if that is too much. */
static int add_product(uint64_t factor, uint64_t value, uint64_t addend, uint64_t *sum)
{
    if (value != 0 && factor > (UINT64_MAX - addend) / value) return 0;
    *sum = factor * value + addend;
    return 1;
}

/* Is it a number with whatever behind it? One that is too large stands at UINT64_MAX. */
static int read_number(const char *text, number *read)
{
    size_t count = count_digits(text);

    if (count == 0) return 0;
    read->whole = 0;
    for (size_t i = 0; i < count; i++)
        if (!add_product(10, read->whole, (uint64_t)(text[i] - '0'), &read->whole))
            read->whole = UINT64_MAX;
    read->digits = text + count;
    read->digit_count = 0;
    if (*read->digits == '.') {
        read->digits++;
        read->digit_count = count_digits(read->digits);
        if (read->digit_count == 0) return 0;
    }
    read->unit = read->digits + read->digit_count;
    return 1;
}

/* 0.DIGITS of total, rounded down: from the last digit on, and rounding down at each adds up to
   rounding down once. */
static uint64_t fraction_of(const number *read, uint64_t total)
{
    uint64_t part = 0;

    for (size_t i = read->digit_count; i-- > 0;) {
        uint64_t digit = (uint64_t)(read->digits[i] - '0');
        part = digit * (total / 10) + (digit * (total % 10) + part) / 10;
    }
    return part;
}

/* Percent of total, rounded down. 0 if that is too much. */
static int share_of(const number *read, uint64_t total, uint64_t *share)
{
    uint64_t rest;

    return add_product(read->whole, total % 100, fraction_of(read, total), &rest) &&
           add_product(read->whole, total / 100, rest / 100, share);
}

/* Bytes of a unit; 0: it is none. */
static uint64_t unit_bytes(const char *unit)
{
    static const char units[] = "KMGT";
    const char *at = unit[0] != '\0' && unit[1] == '\0' ? strchr(units, unit[0]) : NULL;

    if (unit[0] == '\0') return 1;
    return at != NULL ? UINT64_C(1024) << 10 * (at - units) : 0;
}

int flin_budget_parse(const char *text, uint64_t file_bytes, uint64_t *budget_bytes,
                      flashinfer_error *error)
{
    number read;
    uint64_t unit, bytes = 0;
    int known = read_number(text, &read), share = known && strcmp(read.unit, "%") == 0, fits;

    unit = known && !share ? unit_bytes(read.unit) : 0;
    if (!share && (unit == 0 || (unit == 1 && read.digit_count != 0)))
        return flin_fail(error, FLASHINFER_EINVAL,
                         "a budget is a share of the model file such as 50%%, or bytes such as "
                         "1.5G, 800M or 123456, not \"%s\"",
                         text);
    if (share && (file_bytes == 0 || file_bytes > INT64_MAX))
        return flin_fail(error, FLASHINFER_EINVAL, "\"%s\" is a share of a file of %llu bytes",
                         text, (unsigned long long)file_bytes);
    fits = share ? share_of(&read, file_bytes, &bytes)
                 : add_product(read.whole, unit, fraction_of(&read, unit), &bytes);
    if (!fits || read.whole == UINT64_MAX)
        return flin_fail(error, FLASHINFER_EINVAL, "a budget of \"%s\" is 2^64 - 1 bytes or more",
                         text);
    if (bytes == 0)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "a budget of \"%s\" is not a byte; for all that is of use give no budget",
                         text);
    *budget_bytes = bytes;
    return 0;
}
