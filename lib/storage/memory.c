/*
 * memory.c - a model that already lies in memory: reads are copies, done when they are submitted.
 *
 * Owns: the list of completions. Refuses: owning the memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/backends.h"

typedef struct memory_queue {
    const uint8_t *data; /* (length_bytes), the caller's */
    uint64_t length_bytes;
    uint32_t depth;
    uint32_t done_count;
    flashinfer_storage_completion done[]; /* (done_count) of (depth) */
} memory_queue;

static int64_t copy_segments(const memory_queue *queue, const flashinfer_storage_read *read)
{
    uint64_t offset = read->offset;
    uint64_t start = offset;

    if (offset > queue->length_bytes) return -EINVAL;
    for (uint32_t index = 0; index < read->segment_count; index++) {
        uint64_t bytes = read->segments[index].bytes;

        if (bytes > queue->length_bytes - offset) bytes = queue->length_bytes - offset;
        memcpy(read->segments[index].data, queue->data + offset, (size_t)bytes);
        offset += bytes;
    }
    return (int64_t)(offset - start);
}

static int memory_submit(void *user, const flashinfer_storage_read *reads, uint32_t count)
{
    memory_queue *queue = user;
    uint32_t taken = 0;

    for (; taken < count && queue->done_count < queue->depth; taken++) {
        flashinfer_storage_completion *done = &queue->done[queue->done_count++];

        done->tag = reads[taken].tag;
        done->result = copy_segments(queue, &reads[taken]);
    }
    return (int)taken;
}

static int memory_wait(void *user, uint32_t minimum, uint64_t timeout_ns,
                       flashinfer_storage_completion *completions, uint32_t capacity)
{
    memory_queue *queue = user;
    uint32_t count = capacity < queue->done_count ? capacity : queue->done_count;

    (void)minimum, (void)timeout_ns;
    queue->done_count -= count;
    memcpy(completions, queue->done, count * sizeof *completions);
    memmove(queue->done, queue->done + count, queue->done_count * sizeof *queue->done);
    return (int)count;
}

int flin_storage_open_memory(flin_storage *storage, const void *data, uint64_t bytes,
                             const flin_storage_config *config, flashinfer_error *error)
{
    flin_storage_config resolved;
    memory_queue *queue;
    size_t queue_bytes;
    int status;

    memset(storage, 0, sizeof *storage);
    if (data == NULL || bytes == 0)
        return flin_fail(error, FLASHINFER_EFORMAT, "truncated: the model in memory is empty");
    if (bytes > PTRDIFF_MAX)
        return flin_fail(error, FLASHINFER_EINVAL, "length of the model in memory is out of range");
    if ((status = flin_storage_begin(storage, config, &resolved, error)) != 0) return status;
    queue_bytes = sizeof *queue + resolved.depth * sizeof *queue->done;
    queue = calloc(1, queue_bytes);
    if (queue == NULL) {
        flin_storage_close(storage);
        return flin_fail(error, FLASHINFER_ENOMEM,
                         "cannot allocate tables for %u reads; ask for a smaller io_depth",
                         resolved.depth);
    }
    queue->data = data;
    queue->length_bytes = bytes;
    queue->depth = resolved.depth;
    storage->ops = (flashinfer_storage_ops){
        .size = sizeof storage->ops,
        .user = queue,
        .submit = memory_submit,
        .wait = memory_wait,
        .close = free,
    };
    storage->caps = (flashinfer_storage_caps){
        .size = sizeof storage->caps,
        .alignment = 1,
        .depth = resolved.depth,
        .segments_max = FLIN_STORAGE_SEGMENTS_MAX,
        .length_bytes = bytes,
    };
    storage->forget = free;
    storage->forget_user = queue;
    storage->name = "memory";
    storage->held_bytes += queue_bytes;
    return 0;
}
