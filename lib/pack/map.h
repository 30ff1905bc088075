/*
 * map.h - what a model file will hold, and where each piece comes from.
 *
 * Owns: walking the architecture's tables: names, shapes, order in the file, keys. Refuses: bytes;
 * transfer.c works off the list.
 */
#ifndef FLIN_PACK_MAP_H
#define FLIN_PACK_MAP_H

#include <stdint.h>

#include "pack/checkpoint.h"
#include "pack/gguf_write.h"
#include "pack/source.h"

/* How rows of the checkpoint's tensor come into their order. All 0: they stay as they are. */
typedef struct flin_packing_rows {
    uint32_t of_head; /* rows of each head; 0: nothing moves */
    int halves;       /* 1: the halves of each head are interleaved */
    /* 1: the source has a block for each head of keys and values (enum flin_grouped); here come all
       queries, then keys, then values, from row `first` of that order on */
    int grouped;
    uint32_t first, queries, kv_heads; /* rows; heads of queries and of keys */
} flin_packing_rows;

/* A tensor copied element by element, or filled with one value where the checkpoint has none. */
typedef struct flin_packing_tensor {
    const flin_source_tensor *source; /* NULL: fill */
    uint64_t skip;                    /* elements at the source's start that are left out */
    uint64_t count;
    uint32_t columns; /* of a matrix; of a vector whose elements move: 1 */
    flin_packing_rows rows;
    float plus; /* added to every element */
    float fill;
    float (*make)(const flin_shape *shape, uint32_t index); /* instead of fill; or NULL */
    enum flin_type type;
    uint32_t target; /* index in the writer */
    int32_t layer;   /* -1: none */
} flin_packing_tensor;

/* The FFN of one layer. Targets are indices in the writer. */
typedef struct flin_packing_ffn {
    const flin_source_tensor *parts[FLIN_PART_ROLES]; /* down: (width, neurons), others turned */
    const flin_source_tensor *decider_bias;           /* (neurons) or NULL: zeros */
    const flin_source_tensor *norm_weight; /* (width) or NULL: ones; of the FFN's input */
    const flin_source_tensor *norm_bias;   /* (width) or NULL: zeros */
    float norm_plus;                       /* added to the weights */
    uint32_t bundle;
    uint32_t bundle_sums;
    uint32_t bundle_rows;   /* unused without an order */
    uint32_t sketch_weight; /* the three are unused without a sketch */
    uint32_t sketch_bias;
    uint32_t sketch_scale;
} flin_packing_ffn;

/* What whoever packs may choose. */
typedef struct flin_packing_choices {
    enum flin_type resident;       /* of matrices that stay in memory, a few excepted */
    enum flin_type ffn;            /* of bundles */
    uint32_t sketch_bits;          /* 0: no sketch */
    const flashinfer_order *order; /* NULL: row i of a bundle tensor is neuron i */
} flin_packing_choices;

typedef struct flin_packing {
    flin_shape shape; /* the checkpoint's, with the bundle as it will lie */
    flin_packing_choices choices;
    flin_packing_tensor *tensors; /* (tensor_count) */
    uint32_t tensor_count;
    uint32_t tensor_capacity;
    flin_packing_ffn *ffns;         /* (shape.layers) */
    const flin_source_tensor *head; /* a head that must equal the embeddings; NULL: none */
    const flin_source_tensor *embeddings;
} flin_packing;

/* Bytes from one bundle to the next: on the 4096 boundary where padding costs at most 1/8 of the
   payload, else on the 512 boundary where it costs at most 1/4, else on 64. */
uint64_t flin_packing_stride(uint64_t payload_bytes);

/* Checks every tensor for presence, shape and dtype and adds the tensors to the writer.
   flin_packing_release() the packing, also after a failure. */
int flin_packing_map(flin_packing *packing, const flin_checkpoint *checkpoint,
                     const flin_source *source, const flin_packing_choices *choices,
                     flin_gguf_writer *writer, flashinfer_error *error);
void flin_packing_release(flin_packing *packing); /* a zeroed packing is fine */

void flin_packing_put_keys(const flin_packing *packing, const flin_checkpoint *checkpoint,
                           flin_gguf_writer *writer);

#endif
