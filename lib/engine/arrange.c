/*
 * arrange.c - resident matrices in the layout that the kernels are fastest with: Q4_0 with scales
 * apart from weights, where a table has products with such rows. Files keep GGUF's blocks, and so
 * do bundles, which are read into their slots as they are. No result depends on it, bit for bit.
 */
#include "engine/model.h"
#include "kernels/apart.h"

typedef struct arrange_task {
    uint8_t *rows;
    uint32_t cols;
} arrange_task;

static void run_apart(void *context, uint32_t begin, uint32_t end)
{
    const arrange_task *task = context;

    flin_apart_rows(task->rows + begin * flin_type_bytes(FLIN_Q4_0, task->cols), end - begin,
                    task->cols);
}

static void arrange(flashinfer_model *model, flin_matrix *matrix)
{
    /* read-only for all others, but in the model's own memory */
    arrange_task task = {(uint8_t *)(uintptr_t)matrix->data, matrix->cols};

    if (matrix->data == NULL || matrix->type != FLIN_Q4_0) return;
    flin_pool_split(&model->pool, matrix->rows, FLIN_ROW_GRAIN, run_apart, &task);
    matrix->type = FLIN_Q4_0_APART;
}

void flin_arrange(flashinfer_model *model)
{
    flin_weights *weights = &model->weights;
    const int tied = weights->output.weight.data == weights->token_embedding.data;

    if (model->kernels->apart_to_float == NULL) return;
    arrange(model, &weights->token_embedding);
    if (tied)
        weights->output.weight.type = weights->token_embedding.type;
    else
        arrange(model, &weights->output.weight);
    arrange(model, &weights->project_in.weight);
    arrange(model, &weights->project_out.weight);
    for (uint32_t i = 0; i < model->shape.layers; i++) {
        flin_layer *layer = &weights->layers[i];
        arrange(model, &layer->attention.query.weight);
        arrange(model, &layer->attention.key.weight);
        arrange(model, &layer->attention.value.weight);
        arrange(model, &layer->attention.output.weight);
    }
}
