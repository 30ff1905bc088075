/*
 * sketch/neon.h - tile sums of the sketch in NEON, for two files: compiled with the dotprod
 * extension and without it.
 *
 * Owns: sums of a tile of every side, a row per 32-bit lane, four rows a register. Refuses:
 * everything else; sketch/sketch.c has layout and driver. The sums are of integers, so they
 * equal the reference bit for bit.
 */
#ifndef FLIN_KERNELS_SKETCH_NEON_H
#define FLIN_KERNELS_SKETCH_NEON_H

#include <arm_neon.h>

#include "kernels/kernels.h"
#include "kernels/sketch/sketch.h"

#define GROUPS 8   /* of four inputs in a block */
#define QUARTERS 4 /* of four rows in a tile */
#define ROWS FLIN_SKETCH_TILE_ROWS
#define SIDES FLIN_SKETCH_SIDES
#define INLINE static inline __attribute__((always_inline))

/* The bits of a byte from `shift` on, as an index into a table that repeats: at most 15, and
   bits that are the next group's do no harm. */
INLINE uint8x16_t field(uint8x16_t bytes, int shift)
{
    const uint8x16_t moved = vshlq_u8(bytes, vdupq_n_s8((int8_t)-shift));

    return shift >= 4 ? moved : vandq_u8(moved, vdupq_n_u8(15));
}

/* Groups 6 and 7 of 3 bits: two bits from the top of one plane, the third from another. */
INLINE uint8x16_t split_field(uint8x16_t low, uint8x16_t high, int shift)
{
    const uint8x16_t third = vshlq_u8(high, vdupq_n_s8((int8_t)-shift));

    return vorrq_u8(vshrq_n_u8(low, 6), vandq_u8(third, vdupq_n_u8(4)));
}

/* level[g]: inputs 4g to 4g + 3 of 4 rows, unshifted levels, which reach 78 */
INLINE void unpack(const uint8_t *planes, int bits, uint8x16_t table, int8x16_t *level)
{
    const int in_byte = 8 / bits;
    uint8x16_t plane[4];

#pragma GCC unroll 4
    for (int p = 0; p < bits; p++) plane[p] = vld1q_u8(planes + 64 * p);
#pragma GCC unroll 8
    for (int g = 0; g < GROUPS; g++) {
        uint8x16_t index;
        if (bits == 3 && g >= 6)
            index = split_field(plane[g - 6], plane[2], g - 2);
        else
            index = field(plane[g / in_byte], g % in_byte * bits);
        level[g] = vreinterpretq_s8_u8(vqtbl1q_u8(table, index));
    }
}

#ifdef __ARM_FEATURE_DOTPROD

INLINE int32x4_t dot_of(int bits, const int8x16_t *level, const int8x16_t *input, int32x4_t dot)
{
    (void)bits;
#pragma GCC unroll 8
    for (int g = 0; g < GROUPS; g++) dot = vdotq_s32(dot, level[g], input[g]);
    return dot;
}

#else

/* Products of two rows each side, pairs of them added: 2 * 78 * 127 at 4 bits. Up to 3 bits,
   where levels reach 36, the products of two groups are added first. */
INLINE int32x4_t dot_of(int bits, const int8x16_t *level, const int8x16_t *input, int32x4_t dot)
{
#pragma GCC unroll 4
    for (int g = 0; g < GROUPS; g += 2) {
        int16x8_t low = vmull_s8(vget_low_s8(level[g]), vget_low_s8(input[g]));
        int16x8_t high = vmull_high_s8(level[g], input[g]);

        if (bits == 4) {
            dot = vpadalq_s16(dot, vpaddq_s16(low, high));
            low = vmull_s8(vget_low_s8(level[g + 1]), vget_low_s8(input[g + 1]));
            high = vmull_high_s8(level[g + 1], input[g + 1]);
        } else {
            low = vmlal_s8(low, vget_low_s8(level[g + 1]), vget_low_s8(input[g + 1]));
            high = vmlal_high_s8(high, level[g + 1], input[g + 1]);
        }
        dot = vpadalq_s16(dot, vpaddq_s16(low, high));
    }
    return dot;
}

#endif

/* input[g]: inputs 4g to 4g + 3, for every row */
INLINE void spread(const int8_t *levels, int8x16_t *input)
{
    int32_t four[GROUPS];

    __builtin_memcpy(four, levels, sizeof four);
#pragma GCC unroll 8
    for (int g = 0; g < GROUPS; g++) input[g] = vreinterpretq_s8_s32(vdupq_n_s32(four[g]));
}

/* scale[q]: a block's scales of rows 4q to 4q + 3 */
INLINE void spread_scales(const uint8_t *scales, int32x4_t *scale)
{
    const uint8x16_t bytes = vld1q_u8(scales);
    const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_high_u8(bytes);

    scale[0] = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low)));
    scale[1] = vreinterpretq_s32_u32(vmovl_high_u16(low));
    scale[2] = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high)));
    scale[3] = vreinterpretq_s32_u32(vmovl_high_u16(high));
}

/* A block of a tile, times its scales, into the totals of its quarters. */
INLINE void add_block(int bits, const uint8_t *planes, const uint8_t *scales, uint8x16_t table,
                      const int8x16_t *input, int32_t start, int32x4_t *total)
{
    int8x16_t level[GROUPS];
    int32x4_t scale[QUARTERS];

    spread_scales(scales, scale);
#pragma GCC unroll 4
    for (int q = 0; q < QUARTERS; q++) {
        unpack(planes + 16 * q, bits, table, level);
        const int32x4_t dot = dot_of(bits, level, input, vdupq_n_s32(start));
        total[q] = vmlaq_s32(total[q], dot, scale[q]);
    }
}

INLINE void sum(int bits, const uint8_t *const tile[SIDES], uint32_t blocks, const int8_t *levels,
                const int32_t *start, int32_t sums[SIDES][ROWS])
{
    const uint64_t planes_at = ROWS * sizeof(float) + flin_sketch_scale_bytes(blocks);
    const uint8x16_t table = vld1q_u8(flin_sketch_levels[bits - 1]);
    int32x4_t total[SIDES][QUARTERS];

    for (uint32_t side = 0; side < SIDES; side++)
        for (int q = 0; q < QUARTERS; q++) total[side][q] = vdupq_n_s32(0);
    for (uint32_t block = 0; block < blocks; block++) {
        int8x16_t input[GROUPS];

        spread(levels + block * FLIN_SKETCH_BLOCK, input);
        for (uint32_t side = 0; side < SIDES; side++) {
            flin_sketch_ahead(tile[side] + planes_at, (uint32_t)bits, block);
            add_block(bits, tile[side] + planes_at + (uint64_t)block * (uint32_t)bits * 64,
                      tile[side] + ROWS * sizeof(float) + block * ROWS, table, input, start[block],
                      total[side]);
        }
    }
    for (uint32_t side = 0; side < SIDES; side++)
        for (int q = 0; q < QUARTERS; q++) vst1q_s32(sums[side] + 4 * q, total[side][q]);
}

#define SUM(bits)                                                                                  \
    static void sum_##bits(const uint8_t *const tile[SIDES], uint32_t blocks,                      \
                           const int8_t *levels, const int32_t *start, int32_t sums[SIDES][ROWS])  \
    {                                                                                              \
        sum(bits, tile, blocks, levels, start, sums);                                              \
    }
SUM(1)
SUM(2)
SUM(3)
SUM(4)

static const flin_sketch_tile_sums tile_sums[4] = {sum_1, sum_2, sum_3, sum_4};

#endif
