/*
 * predictor.h - which neurons of a layer will fire, from the FFN input x (paper, section 3.1).
 *
 * Owns: turning x into ascending neuron ids. Refuses: reading bundles, caching them, computing with them.
 *
 *   sketch  a low-bit copy of the up matrix names the neurons; some that do not fire, hopefully none that fires is left out
 *   exact   up rows kept in memory are multiplied out, so the ids are the neurons that do fire, with their activations
 */
#ifndef FLIN_PREDICTOR_PREDICTOR_H
#define FLIN_PREDICTOR_PREDICTOR_H

#include "kernels/kernels.h"
#include "predictor/sketch.h"
#include "util/arena.h"
#include "util/pool.h"

/* Up rows of one layer's first neurons, as they stand in the bundles. */
typedef struct flin_rows {
    flin_arena memory; /* (count, row_bytes) */
    uint32_t count;
    uint32_t row_bytes;
    enum flin_type type;
} flin_rows;

typedef struct flin_predictor {
    const flin_kernels *kernels;
    flin_pool *pool;
    uint32_t width;    /* d */
    uint32_t neurons;  /* per layer */
    int8_t *levels;    /* (width rounded up to FLIN_SKETCH_BLOCK) quantised input */
    uint64_t *mask;    /* (neurons / 64) */
    float *activation; /* (neurons) exact: pre-activations */
} flin_predictor;

/* Scratch from an arena (measuring or real). */
void flin_predictor_layout(flin_predictor *predictor, flin_arena *arena,
                           const flin_kernels *kernels, flin_pool *pool, uint32_t width,
                           uint32_t neurons);

/* Write the predicted ids in ascending order, (neurons); returns how many. x: (width). */
uint32_t flin_predict_sketch(flin_predictor *predictor, const flin_sketch *sketch, const float *x,
                             uint32_t *ids);

/* Ids below rows->count that fire, ascending, and their activations: relu(up . x + bias). bias: (neurons). */
uint32_t flin_predict_exact(flin_predictor *predictor, const flin_rows *rows, const float *bias,
                            const float *x, uint32_t *ids, float *activations);

/* Was a neuron named by the last flin_predict_sketch()? For the audit. */
static inline int flin_predictor_named(const flin_predictor *predictor, uint32_t neuron)
{
    return (int)(predictor->mask[neuron / 64] >> (neuron % 64) & 1);
}

#endif
