/*
 * gemm/gemm.c - packing and blocking for products with many tokens, and the tile in plain C. gemm.h
 * has the rules.
 *
 * Owns: the layout of packed sides: depth block after depth block, in each panel after panel, in
 * each element after element of all the panel's rows or tokens. Refuses: instruction sets, knowing
 * what a layer is.
 */
#include "kernels/gemm/gemm.h"

#include <string.h>

#define DEPTH FLIN_GEMM_DEPTH
#define TILE_MAX 64u /* tokens of any tile */

static uint32_t panels_of(uint32_t count, uint32_t width)
{
    return (count + width - 1) / width;
}

uint64_t flin_gemm_x_floats(const flin_tile *tile, uint32_t tokens, uint32_t cols)
{
    return (uint64_t)panels_of(tokens, tile->tokens) * tile->tokens * cols + FLIN_GEMM_SLACK;
}

uint64_t flin_gemm_w_floats(const flin_tile *tile, uint32_t rows)
{
    return (uint64_t)panels_of(rows, tile->rows) * tile->rows * DEPTH + FLIN_GEMM_SLACK;
}

static uint32_t depth_at(uint32_t cols, uint32_t first)
{
    return cols - first < DEPTH ? cols - first : DEPTH;
}

/* Four rows become four columns of a panel: to[k * width + i] = rows[i][k]. In vectors, because
   one store for each element costs a third of what multiplying with hundreds of tokens does. */
typedef float four __attribute__((vector_size(16)));

static four load4(const float *from)
{
    four value;

    memcpy(&value, from, sizeof value);
    return value;
}

static void interleave(const float *const rows[4], uint32_t depth, float *to, uint32_t width)
{
    uint32_t k = 0;

    for (; k + 4 <= depth; k += 4) {
        four a = load4(rows[0] + k), b = load4(rows[1] + k), c = load4(rows[2] + k),
             d = load4(rows[3] + k);
        four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5),
             cd = __builtin_shufflevector(c, d, 0, 4, 1, 5),
             ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7),
             cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        four column[4] = {__builtin_shufflevector(ab, cd, 0, 1, 4, 5),
                          __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
                          __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5),
                          __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7)};
        for (uint32_t i = 0; i < 4; i++) memcpy(to + (k + i) * width, &column[i], sizeof column[i]);
    }
    for (; k < depth; k++)
        for (uint32_t i = 0; i < 4; i++) to[k * width + i] = rows[i][k];
}

/* The rest of a panel whose width is no multiple of four. */
static void interleave1(const float *row, uint32_t depth, float *to, uint32_t width)
{
    for (uint32_t k = 0; k < depth; k++) to[k * width] = row[k];
}

void flin_gemm_pack(const flin_tile *tile, const float *x, uint64_t stride, uint32_t tokens,
                    uint32_t cols, uint32_t begin, uint32_t end, float *packed)
{
    static const float none[DEPTH];
    uint32_t width = tile->tokens, panels = panels_of(tokens, width);

    for (uint32_t first = 0; first < cols; first += DEPTH) {
        uint32_t depth = depth_at(cols, first);
        for (uint32_t panel = begin; panel < end; panel++) {
            float *to = packed + ((uint64_t)first * panels + (uint64_t)panel * depth) * width;
            const float *rows[TILE_MAX];
            uint32_t i = 0;
            for (; i < width; i++) {
                uint32_t token = panel * width + i;
                rows[i] = token < tokens ? x + token * stride + first : none;
            }
            for (i = 0; i + 4 <= width; i += 4) interleave(rows + i, depth, to + i, width);
            for (; i < width; i++) interleave1(rows[i], depth, to + i, width);
        }
    }
}

static const void *row_at(const flin_gemm_rows *w, uint32_t row)
{
    return w->scattered != NULL ? w->scattered[row] : w->first + row * w->step_bytes;
}

/* One depth block of rows [begin, end), as floats. */
static void pack_rows(const flin_tile *tile, const flin_kernels *kernels, const flin_gemm_rows *w,
                      uint32_t begin, uint32_t end, uint32_t first, float *packed)
{
    uint32_t depth = depth_at(w->cols, first), width = tile->rows;
    float block[4][DEPTH];
    const float *rows[4] = {block[0], block[1], block[2], block[3]};

    for (uint32_t at = begin; at < end; at += width) {
        float *to = packed + (uint64_t)(at - begin) * depth;
        for (uint32_t i = 0; i < width; i++) {
            if (at + i < end)
                flin_row_to_float(kernels, w->type, row_at(w, at + i), w->cols, first,
                                  first + depth, block[i % 4]);
            else
                memset(block[i % 4], 0, sizeof block[0]);
            if (i % 4 == 3) interleave(rows, depth, to + i - 3, width);
        }
    }
}

void flin_gemm_run(const flin_tile *tile, const flin_kernels *kernels, const flin_gemm_rows *w,
                   uint32_t begin, uint32_t end, const float *packed, uint32_t tokens,
                   const float *bias, float *y, uint64_t stride, float *scratch)
{
    uint32_t panels = panels_of(tokens, tile->tokens);

    for (uint32_t first = 0; first < w->cols; first += DEPTH) {
        uint32_t depth = depth_at(w->cols, first);
        const float *block = packed + (uint64_t)first * panels * tile->tokens;
        pack_rows(tile, kernels, w, begin, end, first, scratch);
        for (uint32_t panel = 0; panel < panels; panel++) {
            uint32_t token = panel * tile->tokens, left = tokens - token;
            for (uint32_t row = begin; row < end; row += tile->rows)
                tile->run(tile, depth, scratch + (uint64_t)(row - begin) * depth,
                          block + (uint64_t)token * depth, y + token * stride + row, stride,
                          end - row < tile->rows ? end - row : tile->rows,
                          left < tile->tokens ? left : tile->tokens, first != 0);
        }
    }
    for (uint32_t token = 0; bias != NULL && token < tokens; token++)
        for (uint32_t row = begin; row < end; row++) y[token * stride + row] += bias[row];
}

/* -------------------------------------------------------------------------------------- plain C */

#define REF_ROWS 8u
#define REF_TOKENS 4u

typedef float sums[REF_TOKENS][REF_ROWS];

/* Of nothing but constants, so that a compiler keeps the sums in registers. */
static void multiply(uint32_t depth, const float *restrict w, const float *restrict x, sums sum)
{
    float kept[REF_TOKENS][REF_ROWS];

    memcpy(kept, sum, sizeof kept);
    for (uint32_t k = 0; k < depth; k++, w += REF_ROWS, x += REF_TOKENS) {
#pragma GCC unroll 4
        for (uint32_t t = 0; t < REF_TOKENS; t++)
#pragma GCC unroll 8
            for (uint32_t r = 0; r < REF_ROWS; r++) kept[t][r] += w[r] * x[t];
    }
    memcpy(sum, kept, sizeof kept);
}

static void run_ref(const flin_tile *tile, uint32_t depth, const float *w, const float *x, float *y,
                    uint64_t stride, uint32_t row_count, uint32_t token_count, int add)
{
    sums sum = {{0}};

    (void)tile;
    for (uint32_t t = 0; add && t < token_count; t++)
        for (uint32_t r = 0; r < row_count; r++) sum[t][r] = y[t * stride + r];
    multiply(depth, w, x, sum);
    for (uint32_t t = 0; t < token_count; t++)
        for (uint32_t r = 0; r < row_count; r++) y[t * stride + r] = sum[t][r];
}

const flin_tile flin_tile_ref = {
    .name = "ref", .rows = REF_ROWS, .tokens = REF_TOKENS, .run = run_ref};

flin_tile flin_tile_choose(const flin_kernels *kernels)
{
    flin_tile tile;

    (void)tile;
    if (kernels == &flin_kernels_ref) return flin_tile_ref;
#ifdef FLIN_HAVE_AVX512
    if (kernels == &flin_kernels_avx512) return flin_tile_avx512;
#endif
#ifdef FLIN_HAVE_NEON
    if (kernels == &flin_kernels_neon || kernels == &flin_kernels_neon_dotprod)
        return flin_tile_neon;
#endif
#ifdef FLIN_HAVE_BLIS
    if (flin_tile_blis(&tile)) return tile;
#endif
    return flin_tile_ref;
}
