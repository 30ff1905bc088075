/*
 * model.h - what an open model consists of. The engine's files share this one view; nothing outside
 * lib/engine and lib/api.c sees it.
 *
 *   plan.c     options -> how the budget is divided        step.c        one token through all
 *              layers
 *   layout.c   plan -> where everything lies               attention.c   norm -> attention ->
 *              residual
 *   model.c    open, close, budget, verify                 ffn.c         predict -> cache -> read
 *              -> compute
 *   session.c  sequences, state                            neurons.c     activations and sums over
 *              lists of neurons
 *   verify.c   every checksum of the file                   stream.c      a layer's bundles one
 *              after the other
 *   expect.c   what is read next                            rows.c        where bundles lie in the
 *              file
 *   arrange.c  resident matrices as kernels like them
 */
#ifndef FLIN_ENGINE_MODEL_H
#define FLIN_ENGINE_MODEL_H

#include <pthread.h>
#include <stdatomic.h>

#include "cache/cache.h"
#include "engine/prefill.h"
#include "kernels/kernels.h"
#include "model/weights.h"
#include "predictor/predictor.h"
#include "storage/batch.h"
#include "text/tokenizer.h"
#include "util/pool.h"

/* Options with every default resolved. */
typedef struct flin_config {
    uint64_t budget_bytes; /* 0: whatever makes everything resident */
    uint32_t flags;
    uint32_t threads;
    uint32_t context;
    uint32_t sessions;
    enum flin_type kv_type;
    uint32_t predictor;
    uint32_t cache_policy; /* FLASHINFER_CACHE_..., never DEFAULT */
    uint32_t window_tokens;
    uint32_t verify; /* FLASHINFER_VERIFY_..., never DEFAULT: 3 stands for "on read" */
    uint32_t kernels;
    uint32_t audit_interval;
    uint32_t audit_layers; /* at an audited token: 1 to all */
    uint32_t gap_bytes;    /* between reads that are merged */
    flin_storage_config storage;
    flashinfer_log_callback log;
    void *log_user;
    flashinfer_progress_callback progress;
    void *progress_user;
    flashinfer_trace_callback trace;
    void *trace_user;
    flashinfer_ffn_input_callback ffn_input;
    void *ffn_input_user;
    flashinfer_audit_callback audit;
    void *audit_user;
} flin_config;

#define FLIN_VERIFY_READ 3u

/* Buffers of the step in progress; one step runs at a time per model. */
typedef struct flin_scratch {
    float *hidden;    /* (width) residual stream */
    float *normed;    /* (width) input of the current block */
    float *query;     /* (width) */
    float *key;       /* (width) */
    float *value;     /* (width) */
    float *attended;  /* (width) */
    float *projected; /* (width) output of the current block */
    float *token;     /* (token_width) */
    uint8_t *attend;  /* (threads, flin_attend_bytes()) */
    void *levels;     /* flin_levels_bytes() of the widest input, for quantised weights */

    uint32_t *ids;        /* (ffn) predicted neurons, ascending */
    float *activations;   /* (ffn) of ids */
    const uint8_t **rows; /* (ffn) payload of ids in slots */
    uint32_t *present;    /* (ffn) indices into ids found in the cache */
    uint32_t *missing;    /* (ffn) indices into ids to be read */
    uint32_t *landed; /* (flin_stream_fetches()) indices handed on by the batch, then into ids */
    uint8_t *damaged; /* (ffn) of ids: checksum mismatch seen */
    const void **firing_rows; /* (ffn) down rows of neurons that fire */
    float *firing;            /* (ffn) their activations */
    float *audit[2];          /* (width) audit: what found and missed neurons add */
    flin_fetch *fetches;      /* (flin_stream_fetches()) */
    uint64_t *wanted_rows; /* (ffn / 64) a bit per row, all clear; these two only with an order */
    uint32_t *at_row;      /* (ffn) index in a list of the neuron whose bundle is there */
    uint8_t *stream[2];    /* (stream_bytes) chunks of bundles in file order */
    uint8_t *verify;       /* (verify_bytes) pieces of the file being verified: over stream */
} flin_scratch;

/* The part of a plan that moves with the budget. */
typedef struct flin_share {
    uint32_t slots; /* over all layers */
    uint32_t rows;  /* exact: up rows kept per layer */
} flin_share;

/* Bytes of the fixed arena by what they are for. */
typedef struct flin_sections {
    uint64_t resident, predictor, cache, kv, scratch, io, tokenizer;
} flin_sections;

struct flashinfer_session {
    flashinfer_model *model;
    void *keys;    /* (layers, heads, context, head_width) of config.kv_type */
    void *values;  /* likewise */
    float *logits; /* (vocab) */
    uint32_t index;
    uint32_t in_use;
    _Atomic uint32_t position; /* this and the next may be asked for while a call runs */
    _Atomic uint32_t has_logits;
    _Atomic uint32_t cancelled;
};

struct flashinfer_model {
    pthread_mutex_t mutex; /* one call at a time */
    flin_config config;
    flin_storage storage;
    flin_gguf gguf;
    flin_storage predictor_storage; /* of a predictor file, while the model is opened */
    flin_gguf predictor_gguf;
    flin_shape shape;
    uint64_t parameter_count;
    char name[128]; /* general.name, cut to fit */
    char kinds[40]; /* predictors that the files at hand have */

    flin_arena fixed; /* everything but slots and rows */
    flin_weights weights;
    flin_tokenizer *tokenizer; /* NULL with FLASHINFER_OPEN_NO_TOKENIZER on an unknown one */
    flin_scratch scratch;
    struct flashinfer_session *sessions; /* (config.sessions) */
    flin_prefill prefill;
    uint32_t stream_rows;  /* bundles per stream chunk */
    uint32_t stream_bytes; /* of one stream buffer */

    const flin_kernels *kernels;
    flin_pool pool;
    flin_predictor predictor;
    flin_rows *rows; /* (layers) exact: resident up rows */
    flin_cache cache;
    flin_batch *batch;

    flin_sections sections; /* of the fixed arena */
    uint32_t slot_bytes;    /* 0 without a cache */
    uint32_t verify_bytes;  /* of scratch.verify */
    flashinfer_plan plan;
    flin_share share;
    flashinfer_stats stats;
    uint64_t token_count; /* steps begun since open: the cache's clock */
    int wants_logits;     /* the step in progress ends with them */
};

/* plan.c --------------------------------------------------------------------------------------- */

/* Check options and resolve defaults against the file; predictors: the one that holds the
   predictors. */
int flin_config_resolve(flin_config *config, const flashinfer_options *options,
                        const flin_gguf *predictors, const flin_shape *shape,
                        flashinfer_error *error);

/* Add up everything that does not move with the budget, into model->sections. model needs
   config, storage, gguf and shape; nothing is allocated. */
int flin_plan_measure(flashinfer_model *model, flashinfer_error *error);

/* Divide a budget (0: as much as is of use). A budget below plan->minimum_bytes is no failure
   here: planned_bytes is then the minimum. share may be NULL. */
void flin_plan_divide(const flashinfer_model *model, uint64_t budget_bytes, flashinfer_plan *plan,
                      flin_share *share);

/* The one error text for a budget that is too small. */
int flin_plan_refuse(const flashinfer_plan *plan, flashinfer_error *error);

/* layout.c ------------------------------------------------------------------------------------- */

/* Place everything but slots and rows in the arena (measuring or real). */
int flin_layout(flashinfer_model *model, flin_arena *arena, flin_sections *sections,
                flashinfer_error *error);

/* The parts that a model opened for its metadata has, too. */
void flin_layout_verify(flashinfer_model *model, flin_arena *arena);
int flin_layout_tokenizer(flashinfer_model *model, flin_arena *arena, flashinfer_error *error);

/* Does this configuration keep a cache / up rows? */
static inline int flin_uses_cache(const flin_config *config)
{
    return config->predictor != FLASHINFER_PREDICTOR_ALL;
}

static inline int flin_uses_rows(const flin_config *config)
{
    return config->predictor == FLASHINFER_PREDICTOR_EXACT;
}

/* Does a loaded predictor name the neurons, so that it may miss some? */
static inline int flin_uses_names(const flin_config *config)
{
    return config->predictor != FLASHINFER_PREDICTOR_EXACT &&
           config->predictor != FLASHINFER_PREDICTOR_ALL;
}

/* Which bytes of a bundle a slot holds for this configuration. */
flin_cache_extent flin_slot_extent(const flashinfer_model *model, uint64_t bundle_offset);

/* arrange.c ------------------------------------------------------------------------------------ */

/* Turn resident matrices into the layout that the kernels are fastest with, in place; once,
   after they were checked. */
void flin_arrange(flashinfer_model *model);

/* model.c -------------------------------------------------------------------------------------- */

/* An empty handle; the caller opens handle->storage, which must not move afterwards, then one of
   the two that follow. Whatever fails, flin_model_close() releases what there is. */
int flin_model_create(const flashinfer_options *options, flashinfer_model **created,
                      flashinfer_error *error);
int flin_model_open(flashinfer_model *model, const flashinfer_options *options,
                    flashinfer_error *error);
int flin_model_plan_only(flashinfer_model *model, const flashinfer_options *options,
                         flashinfer_plan *plan, flashinfer_error *error);
void flin_model_close(flashinfer_model *model);
int flin_model_set_budget(flashinfer_model *model, uint64_t budget_bytes, flashinfer_error *error);
void flin_model_info(const flashinfer_model *model, flashinfer_info *info);

/* Where the predictors are: a predictor file while there is one, else the model. */
static inline const flin_gguf *flin_predictor_file(const flashinfer_model *model)
{
    return model->predictor_gguf.header != NULL ? &model->predictor_gguf : &model->gguf;
}

/* Report progress; FLASHINFER_ECANCELED with an error text if the host wants to stop. */
int flin_model_progress(flashinfer_model *model, const char *stage, uint64_t done, uint64_t total,
                        flashinfer_error *error);
void flin_model_log(const flashinfer_model *model, int level, const char *format, ...)
    FLIN_PRINTF(3, 4);

/* session.c ------------------------------------------------------------------------------------ */

int flin_session_create(flashinfer_model *model, flashinfer_session **session,
                        flashinfer_error *error);
void flin_session_destroy(flashinfer_session *session);
int flin_session_rewind(flashinfer_session *session, uint32_t position, flashinfer_error *error);
size_t flin_state_bytes(const flashinfer_session *session);
int flin_state_save(const flashinfer_session *session, void *buffer, size_t capacity,
                    size_t *written, flashinfer_error *error);
int flin_state_load(flashinfer_session *session, const void *buffer, size_t bytes,
                    flashinfer_error *error);

/* Where a head's positions begin in keys and values, which are (layers, heads, context,
   head_width): a head is read from its first position to its last, in one stream. */
static inline uint64_t flin_kv_offset(const flashinfer_model *model, uint32_t layer, uint32_t head)
{
    const flin_shape *shape = &model->shape;
    const uint64_t heads = (uint64_t)layer * shape->heads + head;

    return flin_type_bytes(model->config.kv_type,
                           heads * model->config.context * shape->head_width);
}

/* step.c --------------------------------------------------------------------------------------- */

/* hidden (width) = embedding of token + embedding of position */
void flin_embed(flashinfer_model *model, int32_t token, uint32_t position, float *hidden);

/* session->logits = those of scratch.hidden */
void flin_unembed(flashinfer_session *session);

int flin_step(flashinfer_session *session, int32_t token, flashinfer_error *error);
int flin_eval(flashinfer_session *session, const int32_t *tokens, size_t count,
              flashinfer_error *error);

/* expect.c ------------------------------------------------------------------------------------- */

#define FLIN_ROW_GRAIN 16u /* rows of matrices: where threads' parts of one may end */

/* Which matrix comes next, for threads that are done with the pool's next run to ask for. */
void flin_expect_attention(flashinfer_model *model,
                           uint32_t layer); /* after the last: logits, or the next token's first */
void flin_expect_projection(flashinfer_model *model, uint32_t layer);
void flin_expect_ffn(flashinfer_model *model, uint32_t layer);

/* attention.c ---------------------------------------------------------------------------------- */

/* What dot products with rows of this type take for x (cols): x itself, or its levels in
   scratch.levels, which stand until the next call. */
const void *flin_input(flashinfer_model *model, enum flin_type type, const float *x, uint32_t cols);

/* One thread's scratch for attend(). */
static inline void *flin_attend_scratch(const flashinfer_model *model, uint32_t thread)
{
    return model->scratch.attend + thread * flin_attend_bytes(model->shape.head_width);
}

/* y (outputs) = weight . x + bias, over the compute threads */
void flin_apply_linear(flashinfer_model *model, const flin_linear *linear, const float *x,
                       float *y);

/* Put a head's key or value (head_width) of a position where it lies in a session's keys or
   values. */
void flin_kv_append(const flashinfer_session *session, uint32_t layer, uint32_t head,
                    uint32_t position, void *cache, const float *vector);

/* projected = attention(input) for the session's next position, which it adds to the KV cache */
void flin_attention(flashinfer_session *session, uint32_t layer, const float *input);

/* audit.c -------------------------------------------------------------------------------------- */

/* If it is the layer's turn, count what its predictor, which just named `predicted` neurons, has
   missed. x: flin_input() for up rows. */
int flin_audit(flashinfer_session *session, uint32_t layer, const void *x, uint32_t predicted,
               flashinfer_error *error);

/* ffn.c ---------------------------------------------------------------------------------------- */

/* projected = FFN(input) over exactly the predicted neurons */
int flin_ffn(flashinfer_session *session, uint32_t layer, const float *input,
             flashinfer_error *error);

/* neurons.c ------------------------------------------------------------------------------------ */

/* Bundles at hand: neuron ids[i] has its payload at rows[i]. */
typedef struct flin_neurons {
    uint32_t layer;
    const uint32_t *ids;
    const uint8_t *const *rows;
    float *activations;
    uint8_t *damaged;      /* set to 1 where a checksum differs */
    uint32_t payload_skip; /* bytes of the bundle that rows leave out */
} flin_neurons;

/* activations[i] = relu(up . x + bias) for the i in list (count); with verify != 0 checksums
   first, returning how many are damaged. x: flin_input() of the FFN's input for up rows. */
uint32_t flin_neurons_activate(flashinfer_model *model, const flin_neurons *neurons,
                               const uint32_t *list, uint32_t count, const void *x, int verify);

/* The same for neurons at hand while model->batch, prepared, is handed over and pushed on.
   Returns the nanoseconds in which reads were handed over after a thread had found nothing left
   to compute. */
uint64_t flin_neurons_activate_reading(flashinfer_model *model, const flin_neurons *neurons,
                                       const uint32_t *list, uint32_t count, const void *x);

/* The same where nothing is to be read, while the cache is told that ids[0 .. count) are wanted.
   Returns the nanoseconds that took if no other thread computed beside it. */
uint64_t flin_neurons_activate_using(flashinfer_model *model, const flin_neurons *neurons,
                                     const uint32_t *list, uint32_t count, const void *x);

/* Compare checksums only, for neurons whose activation is known (exact mode). */
uint32_t flin_neurons_verify(flashinfer_model *model, const flin_neurons *neurons,
                             const uint32_t *list, uint32_t count);

/* y (width) += sum over i < count of activations[i] * down row, in order of i; returns how many
   fired. */
uint32_t flin_neurons_sum(flashinfer_model *model, const flin_neurons *neurons, uint32_t count,
                          float *y);

/* Does one neuron's payload match its checksums? */
int flin_neuron_intact(const flashinfer_model *model, const flin_neurons *neurons, uint32_t index);

/* rows.c --------------------------------------------------------------------------------------- */

/* Where a neuron's bundle begins in the file. */
uint64_t flin_bundle_begin(const flashinfer_model *model, uint32_t layer, uint32_t neuron);

/* Sort a list (count) of indices into ids, which ascends, by where the neurons' bundles lie. */
void flin_rows_sort(flashinfer_model *model, uint32_t layer, const uint32_t *ids, uint32_t *list,
                    uint32_t count);

/* Parts of neurons [first, first + count) from the file as floats: (count, width). */
int flin_rows_read(flashinfer_model *model, uint32_t layer, uint32_t part, uint32_t first,
                   uint32_t count, float *rows, flashinfer_error *error);

/* Does every neuron have a row of its own? The file may say anything. */
int flin_rows_check(const flashinfer_model *model, flashinfer_error *error);

/* stream.c ------------------------------------------------------------------------------------- */

/* Bytes of a stream buffer that one bundle takes. */
uint32_t flin_stream_unit(const flashinfer_model *model);

/* The most fetches that a chunk, or a layer's missing neurons, are. */
uint32_t flin_stream_fetches(const flashinfer_model *model);

/* y += contribution of neurons [first, ffn), read in order. x: flin_input() for up rows. */
int flin_stream(flashinfer_session *session, uint32_t layer, uint32_t first, const void *x,
                float *y, flashinfer_error *error);

/* Called with a run of neurons whose bundles are at hand, checked, until it returns. */
typedef int (*flin_neurons_task)(flashinfer_session *session, const flin_neurons *neurons,
                                 uint32_t count, void *context, flashinfer_error *error);

/* All neurons of a layer, in order, run by run of at most model->stream_rows. */
int flin_stream_each(flashinfer_session *session, uint32_t layer, flin_neurons_task task,
                     void *context, flashinfer_error *error);

/* Of the neurons that fire: how many the predictor just named and how many it did not, and what
   they add. */
typedef struct flin_audit_sums {
    uint32_t found_count;
    uint32_t missed_count;
    float *found;  /* (width) */
    float *missed; /* (width) */
} flin_audit_sums;

/* sums += all neurons of a layer. x: flin_input() for up rows. */
int flin_stream_audit(flashinfer_session *session, uint32_t layer, const void *x,
                      flin_audit_sums *sums, flashinfer_error *error);

/* Fill rows[layer] with the up rows of neurons [from, to). */
int flin_stream_rows(flashinfer_model *model, uint32_t layer, uint32_t from, uint32_t to,
                     flashinfer_error *error);

/* verify.c ------------------------------------------------------------------------------------- */

/* Read the whole file and compare every checksum. Needs storage, gguf and scratch.verify only. */
int flin_verify(flashinfer_model *model, flashinfer_error *error);

#endif
