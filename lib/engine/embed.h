/*
 * embed.h - where a pass begins and ends: tokens become the residual stream, and that logits.
 */
#ifndef FLIN_ENGINE_EMBED_H
#define FLIN_ENGINE_EMBED_H

#include "engine/pass.h"

/* hidden (rows, width) = embeddings of tokens, and of positions where they are learned. */
int flin_embed(flin_pass *pass, flashinfer_error *error);

/* logits of the rows that want them. */
int flin_unembed(flin_pass *pass, flashinfer_error *error);

/* What unembedding will read first. */
void flin_unembed_expect(flin_pass *pass);

#endif
