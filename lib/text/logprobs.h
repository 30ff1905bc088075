/*
 * logprobs.h - log probabilities of tokens, from logits as the model gave them.
 *
 * Owns nothing, and takes no memory. Refuses: what a sampler makes of logits.
 */
#ifndef FLIN_TEXT_LOGPROBS_H
#define FLIN_TEXT_LOGPROBS_H

#include "util/error.h"

/* As flashinfer_logprobs(). */
int flin_logprobs(const float *logits, size_t count, flashinfer_logprob *asked, size_t asked_count,
                  flashinfer_logprob *top, size_t top_count, flashinfer_error *error);

#endif
