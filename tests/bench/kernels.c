/*
 * kernels.c - how close the kernels come to the memory they read.
 *
 * Owns: one table (or --json) of GB/s for each kernel, type, shape and thread count, beside the
 * DRAM read bandwidth measured in the same run with the same number of threads. Refuses: figures
 * that fit a cache; the buffer must be well beyond the last level cache (default 1.5 GiB; some
 * servers have 480 MiB of L3) and every slice is touched once a round.
 *
 * Method: one slice is one call of the pool over about 16 MiB, one or two milliseconds. Slices of
 * the plain read-sum and of the kernel alternate, half a buffer apart. Compared are the 90th
 * percentiles of their rates, because on a machine with other work the slower slices measure that
 * work; the ratio of medians stands beside it. Rows in slots and heads in a cache are short and lie
 * apart: `same rows` is the kernel against a plain sum of those rows in that order, again in turn.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flashinfer.h"
#include "kernels_tasks.h"
#include "util/clock.h"

#define SLICES_MAX 4096u
#define CALLS 2000u /* of a function on vectors */
#define WIDE 4096u

typedef struct settings {
    uint64_t buffer_bytes;
    uint32_t rounds;
    uint32_t threads_least, threads_most;
    uint32_t wanted; /* FLASHINFER_KERNELS_... */
    int json;
    int huge;
    const char *only; /* part of a kernel's name or type; NULL: all */
} settings;

typedef struct figures {
    double best; /* 90th percentile of bytes a nanosecond = GB/s */
    double median;
} figures;

static const char *const type_names[FLIN_TYPES_KNOWN] = {"f32",  "f16",  "bf16",
                                                             "q8_0", "q4_0", "apart"};

/* --------------------------------------------------------------------------------------- timing */

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static figures figures_of(double *rates, uint32_t count)
{
    figures result;

    qsort(rates, count, sizeof *rates, by_value);
    result.best = rates[(count - 1) * 9 / 10];
    result.median = rates[count / 2];
    return result;
}

static double rate_of(slice *work, void (*run)(slice *work), uint64_t bytes)
{
    uint64_t start = flin_now_ns();

    run(work);
    return (double)bytes / (double)(flin_now_ns() - start);
}

typedef struct result {
    figures kernel, memory;
    figures same; /* of a plain sum of the same rows; 0 where that is the memory's own */
} result;

static result run(bench *b, const settings *set, const measure *what)
{
    static double kernel_rates[SLICES_MAX], memory_rates[SLICES_MAX], same_rates[SLICES_MAX];
    int pieces = what->parts != 0 || what->stride != 0;
    result found = {0};
    uint64_t slices = b->buffer_bytes / SLICE_BYTES;
    uint32_t done = 0;
    slice work;

    prepare_slice(&work, b, what);
    if (flin_type_quantised(what->type)) b->kernels->quantise(b->x, what->cols, b->levels);
    for (uint64_t i = 0; i < slices * set->rounds && done < SLICES_MAX; i++, done++) {
        work.index = (i + slices / 2) % slices;
        memory_rates[done] = rate_of(&work, run_read_sum, SLICE_BYTES);
        work.index = i % slices;
        kernel_rates[done] = rate_of(&work, what->run, work.bytes);
        work.index = (i + slices / 4) % slices;
        if (pieces) same_rates[done] = rate_of(&work, run_read_same, work.bytes);
    }
    found.kernel = figures_of(kernel_rates, done);
    found.memory = figures_of(memory_rates, done);
    if (pieces) found.same = figures_of(same_rates, done);
    return found;
}

/* ------------------------------------------------------------------------- vectors, in the cache */

typedef struct vectors {
    float x[WIDE], up[WIDE], y[WIDE];
    _Alignas(64) uint8_t levels[WIDE * 4 + 512];
} vectors;

typedef void vectors_task(const flin_kernels *kernels, vectors *v);

static void quantise(const flin_kernels *kernels, vectors *v)
{
    kernels->quantise(v->x, WIDE, v->levels);
}

static void layer_norm(const flin_kernels *kernels, vectors *v)
{
    kernels->layer_norm(v->x, v->up, v->up, WIDE, 1e-5f, v->y);
}

static void rms_norm(const flin_kernels *kernels, vectors *v)
{
    kernels->rms_norm(v->x, v->up, WIDE, 1e-5f, v->y);
}

static void relu(const flin_kernels *kernels, vectors *v)
{
    kernels->activate[FLIN_RELU](v->x, NULL, WIDE, v->y);
}

static void silu_gated(const flin_kernels *kernels, vectors *v)
{
    kernels->activate[FLIN_SILU](v->x, v->up, WIDE, v->y);
}

static void rotate(const flin_kernels *kernels, vectors *v)
{
    kernels->rotate(v->y, WIDE / HEAD_DIM, HEAD_DIM, HEAD_DIM, v->x, v->up, FLIN_PAIRS_HALVES);
}

static void rotate_pairs(const flin_kernels *kernels, vectors *v)
{
    kernels->rotate(v->y, WIDE / HEAD_DIM, HEAD_DIM, HEAD_DIM, v->x, v->up, FLIN_PAIRS_NEIGHBOURS);
}

static void to_q8_0(const flin_kernels *kernels, vectors *v)
{
    kernels->from_float[FLIN_Q8_0](v->x, WIDE, v->levels);
}

static void to_bf16(const flin_kernels *kernels, vectors *v)
{
    kernels->from_float[FLIN_BF16](v->x, WIDE, v->levels);
}

static void of_q8_0(const flin_kernels *kernels, vectors *v)
{
    kernels->to_float[FLIN_Q8_0](v->levels, WIDE, v->y);
}

static void of_q4_0(const flin_kernels *kernels, vectors *v)
{
    kernels->to_float[FLIN_Q4_0](v->levels, WIDE, v->y);
}

static void of_bf16(const flin_kernels *kernels, vectors *v)
{
    kernels->to_float[FLIN_BF16](v->levels, WIDE, v->y);
}

static void of_f16(const flin_kernels *kernels, vectors *v)
{
    kernels->to_float[FLIN_F16](v->levels, WIDE, v->y);
}

static const struct {
    const char *name;
    vectors_task *task;
} vector_tasks[] = {
    {"quantise", quantise},         {"layer_norm", layer_norm},
    {"rms_norm", rms_norm},         {"relu", relu},
    {"silu gated", silu_gated},     {"rotate halves", rotate},
    {"rotate pairs", rotate_pairs}, {"from_float q8_0", to_q8_0},
    {"to_float q8_0", of_q8_0},     {"to_float q4_0", of_q4_0},
    {"from_float bf16", to_bf16},   {"to_float bf16", of_bf16},
    {"to_float f16", of_f16},
};

/* The 10th percentile of nanoseconds a call. */
static double vector_ns(const flin_kernels *kernels, vectors_task *task, vectors *v)
{
    static double taken[CALLS];

    for (uint32_t i = 0; i < CALLS; i++) {
        uint64_t start = flin_now_ns();
        task(kernels, v);
        taken[i] = (double)(flin_now_ns() - start);
    }
    qsort(taken, CALLS, sizeof *taken, by_value);
    return taken[CALLS / 10];
}

static void run_vectors(const bench *b, const settings *set)
{
    static vectors v;

    for (uint32_t i = 0; i < WIDE; i++) v.x[i] = i % 2 ? 0.6f : -0.6f, v.up[i] = 0.8f;
    if (!set->json)
        printf("\nvectors of %u floats, in the cache, 10th percentile of %u calls\n", WIDE, CALLS);
    for (size_t i = 0; i < sizeof vector_tasks / sizeof *vector_tasks; i++) {
        double ns = vector_ns(b->kernels, vector_tasks[i].task, &v);
        if (set->json)
            printf("%s\n {\"kernel\": \"%s\", \"ns\": %.0f}", i == 0 ? "" : ",",
                   vector_tasks[i].name, ns);
        else
            printf("%-16s %9.0f ns\n", vector_tasks[i].name, ns);
    }
}

static int run_products(const bench *b, const settings *set)
{
    static const uint32_t tokens[] = {32, 512};

    if (!set->json) printf("\nproducts of 4096 columns with many tokens, 1 thread, GFLOP/s\n");
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        double gflops[FLIN_TYPES_PACKED];

        if (measure_products(b, tokens[i], gflops) != 0) return -1;
        for (uint32_t type = 0; type < FLIN_TYPES_PACKED; type++)
            if (set->json)
                printf("%s\n {\"tokens\": %u, \"type\": \"%s\", \"gflops\": %.1f}",
                       i + type == 0 ? "" : ",", tokens[i], type_names[type], gflops[type]);
            else
                printf("%4u tokens  %-4s %8.1f\n", tokens[i], type_names[type], gflops[type]);
    }
    return 0;
}

/* With the threads that are open. */
static int run_inputs(bench *b, const settings *set, int *first)
{
    static const uint32_t shapes[][2] = {{4096, 16384}, {16384, 1024}};

    if (!set->json)
        printf("\nweights from memory with some inputs at once, %u threads, GB/s and times as long "
               "as one\n",
               b->pool.count);
    for (uint32_t type = 0; type < FLIN_TYPES_KNOWN; type++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            inputs_figures found[INPUT_COUNTS];

            if (b->kernels->matvecs[type] == NULL) continue;
            if (set->only != NULL && strstr("matvecs", set->only) == NULL &&
                strstr(type_names[type], set->only) == NULL)
                continue;
            if (measure_inputs(b, type, shapes[s][1], set->rounds, found) != 0) return -1;
            if (!set->json) printf("%-5s %5ux%-5u", type_names[type], shapes[s][0], shapes[s][1]);
            for (uint32_t i = 0; i < INPUT_COUNTS; i++, *first = 0)
                if (set->json)
                    printf("%s\n {\"inputs\": %u, \"type\": \"%s\", \"rows\": %u, \"cols\": %u, "
                           "\"threads\": %u, \"gb_per_s\": %.2f, \"times\": %.3f}",
                           *first ? "" : ",", found[i].inputs, type_names[type], shapes[s][0],
                           shapes[s][1], b->pool.count, found[i].gb_per_s, found[i].times);
                else
                    printf("   %u: %6.2f %5.2fx", found[i].inputs, found[i].gb_per_s,
                           found[i].times);
            if (!set->json) printf("\n");
            fflush(stdout);
        }
    return 0;
}

/* --------------------------------------------------------------------------------------- output */

static void print_head(const bench *b, const settings *set)
{
    if (set->json)
        printf("{\"kernels\": \"%s\", \"buffer_bytes\": %llu, \"huge_pages\": %s, \"results\": [",
               b->kernels->name, (unsigned long long)b->buffer_bytes, set->huge ? "true" : "false");
    else
        printf("kernels %s, buffer %llu MiB%s, 90th percentile of %llu slices of %llu MiB\n"
               "%-12s %-5s %13s %7s %9s %11s %9s %14s %11s\n",
               b->kernels->name, (unsigned long long)(b->buffer_bytes / MIB),
               set->huge ? " in huge pages" : "",
               (unsigned long long)(b->buffer_bytes / SLICE_BYTES * set->rounds),
               (unsigned long long)(SLICE_BYTES / MIB), "kernel", "type", "shape", "threads",
               "GB/s", "DRAM GB/s", "percent", "median percent", "same rows");
}

static void print_row(const bench *b, const settings *set, const measure *what, result found,
                      int first)
{
    double percent = 100 * found.kernel.best / found.memory.best;
    double median_percent = 100 * found.kernel.median / found.memory.median;
    double same_percent = found.same.best > 0 ? 100 * found.kernel.best / found.same.best : percent;
    char shape[32];

    snprintf(shape, sizeof shape, "%ux%u", what->rows, what->cols);
    if (set->json)
        printf("%s\n {\"kernel\": \"%s\", \"type\": \"%s\", \"rows\": %u, \"cols\": %u, "
               "\"threads\": %u, \"gb_per_s\": %.2f, \"dram_gb_per_s\": %.2f, "
               "\"percent\": %.1f, \"median_percent\": %.1f, \"same_rows_percent\": %.1f}",
               first ? "" : ",", what->name, type_names[what->type], what->rows, what->cols,
               b->pool.count, found.kernel.best, found.memory.best, percent, median_percent,
               same_percent);
    else
        printf("%-12s %-5s %13s %7u %9.2f %11.2f %8.1f%% %13.1f%% %10.1f%%\n", what->name,
               type_names[what->type], shape, b->pool.count, found.kernel.best, found.memory.best,
               percent, median_percent, same_percent);
    fflush(stdout);
}

/* ------------------------------------------------------------------------------------ all of it */

static const measure measures[] = {
    {"matvec", run_matvec, FLIN_F16, 4096, 16384, 0, 0},
    {"matvec", run_matvec, FLIN_F16, 16384, 4096, 0, 0},
    {"matvec", run_matvec, FLIN_F16, 16384, 1024, 0, 0},
    {"matvec", run_matvec, FLIN_F32, 4096, 16384, 0, 0},
    {"matvec", run_matvec, FLIN_F32, 16384, 4096, 0, 0},
    {"matvec", run_matvec, FLIN_BF16, 4096, 16384, 0, 0},
    {"matvec", run_matvec, FLIN_BF16, 16384, 4096, 0, 0},
    {"matvec", run_matvec, FLIN_BF16, 16384, 1024, 0, 0},
    {"matvec", run_matvec, FLIN_Q8_0, 4096, 16384, 0, 0},
    {"matvec", run_matvec, FLIN_Q8_0, 16384, 4096, 0, 0},
    {"matvec", run_matvec, FLIN_Q8_0, 16384, 1024, 0, 0},
    {"matvec", run_matvec, FLIN_Q4_0, 4096, 16384, 0, 0},
    {"matvec", run_matvec, FLIN_Q4_0, 16384, 4096, 0, 0},
    {"matvec", run_matvec, FLIN_Q4_0, 16384, 1024, 0, 0},
    {"matvec", run_matvec, FLIN_Q4_0, 16384, 768, 0, 0},
    {"matvec", run_matvec, FLIN_Q4_0_APART, 4096, 16384, 0, 0},
    {"matvec", run_matvec, FLIN_Q4_0_APART, 16384, 4096, 0, 0},
    {"matvec", run_matvec, FLIN_Q4_0_APART, 16384, 2560, 0, 0},
    {"matvec", run_matvec, FLIN_Q4_0_APART, 16384, 768, 0, 0},
    {"dot_rows", run_dot_rows, FLIN_F16, 0, 4096, 0, 1},
    {"dot_rows", run_dot_rows, FLIN_F32, 0, 4096, 0, 1},
    {"dot_rows", run_dot_rows, FLIN_BF16, 0, 4096, 0, 1},
    {"dot_rows", run_dot_rows, FLIN_Q8_0, 0, 4096, 0, 1},
    {"dot_rows", run_dot_rows, FLIN_Q4_0, 0, 4096, 0, 1},
    {"add_rows", run_add_rows, FLIN_F16, 0, 4096, 0, 1},
    {"add_rows", run_add_rows, FLIN_F32, 0, 4096, 0, 1},
    {"add_rows", run_add_rows, FLIN_BF16, 0, 4096, 0, 1},
    {"add_rows", run_add_rows, FLIN_Q8_0, 0, 4096, 0, 1},
    {"add_rows", run_add_rows, FLIN_Q4_0, 0, 4096, 0, 1},
    {"sparse ffn", run_sparse_ffn, FLIN_F16, 0, 4096, 0, 2},
    {"sparse ffn", run_sparse_ffn, FLIN_F32, 0, 4096, 0, 2},
    {"sparse ffn", run_sparse_ffn, FLIN_BF16, 0, 4096, 0, 2},
    {"sparse ffn", run_sparse_ffn, FLIN_Q8_0, 0, 4096, 0, 2},
    {"sparse ffn", run_sparse_ffn, FLIN_Q4_0, 0, 4096, 0, 2},
    {"sparse gated", run_sparse_ffn, FLIN_F16, 0, 4096, 0, 3},
    {"sparse gated", run_sparse_ffn, FLIN_F32, 0, 4096, 0, 3},
    {"sparse gated", run_sparse_ffn, FLIN_BF16, 0, 4096, 0, 3},
    {"sparse gated", run_sparse_ffn, FLIN_Q8_0, 0, 4096, 0, 3},
    {"sparse gated", run_sparse_ffn, FLIN_Q4_0, 0, 4096, 0, 3},
    {"attend", run_attend, FLIN_F16, 0, HEAD_DIM, HEAD_DIM, 0},
    {"attend", run_attend, FLIN_F32, 0, HEAD_DIM, HEAD_DIM, 0},
    {"attend", run_attend, FLIN_Q8_0, 0, HEAD_DIM, HEAD_DIM, 0},
    {"attend/far", run_attend, FLIN_F16, 0, HEAD_DIM, HEAD_DIM *HEADS, 0},
    {"attend/far", run_attend, FLIN_F32, 0, HEAD_DIM, HEAD_DIM *HEADS, 0},
    {"attend/far", run_attend, FLIN_Q8_0, 0, HEAD_DIM, HEAD_DIM *HEADS, 0},
};

static int wanted(const bench *b, const settings *set, const measure *what)
{
    if (what->type == FLIN_Q4_0_APART && b->kernels->apart_to_float == NULL) return 0;
    return set->only == NULL || strstr(what->name, set->only) != NULL ||
           strstr(type_names[what->type], set->only) != NULL;
}

static int run_all(bench *b, const settings *set)
{
    int first = 1, first_inputs = 1;

    print_head(b, set);
    for (uint32_t threads = set->threads_least; threads <= set->threads_most; threads *= 2) {
        if (flin_pool_open(&b->pool, threads, NULL) != 0) {
            fprintf(stderr, "kernels: cannot start %u threads\n", threads);
            return 1;
        }
        for (size_t i = 0; i < sizeof measures / sizeof *measures; i++) {
            measure what = measures[i];
            result found;

            if (!wanted(b, set, &what)) continue;
            found = run(b, set, &what);
            if (what.rows == 0) {
                slice work;
                prepare_slice(&work, b, &what);
                what.rows = work.rows;
            }
            print_row(b, set, &what, found, first);
            first = 0;
        }
        flin_pool_close(&b->pool);
    }
    if (set->json) printf("\n], \"inputs\": [");
    for (uint32_t threads = set->threads_least; threads <= set->threads_most; threads *= 2) {
        if (flin_pool_open(&b->pool, threads, NULL) != 0) return 1;
        if (run_inputs(b, set, &first_inputs) != 0) return 1;
        flin_pool_close(&b->pool);
    }
    if (set->json) printf("\n], \"vectors\": [");
    if (set->only == NULL) run_vectors(b, set);
    if (set->json) printf("\n], \"products\": [");
    if (set->only == NULL && run_products(b, set) != 0) return 1;
    if (set->json) printf("\n]}\n");
    return 0;
}
static int usage(void)
{
    fprintf(stderr, "usage: kernels [--json] [--huge] [--mebibytes N] [--rounds N] [--threads N] "
                    "[--only-threads N] [--kernels ref|avx2|avx512|neon] [--only NAME]\n");
    return 2;
}

static int number(const char *text, uint64_t least, uint64_t most, uint64_t *value)
{
    char *end;

    *value = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == 0 && *value >= least && *value <= most;
}

static int read_arguments(int argc, char **argv, settings *set)
{
    static const char *const names[] = {"", "ref", "avx2", "avx512", "neon"};

    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        uint64_t n;

        if (strcmp(argv[i], "--json") == 0) {
            set->json = 1;
        } else if (strcmp(argv[i], "--huge") == 0) {
            set->huge = 1;
        } else if (strcmp(argv[i], "--mebibytes") == 0 && number(value, 32, 65536, &n)) {
            set->buffer_bytes = n * MIB / SLICE_BYTES * SLICE_BYTES;
            i++;
        } else if (strcmp(argv[i], "--rounds") == 0 && number(value, 1, 100, &n)) {
            set->rounds = (uint32_t)n;
            i++;
        } else if (strcmp(argv[i], "--threads") == 0 &&
                   number(value, 1, FLIN_POOL_THREADS_MAX, &n)) {
            set->threads_most = (uint32_t)n;
            i++;
        } else if (strcmp(argv[i], "--only-threads") == 0 &&
                   number(value, 1, FLIN_POOL_THREADS_MAX, &n)) {
            set->threads_least = set->threads_most = (uint32_t)n;
            i++;
        } else if (strcmp(argv[i], "--only") == 0 && *value != 0) {
            set->only = value;
            i++;
        } else if (strcmp(argv[i], "--kernels") == 0) {
            for (n = 1; n < 5 && strcmp(value, names[n]) != 0;) n++;
            if (n == 5) return -1;
            set->wanted = (uint32_t)n;
            i++;
        } else {
            return -1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    settings set = {1536 * MIB, 1, 1, 2, FLASHINFER_KERNELS_DEFAULT, 0, 0, NULL};
    static bench b;

    if (read_arguments(argc, argv, &set) != 0) return usage();
    b.kernels = flin_kernels_choose(set.wanted);
    if (b.kernels == NULL) {
        fprintf(stderr, "kernels: this CPU or build does not have the kernels asked for\n");
        return 1;
    }
    if (prepare_bench(&b, set.buffer_bytes, set.huge) != 0) {
        fprintf(stderr, "kernels: no memory for a buffer of %llu bytes; try --mebibytes\n",
                (unsigned long long)set.buffer_bytes);
        return 1;
    }
    return run_all(&b, &set);
}
