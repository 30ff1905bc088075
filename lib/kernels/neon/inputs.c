/*
 * neon/inputs.c - rows of floats, float16 and bfloat16 with several inputs.
 *
 * Owns: sharing each vector of a row, once it is loaded and converted, among the inputs. Refuses:
 * an order of sums of its own: it is that of floats.c, product for product.
 */
#include "kernels/neon/rows.h"

#include "kernels/inputs.h"

#define CHUNK 512u /* columns: eight rows of them and of the inputs lie in the first cache */

/* Columns [begin, end) of some rows with some inputs: rows * inputs sums in registers, 8 at most.
   sum: (inputs, 8), from the first of the rows on */
INLINE void add_some(const uint8_t *const *row, uint32_t rows, const void *const *x,
                     uint32_t inputs, uint32_t begin, uint32_t end, eight *sum, type_t type)
{
    uint32_t c = begin;
    eight kept[8], w[4];

#pragma GCC unroll 8
    for (uint32_t k = 0; k < rows * inputs; k++) kept[k] = sum[k / rows * 8 + k % rows];
    for (; c + LANES <= end; c += LANES) {
#pragma GCC unroll 4
        for (uint32_t r = 0; r < rows; r++) w[r] = load8(row[r], c, type);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < inputs; i++) {
            const eight x8 = load8(x[i], c, FLIN_F32);

#pragma GCC unroll 4
            for (uint32_t r = 0; r < rows; r++)
                kept[i * rows + r] = multiply_add(kept[i * rows + r], w[r], x8);
        }
    }
    if (c < end) {
        for (uint32_t r = 0; r < rows; r++) w[r] = load_part(row[r], c, end, type);
#pragma GCC unroll 8
        for (uint32_t k = 0; k < rows * inputs; k++)
            kept[k] = multiply_add(kept[k], w[k % rows], load_part(x[k / rows], c, end, FLIN_F32));
    }
#pragma GCC unroll 8
    for (uint32_t k = 0; k < rows * inputs; k++) sum[k / rows * 8 + k % rows] = kept[k];
}

/* Likewise of eight rows. */
INLINE void add8(const uint8_t *const row[8], const void *const *x, uint32_t inputs, uint32_t begin,
                 uint32_t end, eight (*sum)[8], type_t type)
{
    for (uint32_t r = 0; r < 8 && inputs == 2; r += 4)
        add_some(row + r, 4, x, 2, begin, end, &sum[0][r], type);
    for (uint32_t r = 0; r < 8 && inputs == 3; r += 2)
        add_some(row + r, 2, x, 3, begin, end, &sum[0][r], type);
    for (uint32_t r = 0; r < 8 && inputs == 4; r += 2)
        add_some(row + r, 2, x, 4, begin, end, &sum[0][r], type);
}

/* Eight rows at a time, the last ones filled up as for one input. */
INLINE void dots_all(const rows_view *rows, uint32_t cols, const void *const *x, uint32_t inputs,
                     float *const *y, type_t type)
{
    for (uint32_t first = 0; first < rows->count; first += 8) {
        eight sum[FLIN_INPUTS_MAX][8];
        const uint8_t *row[8];

        memset(sum, 0, inputs * sizeof *sum);
        for (uint32_t r = 0; r < 8; r++) row[r] = row_at(rows, first + r);
        for (uint32_t begin = 0; begin < cols; begin += CHUNK) {
            const uint32_t end = cols - begin < CHUNK ? cols : begin + CHUNK;

            for (uint32_t i = 0, here; i < inputs; i += here) {
                here = flin_inputs_share(inputs - i);
                add8(row, x + i, here, begin, end, sum + i, type);
            }
        }
        for (uint32_t i = 0; i < inputs; i++)
            store_part(y[i], first, rows->count, (eight){{fold4(sum[i]), fold4(sum[i] + 4)}});
    }
}

INLINE void matvecs(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                    uint32_t inputs, const float *bias, float *const *y, type_t type)
{
    const rows_view view = {NULL, w, flin_type_bytes(type, cols), rows};

    dots_all(&view, cols, x, inputs, y, type);
    for (uint32_t i = 0; bias != NULL && i < inputs; i++)
        for (uint32_t r = 0; r < rows; r++) y[i][r] += bias[r];
}

void flin_neon_matvecs_f32(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                           uint32_t inputs, const float *bias, float *const *y)
{
    matvecs(w, rows, cols, x, inputs, bias, y, FLIN_F32);
}

void flin_neon_matvecs_f16(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                           uint32_t inputs, const float *bias, float *const *y)
{
    matvecs(w, rows, cols, x, inputs, bias, y, FLIN_F16);
}

void flin_neon_matvecs_bf16(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                            uint32_t inputs, const float *bias, float *const *y)
{
    matvecs(w, rows, cols, x, inputs, bias, y, FLIN_BF16);
}
