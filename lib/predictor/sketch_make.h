/*
 * sketch_make.h - making a layer's sketch at pack time, from its weights alone.
 *
 * Owns: choosing levels, scales and the threshold of every neuron. Refuses: files, threads,
 * calibration text.
 *
 * Works on one tile (FLIN_SKETCH_TILE_ROWS neurons) at a time, so packing never holds a whole
 * matrix:
 *
 *     flin_sketch_maker maker;
 *     flin_sketch_maker_open(&maker, cols, bits, gamma, beta, FLIN_SKETCH_MARGIN, error);
 *     for each 16 neurons: flin_sketch_maker_tile(&maker, rows, bias, 16, tile, tile_bias, error);
 *     write all tiles, all biases and maker.column_scale
 *     flin_sketch_maker_close(&maker);
 *
 * Neurons are sketched in the order given: if the model file permutes neurons, give them permuted.
 * The same input gives the same bytes on every machine.
 *
 * Threshold. The FFN input is a norm's output, x = gamma * n + beta, and n squared has mean 1 by
 * construction. The sketch errs by e = (W - sketch) . x, of which (W - sketch) . beta is known
 * and goes into the bias, and the rest is near sqrt(sum ((W - sketch) * gamma)^2) in its root mean
 * square. The bias is raised by `margin` of those, and lowered by what sums must be above to fire.
 * A LayerNorm also takes the mean of n away, which this does not use: RMS norms, which have no
 * beta, are sketched alike.
 */
#ifndef FLIN_PREDICTOR_SKETCH_MAKE_H
#define FLIN_PREDICTOR_SKETCH_MAKE_H

#include <stdint.h>

#include "kernels/sketch/sketch.h"
#include "util/error.h"

#define FLIN_SKETCH_BITS_DEFAULT 3u

/* The margin that finds at least 99% of the active neurons of our models at these bits: see
   docs/predictors.md. */
#define FLIN_SKETCH_MARGIN (-1.0f)

typedef struct flin_sketch_maker {
    uint32_t cols;
    uint32_t bits;
    float margin;        /* never FLIN_SKETCH_MARGIN */
    float threshold;     /* what sums must be above to fire; open leaves 0, the caller may set it */
    float *column_scale; /* (cols): blk.N.ffn_sketch.scale, complete after open */
    float *gamma;        /* (cols) */
    float *beta;         /* (cols) */
    float *block_scale;  /* (FLIN_SKETCH_TILE_ROWS, blocks): scratch */
} flin_sketch_maker;

/* gamma, beta: (cols) weight and bias of the norm whose output is the FFN input; either may be NULL
   (1 and 0). margin: FLIN_SKETCH_MARGIN, or at least 0: more names more neurons and misses fewer.
   Allocates a few times cols floats. FLASHINFER_EINVAL for bits, cols or a margin out of range,
   FLASHINFER_ECHECKPOINT for a norm that is not finite. On failure the maker is closed. */
int flin_sketch_maker_open(flin_sketch_maker *maker, uint32_t cols, uint32_t bits,
                           const float *gamma, const float *beta, float margin,
                           flashinfer_error *error);

/* rows: (count, cols) of up, or of gate where the FFN is gated, row-major; bias: (count) or NULL;
   count: 1 to FLIN_SKETCH_TILE_ROWS, fewer than a tile only for the last tile of a layer. tile:
   flin_sketch_tile_bytes(cols, bits) bytes, all of them written; tile_bias: (count) written.
   FLASHINFER_ECHECKPOINT, naming the row within the tile in error->neuron, for weights that are not
   finite. */
int flin_sketch_maker_tile(flin_sketch_maker *maker, const float *rows, const float *bias,
                           uint32_t count, uint8_t *tile, float *tile_bias,
                           flashinfer_error *error);

void flin_sketch_maker_close(flin_sketch_maker *maker); /* a zeroed maker is fine */

#endif
