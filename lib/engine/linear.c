/*
 * linear.c - see linear.h. Every number is computed by one thread in one order.
 */
#include "engine/linear.h"

#include <assert.h>

/* ---------------------------------------------------------------------------------------- spans */

#define LINEARS_MAX 3u

/* Matrix rows at hand: those that memory holds, or a run that has arrived. */
typedef struct span {
    uint32_t index; /* of the linear */
    uint32_t first, count;
    const uint8_t *data; /* (count, cols) */
} span;

static span held_of(const flin_linear *const *linears, uint32_t index)
{
    const flin_matrix *weight = &linears[index]->weight;

    return (span){index, 0, weight->held, weight->data};
}

typedef void (*span_task)(void *context, const span *spans, uint32_t count);

/* What streams of the matrices, run by run as it arrives; with wait == 0 only what has. */
static int take_runs(flin_pass *pass, const flin_linear *const *linears, uint32_t count, int wait,
                     span_task task, void *context, uint64_t *left, flashinfer_error *error)
{
    for (uint32_t i = 0; i < count; i++) {
        const flin_matrix *weight = &linears[i]->weight;
        for (;;) {
            flin_run run;
            int code = flin_ring_take(pass->ring, weight, wait, &run, error);
            const span at = {i, run.first, run.count, run.data};
            if (code != 0) return code;
            if (run.count == 0) break;
            task(context, &at, 1);
            *left -= run.count;
            flin_ring_give_back(pass->ring);
            if (flin_pass_cancelled(pass)) return FLASHINFER_ECANCELED;
        }
    }
    return 0;
}

/* What has arrived makes room for what is to be read while memory's share is computed. */
static __attribute__((noinline)) int take_all(flin_pass *pass, const flin_linear *const *linears,
                                              uint32_t count, span_task task, void *context,
                                              flashinfer_error *error)
{
    span held[LINEARS_MAX] = {0};
    uint64_t left = 0; /* matrix rows to come */
    int code = 0;

    for (uint32_t i = 0; i < count; i++) {
        held[i] = held_of(linears, i);
        left += flin_matrix_streams(&linears[i]->weight);
    }
    if (FLIN_PLAIN && left != 0)
        code = take_runs(pass, linears, count, 0, task, context, &left, error);
    if (code != 0) return code;
    task(context, held, count);
    if (FLIN_PLAIN && left != 0)
        code = take_runs(pass, linears, count, 1, task, context, &left, error);
    assert(code != 0 || left == 0); /* else a pass asked in another order than the ring's */
    return code;
}

/* --------------------------------------------------------------------------------------- narrow */

typedef struct narrow_task {
    flin_compute *compute;
    const flin_linear *const *linears; /* with the same input */
    const span *spans;                 /* (count) */
    uint32_t count;
    uint32_t rows;
    const void *x[LINEARS_MAX][FLIN_INPUTS_MAX];
    float *y[LINEARS_MAX][FLIN_INPUTS_MAX];
} narrow_task;

/* Matrix rows [begin, end) of all spans one below the other. */
static void run_narrow(void *context, uint32_t begin, uint32_t end)
{
    const narrow_task *task = context;

    for (uint32_t i = 0, first = 0; i < task->count && first < end; i++) {
        const span *at = &task->spans[i];
        const flin_matrix *weight = &task->linears[at->index]->weight;
        const float *bias = task->linears[at->index]->bias;
        const uint32_t from = begin > first ? begin - first : 0;
        const uint32_t to = end - first < at->count ? end - first : at->count;
        const uint8_t *data =
            at->data + (uint64_t)from * flin_type_bytes(weight->type, weight->cols);
        const uint32_t place = at->first + from;
        float *y[FLIN_INPUTS_MAX];

        for (uint32_t row = 0; row < task->rows; row++) y[row] = task->y[at->index][row] + place;
        if (from < to)
            task->compute->kernels->matvecs[weight->type](data, to - from, weight->cols,
                                                          task->x[at->index], task->rows,
                                                          bias != NULL ? bias + place : NULL, y);
        first += at->count;
    }
}

static void split_narrow(void *context, const span *spans, uint32_t count)
{
    narrow_task *task = context;
    uint32_t total = 0;

    task->spans = spans;
    task->count = count;
    for (uint32_t i = 0; i < count; i++) total += spans[i].count;
    flin_pool_split(&task->compute->pool, total, FLIN_GRAIN, run_narrow, task);
}

int flin_linear_narrow(flin_pass *pass, const flin_linear *linear, const float *x, uint32_t count,
                       float *const *y, flashinfer_error *error)
{
    narrow_task task = {.compute = pass->compute, .linears = &linear, .rows = count};

    flin_pass_inputs(pass, linear->weight.type, x, linear->weight.cols, count, task.x[0]);
    for (uint32_t row = 0; row < count; row++) task.y[0][row] = y[row];
    return take_all(pass, &linear, 1, split_narrow, &task, error);
}

/* Matrices of other types than the first may take their input in another form. */
static int apply_narrow(flin_pass *pass, const flin_linear *const *linears, uint32_t linear_count,
                        const float *x, float *const *y, flashinfer_error *error)
{
    narrow_task task = {.compute = pass->compute, .linears = linears, .rows = pass->count};
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
    return take_all(pass, linears, linear_count, split_narrow, &task, error);
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

typedef struct wide_task {
    flin_pass *pass;
    const flin_linear *const *linears;
    float *const *y;
} wide_task;

static void run_wide(void *context, const span *spans, uint32_t count)
{
    const wide_task *task = context;

    for (uint32_t i = 0; i < count; i++) {
        const span *at = &spans[i];
        const flin_linear *linear = task->linears[at->index];
        const flin_matrix *weight = &linear->weight;
        const flin_gemm_rows rows = {
            NULL,      at->data,     flin_type_bytes(weight->type, weight->cols),
            at->count, weight->cols, weight->type};

        if (at->count != 0)
            flin_linear_product(task->pass, &rows,
                                linear->bias != NULL ? linear->bias + at->first : NULL,
                                task->y[at->index] + at->first, weight->rows);
    }
}

int flin_linear_apply(flin_pass *pass, const flin_linear *const *linears, uint32_t linear_count,
                      const float *x, float *const *y, flashinfer_error *error)
{
    wide_task task = {pass, linears, y};

    if (!pass->wide) return apply_narrow(pass, linears, linear_count, x, y, error);
    flin_linear_pack(pass, x, linears[0]->weight.cols);
    return take_all(pass, linears, linear_count, run_wide, &task, error);
}

/* ---------------------------------------------------------------------------------------- ahead */

void flin_linear_expect(flin_pass *pass, const flin_linear *const *linears, uint32_t linear_count)
{
    flin_ahead ahead = {.grain = FLIN_GRAIN, .sides = FLIN_AHEAD_SIDES_MAX};

    if (pass->wide) return;
    ahead.row_bytes = flin_type_bytes(linears[0]->weight.type, linears[0]->weight.cols);
    for (uint32_t i = 0; i < linear_count; i++) {
        const flin_matrix *weight = &linears[i]->weight;
        if (flin_type_bytes(weight->type, weight->cols) != ahead.row_bytes) break;
        ahead.first[i] = weight->data;
        ahead.rows[i] = weight->held;
    }
    flin_pool_expect(&pass->compute->pool, &ahead);
}
