/*
 * kernels.h - the arithmetic of the engine, as a table of functions chosen once per model by CPU
 * feature.
 *
 * Owns: sums and their order. Refuses: threads, memory, I/O, knowing what a layer is.
 *
 * `ref` is complete and obvious; an overlay copies its table and replaces what it does better.
 * Rules every overlay keeps:
 *   - dot products of one row have one fixed order, whatever rows stand beside it: matvec and
 *     dot_rows agree bit for bit, and so does any split of the rows over threads;
 *   - add_rows adds rows in the order given, one fused or unfused multiply-add per element, the
 *     same for every element of a row whatever the column range, so that any split of the columns
 *     gives the same bits;
 *   - accumulation is float32; tails take the same operations as full vectors.
 */
#ifndef FLIN_KERNELS_KERNELS_H
#define FLIN_KERNELS_KERNELS_H

#include <stdint.h>

enum flin_type { FLIN_F32 = 0, FLIN_F16 = 1, FLIN_TYPE_COUNT = 2 }; /* storage types of matrices */

static inline uint32_t flin_type_bytes(enum flin_type type, uint32_t elements)
{
    return elements * (type == FLIN_F16 ? 2u : 4u);
}

/* Sketch matrices: see predictor/sketch.h for the layout of tiles. */
struct flin_sketch;

typedef struct flin_kernels {
    const char *name; /* "ref", "avx2", "avx512" */

    /* y[r] = sum_c w[r][c] * x[c] (+ bias[r])
       w: (rows, cols) row-major; bias: (rows) or NULL */
    void (*matvec[FLIN_TYPE_COUNT])(const void *w, uint32_t rows, uint32_t cols, const float *x,
                                    const float *bias, float *y);

    /* y[i] = sum_c rows[i][c] * x[c]
       rows: (count) pointers to (cols), any even address */
    void (*dot_rows[FLIN_TYPE_COUNT])(const void *const *rows, uint32_t count, uint32_t cols,
                                      const float *x, float *y);

    /* y[c] += sum_i a[i] * rows[i][c] for c in [begin, end), i in order; begin and end multiples of
       64 or the width */
    void (*add_rows[FLIN_TYPE_COUNT])(const void *const *rows, const float *a, uint32_t count,
                                      uint32_t begin, uint32_t end, float *y);

    /* to[c] = row[c]: one row of a matrix as floats (embeddings) */
    void (*to_float[FLIN_TYPE_COUNT])(const void *row, uint32_t cols, float *to);

    /* to[c] = x[c] rounded to float16 */
    void (*to_half)(const float *x, uint32_t cols, uint16_t *to);

    /* y = (x - mean) / sqrt(var + eps) * weight + bias      all (n); y may be x */
    void (*layer_norm)(const float *x, const float *weight, const float *bias, uint32_t n,
                       float eps, float *y);

    /* One head of attention for one query over `count` cached positions (paper: attention stays in
       DRAM). q: (head_dim) already scaled; keys, values: position p of this head at element p *
       stride; type of both is the table index; scores: (count) scratch; out: (head_dim). Softmax
       subtracts the maximum. No position, or scores without a finite maximum, are not an error:
       zeros, or NaN. */
    void (*attend[FLIN_TYPE_COUNT])(const float *q, const void *keys, const void *values,
                                    uint32_t count, uint32_t stride, uint32_t head_dim,
                                    float *scores, float *out);

    /* Predicted neurons of rows [begin, end) as bits: mask[i / 64] bit i % 64; begin and end
       multiples of 64 or the row count. levels: the input quantised by flin_sketch_input(). */
    void (*sketch_mask)(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                        uint32_t begin, uint32_t end, uint64_t *mask);

    /* scores[i] of rows [begin, end), begin a multiple of 16, for calibrating: a row is named if
       scores[i] > -bias[i] */
    void (*sketch_scores)(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                          uint32_t begin, uint32_t end, float *scores);
} flin_kernels;

/* wanted: FLASHINFER_KERNELS_...; NULL if this CPU or build cannot. DEFAULT never gives NULL. */
const flin_kernels *flin_kernels_choose(uint32_t wanted);

extern const flin_kernels flin_kernels_ref;

/* Each exists only where the build compiles it and so defines FLIN_HAVE_AVX2, FLIN_HAVE_AVX512. */
extern const flin_kernels flin_kernels_avx2;
extern const flin_kernels flin_kernels_avx512;

/* Integer sums, so every table's sketch_mask gives the same mask; predictor/sketch.c. */
void flin_sketch_mask_ref(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                          uint32_t begin, uint32_t end, uint64_t *mask);
void flin_sketch_scores_ref(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                            uint32_t begin, uint32_t end, float *scores);
void flin_sketch_scores_avx2(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                             uint32_t begin, uint32_t end, float *scores);
void flin_sketch_scores_avx512(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                               uint32_t begin, uint32_t end, float *scores);

/* kernels/sketch_avx2.c and kernels/sketch_avx512.c, built with the overlay of the name. The last
   takes VNNI and VBMI where the CPU has them, as _vbmi does always, _vnni the first, and _bw neither. */
void flin_sketch_mask_avx2(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                           uint32_t begin, uint32_t end, uint64_t *mask);
void flin_sketch_mask_avx512_bw(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                                uint32_t begin, uint32_t end, uint64_t *mask);
void flin_sketch_mask_avx512_vnni(const struct flin_sketch *sketch, const int8_t *levels,
                                  float scale, uint32_t begin, uint32_t end, uint64_t *mask);
void flin_sketch_mask_avx512_vbmi(const struct flin_sketch *sketch, const int8_t *levels,
                                  float scale, uint32_t begin, uint32_t end, uint64_t *mask);
void flin_sketch_mask_avx512(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                             uint32_t begin, uint32_t end, uint64_t *mask);

#endif
