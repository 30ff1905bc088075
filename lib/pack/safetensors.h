/*
 * safetensors.h - the tensors of a checkpoint, in one safetensors file or in shards.
 *
 * Owns: open files, the table of tensors, reading elements as floats. Refuses: knowing what a
 * tensor is for.
 *
 * A file is: u64 header length, JSON header {name: {dtype, shape, data_offsets}}, data. Every
 * extent is checked against the file's length, the shape and every other tensor before anything is
 * read.
 */
#ifndef FLIN_PACK_SAFETENSORS_H
#define FLIN_PACK_SAFETENSORS_H

#include <cJSON.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/error.h"

#define FLIN_SAFETENSORS_HEADER_BYTES_MAX (16u << 20)
#define FLIN_SAFETENSORS_SHARDS_MAX 1024u
#define FLIN_SAFETENSORS_DIMENSIONS_MAX 4u

enum { FLIN_SAFETENSORS_F32, FLIN_SAFETENSORS_F16, FLIN_SAFETENSORS_BF16, FLIN_SAFETENSORS_OTHER };

typedef struct flin_safetensor {
    const char *name;         /* lives in the file's header */
    const char *type_name;    /* as the header spells it */
    uint32_t type;            /* FLIN_SAFETENSORS_... */
    uint32_t dimension_count; /* 0: a scalar; FLIN_SAFETENSORS_DIMENSIONS_MAX + 1: more than that */
    uint64_t dimensions[FLIN_SAFETENSORS_DIMENSIONS_MAX]; /* slowest first, as in PyTorch */
    uint64_t offset;                                      /* bytes from the start of the file */
    uint64_t bytes;
    uint32_t file;
    uint32_t reserved;
} flin_safetensor;

typedef struct flin_safetensors_file {
    const char *name;
    int fd;
    int reserved;
    cJSON *header;
} flin_safetensors_file;

typedef struct flin_safetensors {
    cJSON *index; /* of shards; NULL for one file */
    flin_safetensors_file *files;
    uint32_t file_count;
    uint32_t tensor_count;
    uint32_t tensor_capacity;
    flin_safetensor *tensors; /* (tensor_count) sorted by name */
} flin_safetensors;

/* model.safetensors, or the shards of model.safetensors.index.json. On failure nothing stays open.
 */
int flin_safetensors_open(flin_safetensors *set, int directory, flashinfer_error *error);
void flin_safetensors_close(flin_safetensors *set); /* a zeroed set is fine */

const flin_safetensor *flin_safetensors_find(const flin_safetensors *set,
                                             const char *name); /* NULL: absent */

/* "[4096, 320]" */
void flin_safetensors_shape(const flin_safetensor *tensor, char *text, size_t capacity);

/* Elements [first, first + count) as floats. Every one must be finite and at most `limit` in
   magnitude, else FLASHINFER_ECHECKPOINT names tensor, element and file offset. The tensor's type
   is not OTHER. */
int flin_safetensors_read(const flin_safetensors *set, const flin_safetensor *tensor,
                          uint64_t first, uint32_t count, float limit, float *to,
                          flashinfer_error *error);

/* Tell the system that the whole tensor will be read soon, in small pieces. */
void flin_safetensors_expect(const flin_safetensors *set, const flin_safetensor *tensor);

#endif
