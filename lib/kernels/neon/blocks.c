/*
 * neon/blocks.c - Q8_0 and Q4_0 in NEON: rows from and to floats, rows added, and products on CPUs
 * without dotprod.
 *
 * Owns: blocks in vectors of 8 elements. Refuses: what blocks mean (ref/blocks.c), how products are
 * summed (neon/blocks.h).
 */
#include "kernels/neon/blocks.h"

#include "kernels/ref/shared.h"
#include "util/half.h"

#define ADDED 16u /* rows added per pass over y */

typedef struct block_floats {
    float32x4_t four[8]; /* a block's elements before its scale */
} block_floats;

INLINE void spread(int8x8_t bytes, float32x4_t to[2])
{
    const int16x8_t wide = vmovl_s8(bytes);

    to[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
    to[1] = vcvtq_f32_s32(vmovl_high_s16(wide));
}

INLINE block_floats floats_of(const uint8_t *block, enum flin_type type)
{
    const uint8x16_t bytes = vld1q_u8(block + 2);
    const int8x16_t eights = vdupq_n_s8(8);
    int8x16_t left, right;
    block_floats floats;

    if (type == FLIN_Q4_0) {
        left = vsubq_s8(vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15))), eights);
        right = vsubq_s8(vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4)), eights);
    } else {
        left = vreinterpretq_s8_u8(bytes);
        right = vreinterpretq_s8_u8(vld1q_u8(block + 18));
    }
    spread(vget_low_s8(left), floats.four);
    spread(vget_high_s8(left), floats.four + 2);
    spread(vget_low_s8(right), floats.four + 4);
    spread(vget_high_s8(right), floats.four + 6);
    return floats;
}

static inline float scale_of(const uint8_t *block)
{
    uint16_t half;

    memcpy(&half, block, sizeof half);
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half))), 0);
}

/* ---------------------------------------------------------------------------------- conversions */

INLINE void to_float(const uint8_t *block, uint32_t cols, float *to, enum flin_type type)
{
    for (uint32_t c = 0; c < cols; c += BLOCK, block += flin_type_bytes(type, BLOCK)) {
        const block_floats floats = floats_of(block, type);
        const float scale = scale_of(block);

#pragma GCC unroll 8
        for (uint32_t i = 0; i < 8; i++)
            vst1q_f32(to + c + 4 * i, vmulq_n_f32(floats.four[i], scale));
    }
}

void flin_neon_to_float_q8_0(const void *row, uint32_t cols, float *to)
{
    to_float(row, cols, to, FLIN_Q8_0);
}

void flin_neon_to_float_q4_0(const void *row, uint32_t cols, float *to)
{
    to_float(row, cols, to, FLIN_Q4_0);
}

/* Halves of a level away from zero, as roundf() does. */
INLINE int8x8_t bytes8(const float *x, float inverse)
{
    const int32x4_t low = vcvtaq_s32_f32(vmulq_n_f32(vld1q_f32(x), inverse));
    const int32x4_t high = vcvtaq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4), inverse));

    return vmovn_s16(vmovn_high_s32(vmovn_s32(low), high));
}

/* Keys and values of a token become blocks as it runs. */
void flin_neon_from_float_q8_0(const float *x, uint32_t cols, void *row)
{
    uint8_t *block = row;

    for (uint32_t c = 0; c < cols; c += BLOCK, block += FLIN_Q8_0_BYTES) {
        const float scale = most_of(x + c) / 127.0f;
        const uint16_t half = flin_half_from_float(scale);

        if (!(scale >= LEAST && scale < INFINITY)) { /* zeros, nearly, or no numbers */
            flin_ref_from_float_q8_0(x + c, BLOCK, block);
            continue;
        }
        memcpy(block, &half, sizeof half);
        for (uint32_t i = 0; i < BLOCK; i += 8)
            vst1_s8((int8_t *)block + 2 + i, bytes8(x + c + i, 1.0f / scale));
    }
}

/* ------------------------------------------------------------------------------------------ add */

/* Up to ADDED rows in one pass over y, one after the other; a block's columns stay in registers. */
INLINE void add_group(const uint8_t *const *row, const float *a, uint32_t count, uint32_t begin,
                      uint32_t end, float *y, enum flin_type type)
{
    for (uint32_t c = begin; c < end; c += BLOCK) {
        float32x4_t sum[8];

#pragma GCC unroll 8
        for (uint32_t k = 0; k < 8; k++) sum[k] = vld1q_f32(y + c + 4 * k);
        for (uint32_t i = 0; i < count; i++) {
            const uint8_t *block = row[i] + flin_type_bytes(type, c);
            const block_floats floats = floats_of(block, type);
            const float factor = a[i] * scale_of(block);

#pragma GCC unroll 8
            for (uint32_t k = 0; k < 8; k++) sum[k] = vfmaq_n_f32(sum[k], floats.four[k], factor);
        }
#pragma GCC unroll 8
        for (uint32_t k = 0; k < 8; k++) vst1q_f32(y + c + 4 * k, sum[k]);
    }
}

INLINE void add_view(const rows_view *rows, const float *a, uint32_t begin, uint32_t end, float *y,
                     enum flin_type type)
{
    for (uint32_t i = 0; i < rows->count; i += ADDED) {
        const uint32_t count = rows->count - i < ADDED ? rows->count - i : ADDED;
        const uint8_t *row[ADDED];

        for (uint32_t r = 0; r < count; r++) row[r] = row_at(rows, i + r);
        add_group(row, a + i, count, begin, end, y, type);
    }
}

void flin_neon_add_view_q8_0(const rows_view *rows, const float *a, uint32_t begin, uint32_t end,
                             float *y)
{
    add_view(rows, a, begin, end, y, FLIN_Q8_0);
}

void flin_neon_add_rows_q8_0(const void *const *rows, const float *a, uint32_t count,
                             uint32_t begin, uint32_t end, float *y)
{
    const rows_view view = {rows, NULL, 0, count};

    add_view(&view, a, begin, end, y, FLIN_Q8_0);
}

void flin_neon_add_rows_q4_0(const void *const *rows, const float *a, uint32_t count,
                             uint32_t begin, uint32_t end, float *y)
{
    const rows_view view = {rows, NULL, 0, count};

    add_view(&view, a, begin, end, y, FLIN_Q4_0);
}

/* ------------------------------------------------------------------- products, without dotprod */

void flin_neon_quantise(const float *x, uint32_t cols, void *levels)
{
    quantise(x, cols, levels);
}

void flin_neon_matvec_q8_0(const void *w, uint32_t rows, uint32_t cols, const void *x,
                           const float *bias, float *y)
{
    matvec_blocks(w, rows, cols, x, bias, y, FLIN_Q8_0);
}

void flin_neon_matvecs_q8_0(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                            uint32_t inputs, const float *bias, float *const *y)
{
    matvecs_blocks(w, rows, cols, x, inputs, bias, y, FLIN_Q8_0);
}

void flin_neon_matvec_q4_0(const void *w, uint32_t rows, uint32_t cols, const void *x,
                           const float *bias, float *y)
{
    matvec_blocks(w, rows, cols, x, bias, y, FLIN_Q4_0);
}

void flin_neon_matvecs_q4_0(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                            uint32_t inputs, const float *bias, float *const *y)
{
    matvecs_blocks(w, rows, cols, x, inputs, bias, y, FLIN_Q4_0);
}

void flin_neon_dot_rows_q8_0(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                             float *y)
{
    dot_rows_blocks(rows, count, cols, x, y, FLIN_Q8_0);
}

void flin_neon_dot_rows_q4_0(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                             float *y)
{
    dot_rows_blocks(rows, count, cols, x, y, FLIN_Q4_0);
}

void flin_neon_attend_q8_0(const float *q, const void *keys, const void *values, uint32_t count,
                           uint32_t stride, uint32_t head_dim, void *scratch, float *out)
{
    attend_blocks(q, keys, values, count, stride, head_dim, scratch, out);
}
