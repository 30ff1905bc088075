/*
 * open.h - opening a model step by step, changing its budget, closing it.
 */
#ifndef FLIN_PLAN_OPEN_H
#define FLIN_PLAN_OPEN_H

#include "engine/state.h"

/* An empty handle; the caller opens handle->storage, which must not move afterwards, then one of
   the two that follow. Whatever fails, flin_model_close() releases what there is. */
int flin_model_create(const flashinfer_options *options, flashinfer_model **created,
                      flashinfer_error *error);
int flin_model_open(flashinfer_model *model, const flashinfer_options *options,
                    flashinfer_error *error);
int flin_model_plan_only(flashinfer_model *model, const flashinfer_options *options,
                         flashinfer_plan *plan, flashinfer_error *error);
void flin_model_close(flashinfer_model *model);

int flin_model_set_budget(flashinfer_model *model, uint64_t budget_bytes, flashinfer_error *error);

/* One part (FLIN_PART_...) of neurons [first, first + count) of a layer from the file as floats,
   (count, width), past the cache. */
int flin_model_part(flashinfer_model *model, uint32_t layer, uint32_t role, uint32_t first,
                    uint32_t count, float *to, flashinfer_error *error);

/* Compare every checksum of the file. */
int flin_model_verify(flashinfer_model *model, flashinfer_error *error);

#endif
