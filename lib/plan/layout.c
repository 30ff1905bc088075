/*
 * layout.c - see layout.h.
 */
#include "plan/layout.h"

#include "model/verify.h"

/* Merged reads: enough to reach a drive's full rate, small enough to overlap. */
#define READ_BYTES_MAX (256u * 1024u)

const flin_gguf *flin_predictor_file(const flashinfer_model *model)
{
    return model->predictor_gguf.header != NULL ? &model->predictor_gguf : &model->gguf;
}

/* What runs is set up before it is placed: sizes depend on it. */
static void set_up(flashinfer_model *model)
{
    const flin_shape *shape = &model->shape;
    const flin_settings *settings = &model->settings;
    const uint32_t alignment = model->storage.caps.alignment;
    flin_pass *pass = &model->pass;

    model->kv = (flin_kv_shape){shape->layers, shape->kv_heads, settings->context,
                                shape->head_width, settings->kv_type};
    model->compute.kernels = flin_kernels_choose(settings->kernels);
    model->compute.tile = flin_tile_choose(model->compute.kernels);
    if (!flin_shape_is_plain(shape))
        flin_stream_size(&model->stream, &shape->bundle, shape->ffn, alignment);
    *pass = (flin_pass){.compute = &model->compute,
                        .shape = &model->shape,
                        .weights = &model->weights,
                        .kv = &model->kv,
                        .watch = &settings->watch,
                        .predictor = &model->predictor,
                        .cache = &model->cache,
                        .fetcher = &model->fetcher,
                        .stream = &model->stream,
                        .ring = &model->ring};
    /* as many rows as there can be sessions: whoever asks for more of these pays for more rows */
    pass->rows_max = settings->sessions < FLIN_INPUTS_MAX ? settings->sessions : FLIN_INPUTS_MAX;
    model->predictor.kernels = model->compute.kernels;
    model->predictor.pool = &model->compute.pool;
    model->predictor.width = shape->width;
    model->predictor.neurons = shape->ffn;
    model->predictor.inputs_max = pass->rows_max;
}

static void layout_sessions(flashinfer_model *model, flin_arena *arena)
{
    const flin_kv_shape *kv = &model->kv;
    uint64_t bytes = flin_type_bytes(kv->type, (uint64_t)kv->layers * kv->kv_heads * kv->context *
                                                   kv->head_width);

    model->sessions = FLIN_TAKE(arena, struct flashinfer_session, model->settings.sessions);
    for (uint32_t i = 0; i < model->settings.sessions; i++) {
        uint8_t *keys = flin_arena_take(arena, bytes, 64);
        uint8_t *values = flin_arena_take(arena, bytes, 64);
        float *logits = FLIN_TAKE(arena, float, model->shape.vocab);
        if (model->sessions == NULL) continue; /* measuring */
        model->sessions[i].model = model;
        model->sessions[i].index = i;
        model->sessions[i].keys = keys;
        model->sessions[i].values = values;
        model->sessions[i].logits = logits;
    }
}

/* Matrices of a plain file come through the ring, and nothing else does. */
static void layout_ring(flashinfer_model *model, flin_arena *arena)
{
    flin_residency *residency = &model->residency;

    flin_ring_layout(&model->ring, arena, &model->storage, residency->row_bytes_max,
                     residency->stream_bytes);
    flin_ring_set_order(&model->ring, residency->order, residency->streams, residency->sure);
}

/* The stream's buffers are lent to verifying, which never runs beside a stream. */
static void layout_reads(flashinfer_model *model, flin_arena *arena)
{
    flin_fetcher *fetcher = &model->fetcher;
    flin_batch_limits limits = {0, READ_BYTES_MAX, model->settings.gap_bytes, 0};

    fetcher->storage = &model->storage;
    fetcher->bundle = &model->shape.bundle;
    fetcher->neurons = model->shape.ffn;
    fetcher->verify = model->settings.verify != FLASHINFER_VERIFY_NONE;
    fetcher->fetches_max = flin_shape_is_plain(&model->shape)
                               ? 1
                               : flin_stream_fetches(&model->stream, model->shape.ffn);
    limits.fetches_max = fetcher->fetches_max;
    flin_fetch_layout(fetcher, arena, &limits);
    model->verify_bytes = flin_verify_bytes(&model->shape);
    flin_stream_layout_buffers(&model->stream, arena, model->verify_bytes);
    model->verify = model->stream.buffers[0];
}

/* What slots hold of bundles, and what streams read. */
static void layout_extents(flashinfer_model *model, flin_arena *arena)
{
    const flin_shape *shape = &model->shape;
    const flin_predictor_kind *kind = flin_predictor_kind_of(model->settings.predictor);
    const uint32_t without = kind->keeps ? flin_shape_decider(shape) : FLIN_PART_ROLES;

    if (flin_shape_is_plain(shape)) return;
    model->slots = FLIN_TAKE(arena, flin_extent, shape->layers);
    model->whole = FLIN_TAKE(arena, flin_extent, shape->layers);
    for (uint32_t i = 0; model->slots != NULL && i < shape->layers; i++) {
        flin_layer *layer = &model->weights.layers[i];
        const flin_bundles *bundles = &layer->ffn.bundles;
        if (!kind->misses) layer->predictor.kind = model->settings.predictor;
        model->slots[i] =
            flin_extent_of(&shape->bundle, bundles, i, without, model->storage.caps.alignment);
        model->whole[i] = flin_extent_of(&shape->bundle, bundles, i, FLIN_PART_ROLES,
                                         model->storage.caps.alignment);
    }
    model->pass.slots = model->slots;
    model->pass.whole = model->whole;
}

static void layout_cache(flashinfer_model *model, flin_arena *arena)
{
    if (!flin_predictor_kind_of(model->settings.predictor)->caches) return;
    model->cache.policy = model->settings.cache_policy;
    model->cache.window_tokens = model->settings.window_tokens;
    flin_cache_layout(&model->cache, arena, model->shape.layers, model->shape.ffn,
                      model->slot_bytes);
}

static int layout_tokenizer(flashinfer_model *model, flin_arena *arena, flashinfer_error *error)
{
    int code =
        flin_tokenizer_layout(arena, &model->gguf, model->shape.vocab, &model->tokenizer, error);

    if (code == FLASHINFER_EUNSUPPORTED &&
        (model->settings.flags & FLASHINFER_OPEN_NO_TOKENIZER) != 0) {
        model->tokenizer = NULL;
        return 0;
    }
    return code;
}

int flin_layout_tables(flashinfer_model *model, flashinfer_error *error)
{
    flin_arena measure;
    int code = 0;

    flin_arena_measure(&measure);
    for (flin_arena *arena = &measure; code == 0; arena = &model->tables) {
        model->weights.layers = FLIN_TAKE(arena, flin_layer, model->shape.layers);
        if (flin_shape_is_plain(&model->shape))
            flin_residency_layout(&model->residency, arena, &model->shape);
        if (arena != &measure) break;
        code = flin_arena_open(&model->tables, measure.used, "the list of layers", error);
    }
    return code;
}

int flin_layout_listing(flashinfer_model *model, flin_arena *arena, flashinfer_error *error)
{
    model->verify_bytes = flin_verify_bytes(&model->shape);
    model->verify = flin_arena_take(arena, model->verify_bytes, FLIN_PAGE_BYTES);
    return layout_tokenizer(model, arena, error);
}

int flin_layout(flashinfer_model *model, flin_arena *arena, flin_sections *sections,
                flashinfer_error *error)
{
    const flin_predictor_kind *kind = flin_predictor_kind_of(model->settings.predictor);
    flin_predictor_choice predictors = {flin_predictor_file(model),
                                        kind->misses ? model->settings.predictor : 0, 0};
    uint64_t mark = arena->used;
    int code;

#define SECTION(field) (sections->field = arena->used - mark, mark = arena->used)
    set_up(model);
    code = flin_weights_layout(&model->weights, arena, &model->gguf, &model->shape, &predictors,
                               error);
    if (code != 0) return code;
    if (flin_shape_is_plain(&model->shape))
        flin_residency_list(&model->residency, &model->weights, &model->shape,
                            model->storage.caps.alignment);
    SECTION(resident);
    sections->resident -= model->weights.predictor_bytes;
    code = layout_tokenizer(model, arena, error);
    if (code != 0) return code;
    SECTION(tokenizer);
    layout_sessions(model, arena);
    SECTION(kv);
    flin_stream_layout_lists(&model->stream, arena);
    flin_pass_layout(&model->pass, arena, model->storage.caps.length_bytes,
                     model->settings.threads);
    SECTION(scratch);
    flin_predictor_layout(&model->predictor, arena, kind, model->weights.rank_max);
    SECTION(predictor);
    sections->predictor += model->weights.predictor_bytes;
    layout_extents(model, arena);
    layout_reads(model, arena);
    if (flin_shape_is_plain(&model->shape)) layout_ring(model, arena);
    SECTION(io);
    layout_cache(model, arena);
    SECTION(cache);
#undef SECTION
    return 0;
}
