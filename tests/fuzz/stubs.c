/*
 * stubs.c - what lib/model and lib/storage ask of parts that no fuzzer here comes to.
 */
#include "model/arch/arch.h"
#include "storage/backends.h"

int flin_arch_find(flin_string name, const flin_architecture **found, flashinfer_error *error)
{
    (void)name;
    *found = NULL;
    return flin_fail(error, FLASHINFER_EUNSUPPORTED, "a model, not a vocabulary");
}

int flin_lanes_open_host(flin_storage *storage, const flashinfer_storage_ops *host,
                         const flashinfer_storage_caps *caps, const flin_storage_config *config,
                         flashinfer_error *error)
{
    (void)storage;
    (void)host;
    (void)caps;
    (void)config;
    return flin_fail(error, FLASHINFER_EUNSUPPORTED, "no storage of a host here");
}
