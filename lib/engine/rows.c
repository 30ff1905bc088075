/*
 * rows.c - where bundles lie in the file: row after row, a row for each neuron, in neuron order or
 * in one learned when the model was packed. Neurons are computed in neuron order always, so this
 * order moves no bit of the result.
 */
#include <string.h>

#include "engine/model.h"
#include "util/hash.h"

uint64_t flin_bundle_begin(const flashinfer_model *model, uint32_t layer, uint32_t neuron)
{
    const flin_layer *weights = &model->weights.layers[layer];

    return weights->ffn.bundles.offset +
           (uint64_t)flin_bundles_index(&weights->ffn.bundles, neuron) *
               model->shape.bundle.stride_bytes;
}

void flin_rows_sort(flashinfer_model *model, uint32_t layer, const uint32_t *ids, uint32_t *list,
                    uint32_t count)
{
    const uint32_t *rows = model->weights.layers[layer].ffn.bundles.order;
    uint64_t *wanted = model->scratch.wanted_rows;
    uint32_t *at_row = model->scratch.at_row, words = (model->shape.ffn + 63) / 64, next = 0;

    if (rows == NULL) return; /* ascending neurons are ascending rows */
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = rows[ids[list[i]]];
        wanted[row / 64] |= (uint64_t)1 << row % 64;
        at_row[row] = list[i];
    }
    for (uint32_t word = 0; word < words; word++) {
        for (uint64_t bits = wanted[word]; bits != 0; bits &= bits - 1)
            list[next++] = at_row[word * 64 + (uint32_t)__builtin_ctzll(bits)];
        wanted[word] = 0;
    }
}

int flin_rows_check(const flashinfer_model *model, flashinfer_error *error)
{
    uint32_t ffn = model->shape.ffn, *seen = model->scratch.at_row;

    for (uint32_t layer = 0; layer < model->shape.layers && model->shape.bundle.ordered; layer++) {
        const uint32_t *rows = model->weights.layers[layer].ffn.bundles.order;

        memset(seen, 0, ffn * sizeof *seen);
        for (uint32_t i = 0; i < ffn; i++) {
            if (rows[i] < ffn && seen[rows[i]]++ == 0) continue;
            return flin_fail_at(error, FLASHINFER_EFORMAT, (int)layer, i, -1,
                                "blk.%u.ffn_bundle.rows gives neuron %u row %u, which is %s: pack "
                                "the model again",
                                layer, i, rows[i], rows[i] < ffn ? "taken" : "outside the tensor");
        }
    }
    return 0;
}

static int row_damaged(const flashinfer_model *model, uint32_t layer, uint32_t neuron,
                       flashinfer_error *error)
{
    uint64_t begin = flin_bundle_begin(model, layer, neuron);

    return flin_fail_at(
        error, FLASHINFER_ECORRUPT, (int)layer, neuron, (int64_t)begin,
        "layer %u neuron %u at byte %llu does not match its checksum: the file or drive is damaged",
        layer, neuron, (unsigned long long)begin);
}

/* Neurons [first, first + count) of a layer whose bundles lie one after the other: one part of
   each. */
typedef struct run {
    flashinfer_model *model;
    const flin_part *part;
    uint32_t layer, index; /* of the part */
    uint32_t first, count;
} run;

static int read_bundles(const run *at, uint32_t first, uint32_t count, uint8_t *bytes,
                        flashinfer_error *error)
{
    const flashinfer_model *model = at->model;
    uint64_t begin = flin_bundle_begin(model, at->layer, first);
    uint64_t length = (uint64_t)(count - 1) * model->shape.bundle.stride_bytes +
                      model->shape.bundle.payload_bytes;

    return flin_storage_read(&at->model->storage, begin, bytes, length, "a bundle", error);
}

/* The part of one neuron at `bytes`; read once more if it is not what it was written as. */
static int check_part(const run *at, uint32_t neuron, uint8_t *bytes, flashinfer_error *error)
{
    flashinfer_model *model = at->model;
    const flin_layer *weights = &model->weights.layers[at->layer];
    uint64_t row = flin_bundles_index(&weights->ffn.bundles, neuron);
    uint64_t sum = weights->ffn.bundles.sums[row * model->shape.bundle.part_count + at->index];
    uint8_t *part = bytes + at->part->offset_bytes;
    int code;

    if (model->config.verify == FLASHINFER_VERIFY_NONE || flin_hash(part, at->part->bytes) == sum)
        return 0;
    model->stats.read_retries++;
    code = read_bundles(at, neuron, 1, bytes, error);
    if (code != 0) return code;
    return flin_hash(part, at->part->bytes) == sum ? 0
                                                   : row_damaged(model, at->layer, neuron, error);
}

static int read_run(const run *at, float *rows, flashinfer_error *error)
{
    flashinfer_model *model = at->model;
    uint8_t *bytes = model->scratch.verify;
    int code = read_bundles(at, at->first, at->count, bytes, error);

    for (uint32_t i = 0; i < at->count && code == 0; i++) {
        code = check_part(at, at->first + i, bytes, error);
        if (code == 0)
            model->kernels->to_float[at->part->type](bytes + at->part->offset_bytes,
                                                     model->shape.width, rows);
        bytes += model->shape.bundle.stride_bytes;
        rows += model->shape.width;
    }
    return code;
}

int flin_rows_read(flashinfer_model *model, uint32_t layer, uint32_t part, uint32_t first,
                   uint32_t count, float *rows, flashinfer_error *error)
{
    const flin_layer *weights = &model->weights.layers[layer];
    uint32_t most = model->verify_bytes / model->shape.bundle.stride_bytes, done = 0;
    int code = 0;

    while (done < count && code == 0) {
        run at = {model, &model->shape.bundle.parts[part], layer, part, first + done, 1};
        uint32_t row = flin_bundles_index(&weights->ffn.bundles, at.first);
        while (at.count < most && done + at.count < count &&
               flin_bundles_index(&weights->ffn.bundles, at.first + at.count) == row + at.count)
            at.count++;
        code = read_run(&at, rows + (uint64_t)done * model->shape.width, error);
        done += at.count;
    }
    return code;
}
