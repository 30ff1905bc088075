/*
 * persimmon.c - Persimmon (Elsen et al. 2023): layer norms, also of every head of queries and keys,
 * a part of which turns; squared ReLU without a gate; biases everywhere but in the head.
 */
#include "model/arch/lines.h"

static const flin_key_rule keys[] = {
    FLIN_KEYS_OF_SIZES,
    FLIN_KEY(F32, norm_epsilon, "attention.layer_norm_epsilon", "layer_norm_eps", 0, 1,
             FLIN_KEY_DEFAULTED, .otherwise = 1e-5),
    FLIN_KEY(U32, rotary.rotated, "rope.dimension_count", NULL, 2, FLIN_HEAD_WIDTH_MAX, 0),
    FLIN_KEY(F32, rotary.base, "rope.freq_base", "rope_theta", 1, 1e12, 0, .otherwise = 25000,
             .sources[1] = FLIN_FOR_PACKING("rope_parameters.rope_theta")),
    FLIN_KEYS_OF_SCALING,
    FLIN_KEY(U32, vocab, "vocab_size", "vocab_size", 1, FLIN_VOCAB_MAX, FLIN_KEY_COUNTED),
    {.name = NULL},
};

#define BIAS FLIN_TENSOR_BIAS
#define SAME_TYPE FLIN_TENSOR_TYPE_AS_BEFORE
#define ALL_OF_THEM "self_attn.query_key_value"

/* Old GGUF files of this name have queries, keys and values in one tensor, head by head; ours have
   three tensors, so that neither is taken for the other. */
static const flin_tensor_rule tensors[] = {
    FLIN_TENSOR(MATRIX, MODEL, token_embedding, "token_embd", "embed_tokens", VOCAB, WIDTH, 0),
    FLIN_TENSOR(NORM, MODEL, output_norm, "output_norm", "final_layernorm", WIDTH, ONE, BIAS),
    FLIN_TENSOR(LINEAR, MODEL, output, "output", "lm_head", VOCAB, WIDTH,
                FLIN_TENSOR_TIED | FLIN_TENSOR_TOP),
    FLIN_TENSOR(NORM, LAYER, attention_norms.before, "attn_norm", "input_layernorm", WIDTH, ONE,
                BIAS),
    FLIN_TENSOR(LINEAR, LAYER, attention.query, "attn_q", ALL_OF_THEM, QUERIES, WIDTH, BIAS,
                .grouped = FLIN_GROUPED_QUERIES),
    FLIN_TENSOR(LINEAR, LAYER, attention.key, "attn_k", ALL_OF_THEM, KEYS, WIDTH, BIAS | SAME_TYPE,
                .grouped = FLIN_GROUPED_KEYS),
    FLIN_TENSOR(LINEAR, LAYER, attention.value, "attn_v", ALL_OF_THEM, KEYS, WIDTH,
                BIAS | SAME_TYPE, .grouped = FLIN_GROUPED_VALUES),
    FLIN_TENSOR(NORM, LAYER, attention.query_norm, "attn_q_norm", "self_attn.q_layernorm", HEAD,
                ONE, BIAS),
    FLIN_TENSOR(NORM, LAYER, attention.key_norm, "attn_k_norm", "self_attn.k_layernorm", HEAD, ONE,
                BIAS),
    FLIN_TENSOR(LINEAR, LAYER, attention.output, "attn_output", "self_attn.dense", WIDTH, QUERIES,
                BIAS),
    FLIN_TENSOR(NORM, LAYER, ffn_norms.before, "ffn_norm", "post_attention_layernorm", WIDTH, ONE,
                BIAS),
    FLIN_TENSOR(PART, LAYER, ffn.up_bias, "ffn_up", "mlp.dense_h_to_4h", NEURONS, WIDTH, BIAS,
                .role = FLIN_PART_UP),
    FLIN_TENSOR(PART, LAYER, ffn.down_bias, "ffn_down", "mlp.dense_4h_to_h", WIDTH, NEURONS, BIAS,
                .role = FLIN_PART_DOWN),
    {.name = NULL},
};

static int read_config(const flin_config_keys *config, flin_shape *shape, flin_facts *facts,
                       flashinfer_error *error)
{
    int tied = 0;
    int code = config->flag(config, "tie_word_embeddings", 0, &tied, error);

    if (code == 0) code = flin_config_expect(config, "qk_layernorm", 1, error);
    if (code == 0) code = flin_config_rotary(config, "", 0.5, shape, error);
    facts->tied = (uint32_t)tied;
    shape->final_norm = 1;
    return code;
}

static const flin_model_type model_types[] = {{.name = "persimmon"}, {.name = NULL}};
static const char *const prefixes[] = {"model.", "", NULL};

const flin_architecture flin_architecture_persimmon = {
    .name = "persimmon",
    .title = "Persimmon",
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
