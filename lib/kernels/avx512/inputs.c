/*
 * avx512/inputs.c - rows of floats, float16 and bfloat16 with several inputs.
 *
 * Owns: sharing each vector of a row, once it is loaded and converted, among the inputs. Refuses:
 * an order of sums of its own: it is that of floats.c, product for product.
 */
#include <string.h>

#include "kernels/avx512/rows.h"
#include "kernels/inputs.h"

#define CHUNK 512u /* columns: eight rows of them and of the inputs lie in the first cache */

/* In a register: a compiler would load it again for each row, and loads are what there is least
   of. */
INLINE __m512 held(__m512 value)
{
    __asm__("" : "+v"(value));
    return value;
}

/* Of one row and one input. */
typedef struct sums {
    __m512 even, odd;
} sums;

/* Columns [c, end) of the last, less than STEP. */
INLINE void add_rest(const void *const *row, uint32_t rows, const void *const *x, uint32_t inputs,
                     uint32_t c, uint32_t end, sums *sum, type_t type)
{
    const uint32_t left = end - c, second = left < LANES ? end : c + LANES;
    const __mmask16 masks[2] = {tail_mask(left), tail_mask(end - second)};

    for (uint32_t i = 0; i < inputs; i++) {
        const float *const from = x[i];
        const __m512 x0 = _mm512_maskz_loadu_ps(masks[0], from + c);
        const __m512 x1 = _mm512_maskz_loadu_ps(masks[1], from + second);

        for (uint32_t r = 0; r < rows; r++) {
            sums *at = &sum[i * FLIN_VIEW_SIDE + r];
            at->even = _mm512_fmadd_ps(load_tail(row[r], c, masks[0], type), x0, at->even);
            if (left > LANES)
                at->odd = _mm512_fmadd_ps(load_tail(row[r], second, masks[1], type), x1, at->odd);
        }
    }
}

/* Whole steps of columns [begin, end) of some rows with some inputs: rows * inputs sums in
   registers, 8 at most. sum: (inputs, FLIN_VIEW_SIDE), from the first of the rows on; soon: (rows)
   where to ask for as many columns meanwhile, if `asks`. */
INLINE void add_some(const void *const *row, const void *const *soon, uint32_t asks, uint32_t rows,
                     const void *const *x, uint32_t inputs, uint64_t begin, uint64_t end, sums *sum,
                     type_t type)
{
    const void *w[4] = {NULL}, *ahead[4] = {NULL};
    const float *from[4] = {NULL};
    sums kept[8];

#pragma GCC unroll 4
    for (uint32_t r = 0; r < rows; r++) w[r] = row[r], ahead[r] = soon[r];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < inputs; i++) from[i] = x[i];
#pragma GCC unroll 8
    for (uint32_t k = 0; k < rows * inputs; k++)
        kept[k] = sum[k / rows * FLIN_VIEW_SIDE + k % rows];
    for (uint64_t c = begin; c < end; c += STEP) {
        sums of[4];

#pragma GCC unroll 4
        for (uint32_t r = 0; r < rows; r++) {
            if (asks) prefetch32(ahead[r], c, type);
            of[r].even = load16(w[r], c, type);
            of[r].odd = load16(w[r], c + LANES, type);
        }
#pragma GCC unroll 4
        for (uint32_t i = 0; i < inputs; i++) {
            const __m512 x0 = held(_mm512_loadu_ps(from[i] + c));
            const __m512 x1 = held(_mm512_loadu_ps(from[i] + c + LANES));

#pragma GCC unroll 4
            for (uint32_t r = 0; r < rows; r++) {
                sums *at = &kept[i * rows + r];
                at->even = _mm512_fmadd_ps(of[r].even, x0, at->even);
                at->odd = _mm512_fmadd_ps(of[r].odd, x1, at->odd);
            }
        }
    }
#pragma GCC unroll 8
    for (uint32_t k = 0; k < rows * inputs; k++)
        sum[k / rows * FLIN_VIEW_SIDE + k % rows] = kept[k];
}

/* Columns [begin, end) of eight rows; soon: (8) or NULL. */
INLINE void add8(const void *const row[8], const void *const *soon, uint32_t asks,
                 const void *const *x, uint32_t inputs, uint32_t begin, uint32_t end,
                 sums (*sum)[FLIN_VIEW_SIDE], type_t type)
{
    const uint32_t whole = begin + (end - begin) / STEP * STEP;

    for (uint32_t r = 0; r < FLIN_VIEW_SIDE && inputs == 2; r += 4)
        add_some(row + r, soon + r, asks, 4, x, 2, begin, whole, &sum[0][r], type);
    for (uint32_t r = 0; r < FLIN_VIEW_SIDE && inputs == 3; r += 2)
        add_some(row + r, soon + r, asks, 2, x, 3, begin, whole, &sum[0][r], type);
    for (uint32_t r = 0; r < FLIN_VIEW_SIDE && inputs == 4; r += 2)
        add_some(row + r, soon + r, asks, 2, x, 4, begin, whole, &sum[0][r], type);
    if (whole < end) add_rest(row, FLIN_VIEW_SIDE, x, inputs, whole, end, &sum[0][0], type);
}

/* Where to ask for columns while those from `begin` on are worked on: as much earlier as they are
   from the start, so that both have one index. */
INLINE void look_ahead(const void *const row[8], const void *const next[8], uint32_t begin,
                       uint32_t cols, const void *soon[8], type_t type)
{
    const uint32_t ahead = elements_ahead(cols, type);
    const int64_t off = begin + ahead < cols ? (int64_t)ahead : (int64_t)ahead - cols;

    for (uint32_t r = 0; r < FLIN_VIEW_SIDE; r++)
        soon[r] = (const uint8_t *)(begin + ahead < cols ? row[r] : next[r]) +
                  off * (int64_t)bytes_of(1, type);
}

INLINE __m256 folded(const sums sum[8])
{
    __m512 both[8];

#pragma GCC unroll 8
    for (uint32_t r = 0; r < 8; r++) both[r] = _mm512_add_ps(sum[r].even, sum[r].odd);
    return fold8(both);
}

INLINE void dots_all(const flin_view *rows, uint32_t cols, const void *const *x, uint32_t inputs,
                     float *const *y, type_t type)
{
    for (uint32_t round = 0; round < flin_view_rounds(rows); round++) {
        const void *row[FLIN_VIEW_SIDE], *next[FLIN_VIEW_SIDE];
        sums sum[FLIN_INPUTS_MAX][FLIN_VIEW_SIDE];

        flin_view_gather(rows, round, row, next);
        memset(sum, 0, inputs * sizeof *sum);
        for (uint32_t begin = 0; begin < cols; begin += CHUNK) {
            const uint32_t end = cols - begin < CHUNK ? cols : begin + CHUNK;
            const void *soon[FLIN_VIEW_SIDE];

            look_ahead(row, next, begin, cols, soon, type);
            for (uint32_t i = 0, here; i < inputs; i += here) {
                here = flin_inputs_share(inputs - i);
                if (i == 0)
                    add8(row, soon, 1, x, here, begin, end, sum, type);
                else
                    add8(row, soon, 0, x + i, here, begin, end, sum + i, type);
            }
        }
        for (uint32_t i = 0; i < inputs; i++) {
            float values[FLIN_VIEW_SIDE];

            _mm256_storeu_ps(values, folded(sum[i]));
            flin_view_put(rows, round, values, y[i]);
        }
    }
}

void flin_avx512_dots_f32(const flin_view *rows, uint32_t cols, const void *const *x,
                          uint32_t inputs, float *const *y)
{
    dots_all(rows, cols, x, inputs, y, FLIN_F32);
}

void flin_avx512_dots_f16(const flin_view *rows, uint32_t cols, const void *const *x,
                          uint32_t inputs, float *const *y)
{
    dots_all(rows, cols, x, inputs, y, FLIN_F16);
}

void flin_avx512_dots_bf16(const flin_view *rows, uint32_t cols, const void *const *x,
                           uint32_t inputs, float *const *y)
{
    dots_all(rows, cols, x, inputs, y, FLIN_BF16);
}
