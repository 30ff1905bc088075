/*
 * avx512/quants.h - blocks of quants.h as vectors, for products and conversions.
 *
 * Owns: bytes and scales of a unit: a block of 256 elements, or eight of 32. Refuses: sums; rows
 * that end with less than a unit, which are copied (inputs.h). The type argument is a
 * constant wherever these are inlined.
 *
 * Bytes come in the order of levels (avx512/levels.h), in two groups of four times 32 elements:
 * elements 0 to 15 of each, then 16 to 31.
 */
#ifndef FLIN_KERNELS_AVX512_QUANTS_H
#define FLIN_KERNELS_AVX512_QUANTS_H

#include "kernels/avx512/shared.h"
#include "kernels/quants.h"

#define GROUPS 2u /* of a unit */
#define GROUP 4u  /* times 32 elements */

typedef struct unit {
    __m512i bytes[2][2]; /* (group, half): levels and flin_quants_bias() */
    /* Each 32 elements have a scale: lanes 0 to 7 of scale, and 8 to 15 what is taken off. Each
       16: lanes 0 to 7 those of first halves, 8 to 15 of second ones, the same in less. */
    __m512 scale, less;
} unit;

INLINE __m128i load128(const uint8_t *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

/* Once: a compiler that makes it an operand of several instructions loads lines that these bytes
   straddle again and again. */
INLINE __m512i load512(const uint8_t *at)
{
    __m512i bytes = _mm512_loadu_si512(at);

    __asm__("" : "+v"(bytes));
    return bytes;
}

/* 16 bytes four times. */
INLINE __m512i four_times16(const uint8_t *at)
{
    return _mm512_broadcast_i32x4(load128(at));
}

INLINE __m512i nibbles(__m512i bytes)
{
    return _mm512_and_si512(bytes, _mm512_set1_epi8(15));
}

INLINE __m512i upper_nibbles(__m512i bytes)
{
    return nibbles(_mm512_srli_epi16(bytes, 4));
}

/* Four integers, each four times. */
INLINE __m512i by_block(int a, int b, int c, int d)
{
    return _mm512_setr_epi32(a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d);
}

/* A bit of every byte, another for each of the four times 32 elements, is worth `value`. */
INLINE __m512i add_bits(__m512i bytes, __m512i bits, uint32_t group, int value)
{
    const int first = group == 0 ? 0x01010101 : 0x10101010;
    const __m512i which = by_block(first, first * 2, first * 4, (int)((uint32_t)first * 8));

    return _mm512_mask_add_epi8(bytes, _mm512_test_epi8_mask(bits, which), bytes,
                                _mm512_set1_epi8((char)value));
}

INLINE __m512 floats_of(flin_sixteen bytes)
{
    return _mm512_cvtepi32_ps(
        _mm512_cvtepu8_epi32(_mm_set_epi64x((long long)bytes.high, (long long)bytes.low)));
}

INLINE __m512 half_times16(const uint8_t *at)
{
    uint16_t half;

    memcpy(&half, at, sizeof half);
    return _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
}

/* 16 bytes: those of even places, then the others. */
INLINE __m128i parted(__m128i bytes)
{
    return _mm_shuffle_epi8(bytes,
                            _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
}

/* ------------------------------------------------------------------------------- blocks of 256 */

/* Lower and upper nibbles of 64 bytes are elements 0 to 31 of two pieces, then of two more. */
INLINE void load_pairs(const uint8_t *levels, __m512i to[2])
{
    const __m512i raw = load512(levels);
    const __m512i low = nibbles(raw), high = upper_nibbles(raw);

    to[0] = _mm512_mask_shuffle_i64x2(low, 0xcc, high, high, 0xa0);
    to[1] = _mm512_mask_shuffle_i64x2(high, 0x33, low, low, 0xf5);
}

/* Both scales of a block, eight times each, times eight sub-scales each. */
INLINE __m512 load_subs(const uint8_t *block)
{
    const __m512i lane = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const __m128 both = _mm_cvtph_ps(_mm_cvtsi32_si128((int)flin_quants_u32(block)));

    return _mm512_mul_ps(_mm512_permutexvar_ps(lane, _mm512_castps128_ps512(both)),
                         floats_of(flin_q4_k_subs(block + FLIN_Q4_K_SUBS)));
}

INLINE void load_q4_k(const uint8_t *block, unit *to)
{
    load_pairs(block + FLIN_Q4_K_LEVELS, to->bytes[0]);
    load_pairs(block + FLIN_Q4_K_LEVELS + 64, to->bytes[1]);
    to->scale = load_subs(block);
}

INLINE void load_q5_k(const uint8_t *block, unit *to)
{
#pragma GCC unroll 2
    for (uint32_t g = 0; g < 2; g++) {
        load_pairs(block + FLIN_Q5_K_LEVELS + 64 * g, to->bytes[g]);
#pragma GCC unroll 2
        for (uint32_t h = 0; h < 2; h++)
            to->bytes[g][h] =
                add_bits(to->bytes[g][h], four_times16(block + FLIN_Q5_K_FIFTH + 16 * h), g, 16);
    }
    to->scale = load_subs(block);
}

INLINE void load_q6_k(const uint8_t *block, unit *to)
{
    const __m512i left = by_block(4, 2, 0, 30), upper = _mm512_set1_epi8(0x30);
    const __m128i subs = parted(load128(block + FLIN_Q6_K_SUBS));

#pragma GCC unroll 2
    for (uint32_t g = 0; g < 2; g++) {
        const __m512i raw = load512(block + 64 * g);
        const __m512i low = nibbles(raw), high = upper_nibbles(raw);
        const __m512i four[2] = {_mm512_shuffle_i64x2(low, high, 0x88),
                                 _mm512_shuffle_i64x2(low, high, 0xdd)};

#pragma GCC unroll 2
        for (uint32_t h = 0; h < 2; h++) {
            const __m512i two =
                _mm512_rolv_epi32(four_times16(block + FLIN_Q6_K_UPPER + 32 * g + 16 * h), left);
            to->bytes[g][h] = _mm512_ternarylogic_epi32(four[h], two, upper, 0xf8); /* a | b & c */
        }
    }
    to->scale = _mm512_mul_ps(half_times16(block + FLIN_Q6_K_SCALE),
                              _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(subs)));
}

/* Two bits of each byte for each of four pieces. */
INLINE __m512i load_twos(const uint8_t *levels)
{
    return _mm512_and_si512(_mm512_srlv_epi32(four_times16(levels), by_block(0, 2, 4, 6)),
                            _mm512_set1_epi8(3));
}

INLINE void load_q2_k(const uint8_t *block, unit *to)
{
    const __m512i subs = _mm512_cvtepu8_epi32(parted(load128(block)));
    const __m512i nibble = _mm512_set1_epi32(15);

#pragma GCC unroll 4
    for (uint32_t k = 0; k < 4; k++)
        to->bytes[k / 2][k % 2] = load_twos(block + FLIN_Q2_K_LEVELS + 16 * k);
    to->scale = _mm512_mul_ps(half_times16(block + FLIN_Q2_K_SCALE),
                              _mm512_cvtepi32_ps(_mm512_and_si512(subs, nibble)));
    to->less = _mm512_mul_ps(half_times16(block + FLIN_Q2_K_LESS),
                             _mm512_cvtepi32_ps(_mm512_srli_epi32(subs, 4)));
}

INLINE void load_q3_k(const uint8_t *block, unit *to)
{
    const flin_sixteen packed = flin_q3_k_subs(block + FLIN_Q3_K_SUBS);
    const __m128i bytes = _mm_set_epi64x((long long)packed.high, (long long)packed.low);
    const __m512i subs =
        _mm512_sub_epi32(_mm512_cvtepu8_epi32(parted(bytes)), _mm512_set1_epi32(32));

#pragma GCC unroll 4
    for (uint32_t k = 0; k < 4; k++)
        to->bytes[k / 2][k % 2] = add_bits(load_twos(block + FLIN_Q3_K_LEVELS + 16 * k),
                                           four_times16(block + 16 * (k % 2)), k / 2, 4);
    to->scale = _mm512_mul_ps(half_times16(block + FLIN_Q3_K_SCALE), _mm512_cvtepi32_ps(subs));
}

/* The bytes of IQ4's and MXFP4's levels. */
INLINE __m512i looked_up(__m512i index, type_t type)
{
    const __m128i iq4 = _mm_setr_epi8(FLIN_IQ4_VALUES), mxfp4 = _mm_setr_epi8(FLIN_MXFP4_VALUES);
    const __m128i bias = _mm_set1_epi8((char)flin_quants_bias(type));
    const __m128i values = _mm_add_epi8(type == FLIN_MXFP4 ? mxfp4 : iq4, bias);

    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), index);
}

INLINE void load_iq4_xs(const uint8_t *block, unit *to)
{
    const flin_sixteen packed = {flin_iq4_xs_subs(block), 0};
    const __m512 subs = _mm512_sub_ps(floats_of(packed), _mm512_set1_ps(32));

#pragma GCC unroll 2
    for (uint32_t g = 0; g < 2; g++) {
        const __m512i raw = load512(block + FLIN_IQ4_XS_LEVELS + 64 * g);

        to->bytes[g][0] = looked_up(nibbles(raw), FLIN_IQ4_XS);
        to->bytes[g][1] = looked_up(upper_nibbles(raw), FLIN_IQ4_XS);
    }
    to->scale = _mm512_mul_ps(half_times16(block), subs);
}

/* -------------------------------------------------------------------------------- blocks of 32 */

INLINE __m512i load_levels_of(const uint8_t *first, type_t type)
{
    const uint32_t at = flin_quants_levels_at(type), bytes = at + 16;
    __m512i all = _mm512_castsi128_si512(load128(first + at));

    all = _mm512_inserti32x4(all, load128(first + bytes + at), 1);
    all = _mm512_inserti32x4(all, load128(first + 2 * bytes + at), 2);
    return _mm512_inserti32x4(all, load128(first + 3 * bytes + at), 3);
}

/* Four bytes of each of eight blocks, those where its scale is. */
INLINE __m256i load_heads(const uint8_t *first, type_t type)
{
    const uint32_t bytes = flin_quants_levels_at(type) + 16;
    uint64_t two[4];

#pragma GCC unroll 4
    for (uint32_t k = 0; k < 4; k++)
        two[k] = flin_quants_join(flin_quants_u32(first + 2 * k * bytes),
                                  flin_quants_u32(first + (2 * k + 1) * bytes));
    return _mm256_set_epi64x((long long)two[3], (long long)two[2], (long long)two[1],
                             (long long)two[0]);
}

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

INLINE __m512 load_scales_of(const uint8_t *first, type_t type)
{
    const __m512i lane = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    __m512 both;

    if (type == FLIN_MXFP4) return _mm512_zextps256_ps512(powers(first));
    both = _mm512_permutexvar_ps(lane, _mm512_cvtph_ps(load_heads(first, type)));
    if (!flin_quants_less(type)) return both;
    return _mm512_mask_xor_ps(both, 0xff00, both, _mm512_set1_ps(-0.0f)); /* added, in files */
}

/* The fifth bits of Q5 of four blocks: of their first halves, then of the second ones. */
INLINE void add_fifths(const uint8_t *first, __m512i bytes[2], type_t type)
{
    const uint32_t at = type == FLIN_Q5_0 ? FLIN_Q5_0_FIFTH : FLIN_Q5_1_FIFTH;
    const __m512i worth = _mm512_set1_epi8(16);
    uint64_t bits[2] = {0, 0};

#pragma GCC unroll 4
    for (uint32_t k = 0; k < GROUP; k++) {
        const uint32_t fifth = flin_quants_u32(first + k * (flin_quants_levels_at(type) + 16) + at);

        bits[0] |= (uint64_t)(fifth & 0xffffu) << 16 * k;
        bits[1] |= (uint64_t)(fifth >> 16) << 16 * k;
    }
#pragma GCC unroll 2
    for (uint32_t h = 0; h < 2; h++)
        bytes[h] = _mm512_mask_add_epi8(bytes[h], bits[h], bytes[h], worth);
}

INLINE void load_blocks(const uint8_t *first, unit *to, type_t type)
{
#pragma GCC unroll 2
    for (uint32_t g = 0; g < GROUPS; g++) {
        const uint8_t *four = first + g * GROUP * (flin_quants_levels_at(type) + 16);
        const __m512i raw = load_levels_of(four, type);
        __m512i *bytes = to->bytes[g];

        bytes[0] = nibbles(raw);
        bytes[1] = upper_nibbles(raw);
        if (type == FLIN_IQ4_NL || type == FLIN_MXFP4) {
            bytes[0] = looked_up(bytes[0], type);
            bytes[1] = looked_up(bytes[1], type);
        }
        if (type == FLIN_Q5_0 || type == FLIN_Q5_1) add_fifths(four, bytes, type);
    }
    to->scale = load_scales_of(first, type);
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

#endif
