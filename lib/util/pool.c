/*
 * pool.c - threads that wait briefly for the next task before they sleep: a step hands out a task every few
 * microseconds, and waking a sleeping thread costs more than most of them.
 */
#include "util/pool.h"

#include <string.h>
#include <unistd.h>

#define SPIN_ROUNDS 2000u /* about 10 to 40 microseconds of checking before sleeping */

#define COUNT_DEFAULT_MAX 16u

uint32_t flin_pool_default_count(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);

    if (online < 1) return 1;
    return online < (long)COUNT_DEFAULT_MAX ? (uint32_t)online : COUNT_DEFAULT_MAX;
}

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* Returns when generation differs from `seen` or the pool stops. */
static void wait_for_work(flin_pool *pool, uint32_t seen)
{
    for (uint32_t round = 0; round < SPIN_ROUNDS; round++) {
        if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen) return;
        relax();
    }
    pthread_mutex_lock(&pool->mutex);
    pool->sleeping++;
    while (atomic_load_explicit(&pool->generation, memory_order_acquire) == seen)
        pthread_cond_wait(&pool->work, &pool->mutex);
    pool->sleeping--;
    pthread_mutex_unlock(&pool->mutex);
}

typedef struct worker_start {
    flin_pool *pool;
    uint32_t index;
} worker_start;

static void *worker_main(void *argument)
{
    flin_pool *pool = ((worker_start *)argument)->pool;
    uint32_t index = ((worker_start *)argument)->index;
    uint32_t seen = 0;

    /* the start record lives on the opener's stack until this thread has read it */
    pthread_mutex_lock(&pool->mutex);
    pool->started++;
    pthread_cond_signal(&pool->done);
    pthread_mutex_unlock(&pool->mutex);

    for (;;) {
        wait_for_work(pool, seen);
        seen = atomic_load_explicit(&pool->generation, memory_order_acquire);
        if (atomic_load_explicit(&pool->stopping, memory_order_acquire) != 0) return NULL;
        pool->task(pool->context, index, pool->count);
        if (atomic_fetch_sub_explicit(&pool->remaining, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->mutex);
        }
    }
}

static int start_worker(flin_pool *pool, uint32_t index, const pthread_attr_t *attributes)
{
    worker_start start = {pool, index};
    uint32_t before = pool->started;
    int status = pthread_create(&pool->threads[index], attributes, worker_main, &start);

    if (status != 0) return status;
    pthread_mutex_lock(&pool->mutex);
    while (pool->started == before) pthread_cond_wait(&pool->done, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
    return 0;
}

int flin_pool_open(flin_pool *pool, uint32_t count, flashinfer_error *error)
{
    pthread_attr_t attributes;
    int status = 0;

    memset(pool, 0, sizeof *pool);
    pool->count = count;
    if (count <= 1) return 0;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, FLIN_POOL_STACK_BYTES);
    for (uint32_t index = 1; index < count && status == 0; index++)
        status = start_worker(pool, index, &attributes);
    pthread_attr_destroy(&attributes);
    if (status == 0) return 0;
    flin_pool_close(pool);
    return flin_fail_errno(error, FLASHINFER_ETHREAD, status,
                           "cannot start %u compute threads; ask for fewer in "
                           "options.threads",
                           count - 1);
}

/* Make one more generation visible and wake whoever sleeps. */
static void announce(flin_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add_explicit(&pool->generation, 1, memory_order_acq_rel);
    if (pool->sleeping != 0) pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
}

static void wait_for_rest(flin_pool *pool)
{
    for (uint32_t round = 0; round < SPIN_ROUNDS; round++) {
        if (atomic_load_explicit(&pool->remaining, memory_order_acquire) == 0) return;
        relax();
    }
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load_explicit(&pool->remaining, memory_order_acquire) != 0)
        pthread_cond_wait(&pool->done, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

void flin_pool_run(flin_pool *pool, flin_pool_task task, void *context)
{
    if (pool->count <= 1) {
        task(context, 0, 1);
        return;
    }
    pool->task = task;
    pool->context = context;
    atomic_store_explicit(&pool->remaining, pool->count - 1, memory_order_release);
    announce(pool);
    task(context, 0, pool->count);
    wait_for_rest(pool);
}

void flin_pool_close(flin_pool *pool)
{
    if (pool->count > 1) {
        atomic_store_explicit(&pool->stopping, 1, memory_order_release);
        announce(pool);
        for (uint32_t index = 1; index <= pool->started; index++)
            (void)pthread_join(pool->threads[index], NULL);
        pthread_mutex_destroy(&pool->mutex);
        pthread_cond_destroy(&pool->work);
        pthread_cond_destroy(&pool->done);
    }
    memset(pool, 0, sizeof *pool);
}
