/*
 * keep.c - see keep.h.
 */
#include "engine/keep.h"

#include <string.h>

#include "engine/neurons.h"

typedef struct keep_task {
    const flin_keeper *keeper;
    flin_kept *kept;
} keep_task;

static int take_chunk(const flin_chunk *chunk, void *context, flashinfer_error *error)
{
    const keep_task *task = context;
    const flin_keeper *keeper = task->keeper;
    int code = flin_neurons_check(keeper->compute, keeper->fetcher, keeper->stream, chunk, error);

    for (uint32_t i = 0; i < chunk->count && code == 0; i++)
        memcpy(task->kept->memory.base + (uint64_t)chunk->ids[i] * task->kept->row_bytes,
               chunk->payloads[i] + keeper->part->offset_bytes, task->kept->row_bytes);
    return code;
}

int flin_keep_resize(const flin_keeper *keeper, flin_kept *kept, const flin_extent *whole,
                     uint32_t count, flashinfer_error *error)
{
    keep_task task = {keeper, kept};
    uint32_t had = kept->count;
    uint64_t bytes;
    int code = 0;

    kept->row_bytes = keeper->part->bytes;
    kept->type = keeper->part->type;
    bytes = (uint64_t)count * kept->row_bytes;
    if (count < had) kept->count = count;
    if (count == 0)
        flin_arena_close(&kept->memory);
    else if (kept->memory.base == NULL)
        code = flin_arena_open(&kept->memory, bytes, "kept matrix rows", error);
    else
        code = flin_arena_resize(&kept->memory, bytes, "kept matrix rows", error);
    if (code == 0 && count > had)
        code = flin_stream_run(keeper->stream, keeper->fetcher, whole, had, count, take_chunk,
                               &task, error);
    if (code == 0) kept->count = count;
    return code;
}
