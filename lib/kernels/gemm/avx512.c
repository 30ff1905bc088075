/*
 * gemm/avx512.c - the tile of a product with many tokens in AVX-512: 32 rows and 12 tokens in 24
 * registers.
 *
 * Owns: one pass over two packed panels. Refuses: packing and blocks (gemm.c). BLIS 0.9 takes CPUs
 * it does not know by name for ones with AVX2 only, which is half as fast (docs/notes/prefill.md).
 */
#include "kernels/gemm/gemm.h"

#include <immintrin.h>

#define ROWS 32u
#define TOKENS 12u
#define LANES 16u
#define AHEAD 8u /* elements of the weights' panel asked for ahead */

typedef __m512 sums[TOKENS][2];

static inline __attribute__((always_inline)) void multiply(uint32_t depth, const float *w,
                                                           const float *x, sums sum)
{
    for (uint32_t k = 0; k < depth; k++) {
        const __m512 low = _mm512_load_ps(w), high = _mm512_load_ps(w + LANES);

        _mm_prefetch((const char *)(w + AHEAD * ROWS), _MM_HINT_T0);
        _mm_prefetch((const char *)(w + AHEAD * ROWS + LANES), _MM_HINT_T0);
#pragma GCC unroll 12
        for (uint32_t t = 0; t < TOKENS; t++) {
            const __m512 value = _mm512_set1_ps(x[t]);
            sum[t][0] = _mm512_fmadd_ps(low, value, sum[t][0]);
            sum[t][1] = _mm512_fmadd_ps(high, value, sum[t][1]);
        }
        w += ROWS;
        x += TOKENS;
    }
}

static __mmask16 mask_of(uint32_t count, uint32_t first)
{
    if (count >= first + LANES) return 0xffff;
    return count <= first ? 0 : (__mmask16)((1u << (count - first)) - 1u);
}

static void run(const flin_tile *tile, uint32_t depth, const float *w, const float *x, float *y,
                uint64_t stride, uint32_t row_count, uint32_t token_count, int add)
{
    const __mmask16 low = mask_of(row_count, 0), high = mask_of(row_count, LANES);
    sums sum;

    (void)tile;
#pragma GCC unroll 12
    for (uint32_t t = 0; t < TOKENS; t++) {
        const int there = add && t < token_count;
        sum[t][0] = _mm512_maskz_loadu_ps(there ? low : 0, y + t * stride);
        sum[t][1] = _mm512_maskz_loadu_ps(there ? high : 0, y + t * stride + LANES);
    }
    multiply(depth, w, x, sum);
#pragma GCC unroll 12
    for (uint32_t t = 0; t < TOKENS; t++) {
        const int there = t < token_count;
        _mm512_mask_storeu_ps(y + t * stride, there ? low : 0, sum[t][0]);
        _mm512_mask_storeu_ps(y + t * stride + LANES, there ? high : 0, sum[t][1]);
    }
}

const flin_tile flin_tile_avx512 = {.name = "avx512", .rows = ROWS, .tokens = TOKENS, .run = run};
