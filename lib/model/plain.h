/*
 * plain.h - what GGUF files of others leave out: which activation, how many words.
 *
 * Owns: deciding it from what else they say, or refusing to guess. Refuses: files in flash layout,
 * which say it.
 */
#ifndef FLIN_MODEL_PLAIN_H
#define FLIN_MODEL_PLAIN_H

#include "model/shape.h"

/* The activation that the host says a model has: options.ffn_activation, not 0, and
   ffn_threshold. */
int flin_plain_activation(uint32_t number, float threshold, flin_activation_rule *activation,
                          flashinfer_error *error);

/* The shape has its keys. wanted: what flin_plain_activation() gave; NULL: nothing was said. */
int flin_plain_settle(const flin_gguf *gguf, flin_shape *shape, const flin_activation_rule *wanted,
                      flashinfer_error *error);

#endif
