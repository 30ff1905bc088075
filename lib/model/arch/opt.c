/*
 * opt.c - the OPT family (Zhang et al. 2022): learned positions, biases, ReLU, tied head; pre-norm,
 * or post-norm with narrower token embeddings in the 350m model.
 */
#include "model/arch/arch.h"

#include <string.h>

static const flin_key_rule keys[] = {
    {"context_length",
     {"max_position_embeddings", NULL},
     FLIN_KEY_U32,
     FLIN_FIELD(context),
     1,
     FLIN_CONTEXT_MAX,
     FLIN_KEY_REQUIRED,
     0},
    {"embedding_length",
     {"hidden_size", NULL},
     FLIN_KEY_U32,
     FLIN_FIELD(width),
     1,
     FLIN_WIDTH_MAX,
     FLIN_KEY_REQUIRED,
     0},
    {"block_count",
     {"num_hidden_layers", NULL},
     FLIN_KEY_U32,
     FLIN_FIELD(layers),
     1,
     FLIN_LAYERS_MAX,
     FLIN_KEY_REQUIRED,
     0},
    {"feed_forward_length",
     {"ffn_dim", NULL},
     FLIN_KEY_U32,
     FLIN_FIELD(ffn),
     1,
     FLIN_NEURONS_MAX,
     FLIN_KEY_REQUIRED,
     0},
    {"attention.head_count",
     {"num_attention_heads", NULL},
     FLIN_KEY_U32,
     FLIN_FIELD(heads),
     1,
     FLIN_HEADS_MAX,
     FLIN_KEY_REQUIRED,
     0},
    {"attention.layer_norm_epsilon",
     {NULL, NULL},
     FLIN_KEY_F32,
     FLIN_FIELD(norm_epsilon),
     0,
     1,
     FLIN_KEY_REQUIRED,
     1e-5},
    {"vocab_size",
     {"vocab_size", NULL},
     FLIN_KEY_U32,
     FLIN_FIELD(vocab),
     1,
     FLIN_VOCAB_MAX,
     FLIN_KEY_REQUIRED,
     0},
    {"word_embed_proj_dim",
     {"word_embed_proj_dim", NULL},
     FLIN_KEY_U32,
     FLIN_FIELD(token_width),
     1,
     FLIN_WIDTH_MAX,
     0,
     0},
    {"norm_before",
     {"do_layer_norm_before", NULL},
     FLIN_KEY_BOOL,
     FLIN_FIELD(norm_before),
     0,
     1,
     0,
     1},
    {.name = NULL},
};

static int is_projected(const flin_shape *shape)
{
    return shape->token_width != shape->width;
}

static int has_final_norm(const flin_shape *shape)
{
    return shape->final_norm != 0;
}

#define BIAS FLIN_TENSOR_BIAS

static const flin_tensor_rule tensors[] = {
    {FLIN_KIND_MATRIX, FLIN_OF_MODEL(token_embedding), "token_embd", "embed_tokens",
     FLIN_EXTENT_VOCAB, FLIN_EXTENT_TOKEN_WIDTH, 0, 0, 0, NULL},
    {FLIN_KIND_LINEAR, FLIN_OF_MODEL(project_in), "token_embd_proj_in", "project_in",
     FLIN_EXTENT_WIDTH, FLIN_EXTENT_TOKEN_WIDTH, 0, 0, 0, is_projected},
    {FLIN_KIND_LINEAR, FLIN_OF_MODEL(project_out), "token_embd_proj_out", "project_out",
     FLIN_EXTENT_TOKEN_WIDTH, FLIN_EXTENT_WIDTH, 0, 0, 0, is_projected},
    /* transformers keeps two rows in front of position 0 */
    {FLIN_KIND_MATRIX, FLIN_OF_MODEL(position_embedding), "position_embd", "embed_positions",
     FLIN_EXTENT_CONTEXT, FLIN_EXTENT_WIDTH, FLIN_TENSOR_UNQUANTISED, 0, 2, NULL},
    {FLIN_KIND_NORM, FLIN_OF_MODEL(output_norm), "output_norm", "final_layer_norm",
     FLIN_EXTENT_WIDTH, FLIN_EXTENT_ONE, BIAS, 0, 0, has_final_norm},
    {FLIN_KIND_LINEAR, FLIN_OF_MODEL(output), "output", "lm_head", FLIN_EXTENT_VOCAB,
     FLIN_EXTENT_TOKEN_WIDTH, FLIN_TENSOR_TIED | FLIN_TENSOR_TOP, 0, 0, NULL},
    {FLIN_KIND_NORM, FLIN_OF_LAYER(attention_norms.before), "attn_norm", "self_attn_layer_norm",
     FLIN_EXTENT_WIDTH, FLIN_EXTENT_ONE, BIAS, 0, 0, NULL},
    {FLIN_KIND_LINEAR, FLIN_OF_LAYER(attention.query), "attn_q", "self_attn.q_proj",
     FLIN_EXTENT_QUERIES, FLIN_EXTENT_WIDTH, BIAS, 0, 0, NULL},
    {FLIN_KIND_LINEAR, FLIN_OF_LAYER(attention.key), "attn_k", "self_attn.k_proj", FLIN_EXTENT_KEYS,
     FLIN_EXTENT_WIDTH, BIAS | FLIN_TENSOR_TYPE_AS_BEFORE, 0, 0, NULL},
    {FLIN_KIND_LINEAR, FLIN_OF_LAYER(attention.value), "attn_v", "self_attn.v_proj",
     FLIN_EXTENT_KEYS, FLIN_EXTENT_WIDTH, BIAS | FLIN_TENSOR_TYPE_AS_BEFORE, 0, 0, NULL},
    {FLIN_KIND_LINEAR, FLIN_OF_LAYER(attention.output), "attn_output", "self_attn.out_proj",
     FLIN_EXTENT_WIDTH, FLIN_EXTENT_QUERIES, BIAS, 0, 0, NULL},
    {FLIN_KIND_NORM, FLIN_OF_LAYER(ffn_norms.before), "ffn_norm", "final_layer_norm",
     FLIN_EXTENT_WIDTH, FLIN_EXTENT_ONE, BIAS, 0, 0, NULL},
    {FLIN_KIND_PART, FLIN_OF_LAYER(ffn.up_bias), "ffn_up", "fc1", FLIN_EXTENT_NEURONS,
     FLIN_EXTENT_WIDTH, BIAS, FLIN_PART_UP, 0, NULL},
    {FLIN_KIND_PART, FLIN_OF_LAYER(ffn.down_bias), "ffn_down", "fc2", FLIN_EXTENT_WIDTH,
     FLIN_EXTENT_NEURONS, BIAS, FLIN_PART_DOWN, 0, NULL},
    {.name = NULL},
};

/* The same norms stand elsewhere in post-norm models. */
static void settle_layer(const flin_shape *shape, flin_layer *layer)
{
    if (shape->norm_before) return;
    layer->attention_norms.after = layer->attention_norms.before;
    layer->ffn_norms.after = layer->ffn_norms.before;
    memset(&layer->attention_norms.before, 0, sizeof layer->attention_norms.before);
    memset(&layer->ffn_norms.before, 0, sizeof layer->ffn_norms.before);
}

static int read_config(const flin_config_keys *config, flin_shape *shape, flin_facts *facts,
                       flashinfer_error *error)
{
    int removed = 0, affine = 1, biases = 1, tied = 1;
    int code = config->flag(config, "_remove_final_layer_norm", 0, &removed, error);

    if (code == 0) code = config->flag(config, "layer_norm_elementwise_affine", 1, &affine, error);
    if (code == 0) code = config->flag(config, "enable_bias", 1, &biases, error);
    if (code == 0) code = config->flag(config, "tie_word_embeddings", 1, &tied, error);
    shape->final_norm = shape->norm_before && !removed;
    *facts = (flin_facts){(uint32_t)tied, !affine, !biases};
    return code;
}

/* In post-norm models it is the norm behind attention. */
static size_t ffn_input(const flin_shape *shape)
{
    return shape->norm_before ? offsetof(flin_layer, ffn_norms.before)
                              : offsetof(flin_layer, attention_norms.before);
}

static const char *const model_types[] = {"opt", NULL};
static const char *const prefixes[] = {"model.decoder.", "decoder.", NULL};

const flin_architecture flin_architecture_opt = {
    .name = "opt",
    .title = "OPT",
    .model_types = model_types,
    .keys = keys,
    .tensors = tensors,
    .norm_kind = FLIN_NORM_LAYER,
    .activations = 1u << FLIN_ACTIVATION_RELU,
    .activation_key = "activation_function",
    .activation_otherwise = "relu",
    .prefixes = prefixes,
    .layer_stem = "layers",
    .read_config = read_config,
    .ffn_input = ffn_input,
    .settle_layer = settle_layer,
};
