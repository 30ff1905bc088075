/*
 * spm.c - SentencePiece's BPE, "llama" in GGUF: the characters of a text, merged by the score of
 * what a merge makes.
 *
 * Follows SentencePiece: spaces become U+2581, one more may stand before the text, user-defined
 * tokens are found first and merge with nothing, then the pair that makes the piece with the
 * highest score is merged, leftmost among equals, until no pair makes a piece. What has no token
 * becomes the tokens of its bytes; without those, one unknown token for all of it in a row.
 *
 * Differs where a file could say more than text should do: control, unknown, byte and unused tokens
 * are never made by merging. A byte that is not part of a UTF-8 character stands for itself, so
 * that every byte string comes back unchanged where bytes have tokens; U+2581 comes back as a
 * space.
 */
#include <string.h>

#include "text/byte_alphabet.h"
#include "text/queue.h"
#include "text/tables.h"
#include "util/utf8.h"

#define NONE UINT32_MAX

static const uint8_t underline[3] = {0xe2, 0x96, 0x81}; /* U+2581 */

/* ---- tables ---- */

static int is_underline(const uint8_t *text, size_t bytes)
{
    return bytes >= sizeof underline && memcmp(text, underline, sizeof underline) == 0;
}

/* Bytes of a word: U+2581 as often as it stands there, then everything up to the next one. */
static size_t word_bytes(const uint8_t *text, size_t bytes)
{
    size_t at = 0;

    while (is_underline(text + at, bytes - at)) at += sizeof underline;
    for (; at < bytes; at++) {
        const uint8_t *next = memchr(text + at, underline[0], bytes - at);
        if (next == NULL) return bytes;
        at = (size_t)(next - text);
        if (is_underline(next, bytes - at)) return at;
    }
    return bytes;
}

int flin_spm_build(flin_tokenizer *tokenizer, const flin_tokenizer_keys *keys,
                   flashinfer_error *error)
{
    int code = flin_vocabulary_build(tokenizer, keys, flin_piece_kind, error);

    if (code != 0) return code;
    tokenizer->has_bytes = keys->byte_count != 0;
    tokenizer->begins_words = 1;
    for (uint32_t id = 0; id < tokenizer->vocab_count; id++) {
        flin_string text = flin_token_text(tokenizer, id);
        if ((tokenizer->kinds[id] & FLIN_GIVES_MASK) == FLIN_GIVES_BYTE)
            tokenizer->byte_tokens[flin_piece_byte(text)] = (int32_t)id;
        if ((tokenizer->kinds[id] & FLIN_MERGEABLE) != 0 &&
            word_bytes((const uint8_t *)text.data, text.bytes) != text.bytes)
            tokenizer->begins_words = 0;
    }
    return 0;
}

/* ---- text to tokens ---- */

struct symbol {
    uint32_t at, bytes;      /* in the word */
    uint32_t token;          /* FLIN_NO_TOKEN: none has this text */
    uint32_t merged;         /* what it makes with the next symbol; FLIN_NO_TOKEN: nothing */
    uint32_t next, previous; /* NONE at the ends */
};

/* The scratch of one word. */
struct word {
    flin_encoding *encoding;
    const uint8_t *text;
    size_t bytes;
    uint64_t *queue; /* (2 * characters) heap of order << 32 | place, smallest on top */
    size_t queued;
    struct symbol *symbols; /* (characters) */
};

/* Highest score first. No score is NaN; the two zeros are one. */
static uint32_t order_of(const flin_tokenizer *tokenizer, uint32_t token)
{
    uint32_t bits;

    memcpy(&bits, tokenizer->scores + (size_t)token * sizeof bits, sizeof bits);
    if (bits == 0x80000000u) bits = 0;
    return (bits & 0x80000000u) != 0 ? bits : 0x7fffffffu - bits;
}

static uint32_t find_piece(const struct word *word, size_t at, size_t bytes)
{
    const flin_tokenizer *tokenizer = word->encoding->tokenizer;
    flin_string text = {(const char *)word->text + at, bytes}, none = {text.data, 0};
    uint32_t token;

    if (bytes > tokenizer->longest_bytes) return FLIN_NO_TOKEN;
    token = flin_vocabulary_find(tokenizer, text, none);
    if (token == FLIN_NO_TOKEN || (tokenizer->kinds[token] & FLIN_MERGEABLE) == 0)
        return FLIN_NO_TOKEN;
    return token;
}

/* Bytes of the character at a place; a byte that is not part of one is one by itself. */
static size_t character_bytes(const struct word *word, size_t at)
{
    flin_utf8 next = flin_utf8_read(word->text + at, word->bytes - at);
    return next.kind == FLIN_UTF8_CHARACTER ? next.bytes : 1;
}

static int reserve_symbols(struct word *word)
{
    const size_t each_bytes = sizeof(struct symbol) + 2 * sizeof(uint64_t);
    size_t count = 0;
    void *memory = NULL;

    for (size_t at = 0; at < word->bytes; count++) at += character_bytes(word, at);
    if (word->bytes < NONE && count <= SIZE_MAX / each_bytes)
        memory = flin_scratch_reserve(&word->encoding->symbols, count * each_bytes);
    if (memory == NULL)
        return flin_fail(word->encoding->error, FLASHINFER_ENOMEM,
                         "no memory to tokenise a word of %zu bytes; break the text up",
                         word->bytes);
    word->queue = memory;
    word->symbols = (struct symbol *)(void *)(word->queue + 2 * count);
    return 0;
}

/* Look up what the symbol at place makes with its next one and put it in line. */
static void queue_pair(struct word *word, uint32_t place)
{
    struct symbol *symbol = &word->symbols[place];

    symbol->merged = FLIN_NO_TOKEN;
    if (symbol->next == NONE) return;
    symbol->merged =
        find_piece(word, symbol->at, (size_t)symbol->bytes + word->symbols[symbol->next].bytes);
    if (symbol->merged != FLIN_NO_TOKEN)
        flin_queue_push(word->queue, &word->queued,
                        (uint64_t)order_of(word->encoding->tokenizer, symbol->merged) << 32 |
                            place);
}

/* A queue entry is stale, and skipped, when its place makes nothing of that score any more. Each
   merge takes one entry and adds at most two, so 2 * characters are enough. */
static void merge_symbols(struct word *word)
{
    struct symbol *symbols = word->symbols;

    while (word->queued > 0) {
        uint64_t key = flin_queue_pop(word->queue, &word->queued);
        uint32_t place = (uint32_t)key;
        struct symbol *left = &symbols[place], *right;
        if (left->merged == FLIN_NO_TOKEN ||
            order_of(word->encoding->tokenizer, left->merged) != key >> 32)
            continue;
        right = &symbols[left->next];
        left->token = left->merged;
        left->bytes += right->bytes;
        left->next = right->next;
        right->merged = FLIN_NO_TOKEN;
        if (left->next != NONE) symbols[left->next].previous = place;
        queue_pair(word, place);
        if (left->previous != NONE) queue_pair(word, left->previous);
    }
}

static void put_symbol(const struct word *word, const struct symbol *symbol)
{
    flin_encoding *encoding = word->encoding;
    const flin_tokenizer *tokenizer = encoding->tokenizer;

    if (symbol->token != FLIN_NO_TOKEN) {
        flin_put_token(encoding, symbol->token);
    } else if (tokenizer->has_bytes) {
        for (uint32_t i = 0; i < symbol->bytes; i++)
            flin_put_token(encoding, (uint32_t)tokenizer->byte_tokens[word->text[symbol->at + i]]);
    } else if (!encoding->after_unknown) {
        flin_put_token(encoding, (uint32_t)tokenizer->unknown);
        encoding->after_unknown = 1;
    }
}

static int encode_word(flin_encoding *encoding, const uint8_t *text, size_t bytes)
{
    struct word word = {.encoding = encoding, .text = text, .bytes = bytes};
    uint32_t count = 0;
    int code = reserve_symbols(&word);

    if (code != 0) return code;
    for (size_t at = 0; at < bytes; count++) {
        struct symbol *symbol = &word.symbols[count];
        symbol->at = (uint32_t)at;
        symbol->bytes = (uint32_t)character_bytes(&word, at);
        symbol->token = find_piece(&word, at, symbol->bytes);
        symbol->previous = count == 0 ? NONE : count - 1;
        at += symbol->bytes;
        symbol->next = at == bytes ? NONE : count + 1;
    }
    for (uint32_t place = 0; place < count; place++) queue_pair(&word, place);
    merge_symbols(&word);
    for (uint32_t place = 0; place != NONE; place = word.symbols[place].next)
        put_symbol(&word, &word.symbols[place]);
    return 0;
}

/* Where U+2581 only begins pieces nothing merges across the end of a word, so that words by
   themselves give the same tokens as the whole text, in less memory. */
static int encode_words(flin_encoding *encoding, const uint8_t *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        size_t taken =
            encoding->tokenizer->begins_words ? word_bytes(text + at, bytes - at) : bytes - at;
        int code = encode_word(encoding, text + at, taken);
        if (code != 0) return code;
        at += taken;
    }
    return 0;
}

int flin_spm_encode(flin_encoding *encoding, const uint8_t *text, size_t bytes)
{
    const uint8_t *spaced;
    size_t spaced_bytes;
    int code;

    if (bytes == 0) return 0; /* no space before nothing */
    code = flin_space_text(encoding, text, bytes, &spaced, &spaced_bytes);
    if (code != 0) return code;
    return flin_cut_text(encoding, spaced, spaced_bytes, FLIN_MATCHED_ALWAYS, encode_words);
}
