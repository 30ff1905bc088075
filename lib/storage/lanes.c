/*
 * lanes.c - an asynchronous queue made of threads that each do one synchronous read at a time.
 *
 * Owns: the threads, the ring of requests they take from and the ring of completions they fill.
 * Refuses: retrying, and choosing files (file.c). Nothing is allocated after open.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "storage/backends.h"
#include "util/arena.h"
#include "util/clock.h"
#include "util/wait.h"

#define FILE_STACK_BYTES (64u * 1024u)  /* our own reading needs a few hundred bytes */
#define HOST_STACK_BYTES (256u * 1024u) /* a host's callback may be an interpreter's */
#define INTERRUPTS_MAX 16u /* of one read by a host that answers EINTR; then the read has failed */

typedef struct lane_request {
    uint64_t offset;
    uint64_t tag;
    struct iovec *vectors; /* (vector_count) of (FLIN_STORAGE_SEGMENTS_MAX); used up by reading */
    uint32_t vector_count;
    uint32_t reserved;
} lane_request;

typedef struct lanes lanes;

struct lanes {
    /* the source: a file, or the host's callback where host_read is not NULL */
    int64_t (*host_read)(void *user, uint64_t offset, void *data, size_t bytes);
    void *host_user;
    uint64_t base;   /* the model's first byte in the file */
    uint64_t length; /* of the model */
    int fd;
    uint32_t alignment;

    pthread_mutex_t mutex; /* guards everything below */
    pthread_cond_t work;
    pthread_cond_t done;
    uint32_t depth;
    uint32_t in_flight;   /* submitted and not collected: queued, being read, or completed */
    uint32_t queue_first; /* ring (depth) of slots waiting for a lane */
    uint32_t queue_count;
    uint32_t done_first; /* ring (depth) of completions waiting to be collected */
    uint32_t done_count;
    uint32_t free_count;  /* stack of (depth) */
    uint32_t waiting_for; /* completions a waiting collector needs; 0: nobody waits */
    uint32_t stopping;
    uint32_t lane_count; /* threads running */
    lane_request *requests;
    uint32_t *queue;
    uint32_t *free_slots;
    flashinfer_storage_completion *completions;
    pthread_t *threads; /* (lane_count) */
};

/* ---------------------------------------------------------------------------- one read */

/* Take `bytes` off the front of the vectors. */
static void skip_bytes(lane_request *request, size_t bytes)
{
    while (request->vector_count != 0 && bytes >= request->vectors->iov_len) {
        bytes -= request->vectors->iov_len;
        request->vectors++;
        request->vector_count--;
    }
    if (request->vector_count == 0) return;
    request->vectors->iov_base = (uint8_t *)request->vectors->iov_base + bytes;
    request->vectors->iov_len -= bytes;
}

/* Until the vectors are full or the file ends. A direct read that comes back unaligned has met the
   end. Returns bytes or a negative errno value. */
static int64_t read_file(const lanes *pool, lane_request *request)
{
    uint64_t done = 0;

    while (request->vector_count != 0) {
        ssize_t got = preadv(pool->fd, request->vectors, (int)request->vector_count,
                             (off_t)(pool->base + request->offset + done));

        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -errno;
        done += (uint64_t)got;
        if (got == 0 || (uint64_t)got % pool->alignment != 0) break;
        skip_bytes(request, (size_t)got);
    }
    return (int64_t)done;
}

/* The same through the host, which is never asked for bytes past the end. */
static int64_t read_host(const lanes *pool, lane_request *request)
{
    uint64_t done = 0;
    uint32_t interrupted = 0;

    while (request->vector_count != 0) {
        uint64_t offset = request->offset + done;
        uint64_t bytes = request->vectors->iov_len;
        int64_t got;

        if (offset >= pool->length) break;
        if (bytes > pool->length - offset) bytes = pool->length - offset;
        got = pool->host_read(pool->host_user, offset, request->vectors->iov_base, (size_t)bytes);
        if (got == -EINTR && ++interrupted < INTERRUPTS_MAX) continue;
        if (got < 0) return got;
        if ((uint64_t)got > bytes) return -EPROTO;
        done += (uint64_t)got;
        if ((uint64_t)got != bytes) break;
        skip_bytes(request, (size_t)got);
    }
    return (int64_t)done;
}

static void *lane_main(void *argument)
{
    lanes *pool = argument;

    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        lane_request request;
        uint32_t slot;
        int64_t result;

        while (pool->queue_count == 0 && !pool->stopping)
            pthread_cond_wait(&pool->work, &pool->mutex);
        if (pool->stopping) break;
        slot = pool->queue[pool->queue_first];
        pool->queue_first = (pool->queue_first + 1) % pool->depth;
        pool->queue_count--;
        request = pool->requests[slot]; /* a copy to use up; the vectors stay this slot's */
        pthread_mutex_unlock(&pool->mutex);

        result = pool->host_read != NULL ? read_host(pool, &request) : read_file(pool, &request);

        pthread_mutex_lock(&pool->mutex);
        pool->completions[(pool->done_first + pool->done_count) % pool->depth] =
            (flashinfer_storage_completion){request.tag, result};
        pool->done_count++;
        pool->free_slots[pool->free_count++] = slot;
        if (pool->waiting_for != 0 && pool->done_count >= pool->waiting_for)
            pthread_cond_signal(&pool->done);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

/* ---------------------------------------------------------------------------- the queue */

static int lanes_submit(void *user, const flashinfer_storage_read *reads, uint32_t count)
{
    lanes *pool = user;
    uint32_t taken = 0;

    pthread_mutex_lock(&pool->mutex);
    /* in_flight bounds the completions too, which leave their slot before they are collected */
    for (; taken < count && pool->in_flight < pool->depth; taken++) {
        const flashinfer_storage_read *read = &reads[taken];
        uint32_t slot;
        lane_request *request;

        if (read->segment_count == 0 || read->segment_count > FLIN_STORAGE_SEGMENTS_MAX) break;
        slot = pool->free_slots[--pool->free_count];
        request = &pool->requests[slot];
        request->offset = read->offset;
        request->tag = read->tag;
        request->vector_count = read->segment_count;
        for (uint32_t index = 0; index < read->segment_count; index++) {
            request->vectors[index].iov_base = read->segments[index].data;
            request->vectors[index].iov_len = read->segments[index].bytes;
        }
        pool->queue[(pool->queue_first + pool->queue_count) % pool->depth] = slot;
        pool->queue_count++;
        pool->in_flight++;
        pthread_cond_signal(&pool->work);
    }
    pthread_mutex_unlock(&pool->mutex);
    return taken == 0 && count != 0 ? -EINVAL : (int)taken;
}

static int lanes_wait(void *user, uint32_t minimum, uint64_t timeout_ns,
                      flashinfer_storage_completion *completions, uint32_t capacity)
{
    lanes *pool = user;
    uint64_t deadline_ns = flin_now_ns() + timeout_ns;
    uint32_t count = 0;
    int status = 0;

    pthread_mutex_lock(&pool->mutex);
    if (minimum > pool->in_flight) minimum = pool->in_flight;
    if (minimum > capacity) minimum = capacity;
    pool->waiting_for = minimum;
    while (pool->done_count < minimum && status == 0)
        status = flin_wait_until(&pool->done, &pool->mutex, deadline_ns);
    pool->waiting_for = 0;
    while (count < capacity && pool->done_count != 0) {
        completions[count++] = pool->completions[pool->done_first];
        pool->done_first = (pool->done_first + 1) % pool->depth;
        pool->done_count--;
        pool->in_flight--;
    }
    pthread_mutex_unlock(&pool->mutex);
    return (int)count;
}

/* Reads being done are waited for; queued ones are dropped. */
static void lanes_close(void *user)
{
    lanes *pool = user;

    pthread_mutex_lock(&pool->mutex);
    pool->stopping = 1;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (uint32_t index = 0; index < pool->lane_count; index++)
        (void)pthread_join(pool->threads[index], NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->mutex);
    if (pool->fd >= 0) (void)close(pool->fd);
    free(pool);
}

/* In a forked child, which has no lanes: the locks are left as they are. */
static void lanes_forget(void *user)
{
    lanes *pool = user;

    if (pool->fd >= 0) (void)close(pool->fd);
    free(pool);
}

/* ---------------------------------------------------------------------------- opening */

/* One block: the pool, then its tables. */
static lanes *take_pool(uint32_t depth, uint32_t lane_count, uint64_t *bytes)
{
    uint64_t requests = flin_round_up(sizeof(lanes), 64);
    uint64_t vectors = requests + depth * sizeof(lane_request);
    uint64_t completions =
        vectors + (uint64_t)depth * FLIN_STORAGE_SEGMENTS_MAX * sizeof(struct iovec);
    uint64_t threads = completions + depth * sizeof(flashinfer_storage_completion);
    uint64_t queue = threads + lane_count * sizeof(pthread_t);
    uint64_t free_slots = queue + depth * sizeof(uint32_t);
    uint8_t *base;
    lanes *pool;

    *bytes = free_slots + depth * sizeof(uint32_t);
    base = calloc(1, (size_t)*bytes);
    if (base == NULL) return NULL;
    pool = (lanes *)(void *)base;
    pool->requests = (lane_request *)(void *)(base + requests);
    pool->completions = (flashinfer_storage_completion *)(void *)(base + completions);
    pool->threads = (pthread_t *)(void *)(base + threads);
    pool->queue = (uint32_t *)(void *)(base + queue);
    pool->free_slots = (uint32_t *)(void *)(base + free_slots);
    pool->depth = depth;
    pool->free_count = depth;
    pool->fd = -1;
    for (uint32_t slot = 0; slot < depth; slot++) {
        pool->requests[slot].vectors =
            (struct iovec *)(void *)(base + vectors) + (size_t)slot * FLIN_STORAGE_SEGMENTS_MAX;
        pool->free_slots[slot] = depth - 1 - slot;
    }
    return pool;
}

static void init_locks(lanes *pool)
{
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work, NULL);
    flin_wait_init(&pool->done);
}

/* The system's minimum grows with the host's thread-local storage and vector registers; ours comes
   on top of it. */
static uint64_t lane_stack_bytes(uint64_t own_bytes)
{
    long least = sysconf(_SC_THREAD_STACK_MIN);
    uint64_t least_bytes = least > 0 ? (uint64_t)least : (uint64_t)PTHREAD_STACK_MIN;

    return flin_round_up(least_bytes + own_bytes, flin_page_bytes());
}

/* The host's signal handlers do not run on lanes. */
static int start_lanes(lanes *pool, uint32_t count, uint64_t stack_bytes)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    int status;

    sigfillset(&all);
    pthread_attr_init(&attributes);
    status = pthread_attr_setstacksize(&attributes, (size_t)stack_bytes);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    while (status == 0 && pool->lane_count < count) {
        status = pthread_create(&pool->threads[pool->lane_count], &attributes, lane_main, pool);
        if (status == 0) pool->lane_count++;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return status;
}

static int open_lanes(flin_storage *storage, const lanes *source, const flin_storage_config *config,
                      const char *name, flashinfer_error *error)
{
    uint32_t depth = config->depth > config->lanes ? config->depth : config->lanes;
    uint64_t stack_bytes =
        lane_stack_bytes(source->host_read != NULL ? HOST_STACK_BYTES : FILE_STACK_BYTES);
    uint64_t bytes;
    lanes *pool = take_pool(depth, config->lanes, &bytes);
    int status;

    if (pool == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM,
                         "cannot allocate tables for %u reads; ask for a smaller io_depth", depth);
    pool->host_read = source->host_read;
    pool->host_user = source->host_user;
    pool->base = source->base;
    pool->length = source->length;
    pool->alignment = source->alignment;
    init_locks(pool);
    status = start_lanes(pool, config->lanes, stack_bytes);
    if (status != 0) {
        lanes_close(pool);
        return flin_fail_errno(error, FLASHINFER_ETHREAD, status,
                               "cannot start %u reading threads; ask for fewer io_lanes",
                               config->lanes);
    }
    pool->fd = source->fd; /* taken over now that nothing can fail */
    storage->ops = (flashinfer_storage_ops){
        .size = sizeof storage->ops,
        .user = pool,
        .submit = lanes_submit,
        .wait = lanes_wait,
        .close = lanes_close,
    };
    storage->caps = (flashinfer_storage_caps){
        .size = sizeof storage->caps,
        .alignment = source->alignment,
        .depth = depth,
        .segments_max = FLIN_STORAGE_SEGMENTS_MAX,
        .length_bytes = source->length,
    };
    storage->forget = lanes_forget;
    storage->forget_user = pool;
    storage->name = name;
    storage->held_bytes += bytes + config->lanes * stack_bytes;
    return 0;
}

int flin_lanes_open_file(flin_storage *storage, const flin_file_part *part, const char *name,
                         const flin_storage_config *config, flashinfer_error *error)
{
    lanes source = {
        .fd = part->fd,
        .alignment = part->alignment,
        .base = part->base,
        .length = part->length,
    };

    return open_lanes(storage, &source, config, name, error);
}

int flin_lanes_open_host(flin_storage *storage, const flashinfer_storage_ops *host,
                         const flashinfer_storage_caps *caps, const flin_storage_config *config,
                         flashinfer_error *error)
{
    lanes source = {
        .host_read = host->read,
        .host_user = host->user,
        .fd = -1,
        .alignment = caps->alignment,
        .length = caps->length_bytes,
    };

    return open_lanes(storage, &source, config, "host", error);
}
