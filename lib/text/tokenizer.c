/*
 * tokenizer.c - byte-level BPE over tables that are built once and never change.
 *
 * Follows Hugging Face tokenizers wherever that is defined for the input: lowest rank first and
 * leftmost among equals, of a pair that is listed twice the later rank counts, added tokens are
 * found leftmost and longest. User-defined tokens are always found, since they are text; control
 * tokens only with FLASHINFER_TOKENIZE_SPECIAL, and no merge ever makes one (such merges are left
 * out), so that plain text cannot steer a model.
 */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "text/byte_alphabet.h"
#include "text/queue.h"
#include "text/split.h"

#define MERGES_MAX (1u << 27)
#define MATCHED_BYTES_MAX 512u /* of a control or user-defined token: bounds the search in a text */
#define STACK_SYMBOLS 96u
#define NONE UINT32_MAX

/* tokenizer.ggml.token_type */
enum {
    TYPE_UNDEFINED = 0,
    TYPE_NORMAL = 1,
    TYPE_UNKNOWN = 2,
    TYPE_CONTROL = 3,
    TYPE_USER_DEFINED = 4,
    TYPE_UNUSED = 5,
    TYPE_BYTE = 6
};

/* what a token is here: one way to become bytes, and flags */
enum {
    GIVES_NOTHING = 0,
    GIVES_MAPPED = 1, /* text in GPT-2's byte alphabet */
    GIVES_RAW = 2,    /* text as it stands */
    GIVES_BYTE = 3,   /* <0x0A> */
    GIVES_MASK = 3,
    MATCHED_ALWAYS = 4,
    MATCHED_SPECIAL = 8, /* only with FLASHINFER_TOKENIZE_SPECIAL */
    MATCHED_MASK = 12,
    MERGEABLE = 16
};

struct merge {
    uint32_t left, right, result;
};

/* The table holds tokens by text (1 + id) while merges are being named, then merges by pair. */
struct flin_tokenizer {
    const uint8_t *texts; /* elements of tokenizer.ggml.tokens, in the GGUF header */
    uint32_t *offsets;    /* (vocab_count) where in texts */
    uint8_t *kinds;       /* (vocab_count) */
    struct merge *merges; /* (merge_count) by rank */
    uint32_t *table;      /* (table_mask + 1) 1 + rank by pair, 0: empty */
    uint32_t *matched;    /* (matched_count) ids of tokens found in text, sorted by their bytes */
    uint32_t vocab_count;
    uint32_t merge_count;
    uint32_t table_mask;
    uint32_t matched_count;
    int32_t bos, eos, unknown; /* -1: none */
    int adds_bos;
    size_t longest_bytes;       /* of a token's text */
    int32_t byte_tokens[256];   /* -1: none */
    uint8_t matched_first[256]; /* flags of the tokens in matched that begin with this byte */
};

/* ---- keys of the file ---- */

struct keys {
    const flin_gguf_value *tokens, *merges;
    const flin_gguf_value *types; /* NULL: all normal */
    uint32_t vocab_count;
    uint32_t matched_count;
    int32_t bos, eos, unknown;
    int adds_bos;
};

/* Require a string key to have the one value this tokenizer implements. */
static int require_text(const flin_gguf *gguf, const char *key, const char *wanted,
                        flashinfer_error *error)
{
    flin_string value;
    char shown[32];
    size_t bytes;
    int code = flin_gguf_string(gguf, key, &value, error);

    if (code != 0 || flin_string_is(value, wanted)) return code;
    bytes = value.bytes < sizeof shown - 1 ? value.bytes : sizeof shown - 1;
    for (size_t i = 0; i < bytes; i++)
        shown[i] = (char)(value.data[i] >= ' ' && value.data[i] <= '~' ? value.data[i] : '?');
    shown[bytes] = 0;
    return flin_fail(
        error, FLASHINFER_EUNSUPPORTED,
        "%s is \"%s\", this build knows only \"%s\"; FLASHINFER_OPEN_NO_TOKENIZER opens "
        "the model without text",
        key, shown, wanted);
}

static int bad_key(const char *key, const char *what, flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EFORMAT, "metadata key %s %s; pack the model again", key,
                     what);
}

static int find_array(const flin_gguf *gguf, const char *key, uint32_t type, uint64_t count_max,
                      const flin_gguf_value **array, flashinfer_error *error)
{
    const flin_gguf_value *value = flin_gguf_find(gguf, key);

    if (value == NULL || !value->is_array) return bad_key(key, "is missing or not an array", error);
    if (value->type != type)
        return bad_key(key,
                       type == FLIN_GGUF_VALUE_STRING ? "is not an array of strings"
                                                      : "is not an array of 32-bit numbers",
                       error);
    if (value->count > count_max || value->bytes > UINT32_MAX)
        return bad_key(key, "has more elements than any tokenizer needs", error);
    *array = value;
    return 0;
}

static int check_count(const char *key, uint64_t count, uint32_t vocab_count,
                       flashinfer_error *error)
{
    if (count == vocab_count) return 0;
    return flin_fail(error, FLASHINFER_EFORMAT,
                     "metadata key %s has %llu elements for a vocabulary of %u; pack it again", key,
                     (unsigned long long)count, vocab_count);
}

/* A token id under an optional key; -1 if absent. */
static int read_id(const flin_gguf *gguf, const char *key, uint32_t vocab_count, int32_t *id,
                   flashinfer_error *error)
{
    uint64_t number;
    int code;

    *id = -1;
    if (flin_gguf_find(gguf, key) == NULL) return 0;
    code = flin_gguf_u64(gguf, key, &number, error);
    if (code != 0) return code;
    if (number >= vocab_count) return bad_key(key, "names a token outside the vocabulary", error);
    *id = (int32_t)number;
    return 0;
}

static int read_flag(const flin_gguf *gguf, const char *key, int *flag, flashinfer_error *error)
{
    const flin_gguf_value *value = flin_gguf_find(gguf, key);

    *flag = 0;
    if (value == NULL) return 0;
    if (value->is_array || value->type != FLIN_GGUF_VALUE_BOOL)
        return bad_key(key, "is not a truth value", error);
    *flag = value->data[0] != 0;
    return 0;
}

static uint64_t type_of(const struct keys *keys, uint32_t id)
{
    return keys->types != NULL ? flin_gguf_element_u64(keys->types, id) : TYPE_NORMAL;
}

static int is_matched(uint64_t type, size_t bytes)
{
    return bytes != 0 &&
           (type == TYPE_CONTROL || type == TYPE_USER_DEFINED || type == TYPE_UNKNOWN);
}

/* Check every token's type and count those that are found in text. */
static int check_tokens(struct keys *keys, flashinfer_error *error)
{
    const uint8_t *cursor = keys->tokens->data;

    for (uint32_t id = 0; id < keys->vocab_count; id++) {
        uint64_t type = type_of(keys, id);
        flin_string text = flin_gguf_next_string(&cursor);
        if (type > TYPE_BYTE)
            return flin_fail(error, FLASHINFER_EFORMAT,
                             "token %u has the unknown type %lld; pack the model again", id,
                             (long long)type);
        if (!is_matched(type, text.bytes)) continue;
        if (text.bytes > MATCHED_BYTES_MAX)
            return flin_fail(error, FLASHINFER_EFORMAT,
                             "token %u is a control or user-defined token of %zu bytes, %u are the "
                             "most; pack the model again",
                             id, text.bytes, MATCHED_BYTES_MAX);
        keys->matched_count++;
    }
    return 0;
}

static int read_arrays(const flin_gguf *gguf, struct keys *keys, flashinfer_error *error)
{
    static const char *const tokens = "tokenizer.ggml.tokens";
    static const char *const types = "tokenizer.ggml.token_type";
    static const char *const merges = "tokenizer.ggml.merges";
    const uint32_t string = FLIN_GGUF_VALUE_STRING, number = FLIN_GGUF_VALUE_I32;
    int code;

    if ((code = find_array(gguf, tokens, string, INT32_MAX, &keys->tokens, error)) != 0 ||
        (code = check_count(tokens, keys->tokens->count, keys->vocab_count, error)) != 0 ||
        (code = find_array(gguf, merges, string, MERGES_MAX, &keys->merges, error)) != 0)
        return code;
    if (flin_gguf_find(gguf, types) != NULL &&
        ((code = find_array(gguf, types, number, INT32_MAX, &keys->types, error)) != 0 ||
         (code = check_count(types, keys->types->count, keys->vocab_count, error)) != 0))
        return code;
    return check_tokens(keys, error);
}

static int read_ids(const flin_gguf *gguf, struct keys *keys, flashinfer_error *error)
{
    int32_t padding;
    struct {
        const char *key;
        int32_t *id;
    } ids[] = {{"tokenizer.ggml.bos_token_id", &keys->bos},
               {"tokenizer.ggml.eos_token_id", &keys->eos},
               {"tokenizer.ggml.unknown_token_id", &keys->unknown},
               {"tokenizer.ggml.padding_token_id", &padding}};

    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        int code = read_id(gguf, ids[i].key, keys->vocab_count, ids[i].id, error);
        if (code != 0) return code;
    }
    return 0;
}

static int read_keys(const flin_gguf *gguf, uint32_t vocab_count, struct keys *keys,
                     flashinfer_error *error)
{
    int code, adds_space;

    memset(keys, 0, sizeof *keys);
    keys->vocab_count = vocab_count;
    if ((code = require_text(gguf, "tokenizer.ggml.model", "gpt2", error)) != 0 ||
        (code = require_text(gguf, "tokenizer.ggml.pre", "gpt-2", error)) != 0 ||
        (code = read_arrays(gguf, keys, error)) != 0 || (code = read_ids(gguf, keys, error)) != 0 ||
        (code = read_flag(gguf, "tokenizer.ggml.add_bos_token", &keys->adds_bos, error)) != 0 ||
        (code = read_flag(gguf, "tokenizer.ggml.add_space_prefix", &adds_space, error)) != 0)
        return code;
    if (adds_space)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "tokenizer.ggml.add_space_prefix is true, which this build does not know; "
                         "FLASHINFER_OPEN_NO_TOKENIZER opens the model without text");
    if (keys->adds_bos && keys->bos < 0)
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "tokenizer.ggml.add_bos_token is true but tokenizer.ggml.bos_token_id is "
                         "missing; pack the model again");
    return 0;
}

/* ---- texts of tokens ---- */

static flin_string text_of(const flin_tokenizer *tokenizer, uint32_t id)
{
    const uint8_t *cursor = tokenizer->texts + tokenizer->offsets[id];
    return flin_gguf_next_string(&cursor);
}

static uint8_t kind_of(uint64_t type, flin_string text)
{
    switch (type) {
    case TYPE_USER_DEFINED:
        return (uint8_t)(GIVES_RAW | (is_matched(type, text.bytes) ? MATCHED_ALWAYS : 0) |
                         (flin_is_visible_ascii(text) ? MERGEABLE : 0));
    case TYPE_CONTROL:
    case TYPE_UNKNOWN:
        return GIVES_NOTHING | (is_matched(type, text.bytes) ? MATCHED_SPECIAL : 0);
    case TYPE_BYTE:
        if (flin_named_byte(text) >= 0) return GIVES_BYTE;
        break;
    case TYPE_UNDEFINED:
    case TYPE_UNUSED:
        return GIVES_NOTHING;
    default:
        break;
    }
    return flin_map_text(text, NULL, 0) >= 0 ? GIVES_MAPPED | MERGEABLE : GIVES_RAW;
}

/* ---- building tables ---- */

/* FNV-1a: the hash of two texts in a row is that of their concatenation. */
static uint64_t hash_text(uint64_t hash, flin_string text)
{
    for (size_t i = 0; i < text.bytes; i++) hash = (hash ^ (uint8_t)text.data[i]) * 0x100000001b3u;
    return hash;
}

#define HASH_BEGIN 0xcbf29ce484222325u

static uint32_t fold(uint64_t hash)
{
    hash ^= hash >> 32;
    hash *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(hash >> 32);
}

/* Where the token whose text is left followed by right stands in the table, or the empty place for
 * it. */
static uint32_t *find_text(const flin_tokenizer *tokenizer, flin_string left, flin_string right)
{
    uint32_t at = fold(hash_text(hash_text(HASH_BEGIN, left), right));

    for (;; at++) {
        uint32_t *entry = &tokenizer->table[at & tokenizer->table_mask];
        flin_string text;
        if (*entry == 0) return entry;
        text = text_of(tokenizer, *entry - 1);
        if (text.bytes == left.bytes + right.bytes &&
            memcmp(text.data, left.data, left.bytes) == 0 &&
            memcmp(text.data + left.bytes, right.data, right.bytes) == 0)
            return entry;
    }
}

static uint32_t *find_pair(const flin_tokenizer *tokenizer, uint32_t left, uint32_t right)
{
    uint32_t at = fold(((uint64_t)left << 32 | right) * 0xd6e8feb86659fd93u);

    for (;; at++) {
        uint32_t *entry = &tokenizer->table[at & tokenizer->table_mask];
        const struct merge *merge;
        if (*entry == 0) return entry;
        merge = &tokenizer->merges[*entry - 1];
        if (merge->left == left && merge->right == right) return entry;
    }
}

/* Fill offsets, kinds and byte tokens, and the table with every token by its text. Unused tokens
   and tokens without text cannot be told apart and need not be; any other text may stand there only
   once. */
static int build_vocabulary(flin_tokenizer *tokenizer, const struct keys *keys,
                            flashinfer_error *error)
{
    const uint8_t *cursor = keys->tokens->data;

    memset(tokenizer->byte_tokens, 0xff, sizeof tokenizer->byte_tokens);
    for (uint32_t id = 0; id < tokenizer->vocab_count; id++) {
        uint64_t type = type_of(keys, id);
        uint32_t *entry;
        flin_string text;
        tokenizer->offsets[id] = (uint32_t)(cursor - keys->tokens->data);
        text = flin_gguf_next_string(&cursor);
        tokenizer->kinds[id] = kind_of(type, text);
        if (text.bytes > tokenizer->longest_bytes) tokenizer->longest_bytes = text.bytes;
        if (text.bytes == 0 || type == TYPE_UNUSED || type == TYPE_UNDEFINED) continue;
        entry = find_text(tokenizer, text, (flin_string){text.data, 0});
        if (*entry != 0)
            return flin_fail(
                error, FLASHINFER_EFORMAT,
                "tokens %u and %u of tokenizer.ggml.tokens have the same text; pack the "
                "model again",
                *entry - 1, id);
        *entry = id + 1;
    }
    for (uint32_t id = 0; id < tokenizer->vocab_count; id++) { /* <0x0A> only where no text is */
        flin_string text = text_of(tokenizer, id);
        uint8_t byte = 0;
        if (tokenizer->kinds[id] & MERGEABLE) {
            if (flin_map_text(text, &byte, 1) == 1) tokenizer->byte_tokens[byte] = (int32_t)id;
        } else if ((tokenizer->kinds[id] & GIVES_MASK) == GIVES_BYTE) {
            int32_t *named = &tokenizer->byte_tokens[flin_named_byte(text)];
            if (*named < 0) *named = (int32_t)id;
        }
    }
    return 0;
}

static int bad_merge(uint32_t rank, const char *what, flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EFORMAT,
                     "merge %u of tokenizer.ggml.merges %s; pack the model again", rank, what);
}

/* Name the three tokens of every merge by id, while the table still knows texts. */
static int read_merges(flin_tokenizer *tokenizer, const struct keys *keys, flashinfer_error *error)
{
    const uint8_t *cursor = keys->merges->data;

    for (uint32_t rank = 0; rank < tokenizer->merge_count; rank++) {
        struct merge *merge = &tokenizer->merges[rank];
        flin_string text = flin_gguf_next_string(&cursor), left, right, none = {text.data, 0};
        const char *space = text.bytes != 0 ? memchr(text.data, ' ', text.bytes) : NULL;
        if (space == NULL) return bad_merge(rank, "is not two tokens", error);
        left = (flin_string){text.data, (size_t)(space - text.data)};
        right = (flin_string){space + 1, text.bytes - left.bytes - 1};
        if (left.bytes == 0 || right.bytes == 0 || memchr(right.data, ' ', right.bytes) != NULL)
            return bad_merge(rank, "is not two tokens", error);
        merge->left = *find_text(tokenizer, left, none) - 1;
        merge->right = *find_text(tokenizer, right, none) - 1;
        merge->result = *find_text(tokenizer, left, right) - 1;
        if (merge->left == NONE || merge->right == NONE)
            return bad_merge(rank, "joins a token that is not in the vocabulary", error);
        if (merge->result == NONE)
            return bad_merge(rank, "makes a token that is not in the vocabulary", error);
    }
    return 0;
}

/* From here on the table knows pairs. */
static void build_merges(flin_tokenizer *tokenizer)
{
    memset(tokenizer->table, 0, ((size_t)tokenizer->table_mask + 1) * sizeof *tokenizer->table);
    for (uint32_t rank = 0; rank < tokenizer->merge_count; rank++) {
        const struct merge *merge = &tokenizer->merges[rank];
        if (tokenizer->kinds[merge->left] & tokenizer->kinds[merge->right] &
            tokenizer->kinds[merge->result] & MERGEABLE)
            *find_pair(tokenizer, merge->left, merge->right) = rank + 1;
    }
}

static int text_before(const flin_tokenizer *tokenizer, uint32_t a, uint32_t b)
{
    flin_string one = text_of(tokenizer, a), two = text_of(tokenizer, b);
    size_t common = one.bytes < two.bytes ? one.bytes : two.bytes;
    int order = memcmp(one.data, two.data, common);

    return order != 0 ? order < 0 : one.bytes < two.bytes;
}

/* Part of heapsort: let matched[root] sink in the heap of the first count entries, last text on
 * top. */
static void sink_matched(flin_tokenizer *tokenizer, uint32_t root, uint32_t count)
{
    uint32_t *ids = tokenizer->matched, moving = ids[root];

    for (;;) {
        uint64_t child = 2 * (uint64_t)root + 1;
        if (child >= count) break;
        if (child + 1 < count && text_before(tokenizer, ids[child], ids[child + 1])) child++;
        if (!text_before(tokenizer, moving, ids[child])) break;
        ids[root] = ids[child];
        root = (uint32_t)child;
    }
    ids[root] = moving;
}

static void build_matched(flin_tokenizer *tokenizer)
{
    uint32_t count = 0;

    for (uint32_t id = 0; id < tokenizer->vocab_count; id++) {
        uint8_t flags = tokenizer->kinds[id] & MATCHED_MASK;
        if (flags == 0) continue;
        tokenizer->matched[count++] = id;
        tokenizer->matched_first[(uint8_t)text_of(tokenizer, id).data[0]] |= flags;
    }
    for (uint32_t root = count / 2; root-- > 0;) sink_matched(tokenizer, root, count);
    for (uint32_t last = count; last-- > 1;) {
        uint32_t top = tokenizer->matched[0];
        tokenizer->matched[0] = tokenizer->matched[last];
        tokenizer->matched[last] = top;
        sink_matched(tokenizer, 0, last);
    }
}

/* A power of two with room for both uses of the table, at most two thirds full. */
static uint64_t table_entries(const struct keys *keys)
{
    uint64_t most =
        keys->vocab_count > keys->merges->count ? keys->vocab_count : keys->merges->count;
    uint64_t entries = 16;

    while (entries < most + most / 2 + 1) entries *= 2;
    return entries;
}

int flin_tokenizer_layout(flin_arena *arena, const flin_gguf *gguf, uint32_t vocab_count,
                          flin_tokenizer **tokenizer, flashinfer_error *error)
{
    struct keys keys;
    flin_tokenizer *made, tables;
    int code;

    *tokenizer = NULL;
    code = read_keys(gguf, vocab_count, &keys, error);
    if (code != 0) return code;
    tables = (flin_tokenizer){.texts = keys.tokens->data,
                              .vocab_count = vocab_count,
                              .merge_count = (uint32_t)keys.merges->count,
                              .table_mask = (uint32_t)(table_entries(&keys) - 1),
                              .matched_count = keys.matched_count,
                              .bos = keys.bos,
                              .eos = keys.eos,
                              .unknown = keys.unknown,
                              .adds_bos = keys.adds_bos};
    made = FLIN_TAKE(arena, flin_tokenizer, 1);
    tables.table = FLIN_TAKE(arena, uint32_t, (uint64_t)tables.table_mask + 1);
    tables.merges = FLIN_TAKE(arena, struct merge, tables.merge_count);
    tables.offsets = FLIN_TAKE(arena, uint32_t, vocab_count);
    tables.matched = FLIN_TAKE(arena, uint32_t, tables.matched_count);
    tables.kinds = FLIN_TAKE(arena, uint8_t, vocab_count);
    if (arena->base == NULL) return 0;

    *made = tables;
    if ((code = build_vocabulary(made, &keys, error)) != 0 ||
        (code = read_merges(made, &keys, error)) != 0)
        return code;
    build_merges(made);
    build_matched(made);
    *tokenizer = made;
    return 0;
}

/* ---- text to tokens ---- */

struct symbol {
    uint32_t token;
    uint32_t rank;           /* of the merge with the next symbol; NONE: there is none */
    uint32_t next, previous; /* NONE at the ends */
};

/* Scratch of one call: for words up to STACK_SYMBOLS bytes on the stack, else on the heap. */
struct encoding {
    const flin_tokenizer *tokenizer;
    const uint8_t *text; /* all of it, for places in messages */
    int32_t *tokens;     /* (capacity) */
    size_t capacity;
    size_t count;           /* tokens so far, also those beyond capacity */
    struct symbol *symbols; /* (symbol_count) */
    uint64_t *queue; /* (2 * symbol_count) binary heap of rank << 32 | place, smallest on top */
    size_t symbol_count;
    size_t queued;
    void *heap; /* what must be freed, or NULL */
    flashinfer_error *error;
};

static void put_token(struct encoding *encoding, uint32_t token)
{
    if (encoding->count < encoding->capacity) encoding->tokens[encoding->count] = (int32_t)token;
    encoding->count++;
}

static int reserve_symbols(struct encoding *encoding, size_t count)
{
    const size_t each_bytes = sizeof(struct symbol) + 2 * sizeof(uint64_t);
    size_t grown = count > 2 * encoding->symbol_count ? count : 2 * encoding->symbol_count;
    void *heap;

    if (count <= encoding->symbol_count) return 0;
    heap = grown <= SIZE_MAX / each_bytes ? malloc(grown * each_bytes) : NULL;
    if (heap == NULL)
        return flin_fail(encoding->error, FLASHINFER_ENOMEM,
                         "no memory to tokenise a word of %zu bytes; break the text up", count);
    free(encoding->heap);
    encoding->heap = heap;
    encoding->symbol_count = grown;
    encoding->queue = heap;
    encoding->symbols = (struct symbol *)(void *)(encoding->queue + 2 * grown);
    return 0;
}

/* Look up the merge of the symbol at place with its next one and put it in line. */
static void queue_pair(struct encoding *encoding, uint32_t place)
{
    struct symbol *symbol = &encoding->symbols[place];

    symbol->rank = NONE;
    if (symbol->next == NONE) return;
    symbol->rank =
        *find_pair(encoding->tokenizer, symbol->token, encoding->symbols[symbol->next].token) - 1;
    if (symbol->rank != NONE)
        flin_queue_push(encoding->queue, &encoding->queued, (uint64_t)symbol->rank << 32 | place);
}

/* The token of one byte; NONE, with the error told, if the vocabulary has none. */
static uint32_t token_of_byte(struct encoding *encoding, const uint8_t *byte)
{
    int32_t token = encoding->tokenizer->byte_tokens[*byte];

    if (token < 0) token = encoding->tokenizer->unknown;
    if (token < 0)
        (void)flin_fail(encoding->error, FLASHINFER_ETOKEN,
                        "the vocabulary has no token for byte 0x%02x at offset %zu of the text",
                        *byte, (size_t)(byte - encoding->text));
    return (uint32_t)token; /* NONE if negative */
}

/* Merge the bytes of a word, lowest rank first, leftmost among equals. A queue entry is stale, and
   skipped, when its rank is no longer that of its place. Each merge takes one entry and adds at
   most two, so 2 * bytes are enough. */
static int encode_word(struct encoding *encoding, const uint8_t *word, size_t bytes)
{
    struct symbol *symbols;
    uint32_t place;
    int code = reserve_symbols(encoding, bytes);

    if (code != 0) return code;
    symbols = encoding->symbols;
    for (place = 0; place < bytes; place++) {
        symbols[place].token = token_of_byte(encoding, word + place);
        if (symbols[place].token == NONE) return FLASHINFER_ETOKEN;
        symbols[place].previous = place == 0 ? NONE : place - 1;
        symbols[place].next = place + 1 == bytes ? NONE : place + 1;
    }
    for (place = 0; place < bytes; place++) queue_pair(encoding, place);
    while (encoding->queued > 0) {
        uint64_t key = flin_queue_pop(encoding->queue, &encoding->queued);
        struct symbol *left = &symbols[(uint32_t)key], *right;
        if (left->rank != key >> 32) continue;
        place = (uint32_t)key;
        right = &symbols[left->next];
        left->token = encoding->tokenizer->merges[left->rank].result;
        left->next = right->next;
        right->rank = NONE;
        if (left->next != NONE) symbols[left->next].previous = place;
        queue_pair(encoding, place);
        if (left->previous != NONE) queue_pair(encoding, left->previous);
    }
    for (place = 0; place != NONE; place = symbols[place].next)
        put_token(encoding, symbols[place].token);
    return 0;
}

static int encode_plain(struct encoding *encoding, const uint8_t *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        size_t word_bytes = flin_split_next(text + at, bytes - at);
        int code = encode_word(encoding, text + at, word_bytes);
        if (code != 0) return code;
        at += word_bytes;
    }
    return 0;
}

/* First entry in matched[low, high), which agree in their first depth bytes and are longer than
   that, whose next byte is at least `byte`. */
static uint32_t matched_from(const flin_tokenizer *tokenizer, uint32_t low, uint32_t high,
                             size_t depth, unsigned byte)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((uint8_t)text_of(tokenizer, tokenizer->matched[middle]).data[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest token of those wanted that stands at the beginning of text; NONE if none does. */
static uint32_t match_token(const flin_tokenizer *tokenizer, const uint8_t *text, size_t bytes,
                            uint8_t wanted)
{
    uint32_t low = 0, high = tokenizer->matched_count, best = NONE;

    for (size_t depth = 0; low < high; depth++) {
        uint32_t first = tokenizer->matched[low];
        if (text_of(tokenizer, first).bytes ==
            depth) { /* the shortest of the range, so sorted first */
            if (tokenizer->kinds[first] & wanted) best = first;
            low++;
        }
        if (depth == bytes) break;
        low = matched_from(tokenizer, low, high, depth, text[depth]);
        high = matched_from(tokenizer, low, high, depth, text[depth] + 1u);
    }
    return best;
}

static int encode_text(struct encoding *encoding, size_t bytes, uint8_t wanted)
{
    const flin_tokenizer *tokenizer = encoding->tokenizer;
    const uint8_t *text = encoding->text;
    size_t plain = 0, at = 0; /* text from plain to at is not tokenised yet */
    int code;

    while (at < bytes) {
        uint32_t token = NONE;
        if (tokenizer->matched_first[text[at]] & wanted)
            token = match_token(tokenizer, text + at, bytes - at, wanted);
        if (token == NONE) {
            at++;
            continue;
        }
        code = encode_plain(encoding, text + plain, at - plain);
        if (code != 0) return code;
        put_token(encoding, token);
        at += text_of(tokenizer, token).bytes;
        plain = at;
    }
    return encode_plain(encoding, text + plain, bytes - plain);
}

int flin_tokenizer_encode(const flin_tokenizer *tokenizer, const char *text, size_t text_bytes,
                          uint32_t flags, int32_t *tokens, size_t capacity, size_t *count,
                          flashinfer_error *error)
{
    struct symbol stack_symbols[STACK_SYMBOLS];
    uint64_t stack_queue[2 * STACK_SYMBOLS];
    struct encoding encoding = {.tokenizer = tokenizer,
                                .text = (const uint8_t *)(text_bytes != 0 ? text : ""),
                                .tokens = tokens,
                                .capacity = capacity,
                                .symbols = stack_symbols,
                                .queue = stack_queue,
                                .symbol_count = STACK_SYMBOLS,
                                .error = error};
    uint8_t wanted = MATCHED_ALWAYS;
    int code;

    *count = 0;
    if ((flags & ~(uint32_t)(FLASHINFER_TOKENIZE_BOS | FLASHINFER_TOKENIZE_SPECIAL)) != 0)
        return flin_fail(error, FLASHINFER_EINVAL, "flags 0x%x are not known to tokenize", flags);
    if (text_bytes > INT32_MAX)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "the text has %zu bytes, 2 GiB are the most; tokenise it in pieces",
                         text_bytes);
    if ((flags & FLASHINFER_TOKENIZE_SPECIAL) != 0) wanted |= MATCHED_SPECIAL;
    if ((flags & FLASHINFER_TOKENIZE_BOS) != 0 && tokenizer->adds_bos)
        put_token(&encoding, (uint32_t)tokenizer->bos);
    code = encode_text(&encoding, text_bytes, wanted);
    free(encoding.heap);
    if (code != 0) return code;
    *count = encoding.count;
    if (encoding.count > capacity)
        return flin_fail(error, FLASHINFER_EBUFFER, "the text has %zu tokens, the buffer holds %zu",
                         encoding.count, capacity);
    return 0;
}

/* ---- tokens to text ---- */

/* Bytes of a token, at most capacity of them written; returns how many there are. */
static size_t decode_token(const flin_tokenizer *tokenizer, uint32_t id, uint8_t *bytes,
                           size_t capacity)
{
    flin_string text = text_of(tokenizer, id);

    switch (tokenizer->kinds[id] & GIVES_MASK) {
    case GIVES_MAPPED:
        return (size_t)flin_map_text(text, bytes, capacity);
    case GIVES_RAW:
        if (capacity != 0 && text.bytes != 0)
            memcpy(bytes, text.data, text.bytes < capacity ? text.bytes : capacity);
        return text.bytes;
    case GIVES_BYTE:
        if (capacity != 0) bytes[0] = (uint8_t)flin_named_byte(text);
        return 1;
    default:
        return 0;
    }
}

int flin_tokenizer_decode(const flin_tokenizer *tokenizer, const int32_t *tokens, size_t count,
                          char *text, size_t capacity, size_t *text_bytes, flashinfer_error *error)
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
        used += decode_token(tokenizer, (uint32_t)tokens[i], place,
                             used < capacity ? capacity - used : 0);
    }
    *text_bytes = used;
    if (used > capacity)
        return flin_fail(error, FLASHINFER_EBUFFER, "the text has %zu bytes, the buffer holds %zu",
                         used, capacity);
    return 0;
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
