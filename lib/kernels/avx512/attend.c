/*
 * avx512/attend.c - attention with AVX-512.
 *
 * Owns: the softmax that runs along. Refuses: the order of positions (attend.h), products.
 */
#include "kernels/attend.h"

#include "kernels/avx512/shared.h"

/* Scores (count) become exp(score - largest), out what it was by the scale it has now. */
static void soften(flin_softmax *at, float *scores, uint32_t count, float *out, uint32_t head_dim)
{
    __m512 most = _mm512_set1_ps(at->largest), sum = _mm512_setzero_ps();
    float largest;

    /* a NaN score is passed over here and counts below */
    for (uint32_t p = 0; p < count; p += LANES) {
        __m512 score = _mm512_mask_loadu_ps(most, tail_mask(count - p), scores + p);
        most = _mm512_max_ps(score, most);
    }
    largest = _mm512_reduce_max_ps(most);
    if (largest > at->largest) {
        const float scale = _mm512_cvtss_f32(exp16(_mm512_set1_ps(at->largest - largest)));
        for (uint32_t c = 0; c < head_dim; c++) out[c] *= scale;
        at->total *= scale;
        at->largest = largest;
    }
    most = _mm512_set1_ps(largest > -INFINITY ? largest : 0.0f); /* -Inf weighs nothing */
    for (uint32_t p = 0; p < count; p += LANES) {
        __mmask16 mask = tail_mask(count - p);
        __m512 power = exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, scores + p), most));

        sum = _mm512_mask_add_ps(sum, mask, sum, power);
        _mm512_mask_storeu_ps(scores + p, mask, power);
    }
    at->total += fold1(sum);
}

void flin_avx512_attend_f32(const float *q, const void *keys, const void *values, uint32_t count,
                            uint32_t stride, uint32_t head_dim, void *scratch, float *out)
{
    const flin_attend_by by = {flin_avx512_dot_f32, flin_avx512_add_f32, soften};

    flin_attend(&by, FLIN_F32, q, keys, values, count, stride, head_dim, scratch, out);
}

void flin_avx512_attend_f16(const float *q, const void *keys, const void *values, uint32_t count,
                            uint32_t stride, uint32_t head_dim, void *scratch, float *out)
{
    const flin_attend_by by = {flin_avx512_dot_f16, flin_avx512_add_f16, soften};

    flin_attend(&by, FLIN_F16, q, keys, values, count, stride, head_dim, scratch, out);
}

void flin_avx512_attend_q8_0(const float *q, const void *keys, const void *values, uint32_t count,
                             uint32_t stride, uint32_t head_dim, void *scratch, float *out)
{
    const flin_attend_by by = {flin_avx512_dot_q8_0, flin_avx512_add_q8_0, soften};
    float *levels = (float *)scratch + FLIN_ATTEND_POSITIONS;

    flin_avx512_quantise(q, head_dim, levels);
    flin_attend(&by, FLIN_Q8_0, levels, keys, values, count, stride, head_dim, scratch, out);
}
