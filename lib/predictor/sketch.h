/*
 * sketch.h - the sketch as a predictor: kernels/sketch/sketch.h has its layout and arithmetic.
 *
 * Owns: the question whether a sketch may be used. Refuses: making one (sketch_make.h).
 */
#ifndef FLIN_PREDICTOR_SKETCH_H
#define FLIN_PREDICTOR_SKETCH_H

#include "kernels/sketch/sketch.h"
#include "util/error.h"

/* Is this a sketch that may be used: sizes in range, pointers there, scales and bias finite? Else
   FLASHINFER_EFORMAT, naming the layer and the neuron. The tiles must be of the size
   flin_sketch_bytes() gives. */
int flin_sketch_check(const flin_sketch *sketch, int layer, flashinfer_error *error);

#endif
