/*
 * policy.c - who leaves: every cached neuron has a score, and the lowest go first.
 *
 * window     the token it was last wanted by (paper, section 3.3); out once window_tokens tokens
 *            did without it
 * frequency  the share of tokens that want it, what lies 16 tokens back counting half
 * balanced   such shares with a short and with a long memory, added up. Scores of different layers
 *            compare, for all layers see every token: a slot goes to the layer whose next victim is
 *            worth least
 *
 * Uses are remembered of neurons that are not cached, too. Why these and not others:
 * docs/notes/cache.md.
 */
#include "cache/cache.h"
#include "flashinfer.h"

#define NONE FLIN_CACHE_NONE
#define WINDOW FLASHINFER_CACHE_WINDOW
#define FREQUENCY FLASHINFER_CACHE_FREQUENCY
#define BALANCED FLASHINFER_CACHE_BALANCED

#define HALF_IN_4_TOKENS 0.84089642f /* 2 ^ (-1 / 4) */
#define HALF_IN_16_TOKENS 0.95760328f
#define HALF_IN_64_TOKENS 0.98922801f
#define LASTING_WEIGHT 4.0f /* of the longer memory beside the shorter */

int flin_policy_resolve(uint32_t *policy, uint32_t wanted, uint32_t window_tokens,
                        flashinfer_error *error)
{
    if (wanted > BALANCED)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "options.cache_policy is %u, which is not one of its values", wanted);
    if (window_tokens != 0 && wanted != FLASHINFER_CACHE_DEFAULT && wanted != WINDOW)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "options.window_tokens is %u, but options.cache_policy is not the window: "
                         "leave one of them 0",
                         window_tokens);
    *policy = wanted != FLASHINFER_CACHE_DEFAULT ? wanted : window_tokens != 0 ? WINDOW : BALANCED;
    return 0;
}

int flin_policy_has_shares(const flin_cache *cache)
{
    return cache->policy != BALANCED;
}

static float step_of(const flin_cache *cache)
{
    return cache->policy == BALANCED ? HALF_IN_4_TOKENS : HALF_IN_16_TOKENS;
}

void flin_policy_begin(flin_cache *cache)
{
    float recent = 1, lasting = 1;

    for (uint32_t tokens = 0; tokens < FLIN_CACHE_DECAYS; tokens++) {
        cache->decays[tokens] = recent > 1e-30f ? recent : 0;
        cache->decays[FLIN_CACHE_DECAYS + tokens] = lasting;
        recent *= recent > 1e-30f ? step_of(cache) : 0;
        lasting *= HALF_IN_64_TOKENS;
    }
}

static uint32_t tokens_since(const flin_cache *cache, uint32_t last_token)
{
    uint32_t tokens = cache->token - last_token;

    return tokens < FLIN_CACHE_DECAYS ? tokens : FLIN_CACHE_DECAYS - 1;
}

void flin_policy_use(flin_cache *cache, uint32_t layer, uint32_t neuron)
{
    flin_cache_entry *entry = &cache->layers[layer].entries[neuron];
    const float *decay = cache->decays + tokens_since(cache, entry->last_token);

    entry->recent = entry->recent * decay[0] + (1 - step_of(cache));
    entry->lasting = entry->lasting * decay[FLIN_CACHE_DECAYS] + (1 - HALF_IN_64_TOKENS);
    entry->last_token = cache->token;
}

int flin_policy_expired(const flin_cache *cache, uint32_t layer, uint32_t neuron)
{
    return cache->policy == WINDOW && cache->window_tokens != 0 &&
           cache->token - cache->layers[layer].entries[neuron].last_token > cache->window_tokens;
}

static float score(const flin_cache *cache, const flin_cache_entry *entry)
{
    const float *decay;

    if (cache->policy == WINDOW) return -(float)(cache->token - entry->last_token);
    decay = cache->decays + tokens_since(cache, entry->last_token);
    if (cache->policy == FREQUENCY) return entry->recent * decay[0];
    return entry->recent * decay[0] + LASTING_WEIGHT * entry->lasting * decay[FLIN_CACHE_DECAYS];
}

/* heap (count): the highest score on top. Let the entry at `at` sink to its place. */
static void sink(flin_victim *heap, uint32_t count, uint32_t at)
{
    flin_victim entry = heap[at];

    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count) break;
        if (child + 1 < count && heap[child + 1].score > heap[child].score) child++;
        if (!(heap[child].score > entry.score)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = entry;
}

static void make_heap(flin_victim *entries, uint32_t count)
{
    for (uint32_t at = count / 2; at-- > 0;) sink(entries, count, at);
}

static void sort_ascending(flin_victim *heap, uint32_t count)
{
    while (count > 1) {
        flin_victim top = heap[0];
        heap[0] = heap[--count];
        heap[count] = top;
        sink(heap, count, 0);
    }
}

void flin_policy_list_victims(flin_cache *cache, uint32_t layer, uint32_t most)
{
    flin_cache_layer *own = &cache->layers[layer];
    flin_victim *heap = own->victims;
    uint32_t count = 0;

    if (most > cache->victims_max) most = cache->victims_max;
    for (uint32_t neuron = 0; neuron < cache->neurons; neuron++) {
        const flin_cache_entry *entry = &own->entries[neuron];
        flin_victim victim = {0, neuron};
        if (entry->slot == NONE || entry->wave == cache->wave) continue;
        victim.score = score(cache, entry);
        if (count < most) {
            heap[count++] = victim;
            if (count == most) make_heap(heap, count);
        } else if (victim.score < heap[0].score) {
            heap[0] = victim;
            sink(heap, count, 0);
        }
    }
    if (count < most) make_heap(heap, count);
    sort_ascending(heap, count);
    own->victim_count = count;
    own->victim_next = 0;
    own->stale = 0;
}

static const flin_victim *next_of(flin_cache_layer *own)
{
    while (own->victim_next < own->victim_count &&
           own->entries[own->victims[own->victim_next].neuron].slot == NONE)
        own->victim_next++;
    return own->victim_next < own->victim_count ? &own->victims[own->victim_next] : NULL;
}

uint32_t flin_policy_next_victim(flin_cache *cache, uint32_t layer, uint32_t *neuron)
{
    uint32_t first = flin_policy_has_shares(cache) ? layer : 0, from = NONE;
    uint32_t end = flin_policy_has_shares(cache) ? layer + 1 : cache->layer_count;
    float lowest = 0;

    for (uint32_t i = first; i < end; i++) {
        const flin_victim *victim = next_of(&cache->layers[i]);
        if (victim == NULL || (from != NONE && !(victim->score < lowest))) continue;
        lowest = victim->score;
        *neuron = victim->neuron;
        from = i;
    }
    if (from != NONE) cache->layers[from].victim_next++;
    return from;
}
