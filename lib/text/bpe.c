/*
 * bpe.c - byte-level BPE over words: the bytes of a word, merged by rank.
 *
 * Follows Hugging Face tokenizers wherever that is defined for the input: lowest rank first and
 * leftmost among equals, of a pair that is listed twice the later rank counts. No merge ever makes
 * a control token (such merges are left out).
 */
#include <string.h>

#include "text/byte_alphabet.h"
#include "text/queue.h"
#include "text/split.h"
#include "text/tables.h"

#define NONE UINT32_MAX

/* ---- tables ---- */

static uint8_t kind_of(uint64_t type, flin_string text)
{
    int is_matched = flin_tokenizer_is_matched(type, text.bytes);

    switch (type) {
    case FLIN_TYPE_USER_DEFINED:
        return (uint8_t)(FLIN_GIVES_RAW | (is_matched ? FLIN_MATCHED_ALWAYS : 0) |
                         (flin_is_visible_ascii(text) ? FLIN_MERGEABLE : 0));
    case FLIN_TYPE_CONTROL:
    case FLIN_TYPE_UNKNOWN:
        return FLIN_GIVES_NOTHING | (is_matched ? FLIN_MATCHED_SPECIAL : 0);
    case FLIN_TYPE_BYTE:
        if (flin_named_byte(text) >= 0) return FLIN_GIVES_BYTE;
        break;
    case FLIN_TYPE_UNDEFINED:
    case FLIN_TYPE_UNUSED:
        return FLIN_GIVES_NOTHING;
    default:
        break;
    }
    return flin_map_text(text, NULL, 0) >= 0 ? FLIN_GIVES_MAPPED | FLIN_MERGEABLE : FLIN_GIVES_RAW;
}

/* <0x0A> only where no text is. */
static void find_byte_tokens(flin_tokenizer *tokenizer)
{
    for (uint32_t id = 0; id < tokenizer->vocab_count; id++) {
        flin_string text = flin_token_text(tokenizer, id);
        uint8_t byte = 0;
        if (tokenizer->kinds[id] & FLIN_MERGEABLE) {
            if (flin_map_text(text, &byte, 1) == 1) tokenizer->byte_tokens[byte] = (int32_t)id;
        } else if ((tokenizer->kinds[id] & FLIN_GIVES_MASK) == FLIN_GIVES_BYTE) {
            int32_t *named = &tokenizer->byte_tokens[flin_named_byte(text)];
            if (*named < 0) *named = (int32_t)id;
        }
    }
}

static int bad_merge(uint32_t rank, const char *what, flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EFORMAT,
                     "merge %u of tokenizer.ggml.merges %s; pack the model again", rank, what);
}

/* Name the three tokens of every merge by id, while the table still knows texts. */
static int read_merges(flin_tokenizer *tokenizer, const flin_tokenizer_keys *keys,
                       flashinfer_error *error)
{
    const uint8_t *cursor = keys->merges->data;

    for (uint32_t rank = 0; rank < tokenizer->merge_count; rank++) {
        struct flin_merge *merge = &tokenizer->merges[rank];
        flin_string text = flin_gguf_next_string(&cursor), left, right, none = {text.data, 0};
        const char *space = text.bytes != 0 ? memchr(text.data, ' ', text.bytes) : NULL;
        if (space == NULL) return bad_merge(rank, "is not two tokens", error);
        left = (flin_string){text.data, (size_t)(space - text.data)};
        right = (flin_string){space + 1, text.bytes - left.bytes - 1};
        if (left.bytes == 0 || right.bytes == 0 || memchr(right.data, ' ', right.bytes) != NULL)
            return bad_merge(rank, "is not two tokens", error);
        merge->left = flin_vocabulary_find(tokenizer, left, none);
        merge->right = flin_vocabulary_find(tokenizer, right, none);
        merge->result = flin_vocabulary_find(tokenizer, left, right);
        if (merge->left == FLIN_NO_TOKEN || merge->right == FLIN_NO_TOKEN)
            return bad_merge(rank, "joins a token that is not in the vocabulary", error);
        if (merge->result == FLIN_NO_TOKEN)
            return bad_merge(rank, "makes a token that is not in the vocabulary", error);
    }
    return 0;
}

static uint32_t *find_pair(const flin_tokenizer *tokenizer, uint32_t left, uint32_t right)
{
    uint32_t at = flin_fold_hash(((uint64_t)left << 32 | right) * 0xd6e8feb86659fd93u);

    for (;; at++) {
        uint32_t *entry = &tokenizer->table[at & tokenizer->table_mask];
        const struct flin_merge *merge;
        if (*entry == 0) return entry;
        merge = &tokenizer->merges[*entry - 1];
        if (merge->left == left && merge->right == right) return entry;
    }
}

/* From here on the table knows pairs. */
static void index_merges(flin_tokenizer *tokenizer)
{
    memset(tokenizer->table, 0, ((size_t)tokenizer->table_mask + 1) * sizeof *tokenizer->table);
    for (uint32_t rank = 0; rank < tokenizer->merge_count; rank++) {
        const struct flin_merge *merge = &tokenizer->merges[rank];
        if (tokenizer->kinds[merge->left] & tokenizer->kinds[merge->right] &
            tokenizer->kinds[merge->result] & FLIN_MERGEABLE)
            *find_pair(tokenizer, merge->left, merge->right) = rank + 1;
    }
}

int flin_bpe_build(flin_tokenizer *tokenizer, const flin_tokenizer_keys *keys,
                   flashinfer_error *error)
{
    int code = flin_vocabulary_build(tokenizer, keys, kind_of, error);

    if (code != 0) return code;
    find_byte_tokens(tokenizer);
    code = read_merges(tokenizer, keys, error);
    if (code == 0) index_merges(tokenizer);
    return code;
}

/* ---- text to tokens ---- */

struct symbol {
    uint32_t token;
    uint32_t rank;           /* of the merge with the next symbol; NONE: there is none */
    uint32_t next, previous; /* NONE at the ends */
};

/* The scratch of one word. */
struct word {
    flin_encoding *encoding;
    uint64_t *queue; /* (2 * bytes) binary heap of rank << 32 | place, smallest on top */
    size_t queued;
    struct symbol *symbols; /* (bytes) */
};

static int reserve_symbols(struct word *word, size_t bytes)
{
    const size_t each_bytes = sizeof(struct symbol) + 2 * sizeof(uint64_t);
    void *memory = bytes <= SIZE_MAX / each_bytes
                       ? flin_scratch_reserve(&word->encoding->symbols, bytes * each_bytes)
                       : NULL;

    if (memory == NULL)
        return flin_fail(word->encoding->error, FLASHINFER_ENOMEM,
                         "no memory to tokenise a word of %zu bytes; break the text up", bytes);
    word->queue = memory;
    word->symbols = (struct symbol *)(void *)(word->queue + 2 * bytes);
    return 0;
}

/* Look up the merge of the symbol at place with its next one and put it in line. */
static void queue_pair(struct word *word, uint32_t place)
{
    struct symbol *symbol = &word->symbols[place];

    symbol->rank = NONE;
    if (symbol->next == NONE) return;
    symbol->rank =
        *find_pair(word->encoding->tokenizer, symbol->token, word->symbols[symbol->next].token) - 1;
    if (symbol->rank != NONE)
        flin_queue_push(word->queue, &word->queued, (uint64_t)symbol->rank << 32 | place);
}

/* The token of one byte; FLIN_NO_TOKEN, with the error told, if the vocabulary has none. */
static uint32_t token_of_byte(flin_encoding *encoding, const uint8_t *byte)
{
    int32_t token = encoding->tokenizer->byte_tokens[*byte];

    if (token < 0) token = encoding->tokenizer->unknown;
    if (token < 0)
        (void)flin_fail(encoding->error, FLASHINFER_ETOKEN,
                        "the vocabulary has no token for byte 0x%02x at offset %zu of the text",
                        *byte, (size_t)(byte - encoding->text));
    return (uint32_t)token; /* FLIN_NO_TOKEN if negative */
}

/* Merge the bytes of a word, lowest rank first, leftmost among equals. A queue entry is stale, and
   skipped, when its rank is no longer that of its place. Each merge takes one entry and adds at
   most two, so 2 * bytes are enough. */
static int encode_word(flin_encoding *encoding, const uint8_t *text, size_t bytes)
{
    struct word word = {.encoding = encoding};
    struct symbol *symbols;
    uint32_t place;
    int code = reserve_symbols(&word, bytes);

    if (code != 0) return code;
    symbols = word.symbols;
    for (place = 0; place < bytes; place++) {
        symbols[place].token = token_of_byte(encoding, text + place);
        if (symbols[place].token == FLIN_NO_TOKEN) return FLASHINFER_ETOKEN;
        symbols[place].previous = place == 0 ? NONE : place - 1;
        symbols[place].next = place + 1 == bytes ? NONE : place + 1;
    }
    for (place = 0; place < bytes; place++) queue_pair(&word, place);
    while (word.queued > 0) {
        uint64_t key = flin_queue_pop(word.queue, &word.queued);
        struct symbol *left = &symbols[(uint32_t)key], *right;
        if (left->rank != key >> 32) continue;
        place = (uint32_t)key;
        right = &symbols[left->next];
        left->token = encoding->tokenizer->merges[left->rank].result;
        left->next = right->next;
        right->rank = NONE;
        if (left->next != NONE) symbols[left->next].previous = place;
        queue_pair(&word, place);
        if (left->previous != NONE) queue_pair(&word, left->previous);
    }
    for (place = 0; place != NONE; place = symbols[place].next)
        flin_put_token(encoding, symbols[place].token);
    return 0;
}

int flin_bpe_encode(flin_encoding *encoding, const uint8_t *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        size_t word_bytes = flin_split_next(text + at, bytes - at);
        int code = encode_word(encoding, text + at, word_bytes);
        if (code != 0) return code;
        at += word_bytes;
    }
    return 0;
}
