/*
 * activity_measure.h - how the FFN of a model fires over a sequence of tokens.
 *
 * Owns: running the tokens and looking at every neuron's pre-activation. Refuses: timing, which the
 * library's own statistics have.
 *
 * Runs layer after layer with all tokens in each, as a prefill would, so that a layer's bundles are
 * read once and memory holds the resident weights, the KV cache and one layer's pre-activations,
 * whatever the model's size. Every number is computed by the engine's own attention and kernels in
 * the engine's order, so the activations are those of the exact predictor, bit for bit.
 */
#ifndef BENCH_ACTIVITY_MEASURE_H
#define BENCH_ACTIVITY_MEASURE_H

#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

typedef struct activity_options {
    uint32_t threads;       /* 0: as the library chooses */
    uint32_t window_tokens; /* k: tokens before the current one whose neurons are cached */
    uint32_t skip_tokens;   /* at the start that do not count; at least window_tokens */
    double named_share;     /* of the FFN that a lowered threshold is to name in every layer */
} activity_options;

/* Shares of the FFN, means over the counted tokens. */
typedef struct activity_set {
    double share;  /* in the set */
    double cached; /* in the set of this token or of one of the window_tokens before */
    double loaded; /* in this token's set and in none of those before */
} activity_set;

typedef struct activity_layer {
    activity_set active;  /* truly firing neurons */
    activity_set named;   /* neurons above a threshold lowered until named_share are */
    activity_set sketch;  /* neurons the file's sketch names; zeros without one */
    double sketch_recall; /* firing neurons that the sketch names, over all; 0 without one */
    double
        similarity; /* cosine between the FFN's inputs here and in the layer before; 0 in the first */
} activity_layer;

typedef struct activity_result {
    activity_layer *layers; /* (layer_count) */
    activity_layer mean;
    uint32_t layer_count;
    int has_sketch;
    uint64_t firing; /* neurons that fired over all tokens and layers, skipped tokens included */
} activity_result;

/* tokens: (count), count above skip_tokens. Pre-norm models without embedding projections. Release the
   result after success. */
int activity_measure(const char *path, const int32_t *tokens, uint32_t count,
                     const activity_options *options, activity_result *result,
                     flashinfer_error *error);
void activity_release(activity_result *result);

#endif
