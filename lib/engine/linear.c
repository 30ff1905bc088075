/*
 * linear.c - see linear.h. Every number is computed by one thread in one order.
 */
#include "engine/linear.h"

/* --------------------------------------------------------------------------------------- narrow */

#define LINEARS_MAX 3u

typedef struct narrow_task {
    const flin_kernels *kernels;
    const flin_linear *const *linears; /* (count) with the same input */
    uint32_t count;
    uint32_t rows;
    const void *x[LINEARS_MAX][FLIN_INPUTS_MAX];
    float *y[LINEARS_MAX][FLIN_INPUTS_MAX];
} narrow_task;

/* Matrix rows [begin, end) of all matrices one below the other. */
static void run_narrow(void *context, uint32_t begin, uint32_t end)
{
    const narrow_task *task = context;

    for (uint32_t i = 0, first = 0; i < task->count && first < end; i++) {
        const flin_matrix *weight = &task->linears[i]->weight;
        const float *bias = task->linears[i]->bias;
        const uint32_t from = begin > first ? begin - first : 0;
        const uint32_t to = end - first < weight->rows ? end - first : weight->rows;
        const uint8_t *data = (const uint8_t *)weight->data +
                              (uint64_t)from * flin_type_bytes(weight->type, weight->cols);

        float *y[FLIN_INPUTS_MAX];

        for (uint32_t row = 0; row < task->rows; row++) y[row] = task->y[i][row] + from;
        if (from < to)
            task->kernels->matvecs[weight->type](data, to - from, weight->cols, task->x[i],
                                                 task->rows, bias != NULL ? bias + from : NULL, y);
        first += weight->rows;
    }
}

static void split_narrow(flin_pool *pool, narrow_task *task)
{
    uint32_t total = 0;

    for (uint32_t i = 0; i < task->count; i++) total += task->linears[i]->weight.rows;
    flin_pool_split(pool, total, FLIN_GRAIN, run_narrow, task);
}

void flin_linear_narrow(flin_pass *pass, const flin_linear *linear, const float *x, uint32_t count,
                        float *const *y)
{
    narrow_task task = {.kernels = pass->compute->kernels, .linears = &linear, .count = 1};

    task.rows = count;
    flin_pass_inputs(pass, linear->weight.type, x, linear->weight.cols, count, task.x[0]);
    for (uint32_t row = 0; row < count; row++) task.y[0][row] = y[row];
    split_narrow(&pass->compute->pool, &task);
}

/* Matrices of other types than the first may take their input in another form. */
static void apply_narrow(flin_pass *pass, const flin_linear *const *linears, uint32_t linear_count,
                         const float *x, float *const *y)
{
    narrow_task task = {.kernels = pass->compute->kernels,
                        .linears = linears,
                        .count = linear_count,
                        .rows = pass->count};
    const void *levels[FLIN_INPUTS_MAX];
    int have_levels = 0;

    for (uint32_t i = 0; i < linear_count; i++) {
        const flin_matrix *weight = &linears[i]->weight;
        const int quantised = flin_type_quantised(weight->type);
        if (quantised && !have_levels)
            flin_pass_inputs(pass, weight->type, x, weight->cols, pass->count, levels);
        have_levels |= quantised;
        for (uint32_t row = 0; row < pass->count; row++) {
            task.x[i][row] = quantised ? levels[row] : x + (uint64_t)row * weight->cols;
            task.y[i][row] = y[i] + (uint64_t)row * weight->rows;
        }
    }
    split_narrow(&pass->compute->pool, &task);
}

/* ----------------------------------------------------------------------------------------- wide */

typedef struct pack_task {
    const flin_pass *pass;
    const float *x;
    uint32_t cols;
} pack_task;

static void run_pack(void *context, uint32_t index, uint32_t count)
{
    const pack_task *task = context;
    const flin_tile *tile = &task->pass->compute->tile;
    uint32_t begin, end;

    flin_pool_share((task->pass->count + tile->tokens - 1) / tile->tokens, 1, index, count, &begin,
                    &end);
    flin_gemm_pack(tile, task->x, task->cols, task->pass->count, task->cols, begin, end,
                   task->pass->wide_buffers.packed);
}

void flin_linear_pack(flin_pass *pass, const float *x, uint32_t cols)
{
    pack_task task = {pass, x, cols};

    flin_pool_run(&pass->compute->pool, run_pack, &task);
}

typedef struct product_task {
    const flin_pass *pass;
    const flin_gemm_rows *rows;
    const float *bias;
    float *y;
    uint64_t stride;
} product_task;

/* Matrix rows in blocks, so that a cancelled call ends soon. */
static void run_product(void *context, uint32_t index, uint32_t count)
{
    const product_task *task = context;
    const flin_pass *pass = task->pass;
    const flin_tile *tile = &pass->compute->tile;
    uint32_t block = pass->wide_buffers.block, begin, end;

    flin_pool_share(task->rows->count, tile->rows, index, count, &begin, &end);
    for (uint32_t row = begin; row < end; row += block) {
        if (flin_pass_cancelled(pass)) return;
        flin_gemm_run(tile, pass->compute->kernels, task->rows, row,
                      end - row < block ? end : row + block, pass->wide_buffers.packed, pass->count,
                      task->bias, task->y, task->stride, pass->wide_buffers.threads[index].panels);
    }
}

void flin_linear_product(flin_pass *pass, const flin_gemm_rows *rows, const float *bias, float *y,
                         uint64_t stride)
{
    product_task task = {pass, rows, bias, y, stride};

    flin_pool_run(&pass->compute->pool, run_product, &task);
}

static void apply_wide(flin_pass *pass, const flin_linear *linear, float *y)
{
    const flin_matrix *weight = &linear->weight;
    flin_gemm_rows rows = {NULL,         weight->data, flin_type_bytes(weight->type, weight->cols),
                           weight->rows, weight->cols, weight->type};

    flin_linear_product(pass, &rows, linear->bias, y, weight->rows);
}

void flin_linear_apply(flin_pass *pass, const flin_linear *const *linears, uint32_t linear_count,
                       const float *x, float *const *y)
{
    if (!pass->wide) {
        apply_narrow(pass, linears, linear_count, x, y);
        return;
    }
    flin_linear_pack(pass, x, linears[0]->weight.cols);
    for (uint32_t i = 0; i < linear_count; i++) apply_wide(pass, linears[i], y[i]);
}

/* ---------------------------------------------------------------------------------------- ahead */

void flin_linear_expect(flin_pass *pass, const flin_linear *const *linears, uint32_t linear_count)
{
    flin_ahead ahead = {.grain = FLIN_GRAIN, .sides = FLIN_AHEAD_SIDES_MAX};

    if (pass->wide) return;
    for (uint32_t i = 0; i < linear_count; i++) {
        ahead.first[i] = linears[i]->weight.data;
        ahead.rows[i] = linears[i]->weight.rows;
    }
    ahead.row_bytes = flin_type_bytes(linears[0]->weight.type, linears[0]->weight.cols);
    flin_pool_expect(&pass->compute->pool, &ahead);
}
