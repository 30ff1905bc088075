/*
 * sketch/sketch.h - a low-bit copy of the up (gate) matrix that stays in memory and names the
 * neurons likely to fire.
 *
 * Owns: the tile layout, quantisation of the input (run time), the score. Refuses: files, threads,
 * making and checking sketches (predictor/), deciding what happens with the names.
 *
 * A weight is row_scale * block_scale * level: row_scale a float per neuron, block_scale an integer
 * per neuron and FLIN_SKETCH_BLOCK inputs, level one of 2^bits values of flin_sketch_levels. The
 * input is int8. So a neuron's sum is one of integers, exact in any order: every machine and every
 * kernel names the same neurons.
 *
 * Tile: FLIN_SKETCH_TILE_ROWS neurons side by side, one per 32-bit vector lane.
 *
 *     float   row_scale[16]
 *     uint8_t block_scale[blocks][16]     then zeros up to a multiple of 64 bytes
 *     uint8_t planes[blocks][bits][64]    byte 4 * row + c % 4 holds inputs c of the block,
 *                                         four in a group: g = c / 4
 *         1 bit:   plane 0      bit g
 *         2 bits:  plane g / 4  from bit 2 * (g % 4)
 *         4 bits:  plane g / 2  from bit 4 * (g % 2)
 *         3 bits:  plane g / 2  from bit 3 * (g % 2)   for groups 0 to 5
 *                  plane 0 or 1 from bit 6             groups 6 and 7, their low two bits
 *                  plane 2      bit 6 or 7             groups 6 and 7, their high bit
 */
#ifndef FLIN_KERNELS_SKETCH_SKETCH_H
#define FLIN_KERNELS_SKETCH_SKETCH_H

#include <stdint.h>

#define FLIN_SKETCH_TILE_ROWS 16u
#define FLIN_SKETCH_BLOCK 32u       /* inputs that share a block scale */
#define FLIN_SKETCH_COLS_MAX 65536u /* sums of 4-bit levels fit 32 bits up to here */

/* One layer's sketch as it lies in memory and in the file. */
typedef struct flin_sketch {
    uint32_t rows; /* neurons */
    uint32_t cols; /* inputs d */
    uint32_t bits; /* 1 to 4 */
    uint32_t reserved;
    const uint8_t *tiles; /* (flin_sketch_bytes()), best 64-byte aligned: blk.N.ffn_sketch.weight */
    const float *bias;    /* (rows): predicted if score + bias > 0: blk.N.ffn_sketch.bias */
    const float *column_scale; /* (cols): multiplies the input: blk.N.ffn_sketch.scale */
} flin_sketch;

/* Bytes of the tiles of a layer; rows and cols are padded to whole tiles and blocks. 0 for a cols
   or bits that no sketch can have. */
uint64_t flin_sketch_bytes(uint32_t rows, uint32_t cols, uint32_t bits);

/* Bytes of one tile (FLIN_SKETCH_TILE_ROWS neurons). */
uint64_t flin_sketch_tile_bytes(uint32_t cols, uint32_t bits);

struct flin_kernels;

/* masks[i] = kernels->sketch_mask of levels[i] and scales[i] over rows [begin, end), for several
   inputs that read the tiles from memory once. levels, scales, masks: (inputs) */
void flin_sketch_masks(const struct flin_kernels *kernels, const flin_sketch *sketch,
                       const int8_t *const *levels, const float *scales, uint32_t inputs,
                       uint32_t begin, uint32_t end, uint64_t *const *masks);

/* The same by a table's sketch_mask: one input after the other over rows whose tiles stay in a
   core's cache. */
typedef void flin_sketch_mask_of(const flin_sketch *sketch, const int8_t *levels, float scale,
                                 uint32_t begin, uint32_t end, uint64_t *mask);

void flin_sketch_masks_in_turn(flin_sketch_mask_of *mask_of, const flin_sketch *sketch,
                               const int8_t *const *levels, const float *scales, uint32_t inputs,
                               uint32_t begin, uint32_t end, uint64_t *const *masks);

/* ------------------------------------------------ for kernels, predictor/sketch_make.c, tests */

/* [bits - 1][index], ascending; each row repeats with period 2^bits. Subtract flin_sketch_zero[bits
 * - 1]. */
extern const uint8_t flin_sketch_levels[4][16];
extern const uint8_t flin_sketch_zero[4];

/* Kernels sum this many tiles at a time, each from a run of its own: so many streams keep memory
   busy where one does not. */
#define FLIN_SKETCH_SIDES 4u

/* How far ahead of what is summed kernels ask for a tile. */
#define FLIN_SKETCH_AHEAD_BYTES 1024

/* With each block of a tile, as many lines as its planes are, and with every fourth one for four
   blocks' scales: all of a tile but its first line. So the next tile's scales have been asked
   for when a tile ends. first: the tile's planes. */
static inline void flin_sketch_ahead(const uint8_t *first, uint32_t bits, uint32_t block)
{
    const uint8_t *at = first + FLIN_SKETCH_AHEAD_BYTES + 64 * (uint64_t)(block * bits + block / 4);

    for (uint32_t line = 0; line < bits; line++) __builtin_prefetch(at + 64 * line);
    if (block % 4 == 3) __builtin_prefetch(at + 64 * (uint64_t)bits);
}

uint32_t flin_sketch_blocks(uint32_t cols);        /* blocks of a row */
uint64_t flin_sketch_scale_bytes(uint32_t blocks); /* of a tile's block scales, padding included */

/* One block of a tile: index[row][c], each below 2^bits, to planes (bits * 64 bytes), and back. */
void flin_sketch_block_pack(uint32_t bits, uint8_t index[FLIN_SKETCH_TILE_ROWS][FLIN_SKETCH_BLOCK],
                            uint8_t *planes);
void flin_sketch_block_unpack(uint32_t bits, const uint8_t *planes,
                              uint8_t index[FLIN_SKETCH_TILE_ROWS][FLIN_SKETCH_BLOCK]);

/* The sums of a tile of every side: sums[side][row] = sum over blocks of block_scale * (level .
   input), modulo 2^32. start: (blocks) -flin_sketch_zero * sum of the block's input, so that a
   kernel may sum unshifted levels. */
typedef void (*flin_sketch_tile_sums)(const uint8_t *const tile[FLIN_SKETCH_SIDES], uint32_t blocks,
                                      const int8_t *levels, const int32_t *start,
                                      int32_t sums[FLIN_SKETCH_SIDES][FLIN_SKETCH_TILE_ROWS]);

/* The mask of rows [begin, end), see flin_kernels.sketch_mask, over a kernel's own tile sums. */
void flin_sketch_mask_by(flin_sketch_tile_sums tile_sums, const flin_sketch *sketch,
                         const int8_t *levels, float scale, uint32_t begin, uint32_t end,
                         uint64_t *mask);

/* The same of `inputs` inputs, FLIN_SKETCH_INPUTS at most: each tile's levels are looked up once.
   levels, start: (inputs); sums: (inputs, sides) */
#define FLIN_SKETCH_INPUTS 4u

typedef void (*flin_sketch_tile_sums_of)(
    const uint8_t *const tile[FLIN_SKETCH_SIDES], uint32_t blocks, const int8_t *const *levels,
    const int32_t *const *start,
    int32_t sums[FLIN_SKETCH_INPUTS][FLIN_SKETCH_SIDES][FLIN_SKETCH_TILE_ROWS]);

/* The masks of rows [begin, end), see flin_kernels.sketch_masks. */
void flin_sketch_masks_by(flin_sketch_tile_sums_of tile_sums, const flin_sketch *sketch,
                          const int8_t *const *levels, const float *scales, uint32_t inputs,
                          uint32_t begin, uint32_t end, uint64_t *const *masks);

/* The scores of rows [begin, end), see flin_kernels.sketch_scores, likewise. */
void flin_sketch_scores_by(flin_sketch_tile_sums tile_sums, const flin_sketch *sketch,
                           const int8_t *levels, float scale, uint32_t begin, uint32_t end,
                           float *scores);

#endif
