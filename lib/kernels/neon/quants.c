/*
 * neon/quants.c - rows of quants.h in NEON: as floats, and products on CPUs without dotprod.
 *
 * Owns: conversions. Refuses: what blocks mean (ref/quants.c), how products are summed
 * (neon/quants.h).
 */
#include "kernels/neon/quants.h"

INLINE void put_floats(const spread_rows *from, uint32_t piece, float *to, enum flin_type type)
{
#pragma GCC unroll 2
    for (uint32_t h = 0; h < 2; h++) {
        const int8x16_t level = vld1q_s8(from->level[0] + BLOCK * piece + 16 * h);
        const int16x8_t wide[2] = {vmovl_s8(vget_low_s8(level)), vmovl_high_s8(level)};
        const float scale = from->scale[2 * piece + h][0];

#pragma GCC unroll 4
        for (uint32_t k = 0; k < 4; k++) {
            const int16x4_t four =
                k % 2 == 0 ? vget_low_s16(wide[k / 2]) : vget_high_s16(wide[k / 2]);
            float32x4_t value = vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(four)), scale);

            if (flin_quants_less(type))
                value = vsubq_f32(value, vdupq_n_f32(from->less[2 * piece + h][0]));
            vst1q_f32(to + 16 * h + 4 * k, value);
        }
    }
}

INLINE void to_float(const void *row, uint32_t cols, float *to, enum flin_type type)
{
    const uint8_t *block = row;
    spread_rows one;

    for (uint32_t c = 0; c < cols; c += pieces_of(type) * BLOCK) {
        spread_block(block, 0, &one, type);
        for (uint32_t p = 0; p < pieces_of(type); p++)
            put_floats(&one, p, to + c + p * BLOCK, type);
        block += flin_types[type].bytes;
    }
}

#define KERNELS_OF(name, type)                                                                     \
    void flin_neon_to_float_##name(const void *row, uint32_t cols, float *to)                      \
    {                                                                                              \
        to_float(row, cols, to, type);                                                             \
    }                                                                                              \
    FLIN_NEON_DOTS(name, type)                                                                     \
    FLIN_VIEW_KERNELS(neon, name, type)

FLIN_EACH_QUANT(KERNELS_OF);
