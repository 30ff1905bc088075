/*
 * gemm/neon.c - the tile of a product with many tokens in NEON: 8 rows and 12 tokens in 24
 * registers.
 *
 * Owns: one pass over two packed panels. Refuses: packing and blocks (gemm.c).
 */
#include "kernels/gemm/gemm.h"

#include <arm_neon.h>

#define ROWS 8u
#define TOKENS 12u
#define INLINE static inline __attribute__((always_inline))

/* Four tokens: a row's two vectors times each of their elements. */
INLINE void multiply4(float32x4_t sum[4][2], float32x4_t low, float32x4_t high, float32x4_t x)
{
    sum[0][0] = vfmaq_laneq_f32(sum[0][0], low, x, 0);
    sum[0][1] = vfmaq_laneq_f32(sum[0][1], high, x, 0);
    sum[1][0] = vfmaq_laneq_f32(sum[1][0], low, x, 1);
    sum[1][1] = vfmaq_laneq_f32(sum[1][1], high, x, 1);
    sum[2][0] = vfmaq_laneq_f32(sum[2][0], low, x, 2);
    sum[2][1] = vfmaq_laneq_f32(sum[2][1], high, x, 2);
    sum[3][0] = vfmaq_laneq_f32(sum[3][0], low, x, 3);
    sum[3][1] = vfmaq_laneq_f32(sum[3][1], high, x, 3);
}

/* A whole tile, at y or in a block of its own. */
INLINE void multiply(uint32_t depth, const float *w, const float *x, float *y, uint64_t stride,
                     int add)
{
    float32x4_t sum[TOKENS][2];

#pragma GCC unroll 12
    for (uint32_t t = 0; t < TOKENS; t++) {
        sum[t][0] = add ? vld1q_f32(y + t * stride) : vdupq_n_f32(0);
        sum[t][1] = add ? vld1q_f32(y + t * stride + 4) : vdupq_n_f32(0);
    }
    for (uint32_t k = 0; k < depth; k++, w += ROWS, x += TOKENS) {
        const float32x4_t low = vld1q_f32(w), high = vld1q_f32(w + 4);

        multiply4(sum, low, high, vld1q_f32(x));
        multiply4(sum + 4, low, high, vld1q_f32(x + 4));
        multiply4(sum + 8, low, high, vld1q_f32(x + 8));
    }
#pragma GCC unroll 12
    for (uint32_t t = 0; t < TOKENS; t++) {
        vst1q_f32(y + t * stride, sum[t][0]);
        vst1q_f32(y + t * stride + 4, sum[t][1]);
    }
}

static void run(const flin_tile *tile, uint32_t depth, const float *w, const float *x, float *y,
                uint64_t stride, uint32_t row_count, uint32_t token_count, int add)
{
    float block[TOKENS][ROWS] = {{0}};

    (void)tile;
    if (row_count == ROWS && token_count == TOKENS) {
        multiply(depth, w, x, y, stride, add);
        return;
    }
    for (uint32_t t = 0; add && t < token_count; t++)
        for (uint32_t r = 0; r < row_count; r++) block[t][r] = y[t * stride + r];
    multiply(depth, w, x, block[0], ROWS, add);
    for (uint32_t t = 0; t < token_count; t++)
        for (uint32_t r = 0; r < row_count; r++) y[t * stride + r] = block[t][r];
}

const flin_tile flin_tile_neon = {.name = "neon", .rows = ROWS, .tokens = TOKENS, .run = run};
