/*
 * lines.h - lines of tables that many families have word for word.
 *
 * Owns: nothing else. Refuses: what only one family has, which stands in its own file.
 */
#ifndef FLIN_MODEL_ARCH_LINES_H
#define FLIN_MODEL_ARCH_LINES_H

#include "model/arch/config.h"

/* Keys: how large everything is. */
#define FLIN_KEYS_OF_SIZES                                                                         \
    FLIN_KEY(U32, context, "context_length", "max_position_embeddings", 1, FLIN_CONTEXT_MAX,       \
             FLIN_KEY_REQUIRED),                                                                   \
        FLIN_KEY(U32, width, "embedding_length", "hidden_size", 1, FLIN_WIDTH_MAX,                 \
                 FLIN_KEY_REQUIRED),                                                               \
        FLIN_KEY(U32, layers, "block_count", "num_hidden_layers", 1, FLIN_LAYERS_MAX,              \
                 FLIN_KEY_REQUIRED),                                                               \
        FLIN_KEY(U32, ffn, "feed_forward_length", "intermediate_size", 1, FLIN_NEURONS_MAX,        \
                 FLIN_KEY_REQUIRED),                                                               \
        FLIN_KEY(U32, heads, "attention.head_count", "num_attention_heads", 1, FLIN_HEADS_MAX,     \
                 FLIN_KEY_REQUIRED)

/* Tensors: an FFN with a gate, without biases. */
#define FLIN_TENSORS_OF_GATED_FFN                                                                  \
    FLIN_TENSOR(PART, LAYER, ffn.gate_bias, "ffn_gate", "mlp.gate_proj", NEURONS, WIDTH, 0,        \
                .role = FLIN_PART_GATE),                                                           \
        FLIN_TENSOR(PART, LAYER, ffn.up_bias, "ffn_up", "mlp.up_proj", NEURONS, WIDTH, 0,          \
                    .role = FLIN_PART_UP),                                                         \
        FLIN_TENSOR(PART, LAYER, ffn.down_bias, "ffn_down", "mlp.down_proj", WIDTH, NEURONS, 0,    \
                    .role = FLIN_PART_DOWN)

/* Activations of families with a SiLU gate: it, and what their relatives have in its place. */
#define FLIN_ACTIVATIONS_OF_GATES                                                                  \
    (1u << FLIN_ACTIVATION_RELU | 1u << FLIN_ACTIVATION_RELU2 | 1u << FLIN_ACTIVATION_FATRELU |    \
     1u << FLIN_ACTIVATION_DRELU | 1u << FLIN_ACTIVATION_SILU)

#endif
