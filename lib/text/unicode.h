/*
 * unicode.h - what the splitter needs to know about characters: three classes.
 *
 * Owns: class look-up. Refuses: case, normalisation, locales.
 */
#ifndef FLIN_TEXT_UNICODE_H
#define FLIN_TEXT_UNICODE_H

#include <stdint.h>

enum flin_unicode_class {
    FLIN_UNICODE_OTHER = 0,
    FLIN_UNICODE_LETTER = 1, /* L* */
    FLIN_UNICODE_NUMBER = 2, /* N* */
    FLIN_UNICODE_SPACE = 3   /* White_Space, what a regex calls \s */
};

/* Generated: unicode_tables.c. A run is (first code point << 2 | class) and reaches to the next
 * run; sorted. */
extern const uint8_t flin_unicode_ascii[128];
extern const uint32_t flin_unicode_run_count;
extern const uint32_t flin_unicode_runs[];

static inline enum flin_unicode_class flin_unicode_class_of(uint32_t code)
{
    uint32_t low = 0, high = flin_unicode_run_count;

    if (code < 128) return (enum flin_unicode_class)flin_unicode_ascii[code];
    while (high - low > 1) { /* runs[low] begins at or before code, runs[high] after it */
        uint32_t middle = low + (high - low) / 2;
        if (flin_unicode_runs[middle] >> 2 <= code)
            low = middle;
        else
            high = middle;
    }
    return (enum flin_unicode_class)(flin_unicode_runs[low] & 3u);
}

#endif
