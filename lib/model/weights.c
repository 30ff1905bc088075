/*
 * weights.c - lays out what stays in memory by walking the architecture's tensors, and loads it.
 */
#include "model/weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/arch/arch.h"
#include "model/placing.h"
#include "util/hash.h"

/* --------------------------------------------------------------------------------- the tables */

static flin_norm place_norm(flin_placing *in, const flin_tensor_rule *rule, int32_t layer)
{
    const uint32_t count = flin_side_of(in->shape, rule->rows);
    flin_norm norm = {in->shape->norm_kind, in->shape->norm_epsilon, count, NULL, NULL};
    char name[FLIN_TENSOR_NAME_BYTES];

    norm.weight =
        flin_placing_vector(in, flin_tensor_name(name, layer, rule->name, ".weight"), count);
    if ((rule->flags & FLIN_TENSOR_BIAS) != 0)
        norm.bias =
            flin_placing_vector(in, flin_tensor_name(name, layer, rule->name, ".bias"), count);
    return norm;
}

static flin_matrix place_matrix(flin_placing *in, const flin_tensor_rule *rule, int32_t layer)
{
    char name[FLIN_TENSOR_NAME_BYTES];

    (void)flin_tensor_name(name, layer, rule->name, ".weight");
    if ((rule->flags & FLIN_TENSOR_TIED) != 0 && flin_gguf_find_tensor(in->gguf, name) == NULL)
        return in->weights->token_embedding;
    return flin_placing_matrix(in, name, flin_side_of(in->shape, rule->rows),
                               flin_side_of(in->shape, rule->cols));
}

static const float *place_bias(flin_placing *in, const flin_tensor_rule *rule, int32_t layer)
{
    char name[FLIN_TENSOR_NAME_BYTES];

    if ((rule->flags & FLIN_TENSOR_BIAS) == 0) return NULL;
    return flin_placing_vector(in, flin_tensor_name(name, layer, rule->name, ".bias"),
                               flin_side_of(in->shape, rule->rows));
}

/* Queries, keys and values in one tensor: three matrices one below the other. */
static void place_fused(flin_placing *in, const flin_tensor_rule *rule, int32_t layer,
                        flin_linear *linears)
{
    const uint32_t counts[] = {flin_side_of(in->shape, FLIN_SIDE_QUERIES),
                               flin_side_of(in->shape, FLIN_SIDE_KEYS),
                               flin_side_of(in->shape, FLIN_SIDE_KEYS)};
    const flin_matrix whole = place_matrix(in, rule, layer);
    const float *bias = place_bias(in, rule, layer);
    const uint64_t row_bytes = flin_type_bytes(whole.type, whole.cols);

    if (flin_shape_is_plain(in->shape))
        flin_placing_refuse(in, FLASHINFER_EUNSUPPORTED,
                            "blk.%d.%s has queries, keys and values in one, which only files in "
                            "flash layout may: make one from the checkpoint with flashinfer_pack()",
                            (int)layer, rule->name);
    for (uint32_t i = 0, first = 0; i < 3; first += counts[i++]) {
        const uint8_t *data = whole.data;
        linears[i].weight = whole;
        linears[i].weight.data = data != NULL ? data + first * row_bytes : NULL;
        linears[i].weight.rows = linears[i].weight.held = counts[i];
        linears[i].bias = bias != NULL ? bias + first : NULL;
    }
}

/* A vector that not every file of the architecture has. */
static const float *place_vector(flin_placing *in, const flin_tensor_rule *rule, int32_t layer)
{
    char name[FLIN_TENSOR_NAME_BYTES];

    (void)flin_tensor_name(name, layer, rule->name, ".weight");
    if (flin_gguf_find_tensor(in->gguf, name) == NULL) return NULL;
    return flin_placing_vector(in, name, flin_side_of(in->shape, rule->rows));
}

/* Whether a file has a vector it says by having it. */
static int is_wanted(const flin_shape *shape, const flin_tensor_rule *rule)
{
    return rule->wanted == NULL || rule->kind == FLIN_KIND_VECTOR || rule->wanted(shape);
}

/* The tensors of one scope into their slots. base: flin_weights, or a flin_layer. */
static void place_scope(flin_placing *in, enum flin_tensor_scope scope, int32_t layer, void *base)
{
    const flin_tensor_rule *rule = in->shape->descriptor->tensors;
    enum flin_type before = FLIN_F32;

    for (; rule->name != NULL && in->code == 0; rule++) {
        void *slot = (uint8_t *)base + rule->field;
        flin_matrix matrix = {.type = before};
        if (rule->scope != scope || !is_wanted(in->shape, rule)) continue;
        switch (rule->kind) {
        case FLIN_KIND_NORM:
            *(flin_norm *)slot = place_norm(in, rule, layer);
            break;
        case FLIN_KIND_MATRIX:
            *(flin_matrix *)slot = matrix = place_matrix(in, rule, layer);
            break;
        case FLIN_KIND_LINEAR:
            matrix = place_matrix(in, rule, layer);
            *(flin_linear *)slot = (flin_linear){matrix, place_bias(in, rule, layer)};
            break;
        case FLIN_KIND_PART:
            if ((rule->flags & FLIN_TENSOR_BIAS) != 0)
                *(const float **)slot = place_bias(in, rule, layer);
            if (flin_shape_is_plain(in->shape))
                ((flin_layer *)base)->ffn.parts[rule->role] = place_matrix(in, rule, layer);
            break;
        case FLIN_KIND_FUSED:
            if (FLIN_MORE_ARCHITECTURES) place_fused(in, rule, layer, slot);
            break;
        case FLIN_KIND_VECTOR:
            *(const float **)slot = place_vector(in, rule, layer);
            break;
        }
        if ((rule->flags & FLIN_TENSOR_TYPE_AS_BEFORE) != 0 && matrix.type != before &&
            !flin_shape_is_plain(in->shape))
            flin_placing_refuse(
                in, FLASHINFER_EUNSUPPORTED,
                "blk.%d.%s and blk.%d.%s have different types; pack the model again", (int)layer,
                rule[-1].name, (int)layer, rule->name);
        before = matrix.type;
    }
}

/* Checksums, order and the place of the bundles; the bundles themselves stay on flash. */
static void place_bundles(flin_placing *in, flin_bundles *bundles, int32_t layer)
{
    const flin_shape *shape = in->shape;
    const flin_gguf_tensor *data, *sums, *rows = NULL;
    char name[FLIN_TENSOR_NAME_BYTES];

    sums = flin_placing_want_type(in, flin_tensor_name(name, layer, FLIN_TENSOR_SUMS, ""),
                                  FLIN_GGUF_I64, shape->bundle.part_count, shape->ffn);
    if (shape->bundle.ordered)
        rows = flin_placing_want_type(in, flin_tensor_name(name, layer, FLIN_TENSOR_ROWS, ""),
                                      FLIN_GGUF_I32, shape->ffn, 1);
    data = flin_placing_want_type(in, flin_tensor_name(name, layer, FLIN_TENSOR_BUNDLES, ""),
                                  FLIN_GGUF_I8, shape->bundle.stride_bytes, shape->ffn);
    if (in->code != 0) return;
    bundles->sums = flin_placing_place(in, sums);
    bundles->order = rows != NULL ? flin_placing_place(in, rows) : NULL;
    bundles->offset = data->offset;
}

/* What of a layer is not a tensor. index: of the layer. */
static void describe(const flin_shape *shape, flin_layer *layer, uint32_t index)
{
    layer->attention.heads = shape->heads;
    layer->attention.kv_heads = shape->kv_heads;
    layer->attention.head_width = shape->head_width;
    layer->attention.scale = shape->attention_scale > 0 ? shape->attention_scale
                                                        : 1.0f / sqrtf((float)shape->head_width);
    layer->attention.cap = shape->attention_cap;
    layer->attention.window = flin_shape_window(shape, index);
    layer->attention.local = shape->local_base > 0 && layer->attention.window != 0;
    layer->attention.rotary = shape->rotary;
    layer->parallel = shape->parallel;
    layer->ffn.neurons = shape->ffn;
    layer->ffn.gated = shape->gated;
    layer->ffn.activation = shape->activation;
    if (shape->descriptor->settle_layer != NULL) shape->descriptor->settle_layer(shape, layer);
}

uint64_t flin_weights_bundle_offset(const flin_gguf *gguf, uint32_t layer)
{
    char name[FLIN_TENSOR_NAME_BYTES];
    const flin_gguf_tensor *bundles = flin_gguf_find_tensor(
        gguf, flin_tensor_name(name, (int32_t)layer, FLIN_TENSOR_BUNDLES, ""));

    return bundles != NULL ? bundles->offset : 0;
}

int flin_weights_layout(flin_weights *weights, flin_arena *arena, const flin_gguf *gguf,
                        const flin_shape *shape, const flin_predictor_choice *predictors,
                        flashinfer_error *error)
{
    flin_placing in = {weights, arena, gguf, gguf, shape, predictors, error, 0};
    flin_layer *layers = weights->layers;

    memset(weights, 0, sizeof *weights);
    weights->layers = layers;
    weights->loads_max = gguf->tensor_count;
    if (predictors->gguf != gguf) weights->loads_max += predictors->gguf->tensor_count;
    weights->loads = FLIN_TAKE(arena, flin_load, weights->loads_max);
    place_scope(&in, FLIN_SCOPE_MODEL, -1, weights);
    for (uint32_t i = 0; i < shape->layers && in.code == 0; i++) {
        flin_layer *layer = &layers[i];
        memset(layer, 0, sizeof *layer);
        place_scope(&in, FLIN_SCOPE_LAYER, (int32_t)i, layer);
        if (!flin_shape_is_plain(shape)) place_bundles(&in, &layer->ffn.bundles, (int32_t)i);
        describe(shape, layer, i);
        if (predictors->kind != 0 && in.code == 0)
            flin_placing_predictor(&in, &layer->predictor, i);
    }
    return in.code;
}

/* -------------------------------------------------------------------------------------- loading */

int flin_weights_load(flin_weights *weights, flin_storage *storage, flin_storage *predictors,
                      int verify, flashinfer_error *error, flin_load_progress progress, void *user)
{
    uint64_t done = 0;

    for (uint32_t i = 0; i < weights->load_count; i++) {
        const flin_gguf_tensor *tensor = weights->loads[i].tensor;
        char name[FLIN_TENSOR_NAME_BYTES];
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

/* ------------------------------------------------------------------- what a file says of itself */

int flin_weights_resident_type(const flin_gguf *gguf, const flin_shape *shape, enum flin_type *type)
{
    const flin_tensor_rule *rule =
        flin_arch_rule(shape->descriptor, offsetof(flin_weights, token_embedding));
    const flin_gguf_tensor *tokens = NULL;
    char name[FLIN_TENSOR_NAME_BYTES];

    if (rule != NULL)
        tokens = flin_gguf_find_tensor(gguf, flin_tensor_name(name, -1, rule->name, ".weight"));
    return tokens != NULL && flin_type_from_gguf(tokens->type, name, 0, type, NULL) == 0;
}

/* Does the name end so, behind "blk.N."? */
static int is_of_layer(flin_string name, const char *stem)
{
    const char *dot = memchr(name.data, '.', name.bytes);
    size_t begin, bytes = strlen(stem);

    if (dot == NULL) return 0;
    dot = memchr(dot + 1, '.', name.bytes - (size_t)(dot + 1 - name.data));
    if (dot == NULL) return 0;
    begin = (size_t)(dot + 1 - name.data);
    return name.bytes - begin >= bytes && memcmp(name.data + begin, stem, bytes) == 0;
}

uint64_t flin_weights_parameters(const flin_gguf *gguf, const flin_shape *shape)
{
    static const char *const made[] = {FLIN_TENSOR_SKETCH,       FLIN_TENSOR_SKETCH_BIAS,
                                       FLIN_TENSOR_SKETCH_SCALE, FLIN_TENSOR_LOWRANK_DOWN,
                                       FLIN_TENSOR_LOWRANK_UP,   FLIN_TENSOR_LOWRANK_BIAS};
    uint64_t count = (uint64_t)shape->layers * shape->ffn * shape->bundle.part_count * shape->width;
    uint64_t bytes, elements;

    for (uint32_t i = 0; i < gguf->tensor_count; i++) {
        const flin_gguf_tensor *tensor = &gguf->tensors[i];
        int is_made = 0;
        for (size_t k = 0; k < sizeof made / sizeof made[0]; k++)
            is_made |= is_of_layer(tensor->name, made[k]);
        if (is_made || tensor->type == FLIN_GGUF_I8 || tensor->type == FLIN_GGUF_I32 ||
            tensor->type == FLIN_GGUF_I64)
            continue;
        if (flin_gguf_type_size(tensor->type, &bytes, &elements))
            count += tensor->bytes / bytes * elements;
    }
    return count;
}
