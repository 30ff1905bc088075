/*
 * stream.c - read, convert, transpose, write.
 *
 * A bundle needs row i of up, which lies in one piece, and column i of down, which lies in `width`
 * pieces. So down is read in tiles of as many columns as fit the tile buffer: every read is a few
 * KiB long, and the matrix is read once.
 */
#include "pack/stream.h"

#include <float.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"
#include "predictor/sketch_make.h"
#include "util/half.h"

#define FLOATS_MIN (256u * 1024u)
#define BYTES_MIN (1024u * 1024u)
#define TILE_BYTES (12u * 1024u * 1024u)
#define BLOCK_ROWS 32u /* down rows transposed together */
#define HALF_MAX 65504.0f

static uint32_t at_most(uint64_t value, uint32_t limit)
{
    return value < limit ? (uint32_t)value : limit;
}

/* -------------------------------------------------------------------------------------- buffers */

static uint32_t tile_columns(const flin_layout *layout)
{
    uint64_t room = TILE_BYTES / layout->part_bytes; /* at least 48: see FLIN_CONFIG_WIDTH_MAX */
    uint64_t most = room < FLOATS_MIN ? room : FLOATS_MIN;
    uint64_t tiles = (layout->neuron_count + most - 1) / most;

    return (uint32_t)((layout->neuron_count + tiles - 1) / tiles);
}

int flin_stream_open(flin_stream *stream, const flin_safetensors *source, const flin_layout *layout,
                     flin_gguf_writer *writer, const flashinfer_pack_options *options,
                     flashinfer_error *error)
{
    size_t neurons = layout->neuron_count;
    size_t width = layout->width;
    uint64_t sketch_bytes =
        layout->sketch_bits != 0 ? flin_sketch_tile_bytes(layout->width, layout->sketch_bits) : 0;

    memset(stream, 0, sizeof *stream);
    stream->source = source;
    stream->layout = layout;
    stream->writer = writer;
    stream->options = options;
    stream->limit = layout->type == FLIN_GGUF_F16 ? HALF_MAX : FLT_MAX;
    for (uint32_t i = 0; i + 1 < writer->tensor_count; i++)
        stream->total_bytes += writer->tensors[i].bytes;
    stream->floats_max = width * FLIN_SKETCH_TILE_ROWS > FLOATS_MIN
                             ? (uint32_t)width * FLIN_SKETCH_TILE_ROWS
                             : FLOATS_MIN;
    stream->bytes_max = sketch_bytes > BYTES_MIN ? (uint32_t)sketch_bytes : BYTES_MIN;
    stream->tile_max = tile_columns(layout);
    stream->floats = malloc(stream->floats_max * sizeof *stream->floats);
    stream->bytes = malloc(stream->bytes_max);
    stream->tile = malloc(stream->tile_max * (size_t)layout->part_bytes);
    stream->sums = malloc(neurons * FLIN_LAYOUT_PARTS * sizeof *stream->sums);
    stream->up_bias = malloc(neurons * sizeof(float));
    stream->sketch_bias = malloc(neurons * sizeof(float));
    stream->norm_weight = malloc(width * sizeof(float));
    stream->norm_bias = malloc(width * sizeof(float));
    if (stream->floats == NULL || stream->bytes == NULL || stream->tile == NULL ||
        stream->sums == NULL || stream->up_bias == NULL || stream->sketch_bias == NULL ||
        stream->norm_weight == NULL || stream->norm_bias == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for packing buffers of about 16 MiB");
    return 0;
}

void flin_stream_close(flin_stream *stream)
{
    free(stream->floats);
    free(stream->bytes);
    free(stream->tile);
    free(stream->sums);
    free(stream->up_bias);
    free(stream->sketch_bias);
    free(stream->norm_weight);
    free(stream->norm_bias);
    memset(stream, 0, sizeof *stream);
}

int flin_stream_tick(flin_stream *stream, uint64_t more_bytes, flashinfer_error *error)
{
    const flashinfer_pack_options *options = stream->options;
    flashinfer_progress progress = {
        .size = sizeof progress, .stage = "pack", .total = stream->total_bytes};

    stream->done_bytes += more_bytes;
    progress.done = stream->done_bytes;
    if (options->progress == NULL || options->progress(&progress, options->progress_user) == 0)
        return 0;
    return flin_fail(error, FLASHINFER_ECANCELED, "packing was cancelled by its progress callback");
}

/* ------------------------------------------------------------------------------------- elements */

/* Every value was checked to fit the type. */
static void store(uint32_t type, const float *from, uint64_t count, uint8_t *to)
{
    if (type == FLIN_GGUF_F32) {
        memcpy(to, from, (size_t)count * sizeof *from);
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint16_t half = flin_half_from_float(from[i]);
        memcpy(to + i * sizeof half, &half, sizeof half);
    }
}

static uint32_t size_of(uint32_t type)
{
    return type == FLIN_GGUF_F32 ? 4 : 2;
}

/* Name the layer of a failure that the reader below could not know. */
static int at_layer(int code, int32_t layer, flashinfer_error *error)
{
    if (error != NULL && error->size >= offsetof(flashinfer_error, layer) + sizeof error->layer)
        error->layer = layer;
    return code;
}

/* A whole vector; without a source every element is `fill`. */
static int load_vector(flin_stream *stream, const flin_safetensor *source, uint32_t count,
                       float fill, float *to, flashinfer_error *error)
{
    if (source != NULL)
        return flin_safetensors_read(stream->source, source, 0, count, FLT_MAX, to, error);
    for (uint32_t i = 0; i < count; i++) to[i] = fill;
    return 0;
}

int flin_stream_tensor(flin_stream *stream, const flin_layout_tensor *tensor,
                       flashinfer_error *error)
{
    float limit = tensor->type == FLIN_GGUF_F16 ? HALF_MAX : FLT_MAX;
    uint32_t most = BYTES_MIN / 4;
    int code = 0;

    flin_gguf_write_begin(stream->writer, tensor->target, 1);
    for (uint64_t first = 0; first < tensor->count && code == 0;) {
        uint32_t count = at_most(tensor->count - first, most);
        uint64_t bytes = (uint64_t)count * size_of(tensor->type);
        if (tensor->source != NULL)
            code = flin_safetensors_read(stream->source, tensor->source, tensor->skip + first,
                                         count, limit, stream->floats, error);
        else
            code = load_vector(stream, NULL, count, tensor->fill, stream->floats, error);
        if (code != 0) return at_layer(code, tensor->layer, error);
        store(tensor->type, stream->floats, count, stream->bytes);
        code = flin_gguf_write(stream->writer, stream->bytes, bytes, error);
        if (code == 0) code = flin_stream_tick(stream, bytes, error);
        first += count;
    }
    if (code == 0) flin_gguf_write_end(stream->writer);
    return code;
}

int flin_stream_check_head(flin_stream *stream, flashinfer_error *error)
{
    const flin_safetensor *head = stream->layout->head;
    const flin_safetensor *embeddings = stream->layout->embeddings;
    uint32_t most = stream->floats_max / 2;
    float *other = stream->floats + most;
    uint64_t total;

    if (head == NULL) return 0;
    total = head->dimensions[0] * head->dimensions[1];
    for (uint64_t first = 0; first < total; first += most) {
        uint32_t count = at_most(total - first, most);
        int code = flin_safetensors_read(stream->source, head, first, count, FLT_MAX,
                                         stream->floats, error);
        if (code == 0)
            code = flin_safetensors_read(stream->source, embeddings, first, count, FLT_MAX, other,
                                         error);
        if (code == 0) code = flin_stream_tick(stream, 0, error);
        if (code != 0) return code;
        if (memcmp(stream->floats, other, count * sizeof *other) != 0)
            return flin_fail(error, FLASHINFER_ECHECKPOINT,
                             "lm_head.weight differs from %s although config.json ties them; set "
                             "\"tie_word_embeddings\": false there, or remove lm_head.weight",
                             embeddings->name);
    }
    return 0;
}

/* --------------------------------------------------------------------------------------- sketch */

static int write_vector(flin_stream *stream, uint32_t target, const void *data, uint64_t bytes,
                        flashinfer_error *error)
{
    int code;

    flin_gguf_write_begin(stream->writer, target, 1);
    code = flin_gguf_write(stream->writer, data, bytes, error);
    if (code != 0) return code;
    flin_gguf_write_end(stream->writer);
    return flin_stream_tick(stream, bytes, error);
}

static int write_tiles(flin_stream *stream, flin_sketch_maker *maker, const flin_layout_ffn *ffn,
                       flashinfer_error *error)
{
    const flin_layout *layout = stream->layout;
    uint64_t tile_bytes = flin_sketch_tile_bytes(layout->width, layout->sketch_bits);
    int code = 0;

    flin_gguf_write_begin(stream->writer, ffn->sketch_weight, 1);
    for (uint32_t first = 0; first < layout->neuron_count && code == 0;
         first += FLIN_SKETCH_TILE_ROWS) {
        uint32_t rows = at_most(layout->neuron_count - first, FLIN_SKETCH_TILE_ROWS);
        code = flin_safetensors_read(stream->source, ffn->up, (uint64_t)first * layout->width,
                                     rows * layout->width, stream->limit, stream->floats, error);
        if (code == 0)
            code = flin_sketch_maker_tile(maker, stream->floats, stream->up_bias + first, rows,
                                          stream->bytes, stream->sketch_bias + first, error);
        if (code == 0) code = flin_gguf_write(stream->writer, stream->bytes, tile_bytes, error);
        if (code == 0) code = flin_stream_tick(stream, tile_bytes, error);
    }
    if (code == 0) flin_gguf_write_end(stream->writer);
    return code;
}

int flin_stream_sketch(flin_stream *stream, uint32_t layer, flashinfer_error *error)
{
    const flin_layout *layout = stream->layout;
    const flin_layout_ffn *ffn = &layout->ffns[layer];
    flin_sketch_maker maker;
    int code;

    memset(&maker, 0, sizeof maker);
    code = load_vector(stream, ffn->norm_weight, layout->width, 1.0f, stream->norm_weight, error);
    if (code == 0)
        code = load_vector(stream, ffn->norm_bias, layout->width, 0.0f, stream->norm_bias, error);
    if (code == 0)
        code =
            load_vector(stream, ffn->up_bias, layout->neuron_count, 0.0f, stream->up_bias, error);
    if (code == 0)
        code =
            flin_sketch_maker_open(&maker, layout->width, layout->sketch_bits, stream->norm_weight,
                                   stream->norm_bias, FLIN_SKETCH_MARGIN, error);
    if (code == 0) code = write_tiles(stream, &maker, ffn, error);
    if (code == 0)
        code = write_vector(stream, ffn->sketch_bias, stream->sketch_bias,
                            layout->neuron_count * sizeof(float), error);
    if (code == 0)
        code = write_vector(stream, ffn->sketch_scale, maker.column_scale,
                            layout->width * sizeof(float), error);
    flin_sketch_maker_close(&maker);
    return code != 0 ? at_layer(code, (int32_t)layer, error) : 0;
}

/* -------------------------------------------------------------------------------------- bundles */

/* Columns [first, first + count) of down into the tile, one after the other. */
static int load_tile(flin_stream *stream, const flin_safetensor *down, uint32_t first,
                     uint32_t count, flashinfer_error *error)
{
    const flin_layout *layout = stream->layout;
    uint32_t size = size_of(layout->type);
    uint32_t most = at_most(stream->floats_max / count, BLOCK_ROWS);

    for (uint32_t row = 0; row < layout->width; row += most) {
        uint32_t rows = at_most(layout->width - row, most);
        for (uint32_t i = 0; i < rows; i++) {
            uint64_t element = (uint64_t)(row + i) * layout->neuron_count + first;
            int code = flin_safetensors_read(stream->source, down, element, count, stream->limit,
                                             stream->floats + (size_t)i * count, error);
            if (code != 0) return code;
        }
        for (uint32_t j = 0; j < count; j++) {
            float column[BLOCK_ROWS];
            for (uint32_t i = 0; i < rows; i++) column[i] = stream->floats[(size_t)i * count + j];
            store(layout->type, column, rows,
                  stream->tile + ((size_t)j * layout->width + row) * size);
        }
        if (flin_stream_tick(stream, 0, error) != 0) return FLASHINFER_ECANCELED;
    }
    return 0;
}

/* Bundles [first, first + count), whose down columns are in the tile. */
static int write_rows(flin_stream *stream, const flin_safetensor *up, uint32_t first,
                      uint32_t count, flashinfer_error *error)
{
    const flin_layout *layout = stream->layout;
    size_t part = (size_t)layout->part_bytes;
    size_t stride = (size_t)layout->stride_bytes;
    uint32_t most = at_most(BYTES_MIN / stride, stream->floats_max / layout->width);

    for (uint32_t done = 0; done < count;) {
        uint32_t rows = at_most(count - done, most);
        int code =
            flin_safetensors_read(stream->source, up, (uint64_t)(first + done) * layout->width,
                                  rows * layout->width, stream->limit, stream->floats, error);
        if (code != 0) return code;
        memset(stream->bytes, 0, rows * stride);
        for (uint32_t i = 0; i < rows; i++) {
            uint8_t *bundle = stream->bytes + i * stride;
            uint64_t *sums = stream->sums + (size_t)(first + done + i) * FLIN_LAYOUT_PARTS;
            store(layout->type, stream->floats + (size_t)i * layout->width, layout->width, bundle);
            memcpy(bundle + part, stream->tile + (done + i) * part, part);
            sums[0] = flin_hash(bundle, part);
            sums[1] = flin_hash(bundle + part, part);
        }
        code = flin_gguf_write(stream->writer, stream->bytes, rows * stride, error);
        if (code == 0) code = flin_stream_tick(stream, rows * stride, error);
        if (code != 0) return code;
        done += rows;
    }
    return 0;
}

int flin_stream_bundles(flin_stream *stream, uint32_t layer, flashinfer_error *error)
{
    const flin_layout *layout = stream->layout;
    const flin_layout_ffn *ffn = &layout->ffns[layer];
    uint64_t sums_bytes = (uint64_t)layout->neuron_count * FLIN_LAYOUT_PARTS * sizeof *stream->sums;
    int code = 0;

    flin_safetensors_expect(stream->source, ffn->down);
    flin_gguf_write_begin(stream->writer, ffn->bundle, 0);
    for (uint32_t first = 0; first < layout->neuron_count; first += stream->tile_max) {
        uint32_t count = at_most(layout->neuron_count - first, stream->tile_max);
        code = load_tile(stream, ffn->down, first, count, error);
        if (code == 0) code = write_rows(stream, ffn->up, first, count, error);
        if (code != 0) return at_layer(code, (int32_t)layer, error);
    }
    flin_gguf_write_end(stream->writer);
    code = write_vector(stream, ffn->bundle_sums, stream->sums, sums_bytes, error);
    stream->writer->tensors[ffn->bundle].sum = stream->writer->tensors[ffn->bundle_sums].sum;
    return code;
}
