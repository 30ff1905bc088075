/*
 * absent.c - stands in for packing and for learning orders in builds made without them, so that the
 * ABI stays whole.
 */
#include "pack/order.h"
#include "pack/pack.h"

static int refuse(flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "this build of the library was made without pack; build it with "
                     "-Dpack=enabled (needs cJSON)");
}

int flin_pack(const char *checkpoint, const char *path, const flashinfer_pack_options *options,
              flashinfer_error *error)
{
    (void)checkpoint;
    (void)path;
    (void)options;
    return refuse(error);
}

int flin_order_create(uint32_t layers, uint32_t neurons, flashinfer_order **order,
                      flashinfer_error *error)
{
    (void)layers;
    (void)neurons;
    (void)order;
    return refuse(error);
}

int flin_order_add(flashinfer_order *order, const flashinfer_trace *trace, flashinfer_error *error)
{
    (void)order;
    (void)trace;
    return refuse(error);
}

void flin_order_destroy(flashinfer_order *order)
{
    (void)order;
}
