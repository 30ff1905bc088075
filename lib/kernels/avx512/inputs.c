/*
 * avx512/inputs.c - rows of floats, float16 and bfloat16 with several inputs.
 *
 * Owns: sharing each vector of a row, once it is loaded and converted, among the inputs. Refuses:
 * an order of sums of its own: it is that of floats.c, product for product.
 */
#include <string.h>

#include "kernels/avx512/rows.h"
#include "kernels/inputs.h"

/* Of each of eight rows. Measured: with twice as many bytes memory is asked too unevenly, half of
   the speed is gone with 512 bytes of float32. */
#define CHUNK_BYTES 256u
#define CHUNK_LINES 4u     /* of each of the rows */
#define AHEAD_INPUTS 1280u /* bytes: a quarter more than with one input */
#define TOGETHER 6u        /* inputs whose sums with four rows are in registers, a half at a time */

/* Of eight rows and one input: columns c % 32 below LANES, and the others. */
typedef struct sums {
    __m512 half[2][FLIN_VIEW_SIDE];
} sums;

INLINE uint32_t chunk_columns(type_t type)
{
    return CHUNK_BYTES / (uint32_t)bytes_of(1, type);
}

/* While the chunk of columns from `begin` on is worked on. */
INLINE void look_ahead(const void *const row[8], const void *const next[8], uint32_t begin,
                       uint32_t cols, const char *soon[8], type_t type)
{
    const uint64_t row_bytes = bytes_of(cols, type);
    const uint64_t most = AHEAD_INPUTS < row_bytes ? AHEAD_INPUTS : row_bytes;
    const uint64_t at = bytes_of(begin, type) + most;

    for (uint32_t r = 0; r < FLIN_VIEW_SIDE; r++)
        soon[r] =
            at < row_bytes ? (const char *)row[r] + at : (const char *)next[r] + (at - row_bytes);
}

/* All lines of a chunk, where the one at hand is too short to ask for some with each step. */
INLINE void ask_all(const char *const *soon)
{
    for (uint32_t k = 0; k < CHUNK_LINES * FLIN_VIEW_SIDE; k++)
        _mm_prefetch(soon[k % FLIN_VIEW_SIDE] + 64 * (k / FLIN_VIEW_SIDE), _MM_HINT_T0);
}

/* Columns [c, end) of the last, less than STEP. */
INLINE void add_rest(const void *const *row, const void *const *x, uint32_t inputs, uint32_t c,
                     uint32_t end, sums *sum, type_t type)
{
    for (uint32_t half = 0; half < 2 && c < end; half++, c += LANES) {
        const __mmask16 mask = tail_mask(end - c);

        for (uint32_t i = 0; i < inputs; i++) {
            const __m512 from = _mm512_maskz_loadu_ps(mask, (const float *)x[i] + c);
            __m512 *at = sum[i].half[half];

            for (uint32_t r = 0; r < FLIN_VIEW_SIDE; r++)
                at[r] = _mm512_fmadd_ps(load_tail(row[r], c, mask, type), from, at[r]);
        }
    }
}

/* One half of every step of columns from c on, for some rows with some inputs: rows * inputs sums
   in registers, 24 at most. first: of the rows, among the sums' eight. asks: lines to ask for
   meanwhile, of each row at `soon` one, then the next: so memory sees what it sees with one
   input. */
INLINE void add_half(const void *const *row, uint32_t first, uint32_t rows, const void *const *x,
                     uint32_t inputs, uint64_t c, uint32_t steps, uint32_t half,
                     const char *const *soon, uint32_t asks, sums *sum, type_t type)
{
    const uint32_t asked = (first / rows * 2 + half) * asks, each = asks == 0 ? 0 : asks / steps;
    const char *const *from_row = soon + asked % FLIN_VIEW_SIDE;
    const uint64_t line = 64 * (asked / FLIN_VIEW_SIDE);
    const uint8_t *w[8] = {NULL};
    const float *from[8] = {NULL};
    __m512 kept[24];

#pragma GCC unroll 8
    for (uint32_t r = 0; r < rows; r++) w[r] = element_at(row[first + r], c + half * LANES, type);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < inputs; i++) from[i] = (const float *)x[i] + c + half * LANES;
#pragma GCC unroll 24
    for (uint32_t k = 0; k < rows * inputs; k++)
        kept[k] = sum[k / rows].half[half][first + k % rows];
#pragma GCC unroll 4
    for (uint32_t s = 0; s < steps; s++) {
        __m512 of[8];

#pragma GCC unroll 8
        for (uint32_t r = 0; r < rows; r++) of[r] = load16(w[r], s * STEP, type);
#pragma GCC unroll 8
        for (uint32_t k = s * each; k < (s + 1) * each; k++)
            _mm_prefetch(from_row[k % FLIN_VIEW_SIDE] + line + 64 * (k / FLIN_VIEW_SIDE),
                         _MM_HINT_T0);
#pragma GCC unroll 8
        for (uint32_t i = 0; i < inputs; i++) {
            const __m512 x16 = _mm512_loadu_ps(from[i] + s * STEP);

#pragma GCC unroll 8
            for (uint32_t r = 0; r < rows; r++)
                kept[i * rows + r] = _mm512_fmadd_ps(of[r], x16, kept[i * rows + r]);
        }
    }
#pragma GCC unroll 24
    for (uint32_t k = 0; k < rows * inputs; k++)
        sum[k / rows].half[half][first + k % rows] = kept[k];
}

/* lines: to ask for, of each of the eight rows. */
INLINE void add_rows(const void *const row[8], uint32_t rows, const void *const *x, uint32_t inputs,
                     uint32_t c, uint32_t steps, const char *const *soon, uint32_t lines, sums *sum,
                     type_t type)
{
    const uint32_t asks = lines * rows / 2; /* a pass */

#pragma GCC unroll 1
    for (uint32_t first = 0; first < FLIN_VIEW_SIDE; first += rows)
#pragma GCC unroll 1
        for (uint32_t half = 0; half < 2; half++)
            add_half(row, first, rows, x, inputs, c, steps, half, soon, asks, sum, type);
}

/* Whole steps of a chunk of eight rows. */
INLINE void add8(const void *const row[8], const void *const *x, uint32_t inputs, uint32_t c,
                 uint32_t steps, const char *const *soon, uint32_t lines, sums *sum, type_t type)
{
    if (inputs == 2) add_rows(row, 8, x, 2, c, steps, soon, lines, sum, type);
    if (inputs == 3) add_rows(row, 4, x, 3, c, steps, soon, lines, sum, type);
    if (inputs == 4) add_rows(row, 4, x, 4, c, steps, soon, lines, sum, type);
    if (inputs == 5) add_rows(row, 4, x, 5, c, steps, soon, lines, sum, type);
    if (inputs == 6) add_rows(row, 4, x, 6, c, steps, soon, lines, sum, type);
}

/* How many of those left go next: 8 are 4 and 4. */
INLINE uint32_t share_of(uint32_t left)
{
    return left <= TOGETHER ? left : (left + 1) / 2;
}

/* Up to a chunk's columns [c, end) of eight rows with all inputs. */
INLINE void add_chunk(const void *const row[8], const void *const *x, uint32_t inputs, uint32_t c,
                      uint32_t end, const char *const *soon, sums *sum, type_t type)
{
    const uint32_t whole = chunk_columns(type), steps = (end - c) / STEP;

    if (end - c < whole) ask_all(soon);
    for (uint32_t i = 0, some; i < inputs; i += some) {
        some = share_of(inputs - i);
        if (end - c < whole)
            add8(row, x + i, some, c, steps, soon, 0, sum + i, type);
        else if (i == 0)
            add8(row, x, some, c, whole / STEP, soon, CHUNK_LINES, sum, type);
        else
            add8(row, x + i, some, c, whole / STEP, soon, 0, sum + i, type);
    }
    if ((end - c) % STEP != 0) add_rest(row, x, inputs, c + steps * STEP, end, sum, type);
}

/* Not inlined: a compiler that sees where sums lie copies them to and fro around every pass. */
#define CHUNK_OF(name, type)                                                                       \
    static __attribute__((noinline)) void name(const void *const row[8], const void *const *x,     \
                                               uint32_t inputs, uint32_t c, uint32_t end,          \
                                               const char *const *soon, sums *sum)                 \
    {                                                                                              \
        add_chunk(row, x, inputs, c, end, soon, sum, type);                                        \
    }

CHUNK_OF(chunk_f32, FLIN_F32)
CHUNK_OF(chunk_f16, FLIN_F16)
CHUNK_OF(chunk_bf16, FLIN_BF16)

typedef void chunk_of(const void *const row[8], const void *const *x, uint32_t inputs, uint32_t c,
                      uint32_t end, const char *const *soon, sums *sum);

INLINE __m256 folded(const sums *sum)
{
    __m512 both[FLIN_VIEW_SIDE];

#pragma GCC unroll 8
    for (uint32_t r = 0; r < FLIN_VIEW_SIDE; r++)
        both[r] = _mm512_add_ps(sum->half[0][r], sum->half[1][r]);
    return fold8(both);
}

INLINE void dots_all(const flin_view *rows, uint32_t cols, const void *const *x, uint32_t inputs,
                     float *const *y, chunk_of *chunk, type_t type)
{
    const uint32_t columns = chunk_columns(type);

    for (uint32_t round = 0; round < flin_view_rounds(rows); round++) {
        const void *row[FLIN_VIEW_SIDE], *next[FLIN_VIEW_SIDE];
        sums sum[FLIN_INPUTS_MAX];

        flin_view_gather(rows, round, row, next);
        memset(sum, 0, inputs * sizeof *sum);
        for (uint32_t c = 0; c < cols; c += columns) {
            const char *soon[FLIN_VIEW_SIDE];

            look_ahead(row, next, c, cols, soon, type);
            chunk(row, x, inputs, c, cols - c < columns ? cols : c + columns, soon, sum);
        }
        for (uint32_t i = 0; i < inputs; i++) {
            float values[FLIN_VIEW_SIDE];

            _mm256_storeu_ps(values, folded(&sum[i]));
            flin_view_put(rows, round, values, y[i]);
        }
    }
}

void flin_avx512_dots_f32(const flin_view *rows, uint32_t cols, const void *const *x,
                          uint32_t inputs, float *const *y)
{
    dots_all(rows, cols, x, inputs, y, chunk_f32, FLIN_F32);
}

void flin_avx512_dots_f16(const flin_view *rows, uint32_t cols, const void *const *x,
                          uint32_t inputs, float *const *y)
{
    dots_all(rows, cols, x, inputs, y, chunk_f16, FLIN_F16);
}

void flin_avx512_dots_bf16(const flin_view *rows, uint32_t cols, const void *const *x,
                           uint32_t inputs, float *const *y)
{
    dots_all(rows, cols, x, inputs, y, chunk_bf16, FLIN_BF16);
}
