/*
 * activity_measure.c - the engine's step, turned inside out: all tokens of a layer, then the next.
 */
#include "activity_measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/attention.h"
#include "engine/embed.h"
#include "engine/norm.h"
#include "engine/run.h"

#define CHUNK_NEURONS 64u
#define SCORE_MAX 16.0f /* beyond it no threshold is looked for */
#define BINS_PER_ONE 1024.0f
#define BINS ((uint32_t)(2 * SCORE_MAX * BINS_PER_ONE))

typedef struct measuring {
    flashinfer_model *model;
    flashinfer_session *session;
    const activity_options *options;
    const int32_t *tokens;
    uint32_t count;
    int has_sketch;
    uint64_t firing;
    float *hidden;   /* (count, width) residual stream */
    float *input;    /* (count, width) of the layer's FFN */
    float *before;   /* (count, width) of the FFN before */
    float *output;   /* (count, width) of the layer's FFN */
    float *scores;   /* (neurons, count) pre-activations of the layer */
    uint32_t *bins;  /* (BINS) how many scores lie where */
    uint64_t *named; /* (count, neurons / 64) what the sketch names */
    uint32_t *ids;   /* (neurons) */
    uint8_t *chunk;  /* (CHUNK_NEURONS, stride) bundles */
} measuring;

/* ---------------------------------------------------------------------------------- one layer */

/* A narrow pass of one row, at position t; row must stay while it is used. */
static flin_pass *pass_at(measuring *run, flin_row *row, uint32_t t)
{
    flin_pass *pass = &run->model->pass;

    *row = (flin_row){run->session, t, run->tokens[t], NULL};
    pass->rows = row;
    pass->count = 1;
    pass->wide = 0;
    return pass;
}

static void embed(measuring *run, uint32_t t)
{
    const uint32_t width = run->model->shape.width;
    flin_row row;
    flin_pass *pass = pass_at(run, &row, t);

    (void)flin_embed(pass, NULL); /* everything is in memory: nothing can fail */
    memcpy(run->hidden + (size_t)t * width, pass->hidden, width * sizeof(float));
}

static void name_by_sketch(measuring *run, uint32_t layer, uint32_t t)
{
    flashinfer_model *model = run->model;
    size_t words = (model->shape.ffn + 63) / 64;
    flin_predictor_input input = {.count = 1};

    if (!run->has_sketch) return;
    input.x[0] = run->input + (size_t)t * model->shape.width;
    (void)flin_predictor_name(&model->predictor, &model->weights.layers[layer].predictor, &input,
                              run->ids);
    memcpy(run->named + t * words, model->predictor.masks, words * sizeof *run->named);
}

/* Norm, attention, norm: the FFN's inputs. */
static void attend(measuring *run, uint32_t layer)
{
    const flin_layer *weights = &run->model->weights.layers[layer];
    const uint32_t width = run->model->shape.width;

    for (uint32_t t = 0; t < run->count; t++) {
        float *hidden = run->hidden + (size_t)t * width;
        flin_row row;
        flin_pass *pass = pass_at(run, &row, t);

        flin_norm_rows(pass, &weights->attention_norms.before, hidden, pass->normed, 1);
        (void)flin_attention(pass, layer, pass->normed, NULL);
        for (uint32_t i = 0; i < width; i++) hidden[i] += pass->projected[i];
        flin_norm_rows(pass, &weights->ffn_norms.before, hidden, run->input + (size_t)t * width, 1);
        name_by_sketch(run, layer, t);
    }
}

typedef struct chunk_task {
    measuring *run;
    uint32_t layer, first, count;
} chunk_task;

/* Pre-activations of a chunk's neurons, and what the firing ones add: threads share the tokens. */
static void run_chunk(void *context, uint32_t index, uint32_t thread_count)
{
    const chunk_task *task = context;
    measuring *run = task->run;
    const flashinfer_model *model = run->model;
    const flin_shape *shape = &model->shape;
    const flin_part *up = flin_bundle_part(&shape->bundle, FLIN_PART_UP),
                    *down = flin_bundle_part(&shape->bundle, FLIN_PART_DOWN);
    const float *bias = model->weights.layers[task->layer].ffn.up_bias + task->first;
    const void *rows[CHUNK_NEURONS], *firing_rows[CHUNK_NEURONS];
    float sums[CHUNK_NEURONS], firing[CHUNK_NEURONS];
    uint32_t begin, end;

    for (uint32_t i = 0; i < task->count; i++)
        rows[i] = run->chunk + (size_t)i * shape->bundle.stride_bytes + up->offset_bytes;
    flin_pool_share(run->count, 1, index, thread_count, &begin, &end);
    for (uint32_t t = begin; t < end; t++) {
        uint32_t fired = 0;
        model->compute.kernels->dot_rows[up->type](rows, task->count, shape->width,
                                                   run->input + (size_t)t * shape->width, sums);
        for (uint32_t i = 0; i < task->count; i++) {
            float score = sums[i] + bias[i];
            run->scores[(size_t)(task->first + i) * run->count + t] = score;
            if (!(score > 0)) continue;
            firing[fired] = score;
            firing_rows[fired++] =
                run->chunk + (size_t)i * shape->bundle.stride_bytes + down->offset_bytes;
        }
        if (fired != 0)
            model->compute.kernels->add_rows[down->type](firing_rows, firing, fired, 0,
                                                         shape->width,
                                                         run->output + (size_t)t * shape->width);
    }
}

static int feed_forward(measuring *run, uint32_t layer, flashinfer_error *error)
{
    flashinfer_model *model = run->model;
    const flin_layer *weights = &model->weights.layers[layer];
    const flin_shape *shape = &model->shape;
    size_t total = (size_t)run->count * shape->width;

    for (uint32_t t = 0; t < run->count; t++)
        memcpy(run->output + (size_t)t * shape->width, weights->ffn.down_bias,
               shape->width * sizeof(float));
    for (uint32_t first = 0; first < shape->ffn; first += CHUNK_NEURONS) {
        chunk_task task = {run, layer, first, CHUNK_NEURONS};
        int code;
        if (shape->ffn - first < CHUNK_NEURONS) task.count = shape->ffn - first;
        code = flin_storage_read(
            &model->storage,
            weights->ffn.bundles.offset + (uint64_t)first * shape->bundle.stride_bytes, run->chunk,
            (uint64_t)task.count * shape->bundle.stride_bytes, "bundles", error);
        if (code != 0) return code;
        flin_pool_run(&model->compute.pool, run_chunk, &task);
    }
    for (size_t i = 0; i < total; i++) run->hidden[i] += run->output[i];
    return 0;
}

/* ------------------------------------------------------------------------------------- counting */

/* Adds one neuron's series to the counts of a set, in neurons x tokens. flags: (count) */
static void count_series(const measuring *run, const uint8_t *flags, activity_set *set)
{
    uint32_t window = run->options->window_tokens, quiet = UINT32_MAX; /* tokens since it was in */

    for (uint32_t t = 0; t < run->count; t++) {
        int counts = t >= run->options->skip_tokens;
        if (quiet != UINT32_MAX) quiet++;
        if (flags[t]) {
            if (counts && quiet > window) set->loaded++;
            if (counts) set->share++;
            quiet = 0;
        }
        if (counts && quiet <= window) set->cached++;
    }
}

static void divide(activity_set *set, double by)
{
    set->share /= by;
    set->cached /= by;
    set->loaded /= by;
}

/* The score above which named_share of the layer's neurons lie over the counted tokens. */
static float find_threshold(measuring *run)
{
    uint32_t neurons = run->model->shape.ffn, bin = BINS;
    double wanted = run->options->named_share * neurons * (run->count - run->options->skip_tokens);
    double above = 0;

    memset(run->bins, 0, BINS * sizeof *run->bins);
    for (uint32_t i = 0; i < neurons; i++) {
        for (uint32_t t = run->options->skip_tokens; t < run->count; t++) {
            float at = (run->scores[(size_t)i * run->count + t] + SCORE_MAX) * BINS_PER_ONE;
            run->bins[at <= 0 ? 0 : at >= (float)BINS - 1 ? BINS - 1 : (uint32_t)at]++;
        }
    }
    while (bin > 1 && above < wanted) above += run->bins[--bin];
    return (float)bin / BINS_PER_ONE - SCORE_MAX;
}

static double similarity(const measuring *run)
{
    uint32_t width = run->model->shape.width;
    double sum = 0;

    for (uint32_t t = run->options->skip_tokens; t < run->count; t++) {
        const float *x = run->input + (size_t)t * width, *y = run->before + (size_t)t * width;
        double xy = 0, xx = 0, yy = 0;
        for (uint32_t i = 0; i < width; i++) {
            xy += (double)x[i] * y[i];
            xx += (double)x[i] * x[i];
            yy += (double)y[i] * y[i];
        }
        sum += xy / sqrt(xx * yy);
    }
    return sum / (run->count - run->options->skip_tokens);
}

static void count_layer(measuring *run, uint32_t layer_index, activity_layer *layer, uint8_t *flags)
{
    uint32_t neurons = run->model->shape.ffn, skip = run->options->skip_tokens;
    size_t words = (neurons + 63) / 64;
    double total = (double)neurons * (run->count - skip), found = 0;
    float threshold = find_threshold(run);

    memset(layer, 0, sizeof *layer);
    for (uint32_t i = 0; i < neurons; i++) {
        const float *scores = run->scores + (size_t)i * run->count;
        for (uint32_t t = 0; t < run->count; t++) {
            flags[t] = scores[t] > 0;
            run->firing += flags[t];
        }
        count_series(run, flags, &layer->active);
        for (uint32_t t = 0; t < run->count; t++) flags[t] = scores[t] > threshold;
        count_series(run, flags, &layer->named);
        if (!run->has_sketch) continue;
        for (uint32_t t = 0; t < run->count; t++) {
            flags[t] = (uint8_t)(run->named[t * words + i / 64] >> i % 64 & 1);
            found += t >= skip && flags[t] && scores[t] > 0;
        }
        count_series(run, flags, &layer->sketch);
    }
    if (layer->active.share > 0) layer->sketch_recall = found / layer->active.share;
    divide(&layer->active, total);
    divide(&layer->named, total);
    divide(&layer->sketch, total);
    layer->similarity = layer_index > 0 ? similarity(run) : 0;
}

/* ------------------------------------------------------------------------------------ the story */

static void add_set(activity_set *sum, const activity_set *set)
{
    sum->share += set->share;
    sum->cached += set->cached;
    sum->loaded += set->loaded;
}

static void average(activity_result *result)
{
    activity_layer *mean = &result->mean;
    uint32_t count = result->layer_count;

    memset(mean, 0, sizeof *mean);
    for (uint32_t i = 0; i < count; i++) {
        const activity_layer *layer = &result->layers[i];
        add_set(&mean->active, &layer->active);
        add_set(&mean->named, &layer->named);
        add_set(&mean->sketch, &layer->sketch);
        mean->sketch_recall += layer->sketch_recall / count;
        mean->similarity += count > 1 ? layer->similarity / (count - 1) : 0;
    }
    divide(&mean->active, count);
    divide(&mean->named, count);
    divide(&mean->sketch, count);
}

static int allocate(measuring *run, flashinfer_error *error)
{
    size_t neurons = run->model->shape.ffn, count = run->count;
    size_t states = count * run->model->shape.width * sizeof(float);

    run->hidden = malloc(states);
    run->input = malloc(states);
    run->before = malloc(states);
    run->output = malloc(states);
    run->scores = malloc(neurons * count * sizeof(float));
    run->bins = malloc(BINS * sizeof(uint32_t));
    run->named = malloc((neurons + 63) / 64 * count * sizeof(uint64_t));
    run->ids = malloc(neurons * sizeof(uint32_t));
    run->chunk = aligned_alloc(
        4096, flin_round_up((uint64_t)CHUNK_NEURONS * run->model->shape.bundle.stride_bytes, 4096));
    if (run->hidden == NULL || run->input == NULL || run->before == NULL || run->output == NULL ||
        run->scores == NULL || run->bins == NULL || run->named == NULL || run->ids == NULL ||
        run->chunk == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for %u tokens", run->count);
    return 0;
}

static void release(measuring *run)
{
    free(run->hidden);
    free(run->input);
    free(run->before);
    free(run->output);
    free(run->scores);
    free(run->bins);
    free(run->named);
    free(run->ids);
    free(run->chunk);
    flashinfer_session_destroy(run->session);
    (void)flashinfer_model_close(run->model);
}

/* In the smallest budget: no bundle is cached here. */
static int open_model(measuring *run, const char *path, flashinfer_error *error)
{
    flashinfer_options options;
    flashinfer_plan plan;
    int code;

    flashinfer_options_init(&options, sizeof options);
    options.threads = run->options->threads;
    options.context_tokens = run->count;
    memset(&plan, 0, sizeof plan);
    plan.size = sizeof plan;
    code = flashinfer_plan_file(path, &options, &plan, error);
    if (code != 0) return code;
    options.memory_budget = plan.minimum_bytes;
    code = flashinfer_model_open(path, &options, &run->model, error);
    if (code == 0) code = flashinfer_session_create(run->model, &run->session, error);
    if (code != 0) return code;
    run->has_sketch = run->model->settings.predictor == FLASHINFER_PREDICTOR_SKETCH;
    if (run->model->shape.gated || run->model->shape.activation.kind != FLIN_ACTIVATION_RELU)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "gated FFNs and other activations than relu cannot be measured");
    if (!run->model->shape.norm_before || run->model->weights.project_in.weight.data != NULL)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "post-norm models and embedding projections cannot be measured");
    for (uint32_t t = 0; t < run->count; t++)
        if (run->tokens[t] < 0 || (uint32_t)run->tokens[t] >= run->model->shape.vocab)
            return flin_fail(error, FLASHINFER_ETOKEN, "token %u is %d", t, run->tokens[t]);
    return allocate(run, error);
}

static int measure_layers(measuring *run, activity_result *result, flashinfer_error *error)
{
    uint8_t *flags = malloc(run->count);
    int code = 0;

    result->layer_count = run->model->shape.layers;
    result->layers = calloc(result->layer_count, sizeof *result->layers);
    if (flags == NULL || result->layers == NULL)
        code = flin_fail(error, FLASHINFER_ENOMEM, "no memory for the result");
    for (uint32_t t = 0; t < run->count && code == 0; t++) embed(run, t);
    for (uint32_t layer = 0; layer < result->layer_count && code == 0; layer++) {
        float *before = run->before;
        run->before = run->input;
        run->input = before;
        attend(run, layer);
        code = feed_forward(run, layer, error);
        if (code == 0) count_layer(run, layer, &result->layers[layer], flags);
    }
    free(flags);
    return code;
}

int activity_measure(const char *path, const int32_t *tokens, uint32_t count,
                     const activity_options *options, activity_result *result,
                     flashinfer_error *error)
{
    measuring run = {.options = options, .tokens = tokens, .count = count};
    int code;

    memset(result, 0, sizeof *result);
    if (count <= options->skip_tokens || options->skip_tokens < options->window_tokens)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "%u tokens with %u skipped cannot show a window of %u", count,
                         options->skip_tokens, options->window_tokens);
    code = open_model(&run, path, error);
    if (code == 0) code = measure_layers(&run, result, error);
    if (code == 0) {
        average(result);
        result->has_sketch = run.has_sketch;
        result->firing = run.firing;
    } else {
        activity_release(result);
    }
    release(&run);
    return code;
}

void activity_release(activity_result *result)
{
    free(result->layers);
    memset(result, 0, sizeof *result);
}
