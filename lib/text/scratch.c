/*
 * scratch.c - see scratch.h.
 */
#include "text/scratch.h"

#include <stdlib.h>

void *flin_scratch_reserve(flin_scratch *scratch, size_t bytes)
{
    size_t grown = bytes > 2 * scratch->bytes ? bytes : 2 * scratch->bytes;
    void *heap;

    if (bytes <= scratch->bytes) return scratch->memory;
    heap = malloc(grown);
    if (heap == NULL) return NULL;
    free(scratch->heap);
    *scratch = (flin_scratch){heap, grown, heap};
    return heap;
}
