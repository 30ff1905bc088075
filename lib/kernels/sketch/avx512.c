/*
 * sketch/avx512.c - tile sums of the sketch with AVX-512 BW, and with VNNI and VBMI where the CPU
 * has them.
 *
 * Owns: sums of a tile of every side, a row per 32-bit lane. Refuses: everything else;
 * sketch/sketch.c has layout and driver. The sums are of integers, so they equal the reference
 * bit for bit.
 */
#include <immintrin.h>
#include <stddef.h>

#include "kernels/kernels.h"
#include "kernels/sketch/input.h"
#include "kernels/sketch/sketch.h"

#define GROUPS 8 /* of four inputs in a block */
#define ROWS FLIN_SKETCH_TILE_ROWS
#define SIDES FLIN_SKETCH_SIDES
#define INPUTS FLIN_SKETCH_INPUTS
#define INLINE static inline __attribute__((always_inline))
#define VNNI __attribute__((target("avx512vnni")))
#define VBMI __attribute__((target("avx512vnni,avx512vbmi")))

/* Every 16 bits moved down. */
INLINE __m512i shifted(__m512i bytes, int shift)
{
    return shift == 0 ? bytes : _mm512_srlv_epi16(bytes, _mm512_set1_epi16((short)shift));
}

/* What a byte holds after shift and mask, as unshifted levels; bits above are dropped. */
INLINE __m512i field(__m512i bytes, int shift, int mask)
{
    return _mm512_and_si512(shifted(bytes, shift), _mm512_set1_epi8((char)mask));
}

/* level[g]: inputs 4g to 4g + 3 of 16 rows */
INLINE void unpack(const uint8_t *planes, int bits, __m512i table, __m512i *level)
{
    __m512i plane[4];

    for (int p = 0; p < bits; p++) plane[p] = _mm512_loadu_si512(planes + 64 * p);
    if (bits == 3) {
        for (int g = 0; g < 6; g++) level[g] = field(plane[g / 2], g % 2 * 3, 7);
        level[6] = _mm512_or_si512(field(plane[0], 6, 3), field(plane[2], 4, 4));
        level[7] = _mm512_or_si512(field(plane[1], 6, 3), field(plane[2], 5, 4));
    } else {
        int in_byte = 8 / bits;
        for (int g = 0; g < GROUPS; g++)
            level[g] = field(plane[g / in_byte], g % in_byte * bits, (1 << bits) - 1);
    }
    for (int g = 0; g < GROUPS; g++) level[g] = _mm512_shuffle_epi8(table, level[g]);
}

/* A block's sums, times its scales. */
INLINE void add_scaled(__m512i *total, const uint8_t *scales, __m512i dot)
{
    __m512i scale = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)scales));

    *total = _mm512_add_epi32(*total, _mm512_mullo_epi32(dot, scale));
}

INLINE __m512i table_of(int bits)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)flin_sketch_levels[bits - 1]));
}

/* The four inputs of a group, for every row */
INLINE __m512i inputs_of(const int8_t *levels)
{
    int four;

    __builtin_memcpy(&four, levels, sizeof four);
    return _mm512_set1_epi32(four);
}

INLINE void sum_bw(int bits, const uint8_t *const tile[SIDES], uint32_t blocks,
                   const int8_t *levels, const int32_t *start, int32_t sums[SIDES][ROWS])
{
    const uint64_t planes_at = ROWS * sizeof(float) + flin_sketch_scale_bytes(blocks);
    const __m512i table = table_of(bits);
    __m512i total[SIDES], level[GROUPS];

    for (uint32_t side = 0; side < SIDES; side++) total[side] = _mm512_setzero_si512();
    for (uint32_t block = 0; block < blocks; block++, levels += FLIN_SKETCH_BLOCK) {
#pragma GCC unroll 4
        for (uint32_t side = 0; side < SIDES; side++) {
            const uint8_t *planes = tile[side] + planes_at + (uint64_t)block * (uint32_t)bits * 64;
            const uint8_t *scales = tile[side] + ROWS * sizeof(float) + block * ROWS;
            __m512i dot = _mm512_set1_epi32(start[block]);
            flin_sketch_ahead(tile[side] + planes_at, (uint32_t)bits, block);
            unpack(planes, bits, table, level);
            /* levels reach 78, so a pair reaches 2 * 78 * 127: 16 bits hold it */
            for (int g = 0; g < GROUPS; g++) {
                __m512i pairs = _mm512_maddubs_epi16(level[g], inputs_of(levels + 4 * g));
                dot = _mm512_add_epi32(dot, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
            }
            add_scaled(&total[side], scales, dot);
        }
    }
    for (uint32_t side = 0; side < SIDES; side++) _mm512_storeu_si512(sums[side], total[side]);
}

VNNI INLINE void sum_vnni(int bits, const uint8_t *const tile[SIDES], uint32_t blocks,
                          const int8_t *levels, const int32_t *start, int32_t sums[SIDES][ROWS])
{
    const uint64_t planes_at = ROWS * sizeof(float) + flin_sketch_scale_bytes(blocks);
    const __m512i table = table_of(bits);
    __m512i total[SIDES], level[GROUPS];

    for (uint32_t side = 0; side < SIDES; side++) total[side] = _mm512_setzero_si512();
    for (uint32_t block = 0; block < blocks; block++, levels += FLIN_SKETCH_BLOCK) {
#pragma GCC unroll 4
        for (uint32_t side = 0; side < SIDES; side++) {
            const uint8_t *planes = tile[side] + planes_at + (uint64_t)block * (uint32_t)bits * 64;
            const uint8_t *scales = tile[side] + ROWS * sizeof(float) + block * ROWS;
            __m512i dot = _mm512_set1_epi32(start[block]);
            flin_sketch_ahead(tile[side] + planes_at, (uint32_t)bits, block);
            unpack(planes, bits, table, level);
            for (int g = 0; g < GROUPS; g++)
                dot = _mm512_dpbusd_epi32(dot, level[g], inputs_of(levels + 4 * g));
            add_scaled(&total[side], scales, dot);
        }
    }
    for (uint32_t side = 0; side < SIDES; side++) _mm512_storeu_si512(sums[side], total[side]);
}

/* VBMI looks up by the low six bits of an index and drops the others: a table that repeats needs
   no mask. */
VBMI INLINE __m512i look_up(__m512i table, __m512i bytes, int shift)
{
    return _mm512_permutexvar_epi8(shifted(bytes, shift), table);
}

/* Groups 6 and 7 of 3 bits: two bits from the top of one plane, the third from another. */
VBMI INLINE __m512i look_up_split(__m512i table, __m512i low, __m512i high, int shift)
{
    const __m512i third = _mm512_set1_epi8(4);
    __m512i index = _mm512_ternarylogic_epi32(third, shifted(high, shift), shifted(low, 6), 0xca);

    return _mm512_permutexvar_epi8(index, table);
}

VBMI INLINE void unpack_vbmi(const uint8_t *planes, int bits, __m512i table, __m512i *level)
{
    __m512i plane[4];

    for (int p = 0; p < bits; p++) plane[p] = _mm512_loadu_si512(planes + 64 * p);
    if (bits == 3) {
        for (int g = 0; g < 6; g++) level[g] = look_up(table, plane[g / 2], g % 2 * 3);
        level[6] = look_up_split(table, plane[0], plane[2], 4);
        level[7] = look_up_split(table, plane[1], plane[2], 5);
    } else {
        int in_byte = 8 / bits;
        for (int g = 0; g < GROUPS; g++)
            level[g] = look_up(table, plane[g / in_byte], g % in_byte * bits);
    }
}

VBMI INLINE void sum_vbmi(int bits, const uint8_t *const tile[SIDES], uint32_t blocks,
                          const int8_t *levels, const int32_t *start, int32_t sums[SIDES][ROWS])
{
    const uint64_t planes_at = ROWS * sizeof(float) + flin_sketch_scale_bytes(blocks);
    const __m512i table = table_of(bits);
    __m512i total[SIDES], level[GROUPS];

    for (uint32_t side = 0; side < SIDES; side++) total[side] = _mm512_setzero_si512();
    for (uint32_t block = 0; block < blocks; block++, levels += FLIN_SKETCH_BLOCK) {
#pragma GCC unroll 4
        for (uint32_t side = 0; side < SIDES; side++) {
            const uint8_t *planes = tile[side] + planes_at + (uint64_t)block * (uint32_t)bits * 64;
            const uint8_t *scales = tile[side] + ROWS * sizeof(float) + block * ROWS;
            __m512i dot = _mm512_set1_epi32(start[block]), other = _mm512_setzero_si512();
            flin_sketch_ahead(tile[side] + planes_at, (uint32_t)bits, block);
            unpack_vbmi(planes, bits, table, level);
            for (int g = 0; g < GROUPS; g += 2) {
                dot = _mm512_dpbusd_epi32(dot, level[g], inputs_of(levels + 4 * g));
                other = _mm512_dpbusd_epi32(other, level[g + 1], inputs_of(levels + 4 * g + 4));
            }
            add_scaled(&total[side], scales, _mm512_add_epi32(dot, other));
        }
    }
    for (uint32_t side = 0; side < SIDES; side++) _mm512_storeu_si512(sums[side], total[side]);
}

/* Some inputs: a block's levels are looked up once for all, and all sums are in registers. */
typedef struct some_of {
    const uint8_t *tile[SIDES];
    const int8_t *levels[INPUTS];
    const int32_t *start[INPUTS];
} some_of;

/* Copies, for sums that are stored might change pointers that lie in memory. */
INLINE some_of held(const uint8_t *const tile[SIDES], const int8_t *const *levels,
                    const int32_t *const *start, uint32_t inputs)
{
    some_of of = {{NULL}, {NULL}, {NULL}};

#pragma GCC unroll 4
    for (uint32_t side = 0; side < SIDES; side++) of.tile[side] = tile[side];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < inputs; i++) of.levels[i] = levels[i], of.start[i] = start[i];
    return of;
}

/* Loaded again for each side: a compiler that sees the same inputs keeps them all, on the stack,
   instead of the sums. */
INLINE const int8_t *unseen(const int8_t *levels)
{
    __asm__("" : "+r"(levels));
    return levels;
}

VNNI INLINE __m512i dot_vnni(const __m512i *level, const int8_t *levels, int32_t start)
{
    const int8_t *from = unseen(levels);
    __m512i dot = _mm512_set1_epi32(start), other = _mm512_setzero_si512();

#pragma GCC unroll 4
    for (int g = 0; g < GROUPS; g += 2) {
        dot = _mm512_dpbusd_epi32(dot, level[g], inputs_of(from + 4 * g));
        other = _mm512_dpbusd_epi32(other, level[g + 1], inputs_of(from + 4 * g + 4));
    }
    return _mm512_add_epi32(dot, other);
}

VBMI INLINE void sums_vbmi(int bits, const uint8_t *const tile[SIDES], uint32_t blocks,
                           uint32_t inputs, const int8_t *const *levels,
                           const int32_t *const *start, int32_t sums[INPUTS][SIDES][ROWS])
{
    const uint64_t planes_at = ROWS * sizeof(float) + flin_sketch_scale_bytes(blocks);
    const __m512i table = table_of(bits);
    const some_of of = held(tile, levels, start, inputs);
    __m512i total[INPUTS][SIDES], level[GROUPS];

#pragma GCC unroll 16
    for (uint32_t k = 0; k < inputs * SIDES; k++)
        total[k / SIDES][k % SIDES] = _mm512_setzero_si512();
    for (uint64_t block = 0; block < blocks; block++) {
#pragma GCC unroll 4
        for (uint32_t side = 0; side < SIDES; side++) {
            const uint8_t *planes = of.tile[side] + planes_at + block * (uint32_t)bits * 64;
            const uint8_t *scales = of.tile[side] + ROWS * sizeof(float) + block * ROWS;

            flin_sketch_ahead(of.tile[side] + planes_at, (uint32_t)bits, (uint32_t)block);
            unpack_vbmi(planes, bits, table, level);
#pragma GCC unroll 4
            for (uint32_t i = 0; i < inputs; i++)
                add_scaled(
                    &total[i][side], scales,
                    dot_vnni(level, of.levels[i] + block * FLIN_SKETCH_BLOCK, of.start[i][block]));
        }
    }
#pragma GCC unroll 16
    for (uint32_t k = 0; k < inputs * SIDES; k++)
        _mm512_storeu_si512(sums[k / SIDES][k % SIDES], total[k / SIDES][k % SIDES]);
}

#define SUMS_AS(attribute, name, bits)                                                             \
    attribute static void name##_##bits(const uint8_t *const tile[SIDES], uint32_t blocks,         \
                                        const int8_t *levels, const int32_t *start,                \
                                        int32_t sums[SIDES][ROWS])                                 \
    {                                                                                              \
        sum_##name(bits, tile, blocks, levels, start, sums);                                       \
    }
#define SUMS(bits)                                                                                 \
    SUMS_AS(, bw, bits)                                                                            \
    SUMS_AS(VNNI, vnni, bits)                                                                      \
    SUMS_AS(VBMI, vbmi, bits)
SUMS(1)
SUMS(2)
SUMS(3)
SUMS(4)

/* 3 bits alone, as sketches are made unless somebody asks for others: each is some kilobytes. */
#define SUMS_OF(inputs)                                                                            \
    VBMI static void vbmi_3_of_##inputs(const uint8_t *const tile[SIDES], uint32_t blocks,         \
                                        const int8_t *const *levels, const int32_t *const *start,  \
                                        int32_t sums[INPUTS][SIDES][ROWS])                         \
    {                                                                                              \
        sums_vbmi(3, tile, blocks, inputs, levels, start, sums);                                   \
    }
SUMS_OF(2)
SUMS_OF(4)

void flin_sketch_mask_avx512_bw(const flin_sketch *sketch, const int8_t *levels, float scale,
                                uint32_t begin, uint32_t end, uint64_t *mask)
{
    static const flin_sketch_tile_sums sums[4] = {bw_1, bw_2, bw_3, bw_4};

    flin_sketch_mask_by(sums[sketch->bits - 1], sketch, levels, scale, begin, end, mask);
}

void flin_sketch_mask_avx512_vnni(const flin_sketch *sketch, const int8_t *levels, float scale,
                                  uint32_t begin, uint32_t end, uint64_t *mask)
{
    static const flin_sketch_tile_sums sums[4] = {vnni_1, vnni_2, vnni_3, vnni_4};

    flin_sketch_mask_by(sums[sketch->bits - 1], sketch, levels, scale, begin, end, mask);
}

void flin_sketch_mask_avx512_vbmi(const flin_sketch *sketch, const int8_t *levels, float scale,
                                  uint32_t begin, uint32_t end, uint64_t *mask)
{
    static const flin_sketch_tile_sums sums[4] = {vbmi_1, vbmi_2, vbmi_3, vbmi_4};

    flin_sketch_mask_by(sums[sketch->bits - 1], sketch, levels, scale, begin, end, mask);
}

/* The best of the three on this CPU. */
static const flin_sketch_tile_sums *choose(void)
{
    static const flin_sketch_tile_sums bw[4] = {bw_1, bw_2, bw_3, bw_4};
    static const flin_sketch_tile_sums vnni[4] = {vnni_1, vnni_2, vnni_3, vnni_4};
    static const flin_sketch_tile_sums vbmi[4] = {vbmi_1, vbmi_2, vbmi_3, vbmi_4};

    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx512vnni")) return bw;
    return __builtin_cpu_supports("avx512vbmi") ? vbmi : vnni;
}

void flin_sketch_mask_avx512(const flin_sketch *sketch, const int8_t *levels, float scale,
                             uint32_t begin, uint32_t end, uint64_t *mask)
{
    flin_sketch_mask_by(choose()[sketch->bits - 1], sketch, levels, scale, begin, end, mask);
}

/* Three inputs are four, the last of them twice: a mask is made again with the same bits. */
void flin_sketch_masks_avx512(const flin_sketch *sketch, const int8_t *const *levels,
                              const float *scales, uint32_t inputs, uint32_t begin, uint32_t end,
                              uint64_t *const *masks)
{
    const int8_t *of[INPUTS];
    uint64_t *to[INPUTS];
    float scale[INPUTS];

    for (uint32_t i = 0; i < INPUTS; i++) {
        const uint32_t at = i < inputs ? i : inputs - 1;
        of[i] = levels[at], to[i] = masks[at], scale[i] = scales[at];
    }
    __builtin_cpu_init();
    if (sketch->bits == 3 && __builtin_cpu_supports("avx512vnni") &&
        __builtin_cpu_supports("avx512vbmi"))
        flin_sketch_masks_by(inputs > 2 ? vbmi_3_of_4 : vbmi_3_of_2, sketch, of, scale,
                             inputs > 2 ? 4 : 2, begin, end, to);
    else
        flin_sketch_masks_in_turn(flin_sketch_mask_avx512, sketch, levels, scales, inputs, begin,
                                  end, masks);
}

void flin_sketch_scores_avx512(const flin_sketch *sketch, const int8_t *levels, float scale,
                               uint32_t begin, uint32_t end, float *scores)
{
    flin_sketch_scores_by(choose()[sketch->bits - 1], sketch, levels, scale, begin, end, scores);
}

float flin_sketch_input_avx512(const flin_sketch *sketch, const float *x, int8_t *levels)
{
    return flin_sketch_input_here(sketch, x, levels);
}
