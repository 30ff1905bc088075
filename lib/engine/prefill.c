/*
 * prefill.c - a chunk of a prompt through all layers: embedding, then for each layer norm ->
 * attention -> norm -> FFN.
 *
 * Every number is computed by one thread in one order, so it depends on neither budget nor threads.
 * How many tokens a chunk has depends on the model file: products with more tokens at once round no
 * differently, but the FFN of a layer is read once for each chunk.
 */
#include "engine/prefill.h"

#include <math.h>
#include <string.h>

#include "engine/model.h"
#include "util/clock.h"

#define TOKENS_MIN 24u /* multiples of every tile's tokens */
#define TOKENS_MAX 528u
#define FILE_SHARE 128u /* buffers of a chunk take this part of the model file */
#define BUFFERS 5u      /* of (tokens, width) */
#define HEAD_TOKENS 16u /* queries of a head that a thread takes at once */
#define LEAST_NAMED 32u /* beside a predictor, which reads a fraction of what a chunk does */
#define LEAST_DENSE 8u

uint32_t flin_prefill_least(const flashinfer_model *model)
{
    return flin_uses_names(&model->config) ? LEAST_NAMED : LEAST_DENSE;
}

/* -------------------------------------------------------------------------------------- buffers */

static uint32_t chunk_tokens(const flashinfer_model *model)
{
    uint64_t token_bytes = (uint64_t)BUFFERS * model->shape.width * sizeof(float);
    uint64_t tokens = model->storage.caps.length_bytes / FILE_SHARE / token_bytes;

    tokens = tokens / TOKENS_MIN * TOKENS_MIN;
    return tokens < TOKENS_MIN ? TOKENS_MIN : tokens > TOKENS_MAX ? TOKENS_MAX : (uint32_t)tokens;
}

/* Rows of a product that are packed at once: few where the model is small. */
static uint32_t block_rows(const flashinfer_model *model)
{
    uint32_t rows = (uint32_t)flin_round_up(model->shape.width / 16 + 1, model->prefill.tile.rows);

    return rows < FLIN_GEMM_ROWS_MAX ? rows : FLIN_GEMM_ROWS_MAX;
}

static float *take_floats(flin_arena *arena, uint64_t count)
{
    return flin_arena_take(arena, count * sizeof(float), FLIN_GEMM_ALIGNMENT);
}

static void layout_threads(flashinfer_model *model, flin_arena *arena)
{
    flin_prefill *prefill = &model->prefill;
    uint64_t panel_floats = flin_gemm_w_floats(&prefill->tile, block_rows(model));

    prefill->threads = FLIN_TAKE(arena, flin_prefill_thread, model->config.threads);
    for (uint32_t i = 0; i < model->config.threads; i++) {
        flin_prefill_thread thread;
        thread.panels = take_floats(arena, panel_floats);
        thread.rows = FLIN_TAKE(arena, const void *, model->stream_rows);
        thread.firing = FLIN_TAKE(arena, float, model->stream_rows);
        if (prefill->threads != NULL) prefill->threads[i] = thread;
    }
}

void flin_prefill_layout(flashinfer_model *model, flin_arena *arena)
{
    flin_prefill *prefill = &model->prefill;
    uint32_t width = model->shape.width, tokens;

    prefill->tile = flin_tile_choose(flin_kernels_choose(model->config.kernels));
    prefill->tokens = chunk_tokens(model);
    /* a chunk has no more tokens than the context has positions */
    tokens = prefill->tokens < model->config.context ? prefill->tokens : model->config.context;
    prefill->hidden = FLIN_TAKE(arena, float, (uint64_t)tokens *width);
    prefill->normed = FLIN_TAKE(arena, float, (uint64_t)tokens *width);
    prefill->projected = FLIN_TAKE(arena, float, (uint64_t)tokens *width);
    prefill->kept = FLIN_TAKE(arena, float, (uint64_t)tokens *width);
    prefill->packed = take_floats(arena, flin_gemm_x_floats(&prefill->tile, tokens, width));
    prefill->activations = FLIN_TAKE(arena, float, (uint64_t)tokens * model->stream_rows);
    prefill->up = FLIN_TAKE(arena, const void *, model->stream_rows);
    prefill->down = FLIN_TAKE(arena, const void *, model->stream_rows);
    prefill->missing = FLIN_TAKE(arena, uint32_t, model->stream_rows);
    layout_threads(model, arena);
}

/* ------------------------------------------------------------------------------------- products */

typedef struct pack_task {
    const flashinfer_model *model;
    const float *input;
    uint32_t count;
} pack_task;

static void run_pack(void *context, uint32_t index, uint32_t count)
{
    const pack_task *task = context;
    const flin_prefill *prefill = &task->model->prefill;
    uint32_t width = task->model->shape.width, begin, end;

    flin_pool_share((task->count + prefill->tile.tokens - 1) / prefill->tile.tokens, 1, index,
                    count, &begin, &end);
    flin_gemm_pack(&prefill->tile, task->input, width, task->count, width, begin, end,
                   prefill->packed);
}

void flin_prefill_pack(flashinfer_model *model, const float *input, uint32_t count)
{
    pack_task task = {model, input, count};

    flin_pool_run(&model->pool, run_pack, &task);
}

typedef struct product_task {
    flashinfer_session *session;
    const flin_gemm_rows *rows;
    const float *bias;
    float *y;
    uint64_t stride;
    uint32_t count; /* tokens */
} product_task;

/* Rows in blocks, so that a cancelled call ends soon. */
static void run_product(void *context, uint32_t index, uint32_t count)
{
    const product_task *task = context;
    flashinfer_model *model = task->session->model;
    flin_prefill *prefill = &model->prefill;
    uint32_t block = block_rows(model), begin, end;

    flin_pool_share(task->rows->count, prefill->tile.rows, index, count, &begin, &end);
    for (uint32_t row = begin; row < end; row += block) {
        if (atomic_load(&task->session->cancelled) != 0) return;
        flin_gemm_run(&prefill->tile, model->kernels, task->rows, row,
                      end - row < block ? end : row + block, prefill->packed, task->count,
                      task->bias, task->y, task->stride, prefill->threads[index].panels);
    }
}

void flin_prefill_product(flashinfer_session *session, const flin_gemm_rows *rows,
                          const float *bias, uint32_t count, float *y, uint64_t stride)
{
    product_task task = {session, rows, bias, y, stride, count};

    flin_pool_run(&session->model->pool, run_product, &task);
}

/* y (count, outputs) = linear . what is packed */
static void apply(flashinfer_session *session, const flin_linear *linear, uint32_t count, float *y)
{
    const flin_matrix *weight = &linear->weight;
    flin_gemm_rows rows = {NULL,         weight->data, flin_type_bytes(weight->type, weight->cols),
                           weight->rows, weight->cols, weight->type};

    flin_prefill_product(session, &rows, linear->bias, count, y, weight->rows);
}

/* ------------------------------------------------------------------------------------ attention */

typedef struct heads_task {
    flashinfer_session *session;
    uint32_t layer;
    uint32_t count;
} heads_task;

static void run_head(const heads_task *task, void *scratch, uint32_t head, uint32_t token)
{
    flashinfer_model *model = task->session->model;
    const flin_shape *shape = &model->shape;
    enum flin_type type = model->config.kv_type;
    uint64_t first = flin_kv_offset(model, task->layer, head);
    uint64_t at = (uint64_t)token * shape->width + head * shape->head_width;

    model->kernels->attend[type](
        model->prefill.projected + at, (const uint8_t *)task->session->keys + first,
        (const uint8_t *)task->session->values + first, task->session->position + token + 1,
        shape->head_width, shape->head_width, scratch, model->prefill.normed + at);
}

/* Head by head: its keys and values stay in a core's cache for all tokens. */
static void run_heads(void *context, uint32_t index, uint32_t count)
{
    const heads_task *task = context;
    flashinfer_model *model = task->session->model;
    uint32_t groups = (task->count + HEAD_TOKENS - 1) / HEAD_TOKENS, begin, end;
    void *scratch = flin_attend_scratch(model, index);

    flin_pool_share(model->shape.heads * groups, 1, index, count, &begin, &end);
    for (uint32_t item = begin; item < end; item++) {
        uint32_t first = item % groups * HEAD_TOKENS;
        if (atomic_load(&task->session->cancelled) != 0) return;
        for (uint32_t i = first; i < task->count && i < first + HEAD_TOKENS; i++)
            run_head(task, scratch, item / groups, i);
    }
}

typedef struct append_task {
    flashinfer_session *session;
    uint32_t layer;
    void *cache; /* the session's keys or values */
    uint32_t count;
} append_task;

static void run_append(void *context, uint32_t index, uint32_t count)
{
    const append_task *task = context;
    flashinfer_session *session = task->session;
    const flin_shape *shape = &session->model->shape;
    const float *kept = session->model->prefill.kept;
    uint32_t begin, end;

    flin_pool_share(shape->heads, 1, index, count, &begin, &end);
    for (uint32_t head = begin; head < end; head++)
        for (uint32_t token = 0; token < task->count; token++)
            flin_kv_append(session, task->layer, head, session->position + token, task->cache,
                           kept + (uint64_t)token * shape->width + head * shape->head_width);
}

/* What is kept of the chunk's positions goes to the session's keys or values. */
static void append(flashinfer_session *session, uint32_t layer, void *cache, uint32_t count)
{
    append_task task = {session, layer, cache, count};

    flin_pool_run(&session->model->pool, run_append, &task);
}

/* projected = attention(input) for the chunk's positions, which it adds to the KV cache */
static void attention(flashinfer_session *session, uint32_t layer, uint32_t count,
                      const float *input)
{
    flashinfer_model *model = session->model;
    const flin_layer *weights = &model->weights.layers[layer];
    flin_prefill *prefill = &model->prefill;
    uint32_t width = model->shape.width;
    float scale = 1.0f / sqrtf((float)model->shape.head_width);
    heads_task heads = {session, layer, count};

    flin_prefill_pack(model, input, count);
    apply(session, &weights->attention.query, count, prefill->projected);
    for (uint64_t i = 0; i < (uint64_t)count * width; i++) prefill->projected[i] *= scale;
    apply(session, &weights->attention.key, count, prefill->kept);
    append(session, layer, session->keys, count);
    apply(session, &weights->attention.value, count, prefill->kept);
    append(session, layer, session->values, count);
    if (atomic_load(&session->cancelled) != 0) return;
    flin_pool_run(&model->pool, run_heads, &heads);
    flin_prefill_pack(model, prefill->normed, count);
    apply(session, &weights->attention.output, count, prefill->projected);
}

/* -------------------------------------------------------------------------------------- a chunk */

typedef struct rows_task {
    const flashinfer_model *model;
    const flin_norm *norm; /* NULL: add projected to hidden */
    const float *x;
    float *y;
    uint32_t count;
} rows_task;

static void run_rows(void *context, uint32_t index, uint32_t count)
{
    const rows_task *task = context;
    const flashinfer_model *model = task->model;
    uint32_t width = model->shape.width, begin, end;

    flin_pool_share(task->count, 1, index, count, &begin, &end);
    for (uint32_t token = begin; token < end; token++) {
        const float *x = task->x + (uint64_t)token * width;
        float *y = task->y + (uint64_t)token * width;
        if (task->norm != NULL)
            model->kernels->layer_norm(x, task->norm->weight, task->norm->bias, width,
                                       model->shape.norm_epsilon, y);
        else
            for (uint32_t i = 0; i < width; i++) y[i] += x[i];
    }
}

static void norm(flashinfer_model *model, const flin_norm *norm, const float *x, float *y,
                 uint32_t count)
{
    rows_task task = {model, norm, x, y, count};

    flin_pool_run(&model->pool, run_rows, &task);
}

static void add_residual(flashinfer_model *model, uint32_t count)
{
    rows_task task = {model, NULL, model->prefill.projected, model->prefill.hidden, count};

    flin_pool_run(&model->pool, run_rows, &task);
}

static int layer(flashinfer_session *session, uint32_t index, uint32_t count,
                 flashinfer_error *error)
{
    flashinfer_model *model = session->model;
    const flin_layer *weights = &model->weights.layers[index];
    float *hidden = model->prefill.hidden, *normed = model->prefill.normed;
    int norm_before = model->shape.norm_before != 0, code;

    if (norm_before) norm(model, &weights->attention_norms.before, hidden, normed, count);
    attention(session, index, count, norm_before ? normed : hidden);
    if (atomic_load(&session->cancelled) != 0) return FLASHINFER_ECANCELED;
    add_residual(model, count);
    if (!norm_before) norm(model, &weights->attention_norms.after, hidden, hidden, count);

    if (norm_before) norm(model, &weights->ffn_norms.before, hidden, normed, count);
    code = flin_prefill_ffn(session, index, count, norm_before ? normed : hidden, error);
    if (code != 0) return code;
    add_residual(model, count);
    if (!norm_before) norm(model, &weights->ffn_norms.after, hidden, hidden, count);
    return 0;
}

int flin_prefill_chunk(flashinfer_session *session, const int32_t *tokens, uint32_t count,
                       int want_logits, flashinfer_error *error)
{
    flashinfer_model *model = session->model;
    uint32_t width = model->shape.width;
    int code = 0;

    model->token_count += count;
    for (uint32_t i = 0; i < count; i++)
        flin_embed(model, tokens[i], session->position + i,
                   model->prefill.hidden + (uint64_t)i * width);
    for (uint32_t i = 0; i < model->shape.layers && code == 0; i++) {
        if (atomic_load(&session->cancelled) != 0) return FLASHINFER_ECANCELED;
        code = layer(session, i, count, error);
    }
    if (code != 0) return code;
    memcpy(model->scratch.hidden, model->prefill.hidden + (uint64_t)(count - 1) * width,
           width * sizeof(float));
    if (want_logits) flin_unembed(session);
    return 0;
}
