/*
 * backends.h - what the files of lib/storage tell each other; nobody else includes it.
 *
 * Each opener below fills ops, caps, name and forget of a storage begun by flin_storage_begin() and
 * adds what it holds to held_bytes. It takes the descriptor over only when it succeeds.
 */
#ifndef FLIN_STORAGE_BACKENDS_H
#define FLIN_STORAGE_BACKENDS_H

#include "storage/storage.h"
#include "storage/system.h"

#define FLIN_STORAGE_DEPTH_MAX 4096u
#define FLIN_STORAGE_LANES_MAX 256u

/* Bytes [base, base + length) of an open file are the model. */
typedef struct flin_file_part {
    int fd;
    uint32_t alignment;
    uint64_t base;
    uint64_t length;
} flin_file_part;

/* Zero the storage, check the config and write it with its defaults resolved, take the bounce
   buffer. */
int flin_storage_begin(flin_storage *storage, const flin_storage_config *config,
                       flin_storage_config *resolved, flashinfer_error *error);

int flin_lanes_open_file(flin_storage *storage, const flin_file_part *part, const char *name,
                         const flin_storage_config *config, flashinfer_error *error);

int flin_lanes_open_host(flin_storage *storage, const flashinfer_storage_ops *host,
                         const flashinfer_storage_caps *caps, const flin_storage_config *config,
                         flashinfer_error *error);

#ifdef FLIN_HAVE_LIBAIO
int flin_libaio_open(flin_storage *storage, const flin_file_part *part,
                     const flin_storage_config *config, flashinfer_error *error);
#else
static inline int flin_libaio_open(flin_storage *storage, const flin_file_part *part,
                                   const flin_storage_config *config, flashinfer_error *error)
{
    (void)storage, (void)part, (void)config;
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "storage libaio: this build has no libaio; use pread or buffered");
}
#endif

#ifdef FLIN_HAVE_URING
int flin_uring_open(flin_storage *storage, const flin_file_part *part,
                    const flin_storage_config *config, flashinfer_error *error);
#else
static inline int flin_uring_open(flin_storage *storage, const flin_file_part *part,
                                  const flin_storage_config *config, flashinfer_error *error)
{
    (void)storage, (void)part, (void)config;
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "storage io_uring: this build has no liburing; use libaio or pread");
}
#endif

#endif
