/*
 * placing.h - the steps that lay out weights share: find a tensor, check it, give it a place.
 *
 * Owns: shapes and types asked for, and the first refusal, which stands. Refuses: names. Only
 * weights.c and predictors.c include it.
 */
#ifndef FLIN_MODEL_PLACING_H
#define FLIN_MODEL_PLACING_H

#include "model/names.h"
#include "model/weights.h"

typedef struct flin_placing {
    flin_weights *weights;
    flin_arena *arena;
    const flin_gguf *gguf; /* tensors are looked for here: the model, or a predictor file */
    const flin_gguf *model;
    const flin_shape *shape;
    const flin_predictor_choice *predictors;
    flashinfer_error *error;
    int code; /* of the first refusal; after it nothing more is placed */
} flin_placing;

void flin_placing_refuse(flin_placing *in, int code, const char *format, ...) FLIN_PRINTF(3, 4);

/* How the sentence about a tensor that is not as wanted ends: by the file it should be in. */
const char *flin_placing_advice(const flin_placing *in);

/* The tensor of that name if it has these dimensions (fastest first), else NULL and a refusal. */
const flin_gguf_tensor *flin_placing_want(flin_placing *in, const char *name, uint64_t dimension0,
                                          uint64_t dimension1);

/* Give a tensor its place in memory and note it for loading. */
void *flin_placing_place(flin_placing *in, const flin_gguf_tensor *tensor);

flin_matrix flin_placing_matrix(flin_placing *in, const char *name, uint32_t rows, uint32_t cols);
const float *flin_placing_vector(flin_placing *in, const char *name, uint32_t count);

/* A tensor of one GGUF type that is no matrix, not yet placed; NULL after a refusal. */
const flin_gguf_tensor *flin_placing_want_type(flin_placing *in, const char *name, uint32_t type,
                                               uint64_t dimension0, uint64_t dimension1);

/* What names a layer's neurons, from whichever file it is in. */
void flin_placing_predictor(flin_placing *in, flin_layer_predictor *predictor, uint32_t layer);

#endif
