/*
 * opt.c - the OPT family: pre- and post-norm, with or without biases, embeddings narrower than the
 * layers.
 *
 * Order in the file: what every run keeps in memory, then the sketches, then the bundles layer by
 * layer, then the sums.
 */
#include "pack/opt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/sketch/sketch.h"
#include "model/gguf.h"
#include "model/shape.h"
#include "pack/json.h"

#define POSITION_OFFSET 2u /* rows transformers keeps in front of position 0 */

/* What one call of flin_opt_lay_out() passes around. */
typedef struct mapper {
    flin_layout *layout;
    const flin_config *config;
    const flin_safetensors *set;
    flin_gguf_writer *writer;
    const char *prefix; /* "model.decoder." or "decoder." */
    int32_t layer;      /* being mapped; -1: none */
} mapper;

/* -------------------------------------------------------------------------------------- finding */

static int refuse(const mapper *map, int code, const char *name, const char *expected,
                  const char *found, flashinfer_error *error)
{
    if (found == NULL)
        return flin_fail_at(error, code, map->layer, -1, -1, "the checkpoint has no tensor %s %s",
                            name, expected);
    return flin_fail_at(error, code, map->layer, -1, -1, "tensor %s: expected %s, found %s", name,
                        expected, found);
}

/* A tensor by its full name with the shape (rows, columns), or (columns) if rows is 0. */
static int find_named(const mapper *map, const char *name, uint64_t rows, uint64_t columns,
                      const flin_safetensor **tensor, flashinfer_error *error)
{
    const flin_safetensor *found = flin_safetensors_find(map->set, name);
    uint32_t count = rows == 0 ? 1 : 2;
    char expected[64], shape[160];

    if (rows == 0)
        (void)snprintf(expected, sizeof expected, "[%llu]", (unsigned long long)columns);
    else
        (void)snprintf(expected, sizeof expected, "[%llu, %llu]", (unsigned long long)rows,
                       (unsigned long long)columns);
    if (found == NULL) return refuse(map, FLASHINFER_ECHECKPOINT, name, expected, NULL, error);
    flin_safetensors_shape(found, shape, sizeof shape);
    if (found->dimension_count != count || found->dimensions[count - 1] != columns ||
        (count == 2 && found->dimensions[0] != rows))
        return refuse(map, FLASHINFER_ECHECKPOINT, name, expected, shape, error);
    if (found->type == FLIN_SAFETENSORS_OTHER) {
        (void)snprintf(shape, sizeof shape, "dtype %.32s",
                       flin_json_is_plain(found->type_name) ? found->type_name : "?");
        return refuse(map, FLASHINFER_EUNSUPPORTED, name, "F32, F16 or BF16", shape, error);
    }
    *tensor = found;
    return 0;
}

/* prefix [layers.N.] name */
static int find_tensor(const mapper *map, const char *name, uint64_t rows, uint64_t columns,
                       const flin_safetensor **tensor, flashinfer_error *error)
{
    char full[128];

    if (map->layer < 0)
        (void)snprintf(full, sizeof full, "%s%s", map->prefix, name);
    else
        (void)snprintf(full, sizeof full, "%slayers.%d.%s", map->prefix, (int)map->layer, name);
    return find_named(map, full, rows, columns, tensor, error);
}

/* --------------------------------------------------------------------------------------- adding */

static uint32_t add_target(const mapper *map, const char *name, uint32_t type, uint64_t columns,
                           uint64_t rows)
{
    char full[FLIN_GGUF_NAME_BYTES];

    if (map->layer < 0)
        (void)snprintf(full, sizeof full, "%s", name);
    else
        (void)snprintf(full, sizeof full, "blk.%d.%s", (int)map->layer, name);
    return flin_gguf_add_tensor(map->writer, full, type, columns, rows);
}

static int append(mapper *map, flin_layout_tensor tensor, flashinfer_error *error)
{
    flin_layout *layout = map->layout;

    if (layout->tensor_count == layout->tensor_capacity) {
        uint32_t capacity = layout->tensor_capacity == 0 ? 256 : layout->tensor_capacity * 2;
        flin_layout_tensor *grown = realloc(layout->tensors, capacity * sizeof *grown);
        if (grown == NULL)
            return flin_fail(error, FLASHINFER_ENOMEM, "no memory for a table of tensors");
        layout->tensors = grown;
        layout->tensor_capacity = capacity;
    }
    tensor.layer = map->layer;
    layout->tensors[layout->tensor_count++] = tensor;
    return 0;
}

/* A matrix (rows, columns) in the type asked for; its first `skip_rows` rows stay behind. */
static int add_matrix(mapper *map, const char *target, const flin_safetensor *source,
                      enum flin_type type, uint64_t skip_rows, uint64_t rows, uint64_t columns,
                      flashinfer_error *error)
{
    flin_layout_tensor tensor = {
        .source = source, .skip = skip_rows * columns, .count = rows * columns, .type = type};

    tensor.target = add_target(map, target, flin_type_to_gguf(type), columns, rows);
    return append(map, tensor, error);
}

/* The same, found under its own name. */
static int map_matrix(mapper *map, const char *target, const char *name, uint64_t rows,
                      uint64_t columns, flashinfer_error *error)
{
    const flin_safetensor *source = NULL;
    int code = find_tensor(map, name, rows, columns, &source, error);

    return code != 0 ? code
                     : add_matrix(map, target, source, map->layout->choices.resident, 0, rows,
                                  columns, error);
}

/* A vector in float32: from the checkpoint if it must have it, else filled. source may be NULL. */
static int map_vector(mapper *map, const char *target, const char *name, uint64_t columns,
                      int present, float fill, const flin_safetensor **source,
                      flashinfer_error *error)
{
    flin_layout_tensor tensor = {.count = columns, .fill = fill, .type = FLIN_F32};
    int code = present ? find_tensor(map, name, 0, columns, &tensor.source, error) : 0;

    if (code != 0) return code;
    if (source != NULL) *source = tensor.source;
    tensor.target = add_target(map, target, FLIN_GGUF_F32, columns, 0);
    return append(map, tensor, error);
}

/* name.weight and name.bias of a norm */
static int map_norm(mapper *map, const char *target, const char *name,
                    const flin_safetensor **weight, const flin_safetensor **bias,
                    flashinfer_error *error)
{
    char to[48], from[48];
    int code;

    (void)snprintf(to, sizeof to, "%s.weight", target);
    (void)snprintf(from, sizeof from, "%s.weight", name);
    code = map_vector(map, to, from, map->config->width, map->config->norm_affine, 1.0f, weight,
                      error);
    if (code != 0) return code;
    (void)snprintf(to, sizeof to, "%s.bias", target);
    (void)snprintf(from, sizeof from, "%s.bias", name);
    return map_vector(map, to, from, map->config->width, map->config->norm_affine, 0.0f, bias,
                      error);
}

/* name.weight (width, width) and name.bias of a projection */
static int map_projection(mapper *map, const char *target, const char *name,
                          flashinfer_error *error)
{
    char to[48], from[48];
    int code;

    (void)snprintf(to, sizeof to, "%s.weight", target);
    (void)snprintf(from, sizeof from, "%s.weight", name);
    code = map_matrix(map, to, from, map->config->width, map->config->width, error);
    if (code != 0) return code;
    (void)snprintf(to, sizeof to, "%s.bias", target);
    (void)snprintf(from, sizeof from, "%s.bias", name);
    return map_vector(map, to, from, map->config->width, map->config->has_bias, 0.0f, NULL, error);
}

/* ------------------------------------------------------------------------------------ the model */

static int find_prefix(mapper *map, flashinfer_error *error)
{
    static const char *const prefixes[] = {"model.decoder.", "decoder."};
    char name[64];

    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        (void)snprintf(name, sizeof name, "%sembed_tokens.weight", prefixes[i]);
        map->prefix = prefixes[i];
        if (flin_safetensors_find(map->set, name) != NULL) return 0;
    }
    return flin_fail(
        error, FLASHINFER_ECHECKPOINT,
        "the checkpoint has no tensor model.decoder.embed_tokens.weight: is it an OPT model?");
}

/* A tied head is left out, but if the checkpoint has one it must be the embeddings again. */
static int map_head(mapper *map, flashinfer_error *error)
{
    const flin_config *config = map->config;
    const flin_safetensor *head;
    int code;

    if (config->tied && flin_safetensors_find(map->set, "lm_head.weight") == NULL) return 0;
    code = find_named(map, "lm_head.weight", config->vocab_count, config->embedding_width, &head,
                      error);
    if (code != 0) return code;
    if (!config->tied)
        return add_matrix(map, "output.weight", head, map->layout->choices.resident, 0,
                          config->vocab_count, config->embedding_width, error);
    map->layout->head = head;
    return 0;
}

static int map_ends(mapper *map, flashinfer_error *error)
{
    const flin_config *config = map->config;
    enum flin_type resident = map->layout->choices.resident;
    const flin_safetensor *positions;
    int code = find_tensor(map, "embed_tokens.weight", config->vocab_count, config->embedding_width,
                           &map->layout->embeddings, error);

    if (code == 0)
        code = add_matrix(map, "token_embd.weight", map->layout->embeddings, resident, 0,
                          config->vocab_count, config->embedding_width, error);
    if (code == 0 && config->embedding_width != config->width)
        code = map_matrix(map, "token_embd_proj_in.weight", "project_in.weight", config->width,
                          config->embedding_width, error);
    if (code == 0 && config->embedding_width != config->width)
        code = map_matrix(map, "token_embd_proj_out.weight", "project_out.weight",
                          config->embedding_width, config->width, error);
    if (code == 0)
        code = find_tensor(map, "embed_positions.weight", config->position_count + POSITION_OFFSET,
                           config->width, &positions, error);
    if (code == 0)
        code = add_matrix(map, "position_embd.weight", positions,
                          flin_type_quantised(resident) ? FLIN_F16 : resident, POSITION_OFFSET,
                          config->position_count, config->width, error);
    if (code == 0 && config->final_norm)
        code = map_norm(map, "output_norm", "final_layer_norm", NULL, NULL, error);
    return code != 0 ? code : map_head(map, error);
}

/* Everything of a layer that stays in memory, sketch excepted. */
static int map_layer(mapper *map, flashinfer_error *error)
{
    const flin_config *config = map->config;
    flin_layout_ffn *ffn = &map->layout->ffns[map->layer];
    const flin_safetensor *attention_weight, *attention_bias;
    int code = map_norm(map, "attn_norm", "self_attn_layer_norm", &attention_weight,
                        &attention_bias, error);

    if (code == 0) code = map_projection(map, "attn_q", "self_attn.q_proj", error);
    if (code == 0) code = map_projection(map, "attn_k", "self_attn.k_proj", error);
    if (code == 0) code = map_projection(map, "attn_v", "self_attn.v_proj", error);
    if (code == 0) code = map_projection(map, "attn_output", "self_attn.out_proj", error);
    if (code == 0)
        code = map_norm(map, "ffn_norm", "final_layer_norm", &ffn->norm_weight, &ffn->norm_bias,
                        error);
    if (code == 0)
        code = map_vector(map, "ffn_up.bias", "fc1.bias", config->neuron_count, config->has_bias,
                          0.0f, &ffn->up_bias, error);
    if (code == 0)
        code = map_vector(map, "ffn_down.bias", "fc2.bias", config->width, config->has_bias, 0.0f,
                          NULL, error);
    if (code == 0)
        code = find_tensor(map, "fc1.weight", config->neuron_count, config->width, &ffn->up, error);
    if (code == 0)
        code =
            find_tensor(map, "fc2.weight", config->width, config->neuron_count, &ffn->down, error);
    if (code != 0) return code;
    if (!config->norm_before) { /* the FFN's input then comes from the norm after attention */
        ffn->norm_weight = attention_weight;
        ffn->norm_bias = attention_bias;
    }
    ffn->bundle_sums =
        add_target(map, "ffn_bundle.xxh3", FLIN_GGUF_I64, FLIN_LAYOUT_PARTS, config->neuron_count);
    if (map->layout->choices.order != NULL)
        ffn->bundle_rows =
            add_target(map, "ffn_bundle.rows", FLIN_GGUF_I32, config->neuron_count, 0);
    return 0;
}

static void add_sketch(mapper *map)
{
    const flin_layout *layout = map->layout;
    flin_layout_ffn *ffn = &map->layout->ffns[map->layer];
    uint64_t tile_bytes = flin_sketch_tile_bytes(layout->width, layout->choices.sketch_bits);
    uint64_t tiles =
        flin_sketch_bytes(layout->neuron_count, layout->width, layout->choices.sketch_bits) /
        tile_bytes;

    ffn->sketch_weight = add_target(map, "ffn_sketch.weight", FLIN_GGUF_I8, tile_bytes, tiles);
    ffn->sketch_bias = add_target(map, "ffn_sketch.bias", FLIN_GGUF_F32, layout->neuron_count, 0);
    ffn->sketch_scale = add_target(map, "ffn_sketch.scale", FLIN_GGUF_F32, layout->width, 0);
}

uint64_t flin_layout_stride(uint64_t payload_bytes)
{
    uint64_t page = flin_round_up(payload_bytes, 4096);
    uint64_t sector = flin_round_up(payload_bytes, 512);

    if ((page - payload_bytes) * 8 <= payload_bytes) return page;
    if ((sector - payload_bytes) * 4 <= payload_bytes) return sector;
    return flin_round_up(payload_bytes, 64);
}

/* Rows of quantised matrices are whole blocks. */
static int check_blocks(const flin_config *config, const flin_layout_choices *choices,
                        flashinfer_error *error)
{
    const enum flin_type types[] = {choices->resident, choices->resident, choices->ffn};
    const uint32_t widths[] = {config->width, config->embedding_width, config->width};

    for (uint32_t i = 0; i < 3; i++)
        if (flin_type_quantised(types[i]) && widths[i] % FLIN_BLOCK != 0)
            return flin_fail(
                error, FLASHINFER_EUNSUPPORTED,
                "dtype %s needs rows of whole blocks of %u elements, this model's have "
                "%u; use f16",
                flin_type_name(types[i]), FLIN_BLOCK, widths[i]);
    return 0;
}

int flin_opt_lay_out(flin_layout *layout, const flin_config *config, const flin_safetensors *set,
                     const flin_layout_choices *choices, flin_gguf_writer *writer,
                     flashinfer_error *error)
{
    mapper map = {.layout = layout, .config = config, .set = set, .writer = writer, .layer = -1};
    int code;

    memset(layout, 0, sizeof *layout);
    layout->layer_count = config->layer_count;
    layout->width = config->width;
    layout->neuron_count = config->neuron_count;
    layout->choices = *choices;
    code = check_blocks(config, choices, error);
    if (code != 0) return code;
    layout->part_bytes = flin_type_bytes(choices->ffn, config->width);
    layout->stride_bytes = flin_layout_stride(FLIN_LAYOUT_PARTS * layout->part_bytes);
    layout->ffns = calloc(config->layer_count, sizeof *layout->ffns);
    if (layout->ffns == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for %u layers", config->layer_count);
    code = find_prefix(&map, error);
    if (code == 0) code = map_ends(&map, error);
    for (map.layer = 0; code == 0 && map.layer < (int32_t)config->layer_count; map.layer++)
        code = map_layer(&map, error);
    if (code != 0) return code;
    if (layout->choices.sketch_bits != 0)
        for (map.layer = 0; map.layer < (int32_t)config->layer_count; map.layer++) add_sketch(&map);
    for (map.layer = 0; map.layer < (int32_t)config->layer_count; map.layer++)
        layout->ffns[map.layer].bundle = add_target(&map, "ffn_bundle.weight", FLIN_GGUF_I8,
                                                    layout->stride_bytes, layout->neuron_count);
    return 0;
}

void flin_opt_release(flin_layout *layout)
{
    free(layout->tensors);
    free(layout->ffns);
    memset(layout, 0, sizeof *layout);
}

/* ----------------------------------------------------------------------------------------- keys */

static void put_bundle_keys(const flin_layout *layout, flin_gguf_writer *writer)
{
    static const char *const names[FLIN_LAYOUT_PARTS] = {"up", "down"};
    uint32_t type = flin_type_to_gguf(layout->choices.ffn);
    uint32_t types[FLIN_LAYOUT_PARTS] = {type, type};
    uint64_t offsets[FLIN_LAYOUT_PARTS] = {0, layout->part_bytes};
    uint64_t bytes[FLIN_LAYOUT_PARTS] = {layout->part_bytes, layout->part_bytes};

    flin_gguf_put_u32(writer, "flashinfer.version", layout->choices.order != NULL ? 2 : 1);
    flin_gguf_put_string_array(writer, "flashinfer.ffn.parts", FLIN_LAYOUT_PARTS);
    for (int i = 0; i < FLIN_LAYOUT_PARTS; i++) {
        size_t name_bytes = strlen(names[i]);
        flin_gguf_put_item(writer, &names[i], &name_bytes, 1);
    }
    flin_gguf_put_array(writer, "flashinfer.ffn.part_types", FLIN_GGUF_VALUE_U32, FLIN_LAYOUT_PARTS,
                        types, sizeof *types);
    flin_gguf_put_array(writer, "flashinfer.ffn.part_offsets", FLIN_GGUF_VALUE_U64,
                        FLIN_LAYOUT_PARTS, offsets, sizeof *offsets);
    flin_gguf_put_array(writer, "flashinfer.ffn.part_bytes", FLIN_GGUF_VALUE_U64, FLIN_LAYOUT_PARTS,
                        bytes, sizeof *bytes);
    flin_gguf_put_u64(writer, "flashinfer.ffn.stride", layout->stride_bytes);
    flin_gguf_put_string(writer, "flashinfer.ffn.activation", "relu");
    if (layout->choices.sketch_bits != 0)
        flin_gguf_put_u32(writer, "flashinfer.sketch.bits", layout->choices.sketch_bits);
}

void flin_opt_put_keys(const flin_layout *layout, const flin_config *config,
                       flin_gguf_writer *writer)
{
    /* ggml's numbers for files that are mostly of a type */
    static const uint32_t file_types[FLIN_TYPE_COUNT] = {
        [FLIN_F32] = 0, [FLIN_F16] = 1, [FLIN_BF16] = 32, [FLIN_Q8_0] = 7, [FLIN_Q4_0] = 2};

    flin_gguf_put_string(writer, "general.architecture", "opt");
    flin_gguf_put_string(writer, "general.name", config->name[0] != '\0' ? config->name : "opt");
    flin_gguf_put_u32(writer, "general.alignment", FLIN_GGUF_ALIGNMENT);
    flin_gguf_put_u32(writer, "general.file_type", file_types[layout->choices.resident]);
    flin_gguf_put_u32(writer, "opt.context_length", config->position_count);
    flin_gguf_put_u32(writer, "opt.embedding_length", config->width);
    flin_gguf_put_u32(writer, "opt.block_count", config->layer_count);
    flin_gguf_put_u32(writer, "opt.feed_forward_length", config->neuron_count);
    flin_gguf_put_u32(writer, "opt.attention.head_count", config->head_count);
    flin_gguf_put_f32(writer, "opt.attention.layer_norm_epsilon", 1e-5f);
    flin_gguf_put_u32(writer, "opt.vocab_size", config->vocab_count);
    flin_gguf_put_u32(writer, "opt.word_embed_proj_dim", config->embedding_width);
    flin_gguf_put_bool(writer, "opt.norm_before", config->norm_before);
    put_bundle_keys(layout, writer);
}
