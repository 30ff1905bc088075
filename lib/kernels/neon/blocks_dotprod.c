/*
 * neon/blocks_dotprod.c - products with Q8_0 and Q4_0 rows, built for CPUs with the dotprod
 * extension.
 *
 * Owns: their names. Refuses: everything else (neon/blocks.h); being called without
 * flin_kernels_choose() having asked the CPU.
 */
#include "kernels/neon/blocks.h"

void flin_dotprod_quantise(const float *x, uint32_t cols, void *levels)
{
    quantise(x, cols, levels);
}

void flin_dotprod_matvec_q8_0(const void *w, uint32_t rows, uint32_t cols, const void *x,
                              const float *bias, float *y)
{
    matvec_blocks(w, rows, cols, x, bias, y, FLIN_Q8_0);
}

void flin_dotprod_matvecs_q8_0(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                               uint32_t inputs, const float *bias, float *const *y)
{
    matvecs_blocks(w, rows, cols, x, inputs, bias, y, FLIN_Q8_0);
}

void flin_dotprod_matvec_q4_0(const void *w, uint32_t rows, uint32_t cols, const void *x,
                              const float *bias, float *y)
{
    matvec_blocks(w, rows, cols, x, bias, y, FLIN_Q4_0);
}

void flin_dotprod_matvecs_q4_0(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                               uint32_t inputs, const float *bias, float *const *y)
{
    matvecs_blocks(w, rows, cols, x, inputs, bias, y, FLIN_Q4_0);
}

void flin_dotprod_dot_rows_q8_0(const void *const *rows, uint32_t count, uint32_t cols,
                                const void *x, float *y)
{
    dot_rows_blocks(rows, count, cols, x, y, FLIN_Q8_0);
}

void flin_dotprod_dot_rows_q4_0(const void *const *rows, uint32_t count, uint32_t cols,
                                const void *x, float *y)
{
    dot_rows_blocks(rows, count, cols, x, y, FLIN_Q4_0);
}

void flin_dotprod_attend_q8_0(const float *q, const void *keys, const void *values, uint32_t count,
                              uint32_t stride, uint32_t head_dim, void *scratch, float *out)
{
    attend_blocks(q, keys, values, count, stride, head_dim, scratch, out);
}
