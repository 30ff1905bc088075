/*
 * predictors.c - sketches and low-rank factors among a file's tensors: which there are, where they
 * go, which model they were made for.
 */
#include <stdio.h>

#include "model/placing.h"
#include "util/hash.h"

static const flin_gguf_tensor *find_layer_tensor(const flin_gguf *gguf, uint32_t layer,
                                                 const char *suffix)
{
    char name[FLIN_TENSOR_NAME_BYTES];
    return flin_gguf_find_tensor(gguf, flin_tensor_name(name, (int32_t)layer, suffix, ""));
}

static const char *tensor_of_kind(uint32_t kind)
{
    return kind == FLASHINFER_PREDICTOR_SKETCH ? FLIN_TENSOR_SKETCH : FLIN_TENSOR_LOWRANK_DOWN;
}

int flin_weights_have(const flin_gguf *gguf, uint32_t layers, uint32_t kind)
{
    for (uint32_t i = 0; i < layers; i++)
        if (find_layer_tensor(gguf, i, tensor_of_kind(kind)) == NULL) return 0;
    return 1;
}

uint32_t flin_weights_predictor(const flin_gguf *gguf, uint32_t layers)
{
    int sketches = 0, lowranks = 0;

    for (uint32_t i = 0; i < layers; i++) {
        if (find_layer_tensor(gguf, i, tensor_of_kind(FLASHINFER_PREDICTOR_SKETCH)) != NULL)
            sketches++;
        else if (find_layer_tensor(gguf, i, tensor_of_kind(FLASHINFER_PREDICTOR_LOWRANK)) != NULL)
            lowranks++;
    }
    if (lowranks == 0) return sketches != 0 ? FLASHINFER_PREDICTOR_SKETCH : 0;
    return sketches != 0 ? FLASHINFER_PREDICTOR_MIXED : FLASHINFER_PREDICTOR_LOWRANK;
}

static void layout_sketch(flin_placing *in, flin_sketch *sketch, uint32_t index)
{
    const flin_shape *shape = in->shape;
    const flin_gguf_value *bits = flin_gguf_find(in->gguf, "flashinfer.sketch.bits");
    const flin_gguf_tensor *tiles;
    char name[FLIN_TENSOR_NAME_BYTES];
    uint64_t layer_bits = 0;

    if (bits != NULL && bits->type == FLIN_GGUF_VALUE_U32 &&
        (!bits->is_array || bits->count == shape->layers))
        layer_bits = flin_gguf_element_u64(bits, bits->is_array ? index : 0);
    if (layer_bits < 1 || layer_bits > 4) {
        flin_placing_refuse(in, FLASHINFER_EFORMAT,
                            "flashinfer.sketch.bits must give 1 to 4 bits for every layer of %u; "
                            "%s",
                            shape->layers, flin_placing_advice(in));
        return;
    }
    sketch->rows = shape->ffn;
    sketch->cols = shape->width;
    sketch->bits = (uint32_t)layer_bits;
    (void)flin_tensor_name(name, (int32_t)index, FLIN_TENSOR_SKETCH, "");
    tiles = flin_placing_want_type(
        in, name, FLIN_GGUF_I8, flin_sketch_tile_bytes(shape->width, sketch->bits),
        (shape->ffn + FLIN_SKETCH_TILE_ROWS - 1) / FLIN_SKETCH_TILE_ROWS);
    if (in->code != 0) return;
    sketch->tiles = flin_placing_place(in, tiles);
    (void)flin_tensor_name(name, (int32_t)index, FLIN_TENSOR_SKETCH_BIAS, "");
    sketch->bias = flin_placing_vector(in, name, shape->ffn);
    (void)flin_tensor_name(name, (int32_t)index, FLIN_TENSOR_SKETCH_SCALE, "");
    sketch->column_scale = flin_placing_vector(in, name, shape->width);
}

/* A factor of a low-rank predictor: (rows, cols) of either type. */
static const void *factor(flin_placing *in, uint32_t index, const char *suffix, uint32_t rows,
                          uint32_t cols, enum flin_type *type)
{
    char name[FLIN_TENSOR_NAME_BYTES];
    flin_matrix found;

    (void)flin_tensor_name(name, (int32_t)index, suffix, "");
    found = flin_placing_matrix(in, name, rows, cols);
    if (found.type != FLIN_F32 && found.type != FLIN_F16)
        flin_placing_refuse(in, FLASHINFER_EUNSUPPORTED, "tensor %s must be F16 or F32", name);
    *type = found.type;
    return found.data;
}

static void layout_lowrank(flin_placing *in, flin_lowrank *lowrank, uint32_t index)
{
    const flin_shape *shape = in->shape;
    const flin_gguf_tensor *down = find_layer_tensor(in->gguf, index, FLIN_TENSOR_LOWRANK_DOWN);
    const flin_gguf_value *relu = flin_gguf_find(in->gguf, "flashinfer.lowrank.relu");
    uint64_t rank = down != NULL ? down->dimensions[1] : 1;
    enum flin_type up_type;
    char name[FLIN_TENSOR_NAME_BYTES];

    if (rank < 1 || rank > FLIN_LOWRANK_RANK_MAX) {
        flin_placing_refuse(in, FLASHINFER_EFORMAT,
                            "tensor blk.%u.fc1.weight has rank %llu; 1 to %u are known", index,
                            (unsigned long long)rank, FLIN_LOWRANK_RANK_MAX);
        return;
    }
    lowrank->rows = shape->ffn;
    lowrank->cols = shape->width;
    lowrank->rank = (uint32_t)rank;
    lowrank->relu = relu != NULL && relu->type == FLIN_GGUF_VALUE_BOOL && relu->data[0] != 0;
    lowrank->down =
        factor(in, index, FLIN_TENSOR_LOWRANK_DOWN, lowrank->rank, shape->width, &lowrank->type);
    lowrank->up = factor(in, index, FLIN_TENSOR_LOWRANK_UP, shape->ffn, lowrank->rank, &up_type);
    (void)flin_tensor_name(name, (int32_t)index, FLIN_TENSOR_LOWRANK_BIAS, "");
    lowrank->bias = flin_placing_vector(in, name, shape->ffn);
    if (in->code == 0 && up_type != lowrank->type)
        flin_placing_refuse(in, FLASHINFER_EFORMAT,
                            "the two factors blk.%u.fc1 and fc2 differ in type", index);
    if (lowrank->rank > in->weights->rank_max) in->weights->rank_max = lowrank->rank;
}

/* What names a layer's neurons, from whichever file it is in. */
void flin_placing_predictor(flin_placing *in, flin_layer_predictor *predictor, uint32_t index)
{
    uint64_t before = in->arena->used;
    uint32_t kind = in->predictors->kind;

    in->gguf = in->predictors->gguf;
    if (kind == FLASHINFER_PREDICTOR_MIXED)
        kind =
            find_layer_tensor(in->gguf, index, tensor_of_kind(FLASHINFER_PREDICTOR_SKETCH)) != NULL
                ? FLASHINFER_PREDICTOR_SKETCH
                : FLASHINFER_PREDICTOR_LOWRANK;
    predictor->kind = kind;
    if (kind == FLASHINFER_PREDICTOR_SKETCH)
        layout_sketch(in, &predictor->sketch, index);
    else
        layout_lowrank(in, &predictor->lowrank, index);
    in->gguf = in->model;
    in->weights->predictor_bytes += in->arena->used - before;
}

uint64_t flin_weights_identity(const flin_weights *weights, const flin_shape *shape)
{
    const uint32_t decider = shape->bundle.index_of[flin_shape_decider(shape)];
    flin_hash_stream stream;

    flin_hash_begin(&stream);
    for (uint32_t i = 0; i < shape->layers; i++) {
        const flin_ffn_layer *ffn = &weights->layers[i].ffn;
        const float *bias = flin_ffn_decider_bias(ffn);
        for (uint32_t neuron = 0; neuron < shape->ffn; neuron++) {
            uint64_t row = flin_bundles_index(&ffn->bundles, neuron);
            flin_hash_add(&stream, &ffn->bundles.sums[row * shape->bundle.part_count + decider],
                          sizeof(uint64_t));
        }
        if (bias != NULL) flin_hash_add(&stream, bias, shape->ffn * sizeof(float));
    }
    return flin_hash_end(&stream);
}
