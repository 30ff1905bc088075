/*
 * sketch/masks.c - the masks of several inputs over one reading of the tiles.
 *
 * Owns: which inputs go together, and how many rows they go over before the next ones do. Refuses:
 * sums, which are the table's; so each mask is the one sketch_mask gives.
 */
#include "kernels/inputs.h"
#include "kernels/sketch/sketch.h"

#define WORD 64u /* rows: sketch_mask fills whole words */
/* Tiles that stay in a core's second cache from the first input to the last. */
#define RUN_BYTES ((uint64_t)192 << 10)

/* Whole words, one at least. */
static uint32_t rows_of_run(const flin_sketch *sketch)
{
    const uint64_t word_bytes = flin_sketch_bytes(WORD, sketch->cols, sketch->bits);

    return word_bytes < RUN_BYTES ? (uint32_t)(RUN_BYTES / word_bytes) * WORD : WORD;
}

void flin_sketch_masks_in_turn(flin_sketch_mask_of *mask_of, const flin_sketch *sketch,
                               const int8_t *const *levels, const float *scales, uint32_t inputs,
                               uint32_t begin, uint32_t end, uint64_t *const *masks)
{
    const uint32_t rows = inputs == 1 ? end - begin : rows_of_run(sketch);

    for (uint32_t first = begin, last; first < end; first = last) {
        last = end - first < rows ? end : first + rows;
        for (uint32_t i = 0; i < inputs; i++)
            mask_of(sketch, levels[i], scales[i], first, last, masks[i]);
    }
}

/* A few inputs at a time, over all rows if they are all. */
static void masks_together(const flin_kernels *kernels, const flin_sketch *sketch,
                           const int8_t *const *levels, const float *scales, uint32_t inputs,
                           uint32_t begin, uint32_t end, uint64_t *const *masks)
{
    const uint32_t rows = inputs <= FLIN_SKETCH_INPUTS ? end - begin : rows_of_run(sketch);

    for (uint32_t first = begin, last; first < end; first = last) {
        last = end - first < rows ? end : first + rows;
        for (uint32_t i = 0, here; i < inputs; i += here) {
            here = flin_inputs_share(inputs - i);
            kernels->sketch_masks(sketch, levels + i, scales + i, here, first, last, masks + i);
        }
    }
}

void flin_sketch_masks(const flin_kernels *kernels, const flin_sketch *sketch,
                       const int8_t *const *levels, const float *scales, uint32_t inputs,
                       uint32_t begin, uint32_t end, uint64_t *const *masks)
{
    if (inputs > 1 && kernels->sketch_masks != NULL)
        masks_together(kernels, sketch, levels, scales, inputs, begin, end, masks);
    else
        flin_sketch_masks_in_turn(kernels->sketch_mask, sketch, levels, scales, inputs, begin, end,
                                  masks);
}
