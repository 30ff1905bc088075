/*
 * activation.h - what a neuron's sums become, and whether it fires.
 *
 * Owns: the only place that knows which neurons fire. Refuses: sums. A neuron that does not fire
 * adds nothing; under an activation without zeros every neuron fires.
 */
#ifndef FLIN_MODEL_ACTIVATION_H
#define FLIN_MODEL_ACTIVATION_H

#include <math.h>
#include <stddef.h>

#include "kernels/kernels.h"

/* 0: the build has the architectures OPT and Llama alone, and leaves out what only others compute
   with. Asked in front of such code, which the compiler then drops. */
#ifndef FLIN_MORE_ARCHITECTURES
#define FLIN_MORE_ARCHITECTURES 1
#endif

enum flin_activation_kind {
    FLIN_ACTIVATION_RELU = 0,
    FLIN_ACTIVATION_RELU2 = 1,     /* relu(x)^2 */
    FLIN_ACTIVATION_FATRELU = 2,   /* x above the threshold, else 0 */
    FLIN_ACTIVATION_DRELU = 3,     /* gated FFNs: relu(gate) * relu(up) */
    FLIN_ACTIVATION_SILU = 4,      /* x / (1 + exp(-x)); from here on: no zeros */
    FLIN_ACTIVATION_GELU = 5,      /* x (1 + erf(x / sqrt 2)) / 2 */
    FLIN_ACTIVATION_GELU_TANH = 6, /* the same nearly: x / (1 + exp(-2 t)), see activation.c */
    FLIN_ACTIVATION_KINDS = 7
};

typedef struct flin_activation_rule {
    enum flin_activation_kind kind;
    float threshold; /* of fatrelu, at least 0; others 0 */
} flin_activation_rule;

/* The kind of that name, such as "relu"; 0: there is none. */
int flin_activation_find(const char *name, size_t name_bytes, enum flin_activation_kind *kind);
const char *flin_activation_name(enum flin_activation_kind kind);

/* FLASHINFER_ACTIVATION_... */
uint32_t flin_activation_number(enum flin_activation_kind kind);

/* May a neuron not fire at all? Else predicting gains nothing. */
static inline int flin_activation_has_zeros(const flin_activation_rule *rule)
{
    return rule->kind < FLIN_ACTIVATION_SILU;
}

/* Deciding sums above it may fire. */
static inline float flin_activation_floor(const flin_activation_rule *rule)
{
    return flin_activation_has_zeros(rule) ? rule->threshold : -INFINITY;
}

/* May a neuron with this deciding sum (of gate where the FFN is gated, else of up) fire? */
static inline int flin_activation_fires(const flin_activation_rule *rule, float sum)
{
    return sum > rule->threshold || !flin_activation_has_zeros(rule);
}

/* values[i] = what neuron i multiplies its down column with, fires[i] = 1 if it fires.
   sums: (count) deciding sums; ups: (count) of up, NULL where the FFN is not gated. values may be
   sums. */
void flin_activate(const flin_activation_rule *rule, const flin_kernels *kernels, const float *sums,
                   const float *ups, uint32_t count, float *values, uint8_t *fires);

#endif
