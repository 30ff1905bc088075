/*
 * api.h - what the public functions have in common: refusing NULL, the model's lock, size-first
 * structs.
 *
 *   api.c       models, sessions, tokens to text and back, probe
 *   api_text.c  what needs no model: samplers, stop strings, log probabilities, budgets as text
 *   api_make.c  what is made beside running: packed models, orders, predictors
 */
#ifndef FLIN_API_H
#define FLIN_API_H

#include <errno.h>
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

/* 0, or why not: EOWNERDEAD in a child forked since the model was opened, where the lock may stay
   held by a thread that is not there. The mutex checks for errors: EDEADLK in a callback of the
   call that this thread is making on this model. */
static inline int lock(flashinfer_model *model)
{
    return flin_home_left(&model->home) ? EOWNERDEAD : pthread_mutex_lock(&model->mutex);
}

static inline int unlock(flashinfer_model *model, int code)
{
    (void)pthread_mutex_unlock(&model->mutex);
    return code;
}

/* unlock() for what goes on without the lock: why_not is what lock() returned. */
static inline int leave(flashinfer_model *model, int why_not, int code)
{
    return why_not != 0 ? code : unlock(model, code);
}

/* Take the lock, or refuse the call: it came from a callback of the same model, or in a child. */
#define ENTER(model)                                                                               \
    do {                                                                                           \
        const int why_not_ = lock(model);                                                          \
        if (why_not_ != 0) return refuse_call(why_not_, __func__, error);                          \
    } while (0)

static inline int refuse_call(int why_not, const char *name, flashinfer_error *error)
{
    if (why_not == EOWNERDEAD)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "%s: this process was forked after the model was opened, and its threads "
                         "are the parent's: open the model again in the child",
                         name);
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
