/*
 * ffn_whole.h - the FFN of a plain file, whose matrices are used whole.
 *
 * Owns: the order of its products. Refuses: bundles, predictors (ffn.c).
 */
#ifndef FLIN_ENGINE_FFN_WHOLE_H
#define FLIN_ENGINE_FFN_WHOLE_H

#include "engine/pass.h"

/* projected = ffn(x) for all rows of a pass, narrow or wide. */
int flin_ffn_whole(flin_pass *pass, uint32_t layer, const float *x, flashinfer_error *error);

#endif
