/*
 * json.h - the small text files of a checkpoint: read whole, checked, parsed.
 *
 * Owns: limits on what is read, UTF-8 and NUL checks, typed access with one-line errors. Refuses:
 * knowing what the keys mean. Everything wrong in a file is FLASHINFER_ECHECKPOINT naming the file;
 * a failing read is FLASHINFER_EIO.
 */
#ifndef FLIN_PACK_JSON_H
#define FLIN_PACK_JSON_H

#include <cJSON.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

#define FLIN_JSON_BYTES_MAX                                                                        \
    (32u << 20) /* longest text file read; tokenizers of 256k tokens fit   \
                                         */

/* Open a regular file of the checkpoint directory for reading. A missing one is
   FLASHINFER_ECHECKPOINT, unless required is 0: then *fd becomes -1 and the call succeeds. */
int flin_checkpoint_open(int directory, const char *name, int required, int *fd,
                         flashinfer_error *error);

/* Read a file whole: *data gets `*bytes` bytes and a terminating zero; free() it. NULL when it is
   absent and not required. */
int flin_bytes_load(int directory, const char *name, int required, char **data, size_t *bytes,
                    flashinfer_error *error);

/* Valid UTF-8 without NUL; what names it in errors. */
int flin_text_check(const char *text, size_t bytes, const char *what, flashinfer_error *error);

/* Read a text file: *text gets `*bytes` bytes of valid UTF-8 without NUL and a terminating zero;
   free() it. NULL when it is absent and not required. */
int flin_text_load(int directory, const char *name, int required, char **text, size_t *bytes,
                   flashinfer_error *error);

/* The same, parsed; cJSON_Delete() it. */
int flin_json_load(int directory, const char *name, int required, cJSON **json,
                   flashinfer_error *error);

/* Parse text[0, bytes), text[bytes] being zero; what names it in errors. */
int flin_json_parse(const char *text, size_t bytes, const char *what, cJSON **json,
                    flashinfer_error *error);

/* A number as an integer in [0, maximum]: 1 and *value, or 0. */
int flin_json_integer(const cJSON *item, uint64_t maximum, uint64_t *value);

/* Members of an object. The value is required unless `absent` says what stands for a missing or
 * null one. */
int flin_json_u32(const cJSON *object, const char *file, const char *key, uint32_t minimum,
                  uint32_t maximum, const uint32_t *absent, uint32_t *value,
                  flashinfer_error *error);
int flin_json_flag(const cJSON *object, const char *file, const char *key, int absent, int *value,
                   flashinfer_error *error);

/* Text fit for a one-line error message: not empty, no control characters. */
int flin_json_is_plain(const char *text);

/* A string member, or NULL when it is missing or of another kind. */
const char *flin_json_text(const cJSON *object, const char *key);

#endif
