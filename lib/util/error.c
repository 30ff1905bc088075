/*
 * error.c - fills the caller's flashinfer_error record; writes no field beyond the size the caller compiled.
 */
#define _GNU_SOURCE
#include "util/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Descriptions of errno values without strerror()'s shared buffer. */
static const char *errno_text(int number, char *buffer, size_t capacity)
{
#if defined(__GLIBC__)
    return strerror_r(number, buffer, capacity);
#else
    return strerror_r(number, buffer, capacity) == 0 ? buffer : "unknown error";
#endif
}

/* Bytes of the whole UTF-8 character at text, or 0: cut, malformed, or one that moves a terminal's
   cursor. Parts of a text may come from a damaged file. */
static size_t printable(const unsigned char *text)
{
    unsigned char first = text[0];
    size_t bytes = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;

    if (bytes == 1) return first >= 0x20 && first != 0x7f;
    if (first < 0xc2 || first > 0xf4) return 0;
    for (size_t i = 1; i < bytes; i++)
        if ((text[i] & 0xc0) != 0x80) return 0;
    if (first == 0xc2 && text[1] < 0xa0) return 0; /* control */
    if ((first == 0xe0 && text[1] < 0xa0) || (first == 0xf0 && text[1] < 0x90)) return 0;
    if ((first == 0xed && text[1] > 0x9f) || (first == 0xf4 && text[1] > 0x8f)) return 0;
    return bytes;
}

/* One line of UTF-8, whatever the names in it were. */
static void clean(char *text)
{
    while (*text != '\0') {
        size_t bytes = printable((unsigned char *)text);
        if (bytes == 0) *text = '?';
        text += bytes != 0 ? bytes : 1;
    }
}

static void record(flashinfer_error *error, int code, int sys_errno, int layer, int64_t neuron,
                   int64_t offset, const char *format, va_list arguments)
{
    flashinfer_error full;
    int used;

    if (error == NULL || error->size < sizeof error->size) return;
    memset(&full, 0, sizeof full);
    full.size = error->size;
    full.code = code;
    full.sys_errno = sys_errno;
    full.layer = layer;
    full.neuron = neuron;
    full.offset = offset;
    used = vsnprintf(full.text, sizeof full.text, format, arguments);
    if (sys_errno != 0 && used >= 0 && (size_t)used < sizeof full.text) {
        char buffer[128];
        (void)snprintf(full.text + used, sizeof full.text - (size_t)used, ": %s",
                       errno_text(sys_errno, buffer, sizeof buffer));
    }
    clean(full.text);
    memcpy(error, &full, error->size < sizeof full ? error->size : sizeof full);
}

int flin_fail(flashinfer_error *error, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    record(error, code, 0, -1, -1, -1, format, arguments);
    va_end(arguments);
    return code;
}

int flin_fail_errno(flashinfer_error *error, int code, int sys_errno, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    record(error, code, sys_errno, -1, -1, -1, format, arguments);
    va_end(arguments);
    return code;
}

int flin_fail_at(flashinfer_error *error, int code, int layer, int64_t neuron, int64_t offset,
                 const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    record(error, code, 0, layer, neuron, offset, format, arguments);
    va_end(arguments);
    return code;
}
