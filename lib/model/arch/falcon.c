/*
 * falcon.c - Falcon (Almazrouei et al. 2023): attention and FFN side by side, with one norm before
 * both (7B) or one each (40B), few heads of keys and values, no gate, no biases but the norms'.
 */
#include "model/arch/config.h"
#include "model/names.h"

#define NEEDED FLIN_KEY_REQUIRED

static const flin_key_rule keys[] = {
    FLIN_KEY(U32, context, "context_length", "max_position_embeddings", 1, FLIN_CONTEXT_MAX,
             FLIN_KEY_DEFAULTED, .otherwise = 2048),
    FLIN_KEY(U32, width, "embedding_length", "hidden_size", 1, FLIN_WIDTH_MAX, NEEDED),
    FLIN_KEY(U32, layers, "block_count", "num_hidden_layers", 1, FLIN_LAYERS_MAX, NEEDED,
             .sources[1] = FLIN_FOR_PACKING("n_layer")),
    FLIN_KEY(U32, ffn, "feed_forward_length", "ffn_hidden_size", 1, FLIN_NEURONS_MAX, 0),
    FLIN_KEY(U32, heads, "attention.head_count", "num_attention_heads", 1, FLIN_HEADS_MAX, NEEDED,
             .sources[1] = FLIN_FOR_PACKING("n_head")),
    FLIN_KEY(U32, kv_heads, "attention.head_count_kv", "num_kv_heads", 1, FLIN_HEADS_MAX, 0,
             .sources[1] = FLIN_FOR_PACKING("n_head_kv")),
    FLIN_KEY(F32, norm_epsilon, "attention.layer_norm_epsilon", "layer_norm_epsilon", 0, 1,
             FLIN_KEY_DEFAULTED, .otherwise = 1e-5),
    FLIN_KEY(F32, rotary.base, "rope.freq_base", "rope_theta", 1, 1e12, 0, .otherwise = 10000,
             .sources[1] = FLIN_FOR_PACKING("rope_parameters.rope_theta")),
    FLIN_KEYS_OF_SCALING,
    FLIN_KEY(U32, vocab, "vocab_size", "vocab_size", 1, FLIN_VOCAB_MAX, FLIN_KEY_COUNTED),
    {.name = NULL},
};

static int has_one(const flin_shape *shape)
{
    return !shape->norm_pairs;
}

static int has_two(const flin_shape *shape)
{
    return shape->norm_pairs != 0;
}

#define BIAS FLIN_TENSOR_BIAS

static const flin_tensor_rule tensors[] = {
    FLIN_TENSOR(MATRIX, MODEL, token_embedding, "token_embd", "word_embeddings", VOCAB, WIDTH, 0),
    FLIN_TENSOR(NORM, MODEL, output_norm, "output_norm", "ln_f", WIDTH, ONE, BIAS),
    FLIN_TENSOR(LINEAR, MODEL, output, "output", "lm_head", VOCAB, WIDTH,
                FLIN_TENSOR_TIED | FLIN_TENSOR_TOP),
    FLIN_TENSOR(NORM, LAYER, attention_norms.before, "attn_norm", "input_layernorm", WIDTH, ONE,
                BIAS, .wanted = has_one),
    FLIN_TENSOR(NORM, LAYER, attention_norms.before, FLIN_TENSOR_SECOND_NORM, "ln_attn", WIDTH, ONE,
                BIAS, .wanted = has_two),
    FLIN_TENSOR(NORM, LAYER, ffn_norms.before, "attn_norm", "ln_mlp", WIDTH, ONE, BIAS,
                .wanted = has_two),
    FLIN_TENSOR(FUSED, LAYER, attention.query, "attn_qkv", "self_attention.query_key_value", FUSED,
                WIDTH, 0, .grouped = FLIN_GROUPED_ALL),
    FLIN_TENSOR(LINEAR, LAYER, attention.output, "attn_output", "self_attention.dense", WIDTH,
                QUERIES, 0),
    FLIN_TENSOR(PART, LAYER, ffn.up_bias, "ffn_up", "mlp.dense_h_to_4h", NEURONS, WIDTH, 0,
                .role = FLIN_PART_UP),
    FLIN_TENSOR(PART, LAYER, ffn.down_bias, "ffn_down", "mlp.dense_4h_to_h", WIDTH, NEURONS, 0,
                .role = FLIN_PART_DOWN),
    {.name = NULL},
};

static void settle_shape(flin_shape *shape)
{
    shape->parallel = 1;
    if (shape->ffn == 0) shape->ffn = 4 * shape->width;
}

static void settle_layer(const flin_shape *shape, flin_layer *layer)
{
    if (!shape->norm_pairs) layer->ffn_norms.before = layer->attention_norms.before;
}

/* Without the new decoder the number of heads of keys and values is not what its key says. */
static int read_config(const flin_config_keys *config, flin_shape *shape, flin_facts *facts,
                       flashinfer_error *error)
{
    double norms = 2;
    int tied = 1, new = 0, multi = 1;
    int code = config->flag(config, "tie_word_embeddings", 1, &tied, error);

    if (code == 0) code = config->flag(config, "new_decoder_architecture", 0, &new, error);
    if (code == 0) code = config->flag(config, "multi_query", 1, &multi, error);
    if (code == 0)
        code = flin_config_number(config, "num_ln_in_parallel_attn", NULL, 0, 3, &norms, error);
    if (code == 0) code = flin_config_expect(config, "alibi", 0, error);
    if (code == 0) code = flin_config_expect(config, "bias", 0, error);
    if (code == 0 && !new) code = flin_config_expect(config, "parallel_attn", 1, error);
    if (code == 0) code = flin_config_rotary(config, "", 1, shape, error);
    if (!new &&multi) shape->kv_heads = 1;
    shape->norm_pairs = new &&norms > 1;
    facts->tied = (uint32_t)tied;
    shape->final_norm = 1;
    return code;
}

/* Where both blocks share a norm it is attention's. */
static size_t ffn_input(const flin_shape *shape)
{
    return shape->norm_pairs ? offsetof(flin_layer, ffn_norms.before)
                             : offsetof(flin_layer, attention_norms.before);
}

static const flin_model_type model_types[] = {{.name = "falcon"}, {.name = NULL}};
static const char *const prefixes[] = {"transformer.", "", NULL};

const flin_architecture flin_architecture_falcon = {
    .name = "falcon",
    .title = "Falcon",
    .model_types = FLIN_FOR_PACKING(model_types),
    .keys = keys,
    .tensors = tensors,
    .norm_kind = FLIN_NORM_LAYER,
    .rotates = 1,
    .pairs = FLIN_PAIRS_HALVES,
    .activations = 1u << FLIN_ACTIVATION_GELU | 1u << FLIN_ACTIVATION_RELU,
    .activation_key = FLIN_FOR_PACKING("activation"),
    .activation_otherwise = "gelu",
    .prefixes = FLIN_FOR_PACKING(prefixes),
    .layer_stem = FLIN_FOR_PACKING("h"),
    .read_config = FLIN_FOR_PACKING(read_config),
    .ffn_input = FLIN_FOR_PACKING(ffn_input),
    .settle_shape = settle_shape,
    .settle_layer = settle_layer,
};
