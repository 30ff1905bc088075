/*
 * linear.h - matrices times the rows of a pass.
 */
#ifndef FLIN_ENGINE_LINEAR_H
#define FLIN_ENGINE_LINEAR_H

#include "engine/pass.h"

/* y[i] (rows, outputs of linears[i]) = linears[i] . x + bias for all rows of the pass. x: (rows,
   inputs). A narrow pass takes all matrices in one run over the threads. Matrix rows that memory
   does not hold come through the ring: a pass uses matrices in its order. */
int flin_linear_apply(flin_pass *pass, const flin_linear *const *linears, uint32_t linear_count,
                      const float *x, float *const *y, flashinfer_error *error);

/* The same of one matrix for `count` rows, at most rows_max, with the arithmetic of a narrow pass.
   y: (count) where each row's outputs go. */
int flin_linear_narrow(flin_pass *pass, const flin_linear *linear, const float *x, uint32_t count,
                       float *const *y, flashinfer_error *error);

/* y (rows, count; `stride` apart) = matrix rows . what is packed + bias: a wide pass's product. */
void flin_linear_product(flin_pass *pass, const flin_gemm_rows *rows, const float *bias, float *y,
                         uint64_t stride);

/* packed = x (rows, cols) for a wide pass. */
void flin_linear_pack(flin_pass *pass, const float *x, uint32_t cols);

/* What threads may ask memory for while they wait: matrices of one input, that come next. */
void flin_linear_expect(flin_pass *pass, const flin_linear *const *linears, uint32_t linear_count);

#endif
