/*
 * api.h - what the public functions have in common: refusing NULL, the model's lock, size-first
 * structs.
 *
 *   api.c       models, sessions, text, probe
 *   api_make.c  what is made beside running: packed models, orders, predictors
 */
#ifndef FLIN_API_H
#define FLIN_API_H

#include <string.h>

#include "engine/run.h"
#include "engine/session.h"
#include "plan/describe.h"
#include "plan/open.h"

#define NEED(pointer)                                                                              \
    do {                                                                                           \
        if ((pointer) == NULL)                                                                     \
            return flin_fail(error, FLASHINFER_EINVAL, "%s: " #pointer " is NULL", __func__);      \
    } while (0)

/* Results without an error record. */
#define NEED_QUIET(pointer)                                                                        \
    do {                                                                                           \
        if ((pointer) == NULL) return FLASHINFER_EINVAL;                                           \
    } while (0)

/* The mutex checks for errors: 0, or EDEADLK in a callback of the call that this thread is
   making on this model. */
static inline int lock(flashinfer_model *model)
{
    return pthread_mutex_lock(&model->mutex);
}

static inline int unlock(flashinfer_model *model, int code)
{
    (void)pthread_mutex_unlock(&model->mutex);
    return code;
}

/* Take the lock, or refuse the call: it came from a callback of the same model. */
#define ENTER(model)                                                                               \
    do {                                                                                           \
        if (lock(model) != 0) return refuse_nested(__func__, error);                               \
    } while (0)

static inline int refuse_nested(const char *name, flashinfer_error *error)
{
    return flin_fail(
        error, FLASHINFER_EBUSY,
        "%s was called from a callback of the same model; return from the callback first", name);
}

static inline void init(void *record, size_t size)
{
    uint32_t stored = (uint32_t)size;

    if (record == NULL || size < sizeof stored) return;
    memset(record, 0, size);
    memcpy(record, &stored, sizeof stored);
}

/* Is this a layer of a model whose weights are at hand? Else FLASHINFER_EINVAL. */
int flin_api_check_layer(const flashinfer_model *model, uint32_t layer, flashinfer_error *error);

#endif
