/*
 * ffn_wide.c - the FFN of a wide pass, dense: runs of neurons, from memory when the whole layer is
 * there, else from the file while the run before is computed. The deciding matrix, and up, are one
 * product for all rows; down adds, row by row and in ascending order of neurons, the columns of
 * those that fire, as narrow passes do: few do.
 */
#include <string.h>

#include "engine/ffn.h"
#include "engine/linear.h"

typedef struct wide_run {
    flin_pass *pass;
    const flin_layer *layer;
    uint32_t index;   /* of the layer */
    uint32_t neurons; /* of this run */
    _Atomic uint64_t fired;
} wide_run;

/* ----------------------------------------------------------------------------------------- down */

/* Values of a row's run, who fires, and what their columns add. */
static uint32_t add_row(const wide_run *run, flin_wide_thread *thread, uint32_t row)
{
    const flin_pass *pass = run->pass;
    const flin_wide *wide = &pass->wide_buffers;
    const uint64_t step = pass->stream->chunk;
    const enum flin_type type = flin_bundle_part(pass->fetcher->bundle, FLIN_PART_DOWN)->type;
    float *values = wide->sums + row * step;
    uint32_t firing = 0, from_last = pass->count - 1 - row;

    flin_activate(&run->layer->ffn.activation, pass->compute->kernels, values,
                  run->layer->ffn.gated ? wide->ups + row * step : NULL, run->neurons, values,
                  thread->fires);
    if (from_last < FLIN_LATE_ROWS)
        memcpy(wide->late + from_last * step, thread->fires, run->neurons);
    for (uint32_t i = 0; i < run->neurons; i++) {
        thread->firing[firing] = values[i];
        thread->rows[firing] = wide->down[i];
        firing += thread->fires[i];
    }
    if (firing != 0)
        pass->compute->kernels->add_rows[type](
            thread->rows, thread->firing, firing, 0, pass->shape->width,
            pass->projected + (uint64_t)row * pass->shape->width);
    return firing;
}

/* A share of the rows. */
static void run_down(void *context, uint32_t index, uint32_t count)
{
    wide_run *run = context;
    const flin_pass *pass = run->pass;
    uint32_t begin, end;

    flin_pool_share(pass->count, 1, index, count, &begin, &end);
    for (uint32_t row = begin; row < end; row++) {
        if (flin_pass_cancelled(pass)) return;
        atomic_fetch_add(&run->fired, add_row(run, &pass->wide_buffers.threads[index], row));
    }
}

static const float *from(const float *bias, uint32_t first)
{
    return bias != NULL ? bias + first : NULL;
}

/* Neurons [first, first + run->neurons) of the layer, which the lists of the pass point to. */
static int compute(wide_run *run, uint32_t first)
{
    flin_pass *pass = run->pass;
    flin_wide *wide = &pass->wide_buffers;
    const flin_bundle *bundle = pass->fetcher->bundle;
    const flin_ffn_layer *ffn = &run->layer->ffn;
    const uint32_t decider = flin_shape_decider(pass->shape), width = pass->shape->width;
    flin_gemm_rows deciders = {wide->deciders, NULL,  0,
                               run->neurons,   width, flin_bundle_part(bundle, decider)->type};

    flin_linear_product(pass, &deciders, from(flin_ffn_decider_bias(ffn), first), wide->sums,
                        pass->stream->chunk);
    if (ffn->gated) {
        flin_gemm_rows ups = {wide->up,     NULL,  0,
                              run->neurons, width, flin_bundle_part(bundle, FLIN_PART_UP)->type};
        flin_linear_product(pass, &ups, from(ffn->up_bias, first), wide->ups, pass->stream->chunk);
    }
    if (flin_pass_cancelled(pass)) return FLASHINFER_ECANCELED;
    flin_pool_run(&pass->compute->pool, run_down, run);
    return flin_pass_cancelled(pass) ? FLASHINFER_ECANCELED : 0;
}

/* --------------------------------------------------------------------------------------- memory */

/* Where parts of run number i lie in a payload that begins after `skip` bytes of its bundle. */
static void point_at(const flin_pass *pass, uint32_t i, const uint8_t *payload, uint32_t skip,
                     const uint8_t *decider)
{
    const flin_wide *wide = &pass->wide_buffers;
    const flin_bundle *bundle = pass->fetcher->bundle;
    const uint8_t *whole = payload - skip;

    wide->deciders[i] =
        decider != NULL
            ? decider
            : whole + flin_bundle_part(bundle, flin_shape_decider(pass->shape))->offset_bytes;
    if (wide->up != NULL)
        wide->up[i] = whole + flin_bundle_part(bundle, FLIN_PART_UP)->offset_bytes;
    wide->down[i] = whole + flin_bundle_part(bundle, FLIN_PART_DOWN)->offset_bytes;
}

/* Is every neuron of the layer in memory? */
static int at_hand(const flin_pass *pass, uint32_t index)
{
    const flin_layer_predictor *predictor = &pass->weights->layers[index].predictor;
    const flin_predictor_kind *kind = flin_predictor_kind_of(predictor->kind);

    if (!kind->caches) return 0;
    if (kind->keeps && predictor->kept.count != pass->shape->ffn) return 0;
    return pass->cache->layers[index].used == pass->shape->ffn;
}

static void point_at_slots(const flin_pass *pass, uint32_t index, uint32_t first, uint32_t count)
{
    const flin_extent *extent = &pass->slots[index];
    const flin_layer_predictor *predictor = &pass->weights->layers[index].predictor;
    const flin_kept *kept =
        flin_predictor_kind_of(predictor->kind)->keeps ? &predictor->kept : NULL;

    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *slot =
            flin_cache_slot(pass->cache, flin_cache_find(pass->cache, index, first + i));
        point_at(pass, i, slot + flin_extent_lead(extent, first + i), extent->skip_bytes,
                 kept != NULL ? kept->memory.base + (uint64_t)(first + i) * kept->row_bytes : NULL);
    }
}

static int run_at_hand(wide_run *run)
{
    flin_pass *pass = run->pass;
    uint32_t ffn = pass->shape->ffn, most = pass->stream->chunk;
    int code = 0;

    for (uint32_t first = 0; first < ffn && code == 0; first += run->neurons) {
        run->neurons = ffn - first < most ? ffn - first : most;
        point_at_slots(pass, run->index, first, run->neurons);
        code = compute(run, first);
    }
    return code;
}

/* ---------------------------------------------------------------------------------------- flash */

static int fires_late(const flin_pass *pass, uint32_t i)
{
    const uint32_t rows = pass->count < FLIN_LATE_ROWS ? pass->count : FLIN_LATE_ROWS;

    for (uint32_t row = 0; row < rows; row++)
        if (pass->wide_buffers.late[(uint64_t)row * pass->stream->chunk + i]) return 1;
    return 0;
}

typedef struct copy_task {
    const flin_pass *pass;
    const flin_chunk *chunk;
    uint32_t count; /* of wide.admitted, slots given */
} copy_task;

static void run_copy(void *context, uint32_t index, uint32_t count)
{
    const copy_task *task = context;
    const flin_pass *pass = task->pass;
    const flin_extent *extent = &pass->slots[task->chunk->extent->layer];
    uint32_t begin, end;

    flin_pool_share(task->count, 1, index, count, &begin, &end);
    for (uint32_t i = begin; i < end; i++) {
        uint32_t at = pass->wide_buffers.admitted[i], neuron = task->chunk->ids[at];
        uint8_t *slot =
            flin_cache_slot(pass->cache, flin_cache_find(pass->cache, extent->layer, neuron));
        memcpy(slot + flin_extent_lead(extent, neuron),
               task->chunk->payloads[at] + extent->skip_bytes, extent->bytes);
    }
}

/* Neurons that fire for the last rows go from the buffer into the cache, and others too while slots
   are empty: when all have one, the next prompt reads nothing. */
static void keep(const wide_run *run, const flin_chunk *chunk)
{
    flin_pass *pass = run->pass;
    flin_cache *cache = pass->cache;
    uint32_t most = flin_cache_wave_max(cache), wanted = 0, missing = 0;
    uint32_t *list = pass->wide_buffers.admitted;
    copy_task task = {pass, chunk, 0};

    flin_cache_begin(cache, run->index, pass->step + pass->count);
    for (uint32_t i = 0; i < run->neurons && wanted < most; i++) {
        if (!fires_late(pass, i)) continue;
        wanted++;
        if (flin_cache_want(cache, run->index, chunk->ids[i]) == FLIN_CACHE_NONE)
            list[missing++] = i;
    }
    flin_cache_make_room(cache, run->index, missing);
    for (; task.count < missing; task.count++)
        (void)flin_cache_admit(cache, run->index, chunk->ids[list[task.count]]);
    for (uint32_t i = 0; i < run->neurons && flin_cache_room(cache, run->index) != 0; i++) {
        if (flin_cache_find(cache, run->index, chunk->ids[i]) != FLIN_CACHE_NONE) continue;
        (void)flin_cache_admit(cache, run->index, chunk->ids[i]);
        list[task.count++] = i;
    }
    if (task.count != 0) flin_pool_run(&pass->compute->pool, run_copy, &task);
}

static int take_chunk(const flin_chunk *chunk, void *context, flashinfer_error *error)
{
    wide_run *run = context;
    int code;

    if (flin_pass_cancelled(run->pass)) return FLASHINFER_ECANCELED;
    code =
        flin_neurons_check(run->pass->compute, run->pass->fetcher, run->pass->stream, chunk, error);
    if (code != 0) return code;
    run->pass->tally.streamed += chunk->count;
    run->neurons = chunk->count;
    for (uint32_t i = 0; i < chunk->count; i++) point_at(run->pass, i, chunk->payloads[i], 0, NULL);
    code = compute(run, chunk->ids[0]);
    if (code == 0 && flin_predictor_kind_of(run->layer->predictor.kind)->caches) keep(run, chunk);
    return code;
}

int flin_ffn_wide(flin_pass *pass, uint32_t index, const float *x, flashinfer_error *error)
{
    wide_run run = {pass, &pass->weights->layers[index], index, 0, 0};
    int code;

    flin_linear_pack(pass, x, pass->shape->width);
    code = at_hand(pass, index) ? run_at_hand(&run)
                                : flin_stream_run(pass->stream, pass->fetcher, &pass->whole[index],
                                                  0, pass->shape->ffn, take_chunk, &run, error);
    pass->tally.active += run.fired;
    return code;
}
