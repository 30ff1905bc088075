/*
 * predictor.c - runs a predictor over the compute threads, each over a share of the neurons, and
 * lists the ids.
 */
#include "predictor/predictor.h"

#define SHARE_GRAIN 64u /* neurons: one word of the mask */
#define RANK_GRAIN 16u  /* rows of a low-rank predictor's first factor */

void flin_predictor_layout(flin_predictor *predictor, flin_arena *arena,
                           const flin_kernels *kernels, flin_pool *pool, uint32_t width,
                           uint32_t neurons, uint32_t rank_max)
{
    predictor->kernels = kernels;
    predictor->pool = pool;
    predictor->width = width;
    predictor->neurons = neurons;
    predictor->levels = FLIN_TAKE(arena, int8_t, flin_round_up(width, FLIN_SKETCH_BLOCK));
    predictor->mask = FLIN_TAKE(arena, uint64_t, (neurons + 63) / 64);
    predictor->hidden = FLIN_TAKE(arena, float, rank_max);
    predictor->activation = FLIN_TAKE(arena, float, neurons);
}

int flin_layer_predictor_check(const flin_layer_predictor *layer, const flin_kernels *kernels,
                               int index, flashinfer_error *error)
{
    if (layer->kind == FLASHINFER_PREDICTOR_SKETCH)
        return flin_sketch_check(&layer->sketch, index, error);
    return flin_lowrank_check(&layer->lowrank, kernels, index, error);
}

typedef struct sketch_task {
    flin_predictor *predictor;
    const flin_sketch *sketch;
    float scale;
} sketch_task;

static void run_sketch(void *context, uint32_t begin, uint32_t end)
{
    const sketch_task *task = context;
    flin_predictor *predictor = task->predictor;

    predictor->kernels->sketch_mask(task->sketch, predictor->levels, task->scale, begin, end,
                                    predictor->mask);
}

static void mask_by_sketch(flin_predictor *predictor, const flin_sketch *sketch, const float *x)
{
    sketch_task task = {predictor, sketch,
                        predictor->kernels->sketch_input(sketch, x, predictor->levels)};

    flin_pool_split(predictor->pool, predictor->neurons, SHARE_GRAIN, run_sketch, &task);
}

typedef struct lowrank_task {
    flin_predictor *predictor;
    const flin_lowrank *lowrank;
    const float *x;
} lowrank_task;

static void run_hidden(void *context, uint32_t begin, uint32_t end)
{
    const lowrank_task *task = context;

    flin_lowrank_hidden(task->lowrank, task->predictor->kernels, task->x, begin, end,
                        task->predictor->hidden);
}

static void run_scores(void *context, uint32_t begin, uint32_t end)
{
    const lowrank_task *task = context;
    flin_predictor *predictor = task->predictor;

    flin_lowrank_scores(task->lowrank, predictor->kernels, predictor->hidden, begin, end,
                        predictor->activation);
    for (uint32_t first = begin; first < end; first += 64) {
        uint32_t words = end - first < 64 ? end - first : 64;
        uint64_t word = 0;
        for (uint32_t i = 0; i < words; i++)
            word |= (uint64_t)(predictor->activation[first + i] > 0) << i;
        predictor->mask[first / 64] = word;
    }
}

static void mask_by_lowrank(flin_predictor *predictor, const flin_lowrank *lowrank, const float *x)
{
    lowrank_task task = {predictor, lowrank, x};
    const flin_ahead after = predictor->pool->ahead; /* both factors */

    flin_pool_expect(predictor->pool, NULL);
    flin_pool_split(predictor->pool, lowrank->rank, RANK_GRAIN, run_hidden, &task);
    flin_pool_expect(predictor->pool, &after);
    flin_pool_split(predictor->pool, predictor->neurons, SHARE_GRAIN, run_scores, &task);
}

flin_ahead flin_predictor_ahead(const flin_layer_predictor *layer)
{
    const flin_sketch *sketch = &layer->sketch;
    const flin_lowrank *lowrank = &layer->lowrank;

    if (layer->kind == FLASHINFER_PREDICTOR_SKETCH)
        return (flin_ahead){{sketch->tiles},
                            {(sketch->rows + FLIN_SKETCH_TILE_ROWS - 1) / FLIN_SKETCH_TILE_ROWS},
                            SHARE_GRAIN / FLIN_SKETCH_TILE_ROWS,
                            FLIN_SKETCH_SIDES,
                            flin_sketch_tile_bytes(sketch->cols, sketch->bits)};
    return (flin_ahead){{lowrank->down},
                        {lowrank->rank},
                        RANK_GRAIN,
                        FLIN_AHEAD_SIDES_MAX,
                        flin_type_bytes(lowrank->type, lowrank->cols)};
}

uint32_t flin_predict_named(flin_predictor *predictor, const flin_layer_predictor *layer,
                            const float *x, uint32_t *ids)
{
    uint32_t count = 0;

    if (layer->kind == FLASHINFER_PREDICTOR_SKETCH)
        mask_by_sketch(predictor, &layer->sketch, x);
    else
        mask_by_lowrank(predictor, &layer->lowrank, x);
    for (uint32_t word = 0; word < (predictor->neurons + 63) / 64; word++) {
        for (uint64_t bits = predictor->mask[word]; bits != 0; bits &= bits - 1)
            ids[count++] = word * 64 + (uint32_t)__builtin_ctzll(bits);
    }
    return count;
}

typedef struct exact_task {
    flin_predictor *predictor;
    const flin_rows *rows;
    const void *x;
} exact_task;

static void run_exact(void *context, uint32_t begin, uint32_t end)
{
    const exact_task *task = context;
    const flin_rows *rows = task->rows;

    task->predictor->kernels->matvec[rows->type](
        rows->memory.base + (uint64_t)begin * rows->row_bytes, end - begin, task->predictor->width,
        task->x, NULL, task->predictor->activation + begin);
}

uint32_t flin_predict_exact(flin_predictor *predictor, const flin_rows *rows, const float *bias,
                            const void *x, uint32_t *ids, float *activations)
{
    exact_task task = {predictor, rows, x};
    uint32_t count = 0;

    if (rows->count == 0) return 0;
    flin_pool_split(predictor->pool, rows->count, SHARE_GRAIN, run_exact, &task);
    for (uint32_t neuron = 0; neuron < rows->count; neuron++) {
        float activation = predictor->activation[neuron] + bias[neuron];
        if (!(activation > 0)) continue;
        ids[count] = neuron;
        activations[count++] = activation;
    }
    return count;
}
