/*
 * llama.c - the Llama family (Touvron et al. 2023), to Llama 3.3: RMS norms, rotary positions, keys
 * and values shared by groups of heads, gated FFN, no biases; and Mistral, whose layers may look
 * back at a window only. With SiLU, or with ReLU and its relatives, whose neurons mostly do not
 * fire: ReluLLaMA, ProSparse, Bamboo, TurboSparse-Mistral, SparseLM.
 *
 * Model files keep rotary pairs side by side, as every GGUF of this name does; checkpoints keep
 * them half a head apart.
 */
#include "model/arch/lines.h"

#define NEEDED FLIN_KEY_REQUIRED

static const flin_key_rule keys[] = {
    FLIN_KEYS_OF_SIZES,
    FLIN_KEY(U32, kv_heads, "attention.head_count_kv", "num_key_value_heads", 1, FLIN_HEADS_MAX, 0),
    FLIN_KEY(F32, norm_epsilon, "attention.layer_norm_rms_epsilon", "rms_norm_eps", 0, 1, NEEDED),
    FLIN_KEY(U32, head_width, "attention.key_length", "head_dim", 1, FLIN_HEAD_WIDTH_MAX, 0),
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

static int is_slowed_down(const flin_shape *shape)
{
    return shape->rotary.scaling == FLIN_SCALING_LLAMA3;
}

static const flin_tensor_rule tensors[] = {
    FLIN_TENSOR(MATRIX, MODEL, token_embedding, "token_embd", "embed_tokens", VOCAB, WIDTH, 0),
    FLIN_TENSOR(VECTOR, MODEL, rotary_slowdown, "rope_freqs", NULL, PAIRS, ONE, 0,
                .wanted = is_slowed_down, .make = FLIN_FOR_PACKING(flin_config_slowdown)),
    FLIN_TENSOR(NORM, MODEL, output_norm, "output_norm", "norm", WIDTH, ONE, 0),
    FLIN_TENSOR(LINEAR, MODEL, output, "output", "lm_head", VOCAB, WIDTH,
                FLIN_TENSOR_TIED | FLIN_TENSOR_TOP),
    FLIN_TENSOR(NORM, LAYER, attention_norms.before, "attn_norm", "input_layernorm", WIDTH, ONE, 0),
    FLIN_TENSOR(LINEAR, LAYER, attention.query, "attn_q", "self_attn.q_proj", QUERIES, WIDTH,
                FLIN_TENSOR_HALVES),
    FLIN_TENSOR(LINEAR, LAYER, attention.key, "attn_k", "self_attn.k_proj", KEYS, WIDTH,
                FLIN_TENSOR_HALVES | SAME_TYPE),
    FLIN_TENSOR(LINEAR, LAYER, attention.value, "attn_v", "self_attn.v_proj", KEYS, WIDTH,
                SAME_TYPE),
    FLIN_TENSOR(LINEAR, LAYER, attention.output, "attn_output", "self_attn.o_proj", WIDTH, QUERIES,
                0),
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
    if (code == 0) code = flin_config_expect(config, "mlp_bias", 0, error);
    if (code == 0) code = flin_config_whole_rotary(config, shape, error);
    if (code == 0) code = flin_config_layers(config, shape, error);
    if (code == 0) code = flin_config_threshold(config, shape, error);
    facts->tied = (uint32_t)tied;
    shape->final_norm = 1;
    return code;
}

/* What their code computes stands in config.json but for the last two. */
static const flin_model_type model_types[] = {
    {.name = "llama", .looks_at_all = 1},
    {.name = "mistral"},
    {.name = "sparsellama", .looks_at_all = 1},
    {.name = "bamboo", .activation = "drelu"},
    {.name = "llama_sparse_relu", .activation = "relu", .looks_at_all = 1},
    {.name = NULL},
};
static const char *const prefixes[] = {"model.", "", NULL};

const flin_architecture flin_architecture_llama = {
    .name = "llama",
    .title = "Llama",
    .model_types = FLIN_FOR_PACKING(model_types),
    .keys = keys,
    .tensors = tensors,
    .norm_kind = FLIN_NORM_RMS,
    .gated = 1,
    .rotates = 1,
    .pairs = FLIN_PAIRS_NEIGHBOURS,
    .activations = FLIN_ACTIVATIONS_OF_GATES,
    .activation_key = FLIN_FOR_PACKING("hidden_act"),
    .activation_otherwise = "silu",
    .prefixes = FLIN_FOR_PACKING(prefixes),
    .layer_stem = FLIN_FOR_PACKING("layers"),
    .read_config = FLIN_FOR_PACKING(read_config),
};
