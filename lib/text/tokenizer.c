/*
 * tokenizer.c - text to token ids and back, over tables that are built once and never change.
 *
 * What all tokenizers share lies here and in vocabulary.c: special tokens, buffers, decoding. How
 * plain text is cut and merged lies in bpe.c and spm.c. User-defined tokens are always found in a
 * text, since they are text; control tokens only with FLASHINFER_TOKENIZE_SPECIAL, and no merge
 * ever makes one, so that plain text cannot steer a model.
 */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "text/byte_alphabet.h"
#include "text/tables.h"

#define STACK_WORDS 480u         /* of 8 bytes, for symbols: words of up to 96 characters */
#define STACK_TEXT_WORDS 64u     /* of 8 bytes, for a text with its spaces written out */
#define UNDERLINE "\xe2\x96\x81" /* U+2581 */
#define UNDERLINE_BYTES 3u

/* ---- tables ---- */

/* A power of two with room for both uses of the table, at most two thirds full. */
static uint64_t table_entries(uint64_t vocab_count, uint64_t merge_count)
{
    uint64_t most = vocab_count > merge_count ? vocab_count : merge_count;
    uint64_t entries = 16;

    while (entries < most + most / 2 + 1) entries *= 2;
    return entries;
}

int flin_tokenizer_layout(flin_arena *arena, const flin_gguf *gguf, uint32_t vocab_count,
                          flin_tokenizer **tokenizer, flashinfer_error *error)
{
    flin_tokenizer_keys keys;
    flin_tokenizer *made, tables;
    uint64_t merge_count, word_entries = 0;
    int code;

    *tokenizer = NULL;
    code = flin_tokenizer_keys_read(gguf, vocab_count, &keys, error);
    if (code != 0) return code;
    merge_count = keys.merges != NULL ? keys.merges->count : 0;
    if (keys.rule != NULL && (keys.rule->flags & (FLIN_SPLIT_WHOLE_WORDS | FLIN_SPLIT_PIECES)) != 0)
        word_entries = table_entries(vocab_count, 0);
    tables = (flin_tokenizer){.texts = keys.tokens->data,
                              .scores = keys.scores != NULL ? keys.scores->data : NULL,
                              .model = keys.model,
                              .vocab_count = vocab_count,
                              .merge_count = (uint32_t)merge_count,
                              .table_mask = (uint32_t)(table_entries(vocab_count, merge_count) - 1),
                              .word_mask = word_entries != 0 ? (uint32_t)(word_entries - 1) : 0,
                              .matched_count = keys.matched_count,
                              .bos = keys.bos,
                              .eos = keys.eos,
                              .unknown = keys.unknown,
                              .adds_bos = keys.adds_bos,
                              .has_pieces = keys.has_pieces,
                              .adds_space = keys.adds_space,
                              .split_flags = keys.rule != NULL ? keys.rule->flags : 0};
    made = FLIN_TAKE(arena, flin_tokenizer, 1);
    tables.table = FLIN_TAKE(arena, uint32_t, (uint64_t)tables.table_mask + 1);
    tables.words = FLIN_TAKE(arena, uint32_t, word_entries);
    tables.merges = FLIN_TAKE(arena, struct flin_merge, tables.merge_count);
    tables.offsets = FLIN_TAKE(arena, uint32_t, vocab_count);
    tables.matched = FLIN_TAKE(arena, uint32_t, tables.matched_count);
    tables.kinds = FLIN_TAKE(arena, uint8_t, vocab_count);
    if (arena->base == NULL) return 0;

    *made = tables;
    code = made->model == FLIN_TOKENIZER_BPE ? flin_bpe_build(made, &keys, error)
                                             : flin_spm_build(made, &keys, error);
    if (code != 0) return code;
    flin_vocabulary_build_matched(made);
    *tokenizer = made;
    return 0;
}

/* ---- text to tokens ---- */

/* A text between control tokens is a text of its own for spm: a space may stand before it. */
static int encode_text(flin_encoding *encoding, size_t bytes, int finds_special)
{
    uint8_t wanted = finds_special ? FLIN_MATCHED_SPECIAL : 0;

    if (encoding->tokenizer->model == FLIN_TOKENIZER_BPE)
        return flin_cut_text(encoding, encoding->text, bytes, wanted | FLIN_MATCHED_ALWAYS,
                             flin_bpe_encode);
    return flin_cut_text(encoding, encoding->text, bytes, wanted, flin_spm_encode);
}

int flin_tokenizer_encode(const flin_tokenizer *tokenizer, const char *text, size_t text_bytes,
                          uint32_t flags, int32_t *tokens, size_t capacity, size_t *count,
                          flashinfer_error *error)
{
    uint64_t stack_symbols[STACK_WORDS], stack_text[STACK_TEXT_WORDS];
    flin_encoding encoding = {.tokenizer = tokenizer,
                              .text = (const uint8_t *)(text_bytes != 0 ? text : ""),
                              .tokens = tokens,
                              .capacity = capacity,
                              .symbols = {stack_symbols, sizeof stack_symbols, NULL},
                              .spaced = {stack_text, sizeof stack_text, NULL},
                              .error = error};
    int code;

    *count = 0;
    if ((flags & ~(uint32_t)(FLASHINFER_TOKENIZE_BOS | FLASHINFER_TOKENIZE_SPECIAL)) != 0)
        return flin_fail(error, FLASHINFER_EINVAL, "flags 0x%x are not known to tokenize", flags);
    if (text_bytes > INT32_MAX)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "the text has %zu bytes, 2 GiB are the most; tokenise it in pieces",
                         text_bytes);
    if ((flags & FLASHINFER_TOKENIZE_BOS) != 0 && tokenizer->adds_bos)
        flin_put_token(&encoding, (uint32_t)tokenizer->bos);
    code = encode_text(&encoding, text_bytes, (flags & FLASHINFER_TOKENIZE_SPECIAL) != 0);
    free(encoding.symbols.heap);
    free(encoding.spaced.heap);
    free(encoding.normaliser.text.heap);
    free(encoding.normaliser.codes.heap);
    if (code != 0) return code;
    *count = encoding.count;
    if (encoding.count > capacity)
        return flin_fail(error, FLASHINFER_EBUFFER, "the text has %zu tokens, the buffer holds %zu",
                         encoding.count, capacity);
    return 0;
}

/* ---- tokens to text ---- */

/* Where U+2581 at `at` of a text ends; `at` if none is there. */
static size_t past_underline(flin_string text, size_t at)
{
    if (text.bytes - at < UNDERLINE_BYTES) return at;
    return memcmp(text.data + at, UNDERLINE, UNDERLINE_BYTES) == 0 ? at + UNDERLINE_BYTES : at;
}

/* Bytes of a text whose spaces are U+2581, at most capacity of them written; returns how many there
   are. */
static size_t give_spaces(flin_string text, uint8_t *bytes, size_t capacity)
{
    size_t count = 0;

    for (size_t at = 0; at < text.bytes; count++) {
        size_t next = past_underline(text, at);
        if (count < capacity) bytes[count] = next != at ? ' ' : (uint8_t)text.data[at];
        at = next != at ? next : at + 1;
    }
    return count;
}

/* Bytes of a token, at most capacity of them written; returns how many there are. At a beginning
   the space that stands before every text is left out. */
static size_t decode_token(const flin_tokenizer *tokenizer, uint32_t id,
                           flin_text_position *position, uint8_t *bytes, size_t capacity)
{
    flin_string text = flin_token_text(tokenizer, id);
    uint8_t gives = tokenizer->kinds[id] & FLIN_GIVES_MASK;

    if (gives == FLIN_GIVES_NOTHING) {
        if (*position == FLIN_TEXT_UNKNOWN && (int32_t)id == tokenizer->bos)
            *position = FLIN_TEXT_BEGINS;
        return 0;
    }
    if (*position == FLIN_TEXT_BEGINS && tokenizer->adds_space && gives == FLIN_GIVES_MAPPED) {
        size_t skipped = past_underline(text, 0);
        if (skipped == 0 && text.bytes != 0 && text.data[0] == ' ') skipped = 1;
        text.data += skipped;
        text.bytes -= skipped;
    }
    *position = FLIN_TEXT_GOES_ON;
    if (gives == FLIN_GIVES_BYTE) {
        if (capacity != 0) bytes[0] = (uint8_t)flin_named_byte(text);
        return 1;
    }
    if (gives == FLIN_GIVES_MAPPED)
        return tokenizer->has_pieces ? give_spaces(text, bytes, capacity)
                                     : (size_t)flin_map_text(text, bytes, capacity);
    if (capacity != 0 && text.bytes != 0)
        memcpy(bytes, text.data, text.bytes < capacity ? text.bytes : capacity);
    return text.bytes;
}

int flin_tokenizer_decode_at(const flin_tokenizer *tokenizer, flin_text_position *position,
                             const int32_t *tokens, size_t count, char *text, size_t capacity,
                             size_t *text_bytes, flashinfer_error *error)
{
    uint8_t nothing = 0;
    size_t used = 0;

    *text_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        uint8_t *place = used < capacity ? (uint8_t *)text + used : &nothing;
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= tokenizer->vocab_count)
            return flin_fail(error, FLASHINFER_ETOKEN,
                             "token %d at index %zu is outside the vocabulary of %u", tokens[i], i,
                             tokenizer->vocab_count);
        used += decode_token(tokenizer, (uint32_t)tokens[i], position, place,
                             used < capacity ? capacity - used : 0);
    }
    *text_bytes = used;
    if (used > capacity)
        return flin_fail(error, FLASHINFER_EBUFFER, "the text has %zu bytes, the buffer holds %zu",
                         used, capacity);
    return 0;
}

int flin_tokenizer_decode(const flin_tokenizer *tokenizer, const int32_t *tokens, size_t count,
                          char *text, size_t capacity, size_t *text_bytes, flashinfer_error *error)
{
    flin_text_position position = FLIN_TEXT_BEGINS;

    return flin_tokenizer_decode_at(tokenizer, &position, tokens, count, text, capacity, text_bytes,
                                    error);
}

int flin_tokenizer_refuse(flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EUNSUPPORTED, "this model was opened without its tokenizer");
}

int32_t flin_tokenizer_bos(const flin_tokenizer *tokenizer)
{
    return tokenizer->bos;
}

int32_t flin_tokenizer_eos(const flin_tokenizer *tokenizer)
{
    return tokenizer->eos;
}

int flin_tokenizer_adds_bos(const flin_tokenizer *tokenizer)
{
    return tokenizer->adds_bos;
}

size_t flin_tokenizer_longest_bytes(const flin_tokenizer *tokenizer)
{
    return tokenizer->longest_bytes;
}
