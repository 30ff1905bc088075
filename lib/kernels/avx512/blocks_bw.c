/*
 * avx512/blocks_bw.c - dot products of quantised rows on CPUs with AVX-512 BW and no VNNI.
 *
 * Owns: a group's product out of 16-bit sums that cannot overflow. Refuses: loops
 * (avx512/blocks_dot.h).
 */
#include "kernels/avx512/blocks_dot.h"

/* Nibbles times both bytes of the levels: each 16-bit sum reaches 4 * 15 * 128 = 7680. */
INLINE __m512i pairs(__m512i first, __m512i second, const __m512i level[2])
{
    return _mm512_add_epi16(_mm512_maddubs_epi16(first, level[0]),
                            _mm512_maddubs_epi16(second, level[1]));
}

INLINE __m512i times(__m512i pairs, int weight)
{
    return _mm512_madd_epi16(pairs, _mm512_set1_epi16((short)weight));
}

INLINE __m512i product_q4_0(weights w, const levels *x)
{
    __m512i sum = _mm512_add_epi32(x->start, times(pairs(w.first, w.second, x->low), 1));

    return _mm512_add_epi32(sum, times(pairs(w.first, w.second, x->high), 256));
}

/* In halves of four bits, because pairs of whole bytes would overflow. */
INLINE __m512i product_q8_0(weights w, const levels *x)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i first = _mm512_and_si512(w.first, nibble);
    const __m512i second = _mm512_and_si512(w.second, nibble);
    const __m512i top_first = _mm512_and_si512(_mm512_srli_epi16(w.first, 4), nibble);
    const __m512i top_second = _mm512_and_si512(_mm512_srli_epi16(w.second, 4), nibble);
    __m512i sum = _mm512_add_epi32(x->start, times(pairs(first, second, x->low), 1));

    sum = _mm512_add_epi32(sum, times(pairs(first, second, x->high), 256));
    sum = _mm512_add_epi32(sum, times(pairs(top_first, top_second, x->low), 16));
    return _mm512_add_epi32(sum, times(pairs(top_first, top_second, x->high), 4096));
}

#include "kernels/avx512/blocks_apart.h"

void flin_avx512_dot_q8_0_bw(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    dot_all(rows, cols, x, y, FLIN_Q8_0);
}

void flin_avx512_dot_q4_0_bw(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    dot_all(rows, cols, x, y, FLIN_Q4_0);
}

void flin_avx512_dot_apart_bw(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    dot_all_apart(rows, cols, x, y);
}
