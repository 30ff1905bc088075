/*
 * predictor.c - the table of kinds, and what they share: masks become ids.
 */
#include "predictor/predictor.h"

#include <string.h>

static const flin_predictor_kind *const kinds[] = {
    [FLASHINFER_PREDICTOR_EXACT] = &flin_predictor_exact,
    [FLASHINFER_PREDICTOR_SKETCH] = &flin_predictor_sketch,
    [FLASHINFER_PREDICTOR_LOWRANK] = &flin_predictor_lowrank,
    [FLASHINFER_PREDICTOR_ALL] = &flin_predictor_all,
    [FLASHINFER_PREDICTOR_MIXED] = &flin_predictor_sketch,
};

const flin_predictor_kind flin_predictor_all = {.name = "all"};

const flin_predictor_kind *flin_predictor_kind_of(uint32_t number)
{
    return kinds[number];
}

void flin_predictor_layout(flin_predictor *predictor, flin_arena *arena,
                           const flin_predictor_kind *kind, uint32_t rank_max)
{
    uint64_t inputs = predictor->inputs_max;

    predictor->words = (predictor->neurons + 63) / 64;
    predictor->rank_max = rank_max;
    predictor->levels_bytes = (uint32_t)flin_round_up(predictor->width, FLIN_SKETCH_BLOCK);
    predictor->levels = FLIN_TAKE(arena, int8_t, inputs * predictor->levels_bytes);
    predictor->masks = FLIN_TAKE(arena, uint64_t, inputs * predictor->words);
    predictor->any = inputs > 1 ? FLIN_TAKE(arena, uint64_t, predictor->words) : predictor->masks;
    predictor->hidden = FLIN_TAKE(arena, float, inputs *rank_max);
    predictor->sums =
        kind->keeps || rank_max != 0 ? FLIN_TAKE(arena, float, inputs * predictor->neurons) : NULL;
}

static uint32_t list_ids(const uint64_t *mask, uint32_t words, uint32_t *ids)
{
    uint32_t count = 0;

    for (uint32_t word = 0; word < words; word++)
        for (uint64_t bits = mask[word]; bits != 0; bits &= bits - 1)
            ids[count++] = word * 64 + (uint32_t)__builtin_ctzll(bits);
    return count;
}

/* The union of all rows' masks, and how many names they are together. */
static uint32_t unite(const flin_predictor *predictor, uint32_t inputs)
{
    uint32_t named = 0;

    for (uint32_t word = 0; word < predictor->words; word++) {
        uint64_t any = 0;
        for (uint32_t i = 0; i < inputs; i++) {
            uint64_t mask = predictor->masks[i * predictor->words + word];
            named += (uint32_t)__builtin_popcountll(mask);
            any |= mask;
        }
        predictor->any[word] = any;
    }
    return named;
}

flin_names flin_predictor_name(flin_predictor *predictor, const flin_layer_predictor *layer,
                               const flin_predictor_input *input, uint32_t *ids)
{
    const flin_predictor_kind *kind = kinds[layer->kind];
    flin_names names = {0, 0, predictor->masks, predictor->words, NULL, 0};

    if (kind->name_neurons == NULL) return names;
    kind->name_neurons(predictor, layer, input, &names);
    if (input->count > 1) {
        names.named = unite(predictor, input->count);
        names.count = list_ids(predictor->any, predictor->words, ids);
    } else {
        names.named = names.count = list_ids(predictor->masks, predictor->words, ids);
    }
    return names;
}
