/*
 * sketch_make.c - see sketch_make.h for the method and the threshold.
 *
 * Every block's scale is searched for the least squared error of its weights. Weighting the error,
 * or scaling the columns, by the norm's gamma was measured and found to be worse
 * (docs/predictors.md): the weights already shrink where the input is large. So the column scales
 * are 1 here; calibration may choose others.
 *
 * Arithmetic is written one operation a statement where a compiler might fuse a product into a sum,
 * so that a model packs to the same bytes on every machine.
 */
#include "predictor/sketch_make.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS FLIN_SKETCH_TILE_ROWS
#define BLOCK FLIN_SKETCH_BLOCK
#define MAGNITUDES_MAX 8u
#define REFITS 2u   /* times each is improved */
#define TINY 1e-30f /* blocks of smaller weights become 0 */
#define INPUT_LEVEL_MAX 127u

/* The positive half of a row of flin_sketch_levels; the negative half mirrors it. */
typedef struct codebook {
    uint32_t count;
    float magnitude[MAGNITUDES_MAX];
    float middle[MAGNITUDES_MAX]; /* [i] between i and i + 1: (count - 1) */
} codebook;

static codebook book_of(uint32_t bits)
{
    codebook book = {.count = 1u << (bits - 1)};

    for (uint32_t i = 0; i < book.count; i++) {
        int level = flin_sketch_levels[bits - 1][book.count + i] - flin_sketch_zero[bits - 1];
        book.magnitude[i] = (float)level;
    }
    for (uint32_t i = 0; i + 1 < book.count; i++)
        book.middle[i] = (book.magnitude[i] + book.magnitude[i + 1]) / 2;
    return book;
}

/* --------------------------------------------------------------------------------- open, close */

static int copy_norm(float *to, const float *from, float otherwise, uint32_t cols, const char *what,
                     flashinfer_error *error)
{
    for (uint32_t i = 0; i < cols; i++) {
        to[i] = from != NULL ? from[i] : otherwise;
        if (!isfinite(to[i]))
            return flin_fail(error, FLASHINFER_ECHECKPOINT,
                             "the FFN norm's %s is not a number at input %u; the checkpoint is "
                             "damaged",
                             what, i);
    }
    return 0;
}

int flin_sketch_maker_open(flin_sketch_maker *maker, uint32_t cols, uint32_t bits,
                           const float *gamma, const float *beta, float margin,
                           flashinfer_error *error)
{
    static const float default_margins[] = {2.0f, 1.75f, 1.5f, 1.5f};
    uint32_t blocks = flin_sketch_blocks(cols);
    int code;

    memset(maker, 0, sizeof *maker);
    if (flin_sketch_tile_bytes(cols, bits) == 0)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "no sketch has %u inputs in %u bits; inputs may be 1 to %u, bits 1 to 4",
                         cols, bits, FLIN_SKETCH_COLS_MAX);
    if (!isfinite(margin) || (margin < 0 && margin != FLIN_SKETCH_MARGIN))
        return flin_fail(error, FLASHINFER_EINVAL,
                         "the sketch's margin is %g; it must be 0 or more", (double)margin);
    maker->cols = cols;
    maker->bits = bits;
    maker->margin = margin < 0 ? default_margins[bits - 1] : margin;
    maker->column_scale = malloc(cols * sizeof(float));
    maker->gamma = malloc(cols * sizeof(float));
    maker->beta = malloc(cols * sizeof(float));
    maker->block_scale = malloc((size_t)blocks * ROWS * sizeof(float));
    if (maker->column_scale == NULL || maker->gamma == NULL || maker->beta == NULL ||
        maker->block_scale == NULL) {
        flin_sketch_maker_close(maker);
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory to sketch rows of %u inputs", cols);
    }
    for (uint32_t i = 0; i < cols; i++) maker->column_scale[i] = 1;
    code = copy_norm(maker->gamma, gamma, 1, cols, "weight", error);
    if (code == 0) code = copy_norm(maker->beta, beta, 0, cols, "bias", error);
    if (code != 0) flin_sketch_maker_close(maker);
    return code;
}

void flin_sketch_maker_close(flin_sketch_maker *maker)
{
    free(maker->column_scale);
    free(maker->gamma);
    free(maker->beta);
    free(maker->block_scale);
    memset(maker, 0, sizeof *maker);
}

/* --------------------------------------------------------------------------------- block scale */

/* The nearest magnitudes at this scale: sums of size * level and level * level. Eight partial sums,
   so that it can be done with vectors and still has one order. */
static void fit(const codebook *book, const float *size, uint32_t count, float scale, float *cross,
                float *square)
{
    float level[BLOCK], crosses[8] = {0}, squares[8] = {0};

    for (uint32_t i = 0; i < BLOCK; i++) level[i] = book->magnitude[0];
    for (uint32_t k = 0; k + 1 < book->count; k++) {
        float limit = book->middle[k] * scale;
        float step = book->magnitude[k + 1] - book->magnitude[k];
        for (uint32_t i = 0; i < BLOCK; i++) level[i] += size[i] > limit ? step : 0.0f;
    }
    for (uint32_t i = count; i < BLOCK; i++) level[i] = 0;
    for (uint32_t i = 0; i < BLOCK; i += 8) {
        for (uint32_t k = 0; k < 8; k++) {
            float sized = size[i + k] * level[i + k];
            float squared = level[i + k] * level[i + k];
            crosses[k] += sized;
            squares[k] += squared;
        }
    }
    *cross = *square = 0;
    for (uint32_t k = 0; k < 8; k++) {
        *cross += crosses[k];
        *square += squares[k];
    }
}

/* The scale of weights (count) that leaves the least squared error. At given levels the best scale
   is cross / square and the error falls by cross^2 / square. */
static float block_scale(const codebook *book, const float *weights, uint32_t count)
{
    /* Where the top level lies, as a share of the largest weight. */
    static const float reach[] = {0.60f, 0.69f, 0.78f, 0.87f, 0.96f, 1.05f};
    float size[BLOCK] = {0}, peak = 0, best = 0, best_gain = 0;

    for (uint32_t i = 0; i < count; i++) peak = fmaxf(peak, fabsf(weights[i]));
    if (peak < TINY) return 0;
    for (uint32_t i = 0; i < count; i++) size[i] = fabsf(weights[i]) / peak;
    for (uint32_t candidate = 0; candidate < sizeof reach / sizeof reach[0]; candidate++) {
        float scale = reach[candidate] / book->magnitude[book->count - 1];
        float cross, square, gain;

        for (uint32_t i = 0; i < REFITS; i++) {
            fit(book, size, count, scale, &cross, &square);
            scale = cross / square;
        }
        gain = cross * cross / square;
        if (gain > best_gain) {
            best_gain = gain;
            best = scale;
        }
        if (book->count == 1) break; /* signs: the first fit is the best */
    }
    return best * peak;
}

/* ---------------------------------------------------------------------------------------- tile */

/* The largest integer a block scale may be, so that no sum of a row can leave 32 bits. */
static uint32_t scale_max(const flin_sketch_maker *maker)
{
    uint64_t worst = (uint64_t)flin_sketch_blocks(maker->cols) * BLOCK * INPUT_LEVEL_MAX *
                     flin_sketch_zero[maker->bits - 1];
    uint64_t max = INT32_MAX / worst;

    assert(max >= 1);
    return max < 255 ? (uint32_t)max : 255;
}

/* Finds row `r`'s scales: the row's in floats, its blocks' as integers. */
static int set_scales(flin_sketch_maker *maker, const codebook *book, const float *weights,
                      uint32_t r, float *row_scale, uint8_t *scales, flashinfer_error *error)
{
    uint32_t blocks = flin_sketch_blocks(maker->cols);
    float *found = maker->block_scale + (size_t)r * blocks;
    float peak = 0;

    for (uint32_t i = 0; i < maker->cols; i++)
        if (!isfinite(weights[i]))
            return flin_fail_at(error, FLASHINFER_ECHECKPOINT, -1, (int64_t)r, -1,
                                "an FFN weight is not a number at input %u; the checkpoint is "
                                "damaged",
                                i);
    for (uint32_t block = 0; block < blocks; block++) {
        uint32_t left = maker->cols - block * BLOCK;
        found[block] = block_scale(book, weights + block * BLOCK, left < BLOCK ? left : BLOCK);
        peak = fmaxf(peak, found[block]);
    }
    *row_scale = peak / (float)scale_max(maker);
    for (uint32_t block = 0; block < blocks; block++) {
        float ratio = *row_scale > 0 ? found[block] / *row_scale : 0;
        uint32_t rounded = (uint32_t)(ratio + 0.5f);
        if (rounded == 0 && found[block] > 0) rounded = 1;
        if (rounded > scale_max(maker)) rounded = scale_max(maker);
        scales[block * ROWS + r] = (uint8_t)rounded;
    }
    return 0;
}

/* What the sketch gets wrong in a row: the part known from beta, and the variance of the rest. */
typedef struct row_error {
    double mean;
    double variance;
} row_error;

/* Levels of one row's block, and what they add to its error. The first loop has no branch that
   depends on a weight, so it can be done with vectors; the second keeps the order of the sums. */
static void set_levels(const flin_sketch_maker *maker, const codebook *book, const float *weights,
                       uint32_t block, float scale, uint8_t *index, row_error *sum)
{
    uint32_t first = block * BLOCK;
    uint32_t left = maker->cols - first, count = left < BLOCK ? left : BLOCK;
    uint32_t above[BLOCK] = {0}; /* how many middles lie below the weight's size */
    float level[BLOCK];

    for (uint32_t i = 0; i < BLOCK; i++) level[i] = book->magnitude[0];
    for (uint32_t k = 0; k + 1 < book->count; k++) {
        float limit = book->middle[k] * scale;
        float step = book->magnitude[k + 1] - book->magnitude[k];
        for (uint32_t i = 0; i < count; i++) {
            above[i] += fabsf(weights[first + i]) > limit;
            level[i] += fabsf(weights[first + i]) > limit ? step : 0.0f;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        float weight = weights[first + i];
        double copy = (double)(weight < 0 ? -level[i] : level[i]) * scale;
        double missing = weight - copy;
        double mean = missing * maker->beta[first + i];
        double spread = missing * maker->gamma[first + i];
        double variance = spread * spread;
        index[i] = (uint8_t)(weight < 0 ? book->count - 1 - above[i] : book->count + above[i]);
        sum->mean += mean;
        sum->variance += variance;
    }
}

static float lifted(float bias, row_error sum, float margin)
{
    double lift = margin * sqrt(sum.variance);
    double value = bias + sum.mean;

    value += lift;
    if (value > FLT_MAX) return FLT_MAX;
    return value < -FLT_MAX ? -FLT_MAX : (float)value;
}

int flin_sketch_maker_tile(flin_sketch_maker *maker, const float *rows, const float *bias,
                           uint32_t count, uint8_t *tile, float *tile_bias, flashinfer_error *error)
{
    const codebook book = book_of(maker->bits);
    uint32_t blocks = flin_sketch_blocks(maker->cols);
    uint8_t *scales = tile + ROWS * sizeof(float);
    uint8_t *planes = scales + flin_sketch_scale_bytes(blocks);
    float row_scale[ROWS] = {0};
    row_error sums[ROWS] = {{0, 0}};

    assert(count >= 1 && count <= ROWS);
    memset(tile, 0, flin_sketch_tile_bytes(maker->cols, maker->bits));
    for (uint32_t r = 0; r < count; r++) {
        int code = set_scales(maker, &book, rows + (size_t)r * maker->cols, r, &row_scale[r],
                              scales, error);
        if (code != 0) return code;
        if (bias != NULL && !isfinite(bias[r]))
            return flin_fail_at(error, FLASHINFER_ECHECKPOINT, -1, (int64_t)r, -1,
                                "an FFN bias is not a number; the checkpoint is damaged");
    }
    memcpy(tile, row_scale, sizeof row_scale);
    for (uint32_t block = 0; block < blocks; block++) {
        uint8_t index[ROWS][BLOCK] = {{0}};
        for (uint32_t r = 0; r < count; r++)
            set_levels(maker, &book, rows + (size_t)r * maker->cols, block,
                       row_scale[r] * (float)scales[block * ROWS + r], index[r], &sums[r]);
        flin_sketch_block_pack(maker->bits, index, planes + (size_t)block * maker->bits * 64);
    }
    for (uint32_t r = 0; r < count; r++)
        tile_bias[r] =
            lifted((bias != NULL ? bias[r] : 0) - maker->threshold, sums[r], maker->margin);
    return 0;
}
