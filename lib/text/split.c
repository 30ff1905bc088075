/*
 * split.c - GPT-2's pattern by hand: one pass, no backtracking beyond one character.
 */
#include "text/split.h"

#include "text/unicode.h"
#include "util/utf8.h"

/* Bytes of 's 't 'm 'd 're 've 'll at text, which begins with an apostrophe; 0 if it is none of
 * them. */
static size_t contraction(const uint8_t *text, size_t bytes)
{
    if (bytes >= 2 && (text[1] == 's' || text[1] == 't' || text[1] == 'm' || text[1] == 'd'))
        return 2;
    if (bytes < 3) return 0;
    if ((text[1] == 'r' || text[1] == 'v') && text[2] == 'e') return 3;
    if (text[1] == 'l' && text[2] == 'l') return 3;
    return 0;
}

/* White space from text on: all of it at the end of the text, else all but its last character,
   which belongs to what follows or stands alone. */
static size_t white_space(const uint8_t *text, size_t bytes)
{
    size_t at = 0, last = 0;

    while (at < bytes) {
        flin_utf8 next = flin_utf8_read(text + at, bytes - at);
        if (next.kind != FLIN_UTF8_CHARACTER ||
            flin_unicode_class_of(next.code) != FLIN_UNICODE_SPACE)
            return last != 0 ? last : at;
        last = at;
        at += next.bytes;
    }
    return at;
}

size_t flin_split_next(const uint8_t *text, size_t bytes)
{
    flin_utf8 next = flin_utf8_read(text, bytes);
    enum flin_unicode_class wanted;
    size_t at = 0;

    if (next.kind != FLIN_UTF8_CHARACTER) return 1;
    if (next.code == '\'') {
        size_t length = contraction(text, bytes);
        if (length != 0) return length;
    }
    if (next.code == ' ' && bytes > 1) {
        flin_utf8 second = flin_utf8_read(text + 1, bytes - 1);
        if (second.kind != FLIN_UTF8_CHARACTER) return 1;
        at = 1;
        next = second;
    }
    wanted = flin_unicode_class_of(next.code);
    if (wanted == FLIN_UNICODE_SPACE) return white_space(text, bytes);
    do {
        at += next.bytes;
        if (at == bytes) break;
        next = flin_utf8_read(text + at, bytes - at);
    } while (next.kind == FLIN_UTF8_CHARACTER && flin_unicode_class_of(next.code) == wanted);
    return at;
}
