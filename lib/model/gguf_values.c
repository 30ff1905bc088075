/*
 * gguf_values.c - typed look-ups in a parsed GGUF header. Numbers in the file are unaligned, so
 * they are copied out.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "model/gguf.h"

static int wrong_kind(const char *key, const char *wanted, flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EFORMAT,
                     "metadata key %s is missing or not %s; convert or pack the model again", key,
                     wanted);
}

static int is_signed(uint32_t type)
{
    return type == FLIN_GGUF_VALUE_I8 || type == FLIN_GGUF_VALUE_I16 ||
           type == FLIN_GGUF_VALUE_I32 || type == FLIN_GGUF_VALUE_I64;
}

static int is_integer(uint32_t type)
{
    return is_signed(type) || type == FLIN_GGUF_VALUE_U8 || type == FLIN_GGUF_VALUE_U16 ||
           type == FLIN_GGUF_VALUE_U32 || type == FLIN_GGUF_VALUE_U64 ||
           type == FLIN_GGUF_VALUE_BOOL;
}

uint64_t flin_gguf_element_u64(const flin_gguf_value *value, uint64_t index)
{
    static const uint8_t widths[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    uint64_t width = widths[value->type], number = 0;

    memcpy(&number, value->data + index * width, (size_t)width);
    if (is_signed(value->type) && width < 8 && (number >> (8 * width - 1)) != 0)
        number |= UINT64_MAX << (8 * width);
    return number;
}

double flin_gguf_element_f64(const flin_gguf_value *value, uint64_t index)
{
    float single;
    double number;

    if (value->type == FLIN_GGUF_VALUE_F32) {
        memcpy(&single, value->data + index * sizeof single, sizeof single);
        return (double)single;
    }
    if (value->type == FLIN_GGUF_VALUE_F64) {
        memcpy(&number, value->data + index * sizeof number, sizeof number);
        return number;
    }
    if (is_signed(value->type)) return (double)(int64_t)flin_gguf_element_u64(value, index);
    return (double)flin_gguf_element_u64(value, index);
}

int flin_gguf_u64(const flin_gguf *gguf, const char *key, uint64_t *number, flashinfer_error *error)
{
    const flin_gguf_value *value = flin_gguf_find(gguf, key);

    if (value == NULL || value->is_array || !is_integer(value->type))
        return wrong_kind(key, "a whole number", error);
    *number = flin_gguf_element_u64(value, 0);
    if (is_signed(value->type) && (int64_t)*number < 0)
        return wrong_kind(key, "a whole number of at least 0", error);
    return 0;
}

int flin_gguf_u64_or(const flin_gguf *gguf, const char *key, uint64_t absent, uint64_t *number,
                     flashinfer_error *error)
{
    if (flin_gguf_find(gguf, key) != NULL) return flin_gguf_u64(gguf, key, number, error);
    *number = absent;
    return 0;
}

int flin_gguf_f64(const flin_gguf *gguf, const char *key, double *number, flashinfer_error *error)
{
    const flin_gguf_value *value = flin_gguf_find(gguf, key);

    if (value == NULL || value->is_array ||
        (value->type != FLIN_GGUF_VALUE_F32 && value->type != FLIN_GGUF_VALUE_F64 &&
         !is_integer(value->type)))
        return wrong_kind(key, "a number", error);
    *number = flin_gguf_element_f64(value, 0);
    return 0;
}

int flin_gguf_string(const flin_gguf *gguf, const char *key, flin_string *string,
                     flashinfer_error *error)
{
    const flin_gguf_value *value = flin_gguf_find(gguf, key);
    const uint8_t *cursor;

    if (value == NULL || value->is_array || value->type != FLIN_GGUF_VALUE_STRING)
        return wrong_kind(key, "a string", error);
    cursor = value->data;
    *string = flin_gguf_next_string(&cursor);
    return 0;
}

int flin_gguf_string_or(const flin_gguf *gguf, const char *key, const char *absent,
                        flin_string *string, flashinfer_error *error)
{
    if (flin_gguf_find(gguf, key) != NULL) return flin_gguf_string(gguf, key, string, error);
    string->data = absent;
    string->bytes = strlen(absent);
    return 0;
}

flin_string flin_gguf_next_string(const uint8_t **cursor)
{
    flin_string string;
    uint64_t bytes;

    memcpy(&bytes, *cursor, sizeof bytes);
    string.data = (const char *)(*cursor + sizeof bytes);
    string.bytes = (size_t)bytes;
    *cursor += sizeof bytes + bytes;
    return string;
}

#define LISTED_ELEMENTS 8u

/* Appends to text without passing capacity; *used may grow beyond it, as with snprintf. */
static void append(char *text, size_t capacity, size_t *used, const char *format, ...)
    FLIN_PRINTF(4, 5);

static void append(char *text, size_t capacity, size_t *used, const char *format, ...)
{
    va_list arguments;
    int bytes;

    if (*used >= capacity) return;
    va_start(arguments, format);
    bytes = vsnprintf(text + *used, capacity - *used, format, arguments);
    va_end(arguments);
    *used = bytes < 0 ? capacity : *used + (size_t)bytes;
}

static void append_element(const flin_gguf_value *value, uint64_t index, char *text,
                           size_t capacity, size_t *used)
{
    if (value->type == FLIN_GGUF_VALUE_F32 || value->type == FLIN_GGUF_VALUE_F64)
        append(text, capacity, used, "%g", flin_gguf_element_f64(value, index));
    else if (value->type == FLIN_GGUF_VALUE_BOOL)
        append(text, capacity, used, "%s",
               flin_gguf_element_u64(value, index) != 0 ? "true" : "false");
    else if (is_signed(value->type))
        append(text, capacity, used, "%lld", (long long)flin_gguf_element_u64(value, index));
    else
        append(text, capacity, used, "%llu",
               (unsigned long long)flin_gguf_element_u64(value, index));
}

void flin_gguf_text(const flin_gguf_value *value, char *text, size_t capacity)
{
    const uint8_t *cursor = value->data;
    size_t used = 0;

    if (capacity == 0) return;
    text[0] = '\0';
    if (value->is_array) append(text, capacity, &used, "[");
    for (uint64_t i = 0; i < value->count && i < LISTED_ELEMENTS; i++) {
        if (i != 0) append(text, capacity, &used, ", ");
        if (value->type == FLIN_GGUF_VALUE_STRING) {
            flin_string string = flin_gguf_next_string(&cursor);
            append(text, capacity, &used, "%.*s", (int)(string.bytes & 0xffff), string.data);
        } else {
            append_element(value, i, text, capacity, &used);
        }
    }
    if (value->count > LISTED_ELEMENTS)
        append(text, capacity, &used, ", ... %llu in all", (unsigned long long)value->count);
    if (value->is_array) append(text, capacity, &used, "]");
}
