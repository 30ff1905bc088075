/*
 * transfer.c - read, convert, transpose, write.
 *
 * A bundle needs row i of up, and of gate if there is one, each of which lies in one piece, and
 * column i of down, which lies in `width` pieces. So down is read in tiles of as many columns as
 * fit the tile buffer: every read is a few KiB long, and the matrix is read once.
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

static int read_floats(const flin_transfer *transfer, const flin_source_tensor *tensor,
                       uint64_t first, uint32_t count, float limit, float *to,
                       flashinfer_error *error)
{
    return transfer->source->read(transfer->source, tensor, first, count, limit, to, error);
}

/* -------------------------------------------------------------------------------------- buffers */

/* A column of down, as every part of a bundle. */
static size_t part_bytes(const flin_packing *packing)
{
    return (size_t)flin_type_bytes(packing->choices.ffn, packing->shape.width);
}

static uint32_t tile_columns(const flin_packing *packing)
{
    const flin_shape *shape = &packing->shape;
    uint64_t room = TILE_BYTES / part_bytes(packing); /* at least 48: see FLIN_WIDTH_MAX */
    uint64_t whole = FLOATS_MIN / BLOCK_ROWS; /* columns of which as many rows are read at once */
    uint64_t most = room < whole ? room : whole;
    uint64_t tiles = (shape->ffn + most - 1) / most;

    return (uint32_t)((shape->ffn + tiles - 1) / tiles);
}

int flin_transfer_open(flin_transfer *transfer, const flin_source *source,
                       const flin_packing *packing, flin_gguf_writer *writer,
                       const flashinfer_pack_options *options, flashinfer_error *error)
{
    const flin_shape *shape = &packing->shape;
    size_t neurons = shape->ffn;
    size_t width = shape->width;
    uint64_t sketch_bytes = packing->choices.sketch_bits != 0
                                ? flin_sketch_tile_bytes(shape->width, packing->choices.sketch_bits)
                                : 0;

    memset(transfer, 0, sizeof *transfer);
    transfer->source = source;
    transfer->packing = packing;
    transfer->writer = writer;
    transfer->options = options;
    transfer->kernels = flin_kernels_choose(FLASHINFER_KERNELS_DEFAULT);
    transfer->limit = limit_of(packing->choices.ffn);
    for (uint32_t i = 0; i + 1 < writer->tensor_count; i++)
        transfer->total_bytes += writer->tensors[i].bytes;
    transfer->floats_max = width * FLIN_SKETCH_TILE_ROWS > FLOATS_MIN
                               ? (uint32_t)width * FLIN_SKETCH_TILE_ROWS
                               : FLOATS_MIN;
    transfer->bytes_max = sketch_bytes > BYTES_MIN ? (uint32_t)sketch_bytes : BYTES_MIN;
    transfer->tile_max = tile_columns(packing);
    transfer->floats = malloc(transfer->floats_max * sizeof *transfer->floats);
    transfer->bytes = malloc(transfer->bytes_max);
    transfer->tile = malloc(transfer->tile_max * part_bytes(packing));
    transfer->sums = malloc(neurons * shape->bundle.part_count * sizeof *transfer->sums);
    transfer->rows = malloc(neurons * sizeof *transfer->rows);
    transfer->decider_bias = malloc(neurons * sizeof(float));
    transfer->sketch_bias = malloc(neurons * sizeof(float));
    transfer->norm_weight = malloc(width * sizeof(float));
    transfer->norm_bias = malloc(width * sizeof(float));
    if (transfer->floats == NULL || transfer->bytes == NULL || transfer->tile == NULL ||
        transfer->sums == NULL || transfer->rows == NULL || transfer->decider_bias == NULL ||
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
    free(transfer->decider_bias);
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
static int load_vector(flin_transfer *transfer, const flin_source_tensor *source, uint32_t count,
                       float fill, float *to, flashinfer_error *error)
{
    if (source != NULL) return read_floats(transfer, source, 0, count, FLT_MAX, to, error);
    for (uint32_t i = 0; i < count; i++) to[i] = fill;
    return 0;
}

/* Where a head of the order "all queries, all keys, all values" is in a source that has a block
   for each head of keys: its queries, itself, its values. */
static uint64_t grouped_head(const flin_packing_rows *rows, uint64_t head)
{
    const uint64_t queries = rows->queries / rows->kv_heads, block = queries + 2;

    if (head < rows->queries) return head / queries * block + head % queries;
    head -= rows->queries;
    return head % rows->kv_heads * block + queries + head / rows->kv_heads;
}

/* The source's row of a model file's. Rotary pairs of a head, which lie half of it apart in the
   checkpoint, become neighbours. */
static uint64_t source_row(const flin_packing_rows *rows, uint64_t row)
{
    uint64_t head = (row + rows->first) / rows->of_head,
             place = (row + rows->first) % rows->of_head;

    if (rows->grouped) head = grouped_head(rows, head);
    if (rows->halves) place = place % 2 * (rows->of_head / 2) + place / 2;
    return head * rows->of_head + place;
}

/* Elements [first, first + count) as the model file has them. The count is of whole rows, and at
   most floats_max. */
static int read_heads(flin_transfer *transfer, const flin_packing_tensor *tensor, uint64_t first,
                      uint32_t count, float limit, flashinfer_error *error)
{
    const uint32_t columns = tensor->columns;
    float *to = transfer->floats;
    int code = 0;

    for (uint64_t row = first / columns; count > 0 && code == 0; row++, to += columns) {
        const uint64_t from = source_row(&tensor->rows, row);
        code = read_floats(transfer, tensor->source, tensor->skip + from * columns, columns, limit,
                           to, error);
        count -= columns;
    }
    return code;
}

static int read_piece(flin_transfer *transfer, const flin_packing_tensor *tensor, uint64_t first,
                      uint32_t count, flashinfer_error *error)
{
    const float limit = limit_of(tensor->type);
    int code;

    for (uint32_t i = 0; tensor->make != NULL && i < count; i++)
        transfer->floats[i] = tensor->make(&transfer->packing->shape, (uint32_t)first + i);
    if (tensor->make != NULL) return 0;
    if (tensor->source == NULL)
        return load_vector(transfer, NULL, count, tensor->fill, transfer->floats, error);
    code = tensor->rows.of_head != 0 ? read_heads(transfer, tensor, first, count, limit, error)
                                     : read_floats(transfer, tensor->source, tensor->skip + first,
                                                   count, limit, transfer->floats, error);
    for (uint32_t i = 0; tensor->plus > 0 && i < count; i++) transfer->floats[i] += tensor->plus;
    return code;
}

int flin_transfer_tensor(flin_transfer *transfer, const flin_packing_tensor *tensor,
                         flashinfer_error *error)
{
    uint32_t most = BYTES_MIN / 4; /* whole blocks */
    int code = 0;

    if (tensor->rows.of_head != 0) most = most / tensor->columns * tensor->columns;
    flin_gguf_write_begin(transfer->writer, tensor->target, 1);
    for (uint64_t first = 0; first < tensor->count && code == 0;) {
        uint32_t count = at_most(tensor->count - first, most);
        uint64_t bytes = flin_type_bytes(tensor->type, count);
        code = read_piece(transfer, tensor, first, count, error);
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
    const flin_source_tensor *head = transfer->packing->head;
    const flin_source_tensor *embeddings = transfer->packing->embeddings;
    uint32_t most = transfer->floats_max / 2;
    float *other = transfer->floats + most;
    uint64_t total;

    if (head == NULL) return 0;
    total = head->dimensions[0] * head->dimensions[1];
    for (uint64_t first = 0; first < total; first += most) {
        uint32_t count = at_most(total - first, most);
        int code = read_floats(transfer, head, first, count, FLT_MAX, transfer->floats, error);
        if (code == 0)
            code = read_floats(transfer, embeddings, first, count, FLT_MAX, other, error);
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

/* Rows as the model will compute with them. */
static void as_stored(flin_transfer *transfer, uint32_t count)
{
    enum flin_type type = transfer->packing->choices.ffn;

    transfer->kernels->from_float[type](transfer->floats, count, transfer->tile);
    transfer->kernels->to_float[type](transfer->tile, count, transfer->floats);
}

static int write_tiles(flin_transfer *transfer, flin_sketch_maker *maker,
                       const flin_packing_ffn *ffn, flashinfer_error *error)
{
    const flin_packing *packing = transfer->packing;
    const flin_shape *shape = &packing->shape;
    const flin_source_tensor *decider = ffn->parts[flin_shape_decider(shape)];
    uint64_t tile_bytes = flin_sketch_tile_bytes(shape->width, packing->choices.sketch_bits);
    int code = 0;

    flin_gguf_write_begin(transfer->writer, ffn->sketch_weight, 1);
    for (uint32_t first = 0; first < shape->ffn && code == 0; first += FLIN_SKETCH_TILE_ROWS) {
        uint32_t rows = at_most(shape->ffn - first, FLIN_SKETCH_TILE_ROWS);
        code = read_floats(transfer, decider, (uint64_t)first * shape->width, rows * shape->width,
                           transfer->limit, transfer->floats, error);
        if (code == 0) as_stored(transfer, rows * shape->width);
        if (code == 0)
            code =
                flin_sketch_maker_tile(maker, transfer->floats, transfer->decider_bias + first,
                                       rows, transfer->bytes, transfer->sketch_bias + first, error);
        if (code == 0) code = flin_gguf_write(transfer->writer, transfer->bytes, tile_bytes, error);
        if (code == 0) code = flin_transfer_tick(transfer, tile_bytes, error);
    }
    if (code == 0) flin_gguf_write_end(transfer->writer);
    return code;
}

int flin_transfer_sketch(flin_transfer *transfer, uint32_t layer, flashinfer_error *error)
{
    const flin_packing *packing = transfer->packing;
    const flin_shape *shape = &packing->shape;
    const flin_packing_ffn *ffn = &packing->ffns[layer];
    flin_sketch_maker maker;
    int code;

    memset(&maker, 0, sizeof maker);
    code =
        load_vector(transfer, ffn->norm_weight, shape->width, 1.0f, transfer->norm_weight, error);
    for (uint32_t i = 0; code == 0 && i < shape->width; i++)
        transfer->norm_weight[i] += ffn->norm_plus;
    if (code == 0)
        code =
            load_vector(transfer, ffn->norm_bias, shape->width, 0.0f, transfer->norm_bias, error);
    if (code == 0)
        code = load_vector(transfer, ffn->decider_bias, shape->ffn, 0.0f, transfer->decider_bias,
                           error);
    if (code == 0)
        code = flin_sketch_maker_open(&maker, shape->width, packing->choices.sketch_bits,
                                      transfer->norm_weight, transfer->norm_bias,
                                      FLIN_SKETCH_MARGIN, error);
    maker.threshold = shape->activation.threshold;
    if (code == 0) code = write_tiles(transfer, &maker, ffn, error);
    if (code == 0)
        code = write_vector(transfer, ffn->sketch_bias, transfer->sketch_bias,
                            shape->ffn * sizeof(float), error);
    if (code == 0)
        code = write_vector(transfer, ffn->sketch_scale, maker.column_scale,
                            shape->width * sizeof(float), error);
    flin_sketch_maker_close(&maker);
    return code != 0 ? at_layer(code, (int32_t)layer, error) : 0;
}

/* -------------------------------------------------------------------------------------- bundles */

/* Columns [first, first + count) of down into the tile, one after the other. */
static int load_tile(flin_transfer *transfer, const flin_source_tensor *down, uint32_t first,
                     uint32_t count, flashinfer_error *error)
{
    const flin_packing *packing = transfer->packing;
    const flin_shape *shape = &packing->shape;
    enum flin_type type = packing->choices.ffn;
    uint32_t most = at_most(transfer->floats_max / count, BLOCK_ROWS);

    for (uint32_t row = 0; row < shape->width; row += most) {
        uint32_t rows = at_most(shape->width - row, most);
        for (uint32_t i = 0; i < rows; i++) {
            uint64_t element = (uint64_t)(row + i) * shape->ffn + first;
            int code = read_floats(transfer, down, element, count, transfer->limit,
                                   transfer->floats + (size_t)i * count, error);
            if (code != 0) return code;
        }
        for (uint32_t j = 0; j < count; j++) {
            float column[BLOCK_ROWS];
            for (uint32_t i = 0; i < rows; i++) column[i] = transfer->floats[(size_t)i * count + j];
            transfer->kernels->from_float[type](column, rows,
                                                transfer->tile + (size_t)j * part_bytes(packing) +
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
    uint64_t stride = transfer->packing->shape.bundle.stride_bytes;
    int code = 0;

    for (uint32_t i = 0, run; i < count && code == 0; i += run) {
        for (run = 1; i + run < count && rows[i + run] == rows[i] + run;) run++;
        code = flin_gguf_write_at(transfer->writer, transfer->bytes + i * stride, run * stride,
                                  rows[i] * stride, error);
    }
    return code;
}

/* Part `index` of the bundles [first, first + count) into transfer->bytes: a row of its matrix, or
   the column in the tile, where the first of them is `column`. */
static int fill_part(flin_transfer *transfer, const flin_packing_ffn *ffn, uint32_t index,
                     uint32_t first, uint32_t count, uint32_t column, flashinfer_error *error)
{
    const flin_shape *shape = &transfer->packing->shape;
    const flin_part *part = &shape->bundle.parts[index];
    int code = 0;

    if (part->role != FLIN_PART_DOWN)
        code = read_floats(transfer, ffn->parts[part->role], (uint64_t)first * shape->width,
                           count * shape->width, transfer->limit, transfer->floats, error);
    for (uint32_t i = 0; i < count && code == 0; i++) {
        uint8_t *to = transfer->bytes + (size_t)i * shape->bundle.stride_bytes + part->offset_bytes;
        uint64_t row = transfer->rows[first + i];
        if (part->role == FLIN_PART_DOWN)
            memcpy(to, transfer->tile + (size_t)(column + i) * part->bytes, part->bytes);
        else
            transfer->kernels->from_float[part->type](transfer->floats + (size_t)i * shape->width,
                                                      shape->width, to);
        transfer->sums[row * shape->bundle.part_count + index] = flin_hash(to, part->bytes);
    }
    return code;
}

/* Bundles [first, first + count), whose down columns are in the tile. */
static int write_rows(flin_transfer *transfer, const flin_packing_ffn *ffn, uint32_t first,
                      uint32_t count, flashinfer_error *error)
{
    const flin_shape *shape = &transfer->packing->shape;
    size_t stride = shape->bundle.stride_bytes;
    uint32_t most = at_most(BYTES_MIN / stride, transfer->floats_max / shape->width);
    int code = 0;

    for (uint32_t done = 0; done < count && code == 0;) {
        uint32_t rows = at_most(count - done, most);
        memset(transfer->bytes, 0, rows * stride);
        for (uint32_t i = 0; i < shape->bundle.part_count && code == 0; i++)
            code = fill_part(transfer, ffn, i, first + done, rows, done, error);
        if (code == 0) code = put_bundles(transfer, first + done, rows, error);
        if (code == 0) code = flin_transfer_tick(transfer, rows * stride, error);
        done += rows;
    }
    return code;
}

static int learn_tick(void *user, flashinfer_error *error)
{
    return flin_transfer_tick(user, 0, error);
}

/* Which row each neuron's bundle gets; with an order the file says so. */
static int settle_rows(flin_transfer *transfer, uint32_t layer, flashinfer_error *error)
{
    const flin_packing *packing = transfer->packing;
    const flin_shape *shape = &packing->shape;
    int code;

    if (packing->choices.order == NULL) {
        for (uint32_t i = 0; i < shape->ffn; i++) transfer->rows[i] = i;
        return 0;
    }
    code = flin_order_learn(packing->choices.order, layer, transfer->rows, learn_tick, transfer,
                            error);
    if (code != 0) return code;
    return write_vector(transfer, packing->ffns[layer].bundle_rows, transfer->rows,
                        shape->ffn * sizeof *transfer->rows, error);
}

int flin_transfer_bundles(flin_transfer *transfer, uint32_t layer, flashinfer_error *error)
{
    const flin_packing *packing = transfer->packing;
    const flin_shape *shape = &packing->shape;
    const flin_packing_ffn *ffn = &packing->ffns[layer];
    uint64_t sums_bytes = (uint64_t)shape->ffn * shape->bundle.part_count * sizeof *transfer->sums;
    int code = settle_rows(transfer, layer, error);

    if (code != 0) return code;
    transfer->source->expect(transfer->source, ffn->parts[FLIN_PART_DOWN]);
    flin_gguf_write_begin(transfer->writer, ffn->bundle, 0);
    for (uint32_t first = 0; first < shape->ffn; first += transfer->tile_max) {
        uint32_t count = at_most(shape->ffn - first, transfer->tile_max);
        code = load_tile(transfer, ffn->parts[FLIN_PART_DOWN], first, count, error);
        if (code == 0) code = write_rows(transfer, ffn, first, count, error);
        if (code != 0) return at_layer(code, (int32_t)layer, error);
    }
    flin_gguf_write_end(transfer->writer);
    code = write_vector(transfer, ffn->bundle_sums, transfer->sums, sums_bytes, error);
    transfer->writer->tensors[ffn->bundle].sum = transfer->writer->tensors[ffn->bundle_sums].sum;
    return code;
}
