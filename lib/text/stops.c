/*
 * stops.c - see stops.h. What is held back is compared with every string anew: both are short.
 */
#include "text/stops.h"

#include <stdlib.h>
#include <string.h>

#include "util/string.h"
#include "util/utf8.h"

struct flin_stops {
    size_t count;
    size_t longest_bytes; /* of the strings */
    size_t held_bytes;    /* of the text so far, at the beginning of buffer */
    int32_t found;        /* index; -1: none */
    int ended;
    flin_string *texts; /* (count) */
    char *buffer;       /* what is held, and a piece behind it */
    char *shown;        /* room for as much, and a zero */
};

static int check_text(const char *text, size_t bytes, size_t index, flashinfer_error *error)
{
    size_t at = 0;

    if (bytes == 0)
        return flin_fail(error, FLASHINFER_EINVAL, "stop string %zu is empty: every text has it",
                         index);
    while (at < bytes) {
        flin_utf8 next = flin_utf8_read((const uint8_t *)text + at, bytes - at);
        if (next.kind != FLIN_UTF8_CHARACTER)
            return flin_fail(error, FLASHINFER_EINVAL,
                             "stop string %zu is not UTF-8 at byte %zu: no text has it", index, at);
        at += next.bytes;
    }
    return 0;
}

static size_t length_of(const char *const *texts, const size_t *text_bytes, size_t index)
{
    return text_bytes != NULL ? text_bytes[index] : strlen(texts[index]);
}

/* Bytes of all strings, and of the longest. */
static int measure(const char *const *texts, const size_t *text_bytes, size_t count, size_t *all,
                   size_t *longest, flashinfer_error *error)
{
    *all = *longest = 0;
    if (count > INT32_MAX)
        return flin_fail(error, FLASHINFER_EINVAL, "%zu stop strings are too many", count);
    for (size_t i = 0; i < count; i++) {
        size_t bytes;
        int code;
        if (texts[i] == NULL)
            return flin_fail(error, FLASHINFER_EINVAL, "stop string %zu is NULL", i);
        bytes = length_of(texts, text_bytes, i);
        code = check_text(texts[i], bytes, i, error);
        if (code != 0) return code;
        *all += bytes;
        if (bytes > *longest) *longest = bytes;
    }
    return 0;
}

int flin_stops_create(const char *const *texts, const size_t *text_bytes, size_t count,
                      size_t piece_bytes, const flin_stops *before, flin_stops **stops,
                      flashinfer_error *error)
{
    const size_t held_bytes = before != NULL ? before->held_bytes : 0;
    size_t all, longest, room;
    flin_stops *made;
    char *at;
    int code = measure(texts, text_bytes, count, &all, &longest, error);

    if (code != 0) return code;
    room = (held_bytes > longest ? held_bytes : longest) + piece_bytes;
    made = malloc(sizeof *made + count * sizeof *made->texts + all + 2 * room + 1);
    if (made == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for %zu stop strings of %zu bytes",
                         count, all);
    *made = (flin_stops){count, longest, held_bytes, -1, 0, (flin_string *)(made + 1), NULL, NULL};
    at = (char *)(made->texts + count);
    for (size_t i = 0; i < count; i++) {
        made->texts[i] = (flin_string){at, length_of(texts, text_bytes, i)};
        memcpy(at, texts[i], made->texts[i].bytes);
        at += made->texts[i].bytes;
    }
    made->buffer = at;
    made->shown = at + room;
    if (held_bytes != 0) memcpy(made->buffer, before->buffer, held_bytes);
    *stops = made;
    return 0;
}

/* The longest string that the first `bytes` of the buffer end with: its index; -1: none. */
static int32_t ends_with(const flin_stops *stops, size_t bytes)
{
    int32_t found = -1;

    for (size_t i = 0; i < stops->count; i++) {
        const flin_string text = stops->texts[i];
        if (text.bytes > bytes || (found >= 0 && text.bytes <= stops->texts[found].bytes)) continue;
        if (memcmp(stops->buffer + bytes - text.bytes, text.data, text.bytes) == 0)
            found = (int32_t)i;
    }
    return found;
}

/* How many of the buffer's last bytes are the beginning of a string. */
static size_t begun(const flin_stops *stops, size_t bytes)
{
    size_t tail = stops->longest_bytes < bytes ? stops->longest_bytes : bytes;

    for (; tail > 0; tail--)
        for (size_t i = 0; i < stops->count; i++)
            if (stops->texts[i].bytes > tail &&
                memcmp(stops->buffer + bytes - tail, stops->texts[i].data, tail) == 0)
                return tail;
    return 0;
}

/* How many of the buffer's bytes can be shown. */
static size_t clear_of_stops(flin_stops *stops, size_t bytes, int at_end)
{
    for (size_t end = 1; end <= bytes; end++) {
        stops->found = ends_with(stops, end);
        if (stops->found >= 0) return end - stops->texts[stops->found].bytes;
    }
    return at_end ? bytes : bytes - begun(stops, bytes);
}

void flin_stops_push(flin_stops *stops, const char *piece, size_t piece_bytes, int at_end,
                     const char **text, size_t *text_bytes)
{
    const size_t bytes = stops->held_bytes + piece_bytes;
    size_t shown = 0;

    if (stops->ended) stops->found = -1;
    stops->ended = at_end;
    if (stops->found < 0) {
        memcpy(stops->buffer + stops->held_bytes, piece, piece_bytes);
        shown = clear_of_stops(stops, bytes, at_end);
        memcpy(stops->shown, stops->buffer, shown);
        stops->held_bytes = stops->found < 0 ? bytes - shown : 0;
        memmove(stops->buffer, stops->buffer + shown, stops->held_bytes);
    }
    stops->shown[shown] = 0;
    *text = stops->shown;
    *text_bytes = shown;
}

int32_t flin_stops_found(const flin_stops *stops)
{
    return stops->found;
}

void flin_stops_destroy(flin_stops *stops)
{
    free(stops);
}
