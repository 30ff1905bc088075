/*
 * cache.h - the neuron cache: preallocated slots per layer, which neuron lies in which, and who has to leave.
 *
 * Owns: slots and the window policy. Refuses: reading flash, computing, knowing why a neuron is wanted.
 *
 * A layer's slots are one slab (paper, section 3.3: one preallocated matrix per layer with `pointer`, `num_used` and
 * `last_k_active`). A neuron leaves by swapping its slot number with the last used one; the bytes do not move, because
 * kernels take row pointers and need no dense matrix (docs/architecture.md).
 */
#ifndef FLIN_CACHE_CACHE_H
#define FLIN_CACHE_CACHE_H

#include "util/arena.h"

#define FLIN_CACHE_NONE UINT32_MAX

/* Where the neurons of a layer lie in the file and which bytes of a bundle a slot holds. */
typedef struct flin_cache_extent {
    uint64_t bundle_offset; /* of neuron 0 in the file */
    uint32_t stride_bytes;  /* from one bundle to the next */
    uint32_t
        skip_bytes; /* part of the bundle a slot leaves out at its beginning (exact mode: the up row) */
    uint32_t bytes;     /* part a slot holds */
    uint32_t alignment; /* reads are rounded outward to it */
} flin_cache_extent;

typedef struct flin_cache_layer {
    flin_arena slab; /* (slots, slot_bytes) */
    flin_cache_extent extent;
    uint32_t slots;
    uint32_t used;           /* num_used: slots holding a neuron */
    uint32_t *neuron_slot;   /* (neurons) slot or NONE */
    uint32_t *slot_neuron;   /* (neurons) pointer: which neuron a slot holds */
    uint32_t *order;         /* (neurons) slot numbers, the used ones first */
    uint32_t *place;         /* (neurons) where a slot stands in order */
    uint32_t *newer, *older; /* (neurons) slots linked by their last use */
    uint64_t *last_token;    /* (neurons) last_k_active: the token a slot was last wanted by */
    uint32_t newest, oldest;
} flin_cache_layer;

typedef struct flin_cache {
    flin_cache_layer *layers; /* (layer_count) */
    uint32_t layer_count;
    uint32_t neurons; /* per layer */
    uint32_t slot_bytes;
    uint32_t window_tokens; /* 0: as long as the slots last */
} flin_cache;

/* Bytes a slot needs so that every neuron of every layer fits when its read is rounded outward. */
uint32_t flin_cache_slot_bytes(const flin_cache_extent *extent, uint32_t neurons);

/* Bookkeeping from an arena (measuring or real); slabs come with flin_cache_resize(). */
void flin_cache_layout(flin_cache *cache, flin_arena *arena, uint32_t layers, uint32_t neurons,
                       uint32_t slot_bytes, uint32_t window_tokens);

/* Give every layer `slots` slots (at most the neurons), keeping what was used last. On failure every layer still
   works with the slots it had or has now. */
int flin_cache_resize(flin_cache *cache, uint32_t slots, flashinfer_error *error);

/* A new token has come: neurons unused for window_tokens tokens leave the layer. */
void flin_cache_age(flin_cache *cache, flin_cache_layer *layer, uint64_t token);

/* Mark a neuron as wanted by this token. Returns its slot, or NONE if it is missing. */
uint32_t flin_cache_want(flin_cache_layer *layer, uint32_t neuron, uint64_t token);

/* A slot for a missing neuron; the one unused longest makes room. The caller wants no more neurons at once than there
   are slots, and marks those present first. */
uint32_t flin_cache_admit(flin_cache_layer *layer, uint32_t neuron, uint64_t token);

/* Forget a neuron, e.g. because its read failed. */
void flin_cache_drop(flin_cache_layer *layer, uint32_t neuron);

void flin_cache_close(flin_cache *cache);

static inline uint64_t flin_extent_begin(const flin_cache_extent *extent, uint32_t neuron)
{
    return extent->bundle_offset + (uint64_t)neuron * extent->stride_bytes + extent->skip_bytes;
}

/* First byte of the slot. A read of the neuron lands here; its payload begins flin_extent_lead() bytes further. */
static inline uint8_t *flin_cache_slot(const flin_cache *cache, const flin_cache_layer *layer,
                                       uint32_t slot)
{
    return layer->slab.base + (uint64_t)slot * cache->slot_bytes;
}

static inline uint32_t flin_extent_lead(const flin_cache_extent *extent, uint32_t neuron)
{
    return (uint32_t)(flin_extent_begin(extent, neuron) & (extent->alignment - 1));
}

#endif
