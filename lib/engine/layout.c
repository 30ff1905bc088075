/*
 * layout.c - where everything lies that does not move with the budget. Runs twice: measured for the
 * plan, then real.
 */
#include "engine/model.h"

#include <string.h>

#include "model/verify.h"

#define STREAM_CHUNK_MIN (64u * 1024u)
#define STREAM_CHUNK_MAX (8u << 20) /* prompts: enough neurons for every thread's products */

/* Merged reads: enough to reach a drive's full rate, small enough to overlap. */
#define READ_BYTES_MAX (256u * 1024u)

flin_cache_extent flin_slot_extent(const flashinfer_model *model, uint64_t bundle_offset)
{
    const flin_shape *shape = &model->shape;
    flin_cache_extent extent;

    memset(&extent, 0, sizeof extent);
    extent.bundle_offset = bundle_offset;
    extent.stride_bytes = shape->bundle.stride_bytes;
    extent.skip_bytes =
        flin_uses_rows(&model->config) ? shape->bundle.parts[FLIN_PART_DOWN].offset_bytes : 0;
    extent.bytes = shape->bundle.payload_bytes - extent.skip_bytes;
    extent.alignment = model->storage.caps.alignment;
    return extent;
}

/* Chunks of about a sixty-fourth of a layer: big enough for sequential speed, small beside any
   sensible budget. */
static void size_stream(flashinfer_model *model)
{
    const flin_shape *shape = &model->shape;
    uint64_t unit = flin_stream_unit(model), chunk = unit * shape->ffn / 64;

    if (chunk < STREAM_CHUNK_MIN) chunk = STREAM_CHUNK_MIN;
    if (chunk > STREAM_CHUNK_MAX) chunk = STREAM_CHUNK_MAX;
    model->stream_rows = (uint32_t)(chunk / unit);
    if (model->stream_rows == 0) model->stream_rows = 1;
    if (model->stream_rows > shape->ffn) model->stream_rows = shape->ffn;
    model->stream_bytes = (uint32_t)flin_round_up((uint64_t)model->stream_rows * unit +
                                                      2 * (uint64_t)model->storage.caps.alignment,
                                                  FLIN_PAGE_BYTES);
}

static void layout_scratch(flashinfer_model *model, flin_arena *arena)
{
    flin_scratch *scratch = &model->scratch;
    const flin_shape *shape = &model->shape;
    uint32_t widest = shape->width > shape->token_width ? shape->width : shape->token_width;

    scratch->hidden = FLIN_TAKE(arena, float, shape->width);
    scratch->normed = FLIN_TAKE(arena, float, shape->width);
    scratch->query = FLIN_TAKE(arena, float, shape->width);
    scratch->key = FLIN_TAKE(arena, float, shape->width);
    scratch->value = FLIN_TAKE(arena, float, shape->width);
    scratch->attended = FLIN_TAKE(arena, float, shape->width);
    scratch->projected = FLIN_TAKE(arena, float, shape->width);
    scratch->token = FLIN_TAKE(arena, float, shape->token_width);
    scratch->attend =
        flin_arena_take(arena, model->config.threads * flin_attend_bytes(shape->head_width), 64);
    scratch->levels = flin_arena_take(arena, flin_levels_bytes(widest), 64);

    scratch->ids = FLIN_TAKE(arena, uint32_t, shape->ffn);
    scratch->activations = FLIN_TAKE(arena, float, shape->ffn);
    scratch->rows = FLIN_TAKE(arena, const uint8_t *, shape->ffn);
    scratch->present = FLIN_TAKE(arena, uint32_t, shape->ffn);
    scratch->missing = FLIN_TAKE(arena, uint32_t, shape->ffn);
    scratch->damaged = FLIN_TAKE(arena, uint8_t, shape->ffn);
    scratch->firing_rows = FLIN_TAKE(arena, const void *, shape->ffn);
    scratch->firing = FLIN_TAKE(arena, float, shape->ffn);
    for (uint32_t i = 0; model->config.audit_interval != 0 && i < 2; i++)
        scratch->audit[i] = FLIN_TAKE(arena, float, shape->width);
}

void flin_layout_verify(flashinfer_model *model, flin_arena *arena)
{
    model->verify_bytes = flin_verify_bytes(&model->shape);
    model->scratch.verify = flin_arena_take(arena, model->verify_bytes, FLIN_PAGE_BYTES);
}

/* Both stream buffers; verifying, which never runs beside streaming, has the same memory. */
static void layout_stream(flashinfer_model *model, flin_arena *arena)
{
    uint32_t verify_bytes = flin_verify_bytes(&model->shape), bytes = 2 * model->stream_bytes;
    uint8_t *base =
        flin_arena_take(arena, bytes > verify_bytes ? bytes : verify_bytes, FLIN_PAGE_BYTES);

    model->verify_bytes = verify_bytes;
    model->scratch.verify = base;
    model->scratch.stream[0] = base;
    model->scratch.stream[1] = base != NULL ? base + model->stream_bytes : NULL;
}

static void layout_io(flashinfer_model *model, flin_arena *arena)
{
    uint32_t fetches_max = flin_stream_fetches(model);
    flin_batch_limits limits = {fetches_max, READ_BYTES_MAX, model->config.gap_bytes, 0};

    model->scratch.fetches = FLIN_TAKE(arena, flin_fetch, fetches_max);
    model->scratch.landed = FLIN_TAKE(arena, uint32_t, fetches_max);
    if (model->shape.bundle.ordered) {
        model->scratch.wanted_rows = FLIN_TAKE(arena, uint64_t, (model->shape.ffn + 63) / 64);
        model->scratch.at_row = FLIN_TAKE(arena, uint32_t, model->shape.ffn);
    }
    layout_stream(model, arena);
    model->batch = flin_batch_layout(arena, &model->storage, &limits);
}

static void layout_sessions(flashinfer_model *model, flin_arena *arena)
{
    uint64_t elements = (uint64_t)model->shape.layers * model->config.context * model->shape.width;
    uint64_t bytes = flin_type_bytes(model->config.kv_type, elements);

    model->sessions = FLIN_TAKE(arena, struct flashinfer_session, model->config.sessions);
    for (uint32_t i = 0; i < model->config.sessions; i++) {
        void *keys = flin_arena_take(arena, bytes, 64);
        void *values = flin_arena_take(arena, bytes, 64);
        float *logits = FLIN_TAKE(arena, float, model->shape.vocab);
        if (model->sessions == NULL) continue; /* measuring */
        model->sessions[i].model = model;
        model->sessions[i].index = i;
        model->sessions[i].keys = keys;
        model->sessions[i].values = values;
        model->sessions[i].logits = logits;
    }
}

static void layout_cache(flashinfer_model *model, flin_arena *arena)
{
    const flin_shape *shape = &model->shape;

    if (!flin_uses_cache(&model->config)) return;
    model->cache.policy = model->config.cache_policy;
    model->cache.window_tokens = model->config.window_tokens;
    flin_cache_layout(&model->cache, arena, shape->layers, shape->ffn, model->slot_bytes);
    for (uint32_t i = 0; model->cache.layers != NULL && i < shape->layers; i++) {
        flin_cache_extent *extent = &model->cache.layers[i].extent;
        *extent = flin_slot_extent(model, model->weights.layers[i].ffn.bundles.offset);
        extent->rows = model->weights.layers[i].ffn.bundles.order;
    }
}

int flin_layout_tokenizer(flashinfer_model *model, flin_arena *arena, flashinfer_error *error)
{
    int code =
        flin_tokenizer_layout(arena, &model->gguf, model->shape.vocab, &model->tokenizer, error);

    if (code == FLASHINFER_EUNSUPPORTED &&
        (model->config.flags & FLASHINFER_OPEN_NO_TOKENIZER) != 0) {
        model->tokenizer = NULL;
        return 0;
    }
    return code;
}

int flin_layout(flashinfer_model *model, flin_arena *arena, flin_sections *sections,
                flashinfer_error *error)
{
    flin_predictor_choice predictors = {
        flin_predictor_file(model), flin_uses_names(&model->config) ? model->config.predictor : 0,
        0};
    uint64_t mark = arena->used;
    int code;

#define SECTION(field) (sections->field = arena->used - mark, mark = arena->used)
    code = flin_weights_layout(&model->weights, arena, &model->gguf, &model->shape, &predictors,
                               error);
    if (code != 0) return code;
    SECTION(resident);
    sections->resident -= model->weights.predictor_bytes;
    code = flin_layout_tokenizer(model, arena, error);
    if (code != 0) return code;
    SECTION(tokenizer);
    layout_sessions(model, arena);
    SECTION(kv);
    size_stream(model);
    layout_scratch(model, arena);
    flin_prefill_layout(model, arena);
    SECTION(scratch);
    flin_predictor_layout(&model->predictor, arena, flin_kernels_choose(model->config.kernels),
                          &model->pool, model->shape.width, model->shape.ffn,
                          model->weights.rank_max);
    model->rows = FLIN_TAKE(arena, flin_rows, model->shape.layers);
    SECTION(predictor);
    sections->predictor += model->weights.predictor_bytes;
    layout_io(model, arena);
    SECTION(io);
    layout_cache(model, arena);
    SECTION(cache);
#undef SECTION
    return 0;
}
