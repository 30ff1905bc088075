/*
 * weights.c - names, types and shapes of the tensors that stay in memory; docs/format.md lists
 * them.
 */
#include "model/weights.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "util/hash.h"

#define DIRECT_BYTES                                                                               \
    (64u * 1024u) /* tensors from here on are page-aligned, so that direct reads need no copy */
#define STEM_BYTES 64
#define NAME_BYTES 96 /* a stem and a suffix */

typedef struct layout {
    flin_weights *weights;
    flin_arena *arena;
    const flin_gguf *gguf; /* tensors are looked for here: the model, or a predictor file */
    const flin_gguf *model;
    const flin_shape *shape;
    const flin_predictor_choice *predictors;
    flashinfer_error *error;
    int code;
} layout;

static const flin_gguf_tensor *find_layer_tensor(const flin_gguf *gguf, uint32_t layer,
                                                 const char *suffix)
{
    char name[NAME_BYTES];
    (void)snprintf(name, sizeof name, "blk.%u.%s", layer, suffix);
    return flin_gguf_find_tensor(gguf, name);
}

static const char *tensor_of_kind(uint32_t kind)
{
    return kind == FLASHINFER_PREDICTOR_SKETCH ? "ffn_sketch.weight" : "fc1.weight";
}

int flin_weights_have(const flin_gguf *gguf, uint32_t layers, uint32_t kind)
{
    for (uint32_t i = 0; i < layers; i++)
        if (find_layer_tensor(gguf, i, tensor_of_kind(kind)) == NULL) return 0;
    return 1;
}

uint64_t flin_weights_bundle_offset(const flin_gguf *gguf, uint32_t layer)
{
    const flin_gguf_tensor *bundles = find_layer_tensor(gguf, layer, "ffn_bundle.weight");

    return bundles != NULL ? bundles->offset : 0;
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

/* Give a tensor its place in memory and note it for loading. */
static void *place(layout *in, const flin_gguf_tensor *tensor)
{
    flin_weights *weights = in->weights;
    void *data = flin_arena_take(in->arena, tensor->bytes,
                                 tensor->bytes >= DIRECT_BYTES ? FLIN_PAGE_BYTES : 64);

    weights->load_bytes += tensor->bytes;
    if (weights->loads != NULL && weights->load_count < weights->loads_max) {
        weights->loads[weights->load_count].tensor = tensor;
        weights->loads[weights->load_count].data = data;
        weights->loads[weights->load_count].from_predictors = in->gguf != in->model;
    }
    weights->load_count++;
    return data;
}

static void refuse(layout *in, int code, const char *format, ...) FLIN_PRINTF(3, 4);

static void refuse(layout *in, int code, const char *format, ...)
{
    char text[256];
    va_list arguments;

    if (in->code != 0) return;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    in->code = flin_fail(in->error, code, "%s", text);
}

/* The tensor `name` if it has the wanted dimensions (fastest first). */
static const flin_gguf_tensor *want(layout *in, const char *name, uint64_t dimension0,
                                    uint64_t dimension1)
{
    const flin_gguf_tensor *tensor = flin_gguf_find_tensor(in->gguf, name);

    if (tensor == NULL) {
        refuse(in, FLASHINFER_EFORMAT, "tensor %s is missing; pack the model again", name);
        return NULL;
    }
    if (tensor->dimensions[0] != dimension0 || tensor->dimensions[1] != dimension1 ||
        tensor->dimensions[2] != 1 || tensor->dimensions[3] != 1) {
        refuse(in, FLASHINFER_EFORMAT,
               "tensor %s is [%llu, %llu], the metadata say [%llu, %llu]; pack the model "
               "again",
               name, (unsigned long long)tensor->dimensions[0],
               (unsigned long long)tensor->dimensions[1], (unsigned long long)dimension0,
               (unsigned long long)dimension1);
        return NULL;
    }
    return tensor;
}

static flin_matrix matrix(layout *in, const char *name, uint32_t rows, uint32_t cols)
{
    flin_matrix matrix = {NULL, rows, cols, FLIN_F32};
    const flin_gguf_tensor *tensor = want(in, name, cols, rows);

    if (tensor == NULL || in->code != 0) return matrix; /* the first refusal stands */
    in->code = flin_type_from_gguf(tensor->type, name, cols, &matrix.type, in->error);
    if (in->code == 0) matrix.data = place(in, tensor);
    return matrix;
}

static const float *vector(layout *in, const char *name, uint32_t count)
{
    const flin_gguf_tensor *tensor = want(in, name, count, 1);

    if (tensor == NULL || in->code != 0) return NULL;
    if (tensor->type != FLIN_GGUF_F32) {
        refuse(in, FLASHINFER_EFORMAT, "tensor %s must be F32", name);
        return NULL;
    }
    return place(in, tensor);
}

static flin_norm norm(layout *in, const char *stem)
{
    flin_norm norm = {in->shape->norm_kind, in->shape->norm_epsilon, NULL, NULL};
    char name[NAME_BYTES];

    (void)snprintf(name, sizeof name, "%.63s.weight", stem);
    norm.weight = vector(in, name, in->shape->width);
    (void)snprintf(name, sizeof name, "%.63s.bias", stem);
    norm.bias = vector(in, name, in->shape->width);
    return norm;
}

/* A matrix with its bias when the file has one. */
static flin_linear linear(layout *in, const char *stem, uint32_t outputs, uint32_t inputs)
{
    flin_linear linear;
    char name[NAME_BYTES];

    (void)snprintf(name, sizeof name, "%.63s.weight", stem);
    linear.weight = matrix(in, name, outputs, inputs);
    (void)snprintf(name, sizeof name, "%.63s.bias", stem);
    linear.bias = flin_gguf_find_tensor(in->gguf, name) != NULL ? vector(in, name, outputs) : NULL;
    return linear;
}

/* What of a layer is not a tensor. */
static void describe(const flin_shape *shape, flin_layer *layer)
{
    layer->attention.heads = shape->heads;
    layer->attention.kv_heads = shape->kv_heads;
    layer->attention.head_width = shape->head_width;
    layer->attention.scale = 1.0f / sqrtf((float)shape->head_width);
    layer->attention.rotary = shape->rotary;
    layer->ffn.neurons = shape->ffn;
    layer->ffn.gated = shape->gated;
    layer->ffn.activation = shape->activation;
}

static void layout_attention(layout *in, flin_layer *layer, uint32_t index)
{
    const int before = in->shape->norm_before != 0;
    static const char *const stems[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
    flin_linear *const targets[] = {&layer->attention.query, &layer->attention.key,
                                    &layer->attention.value, &layer->attention.output};
    char stem[STEM_BYTES];

    (void)snprintf(stem, sizeof stem, "blk.%u.attn_norm", index);
    *(before ? &layer->attention_norms.before : &layer->attention_norms.after) = norm(in, stem);
    for (uint32_t i = 0; i < 4 && in->code == 0; i++) {
        (void)snprintf(stem, sizeof stem, "blk.%u.%s", index, stems[i]);
        *targets[i] = linear(in, stem, in->shape->width, in->shape->width);
    }
    if (layer->attention.query.weight.type != layer->attention.key.weight.type ||
        layer->attention.query.weight.type != layer->attention.value.weight.type)
        refuse(in, FLASHINFER_EUNSUPPORTED,
               "blk.%u.attn_q, attn_k and attn_v have different types; pack the model again",
               index);
    (void)snprintf(stem, sizeof stem, "blk.%u.ffn_norm", index);
    *(before ? &layer->ffn_norms.before : &layer->ffn_norms.after) = norm(in, stem);
    describe(in->shape, layer);
}

/* Biases, checksums and the place of the bundles; the bundles themselves stay on flash. */
static void layout_ffn(layout *in, flin_layer *layer, uint32_t index)
{
    const flin_shape *shape = in->shape;
    const flin_gguf_tensor *bundles, *sums, *rows;
    char name[NAME_BYTES];

    (void)snprintf(name, sizeof name, "blk.%u.ffn_up.bias", index);
    layer->ffn.up_bias = vector(in, name, shape->ffn);
    (void)snprintf(name, sizeof name, "blk.%u.ffn_down.bias", index);
    layer->ffn.down_bias = vector(in, name, shape->width);
    (void)snprintf(name, sizeof name, "blk.%u.ffn_bundle.xxh3", index);
    sums = want(in, name, shape->bundle.part_count, shape->ffn);
    if (sums != NULL && sums->type != FLIN_GGUF_I64)
        refuse(in, FLASHINFER_EFORMAT, "tensor %s must be I64", name);
    (void)snprintf(name, sizeof name, "blk.%u.ffn_bundle.rows", index);
    rows = shape->bundle.ordered ? want(in, name, shape->ffn, 1) : NULL;
    if (rows != NULL && rows->type != FLIN_GGUF_I32)
        refuse(in, FLASHINFER_EFORMAT, "tensor %s must be I32", name);
    (void)snprintf(name, sizeof name, "blk.%u.ffn_bundle.weight", index);
    bundles = want(in, name, shape->bundle.stride_bytes, shape->ffn);
    if (bundles != NULL && bundles->type != FLIN_GGUF_I8)
        refuse(in, FLASHINFER_EFORMAT, "tensor %s must be I8", name);
    if (in->code != 0) return;
    layer->ffn.bundles.sums = place(in, sums);
    layer->ffn.bundles.order = rows != NULL ? place(in, rows) : NULL;
    layer->ffn.bundles.offset = bundles->offset;
}

static void layout_sketch(layout *in, flin_sketch *sketch, uint32_t index)
{
    const flin_shape *shape = in->shape;
    const flin_gguf_value *bits = flin_gguf_find(in->gguf, "flashinfer.sketch.bits");
    const flin_gguf_tensor *tiles;
    char name[NAME_BYTES];
    uint64_t layer_bits = 0;

    if (bits != NULL && bits->type == FLIN_GGUF_VALUE_U32 &&
        (!bits->is_array || bits->count == shape->layers))
        layer_bits = flin_gguf_element_u64(bits, bits->is_array ? index : 0);
    if (layer_bits < 1 || layer_bits > 4) {
        refuse(in, FLASHINFER_EFORMAT,
               "flashinfer.sketch.bits must give 1 to 4 bits for every layer");
        return;
    }
    sketch->rows = shape->ffn;
    sketch->cols = shape->width;
    sketch->bits = (uint32_t)layer_bits;
    (void)snprintf(name, sizeof name, "blk.%u.ffn_sketch.weight", index);
    tiles = want(in, name, flin_sketch_tile_bytes(shape->width, sketch->bits),
                 (shape->ffn + FLIN_SKETCH_TILE_ROWS - 1) / FLIN_SKETCH_TILE_ROWS);
    if (tiles != NULL && tiles->type != FLIN_GGUF_I8)
        refuse(in, FLASHINFER_EFORMAT, "tensor %s must be I8", name);
    if (in->code != 0) return;
    sketch->tiles = place(in, tiles);
    (void)snprintf(name, sizeof name, "blk.%u.ffn_sketch.bias", index);
    sketch->bias = vector(in, name, shape->ffn);
    (void)snprintf(name, sizeof name, "blk.%u.ffn_sketch.scale", index);
    sketch->column_scale = vector(in, name, shape->width);
}

/* A factor of a low-rank predictor: (rows, cols) of either type. */
static const void *factor(layout *in, uint32_t index, const char *suffix, uint32_t rows,
                          uint32_t cols, enum flin_type *type)
{
    char name[NAME_BYTES];
    flin_matrix found;

    (void)snprintf(name, sizeof name, "blk.%u.%s", index, suffix);
    found = matrix(in, name, rows, cols);
    if (found.type != FLIN_F32 && found.type != FLIN_F16)
        refuse(in, FLASHINFER_EUNSUPPORTED, "tensor %s must be F16 or F32", name);
    *type = found.type;
    return found.data;
}

static void layout_lowrank(layout *in, flin_lowrank *lowrank, uint32_t index)
{
    const flin_shape *shape = in->shape;
    const flin_gguf_tensor *down = find_layer_tensor(in->gguf, index, "fc1.weight");
    const flin_gguf_value *relu = flin_gguf_find(in->gguf, "flashinfer.lowrank.relu");
    uint64_t rank = down != NULL ? down->dimensions[1] : 1;
    enum flin_type up_type;
    char name[NAME_BYTES];

    if (rank < 1 || rank > FLIN_LOWRANK_RANK_MAX) {
        refuse(in, FLASHINFER_EFORMAT, "tensor blk.%u.fc1.weight has rank %llu; 1 to %u are known",
               index, (unsigned long long)rank, FLIN_LOWRANK_RANK_MAX);
        return;
    }
    lowrank->rows = shape->ffn;
    lowrank->cols = shape->width;
    lowrank->rank = (uint32_t)rank;
    lowrank->relu = relu != NULL && relu->type == FLIN_GGUF_VALUE_BOOL && relu->data[0] != 0;
    lowrank->down = factor(in, index, "fc1.weight", lowrank->rank, shape->width, &lowrank->type);
    lowrank->up = factor(in, index, "fc2.weight", shape->ffn, lowrank->rank, &up_type);
    (void)snprintf(name, sizeof name, "blk.%u.fc2.bias", index);
    lowrank->bias = vector(in, name, shape->ffn);
    if (in->code == 0 && up_type != lowrank->type)
        refuse(in, FLASHINFER_EFORMAT, "the two factors blk.%u.fc1 and fc2 differ in type", index);
    if (lowrank->rank > in->weights->rank_max) in->weights->rank_max = lowrank->rank;
}

/* What names a layer's neurons, from whichever file it is in. */
static void layout_predictor(layout *in, flin_layer_predictor *predictor, uint32_t index)
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

static void layout_ends(layout *in)
{
    flin_weights *weights = in->weights;
    const flin_shape *shape = in->shape;

    weights->token_embedding = matrix(in, "token_embd.weight", shape->vocab, shape->token_width);
    weights->position_embedding = matrix(in, "position_embd.weight", shape->context, shape->width);
    if (shape->token_width != shape->width) {
        weights->project_in = linear(in, "token_embd_proj_in", shape->width, shape->token_width);
        weights->project_out = linear(in, "token_embd_proj_out", shape->token_width, shape->width);
    }
    if (shape->final_norm) weights->output_norm = norm(in, "output_norm");
    if (flin_gguf_find_tensor(in->gguf, "output.weight") != NULL)
        weights->output.weight = matrix(in, "output.weight", shape->vocab, shape->token_width);
    else
        weights->output.weight = weights->token_embedding;
}

int flin_weights_layout(flin_weights *weights, flin_arena *arena, const flin_gguf *gguf,
                        const flin_shape *shape, const flin_predictor_choice *predictors,
                        flashinfer_error *error)
{
    layout in = {weights, arena, gguf, gguf, shape, predictors, error, 0};
    flin_layer unplaced;

    memset(weights, 0, sizeof *weights);
    weights->loads_max = gguf->tensor_count;
    if (predictors->gguf != gguf) weights->loads_max += predictors->gguf->tensor_count;
    weights->loads = FLIN_TAKE(arena, flin_load, weights->loads_max);
    weights->layers = FLIN_TAKE(arena, flin_layer, shape->layers);
    layout_ends(&in);
    for (uint32_t i = 0; i < shape->layers && in.code == 0; i++) {
        flin_layer *layer = weights->layers != NULL ? &weights->layers[i] : &unplaced;
        memset(layer, 0, sizeof *layer);
        layout_attention(&in, layer, i);
        layout_ffn(&in, layer, i);
        if (predictors->kind != 0 && in.code == 0) layout_predictor(&in, &layer->predictor, i);
    }
    return in.code;
}

uint64_t flin_weights_identity(const flin_weights *weights, const flin_shape *shape)
{
    flin_hash_stream stream;

    flin_hash_begin(&stream);
    for (uint32_t i = 0; i < shape->layers; i++) {
        const flin_layer *layer = &weights->layers[i];
        for (uint32_t neuron = 0; neuron < shape->ffn; neuron++) {
            uint64_t row = flin_bundles_index(&layer->ffn.bundles, neuron);
            flin_hash_add(&stream,
                          &layer->ffn.bundles.sums[row * shape->bundle.part_count + FLIN_PART_UP],
                          sizeof(uint64_t));
        }
        flin_hash_add(&stream, layer->ffn.up_bias, shape->ffn * sizeof(float));
    }
    return flin_hash_end(&stream);
}

int flin_weights_load(flin_weights *weights, flin_storage *storage, flin_storage *predictors,
                      int verify, flashinfer_error *error, flin_load_progress progress, void *user)
{
    uint64_t done = 0;

    for (uint32_t i = 0; i < weights->load_count; i++) {
        const flin_gguf_tensor *tensor = weights->loads[i].tensor;
        char name[NAME_BYTES];
        int code;

        (void)snprintf(name, sizeof name, "%.*s", (int)tensor->name.bytes, tensor->name.data);
        code =
            flin_storage_read(weights->loads[i].from_predictors ? predictors : storage,
                              tensor->offset, weights->loads[i].data, tensor->bytes, name, error);
        if (code != 0) return code;
        if (verify && flin_hash(weights->loads[i].data, tensor->bytes) != tensor->sum)
            return flin_fail_at(
                error, FLASHINFER_ECORRUPT, -1, -1, (int64_t)tensor->offset,
                "tensor %s does not match its checksum: the file is damaged, copy or pack it again",
                name);
        done += tensor->bytes;
        if (progress != NULL && progress(done, weights->load_bytes, user) != 0)
            return flin_fail(error, FLASHINFER_ECANCELED, "opening the model was cancelled");
    }
    return 0;
}
