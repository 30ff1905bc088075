/*
 * byte_alphabet.h - the ways in which the text of a token in a vocabulary stands for bytes.
 *
 * Owns: GPT-2's byte alphabet, names of bytes such as <0x0A>. Refuses: vocabularies.
 */
#ifndef FLIN_TEXT_BYTE_ALPHABET_H
#define FLIN_TEXT_BYTE_ALPHABET_H

#include "util/string.h"
#include "util/utf8.h"

/* GPT-2's byte alphabet: visible Latin-1 characters stand for themselves, the other 68 bytes in
   order for U+0100 on. Returns the byte, or -1 for a character outside the alphabet. */
static inline int flin_byte_of_character(uint32_t code)
{
    if ((code >= 33 && code <= 126) || (code >= 161 && code <= 255 && code != 173))
        return (int)code;
    if (code >= 256 && code <= 288) return (int)code - 256;       /* 0 to 32 */
    if (code >= 289 && code <= 322) return (int)code - 289 + 127; /* 127 to 160 */
    return code == 323 ? 173 : -1;
}

static inline uint32_t flin_character_of_byte(uint8_t byte)
{
    if ((byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173)) return byte;
    if (byte < 33) return byte + 256u;
    return byte == 173 ? 323 : byte + 289u - 127u;
}

/* Bytes of a text in that alphabet, at most capacity of them written; returns how many there are,
   or -1 if a character is outside the alphabet. */
static inline int64_t flin_map_text(flin_string text, uint8_t *bytes, size_t capacity)
{
    int64_t count = 0;

    for (size_t at = 0; at < text.bytes;) {
        flin_utf8 next = flin_utf8_read((const uint8_t *)text.data + at, text.bytes - at);
        int byte = next.kind == FLIN_UTF8_CHARACTER ? flin_byte_of_character(next.code) : -1;
        if (byte < 0) return -1;
        if ((uint64_t)count < capacity) bytes[count] = (uint8_t)byte;
        count++;
        at += next.bytes;
    }
    return count;
}

static inline int flin_hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    return -1;
}

/* The byte that a text such as <0x0A> names; -1 if it is no such text. */
static inline int flin_named_byte(flin_string text)
{
    int high, low;

    if (text.bytes != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>') return -1;
    high = flin_hex_digit(text.data[3]);
    low = flin_hex_digit(text.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* The same as SentencePiece writes it, with capitals only: so 256 different such texts name all
   bytes. */
static inline int flin_piece_byte(flin_string text)
{
    for (size_t i = 3; i < text.bytes; i++)
        if (text.data[i] >= 'a' && text.data[i] <= 'f') return -1;
    return flin_named_byte(text);
}

/* Visible ASCII reads the same with and without the byte alphabet. */
static inline int flin_is_visible_ascii(flin_string text)
{
    for (size_t i = 0; i < text.bytes; i++)
        if (text.data[i] < '!' || text.data[i] > '~') return 0;
    return 1;
}

#endif
