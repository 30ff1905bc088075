/*
 * ffn.c - see ffn.h.
 */
#include "engine/ffn.h"

#include <string.h>

#include "engine/audit.h"
#include "engine/dense.h"
#include "engine/expect.h"
#include "engine/ffn_whole.h"
#include "util/clock.h"

#define EXPECT_AHEAD 32u /* neurons whose entries are on their way while others are looked up */

/* One wave: neurons ids[0..count), at most as many as there are slots. */
typedef struct wave {
    flin_pass *pass;
    flin_neurons neurons;
    const flin_asking_rows *rows;
    uint32_t layer;
    uint32_t count;
    uint32_t present; /* found in the cache: lists.present */
    uint32_t missing; /* to be read: lists.missing, fetcher->fetches */
    uint32_t last;    /* 1: the layer ends with it */
} wave;

/* -------------------------------------------------------------------------------------- look up */

/* Where neuron number i lies once its slot is known. */
static void point_at(const wave *at, uint32_t i, uint32_t slot)
{
    const flin_pass *pass = at->pass;

    pass->lists.payloads[i] = flin_cache_slot(pass->cache, slot) +
                              flin_extent_lead(at->neurons.extent, at->neurons.ids[i]);
}

/* Split the wave into present and missing neurons. */
static void look_up(wave *at)
{
    flin_pass *pass = at->pass;
    flin_cache *cache = pass->cache;
    const uint32_t *ids = at->neurons.ids, *order = at->neurons.extent->bundles->order;

    flin_cache_begin(cache, at->layer, pass->step + pass->count);
    for (uint32_t i = 0; i < at->count; i++) {
        uint32_t slot;
        if (i + EXPECT_AHEAD < at->count) {
            flin_cache_expect(cache, at->layer, ids[i + EXPECT_AHEAD]);
            if (order != NULL) __builtin_prefetch(&order[ids[i + EXPECT_AHEAD]]);
        }
        slot = flin_cache_find(cache, at->layer, ids[i]);
        if (slot == FLIN_CACHE_NONE)
            pass->lists.missing[at->missing++] = i;
        else {
            pass->lists.present[at->present++] = i;
            point_at(at, i, slot);
        }
    }
    pass->tally.resident += at->present;
    pass->tally.missing += at->missing;
}

/* Give the missing neurons slots. */
static void admit(wave *at)
{
    flin_pass *pass = at->pass;
    const flin_extent *extent = at->neurons.extent;
    uint32_t *missing = pass->lists.missing;

    flin_cache_use(pass->cache, at->layer, at->neurons.ids, at->count);
    flin_cache_make_room(pass->cache, at->layer, at->missing);
    flin_fetch_sort(pass->fetcher, extent->bundles, at->neurons.ids, missing, at->missing);
    for (uint32_t i = 0; i < at->missing; i++) {
        uint32_t neuron = at->neurons.ids[missing[i]];
        uint32_t slot = flin_cache_admit(pass->cache, at->layer, neuron);
        pass->lists.payloads[missing[i]] =
            flin_fetch_put(pass->fetcher, i, extent, neuron, flin_cache_slot(pass->cache, slot));
    }
}

/* ----------------------------------------------------------------------------------------- read */

static int reread(wave *at, uint32_t index, flashinfer_error *error)
{
    flin_pass *pass = at->pass;
    uint32_t neuron = at->neurons.ids[index];
    uint32_t slot = flin_cache_find(pass->cache, at->layer, neuron);
    uint8_t *payload =
        flin_cache_slot(pass->cache, slot) + flin_extent_lead(at->neurons.extent, neuron);

    return flin_fetch_again(pass->fetcher, at->neurons.extent, neuron, payload, error);
}

/* Bundles that have just landed: check them, compute their activations. */
static int take_landed(wave *at, uint32_t count, flashinfer_error *error)
{
    flin_pass *pass = at->pass;
    const flin_fetcher *checker = pass->fetcher->verify ? pass->fetcher : NULL;
    const flin_asking_rows *rows =
        flin_neurons_need_no_bytes(&at->neurons, at->rows) ? NULL : at->rows;
    const uint32_t *list = pass->lists.landed;
    uint32_t damaged = 0;

    if (rows != NULL || checker != NULL)
        damaged =
            flin_neurons_activate(pass->compute, &at->neurons, rows, list, count, checker, NULL);
    for (uint32_t i = 0; damaged != 0 && i < count; i++) {
        int code = at->neurons.damaged[list[i]] ? reread(at, list[i], error) : 0;
        if (code != 0) return code;
        if (at->neurons.damaged[list[i]] && rows != NULL)
            (void)flin_neurons_activate(pass->compute, &at->neurons, rows, &list[i], 1, NULL, NULL);
    }
    return 0;
}

/* Collect what lands until nothing is outstanding. */
static int drain(wave *at, flashinfer_error *error)
{
    flin_pass *pass = at->pass;
    const uint32_t *missing = pass->lists.missing;
    uint32_t landed = at->missing, failed = 0; /* nothing missing: nothing to wait for */
    int code = 0;

    while (code == 0 && landed != 0) {
        code = flin_fetch_collect(pass->fetcher, &landed, &failed, error);
        if (code != 0) {
            uint32_t lost = missing[failed < at->missing ? failed : 0];
            return flin_fetch_lost(at->neurons.extent, at->neurons.ids[lost], code, error);
        }
        for (uint32_t i = 0; i < landed; i++)
            pass->lists.landed[i] = missing[pass->fetcher->landed[i]];
        code = take_landed(at, landed, error);
        if (code == 0 && flin_pass_cancelled(pass)) code = FLASHINFER_ECANCELED;
    }
    return code;
}

/* Nothing half-read may stay in the cache. */
static void forget_missing(wave *at)
{
    flin_batch_abandon(at->pass->fetcher->batch);
    for (uint32_t i = 0; i < at->missing; i++)
        flin_cache_drop(at->pass->cache, at->layer, at->neurons.ids[at->pass->lists.missing[i]]);
}

/* Hand the reads over and meanwhile compute what is at hand; without a need for bytes, all. */
static void begin_reading(wave *at)
{
    flin_pass *pass = at->pass;
    flin_beside beside = {.reads = pass->fetcher->batch};
    uint64_t started_ns = flin_now_ns();

    if (!flin_neurons_need_no_bytes(&at->neurons, at->rows)) {
        (void)flin_neurons_activate(pass->compute, &at->neurons, at->rows, pass->lists.present,
                                    at->present, NULL, &beside);
        pass->tally.handing_ns += beside.idle_ns;
        return;
    }
    flin_batch_push(pass->fetcher->batch);
    pass->tally.handing_ns += flin_now_ns() - started_ns;
}

/* Make room for what is missing, read it, compute everything. */
static int read_wave(wave *at, flashinfer_error *error)
{
    flin_pass *pass = at->pass;
    uint64_t started_ns = flin_now_ns();
    int code;

    admit(at);
    pass->tally.memory_ns += flin_now_ns() - started_ns;
    code = flin_batch_prepare(pass->fetcher->batch, pass->fetcher->fetches, at->missing, error);
    if (code == 0) {
        begin_reading(at);
        code = drain(at, error);
    }
    if (code != 0) forget_missing(at);
    return code;
}

/* Activations that need no bundle. */
static void activate_known(wave *at)
{
    uint32_t *list = at->pass->lists.landed;

    if (!flin_neurons_need_no_bytes(&at->neurons, at->rows)) return;
    for (uint32_t i = 0; i < at->count; i++) list[i] = i;
    (void)flin_neurons_activate(at->pass->compute, &at->neurons, at->rows, list, at->count, NULL,
                                NULL);
}

/* When nothing is missing, the cache need not know who was wanted before the layer's next wave. */
static int run_wave(wave *at, flashinfer_error *error)
{
    flin_pass *pass = at->pass;
    const flin_sum_lists lists = {pass->lists.firing_rows, pass->lists.firing};
    uint64_t started_ns = flin_now_ns();
    int code = 0;

    look_up(at);
    pass->tally.memory_ns += flin_now_ns() - started_ns;
    activate_known(at);
    if (at->missing == 0 && !flin_neurons_need_no_bytes(&at->neurons, at->rows)) {
        flin_beside beside = {.cache = pass->cache, .used = at->count};
        (void)flin_neurons_activate(pass->compute, &at->neurons, at->rows, pass->lists.present,
                                    at->count, NULL, &beside);
        pass->tally.memory_ns += beside.idle_ns;
    } else {
        code = read_wave(at, error);
    }
    if (code != 0) return code;
    if (at->last) flin_expect_attention(pass, at->layer + 1);
    pass->tally.active += flin_neurons_sum(pass->compute, &at->neurons, pass->count, at->count,
                                           &lists, pass->projected);
    return 0;
}

/* All named neurons, in as many waves as the slots ask for. */
static int run_waves(flin_pass *pass, uint32_t layer, const flin_names *names,
                     const flin_asking_rows *rows, flashinfer_error *error)
{
    const flin_ffn_layer *ffn = &pass->weights->layers[layer].ffn;
    uint32_t most = names->count != 0 ? flin_cache_wave_max(pass->cache) : 1;
    int ends = names->streamed_from >= ffn->neurons && pass->watch->audit_interval == 0;

    for (uint32_t begin = 0; begin < names->count; begin += most) {
        wave at = {.pass = pass, .rows = rows, .layer = layer};
        int code;
        at.neurons = (flin_neurons){ffn,
                                    pass->fetcher->bundle,
                                    &pass->slots[layer],
                                    pass->lists.ids + begin,
                                    pass->lists.payloads,
                                    pass->lists.damaged,
                                    ffn->neurons,
                                    pass->lists.values,
                                    pass->lists.fires,
                                    pass->shape->width};
        at.count = names->count - begin < most ? names->count - begin : most;
        at.last = ends && begin + at.count == names->count;
        if ((code = run_wave(&at, error)) != 0) return code;
        if (begin != 0) pass->tally.waves++;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------ the layer */

/* The callbacks that see a layer want every row on its own; with one row its mask is the list. */
static void trace(const flin_pass *pass, uint32_t layer, const flin_names *names)
{
    const flin_shape *shape = pass->shape;
    flashinfer_trace asked = {.size = sizeof asked,
                              .layer = layer,
                              .layer_count = shape->layers,
                              .ffn_length = shape->ffn,
                              .bundle_stride_bytes = shape->bundle.stride_bytes,
                              .bundle_offset = pass->weights->layers[layer].ffn.bundles.offset};
    uint32_t *ids = pass->lists.landed; /* nothing has landed yet */

    for (uint32_t row = 0; row < pass->count; row++) {
        asked.count = 0;
        for (uint32_t i = 0; i < names->count; i++)
            if (flin_mask_has(names->masks + (uint64_t)row * names->words, pass->lists.ids[i]))
                ids[asked.count++] = pass->lists.ids[i];
        asked.ids = ids;
        asked.step = pass->step + row + 1;
        pass->watch->trace(&asked, pass->watch->trace_user);
    }
}

static void show_inputs(const flin_pass *pass, uint32_t layer, const float *x)
{
    for (uint32_t row = 0; row < pass->count; row++) {
        flashinfer_ffn_input input = {sizeof input,         layer,
                                      pass->shape->layers,  pass->shape->width,
                                      pass->step + row + 1, x + (uint64_t)row * pass->shape->width};
        pass->watch->ffn_input(&input, pass->watch->ffn_input_user);
    }
}

/* projected = what the down matrix adds to */
static void begin_outputs(flin_pass *pass, const float *down_bias)
{
    const uint64_t width = pass->shape->width;

    for (uint32_t row = 0; row < pass->count; row++) {
        float *to = pass->projected + row * width;
        if (down_bias != NULL)
            memcpy(to, down_bias, width * sizeof *to);
        else
            memset(to, 0, width * sizeof *to);
    }
}

static flin_names name_neurons(flin_pass *pass, const flin_layer *layer, const float *x,
                               const flin_asking_rows *rows)
{
    const flin_ffn_layer *ffn = &layer->ffn;
    flin_predictor_input input = {.count = pass->count,
                                  .bias = flin_ffn_decider_bias(ffn),
                                  .threshold = flin_activation_floor(&ffn->activation)};

    for (uint32_t row = 0; row < pass->count; row++) {
        input.x[row] = x + (uint64_t)row * pass->shape->width;
        input.taken[row] = rows->x[row];
    }
    return flin_predictor_name(pass->predictor, &layer->predictor, &input, pass->lists.ids);
}

int flin_ffn(flin_pass *pass, uint32_t index, const float *x, flashinfer_error *error)
{
    const flin_layer *layer = &pass->weights->layers[index];
    const flin_predictor_kind *kind = flin_predictor_kind_of(layer->predictor.kind);
    flin_asking_rows rows = {.count = pass->count, .neurons = pass->shape->ffn};
    flin_names names;
    uint64_t started_ns;
    int code;

    if (flin_shape_is_plain(pass->shape)) return flin_ffn_whole(pass, index, x, error);
    begin_outputs(pass, layer->ffn.down_bias);
    if (pass->wide) return flin_ffn_wide(pass, index, x, error);
    if (pass->watch->ffn_input != NULL) show_inputs(pass, index, x);
    started_ns = flin_now_ns();
    flin_pass_inputs(pass, pass->shape->bundle.parts[0].type, x, pass->shape->width, pass->count,
                     rows.x);
    if (kind->misses) flin_expect_attention(pass, index + 1);
    names = name_neurons(pass, layer, x, &rows);
    pass->tally.predict_ns += flin_now_ns() - started_ns;
    pass->tally.predicted += names.named;
    if (kind->caches && pass->watch->trace != NULL) trace(pass, index, &names);

    rows.masks = pass->count > 1 ? names.masks : NULL; /* one row named them all */
    rows.words = names.words;
    rows.sums = names.sums;
    code = run_waves(pass, index, &names, &rows, error);
    if (code == 0) code = flin_dense_run(pass, index, names.streamed_from, &rows, error);
    return code != 0 ? code : flin_audit(pass, index, &rows, &names, error);
}
