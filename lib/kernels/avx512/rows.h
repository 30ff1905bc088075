/*
 * avx512/rows.h - elements of rows of floats, float16 and bfloat16 as vectors.
 *
 * Owns: loads and requests to memory. Refuses: sums. The type argument is a constant wherever these
 * are inlined.
 */
#ifndef FLIN_KERNELS_AVX512_ROWS_H
#define FLIN_KERNELS_AVX512_ROWS_H

#include "kernels/avx512/shared.h"

#define STEP 32u /* elements a row advances by per round of a loop */

INLINE uint64_t bytes_of(uint64_t elements, type_t type)
{
    return elements * (type == FLIN_F32 ? sizeof(float) : sizeof(uint16_t));
}

INLINE const uint8_t *element_at(const void *matrix, uint64_t c, type_t type)
{
    return (const uint8_t *)matrix + bytes_of(c, type);
}

/* bfloat16 is the upper half of a float. */
INLINE __m512 widened(__m256i halves, type_t type)
{
    if (type == FLIN_F16) return _mm512_cvtph_ps(halves);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

INLINE __m512 load16(const void *row, uint64_t c, type_t type)
{
    const uint8_t *at = element_at(row, c, type);

    if (type == FLIN_F32) return _mm512_loadu_ps(at);
    return widened(_mm256_loadu_si256((const __m256i *)(const void *)at), type);
}

INLINE __m512 load_tail(const void *row, uint32_t c, __mmask16 mask, type_t type)
{
    const uint8_t *at = element_at(row, c, type);

    if (type == FLIN_F32) return _mm512_maskz_loadu_ps(mask, at);
    return widened(_mm256_maskz_loadu_epi16(mask, at), type);
}

/* Ask for the 32 elements at c of a row that will be worked on soon. */
INLINE void prefetch32(const void *row, uint64_t c, type_t type)
{
    const char *at = (const char *)element_at(row, c, type);

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
