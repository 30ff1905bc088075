/*
 * host_file.h - a model file in memory behind the host's storage callbacks, with bytes and reads that can be spoilt.
 */
#ifndef TESTS_FAULT_HOST_FILE_H
#define TESTS_FAULT_HOST_FILE_H

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>

#include "flashinfer_backend.h"
#include "support.h"
#include "util/error.h"

typedef struct host_file {
    unsigned char *data; /* (bytes) */
    uint64_t bytes;
    _Atomic uint64_t reads;      /* so far */
    uint64_t fail_from, fail_to; /* reads numbered in [from, to) fail with EIO; from 0: none */
    uint64_t
        spoil_from; /* reads numbered from here on come back with a flipped bit in each KiB; 0: none */
    uint64_t spoil_at;        /* read number that comes back with a flipped bit; 0: none */
    _Atomic uint64_t hang_at; /* read number that does not come back while hung is set; 0: none */
    _Atomic int hung;
    uint32_t alignment;          /* of every read, bytes; 0: any */
    _Atomic uint32_t violations; /* reads that were not aligned */
} host_file;

static inline int host_caps(void *user, flashinfer_storage_caps *caps)
{
    const host_file *file = user;

    caps->alignment = file->alignment != 0 ? file->alignment : 1;
    caps->depth = 8;
    caps->segments_max = 1;
    caps->length_bytes = file->bytes;
    return 0;
}

static inline int64_t host_read(void *user, uint64_t offset, void *data, size_t bytes)
{
    host_file *file = user;
    uint64_t number = atomic_fetch_add(&file->reads, 1) + 1;

    if (file->alignment != 0 && (offset | (uintptr_t)data) % file->alignment != 0)
        (void)atomic_fetch_add(&file->violations, 1);
    if (file->fail_from != 0 && number >= file->fail_from && number < file->fail_to) return -EIO;
    if (offset >= file->bytes) return 0;
    if (bytes > file->bytes - offset) bytes = (size_t)(file->bytes - offset);
    for (int ms = 0; number == file->hang_at && atomic_load(&file->hung) && ms < 20000; ms++)
        (void)poll(NULL, 0, 1);
    memcpy(data, file->data + offset, bytes);
    for (size_t at = 0; file->spoil_from != 0 && number >= file->spoil_from && at < bytes;
         at += 1024)
        ((unsigned char *)data)[at] ^= 1;
    if (number == file->spoil_at) ((unsigned char *)data)[bytes / 2] ^= 1;
    return (int64_t)bytes;
}

static inline int host_open(host_file *file, const flashinfer_options *options,
                            flashinfer_model **model, flashinfer_error *error)
{
    flashinfer_storage_ops ops;

    memset(&ops, 0, sizeof ops);
    ops.size = sizeof ops;
    ops.user = file;
    ops.caps = host_caps;
    ops.read = host_read;
    return flashinfer_model_open_storage(&ops, options, model, error);
}

static inline flashinfer_options host_options(uint32_t predictor)
{
    flashinfer_options options;

    flashinfer_options_init(&options, sizeof options);
    options.threads = 1;
    options.context_tokens = 8;
    options.io_lanes = 1; /* reads are numbered in one order */
    options.predictor = predictor;
    return options;
}

/* Copy of the logits after two tokens, or NULL with *code. */
static inline float *host_run(flashinfer_model *model, int *code, flashinfer_error *error)
{
    static const int32_t ids[] = {2, 300};
    flashinfer_session *session;
    float *copy = NULL;
    size_t vocab;

    *code = flashinfer_session_create(model, &session, error);
    if (*code != 0) return NULL;
    *code = flashinfer_eval(session, ids, 2, error);
    if (*code == 0) {
        const float *logits = flashinfer_logits(session, &vocab);
        copy = malloc(vocab * sizeof *copy);
        if (copy != NULL)
            memcpy(copy, logits, vocab * sizeof *copy);
        else
            *code = flin_fail(error, FLASHINFER_ENOMEM, "the test's own copy of the logits");
    }
    flashinfer_session_destroy(session);
    return copy;
}

#endif
