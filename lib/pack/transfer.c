/*
 * transfer.c - read, convert, transpose, write.
 *
 * A bundle needs row i of up, which lies in one piece, and column i of down, which lies in `width`
 * pieces. So down is read in tiles of as many columns as fit the tile buffer: every read is a few
 * KiB long, and the matrix is read once.
 */
#include "pack/transfer.h"

#include <float.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"
#include "pack/order.h"
#include "predictor/sketch_make.h"
#include "util/half.h"

#define FLOATS_MIN (256u * 1024u)
#define BYTES_MIN (1024u * 1024u)
#define TILE_BYTES (12u * 1024u * 1024u)
#define BLOCK_ROWS FLIN_BLOCK /* down rows transposed together: a block of a quantised column */
#define HALF_MAX 65504.0f

static uint32_t at_most(uint64_t value, uint32_t limit)
{
    return value < limit ? (uint32_t)value : limit;
}

/* The largest magnitude that a type holds. */
static float limit_of(enum flin_type type)
{
    switch (type) {
    case FLIN_F16:
        return HALF_MAX;
    case FLIN_BF16:
        return 0x1.fep127f;
    case FLIN_Q8_0: /* of a block with the largest scale */
        return HALF_MAX * 127.0f;
    case FLIN_Q4_0:
        return HALF_MAX * 8.0f;
    default:
        return FLT_MAX;
    }
}

/* -------------------------------------------------------------------------------------- buffers */

static uint32_t tile_columns(const flin_layout *layout)
{
    uint64_t room = TILE_BYTES / layout->part_bytes; /* at least 48: see FLIN_CONFIG_WIDTH_MAX */
    uint64_t whole = FLOATS_MIN / BLOCK_ROWS; /* columns of which as many rows are read at once */
    uint64_t most = room < whole ? room : whole;
    uint64_t tiles = (layout->neuron_count + most - 1) / most;

    return (uint32_t)((layout->neuron_count + tiles - 1) / tiles);
}

int flin_transfer_open(flin_transfer *transfer, const flin_safetensors *source,
                       const flin_layout *layout, flin_gguf_writer *writer,
                       const flashinfer_pack_options *options, flashinfer_error *error)
{
    size_t neurons = layout->neuron_count;
    size_t width = layout->width;
    uint64_t sketch_bytes = layout->choices.sketch_bits != 0
                                ? flin_sketch_tile_bytes(layout->width, layout->choices.sketch_bits)
                                : 0;

    memset(transfer, 0, sizeof *transfer);
    transfer->source = source;
    transfer->layout = layout;
    transfer->writer = writer;
    transfer->options = options;
    transfer->kernels = flin_kernels_choose(FLASHINFER_KERNELS_DEFAULT);
    transfer->limit = limit_of(layout->choices.ffn);
    for (uint32_t i = 0; i + 1 < writer->tensor_count; i++)
        transfer->total_bytes += writer->tensors[i].bytes;
    transfer->floats_max = width * FLIN_SKETCH_TILE_ROWS > FLOATS_MIN
                               ? (uint32_t)width * FLIN_SKETCH_TILE_ROWS
                               : FLOATS_MIN;
    transfer->bytes_max = sketch_bytes > BYTES_MIN ? (uint32_t)sketch_bytes : BYTES_MIN;
    transfer->tile_max = tile_columns(layout);
    transfer->floats = malloc(transfer->floats_max * sizeof *transfer->floats);
    transfer->bytes = malloc(transfer->bytes_max);
    transfer->tile = malloc(transfer->tile_max * (size_t)layout->part_bytes);
    transfer->sums = malloc(neurons * FLIN_LAYOUT_PARTS * sizeof *transfer->sums);
    transfer->rows = malloc(neurons * sizeof *transfer->rows);
    transfer->up_bias = malloc(neurons * sizeof(float));
    transfer->sketch_bias = malloc(neurons * sizeof(float));
    transfer->norm_weight = malloc(width * sizeof(float));
    transfer->norm_bias = malloc(width * sizeof(float));
    if (transfer->floats == NULL || transfer->bytes == NULL || transfer->tile == NULL ||
        transfer->sums == NULL || transfer->rows == NULL || transfer->up_bias == NULL ||
        transfer->sketch_bias == NULL || transfer->norm_weight == NULL ||
        transfer->norm_bias == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for packing buffers of about 16 MiB");
    return 0;
}

void flin_transfer_close(flin_transfer *transfer)
{
    free(transfer->floats);
    free(transfer->bytes);
    free(transfer->tile);
    free(transfer->sums);
    free(transfer->rows);
    free(transfer->up_bias);
    free(transfer->sketch_bias);
    free(transfer->norm_weight);
    free(transfer->norm_bias);
    memset(transfer, 0, sizeof *transfer);
}

int flin_transfer_tick(flin_transfer *transfer, uint64_t more_bytes, flashinfer_error *error)
{
    const flashinfer_pack_options *options = transfer->options;
    flashinfer_progress progress = {
        .size = sizeof progress, .stage = "pack", .total = transfer->total_bytes};

    transfer->done_bytes += more_bytes;
    progress.done = transfer->done_bytes;
    if (options->progress == NULL || options->progress(&progress, options->progress_user) == 0)
        return 0;
    return flin_fail(error, FLASHINFER_ECANCELED, "packing was cancelled by its progress callback");
}

/* ------------------------------------------------------------------------------------- elements */

/* Name the layer of a failure that the reader below could not know. */
static int at_layer(int code, int32_t layer, flashinfer_error *error)
{
    if (error != NULL && error->size >= offsetof(flashinfer_error, layer) + sizeof error->layer)
        error->layer = layer;
    return code;
}

/* A whole vector; without a source every element is `fill`. */
static int load_vector(flin_transfer *transfer, const flin_safetensor *source, uint32_t count,
                       float fill, float *to, flashinfer_error *error)
{
    if (source != NULL)
        return flin_safetensors_read(transfer->source, source, 0, count, FLT_MAX, to, error);
    for (uint32_t i = 0; i < count; i++) to[i] = fill;
    return 0;
}

int flin_transfer_tensor(flin_transfer *transfer, const flin_layout_tensor *tensor,
                         flashinfer_error *error)
{
    float limit = limit_of(tensor->type);
    uint32_t most = BYTES_MIN / 4; /* whole blocks */
    int code = 0;

    flin_gguf_write_begin(transfer->writer, tensor->target, 1);
    for (uint64_t first = 0; first < tensor->count && code == 0;) {
        uint32_t count = at_most(tensor->count - first, most);
        uint64_t bytes = flin_type_bytes(tensor->type, count);
        if (tensor->source != NULL)
            code = flin_safetensors_read(transfer->source, tensor->source, tensor->skip + first,
                                         count, limit, transfer->floats, error);
        else
            code = load_vector(transfer, NULL, count, tensor->fill, transfer->floats, error);
        if (code != 0) return at_layer(code, tensor->layer, error);
        transfer->kernels->from_float[tensor->type](transfer->floats, count, transfer->bytes);
        code = flin_gguf_write(transfer->writer, transfer->bytes, bytes, error);
        if (code == 0) code = flin_transfer_tick(transfer, bytes, error);
        first += count;
    }
    if (code == 0) flin_gguf_write_end(transfer->writer);
    return code;
}

int flin_transfer_check_head(flin_transfer *transfer, flashinfer_error *error)
{
    const flin_safetensor *head = transfer->layout->head;
    const flin_safetensor *embeddings = transfer->layout->embeddings;
    uint32_t most = transfer->floats_max / 2;
    float *other = transfer->floats + most;
    uint64_t total;

    if (head == NULL) return 0;
    total = head->dimensions[0] * head->dimensions[1];
    for (uint64_t first = 0; first < total; first += most) {
        uint32_t count = at_most(total - first, most);
        int code = flin_safetensors_read(transfer->source, head, first, count, FLT_MAX,
                                         transfer->floats, error);
        if (code == 0)
            code = flin_safetensors_read(transfer->source, embeddings, first, count, FLT_MAX, other,
                                         error);
        if (code == 0) code = flin_transfer_tick(transfer, 0, error);
        if (code != 0) return code;
        if (memcmp(transfer->floats, other, count * sizeof *other) != 0)
            return flin_fail(error, FLASHINFER_ECHECKPOINT,
                             "lm_head.weight differs from %s although config.json ties them; set "
                             "\"tie_word_embeddings\": false there, or remove lm_head.weight",
                             embeddings->name);
    }
    return 0;
}

/* --------------------------------------------------------------------------------------- sketch */

static int write_vector(flin_transfer *transfer, uint32_t target, const void *data, uint64_t bytes,
                        flashinfer_error *error)
{
    int code;

    flin_gguf_write_begin(transfer->writer, target, 1);
    code = flin_gguf_write(transfer->writer, data, bytes, error);
    if (code != 0) return code;
    flin_gguf_write_end(transfer->writer);
    return flin_transfer_tick(transfer, bytes, error);
}

/* Up rows as the model will compute with them. */
static void as_stored(flin_transfer *transfer, uint32_t count)
{
    enum flin_type type = transfer->layout->choices.ffn;

    transfer->kernels->from_float[type](transfer->floats, count, transfer->tile);
    transfer->kernels->to_float[type](transfer->tile, count, transfer->floats);
}

static int write_tiles(flin_transfer *transfer, flin_sketch_maker *maker,
                       const flin_layout_ffn *ffn, flashinfer_error *error)
{
    const flin_layout *layout = transfer->layout;
    uint64_t tile_bytes = flin_sketch_tile_bytes(layout->width, layout->choices.sketch_bits);
    int code = 0;

    flin_gguf_write_begin(transfer->writer, ffn->sketch_weight, 1);
    for (uint32_t first = 0; first < layout->neuron_count && code == 0;
         first += FLIN_SKETCH_TILE_ROWS) {
        uint32_t rows = at_most(layout->neuron_count - first, FLIN_SKETCH_TILE_ROWS);
        code =
            flin_safetensors_read(transfer->source, ffn->up, (uint64_t)first * layout->width,
                                  rows * layout->width, transfer->limit, transfer->floats, error);
        if (code == 0) as_stored(transfer, rows * layout->width);
        if (code == 0)
            code = flin_sketch_maker_tile(maker, transfer->floats, transfer->up_bias + first, rows,
                                          transfer->bytes, transfer->sketch_bias + first, error);
        if (code == 0) code = flin_gguf_write(transfer->writer, transfer->bytes, tile_bytes, error);
        if (code == 0) code = flin_transfer_tick(transfer, tile_bytes, error);
    }
    if (code == 0) flin_gguf_write_end(transfer->writer);
    return code;
}

int flin_transfer_sketch(flin_transfer *transfer, uint32_t layer, flashinfer_error *error)
{
    const flin_layout *layout = transfer->layout;
    const flin_layout_ffn *ffn = &layout->ffns[layer];
    flin_sketch_maker maker;
    int code;

    memset(&maker, 0, sizeof maker);
    code =
        load_vector(transfer, ffn->norm_weight, layout->width, 1.0f, transfer->norm_weight, error);
    if (code == 0)
        code =
            load_vector(transfer, ffn->norm_bias, layout->width, 0.0f, transfer->norm_bias, error);
    if (code == 0)
        code = load_vector(transfer, ffn->up_bias, layout->neuron_count, 0.0f, transfer->up_bias,
                           error);
    if (code == 0)
        code = flin_sketch_maker_open(&maker, layout->width, layout->choices.sketch_bits,
                                      transfer->norm_weight, transfer->norm_bias,
                                      FLIN_SKETCH_MARGIN, error);
    if (code == 0) code = write_tiles(transfer, &maker, ffn, error);
    if (code == 0)
        code = write_vector(transfer, ffn->sketch_bias, transfer->sketch_bias,
                            layout->neuron_count * sizeof(float), error);
    if (code == 0)
        code = write_vector(transfer, ffn->sketch_scale, maker.column_scale,
                            layout->width * sizeof(float), error);
    flin_sketch_maker_close(&maker);
    return code != 0 ? at_layer(code, (int32_t)layer, error) : 0;
}

/* -------------------------------------------------------------------------------------- bundles */

/* Columns [first, first + count) of down into the tile, one after the other. */
static int load_tile(flin_transfer *transfer, const flin_safetensor *down, uint32_t first,
                     uint32_t count, flashinfer_error *error)
{
    const flin_layout *layout = transfer->layout;
    enum flin_type type = layout->choices.ffn;
    uint32_t most = at_most(transfer->floats_max / count, BLOCK_ROWS);

    for (uint32_t row = 0; row < layout->width; row += most) {
        uint32_t rows = at_most(layout->width - row, most);
        for (uint32_t i = 0; i < rows; i++) {
            uint64_t element = (uint64_t)(row + i) * layout->neuron_count + first;
            int code =
                flin_safetensors_read(transfer->source, down, element, count, transfer->limit,
                                      transfer->floats + (size_t)i * count, error);
            if (code != 0) return code;
        }
        for (uint32_t j = 0; j < count; j++) {
            float column[BLOCK_ROWS];
            for (uint32_t i = 0; i < rows; i++) column[i] = transfer->floats[(size_t)i * count + j];
            transfer->kernels->from_float[type](column, rows,
                                                transfer->tile + (size_t)j * layout->part_bytes +
                                                    flin_type_bytes(type, row));
        }
        if (flin_transfer_tick(transfer, 0, error) != 0) return FLASHINFER_ECANCELED;
    }
    return 0;
}

/* The bundles of neurons [first, first + count) to their rows, neighbours at once. */
static int put_bundles(flin_transfer *transfer, uint32_t first, uint32_t count,
                       flashinfer_error *error)
{
    const uint32_t *rows = transfer->rows + first;
    uint64_t stride = transfer->layout->stride_bytes;
    int code = 0;

    for (uint32_t i = 0, run; i < count && code == 0; i += run) {
        for (run = 1; i + run < count && rows[i + run] == rows[i] + run;) run++;
        code = flin_gguf_write_at(transfer->writer, transfer->bytes + i * stride, run * stride,
                                  rows[i] * stride, error);
    }
    return code;
}

/* Bundles [first, first + count), whose down columns are in the tile. */
static int write_rows(flin_transfer *transfer, const flin_safetensor *up, uint32_t first,
                      uint32_t count, flashinfer_error *error)
{
    const flin_layout *layout = transfer->layout;
    size_t part = (size_t)layout->part_bytes;
    size_t stride = (size_t)layout->stride_bytes;
    uint32_t most = at_most(BYTES_MIN / stride, transfer->floats_max / layout->width);

    for (uint32_t done = 0; done < count;) {
        uint32_t rows = at_most(count - done, most);
        int code =
            flin_safetensors_read(transfer->source, up, (uint64_t)(first + done) * layout->width,
                                  rows * layout->width, transfer->limit, transfer->floats, error);
        if (code != 0) return code;
        memset(transfer->bytes, 0, rows * stride);
        for (uint32_t i = 0; i < rows; i++) {
            uint8_t *bundle = transfer->bytes + i * stride;
            uint32_t row = transfer->rows[first + done + i];
            uint64_t *sums = transfer->sums + (size_t)row * FLIN_LAYOUT_PARTS;
            transfer->kernels->from_float[layout->choices.ffn](
                transfer->floats + (size_t)i * layout->width, layout->width, bundle);
            memcpy(bundle + part, transfer->tile + (done + i) * part, part);
            sums[0] = flin_hash(bundle, part);
            sums[1] = flin_hash(bundle + part, part);
        }
        code = put_bundles(transfer, first + done, rows, error);
        if (code == 0) code = flin_transfer_tick(transfer, rows * stride, error);
        if (code != 0) return code;
        done += rows;
    }
    return 0;
}

static int learn_tick(void *user, flashinfer_error *error)
{
    return flin_transfer_tick(user, 0, error);
}

/* Which row each neuron's bundle gets; with an order the file says so. */
static int settle_rows(flin_transfer *transfer, uint32_t layer, flashinfer_error *error)
{
    const flin_layout *layout = transfer->layout;
    int code;

    if (layout->choices.order == NULL) {
        for (uint32_t i = 0; i < layout->neuron_count; i++) transfer->rows[i] = i;
        return 0;
    }
    code =
        flin_order_learn(layout->choices.order, layer, transfer->rows, learn_tick, transfer, error);
    if (code != 0) return code;
    return write_vector(transfer, layout->ffns[layer].bundle_rows, transfer->rows,
                        layout->neuron_count * sizeof *transfer->rows, error);
}

int flin_transfer_bundles(flin_transfer *transfer, uint32_t layer, flashinfer_error *error)
{
    const flin_layout *layout = transfer->layout;
    const flin_layout_ffn *ffn = &layout->ffns[layer];
    uint64_t sums_bytes =
        (uint64_t)layout->neuron_count * FLIN_LAYOUT_PARTS * sizeof *transfer->sums;
    int code = settle_rows(transfer, layer, error);

    if (code != 0) return code;
    flin_safetensors_expect(transfer->source, ffn->down);
    flin_gguf_write_begin(transfer->writer, ffn->bundle, 0);
    for (uint32_t first = 0; first < layout->neuron_count; first += transfer->tile_max) {
        uint32_t count = at_most(layout->neuron_count - first, transfer->tile_max);
        code = load_tile(transfer, ffn->down, first, count, error);
        if (code == 0) code = write_rows(transfer, ffn->up, first, count, error);
        if (code != 0) return at_layer(code, (int32_t)layer, error);
    }
    flin_gguf_write_end(transfer->writer);
    code = write_vector(transfer, ffn->bundle_sums, transfer->sums, sums_bytes, error);
    transfer->writer->tensors[ffn->bundle].sum = transfer->writer->tensors[ffn->bundle_sums].sum;
    return code;
}
