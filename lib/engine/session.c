/*
 * session.c - sequences: taking and giving back the places planned at open, rewinding, saving and
 * loading their state.
 */
#include "engine/session.h"

#include <string.h>

#include "util/hash.h"

int flin_session_create(flashinfer_model *model, flashinfer_session **session,
                        flashinfer_error *error)
{
    if ((model->settings.flags & FLASHINFER_OPEN_METADATA) != 0)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "the model was opened for its metadata only; open it without "
                         "FLASHINFER_OPEN_METADATA to run it");
    for (uint32_t i = 0; i < model->settings.sessions; i++) {
        struct flashinfer_session *place = &model->sessions[i];
        if (place->in_use) continue;
        place->in_use = 1;
        place->position = 0;
        place->has_logits = 0;
        *session = place;
        return 0;
    }
    return flin_fail(error, FLASHINFER_ESESSIONS,
                     "options.session_count was %u when the model was opened, and as many sessions "
                     "exist; destroy one, or open the model with a larger session_count",
                     model->settings.sessions);
}

void flin_session_destroy(flashinfer_session *session)
{
    session->in_use = 0;
}

uint64_t flin_session_call(flashinfer_session *session)
{
    return atomic_fetch_add(&session->called, 1);
}

/* A number only grows: of two cancels at once the one that has seen fewer calls takes none back. */
void flin_session_cancel(flashinfer_session *session)
{
    const uint64_t made = atomic_load(&session->called);
    uint64_t before = atomic_load(&session->cancelled);

    while (before < made)
        if (atomic_compare_exchange_weak(&session->cancelled, &before, made)) break;
}

int flin_session_rewind(flashinfer_session *session, uint32_t position, flashinfer_error *error)
{
    if (position > session->position)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "cannot rewind to position %u: the session is at %u", position,
                         session->position);
    session->position = position;
    session->has_logits = 0;
    return 0;
}

/* Saved state: this header, the logits if there are any, then per layer the keys and the values
   of the positions so far, then XXH3-64 of all of it. */
typedef struct state_header {
    char magic[8];
    uint64_t model_sum; /* the sum over all checksums of the model file: names its contents */
    uint32_t kv_type;
    uint32_t position;
    uint32_t has_logits;
    uint32_t vocab;
    uint32_t layers;
    uint32_t width;
} state_header;

static const char state_magic[8] = {'F', 'L', 'I', 'S', 'T', 'A', 'T', '1'};

static state_header header_of(const flashinfer_session *session, uint32_t position,
                              uint32_t has_logits)
{
    const flashinfer_model *model = session->model;
    state_header header;

    memset(&header, 0, sizeof header);
    memcpy(header.magic, state_magic, sizeof state_magic);
    header.model_sum = model->gguf.tensors[model->gguf.tensor_count - 1].sum;
    header.kv_type = (uint32_t)model->kv.type;
    header.position = position;
    header.has_logits = has_logits;
    header.vocab = model->shape.vocab;
    header.layers = model->shape.layers;
    header.width = model->shape.width;
    return header;
}

/* Bytes of a position's keys of one head, and of all heads of a layer. */
static size_t head_bytes(const flin_kv_shape *kv)
{
    return (size_t)flin_type_bytes(kv->type, kv->head_width);
}

static size_t run_bytes(const flin_kv_shape *kv, uint32_t position)
{
    return (size_t)position * kv->kv_heads * head_bytes(kv);
}

static size_t state_bytes(const flashinfer_model *model, uint32_t position, uint32_t has_logits)
{
    return sizeof(state_header) + (has_logits ? model->shape.vocab * sizeof(float) : 0) +
           2 * (size_t)model->kv.layers * run_bytes(&model->kv, position) + sizeof(uint64_t);
}

size_t flin_state_bytes(const flashinfer_session *session)
{
    return state_bytes(session->model, session->position, session->has_logits);
}

/* In a cache a head's positions lie together, in a state a position's heads. */
static void copy_pieces(uint8_t *to, size_t to_step, const uint8_t *from, size_t from_step,
                        size_t bytes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) memcpy(to + i * to_step, from + i * from_step, bytes);
}

/* A layer's keys or values for `count` positions to a state, and back. */
static void save_run(const flin_kv_shape *kv, uint32_t layer, const uint8_t *cache, uint8_t *state,
                     uint32_t count)
{
    const size_t bytes = head_bytes(kv), step = kv->kv_heads * bytes;

    for (uint32_t head = 0; head < kv->kv_heads; head++)
        copy_pieces(state + head * bytes, step, cache + flin_kv_offset(kv, layer, head), bytes,
                    bytes, count);
}

static void load_run(const flin_kv_shape *kv, uint32_t layer, uint8_t *cache, const uint8_t *state,
                     uint32_t count)
{
    const size_t bytes = head_bytes(kv), step = kv->kv_heads * bytes;

    for (uint32_t head = 0; head < kv->kv_heads; head++)
        copy_pieces(cache + flin_kv_offset(kv, layer, head), bytes, state + head * bytes, step,
                    bytes, count);
}

int flin_state_save(const flashinfer_session *session, void *buffer, size_t capacity,
                    size_t *written, flashinfer_error *error)
{
    state_header header = header_of(session, session->position, session->has_logits);
    size_t bytes = flin_state_bytes(session),
           run = run_bytes(&session->model->kv, session->position);
    uint8_t *at = buffer;
    uint64_t sum;

    *written = bytes;
    if (capacity < bytes)
        return flin_fail(error, FLASHINFER_EBUFFER, "the state needs %zu bytes, the buffer has %zu",
                         bytes, capacity);
    memcpy(at, &header, sizeof header);
    at += sizeof header;
    if (session->has_logits) {
        memcpy(at, session->logits, session->model->shape.vocab * sizeof(float));
        at += session->model->shape.vocab * sizeof(float);
    }
    for (uint32_t layer = 0; layer < session->model->shape.layers; layer++) {
        save_run(&session->model->kv, layer, session->keys, at, session->position);
        save_run(&session->model->kv, layer, session->values, at + run, session->position);
        at += 2 * run;
    }
    sum = flin_hash(buffer, bytes - sizeof sum);
    memcpy(at, &sum, sizeof sum);
    return 0;
}

static int foreign_state(flashinfer_error *error, const char *what)
{
    return flin_fail(error, FLASHINFER_ESTATE, "the saved state cannot be loaded: %s", what);
}

int flin_state_load(flashinfer_session *session, const void *buffer, size_t bytes,
                    flashinfer_error *error)
{
    const uint8_t *at = buffer;
    state_header header, own;
    uint64_t sum;
    size_t run;

    if (bytes < sizeof header + sizeof sum) return foreign_state(error, "it is truncated");
    memcpy(&header, at, sizeof header);
    own = header_of(session, header.position, header.has_logits);
    if (memcmp(header.magic, own.magic, sizeof own.magic) != 0)
        return foreign_state(error, "it is no saved state");
    if (memcmp(&header, &own, sizeof own) != 0 || header.has_logits > 1)
        return foreign_state(error, "it is from another model file or KV type");
    if (header.position > session->model->kv.context)
        return foreign_state(
            error, "it has more positions than this model was opened for (context_tokens)");
    if (bytes != state_bytes(session->model, header.position, header.has_logits))
        return foreign_state(error, "it is truncated or has bytes too many");
    memcpy(&sum, at + bytes - sizeof sum, sizeof sum);
    if (sum != flin_hash(buffer, bytes - sizeof sum))
        return foreign_state(error, "it is damaged (checksum)");

    at += sizeof header;
    if (header.has_logits) {
        memcpy(session->logits, at, session->model->shape.vocab * sizeof(float));
        at += session->model->shape.vocab * sizeof(float);
    }
    run = run_bytes(&session->model->kv, header.position);
    for (uint32_t layer = 0; layer < session->model->shape.layers; layer++) {
        load_run(&session->model->kv, layer, session->keys, at, header.position);
        load_run(&session->model->kv, layer, session->values, at + run, header.position);
        at += 2 * run;
    }
    session->position = header.position;
    session->has_logits = header.has_logits;
    return 0;
}
