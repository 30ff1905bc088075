/*
 * neurons.c - arithmetic over lists of neurons whose bundles are at hand. Every activation is
 * computed on its own, and the sum runs over the list in its order with the threads sharing the
 * columns, so neither arrival order nor thread count can change a bit of the result.
 */
#include <stdatomic.h>

#include "engine/model.h"
#include "util/clock.h"
#include "util/hash.h"

#define GROUP 64u /* neurons handed to a kernel at once */
#define GROUP_MIN 4u
#define COLUMN_GRAIN 64u /* columns: what kernels ask of a split */
#define PARALLEL_MIN 8u  /* lists shorter than this are not worth waking threads for */

typedef struct activate_task {
    const flashinfer_model *model;
    const flin_neurons *neurons;
    const uint32_t *list;
    uint32_t count;
    uint32_t group; /* neurons a thread takes at once */
    const void *x;  /* flin_input() of it; NULL: only verify */
    int verify;
    flin_batch *reads; /* handed over by the caller's thread beside the computing; NULL: none */
    flin_cache
        *cache; /* told by it, instead, that the first `count` neurons are wanted; NULL: it knows */
    uint64_t told_ns;              /* which took so long */
    _Atomic uint32_t next;         /* of list, not taken by any thread yet */
    _Atomic uint64_t exhausted_ns; /* when a thread first found nothing to take; 0: none has */
    uint64_t handed_over_ns;       /* when all reads the queue took at first were in it */
} activate_task;

int flin_neuron_intact(const flashinfer_model *model, const flin_neurons *neurons, uint32_t index)
{
    const flin_shape *shape = &model->shape;
    const flin_layer *layer = &model->weights.layers[neurons->layer];
    const uint64_t *sums = layer->ffn.bundles.sums +
                           (uint64_t)flin_bundles_index(&layer->ffn.bundles, neurons->ids[index]) *
                               shape->bundle.part_count;

    for (uint32_t part = 0; part < shape->bundle.part_count; part++) {
        const flin_part *at = &shape->bundle.parts[part];
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
    const flin_part *up = &model->shape.bundle.parts[FLIN_PART_UP];
    const float *bias = model->weights.layers[neurons->layer].ffn.up_bias;
    const void *rows[GROUP] = {NULL};
    float sums[GROUP];

    for (uint32_t i = 0; i < count; i++) rows[i] = neurons->rows[list[i]] + up->offset_bytes;
    model->kernels->dot_rows[up->type](rows, count, model->shape.width, task->x, sums);
    for (uint32_t i = 0; i < count; i++) {
        float activation = sums[i] + bias[neurons->ids[list[i]]];
        neurons->activations[list[i]] = activation > 0 ? activation : 0;
    }
}

static void run_group(const activate_task *task, uint32_t at, uint32_t count)
{
    for (uint32_t i = at; task->verify && i < at + count; i++)
        task->neurons->damaged[task->list[i]] =
            (uint8_t)!flin_neuron_intact(task->model, task->neurons, task->list[i]);
    if (task->x != NULL) activate_group(task, task->list + at, count);
}

static void tell_cache(activate_task *task)
{
    uint64_t started_ns = flin_now_ns();

    flin_cache_use(task->cache, task->neurons->layer, task->neurons->ids, task->count);
    task->told_ns = flin_now_ns() - started_ns;
}

/* Threads take groups as they come: one of them may be busy with reads, or with the cache. */
static void run_activate(void *context, uint32_t index, uint32_t count)
{
    activate_task *task = context;
    flin_batch *reads = index == 0 ? task->reads : NULL;
    uint64_t none = 0;
    uint32_t at;

    (void)count;
    if (index == 0 && task->cache != NULL) tell_cache(task);
    if (reads != NULL) {
        flin_batch_push(reads);
        task->handed_over_ns = flin_now_ns();
    }
    while ((at = atomic_fetch_add(&task->next, task->group)) < task->count) {
        run_group(task, at, task->count - at < task->group ? task->count - at : task->group);
        if (reads != NULL) flin_batch_push(reads);
    }
    if (task->reads != NULL)
        (void)atomic_compare_exchange_strong(&task->exhausted_ns, &none, flin_now_ns());
}

static uint32_t run(flashinfer_model *model, activate_task *task)
{
    uint32_t threads = task->count < PARALLEL_MIN ? 1 : model->pool.count, damaged = 0;

    task->group = task->count / (threads * 2);
    if (task->group < GROUP_MIN) task->group = GROUP_MIN;
    if (task->group > GROUP) task->group = GROUP;
    if (threads <= 1)
        run_activate(task, 0, 1);
    else
        flin_pool_run(&model->pool, run_activate, task);
    for (uint32_t i = 0; task->verify && i < task->count; i++)
        damaged += task->neurons->damaged[task->list[i]];
    return damaged;
}

static activate_task task_of(const flashinfer_model *model, const flin_neurons *neurons,
                             const uint32_t *list, uint32_t count, const void *x)
{
    return (activate_task){
        .model = model, .neurons = neurons, .list = list, .count = count, .x = x};
}

uint32_t flin_neurons_activate(flashinfer_model *model, const flin_neurons *neurons,
                               const uint32_t *list, uint32_t count, const void *x, int verify)
{
    activate_task task = task_of(model, neurons, list, count, x);

    task.verify = verify;
    return run(model, &task);
}

static int is_alone(const flashinfer_model *model, uint32_t count)
{
    return model->pool.count <= 1 || count < PARALLEL_MIN;
}

uint64_t flin_neurons_activate_using(flashinfer_model *model, const flin_neurons *neurons,
                                     const uint32_t *list, uint32_t count, const void *x)
{
    activate_task task = task_of(model, neurons, list, count, x);

    task.cache = &model->cache;
    (void)run(model, &task);
    return is_alone(model, count) ? task.told_ns : 0;
}

uint64_t flin_neurons_activate_reading(flashinfer_model *model, const flin_neurons *neurons,
                                       const uint32_t *list, uint32_t count, const void *x)
{
    activate_task task = task_of(model, neurons, list, count, x);
    uint64_t started_ns = flin_now_ns(), beside_ns;

    task.reads = model->batch;
    (void)run(model, &task);
    /* a lone thread computes nothing while it hands over; several do until there is nothing left */
    beside_ns = is_alone(model, count) ? started_ns : atomic_load(&task.exhausted_ns);
    return task.handed_over_ns > beside_ns ? task.handed_over_ns - beside_ns : 0;
}

uint32_t flin_neurons_verify(flashinfer_model *model, const flin_neurons *neurons,
                             const uint32_t *list, uint32_t count)
{
    return flin_neurons_activate(model, neurons, list, count, NULL, 1);
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
    model->kernels->add_rows[model->shape.bundle.parts[FLIN_PART_DOWN].type](
        model->scratch.firing_rows, model->scratch.firing, task->count, begin, end, task->y);
}

uint32_t flin_neurons_sum(flashinfer_model *model, const flin_neurons *neurons, uint32_t count,
                          float *y)
{
    flin_scratch *scratch = &model->scratch;
    sum_task task = {model, 0, y};
    uint32_t down = model->shape.bundle.parts[FLIN_PART_DOWN].offset_bytes - neurons->payload_skip;

    /* no branch: it would be guessed wrong every third time */
    for (uint32_t i = 0; i < count; i++) {
        scratch->firing[task.count] = neurons->activations[i];
        scratch->firing_rows[task.count] = neurons->rows[i] + down;
        task.count += neurons->activations[i] > 0;
    }
    if (task.count == 0) return 0;
    if (task.count < PARALLEL_MIN)
        run_sum(&task, 0, 1);
    else
        flin_pool_run(&model->pool, run_sum, &task);
    return task.count;
}
