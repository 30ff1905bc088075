/*
 * avx2/blocks_inputs.c - quantised rows with several inputs.
 *
 * Owns: levels of a chunk as integers of 16 bits, so that a product of a group is four
 * multiplications, and sharing a group's weights, spread to 16 bits once, among the inputs.
 * Refuses: an order of sums of its own: a lane's product is the integer that blocks.c comes to,
 * times the same scale.
 */
#include <string.h>

#include "kernels/avx2/blocks.h"
#include "kernels/inputs.h"

#define CHUNK 8u /* groups: eight rows' and the inputs' lie in the first cache */

/* A group's levels. Of Q4_0: what multiplies the low halves of even bytes, the high halves of
   those, the low and the high halves of odd bytes. Of Q8_0: a block's elements in order, then the
   other's. scale: a block's four times, then the other's. */
typedef struct wide_levels {
    __m256i level[4];
    float scale[8];
} wide_levels;

/* --------------------------------------------------------------------------------------- levels */

INLINE __m256i bytes32(const int8_t *bytes)
{
    return _mm256_load_si256((const __m256i *)(const void *)bytes);
}

/* Of the even bytes of both; of the odd ones. */
INLINE __m256i even_levels(__m256i high, __m256i low)
{
    return _mm256_add_epi16(_mm256_slli_epi16(high, 8),
                            _mm256_srai_epi16(_mm256_slli_epi16(low, 8), 8));
}

INLINE __m256i odd_levels(__m256i high, __m256i low)
{
    const __m256i upper = _mm256_set1_epi16((short)0xff00);

    return _mm256_add_epi16(_mm256_and_si256(high, upper), _mm256_srai_epi16(low, 8));
}

/* Block k's 16 elements from one half of the levels. */
INLINE __m256i block_levels(const int8_t *high, const int8_t *low, uint32_t k)
{
    const __m128i *top = (const __m128i *)(const void *)high + k;
    const __m128i *rest = (const __m128i *)(const void *)low + k;

    return _mm256_add_epi16(_mm256_slli_epi16(_mm256_cvtepi8_epi16(_mm_load_si128(top)), 8),
                            _mm256_cvtepi8_epi16(_mm_load_si128(rest)));
}

INLINE void widen(const levels *x, wide_levels *to, type_t type)
{
    if (type == FLIN_Q4_0) {
        const __m256i high[2] = {bytes32(x->high[0]), bytes32(x->high[1])};
        const __m256i low[2] = {bytes32(x->low[0]), bytes32(x->low[1])};

        to->level[0] = even_levels(high[0], low[0]);
        to->level[1] = even_levels(high[1], low[1]);
        to->level[2] = odd_levels(high[0], low[0]);
        to->level[3] = odd_levels(high[1], low[1]);
    } else {
#pragma GCC unroll 4
        for (uint32_t k = 0; k < 4; k++)
            to->level[k] = block_levels(x->high[k % 2], x->low[k % 2], k / 2);
    }
    _mm_storeu_ps(to->scale, _mm_set1_ps(x->scale[0]));
    _mm_storeu_ps(to->scale + 4, _mm_set1_ps(x->scale[1]));
}

/* ------------------------------------------------------------------------------------- products */

/* Of one row and one group, in the order of its levels; the scales as theirs. */
typedef struct wide_weights {
    __m256i element[4];
    __m256 scale;
} wide_weights;

INLINE __m128i sixteen(const uint8_t *bytes)
{
    return _mm_loadu_si128((const __m128i *)(const void *)bytes);
}

/* A block's weights twice where there is no second; its scale is 0 then. */
INLINE wide_weights load_group(const uint8_t *at, uint32_t count, type_t type)
{
    const __m256i lane = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    const __m256i nibble = _mm256_set1_epi16(15), eights = _mm256_set1_epi16(8);
    const uint8_t *second = count > 1 ? at + block_bytes(type) : at;
    uint16_t halves[2] = {0};
    wide_weights w;
    __m128i both;

    memcpy(&halves[0], at, sizeof halves[0]);
    if (count > 1) memcpy(&halves[1], second, sizeof halves[1]);
    both = _mm_cvtsi32_si128((int)(halves[0] | (uint32_t)halves[1] << 16));
    w.scale = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_cvtph_ps(both)), lane);
    if (type == FLIN_Q4_0) {
        const __m256i bytes = _mm256_inserti128_si256(_mm256_castsi128_si256(sixteen(at + 2)),
                                                      sixteen(second + 2), 1);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            w.element[k] =
                _mm256_sub_epi16(_mm256_and_si256(_mm256_srli_epi16(bytes, 4 * k), nibble), eights);
        return w;
    }
    w.element[0] = _mm256_cvtepi8_epi16(sixteen(at + 2));
    w.element[1] = _mm256_cvtepi8_epi16(sixteen(at + 18));
    w.element[2] = _mm256_cvtepi8_epi16(sixteen(second + 2));
    w.element[3] = _mm256_cvtepi8_epi16(sixteen(second + 18));
    return w;
}

INLINE __m256i two_products(const wide_weights *w, const wide_levels *x, uint32_t first)
{
    return _mm256_add_epi32(_mm256_madd_epi16(w->element[first], x->level[first]),
                            _mm256_madd_epi16(w->element[first + 1], x->level[first + 1]));
}

/* The same scale in all lanes. */
INLINE __m256 scale_of(const wide_weights *w, const wide_levels *x, uint32_t k)
{
    const __m256 all = k == 0 ? _mm256_permute2f128_ps(w->scale, w->scale, 0x00)
                              : _mm256_permute2f128_ps(w->scale, w->scale, 0x11);

    return _mm256_mul_ps(all, _mm256_broadcast_ss(&x->scale[4 * k]));
}

INLINE __m256 multiply(const wide_weights *w, uint32_t count, const wide_levels *x, __m256 sum,
                       type_t type)
{
    if (type == FLIN_Q4_0) {
        const __m256i exact = _mm256_add_epi32(two_products(w, x, 0), two_products(w, x, 2));

        return _mm256_fmadd_ps(_mm256_cvtepi32_ps(exact),
                               _mm256_mul_ps(w->scale, _mm256_loadu_ps(x->scale)), sum);
    }
    sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(two_products(w, x, 0)), scale_of(w, x, 0), sum);
    if (count > 1)
        sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(two_products(w, x, 2)), scale_of(w, x, 1), sum);
    return sum;
}

/* The chunk that begins with group `begin` of one row, with some inputs, whose sums stay in
   registers: more rows would leave none for weights. x: (inputs, CHUNK) of the chunk; sum: (inputs,
   FLIN_VIEW_SIDE), from the row on; soon: what to ask for meanwhile, if `asks`. */
INLINE void add_row(const void *row, const uint8_t *soon, uint32_t asks, wide_levels (*x)[CHUNK],
                    uint32_t inputs, uint32_t begin, uint32_t blocks, __m256 *sum, type_t type)
{
    const uint32_t left = blocks / GROUP - begin, whole = left < CHUNK ? left : CHUNK;
    const uint32_t group_bytes = GROUP * block_bytes(type);
    const uint8_t *at = (const uint8_t *)row + (uint64_t)begin * group_bytes;
    __m256 kept[4];

#pragma GCC unroll 4
    for (uint32_t i = 0; i < inputs; i++) kept[i] = sum[i * FLIN_VIEW_SIDE];
    for (uint32_t k = 0; k < whole; k++, at += group_bytes, soon += group_bytes) {
        const wide_weights w = load_group(at, GROUP, type);

        if (asks) ask(soon, 0, type);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < inputs; i++)
            kept[i] = multiply(&w, GROUP, &x[i][k], kept[i], type);
    }
    if (whole < CHUNK && blocks % GROUP != 0) {
        const wide_weights w = load_group(at, 1, type);

#pragma GCC unroll 4
        for (uint32_t i = 0; i < inputs; i++)
            kept[i] = multiply(&w, 1, &x[i][whole], kept[i], type);
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < inputs; i++) sum[i * FLIN_VIEW_SIDE] = kept[i];
}

/* Likewise of eight rows. */
INLINE void add8(const void *const row[8], const uint8_t *const *soon, uint32_t asks,
                 wide_levels (*x)[CHUNK], uint32_t inputs, uint32_t begin, uint32_t blocks,
                 __m256 (*sum)[FLIN_VIEW_SIDE], type_t type)
{
    for (uint32_t r = 0; r < FLIN_VIEW_SIDE && inputs == 2; r++)
        add_row(row[r], soon[r], asks, x, 2, begin, blocks, &sum[0][r], type);
    for (uint32_t r = 0; r < FLIN_VIEW_SIDE && inputs == 3; r++)
        add_row(row[r], soon[r], asks, x, 3, begin, blocks, &sum[0][r], type);
    for (uint32_t r = 0; r < FLIN_VIEW_SIDE && inputs == 4; r++)
        add_row(row[r], soon[r], asks, x, 4, begin, blocks, &sum[0][r], type);
}

/* What to ask for while the chunk that begins with group `begin` is worked on. */
INLINE void look_ahead(const void *const row[8], const void *const next[8], uint32_t begin,
                       uint32_t blocks, const uint8_t *soon[8], type_t type)
{
    const uint64_t row_bytes = (uint64_t)blocks * block_bytes(type);
    const uint64_t ahead = AHEAD_BYTES < row_bytes ? AHEAD_BYTES : row_bytes;
    const uint64_t at = (uint64_t)begin * GROUP * block_bytes(type) + ahead;

    for (uint32_t r = 0; r < FLIN_VIEW_SIDE; r++)
        soon[r] = at < row_bytes ? (const uint8_t *)row[r] + at
                                 : (const uint8_t *)next[r] + (at - row_bytes);
}

INLINE void dots_all(const flin_view *rows, uint32_t cols, const void *const *x, uint32_t inputs,
                     float *const *y, type_t type)
{
    const uint32_t blocks = cols / FLIN_BLOCK, groups = (blocks + GROUP - 1) / GROUP;

    for (uint32_t round = 0; round < flin_view_rounds(rows); round++) {
        const void *row[FLIN_VIEW_SIDE], *next[FLIN_VIEW_SIDE];
        __m256 sum[FLIN_INPUTS_MAX][FLIN_VIEW_SIDE];
        wide_levels wide[FLIN_INPUTS_SIDE][CHUNK];

        flin_view_gather(rows, round, row, next);
        memset(sum, 0, inputs * sizeof *sum);
        for (uint32_t begin = 0; begin < groups; begin += CHUNK) {
            const uint32_t end = groups - begin < CHUNK ? groups : begin + CHUNK;
            const uint8_t *soon[FLIN_VIEW_SIDE];

            look_ahead(row, next, begin, blocks, soon, type);
            for (uint32_t i = 0, here; i < inputs; i += here) {
                here = flin_inputs_share(inputs - i);
                for (uint32_t k = 0; k < here; k++)
                    for (uint32_t g = begin; g < end; g++)
                        widen((const levels *)x[i + k] + g, &wide[k][g - begin], type);
                if (i == 0)
                    add8(row, soon, 1, wide, here, begin, blocks, sum, type);
                else
                    add8(row, soon, 0, wide, here, begin, blocks, sum + i, type);
            }
        }
        for (uint32_t i = 0; i < inputs; i++) {
            float values[FLIN_VIEW_SIDE];

            _mm256_storeu_ps(values, fold8(sum[i]));
            flin_view_put(rows, round, values, y[i]);
        }
    }
}

void flin_avx2_dots_q8_0(const flin_view *rows, uint32_t cols, const void *const *x,
                         uint32_t inputs, float *const *y)
{
    dots_all(rows, cols, x, inputs, y, FLIN_Q8_0);
}

void flin_avx2_dots_q4_0(const flin_view *rows, uint32_t cols, const void *const *x,
                         uint32_t inputs, float *const *y)
{
    /* widening the levels is more work than two inputs share */
    for (uint32_t i = 0; i < inputs && inputs == 2; i++) flin_avx2_dot_q4_0(rows, cols, x[i], y[i]);
    if (inputs != 2) dots_all(rows, cols, x, inputs, y, FLIN_Q4_0);
}
