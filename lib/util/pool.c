/*
 * pool.c - threads that wait briefly for the next task before they sleep: a step hands out a task
 * every few microseconds, and waking a sleeping thread costs more than most of them. Where there is
 * no CPU for each they sleep at once.
 */
#include "util/pool.h"

#include <string.h>

#include "util/clock.h"
#include "util/cpus.h"

#define SPIN_NS 100000u /* of checking before sleeping; being woken takes half as long */
#define SPIN_ROUNDS 64u /* between two looks at the clock */

/* A spin in vain is paid by that many tasks without one, of which so many are saved up. Who cannot
   pay spins no more for a number of tasks: doubled each time, the least again once the savings are
   full. Single vain spins, as a virtual machine's other guests cause them, change nothing. */
#define VAIN_TASKS 32u
#define SAVED_TASKS_MOST (8 * VAIN_TASKS)
#define QUIET_TASKS_LEAST 64u
#define QUIET_TASKS_MOST 16384u

#define COUNT_DEFAULT_MAX 16u

uint32_t flin_pool_default_count(void)
{
    uint32_t cpus = flin_cpus();

    return cpus < COUNT_DEFAULT_MAX ? cpus : COUNT_DEFAULT_MAX;
}

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

typedef struct spin {
    uint64_t until_ns; /* 0: the clock has not been looked at */
    uint32_t rounds;
} spin;

/* Wait a moment. 0: it has been long enough. */
static int spin_on(spin *at)
{
    uint64_t now_ns;

    relax();
    if (++at->rounds % SPIN_ROUNDS != 0) return 1;
    now_ns = flin_now_ns();
    if (at->until_ns == 0) at->until_ns = now_ns + SPIN_NS;
    return now_ns < at->until_ns;
}

static inline int may_spin(flin_pool *pool)
{
    return pool->spins && atomic_load_explicit(&pool->quiet, memory_order_relaxed) == 0;
}

/* Caller only: one more task begins. */
static void count_task(flin_pool *pool)
{
    uint32_t quiet = atomic_load_explicit(&pool->quiet, memory_order_relaxed);

    if (quiet != 0)
        atomic_store_explicit(&pool->quiet, quiet - 1, memory_order_relaxed);
    else if (pool->saved < SAVED_TASKS_MOST && ++pool->saved == SAVED_TASKS_MOST)
        pool->quiet_next = QUIET_TASKS_LEAST;
}

/* Of `total`, what flin_pool_split() deals out beforehand. */
static uint32_t shared_of(uint32_t total, uint32_t grain)
{
    return (uint32_t)((uint64_t)total * 3 / 4 / grain * grain);
}

/* Returns when generation differs from `seen` or the pool stops. */
static void wait_for_work(flin_pool *pool, uint32_t seen, flin_asking *asking)
{
    spin waiting = {0, 0};

    do {
        if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen) return;
    } while (may_spin(pool) && (flin_ask(asking) || spin_on(&waiting)));
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

/* What the thread may ask for when it is done with the present task. */
static void look_ahead(const flin_pool *pool, const flin_ahead *ahead, uint32_t index,
                       flin_asking *asking)
{
    uint32_t rows = flin_ahead_rows(ahead), begin = 0, end = 0;

    if (rows != 0)
        flin_pool_share(shared_of(rows, ahead->grain), ahead->grain, index, pool->count, &begin,
                        &end);
    flin_asking_begin(asking, ahead, begin, end);
}

static void *worker_main(void *argument)
{
    flin_pool *pool = ((worker_start *)argument)->pool;
    uint32_t index = ((worker_start *)argument)->index;
    uint32_t seen = 0;
    flin_asking asking = {0};
    flin_ahead ahead;

    /* the start record lives on the opener's stack until this thread has read it */
    pthread_mutex_lock(&pool->mutex);
    pool->started++;
    pthread_cond_signal(&pool->done);
    pthread_mutex_unlock(&pool->mutex);

    for (;;) {
        wait_for_work(pool, seen, &asking);
        seen = atomic_load_explicit(&pool->generation, memory_order_acquire);
        if (atomic_load_explicit(&pool->stopping, memory_order_acquire) != 0) return NULL;
        pool->task(pool->context, index, pool->count);
        ahead = pool->ahead; /* the caller changes it once this thread is done */
        if (atomic_fetch_sub_explicit(&pool->remaining, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->mutex);
        }
        look_ahead(pool, &ahead, index, &asking);
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
    pool->spins = count <= flin_cpus();
    pool->quiet_next = QUIET_TASKS_LEAST;
    pool->saved = SAVED_TASKS_MOST;
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

/* The caller has spun in vain. Where the others needed longer than itself for parts of the same
   size they had no CPU: spinning would only keep one from them. */
static void judge_spin(flin_pool *pool, uint64_t began_ns, uint64_t done_ns)
{
    if (flin_now_ns() - done_ns < done_ns - began_ns) return;
    if (pool->saved >= VAIN_TASKS) {
        pool->saved -= VAIN_TASKS;
        return;
    }
    atomic_store_explicit(&pool->quiet, pool->quiet_next, memory_order_relaxed);
    if (pool->quiet_next < QUIET_TASKS_MOST) pool->quiet_next *= 2;
    pool->saved = 0;
}

/* began_ns: when the caller's own part of the task began */
static void wait_for_rest(flin_pool *pool, uint64_t began_ns)
{
    spin waiting = {0, 0};

    do {
        if (atomic_load_explicit(&pool->remaining, memory_order_acquire) == 0) return;
    } while (may_spin(pool) && spin_on(&waiting));
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load_explicit(&pool->remaining, memory_order_acquire) != 0)
        pthread_cond_wait(&pool->done, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
    if (waiting.until_ns != 0) judge_spin(pool, began_ns, waiting.until_ns - SPIN_NS);
}

void flin_pool_run(flin_pool *pool, flin_pool_task task, void *context)
{
    uint64_t began_ns;

    if (pool->count <= 1) {
        task(context, 0, 1);
        flin_pool_expect(pool, NULL);
        return;
    }
    count_task(pool);
    pool->task = task;
    pool->context = context;
    atomic_store_explicit(&pool->remaining, pool->count - 1, memory_order_release);
    announce(pool);
    began_ns = flin_now_ns();
    task(context, 0, pool->count);
    wait_for_rest(pool, began_ns);
    flin_pool_expect(pool, NULL);
}

void flin_pool_expect(flin_pool *pool, const flin_ahead *ahead)
{
    static const flin_ahead nothing;

    pool->ahead = ahead != NULL ? *ahead : nothing;
}

typedef struct split {
    flin_pool_part task;
    void *context;
    uint32_t shared; /* [0, shared) is dealt out beforehand */
    uint32_t total, grain;
    _Atomic uint32_t next; /* what nobody has taken yet begins here */
} split;

/* The next part of the rest, smaller as it shrinks. 0: nothing is left. */
static int take(split *of, uint32_t threads, uint32_t *begin, uint32_t *end)
{
    uint32_t at = atomic_load_explicit(&of->next, memory_order_relaxed), size;

    do {
        if (at >= of->total) return 0;
        size = (of->total - at) / (2 * threads) / of->grain * of->grain;
        if (size < of->grain) size = of->grain;
        if (size > of->total - at) size = of->total - at;
    } while (!atomic_compare_exchange_weak_explicit(&of->next, &at, at + size, memory_order_relaxed,
                                                    memory_order_relaxed));
    *begin = at;
    *end = at + size;
    return 1;
}

static void run_split(void *context, uint32_t index, uint32_t count)
{
    split *of = context;
    uint32_t begin, end;

    flin_pool_share(of->shared, of->grain, index, count, &begin, &end);
    if (begin != end) of->task(of->context, begin, end);
    while (take(of, count, &begin, &end)) of->task(of->context, begin, end);
}

void flin_pool_split(flin_pool *pool, uint32_t total, uint32_t grain, flin_pool_part task,
                     void *context)
{
    split all = {.task = task, .context = context, .total = total, .grain = grain};

    if (total == 0) return;
    if (pool->count <= 1) {
        task(context, 0, total);
        flin_pool_expect(pool, NULL);
        return;
    }
    all.shared = shared_of(total, grain);
    atomic_init(&all.next, all.shared);
    flin_pool_run(pool, run_split, &all);
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

/* The locks are left as they are: someone who is not here may hold them. */
void flin_pool_forget(flin_pool *pool)
{
    memset(pool, 0, sizeof *pool);
}
