/*
 * fault.c - test shim: a storage whose chosen reads fail, come back short or corrupt, or never.
 *
 * Owns: counting reads and spoiling them by the caller's plan. Refuses: being part of a product;
 * it searches its table for every completion.
 */
#define _POSIX_C_SOURCE 200809L
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "storage/backends.h"

enum { FAULT_NONE, FAULT_FAIL, FAULT_CORRUPT, FAULT_SHORT, FAULT_HANG };

typedef struct fault_read {
    uint32_t used;
    uint32_t fault;
    uint64_t tag;
    uint8_t *data; /* first segment */
    size_t bytes;
} fault_read;

typedef struct fault_shim {
    flashinfer_storage_ops inner;
    flin_fault_plan *plan;
    uint32_t depth;
    uint32_t alignment;
    uint32_t inner_in_flight;
    uint32_t reserved;
    fault_read reads[]; /* (depth) */
} fault_shim;

static int is_hit(uint64_t number, uint64_t first, uint64_t count)
{
    return first != 0 && number >= first && number - first < (count != 0 ? count : 1);
}

static uint32_t fault_of(const flin_fault_plan *plan, uint64_t number)
{
    if (is_hit(number, plan->fail_read, plan->fail_count)) return FAULT_FAIL;
    if (is_hit(number, plan->hang_read, 1)) return FAULT_HANG;
    if (is_hit(number, plan->short_read, 1)) return FAULT_SHORT;
    if (is_hit(number, plan->corrupt_read, plan->corrupt_count)) return FAULT_CORRUPT;
    return FAULT_NONE;
}

static fault_read *find_read(fault_shim *shim, uint32_t used, uint64_t tag)
{
    for (uint32_t index = 0; index < shim->depth; index++)
        if (shim->reads[index].used == used && (!used || shim->reads[index].tag == tag))
            return &shim->reads[index];
    return NULL;
}

/* Reads that fail or hang do not reach the backend. */
static int fault_submit(void *user, const flashinfer_storage_read *reads, uint32_t count)
{
    fault_shim *shim = user;
    uint32_t taken = 0;

    for (; taken < count; taken++) {
        const flashinfer_storage_read *read = &reads[taken];
        fault_read *place = find_read(shim, 0, 0);
        uint32_t fault = fault_of(shim->plan, shim->plan->reads + 1);

        if (place == NULL) break;
        if (fault != FAULT_FAIL && fault != FAULT_HANG) {
            int status = shim->inner.submit(shim->inner.user, read, 1);

            if (status < 0 && taken == 0) return status;
            if (status != 1) break;
            shim->inner_in_flight++;
        }
        shim->plan->reads++;
        *place = (fault_read){1, fault, read->tag, read->segments->data, read->segments->bytes};
    }
    return (int)taken;
}

static int64_t spoil(const fault_shim *shim, const fault_read *read, int64_t result)
{
    if (read->fault == FAULT_CORRUPT && result > 0) read->data[read->bytes / 2] ^= 1;
    if (read->fault == FAULT_SHORT && result > 0)
        result = result / 2 & ~((int64_t)shim->alignment - 1);
    return result;
}

static uint32_t collect_failed(fault_shim *shim, flashinfer_storage_completion *completions,
                               uint32_t capacity)
{
    uint32_t count = 0;

    for (uint32_t index = 0; index < shim->depth && count < capacity; index++) {
        fault_read *read = &shim->reads[index];

        if (!read->used || read->fault != FAULT_FAIL) continue;
        completions[count].tag = read->tag;
        completions[count++].result = -(int64_t)shim->plan->fail_errno;
        read->used = 0;
    }
    return count;
}

static int fault_wait(void *user, uint32_t minimum, uint64_t timeout_ns,
                      flashinfer_storage_completion *completions, uint32_t capacity)
{
    fault_shim *shim = user;
    uint32_t count = collect_failed(shim, completions, capacity);
    uint32_t least = minimum > count ? minimum - count : 0;
    int came = 0;

    if (shim->inner_in_flight != 0 && count < capacity) {
        if (least > shim->inner_in_flight) least = shim->inner_in_flight;
        came = shim->inner.wait(shim->inner.user, least, timeout_ns, completions + count,
                                capacity - count);
        if (came < 0) return count != 0 ? (int)count : came;
    } else if (least != 0) {
        /* only reads that never come back are out */
        struct timespec limit = {(time_t)(timeout_ns / 1000000000u),
                                 (long)(timeout_ns % 1000000000u)};

        (void)nanosleep(&limit, NULL);
    }
    for (int index = 0; index < came; index++) {
        flashinfer_storage_completion *completion = &completions[count + (uint32_t)index];
        fault_read *read = find_read(shim, 1, completion->tag);

        assert(read != NULL);
        completion->result = spoil(shim, read, completion->result);
        read->used = 0;
        shim->inner_in_flight--;
    }
    return (int)count + came;
}

static void fault_close(void *user)
{
    fault_shim *shim = user;

    if (shim->inner.close != NULL) shim->inner.close(shim->inner.user);
    free(shim);
}

int flin_storage_add_fault(flin_storage *storage, flin_fault_plan *plan, flashinfer_error *error)
{
    uint32_t depth = storage->caps.depth;
    size_t bytes = sizeof(fault_shim) + depth * sizeof(fault_read);
    fault_shim *shim;

    if (storage->in_flight != 0)
        return flin_fail(error, FLASHINFER_EBUSY, "fault shim: reads are in flight");
    shim = calloc(1, bytes);
    if (shim == NULL) return flin_fail(error, FLASHINFER_ENOMEM, "cannot allocate the fault shim");
    shim->inner = storage->ops;
    shim->plan = plan;
    shim->depth = depth;
    shim->alignment = storage->caps.alignment;
    storage->ops.user = shim;
    storage->ops.submit = fault_submit;
    storage->ops.wait = fault_wait;
    storage->ops.close = fault_close;
    storage->held_bytes += bytes;
    return 0;
}
