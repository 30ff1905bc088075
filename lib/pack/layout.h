/*
 * layout.h - what a model file will hold and where each piece comes from.
 *
 * Owns: the list an architecture fills in and transfer.c works off. Refuses: bytes.
 */
#ifndef FLIN_PACK_LAYOUT_H
#define FLIN_PACK_LAYOUT_H

#include <stdint.h>

#include "kernels/kernels.h"
#include "pack/safetensors.h"

/* A tensor copied element by element, or filled with one value where the checkpoint has none. */
typedef struct flin_layout_tensor {
    const flin_safetensor *source; /* NULL: fill */
    uint64_t skip;                 /* elements at the source's start that are left out */
    uint64_t count;
    float fill;
    enum flin_type type;
    uint32_t target; /* index in the writer */
    int32_t layer;   /* -1: none */
} flin_layout_tensor;

/* The FFN of one layer. Targets are indices in the writer. */
typedef struct flin_layout_ffn {
    const flin_safetensor *up;          /* (neurons, width) */
    const flin_safetensor *down;        /* (width, neurons) */
    const flin_safetensor *up_bias;     /* (neurons) or NULL: zeros */
    const flin_safetensor *norm_weight; /* (width) or NULL: ones; of the norm before the FFN */
    const flin_safetensor *norm_bias;   /* (width) or NULL: zeros */
    uint32_t bundle;
    uint32_t bundle_sums;
    uint32_t bundle_rows;   /* unused without an order */
    uint32_t sketch_weight; /* the three are unused without a sketch */
    uint32_t sketch_bias;
    uint32_t sketch_scale;
} flin_layout_ffn;

/* What whoever packs may choose. */
typedef struct flin_layout_choices {
    enum flin_type resident;       /* of matrices that stay in memory, positions excepted */
    enum flin_type ffn;            /* of bundles */
    uint32_t sketch_bits;          /* 0: no sketch */
    const flashinfer_order *order; /* NULL: row i of a bundle tensor is neuron i */
} flin_layout_choices;

typedef struct flin_layout {
    flin_layout_tensor *tensors; /* (tensor_count) */
    uint32_t tensor_count;
    uint32_t tensor_capacity;
    flin_layout_ffn *ffns; /* (layer_count) */
    uint32_t layer_count;
    uint32_t width;
    uint32_t neuron_count;
    flin_layout_choices choices;
    uint64_t part_bytes; /* of the up row, and of the down column */
    uint64_t stride_bytes;
    const flin_safetensor
        *head; /* a head that must equal the embeddings; NULL: nothing to compare */
    const flin_safetensor *embeddings;
} flin_layout;

enum { FLIN_LAYOUT_PARTS = 2 }; /* up, down */

/* Bytes from one bundle to the next: on the 4096 boundary where padding costs at most 1/8 of the
   payload, else on the 512 boundary where it costs at most 1/4, else on 64. */
uint64_t flin_layout_stride(uint64_t payload_bytes);

#endif
