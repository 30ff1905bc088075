/*
 * kernels_tasks.h - what tests/bench/kernels runs: pieces of work over a large buffer.
 */
#ifndef BENCH_KERNELS_TASKS_H
#define BENCH_KERNELS_TASKS_H

#include "kernels/kernels.h"
#include "util/pool.h"

#define MIB ((uint64_t)1 << 20)
#define SLICE_BYTES (16 * MIB)
#define HEADS 32u
#define HEAD_DIM 128u
#define COLS_MAX 16384u
#define PARTS_MAX 3u /* gate, up, down */

typedef struct bench {
    const flin_kernels *kernels;
    uint64_t buffer_bytes;
    uint8_t *buffer;
    uint64_t slots_max;
    uint64_t *order;     /* (slots_max) slots of the measure at hand, shuffled */
    const void **rows;   /* (PARTS_MAX, slots_max) a part of each slot, in that order */
    const void **firing; /* (slots_max / 2) the last part of every second slot */
    float *x;            /* (COLS_MAX) */
    float *y;            /* (65536) */
    float *gate;         /* (65536) */
    uint8_t *levels;     /* of x, 64-byte aligned */
    uint8_t *scratch;    /* (FLIN_POOL_THREADS_MAX, scratch_bytes) */
    uint64_t scratch_bytes;
    flin_pool pool;
    uint64_t sink; /* keeps the read-sum alive */
} bench;

typedef struct slice slice;

typedef struct measure {
    const char *name;
    void (*run)(slice *work); /* once through the pool, or more often */
    enum flin_type type;
    uint32_t
        rows; /* of the matrix as printed; slices may hold fewer. 0: as many as a slice holds */
    uint32_t cols;
    uint32_t stride; /* of attention */
    uint32_t parts;  /* rows that lie together in a slot; 0: not in slots */
} measure;

/* One slice of work. */
struct slice {
    bench *bench;
    const measure *what;
    uint32_t rows;  /* or slots, or positions */
    uint64_t bytes; /* it touches */
    uint64_t index; /* of the slice in the buffer */
};

void run_read_sum(slice *work);
void run_read_same(slice *work); /* of measures with slots or heads */
void run_matvec(slice *work);
void run_dot_rows(slice *work);
void run_add_rows(slice *work);
void run_sparse_ffn(slice *work);
void run_attend(slice *work);

/* Rows and bytes of a slice, and the slots' order where there are any. */
void prepare_slice(slice *work, bench *b, const measure *what);

/* kernels_products.c: 0 or -1 */
int measure_products(const bench *b, uint32_t tokens, double gflops[FLIN_TYPES_PACKED]);

/* kernels_inputs.c: 1, 2, 4 and 8 inputs on the bench's threads; 0 or -1 */
#define INPUT_COUNTS 4u

typedef struct inputs_figures {
    uint32_t inputs;
    double gb_per_s; /* of weights, 90th percentile */
    double times;    /* as long as one input takes, median */
} inputs_figures;

int measure_inputs(bench *b, enum flin_type type, uint32_t cols, uint32_t rounds,
                   inputs_figures figures[INPUT_COUNTS]);

/* Every large buffer; 0 or -1. */
int prepare_bench(bench *b, uint64_t buffer_bytes, int huge);

#endif
