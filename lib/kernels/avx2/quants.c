/*
 * avx2/quants.c - rows of quants.h with AVX2: products and conversions.
 *
 * Owns: a unit of a row as vectors, the order of sums. Refuses: levels (avx2/blocks.c writes
 * them).
 *
 * A unit is a block of 256 elements, or eight of 32. It comes in the order of levels
 * (avx2/blocks.h): in groups of two times 32 elements, elements 0 to 15 of each, then 16 to 31.
 * Lane 4 k + j of a row's vector has elements 4 j to 4 j + 3 and 16 + 4 j to 16 + 4 j + 3 of every
 * 32 that are k-th of two: exact integer sums, each added by a fused multiply-add with both scales.
 * What is taken off is subtracted after each unit. The type argument is a constant wherever these
 * are inlined.
 */
#include "kernels/quants.h"
#include "kernels/avx2/blocks.h"

#define GROUPS 4u /* of a unit */

typedef struct unit {
    __m256i bytes[GROUPS][2]; /* (group, half): levels and bias_of() */
    __m256 scale[2], less[2]; /* of every 32 elements; or of first and of second halves */
} unit;

INLINE uint32_t halves_of(type_t type)
{
    return flin_quants_halved(type) ? 2 : 1;
}

/* Levels of IQ4 are signed bytes here and multiplied in 16 bits: 128 more were too much for 16-bit
   sums. */
INLINE int in_sixteen(type_t type)
{
    return flin_quants_bias(type) == 128;
}

INLINE int bias_of(type_t type)
{
    return in_sixteen(type) ? 0 : flin_quants_bias(type);
}

INLINE __m128i load128(const uint8_t *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

INLINE __m256i load256(const uint8_t *at)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}

INLINE __m256i nibbles(__m256i bytes)
{
    return _mm256_and_si256(bytes, _mm256_set1_epi8(15));
}

INLINE __m256i upper_nibbles(__m256i bytes)
{
    return nibbles(_mm256_srli_epi16(bytes, 4));
}

/* Bits of each byte that begin with bit `from`, as bits that begin with bit `to`. */
INLINE __m256i moved(__m256i bytes, int from, int to, int mask)
{
    const __m256i there =
        from < to ? _mm256_slli_epi16(bytes, to - from) : _mm256_srli_epi16(bytes, from - to);

    return _mm256_and_si256(there, _mm256_set1_epi8((char)(mask << to)));
}

INLINE float half_at(const uint8_t *at)
{
    uint16_t half;

    memcpy(&half, at, sizeof half);
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
}

INLINE __m256 scaled(const uint8_t *half, __m256i subs)
{
    return _mm256_mul_ps(_mm256_set1_ps(half_at(half)), _mm256_cvtepi32_ps(subs));
}

/* Eight integers of unsigned bytes. */
INLINE __m256i eight_of(uint64_t bytes)
{
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)bytes));
}

/* 16 bytes: those of even places, then the others. */
INLINE __m128i parted(__m128i bytes)
{
    return _mm_shuffle_epi8(bytes,
                            _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
}

/* ------------------------------------------------------------------------------- blocks of 256 */

/* Elements 0 to 31 of one piece and of the next. */
INLINE void put_pair(__m256i left, __m256i right, __m256i to[2])
{
    to[0] = _mm256_permute2x128_si256(left, right, 0x20);
    to[1] = _mm256_permute2x128_si256(left, right, 0x31);
}

INLINE void load_subs(const uint8_t *block, unit *to)
{
    const flin_sixteen subs = flin_q4_k_subs(block + FLIN_Q4_K_SUBS);

    to->scale[0] = scaled(block, eight_of(subs.low));
    to->less[0] = scaled(block + FLIN_Q4_K_LESS, eight_of(subs.high));
}

INLINE void load_q4_k(const uint8_t *block, unit *to)
{
#pragma GCC unroll 4
    for (uint32_t g = 0; g < 4; g++) {
        const __m256i raw = load256(block + FLIN_Q4_K_LEVELS + 32 * g);

        put_pair(nibbles(raw), upper_nibbles(raw), to->bytes[g]);
    }
    load_subs(block, to);
}

INLINE void load_q5_k(const uint8_t *block, unit *to)
{
    const __m256i fifth = load256(block + FLIN_Q5_K_FIFTH);

#pragma GCC unroll 4
    for (uint32_t g = 0; g < 4; g++) {
        const __m256i raw = load256(block + FLIN_Q5_K_LEVELS + 32 * g);
        const int bit = (int)(2 * g);

        put_pair(_mm256_or_si256(nibbles(raw), moved(fifth, bit, 4, 1)),
                 _mm256_or_si256(upper_nibbles(raw), moved(fifth, bit + 1, 4, 1)), to->bytes[g]);
    }
    load_subs(block, to);
}

INLINE void load_q6_k(const uint8_t *block, unit *to)
{
    const __m128i subs = parted(load128(block + FLIN_Q6_K_SUBS));

#pragma GCC unroll 2
    for (uint32_t n = 0; n < 2; n++) {
        const __m256i a = load256(block + 64 * n), b = load256(block + 64 * n + 32);
        const __m256i two = load256(block + FLIN_Q6_K_UPPER + 32 * n);

        put_pair(_mm256_or_si256(nibbles(a), moved(two, 0, 4, 3)),
                 _mm256_or_si256(nibbles(b), moved(two, 2, 4, 3)), to->bytes[2 * n]);
        put_pair(_mm256_or_si256(upper_nibbles(a), moved(two, 4, 4, 3)),
                 _mm256_or_si256(upper_nibbles(b), moved(two, 6, 4, 3)), to->bytes[2 * n + 1]);
    }
    to->scale[0] = scaled(block + FLIN_Q6_K_SCALE, _mm256_cvtepi8_epi32(subs));
    to->scale[1] =
        scaled(block + FLIN_Q6_K_SCALE, _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(subs, subs)));
}

INLINE void load_q2_k(const uint8_t *block, unit *to)
{
    const __m128i subs = parted(load128(block));
    const __m256i nibble = _mm256_set1_epi32(15);

#pragma GCC unroll 4
    for (uint32_t g = 0; g < 4; g++) {
        const __m256i raw = load256(block + FLIN_Q2_K_LEVELS + g / 2 * 32);
        const int bit = (int)(g % 2 * 4);

        put_pair(moved(raw, bit, 0, 3), moved(raw, bit + 2, 0, 3), to->bytes[g]);
    }
#pragma GCC unroll 2
    for (uint32_t h = 0; h < 2; h++) {
        const __m256i both = _mm256_cvtepu8_epi32(h == 0 ? subs : _mm_unpackhi_epi64(subs, subs));

        to->scale[h] = scaled(block + FLIN_Q2_K_SCALE, _mm256_and_si256(both, nibble));
        to->less[h] = scaled(block + FLIN_Q2_K_LESS, _mm256_srli_epi32(both, 4));
    }
}

INLINE void load_q3_k(const uint8_t *block, unit *to)
{
    const flin_sixteen packed = flin_q3_k_subs(block + FLIN_Q3_K_SUBS);
    const __m128i subs = parted(_mm_set_epi64x((long long)packed.high, (long long)packed.low));
    const __m256i third = load256(block), bias = _mm256_set1_epi32(32);

#pragma GCC unroll 4
    for (uint32_t g = 0; g < 4; g++) {
        const __m256i raw = load256(block + FLIN_Q3_K_LEVELS + g / 2 * 32);
        const int bit = (int)(g % 2 * 4), piece = (int)(2 * g);

        put_pair(_mm256_or_si256(moved(raw, bit, 0, 3), moved(third, piece, 2, 1)),
                 _mm256_or_si256(moved(raw, bit + 2, 0, 3), moved(third, piece + 1, 2, 1)),
                 to->bytes[g]);
    }
#pragma GCC unroll 2
    for (uint32_t h = 0; h < 2; h++) {
        const __m256i eight = _mm256_cvtepu8_epi32(h == 0 ? subs : _mm_unpackhi_epi64(subs, subs));

        to->scale[h] = scaled(block + FLIN_Q3_K_SCALE, _mm256_sub_epi32(eight, bias));
    }
}

/* Levels of IQ4, or of MXFP4 with their bias. */
INLINE __m256i looked_up(__m256i index, type_t type)
{
    const __m128i iq4 = _mm_setr_epi8(FLIN_IQ4_VALUES), mxfp4 = _mm_setr_epi8(FLIN_MXFP4_VALUES);
    const __m128i bias = _mm_set1_epi8((char)bias_of(type));
    const __m128i values = type == FLIN_MXFP4 ? _mm_add_epi8(mxfp4, bias) : iq4;

    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), index);
}

INLINE void load_iq4_xs(const uint8_t *block, unit *to)
{
    const __m256i subs = eight_of(flin_iq4_xs_subs(block));

#pragma GCC unroll 4
    for (uint32_t g = 0; g < 4; g++) {
        const __m256i raw = load256(block + FLIN_IQ4_XS_LEVELS + 32 * g);

        to->bytes[g][0] = looked_up(nibbles(raw), FLIN_IQ4_XS);
        to->bytes[g][1] = looked_up(upper_nibbles(raw), FLIN_IQ4_XS);
    }
    to->scale[0] = scaled(block, _mm256_sub_epi32(subs, _mm256_set1_epi32(32)));
}

/* -------------------------------------------------------------------------------- blocks of 32 */

/* As flin_mxfp4_scale(), of eight blocks. */
INLINE __m256 powers(const uint8_t *first)
{
    const __m256i one = _mm256_set1_epi32(1);
    __m256i byte, small, usual;
    uint64_t bytes = 0;

#pragma GCC unroll 8
    for (uint32_t k = 0; k < 8; k++) bytes |= (uint64_t)first[k * FLIN_MXFP4_BYTES] << 8 * k;
    byte = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)bytes));
    small = _mm256_sllv_epi32(_mm256_set1_epi32(0x200000), byte);
    usual = _mm256_slli_epi32(_mm256_sub_epi32(byte, one), 23);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(small, usual, _mm256_cmpgt_epi32(byte, one)));
}

/* Eight halves of 32-bit lanes, the low ones. */
INLINE __m256 lower_halves(__m256i lanes)
{
    const __m256i low = _mm256_and_si256(lanes, _mm256_set1_epi32(0xffff));
    const __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08);

    return _mm256_cvtph_ps(_mm256_castsi256_si128(both));
}

/* Of four bytes of each block, those where its scale is. */
INLINE void load_scales(const uint8_t *first, unit *to, type_t type)
{
    const uint32_t bytes = flin_quants_levels_at(type) + 16;
    uint64_t two[4];
    __m256i heads;

    if (type == FLIN_MXFP4) {
        to->scale[0] = powers(first);
        return;
    }
#pragma GCC unroll 4
    for (uint32_t k = 0; k < 4; k++)
        two[k] = flin_quants_join(flin_quants_u32(first + 2 * k * bytes),
                                  flin_quants_u32(first + (2 * k + 1) * bytes));
    heads = _mm256_set_epi64x((long long)two[3], (long long)two[2], (long long)two[1],
                              (long long)two[0]);
    to->scale[0] = lower_halves(heads);
    if (flin_quants_less(type)) /* added, in files */
        to->less[0] =
            _mm256_xor_ps(_mm256_set1_ps(-0.0f), lower_halves(_mm256_srli_epi32(heads, 16)));
}

/* Bit i of 32 as 16 in byte i. */
INLINE __m256i fifths(uint32_t bits)
{
    const __m256i byte = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                          2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i which = _mm256_set1_epi64x((long long)0x8040201008040201u);
    const __m256i there = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), byte);
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(there, which), which);

    return _mm256_and_si256(set, _mm256_set1_epi8(16));
}

INLINE void load_blocks(const uint8_t *first, unit *to, type_t type)
{
    const uint32_t at = flin_quants_levels_at(type), bytes = at + 16;

#pragma GCC unroll 4
    for (uint32_t g = 0; g < GROUPS; g++) {
        const uint8_t *left = first + 2 * g * bytes, *right = left + bytes;
        const __m256i raw = _mm256_inserti128_si256(_mm256_castsi128_si256(load128(left + at)),
                                                    load128(right + at), 1);
        __m256i *to_half = to->bytes[g];

        to_half[0] = nibbles(raw);
        to_half[1] = upper_nibbles(raw);
        if (type == FLIN_IQ4_NL || type == FLIN_MXFP4) {
            to_half[0] = looked_up(to_half[0], type);
            to_half[1] = looked_up(to_half[1], type);
        }
        if (type == FLIN_Q5_0 || type == FLIN_Q5_1) {
            const uint32_t fifth = type == FLIN_Q5_0 ? FLIN_Q5_0_FIFTH : FLIN_Q5_1_FIFTH;
            const uint32_t a = flin_quants_u32(left + fifth), b = flin_quants_u32(right + fifth);

            to_half[0] = _mm256_or_si256(to_half[0], fifths((a & 0xffffu) | b << 16));
            to_half[1] = _mm256_or_si256(to_half[1], fifths(a >> 16 | (b & 0xffff0000u)));
        }
    }
    load_scales(first, to, type);
}

INLINE unit load_unit(const uint8_t *at, type_t type)
{
    unit to;

    if (type == FLIN_Q2_K) load_q2_k(at, &to);
    if (type == FLIN_Q3_K) load_q3_k(at, &to);
    if (type == FLIN_Q4_K) load_q4_k(at, &to);
    if (type == FLIN_Q5_K) load_q5_k(at, &to);
    if (type == FLIN_Q6_K) load_q6_k(at, &to);
    if (type == FLIN_IQ4_XS) load_iq4_xs(at, &to);
    if (!flin_quants_super(type)) load_blocks(at, &to, type);
    return to;
}

/* ------------------------------------------------------------------------------------- inputs */

/* What the rows share of an input: levels of a unit, and factors of unit.scale and unit.less. */
typedef struct input {
    __m256i high[GROUPS][2], low[GROUPS][2]; /* (group, half) */
    __m256i start[GROUPS][2]; /* what the bytes' bias adds too much; one for both halves if they
                                 share a scale */
    __m256 scale, less[2];
} input;

INLINE __m256i pairs(__m256i bytes, __m256i level)
{
    return _mm256_maddubs_epi16(bytes, level);
}

/* 256 times sums of the high bytes and sums of the low ones. */
INLINE __m256i joined(__m256i high, __m256i low)
{
    return _mm256_add_epi32(_mm256_madd_epi16(high, _mm256_set1_epi16(256)),
                            _mm256_madd_epi16(low, _mm256_set1_epi16(1)));
}

/* `value` times the levels of half h: sums of a lane. */
INLINE __m256i sums_of_half(const input *x, uint32_t g, uint32_t h, int value)
{
    const __m256i values = _mm256_set1_epi8((char)value);

    return joined(pairs(values, x->high[g][h]), pairs(values, x->low[g][h]));
}

/* Four lanes' sums, of the low and of the high half, times their scales. */
INLINE void put_sums(__m256i lanes, const float scale[2], float factor, float to[2])
{
    const __m256i two = _mm256_hadd_epi32(lanes, lanes);
    const __m256i all = _mm256_hadd_epi32(two, two);

    to[0] = (float)_mm_cvtsi128_si32(_mm256_castsi256_si128(all)) * (scale[0] * factor);
    to[1] = (float)_mm_cvtsi128_si32(_mm256_extracti128_si256(all, 1)) * (scale[1] * factor);
}

/* Eight levels of each of two pieces as 16 bits: those of the low halves of the 128 bits. */
INLINE __m256i low_words(__m256i bytes)
{
    return _mm256_srai_epi16(_mm256_unpacklo_epi8(bytes, bytes), 8);
}

INLINE __m256i high_words(__m256i bytes)
{
    return _mm256_srai_epi16(_mm256_unpackhi_epi8(bytes, bytes), 8);
}

/* Of levels in 16 bits, which take the place of high and low bytes. */
INLINE void widen(__m256i *high, __m256i *low)
{
    const __m256i first = _mm256_add_epi16(_mm256_slli_epi16(low_words(*high), 8), low_words(*low));

    *low = _mm256_add_epi16(_mm256_slli_epi16(high_words(*high), 8), high_words(*low));
    *high = first;
}

/* x->start: -8 times the sum of a lane's levels */
INLINE void set_starts(const levels *x, uint32_t g, input *to, type_t type)
{
    const int bias = bias_of(type);

    if (bias == 0) return;
    if (!flin_quants_halved(type)) { /* 16 */
        to->start[g][0] = _mm256_slli_epi32(load256((const uint8_t *)x->start), 1);
        return;
    }
#pragma GCC unroll 2
    for (uint32_t h = 0; h < 2; h++)
        to->start[g][h] = _mm256_sub_epi32(_mm256_setzero_si256(), sums_of_half(to, g, h, bias));
}

INLINE void prepare_group(const levels *x, uint32_t g, input *to, float *scale, float (*less)[8],
                          type_t type)
{
#pragma GCC unroll 2
    for (uint32_t h = 0; h < 2; h++) {
        to->high[g][h] = load256((const uint8_t *)x->high[h]);
        to->low[g][h] = load256((const uint8_t *)x->low[h]);
    }
    set_starts(x, g, to, type);
    memcpy(scale + 2 * g, x->scale, sizeof x->scale);
    if (flin_quants_less(type) && !flin_quants_halved(type))
        put_sums(load256((const uint8_t *)x->start), x->scale, -0.125f, less[0] + 2 * g);
#pragma GCC unroll 2
    for (uint32_t h = 0; h < 2; h++) {
        if (flin_quants_less(type) && flin_quants_halved(type))
            put_sums(sums_of_half(to, g, h, 1), x->scale, 1, less[h] + 2 * g);
        if (in_sixteen(type)) widen(&to->high[g][h], &to->low[g][h]);
    }
}

/* left: groups that there are of x */
INLINE void prepare(const levels *x, uint32_t left, input *to, type_t type)
{
    static const levels nothing;
    float scale[2 * GROUPS], less[2][2 * GROUPS];

#pragma GCC unroll 4
    for (uint32_t g = 0; g < GROUPS; g++)
        prepare_group(g < left ? x + g : &nothing, g, to, scale, less, type);
    to->scale = _mm256_loadu_ps(scale);
#pragma GCC unroll 2
    for (uint32_t h = 0; h < halves_of(type); h++)
        if (flin_quants_less(type)) to->less[h] = _mm256_loadu_ps(less[h]);
}

/* ----------------------------------------------------------------------------------- products */

INLINE __m256i product_in_sixteen(const unit *w, const input *x, uint32_t g)
{
    __m256i sum = _mm256_madd_epi16(low_words(w->bytes[g][0]), x->high[g][0]);

    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(high_words(w->bytes[g][0]), x->low[g][0]));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(low_words(w->bytes[g][1]), x->high[g][1]));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(high_words(w->bytes[g][1]), x->low[g][1]));
}

/* Of half h, or of both where they share a scale. Sums of four bytes of at most 31, or of two of at
   most 63, times 128 stay below 2^15. */
INLINE __m256i product(const unit *w, const input *x, uint32_t g, uint32_t h, type_t type)
{
    __m256i high, low, sum;

    if (in_sixteen(type)) return product_in_sixteen(w, x, g);
    high = pairs(w->bytes[g][h], x->high[g][h]);
    low = pairs(w->bytes[g][h], x->low[g][h]);
    if (!flin_quants_halved(type)) {
        high = _mm256_add_epi16(high, pairs(w->bytes[g][1], x->high[g][1]));
        low = _mm256_add_epi16(low, pairs(w->bytes[g][1], x->low[g][1]));
    }
    sum = joined(high, low);
    return bias_of(type) != 0 ? _mm256_add_epi32(sum, x->start[g][h]) : sum;
}

INLINE __m256 multiply(const unit *w, const input *x, __m256 sum, type_t type)
{
#pragma GCC unroll 2
    for (uint32_t h = 0; h < halves_of(type); h++) {
        const __m256 scales = _mm256_mul_ps(w->scale[h], x->scale);

#pragma GCC unroll 4
        for (uint32_t g = 0; g < GROUPS; g++) {
            const int a = (int)(2 * g), b = a + 1;
            const __m256 spread =
                _mm256_permutevar8x32_ps(scales, _mm256_setr_epi32(a, a, a, a, b, b, b, b));

            sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(product(w, x, g, h, type)), spread, sum);
        }
        if (flin_quants_less(type)) sum = _mm256_fnmadd_ps(w->less[h], x->less[h], sum);
    }
    return sum;
}

/* Eight rows, and where in them a unit lies and what to ask for meanwhile. */
typedef struct place {
    const void *const *row, *const *soon;
    uint64_t at, soon_at;
} place;

INLINE place place_of(const void *const row[8], const void *const next[8], uint64_t at,
                      uint64_t ahead, uint64_t row_bytes)
{
    const uint64_t soon = at + ahead;

    return (place){row, soon < row_bytes ? row : next, at,
                   soon < row_bytes ? soon : soon - row_bytes};
}

INLINE void ask_unit(const uint8_t *at, uint64_t bytes)
{
#pragma GCC unroll 4
    for (uint64_t line = 0; line < bytes; line += 64)
        _mm_prefetch((const char *)at + line, _MM_HINT_T0);
}

/* A unit of eight rows with all inputs. x: what is left of the inputs, `left` groups; sum:
   (inputs, 8) */
INLINE void multiply8(const place *where, const levels *const *x, uint32_t left, uint32_t inputs,
                      __m256 (*sum)[FLIN_VIEW_SIDE], type_t type)
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

INLINE void dots_all(const flin_view *rows, uint32_t cols, const void *const *x, uint32_t inputs,
                     float *const *y, type_t type)
{
    const uint64_t bytes = flin_quants_unit_bytes(type), row_bytes = flin_type_bytes(type, cols);
    const uint64_t ahead = AHEAD_BYTES < row_bytes ? AHEAD_BYTES : row_bytes;

    for (uint32_t round = 0; round < flin_view_rounds(rows); round++) {
        const void *row[FLIN_VIEW_SIDE], *next[FLIN_VIEW_SIDE], *last[FLIN_VIEW_SIDE];
        uint8_t copies[FLIN_VIEW_SIDE][FLIN_QUANTS_LAST_MAX];
        uint32_t left = (cols + GROUP * FLIN_BLOCK - 1) / (GROUP * FLIN_BLOCK);
        const levels *from[FLIN_INPUTS_MAX];
        __m256 sum[FLIN_INPUTS_MAX][FLIN_VIEW_SIDE];

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

/* --------------------------------------------------------------------------------- conversions */

/* What a unit is in memory. */
typedef struct laid {
    uint8_t bytes[GROUPS][2][32];
    float scale[2][8], less[2][8];
} laid;

/* Eight floats, from element 8 k on of piece p. */
INLINE void put_eight(const laid *from, uint32_t p, uint32_t k, float *to, type_t type)
{
    const uint32_t h = flin_quants_halved(type) ? k / 2 : 0;
    const uint8_t *bytes = from->bytes[p / 2][k / 2] + 16 * (p % 2) + 8 * (k % 2);
    const __m128i eight = _mm_loadl_epi64((const __m128i *)(const void *)bytes);
    const __m256i wide =
        in_sixteen(type) ? _mm256_cvtepi8_epi32(eight) : _mm256_cvtepu8_epi32(eight);
    const __m256i level = _mm256_sub_epi32(wide, _mm256_set1_epi32(bias_of(type)));
    const __m256 value = _mm256_cvtepi32_ps(level), scale = _mm256_set1_ps(from->scale[h][p]);

    _mm256_storeu_ps(to + 8 * k,
                     flin_quants_less(type)
                         ? _mm256_fmsub_ps(value, scale, _mm256_set1_ps(from->less[h][p]))
                         : _mm256_mul_ps(value, scale));
}

INLINE void put_unit(const uint8_t *at, float *to, type_t type)
{
    const unit from = load_unit(at, type);
    laid there;

    memcpy(there.bytes, from.bytes, sizeof there.bytes);
#pragma GCC unroll 2
    for (uint32_t h = 0; h < halves_of(type); h++) {
        _mm256_storeu_ps(there.scale[h], from.scale[h]);
        if (flin_quants_less(type)) _mm256_storeu_ps(there.less[h], from.less[h]);
    }
#pragma GCC unroll 1
    for (uint32_t p = 0; p < 2 * GROUPS; p++)
#pragma GCC unroll 4
        for (uint32_t k = 0; k < 4; k++) put_eight(&there, p, k, to + p * FLIN_BLOCK, type);
}

/* What is left of a row goes by way of a whole unit. */
INLINE void to_float(const void *row, uint32_t cols, float *to, type_t type)
{
    const uint32_t step = 2 * GROUPS * FLIN_BLOCK;
    uint8_t last[FLIN_QUANTS_LAST_MAX] = {0};
    float floats[2 * GROUPS * FLIN_BLOCK];
    const uint8_t *at = row;

    for (uint32_t left = cols; left != 0; at += flin_quants_unit_bytes(type)) {
        const uint32_t here = left < step ? left : step;
        const int whole = flin_quants_super(type) || here == step;

        if (!whole) memcpy(last, at, flin_type_bytes(type, here));
        put_unit(whole ? at : last, whole ? to : floats, type);
        if (!whole) memcpy(to, floats, here * sizeof *to);
        left -= here;
        to += here;
    }
}

/* One input by the code of several: levels come from memory anyway. */
#define KERNELS_OF(name, type)                                                                     \
    static void dots_##name(const flin_view *rows, uint32_t cols, const void *const *x,            \
                            uint32_t inputs, float *const *y)                                      \
    {                                                                                              \
        dots_all(rows, cols, x, inputs, y, type);                                                  \
    }                                                                                              \
    static void dot_##name(const flin_view *rows, uint32_t cols, const void *x, float *y)          \
    {                                                                                              \
        dots_all(rows, cols, &x, 1, &y, type);                                                     \
    }                                                                                              \
    void flin_avx2_to_float_##name(const void *row, uint32_t cols, float *to)                      \
    {                                                                                              \
        to_float(row, cols, to, type);                                                             \
    }                                                                                              \
    FLIN_VIEW_KERNELS(avx2, name, type)

FLIN_EACH_QUANT(KERNELS_OF);
