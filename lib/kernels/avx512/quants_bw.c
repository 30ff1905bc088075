/*
 * avx512/quants_bw.c - dot products of rows of quants.h on CPUs with AVX-512 BW and no VNNI.
 *
 * Owns: products of bytes out of 16-bit sums that cannot overflow. Refuses: loops
 * (avx512/quants_dot.h); sharing a unit among inputs.
 */
#include "kernels/avx512/quants_dot.h"

INLINE __m512i add_pairs(__m512i sum, __m512i bytes, __m512i level, int weight)
{
    return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(bytes, level),
                                                   _mm512_set1_epi16((short)weight)));
}

/* Bytes up to 63, or 255 in halves of four bits. */
INLINE __m512i add_products(__m512i sum, __m512i bytes, __m512i level, type_t type)
{
    if (flin_quants_bias(type) < 128) return add_pairs(sum, bytes, level, 1);
    return add_pairs(add_pairs(sum, nibbles(bytes), level, 1), upper_nibbles(bytes), level, 16);
}

#define DOT_OF(name, type)                                                                         \
    void flin_avx512_dot_##name##_bw(const flin_view *rows, uint32_t cols, const void *x,          \
                                     float *y)                                                     \
    {                                                                                              \
        dots_all(rows, cols, &x, 1, &y, type);                                                     \
    }                                                                                              \
    _Static_assert(type < FLIN_TYPES_KNOWN, #name)

FLIN_EACH_QUANT(DOT_OF);
