/*
 * plain.h - what GGUF files of others leave out: which activation, how many words.
 *
 * Owns: deciding it from what else they say, or refusing to guess. Refuses: files in flash layout,
 * which say it.
 */
#ifndef FLIN_MODEL_PLAIN_H
#define FLIN_MODEL_PLAIN_H

#include "model/shape.h"

/* The shape has its keys. wanted: the activation that the host says the model has; NULL: none. */
int flin_plain_settle(const flin_gguf *gguf, flin_shape *shape, const flin_activation_rule *wanted,
                      flashinfer_error *error);

#endif
