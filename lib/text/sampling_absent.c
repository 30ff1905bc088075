/*
 * sampling_absent.c - stands in for samplers and log probabilities in builds made without them, so
 * that the ABI stays whole.
 */
#include "text/logprobs.h"
#include "text/sampler.h"

static int refuse(flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "this build of the library was made without sampling; build it with "
                     "-Dsampling=enabled");
}

int flin_sampler_create(const flashinfer_sampler_options *options, size_t vocab_count,
                        flashinfer_sampler **sampler, flashinfer_error *error)
{
    (void)options;
    (void)vocab_count;
    (void)sampler;
    return refuse(error);
}

int flin_sampler_copy(const flashinfer_sampler *sampler, flashinfer_sampler **copy,
                      flashinfer_error *error)
{
    (void)sampler;
    (void)copy;
    return refuse(error);
}

int flin_sampler_sample(flashinfer_sampler *sampler, const float *logits, size_t count,
                        int32_t *token, flashinfer_error *error)
{
    (void)sampler;
    (void)logits;
    (void)count;
    (void)token;
    return refuse(error);
}

int flin_sampler_accept(flashinfer_sampler *sampler, int32_t token, flashinfer_error *error)
{
    (void)sampler;
    (void)token;
    return refuse(error);
}

int flin_sampler_state_save(const flashinfer_sampler *sampler, void *buffer, size_t capacity,
                            size_t *written, flashinfer_error *error)
{
    (void)sampler;
    (void)buffer;
    (void)capacity;
    (void)written;
    return refuse(error);
}

int flin_sampler_state_load(flashinfer_sampler *sampler, const void *buffer, size_t bytes,
                            flashinfer_error *error)
{
    (void)sampler;
    (void)buffer;
    (void)bytes;
    return refuse(error);
}

void flin_sampler_destroy(flashinfer_sampler *sampler)
{
    (void)sampler;
}

int flin_logprobs(const float *logits, size_t count, flashinfer_logprob *asked, size_t asked_count,
                  flashinfer_logprob *top, size_t top_count, flashinfer_error *error)
{
    (void)logits;
    (void)count;
    (void)asked;
    (void)asked_count;
    (void)top;
    (void)top_count;
    return refuse(error);
}
