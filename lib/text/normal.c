/*
 * normal.c - see normal.h. Most texts are normal, so they are looked through for characters that
 * may not be: those that decompose, combine, or have a class. Only these are worked on, together
 * with the one before them: decomposed, put in order, composed (Unicode standard annex 15).
 */
#include "text/normal.h"

#include <string.h>

#include "text/unicode.h"
#include "util/utf8.h"

#define CARE_BEGINS 0x300u /* no character below needs any */
#define CARE_STARTER 255u  /* care of a starter that may decompose or combine */
#define PARTS_MAX 4u       /* of one character */

/* Hangul syllables are computed: S = L, V, and T but for the first of the latter. */
#define HANGUL_S 0xac00u
#define HANGUL_L 0x1100u
#define HANGUL_V 0x1161u
#define HANGUL_T 0x11a7u
#define HANGUL_L_COUNT 19u
#define HANGUL_V_COUNT 21u
#define HANGUL_T_COUNT 28u
#define HANGUL_S_COUNT (HANGUL_L_COUNT * HANGUL_V_COUNT * HANGUL_T_COUNT)

/* ---- characters ---- */

/* 0: stands as it is. CARE_STARTER, or the combining class. */
static uint32_t care_of(uint32_t code)
{
    if (code < CARE_BEGINS) return 0;
    return flin_unicode_run(flin_normal_runs, flin_normal_run_count, 8, code) & 255u;
}

static uint32_t class_of(uint32_t code)
{
    uint32_t care = care_of(code);
    return care == CARE_STARTER ? 0 : care;
}

/* What a character decomposes into, in one step; 0 if it does not. */
static uint64_t pair_of(uint32_t code)
{
    uint32_t low = 0, high = flin_normal_pair_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint32_t found = (uint32_t)(flin_normal_pairs[middle] >> 42);
        if (found == code) return flin_normal_pairs[middle] & ((UINT64_C(1) << 42) - 1);
        if (found < code)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

/* All parts of a character; only the first of two decomposes further. */
static uint32_t decompose(uint32_t code, uint32_t parts[PARTS_MAX])
{
    uint32_t seconds[PARTS_MAX], second_count = 0, count = 0;
    uint64_t pair;

    if (code - HANGUL_S < HANGUL_S_COUNT) {
        uint32_t place = code - HANGUL_S, last = place % HANGUL_T_COUNT;
        parts[0] = HANGUL_L + place / (HANGUL_V_COUNT * HANGUL_T_COUNT);
        parts[1] = HANGUL_V + place / HANGUL_T_COUNT % HANGUL_V_COUNT;
        parts[2] = HANGUL_T + last;
        return last != 0 ? 3 : 2;
    }
    while (second_count + 1 < PARTS_MAX && (pair = pair_of(code)) != 0) {
        uint32_t second = (uint32_t)pair & 0x1fffffu;
        if (second != 0) seconds[second_count++] = second;
        code = (uint32_t)(pair >> 21);
    }
    parts[count++] = code;
    while (second_count > 0) parts[count++] = seconds[--second_count];
    return count;
}

/* The character that two make; 0 if they make none. */
static uint32_t compose(uint32_t first, uint32_t second)
{
    const uint64_t wanted = (uint64_t)first << 21 | second;
    uint32_t low = 0, high = flin_normal_composed_count;

    if (first - HANGUL_L < HANGUL_L_COUNT && second - HANGUL_V < HANGUL_V_COUNT)
        return HANGUL_S +
               ((first - HANGUL_L) * HANGUL_V_COUNT + (second - HANGUL_V)) * HANGUL_T_COUNT;
    if (first - HANGUL_S < HANGUL_S_COUNT && (first - HANGUL_S) % HANGUL_T_COUNT == 0 &&
        second - HANGUL_T - 1 < HANGUL_T_COUNT - 1)
        return first + (second - HANGUL_T);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint64_t pair = flin_normal_pairs[flin_normal_composed[middle]];
        uint64_t parts = pair & ((UINT64_C(1) << 42) - 1);
        if (parts == wanted) return (uint32_t)(pair >> 42);
        if (parts < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

/* ---- a piece of a text ---- */

/* Marks in a row go in the order of their classes, those of one class as they stood. By counting:
   there may be millions. */
static void order_marks(uint32_t *codes, size_t count, uint32_t *ordered)
{
    size_t begins[256] = {0}, at = 0;

    for (size_t i = 0; i < count; i++) begins[class_of(codes[i])]++;
    for (uint32_t class = 0; class < 256; class ++) {
        size_t of_class = begins[class];
        begins[class] = at;
        at += of_class;
    }
    for (size_t i = 0; i < count; i++) ordered[begins[class_of(codes[i])]++] = codes[i];
    memcpy(codes, ordered, count * sizeof *codes);
}

static void order_all(uint32_t *codes, size_t count, uint32_t *ordered)
{
    for (size_t at = 0, end; at < count; at = end) {
        uint32_t last = class_of(codes[at]);
        int is_ordered = 1;
        end = at + 1;
        for (uint32_t class; last != 0 && end < count; end++, last = class) {
            class = class_of(codes[end]);
            if (class == 0) break;
            is_ordered &= last <= class;
        }
        if (!is_ordered) order_marks(codes + at, end - at, ordered);
    }
}

/* A character joins the last starter unless one between them has its class or a higher one, or is
   a starter. Returns how many are left. */
static size_t compose_all(uint32_t *codes, size_t count)
{
    size_t kept = 0, starter = SIZE_MAX;
    int32_t last = -1; /* class of what was kept behind the starter; -1: nothing */

    for (size_t i = 0; i < count; i++) {
        int32_t class = (int32_t)class_of(codes[i]);
        uint32_t composed = 0;
        if (starter != SIZE_MAX && last < class) composed = compose(codes[starter], codes[i]);
        if (composed != 0) {
            codes[starter] = composed;
            continue;
        }
        if (class == 0) starter = kept;
        last = class == 0 ? -1 : class;
        codes[kept++] = codes[i];
    }
    return kept;
}

static size_t write_character(uint8_t *to, uint32_t code)
{
    uint32_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;

    for (uint32_t i = length; i-- > 1; code >>= 6) to[i] = (uint8_t)(0x80 | (code & 0x3f));
    to[0] = (uint8_t)(length == 1 ? code : (0xf00u >> length & 0xf0u) | code);
    return length;
}

/* Write the normal form of a piece, which holds whole characters; -1 if there is no memory. */
static int64_t write_piece(flin_normaliser *with, const uint8_t *text, size_t bytes, uint8_t *to)
{
    uint32_t *codes;
    size_t characters = 0, count = 0, used = 0;

    for (size_t at = 0; at < bytes; at++) characters += (text[at] & 0xc0) != 0x80;
    if (characters > SIZE_MAX / (2 * PARTS_MAX * sizeof *codes)) return -1;
    codes = flin_scratch_reserve(&with->codes, 2 * PARTS_MAX * sizeof *codes * characters);
    if (codes == NULL) return -1;
    for (size_t at = 0; at < bytes;) {
        flin_utf8 next = flin_utf8_read(text + at, bytes - at);
        count += decompose(next.code, codes + count);
        at += next.bytes;
    }
    order_all(codes, count, codes + PARTS_MAX * characters);
    count = compose_all(codes, count);
    for (size_t i = 0; i < count; i++) used += write_character(to + used, codes[i]);
    return (int64_t)used;
}

/* ---- a text ---- */

static flin_utf8 read_next(const uint8_t *text, size_t bytes, size_t at)
{
    if (text[at] < 128) return (flin_utf8){text[at], 1, FLIN_UTF8_CHARACTER};
    return flin_utf8_read(text + at, bytes - at);
}

typedef struct piece {
    size_t begin, end; /* both at the end of the text, if there is none */
} piece;

/* The next piece that may not be normal: characters that need care, and the one before them. */
static piece find_piece(const uint8_t *text, size_t bytes, size_t at)
{
    size_t begin = at;
    flin_utf8 next;

    for (; at < bytes; at += next.bytes) {
        next = read_next(text, bytes, at);
        if (care_of(next.code) != 0) break;
        begin = next.kind == FLIN_UTF8_CHARACTER ? at : at + next.bytes;
    }
    if (at == bytes) return (piece){bytes, bytes};
    for (; at < bytes; at += next.bytes) {
        next = read_next(text, bytes, at);
        if (care_of(next.code) == 0)
            break; /* also for a byte that is no character: its code is 0 */
    }
    return (piece){begin, at};
}

int flin_normalise(flin_normaliser *with, const uint8_t *text, size_t bytes, const uint8_t **normal,
                   size_t *normal_bytes)
{
    const size_t growth = 3; /* no character's normal form is longer than thrice its own */
    piece next = find_piece(text, bytes, 0);
    size_t at = 0, used = 0;
    uint8_t *to;

    *normal = text;
    *normal_bytes = bytes;
    if (next.begin == bytes) return 0;
    to = bytes <= SIZE_MAX / growth ? flin_scratch_reserve(&with->text, growth * bytes) : NULL;
    if (to == NULL) return -1;
    for (; at < bytes; next = find_piece(text, bytes, at)) {
        int64_t written = 0;
        memcpy(to + used, text + at, next.begin - at);
        used += next.begin - at;
        if (next.begin < next.end)
            written = write_piece(with, text + next.begin, next.end - next.begin, to + used);
        if (written < 0) return -1;
        used += (size_t)written;
        at = next.end;
    }
    *normal = to;
    *normal_bytes = used;
    return 0;
}
