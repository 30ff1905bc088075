/*
 * weights.h - the resident weights: embeddings, attention, norms, biases, predictors, checksums of
 * bundles.
 *
 * Owns: where each lies in memory and in the file, and loading them. Refuses: bundles, which belong
 * to the cache.
 */
#ifndef FLIN_MODEL_WEIGHTS_H
#define FLIN_MODEL_WEIGHTS_H

#include "model/shape.h"
#include "predictor/predictor.h"

#define FLIN_PREDICTOR_VERSION 1u /* of predictor files */

typedef struct flin_matrix {
    const void *data; /* (rows, cols) row-major; NULL: the model has no such matrix */
    uint32_t rows;
    uint32_t cols;
    enum flin_type type;
} flin_matrix;

typedef struct flin_linear {
    flin_matrix weight; /* (outputs, inputs) */
    const float *bias;  /* (outputs) or NULL */
} flin_linear;

typedef struct flin_norm {
    const float *weight; /* (width) */
    const float *bias;
} flin_norm;

typedef struct flin_layer {
    flin_norm attention_norm;
    flin_linear query, key, value, output;
    flin_norm ffn_norm;
    const float *up_bias;      /* (ffn) */
    const float *down_bias;    /* (width) */
    const uint64_t *part_sums; /* (ffn, part_count) XXH3-64, in the order of bundles */
    const uint32_t *rows;      /* (ffn) which bundle is a neuron's; NULL: the one of its number */
    uint64_t bundle_offset;    /* of the first bundle in the file */
    flin_layer_predictor predictor;
} flin_layer;

static inline uint32_t flin_layer_row(const flin_layer *layer, uint32_t neuron)
{
    return layer->rows != NULL ? layer->rows[neuron] : neuron;
}

/* Where a tensor's bytes go when the weights are loaded. */
typedef struct flin_load {
    const flin_gguf_tensor *tensor;
    void *data;
    int from_predictors; /* the tensor is in the predictor file */
} flin_load;

typedef struct flin_weights {
    flin_matrix token_embedding;    /* (vocab, token_width) */
    flin_matrix position_embedding; /* (context, width) */
    flin_linear project_in;         /* (width, token_width), absent unless they differ */
    flin_linear project_out;        /* (token_width, width) */
    flin_norm output_norm;
    flin_matrix output; /* (vocab, token_width); the token embedding when tied */
    flin_layer *layers; /* (shape.layers) */
    flin_load *loads;
    uint32_t load_count;
    uint32_t loads_max;
    uint64_t load_bytes;
    uint64_t predictor_bytes;
    uint32_t rank_max; /* of low-rank predictors; 0: there are none */
} flin_weights;

/* The kind of predictor a file carries: FLASHINFER_PREDICTOR_SKETCH, _LOWRANK, _MIXED, or 0:
   none. A layer that has both counts as a sketch. */
uint32_t flin_weights_predictor(const flin_gguf *gguf, uint32_t layers);

/* Does every layer have the tensors of this kind (SKETCH or LOWRANK)? */
int flin_weights_have(const flin_gguf *gguf, uint32_t layers, uint32_t kind);

/* Which predictors to load, and the file they are in. */
typedef struct flin_predictor_choice {
    const flin_gguf *gguf; /* the model's own, or a predictor file's */
    uint32_t kind;         /* SKETCH, LOWRANK, MIXED; 0: none */
    uint32_t reserved;
} flin_predictor_choice;

/* Find every tensor, check its type and shape, give it a place. Runs on a measuring arena for
   the plan (weights then describe nothing but sizes) and on the real one. */
int flin_weights_layout(flin_weights *weights, flin_arena *arena, const flin_gguf *gguf,
                        const flin_shape *shape, const flin_predictor_choice *predictors,
                        flashinfer_error *error);

/* Called after every tensor with the bytes loaded so far; not 0 cancels. */
typedef int (*flin_load_progress)(uint64_t done_bytes, uint64_t total_bytes, void *user);

/* Read every tensor to its place; with verify != 0 compare its checksum. predictors: the storage
   of the predictor file, or the model's own. */
int flin_weights_load(flin_weights *weights, flin_storage *storage, flin_storage *predictors,
                      int verify, flashinfer_error *error, flin_load_progress progress, void *user);

/* XXH3-64 of the checksums of all up rows and of their biases, neuron by neuron: what a
   predictor file says it was made for. The weights must be loaded. */
uint64_t flin_weights_identity(const flin_weights *weights, const flin_shape *shape);

#endif
