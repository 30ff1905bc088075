/*
 * kernels_products.c - products of weights with many tokens, as prompts have them: rows of every type become floats on
 * the way, which must not be what a prompt waits for.
 *
 * Owns: GFLOP/s of one thread for each type, weights from memory. Refuses: the rest of a prompt (tests/bench/prefill).
 */
#include "kernels_tasks.h"

#include <stdlib.h>

#include "kernels/gemm/gemm.h"
#include "util/clock.h"

#define WIDE 4096u
#define CALLS 24u /* of FLIN_GEMM_ROWS_MAX rows */

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

int measure_products(const bench *b, uint32_t tokens, double gflops[FLIN_TYPES_PACKED])
{
    flin_tile tile = flin_tile_choose(b->kernels);
    float *x = calloc((size_t)tokens * WIDE, sizeof *x),
          *y = calloc((size_t)tokens * 256, sizeof *y);
    float *packed =
        aligned_alloc(64, (flin_gemm_x_floats(&tile, tokens, WIDE) * sizeof(float) + 63) / 64 * 64);
    float *scratch = aligned_alloc(
        64, (flin_gemm_w_floats(&tile, FLIN_GEMM_ROWS_MAX) * sizeof(float) + 63) / 64 * 64);
    double rates[FLIN_TYPES_PACKED][CALLS];
    int result = x && y && packed && scratch ? 0 : -1;

    if (result == 0)
        flin_gemm_pack(&tile, x, WIDE, tokens, WIDE, 0, (tokens + tile.tokens - 1) / tile.tokens,
                       packed);
    for (uint32_t i = 0; result == 0 && i < CALLS; i++)
        for (uint32_t type = 0; type < FLIN_TYPES_PACKED; type++) { /* in turn: others use the CPU */
            const uint64_t row_bytes = flin_type_bytes(type, WIDE);
            const uint64_t room = b->buffer_bytes / (row_bytes * FLIN_GEMM_ROWS_MAX);
            const flin_gemm_rows w = {.first = b->buffer + (i * 7 + type) % room * row_bytes *
                                                               FLIN_GEMM_ROWS_MAX,
                                      .step_bytes = row_bytes,
                                      .count = FLIN_GEMM_ROWS_MAX,
                                      .cols = WIDE,
                                      .type = type};
            const uint64_t start = flin_now_ns();

            flin_gemm_run(&tile, b->kernels, &w, 0, FLIN_GEMM_ROWS_MAX, packed, tokens, NULL, y,
                          FLIN_GEMM_ROWS_MAX, scratch);
            rates[type][i] =
                2.0 * FLIN_GEMM_ROWS_MAX * WIDE * tokens / (double)(flin_now_ns() - start);
        }
    for (uint32_t type = 0; result == 0 && type < FLIN_TYPES_PACKED; type++) {
        qsort(rates[type], CALLS, sizeof(double), by_value);
        gflops[type] = rates[type][CALLS * 9 / 10];
    }
    free(x);
    free(y);
    free(packed);
    free(scratch);
    return result;
}
