/*
 * sampler.h - logits to a token id, the same on every machine for the same seed and logits; saving
 * and copying what that depends on beside them.
 *
 * Owns: flashinfer_sampler, its random numbers and its memory of recent tokens. Refuses: models and
 * vocabularies.
 */
#ifndef FLIN_TEXT_SAMPLER_H
#define FLIN_TEXT_SAMPLER_H

#include "util/error.h"

#define FLIN_SAMPLER_VOCAB_MAX (1u << 24)

/* As flashinfer_sampler_...(), except that options is a full struct of this version (NULL:
   defaults). Logits of +infinity win, the lowest id among them. Logits that are all NaN or
   -infinity are FLASHINFER_EINVAL. */
void flin_sampler_options_init(flashinfer_sampler_options *options, size_t size);
int flin_sampler_create(const flashinfer_sampler_options *options, size_t vocab_count,
                        flashinfer_sampler **sampler, flashinfer_error *error);
int flin_sampler_sample(flashinfer_sampler *sampler, const float *logits, size_t count,
                        int32_t *token, flashinfer_error *error);
int flin_sampler_accept(flashinfer_sampler *sampler, int32_t token, flashinfer_error *error);
int flin_sampler_copy(const flashinfer_sampler *sampler, flashinfer_sampler **copy,
                      flashinfer_error *error);
int flin_sampler_state_save(const flashinfer_sampler *sampler, void *buffer, size_t capacity,
                            size_t *written, flashinfer_error *error);
int flin_sampler_state_load(flashinfer_sampler *sampler, const void *buffer, size_t bytes,
                            flashinfer_error *error);
void flin_sampler_destroy(flashinfer_sampler *sampler); /* NULL is fine */

#endif
