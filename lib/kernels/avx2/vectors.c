/*
 * avx2/vectors.c - norms, activations and rotary positions with AVX2.
 *
 * Owns: vectors as long as a layer is wide. Refuses: matrices.
 */
#include <math.h>

#include "kernels/avx2/shared.h"

/* ---------------------------------------------------------------------------------------- norms */

INLINE float sum_of(const float *x, uint32_t n)
{
    __m256 sum = _mm256_setzero_ps();

    for (uint32_t c = 0; c < n; c += LANES) sum = _mm256_add_ps(sum, load_floats(x, c, n));
    return fold1(sum);
}

INLINE float sum_of_squares(const float *x, uint32_t n, float mean)
{
    const __m256 mean8 = _mm256_set1_ps(mean);
    __m256 sum = _mm256_setzero_ps();

    for (uint32_t c = 0; c < n; c += LANES) {
        __m256 apart = _mm256_sub_ps(load_floats(x, c, n), mean8);
        apart = _mm256_and_ps(apart, _mm256_castsi256_ps(tail_mask(n - c)));
        sum = _mm256_fmadd_ps(apart, apart, sum);
    }
    return fold1(sum);
}

void flin_avx2_layer_norm(const float *x, const float *weight, const float *bias, uint32_t n,
                          float eps, float *y)
{
    const float mean = sum_of(x, n) / (float)n;
    const __m256 mean8 = _mm256_set1_ps(mean);
    const __m256 scale = _mm256_set1_ps(1.0f / sqrtf(sum_of_squares(x, n, mean) / (float)n + eps));

    for (uint32_t c = 0; c < n; c += LANES) {
        __m256 value = _mm256_sub_ps(load_floats(x, c, n), mean8);

        value = _mm256_mul_ps(value, scale);
        value = _mm256_fmadd_ps(value, load_floats(weight, c, n), load_floats(bias, c, n));
        store_part(y, c, n, value);
    }
}

void flin_avx2_rms_norm(const float *x, const float *weight, uint32_t n, float eps, float *y)
{
    const __m256 scale = _mm256_set1_ps(1.0f / sqrtf(sum_of_squares(x, n, 0.0f) / (float)n + eps));

    for (uint32_t c = 0; c < n; c += LANES)
        store_part(
            y, c, n,
            _mm256_mul_ps(_mm256_mul_ps(load_floats(x, c, n), scale), load_floats(weight, c, n)));
}

/* ---------------------------------------------------------------------------------- activations */

INLINE __m256 activated(__m256 x, enum flin_activation kind)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    __m256 fired;

    if (kind == FLIN_SILU) {
        const __m256 power = exp8(_mm256_sub_ps(_mm256_setzero_ps(), x));
        return _mm256_div_ps(x, _mm256_add_ps(one, power));
    }
    fired = _mm256_max_ps(_mm256_setzero_ps(), x); /* x if it is NaN */
    return kind == FLIN_RELU ? fired : _mm256_mul_ps(fired, fired);
}

INLINE void activate(const float *x, const float *up, uint32_t n, float *y,
                     enum flin_activation kind)
{
    for (uint32_t c = 0; c < n; c += LANES) {
        __m256 value = activated(load_floats(x, c, n), kind);

        if (up != NULL) value = _mm256_mul_ps(value, load_floats(up, c, n));
        store_part(y, c, n, value);
    }
}

void flin_avx2_relu(const float *x, const float *up, uint32_t n, float *y)
{
    activate(x, up, n, y, FLIN_RELU);
}

void flin_avx2_relu2(const float *x, const float *up, uint32_t n, float *y)
{
    activate(x, up, n, y, FLIN_RELU2);
}

void flin_avx2_silu(const float *x, const float *up, uint32_t n, float *y)
{
    activate(x, up, n, y, FLIN_SILU);
}

/* --------------------------------------------------------------------------------------- rotary */

INLINE void rotate_halves(float *x, uint32_t half, const float *cosines, const float *sines)
{
    for (uint32_t k = 0; k < half; k += LANES) {
        const __m256 left = load_floats(x, k, half), right = load_floats(x + half, k, half);
        const __m256 cosine = load_floats(cosines, k, half), sine = load_floats(sines, k, half);

        store_part(x, k, half, _mm256_fmsub_ps(left, cosine, _mm256_mul_ps(right, sine)));
        store_part(x + half, k, half, _mm256_fmadd_ps(left, sine, _mm256_mul_ps(right, cosine)));
    }
}

INLINE void rotate_neighbours(float *x, uint32_t half, const float *cosines, const float *sines)
{
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);

    for (uint32_t k = 0; k < half; k += LANES / 2) {
        const __m256 pair = load_floats(x, 2 * k, 2 * half);
        const __m256 cosine = _mm256_permutevar8x32_ps(load_floats(cosines, k, half), twice);
        const __m256 sine = _mm256_permutevar8x32_ps(load_floats(sines, k, half), twice);
        const __m256 swapped = _mm256_mul_ps(_mm256_permute_ps(pair, 0xb1), sine);

        /* even: left cos - right sin; odd: right cos + left sin */
        store_part(x, 2 * k, 2 * half, _mm256_fmaddsub_ps(pair, cosine, swapped));
    }
}

void flin_avx2_rotate(float *x, uint32_t heads, uint32_t head_dim, uint32_t rotated,
                      const float *cosines, const float *sines, enum flin_pairs pairs)
{
    for (uint32_t head = 0; head < heads; head++, x += head_dim) {
        if (pairs == FLIN_PAIRS_HALVES)
            rotate_halves(x, rotated / 2, cosines, sines);
        else
            rotate_neighbours(x, rotated / 2, cosines, sines);
    }
}
