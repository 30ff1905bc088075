/*
 * capped.h - one head of attention whose scores cannot exceed a cap.
 *
 * Owns: the softmax. Refuses: products, which are the kernels'.
 */
#ifndef FLIN_ENGINE_CAPPED_H
#define FLIN_ENGINE_CAPPED_H

#include "kernels/kernels.h"

/* As kernels->attend[type], with cap * tanh(score / cap) for each score. keys, values: (count,
   width) of the type; scratch: flin_attend_bytes(width). */
void flin_attend_capped(const flin_kernels *kernels, enum flin_type type, float cap, const float *q,
                        const void *keys, const void *values, uint32_t count, uint32_t width,
                        void *scratch, float *out);

#endif
