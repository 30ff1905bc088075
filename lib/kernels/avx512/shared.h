/*
 * avx512/shared.h - what the files of this overlay share: folds, masks, the exponential, each
 * other's functions.
 *
 * Owns: the one order in which 16 lanes become a sum. Refuses: being included from other
 * folders.
 */
#ifndef FLIN_KERNELS_AVX512_SHARED_H
#define FLIN_KERNELS_AVX512_SHARED_H

#include <immintrin.h>

#include "kernels/inputs.h"
#include "kernels/ref/shared.h"
#include "kernels/view.h"

#define INLINE static inline __attribute__((always_inline))
#define LANES 16u
#define ADDED 16u /* rows added per pass over y */
/* How far ahead rows are asked for. Measured: a page or more ahead is slower, because the hardware
   then fetches less by itself. */
#define AHEAD_BYTES 1024u
#define AHEAD_SCATTERED 512u /* of quantised rows in random places: they are short */

typedef enum flin_type type_t;

/* A count that the compiler does not know, for loops that it would unroll. */
INLINE uint32_t unknown(uint32_t count)
{
    __asm__("" : "+r"(count));
    return count;
}

/* Lanes below `left`. */
INLINE __mmask16 tail_mask(uint32_t left)
{
    if (left >= LANES) return 0xffff;
    return (__mmask16)((1u << left) - 1u);
}

/* Four sums at once: pairs, then pairs of pairs, then the halves. Every place has the same tree. */
INLINE __m128 fold4(__m512 a, __m512 b, __m512 c, __m512 d)
{
    __m256 a8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m256 b8 = _mm256_add_ps(_mm512_castps512_ps256(b), _mm512_extractf32x8_ps(b, 1));
    __m256 c8 = _mm256_add_ps(_mm512_castps512_ps256(c), _mm512_extractf32x8_ps(c, 1));
    __m256 d8 = _mm256_add_ps(_mm512_castps512_ps256(d), _mm512_extractf32x8_ps(d, 1));
    __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(a8, b8), _mm256_hadd_ps(c8, d8));

    return _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
}

INLINE __m256 fold8(const __m512 sum[8])
{
    return _mm256_set_m128(fold4(sum[4], sum[5], sum[6], sum[7]),
                           fold4(sum[0], sum[1], sum[2], sum[3]));
}

INLINE float fold1(__m512 a)
{
    return _mm_cvtss_f32(fold4(a, a, a, a));
}

/* exp(x) to about 1 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial in r of least relative error
   (5e-9), times 2^n. NaN stays NaN; the bounds lie where the result is 0 or Inf in float. */
INLINE __m512 exp16(__m512 x)
{
    const __m512 floored = _mm512_max_ps(_mm512_set1_ps(-105.0f), x); /* x if it is NaN */
    const __m512 bounded = _mm512_min_ps(_mm512_set1_ps(105.0f), floored);
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(bounded, _mm512_set1_ps(0x1.715476p+0f)),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e43p-1f), bounded); /* ln 2, high part */
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-0x1.05c61p-29f), r);            /* and the rest */

    __m512 p = _mm512_set1_ps(0x1.6a23eap-10f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.123a2ap-7f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.5558f4p-5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.55549p-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.fffffcp-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

/* avx512/floats.c: floats of every width */
flin_view_dot flin_avx512_dot_f32, flin_avx512_dot_f16, flin_avx512_dot_bf16;
flin_view_add flin_avx512_add_f32, flin_avx512_add_f16, flin_avx512_add_bf16;

/* avx512/blocks.c: levels and what is not a dot product */
void flin_avx512_quantise(const float *x, uint32_t cols, void *levels);
flin_view_add flin_avx512_add_q8_0, flin_avx512_add_q4_0;
void flin_avx512_to_float_q8_0(const void *row, uint32_t cols, float *to);
void flin_avx512_to_float_q4_0(const void *row, uint32_t cols, float *to);
void flin_avx512_to_float_apart(const void *row, uint32_t cols, uint32_t begin, uint32_t end,
                                float *to);
void flin_avx512_from_float_q8_0(const float *x, uint32_t cols, void *row);

/* one of the two in view.h and inputs.h, as the CPU can */
flin_view_dot flin_avx512_dot_q8_0, flin_avx512_dot_q4_0, flin_avx512_dot_apart;
flin_view_dots flin_avx512_dots_q8_0, flin_avx512_dots_q4_0, flin_avx512_dots_apart;

/* avx512/inputs.c */
flin_view_dots flin_avx512_dots_f32, flin_avx512_dots_f16, flin_avx512_dots_bf16;

/* avx512/attend.c */
void flin_avx512_attend_f32(const float *q, const void *keys, const void *values, uint32_t count,
                            uint32_t stride, uint32_t head_dim, void *scratch, float *out);
void flin_avx512_attend_f16(const float *q, const void *keys, const void *values, uint32_t count,
                            uint32_t stride, uint32_t head_dim, void *scratch, float *out);
void flin_avx512_attend_q8_0(const float *q, const void *keys, const void *values, uint32_t count,
                             uint32_t stride, uint32_t head_dim, void *scratch, float *out);

/* avx512/quants.c */
#define FLIN_AVX512_QUANT_KERNELS(name, type)                                                      \
    FLIN_QUANT_KERNELS(avx512, name);                                                              \
    FLIN_QUANT_TO_FLOAT(avx512, name)
FLIN_EACH_QUANT(FLIN_AVX512_QUANT_KERNELS);

/* avx512/vectors.c */
void flin_avx512_layer_norm(const float *x, const float *weight, const float *bias, uint32_t n,
                            float eps, float *y);
void flin_avx512_rms_norm(const float *x, const float *weight, uint32_t n, float eps, float *y);
void flin_avx512_relu(const float *x, const float *up, uint32_t n, float *y);
void flin_avx512_relu2(const float *x, const float *up, uint32_t n, float *y);
void flin_avx512_silu(const float *x, const float *up, uint32_t n, float *y);
void flin_avx512_rotate(float *x, uint32_t heads, uint32_t head_dim, uint32_t rotated,
                        const float *cosines, const float *sines, enum flin_pairs pairs);

#endif
