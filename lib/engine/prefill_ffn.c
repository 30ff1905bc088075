/*
 * prefill_ffn.c - the FFN of a chunk of tokens, dense: runs of neurons, from memory when the whole
 * layer is there, else from the file while the run before is computed. Up is one product for all
 * tokens; down adds, token by token and in ascending order of neurons, the rows of those that fire,
 * as single steps do: few do.
 */
#include <string.h>

#include "engine/model.h"
#include "engine/prefill.h"

#define KEPT_TOKENS 8u /* the last of a chunk, whose neurons a continuation is likely to fire */

typedef struct ffn_run {
    flashinfer_session *session;
    uint32_t layer;
    uint32_t count;   /* tokens */
    uint32_t neurons; /* of this run */
    _Atomic uint64_t fired;
} ffn_run;

/* ----------------------------------------------------------------------------------------- down */

/* projected += down rows of what fires, for a share of the tokens */
static void run_down(void *context, uint32_t index, uint32_t count)
{
    ffn_run *run = context;
    flashinfer_model *model = run->session->model;
    flin_prefill *prefill = &model->prefill;
    flin_prefill_thread *thread = &prefill->threads[index];
    enum flin_type type = model->shape.bundle.parts[FLIN_PART_DOWN].type;
    uint32_t width = model->shape.width, begin, end;

    flin_pool_share(run->count, 1, index, count, &begin, &end);
    for (uint32_t token = begin; token < end; token++) {
        const float *activations = prefill->activations + (uint64_t)token * model->stream_rows;
        uint32_t firing = 0;
        if (atomic_load(&run->session->cancelled) != 0) return;
        for (uint32_t i = 0; i < run->neurons; i++) {
            if (!(activations[i] > 0)) continue;
            thread->firing[firing] = activations[i];
            thread->rows[firing++] = prefill->down[i];
        }
        if (firing == 0) continue;
        model->kernels->add_rows[type](thread->rows, thread->firing, firing, 0, width,
                                       prefill->projected + (uint64_t)token * width);
        atomic_fetch_add(&run->fired, firing);
    }
}

/* Neurons [first, first + run->neurons) of the layer, whose rows prefill->up and ->down point
   to. */
static int compute(ffn_run *run, uint32_t first)
{
    flashinfer_model *model = run->session->model;
    flin_prefill *prefill = &model->prefill;
    const float *bias = model->weights.layers[run->layer].ffn.up_bias;
    flin_gemm_rows rows = {prefill->up,
                           NULL,
                           0,
                           run->neurons,
                           model->shape.width,
                           model->shape.bundle.parts[FLIN_PART_UP].type};

    flin_prefill_product(run->session, &rows, bias + first, run->count, prefill->activations,
                         model->stream_rows);
    if (atomic_load(&run->session->cancelled) != 0) return FLASHINFER_ECANCELED;
    flin_pool_run(&model->pool, run_down, run);
    return atomic_load(&run->session->cancelled) != 0 ? FLASHINFER_ECANCELED : 0;
}

/* --------------------------------------------------------------------------------------- memory */

/* Is every neuron of the layer in memory? */
static int at_hand(const flashinfer_model *model, uint32_t layer)
{
    if (!flin_uses_cache(&model->config)) return 0;
    if (flin_uses_rows(&model->config) && model->rows[layer].count != model->shape.ffn) return 0;
    return model->cache.layers[layer].used == model->shape.ffn;
}

static void point_at_slots(flashinfer_model *model, uint32_t layer, uint32_t first, uint32_t count)
{
    const flin_part *parts = model->shape.bundle.parts;
    const flin_cache_layer *cached = &model->cache.layers[layer];
    uint32_t skip = cached->extent.skip_bytes;

    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *payload = flin_cache_slot(&model->cache, cached->entries[first + i].slot) +
                                 flin_extent_lead(&cached->extent, first + i);
        model->prefill.up[i] = flin_uses_rows(&model->config)
                                   ? model->rows[layer].memory.base +
                                         (uint64_t)(first + i) * model->rows[layer].row_bytes
                                   : payload + parts[FLIN_PART_UP].offset_bytes;
        model->prefill.down[i] = payload + parts[FLIN_PART_DOWN].offset_bytes - skip;
    }
}

static int run_at_hand(ffn_run *run)
{
    flashinfer_model *model = run->session->model;
    uint32_t ffn = model->shape.ffn;
    int code = 0;

    for (uint32_t first = 0; first < ffn && code == 0; first += run->neurons) {
        run->neurons = ffn - first < model->stream_rows ? ffn - first : model->stream_rows;
        point_at_slots(model, run->layer, first, run->neurons);
        code = compute(run, first);
    }
    return code;
}

/* ---------------------------------------------------------------------------------------- flash */

static int fires_late(const ffn_run *run, uint32_t index)
{
    const flashinfer_model *model = run->session->model;
    uint32_t first = run->count < KEPT_TOKENS ? 0 : run->count - KEPT_TOKENS;

    for (uint32_t token = first; token < run->count; token++)
        if (model->prefill.activations[(uint64_t)token * model->stream_rows + index] > 0) return 1;
    return 0;
}

typedef struct copy_task {
    flashinfer_model *model;
    const flin_neurons *neurons;
    const uint32_t *list; /* (count) which of them, slots given */
    uint32_t count;
} copy_task;

static void run_copy(void *context, uint32_t index, uint32_t count)
{
    const copy_task *task = context;
    const flin_cache *cache = &task->model->cache;
    const flin_cache_layer *layer = &cache->layers[task->neurons->layer];
    const flin_cache_extent *extent = &layer->extent;
    uint32_t begin, end;

    flin_pool_share(task->count, 1, index, count, &begin, &end);
    for (uint32_t i = begin; i < end; i++) {
        uint32_t neuron = task->neurons->ids[task->list[i]];
        uint8_t *slot = flin_cache_slot(cache, layer->entries[neuron].slot);
        memcpy(slot + flin_extent_lead(extent, neuron),
               task->neurons->rows[task->list[i]] + extent->skip_bytes, extent->bytes);
    }
}

/* Neurons that fire for the last tokens go from the buffer into the cache, and others too while
   slots are empty: when all have one, the next prompt reads nothing. */
static void keep(const ffn_run *run, const flin_neurons *neurons)
{
    flashinfer_model *model = run->session->model;
    flin_cache *cache = &model->cache;
    uint32_t most = flin_cache_wave_max(cache), wanted = 0, missing = 0;
    copy_task task = {model, neurons, model->prefill.missing, 0};
    uint32_t *list = model->prefill.missing;

    flin_cache_begin(cache, run->layer, model->token_count);
    for (uint32_t i = 0; i < run->neurons && wanted < most; i++) {
        if (!fires_late(run, i)) continue;
        wanted++;
        if (flin_cache_want(cache, run->layer, neurons->ids[i]) == FLIN_CACHE_NONE)
            list[missing++] = i;
    }
    flin_cache_make_room(cache, run->layer, missing);
    for (; task.count < missing; task.count++)
        (void)flin_cache_admit(cache, run->layer, neurons->ids[list[task.count]]);
    for (uint32_t i = 0; i < run->neurons && flin_cache_room(cache, run->layer) != 0; i++) {
        if (cache->layers[run->layer].entries[neurons->ids[i]].slot != FLIN_CACHE_NONE) continue;
        (void)flin_cache_admit(cache, run->layer, neurons->ids[i]);
        list[task.count++] = i;
    }
    if (task.count != 0) flin_pool_run(&model->pool, run_copy, &task);
}

static int take_streamed(flashinfer_session *session, const flin_neurons *neurons, uint32_t count,
                         void *context, flashinfer_error *error)
{
    ffn_run *run = context;
    flashinfer_model *model = session->model;
    const flin_part *parts = model->shape.bundle.parts;
    int code;

    (void)error;
    run->neurons = count;
    for (uint32_t i = 0; i < count; i++) {
        model->prefill.up[i] = neurons->rows[i] + parts[FLIN_PART_UP].offset_bytes;
        model->prefill.down[i] = neurons->rows[i] + parts[FLIN_PART_DOWN].offset_bytes;
    }
    code = compute(run, neurons->ids[0]);
    if (code == 0 && flin_uses_cache(&model->config)) keep(run, neurons);
    return code;
}

int flin_prefill_ffn(flashinfer_session *session, uint32_t layer, uint32_t count,
                     const float *input, flashinfer_error *error)
{
    flashinfer_model *model = session->model;
    const flin_layer *weights = &model->weights.layers[layer];
    uint32_t width = model->shape.width;
    ffn_run run = {session, layer, count, 0, 0};
    int code;

    flin_prefill_pack(model, input, count);
    for (uint32_t token = 0; token < count; token++)
        memcpy(model->prefill.projected + (uint64_t)token * width, weights->ffn.down_bias,
               width * sizeof(float));
    code = at_hand(model, layer) ? run_at_hand(&run)
                                 : flin_stream_each(session, layer, take_streamed, &run, error);
    model->stats.active += run.fired;
    return code;
}
