/*
 * unicode.h - what the splitter needs to know about text: UTF-8 sequences and three classes of
 * characters.
 *
 * Owns: checking UTF-8 byte by byte, class look-up. Refuses: case, normalisation, locales.
 */
#ifndef FLIN_TEXT_UNICODE_H
#define FLIN_TEXT_UNICODE_H

#include <stddef.h>
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

/* What the bytes at a place are. bytes is 1 to 4; 0 only if there was nothing to read. */
typedef struct flin_utf8 {
    uint32_t code;  /* of a character, else 0 */
    uint32_t bytes; /* of the character, or of the longest piece that one U+FFFD stands for */
    enum {
        FLIN_UTF8_CHARACTER,
        FLIN_UTF8_CUT,    /* all the bytes there are begin a character that needs more */
        FLIN_UTF8_INVALID /* no byte that may follow makes this a character */
    } kind;
} flin_utf8;

/* Well-formed sequences as in table 3-7 of the Unicode standard: no surrogates, no overlong forms,
   nothing above U+10FFFF; ill-formed ones end before the first byte that cannot continue them
   (maximal subpart). */
static inline flin_utf8 flin_utf8_read(const uint8_t *text, size_t bytes)
{
    flin_utf8 result = {0, 0, FLIN_UTF8_CUT};
    uint32_t lead, length, low = 0x80, high = 0xbf;

    if (bytes == 0) return result;
    lead = text[0];
    result.bytes = 1;
    if (lead < 0x80) {
        result.code = lead;
        result.kind = FLIN_UTF8_CHARACTER;
        return result;
    }
    if (lead < 0xc2 || lead > 0xf4) {
        result.kind = FLIN_UTF8_INVALID;
        return result;
    }
    length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
    result.code = lead & (0xffu >> (length + 1));
    for (; result.bytes < length; result.bytes++) {
        uint32_t next;
        if (result.bytes == bytes) {
            result.code = 0;
            return result;
        }
        next = text[result.bytes];
        if (next < low || next > high) {
            result.code = 0;
            result.kind = FLIN_UTF8_INVALID;
            return result;
        }
        result.code = result.code << 6 | (next & 0x3fu);
        low = 0x80;
        high = 0xbf;
    }
    result.kind = FLIN_UTF8_CHARACTER;
    return result;
}

#endif
