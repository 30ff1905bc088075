/*
 * sketch/input.h - the FFN input as a sketch multiplies it, in C that a compiler turns into
 * vectors: sketch.c compiles it for every CPU, overlays for theirs. One thread runs it while the
 * others wait.
 *
 * Owns: rounding, the same bits wherever it is compiled. Refuses: being included by anything else.
 */
#ifndef FLIN_KERNELS_SKETCH_INPUT_H
#define FLIN_KERNELS_SKETCH_INPUT_H

#include <string.h>

#include "kernels/sketch/sketch.h"
#include "util/half.h"

#define FLIN_SKETCH_LEVEL_MAX 127 /* of the input */
#define FLIN_MAGNITUDE 0x7fffffffu
#define FLIN_INFINITE 0x7f800000u /* and above: no number */

/* 0 for an input that is no number. Magnitudes compare as integers do, so that there are no
   branches. */
static inline uint32_t flin_sketch_scaled(float x, float column_scale)
{
    const uint32_t bits = flin_bits_from_float(x * column_scale);

    return bits & (0u - (uint32_t)((bits & FLIN_MAGNITUDE) < FLIN_INFINITE));
}

/* Halves go away from zero. Two statements: a compiler that fused them would round differently. */
static inline int8_t flin_sketch_level(uint32_t scaled, float per_level)
{
    float value = flin_float_from_bits(scaled) * per_level;
    value += flin_float_from_bits(0x3f000000u | (flin_bits_from_float(value) & ~FLIN_MAGNITUDE));
    int level = (int)value;
    level = level > FLIN_SKETCH_LEVEL_MAX ? FLIN_SKETCH_LEVEL_MAX : level;
    return (int8_t)(level < -FLIN_SKETCH_LEVEL_MAX ? -FLIN_SKETCH_LEVEL_MAX : level);
}

/* See sketch_input in kernels.h. */
static inline float flin_sketch_input_here(const flin_sketch *sketch, const float *restrict x,
                                           int8_t *restrict levels)
{
    const float *restrict scale = sketch->column_scale;
    const uint32_t cols = sketch->cols;
    int32_t largest = 0;
    float peak, per_level;

    for (uint32_t i = 0; i < cols; i++) {
        const int32_t size = (int32_t)(flin_sketch_scaled(x[i], scale[i]) & FLIN_MAGNITUDE);
        largest = size > largest ? size : largest;
    }
    peak = flin_float_from_bits((uint32_t)largest);
    memset(levels, 0, flin_sketch_blocks(cols) * FLIN_SKETCH_BLOCK);
    if (peak < 1e-30f) return 0; /* its reciprocal could overflow */
    per_level = FLIN_SKETCH_LEVEL_MAX / peak;
    for (uint32_t i = 0; i < cols; i++)
        levels[i] = flin_sketch_level(flin_sketch_scaled(x[i], scale[i]), per_level);
    return peak / FLIN_SKETCH_LEVEL_MAX;
}

#endif
