/*
 * synth_weights.h - the weights of a synthetic model: random, but with the firing statistics of a
 * real one.
 *
 * Owns: every random number, the choice of thresholds, how strongly blocks add to the residual
 * stream. Refuses: files, tensor names, element types.
 *
 * What makes a synthetic FFN fire like a real one. The residual stream begins as token embedding
 * (variance 1 - A) plus position embedding (variance A), the second a random walk that forgets in
 * about T positions. A norm brings the FFN input x to spread 1 and up rows have length 1, so every
 * neuron's pre-activation z is normal with spread 1 over the tokens, and has correlation
 * A exp(-k / T) between tokens k apart (more if they are the same token). Neuron i fires above its
 * threshold, the negative of its bias. Thresholds are normal with variance S: a few neurons fire
 * for every other token, many for hardly any.
 *
 * So z - threshold, over neurons and tokens, is normal with variance 1 + S, and its mean -m decides
 * the share that fires: m = 1.8808 sqrt(1 + S) for 3%. A predictor with a lower threshold names
 * 10%. The paper says of OPT-6.7B that 10% named become 24% cached and 2.4% newly loaded in a
 * window of 4 tokens. Sampling this process (400,000 neurons at each point of a grid of S, A and T)
 * gives a line of solutions from S = 0.3, A = 0.6 to S = 2, A = 0. Taken is its middle, where LRU
 * and decayed LFU caches of a quarter of the FFN do equally well, as they nearly do on traces of
 * trained models; at the ends one or the other is clearly ahead. There S = 1, A = 0.4 and T = 15
 * give 24.6% and 2.48%; frequent tokens that come again, and A = 0.42, take a little off both.
 *
 * Blocks add to the residual stream without changing this. FFN outputs have mean zero (the down
 * bias takes their mean away) and, over all layers, a fixed share of the embeddings' variance,
 * whatever the depth, width or number of neurons. So has attention, which is nearly uniform and
 * adds a slow mean of the context. FFNs move tokens a little apart, attention a little together.
 *
 * Up rows are sums of four of the layer's width / 32 features, plus noise of a quarter of the
 * variance: a predictor of that rank that names 10% can find about 97% of the firing neurons, and
 * neurons that share a feature fire together more often than others.
 */
#ifndef BENCH_SYNTH_WEIGHTS_H
#define BENCH_SYNTH_WEIGHTS_H

#include <stdint.h>

#include "util/error.h"

#define SYNTH_ACTIVE_SHARE 0.03      /* of the FFN, per token */
#define SYNTH_THRESHOLD_VARIANCE 1.0 /* S */
#define SYNTH_POSITION_VARIANCE 0.42 /* A */
#define SYNTH_POSITION_TOKENS 16.0   /* T */

typedef struct synth_shape {
    uint32_t layers, width, heads, neurons, vocab, context;
} synth_shape;

typedef struct synth_weights {
    synth_shape shape;
    uint64_t seed;
    uint32_t rank;     /* features of a layer */
    uint32_t layer;    /* prepared by synth_layer() */
    float down_spread; /* of down weights */
    float *threshold;  /* (neurons) ascending */
    float *mean;       /* (neurons) mean activation at that threshold */
    uint32_t *rank_of; /* (neurons) of the layer: where a neuron stands in threshold */
    float *features;   /* (rank, width) of the layer, of length about 1 */
    float *up_bias;    /* (neurons) of the layer */
    float *position;   /* (width) the position embedding made last */
} synth_weights;

/* The resident matrices; FFN parts have functions of their own. */
enum synth_matrix {
    SYNTH_TOKENS,
    SYNTH_POSITIONS, /* rows must be made in order from the first */
    SYNTH_QUERY,
    SYNTH_KEY,
    SYNTH_VALUE,
    SYNTH_OUTPUT,
    SYNTH_MATRIX_COUNT
};

/* The standard normal distribution's upper quantile: P(z > synth_upper_quantile(p)) = p */
double synth_upper_quantile(double share);

/* Allocates about rank x width and six vectors of a layer. Close it also after a failure. */
int synth_weights_open(synth_weights *weights, const synth_shape *shape, uint64_t seed,
                       flashinfer_error *error);
void synth_weights_close(synth_weights *weights);

/* rows: (count, width) of a matrix; layer 0 for embeddings */
void synth_matrix_rows(synth_weights *weights, enum synth_matrix matrix, uint32_t layer,
                       uint32_t first, uint32_t count, float *rows);

/* Begin a layer: up_bias is then known. */
void synth_layer(synth_weights *weights, uint32_t layer);

/* rows: (count, width) up rows of neurons [first, first + count) of the layer. columns: their down
   columns; mean: (width) receives what they add to the FFN's output on average. Any order, any thread.
 */
void synth_up_rows(const synth_weights *weights, uint32_t first, uint32_t count, float *rows);
void synth_down_columns(const synth_weights *weights, uint32_t first, uint32_t count,
                        float *columns, float *mean);

#endif
