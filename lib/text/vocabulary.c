/*
 * vocabulary.c - tokens by text, and those that are found in a text before any merging: leftmost
 * and longest.
 */
#include <string.h>

#include "text/tables.h"

static const uint8_t underline[3] = {0xe2, 0x96, 0x81}; /* U+2581, as spm writes spaces */

/* ---- by text ---- */

static uint64_t hash_text(uint64_t hash, flin_string text)
{
    for (size_t i = 0; i < text.bytes; i++) hash = flin_hash_byte(hash, (uint8_t)text.data[i]);
    return hash;
}

uint32_t flin_fold_hash(uint64_t hash)
{
    hash ^= hash >> 32;
    hash *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(hash >> 32);
}

/* Where the token whose text is left followed by right stands in the table, or the empty place for
 * it. */
static uint32_t *find_text(const flin_tokenizer *tokenizer, flin_string left, flin_string right)
{
    uint32_t at = flin_fold_hash(hash_text(hash_text(FLIN_HASH_BEGIN, left), right));

    for (;; at++) {
        uint32_t *entry = &tokenizer->table[at & tokenizer->table_mask];
        flin_string text;
        if (*entry == 0) return entry;
        text = flin_token_text(tokenizer, *entry - 1);
        if (text.bytes == left.bytes + right.bytes &&
            memcmp(text.data, left.data, left.bytes) == 0 &&
            memcmp(text.data + left.bytes, right.data, right.bytes) == 0)
            return entry;
    }
}

uint32_t flin_vocabulary_find(const flin_tokenizer *tokenizer, flin_string left, flin_string right)
{
    return *find_text(tokenizer, left, right) - 1; /* empty: FLIN_NO_TOKEN */
}

/* Unused tokens and tokens without text cannot be told apart and need not be; any other text may
   stand there only once. */
int flin_vocabulary_build(flin_tokenizer *tokenizer, const flin_tokenizer_keys *keys,
                          uint8_t (*kind_of)(uint64_t type, flin_string text),
                          flashinfer_error *error)
{
    const uint8_t *cursor = keys->tokens->data;

    memset(tokenizer->byte_tokens, 0xff, sizeof tokenizer->byte_tokens);
    for (uint32_t id = 0; id < tokenizer->vocab_count; id++) {
        uint64_t type = flin_tokenizer_keys_type(keys, id);
        uint32_t *entry;
        flin_string text;
        tokenizer->offsets[id] = (uint32_t)(cursor - keys->tokens->data);
        text = flin_gguf_next_string(&cursor);
        tokenizer->kinds[id] = kind_of(type, text);
        if (text.bytes > tokenizer->longest_bytes) tokenizer->longest_bytes = text.bytes;
        if (text.bytes == 0 || type == FLIN_TYPE_UNUSED || type == FLIN_TYPE_UNDEFINED) continue;
        entry = find_text(tokenizer, text, (flin_string){text.data, 0});
        if (*entry != 0)
            return flin_fail(
                error, FLASHINFER_EFORMAT,
                "tokens %u and %u of tokenizer.ggml.tokens have the same text; pack the "
                "model again",
                *entry - 1, id);
        *entry = id + 1;
    }
    return 0;
}

/* ---- found in a text ---- */

/* The text by which a token is found: its own, or with every space as U+2581. */
static size_t matched_bytes(const flin_tokenizer *tokenizer, uint32_t id)
{
    flin_string text = flin_token_text(tokenizer, id);
    size_t bytes = text.bytes;

    for (size_t i = 0; i < text.bytes && (tokenizer->kinds[id] & FLIN_SPACED) != 0; i++)
        bytes += text.data[i] == ' ' ? sizeof underline - 1 : 0;
    return bytes;
}

static uint8_t matched_byte(const flin_tokenizer *tokenizer, uint32_t id, size_t at)
{
    flin_string text = flin_token_text(tokenizer, id);

    if ((tokenizer->kinds[id] & FLIN_SPACED) == 0) return (uint8_t)text.data[at];
    for (size_t i = 0;; i++) {
        size_t bytes = text.data[i] == ' ' ? sizeof underline : 1;
        if (at < bytes) return bytes == 1 ? (uint8_t)text.data[i] : underline[at];
        at -= bytes;
    }
}

static int text_before(const flin_tokenizer *tokenizer, uint32_t a, uint32_t b)
{
    size_t one = matched_bytes(tokenizer, a), two = matched_bytes(tokenizer, b);

    for (size_t i = 0; i < one && i < two; i++) {
        uint8_t left = matched_byte(tokenizer, a, i), right = matched_byte(tokenizer, b, i);
        if (left != right) return left < right;
    }
    return one < two;
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

void flin_vocabulary_build_matched(flin_tokenizer *tokenizer)
{
    uint32_t count = 0;

    for (uint32_t id = 0; id < tokenizer->vocab_count; id++) {
        uint8_t flags = tokenizer->kinds[id] & FLIN_MATCHED_MASK;
        if (flags == 0) continue;
        tokenizer->matched[count++] = id;
        tokenizer->matched_first[matched_byte(tokenizer, id, 0)] |= flags;
    }
    for (uint32_t root = count / 2; root-- > 0;) sink_matched(tokenizer, root, count);
    for (uint32_t last = count; last-- > 1;) {
        uint32_t top = tokenizer->matched[0];
        tokenizer->matched[0] = tokenizer->matched[last];
        tokenizer->matched[last] = top;
        sink_matched(tokenizer, 0, last);
    }
}

/* First entry in matched[low, high), which agree in their first depth bytes and are longer than
   that, whose next byte is at least `byte`. */
static uint32_t matched_from(const flin_tokenizer *tokenizer, uint32_t low, uint32_t high,
                             size_t depth, unsigned byte)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (matched_byte(tokenizer, tokenizer->matched[middle], depth) < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest token of those wanted that stands at the beginning of text; FLIN_NO_TOKEN if none
 * does. Tokens of one length in the range have the same text. */
static uint32_t match_token(const flin_tokenizer *tokenizer, const uint8_t *text, size_t bytes,
                            uint8_t wanted)
{
    uint32_t low = 0, high = tokenizer->matched_count, best = FLIN_NO_TOKEN;

    for (size_t depth = 0; low < high; depth++) {
        /* the shortest of the range are sorted first */
        while (low < high && matched_bytes(tokenizer, tokenizer->matched[low]) == depth) {
            uint32_t id = tokenizer->matched[low++];
            if (tokenizer->kinds[id] & wanted) best = id;
        }
        if (depth == bytes) break;
        low = matched_from(tokenizer, low, high, depth, text[depth]);
        high = matched_from(tokenizer, low, high, depth, text[depth] + 1u);
    }
    return best;
}

int flin_cut_text(flin_encoding *encoding, const uint8_t *text, size_t bytes, uint8_t wanted,
                  int (*plain)(flin_encoding *encoding, const uint8_t *text, size_t bytes))
{
    const flin_tokenizer *tokenizer = encoding->tokenizer;
    size_t from = 0, at = 0; /* text from `from` to at is not tokenised yet */
    int code;

    while (at < bytes) {
        uint32_t token = FLIN_NO_TOKEN;
        if (tokenizer->matched_first[text[at]] & wanted)
            token = match_token(tokenizer, text + at, bytes - at, wanted);
        if (token == FLIN_NO_TOKEN) {
            at++;
            continue;
        }
        code = plain(encoding, text + from, at - from);
        if (code != 0) return code;
        flin_put_token(encoding, token);
        at += matched_bytes(tokenizer, token);
        from = at;
    }
    return plain(encoding, text + from, bytes - from);
}
