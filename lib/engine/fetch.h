/*
 * fetch.h - getting bundles from flash: addresses become reads, what lands is checked, what is
 * damaged is read once more, what is lost is named.
 *
 * Owns: the list of reads, order on flash, checksums, the error texts of a bundle. Refuses:
 * choosing bundles, slots (cache), buffers (stream.c).
 */
#ifndef FLIN_ENGINE_FETCH_H
#define FLIN_ENGINE_FETCH_H

#include "model/bundle.h"
#include "storage/batch.h"

typedef struct flin_fetcher {
    flin_storage *storage;
    flin_batch *batch;
    const flin_bundle *bundle;
    flin_fetch *fetches; /* (fetches_max) in the order of the file */
    uint32_t *landed;    /* (fetches_max) indices of reads that have just landed */
    uint32_t fetches_max;
    uint32_t neurons;   /* of a layer */
    uint32_t verify;    /* 1: checksums of bundles are compared */
    uint64_t *wanted;   /* (neurons / 64) a bit per bundle, all clear; these three if ordered */
    uint32_t *at_place; /* (neurons) index in a list of the neuron whose bundle is there */
    uint32_t *at_list;  /* (neurons) a stream's reads: which of a chunk each is */
    uint64_t wait_ns;   /* computing stood still for flash, since open */
    uint64_t again;     /* bundles read once more because of their checksum, since open */
} flin_fetcher;

/* Its tables; bundle, neurons and limits.fetches_max are set. */
void flin_fetch_layout(flin_fetcher *fetcher, flin_arena *arena, const flin_batch_limits *limits);

/* Sort a list (count) of indices into ids, which ascends, by where the neurons' bundles lie. */
void flin_fetch_sort(flin_fetcher *fetcher, const flin_bundles *bundles, const uint32_t *ids,
                     uint32_t *list, uint32_t count);

/* Read number `index` of the batch: a neuron's payload, rounded outward, into `to`. Returns
   where in `to` the payload will begin. */
uint8_t *flin_fetch_put(flin_fetcher *fetcher, uint32_t index, const flin_extent *extent,
                        uint32_t neuron, uint8_t *to);

/* Wait for reads: flin_batch_collect() into fetcher->landed, its time counted as waiting. */
int flin_fetch_collect(flin_fetcher *fetcher, uint32_t *landed, uint32_t *failed,
                       flashinfer_error *error);

/* Begin reading the first `count` fetches, the time counted as waiting. */
int flin_fetch_begin(flin_fetcher *fetcher, uint32_t count, flashinfer_error *error);

/* Does a neuron's payload match its checksums? Parts that were left out are not compared. */
int flin_fetch_intact(const flin_fetcher *fetcher, const flin_extent *extent, uint32_t neuron,
                      const uint8_t *payload);

/* Read a damaged payload once more, where it lies; a second mismatch is final. */
int flin_fetch_again(flin_fetcher *fetcher, const flin_extent *extent, uint32_t neuron,
                     uint8_t *payload, flashinfer_error *error);

/* Say in *error which neuron a failed read was for; returns code. */
int flin_fetch_lost(const flin_extent *extent, uint32_t neuron, int code, flashinfer_error *error);

/* One part of neurons [first, first + count) from the file as floats: (count, width). buffer:
   (buffer_bytes) at least a stride long. */
int flin_fetch_part(flin_fetcher *fetcher, const flin_kernels *kernels, const flin_extent *extent,
                    const flin_part *part, uint32_t first, uint32_t count, uint32_t width,
                    uint8_t *buffer, uint32_t buffer_bytes, float *to, flashinfer_error *error);

#endif
