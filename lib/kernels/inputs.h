/*
 * inputs.h - rows that an overlay multiplies with several inputs at once.
 *
 * Owns: how many inputs share a row in registers; the choice between one and several. Refuses:
 * arithmetic.
 *
 * Eight rows side by side go through memory as they do with one input (view.h), a chunk of columns
 * at a time. Within a chunk some rows and some inputs at once are in registers; their sums lie on
 * the stack from one chunk to the next, and inputs that found no room take the chunk once more,
 * from the first cache.
 */
#ifndef FLIN_KERNELS_INPUTS_H
#define FLIN_KERNELS_INPUTS_H

#include "kernels/view.h"

#define FLIN_INPUTS_SIDE 4u /* inputs that go through a chunk together */

/* How many of those left go next: 5 are 3 and 2, for as few as possible go alone. */
static inline uint32_t flin_inputs_share(uint32_t left)
{
    return left <= FLIN_INPUTS_SIDE ? left : (left + 1) / 2;
}

/* For code that two and four inputs alone have: the last once more if their count is odd, for sums
   that nobody reads. */
typedef struct flin_inputs {
    const void *x[FLIN_INPUTS_MAX];
    uint32_t count;
} flin_inputs;

static inline flin_inputs flin_inputs_even(const void *const *x, uint32_t inputs)
{
    flin_inputs even = {{NULL}, inputs + inputs % 2};

    for (uint32_t i = 0; i < even.count; i++) even.x[i] = x[i < inputs ? i : inputs - 1];
    return even;
}

/* How many of an even count go next. */
static inline uint32_t flin_inputs_even_share(uint32_t left)
{
    return left < 4 ? 2 : 4;
}

/* y[i][r] = row r . x[i]; x: (inputs) of floats or levels, two at least */
typedef void flin_view_dots(const flin_view *rows, uint32_t cols, const void *const *x,
                            uint32_t inputs, float *const *y);

/* Of rows that stay in a core's second cache from the first input to the last. */
#define FLIN_INPUTS_RUN_BYTES ((uint64_t)192 << 10)

/* One input after the other, for an overlay that has nothing better. rows: one after another */
static inline void flin_view_dots_in_turn(flin_view_dot *dot, const flin_view *rows, uint32_t cols,
                                          const void *const *x, uint32_t inputs, float *const *y)
{
    const uint64_t most = FLIN_INPUTS_RUN_BYTES / (rows->step_bytes + 1);
    const uint32_t run =
        most < FLIN_VIEW_SIDE ? FLIN_VIEW_SIDE : (uint32_t)(most / FLIN_VIEW_SIDE * FLIN_VIEW_SIDE);

    for (uint32_t first = 0; first < rows->count; first += run) {
        const uint32_t left = rows->count - first;
        const flin_view some = {NULL, rows->first + first * rows->step_bytes, rows->step_bytes,
                                left < run ? left : run, rows->asked};

        for (uint32_t i = 0; i < inputs; i++) dot(&some, cols, x[i], y[i] + first);
    }
}

static inline void flin_view_matvecs(flin_view_dot *dot, flin_view_dots *dots, enum flin_type type,
                                     const void *w, uint32_t rows, uint32_t cols,
                                     const void *const *x, uint32_t inputs, const float *bias,
                                     float *const *y)
{
    const flin_view view = {NULL, w, flin_type_bytes(type, cols), rows, 0};

    if (inputs == 1) {
        flin_view_matvec(dot, type, w, rows, cols, x[0], bias, y[0]);
        return;
    }
    dots(&view, cols, x, inputs, y);
    for (uint32_t i = 0; bias != NULL && i < inputs; i++)
        for (uint32_t r = 0; r < rows; r++) y[i][r] += bias[r];
}

/* avx512/blocks_vnni.c; CPUs without VNNI take one input after the other. */
flin_view_dots flin_avx512_dots_q8_0_vnni, flin_avx512_dots_apart_vnni;

#endif
