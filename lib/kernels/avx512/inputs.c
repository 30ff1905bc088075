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

/* A vector of some rows with some inputs, and requests to memory between loads and sums. w, from:
   their elements; soon: as many lines as `each` of as many rows, then the next. */
INLINE void add_vectors(const uint8_t *const *w, uint32_t rows, const float *const *from,
                        uint32_t inputs, uint64_t at, const char *const *soon, uint64_t line,
                        uint32_t begin, uint32_t end, __m512 *kept, type_t type)
{
    __m512 of[8];

#pragma GCC unroll 8
    for (uint32_t r = 0; r < rows; r++) of[r] = load16(w[r], at, type);
#pragma GCC unroll 8
    for (uint32_t k = begin; k < end; k++)
        _mm_prefetch(soon[k % FLIN_VIEW_SIDE] + line + 64 * (k / FLIN_VIEW_SIDE), _MM_HINT_T0);
#pragma GCC unroll 4
    for (uint32_t i = 0; i < inputs; i++) {
        const __m512 x16 = _mm512_loadu_ps(from[i] + at);

#pragma GCC unroll 8
        for (uint32_t r = 0; r < rows; r++)
            kept[i * rows + r] = _mm512_fmadd_ps(of[r], x16, kept[i * rows + r]);
    }
}

/* One half of every step of columns from c on, for some rows with some inputs: rows * inputs sums
   in registers, 16. first: of the rows, among the sums' eight. asks: lines to ask for
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
    const float *from[4] = {NULL};
    __m512 kept[16];

#pragma GCC unroll 8
    for (uint32_t r = 0; r < rows; r++) w[r] = element_at(row[first + r], c + half * LANES, type);
#pragma GCC unroll 4
    for (uint32_t i = 0; i < inputs; i++) from[i] = (const float *)x[i] + c + half * LANES;
#pragma GCC unroll 16
    for (uint32_t k = 0; k < rows * inputs; k++)
        kept[k] = sum[k / rows].half[half][first + k % rows];
    if (each != 0) {
#pragma GCC unroll 4
        for (uint32_t s = 0; s < steps; s++)
            add_vectors(w, rows, from, inputs, s * STEP, from_row, line, s * each, (s + 1) * each,
                        kept, type);
    } else {
#pragma GCC unroll 1
        for (uint32_t s = 0; s < steps; s++)
            add_vectors(w, rows, from, inputs, s * STEP, from_row, line, 0, 0, kept, type);
    }
#pragma GCC unroll 16
    for (uint32_t k = 0; k < rows * inputs; k++)
        sum[k / rows].half[half][first + k % rows] = kept[k];
}

/* lines: to ask for, of each of the eight rows. */
INLINE void add_rows(const void *const row[8], uint32_t rows, const void *const *x, uint32_t inputs,
                     uint32_t c, uint32_t steps, const char *const *soon, uint32_t lines, sums *sum,
                     type_t type)
{
    const uint32_t asks = lines * rows / 2; /* a pass */

    const uint32_t passes = unknown(2 * FLIN_VIEW_SIDE / rows);

    for (uint32_t pass = 0; pass < passes; pass++)
        add_half(row, pass / 2 * rows, rows, x, inputs, c, steps, pass % 2, soon, asks, sum, type);
}

/* Whole steps of a chunk of eight rows. */
INLINE void add8(const void *const row[8], const void *const *x, uint32_t inputs, uint32_t c,
                 uint32_t steps, const char *const *soon, uint32_t lines, sums *sum, type_t type)
{
    if (inputs == 2) add_rows(row, 8, x, 2, c, steps, soon, lines, sum, type);
    if (inputs == 4) add_rows(row, 4, x, 4, c, steps, soon, lines, sum, type);
}

/* Up to a chunk's columns [c, end) of eight rows with all inputs. */
INLINE void add_chunk(const void *const row[8], const void *const *x, uint32_t inputs, uint32_t c,
                      uint32_t end, const char *const *soon, sums *sum, type_t type)
{
    const uint32_t whole = chunk_columns(type), steps = (end - c) / STEP;

    if (end - c < whole) ask_all(soon);
    for (uint32_t i = 0, some; i < inputs; i += some) {
        some = flin_inputs_even_share(inputs - i);
        if (i == 0 && end - c == whole)
            add8(row, x, some, c, whole / STEP, soon, CHUNK_LINES, sum, type);
        else
            add8(row, x + i, some, c, steps, soon, 0, sum + i, type);
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

/* One for all types. */
static __attribute__((noinline)) void dots_all(const flin_view *rows, uint32_t cols,
                                               const void *const *x, uint32_t inputs,
                                               float *const *y, chunk_of *chunk, type_t type)
{
    const uint32_t columns = chunk_columns(type);
    const flin_inputs even = flin_inputs_even(x, inputs);

    for (uint32_t round = 0; round < flin_view_rounds(rows); round++) {
        const void *row[FLIN_VIEW_SIDE], *next[FLIN_VIEW_SIDE];
        sums sum[FLIN_INPUTS_MAX];

        flin_view_gather(rows, round, row, next);
        memset(sum, 0, even.count * sizeof *sum);
        for (uint32_t c = 0; c < cols; c += columns) {
            const char *soon[FLIN_VIEW_SIDE];

            look_ahead(row, next, c, cols, soon, type);
            chunk(row, even.x, even.count, c, cols - c < columns ? cols : c + columns, soon, sum);
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
