/*
 * gguf_write.c - the writer's memory, file and checksums.
 *
 * Everything in a GGUF file is little-endian; so are the machines this library is built for.
 */
#define _GNU_SOURCE
#include "pack/gguf_write.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "numbers are written as they lie in memory");

#define FIXED_BYTES 24u /* magic, version, tensor count, value count */

/* ------------------------------------------------------------------------------------- metadata */

void flin_gguf_writer_begin(flin_gguf_writer *writer)
{
    memset(writer, 0, sizeof *writer);
    flin_partial_init(&writer->file);
    writer->header_bytes = FIXED_BYTES; /* filled by create() */
}

static void add(flin_gguf_writer *writer, const void *data, uint64_t bytes)
{
    uint64_t needed = writer->header_bytes + bytes;

    if (writer->failed) return;
    if (needed > writer->header_capacity) {
        uint64_t capacity = needed < 65536 ? 65536 : needed + needed / 2;
        uint8_t *grown = realloc(writer->header, (size_t)capacity);
        if (grown == NULL) {
            writer->failed = 1;
            return;
        }
        if (writer->header == NULL) memset(grown, 0, FIXED_BYTES);
        writer->header = grown;
        writer->header_capacity = capacity;
    }
    memcpy(writer->header + writer->header_bytes, data, (size_t)bytes);
    writer->header_bytes = needed;
}

static void add_u32(flin_gguf_writer *writer, uint32_t value)
{
    add(writer, &value, sizeof value);
}

static void add_u64(flin_gguf_writer *writer, uint64_t value)
{
    add(writer, &value, sizeof value);
}

static void add_text(flin_gguf_writer *writer, const char *text)
{
    add_u64(writer, strlen(text));
    add(writer, text, strlen(text));
}

static void begin_value(flin_gguf_writer *writer, const char *key, uint32_t type)
{
    add_text(writer, key);
    add_u32(writer, type);
    writer->value_count++;
}

void flin_gguf_put_u32(flin_gguf_writer *writer, const char *key, uint32_t value)
{
    begin_value(writer, key, FLIN_GGUF_VALUE_U32);
    add_u32(writer, value);
}

void flin_gguf_put_u64(flin_gguf_writer *writer, const char *key, uint64_t value)
{
    begin_value(writer, key, FLIN_GGUF_VALUE_U64);
    add_u64(writer, value);
}

void flin_gguf_put_f32(flin_gguf_writer *writer, const char *key, float value)
{
    begin_value(writer, key, FLIN_GGUF_VALUE_F32);
    add(writer, &value, sizeof value);
}

void flin_gguf_put_bool(flin_gguf_writer *writer, const char *key, int value)
{
    uint8_t byte = value != 0;

    begin_value(writer, key, FLIN_GGUF_VALUE_BOOL);
    add(writer, &byte, sizeof byte);
}

void flin_gguf_put_string(flin_gguf_writer *writer, const char *key, const char *value)
{
    begin_value(writer, key, FLIN_GGUF_VALUE_STRING);
    add_text(writer, value);
}

void flin_gguf_put_array(flin_gguf_writer *writer, const char *key, uint32_t type, uint64_t count,
                         const void *data, uint32_t element_bytes)
{
    begin_value(writer, key, FLIN_GGUF_VALUE_ARRAY);
    add_u32(writer, type);
    add_u64(writer, count);
    add(writer, data, count * element_bytes);
}

void flin_gguf_put_string_array(flin_gguf_writer *writer, const char *key, uint64_t count)
{
    begin_value(writer, key, FLIN_GGUF_VALUE_ARRAY);
    add_u32(writer, FLIN_GGUF_VALUE_STRING);
    add_u64(writer, count);
}

void flin_gguf_put_item(flin_gguf_writer *writer, const char *const *pieces,
                        const size_t *piece_bytes, uint32_t piece_count)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < piece_count; i++) bytes += piece_bytes[i];
    add_u64(writer, bytes);
    for (uint32_t i = 0; i < piece_count; i++) add(writer, pieces[i], piece_bytes[i]);
}

/* -------------------------------------------------------------------------------------- tensors */

/* columns: whole blocks */
static uint64_t row_bytes_of(uint32_t type, uint64_t columns)
{
    uint64_t bytes = 0, elements = 1;
    int known = flin_gguf_type_size(type, &bytes, &elements);

    assert(known && columns % elements == 0);
    (void)known;
    return columns / elements * bytes;
}

uint32_t flin_gguf_add_tensor(flin_gguf_writer *writer, const char *name, uint32_t type,
                              uint64_t columns, uint64_t rows)
{
    flin_gguf_out *tensor;

    if (writer->tensor_count == writer->tensor_capacity && !writer->failed) {
        uint32_t capacity = writer->tensor_capacity == 0 ? 256 : writer->tensor_capacity * 2;
        flin_gguf_out *grown = realloc(writer->tensors, capacity * sizeof *grown);
        if (grown == NULL) {
            writer->failed = 1;
        } else {
            writer->tensors = grown;
            writer->tensor_capacity = capacity;
        }
    }
    if (writer->failed) return 0;
    assert(strlen(name) < FLIN_GGUF_NAME_BYTES && writer->tensor_count < FLIN_GGUF_ENTRIES_MAX);
    tensor = &writer->tensors[writer->tensor_count];
    memset(tensor, 0, sizeof *tensor);
    memcpy(tensor->name, name, strlen(name));
    tensor->type = type;
    tensor->dimension_count = rows == 0 ? 1 : 2;
    tensor->dimensions[0] = columns;
    tensor->dimensions[1] = rows == 0 ? 1 : rows;
    tensor->bytes = row_bytes_of(type, columns) * tensor->dimensions[1];
    return writer->tensor_count++;
}

/* The tensor table ends the header; the first tensor starts on the next boundary. */
static void lay_out(flin_gguf_writer *writer)
{
    uint64_t data_offset, offset = 0;
    uint32_t magic = FLIN_GGUF_MAGIC;
    uint32_t version = FLIN_GGUF_VERSION;
    uint64_t tensor_count = writer->tensor_count;

    for (uint32_t i = 0; i < writer->tensor_count; i++) {
        flin_gguf_out *tensor = &writer->tensors[i];
        add_text(writer, tensor->name);
        add_u32(writer, tensor->dimension_count);
        add(writer, tensor->dimensions, tensor->dimension_count * sizeof(uint64_t));
        add_u32(writer, tensor->type);
        add_u64(writer, offset);
        tensor->offset = offset;
        offset = flin_round_up(offset + tensor->bytes, FLIN_GGUF_ALIGNMENT);
    }
    if (writer->failed) return;
    memcpy(writer->header, &magic, 4);
    memcpy(writer->header + 4, &version, 4);
    memcpy(writer->header + 8, &tensor_count, 8);
    memcpy(writer->header + 16, &writer->value_count, 8);
    data_offset = flin_round_up(writer->header_bytes, FLIN_GGUF_ALIGNMENT);
    for (uint32_t i = 0; i < writer->tensor_count; i++) writer->tensors[i].offset += data_offset;
    writer->file_bytes = data_offset + offset;
}

/* ------------------------------------------------------------------------------------- the file */

int flin_gguf_writer_create(flin_gguf_writer *writer, const char *path, flashinfer_error *error)
{
    (void)flin_gguf_add_tensor(writer, FLIN_SUMS_TENSOR, FLIN_GGUF_I64,
                               (uint64_t)writer->tensor_count + 2, 0);
    lay_out(writer);
    writer->path = strdup(path);
    if (writer->failed || writer->path == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for the header of the model file");
    if (writer->header_bytes > FLIN_GGUF_HEADER_BYTES_MAX)
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         "the header of the model file would be %llu bytes long (at most %u)",
                         (unsigned long long)writer->header_bytes, FLIN_GGUF_HEADER_BYTES_MAX);
    return flin_partial_open(&writer->file, writer->path, writer->file_bytes, error);
}

void flin_gguf_write_begin(flin_gguf_writer *writer, uint32_t tensor, int summing)
{
    assert(tensor < writer->tensor_count);
    writer->current = tensor;
    writer->summing = summing;
    writer->position = 0;
    if (summing) flin_hash_begin(&writer->hash);
}

int flin_gguf_write(flin_gguf_writer *writer, const void *data, uint64_t bytes,
                    flashinfer_error *error)
{
    const flin_gguf_out *tensor = &writer->tensors[writer->current];
    int code;

    assert(writer->position + bytes <= tensor->bytes);
    if (writer->summing) flin_hash_add(&writer->hash, data, (size_t)bytes);
    code = flin_partial_write(&writer->file, data, bytes, tensor->offset + writer->position, error);
    writer->position += bytes;
    return code;
}

int flin_gguf_write_at(flin_gguf_writer *writer, const void *data, uint64_t bytes, uint64_t offset,
                       flashinfer_error *error)
{
    const flin_gguf_out *tensor = &writer->tensors[writer->current];

    assert(!writer->summing && offset + bytes <= tensor->bytes);
    writer->position += bytes;
    return flin_partial_write(&writer->file, data, bytes, tensor->offset + offset, error);
}

void flin_gguf_write_end(flin_gguf_writer *writer)
{
    assert(writer->position == writer->tensors[writer->current].bytes);
    if (writer->summing) writer->tensors[writer->current].sum = flin_hash_end(&writer->hash);
}

/* (1 + tensor_count): the header's sum, every tensor's, and last the sum of those before it. */
static int write_sums(flin_gguf_writer *writer, flashinfer_error *error)
{
    uint32_t count = writer->tensor_count;
    uint64_t *sums = malloc(((size_t)count + 1) * sizeof *sums);
    int code;

    if (sums == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for %u checksums", count);
    sums[0] = flin_hash(writer->header, (size_t)writer->header_bytes);
    for (uint32_t i = 0; i + 1 < count; i++) sums[1 + i] = writer->tensors[i].sum;
    sums[count] = flin_hash(sums, (size_t)count * sizeof *sums);
    flin_gguf_write_begin(writer, count - 1, 0);
    code = flin_gguf_write(writer, sums, ((uint64_t)count + 1) * sizeof *sums, error);
    flin_gguf_write_end(writer);
    free(sums);
    return code;
}

int flin_gguf_writer_finish(flin_gguf_writer *writer, flashinfer_error *error)
{
    int code = write_sums(writer, error);

    if (code == 0)
        code = flin_partial_write(&writer->file, writer->header, writer->header_bytes, 0, error);
    return code != 0 ? code : flin_partial_finish(&writer->file, error);
}

void flin_gguf_writer_close(flin_gguf_writer *writer)
{
    flin_partial_close(&writer->file);
    free(writer->path);
    free(writer->header);
    free(writer->tensors);
    memset(writer, 0, sizeof *writer);
    flin_partial_init(&writer->file);
}
