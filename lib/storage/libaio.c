/*
 * libaio.c - Linux asynchronous I/O over a descriptor opened with O_DIRECT.
 *
 * Owns: the kernel's context and one control block with its vector table per read in flight, taken
 * at open; nothing is allocated afterwards. Refuses: choosing files and checking them (file.c).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <libaio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "storage/backends.h"
#include "util/arena.h"
#include "util/clock.h"

#define EVENTS_MAX 64

typedef struct aio_queue {
    io_context_t context;
    int fd;
    uint64_t base; /* the model's first byte in the file */
    uint32_t free_count;
    uint32_t reserved;
    struct iocb *blocks;   /* (depth) */
    struct iovec *vectors; /* (depth, FLIN_STORAGE_SEGMENTS_MAX): live until the read completes */
    uint64_t *tags;        /* (depth) */
    uint32_t *free_slots;  /* (free_count) of (depth): a stack */
    struct iocb **batch;   /* (depth): what one io_submit() begins */
} aio_queue;

static void prepare(aio_queue *queue, uint32_t slot, const flashinfer_storage_read *read)
{
    struct iovec *vector = queue->vectors + (size_t)slot * FLIN_STORAGE_SEGMENTS_MAX;
    struct iocb *block = &queue->blocks[slot];
    long long offset = (long long)(queue->base + read->offset);

    for (uint32_t index = 0; index < read->segment_count; index++) {
        vector[index].iov_base = read->segments[index].data;
        vector[index].iov_len = read->segments[index].bytes;
    }
    if (read->segment_count == 1)
        io_prep_pread(block, queue->fd, vector->iov_base, vector->iov_len, offset);
    else
        io_prep_preadv(block, queue->fd, vector, (int)read->segment_count, offset);
    queue->tags[slot] = read->tag;
}

static int aio_submit(void *user, const flashinfer_storage_read *reads, uint32_t count)
{
    aio_queue *queue = user;
    int taken;

    if (count > queue->free_count) count = queue->free_count;
    for (uint32_t index = 0; index < count; index++) {
        uint32_t slot = queue->free_slots[queue->free_count - 1 - index];

        if (reads[index].segment_count == 0 ||
            reads[index].segment_count > FLIN_STORAGE_SEGMENTS_MAX)
            return -EINVAL;
        prepare(queue, slot, &reads[index]);
        queue->batch[index] = &queue->blocks[slot];
    }
    if (count == 0) return 0;
    do taken = io_submit(queue->context, (long)count, queue->batch);
    while (taken == -EINTR);
    /* slots leave the stack from its top in the order they were prepared */
    if (taken > 0) queue->free_count -= (uint32_t)taken;
    return taken;
}

static int aio_wait(void *user, uint32_t minimum, uint64_t timeout_ns,
                    flashinfer_storage_completion *completions, uint32_t capacity)
{
    aio_queue *queue = user;
    struct io_event events[EVENTS_MAX];
    uint64_t deadline_ns = flin_now_ns() + timeout_ns;
    long wanted = capacity < EVENTS_MAX ? (long)capacity : EVENTS_MAX;
    long least = (long)minimum < wanted ? (long)minimum : wanted;
    int count;

    for (;;) {
        struct timespec limit = {(time_t)(timeout_ns / 1000000000u),
                                 (long)(timeout_ns % 1000000000u)};
        uint64_t now_ns;

        count = io_getevents(queue->context, least, wanted, events, &limit);
        if (count != -EINTR) break;
        now_ns = flin_now_ns();
        timeout_ns = now_ns < deadline_ns ? deadline_ns - now_ns : 0;
    }
    for (int index = 0; index < count; index++) {
        uint32_t slot = (uint32_t)(events[index].obj - queue->blocks);

        completions[index].tag = queue->tags[slot];
        completions[index].result = (int64_t)(long)events[index].res;
        queue->free_slots[queue->free_count++] = slot;
    }
    return count;
}

static void aio_close(void *user)
{
    aio_queue *queue = user;

    (void)io_destroy(queue->context); /* waits for reads in flight */
    (void)close(queue->fd);
    free(queue);
}

/* In a forked child: the context is the parent's. Its ring stays mapped, a few pages that both
   share. */
static void aio_forget(void *user)
{
    aio_queue *queue = user;

    (void)close(queue->fd);
    free(queue);
}

/* One block: the queue, then its tables. */
static aio_queue *take_queue(uint32_t depth, uint64_t *bytes)
{
    uint64_t blocks = flin_round_up(sizeof(aio_queue), 64);
    uint64_t vectors = blocks + flin_round_up(depth * sizeof(struct iocb), 64);
    uint64_t tags = vectors + (uint64_t)depth * FLIN_STORAGE_SEGMENTS_MAX * sizeof(struct iovec);
    uint64_t batch = tags + depth * sizeof(uint64_t);
    uint64_t free_slots = batch + depth * sizeof(struct iocb *);
    uint8_t *base;
    aio_queue *queue;

    *bytes = free_slots + depth * sizeof(uint32_t);
    base = calloc(1, (size_t)*bytes);
    if (base == NULL) return NULL;
    queue = (aio_queue *)(void *)base;
    queue->blocks = (struct iocb *)(void *)(base + blocks);
    queue->vectors = (struct iovec *)(void *)(base + vectors);
    queue->tags = (uint64_t *)(void *)(base + tags);
    queue->batch = (struct iocb **)(void *)(base + batch);
    queue->free_slots = (uint32_t *)(void *)(base + free_slots);
    queue->free_count = depth;
    for (uint32_t slot = 0; slot < depth; slot++) queue->free_slots[slot] = depth - 1 - slot;
    return queue;
}

/* The completion ring the kernel maps into the process: an event per read, doubled, at least four
   per CPU before doubling. */
static uint64_t ring_bytes(uint32_t depth)
{
    long cpus = sysconf(_SC_NPROCESSORS_CONF);
    uint64_t events = cpus > 0 && (uint64_t)cpus * 4 > depth ? (uint64_t)cpus * 4 : depth;

    return flin_round_up((2 * events + 3) * sizeof(struct io_event), flin_page_bytes());
}

int flin_libaio_open(flin_storage *storage, const flin_file_part *part,
                     const flin_storage_config *config, flashinfer_error *error)
{
    uint64_t bytes;
    aio_queue *queue = take_queue(config->depth, &bytes);
    int status;

    if (queue == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM,
                         "cannot allocate tables for %u reads; ask for a smaller io_depth",
                         config->depth);
    status = io_setup((int)config->depth, &queue->context);
    if (status < 0) {
        free(queue);
        return flin_fail_errno(error, FLASHINFER_EUNSUPPORTED, -status,
                               "storage libaio: the system gives no queue of %u reads (see "
                               "/proc/sys/fs/aio-max-nr); use pread",
                               config->depth);
    }
    queue->fd = part->fd;
    queue->base = part->base;
    storage->ops = (flashinfer_storage_ops){
        .size = sizeof storage->ops,
        .user = queue,
        .submit = aio_submit,
        .wait = aio_wait,
        .close = aio_close,
    };
    storage->caps = (flashinfer_storage_caps){
        .size = sizeof storage->caps,
        .alignment = part->alignment,
        .depth = config->depth,
        .segments_max = FLIN_STORAGE_SEGMENTS_MAX,
        .length_bytes = part->length,
    };
    storage->forget = aio_forget;
    storage->forget_user = queue;
    storage->name = "libaio";
    storage->held_bytes += bytes + ring_bytes(config->depth);
    return 0;
}
