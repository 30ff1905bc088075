/*
 * ring.h - matrices that memory does not hold arrive here, matrix row by matrix row, in the order
 * in which passes use them.
 *
 * Owns: pieces of memory, what is on its way into them, reading ahead, also from the end of a pass
 * into the beginning of the next. Refuses: choosing what memory holds (residency.c),
 * computing.
 */
#ifndef FLIN_ENGINE_RING_H
#define FLIN_ENGINE_RING_H

#include "model/weights.h"
#include "storage/storage.h"
#include "util/arena.h"

#define FLIN_RING_PIECES_MAX 64u

/* A run of matrix rows on its way, or arrived. */
typedef struct flin_ring_piece {
    const flin_matrix *matrix;
    uint32_t first, count; /* matrix rows */
    uint64_t offset;       /* of the read, rounded outward */
    flashinfer_storage_segment segment;
    uint32_t lead; /* bytes before the first matrix row */
    uint32_t need; /* bytes that must arrive */
    uint32_t tries;
    uint32_t state;
    int64_t result;
} flin_ring_piece;

/* Of the order: which matrix, which of its rows. */
typedef struct flin_ring_place {
    uint32_t matrix, row;
} flin_ring_place;

/* Since open. */
typedef struct flin_ring_counts {
    uint64_t bytes, reads, retries, wait_ns, submit_ns;
} flin_ring_counts;

typedef struct flin_ring {
    flin_storage *storage;
    const flin_matrix *const *order; /* (order_count) in the order of use */
    uint32_t order_count;
    uint32_t sure_count; /* of them, what every pass uses */
    uint32_t pass_count; /* what the pass at hand uses */
    uint32_t ahead;      /* 1: what is read next is for the pass that follows */
    uint32_t broken;     /* 1: a pass was cut short, what is here is of no use */
    uint8_t *memory;     /* (pieces_max, piece_bytes) */
    uint32_t piece_bytes;
    uint32_t pieces_max;
    uint32_t head, count; /* pieces begun and not handed back */
    uint32_t owner;       /* among the storage's; 0: none */
    flin_ring_place next; /* what is read next */
    flin_ring_place used; /* what is handed out next */
    flin_ring_piece pieces[FLIN_RING_PIECES_MAX];
    flin_ring_counts counts;
} flin_ring;

/* Matrix rows whose bytes are at hand until they are handed back. */
typedef struct flin_run {
    const uint8_t *data; /* (count, cols) */
    uint32_t first, count;
} flin_run;

/* How large pieces are, for matrices whose longest row has row_bytes and that have total_bytes
   together; and their memory. total_bytes 0: there is no ring. */
void flin_ring_layout(flin_ring *ring, flin_arena *arena, flin_storage *storage, uint64_t row_bytes,
                      uint64_t total_bytes);

/* What may stream, and in which order: (count), kept by the caller. Every pass uses the first
   sure_count of it. Call flin_ring_reset() before a matrix holds more or fewer rows. */
void flin_ring_set_order(flin_ring *ring, const flin_matrix *const *order, uint32_t count,
                         uint32_t sure_count);

/* A pass begins; all: it uses the whole order, else only what every pass does. */
int flin_ring_begin(flin_ring *ring, int all, flashinfer_error *error);

/* The next run of a matrix, which must be the next in the order. run->count 0: it has arrived
   entirely, or, with wait == 0, the next run has not. Runs come in order, and each is handed back
   before the next is asked for. */
int flin_ring_take(flin_ring *ring, const flin_matrix *matrix, int wait, flin_run *run,
                   flashinfer_error *error);

/* The run taken last has been used: its memory is filled anew. */
void flin_ring_give_back(flin_ring *ring);

/* Take in what has landed and begin what there is room for. */
void flin_ring_push(flin_ring *ring);

/* Forget everything, once what is in flight has landed. What does not land in time is lost: see
   flin_storage_check_lost(). */
void flin_ring_reset(flin_ring *ring);

#endif
