/*
 * minicpm.c - MiniCPM (Hu et al. 2024) and MiniCPM-S, its relative with ReLU: as Llama, with
 * embeddings, logits and what blocks add scaled by constants.
 */
#include <math.h>

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
    FLIN_KEY(F32, embedding_scale, "embedding_scale", "scale_emb", 0, 1e6, 0, .otherwise = 12),
    FLIN_KEY(F32, residual_scale, "residual_scale", NULL, 0, 1e6, 0),
    FLIN_KEY(F32, logit_scale, "logit_scale", NULL, 0, 1e6, 0),
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

/* Without their keys these are the first model's. */
static void settle_shape(flin_shape *shape)
{
    if (!(shape->residual_scale > 0)) shape->residual_scale = 1.4f / sqrtf((float)shape->layers);
    if (!(shape->logit_scale > 0)) shape->logit_scale = (float)shape->width / 256;
}

static int read_scales(const flin_config_keys *config, flin_shape *shape, flashinfer_error *error)
{
    double depth = 1.4, base = 256;
    int code = flin_config_number(config, "scale_depth", NULL, 0, 1e6, &depth, error);

    if (code == 0) code = flin_config_number(config, "dim_model_base", NULL, 0, 1e6, &base, error);
    shape->residual_scale = (float)(depth / sqrt(shape->layers));
    shape->logit_scale = (float)(shape->width / base);
    return code;
}

static int read_config(const flin_config_keys *config, flin_shape *shape, flin_facts *facts,
                       flashinfer_error *error)
{
    int tied = 0;
    int code = config->flag(config, "tie_word_embeddings", 1, &tied, error);

    if (code == 0) code = flin_config_expect(config, "attention_bias", 0, error);
    if (code == 0) code = flin_config_expect(config, "mlp_bias", 0, error);
    if (code == 0) code = flin_config_whole_rotary(config, shape, error);
    if (code == 0) code = read_scales(config, shape, error);
    if (code == 0) code = flin_config_threshold(config, shape, error);
    facts->tied = (uint32_t)tied;
    shape->final_norm = 1;
    return code;
}

static const flin_model_type model_types[] = {{.name = "minicpm"}, {.name = NULL}};
static const char *const prefixes[] = {"model.", "", NULL};

const flin_architecture flin_architecture_minicpm = {
    .name = "minicpm",
    .title = "MiniCPM",
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
    .settle_shape = settle_shape,
};
