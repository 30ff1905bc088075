/*
 * predictor.c - runs a predictor over the compute threads, each over a share of the neurons, and lists the ids.
 */
#include "predictor/predictor.h"

#define SHARE_GRAIN 64u /* neurons: one word of the mask */

void flin_predictor_layout(flin_predictor *predictor, flin_arena *arena,
                           const flin_kernels *kernels, flin_pool *pool, uint32_t width,
                           uint32_t neurons)
{
    predictor->kernels = kernels;
    predictor->pool = pool;
    predictor->width = width;
    predictor->neurons = neurons;
    predictor->levels = FLIN_TAKE(arena, int8_t, flin_round_up(width, FLIN_SKETCH_BLOCK));
    predictor->mask = FLIN_TAKE(arena, uint64_t, (neurons + 63) / 64);
    predictor->activation = FLIN_TAKE(arena, float, neurons);
}

typedef struct sketch_task {
    flin_predictor *predictor;
    const flin_sketch *sketch;
    float scale;
} sketch_task;

static void run_sketch(void *context, uint32_t index, uint32_t count)
{
    const sketch_task *task = context;
    flin_predictor *predictor = task->predictor;
    uint32_t begin, end;

    flin_pool_share(predictor->neurons, SHARE_GRAIN, index, count, &begin, &end);
    if (begin == end) return;
    predictor->kernels->sketch_mask(task->sketch, predictor->levels, task->scale, begin, end,
                                    predictor->mask);
}

uint32_t flin_predict_sketch(flin_predictor *predictor, const flin_sketch *sketch, const float *x,
                             uint32_t *ids)
{
    sketch_task task = {predictor, sketch, flin_sketch_input(sketch, x, predictor->levels)};
    uint32_t count = 0;

    flin_pool_run(predictor->pool, run_sketch, &task);
    for (uint32_t word = 0; word < (predictor->neurons + 63) / 64; word++) {
        for (uint64_t bits = predictor->mask[word]; bits != 0; bits &= bits - 1)
            ids[count++] = word * 64 + (uint32_t)__builtin_ctzll(bits);
    }
    return count;
}

typedef struct exact_task {
    flin_predictor *predictor;
    const flin_rows *rows;
    const float *x;
} exact_task;

static void run_exact(void *context, uint32_t index, uint32_t count)
{
    const exact_task *task = context;
    const flin_rows *rows = task->rows;
    uint32_t begin, end;

    flin_pool_share(rows->count, SHARE_GRAIN, index, count, &begin, &end);
    if (begin == end) return;
    task->predictor->kernels->matvec[rows->type](
        rows->memory.base + (uint64_t)begin * rows->row_bytes, end - begin, task->predictor->width,
        task->x, NULL, task->predictor->activation + begin);
}

uint32_t flin_predict_exact(flin_predictor *predictor, const flin_rows *rows, const float *bias,
                            const float *x, uint32_t *ids, float *activations)
{
    exact_task task = {predictor, rows, x};
    uint32_t count = 0;

    if (rows->count == 0) return 0;
    flin_pool_run(predictor->pool, run_exact, &task);
    for (uint32_t neuron = 0; neuron < rows->count; neuron++) {
        float activation = predictor->activation[neuron] + bias[neuron];
        if (!(activation > 0)) continue;
        ids[count] = neuron;
        activations[count++] = activation;
    }
    return count;
}
