/*
 * arrange.c - see arrange.h.
 */
#include "plan/arrange.h"

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

static void arrange(flin_compute *compute, flin_matrix *matrix)
{
    /* read-only for all others, but in the model's own memory */
    arrange_task task = {(uint8_t *)(uintptr_t)matrix->data, matrix->cols};

    if (matrix->data == NULL || matrix->type != FLIN_Q4_0) return;
    flin_pool_split(&compute->pool, matrix->rows, FLIN_GRAIN, run_apart, &task);
    matrix->type = FLIN_Q4_0_APART;
}

void flin_arrange(flin_compute *compute, flin_weights *weights, uint32_t layers)
{
    const int tied = weights->output.weight.data == weights->token_embedding.data;

    if (compute->kernels->apart_to_float == NULL) return;
    arrange(compute, &weights->token_embedding);
    if (tied)
        weights->output.weight.type = weights->token_embedding.type;
    else
        arrange(compute, &weights->output.weight);
    arrange(compute, &weights->project_in.weight);
    arrange(compute, &weights->project_out.weight);
    for (uint32_t i = 0; i < layers; i++) {
        flin_layer *layer = &weights->layers[i];
        arrange(compute, &layer->attention.query.weight);
        arrange(compute, &layer->attention.key.weight);
        arrange(compute, &layer->attention.value.weight);
        arrange(compute, &layer->attention.output.weight);
    }
}
