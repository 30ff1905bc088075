/*
 * kernels.h - the arithmetic of the engine, as a table of functions chosen once per model by CPU
 * feature.
 *
 * Owns: sums and their order. Refuses: threads, memory, I/O, knowing what a layer is.
 *
 * `ref` is complete and obvious; an overlay copies its table and replaces what it does better.
 * Rules every overlay keeps:
 *   - dot products of one row have one fixed order, whatever rows and inputs stand beside it:
 *     matvec, matvecs and dot_rows agree bit for bit, and so does any split of the rows over
 *     threads;
 *   - add_rows adds rows in the order given, one fused or unfused multiply-add per element, the
 *     same for every element of a row whatever the column range, so that any split of the columns
 *     gives the same bits;
 *   - accumulation is float32; tails take the same operations as full vectors.
 */
#ifndef FLIN_KERNELS_KERNELS_H
#define FLIN_KERNELS_KERNELS_H

#include <stdint.h>

/* Storage types of matrices and of keys and values. From Q8_0 on they are GGUF's blocks
   (docs/format.md): rows are a whole number of blocks long. */
enum flin_type {
    FLIN_F32 = 0,
    FLIN_F16 = 1,
    FLIN_BF16 = 2,
    FLIN_Q8_0 = 3, /* float16 scale, 32 int8 */
    FLIN_Q4_0 = 4, /* float16 scale, 16 bytes: element i in the low, i + 16 in the high half */
    FLIN_TYPES_PACKED = 5, /* those before are what this library writes */
    /* Q4_0 with scales apart (apart.h), in memory only: matrices, with tables that have
       apart_to_float */
    FLIN_Q4_0_APART = 5,
    /* What files of others have besides (quants.h): matrices, in builds with -Dquants=enabled */
    FLIN_Q4_1 = 6,
    FLIN_Q5_0 = 7,
    FLIN_Q5_1 = 8,
    FLIN_Q2_K = 9,
    FLIN_Q3_K = 10,
    FLIN_Q4_K = 11,
    FLIN_Q5_K = 12,
    FLIN_Q6_K = 13,
    FLIN_IQ4_NL = 14,
    FLIN_IQ4_XS = 15,
    FLIN_MXFP4 = 16,
#ifdef FLIN_HAVE_QUANTS
    FLIN_TYPES_KNOWN = 17
#else
    FLIN_TYPES_KNOWN = 6
#endif
};

#define FLIN_BLOCK 32u /* elements of Q8_0 and Q4_0, and of a block of levels */
#define FLIN_Q8_0_BYTES 34u
#define FLIN_Q4_0_BYTES 18u

/* A type's row in the table of types (types.c). */
typedef struct flin_type_facts {
    uint16_t elements, bytes; /* of a block */
    uint16_t gguf;            /* its number in GGUF files */
    uint16_t dtype;           /* FLASHINFER_DTYPE_... of those that are packed, else 0 */
} flin_type_facts;

extern const flin_type_facts flin_types[FLIN_TYPES_KNOWN];

static inline int flin_type_quantised(enum flin_type type)
{
    return type >= FLIN_Q8_0;
}

/* elements: whole blocks */
static inline uint64_t flin_type_bytes(enum flin_type type, uint64_t elements)
{
    return elements / flin_types[type].elements * flin_types[type].bytes;
}

/* Dot products with quantised rows take levels instead of floats: each block of x as integers of
   magnitude up to FLIN_LEVEL_MAX and a scale, so that a block's product is an exact integer sum
   and what rounding loses is a hundredth of what float16 weights lose. Where they lie is the
   business of the table that makes and reads them. */
#define FLIN_LEVEL_MAX 32639 /* 127 * 257: high and low bytes that are both int8 */

static inline uint64_t flin_levels_bytes(uint64_t cols)
{
    return (cols * 4 + 256 + 63) / 64 * 64;
}

/* How a neuron's pre-activation becomes its activation. */
enum flin_activation {
    FLIN_RELU = 0,
    FLIN_RELU2 = 1, /* relu(x)^2 */
    FLIN_SILU = 2,  /* x / (1 + exp(-x)) */
    FLIN_ACTIVATION_COUNT = 3
};

/* How rotary embeddings pair the elements of a head. */
enum flin_pairs {
    FLIN_PAIRS_HALVES = 0,    /* i with i + rotated / 2 (GPT-NeoX, Llama in Hugging Face's order) */
    FLIN_PAIRS_NEIGHBOURS = 1 /* 2 i with 2 i + 1 (GPT-J, Llama in Meta's) */
};

#define FLIN_INPUTS_MAX 8u /* of one product */

#define FLIN_ATTEND_POSITIONS 1024u /* that attention looks at together */

/* Scratch of one attend(). */
static inline uint64_t flin_attend_bytes(uint64_t head_dim)
{
    return FLIN_ATTEND_POSITIONS * sizeof(float) + flin_levels_bytes(head_dim);
}

/* Sketch matrices: see kernels/sketch/sketch.h for the layout of tiles. */
struct flin_sketch;

typedef struct flin_kernels {
    const char *name; /* "ref", "avx2", "avx512", "neon" */

    /* levels: flin_levels_bytes(cols), 64-byte aligned; cols: whole blocks. A block with an Inf
       or a NaN makes every product with it NaN. */
    void (*quantise)(const float *x, uint32_t cols, void *levels);

    /* y[r] = sum_c w[r][c] * x[c] (+ bias[r])
       w: (rows, cols) row-major; bias: (rows) or NULL
       x: (cols) floats; levels of them for quantised types */
    void (*matvec[FLIN_TYPES_KNOWN])(const void *w, uint32_t rows, uint32_t cols, const void *x,
                                     const float *bias, float *y);

    /* Several inputs share each row of w once it is loaded: y[i][r] = sum_c w[r][c] * x[i][c]
       (+ bias[r]) for i < inputs, every one with the bits that matvec() of that input alone has.
       inputs: 1 to FLIN_INPUTS_MAX; x: (inputs) pointers to what matvec takes; y: (inputs)
       pointers to (rows); bias: (rows) or NULL */
    void (*matvecs[FLIN_TYPES_KNOWN])(const void *w, uint32_t rows, uint32_t cols,
                                      const void *const *x, uint32_t inputs, const float *bias,
                                      float *const *y);

    /* y[i] = sum_c rows[i][c] * x[c]
       rows: (count) pointers to (cols), any even address; x: as for matvec */
    void (*dot_rows[FLIN_TYPES_KNOWN])(const void *const *rows, uint32_t count, uint32_t cols,
                                       const void *x, float *y);

    /* y[c] += sum_i a[i] * rows[i][c] for c in [begin, end), i in order; begin and end multiples of
       64 or the width. Of a quantised row it is (a[i] * scale) * level. */
    void (*add_rows[FLIN_TYPES_PACKED])(const void *const *rows, const float *a, uint32_t count,
                                        uint32_t begin, uint32_t end, float *y);

    /* to[c] = row[c]: one row of a matrix as floats (embeddings), exactly */
    void (*to_float[FLIN_TYPES_KNOWN])(const void *row, uint32_t cols, float *to);

    /* Elements [begin, end), whole blocks, of a row of FLIN_Q4_0_APART; NULL: this table is not
       faster with such rows, and has no matvec of them. */
    void (*apart_to_float)(const void *row, uint32_t cols, uint32_t begin, uint32_t end, float *to);

    /* row = x rounded to the type: floats to nearest even, blocks as ggml defines them; the same
       bits in every table */
    void (*from_float[FLIN_TYPES_PACKED])(const float *x, uint32_t cols, void *row);

    /* y = (x - mean) / sqrt(var + eps) * weight + bias      all (n); y may be x */
    void (*layer_norm)(const float *x, const float *weight, const float *bias, uint32_t n,
                       float eps, float *y);

    /* y = x / sqrt(mean(x^2) + eps) * weight      all (n); y may be x */
    void (*rms_norm)(const float *x, const float *weight, uint32_t n, float eps, float *y);

    /* y[i] = f(x[i]), times up[i] unless up is NULL (gated FFNs; x is the gate)      all (n); y
       may be x or up */
    void (*activate[FLIN_ACTIVATION_COUNT])(const float *x, const float *up, uint32_t n, float *y);

    /* Turn the first `rotated` (even) elements of each head by angles: pair k by cosines[k],
       sines[k]. x: (heads, head_dim); cosines, sines: (rotated / 2), one position's */
    void (*rotate)(float *x, uint32_t heads, uint32_t head_dim, uint32_t rotated,
                   const float *cosines, const float *sines, enum flin_pairs pairs);

    /* One head of attention for one query over `count` cached positions (paper: attention stays
       in DRAM). q: (head_dim) already scaled; keys, values: position p of this head at element p
       * stride; type of both is the table index: F32, F16 or Q8_0, others are NULL; scratch:
       flin_attend_bytes(), 64-byte aligned; out: (head_dim). The softmax runs along:
       FLIN_ATTEND_POSITIONS at a time, the largest score so far subtracted. No position, or
       scores without a finite maximum, are not an error: zeros, or NaN. */
    void (*attend[FLIN_TYPES_PACKED])(const float *q, const void *keys, const void *values,
                                      uint32_t count, uint32_t stride, uint32_t head_dim,
                                      void *scratch, float *out);

    /* levels (cols rounded up to FLIN_SKETCH_BLOCK, the rest 0) = x (cols) quantised; returns
       their scale. Values that are not finite count as 0. The same bits in every table. */
    float (*sketch_input)(const struct flin_sketch *sketch, const float *x, int8_t *levels);

    /* Predicted neurons of rows [begin, end) as bits: mask[i / 64] bit i % 64; begin and end
       multiples of 64 or the row count. levels, scale: of sketch_input. */
    void (*sketch_mask)(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                        uint32_t begin, uint32_t end, uint64_t *mask);

    /* The same for some inputs, FLIN_SKETCH_INPUTS at most and two at least, that share each tile
       once its levels are looked up; NULL: this table goes over a tile once for each input
       (flin_sketch_masks() does). levels, scales, masks: (inputs) */
    void (*sketch_masks)(const struct flin_sketch *sketch, const int8_t *const *levels,
                         const float *scales, uint32_t inputs, uint32_t begin, uint32_t end,
                         uint64_t *const *masks);

    /* scores[i] of rows [begin, end), begin a multiple of 16, for calibrating: a row is named if
       scores[i] > -bias[i] */
    void (*sketch_scores)(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                          uint32_t begin, uint32_t end, float *scores);
} flin_kernels;

/* to = elements [begin, end) of a row of a matrix: whole blocks */
static inline void flin_row_to_float(const flin_kernels *kernels, enum flin_type type,
                                     const void *row, uint32_t cols, uint32_t begin, uint32_t end,
                                     float *to)
{
    if (type == FLIN_Q4_0_APART)
        kernels->apart_to_float(row, cols, begin, end, to);
    else
        kernels->to_float[type]((const uint8_t *)row + flin_type_bytes(type, begin), end - begin,
                                to);
}

/* wanted: FLASHINFER_KERNELS_...; NULL if this CPU or build cannot. DEFAULT never gives NULL. */
const flin_kernels *flin_kernels_choose(uint32_t wanted);

extern const flin_kernels flin_kernels_ref;

/* Each exists only where the build compiles it and so defines FLIN_HAVE_AVX2, FLIN_HAVE_AVX512,
   FLIN_HAVE_NEON; the last takes CPUs with the dotprod extension. */
extern const flin_kernels flin_kernels_avx2;
extern const flin_kernels flin_kernels_avx512;
extern const flin_kernels flin_kernels_neon;
extern const flin_kernels flin_kernels_neon_dotprod;

/* Integer sums, so every table's sketch_mask gives the same mask; sketch/sketch.c. */
void flin_sketch_mask_ref(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                          uint32_t begin, uint32_t end, uint64_t *mask);
void flin_sketch_scores_ref(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                            uint32_t begin, uint32_t end, float *scores);
void flin_sketch_scores_avx2(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                             uint32_t begin, uint32_t end, float *scores);
void flin_sketch_scores_avx512(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                               uint32_t begin, uint32_t end, float *scores);

float flin_sketch_input(const struct flin_sketch *sketch, const float *x, int8_t *levels);
float flin_sketch_input_avx2(const struct flin_sketch *sketch, const float *x, int8_t *levels);
float flin_sketch_input_avx512(const struct flin_sketch *sketch, const float *x, int8_t *levels);

/* kernels/sketch/avx2.c and kernels/sketch/avx512.c, built with the overlay of the name. The
   last takes VNNI and VBMI where the CPU has them, as _vbmi does always, _vnni the first, and
   _bw neither. */
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

void flin_sketch_masks_avx512(const struct flin_sketch *sketch, const int8_t *const *levels,
                              const float *scales, uint32_t inputs, uint32_t begin, uint32_t end,
                              uint64_t *const *masks);

/* kernels/sketch/neon.c and kernels/sketch/neon_dotprod.c */
void flin_sketch_mask_neon(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                           uint32_t begin, uint32_t end, uint64_t *mask);
void flin_sketch_mask_neon_dotprod(const struct flin_sketch *sketch, const int8_t *levels,
                                   float scale, uint32_t begin, uint32_t end, uint64_t *mask);
void flin_sketch_scores_neon(const struct flin_sketch *sketch, const int8_t *levels, float scale,
                             uint32_t begin, uint32_t end, float *scores);
void flin_sketch_scores_neon_dotprod(const struct flin_sketch *sketch, const int8_t *levels,
                                     float scale, uint32_t begin, uint32_t end, float *scores);

#endif
