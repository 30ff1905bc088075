/*
 * state.h - what stands behind the two handles. Verbs of the engine take parts of it; only what
 * opens, plans, or keeps sessions sees it whole.
 */
#ifndef FLIN_ENGINE_STATE_H
#define FLIN_ENGINE_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/pass.h"
#include "engine/residency.h"
#include "text/tokenizer.h"
#include "util/home.h"

/* Options with every default resolved. */
typedef struct flin_settings {
    uint64_t budget_bytes; /* 0: whatever makes everything resident */
    uint32_t flags;
    uint32_t threads;       /* no more than there are CPUs */
    uint32_t threads_asked; /* options.threads */
    uint32_t context;
    uint32_t sessions;
    enum flin_type kv_type;
    uint32_t predictor;
    uint32_t cache_policy; /* FLASHINFER_CACHE_..., never DEFAULT */
    uint32_t window_tokens;
    uint32_t verify; /* FLASHINFER_VERIFY_..., never DEFAULT: 3 stands for "on read" */
    uint32_t kernels;
    uint32_t gap_bytes; /* between reads that are merged */
    flin_watch watch;
    flashinfer_log_callback log;
    void *log_user;
    flashinfer_progress_callback progress;
    void *progress_user;
} flin_settings;

#define FLIN_VERIFY_READ 3u

/* The part of a plan that moves with the budget. */
typedef struct flin_share {
    uint32_t slots;               /* over all layers */
    uint32_t kept;                /* exact: deciding matrix rows kept per layer */
    uint32_t groups[FLIN_GROUPS]; /* plain files: of FLIN_SHARE_WHOLE */
} flin_share;

/* Bytes of the fixed arena by what they are for. */
typedef struct flin_sections {
    uint64_t resident, predictor, cache, kv, scratch, io, tokenizer;
} flin_sections;

struct flashinfer_session {
    flashinfer_model *model;
    uint8_t *keys;   /* (layers, kv_heads, context, head_width) of settings.kv_type */
    uint8_t *values; /* likewise */
    float *logits;   /* (vocab) */
    uint32_t index;
    uint32_t in_use;
    _Atomic uint32_t position; /* this and the next may be asked for while a call runs */
    _Atomic uint32_t has_logits;
    /* Calls that can be cancelled are numbered from 0, as they are made; numbers are never set
       back, so a cancel that comes late means calls that are over. */
    _Atomic uint64_t called;    /* how many were made */
    _Atomic uint64_t cancelled; /* those with numbers below this one are to end */
    uint64_t call;              /* number of the one that runs */
};

struct flashinfer_model {
    pthread_mutex_t mutex; /* one call at a time */
    flin_home home;        /* the process whose threads these are; looked at before locking */
    flin_settings settings;

    /* the files */
    flin_storage storage;
    flin_gguf gguf;
    flin_storage predictor_storage; /* of a predictor file, while the model is opened */
    flin_gguf predictor_gguf;
    flin_shape shape;
    uint64_t parameter_count;
    char name[128]; /* general.name, cut to fit */
    char kinds[40]; /* predictors that the files at hand have */

    /* what is in memory */
    flin_arena tables; /* layers, and the list of matrices */
    flin_arena fixed;  /* everything else but what moves with the budget */
    flin_weights weights;
    flin_tokenizer *tokenizer; /* NULL with FLASHINFER_OPEN_NO_TOKENIZER on an unknown one */
    struct flashinfer_session *sessions; /* (settings.sessions) */
    flin_extent *slots, *whole;          /* (layers) see pass.h */
    uint8_t *verify;                     /* (verify_bytes) pieces of the file being verified */
    uint32_t verify_bytes;
    uint32_t slot_bytes; /* 0 without a cache */

    /* what runs */
    flin_kv_shape kv;
    flin_compute compute;
    flin_predictor predictor;
    flin_cache cache;
    flin_fetcher fetcher;
    flin_stream stream;
    flin_ring ring;
    flin_residency residency;
    flin_pass pass;

    /* how memory is divided, and what was done */
    flin_sections sections; /* of the fixed arena */
    flashinfer_plan plan;
    flin_share share;
    int opened; /* 1: changes of the budget are not part of opening */
    flashinfer_stats stats;
    uint64_t token_count; /* rows begun since open: the cache's clock */
};

#endif
