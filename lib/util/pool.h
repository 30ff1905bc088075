/*
 * pool.h - the compute threads of one model.
 *
 * Owns: starting threads, handing all of them the same function, waiting for the last. Refuses:
 * deciding how work is split, which the caller does from (index, count) so that sums keep a fixed
 * order.
 */
#ifndef FLIN_UTIL_POOL_H
#define FLIN_UTIL_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "util/ahead.h"
#include "util/error.h"

#define FLIN_POOL_THREADS_MAX 64u
#define FLIN_POOL_STACK_BYTES (128u * 1024u) /* per extra thread; counted in the plan */

/* index in [0, count): the caller of flin_pool_run() is index 0 */
typedef void (*flin_pool_task)(void *context, uint32_t index, uint32_t count);

typedef struct flin_pool {
    uint32_t count;   /* threads including the caller */
    uint32_t started; /* extra threads running */
    uint32_t spins;   /* 1: there is a CPU for each, waiting threads may keep theirs a moment */
    pthread_t threads[FLIN_POOL_THREADS_MAX];
    pthread_mutex_t mutex;
    pthread_cond_t work;
    pthread_cond_t done;
    flin_pool_task task;
    void *context;
    flin_ahead ahead;            /* what a later task reads; zeroed: unknown */
    _Atomic uint32_t generation; /* grows with every task */
    _Atomic uint32_t remaining;  /* extra threads still in the task */
    _Atomic uint32_t stopping;
    uint32_t sleeping; /* under mutex */
    /* Other work may take the CPUs: after spins that were in vain nobody spins for a while. */
    _Atomic uint32_t quiet; /* tasks left of that */
    uint32_t quiet_next;    /* tasks of it the next time */
    uint32_t saved;         /* tasks without such a spin, which pay for the next ones */
} flin_pool;

/* What `threads` 0 means at most: one per CPU that this process may use, at most 16. */
uint32_t flin_pool_default_count(void);

/* count 1 starts no thread. With more threads than CPUs who waits sleeps at once: it would keep
   those from working that it waits for. */
int flin_pool_open(flin_pool *pool, uint32_t count, flashinfer_error *error);

void flin_pool_run(flin_pool *pool, flin_pool_task task, void *context);

/* Say what a later task will read, and that flin_pool_split() will share it out: threads that
   are done with the next task, and would only wait, ask memory for the beginning of their share.
   Forgotten with the next task. NULL: nothing is known. */
void flin_pool_expect(flin_pool *pool, const flin_ahead *ahead);

/* Part [begin, end) of a whole; a thread may have none or several. */
typedef void (*flin_pool_part)(void *context, uint32_t begin, uint32_t end);

/* [0, total) in parts cut at multiples of `grain`, for work whose parts do not depend on each
   other, bit for bit. Each thread first has its share of three quarters, then takes ever smaller
   parts of the rest as it comes to them: threads never get the same speed out of memory, and the
   last would be waited for. */
void flin_pool_split(flin_pool *pool, uint32_t total, uint32_t grain, flin_pool_part task,
                     void *context);

void flin_pool_close(flin_pool *pool); /* a zeroed pool is fine */

/* The same in a forked child, where the threads do not exist: nobody is waited for. */
void flin_pool_forget(flin_pool *pool);

/* Part of [0, total) that thread `index` of `count` does, cut at multiples of `grain`. */
static inline void flin_pool_share(uint32_t total, uint32_t grain, uint32_t index, uint32_t count,
                                   uint32_t *begin, uint32_t *end)
{
    uint64_t grains = ((uint64_t)total + grain - 1) / grain;
    uint64_t first = grains * index / count * grain;
    uint64_t last = grains * (index + 1) / count * grain;

    *begin = (uint32_t)(first < total ? first : total);
    *end = (uint32_t)(last < total ? last : total);
}

#endif
