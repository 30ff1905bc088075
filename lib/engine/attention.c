/*
 * attention.c - multi-head attention of one new token over its session's cached positions. Threads
 * share output rows of the projections and heads of the attention, so each number is computed by
 * one thread in one order.
 */
#include "engine/model.h"

#include <math.h>

typedef struct linear_task {
    const flashinfer_model *model;
    const flin_linear *const *linears; /* (count) with the same input */
    float *const *outputs;             /* (count) */
    uint32_t count;
    const void *x; /* flin_input() of it */
} linear_task;

/* Rows [begin, end) of all matrices one below the other. */
static void run_linears(void *context, uint32_t begin, uint32_t end)
{
    const linear_task *task = context;

    for (uint32_t i = 0, first = 0; i < task->count && first < end; i++) {
        const flin_matrix *weight = &task->linears[i]->weight;
        const float *bias = task->linears[i]->bias;
        const uint32_t from = begin > first ? begin - first : 0;
        const uint32_t to = end - first < weight->rows ? end - first : weight->rows;
        const uint8_t *data = weight->data;

        if (from < to)
            task->model->kernels->matvec[weight->type](
                data + (uint64_t)from * flin_type_bytes(weight->type, weight->cols), to - from,
                weight->cols, task->x, bias != NULL ? bias + from : NULL, task->outputs[i] + from);
        first += weight->rows;
    }
}

static void apply(flashinfer_model *model, linear_task *task)
{
    uint32_t rows = 0;

    for (uint32_t i = 0; i < task->count; i++) rows += task->linears[i]->weight.rows;
    flin_pool_split(&model->pool, rows, FLIN_ROW_GRAIN, run_linears, task);
}

const void *flin_input(flashinfer_model *model, enum flin_type type, const float *x, uint32_t cols)
{
    if (!flin_type_quantised(type)) return x;
    model->kernels->quantise(x, cols, model->scratch.levels);
    return model->scratch.levels;
}

void flin_apply_linear(flashinfer_model *model, const flin_linear *linear, const float *x, float *y)
{
    const flin_matrix *weight = &linear->weight;
    linear_task task = {model, &linear, &y, 1, flin_input(model, weight->type, x, weight->cols)};
    apply(model, &task);
}

typedef struct heads_task {
    flashinfer_session *session;
    uint32_t layer;
    float scale; /* of queries */
} heads_task;

void flin_kv_append(const flashinfer_session *session, uint32_t layer, uint32_t head,
                    uint32_t position, void *cache, const float *vector)
{
    const flashinfer_model *model = session->model;
    const enum flin_type type = model->config.kv_type;
    const uint32_t width = model->shape.head_width;
    uint8_t *at = (uint8_t *)cache + flin_kv_offset(model, layer, head) +
                  position * flin_type_bytes(type, width);

    model->kernels->from_float[type](vector, width, at);
}

/* The new position's key and value of a head join the others before its query meets them. */
static void run_head(const heads_task *task, uint32_t head, void *scratch)
{
    flashinfer_session *session = task->session;
    flashinfer_model *model = session->model;
    const flin_scratch *vectors = &model->scratch;
    const uint32_t width = model->shape.head_width, column = head * width;
    const uint64_t offset = flin_kv_offset(model, task->layer, head);
    float *query = vectors->query + column;

    flin_kv_append(session, task->layer, head, session->position, session->keys,
                   vectors->key + column);
    flin_kv_append(session, task->layer, head, session->position, session->values,
                   vectors->value + column);
    for (uint32_t i = 0; i < width; i++) query[i] *= task->scale;
    model->kernels->attend[model->config.kv_type](
        query, (const uint8_t *)session->keys + offset, (const uint8_t *)session->values + offset,
        session->position + 1, width, width, scratch, vectors->attended + column);
}

static void run_heads(void *context, uint32_t index, uint32_t count)
{
    const heads_task *task = context;
    flashinfer_model *model = task->session->model;
    uint32_t begin, end;

    flin_pool_share(model->shape.heads, 1, index, count, &begin, &end);
    for (uint32_t head = begin; head < end; head++)
        run_head(task, head, flin_attend_scratch(model, index));
}

void flin_attention(flashinfer_session *session, uint32_t layer, const float *input)
{
    flashinfer_model *model = session->model;
    const flin_layer *weights = &model->weights.layers[layer];
    flin_scratch *scratch = &model->scratch;
    const flin_linear *const linears[] = {&weights->attention.query, &weights->attention.key,
                                          &weights->attention.value};
    float *const outputs[] = {scratch->query, scratch->key, scratch->value};
    enum flin_type type = weights->attention.query.weight.type; /* the same for all three */
    linear_task projections = {model, linears, outputs, 3,
                               flin_input(model, type, input, model->shape.width)};
    heads_task heads = {session, layer, 1.0f / sqrtf((float)model->shape.head_width)};

    flin_pool_expect(&model->pool, NULL);
    apply(model, &projections);
    flin_expect_projection(model, layer);
    flin_pool_run(&model->pool, run_heads, &heads);
    flin_expect_ffn(model, layer);
    flin_apply_linear(model, &weights->attention.output, scratch->attended, scratch->projected);
}
