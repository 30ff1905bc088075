/*
 * pack.h - a checkpoint becomes a model file in flash layout.
 *
 * Owns: the order of events. Refuses: options of another size than this header's (lib/api.c copies
 * them).
 */
#ifndef FLIN_PACK_PACK_H
#define FLIN_PACK_PACK_H

#include "util/error.h"

/* As flashinfer_pack(). options: complete, not NULL. */
int flin_pack(const char *checkpoint, const char *path, const flashinfer_pack_options *options,
              flashinfer_error *error);

#endif
