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
    const void *data; /* (held, cols) row-major */
    uint32_t rows;    /* 0: the model has no such matrix */
    uint32_t cols;
    uint32_t held; /* first matrix rows, which memory holds; the others are read for every pass */
    enum flin_type type;
    const flin_gguf_tensor *tensor; /* where it lies in the file */
} flin_matrix;

/* Matrix rows that memory does not hold. */
static inline uint32_t flin_matrix_streams(const flin_matrix *matrix)
{
    return FLIN_PLAIN ? matrix->rows - matrix->held : 0;
}

static inline int flin_matrix_is_there(const flin_matrix *matrix)
{
    return matrix->rows != 0;
}

typedef struct flin_linear {
    flin_matrix weight; /* (outputs, inputs) */
    const float *bias;  /* (outputs) or NULL */
} flin_linear;

typedef struct flin_norm {
    enum flin_norm_kind kind;
    float epsilon;
    uint32_t width;
    const float *weight; /* (width) */
    const float *bias;   /* (width); NULL with FLIN_NORM_RMS */
} flin_norm;

/* The norms of a block, each where it stands; those of kind NONE are not there. */
typedef struct flin_norms {
    flin_norm before; /* of the block's input */
    flin_norm output; /* of what it adds to the residual stream */
    flin_norm after;  /* of the residual stream, once it has been added */
} flin_norms;

typedef struct flin_attention_layer {
    uint32_t heads;
    uint32_t kv_heads; /* query head i meets keys and values of head i / (heads / kv_heads) */
    uint32_t head_width;
    float scale;            /* of queries */
    float cap;              /* of scores; 0: none */
    uint32_t window;        /* positions that are met, the row's own included; 0: all */
    uint32_t local;         /* 1: heads turn by the rotary base of layers with a window */
    flin_rotary rotary;     /* of queries and keys */
    flin_linear query;      /* (heads * head_width, width) */
    flin_linear key, value; /* (kv_heads * head_width, width), right behind in this struct */
    flin_linear output;     /* (width, heads * head_width) */
    flin_norm query_norm, key_norm; /* of every head, before it turns */
} flin_attention_layer;

/* Where the bundles of a layer lie in the file, and what they are checked against. */
typedef struct flin_bundles {
    uint64_t offset;       /* of the first in the file */
    const uint64_t *sums;  /* (neurons, part_count) XXH3-64, in the order of bundles */
    const uint32_t *order; /* (neurons) which bundle is a neuron's; NULL: the one of its number */
} flin_bundles;

typedef struct flin_ffn_layer {
    uint32_t neurons;
    uint32_t gated; /* 1: activation(gate . x) * (up . x); 0: activation(up . x) */
    flin_activation_rule activation;
    const float *gate_bias; /* (neurons) or NULL */
    const float *up_bias;   /* (neurons) or NULL */
    const float *down_bias; /* (width) or NULL */
    flin_bundles bundles;   /* files in flash layout */
    flin_matrix
        parts[FLIN_PART_ROLES]; /* others: gate, up (neurons, width), down (width, neurons) */
} flin_ffn_layer;

/* Of the sums that decide which neurons fire; NULL: none. */
static inline const float *flin_ffn_decider_bias(const flin_ffn_layer *ffn)
{
    return ffn->gated ? ffn->gate_bias : ffn->up_bias;
}

/* A layer as data: attention and FFN, each with its norms, in the order that forward() has. */
typedef struct flin_layer {
    flin_norms attention_norms;
    flin_attention_layer attention;
    flin_norms ffn_norms;
    flin_ffn_layer ffn;
    uint32_t parallel; /* 1: the FFN does not see what attention adds */
    flin_layer_predictor predictor;
} flin_layer;

/* The norm whose output is the FFN's input: its own, or else the one behind attention. */
static inline const flin_norm *flin_layer_ffn_input(const flin_layer *layer)
{
    return layer->ffn_norms.before.kind != FLIN_NORM_NONE ? &layer->ffn_norms.before
                                                          : &layer->attention_norms.after;
}

/* Which of a layer's bundles is a neuron's. */
static inline uint32_t flin_bundles_index(const flin_bundles *bundles, uint32_t neuron)
{
    return bundles->order != NULL ? bundles->order[neuron] : neuron;
}

/* Where a tensor's bytes go when the weights are loaded. */
typedef struct flin_load {
    const flin_gguf_tensor *tensor;
    void *data;
    int from_predictors; /* the tensor is in the predictor file */
} flin_load;

typedef struct flin_weights {
    flin_matrix token_embedding;    /* (vocab, token_width) */
    flin_matrix position_embedding; /* (context, width), absent where positions are not learned */
    const float *rotary_slowdown;   /* (pairs of a head) what each turns slower by; NULL: nothing */
    flin_linear project_in;         /* (width, token_width), absent unless they differ */
    flin_linear project_out;        /* (token_width, width) */
    flin_norm output_norm;          /* before the logits */
    flin_linear output; /* (vocab, token_width); its weight is the token embedding when tied */
    flin_layer *layers; /* (shape.layers), the caller's */
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

/* Where a layer's bundles begin in the file; 0: it has none. */
uint64_t flin_weights_bundle_offset(const flin_gguf *gguf, uint32_t layer);

/* Which predictors to load, and the file they are in. */
typedef struct flin_predictor_choice {
    const flin_gguf *gguf; /* the model's own, or a predictor file's */
    uint32_t kind;         /* SKETCH, LOWRANK, MIXED; 0: none */
    uint32_t reserved;
} flin_predictor_choice;

/* Find every tensor, check its type and shape, give it a place. weights->layers is set. Runs on a
   measuring arena for the plan (no data then) and on the real one. */
int flin_weights_layout(flin_weights *weights, flin_arena *arena, const flin_gguf *gguf,
                        const flin_shape *shape, const flin_predictor_choice *predictors,
                        flashinfer_error *error);

/* Called after every tensor with the bytes loaded so far; not 0 cancels. */
typedef int (*flin_load_progress)(uint64_t done_bytes, uint64_t total_bytes, void *user);

/* Read every tensor to its place; with verify != 0 compare its checksum. predictors: the storage
   of the predictor file, or the model's own. */
int flin_weights_load(flin_weights *weights, flin_storage *storage, flin_storage *predictors,
                      int verify, flashinfer_error *error, flin_load_progress progress, void *user);

/* XXH3-64 of the checksums of all rows that decide (gate where the FFN is gated, else up) and of
   their biases, neuron by neuron: what a predictor file says it was made for. The weights must be
   loaded. */
uint64_t flin_weights_identity(const flin_weights *weights, const flin_shape *shape);

/* The type of token embeddings, which matrices that stay in memory are packed with; 0: unknown. */
int flin_weights_resident_type(const flin_gguf *gguf, const flin_shape *shape,
                               enum flin_type *type);

/* Numbers the model was trained to: of tensors and bundles, but not of predictors. */
uint64_t flin_weights_parameters(const flin_gguf *gguf, const flin_shape *shape);

#endif
