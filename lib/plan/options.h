/*
 * options.h - what the host asked for, with every default resolved against the file.
 */
#ifndef FLIN_PLAN_OPTIONS_H
#define FLIN_PLAN_OPTIONS_H

#include "engine/state.h"

/* Callbacks, before anything can fail. */
void flin_settings_begin(flin_settings *settings, const flashinfer_options *options);

/* Check options and resolve defaults against the file; predictors: the one that holds the
   predictors. */
int flin_settings_resolve(flin_settings *settings, const flashinfer_options *options,
                          const flin_gguf *predictors, const flin_shape *shape, uint64_t file_bytes,
                          flashinfer_error *error);

#endif
