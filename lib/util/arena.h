/*
 * arena.h - memory of a handle: one block of pages whose size is known before it is taken.
 *
 * Owns: page allocation and carving it up. Refuses: freeing single pieces.
 *
 * The same layout code runs twice: once over an arena without memory, which only adds up what it
 * would need (the plan), and once over the real one. So no handle can hold a byte its plan does not
 * know.
 */
#ifndef FLIN_UTIL_ARENA_H
#define FLIN_UTIL_ARENA_H

#include <stdint.h>

#include "util/error.h"

#define FLIN_PAGE_BYTES 4096u /* no system's pages are smaller: what pieces are aligned to */

/* Bytes of a page of this system, 16384 on some phones: what is mapped is a multiple of it. */
uint64_t flin_page_bytes(void);

static inline uint64_t flin_round_up(uint64_t value, uint64_t step) /* step: a power of two */
{
    return (value + step - 1) & ~(step - 1);
}

static inline uint64_t flin_round_down(uint64_t value, uint64_t step)
{
    return value & ~(step - 1);
}

typedef struct flin_arena {
    uint8_t *base;     /* NULL while measuring */
    uint64_t capacity; /* bytes mapped */
    uint64_t used;     /* bytes handed out, or needed */
} flin_arena;

/* FLASHINFER_ENOMEM with errno: the system had no `bytes` for what. */
int flin_no_memory(uint64_t bytes, const char *what, flashinfer_error *error);

/* Begin measuring: flin_arena_take() returns NULL and adds up. */
void flin_arena_measure(flin_arena *arena);

/* Map `bytes` of zeroed pages, rounded up to whole ones. what names the block in the error text. */
int flin_arena_open(flin_arena *arena, uint64_t bytes, const char *what, flashinfer_error *error);

/* Next piece: `bytes` long, aligned to `alignment` (a power of two up to FLIN_PAGE_BYTES), zeroed.
   Asserts that a real arena has room: the plan measured it. */
void *flin_arena_take(flin_arena *arena, uint64_t bytes, uint64_t alignment);

#define FLIN_TAKE(arena, type, count)                                                              \
    ((type *)flin_arena_take((arena), (uint64_t)(count) * sizeof(type), 64))

/* Grow or shrink a mapped arena in place or by moving it; contents up to the smaller size are
   kept, new pages are zero. On failure the arena is as before. */
int flin_arena_resize(flin_arena *arena, uint64_t bytes, const char *what, flashinfer_error *error);

void flin_arena_close(flin_arena *arena); /* a zeroed or closed arena is fine */

#endif
