/*
 * rows.c - where bundles lie in the file: row after row, a row for each neuron, in neuron order or in one learned when
 * the model was packed. Neurons are computed in neuron order always, so this order moves no bit of the result.
 */
#include <string.h>

#include "engine/model.h"
#include "util/hash.h"

uint64_t flin_bundle_begin(const flashinfer_model *model, uint32_t layer, uint32_t neuron)
{
    const flin_layer *weights = &model->weights.layers[layer];

    return weights->bundle_offset +
           (uint64_t)flin_layer_row(weights, neuron) * model->shape.stride_bytes;
}

void flin_rows_sort(flashinfer_model *model, uint32_t layer, const uint32_t *ids, uint32_t *list,
                    uint32_t count)
{
    const uint32_t *rows = model->weights.layers[layer].rows;
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

    for (uint32_t layer = 0; layer < model->shape.layers && model->shape.ordered; layer++) {
        const uint32_t *rows = model->weights.layers[layer].rows;

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

/* One neuron's part, from the file. */
static int read_row(flashinfer_model *model, uint32_t layer, const flin_part *part, uint64_t sum,
                    uint32_t neuron, float *row, flashinfer_error *error)
{
    uint64_t offset = flin_bundle_begin(model, layer, neuron) + part->offset_bytes;
    uint8_t *bytes = model->scratch.verify;
    int verify = model->config.verify != FLASHINFER_VERIFY_NONE;
    int code = flin_storage_read(&model->storage, offset, bytes, part->bytes, "a bundle", error);

    if (code != 0) return code;
    if (verify && flin_hash(bytes, part->bytes) != sum) {
        model->stats.read_retries++;
        code = flin_storage_read(&model->storage, offset, bytes, part->bytes, "a bundle", error);
        if (code != 0) return code;
        if (flin_hash(bytes, part->bytes) != sum) return row_damaged(model, layer, neuron, error);
    }
    model->kernels->to_float[part->type](bytes, model->shape.width, row);
    return 0;
}

int flin_rows_read(flashinfer_model *model, uint32_t layer, uint32_t part, uint32_t first,
                   uint32_t count, float *rows, flashinfer_error *error)
{
    const flin_shape *shape = &model->shape;
    const flin_layer *weights = &model->weights.layers[layer];
    int code = 0;

    for (uint32_t i = 0; i < count && code == 0; i++) {
        uint64_t row = flin_layer_row(weights, first + i);
        code = read_row(model, layer, &shape->parts[part],
                        weights->part_sums[row * shape->part_count + part], first + i,
                        rows + (uint64_t)i * shape->width, error);
    }
    return code;
}
