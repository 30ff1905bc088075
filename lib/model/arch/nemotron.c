/*
 * nemotron.c - Nemotron and Minitron (Parmar et al. 2024): layer norms, a part of every head turns,
 * keys and values shared by groups of heads, squared ReLU without a gate. Checkpoints have the
 * weights of norms less one.
 */
#include "model/arch/lines.h"

static const flin_key_rule keys[] = {
    FLIN_KEYS_OF_SIZES,
    FLIN_KEY(U32, kv_heads, "attention.head_count_kv", "num_key_value_heads", 1, FLIN_HEADS_MAX, 0),
    FLIN_KEY(F32, norm_epsilon, "attention.layer_norm_epsilon", "norm_eps", 0, 1,
             FLIN_KEY_DEFAULTED, .otherwise = 1e-5),
    FLIN_KEY(U32, head_width, "attention.key_length", "head_dim", 1, FLIN_HEAD_WIDTH_MAX, 0),
    FLIN_KEY(U32, head_width, "attention.value_length", NULL, 1, FLIN_HEAD_WIDTH_MAX,
             FLIN_KEY_AGAIN),
    FLIN_KEY(U32, rotary.rotated, "rope.dimension_count", NULL, 2, FLIN_HEAD_WIDTH_MAX, 0),
    FLIN_KEY(F32, rotary.base, "rope.freq_base", "rope_theta", 1, 1e12, 0, .otherwise = 10000,
             .sources[1] = FLIN_FOR_PACKING("rope_parameters.rope_theta")),
    FLIN_KEYS_OF_SCALING,
    FLIN_KEY(U32, vocab, "vocab_size", "vocab_size", 1, FLIN_VOCAB_MAX, FLIN_KEY_COUNTED),
    {.name = NULL},
};

#define SAME_TYPE FLIN_TENSOR_TYPE_AS_BEFORE
#define NORMAL (FLIN_TENSOR_BIAS | FLIN_TENSOR_PLUS_ONE)

static const flin_tensor_rule tensors[] = {
    FLIN_TENSOR(MATRIX, MODEL, token_embedding, "token_embd", "embed_tokens", VOCAB, WIDTH, 0),
    FLIN_TENSOR(NORM, MODEL, output_norm, "output_norm", "norm", WIDTH, ONE, NORMAL),
    FLIN_TENSOR(LINEAR, MODEL, output, "output", "lm_head", VOCAB, WIDTH,
                FLIN_TENSOR_TIED | FLIN_TENSOR_TOP),
    FLIN_TENSOR(NORM, LAYER, attention_norms.before, "attn_norm", "input_layernorm", WIDTH, ONE,
                NORMAL),
    FLIN_TENSOR(LINEAR, LAYER, attention.query, "attn_q", "self_attn.q_proj", QUERIES, WIDTH, 0),
    FLIN_TENSOR(LINEAR, LAYER, attention.key, "attn_k", "self_attn.k_proj", KEYS, WIDTH, SAME_TYPE),
    FLIN_TENSOR(LINEAR, LAYER, attention.value, "attn_v", "self_attn.v_proj", KEYS, WIDTH,
                SAME_TYPE),
    FLIN_TENSOR(LINEAR, LAYER, attention.output, "attn_output", "self_attn.o_proj", WIDTH, QUERIES,
                0),
    FLIN_TENSOR(NORM, LAYER, ffn_norms.before, "ffn_norm", "post_attention_layernorm", WIDTH, ONE,
                NORMAL),
    FLIN_TENSOR(PART, LAYER, ffn.up_bias, "ffn_up", "mlp.up_proj", NEURONS, WIDTH, 0,
                .role = FLIN_PART_UP),
    FLIN_TENSOR(PART, LAYER, ffn.down_bias, "ffn_down", "mlp.down_proj", WIDTH, NEURONS, 0,
                .role = FLIN_PART_DOWN),
    {.name = NULL},
};

static int read_config(const flin_config_keys *config, flin_shape *shape, flin_facts *facts,
                       flashinfer_error *error)
{
    double share = 0.5;
    int tied = 0;
    int code = config->flag(config, "tie_word_embeddings", 0, &tied, error);

    if (code == 0) code = flin_config_expect(config, "attention_bias", 0, error);
    if (code == 0) code = flin_config_expect(config, "mlp_bias", 0, error);
    if (code == 0)
        code = flin_config_number(config, "rope_percent", "rope_percentage", 0, 2, &share, error);
    if (code == 0) code = flin_config_rotary(config, "", share, shape, error);
    facts->tied = (uint32_t)tied;
    shape->final_norm = 1;
    return code;
}

static const flin_model_type model_types[] = {{.name = "nemotron"}, {.name = NULL}};
static const char *const prefixes[] = {"model.", "", NULL};

const flin_architecture flin_architecture_nemotron = {
    .name = "nemotron",
    .title = "Nemotron",
    .model_types = FLIN_FOR_PACKING(model_types),
    .keys = keys,
    .tensors = tensors,
    .norm_kind = FLIN_NORM_LAYER,
    .rotates = 1,
    .pairs = FLIN_PAIRS_HALVES,
    .activations = 1u << FLIN_ACTIVATION_RELU | 1u << FLIN_ACTIVATION_RELU2,
    .activation_key = FLIN_FOR_PACKING("hidden_act"),
    .activation_otherwise = "relu2",
    .prefixes = FLIN_FOR_PACKING(prefixes),
    .layer_stem = FLIN_FOR_PACKING("layers"),
    .read_config = FLIN_FOR_PACKING(read_config),
};
