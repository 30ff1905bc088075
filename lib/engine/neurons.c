/*
 * neurons.c - arithmetic over lists of neurons whose bundles are at hand. Every activation is computed on its own, and
 * the sum runs over the list in its order with the threads sharing the columns, so neither arrival order nor thread
 * count can change a bit of the result.
 */
#include "engine/model.h"
#include "util/hash.h"

#define GROUP 32u        /* neurons handed to a kernel at once */
#define COLUMN_GRAIN 64u /* columns: what kernels ask of a split */
#define PARALLEL_MIN 8u  /* lists shorter than this are not worth waking threads for */

typedef struct activate_task {
    const flashinfer_model *model;
    const flin_neurons *neurons;
    const uint32_t *list;
    uint32_t count;
    const float *x; /* NULL: only verify */
    int verify;
} activate_task;

int flin_neuron_intact(const flashinfer_model *model, const flin_neurons *neurons, uint32_t index)
{
    const flin_shape *shape = &model->shape;
    const flin_layer *layer = &model->weights.layers[neurons->layer];
    const uint64_t *sums =
        layer->part_sums + (uint64_t)flin_layer_row(layer, neurons->ids[index]) * shape->part_count;

    for (uint32_t part = 0; part < shape->part_count; part++) {
        const flin_part *at = &shape->parts[part];
        if (at->offset_bytes < neurons->payload_skip)
            continue; /* not read, so nothing to compare */
        if (flin_hash(neurons->rows[index] + at->offset_bytes - neurons->payload_skip, at->bytes) !=
            sums[part])
            return 0;
    }
    return 1;
}

static void activate_group(const activate_task *task, const uint32_t *list, uint32_t count)
{
    const flashinfer_model *model = task->model;
    const flin_neurons *neurons = task->neurons;
    const flin_part *up = &model->shape.parts[FLIN_PART_UP];
    const float *bias = model->weights.layers[neurons->layer].up_bias;
    const void *rows[GROUP];
    float sums[GROUP];

    for (uint32_t i = 0; i < count; i++) rows[i] = neurons->rows[list[i]] + up->offset_bytes;
    model->kernels->dot_rows[up->type](rows, count, model->shape.width, task->x, sums);
    for (uint32_t i = 0; i < count; i++) {
        float activation = sums[i] + bias[neurons->ids[list[i]]];
        neurons->activations[list[i]] = activation > 0 ? activation : 0;
    }
}

static void run_activate(void *context, uint32_t index, uint32_t count)
{
    const activate_task *task = context;
    uint32_t begin, end;

    flin_pool_share(task->count, 1, index, count, &begin, &end);
    for (uint32_t at = begin; at < end; at += GROUP) {
        uint32_t group = end - at < GROUP ? end - at : GROUP;
        if (task->verify) {
            for (uint32_t i = at; i < at + group; i++)
                task->neurons->damaged[task->list[i]] =
                    (uint8_t)!flin_neuron_intact(task->model, task->neurons, task->list[i]);
        }
        if (task->x != NULL) activate_group(task, task->list + at, group);
    }
}

static uint32_t run(flashinfer_model *model, activate_task *task)
{
    uint32_t damaged = 0;

    if (task->count < PARALLEL_MIN)
        run_activate(task, 0, 1);
    else
        flin_pool_run(&model->pool, run_activate, task);
    for (uint32_t i = 0; task->verify && i < task->count; i++)
        damaged += task->neurons->damaged[task->list[i]];
    return damaged;
}

uint32_t flin_neurons_activate(flashinfer_model *model, const flin_neurons *neurons,
                               const uint32_t *list, uint32_t count, const float *x, int verify)
{
    activate_task task = {model, neurons, list, count, x, verify};
    return run(model, &task);
}

uint32_t flin_neurons_verify(flashinfer_model *model, const flin_neurons *neurons,
                             const uint32_t *list, uint32_t count)
{
    activate_task task = {model, neurons, list, count, NULL, 1};
    return run(model, &task);
}

typedef struct sum_task {
    const flashinfer_model *model;
    uint32_t count;
    float *y;
} sum_task;

static void run_sum(void *context, uint32_t index, uint32_t count)
{
    const sum_task *task = context;
    const flashinfer_model *model = task->model;
    uint32_t begin, end;

    flin_pool_share(model->shape.width, COLUMN_GRAIN, index, count, &begin, &end);
    if (begin == end) return;
    model->kernels->add_rows[model->shape.parts[FLIN_PART_DOWN].type](
        model->scratch.firing_rows, model->scratch.firing, task->count, begin, end, task->y);
}

uint32_t flin_neurons_sum(flashinfer_model *model, const flin_neurons *neurons, uint32_t count,
                          float *y)
{
    flin_scratch *scratch = &model->scratch;
    sum_task task = {model, 0, y};
    uint32_t down = model->shape.parts[FLIN_PART_DOWN].offset_bytes - neurons->payload_skip;

    for (uint32_t i = 0; i < count; i++) {
        if (!(neurons->activations[i] > 0)) continue;
        scratch->firing[task.count] = neurons->activations[i];
        scratch->firing_rows[task.count++] = neurons->rows[i] + down;
    }
    if (task.count == 0) return 0;
    if (task.count < PARALLEL_MIN)
        run_sum(&task, 0, 1);
    else
        flin_pool_run(&model->pool, run_sum, &task);
    return task.count;
}
