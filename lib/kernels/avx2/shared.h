/*
 * avx2/shared.h - what the files of this overlay share: folds, masks, the exponential, each
 * other's functions.
 *
 * Owns: the one order in which 8 lanes become a sum. Refuses: being included from other
 * folders.
 */
#ifndef FLIN_KERNELS_AVX2_SHARED_H
#define FLIN_KERNELS_AVX2_SHARED_H

#include <immintrin.h>
#include <string.h>

#include "kernels/inputs.h"
#include "kernels/ref/shared.h"
#include "kernels/view.h"

#define INLINE static inline __attribute__((always_inline))
#define LANES 8u
#define ADDED 16u /* rows added per pass over y */
/* How far ahead rows are asked for. Measured: a page or more ahead is slower, because the hardware
   then fetches less by itself. */
#define AHEAD_BYTES 1024u

typedef enum flin_type type_t;

/* Lanes below `left`. */
INLINE __m256i tail_mask(uint32_t left)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)left),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Up to 8 floats of [c, end); other lanes are 0. */
INLINE __m256 load_floats(const float *x, uint32_t c, uint32_t end)
{
    return end - c >= LANES ? _mm256_loadu_ps(x + c)
                            : _mm256_maskload_ps(x + c, tail_mask(end - c));
}

INLINE void store_part(float *y, uint32_t c, uint32_t end, __m256 value)
{
    if (end - c >= LANES)
        _mm256_storeu_ps(y + c, value);
    else
        _mm256_maskstore_ps(y + c, tail_mask(end - c), value);
}

/* Four sums at once: pairs, then pairs of pairs, then the halves. Every place has the same tree. */
INLINE __m128 fold4(__m256 a, __m256 b, __m256 c, __m256 d)
{
    __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));

    return _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
}

INLINE __m256 fold8(const __m256 sum[8])
{
    return _mm256_set_m128(fold4(sum[4], sum[5], sum[6], sum[7]),
                           fold4(sum[0], sum[1], sum[2], sum[3]));
}

INLINE float fold1(__m256 a)
{
    return _mm_cvtss_f32(fold4(a, a, a, a));
}

INLINE __m256 power_of_two(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* exp(x) to about 1 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial in r of least relative
   error (5e-9), times 2^n in two steps, since 2^n alone may be no float. NaN stays NaN; the
   bounds lie where the result is 0 or Inf. */
INLINE __m256 exp8(__m256 x)
{
    const __m256 floored = _mm256_max_ps(_mm256_set1_ps(-105.0f), x); /* x if it is NaN */
    const __m256 bounded = _mm256_min_ps(_mm256_set1_ps(105.0f), floored);
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(bounded, _mm256_set1_ps(0x1.715476p+0f)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e43p-1f), bounded); /* ln 2, high part */
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-0x1.05c61p-29f), r);            /* and the rest */

    __m256 p = _mm256_set1_ps(0x1.6a23eap-10f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.123a2ap-7f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.5558f4p-5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.55549p-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.fffffcp-2f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_mul_ps(p, power_of_two(half));
    return _mm256_mul_ps(p, power_of_two(_mm256_sub_epi32(whole, half)));
}

/* avx2/floats.c: floats of every width */
flin_view_dot flin_avx2_dot_f32, flin_avx2_dot_f16, flin_avx2_dot_bf16;
flin_view_add flin_avx2_add_f32, flin_avx2_add_f16, flin_avx2_add_bf16;

/* avx2/blocks.c: quantised rows */
void flin_avx2_quantise(const float *x, uint32_t cols, void *levels);
flin_view_add flin_avx2_add_q8_0, flin_avx2_add_q4_0;
void flin_avx2_to_float_q8_0(const void *row, uint32_t cols, float *to);
void flin_avx2_to_float_q4_0(const void *row, uint32_t cols, float *to);
void flin_avx2_from_float_q8_0(const float *x, uint32_t cols, void *row);

flin_view_dot flin_avx2_dot_q8_0, flin_avx2_dot_q4_0;

/* avx2/inputs.c and, one input after the other, avx2/blocks.c */
flin_view_dots flin_avx2_dots_f32, flin_avx2_dots_f16, flin_avx2_dots_bf16;
flin_view_dots flin_avx2_dots_q8_0, flin_avx2_dots_q4_0;

/* avx2/attend.c */
void flin_avx2_attend_f32(const float *q, const void *keys, const void *values, uint32_t count,
                          uint32_t stride, uint32_t head_dim, void *scratch, float *out);
void flin_avx2_attend_f16(const float *q, const void *keys, const void *values, uint32_t count,
                          uint32_t stride, uint32_t head_dim, void *scratch, float *out);
void flin_avx2_attend_q8_0(const float *q, const void *keys, const void *values, uint32_t count,
                           uint32_t stride, uint32_t head_dim, void *scratch, float *out);

/* avx2/quants.c */
#define FLIN_AVX2_QUANT_KERNELS(name, type)                                                        \
    FLIN_QUANT_KERNELS(avx2, name);                                                                \
    FLIN_QUANT_TO_FLOAT(avx2, name)
FLIN_EACH_QUANT(FLIN_AVX2_QUANT_KERNELS);

/* avx2/vectors.c */
void flin_avx2_layer_norm(const float *x, const float *weight, const float *bias, uint32_t n,
                          float eps, float *y);
void flin_avx2_rms_norm(const float *x, const float *weight, uint32_t n, float eps, float *y);
void flin_avx2_relu(const float *x, const float *up, uint32_t n, float *y);
void flin_avx2_relu2(const float *x, const float *up, uint32_t n, float *y);
void flin_avx2_silu(const float *x, const float *up, uint32_t n, float *y);
void flin_avx2_rotate(float *x, uint32_t heads, uint32_t head_dim, uint32_t rotated,
                      const float *cosines, const float *sines, enum flin_pairs pairs);

#endif
