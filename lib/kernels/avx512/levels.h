/*
 * avx512/levels.h - how levels lie in this overlay.
 *
 * Owns: the layout that avx512/blocks.c writes and avx512/blocks_dot.h reads. Refuses: arithmetic.
 */
#ifndef FLIN_KERNELS_AVX512_LEVELS_H
#define FLIN_KERNELS_AVX512_LEVELS_H

#include <stdint.h>

/* A group's levels, 256 * high + low: lane 4 k + j of 32 bits has bytes 4 j to 4 j + 3 of block
   k. Blocks beyond the last are zeros. */
typedef struct flin_avx512_levels {
    int8_t high[2][64]; /* elements 0 to 15 of each block, 16 to 31 of each */
    int8_t low[2][64];
    int32_t start
        [16]; /* -8 times the sum of a lane's levels: what Q4_0's unsigned bytes have too much */
    float scale[4];
    float unused[12];
} flin_avx512_levels;

_Static_assert(sizeof(flin_avx512_levels) == 384,
               "flin_levels_bytes() has room for one begun group");

#endif
