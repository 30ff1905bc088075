/*
 * keep.h - deciding matrix rows that exact mode keeps in memory, read out of their bundles.
 */
#ifndef FLIN_ENGINE_KEEP_H
#define FLIN_ENGINE_KEEP_H

#include "engine/compute.h"
#include "engine/stream.h"
#include "predictor/predictor.h"

/* Where bundles come from while no pass runs. */
typedef struct flin_keeper {
    flin_compute *compute;
    flin_fetcher *fetcher;
    flin_stream *stream;
    const flin_part *part; /* the deciding one */
} flin_keeper;

/* Keep the matrix rows of a layer's first `count` neurons; new ones are read. whole: all of its
   bundles. On failure there are no more than there were. */
int flin_keep_resize(const flin_keeper *keeper, flin_kept *kept, const flin_extent *whole,
                     uint32_t count, flashinfer_error *error);

#endif
