/*
 * attention.c - multi-head attention of one new token over its session's cached positions. Threads share output rows
 * of the projections and heads of the attention, so each number is computed by one thread in one order.
 */
#include "engine/model.h"

#include <math.h>

#define ROW_GRAIN 16u

typedef struct linear_task {
    const flashinfer_model *model;
    const flin_linear *const *linears; /* (count) with the same input */
    float *const *outputs;             /* (count) */
    uint32_t count;
    const float *x;
} linear_task;

static void run_linears(void *context, uint32_t index, uint32_t count)
{
    const linear_task *task = context;

    for (uint32_t i = 0; i < task->count; i++) {
        const flin_matrix *weight = &task->linears[i]->weight;
        const float *bias = task->linears[i]->bias;
        const uint8_t *data = weight->data;
        uint32_t begin, end;
        flin_pool_share(weight->rows, ROW_GRAIN, index, count, &begin, &end);
        if (begin == end) continue;
        task->model->kernels->matvec[weight->type](
            data + (uint64_t)begin * flin_type_bytes(weight->type, weight->cols), end - begin,
            weight->cols, task->x, bias != NULL ? bias + begin : NULL, task->outputs[i] + begin);
    }
}

void flin_apply_linear(flashinfer_model *model, const flin_linear *linear, const float *x, float *y)
{
    linear_task task = {model, &linear, &y, 1, x};
    flin_pool_run(&model->pool, run_linears, &task);
}

typedef struct heads_task {
    flashinfer_session *session;
    uint32_t layer;
} heads_task;

static void run_heads(void *context, uint32_t index, uint32_t count)
{
    const heads_task *task = context;
    flashinfer_model *model = task->session->model;
    const flin_scratch *scratch = &model->scratch;
    const flin_shape *shape = &model->shape;
    enum flin_type type = model->config.kv_type;
    uint64_t base = flin_kv_index(model, task->layer, 0);
    float *scores = scratch->scores + (uint64_t)index * flin_round_up(model->config.context, 16);
    uint32_t begin, end;

    flin_pool_share(shape->heads, 1, index, count, &begin, &end);
    for (uint32_t head = begin; head < end; head++) {
        uint32_t column = head * shape->head_width;
        uint64_t bytes = flin_type_bytes(type, 1) * (base + column);
        model->kernels->attend[type](
            scratch->query + column, (const uint8_t *)task->session->keys + bytes,
            (const uint8_t *)task->session->values + bytes, task->session->position + 1,
            shape->width, shape->head_width, scores, scratch->attended + column);
    }
}

void flin_kv_append(const flashinfer_session *session, uint32_t layer, uint32_t position,
                    void *cache, const float *vector)
{
    const flashinfer_model *model = session->model;
    uint64_t index = flin_kv_index(model, layer, position);

    if (model->config.kv_type == FLIN_F16)
        model->kernels->to_half(vector, model->shape.width, (uint16_t *)cache + index);
    else
        model->kernels->to_float[FLIN_F32](vector, model->shape.width, (float *)cache + index);
}

void flin_attention(flashinfer_session *session, uint32_t layer, const float *input)
{
    flashinfer_model *model = session->model;
    const flin_layer *weights = &model->weights.layers[layer];
    flin_scratch *scratch = &model->scratch;
    const flin_linear *const linears[] = {&weights->query, &weights->key, &weights->value};
    float *const outputs[] = {scratch->query, scratch->key, scratch->value};
    linear_task projections = {model, linears, outputs, 3, input};
    heads_task heads = {session, layer};
    float scale = 1.0f / sqrtf((float)model->shape.head_width);

    flin_pool_run(&model->pool, run_linears, &projections);
    for (uint32_t i = 0; i < model->shape.width; i++) scratch->query[i] *= scale;
    flin_kv_append(session, layer, session->position, session->keys, scratch->key);
    flin_kv_append(session, layer, session->position, session->values, scratch->value);
    flin_pool_run(&model->pool, run_heads, &heads);
    flin_apply_linear(model, &weights->output, scratch->attended, scratch->projected);
}
