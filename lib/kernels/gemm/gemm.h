/*
 * gemm/gemm.h - products of a weight matrix with many tokens at once, for prompts.
 *
 * Owns: packing both sides into panels, blocks that stay in a core's caches, the order of a sum:
 * element after element in blocks of FLIN_GEMM_DEPTH, whoever computes it and whatever stands
 * beside it. Refuses: threads, memory. The inner loop over two panels is a tile: BLIS's
 * micro-kernel, ours for AVX-512 or NEON, or plain C. BLIS's own GEMM is not used: it takes memory
 * and threads of its own, which a budget cannot count (docs/architecture.md).
 */
#ifndef FLIN_KERNELS_GEMM_GEMM_H
#define FLIN_KERNELS_GEMM_GEMM_H

#include "kernels/kernels.h"

#define FLIN_GEMM_DEPTH                                                                            \
    256u /* elements of a sum between two visits of its result; a multiple of every block */
#define FLIN_GEMM_ROWS_MAX 256u /* packed at once: with the depth above a quarter of a megabyte */
#define FLIN_GEMM_ALIGNMENT 64u /* of packed panels */
#define FLIN_GEMM_SLACK 1024u   /* floats behind a packed side, which a tile may read and drop */

typedef struct flin_tile {
    const char *name;
    uint32_t rows;   /* of the weights in a panel: a multiple of 4 */
    uint32_t tokens; /* of the inputs in a panel: at most 64 */

    /* y[t * stride + r] = (add ? itself : 0) + sum_k w[k * rows + r] * x[k * tokens + t]
       for r < row_count, t < token_count. w: (depth, rows); x: (depth, tokens) */
    void (*run)(const struct flin_tile *tile, uint32_t depth, const float *w, const float *x,
                float *y, uint64_t stride, uint32_t row_count, uint32_t token_count, int add);
    const void *context; /* the tile's own */
    void (*inner)(void); /* likewise */
} flin_tile;

/* Rows of weights, wherever they lie. */
typedef struct flin_gemm_rows {
    const void *const *scattered; /* (count) or NULL: */
    const uint8_t *first;         /* rows at equal distances */
    uint64_t step_bytes;
    uint32_t count;
    uint32_t cols;
    enum flin_type type;
} flin_gemm_rows;

/* The best tile for this table of kernels. */
flin_tile flin_tile_choose(const flin_kernels *kernels);

/* Floats that a packed input of `tokens` takes, and packed rows. */
uint64_t flin_gemm_x_floats(const flin_tile *tile, uint32_t tokens, uint32_t cols);
uint64_t flin_gemm_w_floats(const flin_tile *tile, uint32_t rows);

/* Pack panels [begin, end) of an input; there are ceil(tokens / tile->tokens). x: token t at t *
   stride. */
void flin_gemm_pack(const flin_tile *tile, const float *x, uint64_t stride, uint32_t tokens,
                    uint32_t cols, uint32_t begin, uint32_t end, float *packed);

/* y[t * stride + r] = sum_c w[r][c] * x[t][c] (+ bias[r]) for rows [begin, end), at most
   FLIN_GEMM_ROWS_MAX. packed: the whole input; scratch: flin_gemm_w_floats() */
void flin_gemm_run(const flin_tile *tile, const flin_kernels *kernels, const flin_gemm_rows *w,
                   uint32_t begin, uint32_t end, const float *packed, uint32_t tokens,
                   const float *bias, float *y, uint64_t stride, float *scratch);

/* Each is there only where the build compiles it (FLIN_HAVE_AVX512, FLIN_HAVE_NEON,
   FLIN_HAVE_BLIS); gemm/blis.c answers 0 where BLIS must not be asked. */
extern const flin_tile flin_tile_ref;
extern const flin_tile flin_tile_avx512;
extern const flin_tile flin_tile_neon;
int flin_tile_blis(flin_tile *tile);

#endif
