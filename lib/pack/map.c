/*
 * map.c - walks the architecture's tensors and keys.
 *
 * Order in the file: what every run keeps in memory, then the sketches, then the bundles layer by
 * layer, then the sums.
 */
#include "pack/map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/names.h"
#include "pack/json.h"
#include "predictor/sketch.h"

#define SOURCE_NAME_BYTES 160

/* What one call of flin_packing_map() passes around. */
typedef struct mapper {
    flin_packing *packing;
    const flin_shape *shape;
    const flin_facts *facts;
    const flin_source *source;
    flin_gguf_writer *writer;
    const char *prefix; /* of names in the checkpoint */
    int32_t layer;      /* being mapped; -1: none */
} mapper;

/* -------------------------------------------------------------------------------------- finding */

static const char *source_name(const mapper *map, const flin_tensor_rule *rule, const char *suffix,
                               char text[SOURCE_NAME_BYTES])
{
    if ((rule->flags & FLIN_TENSOR_TOP) != 0)
        (void)snprintf(text, SOURCE_NAME_BYTES, "%s%s", rule->source, suffix);
    else if (map->layer < 0)
        (void)snprintf(text, SOURCE_NAME_BYTES, "%s%s%s", map->prefix, rule->source, suffix);
    else
        (void)snprintf(text, SOURCE_NAME_BYTES, "%s%s.%d.%s%s", map->prefix,
                       map->shape->descriptor->layer_stem, (int)map->layer, rule->source, suffix);
    return text;
}

static int refuse(const mapper *map, int code, const char *name, const char *expected,
                  const char *found, flashinfer_error *error)
{
    if (found == NULL)
        return flin_fail_at(error, code, map->layer, -1, -1, "the checkpoint has no tensor %s %s",
                            name, expected);
    return flin_fail_at(error, code, map->layer, -1, -1, "tensor %s: expected %s, found %s", name,
                        expected, found);
}

/* The rule's tensor with the shape (rows, columns), or (columns) if rows is 0. */
static int find_tensor(const mapper *map, const flin_tensor_rule *rule, const char *suffix,
                       uint64_t rows, uint64_t columns, const flin_source_tensor **tensor,
                       flashinfer_error *error)
{
    const flin_source_tensor *found;
    uint32_t count = rows == 0 ? 1 : 2;
    char name[SOURCE_NAME_BYTES], expected[64], shape[160];

    found = map->source->find(map->source, source_name(map, rule, suffix, name));
    if (rows == 0)
        (void)snprintf(expected, sizeof expected, "[%llu]", (unsigned long long)columns);
    else
        (void)snprintf(expected, sizeof expected, "[%llu, %llu]", (unsigned long long)rows,
                       (unsigned long long)columns);
    if (found == NULL) return refuse(map, FLASHINFER_ECHECKPOINT, name, expected, NULL, error);
    flin_source_shape(found, shape, sizeof shape);
    if (found->dimension_count != count || found->dimensions[count - 1] != columns ||
        (count == 2 && found->dimensions[0] != rows))
        return refuse(map, FLASHINFER_ECHECKPOINT, name, expected, shape, error);
    if (!found->readable) {
        (void)snprintf(shape, sizeof shape, "dtype %.32s",
                       flin_json_is_plain(found->type_name) ? found->type_name : "?");
        return refuse(map, FLASHINFER_EUNSUPPORTED, name, "F32, F16 or BF16", shape, error);
    }
    *tensor = found;
    return 0;
}

/* The prefix under which the checkpoint has the architecture's first tensor. */
static int find_prefix(mapper *map, flashinfer_error *error)
{
    const flin_architecture *architecture = map->shape->descriptor;
    char name[SOURCE_NAME_BYTES];

    for (const char *const *prefix = architecture->prefixes; *prefix != NULL; prefix++) {
        map->prefix = *prefix;
        (void)source_name(map, architecture->tensors, ".weight", name);
        if (map->source->find(map->source, name) != NULL) return 0;
    }
    map->prefix = architecture->prefixes[0];
    return flin_fail(error, FLASHINFER_ECHECKPOINT,
                     "the checkpoint has no tensor %s: is it a model of the %s family?",
                     source_name(map, architecture->tensors, ".weight", name), architecture->title);
}

/* --------------------------------------------------------------------------------------- adding */

static uint32_t add_target(const mapper *map, const char *name, const char *suffix, uint32_t type,
                           uint64_t columns, uint64_t rows)
{
    char full[FLIN_TENSOR_NAME_BYTES];

    return flin_gguf_add_tensor(map->writer, flin_tensor_name(full, map->layer, name, suffix), type,
                                columns, rows);
}

static int append(mapper *map, flin_packing_tensor tensor, flashinfer_error *error)
{
    flin_packing *packing = map->packing;

    if (packing->tensor_count == packing->tensor_capacity) {
        uint32_t capacity = packing->tensor_capacity == 0 ? 256 : packing->tensor_capacity * 2;
        flin_packing_tensor *grown = realloc(packing->tensors, capacity * sizeof *grown);
        if (grown == NULL)
            return flin_fail(error, FLASHINFER_ENOMEM, "no memory for a table of tensors");
        packing->tensors = grown;
        packing->tensor_capacity = capacity;
    }
    tensor.layer = map->layer;
    packing->tensors[packing->tensor_count++] = tensor;
    return 0;
}

/* Rows of the checkpoint's tensor: of queries, keys and values together where they are one. */
static uint64_t source_rows(const mapper *map, const flin_tensor_rule *rule)
{
    const enum flin_side side = rule->grouped != FLIN_GROUPED_NOT ? FLIN_SIDE_FUSED : rule->rows;

    return (uint64_t)flin_side_of(map->shape, side) + rule->skip_rows;
}

/* How they come into the order of model files. */
static flin_packing_rows rows_of(const flin_shape *shape, const flin_tensor_rule *rule)
{
    const uint32_t queries = shape->heads * shape->head_width,
                   keys = shape->kv_heads * shape->head_width;
    flin_packing_rows rows = {0};

    rows.halves = (rule->flags & FLIN_TENSOR_HALVES) != 0;
    rows.grouped = rule->grouped != FLIN_GROUPED_NOT;
    if (rows.halves || rows.grouped) rows.of_head = shape->head_width;
    if (rule->grouped == FLIN_GROUPED_KEYS) rows.first = queries;
    if (rule->grouped == FLIN_GROUPED_VALUES) rows.first = queries + keys;
    rows.queries = shape->heads;
    rows.kv_heads = shape->kv_heads;
    return rows;
}

/* A vector in float32: from the checkpoint if it must have it, else filled. source may be NULL. */
static int map_vector(mapper *map, const flin_tensor_rule *rule, const char *suffix, int is_missing,
                      float fill, const flin_source_tensor **source, flashinfer_error *error)
{
    const uint32_t count = flin_side_of(map->shape, rule->rows);
    const int is_weight = strcmp(suffix, ".weight") == 0;
    flin_packing_tensor tensor = {.count = count, .fill = fill, .type = FLIN_F32};
    int code = is_missing ? 0
                          : find_tensor(map, rule, suffix, 0, source_rows(map, rule),
                                        &tensor.source, error);

    if (code != 0) return code;
    if (is_weight && (rule->flags & FLIN_TENSOR_PLUS_ONE) != 0 && !is_missing) tensor.plus = 1;
    if (rule->grouped != FLIN_GROUPED_NOT && !is_missing) {
        tensor.rows = rows_of(map->shape, rule);
        tensor.columns = 1;
    }
    if (source != NULL) *source = tensor.source;
    tensor.target = add_target(map, rule->name, suffix, FLIN_GGUF_F32, count, 0);
    return append(map, tensor, error);
}

static int map_bias(mapper *map, const flin_tensor_rule *rule, const flin_source_tensor **source,
                    flashinfer_error *error)
{
    if ((rule->flags & FLIN_TENSOR_BIAS) == 0) return 0;
    return map_vector(map, rule, ".bias", (int)map->facts->no_biases, 0.0f, source, error);
}

/* The norm before the FFN also shapes the sketch's margins. */
static int map_norm(mapper *map, const flin_tensor_rule *rule, flashinfer_error *error)
{
    const flin_architecture *architecture = map->shape->descriptor;
    const size_t ffn_input = architecture->ffn_input != NULL
                                 ? architecture->ffn_input(map->shape)
                                 : offsetof(flin_layer, ffn_norms.before);
    const flin_source_tensor *weight, *bias = NULL;
    const int is_missing = (int)map->facts->no_norms;
    int code = map_vector(map, rule, ".weight", is_missing, 1.0f, &weight, error);

    if (code == 0 && (rule->flags & FLIN_TENSOR_BIAS) != 0)
        code = map_vector(map, rule, ".bias", is_missing, 0.0f, &bias, error);
    if (code == 0 && rule->scope == FLIN_SCOPE_LAYER && rule->field == ffn_input) {
        map->packing->ffns[map->layer].norm_weight = weight;
        map->packing->ffns[map->layer].norm_plus =
            (rule->flags & FLIN_TENSOR_PLUS_ONE) != 0 && !is_missing ? 1.0f : 0.0f;
        map->packing->ffns[map->layer].norm_bias = bias;
    }
    return code;
}

/* A tied head is left out, but if the checkpoint has one it must be the embeddings again. */
static int is_left_out(const mapper *map, const flin_tensor_rule *rule)
{
    char name[SOURCE_NAME_BYTES];

    return (rule->flags & FLIN_TENSOR_TIED) != 0 && map->facts->tied &&
           map->source->find(map->source, source_name(map, rule, ".weight", name)) == NULL;
}

static int map_matrix(mapper *map, const flin_tensor_rule *rule, flashinfer_error *error)
{
    flin_packing *packing = map->packing;
    const uint64_t rows = flin_side_of(map->shape, rule->rows),
                   columns = flin_side_of(map->shape, rule->cols);
    flin_packing_tensor tensor = {.skip = rule->skip_rows * columns,
                                  .count = rows * columns,
                                  .columns = (uint32_t)columns,
                                  .type = packing->choices.resident};
    int code;

    if (is_left_out(map, rule)) return 0;
    code =
        find_tensor(map, rule, ".weight", source_rows(map, rule), columns, &tensor.source, error);
    if (code != 0) return code;
    if (rule->scope == FLIN_SCOPE_MODEL && rule->field == offsetof(flin_weights, token_embedding))
        packing->embeddings = tensor.source;
    if ((rule->flags & FLIN_TENSOR_TIED) != 0 && map->facts->tied) {
        packing->head = tensor.source;
        return 0;
    }
    tensor.rows = rows_of(map->shape, rule);
    if ((rule->flags & FLIN_TENSOR_UNQUANTISED) != 0 && flin_type_quantised(tensor.type))
        tensor.type = FLIN_F16;
    tensor.target =
        add_target(map, rule->name, ".weight", flin_type_to_gguf(tensor.type), columns, rows);
    return append(map, tensor, error);
}

/* What no checkpoint has as a tensor. */
static int map_made(mapper *map, const flin_tensor_rule *rule, flashinfer_error *error)
{
    const uint32_t count = flin_side_of(map->shape, rule->rows);
    flin_packing_tensor tensor = {.count = count, .make = rule->make, .type = FLIN_F32};

    tensor.target = add_target(map, rule->name, ".weight", FLIN_GGUF_F32, count, 0);
    return append(map, tensor, error);
}

/* Its weights go into bundles; only the bias is a tensor. */
static int map_part(mapper *map, const flin_tensor_rule *rule, flashinfer_error *error)
{
    flin_packing_ffn *ffn = &map->packing->ffns[map->layer];
    const flin_source_tensor *bias = NULL;
    int code = map_bias(map, rule, &bias, error);

    if (rule->role == flin_shape_decider(map->shape)) ffn->decider_bias = bias;
    return code != 0
               ? code
               : find_tensor(map, rule, ".weight", flin_side_of(map->shape, rule->rows),
                             flin_side_of(map->shape, rule->cols), &ffn->parts[rule->role], error);
}

static int map_rule(mapper *map, const flin_tensor_rule *rule, flashinfer_error *error)
{
    int code;

    switch (rule->kind) {
    case FLIN_KIND_NORM:
        return map_norm(map, rule, error);
    case FLIN_KIND_PART:
        return map_part(map, rule, error);
    case FLIN_KIND_VECTOR:
        return map_made(map, rule, error);
    case FLIN_KIND_MATRIX:
    case FLIN_KIND_LINEAR:
    case FLIN_KIND_FUSED:
        break;
    }
    code = map_matrix(map, rule, error);
    return code != 0 ? code : map_bias(map, rule, NULL, error);
}

static int map_scope(mapper *map, enum flin_tensor_scope scope, flashinfer_error *error)
{
    const flin_tensor_rule *rule = map->shape->descriptor->tensors;
    int code = 0;

    for (; rule->name != NULL && code == 0; rule++)
        if (rule->scope == scope && (rule->wanted == NULL || rule->wanted(map->shape)))
            code = map_rule(map, rule, error);
    return code;
}

/* ---------------------------------------------------------------------------- bundles, sketches */

uint64_t flin_packing_stride(uint64_t payload_bytes)
{
    uint64_t page = flin_round_up(payload_bytes, 4096);
    uint64_t sector = flin_round_up(payload_bytes, 512);

    if ((page - payload_bytes) * 8 <= payload_bytes) return page;
    if ((sector - payload_bytes) * 4 <= payload_bytes) return sector;
    return flin_round_up(payload_bytes, 64);
}

/* Parts as the table has them, one behind the other. */
static void settle_bundle(flin_shape *shape, const flin_packing_choices *choices)
{
    const flin_tensor_rule *rule = shape->descriptor->tensors;
    const uint32_t bytes = (uint32_t)flin_type_bytes(choices->ffn, shape->width);
    flin_bundle *bundle = &shape->bundle;

    memset(bundle, 0, sizeof *bundle);
    for (uint32_t role = 0; role < FLIN_PART_ROLES; role++)
        bundle->index_of[role] = FLIN_PART_ROLES;
    for (; rule->name != NULL; rule++) {
        if (rule->kind != FLIN_KIND_PART) continue;
        bundle->index_of[rule->role] = bundle->part_count;
        bundle->parts[bundle->part_count++] =
            (flin_part){bundle->payload_bytes, bytes, choices->ffn, rule->role};
        bundle->payload_bytes += bytes;
    }
    bundle->stride_bytes = (uint32_t)flin_packing_stride(bundle->payload_bytes);
    bundle->ordered = choices->order != NULL;
}

static void add_sums(mapper *map)
{
    flin_packing_ffn *ffn = &map->packing->ffns[map->layer];
    const flin_shape *shape = map->shape;

    ffn->bundle_sums =
        add_target(map, FLIN_TENSOR_SUMS, "", FLIN_GGUF_I64, shape->bundle.part_count, shape->ffn);
    if (shape->bundle.ordered)
        ffn->bundle_rows = add_target(map, FLIN_TENSOR_ROWS, "", FLIN_GGUF_I32, shape->ffn, 0);
}

static void add_sketch(mapper *map)
{
    const flin_shape *shape = map->shape;
    flin_packing_ffn *ffn = &map->packing->ffns[map->layer];
    uint32_t bits = map->packing->choices.sketch_bits;
    uint64_t tile_bytes = flin_sketch_tile_bytes(shape->width, bits);
    uint64_t tiles = flin_sketch_bytes(shape->ffn, shape->width, bits) / tile_bytes;

    ffn->sketch_weight = add_target(map, FLIN_TENSOR_SKETCH, "", FLIN_GGUF_I8, tile_bytes, tiles);
    ffn->sketch_bias = add_target(map, FLIN_TENSOR_SKETCH_BIAS, "", FLIN_GGUF_F32, shape->ffn, 0);
    ffn->sketch_scale =
        add_target(map, FLIN_TENSOR_SKETCH_SCALE, "", FLIN_GGUF_F32, shape->width, 0);
}

/* -------------------------------------------------------------------------------------- mapping */

/* Rows of quantised matrices are whole blocks. A part is as long as the model is wide. */
static int check_blocks(const flin_shape *shape, const flin_packing_choices *choices,
                        flashinfer_error *error)
{
    const flin_tensor_rule *rule = shape->descriptor->tensors;

    for (; rule->name != NULL; rule++) {
        const int is_part = rule->kind == FLIN_KIND_PART;
        enum flin_type type = is_part ? choices->ffn : choices->resident;
        uint32_t columns = is_part ? shape->width : flin_side_of(shape, rule->cols);
        if (rule->kind == FLIN_KIND_NORM || rule->kind == FLIN_KIND_VECTOR ||
            (rule->flags & FLIN_TENSOR_UNQUANTISED) != 0 || !flin_type_quantised(type) ||
            columns % FLIN_BLOCK == 0 || (rule->wanted != NULL && !rule->wanted(shape)))
            continue;
        return flin_fail(
            error, FLASHINFER_EUNSUPPORTED,
            "dtype %s needs rows of whole blocks of %u elements, this model's have %u; use f16",
            flin_type_name(type), FLIN_BLOCK, columns);
    }
    return 0;
}

static int map_layers(mapper *map, flashinfer_error *error)
{
    const int32_t layers = (int32_t)map->shape->layers;
    flin_packing_ffn *ffns = map->packing->ffns;
    int code = 0;

    for (map->layer = 0; code == 0 && map->layer < layers; map->layer++) {
        code = map_scope(map, FLIN_SCOPE_LAYER, error);
        add_sums(map);
    }
    if (code != 0) return code;
    if (map->packing->choices.sketch_bits != 0)
        for (map->layer = 0; map->layer < layers; map->layer++) add_sketch(map);
    for (map->layer = 0; map->layer < layers; map->layer++)
        ffns[map->layer].bundle = add_target(map, FLIN_TENSOR_BUNDLES, "", FLIN_GGUF_I8,
                                             map->shape->bundle.stride_bytes, map->shape->ffn);
    return 0;
}

int flin_packing_map(flin_packing *packing, const flin_checkpoint *checkpoint,
                     const flin_source *source, const flin_packing_choices *choices,
                     flin_gguf_writer *writer, flashinfer_error *error)
{
    mapper map = {.packing = packing,
                  .shape = &packing->shape,
                  .facts = &checkpoint->facts,
                  .source = source,
                  .writer = writer,
                  .layer = -1};
    int code;

    memset(packing, 0, sizeof *packing);
    packing->shape = checkpoint->shape;
    packing->choices = *choices;
    if (!flin_activation_has_zeros(&packing->shape.activation)) packing->choices.sketch_bits = 0;
    code = check_blocks(&packing->shape, choices, error);
    if (code != 0) return code;
    settle_bundle(&packing->shape, choices);
    packing->ffns = calloc(packing->shape.layers, sizeof *packing->ffns);
    if (packing->ffns == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for %u layers",
                         packing->shape.layers);
    code = find_prefix(&map, error);
    if (code == 0) code = map_scope(&map, FLIN_SCOPE_MODEL, error);
    return code != 0 ? code : map_layers(&map, error);
}

void flin_packing_release(flin_packing *packing)
{
    free(packing->tensors);
    free(packing->ffns);
    memset(packing, 0, sizeof *packing);
}

/* ----------------------------------------------------------------------------------------- keys */

static void put_part_keys(const flin_bundle *bundle, flin_gguf_writer *writer)
{
    static const char *const names[FLIN_PART_ROLES] = {"up", "down", "gate"};
    uint32_t types[FLIN_PART_ROLES];
    uint64_t offsets[FLIN_PART_ROLES], bytes[FLIN_PART_ROLES];

    flin_gguf_put_string_array(writer, "flashinfer.ffn.parts", bundle->part_count);
    for (uint32_t i = 0; i < bundle->part_count; i++) {
        const flin_part *part = &bundle->parts[i];
        size_t name_bytes = strlen(names[part->role]);
        flin_gguf_put_item(writer, &names[part->role], &name_bytes, 1);
        types[i] = flin_type_to_gguf(part->type);
        offsets[i] = part->offset_bytes;
        bytes[i] = part->bytes;
    }
    flin_gguf_put_array(writer, "flashinfer.ffn.part_types", FLIN_GGUF_VALUE_U32,
                        bundle->part_count, types, sizeof *types);
    flin_gguf_put_array(writer, "flashinfer.ffn.part_offsets", FLIN_GGUF_VALUE_U64,
                        bundle->part_count, offsets, sizeof *offsets);
    flin_gguf_put_array(writer, "flashinfer.ffn.part_bytes", FLIN_GGUF_VALUE_U64,
                        bundle->part_count, bytes, sizeof *bytes);
}

static void put_layout_keys(const flin_packing *packing, flin_gguf_writer *writer)
{
    const flin_shape *shape = &packing->shape;

    flin_gguf_put_u32(writer, "flashinfer.version", shape->bundle.ordered ? 2 : 1);
    put_part_keys(&shape->bundle, writer);
    flin_gguf_put_u64(writer, "flashinfer.ffn.stride", shape->bundle.stride_bytes);
    flin_gguf_put_string(writer, "flashinfer.ffn.activation",
                         flin_activation_name(shape->activation.kind));
    if (shape->activation.kind == FLIN_ACTIVATION_FATRELU)
        flin_gguf_put_f32(writer, "flashinfer.ffn.activation_threshold",
                          shape->activation.threshold);
    if (packing->choices.sketch_bits != 0)
        flin_gguf_put_u32(writer, "flashinfer.sketch.bits", packing->choices.sketch_bits);
}

static void put_key(const flin_key_rule *rule, const flin_shape *shape, flin_gguf_writer *writer)
{
    const uint8_t *field = (const uint8_t *)shape + rule->field;
    char name[128];
    uint32_t number;
    float value;

    (void)snprintf(name, sizeof name, "%s.%s", shape->architecture, rule->name);
    memcpy(&number, field, sizeof number);
    memcpy(&value, field, sizeof value);
    if ((rule->flags & FLIN_KEY_SPARSE) != 0 && number == 0) return;
    if (rule->kind == FLIN_KEY_TEXT) flin_gguf_put_string(writer, name, rule->texts[number]);
    if (rule->kind == FLIN_KEY_U32) flin_gguf_put_u32(writer, name, number);
    if (rule->kind == FLIN_KEY_F32) flin_gguf_put_f32(writer, name, value);
    if (rule->kind == FLIN_KEY_BOOL) flin_gguf_put_bool(writer, name, (int)number);
}

void flin_packing_put_keys(const flin_packing *packing, const flin_checkpoint *checkpoint,
                           flin_gguf_writer *writer)
{
    /* ggml's numbers for files that are mostly of a type */
    static const uint32_t file_types[FLIN_TYPES_PACKED] = {
        [FLIN_F32] = 0, [FLIN_F16] = 1, [FLIN_BF16] = 32, [FLIN_Q8_0] = 7, [FLIN_Q4_0] = 2};
    flin_shape plain = packing->shape;
    const flin_shape *shape = &plain;

    /* a tensor of its own says what its keys would */
    if (plain.rotary.scaling == FLIN_SCALING_LLAMA3)
        plain.rotary.scaling = plain.rotary.context = 0, plain.rotary.factor = 0;
    flin_gguf_put_string(writer, "general.architecture", shape->architecture);
    flin_gguf_put_string(writer, "general.name",
                         checkpoint->name[0] != '\0' ? checkpoint->name : shape->architecture);
    flin_gguf_put_u32(writer, "general.alignment", FLIN_GGUF_ALIGNMENT);
    flin_gguf_put_u32(writer, "general.file_type", file_types[packing->choices.resident]);
    for (const flin_key_rule *rule = shape->descriptor->keys; rule->name != NULL; rule++)
        put_key(rule, shape, writer);
    put_layout_keys(packing, writer);
}
