/*
 * partial_file.h - a file that has its name only when it is complete.
 *
 * Owns: the unfinished file beside the final one, its name, its lock and its removal; the limit on
 * file sizes; the rename and what makes it last. Refuses: anything but regular files, and knowing
 * what is written.
 *
 *     flin_partial_open(&file, path, bytes, error);     the disk must have room for so many
 *     flin_partial_write(&file, data, bytes, offset, error); ...         any order; gaps are zeros
 *     flin_partial_finish(&file, error);                fsync, rename, fsync of the directory
 *     flin_partial_close(&file);                        always; removes what was not finished
 *
 * An unfinished file is called .flin-HASH-PID-NUMBER.partial, HASH of the final name, so that it is
 * short whatever the final one is. It is locked by its writer: one that can be locked has lost its
 * writer, and the next to write the same name removes it.
 */
#ifndef FLIN_UTIL_PARTIAL_FILE_H
#define FLIN_UTIL_PARTIAL_FILE_H

#include <stdint.h>

#include "util/error.h"

#define FLIN_PARTIAL_NAME_BYTES 72u

typedef struct flin_partial {
    const char *path;                   /* the caller's; outlives this */
    const char *base;                   /* of path: what follows its last slash */
    uint64_t bytes;                     /* planned length */
    int directory;                      /* -1: none */
    int fd;                             /* -1: none */
    char name[FLIN_PARTIAL_NAME_BYTES]; /* in the directory; empty once renamed */
} flin_partial;

/* Nothing is open: what flin_partial_close() may be given. */
void flin_partial_init(flin_partial *file);

int flin_partial_open(flin_partial *file, const char *path, uint64_t bytes,
                      flashinfer_error *error);
int flin_partial_write(flin_partial *file, const void *data, uint64_t bytes, uint64_t offset,
                       flashinfer_error *error);
int flin_partial_finish(flin_partial *file, flashinfer_error *error);
void flin_partial_close(flin_partial *file);

/* Write all of it to any file, at most up to the process's limit on file sizes: beyond it the
   answer is EFBIG and no SIGXFSZ. 0 or an errno value. */
int flin_write_all(int fd, const void *data, uint64_t bytes, uint64_t offset);

#endif
