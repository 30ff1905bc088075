/*
 * shape.h - what the engine needs to know about a model: its dimensions, its variants, the inner
 * layout of a bundle.
 *
 * Owns: reading them from metadata, one descriptor per architecture. Refuses: weights.
 */
#ifndef FLIN_MODEL_SHAPE_H
#define FLIN_MODEL_SHAPE_H

#include "kernels/kernels.h"
#include "model/gguf.h"

enum { FLIN_PART_UP = 0, FLIN_PART_DOWN = 1, FLIN_PARTS_MAX = 3 };

/* One part of a bundle: a row of the up matrix, or a column of the down matrix. */
typedef struct flin_part {
    uint32_t offset_bytes; /* from the start of the bundle */
    uint32_t bytes;
    enum flin_type type;
} flin_part;

typedef struct flin_shape {
    const char *architecture;
    uint32_t layers;
    uint32_t width;       /* d: residual stream */
    uint32_t token_width; /* of token embeddings; projected to `width` when it differs (OPT-350m) */
    uint32_t ffn;         /* neurons per layer */
    uint32_t heads;
    uint32_t head_width;
    uint32_t vocab;
    uint32_t context;
    uint32_t norm_before; /* 1: pre-norm blocks; 0: post-norm (OPT-350m) */
    uint32_t final_norm;  /* 1: a norm before the logits */
    float norm_epsilon;

    uint32_t ordered; /* 1: blk.N.ffn_bundle.rows says where bundles lie; 0: in neuron order */
    uint32_t part_count;
    flin_part parts[FLIN_PARTS_MAX];
    uint32_t payload_bytes; /* of a bundle: its parts */
    uint32_t stride_bytes;  /* from one bundle to the next */
} flin_shape;

/* One architecture: its name in general.architecture and how its metadata becomes a shape. */
typedef struct flin_architecture {
    const char *name;
    int (*read_shape)(const flin_gguf *gguf, flin_shape *shape, flashinfer_error *error);
} flin_architecture;

extern const flin_architecture flin_architecture_opt;

/* Find the architecture, read its shape and the bundle layout; every number is checked for
   sense. */
int flin_shape_read(const flin_gguf *gguf, flin_shape *shape, flashinfer_error *error);

/* A metadata number of at most 32 bits within [least, most]. */
int flin_shape_number(const flin_gguf *gguf, const char *key, uint32_t least, uint32_t most,
                      uint32_t *number, flashinfer_error *error);

/* The kernel type of a GGUF tensor type, of rows `cols` long; FLASHINFER_EUNSUPPORTED naming
   `what` if there is none, FLASHINFER_EFORMAT if they are no whole number of blocks. */
int flin_type_from_gguf(uint64_t gguf_type, const char *what, uint32_t cols, enum flin_type *type,
                        flashinfer_error *error);

/* One type under its three names. */
uint32_t flin_type_to_gguf(enum flin_type type);
uint32_t flin_type_to_dtype(enum flin_type type);               /* FLASHINFER_DTYPE_... */
int flin_type_from_dtype(uint32_t dtype, enum flin_type *type); /* 0 for an unknown number */
const char *flin_type_name(enum flin_type type);                /* "f32", "q8_0" */

#endif
