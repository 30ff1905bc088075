/*
 * tokenizer_model.h - reading tokenizer.model, SentencePiece's file: pieces, scores and types.
 *
 * Owns: the file's bytes and the bounds on them. Refuses: models that are not BPE and texts that
 * are normalised, by name (FLASHINFER_EUNSUPPORTED); files that are damaged or make no sense
 * (FLASHINFER_ECHECKPOINT).
 */
#ifndef FLIN_PACK_TOKENIZER_MODEL_H
#define FLIN_PACK_TOKENIZER_MODEL_H

#include <stdint.h>

#include "util/error.h"

#define FLIN_PIECES_MAX (1u << 22)

typedef struct flin_piece {
    const char *text; /* zero-terminated, UTF-8, not empty */
    float score;      /* not NaN */
    int32_t type;     /* FLIN_TOKEN_... */
} flin_piece;

typedef struct flin_sentencepiece {
    uint32_t count;
    int32_t bos, eos, padding; /* -1: none */
    int32_t unknown;           /* the one piece of this type */
    int adds_space;            /* before every text */
    flin_piece *pieces;        /* (count) by id */
    char *bytes;               /* of the file */
} flin_sentencepiece;

/* *model is NULL when the directory has no such file. */
int flin_sentencepiece_load(int directory, flin_sentencepiece **model, flashinfer_error *error);

/* The same from bytes[0, count), bytes[count] being writable; they become the model's, to be
   freed, even on failure. */
int flin_sentencepiece_parse(char *bytes, size_t count, flin_sentencepiece **model,
                             flashinfer_error *error);

void flin_sentencepiece_free(flin_sentencepiece *model); /* NULL is fine */

#endif
