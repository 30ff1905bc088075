/*
 * verify.c - see verify.h.
 */
#include "model/verify.h"

#include <stdio.h>
#include <string.h>

#include "model/names.h"
#include "util/hash.h"

#define BUFFER_BYTES (256u * 1024u)
#define SUMS_BYTES                                                                                 \
    (16u * 1024u) /* first part of the buffer: checksums of the bundles that follow */

uint32_t flin_verify_bytes(const flin_shape *shape)
{
    uint64_t bytes = SUMS_BYTES + flin_round_up(shape->bundle.stride_bytes, FLIN_PAGE_BYTES);
    return bytes > BUFFER_BYTES ? (uint32_t)bytes : BUFFER_BYTES;
}

static int damaged(const flin_gguf_tensor *tensor, int layer, int64_t neuron, uint64_t offset,
                   flashinfer_error *error)
{
    if (neuron < 0)
        return flin_fail_at(error, FLASHINFER_ECORRUPT, layer, neuron, (int64_t)offset,
                            "tensor %.*s at byte %llu does not match its checksum: the file is "
                            "damaged, copy or pack "
                            "it again",
                            (int)tensor->name.bytes, tensor->name.data, (unsigned long long)offset);
    return flin_fail_at(
        error, FLASHINFER_ECORRUPT, layer, neuron, (int64_t)offset,
        "neuron %lld of tensor %.*s at byte %llu does not match its checksum: the file is damaged, "
        "copy or pack it again",
        (long long)neuron, (int)tensor->name.bytes, tensor->name.data, (unsigned long long)offset);
}

static int verify_plain(const flin_verification *in, const flin_gguf_tensor *tensor,
                        flashinfer_error *error)
{
    uint64_t done = 0, covered = tensor->bytes;
    flin_hash_stream stream;

    /* the table of checksums does not cover its own last element */
    if (flin_string_is(tensor->name, FLIN_SUMS_TENSOR)) covered -= sizeof(uint64_t);
    flin_hash_begin(&stream);
    while (done < covered) {
        uint64_t piece = covered - done < in->buffer_bytes ? covered - done : in->buffer_bytes;
        int code = flin_storage_read(in->storage, tensor->offset + done, in->buffer, piece,
                                     "a tensor", error);
        if (code != 0) return code;
        flin_hash_add(&stream, in->buffer, piece);
        done += piece;
        code = in->progress(tensor->offset + done, in->gguf->data_end, in->user, error);
        if (code != 0) return code;
    }
    return flin_hash_end(&stream) == tensor->sum ? 0
                                                 : damaged(tensor, -1, -1, tensor->offset, error);
}

/* Which neuron the damaged bundle `row` belongs to; -1: the file that says so cannot be read. */
static int64_t neuron_of(const flin_verification *in, int layer, uint32_t row)
{
    const flin_gguf_tensor *rows;
    const uint32_t *at = (const uint32_t *)(const void *)in->buffer;
    char name[FLIN_TENSOR_NAME_BYTES];

    if (!in->shape->bundle.ordered) return row;
    rows = flin_gguf_find_tensor(in->gguf, flin_tensor_name(name, layer, FLIN_TENSOR_ROWS, ""));
    for (uint64_t done = 0, piece; rows != NULL && done < rows->bytes; done += piece) {
        piece = rows->bytes - done < SUMS_BYTES ? rows->bytes - done : SUMS_BYTES;
        if (flin_storage_read(in->storage, rows->offset + done, in->buffer, piece,
                              "an order of bundles", NULL) != 0)
            break;
        for (uint64_t i = 0; i < piece / sizeof *at; i++)
            if (at[i] == row) return (int64_t)(done / sizeof *at + i);
    }
    return -1;
}

/* Bundles [first, first + count): their checksums, then themselves. */
static int verify_run(const flin_verification *in, const flin_gguf_tensor *bundles,
                      const flin_gguf_tensor *sums, int layer, uint32_t first, uint32_t count,
                      flashinfer_error *error)
{
    const flin_shape *shape = in->shape;
    uint64_t *expected = (uint64_t *)(void *)in->buffer;
    uint8_t *rows = in->buffer + SUMS_BYTES;
    uint64_t parts = shape->bundle.part_count,
             offset = bundles->offset + (uint64_t)first * shape->bundle.stride_bytes;
    int code = flin_storage_read(in->storage, sums->offset + first * parts * 8, expected,
                                 count * parts * 8, "checksums of bundles", error);

    if (code != 0) return code;
    code = flin_storage_read(in->storage, offset, rows,
                             (uint64_t)count * shape->bundle.stride_bytes, "bundles", error);
    if (code != 0) return code;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t part = 0; part < shape->bundle.part_count; part++) {
            const uint8_t *data = rows + (uint64_t)i * shape->bundle.stride_bytes +
                                  shape->bundle.parts[part].offset_bytes;
            if (flin_hash(data, shape->bundle.parts[part].bytes) != expected[i * parts + part])
                return damaged(bundles, layer, neuron_of(in, layer, first + i),
                               offset + (uint64_t)i * shape->bundle.stride_bytes, error);
        }
    }
    return in->progress(offset + (uint64_t)count * shape->bundle.stride_bytes, in->gguf->data_end,
                        in->user, error);
}

static int verify_bundles(const flin_verification *in, const flin_gguf_tensor *bundles, int layer,
                          flashinfer_error *error)
{
    const flin_shape *shape = in->shape;
    uint32_t run = (in->buffer_bytes - SUMS_BYTES) / shape->bundle.stride_bytes;
    const flin_gguf_tensor *sums;
    char name[FLIN_TENSOR_NAME_BYTES];

    sums = flin_gguf_find_tensor(in->gguf, flin_tensor_name(name, layer, FLIN_TENSOR_SUMS, ""));
    if (sums == NULL || sums->bytes != (uint64_t)shape->ffn * shape->bundle.part_count * 8 ||
        bundles->bytes != (uint64_t)shape->ffn * shape->bundle.stride_bytes)
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "tensor %s is missing or misshapen; pack the model again", name);
    if (bundles->sum != sums->sum) return damaged(bundles, layer, -1, bundles->offset, error);
    if (run > SUMS_BYTES / 8 / shape->bundle.part_count)
        run = SUMS_BYTES / 8 / shape->bundle.part_count;
    for (uint32_t first = 0; first < shape->ffn; first += run) {
        uint32_t count = shape->ffn - first < run ? shape->ffn - first : run;
        int code = verify_run(in, bundles, sums, layer, first, count, error);
        if (code != 0) return code;
    }
    return 0;
}

/* The layer of a tensor named blk.N.ffn_bundle.weight, else -1. */
static int bundle_layer(flin_string name)
{
    int layer = 0;
    size_t at = 4;

    if (name.bytes < 5 || memcmp(name.data, "blk.", 4) != 0) return -1;
    for (; at < name.bytes && name.data[at] >= '0' && name.data[at] <= '9' && layer < 100000; at++)
        layer = layer * 10 + (name.data[at] - '0');
    if (at == name.bytes || name.data[at] != '.') return -1;
    name.data += at + 1;
    name.bytes -= at + 1;
    return flin_string_is(name, FLIN_TENSOR_BUNDLES) ? layer : -1;
}

int flin_verify_file(const flin_verification *in, flashinfer_error *error)
{
    const flin_gguf *gguf = in->gguf;
    int code = 0;

    for (uint32_t i = 0; i < gguf->tensor_count && code == 0; i++) {
        int layer = bundle_layer(gguf->tensors[i].name);
        code = layer >= 0 ? verify_bundles(in, &gguf->tensors[i], layer, error)
                          : verify_plain(in, &gguf->tensors[i], error);
    }
    return code;
}
