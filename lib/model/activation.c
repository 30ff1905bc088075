/*
 * activation.c - see activation.h.
 */
#include "model/activation.h"

#include <string.h>

#include "flashinfer.h"

static const char *const names[FLIN_ACTIVATION_KINDS] = {"relu", "relu2", "fatrelu",  "drelu",
                                                         "silu", "gelu",  "gelu_tanh"};

int flin_activation_find(const char *name, size_t name_bytes, enum flin_activation_kind *kind)
{
    for (uint32_t i = 0; i < FLIN_ACTIVATION_KINDS; i++) {
        if (strlen(names[i]) != name_bytes || memcmp(names[i], name, name_bytes) != 0) continue;
        *kind = (enum flin_activation_kind)i;
        return 1;
    }
    return 0;
}

const char *flin_activation_name(enum flin_activation_kind kind)
{
    return names[kind];
}

uint32_t flin_activation_number(enum flin_activation_kind kind)
{
    static const uint32_t numbers[FLIN_ACTIVATION_KINDS] = {
        [FLIN_ACTIVATION_RELU] = FLASHINFER_ACTIVATION_RELU,
        [FLIN_ACTIVATION_RELU2] = FLASHINFER_ACTIVATION_RELU2,
        [FLIN_ACTIVATION_FATRELU] = FLASHINFER_ACTIVATION_FATRELU,
        [FLIN_ACTIVATION_DRELU] = FLASHINFER_ACTIVATION_DRELU,
        [FLIN_ACTIVATION_SILU] = FLASHINFER_ACTIVATION_SILU,
        [FLIN_ACTIVATION_GELU] = FLASHINFER_ACTIVATION_GELU,
        [FLIN_ACTIVATION_GELU_TANH] = FLASHINFER_ACTIVATION_GELU_TANH};

    return numbers[kind];
}

/* Without a branch: it would be guessed wrong every third time. */
static void cut(const float *sums, const float *ups, float threshold, uint32_t count, float *values,
                uint8_t *fires)
{
    for (uint32_t i = 0; i < count; i++) {
        const float sum = sums[i], value = ups != NULL ? sum * ups[i] : sum;

        fires[i] = sum > threshold;
        values[i] = sum > threshold ? value : 0;
    }
}

static void squared(const float *sums, const float *ups, uint32_t count, float *values,
                    uint8_t *fires)
{
    for (uint32_t i = 0; i < count; i++) {
        const float sum = sums[i], square = sum * sum;

        fires[i] = sum > 0;
        values[i] = sum > 0 ? (ups != NULL ? square * ups[i] : square) : 0;
    }
}

static void both_positive(const float *sums, const float *ups, uint32_t count, float *values,
                          uint8_t *fires)
{
    for (uint32_t i = 0; i < count; i++) {
        const float value = sums[i] * ups[i];

        fires[i] = sums[i] > 0 && ups[i] > 0;
        values[i] = fires[i] ? value : 0;
    }
}

#define TOGETHER 64u

/* x / (1 + exp(-2 t)) with t = sqrt(2 / pi) (x + 0.044715 x^3): what tanh(t) makes of it. SiLU's
   kernel gives 2 t / (1 + exp(-2 t)), and 2 t / x is never 0. */
static void gelu_tanh(const flin_kernels *kernels, const float *sums, const float *ups,
                      uint32_t count, float *values)
{
    float twice[TOGETHER], slope[TOGETHER];

    for (uint32_t first = 0, here; first < count; first += here) {
        here = count - first < TOGETHER ? count - first : TOGETHER;
        for (uint32_t i = 0; i < here; i++) {
            const float x = sums[first + i];
            slope[i] = 1.5957691216f * (1.0f + 0.044715f * x * x);
            twice[i] = slope[i] * x;
        }
        kernels->activate[FLIN_SILU](twice, NULL, here, twice);
        for (uint32_t i = 0; i < here; i++)
            values[first + i] = twice[i] / slope[i] * (ups != NULL ? ups[first + i] : 1.0f);
    }
}

static void gelu(const float *sums, const float *ups, uint32_t count, float *values)
{
    for (uint32_t i = 0; i < count; i++) {
        const float half = 0.5f * sums[i] * (1.0f + erff(sums[i] * 0.70710678f));

        values[i] = ups != NULL ? half * ups[i] : half;
    }
}

/* Under what has no zeros all fire. */
static void activate_all(const flin_activation_rule *rule, const flin_kernels *kernels,
                         const float *sums, const float *ups, uint32_t count, float *values,
                         uint8_t *fires)
{
    if (FLIN_MORE_ARCHITECTURES && rule->kind == FLIN_ACTIVATION_GELU)
        gelu(sums, ups, count, values);
    else if (FLIN_MORE_ARCHITECTURES && rule->kind == FLIN_ACTIVATION_GELU_TANH)
        gelu_tanh(kernels, sums, ups, count, values);
    else
        kernels->activate[FLIN_SILU](sums, ups, count, values);
    memset(fires, 1, count);
}

void flin_activate(const flin_activation_rule *rule, const flin_kernels *kernels, const float *sums,
                   const float *ups, uint32_t count, float *values, uint8_t *fires)
{
    switch (rule->kind) {
    case FLIN_ACTIVATION_SILU:
    case FLIN_ACTIVATION_GELU:
    case FLIN_ACTIVATION_GELU_TANH:
        activate_all(rule, kernels, sums, ups, count, values, fires);
        break;
    case FLIN_ACTIVATION_RELU2:
        squared(sums, ups, count, values, fires);
        break;
    case FLIN_ACTIVATION_DRELU:
        both_positive(sums, ups, count, values, fires);
        break;
    default:
        cut(sums, ups, rule->threshold, count, values, fires);
        break;
    }
}
