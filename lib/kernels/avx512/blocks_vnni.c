/*
 * avx512/blocks_vnni.c - dot products of quantised rows on CPUs with AVX-512 VNNI; built with that
 * flag, alone.
 *
 * Owns: a group's product, the integer that avx512/blocks_bw.c comes to as well. Refuses: loops
 * (avx512/blocks_dot.h).
 */
#include "kernels/avx512/blocks_dot.h"

INLINE __m512i product(weights w, const levels *x)
{
    __m512i high = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w.first, x->high[0]);
    __m512i low = _mm512_dpbusd_epi32(x->start, w.first, x->low[0]);

    high = _mm512_dpbusd_epi32(high, w.second, x->high[1]);
    low = _mm512_dpbusd_epi32(low, w.second, x->low[1]);
    return _mm512_add_epi32(_mm512_slli_epi32(high, 8), low);
}

INLINE __m512i product_q4_0(weights w, const levels *x)
{
    return product(w, x);
}

INLINE __m512i product_q8_0(weights w, const levels *x)
{
    return product(w, x);
}

#include "kernels/avx512/blocks_apart.h"
#include "kernels/avx512/blocks_inputs.h"

void flin_avx512_dot_q8_0_vnni(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    dot_all(rows, cols, x, y, FLIN_Q8_0);
}

void flin_avx512_dot_q4_0_vnni(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    dot_all(rows, cols, x, y, FLIN_Q4_0);
}

void flin_avx512_dot_apart_vnni(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    dot_all_apart(rows, cols, x, y);
}

static void chunk_q8_0(const void *const row[8], const void *const *soon, uint32_t asks,
                       const void *const *x, uint32_t inputs, uint32_t begin, uint32_t blocks,
                       __m512 (*sum)[FLIN_VIEW_SIDE])
{
    add8(row, soon, asks, x, inputs, begin, blocks, sum, FLIN_Q8_0);
}

static void chunk_apart(const void *const row[8], const void *const *soon, uint32_t asks,
                        const void *const *x, uint32_t inputs, uint32_t begin, uint32_t blocks,
                        __m512 (*sum)[FLIN_VIEW_SIDE])
{
    add8(row, soon, asks, x, inputs, begin, blocks, sum, FLIN_Q4_0_APART);
}

void flin_avx512_dots_q8_0_vnni(const flin_view *rows, uint32_t cols, const void *const *x,
                                uint32_t inputs, float *const *y)
{
    dots_all(rows, cols, x, inputs, y, chunk_q8_0, FLIN_Q8_0);
}

void flin_avx512_dots_apart_vnni(const flin_view *rows, uint32_t cols, const void *const *x,
                                 uint32_t inputs, float *const *y)
{
    dots_all(rows, cols, x, inputs, y, chunk_apart, FLIN_Q4_0_APART);
}
