/*
 * unicode.h - what the splitters and NFC need to know about characters.
 *
 * Owns: the class of a character, the tables that are generated. Refuses: locales, case beyond that
 * of a class.
 */
#ifndef FLIN_TEXT_UNICODE_H
#define FLIN_TEXT_UNICODE_H

#include <stdint.h>

/* A character has one class: white space is what a regular expression calls \s, all others go by
   general category. */
enum flin_unicode_class {
    FLIN_UNICODE_OTHER = 0,
    FLIN_UNICODE_SPACE = 1,        /* White_Space */
    FLIN_UNICODE_UPPER = 2,        /* Lu */
    FLIN_UNICODE_LOWER = 3,        /* Ll */
    FLIN_UNICODE_TITLE = 4,        /* Lt */
    FLIN_UNICODE_MODIFIER = 5,     /* Lm */
    FLIN_UNICODE_OTHER_LETTER = 6, /* Lo */
    FLIN_UNICODE_MARK = 7,         /* M */
    FLIN_UNICODE_NUMBER = 8,       /* N */
    FLIN_UNICODE_PUNCTUATION = 9,  /* P */
    FLIN_UNICODE_SYMBOL = 10       /* S */
};

/* Generated: unicode_tables.c. A run is (first code point << 4 | class) and reaches to the next
   run; sorted. */
extern const uint8_t flin_unicode_ascii[128];
extern const uint32_t flin_unicode_run_count;
extern const uint32_t flin_unicode_runs[];

/* Generated: normal_tables.c. A run is (first code point << 8 | care), a pair is (code point << 42
   | what it decomposes into, 21 bits each, the second 0 where it is one); sorted. composed has the
   places of those pairs that compose again, sorted by what they are made of. */
extern const uint32_t flin_normal_run_count;
extern const uint32_t flin_normal_runs[];
extern const uint32_t flin_normal_pair_count;
extern const uint64_t flin_normal_pairs[];
extern const uint32_t flin_normal_composed_count;
extern const uint16_t flin_normal_composed[];

/* The last of sorted runs that begins at or before a code point. */
static inline uint32_t flin_unicode_run(const uint32_t *runs, uint32_t count, uint32_t shift,
                                        uint32_t code)
{
    uint32_t low = 0;

    while (count - low > 1) { /* runs[low] begins at or before code, runs[count] after it */
        uint32_t middle = low + (count - low) / 2;
        if (runs[middle] >> shift <= code)
            low = middle;
        else
            count = middle;
    }
    return runs[low];
}

static inline enum flin_unicode_class flin_unicode_class_of(uint32_t code)
{
    if (code < 128) return (enum flin_unicode_class)flin_unicode_ascii[code];
    return (enum flin_unicode_class)(
        flin_unicode_run(flin_unicode_runs, flin_unicode_run_count, 4, code) & 15u);
}

#endif
