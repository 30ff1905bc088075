/*
 * transfer.h - moving weights from a checkpoint into a model file, a bounded piece at a time.
 *
 * Owns: the buffers (about 15 MiB whatever the model, besides one layer's checksums), conversion,
 * transposing, bundling, progress. Refuses: names, shapes, keys: the map settled them.
 */
#ifndef FLIN_PACK_TRANSFER_H
#define FLIN_PACK_TRANSFER_H

#include "pack/gguf_write.h"
#include "pack/map.h"

typedef struct flin_transfer {
    const flin_source *source;
    const flin_packing *packing;
    flin_gguf_writer *writer;
    const flashinfer_pack_options *options;
    uint64_t done_bytes;
    uint64_t total_bytes;
    const flin_kernels *kernels; /* for rounding: the same bits in every table */
    float limit;                 /* largest magnitude the bundles' type holds */
    uint32_t floats_max;         /* elements of floats */
    uint32_t bytes_max;          /* bytes of bytes */
    uint32_t tile_max;           /* neurons of tile */
    float *floats;               /* (floats_max) as read */
    uint8_t *bytes;              /* (bytes_max) as written */
    uint8_t *tile;               /* (tile_max, width) down columns, in the file's type */
    uint64_t *sums;              /* (neurons, parts) of the current layer, in rows' order */
    uint32_t *rows;              /* (neurons) row of each neuron's bundle */
    float *decider_bias;         /* (neurons) */
    float *sketch_bias;          /* (neurons) */
    float *norm_weight;          /* (width) */
    float *norm_bias;            /* (width) */
} flin_transfer;

/* The writer is created: sizes are final. */
int flin_transfer_open(flin_transfer *transfer, const flin_source *source,
                       const flin_packing *packing, flin_gguf_writer *writer,
                       const flashinfer_pack_options *options, flashinfer_error *error);
void flin_transfer_close(flin_transfer *transfer); /* a zeroed transfer is fine */

/* A tied checkpoint's spare head must be its embeddings again. */
int flin_transfer_check_head(flin_transfer *transfer, flashinfer_error *error);

int flin_transfer_tensor(flin_transfer *transfer, const flin_packing_tensor *tensor,
                         flashinfer_error *error);
int flin_transfer_sketch(flin_transfer *transfer, uint32_t layer, flashinfer_error *error);
int flin_transfer_bundles(flin_transfer *transfer, uint32_t layer, flashinfer_error *error);

/* Report progress; FLASHINFER_ECANCELED if the caller wants to stop. */
int flin_transfer_tick(flin_transfer *transfer, uint64_t more_bytes, flashinfer_error *error);

#endif
