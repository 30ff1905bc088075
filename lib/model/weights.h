/*
 * weights.h - the resident weights: embeddings, attention, norms, biases, sketches, checksums of bundles.
 *
 * Owns: where each lies in memory and in the file, and loading them. Refuses: bundles, which belong to the cache.
 */
#ifndef FLIN_MODEL_WEIGHTS_H
#define FLIN_MODEL_WEIGHTS_H

#include "model/shape.h"
#include "predictor/sketch.h"

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
    flin_sketch sketch;        /* tiles NULL when not loaded */
} flin_layer;

static inline uint32_t flin_layer_row(const flin_layer *layer, uint32_t neuron)
{
    return layer->rows != NULL ? layer->rows[neuron] : neuron;
}

/* Where a tensor's bytes go when the weights are loaded. */
typedef struct flin_load {
    const flin_gguf_tensor *tensor;
    void *data;
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
    uint64_t sketch_bytes;
} flin_weights;

/* Does the file carry a sketch for every layer? */
int flin_weights_have_sketch(const flin_gguf *gguf);

/* Find every tensor, check its type and shape, give it a place. Runs on a measuring arena for the plan (weights then
   describe nothing) and on the real one. */
int flin_weights_layout(flin_weights *weights, flin_arena *arena, const flin_gguf *gguf,
                        const flin_shape *shape, int with_sketch, flashinfer_error *error);

/* Called after every tensor with the bytes loaded so far; not 0 cancels. */
typedef int (*flin_load_progress)(uint64_t done_bytes, uint64_t total_bytes, void *user);

/* Read every tensor to its place; with verify != 0 compare its checksum. */
int flin_weights_load(flin_weights *weights, flin_storage *storage, int verify,
                      flashinfer_error *error, flin_load_progress progress, void *user);

#endif
