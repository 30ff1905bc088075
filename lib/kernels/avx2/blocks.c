/*
 * avx2/blocks.c - quantised blocks with AVX2, FMA and F16C: levels, products and sums of rows,
 * conversions.
 *
 * Owns: writing levels, as blocks.h lays them out. Refuses: Q4_0 from floats, which only packing
 * does.
 *
 * Dot products go by groups of two blocks. Of Q4_0 lane 4 k + j has elements 4 j to 4 j + 3 and 16
 * + 4 j on of block k; of Q8_0 one block after the other fills the eight lanes. Each lane is an
 * exact integer sum, then one fused multiply-add by both scales to one vector a row, which is
 * folded at the end.
 */
#include <math.h>
#include <string.h>

#include "kernels/avx2/blocks.h"
#include "util/half.h"

#define LEAST 0x1p-100f /* as in ref/blocks.c */

/* --------------------------------------------------------------------------------------- levels */

/* The largest magnitude of 32 floats, as ordered bits: NaN is above Inf. */
INLINE float largest_of(const __m256 x[4])
{
    const __m256i sign = _mm256_set1_epi32(0x7fffffff);
    __m256i most = _mm256_setzero_si256();
    __m128i four;

#pragma GCC unroll 4
    for (uint32_t i = 0; i < 4; i++)
        most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_castps_si256(x[i]), sign));
    four = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0xb1));
    return flin_float_from_bits((uint32_t)_mm_cvtsi128_si32(four));
}

/* 32 integers that are bytes. */
INLINE __m256i narrowed(const __m256i x[4])
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i bytes =
        _mm256_packs_epi16(_mm256_packs_epi32(x[0], x[1]), _mm256_packs_epi32(x[2], x[3]));

    return _mm256_permutevar8x32_epi32(bytes, order);
}

INLINE void put_halves(__m256i bytes, int8_t *first, int8_t *second)
{
    _mm_storeu_si128((__m128i *)(void *)first, _mm256_castsi256_si128(bytes));
    _mm_storeu_si128((__m128i *)(void *)second, _mm256_extracti128_si256(bytes, 1));
}

/* Sums of elements 4 j to 4 j + 3 and 16 + 4 j to 16 + 4 j + 3. */
INLINE __m128i lane_sums(const __m256i level[4])
{
    __m256i sum = _mm256_hadd_epi32(_mm256_add_epi32(level[0], level[2]),
                                    _mm256_add_epi32(level[1], level[3]));

    sum = _mm256_hadd_epi32(sum, sum);
    return _mm_unpacklo_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
}

/* Block k of a group. */
INLINE void quantise_block(const float *from, levels *group, uint32_t k)
{
    const __m256 x[4] = {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8),
                         _mm256_loadu_ps(from + 16), _mm256_loadu_ps(from + 24)};
    const float most = largest_of(x);
    const int counts = most >= LEAST && most < INFINITY;
    const __m256 inverse = _mm256_set1_ps(counts ? (float)FLIN_LEVEL_MAX / most : 0.0f);
    const __m256i all = _mm256_set1_epi32(counts ? -1 : 0);
    __m256i level[4], top[4], rest[4];

#pragma GCC unroll 4
    for (uint32_t i = 0; i < 4; i++) {
        level[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], inverse));
        level[i] = _mm256_and_si256(level[i], all);
        top[i] = _mm256_srai_epi32(_mm256_add_epi32(level[i], _mm256_set1_epi32(128)), 8);
        rest[i] = _mm256_sub_epi32(level[i], _mm256_slli_epi32(top[i], 8));
    }
    put_halves(narrowed(top), group->high[0] + 16 * k, group->high[1] + 16 * k);
    put_halves(narrowed(rest), group->low[0] + 16 * k, group->low[1] + 16 * k);
    _mm_store_si128((__m128i *)(void *)(group->start + 4 * k),
                    _mm_mullo_epi32(lane_sums(level), _mm_set1_epi32(-8)));
    group->scale[k] = counts ? most / (float)FLIN_LEVEL_MAX : most < LEAST ? 0.0f : NAN;
}

void flin_avx2_quantise(const float *x, uint32_t cols, void *to)
{
    levels *group = to;
    const uint32_t blocks = cols / FLIN_BLOCK;

    for (uint32_t b = 0; b < blocks; b += GROUP, group++) {
        if (blocks - b < GROUP) memset(group, 0, sizeof *group);
        for (uint32_t k = 0; k < GROUP && b + k < blocks; k++)
            quantise_block(x + (b + k) * FLIN_BLOCK, group, k);
    }
}

/* ----------------------------------------------------------------------------------------- rows */

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

/* ------------------------------------------------------------------------------------- products */

/* Block k of a group of `count` blocks; another that may be read instead of one beyond it. */
INLINE const uint8_t *block_of(const uint8_t *group, uint32_t k, uint32_t count, type_t type)
{
    return group + (k < count ? k : 0) * block_bytes(type);
}

/* Times the levels' scales. Blocks beyond the last count 0. */
INLINE __m128 scales_of(const uint8_t *group, uint32_t count, const levels *x, type_t type)
{
    uint16_t first, second = 0;

    memcpy(&first, group, sizeof first);
    if (count > 1) memcpy(&second, group + block_bytes(type), sizeof second);
    return _mm_mul_ps(_mm_cvtph_ps(_mm_cvtsi32_si128((int)(first | (uint32_t)second << 16))),
                      _mm_castpd_ps(_mm_load_sd((const double *)(const void *)x->scale)));
}

/* Nibbles times both bytes of the levels: each 16-bit sum reaches 4 * 15 * 128 = 7680. */
INLINE __m256i pairs(__m256i first, __m256i second, const int8_t level[2][32])
{
    return _mm256_add_epi16(
        _mm256_maddubs_epi16(first, _mm256_load_si256((const __m256i *)(const void *)level[0])),
        _mm256_maddubs_epi16(second, _mm256_load_si256((const __m256i *)(const void *)level[1])));
}

INLINE __m256 multiply_q4_0(const uint8_t *group, uint32_t count, const levels *x, __m256 sum)
{
    const __m256i nibble = _mm256_set1_epi8(15), lane = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    const uint8_t *a = block_of(group, 0, count, FLIN_Q4_0) + 2;
    const uint8_t *b = block_of(group, 1, count, FLIN_Q4_0) + 2;
    const __m256i both = _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)a)),
        _mm_loadu_si128((const __m128i *)(const void *)b), 1);
    const __m256i first = _mm256_and_si256(both, nibble);
    const __m256i second = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
    const __m256i high = _mm256_madd_epi16(pairs(first, second, x->high), _mm256_set1_epi16(256));
    const __m256i low = _mm256_madd_epi16(pairs(first, second, x->low), _mm256_set1_epi16(1));
    const __m256i start = _mm256_load_si256((const __m256i *)(const void *)x->start);
    const __m256 exact = _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_add_epi32(start, low), high));
    const __m128 scale = scales_of(group, count, x, FLIN_Q4_0);

    return _mm256_fmadd_ps(exact, _mm256_permutevar8x32_ps(_mm256_castps128_ps256(scale), lane),
                           sum);
}

/* 16 levels as they were. */
INLINE __m256i joined(const int8_t *high, const int8_t *low)
{
    const __m128i top = _mm_load_si128((const __m128i *)(const void *)high);
    const __m128i rest = _mm_load_si128((const __m128i *)(const void *)low);

    return _mm256_add_epi16(_mm256_slli_epi16(_mm256_cvtepi8_epi16(top), 8),
                            _mm256_cvtepi8_epi16(rest));
}

INLINE __m256i sixteen(const uint8_t *bytes)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)bytes));
}

/* One block, its levels in two parts. */
INLINE __m256 multiply_q8_0(const uint8_t *block, const __m256i level[2], __m256 scale, __m256 sum)
{
    const __m256i exact = _mm256_add_epi32(_mm256_madd_epi16(sixteen(block + 2), level[0]),
                                           _mm256_madd_epi16(sixteen(block + 18), level[1]));

    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(exact), scale, sum);
}

/* One whole group of eight rows, `at` bytes from their starts. */
INLINE void multiply8(const void *const row[8], uint64_t at, const levels *x, __m256 sum[8],
                      type_t type)
{
    __m256i level[2][2];

    for (uint32_t k = 0; k < GROUP && type == FLIN_Q8_0; k++)
        for (uint32_t i = 0; i < 2; i++)
            level[k][i] = joined(x->high[i] + 16 * k, x->low[i] + 16 * k);
#pragma GCC unroll 8
    for (uint32_t r = 0; r < 8; r++) {
        const uint8_t *w = (const uint8_t *)row[r] + at;
        __m128 scale;

        if (type == FLIN_Q4_0) {
            sum[r] = multiply_q4_0(w, GROUP, x, sum[r]);
            continue;
        }
        scale = scales_of(w, GROUP, x, type);
        sum[r] = multiply_q8_0(w, level[0], _mm256_broadcastss_ps(scale), sum[r]);
        sum[r] = multiply_q8_0(w + block_bytes(type), level[1],
                               _mm256_broadcastss_ps(_mm_movehdup_ps(scale)), sum[r]);
    }
}

/* Likewise of the one block of a begun group, then the folds. Sums in memory: this comes once for
   eight rows. */
INLINE __m256 begun8(const void *const row[8], uint64_t at, const levels *x, const __m256 sum[8],
                     type_t type)
{
    __m256i level[2];
    __m256 last[8];

    for (uint32_t i = 0; i < 2; i++) level[i] = joined(x->high[i], x->low[i]);
#pragma GCC unroll 8
    for (uint32_t r = 0; r < 8; r++) last[r] = sum[r];
#pragma GCC unroll 1
    for (uint32_t r = 0; r < 8; r++) {
        const uint8_t *w = (const uint8_t *)row[r] + at;

        if (type == FLIN_Q4_0)
            last[r] = multiply_q4_0(w, 1, x, last[r]);
        else
            last[r] =
                multiply_q8_0(w, level, _mm256_broadcastss_ps(scales_of(w, 1, x, type)), last[r]);
    }
    return fold8(last);
}

INLINE void ask8(const void *const row[8], uint64_t at, type_t type)
{
#pragma GCC unroll 8
    for (uint32_t r = 0; r < 8; r++) ask(row[r], at, type);
}

/* Eight rows side by side share the loads of levels; so many streams are what keeps the memory
   busy. next: the eight rows after them, NULL if nothing is to be asked for. */
INLINE __m256 dot8(const void *const row[8], const void *const *next, uint32_t cols,
                   const levels *x, type_t type)
{
    const uint32_t blocks = cols / FLIN_BLOCK, group_bytes = GROUP * block_bytes(type);
    const uint64_t row_bytes = (uint64_t)blocks * block_bytes(type);
    const uint64_t ahead = AHEAD_BYTES < row_bytes ? AHEAD_BYTES : row_bytes;
    uint64_t at = 0;
    uint32_t b = 0;
    __m256 sum[8];

#pragma GCC unroll 8
    for (uint32_t r = 0; r < 8; r++) sum[r] = _mm256_setzero_ps();
    for (; b + GROUP <= blocks; b += GROUP, at += group_bytes, x++) {
        const void *const *soon = at + ahead < row_bytes ? row : next;
        const uint64_t there = at + ahead < row_bytes ? at + ahead : at + ahead - row_bytes;

        if (next != NULL) ask8(soon, there, type);
        multiply8(row, at, x, sum, type);
    }
    if (b < blocks) return begun8(row, at, x, sum, type);
    return fold8(sum);
}

/* y[i] = row i . x */
INLINE void dot_all(const flin_view *rows, uint32_t cols, const void *x, float *y, type_t type)
{
    for (uint32_t round = 0; round < flin_view_rounds(rows); round++) {
        const void *row[FLIN_VIEW_SIDE], *next[FLIN_VIEW_SIDE];
        float sums[FLIN_VIEW_SIDE];

        flin_view_gather(rows, round, row, next);
        _mm256_storeu_ps(sums, dot8(row, rows->asked ? NULL : next, cols, x, type));
        flin_view_put(rows, round, sums, y);
    }
}

void flin_avx2_dot_q8_0(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    dot_all(rows, cols, x, y, FLIN_Q8_0);
}

void flin_avx2_dot_q4_0(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    dot_all(rows, cols, x, y, FLIN_Q4_0);
}

/* Rows that stay in cache from input to input do not wait for memory. Code that shares a row's
   weights as well would be faster, and some kilobytes. */
void flin_avx2_dots_q8_0(const flin_view *rows, uint32_t cols, const void *const *x,
                         uint32_t inputs, float *const *y)
{
    flin_view_dots_in_turn(flin_avx2_dot_q8_0, rows, cols, x, inputs, y);
}

void flin_avx2_dots_q4_0(const flin_view *rows, uint32_t cols, const void *const *x,
                         uint32_t inputs, float *const *y)
{
    flin_view_dots_in_turn(flin_avx2_dot_q4_0, rows, cols, x, inputs, y);
}

/* --------------------------------------------------------------------------------- sums of rows */

INLINE __m128i eight(const uint8_t *bytes)
{
    return _mm_loadl_epi64((const __m128i *)(const void *)bytes);
}

/* A block's elements before their scale, exactly. */
INLINE void load32(const uint8_t *block, __m256 to[4], type_t type)
{
    const __m256i nibble = _mm256_set1_epi32(15), offset = _mm256_set1_epi32(8);

    if (type == FLIN_Q8_0) {
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; i++)
            to[i] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight(block + 2 + 8 * i)));
        return;
    }
#pragma GCC unroll 2
    for (uint32_t i = 0; i < 2; i++) {
        const __m256i both = _mm256_cvtepu8_epi32(eight(block + 2 + 8 * i));
        const __m256i low = _mm256_and_si256(both, nibble), high = _mm256_srli_epi32(both, 4);

        to[i] = _mm256_cvtepi32_ps(_mm256_sub_epi32(low, offset));
        to[i + 2] = _mm256_cvtepi32_ps(_mm256_sub_epi32(high, offset));
    }
}

/* Two blocks at most of up to ADDED rows, one row after the other; scale: (count, 4), from
   `first` on */
INLINE void add_blocks(const void *const *row, float (*scale)[4], uint32_t first, uint32_t count,
                       uint32_t c, uint32_t blocks, float *y, type_t type)
{
    __m256 sum[8];

#pragma GCC unroll 8
    for (uint32_t k = 0; k < 4 * blocks; k++) sum[k] = _mm256_loadu_ps(y + c + k * LANES);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *block = block_at(row[i], c, type);

#pragma GCC unroll 2
        for (uint32_t k = 0; k < blocks; k++) {
            const __m256 factor = _mm256_set1_ps(scale[i][first + k]);
            __m256 element[4];

            load32(block + k * block_bytes(type), element, type);
#pragma GCC unroll 4
            for (uint32_t j = 0; j < 4; j++)
                sum[4 * k + j] = _mm256_fmadd_ps(factor, element[j], sum[4 * k + j]);
        }
    }
#pragma GCC unroll 8
    for (uint32_t k = 0; k < 4 * blocks; k++) _mm256_storeu_ps(y + c + k * LANES, sum[k]);
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
    const uint64_t ahead = AHEAD_BYTES < last - first ? AHEAD_BYTES : last - first;
    float scale[ADDED][4];
    uint32_t c = begin;

    for (; c + 4 * FLIN_BLOCK <= end; c += 4 * FLIN_BLOCK) {
        const uint64_t soon = (uint64_t)(c / FLIN_BLOCK) * block_bytes(type) + ahead;

        for (uint32_t i = 0; i < count; i++) {
            if (next != NULL && soon < last) ask(row[i], soon, type);
            if (next != NULL && soon >= last) ask(next[i], soon - last + first, type);
            scales4(block_at(row[i], c, type), a[i], scale[i], type);
        }
        add_blocks(row, scale, 0, count, c, 2, y, type);
        add_blocks(row, scale, 2, count, c + 2 * FLIN_BLOCK, 2, y, type);
    }
    for (; c < end; c += FLIN_BLOCK) {
        for (uint32_t i = 0; i < count; i++)
            scale[i][0] = a[i] * scale_of(block_at(row[i], c, type));
        add_blocks(row, scale, 0, count, c, 1, y, type);
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

void flin_avx2_add_q8_0(const flin_view *rows, const float *a, uint32_t begin, uint32_t end,
                        float *y)
{
    add_all(rows, a, begin, end, y, FLIN_Q8_0);
}

void flin_avx2_add_q4_0(const flin_view *rows, const float *a, uint32_t begin, uint32_t end,
                        float *y)
{
    add_all(rows, a, begin, end, y, FLIN_Q4_0);
}

/* ---------------------------------------------------------------------------------- conversions */

INLINE void to_float(const void *row, uint32_t cols, float *to, type_t type)
{
    for (uint32_t c = 0; c < cols; c += FLIN_BLOCK) {
        const uint8_t *block = block_at(row, c, type);
        const __m256 scale = _mm256_set1_ps(scale_of(block));
        __m256 element[4];

        load32(block, element, type);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; i++)
            _mm256_storeu_ps(to + c + i * LANES, _mm256_mul_ps(scale, element[i]));
    }
}

void flin_avx2_to_float_q8_0(const void *row, uint32_t cols, float *to)
{
    to_float(row, cols, to, FLIN_Q8_0);
}

void flin_avx2_to_float_q4_0(const void *row, uint32_t cols, float *to)
{
    to_float(row, cols, to, FLIN_Q4_0);
}

/* To the nearest integer, halves away from zero: what is cut off decides, because adding a half
   first would round. */
INLINE __m256i rounded(__m256 x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    const __m256 whole = _mm256_round_ps(x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    const __m256 rest = _mm256_andnot_ps(sign, _mm256_sub_ps(x, whole));
    const __m256 up = _mm256_cmp_ps(rest, _mm256_set1_ps(0.5f), _CMP_GE_OQ);
    const __m256 one = _mm256_or_ps(_mm256_and_ps(x, sign), _mm256_set1_ps(1.0f));

    return _mm256_cvttps_epi32(_mm256_add_ps(whole, _mm256_and_ps(up, one)));
}

void flin_avx2_from_float_q8_0(const float *from, uint32_t cols, void *row)
{
    uint8_t *block = row;

    for (uint32_t c = 0; c < cols; c += FLIN_BLOCK, block += FLIN_Q8_0_BYTES) {
        const __m256 x[4] = {_mm256_loadu_ps(from + c), _mm256_loadu_ps(from + c + 8),
                             _mm256_loadu_ps(from + c + 16), _mm256_loadu_ps(from + c + 24)};
        const float most = largest_of(x), scale = most < INFINITY ? most / 127.0f : NAN;
        const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
        const int counts = isfinite(inverse);
        const __m256 factor = _mm256_set1_ps(counts ? inverse : 0.0f);
        const __m256i all = _mm256_set1_epi32(counts ? -1 : 0);
        const uint16_t half = flin_half_from_float(scale);
        __m256i level[4];

#pragma GCC unroll 4
        for (uint32_t i = 0; i < 4; i++)
            level[i] = _mm256_and_si256(rounded(_mm256_mul_ps(x[i], factor)), all);
        memcpy(block, &half, sizeof half);
        _mm256_storeu_si256((__m256i *)(void *)(block + 2), narrowed(level));
    }
}
