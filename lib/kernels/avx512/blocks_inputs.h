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

/* Where a row's groups of one chunk lie. */
typedef struct groups_at {
    const uint8_t *scales;  /* apart only */
    const uint8_t *weights; /* or whole blocks */
} groups_at;

/* Of a chunk that begins with group `begin` of a row of `blocks`. */
INLINE groups_at find_groups(const void *row, uint32_t begin, uint32_t blocks, type_t type)
{
    const uint32_t left = blocks - begin * GROUP;
    const uint8_t *at = (const uint8_t *)row + (uint64_t)begin * GROUP * block_bytes(type);

    if (type != FLIN_Q4_0_APART) return (groups_at){NULL, at};
    return (groups_at){at, at + 2 * (left < FLIN_APART_BLOCKS ? left : FLIN_APART_BLOCKS)};
}

/* Group k of the chunk, of `count` blocks. */
INLINE group_weights load_group(groups_at at, uint64_t k, uint32_t count, type_t type)
{
    const uint8_t *bytes = at.weights + k * (GROUP * 16);
    uint64_t halves = 0;
    __m512i all;

    if (type != FLIN_Q4_0_APART) {
        bytes = at.weights + k * (GROUP * block_bytes(type));
        return (group_weights){load_weights(bytes, count, type),
                               four_times(load_scales(bytes, count, type))};
    }
    memcpy(&halves, at.scales + k * (GROUP * 2), count == GROUP ? 2 * GROUP : 2 * count);
    all = count == GROUP ? _mm512_loadu_si512(bytes)
                         : _mm512_maskz_loadu_epi8(((__mmask64)1 << 16 * count) - 1, bytes);
    return (group_weights){halves_of(all),
                           four_times(_mm_cvtph_ps(_mm_cvtsi64_si128((long long)halves)))};
}

/* The lines of a chunk's bytes that come with its group k: an eighth of them, and the one that is
   left over with the last. */
INLINE void ask_group(const uint8_t *chunk, uint64_t k, type_t type)
{
    const uint32_t lines = type == FLIN_Q8_0 ? 2 : 1;

    for (uint32_t i = 0; i < lines; i++)
        _mm_prefetch((const char *)chunk + 64 * (k * lines + i), _MM_HINT_T0);
    if (k == CHUNK - 1) _mm_prefetch((const char *)chunk + 64 * CHUNK * lines, _MM_HINT_T0);
}

/* A group of one row with one input. */
INLINE __m512 multiply(const group_weights *w, const flin_avx512_levels *x, __m512 sum, type_t type)
{
    const type_t held = type == FLIN_Q8_0 ? FLIN_Q8_0 : FLIN_Q4_0;
    const levels from = load_levels(x, held);
    const __m512 x_scale = four_times(_mm_load_ps(x->scale));
    const __m512i exact =
        held == FLIN_Q8_0 ? product_q8_0(w->bytes, &from) : product_q4_0(w->bytes, &from);

    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(exact), _mm512_mul_ps(w->scale, x_scale), sum);
}

/* Whole group k of a chunk of some rows with some inputs; sum: (inputs, rows) */
INLINE void multiply_group(const groups_at *at, uint32_t rows, const flin_avx512_levels *const *x,
                           uint32_t inputs, uint64_t k, __m512 *sum, type_t type)
{
    const type_t held = type == FLIN_Q8_0 ? FLIN_Q8_0 : FLIN_Q4_0;
    group_weights w[4];

#pragma GCC unroll 4
    for (uint32_t r = 0; r < rows; r++) w[r] = load_group(at[r], k, GROUP, type);
#pragma GCC unroll 4
    for (uint32_t i = 0; i < inputs; i++) {
        const levels from = load_levels(x[i] + k, held);
        const __m512 x_scale = four_times(_mm_load_ps(x[i][k].scale));

#pragma GCC unroll 4
        for (uint32_t r = 0; r < rows; r++) {
            const __m512i exact = held == FLIN_Q8_0 ? product_q8_0(w[r].bytes, &from)
                                                    : product_q4_0(w[r].bytes, &from);
            sum[i * rows + r] = _mm512_fmadd_ps(
                _mm512_cvtepi32_ps(exact), _mm512_mul_ps(w[r].scale, x_scale), sum[i * rows + r]);
        }
    }
}

/* Whole groups of one chunk of some rows with some inputs: rows * inputs sums in registers, 16 at
   most. sum: (inputs, FLIN_VIEW_SIDE), from the first of the rows on; soon: (rows) the chunk to
   ask for meanwhile, if `asks`. */
INLINE void add_chunk(const void *const *row, const void *const *soon, uint32_t asks, uint32_t rows,
                      const void *const *x, uint32_t inputs, uint32_t begin, uint32_t blocks,
                      __m512 *sum, type_t type)
{
    const uint32_t left = blocks / GROUP - begin, whole = left < CHUNK ? left : CHUNK;
    const flin_avx512_levels *from[4] = {NULL};
    const void *ahead[4] = {NULL};
    groups_at at[4] = {{NULL, NULL}};
    __m512 kept[16];

#pragma GCC unroll 4
    for (uint32_t r = 0; r < rows; r++) {
        at[r] = find_groups(row[r], begin, blocks, type);
        ahead[r] = soon[r];
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < inputs; i++) from[i] = (const flin_avx512_levels *)x[i] + begin;
#pragma GCC unroll 16
    for (uint32_t k = 0; k < rows * inputs; k++)
        kept[k] = sum[k / rows * FLIN_VIEW_SIDE + k % rows];
    for (uint64_t k = 0; k < whole; k++) {
#pragma GCC unroll 4
        for (uint32_t r = 0; r < rows && asks; r++) ask_group(ahead[r], k, type);
        multiply_group(at, rows, from, inputs, k, kept, type);
    }
#pragma GCC unroll 16
    for (uint32_t k = 0; k < rows * inputs; k++)
        sum[k / rows * FLIN_VIEW_SIDE + k % rows] = kept[k];
}

/* Likewise of eight rows. */
INLINE void add8(const void *const row[8], const void *const *soon, uint32_t asks,
                 const void *const *x, uint32_t inputs, uint32_t begin, uint32_t blocks,
                 __m512 (*sum)[FLIN_VIEW_SIDE], type_t type)
{
    for (uint32_t r = 0; r < FLIN_VIEW_SIDE; r += 4) {
        if (inputs == 2)
            add_chunk(row + r, soon + r, asks, 4, x, 2, begin, blocks, &sum[0][r], type);
        if (inputs == 4)
            add_chunk(row + r, soon + r, asks, 4, x, 4, begin, blocks, &sum[0][r], type);
    }
}

/* The begun group of eight rows, the last of their last chunk, which begins with group `begin`. */
INLINE void add_begun(const void *const row[8], const void *const *x, uint32_t inputs,
                      uint32_t begin, uint32_t blocks, __m512 (*sum)[FLIN_VIEW_SIDE], type_t type)
{
    const uint32_t whole = blocks / GROUP - begin;

#pragma GCC unroll 1
    for (uint32_t r = 0; r < FLIN_VIEW_SIDE; r++) {
        const groups_at at = find_groups(row[r], begin, blocks, type);
        const group_weights w = load_group(at, whole, blocks % GROUP, type);

#pragma GCC unroll 1
        for (uint32_t i = 0; i < inputs; i++)
            sum[i][r] =
                multiply(&w, (const flin_avx512_levels *)x[i] + begin + whole, sum[i][r], type);
    }
}

/* What to ask for while the chunk that begins with group `begin` is worked on. */
INLINE void look_ahead(const void *const row[8], const void *const next[8], uint32_t begin,
                       uint32_t blocks, const void *soon[8], type_t type)
{
    const uint64_t row_bytes = (uint64_t)blocks * block_bytes(type);
    const uint64_t ahead = AHEAD_BYTES < row_bytes ? AHEAD_BYTES : row_bytes;
    const uint64_t at = (uint64_t)begin * GROUP * block_bytes(type) + ahead;

    for (uint32_t r = 0; r < FLIN_VIEW_SIDE; r++)
        soon[r] = at < row_bytes ? (const uint8_t *)row[r] + at
                                 : (const uint8_t *)next[r] + (at - row_bytes);
}

/* A chunk of eight rows with some inputs. */
typedef void chunk_of(const void *const row[8], const void *const *soon, uint32_t asks,
                      const void *const *x, uint32_t inputs, uint32_t begin, uint32_t blocks,
                      __m512 (*sum)[FLIN_VIEW_SIDE]);

/* One for all types. */
static __attribute__((noinline)) void dots_all(const flin_view *rows, uint32_t cols,
                                               const void *const *x, uint32_t inputs,
                                               float *const *y, chunk_of *chunk, type_t type)
{
    const flin_inputs even = flin_inputs_even(x, inputs);
    const uint32_t blocks = cols / FLIN_BLOCK, groups = (blocks + GROUP - 1) / GROUP;

    for (uint32_t round = 0; round < flin_view_rounds(rows); round++) {
        const void *row[FLIN_VIEW_SIDE], *next[FLIN_VIEW_SIDE];
        __m512 sum[FLIN_INPUTS_MAX][FLIN_VIEW_SIDE];

        flin_view_gather(rows, round, row, next);
        memset(sum, 0, even.count * sizeof *sum);
        for (uint32_t begin = 0; begin < groups; begin += CHUNK) {
            const void *soon[FLIN_VIEW_SIDE];

            look_ahead(row, next, begin, blocks, soon, type);
            for (uint32_t i = 0, here; i < even.count; i += here) {
                here = flin_inputs_even_share(even.count - i);
                chunk(row, soon, i == 0, even.x + i, here, begin, blocks, sum + i);
            }
            if (groups - begin <= CHUNK && blocks % GROUP != 0)
                add_begun(row, x, inputs, begin, blocks, sum, type);
        }
        for (uint32_t i = 0; i < inputs; i++) {
            float values[FLIN_VIEW_SIDE];

            _mm256_storeu_ps(values, fold8(sum[i]));
            flin_view_put(rows, round, values, y[i]);
        }
    }
}

#endif
