/*
 * avx512/blocks_dot.h - dot products of quantised rows with levels: all but the product of a group,
 * which avx512/blocks_bw.c and avx512/blocks_vnni.c define before they include this.
 *
 * Owns: the order of sums. Refuses: knowing which instruction multiplies.
 *
 * A group is four blocks. Lane 4 k + j has elements 4 j to 4 j + 3 and 16 + 4 j to 16 + 4 j + 3 of
 * block k: an exact integer sum, then one fused multiply-add by both scales to one vector a row,
 * which is folded at the end.
 */
#ifndef FLIN_KERNELS_AVX512_BLOCKS_DOT_H
#define FLIN_KERNELS_AVX512_BLOCKS_DOT_H

#include <string.h>

#include "kernels/avx512/levels.h"
#include "kernels/avx512/shared.h"

#define GROUP 4u /* blocks */

/* Rows' bytes before their offset is taken off: 0 to 15 or 0 to 255. */
typedef struct weights {
    __m512i first, second;
} weights;

typedef struct levels {
    __m512i high[2], low[2], start;
} levels;

/* By the file that includes this: start + sum of weights * levels in each lane. */
INLINE __m512i product_q4_0(weights w, const levels *x);
INLINE __m512i product_q8_0(weights w, const levels *x);

INLINE uint32_t block_bytes(type_t type)
{
    return type == FLIN_Q8_0 ? FLIN_Q8_0_BYTES : FLIN_Q4_0_BYTES;
}

/* Block k of a group of `count` blocks; another that may be read instead of one beyond it. */
INLINE const uint8_t *block_at(const uint8_t *group, uint32_t k, uint32_t count, type_t type)
{
    return group + (k < count ? k : 0) * block_bytes(type);
}

INLINE __m512i four(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d)
{
    __m512i all = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)a));

    all = _mm512_inserti32x4(all, _mm_loadu_si128((const __m128i *)(const void *)b), 1);
    all = _mm512_inserti32x4(all, _mm_loadu_si128((const __m128i *)(const void *)c), 2);
    return _mm512_inserti32x4(all, _mm_loadu_si128((const __m128i *)(const void *)d), 3);
}

/* Q4_0: the elements of the low and of the high halves of bytes. */
INLINE weights halves_of(__m512i bytes)
{
    const __m512i nibble = _mm512_set1_epi8(15);

    return (weights){_mm512_and_si512(bytes, nibble),
                     _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble)};
}

INLINE weights load_weights(const uint8_t *group, uint32_t count, type_t type)
{
    const __m512i offset = _mm512_set1_epi8((char)0x80);
    const uint8_t *a = block_at(group, 0, count, type) + 2;
    const uint8_t *b = block_at(group, 1, count, type) + 2;
    const uint8_t *c = block_at(group, 2, count, type) + 2;
    const uint8_t *d = block_at(group, 3, count, type) + 2;
    const __m512i first = four(a, b, c, d);

    if (type == FLIN_Q4_0) return halves_of(first);
    return (weights){_mm512_xor_si512(first, offset),
                     _mm512_xor_si512(four(a + 16, b + 16, c + 16, d + 16), offset)};
}

/* Gathered by the integer units, which have nothing else to do here. Blocks beyond the last
   count 0. */
INLINE __m128 load_scales(const uint8_t *group, uint32_t count, type_t type)
{
    uint64_t all = 0;

#pragma GCC unroll 4
    for (uint32_t k = 0; k < GROUP; k++) {
        uint16_t half;
        memcpy(&half, block_at(group, k, count, type), sizeof half);
        all |= (uint64_t)(k < count ? half : 0) << 16 * k;
    }
    return _mm_cvtph_ps(_mm_cvtsi64_si128((long long)all));
}

INLINE __m512 four_times(__m128 scales)
{
    const __m512i lane = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);

    return _mm512_permutexvar_ps(lane, _mm512_castps128_ps512(scales));
}

INLINE levels load_levels(const flin_avx512_levels *group, type_t type)
{
    levels x;

    for (uint32_t i = 0; i < 2; i++) {
        x.high[i] = _mm512_load_si512(group->high[i]);
        x.low[i] = _mm512_load_si512(group->low[i]);
    }
    x.start = _mm512_load_si512(group->start);
    if (type == FLIN_Q8_0) x.start = _mm512_slli_epi32(x.start, 4); /* -128 times the sum */
    return x;
}

/* A group of one row. */
INLINE __m512 multiply1(const uint8_t *w, uint32_t count, const levels *x, __m128 x_scale,
                        __m512 sum, type_t type)
{
    const weights bytes = load_weights(w, count, type);
    const __m512i exact = type == FLIN_Q8_0 ? product_q8_0(bytes, x) : product_q4_0(bytes, x);
    const __m512 scale = four_times(_mm_mul_ps(load_scales(w, count, type), x_scale));

    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(exact), scale, sum);
}

/* One group of eight rows, `at` bytes from their starts. */
INLINE void multiply8(const void *const row[8], uint64_t at, const flin_avx512_levels *group,
                      __m512 sum[8], type_t type)
{
    const levels x = load_levels(group, type);
    const __m128 x_scale = _mm_load_ps(group->scale);

#pragma GCC unroll 8
    for (uint32_t r = 0; r < 8; r++)
        sum[r] = multiply1((const uint8_t *)row[r] + at, GROUP, &x, x_scale, sum[r], type);
}

/* Likewise of the `count` blocks of a begun group, then the folds. Sums in memory: this comes once
   for eight rows. */
INLINE __m256 begun8(const void *const row[8], uint64_t at, uint32_t count,
                     const flin_avx512_levels *group, const __m512 sum[8], type_t type)
{
    const levels x = load_levels(group, type);
    const __m128 x_scale = _mm_load_ps(group->scale);
    __m512 last[8];

#pragma GCC unroll 8
    for (uint32_t r = 0; r < 8; r++) last[r] = sum[r];
#pragma GCC unroll 1
    for (uint32_t r = 0; r < 8; r++)
        last[r] = multiply1((const uint8_t *)row[r] + at, count, &x, x_scale, last[r], type);
    return fold8(last);
}

INLINE void ask8(const void *const row[8], uint64_t at, type_t type)
{
#pragma GCC unroll 8
    for (uint32_t r = 0; r < 8; r++) {
        const char *soon = (const char *)row[r] + at;
        _mm_prefetch(soon, _MM_HINT_T0);
        _mm_prefetch(soon + 64, _MM_HINT_T0);
        if (type == FLIN_Q8_0) _mm_prefetch(soon + 128, _MM_HINT_T0);
    }
}

/* Eight rows side by side share the loads of levels; so many streams are what keeps the memory
   busy. next: the eight rows after them, NULL if nothing is to be asked for; most: bytes to ask
   ahead. */
INLINE __m256 dot8(const void *const row[8], const void *const *next, uint64_t most, uint32_t cols,
                   const flin_avx512_levels *x, type_t type)
{
    const uint32_t blocks = cols / FLIN_BLOCK, group_bytes = GROUP * block_bytes(type);
    const uint64_t row_bytes = (uint64_t)blocks * block_bytes(type);
    const uint64_t ahead = most < row_bytes ? most : row_bytes;
    uint64_t at = 0;
    uint32_t b = 0;
    __m512 sum[8];

#pragma GCC unroll 8
    for (uint32_t r = 0; r < 8; r++) sum[r] = _mm512_setzero_ps();
    for (; b + GROUP <= blocks; b += GROUP, at += group_bytes, x++) {
        if (next != NULL && at + ahead < row_bytes) ask8(row, at + ahead, type);
        if (next != NULL && at + ahead >= row_bytes) ask8(next, at + ahead - row_bytes, type);
        multiply8(row, at, x, sum, type);
    }
    if (b < blocks) return begun8(row, at, blocks - b, x, sum, type);
    return fold8(sum);
}

/* y[i] = row i . x */
INLINE void dot_all(const flin_view *rows, uint32_t cols, const void *x, float *y, type_t type)
{
    const uint64_t most = rows->scattered != NULL ? AHEAD_SCATTERED : AHEAD_BYTES;

    for (uint32_t round = 0; round < flin_view_rounds(rows); round++) {
        const void *row[FLIN_VIEW_SIDE], *next[FLIN_VIEW_SIDE];
        float sums[FLIN_VIEW_SIDE];

        flin_view_gather(rows, round, row, next);
        _mm256_storeu_ps(sums, dot8(row, rows->asked ? NULL : next, most, cols, x, type));
        flin_view_put(rows, round, sums, y);
    }
}

#endif
