/*
 * tables.h - what a tokenizer is made of, for the files of lib/text that fill and read it.
 *
 * Owns: struct flin_tokenizer, the vocabulary that every kind of tokenizer has (vocabulary.c), the
 * scratch of one call. Refuses: algorithms; those are bpe.c and spm.c.
 */
#ifndef FLIN_TEXT_TABLES_H
#define FLIN_TEXT_TABLES_H

#include "text/keys.h"
#include "text/normal.h"
#include "text/scratch.h"
#include "text/split.h"
#include "text/tokenizer.h"

#define FLIN_NO_TOKEN UINT32_MAX

/* What a token is here: one way to become bytes, and flags. */
enum {
    FLIN_GIVES_NOTHING = 0,
    FLIN_GIVES_MAPPED = 1, /* text in GPT-2's byte alphabet; of pieces: U+2581 is a space */
    FLIN_GIVES_RAW = 2,    /* text as it stands */
    FLIN_GIVES_BYTE = 3,   /* <0x0A> */
    FLIN_GIVES_MASK = 3,
    FLIN_MATCHED_ALWAYS = 4,
    FLIN_MATCHED_SPECIAL = 8, /* only with FLASHINFER_TOKENIZE_SPECIAL */
    FLIN_MATCHED_MASK = 12,
    FLIN_MERGEABLE = 16,
    FLIN_SPACED = 32 /* of pieces: a user-defined text with spaces, which are matched as U+2581 */
};

struct flin_merge {
    uint32_t left, right, result;
};

/* All of it lies in one arena, except texts and scores, which stay in the GGUF header. The table
   holds tokens by text (1 + id); bpe.c then replaces them by merges by pair (1 + rank). */
struct flin_tokenizer {
    const uint8_t *texts;      /* elements of tokenizer.ggml.tokens */
    const uint8_t *scores;     /* spm: (vocab_count) float32, not aligned */
    uint32_t *offsets;         /* (vocab_count) where in texts */
    uint8_t *kinds;            /* (vocab_count) FLIN_GIVES_..., and flags */
    struct flin_merge *merges; /* bpe: (merge_count) by rank */
    uint32_t *table;           /* (table_mask + 1) 0: empty */
    uint32_t *words;           /* bpe: (word_mask + 1) 1 + id by the bytes of a word, 0: empty */
    uint32_t *matched;         /* (matched_count) ids of tokens found in text, by their bytes */
    uint32_t model;            /* FLIN_TOKENIZER_... */
    uint32_t vocab_count;
    uint32_t merge_count;
    uint32_t table_mask;
    uint32_t word_mask; /* 0: no word is looked up whole */
    uint32_t matched_count;
    int32_t bos, eos, unknown; /* -1: none */
    int adds_bos;
    int has_pieces;             /* tokens are characters with U+2581 for spaces, else bytes */
    int adds_space;             /* spm: before every text */
    int has_bytes;              /* spm: every byte has a token */
    int begins_words;           /* spm: U+2581 only begins tokens, so texts are cut before it */
    size_t longest_bytes;       /* of a token's text */
    int32_t byte_tokens[256];   /* -1: none */
    uint8_t matched_first[256]; /* flags of the tokens in matched that begin with this byte */
    uint32_t split_flags;       /* bpe: FLIN_SPLIT_... */
    flin_split split;           /* bpe */
};

/* ---- the vocabulary ---- */

static inline flin_string flin_token_text(const flin_tokenizer *tokenizer, uint32_t id)
{
    const uint8_t *cursor = tokenizer->texts + tokenizer->offsets[id];
    return flin_gguf_next_string(&cursor);
}

uint32_t flin_fold_hash(uint64_t hash);

/* FNV-1a, begun with FLIN_HASH_BEGIN: the hash of two texts in a row is that of both. */
#define FLIN_HASH_BEGIN 0xcbf29ce484222325u

static inline uint64_t flin_hash_byte(uint64_t hash, uint8_t byte)
{
    return (hash ^ byte) * 0x100000001b3u;
}

/* While the table holds texts: the token whose text is left followed by right, or FLIN_NO_TOKEN. */
uint32_t flin_vocabulary_find(const flin_tokenizer *tokenizer, flin_string left, flin_string right);

/* Fill offsets, kinds and the table. kind_of() says what a token is. */
int flin_vocabulary_build(flin_tokenizer *tokenizer, const flin_tokenizer_keys *keys,
                          uint8_t (*kind_of)(uint64_t type, flin_string text),
                          flashinfer_error *error);

/* Fill matched and matched_first from kinds. */
void flin_vocabulary_build_matched(flin_tokenizer *tokenizer);

/* ---- one call ---- */

typedef struct flin_encoding {
    const flin_tokenizer *tokenizer;
    const uint8_t *text; /* all of it */
    int32_t *tokens;     /* (capacity) */
    size_t capacity;
    size_t count;         /* tokens so far, also those beyond capacity */
    int after_unknown;    /* spm: the last token stands for characters without one */
    flin_scratch symbols; /* of a word */
    flin_scratch spaced;  /* of pieces: a text with its spaces as U+2581 */
    flin_normaliser normaliser;
    flashinfer_error *error;
} flin_encoding;

static inline void flin_put_token(flin_encoding *encoding, uint32_t token)
{
    if (encoding->count < encoding->capacity) encoding->tokens[encoding->count] = (int32_t)token;
    encoding->count++;
    encoding->after_unknown = 0;
}

/* Put the wanted tokens (FLIN_MATCHED_...) that stand in a text, leftmost and longest, and hand
   what lies between them to plain(), which also gets nothing where two of them touch. */
int flin_cut_text(flin_encoding *encoding, const uint8_t *text, size_t bytes, uint8_t wanted,
                  int (*plain)(flin_encoding *encoding, const uint8_t *text, size_t bytes));

/* A text as pieces have it: spaces as U+2581, one more in front where the tokenizer wants it. */
int flin_space_text(flin_encoding *encoding, const uint8_t *text, size_t bytes,
                    const uint8_t **spaced, size_t *spaced_bytes);

/* What a token of a vocabulary of pieces is. */
uint8_t flin_piece_kind(uint64_t type, flin_string text);

/* ---- the algorithms ---- */

/* Fill what only they have, from keys that were checked. */
int flin_bpe_build(flin_tokenizer *tokenizer, const flin_tokenizer_keys *keys,
                   flashinfer_error *error);
int flin_spm_build(flin_tokenizer *tokenizer, const flin_tokenizer_keys *keys,
                   flashinfer_error *error);

/* Tokens of a text in which no control token is looked for any more. For bpe user-defined tokens
   neither; spm finds those itself. */
int flin_bpe_encode(flin_encoding *encoding, const uint8_t *text, size_t bytes);
int flin_spm_encode(flin_encoding *encoding, const uint8_t *text, size_t bytes);

#endif
