/*
 * config.h - the hyperparameters of a checkpoint, from its config.json.
 *
 * Owns: which values are possible at all. Refuses: looking at tensors.
 */
#ifndef FLIN_PACK_CONFIG_H
#define FLIN_PACK_CONFIG_H

#include <stdint.h>

#include "util/error.h"

/* Bounds: generous to every published model, tight enough that no product below overflows 64 bits.
 */
#define FLIN_CONFIG_WIDTH_MAX 65536u       /* hidden size */
#define FLIN_CONFIG_NEURONS_MAX (1u << 20) /* FFN neurons of a layer */
#define FLIN_CONFIG_LAYERS_MAX 1024u
#define FLIN_CONFIG_HEADS_MAX 4096u
#define FLIN_CONFIG_VOCAB_MAX (1u << 22)
#define FLIN_CONFIG_POSITIONS_MAX (1u << 22)
#define FLIN_CONFIG_NAME_BYTES 128u

typedef struct flin_config {
    uint32_t vocab_count;
    uint32_t width;           /* hidden_size */
    uint32_t embedding_width; /* word_embed_proj_dim: of embeddings and head */
    uint32_t neuron_count;    /* ffn_dim */
    uint32_t layer_count;
    uint32_t head_count;
    uint32_t position_count; /* max_position_embeddings */
    int norm_before;         /* 0: normalise after attention and FFN (opt-350m) */
    int final_norm;          /* a norm after the last layer */
    int norm_affine;         /* norms have weights and biases */
    int has_bias;            /* linear layers have biases */
    int tied;                /* the head is the embedding matrix */
    int32_t bos_id;          /* -1: none */
    int32_t eos_id;
    int32_t pad_id;
    char name[FLIN_CONFIG_NAME_BYTES]; /* last part of _name_or_path, or empty */
} flin_config;

/* Another architecture or activation is FLASHINFER_EUNSUPPORTED, a missing or impossible value
   FLASHINFER_ECHECKPOINT. directory: open descriptor of the checkpoint. */
int flin_config_load(flin_config *config, int directory, flashinfer_error *error);

/* Copy the last part of a path or model name, if it is usable as a name; else name becomes empty.
 */
void flin_config_set_name(flin_config *config, const char *path);

#endif
