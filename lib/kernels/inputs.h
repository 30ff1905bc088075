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

#include "kernels/quants.h"
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

/* Of eight rows of quants.h that end with less than a unit: what is left of them, and zeros, which
   meet a scale of 0. */
#define FLIN_QUANTS_LAST_MAX 192u

FLIN_ONCE void flin_quants_last(const void *const row[FLIN_VIEW_SIDE], uint64_t at,
                                uint64_t row_bytes, uint8_t (*copies)[FLIN_QUANTS_LAST_MAX],
                                const void **last)
{
    for (uint32_t r = 0; r < FLIN_VIEW_SIDE; r++) {
        memset(copies[r], 0, FLIN_QUANTS_LAST_MAX);
        memcpy(copies[r], (const uint8_t *)row[r] + at, row_bytes - at);
        last[r] = copies[r];
    }
}

/* For many types: the same as above in one place. */
FLIN_ONCE void flin_view_matvec_of(flin_view_dot *dot, enum flin_type type, const void *w,
                                   uint32_t rows, uint32_t cols, const void *x, const float *bias,
                                   float *y)
{
    flin_view_matvec(dot, type, w, rows, cols, x, bias, y);
}

FLIN_ONCE void flin_view_matvecs_of(flin_view_dot *dot, flin_view_dots *dots, enum flin_type type,
                                    const void *w, uint32_t rows, uint32_t cols,
                                    const void *const *x, uint32_t inputs, const float *bias,
                                    float *const *y)
{
    flin_view_matvecs(dot, dots, type, w, rows, cols, x, inputs, bias, y);
}

/* Kernels of a table out of dot_NAME and dots_NAME. */
#define FLIN_VIEW_KERNELS(overlay, name, type)                                                     \
    void flin_##overlay##_matvec_##name(const void *w, uint32_t rows, uint32_t cols,               \
                                        const void *x, const float *bias, float *y)                \
    {                                                                                              \
        flin_view_matvec_of(dot_##name, type, w, rows, cols, x, bias, y);                          \
    }                                                                                              \
    void flin_##overlay##_matvecs_##name(const void *w, uint32_t rows, uint32_t cols,              \
                                         const void *const *x, uint32_t inputs, const float *bias, \
                                         float *const *y)                                          \
    {                                                                                              \
        flin_view_matvecs_of(dot_##name, dots_##name, type, w, rows, cols, x, inputs, bias, y);    \
    }                                                                                              \
    void flin_##overlay##_dot_rows_##name(const void *const *rows, uint32_t count, uint32_t cols,  \
                                          const void *x, float *y)                                 \
    {                                                                                              \
        flin_view_scattered(dot_##name, rows, count, cols, x, y);                                  \
    }                                                                                              \
    _Static_assert(type < FLIN_TYPES_KNOWN, #name)

/* avx512/blocks_vnni.c; CPUs without VNNI take one input after the other. */
flin_view_dots flin_avx512_dots_q8_0_vnni, flin_avx512_dots_apart_vnni;

/* avx512/quants_bw.c and avx512/quants_vnni.c, likewise */
#define FLIN_AVX512_QUANT(name, type)                                                              \
    flin_view_dot flin_avx512_dot_##name##_bw, flin_avx512_dot_##name##_vnni;                      \
    flin_view_dots flin_avx512_dots_##name##_vnni
FLIN_EACH_QUANT(FLIN_AVX512_QUANT);

#endif
