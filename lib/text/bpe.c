/*
 * bpe.c - BPE by a list of merges: the bytes of a word merged by rank, or (gemma4) the characters
 * of a whole text.
 *
 * Follows Hugging Face tokenizers wherever that is defined for the input: lowest rank first and
 * leftmost among equals, of a pair that is listed twice the later rank counts. No merge ever makes
 * a control token (such merges are left out). Where a tokenizer looks words up whole before it
 * merges (ignore_merges), so is it done here.
 */
#include <string.h>

#include "text/byte_alphabet.h"
#include "text/queue.h"
#include "text/split.h"
#include "text/tables.h"
#include "util/utf8.h"

#define NONE UINT32_MAX

/* ---- tables ---- */

static uint8_t byte_kind(uint64_t type, flin_string text)
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

/* Tokens are found in a text as it is, before its spaces become U+2581. */
static uint8_t piece_kind(uint64_t type, flin_string text)
{
    return (uint8_t)(flin_piece_kind(type, text) & ~FLIN_SPACED);
}

/* <0x0A> only where no text is. */
static void find_byte_tokens(flin_tokenizer *tokenizer)
{
    for (uint32_t id = 0; id < tokenizer->vocab_count; id++) {
        flin_string text = flin_token_text(tokenizer, id);
        uint8_t byte = 0;
        if (!tokenizer->has_pieces && tokenizer->kinds[id] & FLIN_MERGEABLE) {
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

/* The bytes that the text of a token stands for are these. */
static int is_word(const flin_tokenizer *tokenizer, uint32_t id, const uint8_t *word, size_t bytes)
{
    flin_string text = flin_token_text(tokenizer, id);
    size_t count = 0;

    if (tokenizer->has_pieces) return text.bytes == bytes && memcmp(text.data, word, bytes) == 0;
    for (size_t at = 0; at < text.bytes; count++) {
        flin_utf8 next = flin_utf8_read((const uint8_t *)text.data + at, text.bytes - at);
        if (count == bytes || flin_byte_of_character(next.code) != word[count]) return 0;
        at += next.bytes;
    }
    return count == bytes;
}

static uint64_t hash_word(const flin_tokenizer *tokenizer, uint32_t id)
{
    flin_string text = flin_token_text(tokenizer, id);
    uint64_t hash = FLIN_HASH_BEGIN;

    for (size_t at = 0; at < text.bytes;) {
        flin_utf8 next = {(uint8_t)text.data[at], 1, FLIN_UTF8_CHARACTER};
        if (!tokenizer->has_pieces)
            next = flin_utf8_read((const uint8_t *)text.data + at, text.bytes - at);
        hash = flin_hash_byte(hash, tokenizer->has_pieces
                                        ? (uint8_t)next.code
                                        : (uint8_t)flin_byte_of_character(next.code));
        at += next.bytes;
    }
    return hash;
}

/* Tokens that words may be, by bytes. No two have the same text, so none is there twice. */
static void index_words(flin_tokenizer *tokenizer)
{
    const uint8_t wanted = FLIN_GIVES_MAPPED | FLIN_MERGEABLE;

    if (tokenizer->word_mask == 0) return;
    memset(tokenizer->words, 0, ((size_t)tokenizer->word_mask + 1) * sizeof *tokenizer->words);
    for (uint32_t id = 0; id < tokenizer->vocab_count; id++) {
        uint32_t at;
        if ((tokenizer->kinds[id] & (FLIN_GIVES_MASK | FLIN_MERGEABLE)) != wanted) continue;
        at = flin_fold_hash(hash_word(tokenizer, id));
        while (tokenizer->words[at & tokenizer->word_mask] != 0) at++;
        tokenizer->words[at & tokenizer->word_mask] = id + 1;
    }
}

/* The token that is a word; FLIN_NO_TOKEN if none is, or none is looked up. */
static uint32_t find_word(const flin_tokenizer *tokenizer, const uint8_t *word, size_t bytes)
{
    uint64_t hash = FLIN_HASH_BEGIN;
    uint32_t id;

    if (tokenizer->word_mask == 0 || bytes > tokenizer->longest_bytes) return FLIN_NO_TOKEN;
    for (size_t i = 0; i < bytes; i++) hash = flin_hash_byte(hash, word[i]);
    for (uint32_t at = flin_fold_hash(hash);; at++) {
        id = tokenizer->words[at & tokenizer->word_mask] - 1; /* empty: FLIN_NO_TOKEN */
        if (id == FLIN_NO_TOKEN || is_word(tokenizer, id, word, bytes)) return id;
    }
}

int flin_bpe_build(flin_tokenizer *tokenizer, const flin_tokenizer_keys *keys,
                   flashinfer_error *error)
{
    int code = flin_vocabulary_build(tokenizer, keys,
                                     tokenizer->has_pieces ? piece_kind : byte_kind, error);

    if (code != 0) return code;
    flin_split_read(&tokenizer->split, keys->rule);
    find_byte_tokens(tokenizer);
    index_words(tokenizer);
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

/* What a word is made of at first: its bytes; or its characters, and the bytes of those that have
   no token. A byte without a token is left out, as the models' own tokenizers do: published
   vocabularies lack some control characters. Returns how many symbols there are. */
static uint32_t begin_symbols(struct word *word, const uint8_t *text, size_t bytes)
{
    const flin_tokenizer *tokenizer = word->encoding->tokenizer;
    uint32_t count = 0;

    for (size_t at = 0; at < bytes;) {
        uint32_t token = FLIN_NO_TOKEN, length = 1;
        if (tokenizer->has_pieces) {
            length = flin_utf8_read(text + at, bytes - at).bytes;
            token = find_word(tokenizer, text + at, length);
        }
        if (token == FLIN_NO_TOKEN) {
            length = 1;
            token = (uint32_t)tokenizer->byte_tokens[text[at]]; /* -1: FLIN_NO_TOKEN */
        }
        at += length;
        if (token == FLIN_NO_TOKEN) continue;
        word->symbols[count] = (struct symbol){token, NONE, count + 1, count - 1};
        count++;
    }
    if (count != 0) word->symbols[count - 1].next = NONE;
    return count; /* the first symbol's previous is NONE, which is 0 - 1 */
}

/* Merge the symbols of a word, lowest rank first, leftmost among equals. A queue entry is stale,
   and skipped, when its rank is no longer that of its place. Each merge takes one entry and adds at
   most two, so 2 * bytes are enough. */
static int encode_word(flin_encoding *encoding, const uint8_t *text, size_t bytes)
{
    struct word word = {.encoding = encoding};
    struct symbol *symbols;
    uint32_t count, place;
    int code = reserve_symbols(&word, bytes);

    if (code != 0) return code;
    count = begin_symbols(&word, text, bytes);
    if (count == 0) return 0;
    symbols = word.symbols;
    for (place = 0; place < count; place++) queue_pair(&word, place);
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

/* As the tokenizer wants it before anything is cut: normal, or with spaces as U+2581. */
static int prepare(flin_encoding *encoding, const uint8_t **text, size_t *bytes)
{
    if (encoding->tokenizer->has_pieces)
        return flin_space_text(encoding, *text, *bytes, text, bytes);
    if ((encoding->tokenizer->split_flags & FLIN_SPLIT_NFC) == 0 ||
        flin_normalise(&encoding->normaliser, *text, *bytes, text, bytes) == 0)
        return 0;
    return flin_fail(encoding->error, FLASHINFER_ENOMEM,
                     "no memory to normalise a text of %zu bytes; break it up", *bytes);
}

int flin_bpe_encode(flin_encoding *encoding, const uint8_t *text, size_t bytes)
{
    const flin_tokenizer *tokenizer = encoding->tokenizer;
    const int looks_up = (tokenizer->split_flags & FLIN_SPLIT_WHOLE_WORDS) != 0;
    int code = prepare(encoding, &text, &bytes);
    flin_splitter splitter = {.split = &tokenizer->split, .text = text, .bytes = bytes};
    size_t word_bytes;

    while (code == 0 && (word_bytes = flin_split_next(&splitter)) != 0) {
        const uint8_t *word = text + splitter.at - word_bytes;
        uint32_t token = looks_up ? find_word(tokenizer, word, word_bytes) : FLIN_NO_TOKEN;
        if (token != FLIN_NO_TOKEN)
            flin_put_token(encoding, token);
        else
            code = encode_word(encoding, word, word_bytes);
    }
    return code;
}
