/*
 * ref/shared.h - kernels in plain C that tables name before they have something better: all of
 * ref/blocks.c and ref/vectors.c.
 *
 * Owns: nothing. Refuses: being called past a table.
 */
#ifndef FLIN_KERNELS_REF_SHARED_H
#define FLIN_KERNELS_REF_SHARED_H

#include "kernels/quants.h"

/* ref/blocks.c */
void flin_ref_quantise(const float *x, uint32_t cols, void *levels);
void flin_ref_matvec_q8_0(const void *w, uint32_t rows, uint32_t cols, const void *x,
                          const float *bias, float *y);
void flin_ref_matvecs_q8_0(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                           uint32_t inputs, const float *bias, float *const *y);
void flin_ref_matvec_q4_0(const void *w, uint32_t rows, uint32_t cols, const void *x,
                          const float *bias, float *y);
void flin_ref_matvecs_q4_0(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                           uint32_t inputs, const float *bias, float *const *y);
void flin_ref_dot_rows_q8_0(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                            float *y);
void flin_ref_dot_rows_q4_0(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                            float *y);
void flin_ref_add_rows_q8_0(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                            uint32_t end, float *y);
void flin_ref_add_rows_q4_0(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                            uint32_t end, float *y);
void flin_ref_to_float_q8_0(const void *row, uint32_t cols, float *to);
void flin_ref_to_float_q4_0(const void *row, uint32_t cols, float *to);
void flin_ref_from_float_q8_0(const float *x, uint32_t cols, void *row);
void flin_ref_from_float_q4_0(const float *x, uint32_t cols, void *row);

/* One row times levels of flin_ref_quantise(). */
float flin_ref_dot_q8_0(const void *row, uint32_t cols, const void *levels);

/* ref/vectors.c */
void flin_ref_rms_norm(const float *x, const float *weight, uint32_t n, float eps, float *y);
void flin_ref_relu(const float *x, const float *up, uint32_t n, float *y);
void flin_ref_relu2(const float *x, const float *up, uint32_t n, float *y);
void flin_ref_silu(const float *x, const float *up, uint32_t n, float *y);
void flin_ref_rotate(float *x, uint32_t heads, uint32_t head_dim, uint32_t rotated,
                     const float *cosines, const float *sines, enum flin_pairs pairs);

/* ref/floats.c */
void flin_ref_matvec_bf16(const void *w, uint32_t rows, uint32_t cols, const void *x,
                          const float *bias, float *y);
void flin_ref_matvecs_bf16(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                           uint32_t inputs, const float *bias, float *const *y);
void flin_ref_dot_rows_bf16(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                            float *y);
void flin_ref_add_rows_bf16(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                            uint32_t end, float *y);
void flin_ref_to_float_bf16(const void *row, uint32_t cols, float *to);
void flin_ref_from_float_f32(const float *x, uint32_t cols, void *row);
void flin_ref_from_float_bf16(const float *x, uint32_t cols, void *row);
void flin_ref_attend_q8_0(const float *q, const void *keys, const void *values, uint32_t count,
                          uint32_t stride, uint32_t head_dim, void *scratch, float *out);

/* ref/quants.c */
#define FLIN_REF_QUANT(name, type)                                                                 \
    FLIN_QUANT_KERNELS(ref, name);                                                                 \
    FLIN_QUANT_TO_FLOAT(ref, name)
FLIN_EACH_QUANT(FLIN_REF_QUANT);

#endif
