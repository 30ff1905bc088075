/*
 * tokenizer.h - text to token ids and back, by the model file's own tables: byte-level BPE (GPT-2),
 * and SentencePiece's BPE (Llama).
 *
 * Owns: vocabulary and merge tables, splitting, encoding, decoding. Refuses: files, models,
 * sampling, unigram models. Immutable after layout, so any thread may use it at any time.
 */
#ifndef FLIN_TEXT_TOKENIZER_H
#define FLIN_TEXT_TOKENIZER_H

#include "model/gguf.h"
#include "util/arena.h"

typedef struct flin_tokenizer flin_tokenizer; /* lives in an arena; see tokenizer.c */

/* Read the tokenizer.ggml.* keys and build the tables in the arena. With a measuring arena it only
   adds up what they take (*tokenizer becomes NULL) after checking the keys: a known model and pre
   (else FLASHINFER_EUNSUPPORTED), array types and lengths, vocab_count tokens, ids in range.
   Strings and scores stay in the GGUF header. Deterministic: both passes take the same bytes. */
int flin_tokenizer_layout(flin_arena *arena, const flin_gguf *gguf, uint32_t vocab_count,
                          flin_tokenizer **tokenizer, flashinfer_error *error);

/* As flashinfer_tokenize() and flashinfer_detokenize(). Scratch beyond a small stack buffer is
   taken from the heap for the length of the call. */
int flin_tokenizer_encode(const flin_tokenizer *tokenizer, const char *text, size_t text_bytes,
                          uint32_t flags, int32_t *tokens, size_t capacity, size_t *count,
                          flashinfer_error *error);
int flin_tokenizer_decode(const flin_tokenizer *tokenizer, const int32_t *tokens, size_t count,
                          char *text, size_t capacity, size_t *text_bytes, flashinfer_error *error);

/* Where in a text the next token stands, for tokenizers that put a space before a text: it is left
   out again where the text begins. */
typedef enum flin_text_position {
    FLIN_TEXT_GOES_ON,
    FLIN_TEXT_BEGINS,
    FLIN_TEXT_UNKNOWN /* begins after the bos token; goes on after one that gives bytes */
} flin_text_position;

/* The same from a position, which is moved on. flin_tokenizer_decode() begins a text. */
int flin_tokenizer_decode_at(const flin_tokenizer *tokenizer, flin_text_position *position,
                             const int32_t *tokens, size_t count, char *text, size_t capacity,
                             size_t *text_bytes, flashinfer_error *error);

/* Why a model without a tokenizer has none; returns FLASHINFER_EUNSUPPORTED. */
int flin_tokenizer_refuse(flashinfer_error *error);

int32_t flin_tokenizer_bos(const flin_tokenizer *tokenizer); /* -1: none */
int32_t flin_tokenizer_eos(const flin_tokenizer *tokenizer);
int flin_tokenizer_adds_bos(const flin_tokenizer *tokenizer);
size_t
flin_tokenizer_longest_bytes(const flin_tokenizer *tokenizer); /* no token decodes to more bytes */

#endif
