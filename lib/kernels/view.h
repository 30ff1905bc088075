/*
 * view.h - rows that an overlay works on, wherever they lie.
 *
 * Owns: the one view that matvec, dot_rows, add_rows and attend share inside an overlay. Refuses:
 * arithmetic.
 */
#ifndef FLIN_KERNELS_VIEW_H
#define FLIN_KERNELS_VIEW_H

#include <stddef.h>

#include "kernels/kernels.h"

/* What comes once for eight rows: a call costs nothing, copies everywhere are kilobytes. */
#define FLIN_ONCE static __attribute__((noinline, unused))

/* Rows behind pointers, or at equal distances in a matrix or in one head's cache. */
typedef struct flin_view {
    const void *const *scattered; /* (count) or NULL */
    const uint8_t *first;
    uint64_t step_bytes;
    uint32_t count;
    uint32_t asked; /* not 0: the caller has asked memory for them already */
} flin_view;

/* Row i, or the last row instead of one beyond it. */
static inline const void *flin_row_at(const flin_view *rows, uint32_t i)
{
    const uint32_t at = i < rows->count ? i : rows->count - 1;

    return rows->scattered != NULL ? rows->scattered[at] : rows->first + at * rows->step_bytes;
}

/* Rows are taken FLIN_VIEW_SIDE at a time. Where they lie one after another, each side has its
   own run of them: one stream from end to end, however short rows are. */
#define FLIN_VIEW_SIDE 8u

static inline uint32_t flin_view_rounds(const flin_view *rows)
{
    return (rows->count + FLIN_VIEW_SIDE - 1) / FLIN_VIEW_SIDE;
}

/* Which row is the side-th of a round; it may be beyond the last. */
static inline uint32_t flin_view_index(const flin_view *rows, uint32_t round, uint32_t side)
{
    if (rows->scattered != NULL || rows->asked) return round * FLIN_VIEW_SIDE + side;
    return side * flin_view_rounds(rows) + round;
}

/* The rows of a round and of the one after it; the last row fills up, which costs no memory
   traffic. */
FLIN_ONCE void flin_view_gather(const flin_view *rows, uint32_t round,
                                const void *row[FLIN_VIEW_SIDE], const void *next[FLIN_VIEW_SIDE])
{
    for (uint32_t side = 0; side < FLIN_VIEW_SIDE; side++) {
        row[side] = flin_row_at(rows, flin_view_index(rows, round, side));
        next[side] = flin_row_at(rows, flin_view_index(rows, round + 1, side));
    }
}

FLIN_ONCE void flin_view_put(const flin_view *rows, uint32_t round,
                             const float sums[FLIN_VIEW_SIDE], float *y)
{
    for (uint32_t side = 0; side < FLIN_VIEW_SIDE; side++) {
        const uint32_t i = flin_view_index(rows, round, side);
        if (i < rows->count) y[i] = sums[side];
    }
}

/* y[i] = row i . x; x: floats or levels */
typedef void flin_view_dot(const flin_view *rows, uint32_t cols, const void *x, float *y);

/* y[c] += sum_i a[i] * row i [c] for c in [begin, end) */
typedef void flin_view_add(const flin_view *rows, const float *a, uint32_t begin, uint32_t end,
                           float *y);

static inline void flin_view_matvec(flin_view_dot *dot, enum flin_type type, const void *w,
                                    uint32_t rows, uint32_t cols, const void *x, const float *bias,
                                    float *y)
{
    const flin_view view = {NULL, w, flin_type_bytes(type, cols), rows, 0};

    dot(&view, cols, x, y);
    for (uint32_t r = 0; bias != NULL && r < rows; r++) y[r] += bias[r];
}

static inline void flin_view_scattered(flin_view_dot *dot, const void *const *rows, uint32_t count,
                                       uint32_t cols, const void *x, float *y)
{
    const flin_view view = {rows, NULL, 0, count, 0};

    dot(&view, cols, x, y);
}

/* avx512/blocks_bw.c and avx512/blocks_vnni.c: the same sums, bit for bit; the overlay's table
   takes the last where the CPU has it. */
flin_view_dot flin_avx512_dot_q8_0_bw, flin_avx512_dot_q4_0_bw, flin_avx512_dot_apart_bw;
flin_view_dot flin_avx512_dot_q8_0_vnni, flin_avx512_dot_q4_0_vnni, flin_avx512_dot_apart_vnni;

#endif
