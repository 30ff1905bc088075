/*
 * norm.h - a norm of the rows of a pass; which kinds there are, kernels know.
 */
#ifndef FLIN_ENGINE_NORM_H
#define FLIN_ENGINE_NORM_H

#include "engine/pass.h"

/* y = norm of x, (count, norm->width); y may be x. Of kind NONE: nothing is done. */
void flin_norm_rows(flin_pass *pass, const flin_norm *norm, const float *x, float *y,
                    uint32_t count);

#endif
