/*
 * sketch.c - how fast the sketch kernels stream their tiles, beside plain reading of the same
 * memory.
 *
 *     sketch [THREADS [ROWS COLS [MEGABYTES]]]      default 1 16384 4096 1024: OPT-6.7B's FFN
 *
 * The memory, in huge pages where the system gives them, should be well beyond the last cache and is walked layer by
 * layer, as a step does; plain reading and the kernel alternate. Shown are the rates that one layer in ten reaches,
 * because on a machine with other work the slower ones measure that work, and their ratio.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/kernels.h"
#include "kernels/sketch/sketch.h"
#include "plain.h"
#include "util/clock.h"
#include "util/pool.h"

#define PASSES 3
#define LAYERS_MAX 65536u

typedef void (*mask_function)(const flin_sketch *, const int8_t *, float, uint32_t, uint32_t,
                              uint64_t *);

typedef struct bench {
    flin_pool pool;
    uint8_t *memory;
    uint64_t bytes;
    float *bias, *column_scale;
    int8_t *levels;
    uint64_t *mask;
    uint64_t *masks[FLIN_INPUTS_MAX];
    double *rates, *plain_rates; /* (LAYERS_MAX) */
} bench;

/* A sketch, read by a kernel, for some inputs at once, or plainly. */
typedef struct layer {
    const bench *bench;
    mask_function function;
    uint32_t inputs;
    flin_sketch sketch;
    _Atomic uint64_t sink;
} layer;

static void run_mask(void *context, uint32_t index, uint32_t count)
{
    layer *at = context;
    uint32_t begin, end;

    flin_pool_share(at->sketch.rows, 64, index, count, &begin, &end);
    if (begin != end)
        at->function(&at->sketch, at->bench->levels, 0.01f, begin, end, at->bench->mask);
}

static void run_masks(void *context, uint32_t index, uint32_t count)
{
    layer *at = context;
    const int8_t *levels[FLIN_INPUTS_MAX];
    float scales[FLIN_INPUTS_MAX];
    uint32_t begin, end;

    for (uint32_t i = 0; i < FLIN_INPUTS_MAX; i++) {
        levels[i] = at->bench->levels;
        scales[i] = 0.01f;
    }
    flin_pool_share(at->sketch.rows, 64, index, count, &begin, &end);
    flin_sketch_masks(flin_kernels_choose(0), &at->sketch, levels, scales, at->inputs, begin, end,
                      at->bench->masks);
}

static void run_plain(void *context, uint32_t index, uint32_t count)
{
    layer *at = context;
    const flin_sketch *sketch = &at->sketch;
    uint32_t begin, end;

    flin_pool_share(sketch->rows, 64, index, count, &begin, &end);
    atomic_fetch_add(
        &at->sink,
        bench_plain_sum(sketch->tiles + flin_sketch_bytes(begin, sketch->cols, sketch->bits),
                        flin_sketch_bytes(end - begin, sketch->cols, sketch->bits)));
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

static double rate_of(bench *b, flin_pool_task task, layer *at)
{
    uint64_t bytes = flin_sketch_bytes(at->sketch.rows, at->sketch.cols, at->sketch.bits);
    uint64_t begin = flin_now_ns();

    flin_pool_run(&b->pool, task, at);
    return (double)bytes / (double)(flin_now_ns() - begin);
}

/* The kernel takes one layer while plain reading takes another. */
static double mask_rate(bench *b, mask_function function, const flin_sketch *sketch, double *plain)
{
    uint64_t bytes = flin_sketch_bytes(sketch->rows, sketch->cols, sketch->bits);
    uint64_t layers = b->bytes / bytes, count;
    layer work = {.bench = b, .function = function, .sketch = *sketch}, reading = work;

    for (count = 0; count < PASSES * layers && count < LAYERS_MAX; count++) {
        work.sketch.tiles = b->memory + count % layers * bytes;
        reading.sketch.tiles = b->memory + (count + layers / 2) % layers * bytes;
        b->plain_rates[count] = rate_of(b, run_plain, &reading);
        b->rates[count] = rate_of(b, run_mask, &work);
    }
    *plain = tenth(b->plain_rates, count);
    return tenth(b->rates, count);
}

static void run(bench *b, const char *name, mask_function function, uint32_t rows, uint32_t cols)
{
    for (uint32_t bits = 1; bits <= 4; bits++) {
        flin_sketch sketch = {rows, cols, bits, 0, NULL, b->bias, b->column_scale};
        double plain, rate = mask_rate(b, function, &sketch, &plain);
        double layer_bytes = (double)flin_sketch_bytes(rows, cols, bits);
        printf("%-12s %u bits  %6.2f of %6.2f GB/s  %3.0f%% of plain reading  %7.3f ms a layer\n",
               name, bits, rate, plain, 100 * rate / plain, layer_bytes / rate * 1e-6);
    }
}

/* The best kernel, for some inputs at once: how many times as long as for one, in turn. */
static void run_inputs(bench *b, uint32_t rows, uint32_t cols)
{
    static const uint32_t counts[] = {1, 2, 4, 8};

    for (uint32_t bits = 1; bits <= 4; bits++) {
        const uint64_t bytes = flin_sketch_bytes(rows, cols, bits), layers = b->bytes / bytes;
        layer work = {.bench = b, .sketch = {rows, cols, bits, 0, NULL, b->bias, b->column_scale}};

        printf("some inputs  %u bits", bits);
        for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
            uint64_t count;

            for (count = 0; count < PASSES * layers && count < LAYERS_MAX; count++) {
                work.sketch.tiles = b->memory + count % layers * bytes;
                work.inputs = 1;
                b->plain_rates[count] = rate_of(b, run_masks, &work);
                work.sketch.tiles = b->memory + (count + layers / 2) % layers * bytes;
                work.inputs = counts[k];
                b->rates[count] = b->plain_rates[count] / rate_of(b, run_masks, &work);
            }
            qsort(b->rates, count, sizeof *b->rates, descending);
            printf("   %u: %5.2fx", counts[k], b->rates[count / 2]);
        }
        printf("\n");
    }
}

/* 0, or -1 without memory. Weights and scales are random, but scales are numbers such as sketches have. */
static int prepare(bench *b, uint32_t rows, uint32_t cols)
{
    b->memory = mmap(NULL, b->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    b->bias = calloc(rows, sizeof(float));
    b->column_scale = calloc(cols, sizeof(float));
    b->levels = calloc(flin_sketch_blocks(cols), FLIN_SKETCH_BLOCK);
    b->mask = calloc(rows / 64 + 1, sizeof(uint64_t));
    for (uint32_t i = 0; i < FLIN_INPUTS_MAX; i++) {
        b->masks[i] = calloc(rows / 64 + 1, sizeof(uint64_t));
        if (b->masks[i] == NULL) return -1;
    }
    b->rates = calloc(LAYERS_MAX, sizeof(double));
    b->plain_rates = calloc(LAYERS_MAX, sizeof(double));
    if (b->rates == NULL || b->plain_rates == NULL || b->memory == MAP_FAILED || b->bias == NULL ||
        b->column_scale == NULL || b->levels == NULL || b->mask == NULL)
        return -1;
#ifdef MADV_HUGEPAGE
    (void)madvise(b->memory, b->bytes, MADV_HUGEPAGE);
#endif
    for (uint64_t i = 0; i < b->bytes / 8; i++) {
        uint64_t word = (i * 0x9e3779b97f4a7c15u & 0xbfffffffbfffffffu) | 0x2000000020000000u;
        memcpy(b->memory + 8 * i, &word, sizeof word);
    }
    for (uint32_t i = 0; i < cols; i++) b->levels[i] = (int8_t)(i * 40503u >> 5 & 127);
    return 0;
}

static void finish(bench *b)
{
    flin_pool_close(&b->pool);
    if (b->memory != MAP_FAILED) (void)munmap(b->memory, b->bytes);
    free(b->bias);
    free(b->column_scale);
    free(b->levels);
    free(b->mask);
    for (uint32_t i = 0; i < FLIN_INPUTS_MAX; i++) free(b->masks[i]);
    free(b->rates);
    free(b->plain_rates);
}

int main(int argc, char **argv)
{
    uint32_t threads = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1;
    uint32_t rows = argc > 3 ? (uint32_t)strtoul(argv[2], NULL, 10) : 16384;
    uint32_t cols = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 4096;
    uint64_t megabytes = argc > 4 ? strtoull(argv[4], NULL, 10) : 1024;
    uint64_t least = flin_sketch_bytes(rows, cols, 4);
    bench b = {.bytes = megabytes << 20};

    if (rows == 0 || least == 0 || threads == 0 || threads > FLIN_POOL_THREADS_MAX) {
        (void)fprintf(stderr, "sketch: no sketch has %u neurons of %u inputs, or not %u threads\n",
                      rows, cols, threads);
        return 2;
    }
    if (b.bytes < least) b.bytes = least;
    b.bytes = (b.bytes + 63) / 64 * 64;
    if (prepare(&b, rows, cols) != 0 || flin_pool_open(&b.pool, threads, NULL) != 0) {
        (void)fprintf(stderr, "sketch: no memory\n");
        return 1;
    }
    printf("%u x %u, %u threads\n", rows, cols, threads);
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi"))
        run(&b, "avx512 vbmi", flin_sketch_mask_avx512_vbmi, rows, cols);
    if (__builtin_cpu_supports("avx512vnni"))
        run(&b, "avx512 vnni", flin_sketch_mask_avx512_vnni, rows, cols);
    if (__builtin_cpu_supports("avx512bw"))
        run(&b, "avx512", flin_sketch_mask_avx512_bw, rows, cols);
    if (__builtin_cpu_supports("avx2")) run(&b, "avx2", flin_sketch_mask_avx2, rows, cols);
#endif
#ifdef FLIN_HAVE_NEON
    if (flin_kernels_choose(FLASHINFER_KERNELS_NEON) == &flin_kernels_neon_dotprod)
        run(&b, "neon dotprod", flin_sketch_mask_neon_dotprod, rows, cols);
    run(&b, "neon", flin_sketch_mask_neon, rows, cols);
#endif
    run_inputs(&b, rows, cols);
    if (megabytes <= 64) run(&b, "ref", flin_sketch_mask_ref, rows, cols);
    finish(&b);
    return 0;
}
