/*
 * verify.h - every checksum of the file, in file order, in pieces of one buffer: a damaged copy is
 * found before it is relied on.
 *
 * Owns: which bytes which sum covers. Refuses: models; it takes a file and what its bundles are.
 */
#ifndef FLIN_MODEL_VERIFY_H
#define FLIN_MODEL_VERIFY_H

#include "model/shape.h"

typedef struct flin_verification {
    flin_storage *storage;
    const flin_gguf *gguf;
    const flin_shape *shape; /* its bundles and how many neurons a layer has */
    uint8_t *buffer;         /* (buffer_bytes), aligned to pages */
    uint32_t buffer_bytes;   /* flin_verify_bytes() or more */
    uint32_t reserved;
    /* Called after every piece with the file's bytes behind it; not 0 ends with this code. */
    int (*progress)(uint64_t done_bytes, uint64_t total_bytes, void *user, flashinfer_error *error);
    void *user;
} flin_verification;

/* Bytes the buffer needs: a run of bundles with their checksums. */
uint32_t flin_verify_bytes(const flin_shape *shape);

/* Read the whole file and compare every checksum; FLASHINFER_ECORRUPT names what is damaged. */
int flin_verify_file(const flin_verification *in, flashinfer_error *error);

#endif
