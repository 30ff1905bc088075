/*
 * ref/vectors.c - in plain C what architectures beside OPT compute with: root mean square norms,
 * gated and squared activations, rotary positions.
 *
 * Owns: clarity. Refuses: tables of angles, which a model makes once.
 */
#include <math.h>
#include <stddef.h>

#include "kernels/ref/shared.h"

#define LANES 8u

void flin_ref_rms_norm(const float *x, const float *weight, uint32_t n, float eps, float *y)
{
    float lane[LANES] = {0}, scale;

    for (uint32_t c = 0; c < n; c++) lane[c % LANES] += x[c] * x[c];
    scale =
        ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
    scale = 1.0f / sqrtf(scale / (float)n + eps);
    for (uint32_t c = 0; c < n; c++) y[c] = x[c] * scale * weight[c];
}

/* NaN stays NaN */
static float positive(float x)
{
    return x < 0 ? 0 : x;
}

void flin_ref_relu(const float *x, const float *up, uint32_t n, float *y)
{
    for (uint32_t i = 0; i < n; i++) y[i] = positive(x[i]) * (up != NULL ? up[i] : 1.0f);
}

void flin_ref_relu2(const float *x, const float *up, uint32_t n, float *y)
{
    for (uint32_t i = 0; i < n; i++) {
        float fired = positive(x[i]);
        y[i] = fired * fired * (up != NULL ? up[i] : 1.0f);
    }
}

void flin_ref_silu(const float *x, const float *up, uint32_t n, float *y)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] = x[i] / (1.0f + expf(-x[i])) * (up != NULL ? up[i] : 1.0f);
}

void flin_ref_rotate(float *x, uint32_t heads, uint32_t head_dim, uint32_t rotated,
                     const float *cosines, const float *sines, enum flin_pairs pairs)
{
    uint32_t half = rotated / 2;

    for (uint32_t head = 0; head < heads; head++, x += head_dim) {
        for (uint32_t k = 0; k < half; k++) {
            float *a = pairs == FLIN_PAIRS_HALVES ? &x[k] : &x[2 * k];
            float *b = pairs == FLIN_PAIRS_HALVES ? &x[k + half] : &x[2 * k + 1];
            float left = *a, right = *b;
            *a = left * cosines[k] - right * sines[k];
            *b = left * sines[k] + right * cosines[k];
        }
    }
}
