/*
 * avx512/blocks_apart.h - dot products of Q4_0 rows whose scales lie apart (apart.h) with levels,
 * after avx512/blocks_dot.h and product_q4_0(): the same sums as of blocks, bit for bit.
 *
 * Owns: loads. Refuses: the order of sums and the layout of levels, which are those of blocks.
 */
#ifndef FLIN_KERNELS_AVX512_BLOCKS_APART_H
#define FLIN_KERNELS_AVX512_BLOCKS_APART_H

#include "kernels/apart.h"
#include "kernels/avx512/blocks_dot.h"

#define GROUPS 4u /* whose scales are one vector */

INLINE __m512 add_group(__m512i bytes, __m512 scale, const flin_avx512_levels *group, __m512 sum)
{
    const levels x = load_levels(group, FLIN_Q4_0);

    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(product_q4_0(halves_of(bytes), &x)), scale, sum);
}

/* The scales of x of GROUPS groups, a block after the other. */
INLINE __m512 scales_of_x(const flin_avx512_levels *x)
{
    __m512 all = _mm512_castps128_ps512(_mm_load_ps(x[0].scale));

    all = _mm512_insertf32x4(all, _mm_load_ps(x[1].scale), 1);
    all = _mm512_insertf32x4(all, _mm_load_ps(x[2].scale), 2);
    return _mm512_insertf32x4(all, _mm_load_ps(x[3].scale), 3);
}

/* Five lines with the second half, because a span has 64 bytes of scales besides its weights. */
INLINE void ask_half(const uint8_t *bytes, uint32_t half)
{
    for (uint32_t line = 0; line < 4 + half; line++)
        _mm_prefetch((const char *)bytes + AHEAD_BYTES + 64 * line, _MM_HINT_T0);
}

/* Half a whole span of eight rows, `at` bytes from their starts. */
INLINE void add_half(const void *const row[8], uint64_t at, uint32_t half, uint32_t asks,
                     const flin_avx512_levels *x, __m512 sum[8])
{
    const __m512i lane = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m512 x_scales = scales_of_x(x);

#pragma GCC unroll 8
    for (uint32_t r = 0; r < 8; r++) {
        const uint8_t *span = (const uint8_t *)row[r] + at;
        const uint8_t *bytes = span + 2 * FLIN_APART_BLOCKS + 256 * half;
        const __m256i halves =
            _mm256_loadu_si256((const __m256i *)(const void *)(span + 32 * half));
        const __m512 scales = _mm512_mul_ps(_mm512_cvtph_ps(halves), x_scales);

        if (asks) ask_half(bytes, half);
#pragma GCC unroll 4
        for (uint32_t g = 0; g < GROUPS; g++) {
            const __m512i which = _mm512_add_epi32(lane, _mm512_set1_epi32((int)(4 * g)));
            sum[r] = add_group(_mm512_loadu_si512(bytes + 64 * g),
                               _mm512_permutexvar_ps(which, scales), x + g, sum[r]);
        }
    }
}

/* Up to four blocks of a span of `blocks`, from its block `first` on. */
INLINE __m512 add_some(const uint8_t *span, uint32_t blocks, uint32_t first,
                       const flin_avx512_levels *group, __m512 sum)
{
    const uint32_t left = blocks - first, count = left < GROUP ? left : GROUP;
    const __mmask64 there = count == GROUP ? ~(__mmask64)0 : ((__mmask64)1 << 16 * count) - 1;
    uint64_t halves = 0;
    __m128 scales;

    memcpy(&halves, span + 2 * first, 2 * count);
    scales =
        _mm_mul_ps(_mm_cvtph_ps(_mm_cvtsi64_si128((long long)halves)), _mm_load_ps(group->scale));
    return add_group(_mm512_maskz_loadu_epi8(there, span + 2 * blocks + 16 * first),
                     four_times(scales), group, sum);
}

/* As dot8() of avx512/blocks_dot.h. */
INLINE __m256 dot8_apart(const void *const row[8], uint32_t asks, uint32_t cols,
                         const flin_avx512_levels *x)
{
    const uint32_t blocks = cols / FLIN_BLOCK, whole = blocks / FLIN_APART_BLOCKS;
    const uint32_t rest = blocks % FLIN_APART_BLOCKS;
    uint64_t at = 0;
    __m512 sum[8], last[8]; /* the last in memory */

#pragma GCC unroll 8
    for (uint32_t r = 0; r < 8; r++) sum[r] = _mm512_setzero_ps();
    for (uint32_t span = 0; span < whole; span++, at += FLIN_APART_BYTES, x += 2 * GROUPS) {
        add_half(row, at, 0, asks, x, sum);
        add_half(row, at, 1, asks, x + GROUPS, sum);
    }
    if (rest == 0) return fold8(sum);
#pragma GCC unroll 8
    for (uint32_t r = 0; r < 8; r++) last[r] = sum[r];
    for (uint32_t first = 0; first < rest; first += GROUP, x++) {
        if (asks) ask8(row, at + first * FLIN_Q4_0_BYTES + AHEAD_BYTES, FLIN_Q4_0);
#pragma GCC unroll 1
        for (uint32_t r = 0; r < 8; r++)
            last[r] = add_some((const uint8_t *)row[r] + at, rest, first, x, last[r]);
    }
    return fold8(last);
}

INLINE void dot_all_apart(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    for (uint32_t round = 0; round < flin_view_rounds(rows); round++) {
        const void *row[FLIN_VIEW_SIDE], *next[FLIN_VIEW_SIDE];
        float sums[FLIN_VIEW_SIDE];

        flin_view_gather(rows, round, row, next);
        _mm256_storeu_ps(sums, dot8_apart(row, !rows->asked, cols, x));
        flin_view_put(rows, round, sums, y);
    }
}

#endif
