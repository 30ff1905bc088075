/*
 * cache.c - slots: free ones on a stack, the others found by neuron.
 */
#include "cache/cache.h"

#include <assert.h>
#include <string.h>

#define NONE FLIN_CACHE_NONE
#define VICTIMS_MIN 64u
#define NEURONS_PER_VICTIM 16u

void flin_cache_layout(flin_cache *cache, flin_arena *arena, uint32_t layers, uint32_t neurons,
                       uint32_t slot_bytes)
{
    uint64_t slots = (uint64_t)layers * neurons;

    cache->layer_count = layers;
    cache->neurons = neurons;
    cache->slot_bytes = slot_bytes;
    cache->victims_max = neurons / NEURONS_PER_VICTIM;
    if (cache->victims_max < VICTIMS_MIN) cache->victims_max = VICTIMS_MIN;
    cache->layers = FLIN_TAKE(arena, flin_cache_layer, layers);
    cache->free_slots = FLIN_TAKE(arena, uint32_t, slots);
    cache->slot_key = FLIN_TAKE(arena, uint32_t, slots);
    cache->decays = FLIN_TAKE(arena, float, 2 * FLIN_CACHE_DECAYS);
    for (uint32_t i = 0; i < layers; i++) {
        flin_cache_entry *entries = FLIN_TAKE(arena, flin_cache_entry, neurons);
        flin_victim *victims = FLIN_TAKE(arena, flin_victim, cache->victims_max);
        if (cache->layers == NULL) continue; /* measuring */
        cache->layers[i].entries = entries;
        cache->layers[i].victims = victims;
        for (uint32_t neuron = 0; neuron < neurons; neuron++) entries[neuron].slot = NONE;
    }
    if (cache->layers != NULL) flin_policy_begin(cache);
}

static void free_slot(flin_cache *cache, uint32_t layer, uint32_t neuron)
{
    uint32_t slot = cache->layers[layer].entries[neuron].slot;

    cache->layers[layer].entries[neuron].slot = NONE;
    cache->layers[layer].used--;
    cache->slot_key[slot] = NONE;
    cache->free_slots[cache->free_count++] = slot;
}

uint32_t flin_cache_wave_max(const flin_cache *cache)
{
    uint32_t most =
        flin_policy_has_shares(cache) ? cache->slots / cache->layer_count : cache->slots;

    return most < cache->neurons ? most : cache->neurons;
}

void flin_cache_begin(flin_cache *cache, uint32_t layer, uint64_t token)
{
    flin_cache_layer *own = &cache->layers[layer];

    cache->wave++;
    cache->token = (uint32_t)token;
    own->victim_next = own->victim_count = 0; /* some of them may be wanted now */
    own->stale = 1;
    if (cache->window_tokens == 0) return;
    for (uint32_t neuron = 0; neuron < cache->neurons; neuron++)
        if (own->entries[neuron].slot != NONE && flin_policy_expired(cache, layer, neuron))
            free_slot(cache, layer, neuron);
}

void flin_cache_use(flin_cache *cache, uint32_t layer, const uint32_t *neurons, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        flin_policy_use(cache, layer, neurons[i]);
        cache->layers[layer].entries[neurons[i]].wave = cache->wave;
    }
}

uint32_t flin_cache_want(flin_cache *cache, uint32_t layer, uint32_t neuron)
{
    flin_cache_use(cache, layer, &neuron, 1);
    return flin_cache_find(cache, layer, neuron);
}

uint32_t flin_cache_room(const flin_cache *cache, uint32_t layer)
{
    uint32_t used = cache->layers[layer].used, share = cache->slots / cache->layer_count;

    if (!flin_policy_has_shares(cache)) return cache->free_count;
    return used < share ? share - used : 0;
}

/* Lists are short; when they run out all layers that may give slots are listed again. */
static uint32_t find_victim(flin_cache *cache, uint32_t layer, uint32_t *neuron)
{
    uint32_t from = flin_policy_next_victim(cache, layer, neuron);

    if (from != NONE) return from;
    flin_policy_list_victims(cache, layer, cache->victims_max);
    for (uint32_t i = 0; i < cache->layer_count && !flin_policy_has_shares(cache); i++)
        flin_policy_list_victims(cache, i, cache->victims_max);
    return flin_policy_next_victim(cache, layer, neuron);
}

/* Layers that had all they wanted have not listed whom they can spare. */
static void list_stale(flin_cache *cache)
{
    for (uint32_t i = 0; i < cache->layer_count && !flin_policy_has_shares(cache); i++)
        if (cache->layers[i].stale) flin_policy_list_victims(cache, i, VICTIMS_MIN);
}

void flin_cache_make_room(flin_cache *cache, uint32_t layer, uint32_t count)
{
    uint32_t neuron = 0, from, most = 2 * count;

    assert(count <= flin_cache_wave_max(cache));
    if (flin_cache_room(cache, layer) >= count) return;
    if (most < VICTIMS_MIN) most = VICTIMS_MIN;
    flin_policy_list_victims(cache, layer, most);
    list_stale(cache);
    while (flin_cache_room(cache, layer) < count) {
        from = find_victim(cache, layer, &neuron);
        assert(from != NONE);
        free_slot(cache, from, neuron);
    }
}

uint32_t flin_cache_admit(flin_cache *cache, uint32_t layer, uint32_t neuron)
{
    flin_cache_entry *entry = &cache->layers[layer].entries[neuron];
    uint32_t slot;

    assert(cache->free_count != 0 && entry->slot == NONE);
    slot = cache->free_slots[--cache->free_count];
    cache->slot_key[slot] = layer * cache->neurons + neuron;
    entry->wave = cache->wave;
    entry->slot = slot;
    cache->layers[layer].used++;
    return slot;
}

void flin_cache_drop(flin_cache *cache, uint32_t layer, uint32_t neuron)
{
    if (cache->layers[layer].entries[neuron].slot != NONE) free_slot(cache, layer, neuron);
}

/* Let neurons leave until what is left fits into `slots`, as if each layer in turn needed room. */
static void shed(flin_cache *cache, uint32_t slots)
{
    uint32_t share = slots / cache->layer_count, neuron = 0, from;

    cache->wave++; /* nobody is wanted now */
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        cache->layers[i].victim_count = cache->layers[i].victim_next = 0;
        while (flin_policy_has_shares(cache) && cache->layers[i].used > share) {
            from = find_victim(cache, i, &neuron);
            assert(from != NONE);
            free_slot(cache, from, neuron);
        }
    }
    while (cache->slots - cache->free_count > slots) {
        from = find_victim(cache, 0, &neuron);
        assert(from != NONE);
        free_slot(cache, from, neuron);
    }
}

/* Move what lies beyond the new end into free slots before it, and rebuild the stack of free
   ones. */
static void compact(flin_cache *cache, uint32_t slots)
{
    uint32_t spare = 0;

    for (uint32_t from = slots; from < cache->slots; from++) {
        uint32_t key = cache->slot_key[from];
        if (key == NONE) continue;
        while (cache->slot_key[spare] != NONE) spare++;
        memcpy(flin_cache_slot(cache, spare), flin_cache_slot(cache, from), cache->slot_bytes);
        cache->slot_key[spare] = key;
        cache->slot_key[from] = NONE;
        cache->layers[key / cache->neurons].entries[key % cache->neurons].slot = spare;
    }
}

static void restack(flin_cache *cache, uint32_t slots)
{
    cache->free_count = 0;
    for (uint32_t slot = slots; slot-- > 0;)
        if (slot >= cache->slots || cache->slot_key[slot] == NONE) {
            cache->slot_key[slot] = NONE;
            cache->free_slots[cache->free_count++] = slot;
        }
    cache->slots = slots;
}

int flin_cache_resize(flin_cache *cache, uint32_t slots, flashinfer_error *error)
{
    uint64_t bytes;
    int code;

    if (slots > (uint64_t)cache->layer_count * cache->neurons)
        slots = cache->layer_count * cache->neurons;
    if (slots < cache->slots) {
        shed(cache, slots);
        compact(cache, slots);
        restack(cache, slots);
    }
    bytes = (uint64_t)slots * cache->slot_bytes;
    if (slots == 0) {
        flin_arena_close(&cache->slab);
        return 0;
    }
    code = cache->slab.base == NULL
               ? flin_arena_open(&cache->slab, bytes, "the neuron cache", error)
               : flin_arena_resize(&cache->slab, bytes, "the neuron cache", error);
    if (code == 0) restack(cache, slots);
    return code;
}

void flin_cache_close(flin_cache *cache)
{
    flin_arena_close(&cache->slab);
    memset(cache, 0, sizeof *cache);
}
