/*
 * safetensors.h - the tensors of a checkpoint, in one safetensors file or in shards.
 *
 * Owns: open files, the table of tensors, reading elements as floats: a flin_source. Refuses:
 * knowing what a tensor is for.
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

#include "pack/source.h"

#define FLIN_SAFETENSORS_HEADER_BYTES_MAX (16u << 20)
#define FLIN_SAFETENSORS_SHARDS_MAX 1024u

enum { FLIN_SAFETENSORS_F32, FLIN_SAFETENSORS_F16, FLIN_SAFETENSORS_BF16, FLIN_SAFETENSORS_OTHER };

typedef struct flin_safetensor {
    flin_source_tensor base; /* its texts live in the file's header */
    uint32_t type;           /* FLIN_SAFETENSORS_... */
    uint32_t file;
    uint64_t offset; /* bytes from the start of the file */
    uint64_t bytes;
} flin_safetensor;

typedef struct flin_safetensors_file {
    const char *name;
    int fd;
    int reserved;
    cJSON *header;
} flin_safetensors_file;

typedef struct flin_safetensors {
    flin_source source;
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

#endif
