/*
 * predictor_file.c - a predictor as a GGUF file of its own, and taken from the model that runs by
 * it.
 */
#include <stdlib.h>
#include <string.h>

#include "make/predictor_make.h"
#include "model/names.h"
#include "pack/gguf_write.h"

/* The tensors of one layer, in the order they are written in. */
typedef struct piece {
    const char *suffix;
    uint32_t type;
    uint64_t columns, rows; /* rows 0: a vector */
    void *data;
    uint64_t bytes;
} piece;

enum { PIECES = 3 };

static void list_pieces(const flin_made_layer *made, piece pieces[PIECES])
{
    const flin_sketch *sketch = &made->predictor.sketch;
    const flin_lowrank *lowrank = &made->predictor.lowrank;
    uint32_t type = lowrank->type == FLIN_F16 ? FLIN_GGUF_F16 : FLIN_GGUF_F32;

    if (made->predictor.kind == FLASHINFER_PREDICTOR_SKETCH) {
        uint64_t tile = flin_sketch_tile_bytes(sketch->cols, sketch->bits);
        uint64_t tiles = (sketch->rows + FLIN_SKETCH_TILE_ROWS - 1) / FLIN_SKETCH_TILE_ROWS;
        pieces[0] =
            (piece){FLIN_TENSOR_SKETCH, FLIN_GGUF_I8, tile, tiles, made->weights[0], tile * tiles};
        pieces[1] = (piece){FLIN_TENSOR_SKETCH_BIAS,     FLIN_GGUF_F32, sketch->rows, 0, made->bias,
                            sizeof(float) * sketch->rows};
        pieces[2] =
            (piece){FLIN_TENSOR_SKETCH_SCALE,    FLIN_GGUF_F32, sketch->cols, 0, made->column_scale,
                    sizeof(float) * sketch->cols};
        return;
    }
    pieces[0] = (piece){FLIN_TENSOR_LOWRANK_DOWN,
                        type,
                        lowrank->cols,
                        lowrank->rank,
                        made->weights[0],
                        (uint64_t)lowrank->rank * flin_type_bytes(lowrank->type, lowrank->cols)};
    pieces[1] = (piece){FLIN_TENSOR_LOWRANK_UP,
                        type,
                        lowrank->rank,
                        lowrank->rows,
                        made->weights[1],
                        (uint64_t)lowrank->rank * flin_type_bytes(lowrank->type, lowrank->rows)};
    pieces[2] = (piece){FLIN_TENSOR_LOWRANK_BIAS,     FLIN_GGUF_F32, lowrank->rows, 0, made->bias,
                        sizeof(float) * lowrank->rows};
}

/* ----------------------------------------------------------------------------------------- save */

/* Bits of every layer's sketch; 0: it has low-rank factors. */
static int put_bits(flin_gguf_writer *writer, const flashinfer_predictor *predictor,
                    flashinfer_error *error)
{
    uint32_t *bits = malloc(predictor->layer_count * sizeof *bits);

    if (bits == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for %u layers",
                         predictor->layer_count);
    for (uint32_t i = 0; i < predictor->layer_count; i++)
        bits[i] = predictor->layers[i].predictor.sketch.bits;
    flin_gguf_put_array(writer, "flashinfer.sketch.bits", FLIN_GGUF_VALUE_U32,
                        predictor->layer_count, bits, sizeof *bits);
    free(bits);
    return 0;
}

static int put_keys(flin_gguf_writer *writer, const flashinfer_predictor *predictor,
                    flashinfer_error *error)
{
    uint32_t bits[65536], count = predictor->layer_count;

    if (count > sizeof bits / sizeof bits[0])
        return flin_fail(error, FLASHINFER_EUNSUPPORTED, "%u layers", count);
    for (uint32_t i = 0; i < count; i++) {
        const flin_layer_predictor *layer = &predictor->layers[i].predictor;
        if (layer->kind == 0)
            return flin_fail_at(error, FLASHINFER_EINVAL, (int)i, -1, -1,
                                "layer %u of the predictor has no kind yet", i);
        bits[i] = layer->sketch.bits;
    }
    flin_gguf_put_string(writer, "general.architecture", "flashinfer-predictor");
    flin_gguf_put_string(writer, "general.name", predictor->model->name);
    flin_gguf_put_u32(writer, "general.alignment", FLIN_GGUF_ALIGNMENT);
    flin_gguf_put_u32(writer, "flashinfer.predictor.version", FLIN_PREDICTOR_VERSION);
    flin_gguf_put_u64(writer, "flashinfer.predictor.model", predictor->identity);
    if (predictor->lowranks != 0)
        flin_gguf_put_bool(writer, "flashinfer.lowrank.relu", (int)predictor->relu);
    return predictor->lowranks != count ? put_bits(writer, predictor, error) : 0;
}

static void add_tensors(flin_gguf_writer *writer, const flashinfer_predictor *predictor)
{
    for (uint32_t i = 0; i < predictor->layer_count; i++) {
        piece pieces[PIECES];
        list_pieces(&predictor->layers[i], pieces);
        for (uint32_t k = 0; k < PIECES; k++) {
            char name[FLIN_TENSOR_NAME_BYTES];
            (void)flin_tensor_name(name, (int32_t)i, pieces[k].suffix, "");
            (void)flin_gguf_add_tensor(writer, name, pieces[k].type, pieces[k].columns,
                                       pieces[k].rows);
        }
    }
}

static int write_tensors(flin_gguf_writer *writer, const flashinfer_predictor *predictor,
                         flashinfer_error *error)
{
    int code = 0;

    for (uint32_t i = 0; i < predictor->layer_count; i++) {
        piece pieces[PIECES];
        list_pieces(&predictor->layers[i], pieces);
        for (uint32_t k = 0; k < PIECES && code == 0; k++) {
            flin_gguf_write_begin(writer, i * PIECES + k, 1);
            code = flin_gguf_write(writer, pieces[k].data, pieces[k].bytes, error);
            if (code == 0) flin_gguf_write_end(writer);
        }
    }
    return code;
}

int flin_predictor_save(const flashinfer_predictor *predictor, const char *path,
                        flashinfer_error *error)
{
    flin_gguf_writer writer;
    int code;

    flin_gguf_writer_begin(&writer);
    code = put_keys(&writer, predictor, error);
    if (code == 0) {
        add_tensors(&writer, predictor);
        code = flin_gguf_writer_create(&writer, path, error);
    }
    if (code == 0) code = write_tensors(&writer, predictor, error);
    if (code == 0) code = flin_gguf_writer_finish(&writer, error);
    flin_gguf_writer_close(&writer);
    return code;
}

/* ----------------------------------------------------------------------------------------- copy */

/* What an open model names its neurons by, as if it had been made here. */
static flin_made_layer as_made(const flin_layer_predictor *from)
{
    flin_made_layer made;

    memset(&made, 0, sizeof made);
    made.predictor = *from;
    if (from->kind == FLASHINFER_PREDICTOR_SKETCH) {
        made.weights[0] = (void *)(uintptr_t)from->sketch.tiles;
        made.bias = (float *)(uintptr_t)from->sketch.bias;
        made.column_scale = (float *)(uintptr_t)from->sketch.column_scale;
    } else {
        made.weights[0] = (void *)(uintptr_t)from->lowrank.down;
        made.weights[1] = (void *)(uintptr_t)from->lowrank.up;
        made.bias = (float *)(uintptr_t)from->lowrank.bias;
    }
    return made;
}

int flin_predictor_copy_layer(flashinfer_predictor *predictor, uint32_t layer,
                              flashinfer_error *error)
{
    const flin_layer_predictor *from = &predictor->model->weights.layers[layer].predictor;
    flin_made_layer source = as_made(from);
    piece pieces[PIECES], to[PIECES];
    int code;

    if (from->kind == FLASHINFER_PREDICTOR_SKETCH) {
        code = flin_made_sketch(predictor, layer, from->sketch.bits, error);
    } else {
        code = flin_made_lowrank(predictor, layer, from->lowrank.rank, from->lowrank.type, error);
        if (code != 0) return code;
        predictor->layers[layer].predictor.lowrank.relu = from->lowrank.relu;
        predictor->relu = from->lowrank.relu;
    }
    if (code != 0) return code;
    list_pieces(&source, pieces);
    list_pieces(&predictor->layers[layer], to);
    for (uint32_t k = 0; k < PIECES; k++) memcpy(to[k].data, pieces[k].data, pieces[k].bytes);
    return 0;
}
