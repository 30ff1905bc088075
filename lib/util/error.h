/*
 * error.h - how a failure becomes the caller's flashinfer_error record.
 *
 * Owns: filling the record. Refuses: printing, logging, remembering. Every function takes error ==
 * NULL and returns the code, so that `return flin_fail(...)` reads as one line.
 */
#ifndef FLIN_UTIL_ERROR_H
#define FLIN_UTIL_ERROR_H

#include "flashinfer.h"

#define FLIN_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))

/* code, text */
int flin_fail(flashinfer_error *error, int code, const char *format, ...) FLIN_PRINTF(3, 4);

/* also the errno of a failing system call; its description is appended to the text */
int flin_fail_errno(flashinfer_error *error, int code, int sys_errno, const char *format, ...)
    FLIN_PRINTF(4, 5);

/* also a place: layer, neuron and byte offset, each -1 if it does not apply */
int flin_fail_at(flashinfer_error *error, int code, int layer, int64_t neuron, int64_t offset,
                 const char *format, ...) FLIN_PRINTF(6, 7);

#endif
