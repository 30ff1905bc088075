/*
 * plain_absent.c - stands in for plain.c in builds made without plain files, which gguf.c refuses.
 */
#include "model/plain.h"

int flin_plain_activation(uint32_t number, float threshold, flin_activation_rule *activation,
                          flashinfer_error *error)
{
    (void)number;
    (void)threshold;
    (void)activation;
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "options.ffn_activation is for GGUF files that are not in flash layout: this "
                     "build of the library was made without those; build it with -Dplain=enabled");
}

int flin_plain_settle(const flin_gguf *gguf, flin_shape *shape, const flin_activation_rule *wanted,
                      flashinfer_error *error)
{
    (void)gguf;
    (void)shape;
    (void)wanted;
    (void)error;
    return FLASHINFER_EUNSUPPORTED;
}
