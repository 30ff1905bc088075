/*
 * lowrank.c - see lowrank.h.
 */
#include "predictor/lowrank.h"

#include <math.h>

#include "predictor/share.h"

#define CHECK_COLS 512u /* numbers looked at at once */

uint64_t flin_lowrank_bytes(const flin_lowrank *lowrank)
{
    uint64_t hidden = lowrank->rank;

    return hidden * flin_type_bytes(lowrank->type, lowrank->cols) +
           hidden * flin_type_bytes(lowrank->type, lowrank->rows) + lowrank->rows * sizeof(float);
}

/* Index of the first of count numbers that is none; count: all are. */
static uint64_t first_bad(const flin_kernels *kernels, enum flin_type type, const uint8_t *data,
                          uint64_t count)
{
    float values[CHECK_COLS];

    for (uint64_t at = 0; at < count; at += CHECK_COLS) {
        uint32_t piece = count - at < CHECK_COLS ? (uint32_t)(count - at) : CHECK_COLS;
        kernels->to_float[type](data + at * flin_type_bytes(type, 1), piece, values);
        for (uint32_t i = 0; i < piece; i++)
            if (!isfinite(values[i])) return at + i;
    }
    return count;
}

int flin_lowrank_check(const flin_lowrank *lowrank, const flin_kernels *kernels, int layer,
                       flashinfer_error *error)
{
    uint64_t down = (uint64_t)lowrank->rank * lowrank->cols;
    uint64_t up = (uint64_t)lowrank->rows * lowrank->rank;
    uint64_t bad = first_bad(kernels, lowrank->type, lowrank->down, down);

    if (bad < down)
        return flin_fail_at(error, FLASHINFER_EFORMAT, layer, -1, -1,
                            "the low-rank predictor of layer %d has a first factor that is not a "
                            "number at row %llu; make it again",
                            layer, (unsigned long long)(bad / lowrank->cols));
    bad = first_bad(kernels, lowrank->type, lowrank->up, up);
    if (bad < up)
        return flin_fail_at(error, FLASHINFER_EFORMAT, layer, (int64_t)(bad / lowrank->rank), -1,
                            "the low-rank predictor of layer %d is not a number at neuron %llu; "
                            "make it again",
                            layer, (unsigned long long)(bad / lowrank->rank));
    for (uint32_t i = 0; i < lowrank->rows; i++)
        if (!isfinite(lowrank->bias[i]))
            return flin_fail_at(error, FLASHINFER_EFORMAT, layer, i, -1,
                                "the low-rank predictor of layer %d has a bias that is not a "
                                "number at neuron %u; make it again",
                                layer, i);
    return 0;
}

void flin_lowrank_hidden(const flin_lowrank *lowrank, const flin_kernels *kernels,
                         const void *const *x, uint32_t inputs, uint32_t begin, uint32_t end,
                         float *const *hidden)
{
    const uint8_t *rows = lowrank->down;

    flin_share_products(kernels, lowrank->type,
                        rows + (uint64_t)begin * flin_type_bytes(lowrank->type, lowrank->cols),
                        begin, end, lowrank->cols, x, inputs, NULL, hidden);
    for (uint32_t input = 0; lowrank->relu && input < inputs; input++)
        for (uint32_t i = begin; i < end; i++)
            if (!(hidden[input][i] > 0)) hidden[input][i] = 0;
}

void flin_lowrank_scores(const flin_lowrank *lowrank, const flin_kernels *kernels,
                         const void *const *hidden, uint32_t inputs, uint32_t begin, uint32_t end,
                         float *const *scores)
{
    const uint8_t *rows = lowrank->up;

    flin_share_products(kernels, lowrank->type,
                        rows + (uint64_t)begin * flin_type_bytes(lowrank->type, lowrank->rank),
                        begin, end, lowrank->rank, hidden, inputs, lowrank->bias, scores);
}
