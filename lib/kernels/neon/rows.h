/*
 * neon/rows.h - elements of rows of floats, float16 and bfloat16 as vectors, and their sums.
 *
 * Owns: loads, the one tree in which 8 lanes become a sum. Refuses: loops. The type argument is a
 * constant wherever these are inlined.
 */
#ifndef FLIN_KERNELS_NEON_ROWS_H
#define FLIN_KERNELS_NEON_ROWS_H

#include <string.h>

#include "kernels/neon/shared.h"

#define LANES 8u

typedef enum flin_type type_t;
typedef float32x4x2_t eight;

/* ---------------------------------------------------------------------------------------- loads */

INLINE eight load8(const void *row, uint64_t c, type_t type)
{
    const uint8_t *at = (const uint8_t *)row + flin_type_bytes(type, c);
    const uint8x16_t bytes = vld1q_u8(at);

    if (type == FLIN_F16) {
        const float16x8_t halves = vreinterpretq_f16_u8(bytes);
        return (eight){{vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)}};
    }
    if (type == FLIN_BF16) {
        const uint16x8_t high = vreinterpretq_u16_u8(bytes);
        return (eight){{vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(high), 16)),
                        vreinterpretq_f32_u32(vshll_high_n_u16(high, 16))}};
    }
    return (eight){{vreinterpretq_f32_u8(bytes), vreinterpretq_f32_u8(vld1q_u8(at + 16))}};
}

/* Elements [c, end), 8 at most; the lanes of others are 0. */
INLINE eight load_part(const void *row, uint32_t c, uint32_t end, type_t type)
{
    uint8_t copy[LANES * sizeof(float)] = {0};

    if (end - c >= LANES) return load8(row, c, type);
    memcpy(copy, (const uint8_t *)row + flin_type_bytes(type, c), flin_type_bytes(type, end - c));
    return load8(copy, 0, type);
}

/* Likewise of floats, the lanes of others `rest`. */
INLINE eight load_rest(const float *x, uint32_t c, uint32_t end, float rest)
{
    float copy[LANES];

    if (end - c >= LANES) return load8(x, c, FLIN_F32);
    for (uint32_t i = 0; i < LANES; i++) copy[i] = i < end - c ? x[c + i] : rest;
    return load8(copy, 0, FLIN_F32);
}

INLINE void store_part(float *y, uint32_t c, uint32_t end, eight value)
{
    const uint32_t left = end - c;

    store_some(y + c, left, value.val[0]);
    if (left > 4) store_some(y + c + 4, left - 4, value.val[1]);
}

/* ----------------------------------------------------------------------------------------- sums */

/* Four sums at once: the halves, then pairs, then pairs of pairs. Every place has the same tree. */
INLINE float32x4_t fold4(const eight sum[4])
{
    float32x4_t half[4];

#pragma GCC unroll 4
    for (uint32_t r = 0; r < 4; r++) half[r] = vaddq_f32(sum[r].val[0], sum[r].val[1]);
    return vpaddq_f32(vpaddq_f32(half[0], half[1]), vpaddq_f32(half[2], half[3]));
}

INLINE float fold1(eight sum)
{
    const eight same[4] = {sum, sum, sum, sum};

    return vgetq_lane_f32(fold4(same), 0);
}

INLINE eight multiply_add(eight sum, eight a, eight b)
{
    return (eight){
        {vfmaq_f32(sum.val[0], a.val[0], b.val[0]), vfmaq_f32(sum.val[1], a.val[1], b.val[1])}};
}

#endif
