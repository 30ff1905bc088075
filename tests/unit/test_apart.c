/*
 * test_apart.c - Q4_0 rows with scales apart from weights say the same as rows of blocks, bit for bit, whatever their length,
 * and nothing is read beyond them.
 */
#define _GNU_SOURCE
#include "support.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/apart.h"
#include "kernels/view.h"

#define ROWS_MAX 40u
#define COLS_MAX 4608u
#define ROUNDS 2500u

static uint32_t state_of_random = 7;

static uint32_t random_below(uint32_t bound)
{
    state_of_random = state_of_random * 1664525u + 1013904223u;
    return bound == 0 ? 0 : (uint32_t)((uint64_t)(state_of_random >> 8) * bound >> 24);
}

/* `bytes` that end, or nearly so, where a forbidden page begins. */
static uint8_t *place(uint32_t area, size_t bytes, size_t before)
{
    static uint8_t *ends[3];
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t most = ROWS_MAX * COLS_MAX * sizeof(float) / page * page + page;

    if (ends[area] == NULL) {
        uint8_t *base =
            mmap(NULL, most + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(base, MAP_FAILED);
        assert_int_equal(mprotect(base + most, page, PROT_NONE), 0);
        ends[area] = base + most;
    }
    assert_true(bytes + before <= most);
    return ends[area] - bytes - before;
}

/* Rows of blocks and the same rows apart. */
typedef struct pair {
    uint8_t *blocks, *apart;
    uint32_t rows, cols;
    size_t row_bytes;
} pair;

static pair random_pair(uint32_t rows, uint32_t cols)
{
    pair p = {.rows = rows, .cols = cols, .row_bytes = flin_type_bytes(FLIN_Q4_0, cols)};

    p.blocks = place(0, rows * p.row_bytes, 0);
    p.apart = place(1, rows * p.row_bytes, 2 * random_below(33));
    for (size_t i = 0; i < rows * p.row_bytes; i++) {
        const size_t in_block = i % FLIN_Q4_0_BYTES; /* scales: finite halves of either sign */
        p.blocks[i] = (uint8_t)random_below(256);
        if (in_block == 1)
            p.blocks[i] = (uint8_t)(random_below(2) << 7 | (0x20 + random_below(24)));
    }
    memcpy(p.apart, p.blocks, rows * p.row_bytes);
    flin_apart_rows(p.apart, rows, cols);
    return p;
}

static uint32_t random_cols(uint32_t round)
{
    const uint32_t blocks = round < 300 ? round / 2 : random_below(COLS_MAX / FLIN_BLOCK + 1);

    return (blocks < COLS_MAX / FLIN_BLOCK ? blocks : COLS_MAX / FLIN_BLOCK) * FLIN_BLOCK;
}

static void every_block_is_where_it_should(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        const pair p = random_pair(1 + random_below(3), random_cols(round));
        const uint32_t blocks = p.cols / FLIN_BLOCK;

        for (uint32_t row = 0; row < p.rows; row++)
            for (uint32_t i = 0; i < blocks; i++) {
                const uint8_t *block = p.blocks + row * p.row_bytes + i * FLIN_Q4_0_BYTES;
                const flin_apart_block at = flin_apart_at(p.apart + row * p.row_bytes, blocks, i);
                assert_memory_equal(at.scale, block, 2);
                assert_memory_equal(at.weights, block + 2, 16);
            }
    }
}

/* A table that is faster with such rows, or NULL: then models keep blocks with it. */
static const flin_kernels *table(void)
{
    const flin_kernels *kernels = flin_kernels_choose(FLASHINFER_KERNELS_AVX512);

    if (kernels == NULL || kernels->apart_to_float == NULL) {
        print_message("SKIPPED: no kernels of this CPU take scales apart\n");
        skip();
    }
    return kernels;
}

static const void *random_input(const flin_kernels *kernels, uint32_t cols)
{
    static float x[COLS_MAX];
    static _Alignas(64) uint8_t levels[COLS_MAX * 4 + 1024];

    for (uint32_t c = 0; c < cols; c++)
        x[c] = ((float)random_below(2001) - 1000.0f) * (random_below(50) == 0 ? 10.0f : 0.001f);
    if (random_below(20) == 0 && cols != 0) x[random_below(cols)] = NAN;
    assert_true(flin_levels_bytes(cols) <= sizeof levels);
    kernels->quantise(x, cols, levels);
    return levels;
}

static void products_are_the_same(void **state)
{
    const flin_kernels *kernels = table();

    (void)state;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        const pair p = random_pair(random_below(ROWS_MAX + 1), random_cols(round));
        const void *x = random_input(kernels, p.cols);
        const uint32_t cut = random_below(p.rows + 1);
        float bias[ROWS_MAX], expected[ROWS_MAX], y[ROWS_MAX];

        for (uint32_t r = 0; r < p.rows; r++) bias[r] = (float)random_below(100);
        kernels->matvec[FLIN_Q4_0](p.blocks, p.rows, p.cols, x, round % 2 ? bias : NULL, expected);
        kernels->matvec[FLIN_Q4_0_APART](p.apart, cut, p.cols, x, round % 2 ? bias : NULL, y);
        kernels->matvec[FLIN_Q4_0_APART](p.apart + cut * p.row_bytes, p.rows - cut, p.cols, x,
                                         round % 2 ? bias + cut : NULL, y + cut);
        assert_memory_equal(y, expected, p.rows * sizeof *y);
    }
}

static void floats_are_the_same(void **state)
{
    const flin_kernels *kernels = table();

    (void)state;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        const pair p = random_pair(1, random_cols(round));
        const uint32_t blocks = p.cols / FLIN_BLOCK, first = random_below(blocks + 1);
        const uint32_t begin = first * FLIN_BLOCK;
        const uint32_t end = begin + random_below(blocks - first + 1) * FLIN_BLOCK;
        float *expected = (float *)(void *)place(0, p.row_bytes + COLS_MAX * sizeof(float), 0);
        float *some = (float *)(void *)place(2, (end - begin) * sizeof(float), 0);

        flin_row_to_float(kernels, FLIN_Q4_0_APART, p.apart, p.cols, begin, end, some);
        flin_row_to_float(kernels, FLIN_Q4_0, p.blocks, p.cols, begin, end, expected);
        assert_memory_equal(some, expected, (end - begin) * sizeof(float));
    }
}

#if defined(__x86_64__) && defined(FLIN_HAVE_AVX512)
/* CPUs without VNNI, and rows that nothing is asked ahead of. */
static void variants_are_the_same(void **state)
{
    const flin_kernels *kernels = table();

    (void)state;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        const pair p = random_pair(random_below(ROWS_MAX + 1), random_cols(round));
        const void *x = random_input(kernels, p.cols);
        const flin_view view = {NULL, p.apart, p.row_bytes, p.rows, round % 2};
        float expected[ROWS_MAX], y[ROWS_MAX];

        kernels->matvec[FLIN_Q4_0](p.blocks, p.rows, p.cols, x, NULL, expected);
        flin_avx512_dot_apart_bw(&view, p.cols, x, y);
        assert_memory_equal(y, expected, p.rows * sizeof *y);
        if (!__builtin_cpu_supports("avx512vnni")) continue;
        flin_avx512_dot_apart_vnni(&view, p.cols, x, y);
        assert_memory_equal(y, expected, p.rows * sizeof *y);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_block_is_where_it_should),
        cmocka_unit_test(products_are_the_same),
        cmocka_unit_test(floats_are_the_same),
#if defined(__x86_64__) && defined(FLIN_HAVE_AVX512)
        cmocka_unit_test(variants_are_the_same),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
