/*
 * uring.c - io_uring over a descriptor opened with O_DIRECT.
 *
 * Owns: the ring and one batch of vectors, taken at open; nothing is allocated afterwards. Refuses:
 * choosing files and checking them (file.c), a polling kernel thread (idle time is the host's),
 * binding the ring to one thread (the host may call from any, one at a time).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "storage/backends.h"
#include "util/arena.h"
#include "util/clock.h"

#define BATCH_MAX 32u /* reads begun by one system call */
#define EVENTS_MAX 64u
#define CLOSE_WAIT_NS 1000000000u /* then again */

typedef struct uring_queue {
    struct io_uring ring;
    int fd;
    uint32_t in_flight; /* taken by the kernel and not collected */
    uint64_t base;      /* the model's first byte in the file */
    /* The kernel has copied a read's vectors when it has taken the read. */
    struct iovec vectors[BATCH_MAX][FLIN_STORAGE_SEGMENTS_MAX];
} uring_queue;

static void prepare(uring_queue *queue, struct iovec *vectors, const flashinfer_storage_read *read)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&queue->ring);
    uint64_t offset = queue->base + read->offset;

    for (uint32_t index = 0; index < read->segment_count; index++) {
        vectors[index].iov_base = read->segments[index].data;
        vectors[index].iov_len = read->segments[index].bytes;
    }
    if (read->segment_count == 1)
        io_uring_prep_read(entry, queue->fd, vectors->iov_base, (unsigned)vectors->iov_len, offset);
    else
        io_uring_prep_readv(entry, queue->fd, vectors, read->segment_count, offset);
    entry->user_data = read->tag;
}

/* What the kernel did not take leaves the ring, so that a read reported as not taken never begins.
   Without a polling thread the kernel looks at the tail during system calls only. */
static void take_back(struct io_uring_sq *sq)
{
    unsigned head = *sq->khead;

    sq->sqe_head = sq->sqe_tail = head;
    *sq->ktail = head;
}

static int uring_submit(void *user, const flashinfer_storage_read *reads, uint32_t count)
{
    uring_queue *queue = user;
    uint32_t prepared = 0, left;
    int status;

    if (count > BATCH_MAX) count = BATCH_MAX;
    if (count > io_uring_sq_space_left(&queue->ring)) count = io_uring_sq_space_left(&queue->ring);
    for (; prepared < count; prepared++) {
        const flashinfer_storage_read *read = &reads[prepared];

        if (read->segment_count == 0 || read->segment_count > FLIN_STORAGE_SEGMENTS_MAX) break;
        prepare(queue, queue->vectors[prepared], read);
    }
    if (prepared == 0) return count != 0 ? -EINVAL : 0;
    do status = io_uring_submit(&queue->ring);
    while (status == -EINTR);
    left = io_uring_sq_ready(&queue->ring);
    if (left != 0) take_back(&queue->ring.sq);
    queue->in_flight += prepared - left;
    if (left == prepared && status < 0) return status == -EBUSY ? -EAGAIN : status;
    return (int)(prepared - left);
}

static uint32_t collect(uring_queue *queue, flashinfer_storage_completion *completions,
                        uint32_t capacity)
{
    struct io_uring_cqe *events[EVENTS_MAX];
    uint32_t count;

    if (capacity > EVENTS_MAX) capacity = EVENTS_MAX;
    count = io_uring_peek_batch_cqe(&queue->ring, events, capacity);
    for (uint32_t index = 0; index < count; index++) {
        completions[index].tag = events[index]->user_data;
        completions[index].result = events[index]->res;
    }
    io_uring_cq_advance(&queue->ring, count);
    queue->in_flight -= count;
    return count;
}

static int uring_wait(void *user, uint32_t minimum, uint64_t timeout_ns,
                      flashinfer_storage_completion *completions, uint32_t capacity)
{
    uring_queue *queue = user;
    uint64_t deadline_ns = flin_now_ns() + timeout_ns;
    struct io_uring_cqe *first;

    if (minimum > capacity) minimum = capacity;
    if (minimum > queue->in_flight) minimum = queue->in_flight;
    while (io_uring_cq_ready(&queue->ring) < minimum) {
        struct __kernel_timespec limit = {(long long)(timeout_ns / 1000000000u),
                                          (long long)(timeout_ns % 1000000000u)};
        int status = io_uring_wait_cqes(&queue->ring, &first, minimum, &limit, NULL);
        uint64_t now_ns;

        if (status == -ETIME) break;
        if (status < 0 && status != -EINTR && status != -EAGAIN) return status;
        now_ns = flin_now_ns();
        timeout_ns = now_ns < deadline_ns ? deadline_ns - now_ns : 0;
    }
    return (int)collect(queue, completions, capacity);
}

/* Closing a ring does not wait for its reads: they are waited for here, however long they take. */
static void uring_close(void *user)
{
    uring_queue *queue = user;
    flashinfer_storage_completion late[EVENTS_MAX];
    int status = 0;

    while (queue->in_flight != 0 && status >= 0)
        status = uring_wait(queue, 1, CLOSE_WAIT_NS, late, EVENTS_MAX);
    io_uring_queue_exit(&queue->ring);
    (void)close(queue->fd);
    free(queue);
}

/* In a forked child, which shares the ring with its parent: what completes there is the parent's.
   Mappings and descriptors are the child's own. */
static void uring_forget(void *user)
{
    uring_queue *queue = user;

    io_uring_queue_exit(&queue->ring);
    (void)close(queue->fd);
    free(queue);
}

/* A ring without interrupts of its own: completions are taken in at the next system call or when
   the program asks. Older kernels do not know these flags. */
static int make_ring(uring_queue *queue, uint32_t depth)
{
    struct io_uring_params params = {.flags =
                                         IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG};
    int status = io_uring_queue_init_params(depth, &queue->ring, &params);

    if (status == -EINVAL) {
        memset(&params, 0, sizeof params);
        status = io_uring_queue_init_params(depth, &queue->ring, &params);
    }
    if (status != 0) return status;
    /* waiting with a time limit, and with it all else that is needed here, came with Linux 5.11 */
    if ((params.features & IORING_FEAT_EXT_ARG) != 0) return 0;
    io_uring_queue_exit(&queue->ring);
    return -ENOSYS;
}

/* Both rings share one mapping; the entries have their own. */
static uint64_t ring_bytes(const struct io_uring *ring)
{
    return flin_round_up(ring->sq.ring_sz, flin_page_bytes()) +
           flin_round_up(*ring->sq.kring_entries * sizeof(struct io_uring_sqe), flin_page_bytes());
}

static int refuse(int sys_errno, uint32_t depth, flashinfer_error *error)
{
    if (sys_errno == ENOMEM)
        return flin_fail_errno(error, FLASHINFER_ENOMEM, sys_errno,
                               "storage io_uring: no memory for a queue of %u reads (locked memory "
                               "may be limited); ask for a smaller io_depth",
                               depth);
    if (sys_errno == EMFILE || sys_errno == ENFILE)
        return flin_fail_errno(error, FLASHINFER_EIO, sys_errno,
                               "storage io_uring: cannot open a queue");
    return flin_fail_errno(error, FLASHINFER_EUNSUPPORTED, sys_errno,
                           "storage io_uring: the system refuses it (a kernel before 5.11, "
                           "/proc/sys/kernel/io_uring_disabled, or a sandbox's filter); use libaio "
                           "or pread");
}

int flin_uring_open(flin_storage *storage, const flin_file_part *part,
                    const flin_storage_config *config, flashinfer_error *error)
{
    uring_queue *queue = calloc(1, sizeof *queue);
    int status;

    if (queue == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "cannot allocate a queue for reads");
    status = make_ring(queue, config->depth);
    if (status != 0) {
        free(queue);
        return refuse(-status, config->depth, error);
    }
    queue->fd = part->fd;
    queue->base = part->base;
    storage->ops = (flashinfer_storage_ops){
        .size = sizeof storage->ops,
        .user = queue,
        .submit = uring_submit,
        .wait = uring_wait,
        .close = uring_close,
    };
    storage->caps = (flashinfer_storage_caps){
        .size = sizeof storage->caps,
        .alignment = part->alignment,
        .depth = config->depth,
        .segments_max = FLIN_STORAGE_SEGMENTS_MAX,
        .length_bytes = part->length,
    };
    storage->forget = uring_forget;
    storage->forget_user = queue;
    storage->name = "io_uring";
    storage->held_bytes += sizeof *queue + ring_bytes(&queue->ring);
    return 0;
}
