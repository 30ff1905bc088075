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
 * work; the ratio of medians stands beside it.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "flashinfer.h"
#include "kernels/kernels.h"
#include "util/clock.h"
#include "util/pool.h"

#define MIB ((uint64_t)1 << 20)
#define SLICE_BYTES (16 * MIB)
#define ROW_BYTES_SCATTERED 8192u
#define SLICES_MAX 4096u
#define HEADS 32u
#define HEAD_DIM 128u
#define POSITIONS 1024u

typedef struct settings {
    uint64_t buffer_bytes;
    uint32_t rounds;
    uint32_t threads_max;
    uint32_t wanted; /* FLASHINFER_KERNELS_... */
    int json;
    int huge;
} settings;

typedef struct bench {
    const flin_kernels *kernels;
    settings set;
    uint8_t *buffer;
    const void **rows; /* every row of ROW_BYTES_SCATTERED in the buffer, shuffled */
    float *x;          /* (16384) */
    float *y;          /* (65536) */
    uint8_t *scratch;  /* (FLIN_POOL_THREADS_MAX, flin_attend_bytes(HEAD_DIM)) */
    flin_pool pool;
    uint64_t sink; /* keeps the read-sum alive */
} bench;

/* One slice of work: bytes it touches, and the function every thread calls. */
typedef struct slice {
    bench *bench;
    enum flin_type type;
    uint32_t cols;
    uint32_t rows;
    uint32_t stride;
    uint64_t index; /* of the slice in the buffer */
} slice;

typedef struct measure {
    const char *name;
    flin_pool_task task;
    enum flin_type type;
    uint32_t rows; /* of the matrix as printed; slices may hold fewer */
    uint32_t cols;
    uint32_t stride;
} measure;

typedef struct figures {
    double best; /* 90th percentile of bytes a nanosecond = GB/s */
    double median;
} figures;

static const char *const type_names[FLIN_TYPE_COUNT] = {"f32", "f16", "bf16", "q8_0", "q4_0"};

static uint64_t element_bytes(enum flin_type type)
{
    return flin_type_bytes(type, 1);
}

/* ---------------------------------------------------------------------------------------- tasks */

typedef uint64_t vector __attribute__((vector_size(64)));

/* Two streams a thread: on the CPUs tried that reads faster than one, and more do not read faster
   still. */
static void read_sum(void *context, uint32_t index, uint32_t count)
{
    slice *s = context;
    uint64_t half_bytes = SLICE_BYTES / count / 2 / 128 * 128;
    const uint8_t *at = s->bench->buffer + s->index * SLICE_BYTES + 2 * index * half_bytes;
    vector a = {0}, b = {0}, c = {0}, d = {0};

    for (uint64_t i = 0; i < half_bytes; i += 128) {
        const vector *v = (const vector *)(const void *)(at + i);
        const vector *w = (const vector *)(const void *)(at + half_bytes + i);
        a += v[0], b += w[0], c += v[1], d += w[1];
    }
    a += b + c + d;
    __atomic_fetch_add(&s->bench->sink, a[0] ^ a[7], __ATOMIC_RELAXED);
}

static void run_matvec(void *context, uint32_t index, uint32_t count)
{
    slice *s = context;
    const uint8_t *w = s->bench->buffer + s->index * SLICE_BYTES;
    uint32_t begin, end;

    flin_pool_share(s->rows, 4, index, count, &begin, &end);
    s->bench->kernels->matvec[s->type](w + (uint64_t)begin * s->cols * element_bytes(s->type),
                                       end - begin, s->cols, s->bench->x, NULL,
                                       s->bench->y + begin);
}

static void run_dot_rows(void *context, uint32_t index, uint32_t count)
{
    slice *s = context;
    uint32_t begin, end;

    flin_pool_share(s->rows, 4, index, count, &begin, &end);
    s->bench->kernels->dot_rows[s->type](s->bench->rows + s->index * s->rows + begin, end - begin,
                                         s->cols, s->bench->x, s->bench->y + begin);
}

static void run_add_rows(void *context, uint32_t index, uint32_t count)
{
    slice *s = context;
    uint32_t begin, end;

    flin_pool_share(s->cols, 64, index, count, &begin, &end);
    s->bench->kernels->add_rows[s->type](s->bench->rows + s->index * s->rows, s->bench->x, s->rows,
                                         begin, end, s->bench->y);
}

/* A slice holds keys, then values; a head's positions lie HEAD_DIM apart or one after another with
   all heads of a position together, as stride says. */
static void run_attend(void *context, uint32_t index, uint32_t count)
{
    slice *s = context;
    bench *b = s->bench;
    uint64_t unit = element_bytes(s->type);
    uint32_t positions = (uint32_t)(SLICE_BYTES / 2 / unit / HEADS / HEAD_DIM), begin, end;
    uint64_t head_step = s->stride == HEAD_DIM ? (uint64_t)HEAD_DIM * positions : HEAD_DIM;
    const uint8_t *keys = b->buffer + s->index * SLICE_BYTES;

    flin_pool_share(HEADS, 1, index, count, &begin, &end);
    for (uint32_t head = begin; head < end; head++)
        b->kernels->attend[s->type](
            b->x, keys + head * head_step * unit, keys + SLICE_BYTES / 2 + head * head_step * unit,
            positions, s->stride, HEAD_DIM, b->scratch + index * flin_attend_bytes(HEAD_DIM),
            b->y + head * HEAD_DIM);
}

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

static double rate_of(bench *b, flin_pool_task task, slice *work)
{
    uint64_t start = flin_now_ns();

    flin_pool_run(&b->pool, task, work);
    return (double)SLICE_BYTES / (double)(flin_now_ns() - start);
}

static void run(bench *b, const measure *what, figures *kernel, figures *memory)
{
    static double kernel_rates[SLICES_MAX], memory_rates[SLICES_MAX];
    uint64_t slices = b->set.buffer_bytes / SLICE_BYTES;
    slice work = {b, what->type, what->cols, 0, what->stride, 0};
    uint32_t done = 0;

    work.rows = (uint32_t)(SLICE_BYTES / ((uint64_t)what->cols * element_bytes(what->type)));
    for (uint64_t i = 0; i < slices * b->set.rounds && done < SLICES_MAX; i++, done++) {
        work.index = (i + slices / 2) % slices;
        memory_rates[done] = rate_of(b, read_sum, &work);
        work.index = i % slices;
        kernel_rates[done] = rate_of(b, what->task, &work);
    }
    *kernel = figures_of(kernel_rates, done);
    *memory = figures_of(memory_rates, done);
}

/* --------------------------------------------------------------------------------------- output */

static void print_head(const bench *b)
{
    if (b->set.json)
        printf("{\"kernels\": \"%s\", \"buffer_bytes\": %llu, \"huge_pages\": %s, \"results\": [",
               b->kernels->name, (unsigned long long)b->set.buffer_bytes,
               b->set.huge ? "true" : "false");
    else
        printf("kernels %s, buffer %llu MiB%s, 90th percentile of %llu slices of %llu MiB\n"
               "%-12s %-4s %13s %7s %9s %11s %9s %14s\n",
               b->kernels->name, (unsigned long long)(b->set.buffer_bytes / MIB),
               b->set.huge ? " in huge pages" : "",
               (unsigned long long)(b->set.buffer_bytes / SLICE_BYTES * b->set.rounds),
               (unsigned long long)(SLICE_BYTES / MIB), "kernel", "type", "shape", "threads",
               "GB/s", "DRAM GB/s", "percent", "median percent");
}

static void print_row(const bench *b, const measure *what, figures kernel, figures memory,
                      int first)
{
    double percent = 100 * kernel.best / memory.best;
    double median_percent = 100 * kernel.median / memory.median;
    char shape[32];

    snprintf(shape, sizeof shape, "%ux%u", what->rows, what->cols);
    if (b->set.json)
        printf("%s\n {\"kernel\": \"%s\", \"type\": \"%s\", \"rows\": %u, \"cols\": %u, "
               "\"threads\": %u, \"gb_per_s\": %.2f, \"dram_gb_per_s\": %.2f, "
               "\"percent\": %.1f, \"median_percent\": %.1f}",
               first ? "" : ",", what->name, type_names[what->type], what->rows, what->cols,
               b->pool.count, kernel.best, memory.best, percent, median_percent);
    else
        printf("%-12s %-4s %13s %7u %9.2f %11.2f %8.1f%% %13.1f%%\n", what->name,
               type_names[what->type], shape, b->pool.count, kernel.best, memory.best, percent,
               median_percent);
    fflush(stdout);
}

/* --------------------------------------------------------------------------------------- set-up */

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void *pages(uint64_t bytes, int huge)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (base == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
    if (huge) (void)madvise(base, bytes, MADV_HUGEPAGE);
#else
    (void)huge;
#endif
    return base;
}

static int prepare(bench *b)
{
    uint64_t count = b->set.buffer_bytes / ROW_BYTES_SCATTERED, state = 88172645463325252u;

    b->buffer = pages(b->set.buffer_bytes, b->set.huge);
    b->rows = malloc(count * sizeof *b->rows);
    b->x = malloc(16384 * sizeof *b->x);
    b->y = calloc(65536, sizeof *b->y);
    b->scratch = aligned_alloc(64, FLIN_POOL_THREADS_MAX * flin_attend_bytes(HEAD_DIM));
    if (!b->buffer || !b->rows || !b->x || !b->y || !b->scratch) return -1;

    /* halves between 0.5 and 2 of either sign; pairs of them are ordinary floats too */
    for (uint64_t i = 0; i < MIB / 2; i++)
        ((uint16_t *)(void *)b->buffer)[i] = (uint16_t)(0x3800u | (next_random(&state) & 0x87ffu));
    for (uint64_t at = MIB; at < b->set.buffer_bytes; at += MIB)
        memcpy(b->buffer + at, b->buffer, MIB);
    for (uint32_t i = 0; i < 16384; i++)
        b->x[i] = (float)(next_random(&state) % 2001) / 1e6f - 1e-3f;
    for (uint64_t i = 0; i < count; i++) b->rows[i] = b->buffer + i * ROW_BYTES_SCATTERED;
    for (uint64_t i = count - 1; i > 0; i--) {
        uint64_t j = next_random(&state) % (i + 1);
        const void *row = b->rows[i];
        b->rows[i] = b->rows[j];
        b->rows[j] = row;
    }
    return 0;
}

static const measure measures[] = {
    {"matvec", run_matvec, FLIN_F16, 4096, 16384, 0},
    {"matvec", run_matvec, FLIN_F16, 16384, 4096, 0},
    {"matvec", run_matvec, FLIN_F16, 16384, 1024, 0},
    {"matvec", run_matvec, FLIN_F32, 4096, 16384, 0},
    {"matvec", run_matvec, FLIN_F32, 16384, 4096, 0},
    {"dot_rows", run_dot_rows, FLIN_F16, 2048, 4096, 0},
    {"dot_rows", run_dot_rows, FLIN_F32, 2048, 2048, 0},
    {"add_rows", run_add_rows, FLIN_F16, 2048, 4096, 0},
    {"add_rows", run_add_rows, FLIN_F32, 2048, 2048, 0},
    {"attend", run_attend, FLIN_F16, POSITIONS, HEAD_DIM, HEAD_DIM},
    {"attend", run_attend, FLIN_F32, POSITIONS / 2, HEAD_DIM, HEAD_DIM},
    {"attend/far", run_attend, FLIN_F16, POSITIONS, HEAD_DIM, HEAD_DIM *HEADS},
    {"attend/far", run_attend, FLIN_F32, POSITIONS / 2, HEAD_DIM, HEAD_DIM *HEADS},
};

static int run_all(bench *b)
{
    int first = 1;

    print_head(b);
    for (uint32_t threads = 1; threads <= b->set.threads_max; threads *= 2) {
        if (flin_pool_open(&b->pool, threads, NULL) != 0) {
            fprintf(stderr, "kernels: cannot start %u threads\n", threads);
            return 1;
        }
        for (size_t i = 0; i < sizeof measures / sizeof *measures; i++, first = 0) {
            figures kernel, memory;
            run(b, &measures[i], &kernel, &memory);
            print_row(b, &measures[i], kernel, memory, first);
        }
        flin_pool_close(&b->pool);
    }
    if (b->set.json) printf("\n]}\n");
    return 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: kernels [--json] [--huge] [--mebibytes N] [--rounds N] [--threads N] "
                    "[--kernels ref|avx2|avx512]\n");
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
    static const char *const names[] = {"", "ref", "avx2", "avx512"};

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
            set->threads_max = (uint32_t)n;
            i++;
        } else if (strcmp(argv[i], "--kernels") == 0) {
            for (n = 1; n < 4 && strcmp(value, names[n]) != 0;) n++;
            if (n == 4) return -1;
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
    static bench b;

    b.set = (settings){1536 * MIB, 1, 2, FLASHINFER_KERNELS_DEFAULT, 0, 0};
    if (read_arguments(argc, argv, &b.set) != 0) return usage();
    b.kernels = flin_kernels_choose(b.set.wanted);
    if (b.kernels == NULL) {
        fprintf(stderr, "kernels: this CPU or build does not have the kernels asked for\n");
        return 1;
    }
    if (prepare(&b) != 0) {
        fprintf(stderr, "kernels: no memory for a buffer of %llu bytes; try --mebibytes\n",
                (unsigned long long)b.set.buffer_bytes);
        return 1;
    }
    return run_all(&b);
}
