/*
 * expect.h - what a narrow pass reads next. While one thread adds, normalises and looks up, the
 * others would only wait: they are told what follows and ask memory for the beginning of it.
 * Nothing depends on it but time.
 */
#ifndef FLIN_ENGINE_EXPECT_H
#define FLIN_ENGINE_EXPECT_H

#include "engine/pass.h"

/* A layer's projections; after the last layer: logits, or the next token's first. */
void flin_expect_attention(flin_pass *pass, uint32_t layer);

/* A layer's predictor. */
void flin_expect_ffn(flin_pass *pass, uint32_t layer);

#endif
