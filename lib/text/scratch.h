/*
 * scratch.h - memory for the length of one call, which grows: some of the caller's first, then the
 * heap.
 *
 * Owns: growing. Refuses: keeping what was in it. Who made it frees `heap`.
 */
#ifndef FLIN_TEXT_SCRATCH_H
#define FLIN_TEXT_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

typedef struct flin_scratch {
    void *memory; /* aligned for uint64_t */
    size_t bytes;
    void *heap; /* what must be freed, or NULL */
} flin_scratch;

/* At least `bytes` of memory, without what was in it; NULL, and as before, if there is none. */
void *flin_scratch_reserve(flin_scratch *scratch, size_t bytes);

#endif
