/*
 * arena.c - pages from mmap: aligned for direct I/O, zeroed, and given back to the system the
 * moment they are closed.
 */
#define _GNU_SOURCE
#include "util/arena.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

uint64_t flin_page_bytes(void)
{
    long bytes = sysconf(_SC_PAGESIZE);

    return bytes > (long)FLIN_PAGE_BYTES ? (uint64_t)bytes : FLIN_PAGE_BYTES;
}

void flin_arena_measure(flin_arena *arena)
{
    memset(arena, 0, sizeof *arena);
}

static void *map_pages(uint64_t bytes)
{
    if (bytes > (uint64_t)PTRDIFF_MAX) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Weights are read from end to end for every token: large pages save most of the page-table
   walks. Only a wish. */
static void want_large_pages(const flin_arena *arena)
{
#ifdef MADV_HUGEPAGE
    (void)madvise(arena->base, (size_t)arena->capacity, MADV_HUGEPAGE);
#else
    (void)arena;
#endif
}

int flin_no_memory(uint64_t bytes, const char *what, flashinfer_error *error)
{
    return flin_fail_errno(
        error, FLASHINFER_ENOMEM, errno,
        "cannot allocate %llu bytes for %s; give the model a smaller memory_budget",
        (unsigned long long)bytes, what);
}

int flin_arena_open(flin_arena *arena, uint64_t bytes, const char *what, flashinfer_error *error)
{
    void *base;

    memset(arena, 0, sizeof *arena);
    bytes = flin_round_up(bytes != 0 ? bytes : 1, flin_page_bytes());
    base = map_pages(bytes);
    if (base == MAP_FAILED) return flin_no_memory(bytes, what, error);
    arena->base = base;
    arena->capacity = bytes;
    want_large_pages(arena);
    return 0;
}

void *flin_arena_take(flin_arena *arena, uint64_t bytes, uint64_t alignment)
{
    uint64_t start = flin_round_up(arena->used, alignment);

    arena->used = start + bytes;
    if (arena->base == NULL) return NULL;
    assert(arena->used <= arena->capacity);
    return arena->base + start;
}

int flin_arena_resize(flin_arena *arena, uint64_t bytes, const char *what, flashinfer_error *error)
{
    void *base;

    bytes = flin_round_up(bytes != 0 ? bytes : 1, flin_page_bytes());
    if (bytes == arena->capacity) return 0;
#ifdef __linux__
    base = mremap(arena->base, (size_t)arena->capacity, (size_t)bytes, MREMAP_MAYMOVE);
    if (base == MAP_FAILED) return flin_no_memory(bytes, what, error);
#else
    base = map_pages(bytes);
    if (base == MAP_FAILED) return flin_no_memory(bytes, what, error);
    memcpy(base, arena->base, (size_t)(bytes < arena->capacity ? bytes : arena->capacity));
    (void)munmap(arena->base, (size_t)arena->capacity);
#endif
    arena->base = base;
    arena->capacity = bytes;
    want_large_pages(arena);
    return 0;
}

void flin_arena_close(flin_arena *arena)
{
    if (arena->base != NULL) (void)munmap(arena->base, (size_t)arena->capacity);
    memset(arena, 0, sizeof *arena);
}
