/*
 * stream.c - a layer's bundles one after the other through two buffers, one computed while the
 * other fills: the dense baseline (all), exact mode's neurons beyond its resident up rows, prompts,
 * and the audit. Neuron by neuron, which is also the file's order unless another was learned: then
 * each bundle is a read of its own.
 */
#include <assert.h>
#include <string.h>

#include "engine/model.h"
#include "util/clock.h"
#include "util/hash.h"

#define PIECE_BYTES (256u * 1024u) /* a chunk is read in pieces, so that several are in flight */

/* Neurons [first, first + count) on their way into one of the two buffers. */
typedef struct chunk {
    uint32_t layer;
    uint32_t first;
    uint32_t count;
    uint32_t buffer;
    uint64_t begin; /* rounded extent in the file */
    uint64_t end;
} chunk;

uint32_t flin_stream_unit(const flashinfer_model *model)
{
    uint32_t stride = model->shape.bundle.stride_bytes, alignment = model->storage.caps.alignment;

    if (!model->shape.bundle.ordered) return stride;
    return (uint32_t)flin_round_up((uint64_t)stride + alignment - 1, alignment);
}

uint32_t flin_stream_fetches(const flashinfer_model *model)
{
    uint32_t pieces = model->stream_bytes / PIECE_BYTES + 1;

    return pieces > model->shape.ffn ? pieces : model->shape.ffn;
}

/* In an ordered file a chunk's bundles are anywhere: each has a place of one unit in the buffer. */
static uint8_t *place_of(const flashinfer_model *model, const chunk *at, uint32_t index)
{
    uint64_t begin = flin_bundle_begin(model, at->layer, at->first + index);
    uint8_t *buffer = model->scratch.stream[at->buffer];

    if (!model->shape.bundle.ordered) return buffer + (begin - at->begin);
    return buffer + (uint64_t)index * flin_stream_unit(model) +
           (begin & (model->storage.caps.alignment - 1));
}

static chunk chunk_at(const flashinfer_model *model, uint32_t layer, uint32_t first, uint32_t end,
                      uint32_t buffer)
{
    uint64_t alignment = model->storage.caps.alignment;
    chunk at = {layer, first, end - first, buffer, 0, 0};

    if (at.count > model->stream_rows) at.count = model->stream_rows;
    if (model->shape.bundle.ordered) return at;
    at.begin = flin_round_down(flin_bundle_begin(model, layer, first), alignment);
    at.end = flin_round_up(flin_bundle_begin(model, layer, first) +
                               (uint64_t)at.count * model->shape.bundle.stride_bytes,
                           alignment);
    assert(at.end - at.begin <= model->stream_bytes);
    return at;
}

/* A chunk in one piece of the file. */
static uint32_t list_pieces(flashinfer_model *model, const chunk *at)
{
    flin_fetch *fetches = model->scratch.fetches;
    uint32_t count = 0;

    for (uint64_t offset = at->begin; offset < at->end; offset += PIECE_BYTES) {
        uint64_t bytes = at->end - offset < PIECE_BYTES ? at->end - offset : PIECE_BYTES;
        fetches[count].offset = offset;
        fetches[count].data = model->scratch.stream[at->buffer] + (offset - at->begin);
        fetches[count++].bytes = (uint32_t)bytes;
    }
    return count;
}

/* A chunk of bundles from all over the layer. */
static uint32_t list_bundles(flashinfer_model *model, const chunk *at)
{
    flin_scratch *scratch = &model->scratch;
    uint64_t alignment = model->storage.caps.alignment;

    for (uint32_t i = 0; i < at->count; i++) {
        scratch->ids[i] = at->first + i;
        scratch->missing[i] = i;
    }
    flin_rows_sort(model, at->layer, scratch->ids, scratch->missing, at->count);
    for (uint32_t i = 0; i < at->count; i++) {
        uint32_t index = scratch->missing[i];
        uint64_t begin = flin_bundle_begin(model, at->layer, at->first + index);
        uint64_t end = flin_round_up(begin + model->shape.bundle.payload_bytes, alignment);
        flin_fetch *fetch = &scratch->fetches[i];
        fetch->offset = flin_round_down(begin, alignment);
        fetch->bytes = (uint32_t)(end - fetch->offset);
        fetch->data = place_of(model, at, index) - (begin - fetch->offset);
    }
    return at->count;
}

/* Start reading a chunk. */
static int begin_chunk(flashinfer_model *model, const chunk *at, flashinfer_error *error)
{
    uint32_t count = model->shape.bundle.ordered ? list_bundles(model, at) : list_pieces(model, at);
    uint64_t started_ns = flin_now_ns();
    int code = flin_batch_begin(model->batch, model->scratch.fetches, count, error);

    model->stats.io_wait_ns += flin_now_ns() - started_ns;
    return code;
}

/* Say which neuron a read that failed was for; of a piece of many, the one it begins in. */
static int lost_read(const flashinfer_model *model, const chunk *at, uint32_t failed, int code,
                     flashinfer_error *error)
{
    const flin_scratch *scratch = &model->scratch;
    uint64_t first = flin_bundle_begin(model, at->layer, at->first);
    uint64_t offset = scratch->fetches[failed].offset;
    uint32_t neuron = at->first;

    if (model->shape.bundle.ordered)
        neuron += scratch->missing[failed];
    else if (offset > first)
        neuron += (uint32_t)((offset - first) / model->shape.bundle.stride_bytes);
    if (error != NULL && error->size >= sizeof *error) {
        error->layer = (int32_t)at->layer;
        error->neuron = neuron;
    }
    return code;
}

/* Wait until the chunk is there. */
static int finish_chunk(flashinfer_model *model, const chunk *at, flashinfer_error *error)
{
    uint64_t started_ns = flin_now_ns();
    uint32_t landed, failed = 0;
    int code;

    do {
        code = flin_batch_collect(model->batch, 1, model->scratch.landed,
                                  flin_stream_fetches(model), &landed, &failed, error);
        if (code != 0) code = lost_read(model, at, failed, code, error);
    } while (code == 0 && landed != 0);
    model->stats.io_wait_ns += flin_now_ns() - started_ns;
    return code;
}

/* Called with a chunk whose bytes are at hand. */
typedef int (*chunk_task)(flashinfer_session *session, flashinfer_model *model, const chunk *at,
                          void *context, flashinfer_error *error);

/* Neurons [first, end) of a layer, chunk by chunk, through task. session may be NULL (while
   opening). */
static int run_chunks(flashinfer_session *session, flashinfer_model *model, uint32_t layer,
                      uint32_t first, uint32_t end, chunk_task task, void *context,
                      flashinfer_error *error)
{
    chunk now, next;
    int code;

    if (first >= end) return 0;
    now = chunk_at(model, layer, first, end, 0);
    code = begin_chunk(model, &now, error);
    while (code == 0) {
        uint32_t reached = now.first + now.count;
        code = finish_chunk(model, &now, error);
        if (code != 0) break;
        if (reached < end) {
            next = chunk_at(model, layer, reached, end, now.buffer ^ 1);
            code = begin_chunk(model, &next, error);
            if (code != 0) break;
        }
        code = task(session, model, &now, context, error);
        if (code != 0 || reached >= end) break;
        now = next;
    }
    if (code != 0) flin_batch_abandon(model->batch);
    return code;
}

/* List a chunk's neurons in the scratch arrays. */
static flin_neurons list_chunk(flashinfer_model *model, const chunk *at)
{
    flin_scratch *scratch = &model->scratch;
    flin_neurons neurons = {
        at->layer, scratch->ids, scratch->rows, scratch->activations, scratch->damaged, 0};

    for (uint32_t i = 0; i < at->count; i++) {
        scratch->ids[i] = at->first + i;
        scratch->present[i] = i;
        scratch->rows[i] = place_of(model, at, i);
    }
    return neurons;
}

/* Read a neuron that failed its checksum once more; a second mismatch is final. */
static int reread(flashinfer_model *model, const flin_neurons *neurons, uint32_t index,
                  flashinfer_error *error)
{
    uint64_t offset = flin_bundle_begin(model, neurons->layer, neurons->ids[index]);
    uint8_t *data = model->scratch.stream[0] + (neurons->rows[index] - model->scratch.stream[0]);
    int code = flin_storage_read(&model->storage, offset, data, model->shape.bundle.payload_bytes,
                                 "a bundle", error);

    model->stats.read_retries++;
    if (code != 0) return code;
    if (flin_neuron_intact(model, neurons, index)) return 0;
    return flin_fail_at(
        error, FLASHINFER_ECORRUPT, (int)neurons->layer, neurons->ids[index], (int64_t)offset,
        "layer %u neuron %u at byte %llu does not match its checksum: the file or drive is damaged",
        neurons->layer, neurons->ids[index], (unsigned long long)offset);
}

static int mend(flashinfer_model *model, const flin_neurons *neurons, uint32_t count,
                flashinfer_error *error)
{
    for (uint32_t i = 0; i < count; i++) {
        int code = neurons->damaged[i] ? reread(model, neurons, i, error) : 0;
        if (code != 0) return code;
    }
    return 0;
}

/* Activations of a chunk's neurons, damaged ones read again. */
static int activate_chunk(flashinfer_model *model, const flin_neurons *neurons, uint32_t count,
                          const void *x, flashinfer_error *error)
{
    int verify = model->config.verify != FLASHINFER_VERIFY_NONE;
    int code;

    if (flin_neurons_activate(model, neurons, model->scratch.present, count, x, verify) == 0)
        return 0;
    if ((code = mend(model, neurons, count, error)) != 0) return code;
    (void)flin_neurons_activate(model, neurons, model->scratch.present, count, x, 0);
    return 0;
}

typedef struct dense_context {
    const void *x;
    float *y;
} dense_context;

static int compute_chunk(flashinfer_session *session, flashinfer_model *model, const chunk *at,
                         void *context, flashinfer_error *error)
{
    const dense_context *dense = context;
    flin_neurons neurons = list_chunk(model, at);
    int code;

    if (atomic_load(&session->cancelled) != 0) return FLASHINFER_ECANCELED;
    code = activate_chunk(model, &neurons, at->count, dense->x, error);
    if (code != 0) return code;
    model->stats.streamed += at->count;
    model->stats.active += flin_neurons_sum(model, &neurons, at->count, dense->y);
    return 0;
}

int flin_stream(flashinfer_session *session, uint32_t layer, uint32_t first, const void *x,
                float *y, flashinfer_error *error)
{
    flashinfer_model *model = session->model;
    dense_context context = {x, y};

    return run_chunks(session, model, layer, first, model->shape.ffn, compute_chunk, &context,
                      error);
}

typedef struct each_context {
    flin_neurons_task task;
    void *context;
} each_context;

static int hand_on_chunk(flashinfer_session *session, flashinfer_model *model, const chunk *at,
                         void *context, flashinfer_error *error)
{
    const each_context *each = context;
    flin_neurons neurons = list_chunk(model, at);

    if (atomic_load(&session->cancelled) != 0) return FLASHINFER_ECANCELED;
    if (model->config.verify != FLASHINFER_VERIFY_NONE &&
        flin_neurons_verify(model, &neurons, model->scratch.present, at->count) != 0) {
        int code = mend(model, &neurons, at->count, error);
        if (code != 0) return code;
    }
    model->stats.streamed += at->count;
    return each->task(session, &neurons, at->count, each->context, error);
}

int flin_stream_each(flashinfer_session *session, uint32_t layer, flin_neurons_task task,
                     void *user, flashinfer_error *error)
{
    each_context context = {task, user};

    return run_chunks(session, session->model, layer, 0, session->model->shape.ffn, hand_on_chunk,
                      &context, error);
}

typedef struct audit_context {
    const void *x;
    flin_audit_sums *sums;
} audit_context;

static int audit_chunk(flashinfer_session *session, flashinfer_model *model, const chunk *at,
                       void *context, flashinfer_error *error)
{
    const audit_context *audit = context;
    flin_audit_sums *sums = audit->sums;
    flin_neurons neurons = list_chunk(model, at);
    int code;

    if (atomic_load(&session->cancelled) != 0) return FLASHINFER_ECANCELED;
    code = activate_chunk(model, &neurons, at->count, audit->x, error);
    if (code != 0) return code;
    for (uint32_t i = 0; i < at->count; i++) /* negative ones are not summed */
        if (flin_predictor_named(&model->predictor, neurons.ids[i]))
            neurons.activations[i] = -neurons.activations[i];
    sums->missed_count += flin_neurons_sum(model, &neurons, at->count, sums->missed);
    for (uint32_t i = 0; i < at->count; i++) neurons.activations[i] = -neurons.activations[i];
    sums->found_count += flin_neurons_sum(model, &neurons, at->count, sums->found);
    return 0;
}

int flin_stream_audit(flashinfer_session *session, uint32_t layer, const void *x,
                      flin_audit_sums *sums, flashinfer_error *error)
{
    audit_context context = {x, sums};

    return run_chunks(session, session->model, layer, 0, session->model->shape.ffn, audit_chunk,
                      &context, error);
}

static int keep_rows(flashinfer_session *session, flashinfer_model *model, const chunk *at,
                     void *context, flashinfer_error *error)
{
    flin_neurons neurons = list_chunk(model, at);
    flin_rows *rows = context;
    const flin_part *up = &model->shape.bundle.parts[FLIN_PART_UP];

    (void)session;
    if (model->config.verify != FLASHINFER_VERIFY_NONE &&
        flin_neurons_verify(model, &neurons, model->scratch.present, at->count) != 0) {
        int code = mend(model, &neurons, at->count, error);
        if (code != 0) return code;
    }
    for (uint32_t i = 0; i < at->count; i++)
        memcpy(rows->memory.base + (uint64_t)neurons.ids[i] * rows->row_bytes,
               neurons.rows[i] + up->offset_bytes, rows->row_bytes);
    return 0;
}

int flin_stream_rows(flashinfer_model *model, uint32_t layer, uint32_t from, uint32_t to,
                     flashinfer_error *error)
{
    return run_chunks(NULL, model, layer, from, to, keep_rows, &model->rows[layer], error);
}
