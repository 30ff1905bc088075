/*
 * cache.c - slots of a layer: a used prefix of `order`, and a list by last use from which the window's tail falls off.
 */
#include "cache/cache.h"

#include <assert.h>
#include <string.h>

#define NONE FLIN_CACHE_NONE

uint32_t flin_cache_slot_bytes(const flin_cache_extent *extent, uint32_t neurons)
{
    uint64_t alignment = extent->alignment, most = 0;

    for (uint32_t neuron = 0; neuron < neurons; neuron++) {
        uint64_t begin = flin_extent_begin(extent, neuron);
        uint64_t bytes =
            flin_round_up(begin + extent->bytes, alignment) - flin_round_down(begin, alignment);
        if (bytes > most) most = bytes;
    }
    return (uint32_t)flin_round_up(most, 64);
}

void flin_cache_layout(flin_cache *cache, flin_arena *arena, uint32_t layers, uint32_t neurons,
                       uint32_t slot_bytes, uint32_t window_tokens)
{
    cache->layers = FLIN_TAKE(arena, flin_cache_layer, layers);
    cache->layer_count = layers;
    cache->neurons = neurons;
    cache->slot_bytes = slot_bytes;
    cache->window_tokens = window_tokens;
    for (uint32_t i = 0; i < layers; i++) {
        uint32_t *numbers = FLIN_TAKE(arena, uint32_t, (uint64_t)neurons * 6);
        uint64_t *tokens = FLIN_TAKE(arena, uint64_t, neurons);
        if (cache->layers == NULL) continue; /* measuring */
        flin_cache_layer *layer = &cache->layers[i];
        layer->neuron_slot = numbers;
        layer->slot_neuron = numbers + neurons;
        layer->order = numbers + 2 * (uint64_t)neurons;
        layer->place = numbers + 3 * (uint64_t)neurons;
        layer->newer = numbers + 4 * (uint64_t)neurons;
        layer->older = numbers + 5 * (uint64_t)neurons;
        layer->last_token = tokens;
        layer->newest = layer->oldest = NONE;
        memset(layer->neuron_slot, 0xff, neurons * sizeof(uint32_t));
        for (uint32_t slot = 0; slot < neurons; slot++)
            layer->order[slot] = layer->place[slot] = slot;
    }
}

static void unlink_slot(flin_cache_layer *layer, uint32_t slot)
{
    uint32_t newer = layer->newer[slot], older = layer->older[slot];

    if (newer != NONE)
        layer->older[newer] = older;
    else
        layer->newest = older;
    if (older != NONE)
        layer->newer[older] = newer;
    else
        layer->oldest = newer;
}

static void link_newest(flin_cache_layer *layer, uint32_t slot, uint64_t token)
{
    layer->last_token[slot] = token;
    layer->newer[slot] = NONE;
    layer->older[slot] = layer->newest;
    if (layer->newest != NONE)
        layer->newer[layer->newest] = slot;
    else
        layer->oldest = slot;
    layer->newest = slot;
}

/* Swap two places of order. */
static void swap_places(flin_cache_layer *layer, uint32_t first, uint32_t second)
{
    uint32_t slot = layer->order[first];

    layer->order[first] = layer->order[second];
    layer->order[second] = slot;
    layer->place[layer->order[first]] = first;
    layer->place[slot] = second;
}

static void free_slot(flin_cache_layer *layer, uint32_t slot)
{
    unlink_slot(layer, slot);
    layer->neuron_slot[layer->slot_neuron[slot]] = NONE;
    layer->used--;
    swap_places(layer, layer->place[slot], layer->used); /* swap with last */
}

void flin_cache_age(flin_cache *cache, flin_cache_layer *layer, uint64_t token)
{
    if (cache->window_tokens == 0) return;
    while (layer->oldest != NONE && layer->last_token[layer->oldest] + cache->window_tokens < token)
        free_slot(layer, layer->oldest);
}

uint32_t flin_cache_want(flin_cache_layer *layer, uint32_t neuron, uint64_t token)
{
    uint32_t slot = layer->neuron_slot[neuron];

    if (slot == NONE) return NONE;
    unlink_slot(layer, slot);
    link_newest(layer, slot, token);
    return slot;
}

uint32_t flin_cache_admit(flin_cache_layer *layer, uint32_t neuron, uint64_t token)
{
    uint32_t slot;

    assert(layer->slots != 0 && layer->neuron_slot[neuron] == NONE);
    if (layer->used == layer->slots) free_slot(layer, layer->oldest);
    slot = layer->order[layer->used++];
    layer->slot_neuron[slot] = neuron;
    layer->neuron_slot[neuron] = slot;
    link_newest(layer, slot, token);
    return slot;
}

void flin_cache_drop(flin_cache_layer *layer, uint32_t neuron)
{
    if (layer->neuron_slot[neuron] != NONE) free_slot(layer, layer->neuron_slot[neuron]);
}

/* Free enough slots, oldest first, and move what lies beyond the new end into free slots before it. */
static void compact(flin_cache *cache, flin_cache_layer *layer, uint32_t slots)
{
    while (layer->used > slots) free_slot(layer, layer->oldest);
    for (uint32_t position = 0, spare = layer->used; position < layer->used; position++) {
        uint32_t from = layer->order[position], to, neuron;
        uint64_t token;
        if (from < slots) continue;
        while (layer->order[spare] >= slots) spare++;
        to = layer->order[spare];
        neuron = layer->slot_neuron[from];
        token = layer->last_token[from];
        memcpy(flin_cache_slot(cache, layer, to), flin_cache_slot(cache, layer, from),
               cache->slot_bytes);
        /* `to` takes `from`'s place in the list and in order */
        layer->slot_neuron[to] = neuron;
        layer->neuron_slot[neuron] = to;
        layer->last_token[to] = token;
        layer->newer[to] = layer->newer[from];
        layer->older[to] = layer->older[from];
        if (layer->newer[to] != NONE)
            layer->older[layer->newer[to]] = to;
        else
            layer->newest = to;
        if (layer->older[to] != NONE)
            layer->newer[layer->older[to]] = to;
        else
            layer->oldest = to;
        swap_places(layer, position, spare);
    }
}

/* Free slot numbers below `slots` come before those at or beyond it, so that admit only hands out real ones. */
static void sort_free(flin_cache_layer *layer, uint32_t neurons, uint32_t slots)
{
    uint32_t next = layer->used;

    for (uint32_t position = layer->used; position < neurons; position++)
        if (layer->order[position] < slots) swap_places(layer, position, next++);
}

static int resize_layer(flin_cache *cache, flin_cache_layer *layer, uint32_t slots,
                        flashinfer_error *error)
{
    uint64_t bytes = (uint64_t)slots * cache->slot_bytes;
    int code;

    if (slots < layer->slots) compact(cache, layer, slots);
    if (slots == 0) {
        flin_arena_close(&layer->slab);
    } else {
        code = layer->slab.base == NULL
                   ? flin_arena_open(&layer->slab, bytes, "the neuron cache", error)
                   : flin_arena_resize(&layer->slab, bytes, "the neuron cache", error);
        if (code != 0) return code;
    }
    layer->slots = slots;
    sort_free(layer, cache->neurons, slots);
    return 0;
}

int flin_cache_resize(flin_cache *cache, uint32_t slots, flashinfer_error *error)
{
    if (slots > cache->neurons) slots = cache->neurons;
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        int code = resize_layer(cache, &cache->layers[i], slots, error);
        if (code != 0) return code;
    }
    return 0;
}

void flin_cache_close(flin_cache *cache)
{
    for (uint32_t i = 0; cache->layers != NULL && i < cache->layer_count; i++)
        flin_arena_close(&cache->layers[i].slab);
    memset(cache, 0, sizeof *cache);
}
