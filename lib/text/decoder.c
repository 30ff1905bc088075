/*
 * decoder.c - holds back the beginning of a character until the rest comes, and writes U+FFFD for
 * what can never become one: one for every maximal subpart, as the Unicode standard recommends and
 * as most decoders do.
 */
#include "text/decoder.h"

#include <stdlib.h>
#include <string.h>

#include "text/stops.h"
#include "util/utf8.h"

#define WAITING_BYTES_MAX 3u

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

struct flashinfer_decoder {
    const flin_tokenizer *tokenizer;
    flin_text_position position;
    size_t waiting_bytes;  /* at the beginning of bytes: a character that is not complete */
    size_t capacity_bytes; /* WAITING_BYTES_MAX and the longest token */
    uint8_t *bytes;        /* (capacity_bytes) */
    char *text;            /* (3 * capacity_bytes + 1): every byte may become a U+FFFD */
    flin_stops *stops;     /* NULL: none were ever set */
};

int flin_decoder_create(const flin_tokenizer *tokenizer, flashinfer_decoder **decoder,
                        flashinfer_error *error)
{
    size_t longest_bytes = flin_tokenizer_longest_bytes(tokenizer);
    size_t capacity_bytes = WAITING_BYTES_MAX + longest_bytes;
    flashinfer_decoder *made = NULL;

    *decoder = NULL;
    if (longest_bytes < SIZE_MAX / 8) made = malloc(sizeof *made + 4 * capacity_bytes + 1);
    if (made == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM,
                         "no memory for a decoder with room for a token of %zu bytes",
                         longest_bytes);
    made->tokenizer = tokenizer;
    made->position = FLIN_TEXT_UNKNOWN;
    made->waiting_bytes = 0;
    made->capacity_bytes = capacity_bytes;
    made->bytes = (uint8_t *)(made + 1);
    made->text = (char *)made->bytes + capacity_bytes;
    made->stops = NULL;
    *decoder = made;
    return 0;
}

/* Write the characters that bytes (count) hold; with at_end nothing is held back. Returns the bytes
 * written. */
static size_t write_text(flashinfer_decoder *decoder, size_t count, int at_end)
{
    const uint8_t *bytes = decoder->bytes;
    size_t at = 0, used = 0;

    while (at < count) {
        flin_utf8 next = flin_utf8_read(bytes + at, count - at);
        if (next.kind == FLIN_UTF8_CUT && !at_end) break;
        if (next.kind == FLIN_UTF8_CHARACTER) {
            memcpy(decoder->text + used, bytes + at, next.bytes);
            used += next.bytes;
        } else {
            memcpy(decoder->text + used, replacement, sizeof replacement - 1);
            used += sizeof replacement - 1;
        }
        at += next.bytes;
    }
    decoder->waiting_bytes = count - at;
    memmove(decoder->bytes, bytes + at, count - at);
    decoder->text[used] = 0;
    return used;
}

int flin_decoder_push(flashinfer_decoder *decoder, int32_t token, const char **text,
                      size_t *text_bytes, flashinfer_error *error)
{
    size_t waiting_bytes = decoder->waiting_bytes, token_bytes = 0, used;

    *text = "";
    if (text_bytes != NULL) *text_bytes = 0;
    if (token != -1) {
        int code =
            flin_tokenizer_decode_at(decoder->tokenizer, &decoder->position, &token, 1,
                                     (char *)decoder->bytes + waiting_bytes,
                                     decoder->capacity_bytes - waiting_bytes, &token_bytes, error);
        if (code != 0) return code;
    } else {
        decoder->position = FLIN_TEXT_UNKNOWN;
    }
    used = write_text(decoder, waiting_bytes + token_bytes, token == -1);
    *text = decoder->text;
    if (decoder->stops != NULL)
        flin_stops_push(decoder->stops, decoder->text, used, token == -1, text, &used);
    if (text_bytes != NULL) *text_bytes = used;
    return 0;
}

int flin_decoder_set_stops(flashinfer_decoder *decoder, const char *const *texts,
                           const size_t *text_bytes, size_t count, flashinfer_error *error)
{
    flin_stops *made;
    int code = flin_stops_create(texts, text_bytes, count, 3 * decoder->capacity_bytes,
                                 decoder->stops, &made, error);

    if (code != 0) return code;
    flin_stops_destroy(decoder->stops);
    decoder->stops = made;
    return 0;
}

int32_t flin_decoder_stopped(const flashinfer_decoder *decoder)
{
    return decoder->stops != NULL ? flin_stops_found(decoder->stops) : -1;
}

void flin_decoder_destroy(flashinfer_decoder *decoder)
{
    if (decoder == NULL) return;
    flin_stops_destroy(decoder->stops);
    free(decoder);
}
