/*
 * neon/shared.h - what the files of the NEON overlay share: how they look at rows, and who computes
 * what.
 *
 * Owns: nothing that runs by itself. Refuses: other overlays.
 *
 * CPUs with the dotprod extension multiply quantised rows and sketches in files of their own, which
 * are built for them: neon/blocks_dotprod.c and sketch/neon_dotprod.c. All else is the same.
 */
#ifndef FLIN_KERNELS_NEON_SHARED_H
#define FLIN_KERNELS_NEON_SHARED_H

#include <arm_neon.h>
#include <stddef.h>

#include "kernels/quants.h"

#define INLINE static inline __attribute__((always_inline))

/* Rows to work on, wherever they lie: behind pointers, or at equal distances in a matrix or in one
   head's cache. */
typedef struct rows_view {
    const void *const *scattered; /* (count) or NULL */
    const uint8_t *first;
    uint64_t step_bytes;
    uint32_t count;
} rows_view;

/* Row i, or the last row instead of one beyond it. */
INLINE const uint8_t *row_at(const rows_view *rows, uint32_t i)
{
    const uint32_t at = i < rows->count ? i : rows->count - 1;

    return rows->scattered != NULL ? rows->scattered[at] : rows->first + at * rows->step_bytes;
}

/* The first `count` of four. */
INLINE void store_some(float *y, uint32_t count, float32x4_t value)
{
    float four[4];

    if (count >= 4) {
        vst1q_f32(y, value);
        return;
    }
    vst1q_f32(four, value);
    for (uint32_t i = 0; i < count; i++) y[i] = four[i];
}

/* A softmax that runs along: what was added up before a larger score came is scaled down. */
typedef struct softmax {
    float largest; /* -Inf: no score yet that counts */
    float total;
} softmax;

/* Scores (count) become exp(score - largest), out what it was by the scale it has now.
   neon/floats.c */
void flin_neon_soften(softmax *at, float *scores, uint32_t count, float *out, uint32_t head_dim);

/* neon/inputs.c: two inputs at least */
void flin_neon_matvecs_f32(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                           uint32_t inputs, const float *bias, float *const *y);
void flin_neon_matvecs_f16(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                           uint32_t inputs, const float *bias, float *const *y);
void flin_neon_matvecs_bf16(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                            uint32_t inputs, const float *bias, float *const *y);

/* neon/blocks.c; the last for attention */
void flin_neon_to_float_q8_0(const void *row, uint32_t cols, float *to);
void flin_neon_to_float_q4_0(const void *row, uint32_t cols, float *to);
void flin_neon_from_float_q8_0(const float *x, uint32_t cols, void *row);
void flin_neon_add_rows_q8_0(const void *const *rows, const float *a, uint32_t count,
                             uint32_t begin, uint32_t end, float *y);
void flin_neon_add_rows_q4_0(const void *const *rows, const float *a, uint32_t count,
                             uint32_t begin, uint32_t end, float *y);
void flin_neon_add_view_q8_0(const rows_view *rows, const float *a, uint32_t begin, uint32_t end,
                             float *y);

/* Products with quantised rows: each set reads the levels it makes. neon/blocks.c */
void flin_neon_quantise(const float *x, uint32_t cols, void *levels);
void flin_neon_matvec_q8_0(const void *w, uint32_t rows, uint32_t cols, const void *x,
                           const float *bias, float *y);
void flin_neon_matvecs_q8_0(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                            uint32_t inputs, const float *bias, float *const *y);
void flin_neon_matvec_q4_0(const void *w, uint32_t rows, uint32_t cols, const void *x,
                           const float *bias, float *y);
void flin_neon_matvecs_q4_0(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                            uint32_t inputs, const float *bias, float *const *y);
void flin_neon_dot_rows_q8_0(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                             float *y);
void flin_neon_dot_rows_q4_0(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                             float *y);
void flin_neon_attend_q8_0(const float *q, const void *keys, const void *values, uint32_t count,
                           uint32_t stride, uint32_t head_dim, void *scratch, float *out);

/* neon/blocks_dotprod.c */
void flin_dotprod_quantise(const float *x, uint32_t cols, void *levels);
void flin_dotprod_matvec_q8_0(const void *w, uint32_t rows, uint32_t cols, const void *x,
                              const float *bias, float *y);
void flin_dotprod_matvecs_q8_0(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                               uint32_t inputs, const float *bias, float *const *y);
void flin_dotprod_matvec_q4_0(const void *w, uint32_t rows, uint32_t cols, const void *x,
                              const float *bias, float *y);
void flin_dotprod_matvecs_q4_0(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                               uint32_t inputs, const float *bias, float *const *y);
void flin_dotprod_dot_rows_q8_0(const void *const *rows, uint32_t count, uint32_t cols,
                                const void *x, float *y);
void flin_dotprod_dot_rows_q4_0(const void *const *rows, uint32_t count, uint32_t cols,
                                const void *x, float *y);
void flin_dotprod_attend_q8_0(const float *q, const void *keys, const void *values, uint32_t count,
                              uint32_t stride, uint32_t head_dim, void *scratch, float *out);

/* neon/quants.c and neon/quants_dotprod.c */
#define FLIN_NEON_QUANT_KERNELS(name, type)                                                        \
    FLIN_QUANT_KERNELS(neon, name);                                                                \
    FLIN_QUANT_KERNELS(dotprod, name);                                                             \
    FLIN_QUANT_TO_FLOAT(neon, name)
FLIN_EACH_QUANT(FLIN_NEON_QUANT_KERNELS);

#endif
