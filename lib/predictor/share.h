/*
 * share.h - how kinds of predictors share neurons out over threads.
 */
#ifndef FLIN_PREDICTOR_SHARE_H
#define FLIN_PREDICTOR_SHARE_H

#include "predictor/predictor.h"

#define FLIN_SHARE_GRAIN 64u /* neurons: one word of a mask */

/* y[i] (all rows) = matrix rows [begin, end) . x[i] + bias, for several inputs. w: row `begin`;
   bias: (all rows) or NULL */
static inline void flin_share_products(const flin_kernels *kernels, enum flin_type type,
                                       const void *w, uint32_t begin, uint32_t end, uint32_t cols,
                                       const void *const *x, uint32_t inputs, const float *bias,
                                       float *const *y)
{
    float *from[FLIN_INPUTS_MAX] = {NULL};

    for (uint32_t i = 0; i < inputs; i++) from[i] = y[i] + begin;
    kernels->matvecs[type](w, end - begin, cols, x, inputs, bias != NULL ? bias + begin : NULL,
                           from);
}

/* mask bits of neurons [begin, end), begin a multiple of 64: those whose value is above the
   limit */
static inline void flin_mask_above(const float *values, float limit, uint32_t begin, uint32_t end,
                                   uint64_t *mask)
{
    for (uint32_t first = begin; first < end; first += 64) {
        uint32_t count = end - first < 64 ? end - first : 64;
        uint64_t word = 0;
        for (uint32_t i = 0; i < count; i++) word |= (uint64_t)(values[first + i] > limit) << i;
        mask[first / 64] = word;
    }
}

#endif
