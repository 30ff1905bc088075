/*
 * absent.c - stands in for lib/pack in builds made without it, so that the ABI stays whole.
 */
#include "pack/pack.h"

int flin_pack(const char *checkpoint, const char *path, const flashinfer_pack_options *options,
              flashinfer_error *error)
{
    (void)checkpoint;
    (void)path;
    (void)options;
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "this build of the library was made without pack; build it with "
                     "-Dpack=enabled (needs cJSON)");
}
