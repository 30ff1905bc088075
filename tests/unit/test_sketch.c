/*
 * test_sketch.c - the sketch predictor: layout, making, scoring, every kernel against the
 * reference, hostile values.
 *
 * Scores are recomputed here in 64-bit integers and doubles from the layout as sketch.h documents
 * it. Kernels are compared bit for bit, also on tiles of random bytes, which a damaged file may
 * hold.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "flashinfer.h"
#include "kernels/kernels.h"
#include "predictor/sketch.h"
#include "predictor/sketch_make.h"

#define ROWS FLIN_SKETCH_TILE_ROWS
#define BLOCK FLIN_SKETCH_BLOCK

typedef void (*mask_function)(const flin_sketch *, const int8_t *, float, uint32_t, uint32_t,
                              uint64_t *);

/* -------------------------------------------------------------------------------------- chance */

static uint64_t seed = 1;

static uint32_t random_u32(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 32);
}

static uint32_t random_below(uint32_t bound)
{
    return (uint32_t)((uint64_t)random_u32() * bound >> 32);
}

/* Close to Gaussian, spread 1; of additions only, so that it is the same everywhere. */
static float gaussian(void)
{
    int64_t sum = 0;
    for (int i = 0; i < 12; i++) sum += (int64_t)random_u32() - INT32_MAX;
    return (float)((double)sum * 0x1p-32);
}

/* ------------------------------------------------------------------------------------- fixture */

/* A layer of exact-sized blocks, so that a sanitizer sees a byte too far. */
typedef struct fixture {
    flin_sketch sketch;
    uint8_t *tiles;
    float *bias, *column_scale;
    int8_t *levels; /* (cols padded) */
    uint64_t *mask; /* (words) */
    uint32_t padded, words;
} fixture;

static void *take(size_t bytes)
{
    void *memory = malloc(bytes);
    assert_non_null(memory);
    return memory;
}

static fixture fixture_new(uint32_t rows, uint32_t cols, uint32_t bits)
{
    fixture f = {.padded = flin_sketch_blocks(cols) * BLOCK, .words = (rows + 63) / 64};

    f.tiles = take(flin_sketch_bytes(rows, cols, bits));
    f.bias = take(rows * sizeof(float));
    f.column_scale = take(cols * sizeof(float));
    f.levels = take(f.padded);
    f.mask = take(f.words * sizeof(uint64_t));
    f.sketch = (flin_sketch){rows, cols, bits, 0, f.tiles, f.bias, f.column_scale};
    return f;
}

static void fixture_free(fixture *f)
{
    free(f->tiles);
    free(f->bias);
    free(f->column_scale);
    free(f->levels);
    free(f->mask);
}

/* Makes every tile of weights (rows, cols). */
static void make(fixture *f, const float *weights, const float *bias, const float *gamma,
                 const float *beta, float margin)
{
    const flin_sketch *sketch = &f->sketch;
    uint64_t tile_bytes = flin_sketch_tile_bytes(sketch->cols, sketch->bits);
    flin_sketch_maker maker;

    assert_int_equal(
        flin_sketch_maker_open(&maker, sketch->cols, sketch->bits, gamma, beta, margin, NULL), 0);
    memcpy(f->column_scale, maker.column_scale, sketch->cols * sizeof(float));
    for (uint32_t row = 0; row < sketch->rows; row += ROWS) {
        uint32_t count = sketch->rows - row < ROWS ? sketch->rows - row : ROWS;
        assert_int_equal(flin_sketch_maker_tile(&maker, weights + (size_t)row * sketch->cols,
                                                bias != NULL ? bias + row : NULL, count,
                                                f->tiles + row / ROWS * tile_bytes, f->bias + row,
                                                NULL),
                         0);
    }
    flin_sketch_maker_close(&maker);
    assert_int_equal(flin_sketch_check(sketch, 0, NULL), 0);
}

/* The integer scale of a block, and its levels. */
static uint32_t block_of(const flin_sketch *sketch, uint32_t row, uint32_t block, int *levels)
{
    uint32_t blocks = flin_sketch_blocks(sketch->cols);
    const uint8_t *scales = sketch->tiles +
                            row / ROWS * flin_sketch_tile_bytes(sketch->cols, sketch->bits) +
                            ROWS * sizeof(float);
    const uint8_t *planes = scales + flin_sketch_scale_bytes(blocks);
    uint8_t index[ROWS][BLOCK];

    flin_sketch_block_unpack(sketch->bits, planes + (uint64_t)block * sketch->bits * 64, index);
    for (uint32_t i = 0; i < BLOCK; i++)
        levels[i] = flin_sketch_levels[sketch->bits - 1][index[row % ROWS][i]] -
                    flin_sketch_zero[sketch->bits - 1];
    return scales[block * ROWS + row % ROWS];
}

static float row_scale_of(const flin_sketch *sketch, uint32_t row)
{
    float scale;
    memcpy(&scale,
           sketch->tiles + row / ROWS * flin_sketch_tile_bytes(sketch->cols, sketch->bits) +
               row % ROWS * sizeof scale,
           sizeof scale);
    return scale;
}

static int64_t sum_of(const flin_sketch *sketch, uint32_t row, const int8_t *input)
{
    int64_t sum = 0;
    int levels[BLOCK];

    for (uint32_t block = 0; block < flin_sketch_blocks(sketch->cols); block++) {
        int64_t dot = 0, scale = block_of(sketch, row, block, levels);
        for (uint32_t i = 0; i < BLOCK; i++) dot += levels[i] * input[block * BLOCK + i];
        sum += dot * scale;
    }
    return sum;
}

static int is_set(const uint64_t *mask, uint32_t row)
{
    return (int)(mask[row / 64] >> row % 64 & 1);
}

/* Kernels this CPU can run, the reference first. */
static uint32_t kernels_here(mask_function *functions)
{
    uint32_t count = 0;

    functions[count++] = flin_sketch_mask_ref;
    functions[count++] = flin_kernels_choose(0)->sketch_mask;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2")) functions[count++] = flin_sketch_mask_avx2;
    if (__builtin_cpu_supports("avx512bw")) functions[count++] = flin_sketch_mask_avx512;
    if (__builtin_cpu_supports("avx512bw")) functions[count++] = flin_sketch_mask_avx512_bw;
    if (__builtin_cpu_supports("avx512vnni")) functions[count++] = flin_sketch_mask_avx512_vnni;
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi"))
        functions[count++] = flin_sketch_mask_avx512_vbmi;
#endif
#ifdef FLIN_HAVE_NEON
    functions[count++] = flin_sketch_mask_neon; /* the best of the CPU may be that with dotprod */
#endif
    return count;
}

/* -------------------------------------------------------------------------------------- layout */

static void sizes_are_the_documented_ones(void **state)
{
    (void)state;
    assert_int_equal(flin_sketch_tile_bytes(768, 3), 64 + 24 * 16 + 24 * 3 * 64);
    assert_int_equal(flin_sketch_tile_bytes(320, 1), 64 + 192 + 10 * 64);
    assert_int_equal(flin_sketch_tile_bytes(1, 4), 64 + 64 + 4 * 64);
    assert_int_equal(flin_sketch_bytes(17, 768, 2), 2 * (64 + 24 * 16 + 24 * 2 * 64));
    assert_int_equal(flin_sketch_bytes(16, 0, 2), 0);
    assert_int_equal(flin_sketch_bytes(16, 32, 0), 0);
    assert_int_equal(flin_sketch_bytes(16, 32, 5), 0);
    assert_int_equal(flin_sketch_bytes(16, FLIN_SKETCH_COLS_MAX + 1, 3), 0);
    assert_int_equal(flin_sketch_bytes(16, UINT32_MAX, 3), 0);
    assert_true(flin_sketch_bytes(UINT32_MAX, FLIN_SKETCH_COLS_MAX, 4) > UINT32_MAX);
}

static void every_weight_has_its_own_bits(void **state)
{
    (void)state;
    for (uint32_t bits = 1; bits <= 4; bits++) {
        for (int round = 0; round < 100; round++) {
            uint8_t index[ROWS][BLOCK], back[ROWS][BLOCK], planes[4 * 64 + 1];
            for (uint32_t i = 0; i < ROWS * BLOCK; i++)
                index[i / BLOCK][i % BLOCK] = (uint8_t)random_below(1u << bits);
            memset(planes, 0xa5, sizeof planes);
            flin_sketch_block_pack(bits, index, planes);
            assert_int_equal(planes[bits * 64], 0xa5);
            flin_sketch_block_unpack(bits, planes, back);
            assert_memory_equal(index, back, sizeof index);
        }
    }
}

/* The layout drawn in sketch.h, by hand: 3 bits, row 2, input 25 is group 6, byte 4 * 2 + 1. */
static void three_bits_lie_where_documented(void **state)
{
    uint8_t index[ROWS][BLOCK] = {{0}}, planes[3 * 64];

    (void)state;
    index[2][25] = 5;
    index[2][29] = 6; /* group 7 */
    index[2][5] = 7;  /* group 1: plane 0, bits 3 to 5 */
    flin_sketch_block_pack(3, index, planes);
    assert_int_equal(planes[9], 1 << 6 | 7 << 3);
    assert_int_equal(planes[64 + 9], 2 << 6);
    assert_int_equal(planes[128 + 9], 1 << 6 | 1 << 7);
}

/* -------------------------------------------------------------------------------------- making */

static void copies_are_as_close_as_their_bits_allow(void **state)
{
    /* Squared error over squared weight; Gaussian weights measure 0.353, 0.107, 0.0257, 0.0060. */
    static const double limits[] = {0.38, 0.115, 0.028, 0.0068};
    enum { cols = 200, rows = 37 };
    float weights[rows * cols];

    (void)state;
    for (uint32_t i = 0; i < rows * cols; i++) weights[i] = 0.02f * gaussian();
    for (uint32_t bits = 1; bits <= 4; bits++) {
        fixture f = fixture_new(rows, cols, bits);
        double error = 0, power = 0;
        make(&f, weights, NULL, NULL, NULL, 0);
        for (uint32_t i = 0; i < rows * cols; i++) {
            int levels[BLOCK];
            uint32_t row = i / cols, col = i % cols;
            double scale = block_of(&f.sketch, row, col / BLOCK, levels);
            double copy = levels[col % BLOCK] * scale * row_scale_of(&f.sketch, row);
            error += (weights[i] - copy) * (weights[i] - copy);
            power += (double)weights[i] * weights[i];
        }
        assert_true(error / power < limits[bits - 1]);
        assert_true(error / power > limits[bits - 1] / 2);
        fixture_free(&f);
    }
}

/* bias + (W - copy) . beta + margin * sqrt(sum ((W - copy) * gamma)^2) */
static void threshold_is_the_documented_one(void **state)
{
    enum { cols = 70, rows = 16 };
    float weights[rows * cols], bias[rows], gamma[cols], beta[cols];

    (void)state;
    for (uint32_t i = 0; i < rows * cols; i++) weights[i] = gaussian();
    for (uint32_t i = 0; i < rows; i++) bias[i] = gaussian();
    for (uint32_t i = 0; i < cols; i++) gamma[i] = gaussian();
    for (uint32_t i = 0; i < cols; i++) beta[i] = gaussian();
    for (uint32_t bits = 1; bits <= 4; bits++) {
        fixture f = fixture_new(rows, cols, bits);
        make(&f, weights, bias, gamma, beta, 1.5f);
        for (uint32_t row = 0; row < rows; row++) {
            double mean = bias[row], variance = 0;
            for (uint32_t col = 0; col < cols; col++) {
                int levels[BLOCK];
                double scale = block_of(&f.sketch, row, col / BLOCK, levels);
                double copy = levels[col % BLOCK] * scale * row_scale_of(&f.sketch, row);
                double missing = weights[row * cols + col] - copy;
                mean += missing * beta[col];
                variance += missing * gamma[col] * missing * gamma[col];
            }
            assert_true(fabs(f.bias[row] - (mean + 1.5 * sqrt(variance))) < 1e-4);
        }
        fixture_free(&f);
    }
}

static uint64_t fnv(const void *data, size_t bytes, uint64_t hash)
{
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return hash;
}

/* Compiler, options and machine must not change what pack writes. */
static void the_same_bytes_everywhere(void **state)
{
    enum { cols = 333, rows = 45 };
    static float weights[rows * cols];
    float gamma[cols], beta[cols];
    uint64_t hash = 0xcbf29ce484222325u;

    (void)state;
    seed = 7;
    for (uint32_t i = 0; i < rows * cols; i++) weights[i] = gaussian();
    for (uint32_t i = 0; i < cols; i++) gamma[i] = gaussian();
    for (uint32_t i = 0; i < cols; i++) beta[i] = gaussian();
    for (uint32_t bits = 1; bits <= 4; bits++) {
        fixture f = fixture_new(rows, cols, bits);
        make(&f, weights, NULL, gamma, beta, 2);
        hash = fnv(f.tiles, flin_sketch_bytes(rows, cols, bits), hash);
        hash = fnv(f.bias, rows * sizeof(float), hash);
        fixture_free(&f);
    }
    assert_int_equal(hash, 0x635759e66bc1fda6u);
}

static void extreme_weights_give_a_sketch(void **state)
{
    static const float extremes[] = {0,       1e-45f,   -1e-38f, 1e-30f, 1.1e-30f,
                                     FLT_MAX, -FLT_MAX, 1e30f,   1,      -0.0f};
    enum { cols = 65, rows = 19 };
    float weights[rows * cols], bias[rows], x[cols];

    (void)state;
    for (int round = 0; round < 200; round++) {
        fixture f = fixture_new(rows, cols, 1 + random_below(4));
        uint32_t kinds = 1 + random_below(10);
        for (uint32_t i = 0; i < rows * cols; i++) weights[i] = extremes[random_below(kinds)];
        for (uint32_t i = 0; i < rows; i++) bias[i] = extremes[random_below(10)];
        for (uint32_t i = 0; i < cols; i++) x[i] = extremes[random_below(10)];
        make(&f, weights, bias, weights, weights + cols, FLIN_SKETCH_MARGIN);
        flin_sketch_mask_ref(&f.sketch, f.levels, flin_sketch_input(&f.sketch, x, f.levels), 0,
                             rows, f.mask);
        assert_true(f.mask[0] >> rows == 0);
        fixture_free(&f);
    }
}

static void all_zero_weights_leave_the_bias(void **state)
{
    float weights[2 * 40] = {0}, bias[2] = {1, -1}, x[40];
    fixture f = fixture_new(2, 40, 3);

    (void)state;
    for (uint32_t i = 0; i < 40; i++) x[i] = gaussian();
    make(&f, weights, bias, NULL, NULL, FLIN_SKETCH_MARGIN);
    flin_sketch_mask_ref(&f.sketch, f.levels, flin_sketch_input(&f.sketch, x, f.levels), 0, 2,
                         f.mask);
    assert_int_equal(f.mask[0], 1);
    fixture_free(&f);
}

static void maker_refuses_what_is_no_number(void **state)
{
    float weights[3 * 40], bias[3] = {0}, norm[40], tile_bias[3];
    uint8_t tile[1024];
    flin_sketch_maker maker;
    flashinfer_error error = {.size = sizeof error};

    (void)state;
    for (uint32_t i = 0; i < 120; i++) weights[i] = gaussian();
    for (uint32_t i = 0; i < 40; i++) norm[i] = 1;
    assert_int_equal(flin_sketch_maker_open(&maker, 40, 0, norm, norm, 2, &error),
                     FLASHINFER_EINVAL);
    assert_int_equal(flin_sketch_maker_open(&maker, 40, 5, norm, norm, 2, &error),
                     FLASHINFER_EINVAL);
    assert_int_equal(flin_sketch_maker_open(&maker, 0, 3, norm, norm, 2, &error),
                     FLASHINFER_EINVAL);
    assert_int_equal(flin_sketch_maker_open(&maker, 40, 3, norm, norm, NAN, &error),
                     FLASHINFER_EINVAL);
    assert_int_equal(flin_sketch_maker_open(&maker, 40, 3, norm, norm, -0.5f, &error),
                     FLASHINFER_EINVAL);
    norm[39] = NAN;
    assert_int_equal(flin_sketch_maker_open(&maker, 40, 3, norm, NULL, 2, &error),
                     FLASHINFER_ECHECKPOINT);
    assert_int_equal(flin_sketch_maker_open(&maker, 40, 3, NULL, norm, 2, &error),
                     FLASHINFER_ECHECKPOINT);
    assert_int_equal(flin_sketch_maker_open(&maker, 40, 3, NULL, NULL, 2, &error), 0);
    assert_true(flin_sketch_tile_bytes(40, 3) <= sizeof tile);
    weights[2 * 40 + 39] = INFINITY;
    assert_int_equal(flin_sketch_maker_tile(&maker, weights, bias, 3, tile, tile_bias, &error),
                     FLASHINFER_ECHECKPOINT);
    assert_int_equal(error.neuron, 2);
    weights[2 * 40 + 39] = 0;
    bias[1] = NAN;
    assert_int_equal(flin_sketch_maker_tile(&maker, weights, bias, 3, tile, tile_bias, &error),
                     FLASHINFER_ECHECKPOINT);
    assert_int_equal(error.neuron, 1);
    flin_sketch_maker_close(&maker);
}

/* --------------------------------------------------------------------------------------- input */

/* The input by the reference, and that every table gives the same bits. */
static float same_input(fixture *f, const float *x)
{
    static const uint32_t all[] = {FLASHINFER_KERNELS_DEFAULT, FLASHINFER_KERNELS_AVX2,
                                   FLASHINFER_KERNELS_AVX512, FLASHINFER_KERNELS_NEON};
    const float expected = flin_sketch_input(&f->sketch, x, f->levels);
    int8_t *levels = take(f->padded);

    for (uint32_t i = 0; i < sizeof all / sizeof *all; i++) {
        const flin_kernels *kernels = flin_kernels_choose(all[i]);
        float scale;
        if (kernels == NULL) continue;
        memset(levels, 99, f->padded);
        scale = kernels->sketch_input(&f->sketch, x, levels);
        assert_memory_equal(&scale, &expected, sizeof scale);
        assert_memory_equal(levels, f->levels, f->padded);
    }
    free(levels);
    return expected;
}

static void input_is_rounded_to_the_nearest_level(void **state)
{
    (void)state;
    for (int round = 0; round < 300; round++) {
        uint32_t cols = 1 + random_below(200);
        fixture f = fixture_new(1, cols, 1);
        float *x = take(cols * sizeof(float)), scale, peak = 0;

        for (uint32_t i = 0; i < cols; i++) {
            f.column_scale[i] = 0.25f + (float)random_below(1000) / 100;
            x[i] = gaussian() * (round % 3 == 0 ? 1e-20f : 1e3f);
            peak = fmaxf(peak, fabsf(x[i] * f.column_scale[i]));
        }
        memset(f.levels, 99, f.padded);
        scale = same_input(&f, x);
        assert_true(fabsf(scale * 127 - peak) <= peak * 1e-6f);
        for (uint32_t i = 0; i < cols; i++) {
            float value = x[i] * f.column_scale[i];
            assert_true(f.levels[i] >= -127);
            assert_true(fabsf((float)f.levels[i] * scale - value) <= scale * 0.50002f);
        }
        for (uint32_t i = cols; i < f.padded; i++) assert_int_equal(f.levels[i], 0);
        free(x);
        fixture_free(&f);
    }
}

static void hostile_input_is_harmless(void **state)
{
    static const float hostile[] = {NAN,     INFINITY, -INFINITY, FLT_MAX, -FLT_MAX,
                                    FLT_MIN, 1e-45f,   0,         -0.0f,   1};
    enum { cols = 37 };
    fixture f = fixture_new(1, cols, 2);
    float x[cols];

    (void)state;
    for (uint32_t i = 0; i < cols; i++) f.column_scale[i] = i % 2 == 0 ? 3 : 0.1f;
    for (int round = 0; round < 2000; round++) {
        uint32_t kinds = 1 + random_below(10), first = random_below(10);
        float scale;
        for (uint32_t i = 0; i < cols; i++) x[i] = hostile[(first + random_below(kinds)) % 10];
        scale = same_input(&f, x);
        assert_true(isfinite(scale) && scale >= 0);
        for (uint32_t i = 0; i < cols; i++) {
            assert_true(f.levels[i] >= -127);
            if (!isfinite(x[i])) assert_int_equal(f.levels[i], 0);
        }
    }
    fixture_free(&f);
}

/* --------------------------------------------------------------------------------------- score */

static void mask_is_the_sign_of_the_score(void **state)
{
    mask_function functions[8];
    uint32_t kernels = kernels_here(functions);

    (void)state;
    for (int round = 0; round < 120; round++) {
        uint32_t rows = 1 + random_below(150), cols = 1 + random_below(300);
        fixture f = fixture_new(rows, cols, 1 + (uint32_t)round % 4);
        float *weights = take(rows * cols * sizeof(float)), *bias = take(rows * sizeof(float));
        float *x = take(cols * sizeof(float)), scale;

        for (uint32_t i = 0; i < rows * cols; i++) weights[i] = gaussian();
        for (uint32_t i = 0; i < rows; i++) bias[i] = 4 * gaussian();
        for (uint32_t i = 0; i < cols; i++) x[i] = gaussian();
        make(&f, weights, bias, NULL, NULL, 0.5f);
        scale = flin_sketch_input(&f.sketch, x, f.levels);
        for (uint32_t k = 0; k < kernels; k++) {
            memset(f.mask, 0xff, f.words * sizeof(uint64_t));
            functions[k](&f.sketch, f.levels, scale, 0, rows, f.mask);
            for (uint32_t row = 0; row < rows; row++) {
                double sum = (double)sum_of(&f.sketch, row, f.levels);
                double score = sum * row_scale_of(&f.sketch, row) * scale + f.bias[row];
                double close = 1e-6 * fabs((double)f.bias[row]);
                if (fabs(score) > close) assert_int_equal(is_set(f.mask, row), score > 0);
            }
            if (rows % 64 != 0) assert_true(f.mask[f.words - 1] >> rows % 64 == 0);
        }
        free(weights);
        free(bias);
        free(x);
        fixture_free(&f);
    }
}

/* The largest sums a made sketch can have: every weight at the top level, the input of the same
 * signs. */
static void no_sum_leaves_32_bits(void **state)
{
    static const uint32_t widths[] = {32, 4096, 12288, FLIN_SKETCH_COLS_MAX};

    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t cols = widths[i / 2], bits = 3 + i % 2;
        fixture f = fixture_new(1, cols, bits);
        float *weights = take(cols * sizeof(float));
        int64_t sum;

        for (uint32_t k = 0; k < cols; k++) {
            weights[k] = k % 3 == 0 ? -1 : 1;
            f.levels[k] = k % 3 == 0 ? -127 : 127;
        }
        make(&f, weights, NULL, NULL, NULL, 0);
        sum = sum_of(&f.sketch, 0, f.levels);
        assert_true(sum > 0 && sum <= INT32_MAX);
        f.bias[0] = -1e-9f;
        flin_sketch_mask_ref(&f.sketch, f.levels, 1, 0, 1, f.mask);
        assert_int_equal(f.mask[0], 1);
        free(weights);
        fixture_free(&f);
    }
}

/* Tiles of random bytes: scales, biases and sums that no maker makes. */
static void kernels_agree_on_anything(void **state)
{
    mask_function functions[8];
    uint32_t kernels = kernels_here(functions);

    (void)state;
    for (int round = 0; round < 3000; round++) {
        uint32_t rows = 1 + random_below(round % 8 == 0 ? 300 : 40);
        uint32_t cols = 1 + random_below(round % 8 == 0 ? 150 : 600);
        fixture f = fixture_new(rows, cols, 1 + (uint32_t)round % 4);
        uint64_t *expected = take(f.words * sizeof(uint64_t));
        uint64_t bytes = flin_sketch_bytes(rows, cols, f.sketch.bits);
        uint32_t cut = random_below(f.words + 1) * 64;

        for (uint64_t i = 0; i < bytes; i++) f.tiles[i] = (uint8_t)random_u32();
        for (uint32_t i = 0; i < f.padded; i++) f.levels[i] = (int8_t)(random_below(255) - 127);
        for (uint32_t i = 0; i < rows; i++) {
            uint32_t any = random_u32();
            if (i % 2 == 0) any = 0; /* a bias of 0 shows the sign of the sum */
            memcpy(&f.bias[i], &any, sizeof any);
        }
        if (cut > rows) cut = rows;
        flin_sketch_mask_ref(&f.sketch, f.levels, 0.01f, 0, rows, expected);
        for (uint32_t k = 1; k < kernels; k++) {
            memset(f.mask, 0x5a, f.words * sizeof(uint64_t));
            functions[k](&f.sketch, f.levels, 0.01f, cut, rows, f.mask);
            functions[k](&f.sketch, f.levels, 0.01f, 0, cut, f.mask);
            assert_memory_equal(f.mask, expected, f.words * sizeof(uint64_t));
        }
        free(expected);
        fixture_free(&f);
    }
}

/* The tables of this CPU, and those it would have without some instructions. */
static uint32_t tables_here(flin_kernels *tables)
{
    uint32_t count = 0;

    for (uint32_t wanted = 0; wanted <= FLASHINFER_KERNELS_NEON; wanted++)
        if (flin_kernels_choose(wanted) != NULL) tables[count++] = *flin_kernels_choose(wanted);
#ifdef FLIN_HAVE_AVX512
    if (flin_kernels_choose(FLASHINFER_KERNELS_AVX512) != NULL) {
        tables[count] = flin_kernels_avx512;
        tables[count++].sketch_masks = NULL;
    }
#endif
    return count;
}

/* Of several inputs each has the mask it has alone, also where they go over the tiles in runs. */
static void inputs_together_and_alone(void **state)
{
    flin_kernels tables[8];
    const uint32_t count = tables_here(tables);

    (void)state;
    for (uint32_t round = 0; round < 1200; round++) {
        const uint32_t rows = 1 + random_below(round % 8 == 0 ? 1500 : 200);
        const uint32_t cols = 1 + random_below(round % 8 == 0 ? 3000 : 600);
        const uint32_t inputs = 1 + random_below(FLIN_INPUTS_MAX);
        const flin_kernels *kernels = &tables[round % count];
        fixture f = fixture_new(rows, cols, 1 + round / 8 % 4);
        const uint64_t tile_bytes = flin_sketch_tile_bytes(cols, f.sketch.bits);
        const uint32_t cut = random_below(f.words) * 64;
        int8_t *levels[FLIN_INPUTS_MAX];
        uint64_t *masks[FLIN_INPUTS_MAX];
        float scales[FLIN_INPUTS_MAX];

        for (uint64_t i = 0; i < flin_sketch_bytes(rows, cols, f.sketch.bits); i++)
            f.tiles[i] = (uint8_t)random_u32();
        for (uint32_t row = 0; row < rows; row++) {
            const float scale = gaussian();
            memcpy(f.tiles + row / ROWS * tile_bytes + row % ROWS * sizeof scale, &scale,
                   sizeof scale);
            f.bias[row] = row % 2 == 0 ? 0 : gaussian();
        }
        for (uint32_t i = 0; i < inputs; i++) {
            levels[i] = take(f.padded);
            masks[i] = take(f.words * sizeof(uint64_t));
            memset(masks[i], 0x5a, f.words * sizeof(uint64_t));
            scales[i] = 0.001f * (float)(i + 1);
            for (uint32_t c = 0; c < f.padded; c++)
                levels[i][c] = (int8_t)(random_below(255) - 127);
        }
        flin_sketch_masks(kernels, &f.sketch, (const int8_t *const *)levels, scales, inputs, cut,
                          rows, masks);
        flin_sketch_masks(kernels, &f.sketch, (const int8_t *const *)levels, scales, inputs, 0, cut,
                          masks);
        for (uint32_t i = 0; i < inputs; i++) {
            flin_sketch_mask_ref(&f.sketch, levels[i], scales[i], 0, rows, f.mask);
            assert_memory_equal(masks[i], f.mask, f.words * sizeof(uint64_t));
            free(levels[i]);
            free(masks[i]);
        }
        fixture_free(&f);
    }
}

/* ------------------------------------------------------------------------------------ property */

/* Independent Gaussian weights and inputs, 3% active. The inputs of a language model hang together,
   which leaves smaller errors: there the same margins find 99%, see docs/predictors.md. */
static void default_margin_finds_the_active(void **state)
{
    static const double found_limits[] = {0.91, 0.955, 0.98, 0.985};
    static const double named_limits[] = {0.22, 0.095, 0.055, 0.042};
    enum { cols = 256, rows = 512, tokens = 100 };
    float *weights = take(rows * cols * sizeof(float));
    float bias[rows], gamma[cols], beta[cols], x[cols];
    mask_function functions[8];
    mask_function mask = functions[kernels_here(functions) - 1];

    (void)state;
    for (uint32_t i = 0; i < rows * cols; i++) weights[i] = gaussian() / 16;
    for (uint32_t i = 0; i < cols; i++) gamma[i] = 0.5f + (float)random_below(1000) / 1000;
    for (uint32_t i = 0; i < cols; i++) beta[i] = 0.3f * gaussian();
    for (uint32_t row = 0; row < rows; row++) {
        double mean = 0, variance = 0;
        for (uint32_t col = 0; col < cols; col++) {
            double spread = weights[row * cols + col] * gamma[col];
            mean += weights[row * cols + col] * beta[col];
            variance += spread * spread;
        }
        bias[row] = (float)(-mean - 1.88 * sqrt(variance));
    }
    for (uint32_t bits = 1; bits <= 4; bits++) {
        fixture f = fixture_new(rows, cols, bits);
        uint32_t active = 0, found = 0, named = 0;
        make(&f, weights, bias, gamma, beta, FLIN_SKETCH_MARGIN);
        for (uint32_t token = 0; token < tokens; token++) {
            for (uint32_t i = 0; i < cols; i++) x[i] = gamma[i] * gaussian() + beta[i];
            mask(&f.sketch, f.levels, flin_sketch_input(&f.sketch, x, f.levels), 0, rows, f.mask);
            for (uint32_t row = 0; row < rows; row++) {
                double exact = bias[row];
                for (uint32_t i = 0; i < cols; i++) exact += weights[row * cols + i] * x[i];
                active += exact > 0;
                found += exact > 0 && is_set(f.mask, row);
                named += (uint32_t)is_set(f.mask, row);
            }
        }
        assert_true(active > rows * tokens / 50 && active < rows * tokens / 25);
        assert_true(found >= active * found_limits[bits - 1]);
        assert_true(named <= rows * tokens * named_limits[bits - 1]);
        fixture_free(&f);
    }
    free(weights);
}

/* --------------------------------------------------------------------------------------- check */

static void check_refuses_damaged_sketches(void **state)
{
    enum { rows = 20, cols = 40 };
    float weights[rows * cols];
    fixture f = fixture_new(rows, cols, 3);
    flin_sketch bad;
    flashinfer_error error = {.size = sizeof error};
    float value;

    (void)state;
    for (uint32_t i = 0; i < rows * cols; i++) weights[i] = gaussian();
    make(&f, weights, NULL, NULL, NULL, FLIN_SKETCH_MARGIN);
#define REFUSED(change)                                                                            \
    do {                                                                                           \
        bad = f.sketch;                                                                            \
        change;                                                                                    \
        assert_int_equal(flin_sketch_check(&bad, 4, &error), FLASHINFER_EFORMAT);                  \
        assert_int_equal(error.layer, 4);                                                          \
    } while (0)
    REFUSED(bad.rows = 0);
    REFUSED(bad.cols = 0);
    REFUSED(bad.cols = FLIN_SKETCH_COLS_MAX + 1);
    REFUSED(bad.bits = 0);
    REFUSED(bad.bits = 5);
    REFUSED(bad.tiles = NULL);
    REFUSED(bad.bias = NULL);
    REFUSED(bad.column_scale = NULL);
    REFUSED(f.bias[19] = NAN);
    assert_int_equal(error.neuron, 19);
    f.bias[19] = 0;
    REFUSED(f.column_scale[39] = 0);
    REFUSED(f.column_scale[39] = INFINITY);
    f.column_scale[39] = 1;
    value = -1;
    REFUSED(memcpy(f.tiles + flin_sketch_tile_bytes(cols, 3) + 3 * 4, &value, 4));
    assert_int_equal(error.neuron, 19);
    value = NAN;
    REFUSED(memcpy(f.tiles + flin_sketch_tile_bytes(cols, 3) + 3 * 4, &value, 4));
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_the_documented_ones),
        cmocka_unit_test(every_weight_has_its_own_bits),
        cmocka_unit_test(three_bits_lie_where_documented),
        cmocka_unit_test(copies_are_as_close_as_their_bits_allow),
        cmocka_unit_test(threshold_is_the_documented_one),
        cmocka_unit_test(the_same_bytes_everywhere),
        cmocka_unit_test(extreme_weights_give_a_sketch),
        cmocka_unit_test(all_zero_weights_leave_the_bias),
        cmocka_unit_test(maker_refuses_what_is_no_number),
        cmocka_unit_test(input_is_rounded_to_the_nearest_level),
        cmocka_unit_test(hostile_input_is_harmless),
        cmocka_unit_test(mask_is_the_sign_of_the_score),
        cmocka_unit_test(no_sum_leaves_32_bits),
        cmocka_unit_test(kernels_agree_on_anything),
        cmocka_unit_test(default_margin_finds_the_active),
        cmocka_unit_test(check_refuses_damaged_sketches),
        cmocka_unit_test(inputs_together_and_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
