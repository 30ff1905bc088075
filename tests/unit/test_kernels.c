/*
 * test_kernels.c - every table of kernels this CPU can run, against sums in double precision and
 * against `ref`.
 *
 * Inputs end at a page that may not be touched, so that reading or writing one element too far ends
 * the test; rows begin at any even address. Error bounds are the textbook ones for the number of
 * partial sums (at least 8), not guesses: (cols / 8 + 8) * 2^-24 of the sum of magnitudes. Bitwise
 * rules are checked bit by bit.
 */
#define _GNU_SOURCE
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "flashinfer.h"
#include "kernels/kernels.h"
#include "kernels/view.h"
#include "util/half.h"

#define AREA_BYTES ((size_t)4 << 20)
#define ROWS_MAX 24u
#define COLS_MAX 20000u
#define UNIT 0x1p-24 /* half an ulp of 1 */

/* --------------------------------------------------------------------------------------- memory */

static uint8_t *area_end[8]; /* each the first byte of a forbidden page */
static uint32_t area_count;

/* The last `bytes` of area `index`, moved `slack` bytes away from the forbidden page. */
static void *place(uint32_t index, size_t bytes, size_t slack)
{
    assert_true(bytes + slack <= AREA_BYTES);
    return area_end[index] - slack - bytes;
}

static int map_areas(void **state)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    (void)state;
    for (area_count = 0; area_count < sizeof area_end / sizeof *area_end; area_count++) {
        uint8_t *base = mmap(NULL, AREA_BYTES + page, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED) return -1;
        if (mprotect(base + AREA_BYTES, page, PROT_NONE) != 0) return -1;
        area_end[area_count] = base + AREA_BYTES;
    }
    return 0;
}

enum { AREA_X, AREA_Y, AREA_Z, AREA_BIAS, AREA_ROWS, AREA_MORE, AREA_LAST };

/* -------------------------------------------------------------------------------- random values */

static uint64_t random_state = 0x9e3779b97f4a7c15u;
static uint32_t shapes_of[8]; /* random shapes tested, of each table */
static uint32_t now;          /* the table being tested */

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

/* flavour 0: ordinary; 1: many denormals and zeros of either sign; 2: a wide range of magnitudes */
static float random_value(uint32_t flavour, enum flin_type type)
{
    float least = type == FLIN_F16 ? 0x1p-24f : 0x1p-149f;

    if (flavour == 1) {
        uint32_t kind = random_below(4);
        float denormal = (float)(int32_t)(random_below(2047) - 1023u) * least;
        return kind == 0 ? random_float() : kind == 1 ? 0.0f : kind == 2 ? -0.0f : denormal;
    }
    if (flavour == 2) return ldexpf(random_float(), (int)random_below(24) - 12);
    return random_float();
}

static size_t bytes_of(enum flin_type type, uint64_t elements)
{
    return (size_t)flin_type_bytes(type, elements);
}

/* Of quantised types it changes the scale of the element's block. */
static void put(void *row, uint32_t c, float value, enum flin_type type)
{
    uint16_t half = type == FLIN_BF16 ? flin_bfloat_from_float(value) : flin_half_from_float(value);
    uint8_t *at = (uint8_t *)row + flin_type_bytes(type, c);

    if (type == FLIN_F32)
        memcpy(at, &value, sizeof value);
    else
        memcpy(at, &half, sizeof half);
}

/* The formats once more, from their description: docs/format.md */
static float get(const void *row, uint64_t c, enum flin_type type)
{
    const uint8_t *at = (const uint8_t *)row + flin_type_bytes(type, c);
    uint16_t half;
    float value = 0;
    int level;

    memcpy(&half, at, sizeof half);
    if (type == FLIN_F32) memcpy(&value, at, sizeof value);
    switch (type) {
    case FLIN_F16:
        return flin_float_from_half(half);
    case FLIN_BF16:
        return flin_float_from_bfloat(half);
    case FLIN_Q8_0:
        return flin_float_from_half(half) * (float)(int8_t)at[2 + c % 32];
    case FLIN_Q4_0:
        level = c % 32 < 16 ? at[2 + c % 32] & 15 : at[2 + c % 32 - 16] >> 4;
        return flin_float_from_half(half) * (float)(level - 8);
    default:
        return value;
    }
}

static void fill_blocks(uint8_t *block, uint32_t count, uint32_t flavour, enum flin_type type)
{
    size_t bytes = bytes_of(type, FLIN_BLOCK);

    for (uint32_t c = 0; c < count; c += FLIN_BLOCK, block += bytes) {
        float scale = random_value(flavour, FLIN_F16) / (type == FLIN_Q8_0 ? 128 : 8);
        put(block, 0, scale, type);
        for (size_t i = 2; i < bytes; i++) block[i] = (uint8_t)random_below(256);
    }
}

static void fill(void *row, uint32_t count, uint32_t flavour, enum flin_type type)
{
    if (flin_type_quantised(type)) {
        fill_blocks(row, count, flavour, type);
        return;
    }
    for (uint32_t c = 0; c < count; c++) put(row, c, random_value(flavour, type), type);
}

/* As many as there may be of a type: whole blocks. */
static uint32_t whole(enum flin_type type, uint32_t cols)
{
    return flin_type_quantised(type) ? cols / FLIN_BLOCK * FLIN_BLOCK : cols;
}

/* Mostly 1 to 300 so that every tail comes up often, now and then much wider. */
static uint32_t random_cols(uint32_t most)
{
    uint32_t cols = random_below(64) == 0 ? random_below(most) : random_below(301);
    return cols < most ? cols : most;
}

static _Alignas(64) uint8_t levels_of_kernels[COLS_MAX * 4 + 512],
    levels_of_ref[COLS_MAX * 4 + 512];

/* What this table's dot products take for x. */
static const void *input(const flin_kernels *kernels, enum flin_type type, const float *x,
                         uint32_t cols)
{
    uint8_t *levels = kernels == &flin_kernels_ref ? levels_of_ref : levels_of_kernels;

    if (!flin_type_quantised(type)) return x;
    kernels->quantise(x, cols, levels);
    return levels;
}

/* ----------------------------------------------------------------------------------- the tables */

static const flin_kernels *table_of(void **state)
{
    uint32_t wanted = *(const uint32_t *)*state;
    const flin_kernels *kernels = flin_kernels_choose(wanted);
    static const char *const names[] = {"", "ref", "avx2", "avx512", "neon"};

    now = wanted;
    if (kernels != NULL) {
        assert_string_equal(kernels->name, names[wanted]);
        return kernels;
    }
    print_message("SKIPPED: this CPU or build has no %s kernels; they are not tested here\n",
                  names[wanted]);
    skip();
    return NULL;
}

/* ref adds the rounded product on machines without fused arithmetic, overlays always fuse. */
static int fuses(const flin_kernels *kernels, enum flin_type type)
{
    return kernels->add_rows[type] != flin_kernels_ref.add_rows[type];
}

static void assert_close(double value, double expected, double bound, const char *what,
                         uint32_t cols)
{
    if (isnan(expected) && isnan(value)) return;
    if (value == expected || fabs(value - expected) <= bound) return;
    fail_msg("%s of %u columns: %.9g instead of %.9g, allowed %.3g", what, cols, value, expected,
             bound);
}

static void assert_same_bits(const float *a, const float *b, uint32_t count, const char *what)
{
    for (uint32_t i = 0; i < count; i++)
        if (flin_bits_from_float(a[i]) != flin_bits_from_float(b[i]))
            fail_msg("%s: element %u is %.9g here and %.9g there", what, i, (double)a[i],
                     (double)b[i]);
}

/* --------------------------------------------------------------------------------- dot products */

/* Half a level of x's block, for quantised types. */
static double level_error(const float *x, uint32_t c)
{
    double most = 0;

    for (uint32_t i = c / FLIN_BLOCK * FLIN_BLOCK; i <= (c | (FLIN_BLOCK - 1)); i++)
        most = fabs((double)x[i]) > most ? fabs((double)x[i]) : most;
    return most < 0x1p-99 ? most : most / FLIN_LEVEL_MAX * 0.5001;
}

/* And how far off a sum in float may be. */
static double exact_dot(const void *row, const float *x, uint32_t cols, enum flin_type type,
                        double *bound)
{
    double sum = 0, magnitude = 0, levels = 0;

    for (uint32_t c = 0; c < cols; c++) {
        double product = (double)get(row, c, type) * (double)x[c];
        sum += product;
        magnitude += fabs(product);
        if (flin_type_quantised(type))
            levels += fabs((double)get(row, c, type)) * level_error(x, c);
    }
    *bound = (cols / 8 + 8) * UNIT * (magnitude + levels) + levels + cols * 0x1p-149;
    return sum;
}

/* One matrix: against double and ref, row by row, split anywhere, scattered, with and without bias */
static void check_dot(const flin_kernels *kernels, enum flin_type type, uint32_t rows,
                      uint32_t cols, uint32_t flavour)
{
    size_t row_bytes = bytes_of(type, cols);
    uint8_t *w = place(AREA_ROWS, rows * row_bytes, 2 * random_below(40));
    float *x = place(AREA_X, cols * sizeof *x, 0);
    float *y = place(AREA_Y, rows * sizeof *y, 0);
    const void *in;
    float *bias = place(AREA_BIAS, rows * sizeof *bias, 0);
    float other[ROWS_MAX], single[ROWS_MAX];
    const void *pointers[ROWS_MAX];
    uint32_t cut = random_below(rows + 1);

    fill(w, rows * cols, flavour, type);
    fill(x, cols, flavour, FLIN_F32);
    fill(bias, rows, 0, FLIN_F32);
    in = input(kernels, type, x, cols);
    kernels->matvec[type](w, rows, cols, in, NULL, y);
    flin_kernels_ref.matvec[type](w, rows, cols, input(&flin_kernels_ref, type, x, cols), NULL,
                                  other);
    for (uint32_t r = 0; r < rows; r++) {
        double bound, expected = exact_dot(w + r * row_bytes, x, cols, type, &bound);
        assert_close((double)y[r], expected, bound, "matvec", cols);
        assert_close((double)y[r], (double)other[r], 2 * bound, "matvec against ref", cols);
    }

    /* rows in another order and company */
    for (uint32_t r = 0; r < rows; r++) pointers[r] = w + (rows - 1 - r) * row_bytes;
    kernels->dot_rows[type](pointers, rows, cols, in, other);
    for (uint32_t r = 0; r < rows; r++)
        kernels->dot_rows[type](&pointers[r], 1, cols, in, &single[r]);
    assert_same_bits(other, single, rows, "dot_rows together and alone");
    for (uint32_t r = 0; r < rows; r++) single[r] = other[rows - 1 - r];
    assert_same_bits(y, single, rows, "matvec and dot_rows");

    kernels->matvec[type](w, cut, cols, in, NULL, other);
    kernels->matvec[type](w + cut * row_bytes, rows - cut, cols, in, NULL, other + cut);
    assert_same_bits(y, other, rows, "matvec split in two");

    for (uint32_t r = 0; r < rows; r++) other[r] += bias[r];
    kernels->matvec[type](w, rows, cols, in, bias, y);
    assert_same_bits(y, other, rows, "matvec with bias");
    shapes_of[now]++;
}

static void dot_products(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (uint32_t type = 0; type < FLIN_TYPES_PACKED; type++) {
        for (uint32_t cols = 0; cols <= 300; cols++)
            check_dot(kernels, type, 1 + random_below(9), whole(type, cols), cols % 3);
        for (uint32_t i = 0; i < 200; i++) {
            uint32_t cols = whole(type, random_cols(COLS_MAX));
            check_dot(kernels, type, random_below(cols > 8000 ? 9 : ROWS_MAX + 1), cols, i % 3);
        }
    }
}

/* Rows that lie anywhere, the first right before the forbidden page. */
static void dot_scattered(void **state)
{
    const flin_kernels *kernels = table_of(state);
    float y[ROWS_MAX], other[ROWS_MAX];
    const void *rows[ROWS_MAX];

    for (uint32_t i = 0; i < 600; i++) {
        enum flin_type type = i % FLIN_TYPES_PACKED;
        uint32_t count = random_below(ROWS_MAX + 1), cols = whole(type, random_cols(2000));
        size_t row_bytes = bytes_of(type, cols), slack = 0;
        float *x = place(AREA_X, cols * sizeof *x, 0);

        fill(x, cols, i % 3, FLIN_F32);
        for (uint32_t r = 0; r < count; r++, slack += row_bytes + 2 * random_below(40)) {
            uint8_t *row = place(AREA_ROWS, row_bytes, slack);
            fill(row, cols, i % 3, type);
            rows[r] = row;
        }
        kernels->dot_rows[type](rows, count, cols, input(kernels, type, x, cols), y);
        flin_kernels_ref.dot_rows[type](rows, count, cols, input(&flin_kernels_ref, type, x, cols),
                                        other);
        for (uint32_t r = 0; r < count; r++) {
            double bound, expected = exact_dot(rows[r], x, cols, type, &bound);
            assert_close((double)y[r], expected, bound, "dot_rows", cols);
            assert_close((double)y[r], (double)other[r], 2 * bound, "dot_rows against ref", cols);
        }
        shapes_of[now]++;
    }
}

#ifdef FLIN_HAVE_AVX512
typedef struct variants {
    const char *name;
    flin_view_dot *bw, *vnni;
    enum flin_type type;
} variants;

/* The overlay takes VNNI where there is any: the same bits without it, on any shape, whole groups of blocks or not, and
   for rows asked for before. Extreme bytes and levels come up, which 16-bit sums must hold. */
static void dot_variants(void **state)
{
    const variants both[] = {
        {"q8_0", flin_avx512_dot_q8_0_bw, flin_avx512_dot_q8_0_vnni, FLIN_Q8_0},
        {"q4_0", flin_avx512_dot_q4_0_bw, flin_avx512_dot_q4_0_vnni, FLIN_Q4_0}};

    (void)state;
    if (flin_kernels_choose(FLASHINFER_KERNELS_AVX512) == NULL ||
        !__builtin_cpu_supports("avx512vnni")) {
        print_message("SKIPPED: this CPU has no AVX-512 VNNI; its products are not tested here\n");
        skip();
    }
    for (uint32_t i = 0; i < 2000; i++) {
        const variants *v = &both[i % 2];
        uint32_t rows = random_below(ROWS_MAX + 1), cols = whole(v->type, random_cols(6000));
        size_t row_bytes = bytes_of(v->type, cols);
        uint8_t *w = place(AREA_ROWS, rows * row_bytes, 2 * random_below(40));
        float *x = place(AREA_X, cols * sizeof *x, 0), bw[ROWS_MAX], vnni[ROWS_MAX];
        flin_view view = {NULL, w, row_bytes, rows, i / 2 % 2};

        fill(w, rows * cols, i % 3, v->type);
        fill(x, cols, i % 3, FLIN_F32);
        for (size_t at = 0; i % 5 == 0 && at < rows * row_bytes; at++) /* but the scales */
            if (at % bytes_of(v->type, FLIN_BLOCK) >= 2) w[at] = v->type == FLIN_Q8_0 ? 0x80 : 0;
        for (uint32_t c = 0; i % 10 < 6 && i % 5 == 0 && c < cols; c++) x[c] = i % 4 ? -1 : 1;
        flin_kernels_avx512.quantise(x, cols, levels_of_kernels);
        v->bw(&view, cols, levels_of_kernels, bw);
        v->vnni(&view, cols, levels_of_kernels, vnni);
        assert_same_bits(bw, vnni, rows, v->name);
        for (uint32_t r = 0; r < rows; r++) {
            double bound, expected = exact_dot(w + r * row_bytes, x, cols, v->type, &bound);
            assert_close((double)bw[r], expected, bound, "dot without VNNI", cols);
        }
    }
}
#endif

/* One Inf or NaN at any place, tails included, reaches its own row and no other. */
static void dot_not_finite(void **state)
{
    const flin_kernels *kernels = table_of(state);
    const float bad[] = {INFINITY, -INFINITY, NAN};

    for (uint32_t i = 0; i < 900; i++) {
        enum flin_type type = i % 3; /* F32, F16, BF16 */
        uint32_t rows = 1 + random_below(9), cols = 1 + random_below(130);
        uint32_t row = random_below(rows), col = random_below(cols);
        size_t row_bytes = bytes_of(type, cols);
        uint8_t *w = place(AREA_ROWS, rows * row_bytes, 2 * random_below(9));
        float *x = place(AREA_X, cols * sizeof *x, 0), y[9], expected = bad[i % 3];

        for (uint32_t c = 0; c < rows * cols; c++) put(w, c, 0.5f, type);
        for (uint32_t c = 0; c < cols; c++) x[c] = 0.25f;
        put(w + row * row_bytes, col, expected, type);
        kernels->matvec[type](w, rows, cols, x, NULL, y);
        for (uint32_t r = 0; r < rows; r++) {
            if (r != row) {
                assert_close((double)y[r], 0.125 * cols, 0, "row beside", cols);
            } else if (isnan(expected)) {
                assert_true(isnan(y[r]));
            } else {
                assert_true(y[r] == expected);
            }
        }
        x[col] = 0.0f; /* Inf * 0 */
        kernels->matvec[type](w, rows, cols, x, NULL, y);
        assert_true(isnan(y[row]));
        shapes_of[now]++;
    }
}

/* ------------------------------------------------------------------------------------- add_rows */

typedef struct sum {
    const void *rows[ROWS_MAX];
    float a[ROWS_MAX];
    uint32_t count, cols;
    enum flin_type type;
} sum;

static void random_sum(sum *s, enum flin_type type, uint32_t cols, uint32_t flavour)
{
    size_t row_bytes = bytes_of(type, cols), slack = 0;

    s->type = type;
    s->cols = cols;
    s->count = random_below(cols > 5000 ? 9 : ROWS_MAX + 1);
    for (uint32_t i = 0; i < s->count; i++, slack += row_bytes + 2 * random_below(40)) {
        uint8_t *row = place(AREA_ROWS, row_bytes, slack);
        fill(row, cols, flavour, type);
        s->rows[i] = row;
        s->a[i] = random_value(flavour, FLIN_F32);
    }
}

/* A quantised element counts as its integer, a[i] times the block's scale. */
static float factor(const sum *s, uint32_t i, uint32_t c)
{
    uint16_t half;

    if (!flin_type_quantised(s->type)) return s->a[i];
    memcpy(&half, (const uint8_t *)s->rows[i] + flin_type_bytes(s->type, c), sizeof half);
    return s->a[i] * flin_float_from_half(half);
}

static float level(const sum *s, uint32_t i, uint32_t c)
{
    uint8_t block[FLIN_Q8_0_BYTES];
    uint32_t first = c / FLIN_BLOCK * FLIN_BLOCK;

    if (!flin_type_quantised(s->type)) return get(s->rows[i], c, s->type);
    memcpy(block, (const uint8_t *)s->rows[i] + flin_type_bytes(s->type, first),
           bytes_of(s->type, FLIN_BLOCK));
    put(block, 0, 1.0f, s->type);
    return get(block, c - first, s->type);
}

static void check_sum_values(const flin_kernels *kernels, const sum *s, const float *before,
                             const float *y)
{
    for (uint32_t c = 0; c < s->cols; c++) {
        double exact = (double)before[c], magnitude = fabs(exact);
        float fused = before[c];

        for (uint32_t i = 0; i < s->count; i++) {
            double product = (double)s->a[i] * (double)get(s->rows[i], c, s->type);
            exact += product;
            magnitude += fabs(product);
            fused = fmaf(factor(s, i, c), level(s, i, c), fused);
        }
        assert_close((double)y[c], exact,
                     (s->count + 2) * UNIT * 2 * magnitude + s->count * 0x1p-140, "add_rows",
                     s->cols);
        if (fuses(kernels, s->type))
            assert_same_bits(&y[c], &fused, 1, "add_rows and a chain of fmaf");
    }
}

static void check_sum_splits(const flin_kernels *kernels, const sum *s, const float *before,
                             const float *y)
{
    float *split = place(AREA_Z, s->cols * sizeof *split, 0);
    uint32_t grains = (s->cols + 63) / 64, cut = random_below(grains + 1) * 64;
    uint32_t part = random_below(s->count + 1);

    cut = cut < s->cols ? cut : s->cols;
    memcpy(split, before, s->cols * sizeof *split);
    kernels->add_rows[s->type](s->rows, s->a, s->count, 0, cut, split);
    assert_memory_equal(split + cut, before + cut, (s->cols - cut) * sizeof *split);
    kernels->add_rows[s->type](s->rows, s->a, s->count, cut, s->cols, split);
    assert_same_bits(y, split, s->cols, "add_rows split by columns");

    /* first some rows, the rest when they arrive */
    memcpy(split, before, s->cols * sizeof *split);
    kernels->add_rows[s->type](s->rows, s->a, part, 0, s->cols, split);
    kernels->add_rows[s->type](s->rows + part, s->a + part, s->count - part, 0, s->cols, split);
    assert_same_bits(y, split, s->cols, "add_rows split by rows");
}

static void check_sum(const flin_kernels *kernels, enum flin_type type, uint32_t cols,
                      uint32_t flavour)
{
    float *before = place(AREA_X, cols * sizeof *before, 0),
          *y = place(AREA_Y, cols * sizeof *y, 0);
    sum s;

    random_sum(&s, type, cols, flavour);
    fill(before, cols, flavour, FLIN_F32);
    memcpy(y, before, cols * sizeof *y);
    kernels->add_rows[type](s.rows, s.a, s.count, 0, cols, y);
    check_sum_values(kernels, &s, before, y);
    check_sum_splits(kernels, &s, before, y);
    shapes_of[now]++;
}

static void added_rows(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (uint32_t type = 0; type < FLIN_TYPES_PACKED; type++) {
        for (uint32_t cols = 0; cols <= 300; cols++)
            check_sum(kernels, type, whole(type, cols), cols % 3);
        for (uint32_t i = 0; i < 100; i++)
            check_sum(kernels, type, whole(type, random_cols(9000)), i % 3);
    }
}

static void added_rows_not_finite(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (uint32_t i = 0; i < 600; i++) {
        enum flin_type type = i % 2 + i / 2 % 2; /* F32, F16, BF16 */
        uint32_t cols = 1 + random_below(130), col = random_below(cols), bad;
        float *y = place(AREA_Y, cols * sizeof *y, 0);
        sum s;

        random_sum(&s, type, cols, 0);
        if (s.count == 0) continue;
        bad = random_below(s.count);
        put((void *)(uintptr_t)s.rows[bad], col, i % 4 < 2 ? INFINITY : NAN, type);
        memset(y, 0, cols * sizeof *y);
        s.a[bad] = 2.0f;
        kernels->add_rows[type](s.rows, s.a, s.count, 0, cols, y);
        for (uint32_t c = 0; c < cols; c++) assert_true(isfinite(y[c]) == (c != col));
        assert_true(i % 4 < 2 ? y[col] == INFINITY : isnan(y[col]));
        shapes_of[now]++;
    }
}

/* ---------------------------------------------------------------------------------- conversions */

static int same_half(uint16_t a, uint16_t b)
{
    int a_nan = (a & 0x7fffu) > 0x7c00u, b_nan = (b & 0x7fffu) > 0x7c00u;
    return a_nan || b_nan ? a_nan && b_nan && (a & 0x8000u) == (b & 0x8000u) : a == b;
}

/* All 65536 halves, in one piece and in pieces of every length. */
static void halves_to_floats(void **state)
{
    const flin_kernels *kernels = table_of(state);
    uint16_t *halves = place(AREA_ROWS, 65536 * sizeof *halves, 0);
    float *floats = place(AREA_Y, 65536 * sizeof *floats, 0);

    for (uint32_t i = 0; i < 65536; i++) halves[i] = (uint16_t)i;
    kernels->to_float[FLIN_F16](halves, 65536, floats);
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 65536; i++) {
            float expected = flin_float_from_half((uint16_t)i);
            if (isnan(expected)) /* a converter may make a signalling NaN quiet */
                assert_true(isnan(floats[i]) && !signbit(floats[i]) == !signbit(expected));
            else
                assert_int_equal(flin_bits_from_float(floats[i]), flin_bits_from_float(expected));
        }
        memset(floats, 0, 65536 * sizeof *floats);
        for (uint32_t at = 0, n = 0; at < 65536; at += n, n = n % 67 + 1) {
            n = n < 65536 - at ? n : 65536 - at;
            kernels->to_float[FLIN_F16](halves + at, n, floats + at);
        }
    }
}

static void floats_to_floats(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (uint32_t cols = 0; cols <= 300; cols++) {
        uint8_t *row = place(AREA_ROWS, cols * sizeof(float), 2 * (cols % 3));
        float *to = place(AREA_Y, cols * sizeof *to, 0);

        for (uint32_t i = 0; i < cols * sizeof(float); i++) row[i] = (uint8_t)random_below(256);
        to[-1] = 7.0f;
        kernels->to_float[FLIN_F32](row, cols, to);
        assert_memory_equal(to, row, cols * sizeof *to);
        assert_true(to[-1] == 7.0f);
        shapes_of[now]++;
    }
}

static uint32_t edge_floats(float *to)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < 65536;
         i++) { /* each half, and the point midway to the next, and around it */
        uint32_t bits = flin_bits_from_float(flin_float_from_half((uint16_t)i));
        if (i % 7 != 0 && (i & 0x7fffu) > 0x420u && (i & 0x7fffu) < 0x7bf0u) continue;
        float next = flin_float_from_half((uint16_t)(i + ((i & 0x7fffu) < 0x7fffu)));
        float middle = flin_float_from_bits(bits) / 2 + next / 2;
        to[n++] = flin_float_from_bits(bits);
        to[n++] = middle;
        to[n++] = nextafterf(middle, INFINITY);
        to[n++] = nextafterf(middle, -INFINITY);
    }
    const float more[] = {65504.0f, 65519.99f, 65520.0f,  -65520.0f, 1e9f,       -1e30f,
                          FLT_MAX,  FLT_MIN,   -FLT_MIN,  0x1p-149f, 0x1p-25f,   0x1.8p-25f,
                          0x1p-26f, INFINITY,  -INFINITY, NAN,       0x1.002p0f, 0x1.006p0f};
    memcpy(to + n, more, sizeof more);
    return n + (uint32_t)(sizeof more / sizeof *more);
}

static void floats_to_halves(void **state)
{
    const flin_kernels *kernels = table_of(state);
    float *x = malloc(300000 * sizeof *x);
    uint16_t *halves = malloc(300000 * sizeof *halves);
    uint32_t count;

    assert_non_null(x);
    assert_non_null(halves);
    count = edge_floats(x);
    assert_true(count < 200000);
    for (; count < 300000; count++) x[count] = flin_float_from_bits(random_below(0xffffffffu));
    kernels->from_float[FLIN_F16](x, count, halves);
    for (uint32_t i = 0; i < count; i++)
        if (!same_half(halves[i], flin_half_from_float(x[i])))
            fail_msg("%a becomes %04x, not %04x", (double)x[i], halves[i],
                     flin_half_from_float(x[i]));
    for (uint32_t cols = 0; cols <= 300; cols++) {
        float *from = place(AREA_X, cols * sizeof *from, 0);
        uint16_t *to = place(AREA_Y, cols * sizeof *to, 0);

        fill(from, cols, cols % 3, FLIN_F32);
        to[-1] = 7;
        kernels->from_float[FLIN_F16](from, cols, to);
        for (uint32_t i = 0; i < cols; i++) assert_int_equal(to[i], flin_half_from_float(from[i]));
        assert_int_equal(to[-1], 7);
        shapes_of[now]++;
    }
    free(x);
    free(halves);
}

/* Where a block of x has an Inf or a NaN: NaN in every product with it. */
static void levels_not_finite(void **state)
{
    const flin_kernels *kernels = table_of(state);
    const float bad[] = {INFINITY, -INFINITY, NAN};

    for (uint32_t i = 0; i < 300; i++) {
        enum flin_type type = i % 2 ? FLIN_Q8_0 : FLIN_Q4_0;
        uint32_t cols = FLIN_BLOCK * (1 + random_below(9)), rows = 1 + random_below(9);
        uint8_t *w = place(AREA_ROWS, rows * bytes_of(type, cols), 2 * random_below(9));
        float *x = place(AREA_X, cols * sizeof *x, 0), y[9];

        fill(w, rows * cols, 0, type);
        fill(x, cols, 0, FLIN_F32);
        x[random_below(cols)] = bad[i % 3];
        kernels->matvec[type](w, rows, cols, input(kernels, type, x, cols), NULL, y);
        for (uint32_t r = 0; r < rows; r++) assert_true(isnan(y[r]));
        shapes_of[now]++;
    }
}

/* What ggml's quantisers write, from their description: one scale a block, halves away from zero; and the largest
   magnitude as -8. */
static void expect_block(const float *x, enum flin_type type, uint8_t *block)
{
    float most = 0, largest = 0, scale, inverse;

    for (uint32_t i = 0; i < 32; i++)
        if (fabsf(x[i]) > most) most = fabsf(x[i]), largest = x[i];
    scale = type == FLIN_Q8_0 ? most / 127.0f : largest / -8.0f;
    inverse = scale != 0 ? 1.0f / scale : 0;
    put(block, 0, scale, FLIN_F16);
    for (uint32_t i = 0; type == FLIN_Q8_0 && i < 32; i++)
        block[2 + i] = (uint8_t)(int)lroundf(x[i] * inverse);
    for (uint32_t i = 0; type == FLIN_Q4_0 && i < 16; i++) {
        int low = (int)floorf(x[i] * inverse + 8.5f),
            high = (int)floorf(x[i + 16] * inverse + 8.5f);
        block[2 + i] = (uint8_t)((low > 15 ? 15 : low) | (high > 15 ? 15 : high) << 4);
    }
}

static void floats_to_blocks(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (uint32_t i = 0; i < 2000; i++) {
        enum flin_type type = i % 2 ? FLIN_Q8_0 : FLIN_Q4_0;
        uint32_t cols = FLIN_BLOCK * random_below(20);
        size_t bytes = bytes_of(type, cols);
        float *x = place(AREA_X, cols * sizeof *x, 0), *back = place(AREA_Y, cols * sizeof *x, 0);
        uint8_t *row = place(AREA_ROWS, bytes, 2 * random_below(9)), expected[40];

        fill(x, cols, i % 3 == 1 ? 2 : 0, FLIN_F32);
        for (uint32_t c = 0; i % 7 == 0 && c < cols; c++) x[c] = c % 3 ? 0.0f : -0.0f;
        for (uint32_t c = 0; i % 11 == 0 && c < cols; c++) /* halves of a level */
            x[c] = (float)(int)(random_below(255) - 127) * 0.5f;
        kernels->from_float[type](x, cols, row);
        for (uint32_t c = 0; c < cols; c += FLIN_BLOCK) {
            expect_block(x + c, type, expected);
            assert_memory_equal(row + bytes_of(type, c), expected, bytes_of(type, FLIN_BLOCK));
        }
        kernels->to_float[type](row, cols, back);
        for (uint32_t c = 0; c < cols; c++)
            assert_int_equal(flin_bits_from_float(back[c]),
                             flin_bits_from_float(get(row, c, type)));
        shapes_of[now]++;
    }
}

/* A block with an Inf or a NaN becomes one of NaNs, and tiny ones zeros: nothing undefined. */
static void blocks_not_finite(void **state)
{
    const flin_kernels *kernels = table_of(state);
    const float odd[] = {INFINITY, -INFINITY, NAN, 0x1p-140f, -0x1p-149f, 0x1p-120f};

    for (uint32_t i = 0; i < 60; i++) {
        enum flin_type type = i % 2 ? FLIN_Q8_0 : FLIN_Q4_0;
        float x[32] = {0}, back[32];
        uint8_t row[40];

        x[random_below(32)] = odd[i / 2 % 6];
        kernels->from_float[type](x, 32, row);
        kernels->to_float[type](row, 32, back);
        for (uint32_t c = 0; c < 32; c++)
            assert_true(i / 2 % 6 < 3 ? isnan(back[c]) : back[c] == 0.0f);
    }
}

static void bfloats(void **state)
{
    const flin_kernels *kernels = table_of(state);
    uint16_t *bfloats = place(AREA_ROWS, 65536 * sizeof *bfloats, 0);
    float *floats = place(AREA_Y, 65536 * sizeof *floats, 0);
    static float x[65536];

    for (uint32_t i = 0; i < 65536; i++) bfloats[i] = (uint16_t)i;
    kernels->to_float[FLIN_BF16](bfloats, 65536, floats);
    for (uint32_t i = 0; i < 65536; i++) assert_int_equal(flin_bits_from_float(floats[i]), i << 16);
    for (uint32_t round = 0; round < 8; round++) {
        for (uint32_t i = 0; i < 65536; i++)
            x[i] = flin_float_from_bits(round == 0 ? i << 16 | 0x8000u : random_below(0xffffffffu));
        kernels->from_float[FLIN_BF16](x, 65536, bfloats);
        for (uint32_t i = 0; i < 65536; i++)
            assert_int_equal(bfloats[i], flin_bfloat_from_float(x[i]));
    }
    for (uint32_t cols = 0; cols <= 130; cols++) { /* tails */
        float *from = place(AREA_X, cols * sizeof *from, 0),
              *to = place(AREA_Y, cols * sizeof *to, 0);
        uint16_t *row = place(AREA_ROWS, cols * sizeof *row, 2 * (cols % 3));

        fill(from, cols, cols % 3, FLIN_F32);
        kernels->from_float[FLIN_BF16](from, cols, row);
        kernels->to_float[FLIN_BF16](row, cols, to);
        for (uint32_t c = 0; c < cols; c++)
            assert_true(to[c] == flin_float_from_bfloat(flin_bfloat_from_float(from[c])));
        shapes_of[now]++;
    }
}

/* ----------------------------------------------------------------------------------- layer norm */

static void check_norm(const flin_kernels *kernels, uint32_t n, float offset, float eps)
{
    float *x = place(AREA_X, n * sizeof *x, 0), *y = place(AREA_Y, n * sizeof *y, 0);
    float *weight = place(AREA_ROWS, n * sizeof *weight, 0),
          *bias = place(AREA_BIAS, n * sizeof *bias, 0);
    float *other = place(AREA_Z, n * sizeof *other, 0);
    double mean = 0, variance = 0, largest = 0;

    fill(x, n, 0, FLIN_F32);
    fill(weight, n, 0, FLIN_F32);
    fill(bias, n, 0, FLIN_F32);
    for (uint32_t c = 0; c < n; c++) x[c] += offset;
    for (uint32_t c = 0; c < n; c++)
        mean += (double)x[c] / n, largest = fmax(largest, fabs((double)x[c]));
    for (uint32_t c = 0; c < n; c++) variance += ((double)x[c] - mean) * ((double)x[c] - mean) / n;

    kernels->layer_norm(x, weight, bias, n, eps, y);
    flin_kernels_ref.layer_norm(x, weight, bias, n, eps, other);

    double scale = 1 / sqrt(variance + (double)eps);
    for (uint32_t c = 0; c < n; c++) {
        double normal = ((double)x[c] - mean) * scale;
        double expected = normal * (double)weight[c] + (double)bias[c];
        /* the mean's rounding shifts every element; the variance's scales it */
        double bound = (n / 8 + 16) * UNIT * (largest * scale + fabs(normal) + 1);
        assert_close((double)y[c], expected, bound, "layer_norm", n);
        assert_close((double)y[c], (double)other[c], 2 * bound, "layer_norm against ref", n);
    }
    memcpy(other, x, n * sizeof *x);
    kernels->layer_norm(other, weight, bias, n, eps, other);
    assert_same_bits(y, other, n, "layer_norm in place");
    shapes_of[now]++;
}

static void layer_norms(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (uint32_t n = 0; n <= 300; n++) check_norm(kernels, n, n % 2 ? 0.0f : 3.0f, 1e-5f);
    for (uint32_t i = 0; i < 100; i++)
        check_norm(kernels, random_cols(COLS_MAX), random_float(), 1e-5f);
    for (uint32_t n = 1; n < 100; n++) { /* one NaN makes every element NaN */
        float *x = place(AREA_X, n * sizeof *x, 0), *y = place(AREA_Y, n * sizeof *y, 0);

        for (uint32_t c = 0; c < n; c++) x[c] = 1.0f;
        kernels->layer_norm(x, x, x, n, 1e-5f, y);
        for (uint32_t c = 0; c < n; c++)
            assert_true(y[c] == 1.0f); /* no variance: weight * 0 + bias */
        x[random_below(n)] = NAN;
        kernels->layer_norm(x, x, x, n, 1e-5f, y);
        for (uint32_t c = 0; c < n; c++) assert_true(isnan(y[c]));
        shapes_of[now]++;
    }
}

/* ---------------------------------------------------------------------- other architectures' own */

static void rms_norms(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (uint32_t i = 0; i < 400; i++) {
        uint32_t n = i <= 300 ? i : random_cols(COLS_MAX);
        float *x = place(AREA_X, n * sizeof *x, 0), *y = place(AREA_Y, n * sizeof *y, 0);
        float *weight = place(AREA_ROWS, n * sizeof *weight, 0), *other = place(AREA_Z, n * 4, 0);
        double squares = 0;

        fill(x, n, i % 2 * 2, FLIN_F32);
        fill(weight, n, 0, FLIN_F32);
        for (uint32_t c = 0; c < n; c++) squares += (double)x[c] * (double)x[c] / n;
        kernels->rms_norm(x, weight, n, 1e-6f, y);
        for (uint32_t c = 0; c < n; c++) {
            double expected = (double)x[c] / sqrt(squares + (double)1e-6f) * (double)weight[c];
            assert_close((double)y[c], expected, (n / 8 + 16) * UNIT * fabs(expected), "rms_norm",
                         n);
        }
        memcpy(other, x, n * sizeof *x);
        kernels->rms_norm(other, weight, n, 1e-6f, other);
        assert_same_bits(y, other, n, "rms_norm in place");
        if (n != 0) {
            x[random_below(n)] = NAN;
            kernels->rms_norm(x, weight, n, 1e-6f, y);
            for (uint32_t c = 0; c < n; c++) assert_true(isnan(y[c]));
        }
        shapes_of[now]++;
    }
}

static double activated(enum flin_activation kind, double x)
{
    if (kind == FLIN_SILU) return x == -INFINITY ? -0.0 : x / (1 + exp(-x));
    x = x < 0 ? 0 : x;
    return kind == FLIN_RELU ? x : x * x;
}

static void activations(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (uint32_t i = 0; i < 900; i++) {
        enum flin_activation kind = i % FLIN_ACTIVATION_COUNT;
        uint32_t n = random_cols(2000);
        float *x = place(AREA_X, n * sizeof *x, 0), *y = place(AREA_Y, n * sizeof *y, 0);
        float *up = i % 2 ? place(AREA_ROWS, n * sizeof *up, 0) : NULL;

        fill(x, n, i / 3 % 3, FLIN_F32);
        if (up != NULL) fill(up, n, 0, FLIN_F32);
        for (uint32_t c = 0; c < n; c++) x[c] *= 30;
        if (n != 0 && i % 9 < 3) x[random_below(n)] = NAN;
        if (n != 0 && i % 9 == 3) x[random_below(n)] = -100.0f; /* exp(100) is no float */
        kernels->activate[kind](x, up, n, y);
        for (uint32_t c = 0; c < n; c++) {
            double expected = activated(kind, (double)x[c]) * (up != NULL ? (double)up[c] : 1);
            assert_close((double)y[c], expected, 6 * UNIT * fabs(expected) + 0x1p-119, "activation",
                         n);
            assert_true(isnan(y[c]) == isnan(expected));
        }
        kernels->activate[kind](x, up, n, x);
        for (uint32_t c = 0; c < n; c++) assert_true(isnan(y[c]) ? isnan(x[c]) : x[c] == y[c]);
        shapes_of[now]++;
    }
}

static void rotations(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (uint32_t i = 0; i < 600; i++) {
        uint32_t heads = random_below(5), dim = 2 + random_below(140), rotated, half;
        enum flin_pairs pairs = i % 2 ? FLIN_PAIRS_HALVES : FLIN_PAIRS_NEIGHBOURS;
        float *x = place(AREA_X, heads * dim * sizeof *x, 0), before[5 * 142];
        float *cosines, *sines;

        rotated = i % 3 ? dim / 2 * 2 : random_below(dim + 1) / 2 * 2;
        half = rotated / 2;
        cosines = place(AREA_Y, half * sizeof *cosines, 0);
        sines = place(AREA_Z, half * sizeof *sines, 0);
        fill(x, heads * dim, i % 3, FLIN_F32);
        memcpy(before, x, heads * dim * sizeof *x);
        for (uint32_t k = 0; k < half; k++) {
            cosines[k] = (float)cos(k * 0.37 + i);
            sines[k] = (float)sin(k * 0.37 + i);
        }
        kernels->rotate(x, heads, dim, rotated, cosines, sines, pairs);
        for (uint32_t c = 0; c < heads * dim; c++) {
            uint32_t e = c % dim, base = c - e, k, a, b;
            double left, right, expected;
            if (e >= rotated) {
                assert_true(x[c] == before[c]);
                continue;
            }
            k = pairs == FLIN_PAIRS_HALVES ? e % half : e / 2;
            a = base + (pairs == FLIN_PAIRS_HALVES ? k : 2 * k);
            b = base + (pairs == FLIN_PAIRS_HALVES ? k + half : 2 * k + 1);
            left = (double)before[a], right = (double)before[b];
            expected = c == a ? left * (double)cosines[k] - right * (double)sines[k]
                              : left * (double)sines[k] + right * (double)cosines[k];
            assert_close((double)x[c], expected, 3 * UNIT * (fabs(left) + fabs(right)) + 0x1p-148,
                         "rotate", dim);
        }
        shapes_of[now]++;
    }
}

/* ------------------------------------------------------------------------------------ attention */

typedef struct head {
    float *q, *out;
    uint8_t *keys, *values;
    uint32_t count, stride, dim;
    enum flin_type type;
} head;

static void random_head(head *h, enum flin_type type, uint32_t count, uint32_t dim, float sharpness)
{
    static const uint32_t gaps[] = {0, 0, 1, 7, 64};
    uint64_t elements;

    h->type = type;
    h->count = count;
    h->dim = dim;
    h->stride = dim + (flin_type_quantised(type) ? gaps[random_below(3)] * FLIN_BLOCK
                                                 : gaps[random_below(5)]);
    elements = count == 0 ? 0 : (uint64_t)(count - 1) * h->stride + dim;
    h->q = place(AREA_X, dim * sizeof(float), 0);
    h->out = place(AREA_Y, dim * sizeof(float), 0);
    h->keys = place(AREA_ROWS, bytes_of(type, elements), 0);
    h->values = place(AREA_MORE, bytes_of(type, elements), 0);
    fill(h->keys, (uint32_t)elements, 0, type);
    fill(h->values, (uint32_t)elements, 0, type);
    for (uint32_t c = 0; c < dim; c++) h->q[c] = random_float() * sharpness;
}

static void run_head(const flin_kernels *kernels, const head *h)
{
    static _Alignas(64) uint8_t scratch[8192];

    assert_true(flin_attend_bytes(h->dim) <= sizeof scratch);
    kernels->attend[h->type](h->q, h->keys, h->values, h->count, h->stride, h->dim, scratch,
                             h->out);
}

/* The same in double; *slack is how much a score may be off, which its weight is off by,
   relatively. */
static void exact_head(const head *h, double *out, double *slack)
{
    double *weights = calloc(h->count + 1, sizeof *weights), total = 0, largest = -INFINITY,
           most = 0;
    size_t step = bytes_of(h->type, h->stride);

    assert_non_null(weights);
    for (uint32_t p = 0; p < h->count; p++) {
        double bound;
        weights[p] = exact_dot(h->keys + p * step, h->q, h->dim, h->type, &bound);
        largest = fmax(largest, weights[p]);
        most = fmax(most, bound);
    }
    for (uint32_t p = 0; p < h->count; p++) total += weights[p] = exp(weights[p] - largest);
    for (uint32_t c = 0; c < h->dim; c++) {
        out[c] = 0;
        for (uint32_t p = 0; p < h->count; p++)
            out[c] += weights[p] / total * (double)get(h->values + p * step, c, h->type);
    }
    *slack = 4 * most + (8 + h->count / FLIN_ATTEND_POSITIONS * 4.0) * UNIT;
    free(weights);
}

static void check_head(const flin_kernels *kernels, enum flin_type type, uint32_t count,
                       uint32_t dim, float sharpness)
{
    double expected[512], slack, bound;
    float other[512];
    head h;

    random_head(&h, type, count, dim, sharpness);
    exact_head(&h, expected, &slack);
    run_head(&flin_kernels_ref, &h);
    memcpy(other, h.out, dim * sizeof *other);
    run_head(kernels, &h);
    bound = 2 * slack + 2 * (count + 8) * UNIT; /* values are within [-1, 1] and weights sum to 1 */
    for (uint32_t c = 0; c < dim; c++) {
        if (count == 0) assert_true(h.out[c] == 0.0f);
        assert_close((double)h.out[c], expected[c], bound, "attend", dim);
        assert_close((double)h.out[c], (double)other[c], 2 * bound, "attend against ref", dim);
    }
    shapes_of[now]++;
}

/* Types that keys and values have. */
static const enum flin_type cached[] = {FLIN_F32, FLIN_F16, FLIN_Q8_0};

static void attention(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (uint32_t i = 0; i < sizeof cached / sizeof *cached; i++) {
        enum flin_type type = cached[i];
        for (uint32_t dim = 1; dim <= 300; dim++)
            check_head(kernels, type, 1 + random_below(40), whole(type, dim),
                       dim % 4 == 0 ? 20.0f : 1.0f);
        for (uint32_t count = 0; count <= 200; count++)
            check_head(kernels, type, count, whole(type, count % 2 ? 64 : 80),
                       count % 4 == 0 ? 100.0f : 1.0f);
        check_head(kernels, type, 1500, 64, 1.0f);
        check_head(kernels, type, 2 * FLIN_ATTEND_POSITIONS + 1, 64, 1.0f);
        check_head(kernels, type, 1023, 128, 10.0f);
    }
}

/* A head of one dimension, whose scores are the keys, with a second of weight 1: weights show the exponential itself. */
static void exponentials(void **state)
{
    const flin_kernels *kernels = table_of(state);
    static _Alignas(64) uint8_t scratch[8192];

    for (uint32_t i = 0; i < 4000; i++) {
        float *keys = place(AREA_ROWS, 2 * sizeof *keys, 0), values[2] = {1.0f, 0.0f};
        float q = 1.0f, score, out;
        double expected;

        score = i < 200 ? -(float)i : -(float)random_below(110000) / 1000.0f;
        keys[0] = score, keys[1] = 0.0f;
        kernels->attend[FLIN_F32](&q, keys, values, 2, 1, 1, scratch, &out);
        expected = exp((double)score);
        assert_close((double)out, expected / (1 + expected), 5 * UNIT * expected + 0x1p-126,
                     "weight", 1);
    }
}

/* The largest score comes early, late, or again and again larger: what was added before is scaled down. */
static void running_softmax(void **state)
{
    const flin_kernels *kernels = table_of(state);
    static _Alignas(64) uint8_t scratch[8192];
    const uint32_t dead = FLIN_ATTEND_POSITIONS + 2;
    static float keys[3000], values[3000];

    for (uint32_t i = 0; i < 300; i++) {
        uint32_t count = 1 + random_below(3000);
        double total = 0, weighed = 0, bound;
        float q = 1.0f, out, slope = (float)(int)(i % 3 - 1) * 0.1f;

        for (uint32_t p = 0; p < count; p++) {
            keys[p] = slope * (float)p + random_float();
            values[p] = random_float();
            if (i % 5 == 0 && p < dead) keys[p] = -INFINITY; /* a whole block that weighs nothing */
        }
        kernels->attend[FLIN_F32](&q, keys, values, count, 1, 1, scratch, &out);
        for (uint32_t p = 0; p < count; p++) {
            double weight = exp((double)keys[p] - 300.0);
            total += weight, weighed += weight * (double)values[p];
        }
        bound = ((double)count / 4 + 400) * UNIT; /* of scores up to 300, and the scaling down */
        if (i % 5 == 0 && count <= dead)
            assert_true(isnan(out));
        else
            assert_close((double)out, weighed / total, bound, "running softmax", count);
        shapes_of[now]++;
    }
}

static void attention_not_finite(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (uint32_t i = 0; i < 900; i++) {
        enum flin_type type = cached[i / 3 % 3];
        uint32_t count = 1 + random_below(130), p = random_below(count);
        uint32_t dim = flin_type_quantised(type) ? 32 + 32 * random_below(3) : 1 + random_below(70);
        uint32_t c = random_below(dim);
        uint8_t *key;
        head h;

        random_head(&h, type, count, dim, 1.0f);
        h.q[c] = 1.0f;
        key = h.keys + bytes_of(type, (uint64_t)p * h.stride);
        if (i % 3 == 0 && !flin_type_quantised(type)) {
            /* -Inf: a masked position, which counts only if it is alone */
            put(key, c, -INFINITY, type);
            run_head(kernels, &h);
            for (uint32_t k = 0; k < dim; k++) assert_true(isnan(h.out[k]) == (count == 1));
        } else { /* NaN or +Inf as a score spoils all of this head */
            put(key, c, i % 3 != 2 || flin_type_quantised(type) ? NAN : INFINITY, type);
            run_head(kernels, &h);
            for (uint32_t k = 0; k < dim; k++) assert_true(isnan(h.out[k]));
        }
        shapes_of[now]++;
    }
}

/* ------------------------------------------------------------------------------------- choosing */

static void choosing(void **state)
{
    const flin_kernels *best = flin_kernels_choose(FLASHINFER_KERNELS_DEFAULT);
    const flin_kernels *avx512 = flin_kernels_choose(FLASHINFER_KERNELS_AVX512);
    const flin_kernels *avx2 = flin_kernels_choose(FLASHINFER_KERNELS_AVX2);
    const flin_kernels *neon = flin_kernels_choose(FLASHINFER_KERNELS_NEON);
    const flin_kernels *expected = avx512 != NULL ? avx512 : avx2 != NULL ? avx2 : neon;

    (void)state;
    assert_ptr_equal(flin_kernels_choose(FLASHINFER_KERNELS_REF), &flin_kernels_ref);
    assert_ptr_equal(best, expected != NULL ? expected : &flin_kernels_ref);
    assert_null(flin_kernels_choose(5));
    assert_null(flin_kernels_choose(UINT32_MAX));
    for (uint32_t wanted = 0; wanted < 5; wanted++) {
        const flin_kernels *kernels = flin_kernels_choose(wanted);
        if (kernels == NULL) continue;
        for (uint32_t type = 0; type < FLIN_TYPES_PACKED; type++) {
            assert_true(kernels->matvec[type] && kernels->dot_rows[type]);
            assert_true(kernels->add_rows[type] && kernels->to_float[type]);
            assert_non_null(kernels->from_float[type]);
        }
        for (uint32_t i = 0; i < sizeof cached / sizeof *cached; i++)
            assert_non_null(kernels->attend[cached[i]]);
        for (uint32_t kind = 0; kind < FLIN_ACTIVATION_COUNT; kind++)
            assert_non_null(kernels->activate[kind]);
        assert_true(kernels->quantise && kernels->layer_norm && kernels->rms_norm);
        assert_true(kernels->rotate && kernels->sketch_mask && kernels->sketch_scores);
        assert_non_null(kernels->sketch_input);
        assert_int_equal(kernels->matvec[FLIN_Q4_0_APART] != NULL, kernels->apart_to_float != NULL);
    }
}

static void enough_shapes(void **state)
{
    (void)state;
    for (uint32_t wanted = 1; wanted < sizeof shapes_of / sizeof *shapes_of; wanted++) {
        const flin_kernels *kernels = flin_kernels_choose(wanted);
        if (kernels == NULL) continue;
        print_message("%s: %u random shapes tested\n", kernels->name, shapes_of[wanted]);
        assert_true(shapes_of[wanted] >= 10000);
    }
}

/* clang-format off */
#define FOR_TABLE(test, wanted) {#test ": " #wanted, test, NULL, NULL, &table_##wanted}
/* clang-format on */
#define FOR_EACH_TABLE(test)                                                                       \
    FOR_TABLE(test, ref), FOR_TABLE(test, avx2), FOR_TABLE(test, avx512), FOR_TABLE(test, neon)

int main(void)
{
    static uint32_t table_ref = FLASHINFER_KERNELS_REF, table_avx2 = FLASHINFER_KERNELS_AVX2;
    static uint32_t table_avx512 = FLASHINFER_KERNELS_AVX512, table_neon = FLASHINFER_KERNELS_NEON;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choosing),
        FOR_EACH_TABLE(dot_products),
        FOR_EACH_TABLE(dot_scattered),
#ifdef FLIN_HAVE_AVX512
        cmocka_unit_test(dot_variants),
#endif
        FOR_EACH_TABLE(dot_not_finite),
        FOR_EACH_TABLE(added_rows),
        FOR_EACH_TABLE(added_rows_not_finite),
        FOR_EACH_TABLE(halves_to_floats),
        FOR_EACH_TABLE(floats_to_floats),
        FOR_EACH_TABLE(floats_to_halves),
        FOR_EACH_TABLE(levels_not_finite),
        FOR_EACH_TABLE(floats_to_blocks),
        FOR_EACH_TABLE(blocks_not_finite),
        FOR_EACH_TABLE(bfloats),
        FOR_EACH_TABLE(layer_norms),
        FOR_EACH_TABLE(rms_norms),
        FOR_EACH_TABLE(activations),
        FOR_EACH_TABLE(rotations),
        FOR_EACH_TABLE(attention),
        FOR_EACH_TABLE(exponentials),
        FOR_EACH_TABLE(running_softmax),
        FOR_EACH_TABLE(attention_not_finite),
        cmocka_unit_test(enough_shapes),
    };

    return cmocka_run_group_tests(tests, map_areas, NULL);
}
