/*
 * utf8.h - what the bytes at a place in a text are.
 *
 * Owns: the one decision which byte sequences are characters. Refuses: what a character means.
 */
#ifndef FLIN_UTIL_UTF8_H
#define FLIN_UTIL_UTF8_H

#include <stddef.h>
#include <stdint.h>

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
