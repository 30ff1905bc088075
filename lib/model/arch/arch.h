/*
 * arch.h - an architecture as data: which tensors it has, and which keys say how large they are.
 *
 * Owns: the form of a descriptor, the list of descriptors, finding one by name. Refuses: files.
 * Loader and packer walk the tables; nobody else knows the name of a tensor or of a key. What a
 * table cannot say is a small function of the descriptor.
 */
#ifndef FLIN_MODEL_ARCH_ARCH_H
#define FLIN_MODEL_ARCH_ARCH_H

#include <stddef.h>

#include "model/weights.h"

/* 0: the build cannot pack, and leaves out what is known of checkpoints. */
#ifndef FLIN_PACKING
#define FLIN_PACKING 1
#endif
#define FLIN_FOR_PACKING(thing) (FLIN_PACKING ? (thing) : NULL)

/* -------------------------------------------------------------------------------------- tensors */

/* How long a side of a tensor is, once there is a shape: flin_side_of(). */
enum flin_side {
    FLIN_SIDE_ONE, /* the second side of a vector */
    FLIN_SIDE_WIDTH,
    FLIN_SIDE_TOKEN_WIDTH,
    FLIN_SIDE_VOCAB,
    FLIN_SIDE_CONTEXT,
    FLIN_SIDE_NEURONS,
    FLIN_SIDE_QUERIES, /* heads * head_width */
    FLIN_SIDE_KEYS,    /* kv_heads * head_width */
    FLIN_SIDE_FUSED,   /* queries, keys and values, one below the other */
    FLIN_SIDE_HEAD,    /* head_width */
    FLIN_SIDE_PAIRS    /* rotary pairs of a head */
};

enum flin_tensor_kind {
    FLIN_KIND_MATRIX, /* flin_matrix */
    FLIN_KIND_LINEAR, /* flin_linear: a matrix, and a bias of its rows with FLIN_TENSOR_BIAS */
    FLIN_KIND_NORM,   /* flin_norm: a vector, and a bias with FLIN_TENSOR_BIAS */
    FLIN_KIND_PART,   /* a part of every bundle; with FLIN_TENSOR_BIAS the slot is its bias */
    FLIN_KIND_FUSED,  /* three flin_linear in a row, of queries, keys and values: one tensor */
    FLIN_KIND_VECTOR  /* const float *, of no checkpoint: packing makes it; files may lack it */
};

enum flin_tensor_scope { FLIN_SCOPE_MODEL, FLIN_SCOPE_LAYER };

enum {
    FLIN_TENSOR_BIAS = 1,
    FLIN_TENSOR_TOP = 2,         /* in checkpoints its name has no prefix */
    FLIN_TENSOR_TIED = 4,        /* where it is absent the token embedding takes its place */
    FLIN_TENSOR_UNQUANTISED = 8, /* packed as F16 where other matrices are quantised */
    FLIN_TENSOR_HALVES = 32, /* in checkpoints a head's rotary pairs are half of it apart; in model
                                files the pairs are neighbours */
    FLIN_TENSOR_TYPE_AS_BEFORE = 16, /* has the type of the tensor above it in the table */
    FLIN_TENSOR_PLUS_ONE = 64        /* of a norm: checkpoints have its weights less one */
};

/* What of a checkpoint's tensor of queries, keys and values a line is. That tensor has a block for
   each head of keys and values: the heads of queries that it serves, its keys, its values. */
enum flin_grouped {
    FLIN_GROUPED_NOT, /* it is a tensor of its own */
    FLIN_GROUPED_ALL, /* all: first every query, then keys, then values */
    FLIN_GROUPED_QUERIES,
    FLIN_GROUPED_KEYS,
    FLIN_GROUPED_VALUES
};

typedef struct flin_tensor_rule {
    enum flin_tensor_kind kind : 8;
    enum flin_tensor_scope scope : 8;
    enum flin_side rows : 8, cols : 8; /* (rows, cols) row-major; of a norm only rows */
    uint32_t flags : 8;
    uint32_t role : 8;      /* FLIN_PART_... of a part */
    uint32_t skip_rows : 8; /* first rows in the checkpoint that are left out */
    enum flin_grouped grouped : 8;
    size_t field;       /* in flin_weights or flin_layer: by scope */
    const char *name;   /* in model files, without "blk.N." and ".weight"; NULL ends a table */
    const char *source; /* in checkpoints, without prefix, "layers.N." and ".weight" */
    int (*wanted)(const flin_shape *shape); /* NULL: always; of a vector: asked by packing alone */
    float (*make)(const flin_shape *shape, uint32_t index); /* of a vector: its elements */
} flin_tensor_rule;

/* A line of a table. MEMBER: of what the scope names; last come the flags, and behind them
   what else differs from nothing, as .role = FLIN_PART_UP. */
#define FLIN_TENSOR(KIND, SCOPE, MEMBER, NAME, SOURCE, ROWS, COLS, ...)                            \
    {                                                                                              \
        .kind = FLIN_KIND_##KIND, .scope = FLIN_SCOPE_##SCOPE,                                     \
        .field = offsetof(FLIN_FIELDS_##SCOPE, MEMBER), .name = (NAME),                            \
        .source = FLIN_FOR_PACKING(SOURCE), .rows = FLIN_SIDE_##ROWS, .cols = FLIN_SIDE_##COLS,    \
        .flags = __VA_ARGS__                                                                       \
    }
#define FLIN_FIELDS_MODEL flin_weights
#define FLIN_FIELDS_LAYER flin_layer

/* ----------------------------------------------------------------------------------------- keys */

enum flin_key_kind {
    FLIN_KEY_U32,  /* within [least, most] */
    FLIN_KEY_F32,  /* within (least, most) */
    FLIN_KEY_BOOL, /* a uint32_t of 0 or 1 */
    FLIN_KEY_TEXT  /* a uint32_t: the number of one of `texts` */
};

enum {
    FLIN_KEY_REQUIRED = 1,
    FLIN_KEY_AGAIN = 2,     /* of a field that a key above it gave: must say the same */
    FLIN_KEY_SPARSE = 4,    /* written only where it is not 0 */
    FLIN_KEY_DEFAULTED = 8, /* required, but `otherwise` stands for it in config.json */
    FLIN_KEY_COUNTED = 32,  /* required but in files of others: there tensors say it */
    FLIN_KEY_NULLED = 16    /* null in config.json is 0, not `otherwise` */
};

/* A number of flin_shape. A field of 0 that no key gave is settled by flin_arch_read_keys(). */
typedef struct flin_key_rule {
    enum flin_key_kind kind : 8;
    uint32_t flags : 24;
    uint32_t field;         /* in flin_shape */
    const char *name;       /* in model files, after "ARCHITECTURE."; NULL ends a table */
    const char *sources[2]; /* in config.json, the first of them that is given; "outer.inner" is
                               within an object. None: there it is always `otherwise` */
    double least, most;
    double otherwise;         /* where it is absent and not required */
    const char *const *texts; /* and a NULL */
} flin_key_rule;

#define FLIN_FIELD(field) offsetof(flin_shape, field)

/* A line of a table; behind the flags may come .otherwise and .sources[1]. */
#define FLIN_KEY(KIND, field_, NAME, SOURCE, LEAST, MOST, ...)                                     \
    {                                                                                              \
        .kind = FLIN_KEY_##KIND, .field = FLIN_FIELD(field_), .name = (NAME),                      \
        .sources[0] = FLIN_FOR_PACKING(SOURCE), .least = (LEAST), .most = (MOST),                  \
        .flags = __VA_ARGS__                                                                       \
    }

/* How rotary positions are stretched. A file with a factor alone means the first way. */
#if FLIN_MORE_ARCHITECTURES
#define FLIN_KEYS_OF_SCALING                                                                       \
    FLIN_KEY(TEXT, rotary.scaling, "rope.scaling.type", NULL, 0, 0, FLIN_KEY_SPARSE,               \
             .otherwise = FLIN_SCALING_LINEAR, .texts = flin_scaling_names),                       \
        FLIN_KEY(F32, rotary.factor, "rope.scaling.factor", NULL, 0, 1e6, FLIN_KEY_SPARSE),        \
        FLIN_KEY(U32, rotary.context, "rope.scaling.original_context_length", NULL, 1,             \
                 FLIN_CONTEXT_MAX, FLIN_KEY_SPARSE),                                               \
        FLIN_KEY(F32, rotary.strength, "rope.scaling.attn_factor", NULL, 0, 1e6, FLIN_KEY_SPARSE), \
        FLIN_KEY(F32, rotary.fast, "rope.scaling.yarn_beta_fast", NULL, 0, 1e6, FLIN_KEY_SPARSE),  \
        FLIN_KEY(F32, rotary.slow, "rope.scaling.yarn_beta_slow", NULL, 0, 1e6, FLIN_KEY_SPARSE)

#else /* they are refused */
#define FLIN_KEYS_OF_SCALING                                                                       \
    FLIN_KEY(TEXT, rotary.scaling, "rope.scaling.type", NULL, 0, 0, 0,                             \
             .otherwise = FLIN_SCALING_LINEAR, .texts = flin_scaling_names),                       \
        FLIN_KEY(F32, rotary.factor, "rope.scaling.factor", NULL, 0, 1e6, 0)
#endif

extern const char *const flin_scaling_names[];

/* Bounds of all architectures: generous to every published model, tight enough that no product of
   sizes overflows 64 bits. */
#define FLIN_WIDTH_MAX 65536
#define FLIN_NEURONS_MAX (1 << 20)
#define FLIN_LAYERS_MAX 1024
#define FLIN_HEADS_MAX 4096
#define FLIN_HEAD_WIDTH_MAX 65536
#define FLIN_VOCAB_MAX (1 << 22)
#define FLIN_CONTEXT_MAX (1 << 22)
#define FLIN_THRESHOLD_MAX 1e6 /* of activations; they begin at 0 */

/* Where keys are read from: a model file's metadata, or config.json. */
typedef struct flin_keys flin_keys;
struct flin_keys {
    int code;          /* of what is wrong: FLASHINFER_EFORMAT or _ECHECKPOINT */
    const char *where; /* what texts begin with: "config.json: ", or nothing */
    /* The number of a rule, within its bounds; *found is 0 and the number untouched if absent. */
    int (*number)(const flin_keys *keys, const flin_key_rule *rule, double *number, int *found,
                  flashinfer_error *error);
    /* How the rule's key is called there. Returns text. */
    const char *(*name)(const flin_keys *keys, const flin_key_rule *rule, char *text,
                        size_t capacity);
};

/* config.json, for what a table cannot say. */
typedef struct flin_config_keys flin_config_keys;
struct flin_config_keys {
    flin_keys keys;
    int (*is_given)(const flin_keys *keys, const char *path); /* there, and not null */
    int (*flag)(const flin_config_keys *config, const char *key, int otherwise, int *flag,
                flashinfer_error *error);
    const char *(*text)(const flin_config_keys *config, const char *path); /* NULL: no text */
    /* Entry `index` of a list of texts; NULL: the list has none, or there is no list. */
    const char *(*entry)(const flin_config_keys *config, const char *path, uint32_t index);
};

/* What a checkpoint says of its tensors beside the shape. */
typedef struct flin_facts {
    uint32_t tied;      /* the head is the token embedding */
    uint32_t no_norms;  /* norms have neither weights (ones) nor biases (zeros) */
    uint32_t no_biases; /* of other tensors than norms: zeros */
} flin_facts;

/* ----------------------------------------------------------------------------------- descriptor */

/* A model_type of config.json. */
typedef struct flin_model_type {
    const char *name;       /* NULL ends a list */
    const char *inner;      /* the object within config.json that has the keys; NULL: the file */
    const char *activation; /* that its code computes, whatever its config.json says; or NULL */
    uint32_t looks_at_all;  /* 1: its code knows no windows, whatever its config.json says */
} flin_model_type;

typedef struct flin_architecture flin_architecture;
struct flin_architecture {
    const char *name;  /* general.architecture */
    const char *title; /* for texts */
    const flin_model_type *model_types;
    const flin_key_rule *keys;
    const flin_tensor_rule *tensors; /* the model's, then those that every layer has */
    enum flin_norm_kind norm_kind;
    uint32_t gated;
    uint32_t rotates; /* 1: heads turn by position, all of them unless a key says how much */
    enum flin_pairs pairs;
    uint32_t activations;       /* 1 << FLIN_ACTIVATION_..., those known of it */
    const char *activation_key; /* in config.json */
    const char *activation_otherwise;
    const char *const *prefixes; /* of names in checkpoints, and a NULL */
    const char *layer_stem;      /* between prefix and number of a layer's names there */
    /* The rest of config.json: facts, and what of the shape is no number. */
    int (*read_config)(const flin_config_keys *config, flin_shape *shape, flin_facts *facts,
                       flashinfer_error *error);
    /* Field of the norm that the FFN's input is of; NULL: always ffn_norms.before. */
    size_t (*ffn_input)(const flin_shape *shape);
    /* After all keys were read: what the architecture has without a key. NULL: nothing to do. */
    void (*settle_shape)(flin_shape *shape);
    /* After a layer's tensors have their places. NULL: nothing to do. */
    void (*settle_layer)(const flin_shape *shape, flin_layer *layer);
};

extern const flin_architecture flin_architecture_falcon;
extern const flin_architecture flin_architecture_gemma2;
extern const flin_architecture flin_architecture_gemma3;
extern const flin_architecture flin_architecture_llama;
extern const flin_architecture flin_architecture_minicpm;
extern const flin_architecture flin_architecture_nemotron;
extern const flin_architecture flin_architecture_opt;
extern const flin_architecture flin_architecture_persimmon;
extern const flin_architecture flin_architecture_phi2;
extern const flin_architecture flin_architecture_qwen2;
extern const flin_architecture flin_architecture_qwen3;

/* By its name in general.architecture; an unknown one is FLASHINFER_EUNSUPPORTED. */
int flin_arch_find(flin_string name, const flin_architecture **found, flashinfer_error *error);

/* By model_type of config.json. */
int flin_arch_find_checkpoint(const char *model_type, const flin_architecture **found,
                              const flin_model_type **type, flashinfer_error *error);

/* The kind of that name, if the architecture is known with it; else FLASHINFER_EUNSUPPORTED with
   those that it is. key: where the name stood. */
int flin_arch_read_activation(const flin_architecture *architecture, const char *key,
                              flin_string name, enum flin_activation_kind *kind,
                              flashinfer_error *error);

uint32_t flin_side_of(const flin_shape *shape, enum flin_side extent);

/* The rule of what lies in a slot of flin_weights; NULL: the architecture has no such tensor. */
const flin_tensor_rule *flin_arch_rule(const flin_architecture *architecture, size_t field);

/* Every key of the table into the shape, then what follows from them. shape->descriptor is set. */
int flin_arch_read_keys(const flin_keys *keys, flin_shape *shape, flashinfer_error *error);

#endif
