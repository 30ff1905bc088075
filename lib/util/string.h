/*
 * string.h - a borrowed piece of text, not zero-terminated.
 */
#ifndef FLIN_UTIL_STRING_H
#define FLIN_UTIL_STRING_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct flin_string {
    const char *data;
    size_t bytes;
} flin_string;

static inline int flin_string_is(flin_string string, const char *text)
{
    size_t bytes = strlen(text);
    return string.bytes == bytes && memcmp(string.data, text, bytes) == 0;
}

#endif
