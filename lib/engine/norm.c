/*
 * norm.c - see norm.h.
 */
#include "engine/norm.h"

typedef struct norm_task {
    const flin_kernels *kernels;
    const flin_norm *norm;
    const float *x;
    float *y;
    uint32_t count, width;
} norm_task;

static void run_norm(void *context, uint32_t index, uint32_t count)
{
    const norm_task *task = context;
    const flin_norm *norm = task->norm;
    uint32_t begin, end;

    flin_pool_share(task->count, 1, index, count, &begin, &end);
    for (uint32_t row = begin; row < end; row++) {
        const float *x = task->x + (uint64_t)row * task->width;
        float *y = task->y + (uint64_t)row * task->width;
        switch (norm->kind) {
        case FLIN_NORM_LAYER:
            task->kernels->layer_norm(x, norm->weight, norm->bias, task->width, norm->epsilon, y);
            break;
        case FLIN_NORM_RMS:
            task->kernels->rms_norm(x, norm->weight, task->width, norm->epsilon, y);
            break;
        case FLIN_NORM_NONE: /* not asked for */
            break;
        }
    }
}

void flin_norm_rows(flin_pass *pass, const flin_norm *norm, const float *x, float *y,
                    uint32_t count)
{
    norm_task task = {pass->compute->kernels, norm, x, y, count, norm->width};

    if (norm->kind == FLIN_NORM_NONE) return;
    if (pass->wide)
        flin_pool_run(&pass->compute->pool, run_norm, &task);
    else
        run_norm(&task, 0, 1);
}
