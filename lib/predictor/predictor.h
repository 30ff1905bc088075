/*
 * predictor.h - which neurons of a layer will fire, from the FFN input x (paper, section 3.1).
 *
 * Owns: turning x into ascending neuron ids. Refuses: reading bundles, caching them, computing with
 * them.
 *
 *   sketch  a low-bit copy of the up matrix names the neurons; some that do not fire, hopefully
 *           none that fires is left out
 *   lowrank two thin factors do
 *   exact   up rows kept in memory are multiplied out, so the ids are the neurons that do fire,
 *           with their activations
 */
#ifndef FLIN_PREDICTOR_PREDICTOR_H
#define FLIN_PREDICTOR_PREDICTOR_H

#include "flashinfer.h"
#include "kernels/kernels.h"
#include "predictor/lowrank.h"
#include "predictor/sketch.h"
#include "util/arena.h"
#include "util/pool.h"

/* What names a layer's neurons: one of the two. */
typedef struct flin_layer_predictor {
    uint32_t kind; /* FLASHINFER_PREDICTOR_SKETCH, _LOWRANK, or 0: not loaded */
    uint32_t reserved;
    flin_sketch sketch;
    flin_lowrank lowrank;
} flin_layer_predictor;

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
    float *hidden;     /* (rank_max) low-rank */
    float *activation; /* (neurons) exact: pre-activations; low-rank: scores */
} flin_predictor;

/* Scratch from an arena (measuring or real). rank_max: of the low-rank layers, 0 without any. */
void flin_predictor_layout(flin_predictor *predictor, flin_arena *arena,
                           const flin_kernels *kernels, flin_pool *pool, uint32_t width,
                           uint32_t neurons, uint32_t rank_max);

/* May this layer's predictor be used? Else FLASHINFER_EFORMAT. */
int flin_layer_predictor_check(const flin_layer_predictor *layer, const flin_kernels *kernels,
                               int index, flashinfer_error *error);

/* What flin_predict_named() will read first. */
flin_ahead flin_predictor_ahead(const flin_layer_predictor *layer);

/* Write the predicted ids in ascending order, (neurons); returns how many. x: (width). */
uint32_t flin_predict_named(flin_predictor *predictor, const flin_layer_predictor *layer,
                            const float *x, uint32_t *ids);

/* Ids below rows->count that fire, ascending, and their activations: relu(up . x + bias). bias:
   (neurons); x: as matvec of rows->type takes it. */
uint32_t flin_predict_exact(flin_predictor *predictor, const flin_rows *rows, const float *bias,
                            const void *x, uint32_t *ids, float *activations);

/* Was a neuron named by the last flin_predict_named()? For the audit. */
static inline int flin_predictor_named(const flin_predictor *predictor, uint32_t neuron)
{
    return (int)(predictor->mask[neuron / 64] >> (neuron % 64) & 1);
}

#endif
