/*
 * forward.h - everything that runs a model: a step, several rows, a prompt, an audit are one pass.
 */
#ifndef FLIN_ENGINE_FORWARD_H
#define FLIN_ENGINE_FORWARD_H

#include "engine/pass.h"

/* Rows through all layers; logits for those that want them. Positions move in nobody's session.
   FLASHINFER_ECANCELED comes without a text. */
int flin_forward(flin_pass *pass, flashinfer_error *error);

#endif
