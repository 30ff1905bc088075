/*
 * verify.c - checks a model's file against its checksums, with the model's buffer and progress.
 */
#include "model/verify.h"

#include "engine/model.h"

static int tell(uint64_t done_bytes, uint64_t total_bytes, void *user, flashinfer_error *error)
{
    return flin_model_progress(user, "verify", done_bytes, total_bytes, error);
}

int flin_verify(flashinfer_model *model, flashinfer_error *error)
{
    const flin_verification in = {.storage = &model->storage,
                                  .gguf = &model->gguf,
                                  .shape = &model->shape,
                                  .buffer = model->scratch.verify,
                                  .buffer_bytes = model->verify_bytes,
                                  .progress = tell,
                                  .user = model};

    return flin_verify_file(&in, error);
}
