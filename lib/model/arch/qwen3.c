/*
 * qwen3.c - Qwen 3, dense (Yang et al. 2025): as Llama, with a norm of every head of queries and
 * keys before it turns; rotary pairs lie half a head apart in model files, too.
 */
#include "model/arch/lines.h"

static const flin_key_rule keys[] = {
    FLIN_KEYS_OF_SIZES,
    FLIN_KEY(U32, kv_heads, "attention.head_count_kv", "num_key_value_heads", 1, FLIN_HEADS_MAX, 0),
    FLIN_KEY(F32, norm_epsilon, "attention.layer_norm_rms_epsilon", "rms_norm_eps", 0, 1,
             FLIN_KEY_DEFAULTED, .otherwise = 1e-6),
    FLIN_KEY(U32, head_width, "attention.key_length", "head_dim", 1, FLIN_HEAD_WIDTH_MAX,
             FLIN_KEY_DEFAULTED, .otherwise = 128),
    FLIN_KEY(U32, head_width, "attention.value_length", NULL, 1, FLIN_HEAD_WIDTH_MAX,
             FLIN_KEY_AGAIN),
    FLIN_KEY(U32, rotary.rotated, "rope.dimension_count", NULL, 2, FLIN_HEAD_WIDTH_MAX, 0),
    FLIN_KEY(F32, rotary.base, "rope.freq_base", "rope_theta", 1, 1e12, 0, .otherwise = 10000,
             .sources[1] = FLIN_FOR_PACKING("rope_parameters.rope_theta")),
    FLIN_KEYS_OF_SCALING,
    FLIN_KEY(U32, window, "attention.sliding_window", "sliding_window", 1, FLIN_CONTEXT_MAX,
             FLIN_KEY_SPARSE),
    FLIN_KEY(U32, vocab, "vocab_size", "vocab_size", 1, FLIN_VOCAB_MAX, FLIN_KEY_COUNTED),
    {.name = NULL},
};

#define SAME_TYPE FLIN_TENSOR_TYPE_AS_BEFORE

static const flin_tensor_rule tensors[] = {
    FLIN_TENSOR(MATRIX, MODEL, token_embedding, "token_embd", "embed_tokens", VOCAB, WIDTH, 0),
    FLIN_TENSOR(NORM, MODEL, output_norm, "output_norm", "norm", WIDTH, ONE, 0),
    FLIN_TENSOR(LINEAR, MODEL, output, "output", "lm_head", VOCAB, WIDTH,
                FLIN_TENSOR_TIED | FLIN_TENSOR_TOP),
    FLIN_TENSOR(NORM, LAYER, attention_norms.before, "attn_norm", "input_layernorm", WIDTH, ONE, 0),
    FLIN_TENSOR(LINEAR, LAYER, attention.query, "attn_q", "self_attn.q_proj", QUERIES, WIDTH, 0),
    FLIN_TENSOR(LINEAR, LAYER, attention.key, "attn_k", "self_attn.k_proj", KEYS, WIDTH, SAME_TYPE),
    FLIN_TENSOR(LINEAR, LAYER, attention.value, "attn_v", "self_attn.v_proj", KEYS, WIDTH,
                SAME_TYPE),
    FLIN_TENSOR(LINEAR, LAYER, attention.output, "attn_output", "self_attn.o_proj", WIDTH, QUERIES,
                0),
    FLIN_TENSOR(NORM, LAYER, attention.query_norm, "attn_q_norm", "self_attn.q_norm", HEAD, ONE, 0),
    FLIN_TENSOR(NORM, LAYER, attention.key_norm, "attn_k_norm", "self_attn.k_norm", HEAD, ONE, 0),
    FLIN_TENSOR(NORM, LAYER, ffn_norms.before, "ffn_norm", "post_attention_layernorm", WIDTH, ONE,
                0),
    FLIN_TENSORS_OF_GATED_FFN,
    {.name = NULL},
};

static int read_config(const flin_config_keys *config, flin_shape *shape, flin_facts *facts,
                       flashinfer_error *error)
{
    int tied = 0;
    int code = config->flag(config, "tie_word_embeddings", 0, &tied, error);

    if (code == 0) code = flin_config_expect(config, "attention_bias", 0, error);
    if (code == 0) code = flin_config_rotary(config, "", 1, shape, error);
    if (code == 0) code = flin_config_late_window(config, shape, error);
    if (code == 0) code = flin_config_threshold(config, shape, error);
    facts->tied = (uint32_t)tied;
    shape->final_norm = 1;
    return code;
}

static const flin_model_type model_types[] = {{.name = "qwen3"}, {.name = NULL}};
static const char *const prefixes[] = {"model.", "", NULL};

const flin_architecture flin_architecture_qwen3 = {
    .name = "qwen3",
    .title = "Qwen 3",
    .model_types = FLIN_FOR_PACKING(model_types),
    .keys = keys,
    .tensors = tensors,
    .norm_kind = FLIN_NORM_RMS,
    .gated = 1,
    .rotates = 1,
    .pairs = FLIN_PAIRS_HALVES,
    .activations = FLIN_ACTIVATIONS_OF_GATES,
    .activation_key = FLIN_FOR_PACKING("hidden_act"),
    .activation_otherwise = "silu",
    .prefixes = FLIN_FOR_PACKING(prefixes),
    .layer_stem = FLIN_FOR_PACKING("layers"),
    .read_config = FLIN_FOR_PACKING(read_config),
};
