/*
 * llama.c - the Llama family (Touvron et al. 2023): RMS norms, rotary positions, keys and values
 * shared by groups of heads, gated FFN, no biases; with SiLU, or with ReLU and its relatives, whose
 * neurons mostly do not fire.
 *
 * Model files keep rotary pairs side by side, as every GGUF of this name does; checkpoints keep
 * them half a head apart.
 */
#include "model/arch/arch.h"

#define NEEDED FLIN_KEY_REQUIRED

static const flin_key_rule keys[] = {
    FLIN_KEY(U32, context, "context_length", "max_position_embeddings", 1, FLIN_CONTEXT_MAX,
             NEEDED),
    FLIN_KEY(U32, width, "embedding_length", "hidden_size", 1, FLIN_WIDTH_MAX, NEEDED),
    FLIN_KEY(U32, layers, "block_count", "num_hidden_layers", 1, FLIN_LAYERS_MAX, NEEDED),
    FLIN_KEY(U32, ffn, "feed_forward_length", "intermediate_size", 1, FLIN_NEURONS_MAX, NEEDED),
    FLIN_KEY(U32, heads, "attention.head_count", "num_attention_heads", 1, FLIN_HEADS_MAX, NEEDED),
    FLIN_KEY(U32, kv_heads, "attention.head_count_kv", "num_key_value_heads", 1, FLIN_HEADS_MAX, 0),
    FLIN_KEY(F32, norm_epsilon, "attention.layer_norm_rms_epsilon", "rms_norm_eps", 0, 1, NEEDED),
    FLIN_KEY(U32, head_width, "attention.key_length", "head_dim", 1, FLIN_HEAD_WIDTH_MAX, 0),
    FLIN_KEY(U32, head_width, "attention.value_length", NULL, 1, FLIN_HEAD_WIDTH_MAX,
             FLIN_KEY_AGAIN),
    FLIN_KEY(U32, rotary.rotated, "rope.dimension_count", NULL, 2, FLIN_HEAD_WIDTH_MAX, 0),
    FLIN_KEY(F32, rotary.base, "rope.freq_base", "rope_theta", 1, 1e12, 0, .otherwise = 10000,
             .sources[1] = "rope_parameters.rope_theta"),
    FLIN_KEY(U32, vocab, "vocab_size", "vocab_size", 1, FLIN_VOCAB_MAX, 0),
    {.name = NULL},
};

#define SAME_TYPE FLIN_TENSOR_TYPE_AS_BEFORE

static const flin_tensor_rule tensors[] = {
    FLIN_TENSOR(MATRIX, MODEL, token_embedding, "token_embd", "embed_tokens", VOCAB, WIDTH, 0),
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
    FLIN_TENSOR(PART, LAYER, ffn.gate_bias, "ffn_gate", "mlp.gate_proj", NEURONS, WIDTH, 0,
                .role = FLIN_PART_GATE),
    FLIN_TENSOR(PART, LAYER, ffn.up_bias, "ffn_up", "mlp.up_proj", NEURONS, WIDTH, 0,
                .role = FLIN_PART_UP),
    FLIN_TENSOR(PART, LAYER, ffn.down_bias, "ffn_down", "mlp.down_proj", WIDTH, NEURONS, 0,
                .role = FLIN_PART_DOWN),
    {.name = NULL},
};

static int refuse(const char *key, const char *value, flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "config.json: \"%s\" is %.64s, which this version cannot pack", key, value);
}

/* Whatever bends rotary positions. An object without a type does nothing. */
static int check_rotary(const flin_config_keys *config, flashinfer_error *error)
{
    static const char *const types[] = {"rope_scaling.rope_type", "rope_scaling.type",
                                        "rope_parameters.rope_type"};
    static const flin_key_rule part = {
        .name = "partial_rotary_factor",
        .sources = {"partial_rotary_factor", "rope_parameters.partial_rotary_factor"},
        .kind = FLIN_KEY_F32,
        .most = 2};
    double share = 1;
    int found, code;

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        const char *type = config->text(config, types[i]);
        if (!config->is_given(&config->keys, types[i])) continue;
        if (type == NULL || strcmp(type, "default") != 0)
            return refuse(types[i], type != NULL ? type : "no text", error);
    }
    if (config->is_given(&config->keys, "rope_scaling") &&
        !config->is_given(&config->keys, types[0]) && !config->is_given(&config->keys, types[1]))
        return refuse("rope_scaling", "of no type", error);
    code = config->keys.number(&config->keys, &part, &share, &found, error);
    if (code == 0 && !(share >= 1 && share <= 1))
        return refuse("partial_rotary_factor", "not 1", error);
    return code;
}

/* ProSparse's key. */
static int read_threshold(const flin_config_keys *config, flin_activation_rule *activation,
                          flashinfer_error *error)
{
    static const flin_key_rule rule = {.name = "hidden_act_param",
                                       .sources = {"hidden_act_param", NULL},
                                       .kind = FLIN_KEY_F32,
                                       .most = FLIN_THRESHOLD_MAX,
                                       .flags = FLIN_KEY_REQUIRED};
    double threshold = 0;
    int found, code = 0;

    if (activation->kind == FLIN_ACTIVATION_FATRELU)
        code = config->keys.number(&config->keys, &rule, &threshold, &found, error);
    activation->threshold = (float)threshold;
    return code;
}

static int read_config(const flin_config_keys *config, flin_shape *shape, flin_facts *facts,
                       flashinfer_error *error)
{
    static const char *const biases[] = {"attention_bias", "mlp_bias"};
    int tied = 0, biased = 0;
    int code = config->flag(config, "tie_word_embeddings", 0, &tied, error);

    for (size_t i = 0; i < 2 && code == 0; i++) {
        code = config->flag(config, biases[i], 0, &biased, error);
        if (code == 0 && biased) code = refuse(biases[i], "true", error);
    }
    if (code == 0) code = check_rotary(config, error);
    if (code == 0) code = read_threshold(config, &shape->activation, error);
    facts->tied = (uint32_t)tied;
    shape->final_norm = 1;
    return code;
}

static size_t ffn_input(const flin_shape *shape)
{
    (void)shape;
    return offsetof(flin_layer, ffn_norms.before);
}

static const char *const model_types[] = {"llama", NULL};
static const char *const prefixes[] = {"model.", "", NULL};

const flin_architecture flin_architecture_llama = {
    .name = "llama",
    .title = "Llama",
    .model_types = model_types,
    .keys = keys,
    .tensors = tensors,
    .norm_kind = FLIN_NORM_RMS,
    .gated = 1,
    .rotates = 1,
    .pairs = FLIN_PAIRS_NEIGHBOURS,
    .activations = 1u << FLIN_ACTIVATION_RELU | 1u << FLIN_ACTIVATION_RELU2 |
                   1u << FLIN_ACTIVATION_FATRELU | 1u << FLIN_ACTIVATION_DRELU |
                   1u << FLIN_ACTIVATION_SILU,
    .activation_key = "hidden_act",
    .activation_otherwise = "silu",
    .prefixes = prefixes,
    .layer_stem = "layers",
    .read_config = read_config,
    .ffn_input = ffn_input,
};
