/*
 * neon/blocks.h - products with quantised rows in NEON, for two files: compiled with the dotprod
 * extension (four products of bytes added at once) and without it.
 *
 * Owns: the levels of x, the order of sums: four rows side by side, one a lane. A block's product
 * is an exact integer sum; it is multiplied by both scales and added block after block. Refuses:
 * tables.
 */
#ifndef FLIN_KERNELS_NEON_BLOCKS_H
#define FLIN_KERNELS_NEON_BLOCKS_H

#include <math.h>
#include <string.h>

#include "kernels/inputs.h"
#include "kernels/neon/shared.h"

#define BLOCK FLIN_BLOCK
#define LEAST 0x1p-100f /* blocks of x below it count as zeros, so that no reciprocal overflows */

/* Whole vectors of a block: 8 levels of 16 bits each. */
typedef int16x8x4_t levels_of_block;

#ifdef __ARM_FEATURE_DOTPROD

/* --------------------------------------------------------------------- levels as two bytes each */

/* A level is 256 * high + low. */
typedef struct block_input {
    int8x16_t high[2], low[2];
    int32x4_t
        less8; /* the product with 32 elements of -8, in the lanes of an element's group of four */
} block_input;

/* Sums of products with the high and with the low bytes, eight to a lane. */
typedef struct byte_sums {
    int32x4_t high, low;
} byte_sums;

INLINE byte_sums multiply_bytes(int8x16_t left, int8x16_t right, const block_input *x,
                                int32x4_t start)
{
    const int32x4_t high = vdotq_s32(vdupq_n_s32(0), left, x->high[0]);
    const int32x4_t low = vdotq_s32(start, left, x->low[0]);

    return (byte_sums){vdotq_s32(high, right, x->high[1]), vdotq_s32(low, right, x->low[1])};
}

INLINE int32x4_t whole(int32x4_t high, int32x4_t low)
{
    return vaddq_s32(vshlq_n_s32(high, 8), low);
}

INLINE void put_block(const levels_of_block *block, void *levels, uint32_t b)
{
    const int8x16_t eights = vdupq_n_s8(-8);
    block_input *x = (block_input *)levels + b;

    for (uint32_t i = 0; i < 2; i++) {
        const int16x8_t left = block->val[2 * i], right = block->val[2 * i + 1];
        x->high[i] = vcombine_s8(vrshrn_n_s16(left, 8), vrshrn_n_s16(right, 8));
        x->low[i] = vcombine_s8(vmovn_s16(left), vmovn_s16(right));
    }
    const byte_sums sums = multiply_bytes(eights, eights, x, vdupq_n_s32(0));
    x->less8 = whole(sums.high, sums.low);
}

INLINE block_input block_at(const void *levels, uint32_t b)
{
    return ((const block_input *)levels)[b];
}

/* Elements of Q4_0 are taken as 0 to 15; x->less8 is what that is too much. */
INLINE byte_sums multiply_block(const uint8_t *block, const block_input *x, enum flin_type type)
{
    const uint8x16_t bytes = vld1q_u8(block + 2);

    if (type == FLIN_Q4_0)
        return multiply_bytes(vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15))),
                              vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4)), x, x->less8);
    return multiply_bytes(vreinterpretq_s8_u8(bytes), vreinterpretq_s8_u8(vld1q_u8(block + 18)), x,
                          vdupq_n_s32(0));
}

INLINE int32x4_t multiply_four(const uint8_t *const block[4], const block_input *x,
                               enum flin_type type)
{
    byte_sums sum[4];

#pragma GCC unroll 4
    for (uint32_t r = 0; r < 4; r++) sum[r] = multiply_block(block[r], x, type);
    return whole(
        vpaddq_s32(vpaddq_s32(sum[0].high, sum[1].high), vpaddq_s32(sum[2].high, sum[3].high)),
        vpaddq_s32(vpaddq_s32(sum[0].low, sum[1].low), vpaddq_s32(sum[2].low, sum[3].low)));
}

#else

/* --------------------------------------------------------------------------- levels as 16 bits */

typedef struct block_input {
    levels_of_block level;
} block_input;

INLINE void put_block(const levels_of_block *block, void *levels, uint32_t b)
{
    ((block_input *)levels)[b].level = *block;
}

INLINE block_input block_at(const void *levels, uint32_t b)
{
    return ((const block_input *)levels)[b];
}

/* 16 elements with 16 levels. */
INLINE int32x4_t add_products(int32x4_t sum, int8x16_t element, int16x8_t left, int16x8_t right)
{
    const int16x8_t low = vmovl_s8(vget_low_s8(element)), high = vmovl_high_s8(element);

    sum = vmlal_s16(sum, vget_low_s16(low), vget_low_s16(left));
    sum = vmlal_high_s16(sum, low, left);
    sum = vmlal_s16(sum, vget_low_s16(high), vget_low_s16(right));
    return vmlal_high_s16(sum, high, right);
}

INLINE int32x4_t multiply_block(const uint8_t *block, const block_input *x, enum flin_type type)
{
    const uint8x16_t bytes = vld1q_u8(block + 2);
    const int8x16_t eights = vdupq_n_s8(8);
    int8x16_t left, right;
    int32x4_t sum;

    if (type == FLIN_Q4_0) {
        left = vsubq_s8(vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15))), eights);
        right = vsubq_s8(vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4)), eights);
    } else {
        left = vreinterpretq_s8_u8(bytes);
        right = vreinterpretq_s8_u8(vld1q_u8(block + 18));
    }
    sum = add_products(vdupq_n_s32(0), left, x->level.val[0], x->level.val[1]);
    return add_products(sum, right, x->level.val[2], x->level.val[3]);
}

INLINE int32x4_t multiply_four(const uint8_t *const block[4], const block_input *x,
                               enum flin_type type)
{
    int32x4_t sum[4];

#pragma GCC unroll 4
    for (uint32_t r = 0; r < 4; r++) sum[r] = multiply_block(block[r], x, type);
    return vpaddq_s32(vpaddq_s32(sum[0], sum[1]), vpaddq_s32(sum[2], sum[3]));
}

#endif

/* ------------------------------------------------------------------------------------- quantise */

/* Behind the blocks lie their scales. */
INLINE uint64_t scales_at(uint32_t cols)
{
    return cols / BLOCK * sizeof(block_input);
}

/* The largest magnitude; NaN if one is. */
INLINE float most_of(const float *x)
{
    float32x4_t most = vabsq_f32(vld1q_f32(x));

    for (uint32_t i = 4; i < BLOCK; i += 4) most = vmaxq_f32(most, vabsq_f32(vld1q_f32(x + i)));
    return vmaxvq_f32(most);
}

INLINE int16x8_t levels8(const float *x, float inverse)
{
    const int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), inverse));
    const int32x4_t high = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4), inverse));

    return vmovn_high_s32(vmovn_s32(low), high);
}

INLINE void quantise(const float *x, uint32_t cols, void *levels)
{
    float *scales = (float *)((uint8_t *)levels + scales_at(cols));

    for (uint32_t b = 0; b < cols / BLOCK; b++, x += BLOCK) {
        const float most = most_of(x);
        levels_of_block block = {{vdupq_n_s16(0), vdupq_n_s16(0), vdupq_n_s16(0), vdupq_n_s16(0)}};

        scales[b] = most < LEAST ? 0.0f : NAN;
        if (most >= LEAST && most < INFINITY) {
            for (uint32_t i = 0; i < 4; i++)
                block.val[i] = levels8(x + 8 * i, (float)FLIN_LEVEL_MAX / most);
            scales[b] = most / (float)FLIN_LEVEL_MAX;
        }
        put_block(&block, levels, b);
    }
}

/* ------------------------------------------------------------------------------------- products */

INLINE float32x4_t scales_of(const uint8_t *const block[4])
{
    uint16x4_t halves = vdup_n_u16(0);

    halves = vld1_lane_u16((const void *)block[0], halves, 0);
    halves = vld1_lane_u16((const void *)block[1], halves, 1);
    halves = vld1_lane_u16((const void *)block[2], halves, 2);
    halves = vld1_lane_u16((const void *)block[3], halves, 3);
    return vcvt_f32_f16(vreinterpret_f16_u16(halves));
}

/* Eight rows side by side share the loads of levels. */
INLINE void dot8_blocks(const uint8_t *const row[8], uint32_t cols, const void *levels,
                        enum flin_type type, float32x4_t y[2])
{
    const uint64_t block_bytes = flin_type_bytes(type, BLOCK);
    const float *scales = (const float *)((const uint8_t *)levels + scales_at(cols));
    const uint8_t *at[8];

    memcpy(at, row, sizeof at);
    y[0] = y[1] = vdupq_n_f32(0);
    for (uint32_t b = 0; b < cols / BLOCK; b++) {
        const block_input x = block_at(levels, b);

#pragma GCC unroll 2
        for (uint32_t r = 0; r < 2; r++) {
            const float32x4_t sums = vcvtq_f32_s32(multiply_four(at + 4 * r, &x, type));
            y[r] = vfmaq_f32(y[r], vmulq_n_f32(scales_of(at + 4 * r), scales[b]), sums);
        }
#pragma GCC unroll 8
        for (uint32_t r = 0; r < 8; r++) at[r] += block_bytes;
    }
}

INLINE void dot_blocks(const rows_view *rows, uint32_t cols, const void *levels, float *y,
                       enum flin_type type)
{
    for (uint32_t i = 0; i < rows->count; i += 8) {
        const uint32_t left = rows->count - i;
        const uint8_t *row[8];
        float32x4_t sums[2];

        for (uint32_t r = 0; r < 8; r++) row[r] = row_at(rows, i + r);
        dot8_blocks(row, cols, levels, type, sums);
        store_some(y + i, left, sums[0]);
        if (left > 4) store_some(y + i + 4, left - 4, sums[1]);
    }
}

INLINE void matvec_blocks(const void *w, uint32_t rows, uint32_t cols, const void *levels,
                          const float *bias, float *y, enum flin_type type)
{
    const rows_view view = {NULL, w, flin_type_bytes(type, cols), rows};

    dot_blocks(&view, cols, levels, y, type);
    if (bias == NULL) return;
    for (uint32_t r = 0; r < rows; r++) y[r] += bias[r];
}

#define CHUNK_BLOCKS 32u /* of eight rows and of the inputs lie in the first cache */

/* Blocks [begin, end) of eight rows with some inputs: those of four rows are spread out once and
   stay in registers for all inputs. sum: (inputs, 2) */
INLINE void add8_blocks(const uint8_t *const row[8], uint32_t cols, const void *const *levels,
                        uint32_t inputs, uint32_t begin, uint32_t end, float32x4_t (*sum)[2],
                        enum flin_type type)
{
    float32x4_t kept[4][2];

#pragma GCC unroll 8
    for (uint32_t k = 0; k < 2 * inputs; k++) kept[k / 2][k % 2] = sum[k / 2][k % 2];
    for (uint32_t b = begin; b < end; b++) {
        const uint8_t *at[8];

#pragma GCC unroll 8
        for (uint32_t r = 0; r < 8; r++) at[r] = row[r] + flin_type_bytes(type, BLOCK) * b;
#pragma GCC unroll 8
        for (uint32_t k = 0; k < 2 * inputs; k++) {
            const uint32_t i = k % inputs, r = k / inputs;
            const float *scales = (const float *)((const uint8_t *)levels[i] + scales_at(cols));
            const block_input x = block_at(levels[i], b);
            const float32x4_t sums = vcvtq_f32_s32(multiply_four(at + 4 * r, &x, type));

            kept[i][r] = vfmaq_f32(kept[i][r], vmulq_n_f32(scales_of(at + 4 * r), scales[b]), sums);
        }
    }
#pragma GCC unroll 8
    for (uint32_t k = 0; k < 2 * inputs; k++) sum[k / 2][k % 2] = kept[k / 2][k % 2];
}

INLINE void dots_blocks(const rows_view *rows, uint32_t cols, const void *const *levels,
                        uint32_t inputs, float *const *y, enum flin_type type)
{
    const uint32_t blocks = cols / BLOCK;

    for (uint32_t first = 0; first < rows->count; first += 8) {
        const uint32_t left = rows->count - first;
        float32x4_t sum[FLIN_INPUTS_MAX][2];
        const uint8_t *row[8];

        memset(sum, 0, sizeof sum);
        for (uint32_t r = 0; r < 8; r++) row[r] = row_at(rows, first + r);
        for (uint32_t begin = 0; begin < blocks; begin += CHUNK_BLOCKS) {
            const uint32_t end = blocks - begin < CHUNK_BLOCKS ? blocks : begin + CHUNK_BLOCKS;

            for (uint32_t i = 0, here; i < inputs; i += here) {
                here = flin_inputs_share(inputs - i);
                if (here == 2) add8_blocks(row, cols, levels + i, 2, begin, end, sum + i, type);
                if (here == 3) add8_blocks(row, cols, levels + i, 3, begin, end, sum + i, type);
                if (here == 4) add8_blocks(row, cols, levels + i, 4, begin, end, sum + i, type);
            }
        }
        for (uint32_t i = 0; i < inputs; i++) {
            store_some(y[i] + first, left, sum[i][0]);
            if (left > 4) store_some(y[i] + first + 4, left - 4, sum[i][1]);
        }
    }
}

INLINE void matvecs_blocks(const void *w, uint32_t rows, uint32_t cols, const void *const *levels,
                           uint32_t inputs, const float *bias, float *const *y, enum flin_type type)
{
    const rows_view view = {NULL, w, flin_type_bytes(type, cols), rows};

    if (inputs == 1) {
        matvec_blocks(w, rows, cols, levels[0], bias, y[0], type);
        return;
    }
    dots_blocks(&view, cols, levels, inputs, y, type);
    for (uint32_t i = 0; bias != NULL && i < inputs; i++)
        for (uint32_t r = 0; r < rows; r++) y[i][r] += bias[r];
}

INLINE void dot_rows_blocks(const void *const *rows, uint32_t count, uint32_t cols,
                            const void *levels, float *y, enum flin_type type)
{
    const rows_view view = {rows, NULL, 0, count};

    dot_blocks(&view, cols, levels, y, type);
}

/* ------------------------------------------------------------------------------------ attention */

/* scratch: scores, then levels of q */
INLINE void attend_blocks(const float *q, const void *keys, const void *values, uint32_t count,
                          uint32_t stride, uint32_t head_dim, float *scratch, float *out)
{
    const uint64_t step = flin_type_bytes(FLIN_Q8_0, stride);
    void *levels = scratch + FLIN_ATTEND_POSITIONS;
    softmax at = {-INFINITY, 0};

    for (uint32_t c = 0; c < head_dim; c++) out[c] = 0.0f;
    quantise(q, head_dim, levels);
    for (uint32_t first = 0; first < count; first += FLIN_ATTEND_POSITIONS) {
        const uint32_t left = count - first,
                       here = left < FLIN_ATTEND_POSITIONS ? left : FLIN_ATTEND_POSITIONS;
        const rows_view key_rows = {NULL, (const uint8_t *)keys + first * step, step, here};
        const rows_view value_rows = {NULL, (const uint8_t *)values + first * step, step, here};

        dot_blocks(&key_rows, head_dim, levels, scratch, FLIN_Q8_0);
        flin_neon_soften(&at, scratch, here, out, head_dim);
        flin_neon_add_view_q8_0(&value_rows, scratch, 0, head_dim, out);
    }
    for (uint32_t c = 0; count != 0 && c < head_dim; c++) out[c] /= at.total;
}

#endif
