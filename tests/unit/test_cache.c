/*
 * test_cache.c - slots keep their neurons' bytes whatever comes and goes, and those leave that the policy says.
 */
#include "support.h"

#include "cache/cache.h"

#define LAYERS 3u
#define NEURONS 200u
#define SLOT_BYTES 64u

static flin_arena arena;

static flin_cache open_cache(uint32_t policy, uint32_t window_tokens, uint32_t slots)
{
    flin_cache cache = {.policy = policy, .window_tokens = window_tokens};
    flin_arena measure;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    flin_arena_measure(&measure);
    flin_cache_layout(&cache, &measure, LAYERS, NEURONS, SLOT_BYTES);
    assert_ok(flin_arena_open(&arena, measure.used, "tables", &error));
    flin_cache_layout(&cache, &arena, LAYERS, NEURONS, SLOT_BYTES);
    assert_ok(flin_cache_resize(&cache, slots, &error));
    return cache;
}

static void close_cache(flin_cache *cache)
{
    flin_cache_close(cache);
    flin_arena_close(&arena);
}

/* What a neuron's slot holds. */
static uint32_t mark(uint32_t layer, uint32_t neuron)
{
    return layer * 1000003u + neuron * 7919u + 1;
}

/* One wave; returns how many were missing. */
static uint32_t want(flin_cache *cache, uint32_t layer, uint64_t token, const uint32_t *ids,
                     uint32_t count)
{
    uint32_t missing[NEURONS], missed = 0;

    flin_cache_begin(cache, layer, token);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = flin_cache_want(cache, layer, ids[i]), found;
        if (slot == FLIN_CACHE_NONE) {
            missing[missed++] = ids[i];
            continue;
        }
        memcpy(&found, flin_cache_slot(cache, slot), sizeof found);
        assert_int_equal(found, mark(layer, ids[i]));
    }
    flin_cache_make_room(cache, layer, missed);
    for (uint32_t i = 0; i < missed; i++) {
        uint32_t slot = flin_cache_admit(cache, layer, missing[i]), made = mark(layer, missing[i]);
        memcpy(flin_cache_slot(cache, slot), &made, sizeof made);
    }
    for (uint32_t i = 0; i < count; i++)
        assert_int_not_equal(cache->layers[layer].entries[ids[i]].slot, FLIN_CACHE_NONE);
    return missed;
}

/* Every slot is free once or holds one neuron, which knows it and whose bytes are there. */
static void check(const flin_cache *cache)
{
    uint32_t held = 0;

    for (uint32_t layer = 0; layer < LAYERS; layer++) {
        uint32_t used = 0;
        for (uint32_t neuron = 0; neuron < NEURONS; neuron++) {
            uint32_t slot = cache->layers[layer].entries[neuron].slot, found;
            if (slot == FLIN_CACHE_NONE) continue;
            used++;
            assert_true(slot < cache->slots);
            assert_int_equal(cache->slot_key[slot], layer * NEURONS + neuron);
            memcpy(&found, flin_cache_slot(cache, slot), sizeof found);
            assert_int_equal(found, mark(layer, neuron));
        }
        assert_int_equal(used, cache->layers[layer].used);
        if (flin_policy_has_shares(cache)) assert_true(used <= cache->slots / LAYERS);
        held += used;
    }
    for (uint32_t i = 0; i < cache->free_count; i++) {
        assert_true(cache->free_slots[i] < cache->slots);
        assert_int_equal(cache->slot_key[cache->free_slots[i]], FLIN_CACHE_NONE);
    }
    assert_int_equal(held + cache->free_count, cache->slots);
}

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % limit);
}

/* At most `most` of a layer's neurons, ascending, low ones more often. */
static uint32_t random_ids(uint32_t most, uint32_t *ids)
{
    uint32_t count = 0, chance = 1 + random_below(60);

    for (uint32_t neuron = 0; neuron < NEURONS && count < most; neuron++)
        if (random_below(100 + 2 * neuron) < chance) ids[count++] = neuron;
    return count;
}

static void slots_survive_anything(void **state)
{
    static const uint32_t sizes[] = {9, 60, 33, LAYERS * NEURONS, 12, 300, 3};
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (uint32_t policy = FLASHINFER_CACHE_WINDOW; policy <= FLASHINFER_CACHE_BALANCED; policy++) {
        flin_cache cache = open_cache(policy, policy == FLASHINFER_CACHE_WINDOW ? 5 : 0, 45);
        uint64_t token = 0;
        for (size_t size = 0; size < sizeof sizes / sizeof *sizes; size++) {
            for (uint32_t turn = 0; turn < 40 * LAYERS; turn++) {
                uint32_t ids[NEURONS], layer = turn % LAYERS;
                uint32_t count = random_ids(flin_cache_wave_max(&cache), ids);
                token += layer == 0;
                (void)want(&cache, layer, token, ids, count);
                if (count != 0 && random_below(8) == 0) flin_cache_drop(&cache, layer, ids[0]);
                check(&cache);
            }
            assert_ok(flin_cache_resize(&cache, sizes[size], &error));
            assert_int_equal(cache.slots, sizes[size]);
            check(&cache);
        }
        close_cache(&cache);
    }
}

static void window_keeps_k_tokens(void **state)
{
    static const uint32_t first[] = {1, 2, 3}, other[] = {9};
    flin_cache cache = open_cache(FLASHINFER_CACHE_WINDOW, 2, 60);

    (void)state;
    assert_int_equal(want(&cache, 0, 1, first, 3), 3);
    assert_int_equal(want(&cache, 0, 2, other, 1), 1);
    assert_int_equal(want(&cache, 0, 3, first, 2), 0);
    assert_int_equal(want(&cache, 0, 4, other, 1), 0);
    assert_int_equal(want(&cache, 0, 6, first, 2), 2); /* 3 tokens later */
    assert_int_equal(want(&cache, 0, 6, first, 3), 1);
    close_cache(&cache);
}

static void window_without_k_drops_the_oldest(void **state)
{
    static const uint32_t all[] = {0, 1, 2, 3}, again[] = {0}, more[] = {7};
    flin_cache cache = open_cache(FLASHINFER_CACHE_WINDOW, 0, 4 * LAYERS);

    (void)state;
    for (uint32_t i = 0; i < 4; i++) (void)want(&cache, 1, i + 1, &all[i], 1);
    (void)want(&cache, 1, 5, again, 1);
    (void)want(&cache, 1, 6, more, 1);
    assert_int_equal(want(&cache, 1, 7, again, 1), 0);
    assert_int_equal(cache.layers[1].entries[1].slot, FLIN_CACHE_NONE);
    assert_int_equal(cache.layers[1].used, 4);
    close_cache(&cache);
}

/* Neurons that come once do not push out one that comes often; in a window they do. */
static uint32_t misses_of_a_regular(uint32_t policy)
{
    flin_cache cache = open_cache(policy, 0, 6 * LAYERS);
    static const uint32_t regular[] = {0};
    uint32_t missed = 0;

    for (uint32_t token = 1; token <= 60; token++) {
        uint32_t passing[] = {1 + token * 3 % 190, 2 + token * 3 % 190, 3 + token * 3 % 190};
        if (token % 4 == 0) missed += want(&cache, 2, token, regular, 1);
        (void)want(&cache, 2, token, passing, 3);
    }
    close_cache(&cache);
    return missed;
}

static void regulars_stay(void **state)
{
    (void)state;
    assert_int_equal(misses_of_a_regular(FLASHINFER_CACHE_WINDOW), 15);
    assert_true(misses_of_a_regular(FLASHINFER_CACHE_FREQUENCY) <= 3);
}

static void busy_layers_get_more_slots(void **state)
{
    flin_cache cache = open_cache(FLASHINFER_CACHE_BALANCED, 0, 60);
    uint32_t few[4], many[40];

    (void)state;
    for (uint32_t i = 0; i < 40; i++) many[i] = i;
    for (uint32_t token = 1; token <= 50; token++) {
        for (uint32_t i = 0; i < 4; i++) few[i] = (token * 4 + i) % 196 + i;
        (void)want(&cache, 0, token, many, 40);
        (void)want(&cache, 1, token, few, 4);
        (void)want(&cache, 2, token, few, 4);
        if (token > 10) assert_int_equal(want(&cache, 0, token, many, 40), 0);
    }
    assert_true(cache.layers[0].used >= 40);
    assert_int_equal(cache.free_count, 0); /* the budget is filled */
    close_cache(&cache);
}

/* A wave may need every slot there is. */
static void a_wave_takes_all(void **state)
{
    flin_cache cache = open_cache(FLASHINFER_CACHE_BALANCED, 0, 50);
    uint32_t ids[NEURONS];

    (void)state;
    for (uint32_t i = 0; i < NEURONS; i++) ids[i] = i;
    assert_int_equal(flin_cache_wave_max(&cache), 50);
    for (uint32_t token = 1; token < 5; token++)
        for (uint32_t layer = 0; layer < LAYERS; layer++) {
            assert_int_equal(want(&cache, layer, token, ids + token * 10, 50), 50);
            check(&cache);
        }
    close_cache(&cache);
}

/* A layer that has all it wants must not go looking for victims: that would read the whole table for nothing. */
static void a_full_cache_lists_nobody_without_need(void **state)
{
    flin_cache cache = open_cache(FLASHINFER_CACHE_BALANCED, 0, 90);
    uint32_t ids[30];

    (void)state;
    for (uint32_t i = 0; i < 30; i++) ids[i] = i;
    for (uint32_t token = 1; token < 3; token++)
        for (uint32_t layer = 0; layer < LAYERS; layer++)
            assert_int_equal(want(&cache, layer, token, ids, token == 1 ? 30 : 5),
                             token == 1 ? 30 : 0);
    assert_int_equal(cache.free_count, 0);
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        assert_int_equal(cache.layers[layer].victim_count, 0);
    close_cache(&cache);
}

/* What a layer wanted once and now does without goes to layers that miss, though it never misses anything itself. */
static void a_layer_of_hits_gives_slots_away(void **state)
{
    flin_cache cache = open_cache(FLASHINFER_CACHE_BALANCED, 0, 60);
    uint32_t ids[NEURONS], missed = 0;

    (void)state;
    for (uint32_t i = 0; i < NEURONS; i++) ids[i] = i;
    for (uint32_t token = 1; token < 200; token++) {
        if (token == 1) missed = want(&cache, 0, token, ids, 40);
        if (token == 1) missed += want(&cache, 1, token, ids, 10) + want(&cache, 2, token, ids, 10);
        if (token == 1) continue;
        missed = want(&cache, 0, token, ids, 4);
        for (uint32_t layer = 1; layer < LAYERS; layer++) /* two sets of eight in turn */
            missed += want(&cache, layer, token, ids + token % 2 * 8, 8);
        check(&cache);
    }
    assert_int_equal(missed, 0);
    close_cache(&cache);
}

static void shrinking_keeps_the_best(void **state)
{
    flin_cache cache = open_cache(FLASHINFER_CACHE_BALANCED, 0, 90);
    uint32_t ids[30], one;
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (uint32_t i = 0; i < 30; i++) ids[i] = i;
    for (uint32_t token = 1; token < 20; token++)
        for (uint32_t layer = 0; layer < LAYERS; layer++)
            (void)want(&cache, layer, token, ids, token % 4 == 0 ? 30 : 5);
    assert_ok(flin_cache_resize(&cache, 15, &error));
    check(&cache);
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        for (one = 0; one < 5; one++)
            assert_int_not_equal(cache.layers[layer].entries[one].slot, FLIN_CACHE_NONE);
    close_cache(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_survive_anything),
        cmocka_unit_test(window_keeps_k_tokens),
        cmocka_unit_test(window_without_k_drops_the_oldest),
        cmocka_unit_test(regulars_stay),
        cmocka_unit_test(busy_layers_get_more_slots),
        cmocka_unit_test(a_wave_takes_all),
        cmocka_unit_test(a_full_cache_lists_nobody_without_need),
        cmocka_unit_test(a_layer_of_hits_gives_slots_away),
        cmocka_unit_test(shrinking_keeps_the_best),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
