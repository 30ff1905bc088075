/*
 * config.h - keys of config.json that several families share and no table can say.
 *
 * Owns: which of them are understood. Refuses, by name, whatever is not. Builds that cannot pack
 * leave it out.
 */
#ifndef FLIN_MODEL_ARCH_CONFIG_H
#define FLIN_MODEL_ARCH_CONFIG_H

#include "model/arch/arch.h"

/* FLASHINFER_EUNSUPPORTED: config.json says what no code here computes. */
int flin_config_refuse(const char *key, const char *value, flashinfer_error *error);

/* Refuse a flag that is true, or false if only that is computed. */
int flin_config_expect(const flin_config_keys *config, const char *key, int expected,
                       flashinfer_error *error);

/* A number that may be absent: *number then stays as it is. Above `least`, below `most`. */
int flin_config_number(const flin_config_keys *config, const char *key, const char *other,
                       double least, double most, double *number, flashinfer_error *error);

/* What turns heads: rope_scaling or rope_parameters (the latter of layers of a kind, "" or
   "full_attention."), and the part of a head. `share`: of it where no key says so. */
int flin_config_rotary(const flin_config_keys *config, const char *kind, double share,
                       flin_shape *shape, flashinfer_error *error);

/* The same of whole heads: model files of some families keep a head's pairs side by side, which is
   done for whole ones. */
int flin_config_whole_rotary(const flin_config_keys *config, flin_shape *shape,
                             flashinfer_error *error);

/* layer_types, where it is given, must be what window and window_period say; without a window in
   any layer the window is taken back. */
int flin_config_layers(const flin_config_keys *config, flin_shape *shape, flashinfer_error *error);

/* The window of Qwen's models: only if use_sliding_window, and from layer max_window_layers on,
   where that is all or none. */
int flin_config_late_window(const flin_config_keys *config, flin_shape *shape,
                            flashinfer_error *error);

/* The threshold of fatrelu. */
int flin_config_threshold(const flin_config_keys *config, flin_shape *shape,
                          flashinfer_error *error);

/* What pair `index` of a head is slowed down by under FLIN_SCALING_LLAMA3. */
float flin_config_slowdown(const flin_shape *shape, uint32_t index);

#endif
