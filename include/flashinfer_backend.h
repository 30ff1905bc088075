/*
 * flashinfer_backend.h - storage a host may implement itself and give to
 * flashinfer_model_open_storage().
 *
 * A model is read, never written. The library asks for reads in batches; the backend completes them
 * in any order. One thread at a time calls into a backend; which thread may change between calls.
 */
#ifndef FLASHINFER_BACKEND_H
#define FLASHINFER_BACKEND_H

#include "flashinfer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One piece of memory a read fills. */
typedef struct flashinfer_storage_segment {
    void *data;   /* the library's: valid until the read has completed */
    size_t bytes; /* of data */
} flashinfer_storage_segment;

/* One contiguous read of the model, scattered over its segments in order. offset, every
   segment's address and every segment's length are multiples of caps.alignment, except that the
   last read of a file may reach past its end by less than the alignment; bytes past the end need
   not be written. The segment array is only valid during submit. */
typedef struct flashinfer_storage_read {
    uint64_t offset;                            /* bytes from the start of the model */
    uint64_t tag;                               /* returned in the completion */
    const flashinfer_storage_segment *segments; /* (segment_count) */
    uint32_t segment_count;                     /* at most caps.segments_max */
    uint32_t reserved;
} flashinfer_storage_read;

/* How a read ended. */
typedef struct flashinfer_storage_completion {
    uint64_t tag;   /* as it was in the read */
    int64_t result; /* bytes read, or a negative errno value */
} flashinfer_storage_completion;

/* What a backend can do. */
typedef struct flashinfer_storage_caps {
    uint32_t size;         /* set by the library; leave it as it is */
    uint32_t alignment;    /* bytes, a power of two up to 4096; 1: any */
    uint32_t depth;        /* reads that may be in flight; at least 1, with submit */
    uint32_t segments_max; /* segments a read may have; at least 1, with submit */
    uint64_t length_bytes; /* of the model */
} flashinfer_storage_caps;

/*
 * A backend's functions and the host's pointer. Set size to sizeof(flashinfer_storage_ops) and what
 * is not there to NULL. Either submit and wait (asynchronous), or read alone (synchronous, any
 * offset and length; the library then calls it from options.io_lanes threads of its own, several at
 * once, with 256 KiB of stack and all signals blocked).
 */
typedef struct flashinfer_storage_ops {
    uint32_t size; /* sizeof(flashinfer_storage_ops) */
    uint32_t reserved;
    void *user; /* first argument of every call; never looked at */

    /* Fill *caps. Returns 0 or a negative errno value. */
    int (*caps)(void *user, flashinfer_storage_caps *caps);

    /* Begin up to count reads. Returns how many were taken (a prefix), or a negative errno value
       if none could be. Never more than caps.depth are in flight. */
    int (*submit)(void *user, const flashinfer_storage_read *reads, uint32_t count);

    /* Wait until at least minimum reads have completed or timeout_ns passed; write up to
       capacity completions. Returns how many were written (fewer than minimum: timed out), or a
       negative errno value. With minimum 0 it only collects what is there. */
    int (*wait)(void *user, uint32_t minimum, uint64_t timeout_ns,
                flashinfer_storage_completion *completions, uint32_t capacity);

    /* Synchronous alternative. Returns bytes read (fewer than asked for only at the end) or a
       negative errno value. It must ask the library for nothing about this model or its sessions,
       stats neither: it runs beside the call that waits for it, and would wait for that one until
       options.io_timeout_ms is over and the call has failed. */
    int64_t (*read)(void *user, uint64_t offset, void *data, size_t bytes);

    /* Called once when the model is closed. All reads have completed, unless one never came back
       within twice options.io_timeout_ms: when this returns it must never land any more, its
       memory is gone. Not called in a child of fork, which closes what its parent opened: what
       the host holds there is the host's to give back. May be NULL. */
    void (*close)(void *user);
} flashinfer_storage_ops;

#ifdef __cplusplus
}
#endif
#endif
