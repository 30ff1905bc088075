/*
 * neurons.h - arithmetic over lists of neurons whose bundles are at hand, for the rows of a narrow
 * pass.
 *
 * Owns: activations of listed neurons, sums of their down columns. Refuses: slots, reads, choosing.
 * Every activation is computed on its own, and a sum runs over the list in its order with the
 * threads sharing the columns: neither arrival nor threads nor other rows change a bit.
 */
#ifndef FLIN_ENGINE_NEURONS_H
#define FLIN_ENGINE_NEURONS_H

#include "cache/cache.h"
#include "engine/compute.h"
#include "engine/stream.h"
#include "predictor/predictor.h"

/* Bundles at hand: neuron ids[i] has its payload at payloads[i], from extent->skip_bytes on. */
typedef struct flin_neurons {
    const flin_ffn_layer *ffn;
    const flin_bundle *bundle;
    const flin_extent *extent;
    const uint32_t *ids;
    const uint8_t *const *payloads;
    uint8_t *damaged; /* by index: 1 where a checksum differs */
    uint64_t step;    /* of values and fires, from one row to the next */
    float *values;    /* (rows, step) by index: what down columns are multiplied with */
    uint8_t *fires;   /* (rows, step) by index */
    uint32_t width;   /* d */
} flin_neurons;

/* Who asks: the rows' inputs, and which neurons each named. */
typedef struct flin_asking_rows {
    uint32_t count;
    const void *x[FLIN_INPUTS_MAX]; /* as dot_rows of the bundles' type takes them */
    const uint64_t *masks;          /* (count, words) named neurons; NULL: all, in every row */
    uint32_t words;
    const float *sums; /* (count, neurons) deciding sums, bias included; NULL: to be computed */
    uint32_t neurons;
} flin_asking_rows;

/* What the calling thread does beside the computing. */
typedef struct flin_beside {
    flin_batch *reads; /* handed over and pushed on; NULL: none */
    flin_cache *cache; /* told that ids[0 .. used) are wanted; NULL: it knows */
    uint32_t used;
    /* ns in which reads were handed over while nothing was left to compute, or in which the cache
       was told while no other thread computed: results */
    uint64_t idle_ns;
} flin_beside;

/* Can activations be had before the bundles are there? */
int flin_neurons_need_no_bytes(const flin_neurons *neurons, const flin_asking_rows *rows);

/* values and fires of the indices in list (count), for every row; those a row did not name do
   not fire in it. checker: compare checksums first, and return how many bundles are damaged;
   NULL: do not. beside may be NULL. */
uint32_t flin_neurons_activate(flin_compute *compute, const flin_neurons *neurons,
                               const flin_asking_rows *rows, const uint32_t *list, uint32_t count,
                               const flin_fetcher *checker, flin_beside *beside);

/* Compare the checksums of all of a chunk, where they are compared at all; damaged bundles are read
   again. */
int flin_neurons_check(flin_compute *compute, flin_fetcher *fetcher, flin_stream *stream,
                       const flin_chunk *chunk, flashinfer_error *error);

/* Room for a sum's list. */
typedef struct flin_sum_lists {
    const void **rows; /* as many as neurons */
    float *values;
} flin_sum_lists;

/* y[row] (width) += sum over i < count of value * down column of what fires, in order of i. Returns
   how many fired, over all rows. */
uint32_t flin_neurons_sum(flin_compute *compute, const flin_neurons *neurons, uint32_t rows,
                          uint32_t count, const flin_sum_lists *lists, float *y);

#endif
