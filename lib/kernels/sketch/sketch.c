/*
 * sketch/sketch.c - reading a sketch: sizes, the input's levels, the reference score. sketch.h has
 * the layout.
 *
 * Owns: what the bytes mean. Refuses: making them (predictor/sketch_make.c), deciding whether they
 * may be used (predictor/sketch.c), speed (the other files here).
 */
#include "kernels/sketch/sketch.h"
#include "kernels/sketch/input.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

#define ROWS FLIN_SKETCH_TILE_ROWS
#define SIDES FLIN_SKETCH_SIDES
#define BLOCK FLIN_SKETCH_BLOCK
#define GROUPS (BLOCK / 4)
#define PLANE_BYTES 64u

/* The values that leave the least squared error on blocks of Gaussian weights, rounded to small
   integers: +-1;
   +-(2, 7); +-(2, 6, 11, 18); +-(2, 6, 10, 14, 19, 24, 30, 39). */
const uint8_t flin_sketch_levels[4][16] = {
    {0, 2, 0, 2, 0, 2, 0, 2, 0, 2, 0, 2, 0, 2, 0, 2},
    {0, 5, 9, 14, 0, 5, 9, 14, 0, 5, 9, 14, 0, 5, 9, 14},
    {0, 7, 12, 16, 20, 24, 29, 36, 0, 7, 12, 16, 20, 24, 29, 36},
    {0, 9, 15, 20, 25, 29, 33, 37, 41, 45, 49, 53, 58, 63, 69, 78},
};
const uint8_t flin_sketch_zero[4] = {1, 7, 18, 39};

/* -------------------------------------------------------------------------------------- layout */

uint32_t flin_sketch_blocks(uint32_t cols)
{
    return (uint32_t)(((uint64_t)cols + BLOCK - 1) / BLOCK);
}

uint64_t flin_sketch_scale_bytes(uint32_t blocks)
{
    return ((uint64_t)blocks * ROWS + 63) / 64 * 64;
}

uint64_t flin_sketch_tile_bytes(uint32_t cols, uint32_t bits)
{
    uint32_t blocks = flin_sketch_blocks(cols);

    if (cols == 0 || cols > FLIN_SKETCH_COLS_MAX || bits < 1 || bits > 4) return 0;
    return ROWS * sizeof(float) + flin_sketch_scale_bytes(blocks) +
           (uint64_t)blocks * bits * PLANE_BYTES;
}

uint64_t flin_sketch_bytes(uint32_t rows, uint32_t cols, uint32_t bits)
{
    return ((uint64_t)rows + ROWS - 1) / ROWS * flin_sketch_tile_bytes(cols, bits);
}

/* The third bits of groups 6 and 7 of a 3-bit block lie apart from their low two. */
typedef struct place {
    uint32_t plane, shift, width;
    uint32_t high_shift; /* in plane 2; 0: the group is whole */
} place;

static place group_place(uint32_t bits, uint32_t group)
{
    uint32_t in_byte = 8 / bits;

    if (bits == 3 && group >= 6) return (place){group - 6, 6, 2, group};
    return (place){group / in_byte, group % in_byte * bits, bits, 0};
}

void flin_sketch_block_pack(uint32_t bits, uint8_t index[ROWS][BLOCK], uint8_t *planes)
{
    memset(planes, 0, bits * PLANE_BYTES);
    for (uint32_t group = 0; group < GROUPS; group++) {
        place at = group_place(bits, group);
        for (uint32_t i = 0; i < PLANE_BYTES; i++) {
            uint32_t value = index[i / 4][4 * group + i % 4];
            uint32_t low = value & ((1u << at.width) - 1);
            planes[at.plane * PLANE_BYTES + i] |= (uint8_t)(low << at.shift);
            if (at.high_shift != 0)
                planes[2 * PLANE_BYTES + i] |= (uint8_t)(value >> 2 << at.high_shift);
        }
    }
}

void flin_sketch_block_unpack(uint32_t bits, const uint8_t *planes, uint8_t index[ROWS][BLOCK])
{
    for (uint32_t group = 0; group < GROUPS; group++) {
        place at = group_place(bits, group);
        for (uint32_t i = 0; i < PLANE_BYTES; i++) {
            uint32_t value = planes[at.plane * PLANE_BYTES + i] >> at.shift;
            value &= (1u << at.width) - 1;
            if (at.high_shift != 0)
                value |= (planes[2 * PLANE_BYTES + i] >> at.high_shift & 1u) << 2;
            index[i / 4][4 * group + i % 4] = (uint8_t)value;
        }
    }
}

/* --------------------------------------------------------------------------------------- input */

float flin_sketch_input(const flin_sketch *sketch, const float *x, int8_t *levels)
{
    return flin_sketch_input_here(sketch, x, levels);
}

/* --------------------------------------------------------------------------------------- score */

/* A product, and no sum: nothing to fuse. */
static float score_of(int32_t sum, float row_scale, float scale)
{
    return (float)sum * (row_scale * scale);
}

/* Bits of the tile's rows that are predicted, without branches and variable shifts: a compiler
   vectorises this. */
static uint32_t fired(const flin_sketch *sketch, const uint8_t *tile, uint32_t first,
                      uint32_t count, const int32_t *restrict sums, float scale)
{
    static const uint32_t bit[ROWS] = {0x1,   0x2,   0x4,   0x8,   0x10,   0x20,   0x40,   0x80,
                                       0x100, 0x200, 0x400, 0x800, 0x1000, 0x2000, 0x4000, 0x8000};
    float row_scale[ROWS], bias[ROWS];
    uint32_t bits = 0;

    for (uint32_t r = count; r < ROWS; r++) bias[r] = -INFINITY;
    memcpy(row_scale, tile, sizeof row_scale);
    memcpy(bias, sketch->bias + first, count * sizeof *bias);
    for (uint32_t r = 0; r < ROWS; r++)
        bits |= bit[r] & -(uint32_t)(score_of(sums[r], row_scale[r], scale) > -bias[r]);
    return bits;
}

/* The sum of eight levels: bytes made positive, added as pairs, as four numbers of 16 bits. */
static uint64_t pairs_of(const int8_t *levels)
{
    const uint64_t even = 0x00ff00ff00ff00ffu;
    uint64_t bytes;

    memcpy(&bytes, levels, sizeof bytes);
    bytes ^= 0x8080808080808080u; /* 128 more each */
    return (bytes & even) + (bytes >> 8 & even);
}

/* start: (blocks), see flin_sketch_tile_sums. Every thread does this for every part: it must not
   take long. */
static void make_start(const flin_sketch *sketch, uint32_t blocks, const int8_t *restrict levels,
                       int32_t *restrict start)
{
    const int32_t zero = flin_sketch_zero[sketch->bits - 1];

    for (uint32_t block = 0; block < blocks; block++, levels += BLOCK) {
        uint64_t pairs = 0;
        for (uint32_t i = 0; i < BLOCK; i += 8) pairs += pairs_of(levels + i);
        start[block] =
            ((int32_t)(pairs * 0x0001000100010001u >> 48) - 128 * (int32_t)BLOCK) * -zero;
    }
}

/* The tiles of some rows, as sides of equal length; the last tile stands in for those beyond the
   end. */
typedef struct sides {
    const uint8_t *tiles;
    uint64_t tile_bytes;
    uint32_t first, count, rounds;
} sides;

static sides sides_of(const flin_sketch *sketch, uint32_t begin, uint32_t end)
{
    const uint32_t first = begin / ROWS, count = (end + ROWS - 1) / ROWS - first;

    return (sides){sketch->tiles, flin_sketch_tile_bytes(sketch->cols, sketch->bits), first, count,
                   (count + SIDES - 1) / SIDES};
}

static uint32_t tile_at(const sides *of, uint32_t round, uint32_t side)
{
    const uint32_t at = side * of->rounds + round;

    return of->first + (at < of->count ? at : of->count - 1);
}

static void gather(const sides *of, uint32_t round, const uint8_t *tile[SIDES])
{
    for (uint32_t side = 0; side < SIDES; side++)
        tile[side] = of->tiles + tile_at(of, round, side) * of->tile_bytes;
}

/* The bits of a round's tiles. */
static void put_fired(const flin_sketch *sketch, const sides *all, uint32_t round,
                      const uint8_t *const tile[SIDES], int32_t sums[SIDES][ROWS], float scale,
                      uint32_t end, uint64_t *mask)
{
    for (uint32_t side = 0; side < SIDES; side++) {
        const uint32_t row = tile_at(all, round, side) * ROWS;
        const uint32_t count = end - row < ROWS ? end - row : ROWS;
        const uint64_t bits = fired(sketch, tile[side], row, count, sums[side], scale);
        mask[row / 64] |= bits << row % 64;
    }
}

void flin_sketch_mask_by(flin_sketch_tile_sums tile_sums, const flin_sketch *sketch,
                         const int8_t *levels, float scale, uint32_t begin, uint32_t end,
                         uint64_t *mask)
{
    const uint32_t blocks = flin_sketch_blocks(sketch->cols);
    const sides all = sides_of(sketch, begin, end);
    int32_t start[FLIN_SKETCH_COLS_MAX / BLOCK], sums[SIDES][ROWS];
    const uint8_t *tile[SIDES];

    make_start(sketch, blocks, levels, start);
    memset(mask + begin / 64, 0, ((end + 63) / 64 - begin / 64) * sizeof *mask);
    for (uint32_t round = 0; round < all.rounds; round++) {
        gather(&all, round, tile);
        tile_sums(tile, blocks, levels, start, sums);
        put_fired(sketch, &all, round, tile, sums, scale, end, mask);
    }
}

void flin_sketch_masks_by(flin_sketch_tile_sums_of tile_sums, const flin_sketch *sketch,
                          const int8_t *const *levels, const float *scales, uint32_t inputs,
                          uint32_t begin, uint32_t end, uint64_t *const *masks)
{
    const uint32_t blocks = flin_sketch_blocks(sketch->cols);
    const sides all = sides_of(sketch, begin, end);
    int32_t starts[FLIN_SKETCH_INPUTS][FLIN_SKETCH_COLS_MAX / BLOCK];
    const int32_t *start[FLIN_SKETCH_INPUTS];
    int32_t sums[FLIN_SKETCH_INPUTS][SIDES][ROWS];
    const uint8_t *tile[SIDES];

    for (uint32_t i = 0; i < inputs; i++) {
        make_start(sketch, blocks, levels[i], starts[i]);
        memset(masks[i] + begin / 64, 0, ((end + 63) / 64 - begin / 64) * sizeof *masks[i]);
        start[i] = starts[i];
    }
    for (uint32_t round = 0; round < all.rounds; round++) {
        gather(&all, round, tile);
        tile_sums(tile, blocks, levels, start, sums);
        for (uint32_t i = 0; i < inputs; i++)
            put_fired(sketch, &all, round, tile, sums[i], scales[i], end, masks[i]);
    }
}

void flin_sketch_scores_by(flin_sketch_tile_sums tile_sums, const flin_sketch *sketch,
                           const int8_t *levels, float scale, uint32_t begin, uint32_t end,
                           float *scores)
{
    const uint32_t blocks = flin_sketch_blocks(sketch->cols);
    const sides all = sides_of(sketch, begin, end);
    int32_t start[FLIN_SKETCH_COLS_MAX / BLOCK], sums[SIDES][ROWS];
    const uint8_t *tile[SIDES];

    make_start(sketch, blocks, levels, start);
    for (uint32_t round = 0; round < all.rounds; round++) {
        gather(&all, round, tile);
        tile_sums(tile, blocks, levels, start, sums);
        for (uint32_t side = 0; side < SIDES; side++) {
            const uint32_t row = tile_at(&all, round, side) * ROWS;
            float row_scale[ROWS];

            memcpy(row_scale, tile[side], sizeof row_scale);
            for (uint32_t r = 0; r < ROWS && row + r < end; r++)
                scores[row + r] = score_of(sums[side][r], row_scale[r], scale);
        }
    }
}

static void tile_sum(uint32_t bits, const uint8_t *tile, uint32_t blocks, const int8_t *levels,
                     int32_t *sums)
{
    const uint8_t *scales = tile + ROWS * sizeof(float);
    const uint8_t *planes = scales + flin_sketch_scale_bytes(blocks);
    uint32_t total[ROWS] = {0}; /* unsigned: a damaged file may overflow it */
    uint8_t index[ROWS][BLOCK];

    for (uint32_t block = 0; block < blocks; block++) {
        flin_sketch_block_unpack(bits, planes + (uint64_t)block * bits * PLANE_BYTES, index);
        for (uint32_t r = 0; r < ROWS; r++) {
            int32_t dot = 0;
            for (uint32_t i = 0; i < BLOCK; i++) {
                int32_t level = flin_sketch_levels[bits - 1][index[r][i]];
                dot += (level - flin_sketch_zero[bits - 1]) * levels[block * BLOCK + i];
            }
            total[r] += (uint32_t)dot * scales[block * ROWS + r];
        }
    }
    for (uint32_t r = 0; r < ROWS; r++) sums[r] = (int32_t)total[r];
}

#define TILE_SUMS(bits)                                                                            \
    static void tile_sums_##bits(const uint8_t *const tile[SIDES], uint32_t blocks,                \
                                 const int8_t *levels, const int32_t *start,                       \
                                 int32_t sums[SIDES][ROWS])                                        \
    {                                                                                              \
        (void)start;                                                                               \
        for (uint32_t side = 0; side < SIDES; side++)                                              \
            tile_sum(bits, tile[side], blocks, levels, sums[side]);                                \
    }
TILE_SUMS(1)
TILE_SUMS(2)
TILE_SUMS(3)
TILE_SUMS(4)

void flin_sketch_mask_ref(const flin_sketch *sketch, const int8_t *levels, float scale,
                          uint32_t begin, uint32_t end, uint64_t *mask)
{
    static const flin_sketch_tile_sums sums[4] = {tile_sums_1, tile_sums_2, tile_sums_3,
                                                  tile_sums_4};

    flin_sketch_mask_by(sums[sketch->bits - 1], sketch, levels, scale, begin, end, mask);
}

void flin_sketch_scores_ref(const flin_sketch *sketch, const int8_t *levels, float scale,
                            uint32_t begin, uint32_t end, float *scores)
{
    static const flin_sketch_tile_sums sums[4] = {tile_sums_1, tile_sums_2, tile_sums_3,
                                                  tile_sums_4};

    flin_sketch_scores_by(sums[sketch->bits - 1], sketch, levels, scale, begin, end, scores);
}
