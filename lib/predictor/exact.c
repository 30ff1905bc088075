/*
 * exact.c - naming by the deciding sums themselves, of the matrix rows that are kept in memory.
 * What is not kept is named by nobody: its bundles are streamed.
 */
#include "predictor/share.h"

#include <string.h>

typedef struct exact_task {
    const flin_predictor *predictor;
    const flin_kept *kept;
    const flin_predictor_input *input;
} exact_task;

static void run_exact(void *context, uint32_t begin, uint32_t end)
{
    const exact_task *task = context;
    const flin_predictor *predictor = task->predictor;
    const flin_kept *kept = task->kept;
    const float *bias = task->input->bias;
    float *sums[FLIN_INPUTS_MAX];

    for (uint32_t i = 0; i < task->input->count; i++)
        sums[i] = predictor->sums + (uint64_t)i * predictor->neurons;
    flin_share_products(predictor->kernels, kept->type,
                        kept->memory.base + (uint64_t)begin * kept->row_bytes, begin, end,
                        predictor->width, task->input->taken, task->input->count, bias, sums);
    for (uint32_t i = 0; i < task->input->count; i++)
        flin_mask_above(sums[i], task->input->threshold, begin, end,
                        predictor->masks + (uint64_t)i * predictor->words);
}

static void name_exactly(flin_predictor *predictor, const flin_layer_predictor *layer,
                         const flin_predictor_input *input, flin_names *names)
{
    const flin_kept *kept = &layer->kept;
    exact_task task = {predictor, kept, input};
    uint32_t known = (kept->count + 63) / 64;

    flin_pool_split(predictor->pool, kept->count, FLIN_SHARE_GRAIN, run_exact, &task);
    for (uint32_t i = 0; i < input->count; i++)
        memset(predictor->masks + (uint64_t)i * predictor->words + known, 0,
               (predictor->words - known) * sizeof(uint64_t));
    names->sums = predictor->sums;
    names->streamed_from = kept->count;
}

const flin_predictor_kind flin_predictor_exact = {
    .name = "exact", .caches = 1, .keeps = 1, .name_neurons = name_exactly};
