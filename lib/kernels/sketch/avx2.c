/*
 * sketch/avx2.c - tile sums of the sketch with AVX2.
 *
 * Owns: sums of a tile of every side, a row per 32-bit lane, eight rows a register. Refuses:
 * everything else; sketch/sketch.c has layout and driver. The sums are of integers, so they
 * equal the reference bit for bit.
 */
#include <immintrin.h>

#include "kernels/kernels.h"
#include "kernels/sketch/input.h"
#include "kernels/sketch/sketch.h"

#define GROUPS 8     /* of four inputs in a block */
#define HALF_ROWS 8u /* rows of a tile in one register */
#define ROWS FLIN_SKETCH_TILE_ROWS
#define SIDES FLIN_SKETCH_SIDES
#define INLINE static inline __attribute__((always_inline))

/* What a byte holds after shift and mask, as unshifted levels; bits above are dropped. */
INLINE __m256i field(__m256i bytes, int shift, int mask)
{
    return _mm256_and_si256(_mm256_srli_epi16(bytes, shift), _mm256_set1_epi8((char)mask));
}

/* level[g]: inputs 4g to 4g + 3 of 8 rows */
INLINE void unpack(const uint8_t *planes, int bits, __m256i table, __m256i *level)
{
    __m256i plane[4];

    for (int p = 0; p < bits; p++)
        plane[p] = _mm256_loadu_si256((const __m256i *)(planes + 64 * p));
    if (bits == 3) {
        for (int g = 0; g < 6; g++) level[g] = field(plane[g / 2], g % 2 * 3, 7);
        level[6] = _mm256_or_si256(field(plane[0], 6, 3), field(plane[2], 4, 4));
        level[7] = _mm256_or_si256(field(plane[1], 6, 3), field(plane[2], 5, 4));
    } else {
        int in_byte = 8 / bits;
        for (int g = 0; g < GROUPS; g++)
            level[g] = field(plane[g / in_byte], g % in_byte * bits, (1 << bits) - 1);
    }
    for (int g = 0; g < GROUPS; g++) level[g] = _mm256_shuffle_epi8(table, level[g]);
}

/* The block's dot products of eight rows. Pairs of 8-bit products reach 2 * 78 * 127 at 4 bits; up
   to 3 bits, where levels reach 36, two groups of pairs still fit 16 bits and are widened together.
 */
INLINE __m256i dot_of(int bits, const __m256i *level, const int8_t *levels, int32_t start)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i dot = _mm256_set1_epi32(start);

    for (int g = 0; g < GROUPS; g += 2) {
        int32_t four[2];
        __m256i a, b;

        __builtin_memcpy(four, levels + 4 * g, sizeof four);
        a = _mm256_maddubs_epi16(level[g], _mm256_set1_epi32(four[0]));
        b = _mm256_maddubs_epi16(level[g + 1], _mm256_set1_epi32(four[1]));
        if (bits < 4) {
            dot = _mm256_add_epi32(dot, _mm256_madd_epi16(_mm256_add_epi16(a, b), ones));
        } else {
            dot = _mm256_add_epi32(dot, _mm256_madd_epi16(a, ones));
            dot = _mm256_add_epi32(dot, _mm256_madd_epi16(b, ones));
        }
    }
    return dot;
}

/* A block of a tile, times its scales, into the totals of its two halves. */
INLINE void add_block(int bits, const uint8_t *planes, const uint8_t *scales, __m256i table,
                      const int8_t *levels, int32_t start, __m256i total[2])
{
    __m256i level[GROUPS];

    for (uint32_t half = 0; half < 2; half++) {
        const uint8_t *bytes = scales + HALF_ROWS * half;
        __m256i scale = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)bytes));
        __m256i dot;

        unpack(planes + 32 * half, bits, table, level);
        dot = dot_of(bits, level, levels, start);
        total[half] = _mm256_add_epi32(total[half], _mm256_mullo_epi32(dot, scale));
    }
}

INLINE void sum(int bits, const uint8_t *const tile[SIDES], uint32_t blocks, const int8_t *levels,
                const int32_t *start, int32_t sums[SIDES][ROWS])
{
    const uint64_t planes_at = ROWS * sizeof(float) + flin_sketch_scale_bytes(blocks);
    const __m256i table =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)flin_sketch_levels[bits - 1]));
    __m256i total[SIDES][2];

    for (uint32_t side = 0; side < SIDES; side++)
        total[side][0] = total[side][1] = _mm256_setzero_si256();
    for (uint32_t block = 0; block < blocks; block++) {
        for (uint32_t side = 0; side < SIDES; side++) {
            flin_sketch_ahead(tile[side] + planes_at, (uint32_t)bits, block);
            add_block(bits, tile[side] + planes_at + (uint64_t)block * (uint32_t)bits * 64,
                      tile[side] + ROWS * sizeof(float) + block * ROWS, table,
                      levels + block * FLIN_SKETCH_BLOCK, start[block], total[side]);
        }
    }
    for (uint32_t side = 0; side < SIDES; side++) {
        _mm256_storeu_si256((__m256i *)sums[side], total[side][0]);
        _mm256_storeu_si256((__m256i *)(sums[side] + HALF_ROWS), total[side][1]);
    }
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

void flin_sketch_mask_avx2(const flin_sketch *sketch, const int8_t *levels, float scale,
                           uint32_t begin, uint32_t end, uint64_t *mask)
{
    static const flin_sketch_tile_sums sums[4] = {sum_1, sum_2, sum_3, sum_4};

    flin_sketch_mask_by(sums[sketch->bits - 1], sketch, levels, scale, begin, end, mask);
}

void flin_sketch_scores_avx2(const flin_sketch *sketch, const int8_t *levels, float scale,
                             uint32_t begin, uint32_t end, float *scores)
{
    static const flin_sketch_tile_sums sums[4] = {sum_1, sum_2, sum_3, sum_4};

    flin_sketch_scores_by(sums[sketch->bits - 1], sketch, levels, scale, begin, end, scores);
}

float flin_sketch_input_avx2(const flin_sketch *sketch, const float *x, int8_t *levels)
{
    return flin_sketch_input_here(sketch, x, levels);
}
