/*
 * avx512/vectors.c - norms, activations and rotary positions with AVX-512.
 *
 * Owns: vectors as long as a layer is wide. Refuses: matrices.
 */
#include <math.h>

#include "kernels/avx512/shared.h"

/* ---------------------------------------------------------------------------------------- norms */

INLINE float sum_of(const float *x, uint32_t n)
{
    __m512 sum = _mm512_setzero_ps();

    for (uint32_t c = 0; c < n; c += LANES)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(tail_mask(n - c), x + c));
    return fold1(sum);
}

INLINE float sum_of_squares(const float *x, uint32_t n, float mean)
{
    const __m512 mean16 = _mm512_set1_ps(mean);
    __m512 sum = _mm512_setzero_ps();

    for (uint32_t c = 0; c < n; c += LANES) {
        __mmask16 mask = tail_mask(n - c);
        __m512 apart = _mm512_maskz_sub_ps(mask, _mm512_maskz_loadu_ps(mask, x + c), mean16);
        sum = _mm512_fmadd_ps(apart, apart, sum);
    }
    return fold1(sum);
}

void flin_avx512_layer_norm(const float *x, const float *weight, const float *bias, uint32_t n,
                            float eps, float *y)
{
    const float mean = sum_of(x, n) / (float)n;
    const __m512 mean16 = _mm512_set1_ps(mean);
    const __m512 scale = _mm512_set1_ps(1.0f / sqrtf(sum_of_squares(x, n, mean) / (float)n + eps));

    for (uint32_t c = 0; c < n; c += LANES) {
        __mmask16 mask = tail_mask(n - c);
        __m512 value = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + c), mean16);

        value = _mm512_mul_ps(value, scale);
        value = _mm512_fmadd_ps(value, _mm512_maskz_loadu_ps(mask, weight + c),
                                _mm512_maskz_loadu_ps(mask, bias + c));
        _mm512_mask_storeu_ps(y + c, mask, value);
    }
}

void flin_avx512_rms_norm(const float *x, const float *weight, uint32_t n, float eps, float *y)
{
    const __m512 scale = _mm512_set1_ps(1.0f / sqrtf(sum_of_squares(x, n, 0.0f) / (float)n + eps));

    for (uint32_t c = 0; c < n; c += LANES) {
        __mmask16 mask = tail_mask(n - c);
        __m512 value = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + c), scale);

        _mm512_mask_storeu_ps(y + c, mask,
                              _mm512_mul_ps(value, _mm512_maskz_loadu_ps(mask, weight + c)));
    }
}

/* ---------------------------------------------------------------------------------- activations */

INLINE __m512 activated(__m512 x, enum flin_activation kind)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    __m512 fired;

    if (kind == FLIN_SILU) {
        const __m512 power = exp16(_mm512_sub_ps(_mm512_setzero_ps(), x));
        return _mm512_div_ps(x, _mm512_add_ps(one, power));
    }
    fired = _mm512_max_ps(_mm512_setzero_ps(), x); /* x if it is NaN */
    return kind == FLIN_RELU ? fired : _mm512_mul_ps(fired, fired);
}

INLINE void activate(const float *x, const float *up, uint32_t n, float *y,
                     enum flin_activation kind)
{
    for (uint32_t c = 0; c < n; c += LANES) {
        const __mmask16 mask = tail_mask(n - c);
        __m512 value = activated(_mm512_maskz_loadu_ps(mask, x + c), kind);

        if (up != NULL) value = _mm512_mul_ps(value, _mm512_maskz_loadu_ps(mask, up + c));
        _mm512_mask_storeu_ps(y + c, mask, value);
    }
}

void flin_avx512_relu(const float *x, const float *up, uint32_t n, float *y)
{
    activate(x, up, n, y, FLIN_RELU);
}

void flin_avx512_relu2(const float *x, const float *up, uint32_t n, float *y)
{
    activate(x, up, n, y, FLIN_RELU2);
}

void flin_avx512_silu(const float *x, const float *up, uint32_t n, float *y)
{
    activate(x, up, n, y, FLIN_SILU);
}

/* --------------------------------------------------------------------------------------- rotary */

INLINE void rotate_halves(float *x, uint32_t half, const float *cosines, const float *sines)
{
    for (uint32_t k = 0; k < half; k += LANES) {
        const __mmask16 mask = tail_mask(half - k);
        const __m512 left = _mm512_maskz_loadu_ps(mask, x + k);
        const __m512 right = _mm512_maskz_loadu_ps(mask, x + half + k);
        const __m512 cosine = _mm512_maskz_loadu_ps(mask, cosines + k);
        const __m512 sine = _mm512_maskz_loadu_ps(mask, sines + k);

        _mm512_mask_storeu_ps(x + k, mask,
                              _mm512_fmsub_ps(left, cosine, _mm512_mul_ps(right, sine)));
        _mm512_mask_storeu_ps(x + half + k, mask,
                              _mm512_fmadd_ps(left, sine, _mm512_mul_ps(right, cosine)));
    }
}

INLINE void rotate_neighbours(float *x, uint32_t half, const float *cosines, const float *sines)
{
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);

    for (uint32_t k = 0; k < half; k += LANES / 2) {
        const __mmask16 both = tail_mask(2 * (half - k)), mask = tail_mask(half - k) & 0xff;
        const __m512 pair = _mm512_maskz_loadu_ps(both, x + 2 * k);
        const __m512 cosine =
            _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(mask, cosines + k));
        const __m512 sine = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(mask, sines + k));
        const __m512 swapped = _mm512_mul_ps(_mm512_permute_ps(pair, 0xb1), sine);

        /* even: left cos - right sin; odd: right cos + left sin */
        _mm512_mask_storeu_ps(x + 2 * k, both, _mm512_fmaddsub_ps(pair, cosine, swapped));
    }
}

void flin_avx512_rotate(float *x, uint32_t heads, uint32_t head_dim, uint32_t rotated,
                        const float *cosines, const float *sines, enum flin_pairs pairs)
{
    for (uint32_t head = 0; head < heads; head++, x += head_dim) {
        if (pairs == FLIN_PAIRS_HALVES)
            rotate_halves(x, rotated / 2, cosines, sines);
        else
            rotate_neighbours(x, rotated / 2, cosines, sines);
    }
}
