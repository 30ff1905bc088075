/*
 * error.c - fills the caller's flashinfer_error record; writes no field beyond the size the caller
 * compiled.
 */
#define _GNU_SOURCE
#include "util/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "util/utf8.h"

/* Descriptions of errno values without strerror()'s shared buffer. */
static const char *errno_text(int number, char *buffer, size_t capacity)
{
#if defined(__GLIBC__)
    return strerror_r(number, buffer, capacity);
#else
    return strerror_r(number, buffer, capacity) == 0 ? buffer : "unknown error";
#endif
}

/* One line of UTF-8 that moves no terminal's cursor: names in a text may come from a damaged
   file. */
static void clean(char *text)
{
    size_t left = strlen(text);

    while (left != 0) {
        flin_utf8 next = flin_utf8_read((const uint8_t *)text, left);
        int control = next.code < 0x20 || (next.code >= 0x7f && next.code < 0xa0);
        size_t bytes = 1;

        if (next.kind == FLIN_UTF8_CHARACTER && !control)
            bytes = next.bytes;
        else
            *text = '?';
        text += bytes;
        left -= bytes;
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
