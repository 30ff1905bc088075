/*
 * avx512/quants.c - rows of quants.h with AVX-512: conversions, and kernels of the table.
 *
 * Owns: the choice between the two files of dot products. Refuses: products.
 */
#include "kernels/avx512/quants.h"
#include "kernels/inputs.h"

/* What a unit is in memory. */
typedef struct laid {
    uint8_t bytes[GROUPS][2][64];
    float scale[16], less[16];
} laid;

/* Half h of piece k of group g. */
INLINE void put_half(const laid *from, uint32_t g, uint32_t h, uint32_t k, float *to, type_t type)
{
    const int halved = flin_quants_halved(type);
    const uint32_t at = GROUP * g + k + (halved ? 8 * h : 0);
    const __m512i bytes = _mm512_cvtepu8_epi32(load128(from->bytes[g][h] + 16 * k));
    const __m512i level = _mm512_sub_epi32(bytes, _mm512_set1_epi32(flin_quants_bias(type)));
    const __m512 scale = _mm512_set1_ps(from->scale[at]);
    const __m512 less = _mm512_set1_ps(halved ? from->less[at] : from->scale[8 + at % 8]);
    const __m512 value = _mm512_cvtepi32_ps(level);

    _mm512_storeu_ps(to + 16 * h, flin_quants_less(type) ? _mm512_fmsub_ps(value, scale, less)
                                                         : _mm512_mul_ps(value, scale));
}

INLINE void put_unit(const uint8_t *at, float *to, type_t type)
{
    const unit from = load_unit(at, type);
    laid there;

    memcpy(there.bytes, from.bytes, sizeof there.bytes);
    _mm512_storeu_ps(there.scale, from.scale);
    if (flin_quants_less(type) && flin_quants_halved(type)) _mm512_storeu_ps(there.less, from.less);
#pragma GCC unroll 1
    for (uint32_t i = 0; i < GROUPS * GROUP; i++) {
        put_half(&there, i / GROUP, 0, i % GROUP, to + i * FLIN_BLOCK, type);
        put_half(&there, i / GROUP, 1, i % GROUP, to + i * FLIN_BLOCK, type);
    }
}

/* What is left of a row goes by way of a whole unit. */
INLINE void to_float(const void *row, uint32_t cols, float *to, type_t type)
{
    const uint32_t step = GROUPS * GROUP * FLIN_BLOCK;
    uint8_t last[FLIN_QUANTS_LAST_MAX] = {0};
    float floats[GROUPS * GROUP * FLIN_BLOCK];
    const uint8_t *at = row;

    for (uint32_t left = cols; left != 0; at += flin_quants_unit_bytes(type)) {
        const uint32_t here = left < step ? left : step;
        const int whole = flin_quants_super(type) || here == step;

        if (!whole) memcpy(last, at, flin_type_bytes(type, here));
        put_unit(whole ? at : last, whole ? to : floats, type);
        if (!whole) memcpy(to, floats, here * sizeof *to);
        left -= here;
        to += here;
    }
}

/* One after the other, without VNNI. */
static __attribute__((noinline)) void in_turn(flin_view_dot *dot, const flin_view *rows,
                                              uint32_t cols, const void *const *x, uint32_t inputs,
                                              float *const *y)
{
    flin_view_dots_in_turn(dot, rows, cols, x, inputs, y);
}

#define KERNELS_OF(name, type)                                                                     \
    static void dot_##name(const flin_view *rows, uint32_t cols, const void *x, float *y)          \
    {                                                                                              \
        if (__builtin_cpu_supports("avx512vnni"))                                                  \
            flin_avx512_dot_##name##_vnni(rows, cols, x, y);                                       \
        else                                                                                       \
            flin_avx512_dot_##name##_bw(rows, cols, x, y);                                         \
    }                                                                                              \
    static void dots_##name(const flin_view *rows, uint32_t cols, const void *const *x,            \
                            uint32_t inputs, float *const *y)                                      \
    {                                                                                              \
        if (__builtin_cpu_supports("avx512vnni"))                                                  \
            flin_avx512_dots_##name##_vnni(rows, cols, x, inputs, y);                              \
        else                                                                                       \
            in_turn(flin_avx512_dot_##name##_bw, rows, cols, x, inputs, y);                        \
    }                                                                                              \
    void flin_avx512_to_float_##name(const void *row, uint32_t cols, float *to)                    \
    {                                                                                              \
        to_float(row, cols, to, type);                                                             \
    }                                                                                              \
    FLIN_VIEW_KERNELS(avx512, name, type)

FLIN_EACH_QUANT(KERNELS_OF);
