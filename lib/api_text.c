/*
 * api_text.c - the public functions that need no model: samplers, stop strings, log probabilities,
 * budgets as text. They check their arguments and call inward; a handle belongs to one thread at a
 * time. No logic here.
 */
#include "api.h"
#include "plan/budget_text.h"
#include "text/decoder.h"
#include "text/logprobs.h"
#include "text/sampler.h"
#include "util/structs.h"

/* budgets -------------------------------------------------------------------------------------- */

int flashinfer_budget_parse(const char *text, uint64_t file_bytes, uint64_t *budget_bytes,
                            flashinfer_error *error)
{
    NEED(text);
    NEED(budget_bytes);
    return flin_budget_parse(text, file_bytes, budget_bytes, error);
}

/* stop strings --------------------------------------------------------------------------------- */

int flashinfer_decoder_set_stops(flashinfer_decoder *decoder, const char *const *texts,
                                 const size_t *text_bytes, size_t count, flashinfer_error *error)
{
    NEED(decoder);
    if (count != 0) NEED(texts);
    return flin_decoder_set_stops(decoder, texts, text_bytes, count, error);
}

int32_t flashinfer_decoder_stopped(const flashinfer_decoder *decoder)
{
    return decoder != NULL ? flin_decoder_stopped(decoder) : -1;
}

/* samplers ------------------------------------------------------------------------------------- */

void flashinfer_sampler_options_init(flashinfer_sampler_options *options, size_t size)
{
    init(options, size);
}

int flashinfer_sampler_create(const flashinfer_sampler_options *options, size_t vocab_count,
                              flashinfer_sampler **sampler, flashinfer_error *error)
{
    flashinfer_sampler_options own;
    int code = 0;

    NEED(sampler);
    *sampler = NULL;
    flashinfer_sampler_options_init(&own, sizeof own);
    if (options != NULL)
        code = flin_struct_accept(options, &own, sizeof own, "flashinfer_sampler_options", error);
    return code != 0 ? code : flin_sampler_create(&own, vocab_count, sampler, error);
}

int flashinfer_sampler_sample(flashinfer_sampler *sampler, const float *logits, size_t count,
                              int32_t *token, flashinfer_error *error)
{
    NEED(sampler);
    NEED(logits);
    NEED(token);
    return flin_sampler_sample(sampler, logits, count, token, error);
}

int flashinfer_sampler_accept(flashinfer_sampler *sampler, int32_t token, flashinfer_error *error)
{
    NEED(sampler);
    return flin_sampler_accept(sampler, token, error);
}

int flashinfer_sampler_copy(const flashinfer_sampler *sampler, flashinfer_sampler **copy,
                            flashinfer_error *error)
{
    NEED(copy);
    *copy = NULL;
    NEED(sampler);
    return flin_sampler_copy(sampler, copy, error);
}

int flashinfer_sampler_state_save(const flashinfer_sampler *sampler, void *buffer, size_t capacity,
                                  size_t *written, flashinfer_error *error)
{
    NEED(written);
    *written = 0;
    NEED(sampler);
    if (capacity != 0) NEED(buffer);
    return flin_sampler_state_save(sampler, buffer, capacity, written, error);
}

int flashinfer_sampler_state_load(flashinfer_sampler *sampler, const void *buffer, size_t bytes,
                                  flashinfer_error *error)
{
    NEED(sampler);
    NEED(buffer);
    return flin_sampler_state_load(sampler, buffer, bytes, error);
}

void flashinfer_sampler_destroy(flashinfer_sampler *sampler)
{
    if (sampler != NULL) flin_sampler_destroy(sampler);
}

int flashinfer_logprobs(const float *logits, size_t count, flashinfer_logprob *asked,
                        size_t asked_count, flashinfer_logprob *top, size_t top_count,
                        flashinfer_error *error)
{
    NEED(logits);
    if (asked_count != 0) NEED(asked);
    if (top_count != 0) NEED(top);
    return flin_logprobs(logits, count, asked, asked_count, top, top_count, error);
}
