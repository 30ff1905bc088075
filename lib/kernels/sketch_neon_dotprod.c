/*
 * sketch_neon_dotprod.c - the sketch, built for CPUs with the dotprod extension.
 *
 * Owns: names. Refuses: everything else (sketch_neon.h); being called without flin_kernels_choose() having asked the CPU.
 */
#include "kernels/sketch_neon.h"

static void sum_1(const uint8_t *const tile[SIDES], uint32_t blocks, const int8_t *levels,
                  const int32_t *start, int32_t sums[SIDES][ROWS])
{
    sum(1, tile, blocks, levels, start, sums);
}

static void sum_2(const uint8_t *const tile[SIDES], uint32_t blocks, const int8_t *levels,
                  const int32_t *start, int32_t sums[SIDES][ROWS])
{
    sum(2, tile, blocks, levels, start, sums);
}

static void sum_3(const uint8_t *const tile[SIDES], uint32_t blocks, const int8_t *levels,
                  const int32_t *start, int32_t sums[SIDES][ROWS])
{
    sum(3, tile, blocks, levels, start, sums);
}

static void sum_4(const uint8_t *const tile[SIDES], uint32_t blocks, const int8_t *levels,
                  const int32_t *start, int32_t sums[SIDES][ROWS])
{
    sum(4, tile, blocks, levels, start, sums);
}

static const flin_sketch_tile_sums tile_sums[4] = {sum_1, sum_2, sum_3, sum_4};

void flin_sketch_mask_neon_dotprod(const flin_sketch *sketch, const int8_t *levels, float scale,
                                   uint32_t begin, uint32_t end, uint64_t *mask)
{
    flin_sketch_mask_by(tile_sums[sketch->bits - 1], sketch, levels, scale, begin, end, mask);
}

void flin_sketch_scores_neon_dotprod(const flin_sketch *sketch, const int8_t *levels, float scale,
                                     uint32_t begin, uint32_t end, float *scores)
{
    flin_sketch_scores_by(tile_sums[sketch->bits - 1], sketch, levels, scale, begin, end, scores);
}
