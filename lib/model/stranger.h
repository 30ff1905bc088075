/*
 * stranger.h - what a file is that was given as a model and is none of ours, and what to do with
 * it.
 *
 * Owns: the table of what people have: parts of checkpoints, downloads that went wrong, files of
 * other programs, GGUF files that are no models. Refuses: deciding whether a file opens. It is
 * asked when that has failed, and only puts better words into the error. A build without the
 * feature strangers leaves all words as they are (stranger_absent.c).
 */
#ifndef FLIN_MODEL_STRANGER_H
#define FLIN_MODEL_STRANGER_H

#include <stddef.h>

#include "storage/storage.h"

#define FLIN_STRANGER_HEAD_BYTES 4096u

typedef struct flin_stranger {
    const char *what;   /* "a safetensors file" */
    const char *advice; /* what to do, after a colon */
} flin_stranger;

/* From the first FLIN_STRANGER_HEAD_BYTES of a file, or all it has. NULL: not known here. */
const flin_stranger *flin_stranger_of(const uint8_t *head, size_t bytes);

enum flin_wanted { FLIN_WANTED_MODEL, FLIN_WANTED_PREDICTOR, FLIN_WANTED_POWERINFER };

/* code: what opening a file failed with, as error has it. Returns code; the text of a stranger says
   what it is and what to do. path: NULL if it has none. Texts of files that stand beside a model
   begin with their path. */
int flin_stranger_explain(flin_storage *storage, const char *path, enum flin_wanted wanted,
                          int code, flashinfer_error *error);

#endif
