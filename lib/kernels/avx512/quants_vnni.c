/*
 * avx512/quants_vnni.c - dot products of rows of quants.h on CPUs with AVX-512 VNNI; built with
 * that flag, alone.
 *
 * Owns: products of bytes, the integers that avx512/quants_bw.c comes to as well. Refuses: loops
 * (avx512/quants_dot.h).
 */
#include "kernels/avx512/quants_dot.h"

INLINE __m512i add_products(__m512i sum, __m512i bytes, __m512i level, type_t type)
{
    (void)type;
    return _mm512_dpbusd_epi32(sum, bytes, level);
}

#define DOT_OF(name, type)                                                                         \
    void flin_avx512_dot_##name##_vnni(const flin_view *rows, uint32_t cols, const void *x,        \
                                       float *y)                                                   \
    {                                                                                              \
        dots_all(rows, cols, &x, 1, &y, type);                                                     \
    }                                                                                              \
    void flin_avx512_dots_##name##_vnni(const flin_view *rows, uint32_t cols,                      \
                                        const void *const *x, uint32_t inputs, float *const *y)    \
    {                                                                                              \
        dots_all(rows, cols, x, inputs, y, type);                                                  \
    }                                                                                              \
    _Static_assert(type < FLIN_TYPES_KNOWN, #name)

FLIN_EACH_QUANT(DOT_OF);
