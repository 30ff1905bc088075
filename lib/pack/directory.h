/*
 * directory.h - what was given as a checkpoint: its directory, or an error that says what it is
 * instead.
 */
#ifndef FLIN_PACK_DIRECTORY_H
#define FLIN_PACK_DIRECTORY_H

#include "util/error.h"

/* Open it for reading. Refuses what has no config.json, by what it has. */
int flin_directory_open(const char *path, int *directory, flashinfer_error *error);

/* It has no safetensors files: say which other weights it has. */
int flin_directory_refuse_weights(int directory, flashinfer_error *error);

#endif
