/*
 * cache.h - the neuron cache: preallocated slots, which neuron lies in which, and who has to leave.
 *
 *   cache.c    slots: give, take back, resize
 *   policy.c   what is known of each neuron's use, and from that the next to leave
 *
 * Owns: slots and policies. Refuses: reading flash, computing, knowing why a neuron is wanted.
 *
 * All slots are one slab (paper, section 3.3: a preallocated matrix with `pointer`, `num_used` and
 * `last_k_active`). A neuron that leaves frees its slot; nothing is moved into the hole, because
 * kernels take row pointers and need no dense matrix (docs/architecture.md). Under some policies
 * every layer has an equal share of the slots, under others they go to the layers that use them
 * most.
 */
#ifndef FLIN_CACHE_CACHE_H
#define FLIN_CACHE_CACHE_H

#include "util/arena.h"

#define FLIN_CACHE_NONE UINT32_MAX
#define FLIN_CACHE_DECAYS 1024u /* tokens after which a use is forgotten */

/* What is known of a neuron, cached or not: together, because they are looked at together. */
typedef struct flin_cache_entry {
    uint32_t slot;       /* where it lies, or NONE */
    uint32_t wave;       /* the wave that wanted it last */
    uint32_t last_token; /* last_k_active: the token it was last wanted by */
    float recent;        /* share of tokens that wanted it, recent ones counting more */
    float lasting;       /* the same with a longer memory */
} flin_cache_entry;

/* A neuron that may leave. */
typedef struct flin_victim {
    float score; /* the lowest leaves first */
    uint32_t neuron;
} flin_victim;

typedef struct flin_cache_layer {
    uint32_t used;         /* slots that hold a neuron of this layer */
    uint32_t victim_count; /* of victims */
    uint32_t victim_next;  /* the first that has not left */
    uint32_t stale;        /* 1: a wave has begun since victims were listed */
    flin_victim *victims;  /* (victims_max) ascending by score, valid until the layer's next wave */
    flin_cache_entry *entries; /* (neurons) */
} flin_cache_layer;

typedef struct flin_cache {
    flin_arena slab;          /* (slots, slot_bytes) */
    flin_cache_layer *layers; /* (layer_count) */
    uint32_t layer_count;
    uint32_t neurons; /* per layer */
    uint32_t slot_bytes;
    uint32_t policy;        /* FLASHINFER_CACHE_..., never DEFAULT */
    uint32_t window_tokens; /* policy window: 0 for as long as the slots last */
    uint32_t victims_max;
    uint32_t slots;
    uint32_t free_count;
    uint32_t wave;        /* counts flin_cache_begin() */
    uint32_t token;       /* of the wave */
    uint32_t *free_slots; /* (free_count) of (layers * neurons): a stack */
    uint32_t *slot_key;   /* (layers * neurons) layer * neurons + neuron, or NONE */
    float *decays;        /* (2, FLIN_CACHE_DECAYS) what a use counts after so many tokens */
} flin_cache;

/* cache.c -------------------------------------------------------------------------------------- */

/* Bookkeeping from an arena (measuring or real); the slab comes with flin_cache_resize(). */
void flin_cache_layout(flin_cache *cache, flin_arena *arena, uint32_t layers, uint32_t neurons,
                       uint32_t slot_bytes);

/* Have `slots` slots over all layers (at most one per neuron), keeping the neurons that would
   leave last. On failure the cache works with the slots it had or has now. */
int flin_cache_resize(flin_cache *cache, uint32_t slots, flashinfer_error *error);

/* The most neurons of one layer that a wave may want. */
uint32_t flin_cache_wave_max(const flin_cache *cache);

/* A wave begins: some neurons of a layer will be wanted by a token. Until the next wave none of
   them leaves. */
void flin_cache_begin(flin_cache *cache, uint32_t layer, uint64_t token);

/* Ask memory for what is known of a neuron that will be looked up soon. */
static inline void flin_cache_expect(const flin_cache *cache, uint32_t layer, uint32_t neuron)
{
    __builtin_prefetch(&cache->layers[layer].entries[neuron], 1);
}

/* A neuron's slot, or NONE if it is missing. */
static inline uint32_t flin_cache_find(const flin_cache *cache, uint32_t layer, uint32_t neuron)
{
    return cache->layers[layer].entries[neuron].slot;
}

/* Remember that this wave wants neurons, those that are found and those that are missing: before
   room is made for the latter, else whenever there is time. */
void flin_cache_use(flin_cache *cache, uint32_t layer, const uint32_t *neurons, uint32_t count);

/* Both for one neuron. */
uint32_t flin_cache_want(flin_cache *cache, uint32_t layer, uint32_t neuron);

/* Slots that a layer may take without anybody leaving. */
uint32_t flin_cache_room(const flin_cache *cache, uint32_t layer);

/* After all are wanted: make room for the `count` missing ones. */
void flin_cache_make_room(flin_cache *cache, uint32_t layer, uint32_t count);

/* A slot for a missing neuron that there is room for. */
uint32_t flin_cache_admit(flin_cache *cache, uint32_t layer, uint32_t neuron);

/* Forget a neuron, e.g. because its read failed. */
void flin_cache_drop(flin_cache *cache, uint32_t layer, uint32_t neuron);

void flin_cache_close(flin_cache *cache);

/* policy.c ------------------------------------------------------------------------------------- */

/* Which policy options ask for. */
int flin_policy_resolve(uint32_t *policy, uint32_t wanted, uint32_t window_tokens,
                        flashinfer_error *error);

/* Does every layer have an equal share of the slots? */
int flin_policy_has_shares(const flin_cache *cache);

/* Fill cache->decays. */
void flin_policy_begin(flin_cache *cache);

/* A token wanted a neuron, cached or not. */
void flin_policy_use(flin_cache *cache, uint32_t layer, uint32_t neuron);

/* Has a cached neuron fallen out of the window? */
int flin_policy_expired(const flin_cache *cache, uint32_t layer, uint32_t neuron);

/* List at most `most` cached neurons of a layer that this wave does not want, the first to leave
   first. */
void flin_policy_list_victims(flin_cache *cache, uint32_t layer, uint32_t most);

/* Take the next to leave from the lists: of this layer, or of any where slots are shared.
   Returns its layer (neuron receives which) or NONE if the lists are empty. */
uint32_t flin_policy_next_victim(flin_cache *cache, uint32_t layer, uint32_t *neuron);

/* ---------------------------------------------------------------------------------------------- */

/* First byte of a slot. */
static inline uint8_t *flin_cache_slot(const flin_cache *cache, uint32_t slot)
{
    return cache->slab.base + (uint64_t)slot * cache->slot_bytes;
}

#endif
