/*
 * expect.c - what a step reads next. While one thread adds, normalises and looks up, the others
 * would only wait: they are told which matrix follows and ask memory for the beginning of it.
 * Nothing depends on it but time.
 */
#include "engine/model.h"

/* Matrices that are multiplied with the same input. */
static void expect_linears(flashinfer_model *model, const flin_matrix *const *matrices,
                           uint32_t count)
{
    flin_ahead ahead = {.grain = FLIN_ROW_GRAIN, .sides = FLIN_AHEAD_SIDES_MAX};

    for (uint32_t i = 0; i < count; i++) {
        ahead.first[i] = matrices[i]->data;
        ahead.rows[i] = matrices[i]->rows;
    }
    ahead.row_bytes = flin_type_bytes(matrices[0]->type, matrices[0]->cols);
    flin_pool_expect(&model->pool, &ahead);
}

static void expect_logits(flashinfer_model *model)
{
    const flin_weights *weights = &model->weights;
    const flin_matrix *matrix = weights->project_out.weight.data != NULL
                                    ? &weights->project_out.weight
                                    : &weights->output.weight;

    expect_linears(model, &matrix, 1);
}

void flin_expect_attention(flashinfer_model *model, uint32_t layer)
{
    const flin_layer *next = &model->weights.layers[layer % model->shape.layers];
    const flin_matrix *const inputs[] = {&next->attention.query.weight, &next->attention.key.weight,
                                         &next->attention.value.weight};

    if (layer == model->shape.layers && model->wants_logits)
        expect_logits(model);
    else
        expect_linears(model, inputs, 3);
}

void flin_expect_projection(flashinfer_model *model, uint32_t layer)
{
    const flin_matrix *output = &model->weights.layers[layer].attention.output.weight;

    expect_linears(model, &output, 1);
}

void flin_expect_ffn(flashinfer_model *model, uint32_t layer)
{
    flin_ahead ahead;

    if (!flin_uses_names(&model->config)) return;
    ahead = flin_predictor_ahead(&model->weights.layers[layer].predictor);
    flin_pool_expect(&model->pool, &ahead);
}
