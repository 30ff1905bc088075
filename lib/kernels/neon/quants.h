/*
 * neon/quants.h - products with rows of quants.h in NEON, for two files: compiled with the dotprod
 * extension and without it.
 *
 * Owns: levels and scales of a block as vectors, the order of sums: four rows side by side, one a
 * lane, 32 elements after the other. An exact integer sum is multiplied by both scales and added,
 * then what is taken off is subtracted. Refuses: tables; levels of x (neon/blocks.h).
 *
 * A block of four rows is spread out once and then multiplied with one input after the other. The
 * type argument is a constant wherever these are inlined.
 */
#ifndef FLIN_KERNELS_NEON_QUANTS_H
#define FLIN_KERNELS_NEON_QUANTS_H

#include "kernels/neon/blocks.h"
#include "kernels/quants.h"

#define SIDE 4u   /* rows */
#define PIECES 8u /* of 32 elements in a block, at most */

typedef struct spread_rows {
    int8_t level[SIDE][PIECES * BLOCK];
    float scale[2 * PIECES][SIDE], less[2 * PIECES][SIDE]; /* of every half piece */
} spread_rows;

INLINE uint32_t pieces_of(enum flin_type type)
{
    return flin_quants_super(type) ? PIECES : 1;
}

/* ------------------------------------------------------------------------------------- levels */

INLINE uint8x16_t shifted(uint8x16_t bytes, uint32_t right)
{
    return vshlq_u8(bytes, vdupq_n_s8((int8_t) - (int)right));
}

/* `value` in bytes that have the bit. */
INLINE uint8x16_t worth(uint8x16_t bytes, uint32_t bit, uint32_t value)
{
    return vandq_u8(vtstq_u8(bytes, vdupq_n_u8((uint8_t)(1u << bit))), vdupq_n_u8((uint8_t)value));
}

/* Bit i of 16 as 16 in byte i. */
INLINE uint8x16_t fifths(uint32_t bits)
{
    const uint8x8_t which = vcreate_u8(0x8040201008040201u);
    const uint8x16_t there = vcombine_u8(vdup_n_u8((uint8_t)bits), vdup_n_u8((uint8_t)(bits >> 8)));

    return vandq_u8(vtstq_u8(there, vcombine_u8(which, which)), vdupq_n_u8(16));
}

INLINE int8x16_t looked_up(uint8x16_t index, enum flin_type type)
{
    static const int8_t iq4[] = {FLIN_IQ4_VALUES}, mxfp4[] = {FLIN_MXFP4_VALUES};

    return vqtbl1q_s8(vld1q_s8(type == FLIN_MXFP4 ? mxfp4 : iq4), index);
}

/* Half h of a block of 32. */
INLINE int8x16_t levels_of_block32(const uint8_t *block, uint32_t h, enum flin_type type)
{
    const uint8x16_t raw = vld1q_u8(block + flin_quants_levels_at(type));
    uint8x16_t bytes = h == 0 ? vandq_u8(raw, vdupq_n_u8(15)) : vshrq_n_u8(raw, 4);

    if (type == FLIN_IQ4_NL || type == FLIN_MXFP4) return looked_up(bytes, type);
    if (type == FLIN_Q5_0)
        bytes = vorrq_u8(bytes, fifths(flin_quants_u32(block + FLIN_Q5_0_FIFTH) >> 16 * h));
    if (type == FLIN_Q5_1)
        bytes = vorrq_u8(bytes, fifths(flin_quants_u32(block + FLIN_Q5_1_FIFTH) >> 16 * h));
    return vsubq_s8(vreinterpretq_s8_u8(bytes), vdupq_n_s8((int8_t)flin_quants_bias(type)));
}

/* Two bits of each byte for each of four pieces. */
INLINE uint8x16_t two_bits(const uint8_t *levels, uint32_t piece, uint32_t h)
{
    const uint8x16_t raw = vld1q_u8(levels + piece / 4 * 32 + 16 * h);

    return vandq_u8(shifted(raw, piece % 4 * 2), vdupq_n_u8(3));
}

INLINE uint8x16_t four_bits(const uint8_t *levels, uint32_t upper)
{
    return vandq_u8(shifted(vld1q_u8(levels), 4 * upper), vdupq_n_u8(15));
}

/* Half h of a piece of a block. */
INLINE int8x16_t levels_of(const uint8_t *block, uint32_t piece, uint32_t h, enum flin_type type)
{
    const uint32_t pair = piece / 2 * 32 + 16 * h;
    uint8x16_t bytes = vdupq_n_u8(0);

    if (!flin_quants_super(type)) return levels_of_block32(block, h, type);
    if (type == FLIN_IQ4_XS)
        return looked_up(four_bits(block + FLIN_IQ4_XS_LEVELS + 16 * piece, h), type);
    if (type == FLIN_Q4_K) bytes = four_bits(block + FLIN_Q4_K_LEVELS + pair, piece % 2);
    if (type == FLIN_Q5_K)
        bytes = vorrq_u8(four_bits(block + FLIN_Q5_K_LEVELS + pair, piece % 2),
                         worth(vld1q_u8(block + FLIN_Q5_K_FIFTH + 16 * h), piece, 16));
    if (type == FLIN_Q6_K)
        bytes = vorrq_u8(four_bits(block + piece / 4 * 64 + piece % 2 * 32 + 16 * h, piece % 4 / 2),
                         vshlq_n_u8(two_bits(block + FLIN_Q6_K_UPPER, piece, h), 4));
    if (type == FLIN_Q2_K) bytes = two_bits(block + FLIN_Q2_K_LEVELS, piece, h);
    if (type == FLIN_Q3_K)
        bytes = vorrq_u8(two_bits(block + FLIN_Q3_K_LEVELS, piece, h),
                         worth(vld1q_u8(block + 16 * h), piece, 4));
    return vsubq_s8(vreinterpretq_s8_u8(bytes), vdupq_n_s8((int8_t)flin_quants_bias(type)));
}

/* ------------------------------------------------------------------------------------- scales */

INLINE float half_at(const uint8_t *at)
{
    uint16_t half;

    memcpy(&half, at, sizeof half);
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half))), 0);
}

INLINE void put_all(float (*to)[SIDE], uint32_t r, float value)
{
    to[0][r] = to[1][r] = value;
}

INLINE int byte_of(flin_sixteen bytes, uint32_t i)
{
    return (int)((i < 8 ? bytes.low : bytes.high) >> 8 * (i % 8) & 255u);
}

/* Of a block with a scale of every 16 elements, as row r. */
INLINE void put_halved(const uint8_t *block, uint32_t r, spread_rows *to, enum flin_type type)
{
    const float scale = half_at(block + (type == FLIN_Q2_K   ? FLIN_Q2_K_SCALE
                                         : type == FLIN_Q3_K ? FLIN_Q3_K_SCALE
                                                             : FLIN_Q6_K_SCALE));
    const float less = type == FLIN_Q2_K ? half_at(block + FLIN_Q2_K_LESS) : 0;
    const flin_sixteen subs =
        flin_q3_k_subs(block + FLIN_Q3_K_SUBS); /* read where all have bytes */

    for (uint32_t i = 0; i < 2 * PIECES; i++) {
        const int sub = type == FLIN_Q2_K   ? block[i] & 15
                        : type == FLIN_Q3_K ? byte_of(subs, i) - 32
                                            : (int8_t)block[FLIN_Q6_K_SUBS + i];
        to->scale[i][r] = scale * (float)sub;
        to->less[i][r] = less * (float)(block[i] >> 4);
    }
}

/* Of a block with a scale of every 32 elements, twice. */
INLINE void put_scales(const uint8_t *block, uint32_t r, spread_rows *to, enum flin_type type)
{
    const float scale = type == FLIN_MXFP4 ? flin_mxfp4_scale(*block) : half_at(block);

    if (type == FLIN_Q4_K || type == FLIN_Q5_K) {
        const flin_sixteen subs = flin_q4_k_subs(block + FLIN_Q4_K_SUBS);
        const float less = half_at(block + FLIN_Q4_K_LESS);

        for (uint32_t p = 0; p < PIECES; p++) {
            put_all(&to->scale[2 * p], r, scale * (float)byte_of(subs, p));
            put_all(&to->less[2 * p], r, less * (float)byte_of(subs, 8 + p));
        }
    } else if (type == FLIN_IQ4_XS) {
        const flin_sixteen subs = {flin_iq4_xs_subs(block), 0};

        for (uint32_t p = 0; p < PIECES; p++)
            put_all(&to->scale[2 * p], r, scale * (float)(byte_of(subs, p) - 32));
    } else {
        put_all(to->scale, r, scale);
        if (flin_quants_less(type)) put_all(to->less, r, -half_at(block + FLIN_Q4_1_LESS));
    }
}

/* A block, as row r. */
INLINE void spread_block(const uint8_t *block, uint32_t r, spread_rows *to, enum flin_type type)
{
#pragma GCC unroll 8
    for (uint32_t p = 0; p < pieces_of(type); p++)
#pragma GCC unroll 2
        for (uint32_t h = 0; h < 2; h++)
            vst1q_s8(to->level[r] + BLOCK * p + 16 * h, levels_of(block, p, h, type));
    if (flin_quants_halved(type))
        put_halved(block, r, to, type);
    else
        put_scales(block, r, to, type);
}

/* ----------------------------------------------------------------------------------- products */

/* Sums of 16 elements with half h of a block of levels. */
INLINE int32x4_t half_product(int8x16_t level, const block_input *x, uint32_t h)
{
#ifdef __ARM_FEATURE_DOTPROD
    return whole(vdotq_s32(vdupq_n_s32(0), level, x->high[h]),
                 vdotq_s32(vdupq_n_s32(0), level, x->low[h]));
#else
    return add_products(vdupq_n_s32(0), level, x->level.val[2 * h], x->level.val[2 * h + 1]);
#endif
}

/* Half h of a piece of four rows, or both where they share a scale. */
INLINE float32x4_t product_of_four(const spread_rows *w, const block_input *x, uint32_t piece,
                                   uint32_t h, enum flin_type type)
{
    int32x4_t sum[SIDE];

#pragma GCC unroll 4
    for (uint32_t r = 0; r < SIDE; r++) {
        const int8_t *level = w->level[r] + BLOCK * piece + 16 * h;

        sum[r] = half_product(vld1q_s8(level), x, h);
        if (!flin_quants_halved(type))
            sum[r] = vaddq_s32(sum[r], half_product(vld1q_s8(level + 16), x, 1));
    }
    return vcvtq_f32_s32(vpaddq_s32(vpaddq_s32(sum[0], sum[1]), vpaddq_s32(sum[2], sum[3])));
}

INLINE float sum_of_levels(const block_input *x, uint32_t h, enum flin_type type)
{
    const int8x16_t ones = vdupq_n_s8(1);
    int32x4_t sum = half_product(ones, x, h);

    if (!flin_quants_halved(type)) sum = vaddq_s32(sum, half_product(ones, x, 1));
    return (float)vaddvq_s32(sum);
}

INLINE float32x4_t multiply_piece(const spread_rows *w, const void *levels, uint32_t b,
                                  uint32_t piece, float scale, float32x4_t y, enum flin_type type)
{
    const block_input x = block_at(levels, b);

    const uint32_t halves = flin_quants_halved(type) ? 2 : 1;

    for (uint32_t h = 0; h < halves; h++) {
        const float32x4_t both = vmulq_n_f32(vld1q_f32(w->scale[2 * piece + h]), scale);

        y = vfmaq_f32(y, both, product_of_four(w, &x, piece, h, type));
        if (flin_quants_less(type))
            y = vfmsq_f32(y, vld1q_f32(w->less[2 * piece + h]),
                          vdupq_n_f32(scale * sum_of_levels(&x, h, type)));
    }
    return y;
}

INLINE void dots_quants(const flin_view *rows, uint32_t cols, const void *const *levels,
                        uint32_t inputs, float *const *y, enum flin_type type)
{
    const uint32_t pieces = pieces_of(type);
    const uint64_t bytes = flin_types[type].bytes;

    for (uint32_t first = 0; first < rows->count; first += SIDE) {
        float32x4_t sum[FLIN_INPUTS_MAX];
        spread_rows w;
        uint64_t at = 0;

        for (uint32_t i = 0; i < inputs; i++) sum[i] = vdupq_n_f32(0);
        for (uint32_t b = 0; b < cols / BLOCK; b += pieces, at += bytes) {
            for (uint32_t r = 0; r < SIDE; r++)
                spread_block((const uint8_t *)flin_row_at(rows, first + r) + at, r, &w, type);
            for (uint32_t i = 0; i < inputs; i++) {
                const float *scales = (const float *)((const uint8_t *)levels[i] + scales_at(cols));

                for (uint32_t p = 0; p < pieces; p++)
                    sum[i] = multiply_piece(&w, levels[i], b + p, p, scales[b + p], sum[i], type);
            }
        }
        for (uint32_t i = 0; i < inputs; i++) store_some(y[i] + first, rows->count - first, sum[i]);
    }
}

/* Functions of one type; the prefix is that of the file's set of kernels. */
#define FLIN_NEON_DOTS(name, type)                                                                 \
    static void dot_##name(const flin_view *rows, uint32_t cols, const void *x, float *y)          \
    {                                                                                              \
        dots_quants(rows, cols, &x, 1, &y, type);                                                  \
    }                                                                                              \
    static void dots_##name(const flin_view *rows, uint32_t cols, const void *const *x,            \
                            uint32_t inputs, float *const *y)                                      \
    {                                                                                              \
        dots_quants(rows, cols, x, inputs, y, type);                                               \
    }

#endif
