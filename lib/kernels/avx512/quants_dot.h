/*
 * avx512/quants_dot.h - dot products of rows of quants.h with levels: all but the products of
 * bytes, which avx512/quants_bw.c and avx512/quants_vnni.c define before they include this.
 *
 * Owns: the order of sums. Refuses: knowing which instruction multiplies.
 *
 * Lane 4 k + j of a row's vector has elements 4 j to 4 j + 3 and 16 + 4 j to 16 + 4 j + 3 of every
 * 32 that are k-th of four: exact integer sums, each added by a fused multiply-add with both
 * scales. What is taken off is subtracted after each unit. Eight rows go side by side, a unit of
 * each at a time, and it is multiplied with one input after the other while it is in registers.
 */
#ifndef FLIN_KERNELS_AVX512_QUANTS_DOT_H
#define FLIN_KERNELS_AVX512_QUANTS_DOT_H

#include "kernels/avx512/levels.h"
#include "kernels/avx512/quants.h"

/* What the rows share of an input: levels of a unit, and for unit.scale and unit.less the
   factors of x. */
typedef struct input {
    __m512i high[2][2], low[2][2]; /* (group, half) */
    __m512i start[2][2];           /* what the bytes' bias adds too much; one for both halves if
                                      they share a scale */
    __m512 scale, less;
} input;

/* By the file that includes this: sum + bytes * levels, four products a lane. */
INLINE __m512i add_products(__m512i sum, __m512i bytes, __m512i level, type_t type);

/* ------------------------------------------------------------------------------------- inputs */

INLINE __m512i joined(__m512i high, __m512i low)
{
    return _mm512_add_epi32(_mm512_slli_epi32(high, 8), low);
}

/* Every four lanes' sum, at the places 0 to 3. */
INLINE __m128i sums_of_four(__m512i lanes)
{
    lanes = _mm512_add_epi32(lanes, _mm512_shuffle_epi32(lanes, _MM_PERM_CDAB));
    lanes = _mm512_add_epi32(lanes, _mm512_shuffle_epi32(lanes, _MM_PERM_BADC));
    return _mm512_castsi512_si128(_mm512_maskz_compress_epi32(0x1111, lanes));
}

/* Half h of a group's levels, `value` times each: the sums of four that lie in a lane. */
INLINE __m512i sums_of_half(const input *x, uint32_t g, uint32_t h, int value)
{
    const __m512i values = _mm512_set1_epi8((char)value), none = _mm512_setzero_si512();

    return joined(add_products(none, values, x->high[g][h], FLIN_IQ4_NL),
                  add_products(none, values, x->low[g][h], FLIN_IQ4_NL));
}

/* Eight floats of two groups, twice. */
INLINE __m512 twice(__m128 first, __m128 second)
{
    const __m256 eight = _mm256_set_m128(second, first);

    return _mm512_insertf32x8(_mm512_castps256_ps512(eight), eight, 1);
}

/* start: -8 times the sum of a lane's levels */
INLINE void set_starts(const flin_avx512_levels *x, uint32_t g, input *to, type_t type)
{
    const int bias = flin_quants_bias(type);
    const __m512i none = _mm512_setzero_si512();

    to->start[g][0] = to->start[g][1] = none;
    if (bias == 0) return;
    if (!flin_quants_halved(type)) {
        to->start[g][0] = _mm512_slli_epi32(_mm512_load_si512(x->start), bias == 16 ? 1 : 4);
        return;
    }
#pragma GCC unroll 2
    for (uint32_t h = 0; h < 2; h++)
        to->start[g][h] = _mm512_sub_epi32(none, sums_of_half(to, g, h, bias));
}

/* The sums of 32 levels, times their scale. */
INLINE __m128 sums_of_blocks(const flin_avx512_levels *x)
{
    const __m128 scale = _mm_mul_ps(_mm_load_ps(x->scale), _mm_set1_ps(-0.125f));

    return _mm_mul_ps(_mm_cvtepi32_ps(sums_of_four(_mm512_load_si512(x->start))), scale);
}

INLINE __m128 sums_of_halves(const flin_avx512_levels *x, const input *from, uint32_t g, uint32_t h)
{
    const __m128 sums = _mm_cvtepi32_ps(sums_of_four(sums_of_half(from, g, h, 1)));

    return _mm_mul_ps(sums, _mm_load_ps(x->scale));
}

/* left: groups of x that there are */
INLINE void prepare(const flin_avx512_levels *x, uint32_t left, input *to, type_t type)
{
    static const _Alignas(64) flin_avx512_levels nothing;
    const flin_avx512_levels *second = left > 1 ? x + 1 : &nothing;
    const flin_avx512_levels *group[GROUPS] = {x, second};

#pragma GCC unroll 2
    for (uint32_t g = 0; g < GROUPS; g++) {
#pragma GCC unroll 2
        for (uint32_t h = 0; h < 2; h++) {
            to->high[g][h] = _mm512_load_si512(group[g]->high[h]);
            to->low[g][h] = _mm512_load_si512(group[g]->low[h]);
        }
        set_starts(group[g], g, to, type);
    }
    to->scale = twice(_mm_load_ps(x->scale), _mm_load_ps(second->scale));
    if (!flin_quants_less(type)) return;
    if (flin_quants_halved(type))
        to->less = _mm512_mask_blend_ps(
            0xff00, twice(sums_of_halves(x, to, 0, 0), sums_of_halves(second, to, 1, 0)),
            twice(sums_of_halves(x, to, 0, 1), sums_of_halves(second, to, 1, 1)));
    else
        to->scale = _mm512_mask_blend_ps(0xff00, to->scale,
                                         twice(sums_of_blocks(x), sums_of_blocks(second)));
}

/* ----------------------------------------------------------------------------------- products */

INLINE __m512i product(const unit *w, const input *x, uint32_t g, uint32_t begin, uint32_t end,
                       type_t type)
{
    __m512i high = _mm512_setzero_si512(), low = x->start[g][begin];

#pragma GCC unroll 2
    for (uint32_t h = begin; h < end; h++) {
        high = add_products(high, w->bytes[g][h], x->high[g][h], type);
        low = add_products(low, w->bytes[g][h], x->low[g][h], type);
    }
    return joined(high, low);
}

/* Lanes `first` to `first` + 3, four times each. */
INLINE __m512 spread(__m512 scales, uint32_t first)
{
    const int at = (int)first;

    return _mm512_permutexvar_ps(by_block(at, at + 1, at + 2, at + 3), scales);
}

INLINE __m512 multiply(const unit *w, const input *x, __m512 sum, type_t type)
{
    const __m512 scales = _mm512_mul_ps(w->scale, x->scale);
    const uint32_t halves = flin_quants_halved(type) ? 2 : 1;

#pragma GCC unroll 2
    for (uint32_t g = 0; g < GROUPS; g++)
#pragma GCC unroll 2
        for (uint32_t h = 0; h < halves; h++) {
            const __m512i exact = product(w, x, g, h, halves == 2 ? h + 1 : 2, type);
            sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(exact), spread(scales, 8 * h + 4 * g), sum);
        }
    if (flin_quants_less(type) && halves == 2) return _mm512_fnmadd_ps(w->less, x->less, sum);
    if (flin_quants_less(type)) return _mm512_mask_sub_ps(sum, 0xff00, sum, scales);
    return sum;
}

INLINE void ask_unit(const uint8_t *at, uint64_t bytes)
{
#pragma GCC unroll 4
    for (uint64_t line = 0; line < bytes; line += 64)
        _mm_prefetch((const char *)at + line, _MM_HINT_T0);
}

/* Eight rows, and where in them a unit lies and what to ask for meanwhile. */
typedef struct place {
    const void *const *row, *const *soon;
    uint64_t at, soon_at;
} place;

/* A unit of eight rows with all inputs. x: what is left of the inputs, `left` groups; sum:
   (inputs, 8) */
INLINE void multiply8(const place *where, const flin_avx512_levels *const *x, uint32_t left,
                      uint32_t inputs, __m512 (*sum)[FLIN_VIEW_SIDE], type_t type)
{
    input from[FLIN_INPUTS_MAX];

#pragma GCC unroll 1
    for (uint32_t i = 0; i < inputs; i++) prepare(x[i], left, &from[i], type);
#pragma GCC unroll 1
    for (uint32_t r = 0; r < FLIN_VIEW_SIDE; r++) {
        const unit w = load_unit((const uint8_t *)where->row[r] + where->at, type);

        ask_unit((const uint8_t *)where->soon[r] + where->soon_at, flin_quants_unit_bytes(type));
#pragma GCC unroll 1
        for (uint32_t i = 0; i < inputs; i++) sum[i][r] = multiply(&w, &from[i], sum[i][r], type);
    }
}

/* Where the unit `at` bytes from the starts of rows is. */
INLINE place place_of(const void *const row[8], const void *const next[8], uint64_t at,
                      uint64_t ahead, uint64_t row_bytes)
{
    const uint64_t soon = at + ahead;

    return (place){row, soon < row_bytes ? row : next, at,
                   soon < row_bytes ? soon : soon - row_bytes};
}

INLINE void dots_all(const flin_view *rows, uint32_t cols, const void *const *x, uint32_t inputs,
                     float *const *y, type_t type)
{
    const uint64_t bytes = flin_quants_unit_bytes(type), row_bytes = flin_type_bytes(type, cols);
    const uint64_t most = rows->scattered != NULL ? AHEAD_SCATTERED : AHEAD_BYTES;
    const uint64_t ahead = most < row_bytes ? most : row_bytes;

    for (uint32_t round = 0; round < flin_view_rounds(rows); round++) {
        const void *row[FLIN_VIEW_SIDE], *next[FLIN_VIEW_SIDE], *last[FLIN_VIEW_SIDE];
        uint8_t copies[FLIN_VIEW_SIDE][FLIN_QUANTS_LAST_MAX];
        uint32_t left = (cols + GROUP * FLIN_BLOCK - 1) / (GROUP * FLIN_BLOCK);
        const flin_avx512_levels *from[FLIN_INPUTS_MAX];
        __m512 sum[FLIN_INPUTS_MAX][FLIN_VIEW_SIDE];

        flin_view_gather(rows, round, row, next);
        memset(sum, 0, inputs * sizeof *sum);
        memcpy(from, x, inputs * sizeof *from);
        for (uint64_t at = 0; at < row_bytes; at += bytes, left -= GROUPS) {
            place where = place_of(row, next, at, ahead, row_bytes);

            if (!flin_quants_super(type) && at + bytes > row_bytes) {
                flin_quants_last(row, at, row_bytes, copies, last);
                where.row = last;
                where.at = 0;
            }
            multiply8(&where, from, left, inputs, sum, type);
            for (uint32_t i = 0; i < inputs; i++) from[i] += GROUPS;
        }
        for (uint32_t i = 0; i < inputs; i++) {
            float values[FLIN_VIEW_SIDE];

            _mm256_storeu_ps(values, fold8(sum[i]));
            flin_view_put(rows, round, values, y[i]);
        }
    }
}

#endif
