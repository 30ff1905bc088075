/*
 * ffn.h - the FFN of one layer for the rows of a pass.
 *
 *   ffn.c       narrow passes, as the paper has it: name, look into the cache, read, compute
 *   ffn_wide.c  wide passes: dense, all bundles of the layer in runs
 *
 * Exactly the neurons a row names are computed for it, in ascending order. When a pass names more
 * than there are slots they are taken in waves, each a run of that order, so the result does not
 * depend on how many slots there are.
 */
#ifndef FLIN_ENGINE_FFN_H
#define FLIN_ENGINE_FFN_H

#include "engine/neurons.h"
#include "engine/pass.h"

/* projected = FFN(x); x: (rows, width). FLASHINFER_ECANCELED comes without a text. */
int flin_ffn(flin_pass *pass, uint32_t layer, const float *x, flashinfer_error *error);

/* The same for a wide pass, whose outputs flin_ffn() has begun. No predictor is asked: a
   prompt's rows together fire nearly every neuron, so all are computed and none is missed. */
int flin_ffn_wide(flin_pass *pass, uint32_t layer, const float *x, flashinfer_error *error);

#endif
