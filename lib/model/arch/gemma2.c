/*
 * gemma2.c - Gemma 2 (Gemma Team 2024): four norms a layer, GELU, every other layer with a window,
 * scores and logits that cannot exceed a cap, embeddings times the root of their width. Checkpoints
 * have the weights of norms less one.
 */
#include <math.h>

#include "model/arch/lines.h"

#define NEEDED FLIN_KEY_REQUIRED
#define DEFAULTED FLIN_KEY_DEFAULTED

static const flin_key_rule keys[] = {
    FLIN_KEY(U32, context, "context_length", "max_position_embeddings", 1, FLIN_CONTEXT_MAX,
             DEFAULTED, .otherwise = 8192),
    FLIN_KEY(U32, width, "embedding_length", "hidden_size", 1, FLIN_WIDTH_MAX, NEEDED),
    FLIN_KEY(U32, layers, "block_count", "num_hidden_layers", 1, FLIN_LAYERS_MAX, NEEDED),
    FLIN_KEY(U32, ffn, "feed_forward_length", "intermediate_size", 1, FLIN_NEURONS_MAX, NEEDED),
    FLIN_KEY(U32, heads, "attention.head_count", "num_attention_heads", 1, FLIN_HEADS_MAX,
             DEFAULTED, .otherwise = 8),
    FLIN_KEY(U32, kv_heads, "attention.head_count_kv", "num_key_value_heads", 1, FLIN_HEADS_MAX,
             DEFAULTED, .otherwise = 4),
    FLIN_KEY(F32, norm_epsilon, "attention.layer_norm_rms_epsilon", "rms_norm_eps", 0, 1, DEFAULTED,
             .otherwise = 1e-6),
    FLIN_KEY(U32, head_width, "attention.key_length", "head_dim", 1, FLIN_HEAD_WIDTH_MAX, DEFAULTED,
             .otherwise = 256),
    FLIN_KEY(U32, head_width, "attention.value_length", NULL, 1, FLIN_HEAD_WIDTH_MAX,
             FLIN_KEY_AGAIN),
    FLIN_KEY(F32, attention_scale, "attention.scale", NULL, 0, 1e6, 0),
    FLIN_KEY(F32, rotary.base, "rope.freq_base", "rope_theta", 1, 1e12, 0, .otherwise = 10000,
             .sources[1] = FLIN_FOR_PACKING("rope_parameters.rope_theta")),
    FLIN_KEYS_OF_SCALING,
    FLIN_KEY(U32, window, "attention.sliding_window", "sliding_window", 1, FLIN_CONTEXT_MAX, 0,
             .otherwise = 4096),
    FLIN_KEY(F32, attention_cap, "attn_logit_softcapping", "attn_logit_softcapping", -1, 1e6,
             FLIN_KEY_NULLED, .otherwise = 50),
    FLIN_KEY(F32, logit_cap, "final_logit_softcapping", "final_logit_softcapping", -1, 1e6,
             FLIN_KEY_NULLED, .otherwise = 30),
    FLIN_KEY(U32, vocab, "vocab_size", "vocab_size", 1, FLIN_VOCAB_MAX, FLIN_KEY_COUNTED,
             .otherwise = 256000),
    {.name = NULL},
};

#define SAME_TYPE FLIN_TENSOR_TYPE_AS_BEFORE
#define PLUS_ONE FLIN_TENSOR_PLUS_ONE

static const flin_tensor_rule tensors[] = {
    FLIN_TENSOR(MATRIX, MODEL, token_embedding, "token_embd", "embed_tokens", VOCAB, WIDTH, 0),
    FLIN_TENSOR(NORM, MODEL, output_norm, "output_norm", "norm", WIDTH, ONE, PLUS_ONE),
    FLIN_TENSOR(LINEAR, MODEL, output, "output", "lm_head", VOCAB, WIDTH,
                FLIN_TENSOR_TIED | FLIN_TENSOR_TOP),
    FLIN_TENSOR(NORM, LAYER, attention_norms.before, "attn_norm", "input_layernorm", WIDTH, ONE,
                PLUS_ONE),
    FLIN_TENSOR(LINEAR, LAYER, attention.query, "attn_q", "self_attn.q_proj", QUERIES, WIDTH, 0),
    FLIN_TENSOR(LINEAR, LAYER, attention.key, "attn_k", "self_attn.k_proj", KEYS, WIDTH, SAME_TYPE),
    FLIN_TENSOR(LINEAR, LAYER, attention.value, "attn_v", "self_attn.v_proj", KEYS, WIDTH,
                SAME_TYPE),
    FLIN_TENSOR(LINEAR, LAYER, attention.output, "attn_output", "self_attn.o_proj", WIDTH, QUERIES,
                0),
    FLIN_TENSOR(NORM, LAYER, attention_norms.output, "post_attention_norm",
                "post_attention_layernorm", WIDTH, ONE, PLUS_ONE),
    FLIN_TENSOR(NORM, LAYER, ffn_norms.before, "ffn_norm", "pre_feedforward_layernorm", WIDTH, ONE,
                PLUS_ONE),
    FLIN_TENSORS_OF_GATED_FFN,
    FLIN_TENSOR(NORM, LAYER, ffn_norms.output, "post_ffw_norm", "post_feedforward_layernorm", WIDTH,
                ONE, PLUS_ONE),
    {.name = NULL},
};

/* What has no key, or has none in files from elsewhere: of the 27B model the width of a head counts
   as if there were no head_dim. */
static void settle_shape(flin_shape *shape)
{
    const uint32_t width = shape->layers == 46 ? shape->width / shape->heads : shape->head_width;

    shape->embedding_scale = sqrtf((float)shape->width);
    shape->window_period = 2;
    if (!(shape->attention_scale > 0)) shape->attention_scale = 1.0f / sqrtf((float)width);
}

static int read_config(const flin_config_keys *config, flin_shape *shape, flin_facts *facts,
                       flashinfer_error *error)
{
    double scalar = 256;
    int tied = 1;
    int code = config->flag(config, "tie_word_embeddings", 1, &tied, error);

    if (code == 0) code = flin_config_expect(config, "attention_bias", 0, error);
    if (code == 0)
        code = flin_config_number(config, "query_pre_attn_scalar", NULL, 0, 1e9, &scalar, error);
    if (code == 0) code = flin_config_rotary(config, "", 1, shape, error);
    shape->attention_scale = (float)(1 / sqrt(scalar));
    shape->window_period = 2;
    if (code == 0) code = flin_config_layers(config, shape, error);
    if (code == 0 && shape->window != 0 && shape->window_period != 2)
        code = flin_config_refuse("layer_types", "not every other layer", error);
    facts->tied = (uint32_t)tied;
    shape->final_norm = 1;
    return code;
}

static const flin_model_type model_types[] = {{.name = "gemma2"}, {.name = NULL}};
static const char *const prefixes[] = {"model.", "", NULL};

const flin_architecture flin_architecture_gemma2 = {
    .name = "gemma2",
    .title = "Gemma 2",
    .model_types = FLIN_FOR_PACKING(model_types),
    .keys = keys,
    .tensors = tensors,
    .norm_kind = FLIN_NORM_RMS,
    .gated = 1,
    .rotates = 1,
    .pairs = FLIN_PAIRS_HALVES,
    .activations = 1u << FLIN_ACTIVATION_GELU_TANH | 1u << FLIN_ACTIVATION_RELU,
    .activation_key = FLIN_FOR_PACKING("hidden_activation"),
    .activation_otherwise = "gelu_tanh",
    .prefixes = FLIN_FOR_PACKING(prefixes),
    .layer_stem = FLIN_FOR_PACKING("layers"),
    .read_config = FLIN_FOR_PACKING(read_config),
    .settle_shape = settle_shape,
};
