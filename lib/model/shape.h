/*
 * shape.h - what the engine needs to know about a model: its dimensions, its variants, the inner
 * layout of a bundle.
 *
 * Owns: reading them from metadata by the architecture's descriptor (arch/arch.h). Refuses:
 * weights.
 */
#ifndef FLIN_MODEL_SHAPE_H
#define FLIN_MODEL_SHAPE_H

#include "kernels/kernels.h"
#include "model/activation.h"
#include "model/gguf.h"

enum flin_norm_kind {
    FLIN_NORM_NONE = 0,
    FLIN_NORM_LAYER = 1, /* mean taken off, divided by the deviation, weight and bias */
    FLIN_NORM_RMS = 2    /* divided by the root mean square, weight */
};

/* What stretches rotary positions to longer contexts. */
enum flin_scaling {
    FLIN_SCALING_NONE = 0,
    FLIN_SCALING_LINEAR = 1, /* all pairs turn slower by the factor */
    FLIN_SCALING_YARN = 2,   /* slow pairs do, fast ones do not (Peng et al. 2023) */
    FLIN_SCALING_LLAMA3 = 3  /* of checkpoints alone: files say so pair by pair, rope_freqs */
};

/* Rotary positions (Su et al. 2021): pair k of a head turns by position * base^(-2 k / rotated). */
typedef struct flin_rotary {
    uint32_t rotated; /* elements of a head that turn, from its first; 0: none */
    enum flin_pairs pairs;
    float base;
    uint32_t scaling; /* enum flin_scaling; 0 leaves the rest unused */
    float factor;     /* that contexts are longer by */
    uint32_t context; /* that the model was first trained with */
    float fast, slow; /* yarn: turns in that context of what is not stretched, and is whole */
    float low, high;  /* llama3: the same */
    float strength;   /* yarn: of what turned, beside 1 + 0.1 ln(factor); 0: 1 */
} flin_rotary;

/* What a part of a bundle is: a matrix row of up or gate, or a column of down. */
enum { FLIN_PART_UP = 0, FLIN_PART_DOWN = 1, FLIN_PART_GATE = 2, FLIN_PART_ROLES = 3 };

typedef struct flin_part {
    uint32_t offset_bytes; /* from the start of the bundle */
    uint32_t bytes;
    enum flin_type type;
    uint32_t role; /* FLIN_PART_... */
} flin_part;

/* How a neuron lies in flash layout: its parts one after the other, in any order. */
typedef struct flin_bundle {
    uint32_t part_count;
    uint32_t payload_bytes; /* of all parts */
    uint32_t stride_bytes;  /* from one bundle to the next */
    uint32_t ordered;       /* 1: blk.N.ffn_bundle.rows says where bundles lie; 0: neuron order */
    flin_part parts[FLIN_PART_ROLES];   /* (part_count) as they lie */
    uint32_t index_of[FLIN_PART_ROLES]; /* by role: which of them; FLIN_PART_ROLES: none */
} flin_bundle;

/* The part of a role that the bundle has. */
static inline const flin_part *flin_bundle_part(const flin_bundle *bundle, uint32_t role)
{
    return &bundle->parts[bundle->index_of[role]];
}

struct flin_architecture;

typedef struct flin_shape {
    const char *architecture; /* its name */
    const struct flin_architecture *descriptor;
    uint32_t layers;
    uint32_t width;       /* d: residual stream */
    uint32_t token_width; /* of token embeddings; projected to `width` when it differs (OPT-350m) */
    uint32_t ffn;         /* neurons per layer */
    uint32_t heads;
    uint32_t kv_heads; /* of keys and values: each serves heads / kv_heads queries */
    uint32_t head_width;
    uint32_t vocab;
    uint32_t context;
    uint32_t norm_before; /* 1: pre-norm blocks; 0: post-norm (OPT-350m) */
    uint32_t final_norm;  /* 1: a norm before the logits */
    enum flin_norm_kind norm_kind;
    float norm_epsilon;
    flin_rotary rotary;     /* rotated 0: positions are no business of attention */
    float local_base;       /* rotary base of layers with a window, never stretched; 0: as all */
    uint32_t window;        /* positions that a layer looks back at, its own included; 0: all */
    uint32_t window_period; /* every so many layers one looks back at all; 0: none does */
    float attention_scale;  /* of queries; 0: 1 / sqrt(head_width) */
    float attention_cap;    /* scores s become cap * tanh(s / cap); 0: they stay */
    float logit_cap;        /* likewise */
    float logit_scale;      /* what logits are divided by; 0: nothing */
    float embedding_scale;  /* of token embeddings; 0: 1 */
    float residual_scale;   /* of what blocks add to the residual stream */
    uint32_t parallel;      /* 1: attention and FFN have the same input, and are added together */
    uint32_t norm_pairs;    /* 1: where blocks are parallel, each has a norm of its own */
    flin_activation_rule activation;
    uint32_t gated;     /* 1: activation(gate . x) * (up . x); 0: activation(up . x) */
    flin_bundle bundle; /* of no parts in a plain file */
} flin_shape;

#ifndef FLIN_PLAIN
#define FLIN_PLAIN 1
#endif

/* A GGUF file as others make it: no bundles, no checksums, every matrix on its own. FLIN_PLAIN is 0
   in builds made without those. */
static inline int flin_shape_is_plain(const flin_shape *shape)
{
    return FLIN_PLAIN && shape->bundle.part_count == 0;
}

/* The part whose sum decides whether a neuron fires; predictors know a copy of it. */
static inline uint32_t flin_shape_decider(const flin_shape *shape)
{
    return shape->gated ? FLIN_PART_GATE : FLIN_PART_UP;
}

/* What a layer looks back at, in positions; 0: all. */
static inline uint32_t flin_shape_window(const flin_shape *shape, uint32_t layer)
{
    const int looks_far = shape->window_period != 0 && (layer + 1) % shape->window_period == 0;

    return looks_far ? 0 : shape->window;
}

/* Find the architecture, read its shape and the bundle layout; every number is checked for sense.
   wanted: the activation that the host says the model has; NULL: what the file says. */
int flin_shape_read(const flin_gguf *gguf, const flin_activation_rule *wanted, flin_shape *shape,
                    flashinfer_error *error);

/* A metadata number of at most 32 bits within [least, most]. */
int flin_shape_number(const flin_gguf *gguf, const char *key, uint32_t least, uint32_t most,
                      uint32_t *number, flashinfer_error *error);

/* The kernel type of a GGUF tensor type, of rows `cols` long, 0 if that does not matter;
   FLASHINFER_EUNSUPPORTED naming `what` if there is none, FLASHINFER_EFORMAT if they are no whole
   number of blocks. */
int flin_type_from_gguf(uint64_t gguf_type, const char *what, uint32_t cols, enum flin_type *type,
                        flashinfer_error *error);

/* One type under its three names. */
uint32_t flin_type_to_gguf(enum flin_type type);
uint32_t flin_type_to_dtype(enum flin_type type);               /* FLASHINFER_DTYPE_... */
int flin_type_from_dtype(uint32_t dtype, enum flin_type *type); /* 0 for an unknown number */
const char *flin_type_name(enum flin_type type);                /* "f32", "q8_0" */

#endif
