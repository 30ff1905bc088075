/*
 * verify.h - every checksum of the file.
 */
#ifndef FLIN_ENGINE_VERIFY_H
#define FLIN_ENGINE_VERIFY_H

#include "engine/state.h"

/* Bytes model->verify needs: a run of bundles with their checksums. */
uint32_t flin_verify_bytes(const flin_shape *shape);

/* Read the whole file and compare every checksum. Needs storage, gguf and model->verify only. */
int flin_verify(flashinfer_model *model, flashinfer_error *error);

#endif
