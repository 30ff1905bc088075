/*
 * avx2/attend.c - attention with AVX2.
 *
 * Owns: the softmax that runs along. Refuses: the order of positions (attend.h), products.
 */
#include "kernels/attend.h"

#include "kernels/avx2/shared.h"

INLINE float largest_of(const float *scores, uint32_t count)
{
    float lane[LANES], largest = -INFINITY;
    __m256 most = _mm256_set1_ps(-INFINITY);

    /* a NaN score is passed over here and counts in the sum */
    for (uint32_t p = 0; p < count; p += LANES) {
        __m256 score = load_floats(scores, p, count);
        __m256 kept = _mm256_max_ps(score, most);
        most = _mm256_blendv_ps(most, kept, _mm256_castsi256_ps(tail_mask(count - p)));
    }
    _mm256_storeu_ps(lane, most);
    for (uint32_t i = 0; i < LANES; i++) largest = lane[i] > largest ? lane[i] : largest;
    return largest;
}

/* Scores (count) become exp(score - largest), out what it was by the scale it has now. */
static void soften(flin_softmax *at, float *scores, uint32_t count, float *out, uint32_t head_dim)
{
    const float here = largest_of(scores, count);
    const float largest = here > at->largest ? here : at->largest;
    const __m256 most = _mm256_set1_ps(largest > -INFINITY ? largest : 0.0f);
    __m256 sum = _mm256_setzero_ps();

    if (largest > at->largest) {
        const float scale = _mm256_cvtss_f32(exp8(_mm256_set1_ps(at->largest - largest)));
        for (uint32_t c = 0; c < head_dim; c++) out[c] *= scale;
        at->total *= scale;
        at->largest = largest;
    }
    for (uint32_t p = 0; p < count; p += LANES) {
        __m256 power = exp8(_mm256_sub_ps(load_floats(scores, p, count), most));

        power = _mm256_and_ps(power, _mm256_castsi256_ps(tail_mask(count - p)));
        sum = _mm256_add_ps(sum, power);
        store_part(scores, p, count, power);
    }
    at->total += fold1(sum);
}

void flin_avx2_attend_f32(const float *q, const void *keys, const void *values, uint32_t count,
                          uint32_t stride, uint32_t head_dim, void *scratch, float *out)
{
    const flin_attend_by by = {flin_avx2_dot_f32, flin_avx2_add_f32, soften};

    flin_attend(&by, FLIN_F32, q, keys, values, count, stride, head_dim, scratch, out);
}

void flin_avx2_attend_f16(const float *q, const void *keys, const void *values, uint32_t count,
                          uint32_t stride, uint32_t head_dim, void *scratch, float *out)
{
    const flin_attend_by by = {flin_avx2_dot_f16, flin_avx2_add_f16, soften};

    flin_attend(&by, FLIN_F16, q, keys, values, count, stride, head_dim, scratch, out);
}

void flin_avx2_attend_q8_0(const float *q, const void *keys, const void *values, uint32_t count,
                           uint32_t stride, uint32_t head_dim, void *scratch, float *out)
{
    const flin_attend_by by = {flin_avx2_dot_q8_0, flin_avx2_add_q8_0, soften};
    float *levels = (float *)scratch + FLIN_ATTEND_POSITIONS;

    flin_avx2_quantise(q, head_dim, levels);
    flin_attend(&by, FLIN_Q8_0, levels, keys, values, count, stride, head_dim, scratch, out);
}
