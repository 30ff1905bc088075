/*
 * apart.h - Q4_0 rows in memory with scales apart from weights. In GGUF's blocks 16 bytes of
 * weights begin every 18 bytes, so vectors have to be put together out of four loads; apart they
 * are one load, and half as much arithmetic.
 *
 * Owns: the layout, turning rows into it. Refuses: products, files (which have blocks), deciding
 * which rows.
 *
 * A row is as long as it was: spans of FLIN_APART_BLOCKS blocks, the last of what is left; in each
 * the scales of all its blocks, then 16 bytes of weights of each.
 */
#ifndef FLIN_KERNELS_APART_H
#define FLIN_KERNELS_APART_H

#include "kernels/kernels.h"

#define FLIN_APART_BLOCKS 32u
#define FLIN_APART_BYTES (FLIN_APART_BLOCKS * FLIN_Q4_0_BYTES) /* of a whole span */

/* Where a block's scale and weights are. */
typedef struct flin_apart_block {
    const uint8_t *scale, *weights;
} flin_apart_block;

/* blocks: of the row */
static inline flin_apart_block flin_apart_at(const void *row, uint32_t blocks, uint32_t block)
{
    const uint32_t at = block % FLIN_APART_BLOCKS, first = block - at;
    const uint32_t count = blocks - first < FLIN_APART_BLOCKS ? blocks - first : FLIN_APART_BLOCKS;
    const uint8_t *span = (const uint8_t *)row + (uint64_t)first * FLIN_Q4_0_BYTES;

    return (flin_apart_block){span + 2 * at, span + 2 * count + 16 * at};
}

/* Rows (count, cols) of blocks become rows whose scales lie apart, in place. */
void flin_apart_rows(void *rows, uint32_t count, uint32_t cols);

#endif
