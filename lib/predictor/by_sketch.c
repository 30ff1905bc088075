/*
 * by_sketch.c - naming by a sketch. Its sums are of integers: every machine names the same neurons.
 */
#include "predictor/share.h"

typedef struct sketch_task {
    const flin_kernels *kernels;
    const flin_sketch *sketch;
    uint32_t inputs;
    float scales[FLIN_INPUTS_MAX];
    const int8_t *levels[FLIN_INPUTS_MAX];
    uint64_t *masks[FLIN_INPUTS_MAX];
} sketch_task;

static void run_sketch(void *context, uint32_t begin, uint32_t end)
{
    const sketch_task *task = context;

    flin_sketch_masks(task->kernels, task->sketch, task->levels, task->scales, task->inputs, begin,
                      end, task->masks);
}

static void name_by_sketch(flin_predictor *predictor, const flin_layer_predictor *layer,
                           const flin_predictor_input *input, flin_names *names)
{
    sketch_task task = {
        .kernels = predictor->kernels, .sketch = &layer->sketch, .inputs = input->count};

    for (uint32_t i = 0; i < input->count; i++) {
        int8_t *levels = predictor->levels + (uint64_t)i * predictor->levels_bytes;
        task.scales[i] = predictor->kernels->sketch_input(&layer->sketch, input->x[i], levels);
        task.levels[i] = levels;
        task.masks[i] = predictor->masks + (uint64_t)i * predictor->words;
    }
    flin_pool_split(predictor->pool, predictor->neurons, FLIN_SHARE_GRAIN, run_sketch, &task);
    names->streamed_from = predictor->neurons;
}

static int check_sketch(const flin_layer_predictor *layer, const flin_kernels *kernels, int index,
                        flashinfer_error *error)
{
    (void)kernels;
    return flin_sketch_check(&layer->sketch, index, error);
}

static flin_ahead ahead_of_sketch(const flin_layer_predictor *layer)
{
    const flin_sketch *sketch = &layer->sketch;

    return (flin_ahead){{sketch->tiles},
                        {(sketch->rows + FLIN_SKETCH_TILE_ROWS - 1) / FLIN_SKETCH_TILE_ROWS},
                        FLIN_SHARE_GRAIN / FLIN_SKETCH_TILE_ROWS,
                        FLIN_SKETCH_SIDES,
                        flin_sketch_tile_bytes(sketch->cols, sketch->bits)};
}

const flin_predictor_kind flin_predictor_sketch = {.name = "sketch",
                                                   .caches = 1,
                                                   .misses = 1,
                                                   .check = check_sketch,
                                                   .ahead = ahead_of_sketch,
                                                   .name_neurons = name_by_sketch};
