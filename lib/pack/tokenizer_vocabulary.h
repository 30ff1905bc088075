/*
 * tokenizer_vocabulary.h - tokens of a checkpoint by id, whatever its tokenizer files are.
 *
 * Owns: texts and types of tokens, looking them up, added and special tokens, the keys that every
 * tokenizer has. Refuses: how texts become tokens. Texts live in the files that were read.
 */
#ifndef FLIN_PACK_TOKENIZER_VOCABULARY_H
#define FLIN_PACK_TOKENIZER_VOCABULARY_H

#include "pack/gguf_write.h"
#include "pack/json.h"
#include "pack/tokenizer_export.h"
#include "util/string.h"

typedef struct flin_named_token {
    const char *text;
    int32_t id;
} flin_named_token;

typedef struct flin_text_merge {
    flin_string left;
    flin_string right;
} flin_text_merge;

typedef struct flin_vocabulary {
    uint32_t count;           /* ids, those without a token included */
    uint32_t used;            /* ids with a token */
    const char *file;         /* holds the vocabulary, for error texts */
    const char **tokens;      /* (count) NULL: no token has this id */
    int32_t *types;           /* (count) FLIN_TOKEN_... */
    flin_named_token *sorted; /* (used) by text */
    flin_text_merge *merges;  /* (merge_count) in order, or NULL */
    uint32_t merge_count;
    int32_t bos, eos, unknown, padding; /* -1: none */
    int adds_bos;                       /* -1: no file says so */
    cJSON *whole;                       /* tokenizer.json, or NULL */
    cJSON *settings;                    /* tokenizer_config.json, or NULL */
    cJSON *specials;                    /* special_tokens_map.json, or NULL */
    cJSON *added;                       /* added_tokens.json, or NULL */
} flin_vocabulary;

/* The special ids start as config.json has them. Files are read by flin_vocabulary_load(). */
void flin_vocabulary_begin(flin_vocabulary *vocab, const flin_checkpoint *checkpoint);
int flin_vocabulary_load(flin_vocabulary *vocab, int directory, flashinfer_error *error);
void flin_vocabulary_end(flin_vocabulary *vocab);

/* Room for the tokens; all are unused. */
int flin_vocabulary_reserve(flin_vocabulary *vocab, flashinfer_error *error);

/* One token. Placing the same text at its id again changes its type. */
int flin_vocabulary_place(flin_vocabulary *vocab, const char *text, uint32_t id, int32_t type,
                          flashinfer_error *error);

/* {"text": id, ...} */
int flin_vocabulary_place_table(flin_vocabulary *vocab, const cJSON *table, int32_t type,
                                flashinfer_error *error);

/* The tokens that were added to a vocabulary: those of tokenizer.json, else those of
   added_tokens.json and tokenizer_config.json. */
int flin_vocabulary_place_added(flin_vocabulary *vocab, flashinfer_error *error);

/* Once all tokens are placed: no two may have the same text. */
int flin_vocabulary_sort(flin_vocabulary *vocab, flashinfer_error *error);

/* Id of the token left + right, -1 if there is none. */
int32_t flin_vocabulary_find_joined(const flin_vocabulary *vocab, flin_string left,
                                    flin_string right);

/* The merges of tokenizer.json, or one "left right" after the other into merges, which has room.
   All three tokens of a merge must be there. */
int flin_vocabulary_read_merges(flin_vocabulary *vocab, flashinfer_error *error);
int flin_vocabulary_split_merge(flin_vocabulary *vocab, const char *line, size_t bytes,
                                flashinfer_error *error);

/* Which tokens are special: tokenizer_config.json comes first, then special_tokens_map.json, then
   what the ids were before. */
void flin_vocabulary_read_specials(flin_vocabulary *vocab);

/* adds_bos, and with it bos, from the post_processor of tokenizer.json. */
int flin_vocabulary_read_processor(flin_vocabulary *vocab, flashinfer_error *error);

/* The keys that every tokenizer has, in this order: tokens and their types; ids. */
void flin_vocabulary_put_tokens(flin_gguf_writer *writer, const flin_vocabulary *vocab);
void flin_vocabulary_put_ids(flin_gguf_writer *writer, const flin_vocabulary *vocab);

/* Something of tokenizer.json that cannot be packed. */
int flin_tokenizer_unsupported(const char *what, flashinfer_error *error);

int flin_json_is_type(const cJSON *object, const char *type); /* "type" is this */

/* A member that is neither missing, null, false, zero nor an empty text. */
int flin_json_is_set(const cJSON *object, const char *key);

#endif
