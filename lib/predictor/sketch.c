/*
 * sketch.c - may a sketch that came from a file be used?
 *
 * Owns: the refusals, which name layer and neuron. Refuses: what the bytes mean (kernels/sketch/).
 */
#include "predictor/sketch.h"

#include <math.h>
#include <string.h>

static int check_values(const flin_sketch *sketch, int layer, flashinfer_error *error)
{
    uint64_t tile_bytes = flin_sketch_tile_bytes(sketch->cols, sketch->bits);

    for (uint32_t i = 0; i < sketch->cols; i++) {
        float scale = sketch->column_scale[i];
        if (!isfinite(scale) || !(scale > 0))
            return flin_fail_at(error, FLASHINFER_EFORMAT, layer, -1, -1,
                                "sketch of layer %d: input scale %u is not a positive number; "
                                "pack the model again or use the exact predictor",
                                layer, i);
    }
    for (uint32_t i = 0; i < sketch->rows; i++) {
        const uint8_t *tile = sketch->tiles + i / FLIN_SKETCH_TILE_ROWS * tile_bytes;
        float scale;
        memcpy(&scale, tile + i % FLIN_SKETCH_TILE_ROWS * sizeof scale, sizeof scale);
        if (!isfinite(scale) || scale < 0 || !isfinite(sketch->bias[i]))
            return flin_fail_at(error, FLASHINFER_EFORMAT, layer, (int64_t)i, -1,
                                "sketch of layer %d, neuron %u: scale or bias is not a number a "
                                "sketch can have; pack the model again or use the exact predictor",
                                layer, i);
    }
    return 0;
}

int flin_sketch_check(const flin_sketch *sketch, int layer, flashinfer_error *error)
{
    if (sketch->rows == 0 || flin_sketch_tile_bytes(sketch->cols, sketch->bits) == 0)
        return flin_fail_at(error, FLASHINFER_EFORMAT, layer, -1, -1,
                            "sketch of layer %d: no sketch has %u neurons of %u inputs in %u bits; "
                            "pack the model again or use the exact predictor",
                            layer, sketch->rows, sketch->cols, sketch->bits);
    if (sketch->tiles == NULL || sketch->bias == NULL || sketch->column_scale == NULL)
        return flin_fail_at(error, FLASHINFER_EFORMAT, layer, -1, -1,
                            "sketch of layer %d: a tensor is missing; pack the model again or use "
                            "the exact predictor",
                            layer);
    return check_values(sketch, layer, error);
}
