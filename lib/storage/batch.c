/*
 * batch.c - from a sorted list of fetches to few reads, all in flight together.
 *
 * Owns: which fetches share a read, what is in flight, what has landed, what failed.
 * Refuses: heap memory after layout; deciding what is worth fetching.
 *
 * A request covers fetches [first, first + count) and the gaps between them. It goes
 *     free -> pending -> out -> free             its fetches have landed
 *                ^         |
 *                +---------+                     once, after a failed or short read
 *     out -> lost -> free                        it timed out; it may land any time
 */
#include "storage/batch.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "util/clock.h"

#define DEPTH_MAX 256u
#define SEGMENTS_MAX 64u
#define GAPS_MAX 32u              /* of the longest kind, read at a time */
#define WASTE_PAGES_MAX 64u       /* bits of waste_free */
#define READ_BYTES_MAX (1u << 30) /* what one read of every backend can do */
#define SUBMIT_MAX 32u            /* reads handed to the backend in one call */

enum { REQUEST_FREE, REQUEST_PENDING, REQUEST_OUT, REQUEST_LOST };

typedef struct request {
    uint64_t offset;
    uint32_t bytes;
    uint32_t first; /* index into fetches */
    uint32_t count;
    uint32_t segment_count;
    uint32_t tries;
    uint32_t state;
} request;

typedef struct batch_failure {
    int code;      /* 0: none; FLASHINFER_E... */
    int sys_errno; /* 0: too few bytes came */
    uint32_t fetch;
    uint32_t reserved;
    uint64_t offset;
} batch_failure;

struct flin_batch {
    flin_storage *storage;
    flin_batch_limits limits;
    uint32_t depth;        /* requests */
    uint32_t segments_max; /* per request */
    uint32_t waste_pages;
    uint32_t owner; /* our place among the storage's owners; 0: none, nothing is out */

    const flin_fetch *fetches; /* (count), the caller's */
    uint32_t count;
    uint32_t next;        /* first fetch no request covers yet */
    uint32_t ready_first; /* ready [ready_first, ready_end) have landed and wait for the caller */
    uint32_t ready_end;
    uint32_t pending_first; /* ring (depth) of requests to submit */
    uint32_t pending_count;
    uint32_t free_count;
    uint32_t out;
    uint32_t lost;
    uint32_t reserved;
    batch_failure failure;
    flin_batch_counts counts;

    request *requests;                    /* (depth) */
    flashinfer_storage_segment *segments; /* (depth, segments_max) */
    uint32_t *free_requests;              /* (free_count) of (depth): a stack */
    uint32_t *pending;                    /* (depth) */
    uint32_t *ready;                      /* (fetches_max) */
    /* Gaps land here and are never looked at. Yet no two at a time in one page: file systems with
       checksums compare what has landed in our memory, and would find another read's bytes. */
    uint8_t *waste;      /* (waste_pages, FLIN_PAGE_BYTES) */
    uint64_t waste_free; /* a bit per page */
};

/* --------------------------------------------------------------------------------------- layout */

static uint32_t least(uint32_t left, uint32_t right)
{
    return left < right ? left : right;
}

static uint32_t pages_of(uint64_t bytes)
{
    return (uint32_t)((bytes + FLIN_PAGE_BYTES - 1) / FLIN_PAGE_BYTES);
}

flin_batch *flin_batch_layout(flin_arena *arena, flin_storage *storage,
                              const flin_batch_limits *limits)
{
    flin_batch *batch = FLIN_TAKE(arena, flin_batch, 1);
    uint32_t fetches_max = limits->fetches_max != 0 ? limits->fetches_max : 1;
    uint32_t depth = least(least(storage->caps.depth, DEPTH_MAX), fetches_max);
    uint32_t segments_max = least(storage->caps.segments_max, SEGMENTS_MAX);
    uint32_t gap_bytes =
        least(limits->gap_bytes_max, FLIN_BATCH_GAP_MAX) & ~(storage->caps.alignment - 1);
    uint32_t waste_pages = least(GAPS_MAX * pages_of(gap_bytes), WASTE_PAGES_MAX);
    request *requests = FLIN_TAKE(arena, request, depth);
    flashinfer_storage_segment *segments =
        FLIN_TAKE(arena, flashinfer_storage_segment, (uint64_t)depth * segments_max);
    uint32_t *free_requests = FLIN_TAKE(arena, uint32_t, depth);
    uint32_t *pending = FLIN_TAKE(arena, uint32_t, depth);
    uint32_t *ready = FLIN_TAKE(arena, uint32_t, fetches_max);
    uint8_t *waste =
        flin_arena_take(arena, (uint64_t)waste_pages * FLIN_PAGE_BYTES, FLIN_PAGE_BYTES);

    if (batch == NULL) return NULL;
    memset(batch, 0, sizeof *batch);
    batch->storage = storage;
    batch->limits = *limits;
    batch->limits.fetches_max = fetches_max;
    batch->limits.read_bytes_max = least(limits->read_bytes_max, READ_BYTES_MAX);
    batch->limits.gap_bytes_max = gap_bytes;
    batch->depth = depth;
    batch->segments_max = segments_max;
    batch->waste_pages = waste_pages;
    batch->requests = requests;
    batch->segments = segments;
    batch->free_requests = free_requests;
    batch->pending = pending;
    batch->ready = ready;
    batch->waste = waste;
    batch->waste_free = waste_pages != 0 ? UINT64_MAX >> (WASTE_PAGES_MAX - waste_pages) : 0;
    batch->free_count = depth;
    for (uint32_t index = 0; index < depth; index++) {
        requests[index].state = REQUEST_FREE;
        free_requests[index] = depth - 1 - index;
    }
    return batch;
}

/* -------------------------------------------------------------------------------------- merging */

/* Pages for a gap to land in; NULL: none are free just now. */
static uint8_t *take_waste(flin_batch *batch, uint64_t bytes)
{
    uint32_t pages = pages_of(bytes);
    uint64_t run = ((uint64_t)1 << pages) - 1;

    for (uint32_t first = 0; first + pages <= batch->waste_pages; first++) {
        if ((batch->waste_free >> first & run) != run) continue;
        batch->waste_free &= ~(run << first);
        return batch->waste + (size_t)first * FLIN_PAGE_BYTES;
    }
    return NULL;
}

static void return_waste(flin_batch *batch, uint32_t index)
{
    const flashinfer_storage_segment *segments =
        batch->segments + (size_t)index * batch->segments_max;

    for (uint32_t at = 0; at < batch->requests[index].segment_count; at++) {
        uintptr_t into = (uintptr_t)segments[at].data - (uintptr_t)batch->waste;

        if (into >= (uintptr_t)batch->waste_pages * FLIN_PAGE_BYTES) continue;
        batch->waste_free |= (((uint64_t)1 << pages_of(segments[at].bytes)) - 1)
                             << into / FLIN_PAGE_BYTES;
    }
}

/* The read a request grows into. */
typedef struct merge {
    flashinfer_storage_segment *segments; /* (segments_max) */
    uint32_t segment_count;
    uint32_t reserved;
    uint64_t bytes;
} merge;

/* How many segments appending a gap and a fetch would add. */
static uint32_t segments_added(const merge *merged, uint64_t gap_bytes, const uint8_t *data)
{
    const flashinfer_storage_segment *last = &merged->segments[merged->segment_count - 1];

    if (gap_bytes != 0) return 2;
    return (const uint8_t *)last->data + last->bytes == data ? 0 : 1;
}

static void add_segment(merge *merged, uint8_t *data, uint64_t bytes)
{
    flashinfer_storage_segment *last = merged->segments + merged->segment_count;

    last->data = data;
    last->bytes = (size_t)bytes;
    merged->segment_count++;
}

/* Cover fetches from batch->next on, as many as one read may have. */
static void build(flin_batch *batch, uint32_t index)
{
    request *built = &batch->requests[index];
    const flin_fetch *fetch = &batch->fetches[batch->next];
    merge merged = {.segments = batch->segments + (size_t)index * batch->segments_max};

    built->offset = fetch->offset;
    built->first = batch->next;
    built->tries = 0;
    add_segment(&merged, fetch->data, fetch->bytes);
    merged.bytes = fetch->bytes;
    while (++batch->next < batch->count) {
        uint64_t gap, added;
        uint8_t *waste = NULL;

        fetch = &batch->fetches[batch->next];
        /* small bundles may share a block: it lands in both slots, by two reads */
        if (fetch->offset < built->offset + merged.bytes) break;
        gap = fetch->offset - (built->offset + merged.bytes);
        added = segments_added(&merged, gap, fetch->data);
        if (gap > batch->limits.gap_bytes_max) break;
        if (merged.bytes + gap + fetch->bytes > batch->limits.read_bytes_max) break;
        if (merged.segment_count + added > batch->segments_max) break;
        if (gap != 0 && (waste = take_waste(batch, gap)) == NULL) break;
        if (gap != 0) add_segment(&merged, waste, gap);
        if (added != 0)
            add_segment(&merged, fetch->data, fetch->bytes);
        else
            merged.segments[merged.segment_count - 1].bytes += fetch->bytes;
        merged.bytes += gap + fetch->bytes;
    }
    built->count = batch->next - built->first;
    built->segment_count = merged.segment_count;
    built->bytes = (uint32_t)merged.bytes;
}

/* ------------------------------------------------------------------------ what becomes of reads */

static void release(flin_batch *batch, uint32_t index)
{
    return_waste(batch, index);
    batch->requests[index].state = REQUEST_FREE;
    batch->free_requests[batch->free_count++] = index;
}

static void push_pending(flin_batch *batch, uint32_t index)
{
    uint32_t place = (batch->pending_first + batch->pending_count) % batch->depth;

    batch->requests[index].state = REQUEST_PENDING;
    batch->pending[place] = index;
    batch->pending_count++;
}

/* The fetch that byte `done` of the request belongs to, or the one after the gap it lies in. */
static uint32_t fetch_at(const flin_batch *batch, const request *read, uint64_t done)
{
    uint32_t fetch = read->first;

    while (fetch + 1 < read->first + read->count &&
           batch->fetches[fetch].offset + batch->fetches[fetch].bytes <= read->offset + done)
        fetch++;
    return fetch;
}

/* A read that failed or came back short is tried once more, whole; the second time the batch has
   failed. After a failure nothing is tried again. */
static void retry(flin_batch *batch, uint32_t index, int64_t result)
{
    request *read = &batch->requests[index];
    uint64_t done = result > 0 ? (uint64_t)result : 0;

    if (batch->failure.code == 0 && read->tries == 0) {
        read->tries = 1;
        batch->counts.retries++;
        push_pending(batch, index);
        return;
    }
    if (batch->failure.code == 0) {
        batch->failure.code = FLASHINFER_EIO;
        batch->failure.sys_errno = flin_storage_errno(result);
        batch->failure.fetch = fetch_at(batch, read, done);
        batch->failure.offset = batch->fetches[batch->failure.fetch].offset;
    }
    release(batch, index);
}

static int request_landed(void *context, uint32_t index, int64_t result)
{
    flin_batch *batch = context;
    uint64_t length = batch->storage->caps.length_bytes;
    request *read;
    uint64_t need;

    if (index >= batch->depth) return -1;
    read = &batch->requests[index];
    if (read->state == REQUEST_LOST) {
        batch->lost--;
        batch->storage->lost--;
        release(batch, index);
        return 0;
    }
    if (read->state != REQUEST_OUT) return -1;
    batch->out--;
    batch->counts.reads++;
    if (result > (int64_t)read->bytes) result = -EPROTO;
    if (result > 0) batch->counts.bytes += (uint64_t)result;
    /* the last read may reach past the end of the model by less than the alignment */
    need = read->bytes < length - read->offset ? read->bytes : length - read->offset;
    if (result < (int64_t)need) {
        retry(batch, index, result);
        return 0;
    }
    for (uint32_t fetch = 0; fetch < read->count && batch->failure.code == 0; fetch++)
        batch->ready[batch->ready_end++] = read->first + fetch;
    release(batch, index);
    return 0;
}

/* ----------------------------------------------------------------------- keeping the queue full */

/* Submit up to SUBMIT_MAX pending requests. Returns 0 when the queue takes no more. */
static int submit_some(flin_batch *batch)
{
    flashinfer_storage_read reads[SUBMIT_MAX];
    uint32_t count = least(batch->pending_count, SUBMIT_MAX);
    int taken;

    for (uint32_t place = 0; place < count; place++) {
        uint32_t index = batch->pending[(batch->pending_first + place) % batch->depth];

        reads[place] = (flashinfer_storage_read){
            .offset = batch->requests[index].offset,
            .tag = flin_storage_tag(batch->owner, index),
            .segments = batch->segments + (size_t)index * batch->segments_max,
            .segment_count = batch->requests[index].segment_count,
        };
    }
    taken = count != 0 ? flin_storage_submit(batch->storage, reads, count) : 0;
    if (taken == 0) return 0;
    for (int place = 0; place < (taken > 0 ? taken : 1); place++) {
        uint32_t index = batch->pending[batch->pending_first];

        batch->pending_first = (batch->pending_first + 1) % batch->depth;
        batch->pending_count--;
        if (taken < 0) {
            retry(batch, index, taken);
            continue;
        }
        batch->requests[index].state = REQUEST_OUT;
        batch->out++;
    }
    return 1;
}

static void fill(flin_batch *batch)
{
    uint64_t started_ns;

    if (batch->next == batch->count && batch->pending_count == 0) return;
    started_ns = flin_now_ns();
    do {
        while (batch->failure.code == 0 && batch->next < batch->count && batch->free_count != 0) {
            uint32_t index = batch->free_requests[--batch->free_count];

            build(batch, index);
            push_pending(batch, index);
        }
    } while (batch->failure.code == 0 && submit_some(batch));
    batch->counts.submit_ns += flin_now_ns() - started_ns;
}

/* --------------------------------------------------------------------------------------- ending */

static int is_over(const flin_batch *batch)
{
    return batch->out == 0 && batch->pending_count == 0 && batch->next == batch->count &&
           batch->ready_first == batch->ready_end;
}

static void leave_queue(flin_batch *batch)
{
    if (batch->owner == 0 || batch->out != 0 || batch->lost != 0) return;
    flin_storage_remove_owner(batch->storage, batch->owner);
    batch->owner = 0;
}

/* Nothing more is submitted or handed on; what is out is waited for, or lost. */
static void end(flin_batch *batch)
{
    while (batch->pending_count != 0) {
        release(batch, batch->pending[batch->pending_first]);
        batch->pending_first = (batch->pending_first + 1) % batch->depth;
        batch->pending_count--;
    }
    if (batch->failure.code == 0) batch->failure.code = FLASHINFER_ECANCELED; /* no retries */
    while (batch->out != 0 && batch->failure.code != FLASHINFER_ETIMEDOUT)
        if (flin_storage_pump(batch->storage, 1) <= 0) batch->failure.code = FLASHINFER_ETIMEDOUT;
    for (uint32_t index = 0; index < batch->depth; index++) {
        if (batch->requests[index].state != REQUEST_OUT) continue;
        batch->requests[index].state = REQUEST_LOST;
        batch->out--;
        batch->lost++;
        batch->storage->lost++;
    }
    batch->count = batch->next = batch->ready_first = batch->ready_end = 0;
    batch->failure.code = 0;
    leave_queue(batch);
}

static int fail(flin_batch *batch, uint32_t *failed, flashinfer_error *error)
{
    batch_failure failure = batch->failure;

    end(batch);
    if (failed != NULL) *failed = failure.fetch;
    if (failure.code == FLASHINFER_ETIMEDOUT)
        return flin_storage_fail_timeout(batch->storage, failure.offset, "a bundle", error);
    return flin_storage_fail(batch->storage, failure.sys_errno, failure.offset, "a bundle", error);
}

/* Nothing completed in time, or the backend cannot wait any more. */
static void give_up(flin_batch *batch, int came)
{
    uint32_t index = 0;

    while (index + 1 < batch->depth && batch->requests[index].state != REQUEST_OUT) index++;
    if (batch->requests[index].state == REQUEST_FREE && batch->pending_count != 0)
        index = batch->pending[batch->pending_first];
    batch->failure.code = came < 0 ? FLASHINFER_EIO : FLASHINFER_ETIMEDOUT;
    batch->failure.sys_errno = flin_storage_errno(came);
    batch->failure.fetch = batch->requests[index].first;
    batch->failure.offset = batch->requests[index].offset;
}

/* -------------------------------------------------------------------------------- the interface */

/* Sorted, aligned and inside the model: offsets come from a file nobody vouches for. */
static int check_fetches(const flin_batch *batch, const flin_fetch *fetches, uint32_t count,
                         flashinfer_error *error)
{
    uint64_t length = batch->storage->caps.length_bytes;
    uint32_t mask = batch->storage->caps.alignment - 1;
    uint64_t end = flin_round_up(length, mask + 1);
    uint64_t after = 0; /* where the fetch before begins */

    if (count > batch->limits.fetches_max)
        return flin_fail(error, FLASHINFER_EINVAL, "a batch of %u fetches is more than its %u",
                         count, batch->limits.fetches_max);
    for (uint32_t index = 0; index < count; index++) {
        const flin_fetch *fetch = &fetches[index];

        if (fetch->offset >= length || fetch->bytes > end - fetch->offset)
            return flin_fail_at(error, FLASHINFER_EFORMAT, -1, -1, (int64_t)fetch->offset,
                                "truncated: %u bytes at offset %" PRIu64
                                " are past the end of the model (%" PRIu64 " bytes)",
                                fetch->bytes, fetch->offset, length);
        if (fetch->data == NULL || fetch->bytes == 0 || fetch->bytes > READ_BYTES_MAX ||
            ((fetch->offset | fetch->bytes | (uintptr_t)fetch->data) & mask) != 0 ||
            fetch->offset < after)
            return flin_fail_at(error, FLASHINFER_EINVAL, -1, -1, (int64_t)fetch->offset,
                                "fetch %u (%u bytes at offset %" PRIu64
                                ") is empty, unsorted or not aligned to %u",
                                index, fetch->bytes, fetch->offset, mask + 1);
        after = fetch->offset;
    }
    return 0;
}

int flin_batch_prepare(flin_batch *batch, const flin_fetch *fetches, uint32_t count,
                       flashinfer_error *error)
{
    const flin_storage_owner owner = {request_landed, batch};
    int status;

    if (flin_batch_outstanding(batch) != 0 || batch->out != 0)
        return flin_fail(error, FLASHINFER_EBUSY, "the batch before has not ended");
    (void)flin_batch_lost(batch);
    if ((status = flin_storage_check_lost(batch->storage, error)) != 0) return status;
    if ((status = check_fetches(batch, fetches, count, error)) != 0) return status;
    if (count != 0 && (batch->owner = flin_storage_add_owner(batch->storage, &owner)) == 0)
        return flin_fail(error, FLASHINFER_EBUSY, "%u batches are already under way",
                         FLIN_STORAGE_OWNERS_MAX - 1);
    batch->fetches = fetches;
    batch->count = count;
    batch->next = batch->ready_first = batch->ready_end = 0;
    return 0;
}

void flin_batch_push(flin_batch *batch)
{
    int came = batch->out != 0 ? flin_storage_pump(batch->storage, 0) : 0;

    if (came < 0) give_up(batch, came);
    fill(batch);
}

int flin_batch_begin(flin_batch *batch, const flin_fetch *fetches, uint32_t count,
                     flashinfer_error *error)
{
    int status = flin_batch_prepare(batch, fetches, count, error);

    if (status == 0) fill(batch);
    return status;
}

static uint32_t hand_on(flin_batch *batch, uint32_t *indices, uint32_t capacity)
{
    uint32_t count = least(batch->ready_end - batch->ready_first, capacity);

    if (count != 0) memcpy(indices, batch->ready + batch->ready_first, count * sizeof *indices);
    batch->ready_first += count;
    return count;
}

int flin_batch_collect(flin_batch *batch, int wait, uint32_t *indices, uint32_t capacity,
                       uint32_t *landed, uint32_t *failed, flashinfer_error *error)
{
    int came = batch->out != 0 ? flin_storage_pump(batch->storage, 0) : 0;

    assert(capacity != 0);
    *landed = 0;
    for (;;) {
        if (came < 0) give_up(batch, came);
        fill(batch);
        if (batch->failure.code != 0) return fail(batch, failed, error);
        *landed = hand_on(batch, indices, capacity);
        if (is_over(batch)) {
            batch->count = batch->next = batch->ready_first = batch->ready_end = 0;
            leave_queue(batch);
            return 0;
        }
        if (*landed != 0 || !wait) return 0;
        came = flin_storage_pump(batch->storage, 1);
        if (came == 0) give_up(batch, 0);
    }
}

uint32_t flin_batch_outstanding(const flin_batch *batch)
{
    return batch->count - batch->ready_first;
}

uint32_t flin_batch_lost(flin_batch *batch)
{
    (void)flin_storage_reap(batch->storage);
    if (batch->count == 0) leave_queue(batch);
    return batch->lost;
}

void flin_batch_abandon(flin_batch *batch)
{
    end(batch);
}

flin_batch_counts flin_batch_read_counts(const flin_batch *batch)
{
    return batch->counts;
}
