/*
 * batch.h - many fetches at once: neighbours merged into one read, the queue kept full, completions
 * handed on as they come, failures retried once.
 *
 * Owns: request tables, merging, waiting with a time limit. Refuses: choosing what to fetch;
 * checksums.
 */
#ifndef FLIN_STORAGE_BATCH_H
#define FLIN_STORAGE_BATCH_H

#include "storage/storage.h"
#include "util/arena.h"

/* One extent of the model and where it lands. offset, bytes and data are multiples of
   caps.alignment (the cache rounds a bundle's extent outward and knows where in the slot the bundle
   begins). */
typedef struct flin_fetch {
    uint64_t offset;
    uint8_t *data;
    uint32_t bytes;
    uint32_t reserved;
} flin_fetch;

#define FLIN_BATCH_GAP_MAX (64u * 1024u)

typedef struct flin_batch_limits {
    uint32_t fetches_max; /* fetches a batch may have */
    /* a merged read is not longer than this; a longer single fetch stays whole */
    uint32_t read_bytes_max;
    /* Neighbours this far apart, at most FLIN_BATCH_GAP_MAX, are still merged, the gap read into a
       waste buffer; less than the alignment: only touching extents are. Costs at most 256 KiB of
       arena, 128 KiB up to a page. */
    uint32_t gap_bytes_max;
    uint32_t reserved;
} flin_batch_limits;

typedef struct flin_batch flin_batch; /* lives in an arena; see batch.c */

/* Take the batch's tables from the arena (measuring or real); returns NULL while measuring. The
   arena must not move or close while a batch is under way or has lost reads. */
flin_batch *flin_batch_layout(flin_arena *arena, flin_storage *storage,
                              const flin_batch_limits *limits);

/* Begin fetching. fetches: (count), sorted by offset, kept by the caller until the batch has ended;
   they may share bytes of the model (each is then read on its own), never memory. Submits as much
   as the queue takes and returns at once. An empty batch is fine.
   After a time-out it refuses with FLASHINFER_ETIMEDOUT until the lost reads have landed, so that
   no slot is filled twice at once. A refused batch has not begun. */
int flin_batch_begin(flin_batch *batch, const flin_fetch *fetches, uint32_t count,
                     flashinfer_error *error);

/* The two halves of it. Prepare submits nothing; push takes in what has landed and submits as
   much as the queue then takes: call it now and again while computing, so that the queue stays
   full. What fails shows in collect. */
int flin_batch_prepare(flin_batch *batch, const flin_fetch *fetches, uint32_t count,
                       flashinfer_error *error);
void flin_batch_push(flin_batch *batch);

/* Collect fetches that have landed: indices into fetches, (capacity). With wait != 0 blocks until
   at least one landed unless none is outstanding. *landed 0 means: nothing yet (wait == 0) or the
   batch has ended. Submits further reads as the queue empties.
   A failed or short read is tried once more, whole; then the batch is drained and ended: what was
   not handed on counts as not fetched, the error names the offset, *failed (may be NULL) receives
   the fetch's index (layer and neuron are for the caller to add), and the batch can begin anew.
   After FLASHINFER_ETIMEDOUT (nothing completed for the storage's timeout_ns) reads may still land
   in the memory of fetches not handed on: see flin_batch_lost(). */
int flin_batch_collect(flin_batch *batch, int wait, uint32_t *indices, uint32_t capacity,
                       uint32_t *landed, uint32_t *failed, flashinfer_error *error);

/* Fetches begun and not yet handed on. */
uint32_t flin_batch_outstanding(const flin_batch *batch);

/* Wait for everything in flight and forget it: after a cancel or an error elsewhere. Fetches not
   handed on count as not fetched. Reads that do not come back in time are lost. */
void flin_batch_abandon(flin_batch *batch);

/* Take in what has landed late and return how many reads of this batch timed out and are still out.
   Until it is 0 their memory must not be written, handed to anybody or unmapped. */
uint32_t flin_batch_lost(flin_batch *batch);

typedef struct flin_batch_counts {
    uint64_t reads; /* requests completed, failed ones too */
    uint64_t bytes; /* bytes they moved, gaps included */
    uint64_t retries;
    uint64_t submit_ns; /* time spent handing reads to the backend */
} flin_batch_counts;

flin_batch_counts flin_batch_read_counts(const flin_batch *batch); /* since layout */

#endif
