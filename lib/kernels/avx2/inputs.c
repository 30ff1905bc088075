/*
 * avx2/inputs.c - rows of floats, float16 and bfloat16 with several inputs.
 *
 * Owns: sharing each vector of a row, once it is loaded and converted, among the inputs. Refuses:
 * an order of sums of its own: it is that of floats.c, product for product.
 */
#include "kernels/inputs.h"
#include "kernels/avx2/rows.h"

#define CHUNK 256u /* columns: eight rows of them and of the inputs lie in the first cache */

/* Columns [begin, end) of some rows with some inputs: rows * inputs sums in registers, 8 at most.
   sum: (inputs, FLIN_VIEW_SIDE), from the first of the rows on; next: as many rows as there are
   rows, NULL if nothing is to be asked for. */
INLINE void add_some(const void *const *row, const void *const *next, uint32_t rows,
                     const void *const *x, uint32_t inputs, uint32_t begin, uint32_t end,
                     uint32_t cols, __m256 *sum, type_t type)
{
    const uint32_t ahead = elements_ahead(cols, type);
    uint32_t c = begin;
    __m256 kept[8], w[4];

#pragma GCC unroll 8
    for (uint32_t k = 0; k < rows * inputs; k++)
        kept[k] = sum[k / rows * FLIN_VIEW_SIDE + k % rows];
    for (; c + STEP <= end; c += STEP) {
        const void *const *soon = c + ahead < cols ? row : next;
        const uint32_t at = c + ahead < cols ? c + ahead : c + ahead - cols;

#pragma GCC unroll 4
        for (uint32_t r = 0; r < rows && next != NULL; r++) prefetch32(soon[r], at, type);
#pragma GCC unroll 4
        for (uint32_t j = c; j < c + STEP; j += LANES) {
#pragma GCC unroll 4
            for (uint32_t r = 0; r < rows; r++) w[r] = load8(row[r], j, type);
#pragma GCC unroll 8
            for (uint32_t k = 0; k < rows * inputs; k++)
                kept[k] = _mm256_fmadd_ps(w[k % rows],
                                          _mm256_loadu_ps((const float *)x[k / rows] + j), kept[k]);
        }
    }
#pragma GCC unroll 8
    for (uint32_t k = 0; k < rows * inputs; k++)
        sum[k / rows * FLIN_VIEW_SIDE + k % rows] = kept[k];
}

/* Columns [c, end) of the last of eight rows, less than STEP. */
INLINE void add_rest(const void *const row[8], const void *const *x, uint32_t inputs, uint32_t c,
                     uint32_t end, __m256 (*sum)[FLIN_VIEW_SIDE], type_t type)
{
    for (; c < end; c += LANES)
#pragma GCC unroll 1
        for (uint32_t r = 0; r < FLIN_VIEW_SIDE; r++) {
            const __m256 w = load_part(row[r], c, end, type);

#pragma GCC unroll 1
            for (uint32_t i = 0; i < inputs; i++)
                sum[i][r] = _mm256_fmadd_ps(w, load_floats(x[i], c, end), sum[i][r]);
        }
}

/* Whole steps of eight rows. */
INLINE void add8(const void *const row[8], const void *const *next, const void *const *x,
                 uint32_t inputs, uint32_t begin, uint32_t end, uint32_t cols,
                 __m256 (*sum)[FLIN_VIEW_SIDE], type_t type)
{
    const uint32_t together = inputs == 2 ? 4 : 2;

    for (uint32_t r = 0; r < FLIN_VIEW_SIDE; r += together) {
        const void *const *after = next != NULL ? next + r : NULL;

        if (inputs == 2)
            add_some(row + r, after, 4, x, 2, begin, end, cols, &sum[0][r], type);
        else
            add_some(row + r, after, 2, x, 4, begin, end, cols, &sum[0][r], type);
    }
}

INLINE void dots_all(const flin_view *rows, uint32_t cols, const void *const *x, uint32_t inputs,
                     float *const *y, type_t type)
{
    const flin_inputs even = flin_inputs_even(x, inputs);

    for (uint32_t round = 0; round < flin_view_rounds(rows); round++) {
        const void *row[FLIN_VIEW_SIDE], *next[FLIN_VIEW_SIDE];
        __m256 sum[FLIN_INPUTS_MAX][FLIN_VIEW_SIDE];

        flin_view_gather(rows, round, row, next);
        memset(sum, 0, even.count * sizeof *sum);
        for (uint32_t begin = 0; begin < cols; begin += CHUNK) {
            const uint32_t end = cols - begin < CHUNK ? cols : begin + CHUNK;

            for (uint32_t i = 0, here; i < even.count; i += here) {
                here = flin_inputs_even_share(even.count - i);
                add8(row, i == 0 ? next : NULL, even.x + i, here, begin, end, cols, sum + i, type);
            }
            add_rest(row, x, inputs, end - (end - begin) % STEP, end, sum, type);
        }
        for (uint32_t i = 0; i < inputs; i++) {
            float values[FLIN_VIEW_SIDE];

            _mm256_storeu_ps(values, fold8(sum[i]));
            flin_view_put(rows, round, values, y[i]);
        }
    }
}

void flin_avx2_dots_f32(const flin_view *rows, uint32_t cols, const void *const *x, uint32_t inputs,
                        float *const *y)
{
    dots_all(rows, cols, x, inputs, y, FLIN_F32);
}

void flin_avx2_dots_f16(const flin_view *rows, uint32_t cols, const void *const *x, uint32_t inputs,
                        float *const *y)
{
    dots_all(rows, cols, x, inputs, y, FLIN_F16);
}

void flin_avx2_dots_bf16(const flin_view *rows, uint32_t cols, const void *const *x,
                         uint32_t inputs, float *const *y)
{
    dots_all(rows, cols, x, inputs, y, FLIN_BF16);
}
