/*
 * test_gemm.c - products with many tokens: every tile this CPU and build have, against sums in double precision; and the
 * promise that neither the split of rows nor the tokens beside one change a bit of its result.
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "flashinfer.h"
#include "kernels/apart.h"
#include "kernels/gemm/gemm.h"
#include "random_blocks.h"
#include "util/half.h"

#define ROWS_MAX 70u
#define TOKENS_MAX 40u
#define COLS_MAX 700u
#define SHAPES 400u
#define UNTOUCHED 12345.0f

static uint64_t random_state = 88172645463325252u;

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 32) * n >> 32);
}

static float random_float(void)
{
    return (float)(int32_t)random_below(2000001) / 1e6f - 1.0f;
}

typedef struct product {
    uint32_t rows, cols, tokens;
    enum flin_type type;
    const flin_kernels *kernels;
    flin_tile tile;
    void *w;
    float *exact, *x, *y, *bias, *packed, *scratch;
    const void *pointers[ROWS_MAX];
} product;

static void *take(uint64_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);

    assert_non_null(memory);
    return memory;
}

/* Random rows of the type, and what they are as floats. */
static void fill(product *at)
{
    uint64_t row_bytes = flin_type_bytes(at->type, at->cols);
    enum flin_type file_type = at->type == FLIN_Q4_0_APART ? FLIN_Q4_0 : at->type;

    for (uint32_t r = 0; r < at->rows; r++) {
        float *row = at->exact + (uint64_t)r * at->cols;
        uint8_t *to = (uint8_t *)at->w + r * row_bytes;
        if (file_type < FLIN_TYPES_PACKED) {
            for (uint32_t c = 0; c < at->cols; c++) row[c] = random_float();
            flin_kernels_ref.from_float[file_type](row, at->cols, to);
        } else {
            fill_random_blocks(to, at->cols, file_type, random_below);
        }
        flin_kernels_ref.to_float[file_type](to, at->cols, row);
    }
    if (file_type != at->type) flin_apart_rows(at->w, at->rows, at->cols);
}

static double get(const product *at, uint64_t i)
{
    return (double)at->exact[i];
}

static void begin(product *at, uint32_t wanted)
{
    at->kernels = flin_kernels_choose(wanted);
    at->tile = flin_tile_choose(at->kernels);
    at->rows = 1 + random_below(ROWS_MAX);
    at->cols = 1 + random_below(COLS_MAX);
    at->tokens = 1 + random_below(TOKENS_MAX);
    do at->type = random_below(FLIN_TYPES_KNOWN);
    while (at->type == FLIN_Q4_0_APART && at->kernels->apart_to_float == NULL);
    if (at->type == FLIN_Q4_0_APART) at->cols = 1 + random_below(3000); /* several spans */
    at->cols += flin_types[at->type].elements - 1;
    at->cols -= at->cols % flin_types[at->type].elements;
    at->w = take(flin_type_bytes(at->type, at->rows * at->cols));
    at->exact = take((uint64_t)at->rows * at->cols * sizeof(float));
    at->x = take(at->tokens * at->cols * sizeof(float));
    at->y = take((at->tokens * ROWS_MAX + 1) * sizeof(float));
    at->bias = take(at->rows * sizeof(float));
    at->packed = take(flin_gemm_x_floats(&at->tile, at->tokens, at->cols) * sizeof(float));
    at->scratch = take(flin_gemm_w_floats(&at->tile, ROWS_MAX) * sizeof(float));
    fill(at);
    for (uint32_t i = 0; i < at->tokens * at->cols; i++) at->x[i] = random_float();
    for (uint32_t i = 0; i < at->rows; i++) {
        at->bias[i] = random_float();
        at->pointers[i] = (const uint8_t *)at->w + flin_type_bytes(at->type, i * at->cols);
    }
    for (uint32_t i = 0; i <= at->tokens * ROWS_MAX; i++) at->y[i] = UNTOUCHED;
}

static void end(product *at)
{
    free(at->w);
    free(at->exact);
    free(at->x);
    free(at->y);
    free(at->bias);
    free(at->packed);
    free(at->scratch);
}

static void pack(product *at)
{
    uint32_t panels = (at->tokens + at->tile.tokens - 1) / at->tile.tokens;

    for (uint32_t i = 0; i < panels; i++)
        flin_gemm_pack(&at->tile, at->x, at->cols, at->tokens, at->cols, i, i + 1, at->packed);
}

/* Rows in steps of some multiple of a panel; scattered: behind pointers. */
static void run(product *at, uint32_t step, int scattered, int biased)
{
    flin_gemm_rows rows = {scattered ? at->pointers : NULL,
                           at->w,
                           flin_type_bytes(at->type, at->cols),
                           at->rows,
                           at->cols,
                           at->type};

    for (uint32_t row = 0; row < at->rows; row += step)
        flin_gemm_run(&at->tile, at->kernels, &rows, row,
                      at->rows - row < step ? at->rows : row + step, at->packed, at->tokens,
                      biased ? at->bias : NULL, at->y, ROWS_MAX, at->scratch);
}

static void compare(const product *at, int biased)
{
    for (uint32_t t = 0; t < at->tokens; t++) {
        for (uint32_t r = 0; r < at->rows; r++) {
            double sum = biased ? (double)at->bias[r] : 0, size = fabs(sum);
            for (uint32_t c = 0; c < at->cols; c++) {
                double term = get(at, (uint64_t)r * at->cols + c) * (double)at->x[t * at->cols + c];
                sum += term;
                size += fabs(term);
            }
            /* one long chain: an ulp of the magnitudes for each step at most */
            assert_true(fabs(sum - (double)at->y[t * ROWS_MAX + r]) <=
                        (at->cols + 2) * 0x1p-24 * size);
        }
        for (uint32_t r = at->rows; r < ROWS_MAX; r++)
            assert_true(at->y[t * ROWS_MAX + r] == UNTOUCHED);
    }
    assert_true(at->y[at->tokens * ROWS_MAX] == UNTOUCHED);
}

static int table_is_here(uint32_t wanted)
{
    if (flin_kernels_choose(wanted) != NULL) return 1;
    print_message("SKIPPED: this CPU or build has no kernels of number %u\n", wanted);
    return 0;
}

static void sums_are_right(void **state)
{
    uint32_t wanted = *(const uint32_t *)*state;

    if (!table_is_here(wanted)) skip();
    print_message("tile %s\n", flin_tile_choose(flin_kernels_choose(wanted)).name);
    for (uint32_t i = 0; i < SHAPES; i++) {
        product at;
        int biased = (int)random_below(2);
        begin(&at, wanted);
        pack(&at);
        run(&at, at.tile.rows * (1 + random_below(3)), (int)random_below(2), biased);
        compare(&at, biased);
        end(&at);
    }
}

/* A token on its own, rows in one piece: the bits it had among others. */
static void neighbours_change_no_bit(void **state)
{
    uint32_t wanted = *(const uint32_t *)*state;

    if (!table_is_here(wanted)) skip();
    for (uint32_t i = 0; i < SHAPES / 4; i++) {
        float expected[ROWS_MAX];
        product at;
        uint32_t token;
        begin(&at, wanted);
        pack(&at);
        run(&at, at.tile.rows, 0, 1);
        token = random_below(at.tokens);
        memcpy(expected, at.y + token * ROWS_MAX, at.rows * sizeof(float));
        memmove(at.x, at.x + token * at.cols, at.cols * sizeof(float));
        at.tokens = 1;
        pack(&at);
        run(&at, ROWS_MAX / at.tile.rows * at.tile.rows, 1, 1);
        assert_memory_equal(expected, at.y, at.rows * sizeof(float));
        end(&at);
    }
}

/* An environment that BLIS would end the process for: another tile is taken. */
static void blis_is_not_asked_for_what_it_aborts_on(void **state)
{
    flin_tile tile;

    (void)state;
    if (!table_is_here(FLASHINFER_KERNELS_AVX2)) skip();
    assert_int_equal(setenv("BLIS_ARCH_TYPE", "nonsense", 1), 0);
    tile = flin_tile_choose(flin_kernels_choose(FLASHINFER_KERNELS_AVX2));
    assert_string_equal(tile.name, "ref");
    assert_int_equal(unsetenv("BLIS_ARCH_TYPE"), 0);
}

int main(void)
{
    static uint32_t ref = FLASHINFER_KERNELS_REF, avx2 = FLASHINFER_KERNELS_AVX2,
                    avx512 = FLASHINFER_KERNELS_AVX512, neon = FLASHINFER_KERNELS_NEON;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blis_is_not_asked_for_what_it_aborts_on),
        cmocka_unit_test_prestate(sums_are_right, &ref),
        cmocka_unit_test_prestate(sums_are_right, &avx2),
        cmocka_unit_test_prestate(sums_are_right, &avx512),
        cmocka_unit_test_prestate(sums_are_right, &neon),
        cmocka_unit_test_prestate(neighbours_change_no_bit, &ref),
        cmocka_unit_test_prestate(neighbours_change_no_bit, &avx2),
        cmocka_unit_test_prestate(neighbours_change_no_bit, &avx512),
        cmocka_unit_test_prestate(neighbours_change_no_bit, &neon),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
