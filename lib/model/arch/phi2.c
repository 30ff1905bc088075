/*
 * phi2.c - Phi 1, 1.5 and 2 (Li et al. 2023): attention and FFN side by side behind one norm, a
 * part of every head turns, biases everywhere, the head's included.
 */
#include "model/arch/config.h"

#define NEEDED FLIN_KEY_REQUIRED

static const flin_key_rule keys[] = {
    FLIN_KEY(U32, context, "context_length", "max_position_embeddings", 1, FLIN_CONTEXT_MAX,
             FLIN_KEY_DEFAULTED, .otherwise = 2048),
    FLIN_KEY(U32, width, "embedding_length", "hidden_size", 1, FLIN_WIDTH_MAX, NEEDED),
    FLIN_KEY(U32, layers, "block_count", "num_hidden_layers", 1, FLIN_LAYERS_MAX, NEEDED),
    FLIN_KEY(U32, ffn, "feed_forward_length", "intermediate_size", 1, FLIN_NEURONS_MAX, NEEDED),
    FLIN_KEY(U32, heads, "attention.head_count", "num_attention_heads", 1, FLIN_HEADS_MAX, NEEDED),
    FLIN_KEY(U32, kv_heads, "attention.head_count_kv", "num_key_value_heads", 1, FLIN_HEADS_MAX, 0),
    FLIN_KEY(F32, norm_epsilon, "attention.layer_norm_epsilon", "layer_norm_eps", 0, 1,
             FLIN_KEY_DEFAULTED, .otherwise = 1e-5),
    FLIN_KEY(U32, rotary.rotated, "rope.dimension_count", NULL, 2, FLIN_HEAD_WIDTH_MAX, 0),
    FLIN_KEY(F32, rotary.base, "rope.freq_base", "rope_theta", 1, 1e12, 0, .otherwise = 10000,
             .sources[1] = FLIN_FOR_PACKING("rope_parameters.rope_theta")),
    FLIN_KEYS_OF_SCALING,
    FLIN_KEY(U32, vocab, "vocab_size", "vocab_size", 1, FLIN_VOCAB_MAX, FLIN_KEY_COUNTED),
    {.name = NULL},
};

#define BIAS FLIN_TENSOR_BIAS

static const flin_tensor_rule tensors[] = {
    FLIN_TENSOR(MATRIX, MODEL, token_embedding, "token_embd", "embed_tokens", VOCAB, WIDTH, 0),
    FLIN_TENSOR(NORM, MODEL, output_norm, "output_norm", "final_layernorm", WIDTH, ONE, BIAS),
    FLIN_TENSOR(LINEAR, MODEL, output, "output", "lm_head", VOCAB, WIDTH, BIAS | FLIN_TENSOR_TOP),
    FLIN_TENSOR(NORM, LAYER, attention_norms.before, "attn_norm", "input_layernorm", WIDTH, ONE,
                BIAS),
    FLIN_TENSOR(LINEAR, LAYER, attention.query, "attn_q", "self_attn.q_proj", QUERIES, WIDTH, BIAS),
    FLIN_TENSOR(LINEAR, LAYER, attention.key, "attn_k", "self_attn.k_proj", KEYS, WIDTH,
                BIAS | FLIN_TENSOR_TYPE_AS_BEFORE),
    FLIN_TENSOR(LINEAR, LAYER, attention.value, "attn_v", "self_attn.v_proj", KEYS, WIDTH,
                BIAS | FLIN_TENSOR_TYPE_AS_BEFORE),
    FLIN_TENSOR(LINEAR, LAYER, attention.output, "attn_output", "self_attn.dense", WIDTH, QUERIES,
                BIAS),
    FLIN_TENSOR(PART, LAYER, ffn.up_bias, "ffn_up", "mlp.fc1", NEURONS, WIDTH, BIAS,
                .role = FLIN_PART_UP),
    FLIN_TENSOR(PART, LAYER, ffn.down_bias, "ffn_down", "mlp.fc2", WIDTH, NEURONS, BIAS,
                .role = FLIN_PART_DOWN),
    {.name = NULL},
};

static void settle_shape(flin_shape *shape)
{
    shape->parallel = 1;
}

/* One norm for both blocks. */
static void settle_layer(const flin_shape *shape, flin_layer *layer)
{
    (void)shape;
    layer->ffn_norms.before = layer->attention_norms.before;
}

static int read_config(const flin_config_keys *config, flin_shape *shape, flin_facts *facts,
                       flashinfer_error *error)
{
    int code = flin_config_expect(config, "tie_word_embeddings", 0, error);

    if (code == 0) code = flin_config_expect(config, "qk_layernorm", 0, error);
    if (code == 0) code = flin_config_rotary(config, "", 0.5, shape, error);
    facts->tied = 0;
    shape->final_norm = 1;
    return code;
}

static size_t ffn_input(const flin_shape *shape)
{
    (void)shape;
    return offsetof(flin_layer, attention_norms.before);
}

static const flin_model_type model_types[] = {{.name = "phi"}, {.name = NULL}};
static const char *const prefixes[] = {"model.", "", NULL};

const flin_architecture flin_architecture_phi2 = {
    .name = "phi2",
    .title = "Phi 2",
    .model_types = FLIN_FOR_PACKING(model_types),
    .keys = keys,
    .tensors = tensors,
    .norm_kind = FLIN_NORM_LAYER,
    .rotates = 1,
    .pairs = FLIN_PAIRS_HALVES,
    .activations = 1u << FLIN_ACTIVATION_GELU_TANH | 1u << FLIN_ACTIVATION_RELU,
    .activation_key = FLIN_FOR_PACKING("hidden_act"),
    .activation_otherwise = "gelu_tanh",
    .prefixes = FLIN_FOR_PACKING(prefixes),
    .layer_stem = FLIN_FOR_PACKING("layers"),
    .read_config = FLIN_FOR_PACKING(read_config),
    .ffn_input = FLIN_FOR_PACKING(ffn_input),
    .settle_shape = settle_shape,
    .settle_layer = settle_layer,
};
