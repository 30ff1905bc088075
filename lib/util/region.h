/*
 * region.h - addresses for more than there is memory for: pieces at fixed places, each of which
 * grows and shrinks at its end without moving.
 *
 * Owns: mapping. Refuses: knowing what lies there.
 */
#ifndef FLIN_UTIL_REGION_H
#define FLIN_UTIL_REGION_H

#include <stdint.h>

#include "util/error.h"

typedef struct flin_region {
    uint8_t *base; /* NULL: none */
    uint64_t bytes;
} flin_region;

/* Reserve addresses, which take no memory. what names them in the error text. */
int flin_region_open(flin_region *region, uint64_t bytes, const char *what,
                     flashinfer_error *error);

/* Have memory for [begin, to) where there was for [begin, from): begin is a multiple of the page,
   the ends are rounded up to it. Growing can fail; what was there is then as before. */
int flin_region_resize(flin_region *region, uint64_t begin, uint64_t from, uint64_t to,
                       const char *what, flashinfer_error *error);

void flin_region_close(flin_region *region); /* a zeroed or closed one is fine */

#endif
