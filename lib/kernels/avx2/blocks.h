/*
 * avx2/blocks.h - how levels lie in this overlay, and requests to memory.
 *
 * Owns: that layout. Refuses: arithmetic.
 */
#ifndef FLIN_KERNELS_AVX2_BLOCKS_H
#define FLIN_KERNELS_AVX2_BLOCKS_H

#include "kernels/avx2/shared.h"

#define GROUP 2u /* blocks */

/* A group's levels, 256 * high + low. Blocks beyond the last are zeros. */
typedef struct levels {
    int8_t high[2][32]; /* elements 0 to 15 of each block, 16 to 31 of each */
    int8_t low[2][32];
    int32_t start
        [8]; /* -8 times the sum of a lane's levels: what Q4_0's unsigned bytes have too much */
    float scale[2];
    float unused[6];
} levels;

_Static_assert(sizeof(levels) == 192, "flin_levels_bytes() has room for one begun group");

INLINE uint32_t block_bytes(type_t type)
{
    return type == FLIN_Q8_0 ? FLIN_Q8_0_BYTES : FLIN_Q4_0_BYTES;
}

INLINE void ask(const void *row, uint64_t at, type_t type)
{
    const char *soon = (const char *)row + at;

    _mm_prefetch(soon, _MM_HINT_T0);
    if (type == FLIN_Q8_0) _mm_prefetch(soon + 64, _MM_HINT_T0);
}

#endif
