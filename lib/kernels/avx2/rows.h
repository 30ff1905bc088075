/*
 * avx2/rows.h - elements of rows of floats, float16 and bfloat16 as vectors.
 *
 * Owns: loads and requests to memory. Refuses: sums. The type argument is a constant wherever these
 * are inlined.
 */
#ifndef FLIN_KERNELS_AVX2_ROWS_H
#define FLIN_KERNELS_AVX2_ROWS_H

#include "kernels/avx2/shared.h"

#define STEP 32u /* elements a row advances by per round of a loop */

INLINE uint64_t bytes_of(uint64_t elements, type_t type)
{
    return elements * (type == FLIN_F32 ? sizeof(float) : sizeof(uint16_t));
}

INLINE const void *element_at(const void *matrix, uint64_t c, type_t type)
{
    return (const uint8_t *)matrix + bytes_of(c, type);
}

/* bfloat16 is the upper half of a float. */
INLINE __m256 widened(__m128i halves, type_t type)
{
    if (type == FLIN_F16) return _mm256_cvtph_ps(halves);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

INLINE __m256 load8(const void *row, uint32_t c, type_t type)
{
    const void *at = element_at(row, c, type);

    if (type == FLIN_F32) return _mm256_loadu_ps(at);
    return widened(_mm_loadu_si128(at), type);
}

/* The elements of [c, end), fewer than 8; other lanes are 0. */
INLINE __m256 load_tail(const void *row, uint32_t c, uint32_t end, type_t type)
{
    const void *at = element_at(row, c, type);
    uint16_t halves[LANES] = {0};

    if (type == FLIN_F32) return _mm256_maskload_ps(at, tail_mask(end - c));
    memcpy(halves, at, (end - c) * sizeof halves[0]);
    return widened(_mm_loadu_si128((const void *)halves), type);
}

/* Up to 8 elements of [c, end). */
INLINE __m256 load_part(const void *row, uint32_t c, uint32_t end, type_t type)
{
    return end - c >= LANES ? load8(row, c, type) : load_tail(row, c, end, type);
}

/* Ask for the 32 elements at c of a row that will be worked on soon. */
INLINE void prefetch32(const void *row, uint32_t c, type_t type)
{
    const char *at = element_at(row, c, type);

    _mm_prefetch(at, _MM_HINT_T0);
    if (type == FLIN_F32) _mm_prefetch(at + 64, _MM_HINT_T0);
}

/* Elements between the place worked on and the place asked for; beyond the end of a row it is the
   next one's start. */
INLINE uint32_t elements_ahead(uint32_t cols, type_t type)
{
    const uint32_t ahead = AHEAD_BYTES / (uint32_t)bytes_of(1, type);

    return ahead < cols ? ahead : cols;
}

#endif
