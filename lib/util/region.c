/*
 * region.c - see region.h. Pages beyond what a piece has cannot be touched, so that no large page
 * reaches beyond it.
 */
#define _GNU_SOURCE
#include "util/region.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "util/arena.h"

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

int flin_region_open(flin_region *region, uint64_t bytes, const char *what, flashinfer_error *error)
{
    void *base = MAP_FAILED;

    memset(region, 0, sizeof *region);
    bytes = flin_round_up(bytes != 0 ? bytes : 1, flin_page_bytes());
    errno = ENOMEM;
    if (bytes <= (uint64_t)PTRDIFF_MAX)
        base = mmap(NULL, (size_t)bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                    0);
    if (base == MAP_FAILED) return flin_no_memory(bytes, what, error);
    region->base = base;
    region->bytes = bytes;
    return 0;
}

static int grow(flin_region *region, uint64_t from, uint64_t to, const char *what,
                flashinfer_error *error)
{
    if (mprotect(region->base + from, (size_t)(to - from), PROT_READ | PROT_WRITE) != 0)
        return flin_no_memory(to - from, what, error);
#ifdef MADV_HUGEPAGE
    (void)madvise(region->base + from, (size_t)(to - from), MADV_HUGEPAGE); /* only a wish */
#endif
    return 0;
}

/* Mapping anew gives the pages back on every system. */
static int shrink(flin_region *region, uint64_t from, uint64_t to, const char *what,
                  flashinfer_error *error)
{
    void *at = mmap(region->base + to, (size_t)(from - to), PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

    return at != MAP_FAILED ? 0 : flin_no_memory(from - to, what, error);
}

int flin_region_resize(flin_region *region, uint64_t begin, uint64_t from, uint64_t to,
                       const char *what, flashinfer_error *error)
{
    const uint64_t page_bytes = flin_page_bytes();

    (void)begin; /* what asserts look at */
    assert(begin % page_bytes == 0 && begin <= from && begin <= to);
    from = flin_round_up(from, page_bytes);
    to = flin_round_up(to, page_bytes);
    assert(from <= region->bytes && to <= region->bytes);
    if (to > from) return grow(region, from, to, what, error);
    return to < from ? shrink(region, from, to, what, error) : 0;
}

void flin_region_close(flin_region *region)
{
    if (region->base != NULL) (void)munmap(region->base, (size_t)region->bytes);
    memset(region, 0, sizeof *region);
}
