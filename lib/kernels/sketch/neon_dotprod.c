/*
 * sketch/neon_dotprod.c - the sketch, built for CPUs with the dotprod extension.
 *
 * Owns: names. Refuses: everything else (sketch/neon.h); being called without flin_kernels_choose()
 * having asked the CPU.
 */
#include "kernels/sketch/neon.h"

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
