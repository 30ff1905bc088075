/*
 * ffn.c - the FFN of one layer as the paper has it: predict, look into the cache, read what is
 * missing, compute.
 *
 * Exactly the predicted neurons are computed, in ascending order. When they need more slots than
 * the cache has they are taken in waves, each a run of that order, so the result does not depend on
 * how many slots there are.
 */
#include <string.h>

#include "engine/model.h"
#include "util/clock.h"

#define EXPECT_AHEAD 32u /* neurons whose entries are on their way while others are looked up */

/* One wave: neurons ids[0..count) of the layer, at most as many as there are slots. */
typedef struct wave {
    flashinfer_model *model;
    const flin_cache_extent *extent;
    flin_neurons neurons;
    uint32_t count;
    uint32_t present; /* found in the cache: scratch.present */
    uint32_t missing; /* to be read: scratch.missing, scratch.fetches */
    uint32_t last;    /* 1: the layer ends with it */
    const void *x;    /* of up rows; NULL when the predictor already gave the activations (exact) */
} wave;

/* Where neuron i's payload lies once its slot is known. */
static void point_at(wave *at, uint32_t i, uint32_t slot)
{
    flashinfer_model *model = at->model;
    uint32_t lead = flin_extent_lead(at->extent, at->neurons.ids[i]);

    model->scratch.rows[i] = flin_cache_slot(&model->cache, slot) + lead;
}

/* Split the wave into present and missing neurons. */
static void look_up(wave *at)
{
    flashinfer_model *model = at->model;
    flin_scratch *scratch = &model->scratch;
    flin_cache *cache = &model->cache;
    uint32_t layer = at->neurons.layer;

    flin_cache_begin(cache, layer, model->token_count);
    for (uint32_t i = 0; i < at->count; i++) {
        if (i + EXPECT_AHEAD < at->count)
            flin_cache_expect(cache, layer, at->neurons.ids[i + EXPECT_AHEAD]);
        uint32_t slot = flin_cache_find(cache, layer, at->neurons.ids[i]);
        if (slot == FLIN_CACHE_NONE)
            scratch->missing[at->missing++] = i;
        else {
            scratch->present[at->present++] = i;
            point_at(at, i, slot);
        }
    }
    model->stats.resident += at->present;
    model->stats.missing += at->missing;
}

/* Give the missing neurons slots. */
static void admit(wave *at)
{
    flashinfer_model *model = at->model;
    flin_scratch *scratch = &model->scratch;
    flin_cache *cache = &model->cache;
    uint32_t layer = at->neurons.layer;
    uint64_t alignment = at->extent->alignment;

    flin_cache_use(cache, layer, at->neurons.ids, at->count);
    flin_cache_make_room(cache, layer, at->missing);
    flin_rows_sort(model, layer, at->neurons.ids, scratch->missing, at->missing);
    for (uint32_t i = 0; i < at->missing; i++) {
        uint32_t index = scratch->missing[i], neuron = at->neurons.ids[index];
        uint32_t slot = flin_cache_admit(cache, layer, neuron);
        uint64_t begin = flin_extent_begin(at->extent, neuron);
        flin_fetch *fetch = &scratch->fetches[i];
        point_at(at, index, slot);
        fetch->offset = flin_round_down(begin, alignment);
        fetch->bytes =
            (uint32_t)(flin_round_up(begin + at->extent->bytes, alignment) - fetch->offset);
        fetch->data = flin_cache_slot(cache, slot);
    }
}

static int lost_neuron(wave *at, uint32_t index, int code, flashinfer_error *error)
{
    uint32_t neuron = at->neurons.ids[index];

    if (error != NULL && error->size >= sizeof *error) {
        error->layer = (int32_t)at->neurons.layer;
        error->neuron = neuron;
        error->offset = (int64_t)flin_extent_begin(at->extent, neuron);
    }
    return code;
}

/* A neuron whose bytes are wrong is read once more. */
static int reread(wave *at, uint32_t index, flashinfer_error *error)
{
    flashinfer_model *model = at->model;
    uint32_t layer = at->neurons.layer, neuron = at->neurons.ids[index];
    uint64_t begin = flin_extent_begin(at->extent, neuron);
    uint8_t *slot = flin_cache_slot(&model->cache, model->cache.layers[layer].entries[neuron].slot);
    int code;

    model->stats.read_retries++;
    code = flin_storage_read(&model->storage, begin, slot + flin_extent_lead(at->extent, neuron),
                             at->extent->bytes, "a bundle", error);
    if (code != 0) return lost_neuron(at, index, code, error);
    if (flin_neuron_intact(model, &at->neurons, index)) return 0;
    return flin_fail_at(
        error, FLASHINFER_ECORRUPT, (int)at->neurons.layer, neuron, (int64_t)begin,
        "layer %u neuron %u at byte %llu does not match its checksum: the file or drive is damaged",
        at->neurons.layer, neuron, (unsigned long long)begin);
}

/* Bundles that have just landed: check them, compute their activations. list: indices into ids. */
static int take_landed(wave *at, const uint32_t *list, uint32_t count, flashinfer_error *error)
{
    flashinfer_model *model = at->model;
    int verify = model->config.verify != FLASHINFER_VERIFY_NONE;
    uint32_t damaged = 0;

    if (at->x != NULL)
        damaged = flin_neurons_activate(model, &at->neurons, list, count, at->x, verify);
    else if (verify)
        damaged = flin_neurons_verify(model, &at->neurons, list, count);
    for (uint32_t i = 0; damaged != 0 && i < count; i++) {
        if (!at->neurons.damaged[list[i]]) continue;
        int code = reread(at, list[i], error);
        if (code != 0) return code;
        if (at->x != NULL) (void)flin_neurons_activate(model, &at->neurons, &list[i], 1, at->x, 0);
    }
    return 0;
}

/* Collect what lands until nothing is outstanding. */
static int drain(wave *at, flashinfer_session *session, flashinfer_error *error)
{
    flashinfer_model *model = at->model;
    flin_scratch *scratch = &model->scratch;
    uint32_t landed = at->missing, failed = 0; /* nothing missing: nothing to wait for */
    int code = 0;

    while (code == 0 && landed != 0) {
        uint64_t started_ns = flin_now_ns();
        code = flin_batch_collect(model->batch, 1, scratch->landed, at->missing, &landed, &failed,
                                  error);
        model->stats.io_wait_ns += flin_now_ns() - started_ns;
        if (code != 0)
            return lost_neuron(at, scratch->missing[failed < at->missing ? failed : 0], code,
                               error);
        for (uint32_t i = 0; i < landed; i++)
            scratch->landed[i] = scratch->missing[scratch->landed[i]];
        code = take_landed(at, scratch->landed, landed, error);
        if (code == 0 && atomic_load(&session->cancelled) != 0) code = FLASHINFER_ECANCELED;
    }
    return code;
}

/* Nothing half-read may stay in the cache. */
static void forget_missing(wave *at)
{
    flin_batch_abandon(at->model->batch);
    for (uint32_t i = 0; i < at->missing; i++)
        flin_cache_drop(&at->model->cache, at->neurons.layer,
                        at->neurons.ids[at->model->scratch.missing[i]]);
}

/* Hand the reads over and meanwhile compute what is at hand. */
static void begin_reading(wave *at)
{
    flashinfer_model *model = at->model;
    uint64_t started_ns = flin_now_ns();

    if (at->x != NULL) {
        model->stats.io_wait_ns += flin_neurons_activate_reading(
            model, &at->neurons, model->scratch.present, at->present, at->x);
        return;
    }
    flin_batch_push(model->batch);
    model->stats.io_wait_ns += flin_now_ns() - started_ns;
}

/* Make room for what is missing, read it, compute everything. */
static int read_wave(flashinfer_session *session, wave *at, flashinfer_error *error)
{
    flashinfer_model *model = at->model;
    uint64_t started_ns = flin_now_ns();
    int code;

    admit(at);
    model->stats.memory_ns += flin_now_ns() - started_ns;
    code = flin_batch_prepare(model->batch, model->scratch.fetches, at->missing, error);
    if (code == 0) {
        begin_reading(at);
        code = drain(at, session, error);
    }
    if (code != 0) forget_missing(at);
    return code;
}

/* When nothing is missing, the cache need not know who was wanted before the layer's next wave. */
static int run_wave(flashinfer_session *session, wave *at, float *y, flashinfer_error *error)
{
    flashinfer_model *model = at->model;
    uint64_t started_ns = flin_now_ns();
    int code = 0;

    look_up(at);
    model->stats.memory_ns += flin_now_ns() - started_ns;
    if (at->missing == 0 && at->x != NULL)
        model->stats.memory_ns += flin_neurons_activate_using(
            model, &at->neurons, model->scratch.present, at->count, at->x);
    else
        code = read_wave(session, at, error);
    if (code != 0) return code;
    if (at->last) flin_expect_attention(model, at->neurons.layer + 1);
    model->stats.active += flin_neurons_sum(model, &at->neurons, at->count, y);
    return 0;
}

/* All predicted neurons, in as many waves as the slots ask for. last: nothing of the layer comes
   after them. */
static int run_waves(flashinfer_session *session, uint32_t layer, uint32_t count, uint32_t last,
                     const void *x, float *y, flashinfer_error *error)
{
    flashinfer_model *model = session->model;
    flin_scratch *scratch = &model->scratch;
    const flin_cache_extent *extent = &model->cache.layers[layer].extent;
    uint32_t most = flin_cache_wave_max(&model->cache);

    for (uint32_t begin = 0; begin < count; begin += most) {
        wave at = {model,
                   extent,
                   {layer, scratch->ids + begin, scratch->rows, scratch->activations + begin,
                    scratch->damaged, extent->skip_bytes},
                   count - begin < most ? count - begin : most,
                   0,
                   0,
                   last && count - begin <= most,
                   x};
        int code = run_wave(session, &at, y, error);
        if (code != 0) return code;
        if (begin != 0) model->stats.waves++;
    }
    return 0;
}

static void trace(const flashinfer_model *model, uint32_t layer, uint32_t count)
{
    const flin_shape *shape = &model->shape;
    flashinfer_trace asked = {sizeof asked,
                              layer,
                              shape->layers,
                              shape->ffn,
                              shape->bundle.stride_bytes,
                              count,
                              model->weights.layers[layer].ffn.bundles.offset,
                              model->token_count,
                              model->scratch.ids};

    if (model->config.trace != NULL) model->config.trace(&asked, model->config.trace_user);
}

static void show_input(const flashinfer_model *model, uint32_t layer, const float *x)
{
    flashinfer_ffn_input input = {
        sizeof input, layer, model->shape.layers, model->shape.width, model->token_count, x};

    if (model->config.ffn_input != NULL)
        model->config.ffn_input(&input, model->config.ffn_input_user);
}

int flin_ffn(flashinfer_session *session, uint32_t layer, const float *input,
             flashinfer_error *error)
{
    flashinfer_model *model = session->model;
    const flin_layer *weights = &model->weights.layers[layer];
    flin_scratch *scratch = &model->scratch;
    flin_batch_counts before = flin_batch_read_counts(model->batch), after;
    const void *x;
    uint64_t started_ns;
    uint32_t count = 0, last, streamed_from = model->shape.ffn;
    int code = 0;

    show_input(model, layer, input);
    started_ns = flin_now_ns();
    memcpy(scratch->projected, weights->ffn.down_bias, model->shape.width * sizeof(float));
    x = flin_input(model, model->shape.bundle.parts[FLIN_PART_UP].type, input, model->shape.width);
    if (flin_uses_names(&model->config)) {
        flin_expect_attention(model, layer + 1);
        count = flin_predict_named(&model->predictor, &weights->predictor, input, scratch->ids);
    } else {
        streamed_from = flin_uses_rows(&model->config) ? model->rows[layer].count : 0;
        count = flin_predict_exact(&model->predictor, &model->rows[layer], weights->ffn.up_bias, x,
                                   scratch->ids, scratch->activations);
    }
    model->stats.predict_ns += flin_now_ns() - started_ns;
    model->stats.predicted += count;
    if (flin_uses_cache(&model->config)) trace(model, layer, count);

    last = streamed_from >= model->shape.ffn && model->config.audit_interval == 0;
    if (count != 0)
        code = run_waves(session, layer, count, last, flin_uses_names(&model->config) ? x : NULL,
                         scratch->projected, error);
    if (code == 0) code = flin_stream(session, layer, streamed_from, x, scratch->projected, error);
    after = flin_batch_read_counts(model->batch);
    model->stats.flash_reads += after.reads - before.reads;
    model->stats.flash_bytes += after.bytes - before.bytes;
    model->stats.read_retries += after.retries - before.retries;
    model->stats.io_submit_ns += after.submit_ns - before.submit_ns;
    return code != 0 ? code : flin_audit(session, layer, x, count, error);
}
