/*
 * source.h - where packing takes tensors from: a table by name, and elements as floats.
 *
 * Owns: the form of what any source says. Refuses: knowing what a tensor is for. safetensors.h is
 * one source.
 */
#ifndef FLIN_PACK_SOURCE_H
#define FLIN_PACK_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define FLIN_SOURCE_DIMENSIONS_MAX 4u

typedef struct flin_source_tensor {
    const char *name;
    const char *type_name;    /* as the source spells it */
    uint32_t readable;        /* 1: read() knows its type */
    uint32_t dimension_count; /* 0: a scalar; FLIN_SOURCE_DIMENSIONS_MAX + 1: more than that */
    uint64_t dimensions[FLIN_SOURCE_DIMENSIONS_MAX]; /* slowest first, as in PyTorch */
} flin_source_tensor;

/* The first member of every source. */
typedef struct flin_source flin_source;
struct flin_source {
    const flin_source_tensor *(*find)(const flin_source *source,
                                      const char *name); /* NULL: absent */
    /* Elements [first, first + count) as floats. Every one must be finite and at most `limit` in
       magnitude, else FLASHINFER_ECHECKPOINT names tensor, element and file offset. The tensor is
       readable. */
    int (*read)(const flin_source *source, const flin_source_tensor *tensor, uint64_t first,
                uint32_t count, float limit, float *to, flashinfer_error *error);
    /* The whole tensor will be read soon, in small pieces. */
    void (*expect)(const flin_source *source, const flin_source_tensor *tensor);
};

/* "[4096, 320]" */
void flin_source_shape(const flin_source_tensor *tensor, char *text, size_t capacity);

/* Where element `index` lies, as "[row, column]". */
void flin_source_element(const flin_source_tensor *tensor, uint64_t index, char *text,
                         size_t capacity);

#endif
