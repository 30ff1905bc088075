/*
 * kernels_inputs.c - products of weights in memory with a few inputs at once, as a draft's positions and a batch's
 * sessions have them.
 *
 * Owns: how much longer some inputs take than one. Refuses: many tokens (kernels_products.c).
 *
 * Method: in each turn every count of inputs has its own slice of the buffer, one after the other, one input by matvec
 * itself. A ratio is the median over turns of the times within a turn, so that what else the machine does cancels out.
 */
#include "kernels_tasks.h"

#include <stdlib.h>

#include "util/clock.h"

#define TURNS_MAX 1024u

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

typedef struct job {
    bench *bench;
    enum flin_type type;
    uint32_t rows, cols, inputs;
    const uint8_t *w;
    const void *x[FLIN_INPUTS_MAX];
    float *y[FLIN_INPUTS_MAX]; /* (rows) */
} job;

static void multiply(void *context, uint32_t index, uint32_t count)
{
    const job *j = context;
    const flin_kernels *kernels = j->bench->kernels;
    float *y[FLIN_INPUTS_MAX];
    const uint8_t *w;
    uint32_t begin, end;

    flin_pool_share(j->rows, 4, index, count, &begin, &end);
    w = j->w + begin * flin_type_bytes(j->type, j->cols);
    for (uint32_t i = 0; i < j->inputs; i++) y[i] = j->y[i] + begin;
    if (j->inputs == 1)
        kernels->matvec[j->type](w, end - begin, j->cols, j->x[0], NULL, y[0]);
    else
        kernels->matvecs[j->type](w, end - begin, j->cols, j->x, j->inputs, NULL, y);
}

static int prepare(job *j)
{
    const uint64_t bytes = flin_levels_bytes(j->cols); /* of floats, too */

    for (uint32_t i = 0; i < FLIN_INPUTS_MAX; i++) {
        float *x = aligned_alloc(64, bytes);
        void *levels = aligned_alloc(64, bytes);

        j->y[i] = calloc(j->rows, sizeof(float));
        if (x == NULL || levels == NULL || j->y[i] == NULL) return -1;
        for (uint32_t c = 0; c < j->cols; c++) x[c] = j->bench->x[c] + (float)i;
        if (flin_type_quantised(j->type)) j->bench->kernels->quantise(x, j->cols, levels);
        j->x[i] = flin_type_quantised(j->type) ? levels : x;
        free(flin_type_quantised(j->type) ? (void *)x : levels);
    }
    return 0;
}

int measure_inputs(bench *b, enum flin_type type, uint32_t cols, uint32_t rounds,
                   inputs_figures figures[INPUT_COUNTS])
{
    static const uint32_t counts[INPUT_COUNTS] = {1, 2, 4, 8};
    static double rates[INPUT_COUNTS][TURNS_MAX], ratios[INPUT_COUNTS][TURNS_MAX];
    const uint64_t row_bytes = flin_type_bytes(type, cols), slices = b->buffer_bytes / SLICE_BYTES;
    job j = {.bench = b, .type = type, .cols = cols, .rows = (uint32_t)(SLICE_BYTES / row_bytes)};
    uint32_t turns = 0;
    int result = prepare(&j);

    for (; result == 0 && turns < slices * rounds && turns < TURNS_MAX; turns++)
        for (uint32_t i = 0; i < INPUT_COUNTS; i++) {
            uint64_t start;

            j.inputs = counts[i];
            j.w = b->buffer + (turns + i * slices / INPUT_COUNTS) % slices * SLICE_BYTES;
            start = flin_now_ns();
            flin_pool_run(&b->pool, multiply, &j);
            rates[i][turns] = (double)(j.rows * row_bytes) / (double)(flin_now_ns() - start);
            ratios[i][turns] = rates[0][turns] / rates[i][turns];
        }
    for (uint32_t i = 0; result == 0 && i < INPUT_COUNTS; i++) {
        qsort(rates[i], turns, sizeof(double), by_value);
        qsort(ratios[i], turns, sizeof(double), by_value);
        figures[i] =
            (inputs_figures){counts[i], rates[i][(turns - 1) * 9 / 10], ratios[i][turns / 2]};
    }
    for (uint32_t i = 0; i < FLIN_INPUTS_MAX; i++) {
        free((void *)(uintptr_t)j.x[i]);
        free(j.y[i]);
    }
    return result;
}
