/*
 * flashinfer.h - the public interface of libflashinfer.
 *
 * libflashinfer runs language models whose weights do not fit in the memory an application may use.
 * Weights stay on flash; for every token the neurons that will fire are predicted, read in direct
 * reads and kept in a bounded cache (Alizadeh et al., "LLM in a flash", ACL 2024, arXiv 2312.11514,
 * "the paper" below).
 *
 * Conventions
 *   Returns   0 or a negative FLASHINFER_E... code. With a code, *error (may be NULL) says what,
 *             where, what to do.
 *   Structs   begin with `size`. Options and error records have an _init function: call it first,
 *             then set fields. Structs that a call fills (info, plan, stats, a probe's result) have
 *             none: set size to sizeof the struct and the rest to zero. Those that callbacks get
 *             are complete. Zero is always the default. A struct from a newer header is accepted as
 *             long as its unknown tail is zero. Elements of lists (logit biases, log probabilities)
 *             have no size, and never grow.
 *   Threads   Different models are independent. Calls on one model and its sessions may come from
 *             any thread and are serialised inside; only the functions that say so may run beside
 *             another call. A callback may ask for stats, plan, position, logits and state bytes of
 *             the model that called it, or cancel; what would run or change that model is refused
 *             with FLASHINFER_EBUSY, and a session is not destroyed.
 *   Fork      In a child of fork every call that would run or change a model opened before, or
 *             read from its file, is refused with FLASHINFER_EINVAL: the model's threads are the
 *             parent's, which goes on unharmed. What only looks (info, stats, plan, position,
 *             logits, state bytes) and text calls answer as at the fork. Destroying its sessions
 *             and closing it there gives back the child's memory and descriptors; then open it
 *             again. A call whose callback forked must not be gone on with in the child.
 *   Memory    Handles own what they return unless said otherwise. Nothing is written to stdout or
 *             stderr, no signal handler is installed, and the process is never ended.
 *   Sizes     A call that tells how much it wrote into the caller's buffer tells what it needs
 *             where the buffer is too small, with FLASHINFER_EBUFFER. So NULL and capacity 0 ask
 *             for the size. After any other failure the size is 0.
 *   Units     are the last word of a name: _bytes, _tokens, _ns, _ms.
 */
#ifndef FLASHINFER_H
#define FLASHINFER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(FLASHINFER_STATIC) || !defined(__GNUC__)
#define FLASHINFER_API
#else
#define FLASHINFER_API __attribute__((visibility("default")))
#endif

/* Of this header; the library's own is flashinfer_version(). */
#define FLASHINFER_VERSION_MAJOR 0 /* first number of the version */
#define FLASHINFER_VERSION_MINOR 1 /* second */
#define FLASHINFER_VERSION_PATCH 0 /* third */

/* --------------------------------------------------------------------------------------- errors */

/* X(name, number, description): numbers are never reused or renumbered. */
#define FLASHINFER_ERRORS(X)                                                                       \
    X(OK, 0, "no error")                                                                           \
    X(EINVAL, -1, "an argument is missing or out of range")                                        \
    X(ENOMEM, -2, "the system gave no memory")                                                     \
    X(EIO, -3, "reading or writing storage failed")                                                \
    X(EFORMAT, -4, "the file is not a valid model file")                                           \
    X(ECORRUPT, -5, "stored bytes do not match their checksum")                                    \
    X(EUNSUPPORTED, -6, "the file or request needs something this build does not have")            \
    X(EBUDGET, -7, "the memory budget cannot hold what was asked for")                             \
    X(ETOKEN, -8, "a token id is outside the vocabulary")                                          \
    X(ECONTEXT, -9, "the session's context is full")                                               \
    X(ECANCELED, -10, "the call was cancelled")                                                    \
    X(ETIMEDOUT, -11, "storage did not answer in time")                                            \
    X(ECHECKPOINT, -12, "the checkpoint cannot be packed")                                         \
    X(EBUFFER, -13, "the caller's buffer is too small")                                            \
    X(ESTATE, -14, "the saved state does not belong to this model or is damaged")                  \
    X(ETHREAD, -15, "the system gave no thread")                                                   \
    X(EBUSY, -16, "the handle is still in use")                                                    \
    X(ESESSIONS, -17, "all sessions that the model was opened for exist")

enum {
#define FLASHINFER_ERROR_ENUM(name, number, text) FLASHINFER_##name = (number),
    FLASHINFER_ERRORS(FLASHINFER_ERROR_ENUM)
#undef FLASHINFER_ERROR_ENUM
        FLASHINFER_ERROR_COUNT_ = 18 /* entries above */
};

#define FLASHINFER_ERROR_TEXT_BYTES 512 /* of an error's text, its zero included */

/* What went wrong, where and what to do. Filled by a failing call; untouched by a call that
   succeeds. Owned by the caller, one per thread. */
typedef struct flashinfer_error {
    uint32_t size;
    int32_t code;                           /* FLASHINFER_E..., as the call returned it */
    int32_t sys_errno;                      /* errno of the failing system call, 0 if none */
    int32_t layer;                          /* layer the failure belongs to, -1 if none */
    int64_t neuron;                         /* FFN neuron it belongs to, -1 if none */
    int64_t offset;                         /* byte offset in the file, -1 if none */
    char text[FLASHINFER_ERROR_TEXT_BYTES]; /* one line, UTF-8, zero-terminated */
} flashinfer_error;

/**
 * flashinfer_error_init - prepare an error record
 * @error: record to fill
 * @size: sizeof(flashinfer_error) as the caller compiled it
 */
FLASHINFER_API void flashinfer_error_init(flashinfer_error *error, size_t size);

/**
 * flashinfer_error_name - name of an error code, such as "FLASHINFER_EBUDGET"
 * @code: FLASHINFER_E...
 *
 * Returns a static string, "FLASHINFER_E?" for an unknown code.
 */
FLASHINFER_API const char *flashinfer_error_name(int code);

/**
 * flashinfer_error_describe - one-sentence description of an error code
 * @code: FLASHINFER_E...
 *
 * Returns a static string.
 */
FLASHINFER_API const char *flashinfer_error_describe(int code);

/**
 * flashinfer_version - version of the library in use, such as "0.1.0"
 * Returns a static string.
 */
FLASHINFER_API const char *flashinfer_version(void);

/* -------------------------------------------------------------------------------------- handles */

/* An open file with its resident weights, cache, threads and budget. */
typedef struct flashinfer_model flashinfer_model;
/* One sequence: KV cache and position. */
typedef struct flashinfer_session flashinfer_session;
/* Token ids to text, never splitting a UTF-8 character. */
typedef struct flashinfer_decoder flashinfer_decoder;
/* Logits to a token id. */
typedef struct flashinfer_sampler flashinfer_sampler;

struct flashinfer_storage_ops; /* flashinfer_backend.h */

/* See "probe" below. */
typedef struct flashinfer_probe_result flashinfer_probe_result;

/* -------------------------------------------------------------------------------------- options */

/* Which neurons of a layer are computed. exact and all give the dense model's output bit for
   bit. The deciding matrix is gate where the FFN is gated, else up: flashinfer_info.ffn_gated. */
enum {
    /* what there is for every layer: sketch, lowrank, mixed; else exact */
    FLASHINFER_PREDICTOR_DEFAULT = 0,
    FLASHINFER_PREDICTOR_EXACT = 1,   /* every deciding sum computed, firing neurons fetched */
    FLASHINFER_PREDICTOR_SKETCH = 2,  /* a few bits of the deciding matrix, made at pack time */
    FLASHINFER_PREDICTOR_LOWRANK = 3, /* two thin factors, calibrated or trained (paper, 3.1) */
    FLASHINFER_PREDICTOR_ALL = 4,     /* dense: every bundle streamed for every token, no cache */
    FLASHINFER_PREDICTOR_MIXED = 5    /* sketch in some layers, lowrank in others */
};

/* How the model file is read. */
enum {
    /* the first of libaio, io_uring, pread, buffered that works on this file */
    FLASHINFER_STORAGE_DEFAULT = 0,
    FLASHINFER_STORAGE_LIBAIO = 1,   /* Linux asynchronous I/O with O_DIRECT */
    FLASHINFER_STORAGE_PREAD = 2,    /* a pool of reading threads with O_DIRECT */
    FLASHINFER_STORAGE_BUFFERED = 3, /* the same pool through the page cache */
    FLASHINFER_STORAGE_URING = 4     /* io_uring with O_DIRECT */
};

/* Which neurons leave the cache when others need their slots. The output never depends on it. */
enum {
    FLASHINFER_CACHE_DEFAULT = 0,   /* window if window_tokens is given, else balanced */
    FLASHINFER_CACHE_WINDOW = 1,    /* those not wanted longest; equal slots for every layer */
    FLASHINFER_CACHE_FREQUENCY = 2, /* those wanted least, older uses fading; equal slots */
    FLASHINFER_CACHE_BALANCED = 3 /* recent and lasting use; slots go where they save most reads */
};

/* What is compared with its checksum, and when. */
enum {
    FLASHINFER_VERIFY_DEFAULT = 0, /* header and resident tensors at open, bundles when read */
    FLASHINFER_VERIFY_NONE = 1,    /* no checksum is looked at */
    FLASHINFER_VERIFY_OPEN = 2     /* as the default, and the whole file once at open */
};

/* Which instructions of the CPU do the arithmetic. Each has its own last bits. */
enum {
    FLASHINFER_KERNELS_DEFAULT = 0, /* the best this CPU has */
    FLASHINFER_KERNELS_REF = 1,     /* plain C */
    FLASHINFER_KERNELS_AVX2 = 2,    /* AVX2 + FMA + F16C */
    FLASHINFER_KERNELS_AVX512 = 3,  /* AVX-512 F, BW, DQ, VL */
    FLASHINFER_KERNELS_NEON = 4     /* every aarch64 CPU; with dotprod where there is */
};

/* How keys and values of a session are kept. */
enum {
    FLASHINFER_KV_DEFAULT = 0, /* float32 */
    FLASHINFER_KV_F32 = 1,     /* the same */
    FLASHINFER_KV_F16 = 2,     /* half the memory; logits differ in about the third digit */
    /* GGUF's blocks of 32: a quarter of the memory; heads must be a multiple of 32 wide */
    FLASHINFER_KV_Q8_0 = 3
};

/* How a model is opened; several are joined with |. */
enum {
    /* header and tokenizer only: no sessions, no budget. Also opens a GGUF file that has a
       vocabulary and no tensors */
    FLASHINFER_OPEN_METADATA = 1u << 0,
    FLASHINFER_OPEN_NO_TOKENIZER = 1u << 1 /* take an unknown tokenizer: no text calls */
};

/* How much a line of the log matters. */
enum {
    FLASHINFER_LOG_ERROR = 0,   /* not used so far: calls return failures */
    FLASHINFER_LOG_WARNING = 1, /* it works, but otherwise than asked for, or slower */
    FLASHINFER_LOG_INFO = 2     /* what was chosen and found */
};

/* What a long call is doing. Valid during the callback only. */
typedef struct flashinfer_progress {
    uint32_t size;
    uint32_t reserved;
    const char *stage; /* "open", "verify", "eval", "pack", "probe": static string */
    uint64_t done;     /* bytes; tokens for "eval", measurements for "probe" */
    uint64_t total;    /* same unit as done */
} flashinfer_progress;

/* Takes a line of the log. Called from the thread that made the call.
   @level: FLASHINFER_LOG_...
   @text: one line of UTF-8 without an end of line; valid during the callback only */
typedef void (*flashinfer_log_callback)(int level, const char *text, void *user);

/* Follows a long call, and may end it. Called from the thread that made the call. Return 0 to go
   on, anything else to cancel the call with FLASHINFER_ECANCELED. */
typedef int (*flashinfer_progress_callback)(const flashinfer_progress *progress, void *user);

/* What a layer asks for in one step: the neurons the predictor named, before the cache is looked
   at. Valid during the callback only. */
typedef struct flashinfer_trace {
    uint32_t size;
    uint32_t layer;
    uint32_t layer_count;
    uint32_t ffn_length;          /* neurons per layer */
    uint32_t bundle_stride_bytes; /* distance between two bundles in the file */
    uint32_t count;               /* of ids */
    /* of the layer's first bundle, bytes from the start of the model; neuron i's is bundle i,
       but not with info.ordered */
    uint64_t bundle_offset;
    uint64_t step;       /* steps of the model since it was opened, from 1 */
    const uint32_t *ids; /* (count) ascending */
} flashinfer_trace;

/* Sees what every layer asks for. Called from the thread that steps, for every layer of every step.
   It may ask the model for its stats and plan only. */
typedef void (*flashinfer_trace_callback)(const flashinfer_trace *trace, void *user);

/* What goes into a layer's FFN in one step: the input its predictor sees. Valid during the
   callback only. */
typedef struct flashinfer_ffn_input {
    uint32_t size;
    uint32_t layer;
    uint32_t layer_count;
    uint32_t width; /* d */
    uint64_t step;  /* steps of the model since it was opened, from 1 */
    const float *x; /* (width) */
} flashinfer_ffn_input;

/* Sees the input of every FFN. Called from the thread that steps, for every layer of every step,
   before its FFN. It may ask the model for its stats and plan only. */
typedef void (*flashinfer_ffn_input_callback)(const flashinfer_ffn_input *input, void *user);

/* What a predictor missed in a layer of one step, found by computing all neurons beside those it
   named. Norms are of vectors of embedding_length. Valid during the callback only. */
typedef struct flashinfer_audit {
    uint32_t size;
    uint32_t layer;
    uint32_t layer_count;
    uint32_t ffn_length; /* neurons per layer */
    uint64_t step;       /* steps of the model since it was opened, from 1 */
    uint32_t predicted;  /* neurons named */
    uint32_t active;     /* neurons that fire */
    uint32_t missed;     /* of those, not named: false negatives */
    uint32_t reserved;
    double output_norm; /* of what all firing neurons add up to, bias left out */
    double missed_norm; /* of what the missed ones add up to */
} flashinfer_audit;

/* Sees what a predictor missed. Called from the thread that steps, after the layer's FFN. It may
   ask the model for its stats and plan only. */
typedef void (*flashinfer_audit_callback)(const flashinfer_audit *audit, void *user);

/* How a model is opened and run. Copied when it is opened: only what log, progress, trace,
   ffn_input, audit and their user pointers lead to must stay valid until the model is closed. */
typedef struct flashinfer_options {
    uint32_t size;
    uint32_t flags;         /* FLASHINFER_OPEN_... */
    uint64_t memory_budget; /* ceiling in bytes, sessions included; 0: everything resident */
    /* compute threads, caller's included, at most 64; 0: one per CPU, at most 16 and one for 8 MiB
       of FFN.
       Of more than the CPUs that the opening thread may run on, and its control group pays for,
       as many as those are started, and a warning is logged */
    uint32_t threads;
    uint32_t context_tokens; /* of a session, at most the model's; 0: those, up to 8192 */
    uint32_t session_count;  /* sessions that may exist at once, at most 1024; 0: 1 */
    uint32_t kv_type;        /* FLASHINFER_KV_... */
    uint32_t predictor;      /* FLASHINFER_PREDICTOR_... */
    /* k of the paper's sliding window: neurons unused for so many tokens leave; 0: as slots last */
    uint32_t window_tokens;
    uint32_t storage; /* FLASHINFER_STORAGE_... */
    uint32_t verify;  /* FLASHINFER_VERIFY_... */
    uint32_t kernels; /* FLASHINFER_KERNELS_... */
    /* reads in flight (libaio, io_uring), at most 4096; 0: the probe's, else 64 */
    uint32_t io_depth;
    /* reading threads (pread, buffered), at most 256; 0: the probe's, else 4 */
    uint32_t io_lanes;
    uint32_t io_timeout_ms;  /* longest wait for one read; 0: 30000 */
    uint32_t audit_interval; /* every nth token some layers are also computed densely; 0: never */
    /* reads at most this far apart become one, gap included; at most 65536; 1: none; 0: the
       probe's, else 4096 */
    uint32_t io_gap_bytes;
    flashinfer_log_callback log;
    void *log_user;
    flashinfer_progress_callback progress;
    void *progress_user;
    /* what the device was measured to give; NULL: not measured. Looked at during the call only */
    const flashinfer_probe_result *probe;
    uint32_t cache_policy;           /* FLASHINFER_CACHE_... */
    uint32_t audit_layers;           /* of such a token, in turn; at most all; 0: 1 */
    flashinfer_trace_callback trace; /* called with what is asked for, but in mode all */
    void *trace_user;
    /* predictor file made for this model, see flashinfer_predictor_save(); NULL: the model
       file's own. Looked at during the call only */
    const char *predictor_path;
    flashinfer_ffn_input_callback ffn_input; /* called with every FFN's input */
    void *ffn_input_user;
    flashinfer_audit_callback audit; /* called for audited layers; changes no output */
    void *audit_user;
    /* FLASHINFER_ACTIVATION_... of the FFN, for GGUF files not in flash layout that do not say
       theirs, or say it wrong; 0: the file's */
    uint32_t ffn_activation;
    float ffn_threshold; /* of FLASHINFER_ACTIVATION_FATRELU */
} flashinfer_options;

/**
 * flashinfer_options_init - fill options with defaults
 * @options: struct to fill
 * @size: sizeof(flashinfer_options) as the caller compiled it
 */
FLASHINFER_API void flashinfer_options_init(flashinfer_options *options, size_t size);

/* ---------------------------------------------------------------------------------------- model */

/**
 * flashinfer_model_open - open a model file in flash layout inside a memory budget
 * @path: GGUF file written by flashinfer_pack()
 * @options: NULL for defaults
 * @model: receives the handle; NULL on failure
 * @error: NULL or the caller's record
 *
 * Everything the handle and its sessions will ever hold is planned here and allocated once. Fails
 * with FLASHINFER_EBUDGET, naming the smallest workable budget, when the plan does not fit.
 */
FLASHINFER_API int flashinfer_model_open(const char *path, const flashinfer_options *options,
                                         flashinfer_model **model, flashinfer_error *error);

/**
 * flashinfer_model_open_fd - open a model that is part of an open file, such as an application's
 * asset
 * @fd: readable file descriptor; it stays the caller's and may be closed when this returns
 * @offset: byte offset of the model in the file
 * @length: bytes of the model; 0: up to the end of the file
 *
 * Direct I/O needs an offset that is a multiple of 4096; with any other the reads go through the
 * page cache.
 */
FLASHINFER_API int flashinfer_model_open_fd(int fd, uint64_t offset, uint64_t length,
                                            const flashinfer_options *options,
                                            flashinfer_model **model, flashinfer_error *error);

/**
 * flashinfer_model_open_storage - open a model through callbacks of the host
 * @ops: copied; see flashinfer_backend.h. ops->close is called when the model is closed, not when
 *         open fails.
 */
FLASHINFER_API int flashinfer_model_open_storage(const struct flashinfer_storage_ops *ops,
                                                 const flashinfer_options *options,
                                                 flashinfer_model **model, flashinfer_error *error);

/**
 * flashinfer_model_close - release a model
 * @model: may be NULL
 *
 * Every session must have been destroyed. Returns 0, or FLASHINFER_EBUSY (and closes nothing) while
 * sessions exist.
 */
FLASHINFER_API int flashinfer_model_close(flashinfer_model *model);

/* What an FFN multiplies a neuron's down column with: of its deciding sum s, which is the gate
   row's where there is one, else the up row's, and of u, the up row's in gated FFNs, 1 in others.
   Where the condition does not hold the neuron does not fire and adds nothing. */
enum {
    FLASHINFER_ACTIVATION_RELU = 1,    /* s u, where s is above 0 */
    FLASHINFER_ACTIVATION_RELU2 = 2,   /* s s u, where s is above 0 */
    FLASHINFER_ACTIVATION_FATRELU = 3, /* s u, where s is above info.ffn_threshold */
    FLASHINFER_ACTIVATION_DRELU = 4,   /* s u, where s and u are above 0 */
    FLASHINFER_ACTIVATION_SILU = 5,    /* s u / (1 + exp(-s)), everywhere */
    FLASHINFER_ACTIVATION_GELU = 6,    /* s u (1 + erf(s / sqrt 2)) / 2, everywhere */
    /* s u (1 + tanh(t)) / 2, t = sqrt(2 / pi) (s + 0.044715 s^3), everywhere */
    FLASHINFER_ACTIVATION_GELU_TANH = 7
};

/* What is in a model file. Strings are owned by the model and live as long as it does. */
typedef struct flashinfer_info {
    uint32_t size;
    uint32_t layer_count;
    uint32_t embedding_length;    /* d: width of the residual stream */
    uint32_t ffn_length;          /* FFN neurons per layer */
    uint32_t head_count;          /* heads of queries */
    uint32_t vocab_count;         /* token ids are below it; logits are as many */
    uint32_t context_tokens;      /* longest context of the model */
    uint32_t tensor_count;        /* for flashinfer_model_tensor() */
    uint32_t metadata_count;      /* for flashinfer_model_metadata() */
    uint32_t bundle_bytes;        /* payload bytes of one FFN neuron */
    uint32_t bundle_stride_bytes; /* distance between two bundles in the file */
    int32_t bos_token;            /* -1: none */
    int32_t eos_token;            /* -1: none */
    uint32_t add_bos;             /* 1: texts of this model begin with bos_token */
    uint64_t parameter_count;     /* elements of all weights */
    uint64_t file_bytes;          /* length of the model file */
    uint64_t ffn_bytes;           /* payload bytes of all bundles */
    const char *architecture;     /* "opt", "qwen3", ...; "" of a file without tensors */
    const char *name;             /* "" if the file has none */
    const char *predictors;       /* kinds this file can be run with, such as "exact,sketch,all" */
    uint32_t ordered;             /* 1: packed with an order, see flashinfer_order_create() */
    uint32_t reserved;
    uint32_t dtype_resident; /* FLASHINFER_DTYPE_... of token embeddings, attention and head */
    uint32_t dtype_ffn;      /* FLASHINFER_DTYPE_... of bundles */
    /* 1: bundles have a gate row, which decides what fires; 0: they have none, the up row does */
    uint32_t ffn_gated;
    uint32_t ffn_activation; /* FLASHINFER_ACTIVATION_... */
    uint32_t ffn_sparse;     /* 1: neurons may not fire; 0: all do, predictors leave nothing out */
    float ffn_threshold;     /* what a deciding sum must be above to fire; 0 without ffn_sparse */
    uint32_t kv_head_count;  /* heads of keys and values; each serves head_count / kv_head_count */
    uint32_t head_length;    /* elements of a head */
} flashinfer_info;

/**
 * flashinfer_model_info - describe an open model
 * @info: caller's struct with info->size set
 */
FLASHINFER_API int flashinfer_model_info(const flashinfer_model *model, flashinfer_info *info);

/* A tensor of a model file. */
typedef struct flashinfer_tensor_info {
    uint32_t size;
    /* GGUF tensor type number: 0 F32, 1 F16, 2 Q4_0, 8 Q8_0, 24 I8, 27 I64, 30 BF16 */
    uint32_t type;
    uint32_t dimension_count; /* 1 to 4 of dimensions */
    uint32_t reserved;
    uint64_t dimensions[4]; /* fastest first, as in GGUF */
    uint64_t offset;        /* bytes from the start of the model */
    uint64_t bytes;         /* its length in the file */
    uint64_t xxh3;          /* XXH3-64 of its bytes; of its checksum tensor for a bundle tensor */
    const char *name;       /* owned by the model */
} flashinfer_tensor_info;

/**
 * flashinfer_model_tensor - describe tensor number @index of the file, in file order
 * @index: from 0, below info.tensor_count
 * @tensor: caller's struct with tensor->size set
 */
FLASHINFER_API int flashinfer_model_tensor(const flashinfer_model *model, uint32_t index,
                                           flashinfer_tensor_info *tensor);

/**
 * flashinfer_model_metadata - metadata entry number @index of the file as text
 * @index: from 0, below info.metadata_count
 * @key: receives the key, owned by the model
 * @value: buffer for the value as text; arrays are shortened to their first elements
 * @capacity: bytes of @value; the text is cut to fit and zero-terminated
 */
FLASHINFER_API int flashinfer_model_metadata(const flashinfer_model *model, uint32_t index,
                                             const char **key, char *value, size_t capacity);

/**
 * flashinfer_model_verify - read the whole file once and compare every checksum
 *
 * Works on any open model, also one opened with FLASHINFER_OPEN_METADATA; reports through the
 * model's progress callback. The first mismatch is FLASHINFER_ECORRUPT with tensor, neuron and
 * offset.
 */
FLASHINFER_API int flashinfer_model_verify(flashinfer_model *model, flashinfer_error *error);

/* Parts of a bundle. The deciding one is GATE with info.ffn_gated, else UP. */
enum {
    FLASHINFER_PART_UP = 0,   /* a row of the up projection */
    FLASHINFER_PART_DOWN = 1, /* a column of the down projection */
    FLASHINFER_PART_GATE = 2  /* a row of the gate projection */
};

/**
 * flashinfer_model_ffn_rows - FFN weights of some neurons as floats
 * @part: FLASHINFER_PART_...; GATE is FLASHINFER_EINVAL where info.ffn_gated is 0
 * @first, @count: neurons of the layer
 * @rows: receives (count, embedding_length) floats
 *
 * Reads them from the file, checked against their checksums, past the neuron cache. Not during a
 * step.
 */
FLASHINFER_API int flashinfer_model_ffn_rows(flashinfer_model *model, uint32_t layer, uint32_t part,
                                             uint32_t first, uint32_t count, float *rows,
                                             flashinfer_error *error);

/**
 * flashinfer_model_ffn_bias - biases of the deciding sums of a layer's neurons
 * @bias: receives (ffn_length) floats, zeros where the model has none
 *
 * A neuron's deciding sum for an FFN input x is row . x + bias, its row that of
 * FLASHINFER_PART_GATE with info.ffn_gated, else of FLASHINFER_PART_UP. It fires if that is above
 * info.ffn_threshold; under FLASHINFER_ACTIVATION_DRELU the up sum must be above 0 too. Without
 * info.ffn_sparse every neuron fires.
 */
FLASHINFER_API int flashinfer_model_ffn_bias(flashinfer_model *model, uint32_t layer, float *bias,
                                             flashinfer_error *error);

/* ----------------------------------------------------------------------------------------- plan */

/* How a budget is divided. planned_bytes is the sum of the parts and never above the budget. */
typedef struct flashinfer_plan {
    uint32_t size;
    uint32_t predictor;       /* FLASHINFER_PREDICTOR_...: the kind in force */
    uint64_t budget_bytes;    /* as asked for; maximum_bytes if 0 was asked for */
    uint64_t planned_bytes;   /* what is held under it at most */
    uint64_t minimum_bytes;   /* smallest budget that works with these options */
    uint64_t maximum_bytes;   /* budget above which more memory changes nothing */
    uint64_t metadata_bytes;  /* header, tensor table, tokenizer */
    uint64_t resident_bytes;  /* embeddings, attention, norms, biases, bundle checksums */
    uint64_t predictor_bytes; /* sketch, or the resident deciding rows of exact mode */
    uint64_t cache_bytes;     /* neuron cache: slots and their bookkeeping */
    uint64_t kv_bytes;        /* sessions */
    uint64_t scratch_bytes;   /* activations, logits */
    uint64_t io_bytes;        /* staging and stream buffers, request tables */
    uint64_t thread_bytes;    /* stacks of the compute threads in use but the caller's */
    uint64_t file_bytes;      /* length of the model file, for comparison: no part of the sum */
    uint32_t slots_per_layer; /* bundles cached, mean over layers */
    uint32_t slot_bytes;      /* memory of one cached bundle */
    uint32_t resident_rows;   /* exact mode: deciding rows of a layer kept in memory */
    uint32_t cache_policy;    /* FLASHINFER_CACHE_...: the one in force */
    uint32_t slots;           /* bundles cached, over all layers */
    uint32_t reserved;
    uint64_t page_table_bytes; /* the system's, of all that is mapped: 1/512 with pages of 4 KiB */
    uint64_t streamed_bytes;   /* plain files: read for every token, because memory lacks them */
} flashinfer_plan;

/**
 * flashinfer_plan_file - what a budget would give, without opening the model
 * @path: model file
 * @options: as for flashinfer_model_open(); a budget below the minimum is no error here: see
 *         minimum_bytes
 * @plan: caller's struct with plan->size set
 */
FLASHINFER_API int flashinfer_plan_file(const char *path, const flashinfer_options *options,
                                        flashinfer_plan *plan, flashinfer_error *error);

/**
 * flashinfer_model_plan - the plan an open model runs under
 * @plan: caller's struct with plan->size set
 */
FLASHINFER_API int flashinfer_model_plan(flashinfer_model *model, flashinfer_plan *plan);

/**
 * flashinfer_budget_parse - bytes of a budget as people write it
 * @text: a share of the model file such as "50%" or "12.5%", bytes such as "123456", or a number of
 *        K, M, G or T such as "1.5G" (1024 bytes and its powers)
 * @file_bytes: what a share is of: plan.file_bytes or info.file_bytes; 0 refuses shares
 * @budget_bytes: receives the bytes, for options.memory_budget
 *
 * Exact to the byte whatever the number of digits, rounded down once. Anything else is
 * FLASHINFER_EINVAL: spaces, signs, exponents, other units, parts of a byte, what comes to no byte,
 * and what a uint64_t cannot hold. Shares above 100% are as good as others.
 */
FLASHINFER_API int flashinfer_budget_parse(const char *text, uint64_t file_bytes,
                                           uint64_t *budget_bytes, flashinfer_error *error);

/**
 * flashinfer_model_set_budget - change the budget of a live model
 * @budget_bytes: new ceiling; 0: whatever makes everything resident
 *
 * Shrinks or grows the neuron cache between two steps; the output does not change. When this
 * returns, no more than the new budget is held. It waits for the call that runs on the model: so
 * that a long flashinfer_eval() does not keep it waiting, cancel that first and run the rest after.
 * Refused with FLASHINFER_EBUDGET, the old budget staying in force, below the minimum.
 */
FLASHINFER_API int flashinfer_model_set_budget(flashinfer_model *model, uint64_t budget_bytes,
                                               flashinfer_error *error);

/* ----------------------------------------------------------------------------------- statistics */

/* Sums since open or the last reset, over all sessions of the model. Neuron counts are per
   (token, layer). */
typedef struct flashinfer_stats {
    uint32_t size;
    uint32_t reserved;
    uint64_t tokens;    /* steps completed */
    uint64_t neurons;   /* FFN neurons of the dense model over those steps */
    uint64_t predicted; /* neurons the predictor named */
    uint64_t active;    /* predicted neurons whose activation was not zero */
    uint64_t resident;  /* predicted neurons found in the cache (hits) */
    uint64_t missing;   /* predicted neurons read from flash (misses) */
    uint64_t streamed;  /* neurons read in whole layers (all; exact beyond its resident rows) */
    uint64_t waves;     /* extra passes because a token needed more bundles than there are slots */
    uint64_t audited_active; /* truly active neurons seen by the audit */
    uint64_t audited_missed; /* of those, not predicted: false negatives */
    uint64_t flash_bytes;    /* bytes read for bundles */
    uint64_t flash_reads;    /* read requests for bundles */
    uint64_t audit_bytes;    /* bytes read by the audit, not part of flash_bytes */
    uint64_t read_retries;   /* reads done again after a failure or checksum mismatch */
    uint64_t predict_ns;     /* time in the predictor */
    uint64_t io_wait_ns;     /* time compute stood still for flash: handing over reads, waiting */
    uint64_t memory_ns;      /* time in cache bookkeeping */
    uint64_t compute_ns;     /* time in attention, FFN and logits kernels */
    uint64_t total_ns;       /* time in those steps */
    uint64_t io_submit_ns;   /* time in handing reads over, beside computing or not */
    /* Tokens that flashinfer_eval() runs many at once, counted here and nowhere above but in
       read_retries. */
    uint64_t prefill_tokens;
    uint64_t prefill_ns;      /* time they took */
    uint64_t prefill_wait_ns; /* of that, compute stood still for flash */
    uint64_t prefill_bytes;   /* bytes read for their bundles */
} flashinfer_stats;

/**
 * flashinfer_model_stats - read the counters
 * @stats: caller's struct with stats->size set
 */
FLASHINFER_API int flashinfer_model_stats(flashinfer_model *model, flashinfer_stats *stats);

/**
 * flashinfer_model_reset_stats - set the counters to zero
 */
FLASHINFER_API int flashinfer_model_reset_stats(flashinfer_model *model);

/* -------------------------------------------------------------------------------------- session */

/**
 * flashinfer_session_create - begin a sequence
 * @session: receives the handle, at position 0; NULL on failure
 *
 * Takes one of the options.session_count places planned at open; FLASHINFER_ESESSIONS when none is
 * free.
 */
FLASHINFER_API int flashinfer_session_create(flashinfer_model *model, flashinfer_session **session,
                                             flashinfer_error *error);

/**
 * flashinfer_session_destroy - give a session's place back
 * @session: may be NULL
 */
FLASHINFER_API void flashinfer_session_destroy(flashinfer_session *session);

/**
 * flashinfer_step - run one token through all layers
 * @token: id in [0, vocab_count)
 *
 * Afterwards flashinfer_logits() holds the prediction for the next token and the position has grown
 * by one. On failure position and logits are as before the call and the session stays usable.
 */
FLASHINFER_API int flashinfer_step(flashinfer_session *session, int32_t token,
                                   flashinfer_error *error);

/**
 * flashinfer_eval - run @count tokens in order, such as a prompt
 * @tokens: (count) ids; all are checked before the first is run
 * @count: how many
 *
 * Prompts are run in chunks: many tokens go through a layer together, all of its FFN neurons are
 * computed (no predictor is asked, so none is missed) and read once a chunk. A chunk's size depends
 * on the model file alone, so the result does not depend on budget or threads; it differs from
 * single steps by rounding, and by what a predictor would have missed. Fewer than 32 tokens (8 with
 * the predictors exact and all), and every call of a model with trace or ffn_input callbacks or an
 * audit, are run token by token.
 *
 * Logits are those after the last token. What is found before the first token runs (an id the
 * model has not, more tokens than there are positions left) changes nothing: position and logits
 * are as before the call. On any later failure or cancel the session stands after the last token or
 * chunk completed, without logits; flashinfer_session_position() tells where. The progress callback
 * is called before every token or chunk.
 */
FLASHINFER_API int flashinfer_eval(flashinfer_session *session, const int32_t *tokens, size_t count,
                                   flashinfer_error *error);

/**
 * flashinfer_logits - the logits of the last step
 * @count: receives the vocabulary size; may be NULL
 *
 * Returns (vocab_count) floats owned by the session, valid until its next call, or NULL before the
 * first step. Does not wait for a running call.
 */
FLASHINFER_API const float *flashinfer_logits(const flashinfer_session *session, size_t *count);

/**
 * flashinfer_session_position - tokens in the session's context
 *
 * Does not wait for a running call: during flashinfer_eval() it tells how far that is.
 */
FLASHINFER_API uint32_t flashinfer_session_position(const flashinfer_session *session);

/**
 * flashinfer_session_rewind - forget everything from @position on
 * @position: at most the current position; 0 begins anew
 *
 * The logits are gone until the next step.
 */
FLASHINFER_API int flashinfer_session_rewind(flashinfer_session *session, uint32_t position,
                                             flashinfer_error *error);

/**
 * flashinfer_session_cancel - stop the session's running call
 *
 * Counts for a flashinfer_step() or flashinfer_eval() that has begun and not returned, also one
 * that waits for another call on the model. It returns FLASHINFER_ECANCELED, or, where it was all
 * but done, as if nothing had come. A cancel that finds no call does nothing, and none stops a call
 * that is made after it. So one too many or too late is harmless.
 *
 * May be called from any thread, from a callback and from a signal handler; it waits for nothing.
 * A stop button for a loop of calls sets a flag of the host's, then cancels; the loop looks at the
 * flag before every call. A press between look and call is missed by that call: cancel again until
 * the loop has ended.
 */
FLASHINFER_API void flashinfer_session_cancel(flashinfer_session *session);

/**
 * flashinfer_state_bytes - bytes flashinfer_state_save() needs now
 */
FLASHINFER_API size_t flashinfer_state_bytes(flashinfer_session *session);

/**
 * flashinfer_state_save - copy position, logits and KV cache out
 * @buffer: receives the state; the caller may write it to a file. May be NULL if @capacity is 0
 * @capacity: bytes of @buffer
 * @written: receives how many bytes the state has; FLASHINFER_EBUFFER if more than @capacity
 */
FLASHINFER_API int flashinfer_state_save(flashinfer_session *session, void *buffer, size_t capacity,
                                         size_t *written, flashinfer_error *error);

/**
 * flashinfer_state_load - replace a session's position, logits and KV cache
 * @buffer: a state saved from the same model file and KV type; anything else is FLASHINFER_ESTATE
 * @bytes: as many as flashinfer_state_save() wrote
 */
FLASHINFER_API int flashinfer_state_load(flashinfer_session *session, const void *buffer,
                                         size_t bytes, flashinfer_error *error);

/* ----------------------------------------------------------------------------------------- text */

/* How text becomes tokens; several are joined with |. */
enum {
    FLASHINFER_TOKENIZE_BOS = 1u << 0,    /* begin with the model's bos token if it wants one */
    FLASHINFER_TOKENIZE_SPECIAL = 1u << 1 /* texts such as </s> become their control token */
};

/**
 * flashinfer_tokenize - text to token ids by the model's own tokenizer
 * @text: bytes, need not be valid UTF-8 or zero-terminated
 * @text_bytes: how many
 * @flags: FLASHINFER_TOKENIZE_...
 * @tokens: receives at most @capacity ids; may be NULL if @capacity is 0
 * @capacity: ids that @tokens has room for
 * @count: receives how many ids the text has; FLASHINFER_EBUFFER if more than @capacity
 *
 * A text may have more ids than bytes: some tokenizers put a space before it. May run beside any
 * other call on the model.
 */
FLASHINFER_API int flashinfer_tokenize(const flashinfer_model *model, const char *text,
                                       size_t text_bytes, uint32_t flags, int32_t *tokens,
                                       size_t capacity, size_t *count, flashinfer_error *error);

/**
 * flashinfer_detokenize - token ids to bytes
 * @tokens: (count) ids
 * @count: how many
 * @text: receives at most @capacity bytes, not zero-terminated; may be NULL if @capacity is 0
 * @capacity: bytes that @text has room for
 * @text_bytes: receives how many bytes the ids have; FLASHINFER_EBUFFER if more than @capacity
 *
 * Control tokens give no bytes. The result may begin or end inside a UTF-8 character: see
 * flashinfer_decoder_push(). The ids are taken as a whole text: a space that the tokenizer puts
 * before every text is left out again. For a part of a text, which keeps its first space, use a
 * decoder. May run beside any other call on the model.
 */
FLASHINFER_API int flashinfer_detokenize(const flashinfer_model *model, const int32_t *tokens,
                                         size_t count, char *text, size_t capacity,
                                         size_t *text_bytes, flashinfer_error *error);

/**
 * flashinfer_decoder_create - begin streaming text
 * @model: must outlive the decoder
 * @decoder: receives the handle
 */
FLASHINFER_API int flashinfer_decoder_create(const flashinfer_model *model,
                                             flashinfer_decoder **decoder, flashinfer_error *error);

/**
 * flashinfer_decoder_push - add a token, take the text that is complete
 * @token: next id; -1 ends the stream and gives what is left
 * @text: receives zero-terminated UTF-8 owned by the decoder until its next call; bytes that can
 *        never become a character are replaced by U+FFFD
 * @text_bytes: receives its length; may be NULL
 *
 * A stream may go on with a text, so that its first space is kept. Where the model's bos token
 * comes first, a text begins: a space that the tokenizer puts before every text is left out.
 *
 * Nothing is given that is, or may be, part of a stop string: flashinfer_decoder_set_stops().
 */
FLASHINFER_API int flashinfer_decoder_push(flashinfer_decoder *decoder, int32_t token,
                                           const char **text, size_t *text_bytes,
                                           flashinfer_error *error);

/**
 * flashinfer_decoder_set_stops - end the text where one of some texts comes
 * @texts: (count) UTF-8 texts, copied, in place of those set before; may be NULL if @count is 0
 * @text_bytes: (count) their lengths; NULL: each ends with a zero byte
 * @count: how many; 0: no text stops any more
 *
 * From now on flashinfer_decoder_push() shows no part of a stop string, wherever tokens begin and
 * end: what may be the beginning of one is held back until later tokens tell, or the stream ends.
 * Once one is complete, what stands before it is given, flashinfer_decoder_stopped() tells, and
 * further tokens give no text until the stream ends (token -1), after which another can begin. Of
 * several the first to be complete counts, of those that end together the longest.
 *
 * Strings are compared with the text that is given: after tokens whose text may hold one and should
 * not stop, such as a prompt's, is the time to set them. Text that is held back stays so, for the
 * new strings. A string that is NULL, empty or not UTF-8 is FLASHINFER_EINVAL; nothing is changed
 * then, nor by FLASHINFER_ENOMEM.
 */
FLASHINFER_API int flashinfer_decoder_set_stops(flashinfer_decoder *decoder,
                                                const char *const *texts, const size_t *text_bytes,
                                                size_t count, flashinfer_error *error);

/**
 * flashinfer_decoder_stopped - which stop string has ended the text
 *
 * Returns its index, from 0, or -1 if none has. Stands until a token follows the end of the stream,
 * or others are set.
 */
FLASHINFER_API int32_t flashinfer_decoder_stopped(const flashinfer_decoder *decoder);

/**
 * flashinfer_decoder_destroy - end a stream
 * @decoder: may be NULL
 */
FLASHINFER_API void flashinfer_decoder_destroy(flashinfer_decoder *decoder);

/* What is added to a token's logit, before anything else is done with it. */
typedef struct flashinfer_logit_bias {
    int32_t token;
    float bias; /* finite; or -INFINITY: the token is never chosen */
} flashinfer_logit_bias;

/* How a token is chosen from logits. Copied when the sampler is made. */
typedef struct flashinfer_sampler_options {
    uint32_t size;
    uint32_t top_k;    /* keep the k most likely; 0: all */
    uint64_t seed;     /* same seed, same logits: same tokens on every machine */
    float temperature; /* at least 0; 0: greedy, the lowest id among equals */
    /* keep the likeliest that together have this probability, 0 to 1; 0 or 1: all */
    float top_p;
    float min_p; /* drop what is less likely than min_p times the likeliest, 0 to 1; 0: nothing */
    /* divides positive and multiplies negative logits of recent tokens; at least 0; 0 or 1: off */
    float repetition_penalty;
    uint32_t repetition_tokens; /* how many recent tokens count, at most 2^24; 0: 64 */
    uint32_t logit_bias_count;  /* of the list below */
    /* (logit_bias_count) in any order, at most one a token; looked at by create only */
    const flashinfer_logit_bias *logit_biases;
} flashinfer_sampler_options;

/**
 * flashinfer_sampler_options_init - fill sampler options with defaults (greedy)
 */
FLASHINFER_API void flashinfer_sampler_options_init(flashinfer_sampler_options *options,
                                                    size_t size);

/**
 * flashinfer_sampler_create - make a sampler
 * @options: NULL for defaults
 * @vocab_count: longest logits it will be given
 * @sampler: receives the handle; NULL on failure
 *
 * Independent of any model; one sampler must not be used by two threads at once. Order of
 * operations: logit biases, repetition penalty, top-k, temperature, top-p, min-p. All memory is
 * taken here.
 */
FLASHINFER_API int flashinfer_sampler_create(const flashinfer_sampler_options *options,
                                             size_t vocab_count, flashinfer_sampler **sampler,
                                             flashinfer_error *error);

/**
 * flashinfer_sampler_sample - choose a token and remember it for the repetition penalty
 * @logits: (count) floats, not changed; NaN counts as never
 * @count: how many, at most the sampler's vocab_count
 * @token: receives the id
 */
FLASHINFER_API int flashinfer_sampler_sample(flashinfer_sampler *sampler, const float *logits,
                                             size_t count, int32_t *token, flashinfer_error *error);

/**
 * flashinfer_sampler_accept - let a token that was not sampled (a prompt's) count for the
 * repetition penalty
 * @token: its id
 */
FLASHINFER_API int flashinfer_sampler_accept(flashinfer_sampler *sampler, int32_t token,
                                             flashinfer_error *error);

/**
 * flashinfer_sampler_copy - a second sampler that goes on as this one would
 * @copy: receives the handle; NULL on failure
 *
 * The same options, the same next random numbers, the same recent tokens. From now on they are
 * independent.
 */
FLASHINFER_API int flashinfer_sampler_copy(const flashinfer_sampler *sampler,
                                           flashinfer_sampler **copy, flashinfer_error *error);

/**
 * flashinfer_sampler_state_save - copy out what the next tokens depend on beside logits and options
 * @buffer: receives the state; the caller may write it to a file, beside that of
 *          flashinfer_state_save(). May be NULL if @capacity is 0
 * @capacity: bytes of @buffer
 * @written: receives how many bytes the state has; FLASHINFER_EBUFFER if more than @capacity
 *
 * That is: random numbers and recent tokens, some tens of bytes and 4 for each token. Options are
 * not in it.
 */
FLASHINFER_API int flashinfer_sampler_state_save(const flashinfer_sampler *sampler, void *buffer,
                                                 size_t capacity, size_t *written,
                                                 flashinfer_error *error);

/**
 * flashinfer_sampler_state_load - go on as the sampler would that a state was saved from
 * @buffer: a state saved from a sampler made for the same vocab_count, which remembers as many
 *          recent tokens (without a penalty: none); anything else is FLASHINFER_ESTATE
 * @bytes: as many as flashinfer_sampler_state_save() wrote
 *
 * Make the sampler with the options of the other one first: then the same logits give the same
 * tokens. A failure changes nothing.
 */
FLASHINFER_API int flashinfer_sampler_state_load(flashinfer_sampler *sampler, const void *buffer,
                                                 size_t bytes, flashinfer_error *error);

/**
 * flashinfer_sampler_destroy - release a sampler
 * @sampler: may be NULL
 */
FLASHINFER_API void flashinfer_sampler_destroy(flashinfer_sampler *sampler);

/* A token and the natural logarithm of its probability; -INFINITY: it has none. */
typedef struct flashinfer_logprob {
    int32_t token;
    float logprob; /* natural logarithm; -INFINITY: it has no probability */
} flashinfer_logprob;

/**
 * flashinfer_logprobs - log probabilities of tokens, from raw logits
 * @logits: (count) floats, such as those of flashinfer_logits(); NaN counts as -infinity
 * @count: how many
 * @asked: (asked_count) with the tokens set, such as the one that was chosen; their logprobs are
 *         filled in. May be NULL if @asked_count is 0
 * @asked_count: how many
 * @top: receives (top_count): the likeliest tokens, the likeliest first, lower ids first among
 *       equals. May be NULL if @top_count is 0
 * @top_count: at most @count
 *
 * Of the model's own distribution: what a sampler does to logits (biases, penalty, temperature and
 * what it drops) does not count. Sums are made in double precision, in order of ids. Logits of
 * +infinity share all probability. A token that has no logit is FLASHINFER_ETOKEN, logits of which
 * no token can be chosen are FLASHINFER_EINVAL; nothing is written then. Takes no memory and may
 * run in any thread.
 */
FLASHINFER_API int flashinfer_logprobs(const float *logits, size_t count, flashinfer_logprob *asked,
                                       size_t asked_count, flashinfer_logprob *top,
                                       size_t top_count, flashinfer_error *error);

/* ---------------------------------------------------------------------------------------- probe */

#define FLASHINFER_PROBE_SIZES 6  /* reads of 4, 16, 32, 64, 256 and 1024 KiB */
#define FLASHINFER_PROBE_DEPTHS 4 /* with 1, 4, 16 and 64 in flight */
#define FLASHINFER_PROBE_KINDS 8  /* one for each FLASHINFER_STORAGE_..., and room for more */

/* What a device and a machine were measured to give. Rates are bytes per second, at random places
   past the page cache. 0: not measured, for lack of time, of a file long enough, or of the kind of
   storage. The recommendations are values for the options of their names. */
struct flashinfer_probe_result {
    uint32_t size;
    uint32_t storage;      /* FLASHINFER_STORAGE_... that read fastest: read_bytes_per_s is of it */
    uint32_t alignment;    /* bytes its reads must be multiples of */
    uint32_t threads;      /* of the memory and kernel rates */
    uint32_t kernels;      /* FLASHINFER_KERNELS_... of the kernel rate */
    uint32_t io_depth;     /* recommended */
    uint32_t io_lanes;     /* recommended */
    uint32_t io_gap_bytes; /* recommended */
    uint32_t read_bytes[FLASHINFER_PROBE_SIZES]; /* the sizes of the table below */
    uint32_t depths[FLASHINFER_PROBE_DEPTHS];    /* and its reads in flight */
    /* the table: [i][k] is read_bytes[i] with depths[k] in flight */
    uint64_t read_bytes_per_s[FLASHINFER_PROBE_SIZES][FLASHINFER_PROBE_DEPTHS];
    /* every kind of storage there is, reads of 32 KiB; for pread the depth is the number of
       lanes */
    uint64_t kind_bytes_per_s[FLASHINFER_PROBE_KINDS][FLASHINFER_PROBE_DEPTHS];
    uint64_t latency_ns;         /* of one read of 4 KiB alone: median */
    uint64_t latency_p99_ns;     /* and what one in a hundred takes longer than */
    uint64_t dram_bytes_per_s;   /* reading memory by all threads */
    uint64_t matvec_bytes_per_s; /* float16 matrix times vector by all threads, from memory */
    uint64_t file_bytes;         /* length of the file that was read */
    uint64_t elapsed_ns;         /* what it all took */
};

/* How long and with what is measured. Looked at during the call only. */
typedef struct flashinfer_probe_options {
    uint32_t size;
    uint32_t time_ms; /* for everything; 0: 5000 */
    uint32_t threads; /* of memory and kernel rates, at most 64; 0: one per CPU, at most 16 */
    uint32_t storage; /* FLASHINFER_STORAGE_...; 0: every kind there is, the table of the fastest */
    uint64_t file_bytes; /* of the file written into a directory, 1 MiB at least; 0: 256 MiB */
    flashinfer_progress_callback progress;
    void *progress_user;
} flashinfer_probe_options;

/**
 * flashinfer_probe_options_init - fill probe options with defaults
 */
FLASHINFER_API void flashinfer_probe_options_init(flashinfer_probe_options *options, size_t size);

/**
 * flashinfer_probe - measure the device a file or directory is on, memory and kernels
 * @path: a file to read (1 MiB at least, such as the model), or a directory: a file of random bytes
 *        is written there, synced, and gone whatever happens, since it has no name
 * @options: NULL for defaults
 * @result: caller's struct with result->size set
 *
 * Takes about options.time_ms, a third of it for writing (a slow device gets a shorter file), and
 * up to half a GiB of memory. A file that was just written may be in a cache of the drive's own:
 * read a larger one if in doubt.
 */
FLASHINFER_API int flashinfer_probe(const char *path, const flashinfer_probe_options *options,
                                    flashinfer_probe_result *result, flashinfer_error *error);

/**
 * flashinfer_probe_save - write a result as a small text file
 * @path: file to write; it appears under this name only when it is complete. What had this name, a
 *        symbolic link too, is replaced; a directory, a FIFO or a device is FLASHINFER_EINVAL
 */
FLASHINFER_API int flashinfer_probe_save(const flashinfer_probe_result *result, const char *path,
                                         flashinfer_error *error);

/**
 * flashinfer_probe_load - read a result back
 * @path: file written by flashinfer_probe_save()
 * @result: caller's struct with result->size set
 *
 * Anything but a whole file of flashinfer_probe_save() is FLASHINFER_EFORMAT, FLASHINFER_ECORRUPT
 * where a byte has changed, FLASHINFER_EUNSUPPORTED from a newer library.
 */
FLASHINFER_API int flashinfer_probe_load(const char *path, flashinfer_probe_result *result,
                                         flashinfer_error *error);

/* ----------------------------------------------------------------------------------------- pack */

/* Types of a model file's matrices. Q8_0 and Q4_0 are GGUF's blocks of 32 elements with a scale,
   as llama.cpp writes them; widths must be multiples of 32. */
enum {
    FLASHINFER_DTYPE_DEFAULT = 0, /* f16 */
    FLASHINFER_DTYPE_F32 = 1,     /* IEEE single, 32 bits */
    FLASHINFER_DTYPE_F16 = 2,     /* IEEE half, 16 bits */
    FLASHINFER_DTYPE_BF16 = 3,    /* the upper half of a single: its range, 8 bits of precision */
    FLASHINFER_DTYPE_Q8_0 = 4,    /* 8.5 bits an element */
    FLASHINFER_DTYPE_Q4_0 = 5     /* 4.5 */
};

/* Which bundles the same tokens want, for packing them side by side. */
typedef struct flashinfer_order flashinfer_order;

/* How a checkpoint is packed. Looked at during the call only. */
typedef struct flashinfer_pack_options {
    uint32_t size;
    uint32_t dtype; /* FLASHINFER_DTYPE_... of all matrices, unless the two below say otherwise */
    uint32_t sketch_bits; /* 1 to 4 bits of the deciding matrix, for the sketch predictor; 0: 3 */
    /* 1: write no predictor; the file runs in exact and all mode only. So does that of a model
       whose activation has no zeros, whatever is set here; the log says so */
    uint32_t no_sketch;
    flashinfer_log_callback log;
    void *log_user;
    flashinfer_progress_callback progress;
    void *progress_user;
    /* bundles wanted by the same tokens lie together; NULL: neuron by neuron. Looked at during
       the call only */
    const flashinfer_order *order;
    /* FLASHINFER_DTYPE_... of token embeddings, attention and head, which stay in memory; 0:
       dtype. Position embeddings are F16 beside a quantised one; norms and biases are F32 always */
    uint32_t dtype_resident;
    uint32_t dtype_ffn; /* of bundles, which are read from flash; 0: dtype */
    /* FLASHINFER_ACTIVATION_... that the FFN computes, where the checkpoint's config.json says
       another than its authors' code; 0: as there */
    uint32_t activation;
    float activation_threshold; /* with the activation above, if that is FATRELU */
} flashinfer_pack_options;

/**
 * flashinfer_pack_options_init - fill pack options with defaults
 */
FLASHINFER_API void flashinfer_pack_options_init(flashinfer_pack_options *options, size_t size);

/**
 * flashinfer_pack - write a checkpoint as a model file in flash layout
 * @checkpoint: Hugging Face directory: config.json, model.safetensors or its shards with
 *              model.safetensors.index.json, and tokenizer.model, tokenizer.json, or vocab.json and
 *              merges.txt
 * @path: file to write; it appears under this name only when it is complete. What had this name, a
 *        symbolic link too, is replaced, but never a file of the checkpoint; a directory, a FIFO or
 *        a device is FLASHINFER_EINVAL. Until then its bytes lie beside it in .flin-*.partial, and
 *        what a killed process left there is removed by the next that writes the same file
 * @options: NULL for defaults
 *
 * Streams: memory use is a few rows of a matrix and one layer's down projection in tiles, never the
 * model; with an order also lists of what it recorded of one layer, at most 1 byte for each of its
 * neurons and steps. NaN and infinite weights, and weights the dtype cannot hold, are refused with
 * tensor and element.
 */
FLASHINFER_API int flashinfer_pack(const char *checkpoint, const char *path,
                                   const flashinfer_pack_options *options, flashinfer_error *error);

/* A predictor being made or looked at: for every layer a sketch or two low-rank factors. */
typedef struct flashinfer_predictor flashinfer_predictor;

/**
 * flashinfer_predictor_create - begin to make a predictor for a model
 * @model: open with its weights (not FLASHINFER_OPEN_METADATA); it must outlive the predictor
 * @predictor: receives the handle, every layer still without a kind; NULL on failure
 *
 * Memory is the predictor's own, beside the model's budget. A handle belongs to one thread at a
 * time. A model whose neurons all fire (info.ffn_sparse is 0) is FLASHINFER_EUNSUPPORTED.
 */
FLASHINFER_API int flashinfer_predictor_create(flashinfer_model *model,
                                               flashinfer_predictor **predictor,
                                               flashinfer_error *error);

/**
 * flashinfer_predictor_copy - take a copy of the predictor that a model runs by
 * @model: as for flashinfer_predictor_create(), opened with a sketch, low-rank or mixed predictor
 *
 * Saved, it is the model file's own predictor as a file, or that of options.predictor_path changed.
 */
FLASHINFER_API int flashinfer_predictor_copy(flashinfer_model *model,
                                             flashinfer_predictor **predictor,
                                             flashinfer_error *error);

/**
 * flashinfer_predictor_set_sketch - a low-bit copy of a layer's deciding matrix
 * @bits: 1 to 4
 * @margin: standard deviations of the sketch's expected error that biases are raised by; negative:
 *          the default for these bits
 *
 * Made from the model's weights alone, of the gate matrix with info.ffn_gated, else of the up
 * matrix. Replaces what the layer had.
 */
FLASHINFER_API int flashinfer_predictor_set_sketch(flashinfer_predictor *predictor, uint32_t layer,
                                                   uint32_t bits, float margin,
                                                   flashinfer_error *error);

/**
 * flashinfer_predictor_set_lowrank - two factors for a layer: score = up . (down . x), named if
 * score > -bias
 * @rank: at most 16384
 * @relu: 1: only the positive part of down . x counts. The same for all layers of a file
 * @down: (rank, embedding_length)
 * @up: (ffn_length, rank)
 * @bias: (ffn_length)
 *
 * Factors are kept as float16; numbers it cannot hold are FLASHINFER_EINVAL naming the neuron.
 * Replaces what the layer had. Source: the paper, section 3.1.
 */
FLASHINFER_API int flashinfer_predictor_set_lowrank(flashinfer_predictor *predictor, uint32_t layer,
                                                    uint32_t rank, uint32_t relu, const float *down,
                                                    const float *up, const float *bias,
                                                    flashinfer_error *error);

/**
 * flashinfer_predictor_import - every layer's factors from a GGUF of PowerInfer's, in place of what
 * the layers had
 * @path: a GGUF v2 or v3 with tensors blk.N.fc1.weight [embedding_length, rank] and
 *        blk.N.fc2.weight [rank, ffn_length] in F16, BF16 or F32; others, such as those of the
 *        whole model, are not looked at
 *
 * As there, a neuron is named if fc2 . relu(fc1 . x) is at least the file's
 * powerinfer.sparse_threshold (0 without): biases are the opposite of the largest float below it. x
 * is the FFN's input, which is the output of a norm; PowerInfer runs some predictors on what goes
 * into that norm, and those name other neurons here (docs/predictors.md).
 *
 * A layer that is missing, one too many or of other sizes, and numbers that are none are
 * FLASHINFER_EFORMAT, quantised factors and numbers that float16 cannot hold
 * FLASHINFER_EUNSUPPORTED, naming the tensor. Nothing is changed then.
 */
FLASHINFER_API int flashinfer_predictor_import(flashinfer_predictor *predictor, const char *path,
                                               flashinfer_error *error);

/**
 * flashinfer_predictor_bias - read a layer's biases
 * @bias: receives (ffn_length) floats
 */
FLASHINFER_API int flashinfer_predictor_bias(const flashinfer_predictor *predictor, uint32_t layer,
                                             float *bias, flashinfer_error *error);

/**
 * flashinfer_predictor_set_bias - set a layer's thresholds: neuron i is named if its score is above
 * -bias[i]
 * @bias: (ffn_length) finite floats
 */
FLASHINFER_API int flashinfer_predictor_set_bias(flashinfer_predictor *predictor, uint32_t layer,
                                                 const float *bias, flashinfer_error *error);

/**
 * flashinfer_predictor_scores - what a layer's predictor thinks of an FFN input, biases left out
 * @x: (embedding_length)
 * @scores: receives (ffn_length) floats
 *
 * The numbers, and so the names, are those a model running on the same CPU gets.
 */
FLASHINFER_API int flashinfer_predictor_scores(const flashinfer_predictor *predictor,
                                               uint32_t layer, const float *x, float *scores,
                                               flashinfer_error *error);

/**
 * flashinfer_predictor_bytes - memory that a layer's predictor takes in an open model; 0 without
 * one
 */
FLASHINFER_API uint64_t flashinfer_predictor_bytes(const flashinfer_predictor *predictor,
                                                   uint32_t layer);

/**
 * flashinfer_predictor_save - write a predictor file
 * @path: a small GGUF file for options.predictor_path; it appears under this name only when it is
 *         complete
 *
 * The file says which model's neurons it names and is refused with any other. Every layer needs a
 * kind.
 */
FLASHINFER_API int flashinfer_predictor_save(const flashinfer_predictor *predictor,
                                             const char *path, flashinfer_error *error);

/**
 * flashinfer_predictor_destroy - forget a predictor; NULL is fine
 */
FLASHINFER_API void flashinfer_predictor_destroy(flashinfer_predictor *predictor);

/**
 * flashinfer_order_create - begin to learn in which order a model's bundles should lie
 * @layers, @neurons: of the model, as in flashinfer_info
 * @order: receives the handle; NULL on failure
 *
 * Bundles wanted by the same tokens are read together if they are neighbours in the file. Run the
 * model over typical text with a trace callback that hands every call to flashinfer_order_add(),
 * then pack the checkpoint again with the order. The order changes which bytes a read covers, never
 * a logit. A handle belongs to one thread at a time.
 */
FLASHINFER_API int flashinfer_order_create(uint32_t layers, uint32_t neurons,
                                           flashinfer_order **order, flashinfer_error *error);

/**
 * flashinfer_order_add - what one layer of one step asked for
 * @trace: as the trace callback got it
 *
 * The first 4096 steps of a layer count, later ones are accepted and change nothing. Keeps a bit
 * per neuron and step.
 */
FLASHINFER_API int flashinfer_order_add(flashinfer_order *order, const flashinfer_trace *trace,
                                        flashinfer_error *error);

/**
 * flashinfer_order_destroy - forget an order; NULL is fine
 */
FLASHINFER_API void flashinfer_order_destroy(flashinfer_order *order);

#ifdef __cplusplus
}
#endif
#endif
