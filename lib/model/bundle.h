/*
 * bundle.h - where bundles lie in a file, and which bytes of each are fetched.
 *
 * Owns: addresses. Refuses: reading.
 */
#ifndef FLIN_MODEL_BUNDLE_H
#define FLIN_MODEL_BUNDLE_H

#include "model/weights.h"
#include "util/arena.h"

/* What is fetched of a layer's bundles: all of each, or all but a part at one end. */
typedef struct flin_extent {
    const flin_bundles *bundles;
    uint32_t layer;
    uint32_t stride_bytes; /* from one bundle to the next */
    uint32_t skip_bytes;   /* left out at a bundle's beginning */
    uint32_t bytes;        /* fetched after that: the payload */
    uint32_t alignment;    /* reads are rounded outward to it */
} flin_extent;

/* All of each bundle; without != FLIN_PART_ROLES: that part is left out where it lies at an end. */
flin_extent flin_extent_of(const flin_bundle *bundle, const flin_bundles *bundles, uint32_t layer,
                           uint32_t without, uint32_t alignment);

/* Where a neuron's payload begins in the file. */
static inline uint64_t flin_extent_begin(const flin_extent *extent, uint32_t neuron)
{
    return extent->bundles->offset +
           (uint64_t)flin_bundles_index(extent->bundles, neuron) * extent->stride_bytes +
           extent->skip_bytes;
}

/* A slot receives a whole aligned read; the payload begins so many bytes further. */
static inline uint32_t flin_extent_lead(const flin_extent *extent, uint32_t neuron)
{
    return (uint32_t)(flin_extent_begin(extent, neuron) & (extent->alignment - 1));
}

/* Bytes a slot needs so that each of `neurons` neurons fits when its read is rounded outward. */
uint32_t flin_extent_slot_bytes(const flin_extent *extent, uint32_t neurons);

/* Does every neuron of a layer have a bundle of its own? The file may say anything.
   seen: (neurons) scratch */
int flin_bundles_check(const flin_bundles *bundles, uint32_t layer, uint32_t neurons,
                       uint32_t *seen, flashinfer_error *error);

#endif
