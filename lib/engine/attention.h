/*
 * attention.h - multi-head attention of a pass's rows over their sessions' cached positions.
 */
#ifndef FLIN_ENGINE_ATTENTION_H
#define FLIN_ENGINE_ATTENTION_H

#include "engine/pass.h"

/* projected = attention(x) for the rows' positions, whose keys and values join their sessions'.
   x: (rows, width). Source: Vaswani et al. 2017; shared keys and values: Ainslie et al. 2023. */
int flin_attention(flin_pass *pass, uint32_t layer, const float *x, flashinfer_error *error);

#endif
