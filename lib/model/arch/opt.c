/*
 * opt.c - the OPT family (Zhang et al. 2022): learned positions, biases, ReLU, tied head; pre-norm,
 * or post-norm with narrower token embeddings in the 350m model.
 */
#include "model/arch/arch.h"

#include <string.h>

#define NEEDED FLIN_KEY_REQUIRED

static const flin_key_rule keys[] = {
    FLIN_KEY(U32, context, "context_length", "max_position_embeddings", 1, FLIN_CONTEXT_MAX,
             NEEDED),
    FLIN_KEY(U32, width, "embedding_length", "hidden_size", 1, FLIN_WIDTH_MAX, NEEDED),
    FLIN_KEY(U32, layers, "block_count", "num_hidden_layers", 1, FLIN_LAYERS_MAX, NEEDED),
    FLIN_KEY(U32, ffn, "feed_forward_length", "ffn_dim", 1, FLIN_NEURONS_MAX, NEEDED),
    FLIN_KEY(U32, heads, "attention.head_count", "num_attention_heads", 1, FLIN_HEADS_MAX, NEEDED),
    FLIN_KEY(F32, norm_epsilon, "attention.layer_norm_epsilon", NULL, 0, 1, NEEDED,
             .otherwise = 1e-5),
    FLIN_KEY(U32, vocab, "vocab_size", "vocab_size", 1, FLIN_VOCAB_MAX, NEEDED),
    FLIN_KEY(U32, token_width, "word_embed_proj_dim", "word_embed_proj_dim", 1, FLIN_WIDTH_MAX, 0),
    FLIN_KEY(BOOL, norm_before, "norm_before", "do_layer_norm_before", 0, 1, 0, .otherwise = 1),
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
    FLIN_TENSOR(MATRIX, MODEL, token_embedding, "token_embd", "embed_tokens", VOCAB, TOKEN_WIDTH,
                0),
    FLIN_TENSOR(LINEAR, MODEL, project_in, "token_embd_proj_in", "project_in", WIDTH, TOKEN_WIDTH,
                0, .wanted = is_projected),
    FLIN_TENSOR(LINEAR, MODEL, project_out, "token_embd_proj_out", "project_out", TOKEN_WIDTH,
                WIDTH, 0, .wanted = is_projected),
    /* transformers keeps two rows in front of position 0 */
    FLIN_TENSOR(MATRIX, MODEL, position_embedding, "position_embd", "embed_positions", CONTEXT,
                WIDTH, FLIN_TENSOR_UNQUANTISED, .skip_rows = 2),
    FLIN_TENSOR(NORM, MODEL, output_norm, "output_norm", "final_layer_norm", WIDTH, ONE, BIAS,
                .wanted = has_final_norm),
    FLIN_TENSOR(LINEAR, MODEL, output, "output", "lm_head", VOCAB, TOKEN_WIDTH,
                FLIN_TENSOR_TIED | FLIN_TENSOR_TOP),
    FLIN_TENSOR(NORM, LAYER, attention_norms.before, "attn_norm", "self_attn_layer_norm", WIDTH,
                ONE, BIAS),
    FLIN_TENSOR(LINEAR, LAYER, attention.query, "attn_q", "self_attn.q_proj", QUERIES, WIDTH, BIAS),
    FLIN_TENSOR(LINEAR, LAYER, attention.key, "attn_k", "self_attn.k_proj", KEYS, WIDTH,
                BIAS | FLIN_TENSOR_TYPE_AS_BEFORE),
    FLIN_TENSOR(LINEAR, LAYER, attention.value, "attn_v", "self_attn.v_proj", KEYS, WIDTH,
                BIAS | FLIN_TENSOR_TYPE_AS_BEFORE),
    FLIN_TENSOR(LINEAR, LAYER, attention.output, "attn_output", "self_attn.out_proj", WIDTH,
                QUERIES, BIAS),
    FLIN_TENSOR(NORM, LAYER, ffn_norms.before, "ffn_norm", "final_layer_norm", WIDTH, ONE, BIAS),
    FLIN_TENSOR(PART, LAYER, ffn.up_bias, "ffn_up", "fc1", NEURONS, WIDTH, BIAS,
                .role = FLIN_PART_UP),
    FLIN_TENSOR(PART, LAYER, ffn.down_bias, "ffn_down", "fc2", WIDTH, NEURONS, BIAS,
                .role = FLIN_PART_DOWN),
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

static const flin_model_type model_types[] = {{.name = "opt"}, {.name = NULL}};
static const char *const prefixes[] = {"model.decoder.", "decoder.", NULL};

const flin_architecture flin_architecture_opt = {
    .name = "opt",
    .title = "OPT",
    .model_types = FLIN_FOR_PACKING(model_types),
    .keys = keys,
    .tensors = tensors,
    .norm_kind = FLIN_NORM_LAYER,
    .activations = 1u << FLIN_ACTIVATION_RELU,
    .activation_key = FLIN_FOR_PACKING("activation_function"),
    .activation_otherwise = "relu",
    .prefixes = FLIN_FOR_PACKING(prefixes),
    .layer_stem = FLIN_FOR_PACKING("layers"),
    .read_config = FLIN_FOR_PACKING(read_config),
    .ffn_input = FLIN_FOR_PACKING(ffn_input),
    .settle_layer = settle_layer,
};
