/*
 * opt.c - the OPT family (Zhang et al. 2022): learned positions, biases, ReLU, tied head; pre-norm,
 * or post-norm with narrower token embeddings in the 350m model.
 */
#include "model/shape.h"

static int read_variants(const flin_gguf *gguf, flin_shape *shape, flashinfer_error *error)
{
    uint64_t norm_before;
    flin_string activation;
    int code = flin_gguf_u64_or(gguf, "opt.norm_before", 1, &norm_before, error);

    if (code != 0) return code;
    shape->norm_before = norm_before != 0;
    shape->final_norm = flin_gguf_find_tensor(gguf, "output_norm.weight") != NULL;
    if (flin_gguf_find(gguf, "opt.word_embed_proj_dim") != NULL) {
        code = flin_shape_number(gguf, "opt.word_embed_proj_dim", 1, 1u << 20, &shape->token_width,
                                 error);
        if (code != 0) return code;
    } else {
        shape->token_width = shape->width;
    }
    code = flin_gguf_string(gguf, "flashinfer.ffn.activation", &activation, error);
    if (code != 0) return code;
    if (!flin_string_is(activation, "relu"))
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "activation \"%.*s\" is not supported; opt models use relu",
                         (int)(activation.bytes < 64 ? activation.bytes : 64), activation.data);
    return 0;
}

static int read_shape(const flin_gguf *gguf, flin_shape *shape, flashinfer_error *error)
{
    const struct {
        const char *key;
        uint32_t most;
        uint32_t *number;
    } numbers[] = {
        {"opt.block_count", 1024, &shape->layers},
        {"opt.embedding_length", 1u << 20, &shape->width},
        {"opt.feed_forward_length", 1u << 22, &shape->ffn},
        {"opt.attention.head_count", 4096, &shape->heads},
        {"opt.context_length", 1u << 22, &shape->context},
        {"opt.vocab_size", 1u << 24, &shape->vocab},
    };
    double epsilon;
    int code;

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        code =
            flin_shape_number(gguf, numbers[i].key, 1, numbers[i].most, numbers[i].number, error);
        if (code != 0) return code;
    }
    code = flin_gguf_f64(gguf, "opt.attention.layer_norm_epsilon", &epsilon, error);
    if (code != 0) return code;
    if (!(epsilon > 0 && epsilon < 1))
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "opt.attention.layer_norm_epsilon must lie between 0 and 1");
    shape->norm_epsilon = (float)epsilon;
    if (shape->width % shape->heads != 0)
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "opt.attention.head_count %u does not divide "
                         "opt.embedding_length %u",
                         shape->heads, shape->width);
    shape->kv_heads = shape->heads;
    shape->head_width = shape->width / shape->heads;
    shape->norm_kind = FLIN_NORM_LAYER;
    shape->activation.kind = FLIN_ACTIVATION_RELU;
    return read_variants(gguf, shape, error);
}

const flin_architecture flin_architecture_opt = {"opt", read_shape};
