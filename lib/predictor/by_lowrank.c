/*
 * by_lowrank.c - naming by two thin factors.
 */
#include "predictor/share.h"

#define RANK_GRAIN 16u /* matrix rows of the first factor */

typedef struct lowrank_task {
    flin_predictor *predictor;
    const flin_lowrank *lowrank;
    const flin_predictor_input *input;
} lowrank_task;

static void run_hidden(void *context, uint32_t begin, uint32_t end)
{
    const lowrank_task *task = context;
    const flin_predictor *predictor = task->predictor;
    const void *x[FLIN_INPUTS_MAX];
    float *hidden[FLIN_INPUTS_MAX];

    for (uint32_t i = 0; i < task->input->count; i++) {
        x[i] = task->input->x[i];
        hidden[i] = predictor->hidden + (uint64_t)i * predictor->rank_max;
    }
    flin_lowrank_hidden(task->lowrank, predictor->kernels, x, task->input->count, begin, end,
                        hidden);
}

static void run_scores(void *context, uint32_t begin, uint32_t end)
{
    const lowrank_task *task = context;
    const flin_predictor *predictor = task->predictor;
    const void *hidden[FLIN_INPUTS_MAX];
    float *scores[FLIN_INPUTS_MAX];

    for (uint32_t i = 0; i < task->input->count; i++) {
        hidden[i] = predictor->hidden + (uint64_t)i * predictor->rank_max;
        scores[i] = predictor->sums + (uint64_t)i * predictor->neurons;
    }
    flin_lowrank_scores(task->lowrank, predictor->kernels, hidden, task->input->count, begin, end,
                        scores);
    for (uint32_t i = 0; i < task->input->count; i++)
        flin_mask_above(scores[i], 0, begin, end,
                        predictor->masks + (uint64_t)i * predictor->words);
}

static void name_by_lowrank(flin_predictor *predictor, const flin_layer_predictor *layer,
                            const flin_predictor_input *input, flin_names *names)
{
    lowrank_task task = {predictor, &layer->lowrank, input};
    const flin_ahead after = predictor->pool->ahead; /* both factors */

    flin_pool_expect(predictor->pool, NULL);
    flin_pool_split(predictor->pool, layer->lowrank.rank, RANK_GRAIN, run_hidden, &task);
    flin_pool_expect(predictor->pool, &after);
    flin_pool_split(predictor->pool, predictor->neurons, FLIN_SHARE_GRAIN, run_scores, &task);
    names->streamed_from = predictor->neurons;
}

static int check_lowrank(const flin_layer_predictor *layer, const flin_kernels *kernels, int index,
                         flashinfer_error *error)
{
    return flin_lowrank_check(&layer->lowrank, kernels, index, error);
}

static flin_ahead ahead_of_lowrank(const flin_layer_predictor *layer)
{
    const flin_lowrank *lowrank = &layer->lowrank;

    return (flin_ahead){{lowrank->down},
                        {lowrank->rank},
                        RANK_GRAIN,
                        FLIN_AHEAD_SIDES_MAX,
                        flin_type_bytes(lowrank->type, lowrank->cols)};
}

const flin_predictor_kind flin_predictor_lowrank = {.name = "lowrank",
                                                    .caches = 1,
                                                    .misses = 1,
                                                    .check = check_lowrank,
                                                    .ahead = ahead_of_lowrank,
                                                    .name_neurons = name_by_lowrank};
