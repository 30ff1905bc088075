/*
 * ref/blocks.c - GGUF's quantised blocks in plain C: Q8_0 and Q4_0 from and to floats, products
 * with them.
 *
 * Owns: what the blocks mean, bit by bit (docs/format.md), and the levels that dot products take.
 * Refuses: speed.
 *
 * A dot product goes block after block: an integer sum, exact, times both scales, added to one of
 * LANES partial sums, which are folded as in ref/floats.c.
 */
#include <math.h>
#include <stddef.h>

#include "kernels/ref/shared.h"
#include "util/half.h"

#define LANES 8u
#define BLOCK FLIN_BLOCK
#define LEAST 0x1p-100f /* blocks of x below it count as zeros, so that no reciprocal overflows */

/* --------------------------------------------------------------------------------------- blocks */

static float scale_of(const uint8_t *block)
{
    uint16_t half;

    memcpy(&half, block, sizeof half);
    return flin_float_from_half(half);
}

static void put_scale(uint8_t *block, float scale)
{
    uint16_t half = flin_half_from_float(scale);

    memcpy(block, &half, sizeof half);
}

/* Element i of a block, before its scale. */
static inline int element_q8_0(const uint8_t *block, uint32_t i)
{
    return (int8_t)block[2 + i];
}

static inline int element_q4_0(const uint8_t *block, uint32_t i)
{
    uint8_t byte = block[2 + i % 16];

    return (i < 16 ? byte & 15 : byte >> 4) - 8;
}

/* The reciprocal of a block's scale; 0 where there is none: such a scale is 0 or a NaN as a
   float16. */
static float inverse_of(float scale)
{
    float inverse = scale != 0 ? 1.0f / scale : 0.0f;

    return isfinite(inverse) ? inverse : 0.0f;
}

/* The element of largest magnitude, 0 among zeros; NAN if one is an Inf or a NaN. */
static float largest_of(const float *x)
{
    float largest = 0;

    for (uint32_t i = 0; i < BLOCK; i++) {
        if (!isfinite(x[i])) return NAN;
        if (fabsf(x[i]) > fabsf(largest)) largest = x[i];
    }
    return largest;
}

/* The largest magnitude gets 127; halves are rounded away from zero. */
static void put_q8_0(const float *x, uint8_t *block)
{
    float scale = fabsf(largest_of(x)) / 127.0f, inverse = inverse_of(scale);

    put_scale(block, scale);
    for (uint32_t i = 0; i < BLOCK; i++)
        block[2 + i] = isfinite(x[i]) ? (uint8_t)(int8_t)roundf(x[i] * inverse) : 0;
}

/* The largest, whatever its sign, gets -8. */
static void put_q4_0(const float *x, uint8_t *block)
{
    float scale = largest_of(x) / -8.0f, inverse = inverse_of(scale);

    put_scale(block, scale);
    for (uint32_t i = 0; i < 16; i++) {
        int low = isfinite(x[i]) ? (int)(x[i] * inverse + 8.5f) : 8;
        int high = isfinite(x[i + 16]) ? (int)(x[i + 16] * inverse + 8.5f) : 8;
        block[2 + i] = (uint8_t)((low < 15 ? low : 15) | (high < 15 ? high : 15) << 4);
    }
}

void flin_ref_from_float_q8_0(const float *x, uint32_t cols, void *row)
{
    uint8_t *block = row;

    for (uint32_t c = 0; c < cols; c += BLOCK, block += FLIN_Q8_0_BYTES) put_q8_0(x + c, block);
}

void flin_ref_from_float_q4_0(const float *x, uint32_t cols, void *row)
{
    uint8_t *block = row;

    for (uint32_t c = 0; c < cols; c += BLOCK, block += FLIN_Q4_0_BYTES) put_q4_0(x + c, block);
}

void flin_ref_to_float_q8_0(const void *row, uint32_t cols, float *to)
{
    const uint8_t *block = row;

    for (uint32_t c = 0; c < cols; c += BLOCK, block += FLIN_Q8_0_BYTES)
        for (uint32_t i = 0; i < BLOCK; i++)
            to[c + i] = scale_of(block) * (float)element_q8_0(block, i);
}

void flin_ref_to_float_q4_0(const void *row, uint32_t cols, float *to)
{
    const uint8_t *block = row;

    for (uint32_t c = 0; c < cols; c += BLOCK, block += FLIN_Q4_0_BYTES)
        for (uint32_t i = 0; i < BLOCK; i++)
            to[c + i] = scale_of(block) * (float)element_q4_0(block, i);
}

/* --------------------------------------------------------------------------------------- levels */

/* Levels lie first: int16 (cols); then float (cols / BLOCK), the scales. */
static const float *scales_of(const void *levels, uint32_t cols)
{
    return (const float *)((const int16_t *)levels + cols);
}

static float quantise_block(const float *x, int16_t *level)
{
    uint32_t most_bits = 0;
    float most, inverse;

    for (uint32_t i = 0; i < BLOCK; i++) {
        uint32_t bits = flin_bits_from_float(x[i]) & 0x7fffffffu;
        if (bits > most_bits) most_bits = bits;
    }
    most = flin_float_from_bits(most_bits);
    if (!(most >= LEAST && most < INFINITY)) {
        memset(level, 0, BLOCK * sizeof *level);
        return most < LEAST ? 0.0f : NAN;
    }
    inverse = (float)FLIN_LEVEL_MAX / most;
    for (uint32_t i = 0; i < BLOCK; i++) level[i] = (int16_t)rintf(x[i] * inverse);
    return most / (float)FLIN_LEVEL_MAX;
}

void flin_ref_quantise(const float *x, uint32_t cols, void *levels)
{
    int16_t *level = levels;
    float *scales = (float *)(level + cols);

    for (uint32_t c = 0; c < cols; c += BLOCK) scales[c / BLOCK] = quantise_block(x + c, level + c);
}

/* ------------------------------------------------------------------------------------- products */

static float fold(const float lane[LANES])
{
    float a = (lane[0] + lane[4]) + (lane[1] + lane[5]);
    float b = (lane[2] + lane[6]) + (lane[3] + lane[7]);
    return a + b;
}

float flin_ref_dot_q8_0(const void *row, uint32_t cols, const void *levels)
{
    const float *scales = scales_of(levels, cols);
    const int16_t *level = levels;
    const uint8_t *block = row;
    float lane[LANES] = {0};

    for (uint32_t b = 0; b < cols / BLOCK; b++, block += FLIN_Q8_0_BYTES, level += BLOCK) {
        int32_t sum = 0;
        for (uint32_t i = 0; i < BLOCK; i++) sum += element_q8_0(block, i) * level[i];
        lane[b % LANES] += scale_of(block) * scales[b] * (float)sum;
    }
    return fold(lane);
}

static float dot_q4_0(const void *row, uint32_t cols, const void *levels)
{
    const float *scales = scales_of(levels, cols);
    const int16_t *level = levels;
    const uint8_t *block = row;
    float lane[LANES] = {0};

    for (uint32_t b = 0; b < cols / BLOCK; b++, block += FLIN_Q4_0_BYTES, level += BLOCK) {
        int32_t sum = 0;
        for (uint32_t i = 0; i < BLOCK; i++) sum += element_q4_0(block, i) * level[i];
        lane[b % LANES] += scale_of(block) * scales[b] * (float)sum;
    }
    return fold(lane);
}

void flin_ref_matvec_q8_0(const void *w, uint32_t rows, uint32_t cols, const void *x,
                          const float *bias, float *y)
{
    const uint8_t *row = w;

    for (uint32_t r = 0; r < rows; r++, row += flin_type_bytes(FLIN_Q8_0, cols)) {
        y[r] = flin_ref_dot_q8_0(row, cols, x);
        if (bias != NULL) y[r] += bias[r];
    }
}

void flin_ref_matvecs_q8_0(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                           uint32_t inputs, const float *bias, float *const *y)
{
    for (uint32_t i = 0; i < inputs; i++) flin_ref_matvec_q8_0(w, rows, cols, x[i], bias, y[i]);
}

void flin_ref_matvec_q4_0(const void *w, uint32_t rows, uint32_t cols, const void *x,
                          const float *bias, float *y)
{
    const uint8_t *row = w;

    for (uint32_t r = 0; r < rows; r++, row += flin_type_bytes(FLIN_Q4_0, cols)) {
        y[r] = dot_q4_0(row, cols, x);
        if (bias != NULL) y[r] += bias[r];
    }
}

void flin_ref_matvecs_q4_0(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                           uint32_t inputs, const float *bias, float *const *y)
{
    for (uint32_t i = 0; i < inputs; i++) flin_ref_matvec_q4_0(w, rows, cols, x[i], bias, y[i]);
}

void flin_ref_dot_rows_q8_0(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                            float *y)
{
    for (uint32_t i = 0; i < count; i++) y[i] = flin_ref_dot_q8_0(rows[i], cols, x);
}

void flin_ref_dot_rows_q4_0(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                            float *y)
{
    for (uint32_t i = 0; i < count; i++) y[i] = dot_q4_0(rows[i], cols, x);
}

void flin_ref_add_rows_q8_0(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                            uint32_t end, float *y)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *row = rows[i];
        for (uint32_t c = begin; c < end; c++) {
            const uint8_t *block = row + c / BLOCK * FLIN_Q8_0_BYTES;
            y[c] += a[i] * scale_of(block) * (float)element_q8_0(block, c % BLOCK);
        }
    }
}

void flin_ref_add_rows_q4_0(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                            uint32_t end, float *y)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *row = rows[i];
        for (uint32_t c = begin; c < end; c++) {
            const uint8_t *block = row + c / BLOCK * FLIN_Q4_0_BYTES;
            y[c] += a[i] * scale_of(block) * (float)element_q4_0(block, c % BLOCK);
        }
    }
}
