/*
 * keys.h - the tokenizer.ggml.* keys of a model file, checked.
 *
 * Owns: which tokenizers are known, by name, and what each needs of the file. Refuses: tables.
 * Everything else relies on what is checked here: lengths, types, ids in range.
 */
#ifndef FLIN_TEXT_KEYS_H
#define FLIN_TEXT_KEYS_H

#include "model/gguf.h"
#include "text/split.h"

/* How tokens are merged. */
enum { FLIN_TOKENIZER_BPE, FLIN_TOKENIZER_SPM };

/* tokenizer.ggml.token_type */
enum {
    FLIN_TYPE_UNDEFINED = 0,
    FLIN_TYPE_NORMAL = 1,
    FLIN_TYPE_UNKNOWN = 2,
    FLIN_TYPE_CONTROL = 3,
    FLIN_TYPE_USER_DEFINED = 4,
    FLIN_TYPE_UNUSED = 5,
    FLIN_TYPE_BYTE = 6
};

typedef struct flin_tokenizer_keys {
    uint32_t model; /* FLIN_TOKENIZER_... */
    uint32_t vocab_count;
    uint32_t matched_count;      /* tokens that are found in a text before anything else */
    uint32_t byte_count;         /* tokens of type byte */
    const flin_split_rule *rule; /* bpe only, else NULL */
    const flin_gguf_value *tokens;
    const flin_gguf_value *types;  /* NULL: all normal */
    const flin_gguf_value *merges; /* bpe only, else NULL */
    const flin_gguf_value *scores; /* spm only, else NULL */
    int32_t bos, eos, unknown;     /* -1: none */
    int adds_bos;
    int has_pieces; /* tokens are characters with U+2581 for spaces, else bytes */
    int adds_space;
} flin_tokenizer_keys;

int flin_tokenizer_keys_read(const flin_gguf *gguf, uint32_t vocab_count, flin_tokenizer_keys *keys,
                             flashinfer_error *error);

uint64_t flin_tokenizer_keys_type(const flin_tokenizer_keys *keys, uint32_t id); /* FLIN_TYPE_ */

/* Tokens of this type whose text has so many bytes are looked for in texts. */
int flin_tokenizer_is_matched(uint64_t type, size_t bytes);

#endif
