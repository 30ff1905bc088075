/*
 * avx512/blocks.c - quantised blocks with AVX-512 F, BW, DQ and VL: levels, sums of rows,
 * conversions.
 *
 * Owns: writing levels, as avx512/levels.h lays them out. Refuses: dot products, which two files
 * have by instruction set; Q4_0 from floats, which only packing does.
 */
#include <math.h>
#include <string.h>

#include "kernels/apart.h"
#include "kernels/avx512/levels.h"
#include "kernels/avx512/shared.h"
#include "util/half.h"

#define LEAST 0x1p-100f /* as in ref/blocks.c */

/* --------------------------------------------------------------------------------------- levels */

/* The largest magnitude of 32 floats, as ordered bits: NaN is above Inf. */
INLINE float largest_of(__m512 a, __m512 b)
{
    const __m512i sign = _mm512_set1_epi32(0x7fffffff);
    const __m512i bits = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(a), sign),
                                          _mm512_and_si512(_mm512_castps_si512(b), sign));

    return flin_float_from_bits(_mm512_reduce_max_epu32(bits));
}

INLINE void put_levels(__m512i level, int8_t *high, int8_t *low)
{
    const __m512i top = _mm512_srai_epi32(_mm512_add_epi32(level, _mm512_set1_epi32(128)), 8);
    const __m512i rest = _mm512_sub_epi32(level, _mm512_slli_epi32(top, 8));

    _mm_storeu_si128((__m128i *)(void *)high, _mm512_cvtepi32_epi8(top));
    _mm_storeu_si128((__m128i *)(void *)low, _mm512_cvtepi32_epi8(rest));
}

/* Block k of a group. */
INLINE void quantise_block(const float *x, flin_avx512_levels *group, uint32_t k)
{
    const __m512i fours = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
    const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + LANES);
    const float most = largest_of(a, b);
    const int counts = most >= LEAST && most < INFINITY;
    const __m512 inverse = _mm512_set1_ps(counts ? (float)FLIN_LEVEL_MAX / most : 0.0f);
    const __mmask16 all = counts ? 0xffff : 0;
    const __m512i first = _mm512_maskz_cvtps_epi32(all, _mm512_mul_ps(a, inverse));
    const __m512i second = _mm512_maskz_cvtps_epi32(all, _mm512_mul_ps(b, inverse));
    __m512i sum = _mm512_add_epi32(first, second);

    put_levels(first, group->high[0] + 16 * k, group->low[0] + 16 * k);
    put_levels(second, group->high[1] + 16 * k, group->low[1] + 16 * k);
    sum = _mm512_add_epi32(sum, _mm512_shuffle_epi32(sum, _MM_PERM_CDAB));
    sum = _mm512_add_epi32(sum, _mm512_shuffle_epi32(sum, _MM_PERM_BADC));
    sum = _mm512_permutexvar_epi32(fours, _mm512_slli_epi32(sum, 3));
    _mm_store_si128((__m128i *)(void *)(group->start + 4 * k),
                    _mm_sub_epi32(_mm_setzero_si128(), _mm512_castsi512_si128(sum)));
    group->scale[k] = counts ? most / (float)FLIN_LEVEL_MAX : most < LEAST ? 0.0f : NAN;
}

void flin_avx512_quantise(const float *x, uint32_t cols, void *levels)
{
    flin_avx512_levels *group = levels;
    const uint32_t blocks = cols / FLIN_BLOCK;

    for (uint32_t b = 0; b < blocks; b += 4, group++) {
        if (blocks - b < 4) memset(group, 0, sizeof *group);
        for (uint32_t k = 0; k < 4 && b + k < blocks; k++)
            quantise_block(x + (b + k) * FLIN_BLOCK, group, k);
    }
}

/* ----------------------------------------------------------------------------------------- rows */

INLINE uint32_t block_bytes(type_t type)
{
    return type == FLIN_Q8_0 ? FLIN_Q8_0_BYTES : FLIN_Q4_0_BYTES;
}

INLINE const uint8_t *block_at(const void *row, uint32_t c, type_t type)
{
    return (const uint8_t *)row + (uint64_t)(c / FLIN_BLOCK) * block_bytes(type);
}

INLINE float scale_of(const uint8_t *block)
{
    uint16_t half;

    memcpy(&half, block, sizeof half);
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
}

/* A block's elements before their scale, exactly. Of Q4_0 the low halves are looked up, by their
   low four bits as they come; the high ones, 16 times as large, become the last bits of floats
   around 2^19: two units share the work. */
INLINE void load32(const uint8_t *weights, __m512 *first, __m512 *second, type_t type)
{
    const __m128i *bytes = (const __m128i *)(const void *)weights;
    const __m512 table = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    const __m512i high = _mm512_set1_epi32(0xf0), magic = _mm512_set1_epi32(0x49000000);
    __m512i both;

    if (type == FLIN_Q8_0) {
        *first = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(bytes)));
        *second = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(bytes + 1)));
        return;
    }
    both = _mm512_cvtepu8_epi32(_mm_loadu_si128(bytes));
    *first = _mm512_permutexvar_ps(both, table);
    both = _mm512_ternarylogic_epi32(both, high, magic, 0xea); /* (a & b) | c */
    *second = _mm512_sub_ps(_mm512_castsi512_ps(both), _mm512_set1_ps(0x1p19f + 8));
}

INLINE void ask(const void *row, uint64_t at, type_t type)
{
    const char *soon = (const char *)row + at;

    _mm_prefetch(soon, _MM_HINT_T0);
    _mm_prefetch(soon + 64, _MM_HINT_T0);
    if (type == FLIN_Q8_0) _mm_prefetch(soon + 128, _MM_HINT_T0);
}

/* Some neighbouring blocks of up to ADDED rows, one row after the other; scale: (count, 4) */
INLINE void add_blocks(const void *const *row, float (*scale)[4], uint32_t count, uint32_t c,
                       uint32_t blocks, float *y, type_t type)
{
    __m512 sum[8];

#pragma GCC unroll 8
    for (uint32_t k = 0; k < 2 * blocks; k++) sum[k] = _mm512_loadu_ps(y + c + k * LANES);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *block = block_at(row[i], c, type);

#pragma GCC unroll 4
        for (uint32_t k = 0; k < blocks; k++) {
            const __m512 factor = _mm512_set1_ps(scale[i][k]);
            __m512 first, second;

            load32(block + k * block_bytes(type) + 2, &first, &second, type);
            sum[2 * k] = _mm512_fmadd_ps(factor, first, sum[2 * k]);
            sum[2 * k + 1] = _mm512_fmadd_ps(factor, second, sum[2 * k + 1]);
        }
    }
#pragma GCC unroll 8
    for (uint32_t k = 0; k < 2 * blocks; k++) _mm512_storeu_ps(y + c + k * LANES, sum[k]);
}

/* a times the scales of four blocks: the halves are gathered by the integer units. */
INLINE void scales4(const uint8_t *block, float a, float scale[4], type_t type)
{
    uint64_t all = 0;

#pragma GCC unroll 4
    for (uint32_t k = 0; k < 4; k++) {
        uint16_t half;
        memcpy(&half, block + k * block_bytes(type), sizeof half);
        all |= (uint64_t)half << 16 * k;
    }
    _mm_storeu_ps(scale,
                  _mm_mul_ps(_mm_set1_ps(a), _mm_cvtph_ps(_mm_cvtsi64_si128((long long)all))));
}

/* Up to ADDED rows in one pass over y; next: as many rows after them, NULL if nothing is to be
   asked for. */
INLINE void add_group(const void *const *row, const void *const *next, const float *a,
                      uint32_t count, uint32_t begin, uint32_t end, float *y, type_t type)
{
    const uint64_t first = (uint64_t)(begin / FLIN_BLOCK) * block_bytes(type);
    const uint64_t last = (uint64_t)(end / FLIN_BLOCK) * block_bytes(type);
    const uint64_t ahead = AHEAD_SCATTERED < last - first ? AHEAD_SCATTERED : last - first;
    float scale[ADDED][4];
    uint32_t c = begin;

    for (; c + 4 * FLIN_BLOCK <= end; c += 4 * FLIN_BLOCK) {
        const uint64_t soon = (uint64_t)(c / FLIN_BLOCK) * block_bytes(type) + ahead;

        for (uint32_t i = 0; i < count; i++) {
            if (next != NULL && soon < last) ask(row[i], soon, type);
            if (next != NULL && soon >= last) ask(next[i], soon - last + first, type);
            scales4(block_at(row[i], c, type), a[i], scale[i], type);
        }
        add_blocks(row, scale, count, c, 4, y, type);
    }
    for (; c < end; c += FLIN_BLOCK) {
        for (uint32_t i = 0; i < count; i++)
            scale[i][0] = a[i] * scale_of(block_at(row[i], c, type));
        add_blocks(row, scale, count, c, 1, y, type);
    }
}

INLINE void add_all(const flin_view *rows, const float *a, uint32_t begin, uint32_t end, float *y,
                    type_t type)
{
    for (uint32_t i = 0; i < rows->count && begin < end; i += ADDED) {
        const uint32_t count = rows->count - i < ADDED ? rows->count - i : ADDED;
        const void *row[ADDED], *next[ADDED];

        for (uint32_t r = 0; r < count; r++) {
            row[r] = flin_row_at(rows, i + r);
            next[r] = flin_row_at(rows, i + count + r);
        }
        add_group(row, rows->asked ? NULL : next, a + i, count, begin, end, y, type);
    }
}

void flin_avx512_add_q8_0(const flin_view *rows, const float *a, uint32_t begin, uint32_t end,
                          float *y)
{
    add_all(rows, a, begin, end, y, FLIN_Q8_0);
}

void flin_avx512_add_q4_0(const flin_view *rows, const float *a, uint32_t begin, uint32_t end,
                          float *y)
{
    add_all(rows, a, begin, end, y, FLIN_Q4_0);
}

/* ---------------------------------------------------------------------------------- conversions */

INLINE void to_float(const void *row, uint32_t cols, float *to, type_t type)
{
    for (uint32_t c = 0; c < cols; c += FLIN_BLOCK) {
        const uint8_t *block = block_at(row, c, type);
        const __m512 scale = _mm512_set1_ps(scale_of(block));
        __m512 first, second;

        load32(block + 2, &first, &second, type);
        _mm512_storeu_ps(to + c, _mm512_mul_ps(scale, first));
        _mm512_storeu_ps(to + c + LANES, _mm512_mul_ps(scale, second));
    }
}

void flin_avx512_to_float_q8_0(const void *row, uint32_t cols, float *to)
{
    to_float(row, cols, to, FLIN_Q8_0);
}

void flin_avx512_to_float_q4_0(const void *row, uint32_t cols, float *to)
{
    to_float(row, cols, to, FLIN_Q4_0);
}

void flin_avx512_to_float_apart(const void *row, uint32_t cols, uint32_t begin, uint32_t end,
                                float *to)
{
    for (uint32_t c = begin; c < end; c += FLIN_BLOCK, to += FLIN_BLOCK) {
        const flin_apart_block at = flin_apart_at(row, cols / FLIN_BLOCK, c / FLIN_BLOCK);
        const __m512 scale = _mm512_set1_ps(scale_of(at.scale));
        __m512 first, second;

        load32(at.weights, &first, &second, FLIN_Q4_0);
        _mm512_storeu_ps(to, _mm512_mul_ps(scale, first));
        _mm512_storeu_ps(to + LANES, _mm512_mul_ps(scale, second));
    }
}

/* To the nearest integer, halves away from zero: what is cut off decides, because adding a half
   first would round. */
INLINE __m512i rounded(__m512 x)
{
    const __m512i sign = _mm512_set1_epi32((int)0x80000000u);
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    const __m512 rest = _mm512_abs_ps(_mm512_sub_ps(x, whole));
    const __mmask16 up = _mm512_cmp_ps_mask(rest, _mm512_set1_ps(0.5f), _CMP_GE_OQ);
    const __m512 one = _mm512_castsi512_ps(_mm512_or_si512(
        _mm512_and_si512(_mm512_castps_si512(x), sign), _mm512_castps_si512(_mm512_set1_ps(1.0f))));

    return _mm512_cvttps_epi32(_mm512_mask_add_ps(whole, up, whole, one));
}

void flin_avx512_from_float_q8_0(const float *x, uint32_t cols, void *row)
{
    uint8_t *block = row;

    for (uint32_t c = 0; c < cols; c += FLIN_BLOCK, block += FLIN_Q8_0_BYTES) {
        const __m512 a = _mm512_loadu_ps(x + c), b = _mm512_loadu_ps(x + c + LANES);
        const float most = largest_of(a, b), scale = most < INFINITY ? most / 127.0f : NAN;
        const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
        const int counts = isfinite(inverse);
        const __m512 factor = _mm512_set1_ps(counts ? inverse : 0.0f);
        const __mmask16 all = counts ? 0xffff : 0;
        const uint16_t half = flin_half_from_float(scale);

        memcpy(block, &half, sizeof half);
        _mm_storeu_si128((__m128i *)(void *)(block + 2),
                         _mm512_maskz_cvtepi32_epi8(all, rounded(_mm512_mul_ps(a, factor))));
        _mm_storeu_si128((__m128i *)(void *)(block + 18),
                         _mm512_maskz_cvtepi32_epi8(all, rounded(_mm512_mul_ps(b, factor))));
    }
}

/* ------------------------------------------------------------------------------------- choosing */

void flin_avx512_dot_q8_0(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    if (__builtin_cpu_supports("avx512vnni"))
        flin_avx512_dot_q8_0_vnni(rows, cols, x, y);
    else
        flin_avx512_dot_q8_0_bw(rows, cols, x, y);
}

void flin_avx512_dot_q4_0(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    if (__builtin_cpu_supports("avx512vnni"))
        flin_avx512_dot_q4_0_vnni(rows, cols, x, y);
    else
        flin_avx512_dot_q4_0_bw(rows, cols, x, y);
}

void flin_avx512_dot_apart(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    if (__builtin_cpu_supports("avx512vnni"))
        flin_avx512_dot_apart_vnni(rows, cols, x, y);
    else
        flin_avx512_dot_apart_bw(rows, cols, x, y);
}

void flin_avx512_dots_q8_0(const flin_view *rows, uint32_t cols, const void *const *x,
                           uint32_t inputs, float *const *y)
{
    if (__builtin_cpu_supports("avx512vnni"))
        flin_avx512_dots_q8_0_vnni(rows, cols, x, inputs, y);
    else
        flin_view_dots_in_turn(flin_avx512_dot_q8_0_bw, rows, cols, x, inputs, y);
}

/* Matrices of models have their scales apart here (plan/arrange.c): no code of its own. */
void flin_avx512_dots_q4_0(const flin_view *rows, uint32_t cols, const void *const *x,
                           uint32_t inputs, float *const *y)
{
    flin_view_dots_in_turn(flin_avx512_dot_q4_0, rows, cols, x, inputs, y);
}

void flin_avx512_dots_apart(const flin_view *rows, uint32_t cols, const void *const *x,
                            uint32_t inputs, float *const *y)
{
    if (__builtin_cpu_supports("avx512vnni"))
        flin_avx512_dots_apart_vnni(rows, cols, x, inputs, y);
    else
        flin_view_dots_in_turn(flin_avx512_dot_apart_bw, rows, cols, x, inputs, y);
}
