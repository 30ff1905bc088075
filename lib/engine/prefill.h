/*
 * prefill.h - many tokens of a prompt through all layers at once: every weight is read once for all
 * of them, from memory or, the FFN, from flash in large reads while the neurons before are
 * computed.
 *
 *   prefill.c            which tokens, the story of a chunk, attention
 *   prefill_ffn.c        the dense FFN of a chunk; neurons that fire for its last tokens go into
 *                        the cache
 *
 * No predictor is asked: a prompt's tokens together fire nearly every neuron, so all are computed
 * and none is missed.
 */
#ifndef FLIN_ENGINE_PREFILL_H
#define FLIN_ENGINE_PREFILL_H

#include "kernels/gemm/gemm.h"
#include "util/arena.h"

struct flashinfer_model;
struct flashinfer_session;
struct flashinfer_error;
struct flin_linear;

/* What one thread needs. */
typedef struct flin_prefill_thread {
    float *panels;     /* packed rows */
    const void **rows; /* (stream_rows) down rows of neurons that fire for a token */
    float *firing;     /* (stream_rows) their activations */
} flin_prefill_thread;

typedef struct flin_prefill {
    uint32_t tokens; /* the most of a chunk; depends on the model file alone */
    flin_tile tile;
    float *hidden; /* (tokens, width) residual streams */
    float
        *normed; /* (tokens, width) inputs of the current block, then what its heads attended to */
    float *projected;   /* (tokens, width) queries, then outputs of the current block */
    float *kept;        /* (tokens, width) keys, then values, on their way into the session */
    float *packed;      /* the input of the current product, in panels */
    float *activations; /* (tokens, stream_rows) of a run of neurons */
    const void **up;    /* (stream_rows) rows of that run */
    const void **down;  /* (stream_rows) */
    uint32_t *missing;  /* (stream_rows) indices into that run: to be put into the cache */
    flin_prefill_thread *threads; /* (threads) */
} flin_prefill;

/* Tokens that are worth a chunk; fewer are run one by one. */
uint32_t flin_prefill_least(const struct flashinfer_model *model);

/* Place the buffers above in an arena (measuring or real). Needs shape, config, stream_rows. */
void flin_prefill_layout(struct flashinfer_model *model, flin_arena *arena);

/* The next `count` tokens, at most prefill.tokens; with want_logits != 0 the logits after the
   last one. The caller moves the position. FLASHINFER_ECANCELED comes without a text. */
int flin_prefill_chunk(struct flashinfer_session *session, const int32_t *tokens, uint32_t count,
                       int want_logits, struct flashinfer_error *error);

/* prefill_ffn.c: projected = FFN(input) for all tokens of a chunk, after flin_prefill_pack() of
   the input. */
int flin_prefill_ffn(struct flashinfer_session *session, uint32_t layer, uint32_t count,
                     const float *input, struct flashinfer_error *error);

/* y (count, rows; `stride` apart) = rows . what is packed + bias */
void flin_prefill_product(struct flashinfer_session *session, const flin_gemm_rows *rows,
                          const float *bias, uint32_t count, float *y, uint64_t stride);

/* packed = input (count, width), over the compute threads */
void flin_prefill_pack(struct flashinfer_model *model, const float *input, uint32_t count);

#endif
