/*
 * pass.h - rows that go through the layers together, and everything they need on their way.
 *
 * A narrow pass has few rows, each with the arithmetic of a single one: one order per sum, whoever
 * stands beside it. A wide pass is a chunk of a prompt: its products are blocked, so that a row's
 * last bits differ from narrow ones, and depend neither on the chunk nor on threads.
 *
 * Owns: buffers and what they are shaped like. Refuses: arithmetic.
 */
#ifndef FLIN_ENGINE_PASS_H
#define FLIN_ENGINE_PASS_H

#include <stdatomic.h>

#include "cache/cache.h"
#include "engine/compute.h"
#include "engine/ring.h"
#include "engine/stream.h"
#include "predictor/predictor.h"

struct flashinfer_session;

/* One token of one session. */
typedef struct flin_row {
    struct flashinfer_session *session;
    uint32_t position;
    int32_t token;
    float *logits; /* (vocab) receives them; NULL: not wanted */
} flin_row;

/* How keys and values lie in a session: (layers, kv_heads, context, head_width) of a type. A
   head is read from its first position to its last, in one stream. */
typedef struct flin_kv_shape {
    uint32_t layers, kv_heads, context, head_width;
    enum flin_type type;
} flin_kv_shape;

static inline uint64_t flin_kv_offset(const flin_kv_shape *kv, uint32_t layer, uint32_t head)
{
    const uint64_t heads = (uint64_t)layer * kv->kv_heads + head;

    return flin_type_bytes(kv->type, heads * kv->context * kv->head_width);
}

/* Callbacks that watch a pass. */
typedef struct flin_watch {
    flashinfer_trace_callback trace;
    void *trace_user;
    flashinfer_ffn_input_callback ffn_input;
    void *ffn_input_user;
    flashinfer_audit_callback audit;
    void *audit_user;
    uint32_t audit_interval; /* 0: no audit */
    uint32_t audit_layers;
} flin_watch;

/* What happened in a pass, for statistics. */
typedef struct flin_tally {
    uint64_t predicted, active, resident, missing, streamed, waves;
    uint64_t audited_active, audited_missed, audit_bytes, audit_reads;
    uint64_t predict_ns, memory_ns;
    uint64_t handing_ns; /* reads were handed over while no thread had anything to compute */
} flin_tally;

/* Bundles of a narrow pass's layer: what was named, where it is, what became of it. */
typedef struct flin_ffn_lists {
    uint32_t *ids;            /* (ffn) named neurons, ascending */
    const uint8_t **payloads; /* (ffn) of ids, in slots */
    uint32_t *present;        /* (ffn) indices into ids found in the cache */
    uint32_t *missing;        /* (ffn) indices into ids to be read */
    uint32_t *landed;         /* (ffn) indices into ids that have just been read */
    uint8_t *damaged;         /* (ffn) of ids: a checksum did not match */
    float *values;  /* (rows_max, ffn) what a neuron's down column is multiplied with; of a plain
                      file (rows, ffn), of wide passes too */
    float *ups;     /* (rows, ffn) of a plain file whose FFN is gated */
    uint8_t *fires; /* (rows_max, ffn), and once more with an audit */
    const void **firing_rows; /* (ffn) down columns of what fires */
    float *firing;            /* (ffn) their values */
    float *audit[2];          /* (width) what found and missed neurons add; with an audit */
} flin_ffn_lists;

/* How far the pairs of a head turn. */
typedef struct flin_angles {
    float *frequencies;     /* (rotated / 2) with each position */
    float *cosines, *sines; /* (rows, rotated / 2) at the rows' positions */
    float strength;         /* of what turned: the cosines and sines times this */
} flin_angles;

/* What one thread of a wide pass needs. */
typedef struct flin_wide_thread {
    float *panels;     /* packed matrix rows */
    const void **rows; /* (chunk) down columns of neurons that fire for a row */
    float *firing;     /* (chunk) their values */
    uint8_t *fires;    /* (chunk) */
} flin_wide_thread;

typedef struct flin_wide {
    uint32_t rows_max;         /* depends on the model file alone */
    flin_row *rows;            /* (rows) of the prompt */
    uint32_t block;            /* matrix rows packed at once */
    float *packed;             /* the input of the current product, in panels */
    float *sums;               /* (rows, chunk) deciding sums, then values, of a run of neurons */
    float *ups;                /* (rows, chunk) where the FFN is gated */
    uint8_t *late;             /* (FLIN_LATE_ROWS, chunk) who fires for the last rows */
    const void **deciders;     /* (chunk) matrix rows of that run */
    const void **up;           /* (chunk) where the FFN is gated */
    const void **down;         /* (chunk) */
    uint32_t *admitted;        /* (chunk) indices into that run: to be put into the cache */
    flin_wide_thread *threads; /* (threads) */
} flin_wide;

#define FLIN_LATE_ROWS 8u /* the last of a chunk, whose neurons a continuation is likely to fire */

typedef struct flin_pass {
    /* what is run: set before each forward */
    const flin_row *rows;
    uint32_t count;
    uint32_t wide;
    uint64_t step; /* steps of the model before this pass */
    flin_tally tally;

    /* the model it is run on */
    flin_compute *compute;
    const flin_shape *shape;
    const flin_weights *weights;
    const flin_kv_shape *kv;
    const flin_watch *watch;
    flin_predictor *predictor;
    flin_cache *cache;
    flin_fetcher *fetcher;
    flin_stream *stream;
    flin_ring *ring;
    const flin_extent *slots; /* (layers) what a slot holds of a bundle */
    const flin_extent *whole; /* (layers) all of a bundle */
    uint32_t rows_max;        /* of a narrow pass */

    /* buffers: a narrow pass has the first rows of them */
    float *hidden;    /* (rows, width) residual streams */
    float *normed;    /* (rows, width) inputs of the current block */
    float *query;     /* (rows, heads * head_width) */
    float *key;       /* (rows, kv_heads * head_width) */
    float *value;     /* likewise */
    float *attended;  /* (rows, heads * head_width) */
    float *projected; /* (rows, width) outputs of the current block */
    /* how heads turn: by the model's rotary base, and by that of layers with a window, if it has
       another */
    flin_angles angles[2];
    float *token; /* (rows_max, token_width) embeddings before they are projected, and after */
    uint8_t *embedding; /* a matrix row that was read for one token; of a plain file */
    uint8_t *levels;    /* (rows_max, levels_bytes) inputs of quantised matrices */
    uint32_t levels_bytes;
    uint8_t *attend; /* (threads, flin_attend_bytes()) */
    flin_ffn_lists lists;
    flin_wide wide_buffers;
} flin_pass;

/* Rows that are worth a wide pass; fewer are run one by one. misses: the predictor reads a fraction
   of what a wide pass does. */
uint32_t flin_pass_least(int misses);

/* Buffers from an arena (measuring or real). compute->kernels and tile, shape, kv, stream and
   rows_max are set. model_bytes: of the file; threads: of the pool. */
void flin_pass_layout(flin_pass *pass, flin_arena *arena, uint64_t model_bytes, uint32_t threads);

/* Is the call that runs it to end? Cheap: asked before every block of work. */
int flin_pass_cancelled(const flin_pass *pass);

/* Does any row want logits? */
int flin_pass_wants_logits(const flin_pass *pass);

/* What dot products with rows of this type take for x (count, cols): x itself, or its levels, which
   stand until the next call. */
void flin_pass_inputs(flin_pass *pass, enum flin_type type, const float *x, uint32_t cols,
                      uint32_t count, const void *inputs[FLIN_INPUTS_MAX]);

#endif
