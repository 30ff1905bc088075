/*
 * opt.h - OPT: which tensors a checkpoint must have and what they are called in a model file.
 *
 * Owns: names, shapes, order in the file, the opt.* and flashinfer.* keys. Refuses: bytes.
 */
#ifndef FLIN_PACK_OPT_H
#define FLIN_PACK_OPT_H

#include "pack/config.h"
#include "pack/gguf_write.h"
#include "pack/layout.h"

/* Checks every tensor for presence, shape and
   dtype and adds the tensors to the writer. flin_opt_release() the layout, also after a failure. */
int flin_opt_lay_out(flin_layout *layout, const flin_config *config, const flin_safetensors *set,
                     const flin_layout_choices *choices, flin_gguf_writer *writer,
                     flashinfer_error *error);
void flin_opt_release(flin_layout *layout);

void flin_opt_put_keys(const flin_layout *layout, const flin_config *config,
                       flin_gguf_writer *writer);

#endif
