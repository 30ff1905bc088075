/*
 * predictor.h - which neurons of a layer will fire, from the FFN input x (paper, section 3.1).
 *
 * Owns: turning inputs into names, one kind of predictor a layer. Refuses: reading bundles, caching
 * them, computing with them.
 *
 *   all      names nothing: every bundle is streamed
 *   exact    deciding matrix rows kept in memory are multiplied out: the names are what may fire
 *   sketch   a low-bit copy of the deciding matrix names what may fire, and some that does not
 *   lowrank  two thin factors do
 *
 * The deciding matrix is gate where the FFN is gated, else up.
 */
#ifndef FLIN_PREDICTOR_PREDICTOR_H
#define FLIN_PREDICTOR_PREDICTOR_H

#include "flashinfer.h"
#include "kernels/kernels.h"
#include "predictor/lowrank.h"
#include "predictor/sketch.h"
#include "util/arena.h"
#include "util/pool.h"

/* Deciding matrix rows of a layer's first neurons, as they stand in the bundles. */
typedef struct flin_kept {
    flin_arena memory; /* (count, row_bytes) */
    uint32_t count;
    uint32_t row_bytes;
    enum flin_type type;
} flin_kept;

/* What names a layer's neurons. */
typedef struct flin_layer_predictor {
    uint32_t kind; /* FLASHINFER_PREDICTOR_SKETCH, _LOWRANK, _EXACT, _ALL */
    uint32_t reserved;
    flin_sketch sketch; /* of its kind only, and so on */
    flin_lowrank lowrank;
    flin_kept kept; /* exact */
} flin_layer_predictor;

/* Scratch of the layer being named. One layer at a time. */
typedef struct flin_predictor {
    const flin_kernels *kernels;
    flin_pool *pool;
    uint32_t width;   /* d */
    uint32_t neurons; /* per layer */
    uint32_t inputs_max;
    uint32_t words; /* of a mask */
    uint32_t levels_bytes;
    int8_t *levels;  /* (inputs_max, levels_bytes) quantised inputs of a sketch */
    uint64_t *masks; /* (inputs_max, words) */
    uint64_t *any;   /* (words) what any input names; the first mask where one input is all */
    float *hidden;   /* (inputs_max, rank_max) low-rank */
    uint32_t rank_max;
    float *sums; /* (inputs_max, neurons) deciding sums (exact), scores (low-rank) */
} flin_predictor;

/* The inputs of a layer's FFN, one a row of the pass. */
typedef struct flin_predictor_input {
    uint32_t count;
    const float *x[FLIN_INPUTS_MAX];    /* (width) */
    const void *taken[FLIN_INPUTS_MAX]; /* the same as matvec of the deciding rows takes it */
    const float *bias;                  /* (neurons) of deciding sums, or NULL: for exact */
    float threshold;                    /* exact: sums above it fire */
} flin_predictor_input;

/* What was named. Masks live in the predictor until it names again. */
typedef struct flin_names {
    uint32_t count;         /* of ids: neurons that any row names */
    uint32_t streamed_from; /* bundles from here on are to be computed without being named */
    const uint64_t *masks;  /* (inputs, words) by row */
    uint32_t words;
    const float *sums; /* (inputs, neurons) deciding sums, or NULL: not known yet */
    uint32_t named;    /* over all rows */
} flin_names;

/* One kind of predictor: what the engine must know of it, and what it does. */
typedef struct flin_predictor_kind {
    const char *name;
    uint32_t caches; /* 1: named bundles are kept in slots */
    uint32_t misses; /* 1: neurons that fire may be left out */
    uint32_t keeps;  /* 1: deciding matrix rows are kept in memory, apart from slots */
    /* May a layer's be used? Else FLASHINFER_EFORMAT. NULL: always */
    int (*check)(const flin_layer_predictor *layer, const flin_kernels *kernels, int index,
                 flashinfer_error *error);
    /* What naming will read first. NULL: nothing is known */
    flin_ahead (*ahead)(const flin_layer_predictor *layer);
    /* Fill masks, or sums and masks; names->streamed_from. NULL: names nothing */
    void (*name_neurons)(flin_predictor *predictor, const flin_layer_predictor *layer,
                         const flin_predictor_input *input, flin_names *names);
} flin_predictor_kind;

extern const flin_predictor_kind flin_predictor_all, flin_predictor_exact, flin_predictor_sketch,
    flin_predictor_lowrank;

/* The kind of a number; of MIXED, whose layers differ, one that stands for what they share. */
const flin_predictor_kind *flin_predictor_kind_of(uint32_t number);

/* Scratch from an arena (measuring or real), for a model run with `kind`. rank_max: of its low-rank
   layers, 0 without any. inputs_max: at most FLIN_INPUTS_MAX. */
void flin_predictor_layout(flin_predictor *predictor, flin_arena *arena,
                           const flin_predictor_kind *kind, uint32_t rank_max);

/* Names for every row: ids (neurons) receives what any of them names, ascending. */
flin_names flin_predictor_name(flin_predictor *predictor, const flin_layer_predictor *layer,
                               const flin_predictor_input *input, uint32_t *ids);

/* Does a row's mask have a neuron? */
static inline int flin_mask_has(const uint64_t *mask, uint32_t neuron)
{
    return (int)(mask[neuron / 64] >> (neuron % 64) & 1);
}

#endif
