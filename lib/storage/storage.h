/*
 * storage.h - a model's bytes, wherever they lie: one vtable (flashinfer_backend.h), several
 * backends.
 *
 * Owns: opening a backend, its limits (alignment, depth, length), synchronous reads of any
 * alignment, handing completions to whoever submitted the read. Refuses: knowing tensors, bundles
 * or slots.
 *
 *   storage.c     the queue, synchronous reads, closing, host callbacks
 *   file.c        opening files, choosing a backend, truth test
 *   file_linux.c  what only Linux has: O_DIRECT and its alignment (system.h; elsewhere
 *                 file_android.c, file_darwin.c, file_posix.c)
 *   libaio.c      Linux asynchronous I/O, O_DIRECT
 *   uring.c       io_uring, O_DIRECT
 *   lanes.c       pool of threads over a synchronous read: pread O_DIRECT, buffered, host callback
 *   memory.c      a buffer of the caller's
 *   fault.c       test shim around any other backend
 *   batch.c       many fetches: merging, depth, waiting, retry
 *
 * Lifetimes: a flin_storage does not move while open. Memory that a read lands in stays mapped and
 * unused until the read has completed. After a FLASHINFER_ETIMEDOUT that is when
 * flin_storage_reap() returns 0 or flin_storage_close() has returned; so close the storage before
 * unmapping what it reads into.
 */
#ifndef FLIN_STORAGE_STORAGE_H
#define FLIN_STORAGE_STORAGE_H

#include <errno.h>

#include "flashinfer_backend.h"
#include "util/error.h"

#define FLIN_STORAGE_ALIGNMENT_MAX 4096u
#define FLIN_STORAGE_BOUNCE_BYTES (64u * 1024u)
#define FLIN_STORAGE_PIECES 8u        /* reads a synchronous read keeps in flight */
#define FLIN_STORAGE_SEGMENTS_MAX 32u /* segments a read of our own backends may have */
#define FLIN_STORAGE_OWNERS_MAX 4u    /* the synchronous reader and three batches at a time */

typedef struct flin_storage_config {
    uint32_t kind;  /* FLASHINFER_STORAGE_... */
    uint32_t depth; /* reads in flight; 0: 64 */
    uint32_t lanes; /* threads of a synchronous backend; 0: 4 */
    uint32_t reserved;
    uint64_t timeout_ns; /* longest wait for one completion; 0: 30 s */
} flin_storage_config;

/* Who submitted a read: the synchronous reader or a batch. landed() receives what the owner put
   into the tag; it returns -1 when no read of that index is out. */
typedef struct flin_storage_owner {
    int (*landed)(void *context, uint32_t index, int64_t result);
    void *context; /* NULL: place is free */
} flin_storage_owner;

/* One read of flin_storage_read(): straight into the caller's memory, or into its slice of the
   bounce buffer. */
typedef struct flin_storage_piece {
    uint64_t offset; /* aligned */
    uint8_t *data;   /* aligned; where the read lands */
    uint8_t *copy;   /* NULL, or where bytes [skip, need) of data are wanted */
    uint32_t bytes;  /* aligned length of the read */
    uint32_t skip;
    uint32_t need; /* bytes that must arrive */
    uint32_t tries;
    uint32_t state; /* storage.c */
    uint32_t reserved;
    int64_t result; /* bytes, or a negative errno value */
} flin_storage_piece;

typedef struct flin_storage {
    flashinfer_storage_ops ops; /* asynchronous, whatever the backend is */
    flashinfer_storage_caps caps;
    const char *name;    /* "libaio", "io_uring", "pread", "buffered", "memory", "host": static */
    uint64_t timeout_ns; /* longest wait without any completion */
    uint64_t held_bytes; /* heap, thread stacks, bounce buffer: part of the plan's io_bytes */
    uint8_t *bounce;     /* (pieces, slice), page-aligned: unaligned ends of flin_storage_read() */
    uint32_t in_flight;  /* reads submitted and not completed, lost ones included */
    uint32_t lost;       /* of those, timed out: may still land, their memory is not to be reused */
    /* The host's close(), called last by flin_storage_close(); set to NULL if an open fails after
       this storage was opened: the host's callbacks then stay the host's. */
    void (*host_close)(void *user);
    void *host_user;
    /* What releases a backend of our own in a forked child; NULL: it has nothing there. */
    void (*forget)(void *user);
    void *forget_user;
    flin_storage_owner owners[FLIN_STORAGE_OWNERS_MAX]; /* [0] is the synchronous reader */
    flin_storage_piece pieces[FLIN_STORAGE_PIECES];
} flin_storage;

/* path: regular file or block device. kind DEFAULT tries libaio, io_uring, pread, then buffered;
   a kind asked for that does not work is an error that says why. Direct I/O is only kept if its
   first block equals a buffered read's. */
int flin_storage_open_path(flin_storage *storage, const char *path,
                           const flin_storage_config *config, flashinfer_error *error);

/* A part [offset, offset + length) of an open file; length 0: to its end. The fd stays the
   caller's. Direct I/O needs an offset that is a multiple of FLIN_STORAGE_ALIGNMENT_MAX and a
   system that lets the file be opened again. */
int flin_storage_open_fd(flin_storage *storage, int fd, uint64_t offset, uint64_t length,
                         const flin_storage_config *config, flashinfer_error *error);

/* The host's own; ops is checked and copied. On failure ops->close has not been called. */
int flin_storage_open_ops(flin_storage *storage, const flashinfer_storage_ops *ops,
                          const flin_storage_config *config, flashinfer_error *error);

/* bytes at data, the caller's until the storage is closed. No threads: a read is done when
   submitted. */
int flin_storage_open_memory(flin_storage *storage, const void *data, uint64_t bytes,
                             const flin_storage_config *config, flashinfer_error *error);

/* Bytes [offset, offset + bytes) to data, any alignment, waiting for them; each piece retried once
   on failure. what names the thing read in the error text. Past the end of the model is
   FLASHINFER_EFORMAT "truncated". Fastest when data and offset agree modulo caps.alignment;
   otherwise every byte goes through the bounce buffer. May run while batches are under way. */
int flin_storage_read(flin_storage *storage, uint64_t offset, void *data, uint64_t bytes,
                      const char *what, flashinfer_error *error);

/* Take in what has completed, without waiting. Returns how many timed-out reads are still out:
   while it is not 0, no memory that a failed read was to fill may be unmapped or used otherwise. */
uint32_t flin_storage_reap(flin_storage *storage);

/* While timed-out reads are out nothing new begins here: FLASHINFER_ETIMEDOUT, else 0. */
int flin_storage_check_lost(flin_storage *storage, flashinfer_error *error);

/* A zeroed storage is fine. Waits for reads in flight (once more timeout_ns for what a host never
   completes). */
void flin_storage_close(flin_storage *storage);

/* The same in a child forked since, where no lane runs and whose parent reads on: waits for
   nothing, takes no completion, does not call the host. */
void flin_storage_forget(flin_storage *storage);

/* --------------------------------------------------------------------- the queue, for batch.c */

/* A place among the owners, from 1; 0: all are taken. */
uint32_t flin_storage_add_owner(flin_storage *storage, const flin_storage_owner *owner);
void flin_storage_remove_owner(flin_storage *storage, uint32_t place);

static inline uint64_t flin_storage_tag(uint32_t place, uint32_t index)
{
    return (uint64_t)place << 32 | index;
}

/* Begin up to count reads, tags made by flin_storage_tag(). Returns how many were taken (a prefix;
   0: the queue is full), or a negative errno value: the first could not be begun. */
int flin_storage_submit(flin_storage *storage, const flashinfer_storage_read *reads,
                        uint32_t count);

/* Take in completions and hand them to their owners. minimum 0: what is there. minimum 1: wait for
   one, at most timeout_ns of the storage. Returns how many came (0: none, or timed out) or a
   negative errno value. */
int flin_storage_pump(flin_storage *storage, uint32_t minimum);

/* The errno in what a backend returned, for the error text; 0: it returned none. A host may
   return anything. */
static inline int flin_storage_errno(int64_t result)
{
    if (result >= 0) return 0;
    return result >= -4095 ? (int)-result : EPROTO;
}

/* Fill the error: reading what at offset failed with sys_errno (0: too few bytes came). Returns
   FLASHINFER_EIO. */
int flin_storage_fail(const flin_storage *storage, int sys_errno, uint64_t offset, const char *what,
                      flashinfer_error *error);

/* The same for a read that did not come back. Returns FLASHINFER_ETIMEDOUT. */
int flin_storage_fail_timeout(const flin_storage *storage, uint64_t offset, const char *what,
                              flashinfer_error *error);

/* ------------------------------------------------------------------------------- tests */

/* Test shim: wraps an open storage so that chosen reads fail, come back short or corrupt, or never
   come back. */
typedef struct flin_fault_plan {
    uint64_t fail_read;    /* nth read submitted (from 1) completes with fail_errno; 0: none */
    uint64_t fail_count;   /* how many reads from there on fail; 0 counts as 1 */
    uint64_t corrupt_read; /* nth read has one bit flipped, in the middle of its first segment */
    uint64_t corrupt_count;
    uint64_t short_read; /* nth read completes with half its bytes, rounded down; 0: none */
    uint64_t hang_read;  /* nth read never completes until the storage is closed; 0: none */
    int fail_errno;      /* positive errno value */
    uint32_t reserved;
    uint64_t reads; /* counted so far */
} flin_fault_plan;

/* storage must be idle. The plan stays the caller's and may be changed between calls; it must
   outlive the storage. */
int flin_storage_add_fault(flin_storage *storage, flin_fault_plan *plan, flashinfer_error *error);

#endif
