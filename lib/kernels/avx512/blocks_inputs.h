/*
 * avx512/blocks_inputs.h - quantised rows with several inputs, after blocks_dot.h and
 * blocks_apart.h.
 *
 * Owns: sharing a group's weights, once they are bytes in registers, among the inputs. Refuses: an
 * order of sums of its own: a group's product is the same integer, times the same scale.
 */
#ifndef FLIN_KERNELS_AVX512_BLOCKS_INPUTS_H
#define FLIN_KERNELS_AVX512_BLOCKS_INPUTS_H

#include <string.h>

#include "kernels/avx512/blocks_apart.h"
#include "kernels/inputs.h"

#define CHUNK 8u /* groups, a whole span: eight rows' and the inputs' lie in the first cache */

_Static_assert(CHUNK *GROUP == FLIN_APART_BLOCKS, "a chunk lies in one span");

/* Of one row and one group; the scale of a block four times. */
typedef struct group_weights {
    weights bytes;
    __m512 scale;
} group_weights;

/* Group g of a row, `count` blocks of its `blocks`. */
INLINE group_weights load_blocks(const uint8_t *row, uint32_t g, uint32_t count, type_t type)
{
    const uint8_t *at = row + (uint64_t)g * GROUP * block_bytes(type);

    return (group_weights){load_weights(at, count, type), four_times(load_scales(at, count, type))};
}

INLINE group_weights load_apart(const uint8_t *row, uint32_t g, uint32_t count, uint32_t blocks)
{
    const uint32_t begun = g * GROUP / FLIN_APART_BLOCKS * FLIN_APART_BLOCKS;
    const uint32_t in_span =
        blocks - begun < FLIN_APART_BLOCKS ? blocks - begun : FLIN_APART_BLOCKS;
    const uint32_t first = g * GROUP - begun;
    const uint8_t *span = row + (uint64_t)begun * FLIN_Q4_0_BYTES;
    const uint8_t *bytes = span + 2 * in_span + 16 * first;
    uint64_t halves = 0;
    __m512i all;

    memcpy(&halves, span + 2 * first, count == GROUP ? 2 * GROUP : 2 * count);
    all = count == GROUP ? _mm512_loadu_si512(bytes)
                         : _mm512_maskz_loadu_epi8(((__mmask64)1 << 16 * count) - 1, bytes);
    return (group_weights){halves_of(all),
                           four_times(_mm_cvtph_ps(_mm_cvtsi64_si128((long long)halves)))};
}

INLINE void ask_group(const void *row, uint64_t at, type_t type)
{
    const char *soon = (const char *)row + at;

    _mm_prefetch(soon, _MM_HINT_T0);
    _mm_prefetch(soon + 64, _MM_HINT_T0);
    if (type == FLIN_Q8_0) _mm_prefetch(soon + 128, _MM_HINT_T0);
}

/* Group g of some rows with some inputs; sum: (inputs, rows) */
INLINE void multiply_group(const void *const *row, uint32_t rows, const void *const *x,
                           uint32_t inputs, uint32_t g, uint32_t count, uint32_t blocks,
                           __m512 *sum, type_t type)
{
    const type_t held = type == FLIN_Q8_0 ? FLIN_Q8_0 : FLIN_Q4_0;
    group_weights w[4];

#pragma GCC unroll 4
    for (uint32_t r = 0; r < rows; r++)
        w[r] = type == FLIN_Q4_0_APART ? load_apart(row[r], g, count, blocks)
                                       : load_blocks(row[r], g, count, type);
#pragma GCC unroll 4
    for (uint32_t i = 0; i < inputs; i++) {
        const flin_avx512_levels *group = (const flin_avx512_levels *)x[i] + g;
        const levels from = load_levels(group, held);
        const __m512 x_scale = four_times(_mm_load_ps(group->scale));

#pragma GCC unroll 4
        for (uint32_t r = 0; r < rows; r++) {
            const __m512i exact = held == FLIN_Q8_0 ? product_q8_0(w[r].bytes, &from)
                                                    : product_q4_0(w[r].bytes, &from);
            sum[i * rows + r] = _mm512_fmadd_ps(
                _mm512_cvtepi32_ps(exact), _mm512_mul_ps(w[r].scale, x_scale), sum[i * rows + r]);
        }
    }
}

/* Groups [begin, end) of some rows with some inputs: rows * inputs sums in registers, 8 at most.
   sum: (inputs, FLIN_VIEW_SIDE), from the first of the rows on; next: as many rows as there are
   rows, NULL if nothing is to be asked for. */
INLINE void add_some_groups(const void *const *row, const void *const *next, uint32_t rows,
                            const void *const *x, uint32_t inputs, uint32_t begin, uint32_t end,
                            uint32_t blocks, __m512 *sum, type_t type)
{
    const uint32_t group_bytes = GROUP * block_bytes(type);
    const uint64_t row_bytes = (uint64_t)blocks * block_bytes(type);
    const uint64_t ahead = AHEAD_BYTES < row_bytes ? AHEAD_BYTES : row_bytes;
    uint32_t g = begin;
    __m512 kept[8];

#pragma GCC unroll 8
    for (uint32_t k = 0; k < rows * inputs; k++)
        kept[k] = sum[k / rows * FLIN_VIEW_SIDE + k % rows];
    for (; g < end && (g + 1) * GROUP <= blocks; g++) {
        const uint64_t soon = (uint64_t)g * group_bytes + ahead;

#pragma GCC unroll 4
        for (uint32_t r = 0; r < rows && next != NULL; r++)
            ask_group(soon < row_bytes ? row[r] : next[r],
                      soon < row_bytes ? soon : soon - row_bytes, type);
        multiply_group(row, rows, x, inputs, g, GROUP, blocks, kept, type);
    }
    if (g < end) multiply_group(row, rows, x, inputs, g, blocks - g * GROUP, blocks, kept, type);
#pragma GCC unroll 8
    for (uint32_t k = 0; k < rows * inputs; k++)
        sum[k / rows * FLIN_VIEW_SIDE + k % rows] = kept[k];
}

/* Likewise of eight rows. */
INLINE void add8_groups(const void *const row[8], const void *const *next, const void *const *x,
                        uint32_t inputs, uint32_t begin, uint32_t end, uint32_t blocks,
                        __m512 (*sum)[FLIN_VIEW_SIDE], type_t type)
{
    const uint32_t together = inputs == 2 ? 4 : 2;

    for (uint32_t r = 0; r < FLIN_VIEW_SIDE; r += together) {
        const void *const *after = next != NULL ? next + r : NULL;

        if (inputs == 2)
            add_some_groups(row + r, after, 4, x, 2, begin, end, blocks, &sum[0][r], type);
        else if (inputs == 3)
            add_some_groups(row + r, after, 2, x, 3, begin, end, blocks, &sum[0][r], type);
        else
            add_some_groups(row + r, after, 2, x, 4, begin, end, blocks, &sum[0][r], type);
    }
}

INLINE void dots_all(const flin_view *rows, uint32_t cols, const void *const *x, uint32_t inputs,
                     float *const *y, type_t type)
{
    const uint32_t blocks = cols / FLIN_BLOCK, groups = (blocks + GROUP - 1) / GROUP;

    for (uint32_t round = 0; round < flin_view_rounds(rows); round++) {
        const void *row[FLIN_VIEW_SIDE], *next[FLIN_VIEW_SIDE];
        __m512 sum[FLIN_INPUTS_MAX][FLIN_VIEW_SIDE];

        flin_view_gather(rows, round, row, next);
        memset(sum, 0, inputs * sizeof *sum);
        for (uint32_t begin = 0; begin < groups; begin += CHUNK) {
            const uint32_t end = groups - begin < CHUNK ? groups : begin + CHUNK;

            for (uint32_t i = 0, here; i < inputs; i += here) {
                here = flin_inputs_share(inputs - i);
                add8_groups(row, i == 0 ? next : NULL, x + i, here, begin, end, blocks, sum + i,
                            type);
            }
        }
        for (uint32_t i = 0; i < inputs; i++) {
            float values[FLIN_VIEW_SIDE];

            _mm256_storeu_ps(values, fold8(sum[i]));
            flin_view_put(rows, round, values, y[i]);
        }
    }
}

#endif
