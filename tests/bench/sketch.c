/*
 * sketch.c - how fast the sketch kernels stream their tiles, beside plain reading of the same
 * memory.
 *
 *     sketch [ROWS COLS [MEGABYTES]]      default 16384 4096 1024: OPT-6.7B's FFN
 *
 * One thread. The memory should be well beyond the last cache and is walked slice by slice, a
 * quarter of a layer each. Shown is the rate that one slice in ten reaches, because on a machine
 * with other work the slower slices measure that work.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "predictor/sketch.h"
#include "util/clock.h"

#define PASSES 3
#define SLICES_MAX 65536u

typedef void (*mask_function)(const flin_sketch *, const int8_t *, float, uint32_t, uint32_t,
                              uint64_t *);

typedef struct bench {
    uint8_t *memory;
    uint64_t bytes;
    float *bias, *column_scale;
    int8_t *levels;
    uint64_t *mask;
    double *rates; /* (SLICES_MAX) */
} bench;

static uint64_t plain_sum(const uint8_t *memory, uint64_t bytes)
{
    uint64_t sums[8] = {0}, words[8], all = 0;

    for (uint64_t at = 0; at + sizeof words <= bytes; at += sizeof words) {
        memcpy(words, memory + at, sizeof words);
        for (int i = 0; i < 8; i++) sums[i] += words[i];
    }
    for (int i = 0; i < 8; i++) all += sums[i];
    return all;
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static double tenth(double *rates, uint64_t count)
{
    qsort(rates, count, sizeof *rates, descending);
    return rates[count / 10];
}

static double plain_rate(const bench *b, uint64_t slice_bytes)
{
    uint64_t count = 0;
    volatile uint64_t sink = 0;

    for (int pass = 0; pass < PASSES; pass++) {
        for (uint64_t at = 0; at + slice_bytes <= b->bytes && count < SLICES_MAX; count++) {
            uint64_t begin = flin_now_ns();
            sink += plain_sum(b->memory + at, slice_bytes);
            b->rates[count] = (double)slice_bytes / (double)(flin_now_ns() - begin);
            at += slice_bytes;
        }
    }
    (void)sink;
    return tenth(b->rates, count);
}

static double mask_rate(const bench *b, mask_function function, flin_sketch sketch)
{
    uint64_t layer_bytes = flin_sketch_bytes(sketch.rows, sketch.cols, sketch.bits);
    uint64_t layers = b->bytes / layer_bytes, count = 0;
    uint32_t slice = (sketch.rows + 255) / 256 * 64;

    for (int pass = 0; pass < PASSES; pass++) {
        for (uint64_t i = 0; i < layers; i++) {
            sketch.tiles = b->memory + i * layer_bytes;
            for (uint32_t row = 0; row < sketch.rows && count < SLICES_MAX; row += slice) {
                uint32_t end = sketch.rows - row < slice ? sketch.rows : row + slice;
                uint64_t begin = flin_now_ns(), bytes;
                function(&sketch, b->levels, 0.01f, row, end, b->mask);
                bytes = flin_sketch_bytes(end - row, sketch.cols, sketch.bits);
                b->rates[count++] = (double)bytes / (double)(flin_now_ns() - begin);
            }
        }
    }
    return tenth(b->rates, count);
}

static void run(const bench *b, const char *name, mask_function function, uint32_t rows,
                uint32_t cols, double plain)
{
    for (uint32_t bits = 1; bits <= 4; bits++) {
        flin_sketch sketch = {rows, cols, bits, 0, NULL, b->bias, b->column_scale};
        double rate = mask_rate(b, function, sketch);
        double layer_bytes = (double)flin_sketch_bytes(rows, cols, bits);
        printf("%-12s %u bits  %6.2f GB/s  %3.0f%% of plain reading  %7.3f ms a layer\n", name,
               bits, rate, 100 * rate / plain, layer_bytes / rate * 1e-6);
    }
}

int main(int argc, char **argv)
{
    uint32_t rows = argc > 2 ? (uint32_t)strtoul(argv[1], NULL, 10) : 16384;
    uint32_t cols = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 4096;
    uint64_t megabytes = argc > 3 ? strtoull(argv[3], NULL, 10) : 1024;
    uint64_t least = flin_sketch_bytes(rows, cols, 4);
    bench b = {.bytes = megabytes << 20};
    double plain;

    if (rows == 0 || least == 0) {
        (void)fprintf(stderr, "sketch: no sketch has %u neurons of %u inputs\n", rows, cols);
        return 2;
    }
    if (b.bytes < least) b.bytes = least;
    b.bytes = (b.bytes + 63) / 64 * 64;
    b.memory = aligned_alloc(64, b.bytes);
    b.bias = calloc(rows, sizeof(float));
    b.column_scale = calloc(cols, sizeof(float));
    b.levels = calloc(flin_sketch_blocks(cols), FLIN_SKETCH_BLOCK);
    b.mask = calloc(rows / 64 + 1, sizeof(uint64_t));
    b.rates = calloc(SLICES_MAX, sizeof(double));
    if (b.rates == NULL || b.memory == NULL || b.bias == NULL || b.column_scale == NULL ||
        b.levels == NULL || b.mask == NULL) {
        (void)fprintf(stderr, "sketch: no memory\n");
        return 1;
    }
    for (uint64_t i = 0; i < b.bytes / 8; i++) {
        uint64_t word = i * 0x9e3779b97f4a7c15u;
        memcpy(b.memory + 8 * i, &word, sizeof word);
    }
    for (uint32_t i = 0; i < cols; i++) b.levels[i] = (int8_t)(i * 40503u >> 5 & 127);

    plain = plain_rate(&b, least / 4);
    printf("plain reading        %6.2f GB/s, %u x %u, one thread\n", plain, rows, cols);
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi"))
        run(&b, "avx512 vbmi", flin_sketch_mask_avx512_vbmi, rows, cols, plain);
    if (__builtin_cpu_supports("avx512vnni"))
        run(&b, "avx512 vnni", flin_sketch_mask_avx512_vnni, rows, cols, plain);
    if (__builtin_cpu_supports("avx512bw"))
        run(&b, "avx512", flin_sketch_mask_avx512_bw, rows, cols, plain);
    if (__builtin_cpu_supports("avx2")) run(&b, "avx2", flin_sketch_mask_avx2, rows, cols, plain);
#endif
#ifdef FLIN_HAVE_NEON
    if (flin_kernels_choose(FLASHINFER_KERNELS_NEON) == &flin_kernels_neon_dotprod)
        run(&b, "neon dotprod", flin_sketch_mask_neon_dotprod, rows, cols, plain);
    run(&b, "neon", flin_sketch_mask_neon, rows, cols, plain);
#endif
    if (megabytes <= 64) run(&b, "ref", flin_sketch_mask_ref, rows, cols, plain);
    free(b.memory);
    free(b.bias);
    free(b.column_scale);
    free(b.levels);
    free(b.mask);
    free(b.rates);
    return 0;
}
