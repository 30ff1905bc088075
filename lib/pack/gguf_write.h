/*
 * gguf_write.h - writing a GGUF v3 file: metadata and tensor table first, then tensors at places
 * known beforehand.
 *
 * Owns: the header, offsets, the checksum tensor. Refuses: knowing what a tensor holds, and how the
 * file gets its name (util/partial_file.h). Data is never buffered here.
 *
 *     flin_gguf_writer_begin(&writer);
 *     flin_gguf_put_...(); flin_gguf_add_tensor(); ...     memory failures are remembered
 *     flin_gguf_writer_create(&writer, path, error);       sizes are fixed; the disk must have room
 *     flin_gguf_write_begin(); flin_gguf_write(); ... flin_gguf_write_end();      every tensor
 * once, any order flin_gguf_writer_finish(&writer, error);             sums, header, fsync, rename,
 * fsync flin_gguf_writer_close(&writer);                     always; removes what was not finished
 */
#ifndef FLIN_PACK_GGUF_WRITE_H
#define FLIN_PACK_GGUF_WRITE_H

#include <stdint.h>

#include "util/error.h"
#include "util/hash.h"
#include "util/partial_file.h"

#define FLIN_GGUF_NAME_BYTES 64u /* longest tensor name GGUF allows, its zero included */

typedef struct flin_gguf_out {
    char name[FLIN_GGUF_NAME_BYTES];
    uint32_t type;
    uint32_t dimension_count;
    uint64_t dimensions[4]; /* fastest first */
    uint64_t bytes;
    uint64_t offset; /* from the start of the file */
    uint64_t sum;    /* XXH3-64, known once the tensor is written */
} flin_gguf_out;

typedef struct flin_gguf_writer {
    uint8_t *header; /* metadata until create(), then the whole header */
    uint64_t header_bytes;
    uint64_t header_capacity;
    uint64_t value_count;
    flin_gguf_out *tensors; /* (tensor_count) in file order */
    uint32_t tensor_count;
    uint32_t tensor_capacity;
    int failed; /* memory ran out while collecting */
    flin_partial file;
    char *path;
    uint64_t file_bytes;
    uint32_t current;  /* tensor being written */
    int summing;       /* its checksum is made from the bytes that pass */
    uint64_t position; /* bytes of it written */
    flin_hash_stream hash;
} flin_gguf_writer;

void flin_gguf_writer_begin(flin_gguf_writer *writer);

void flin_gguf_put_u32(flin_gguf_writer *writer, const char *key, uint32_t value);
void flin_gguf_put_u64(flin_gguf_writer *writer, const char *key, uint64_t value);
void flin_gguf_put_f32(flin_gguf_writer *writer, const char *key, float value);
void flin_gguf_put_bool(flin_gguf_writer *writer, const char *key, int value);
void flin_gguf_put_string(flin_gguf_writer *writer, const char *key, const char *value);

/* data: (count) elements of a fixed-size type of `element_bytes` */
void flin_gguf_put_array(flin_gguf_writer *writer, const char *key, uint32_t type, uint64_t count,
                         const void *data, uint32_t element_bytes);

/* Followed by exactly count calls of flin_gguf_put_item(), which adds the pieces as one string. */
void flin_gguf_put_string_array(flin_gguf_writer *writer, const char *key, uint64_t count);
void flin_gguf_put_item(flin_gguf_writer *writer, const char *const *pieces,
                        const size_t *piece_bytes, uint32_t piece_count);

/* Returns its index. Types: F32, F16, I8, I32, I64. rows 0 makes a vector of `columns`. */
uint32_t flin_gguf_add_tensor(flin_gguf_writer *writer, const char *name, uint32_t type,
                              uint64_t columns, uint64_t rows);

/* Add the sums tensor, fix every offset, create the temporary file beside path at its full length.
 */
int flin_gguf_writer_create(flin_gguf_writer *writer, const char *path, flashinfer_error *error);

/* One tensor front to back. The sum is made on the way, unless `summing` is 0: then the caller sets
   writer->tensors[tensor].sum itself. */
void flin_gguf_write_begin(flin_gguf_writer *writer, uint32_t tensor, int summing);
int flin_gguf_write(flin_gguf_writer *writer, const void *data, uint64_t bytes,
                    flashinfer_error *error);
/* Out of order, only without summing: what lies at `offset` of the tensor. */
int flin_gguf_write_at(flin_gguf_writer *writer, const void *data, uint64_t bytes, uint64_t offset,
                       flashinfer_error *error);
void flin_gguf_write_end(flin_gguf_writer *writer);

int flin_gguf_writer_finish(flin_gguf_writer *writer, flashinfer_error *error);

void flin_gguf_writer_close(flin_gguf_writer *writer);

#endif
