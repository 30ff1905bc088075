/*
 * test_quants.c - GGUF's block types beside Q8_0 and Q4_0: what they mean, by vectors of ggml's Python package
 * (tests/data/make_quants.py), and what every table of kernels this CPU can run makes of them.
 *
 * Rows begin at any address and end at a page that may not be touched. Error bounds are those of test_kernels.c, with
 * what is taken off counted as well.
 */
#define _GNU_SOURCE
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/inputs.h"
#include "random_blocks.h"

#define ROWS_MAX 24u
#define COLS_MAX 6144u
#define AREA_BYTES ((size_t)1 << 20)
#define UNIT 0x1p-24 /* half an ulp of 1 */
#define ELEMENTS 512u /* of a type in the file of vectors */

static const enum flin_type types[] = {FLIN_Q4_1, FLIN_Q5_0, FLIN_Q5_1, FLIN_Q2_K,   FLIN_Q3_K,  FLIN_Q4_K,
                                       FLIN_Q5_K, FLIN_Q6_K, FLIN_IQ4_NL, FLIN_IQ4_XS, FLIN_MXFP4};

#define TYPES (sizeof types / sizeof *types)

static uint64_t random_state = 0x9e3779b97f4a7c15u;

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

/* The last `bytes` before a forbidden page, or `before` bytes further down. */
static uint8_t *place(uint32_t area, size_t bytes, size_t before)
{
    static uint8_t *ends[3];
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (ends[area] == NULL) {
        uint8_t *base = mmap(NULL, AREA_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(base, MAP_FAILED);
        assert_int_equal(mprotect(base + AREA_BYTES, page, PROT_NONE), 0);
        ends[area] = base + AREA_BYTES;
    }
    assert_true(bytes + before <= AREA_BYTES);
    return ends[area] - bytes - before;
}

static const flin_kernels *table_of(void **state)
{
    const flin_kernels *kernels = flin_kernels_choose(*(const uint32_t *)*state);

    if (kernels == NULL) {
        print_message("SKIPPED: this CPU or build has no such kernels; they are not tested here\n");
        skip();
    }
    return kernels;
}

static void assert_same_bits(const float *a, const float *b, uint32_t count, enum flin_type type, const char *what)
{
    for (uint32_t i = 0; i < count; i++) {
        if (isnan(a[i]) && isnan(b[i])) continue;
        if (flin_bits_from_float(a[i]) != flin_bits_from_float(b[i]))
            fail_msg("%s of type %d: element %u is %.9g here and %.9g there", what, (int)type, i, (double)a[i],
                     (double)b[i]);
    }
}

/* ------------------------------------------------------------------------------------- conversions */

static void every_table_has_them(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (size_t i = 0; i < TYPES; i++) {
        assert_true(flin_type_quantised(types[i]));
        assert_true(kernels->matvec[types[i]] && kernels->matvecs[types[i]]);
        assert_true(kernels->dot_rows[types[i]] && kernels->to_float[types[i]]);
    }
}

/* As ggml has it, number for number. */
static void floats_are_ggmls(void **state)
{
    const flin_kernels *kernels = table_of(state);
    char path[4096];
    FILE *file;

    snprintf(path, sizeof path, "%s/quants.bin", getenv("FLASHINFER_TEST_DATA"));
    file = fopen(path, "rb");
    assert_non_null(file);
    for (size_t i = 0; i < TYPES; i++) {
        const size_t bytes = flin_type_bytes(types[i], ELEMENTS);
        float expected[ELEMENTS], *floats = (float *)(void *)place(1, sizeof expected, 0);
        uint8_t *row = place(0, bytes, 0);

        assert_int_equal(fread(row, 1, bytes, file), bytes);
        assert_int_equal(fread(expected, sizeof *expected, ELEMENTS, file), ELEMENTS);
        kernels->to_float[types[i]](row, ELEMENTS, floats);
        for (uint32_t c = 0; c < ELEMENTS; c++)
            if (!(floats[c] == expected[c]))
                fail_msg("type %d: element %u is %.9g, ggml's %.9g", (int)types[i], c, (double)floats[c],
                         (double)expected[c]);
    }
    assert_int_equal(fgetc(file), EOF);
    fclose(file);
}

static void floats_are_the_references(void **state)
{
    const flin_kernels *kernels = table_of(state);
    static float expected[COLS_MAX];

    for (uint32_t i = 0; i < 40 * TYPES; i++) {
        const enum flin_type type = types[i % TYPES];
        const uint32_t elements = flin_types[type].elements;
        const uint32_t cols = (1 + random_below(COLS_MAX / (i < 20 * TYPES ? 8 : 1) / elements)) * elements;
        uint8_t *row = place(0, flin_type_bytes(type, cols), random_below(70));
        float *floats = (float *)(void *)place(1, cols * sizeof *floats, 0);

        fill_random_blocks(row, cols, type, random_below);
        flin_kernels_ref.to_float[type](row, cols, expected);
        kernels->to_float[type](row, cols, floats);
        assert_same_bits(floats, expected, cols, type, "to_float");
    }
}

/* --------------------------------------------------------------------------------------- products */

typedef struct problem {
    enum flin_type type;
    uint32_t rows, cols, inputs;
    size_t row_bytes;
    uint8_t *w;
    float x[FLIN_INPUTS_MAX][COLS_MAX];
    _Alignas(64) uint8_t levels[FLIN_INPUTS_MAX][COLS_MAX * 4 + 512];
    const void *from[FLIN_INPUTS_MAX]; /* levels */
} problem;

static problem one;

static void make(problem *p, const flin_kernels *kernels, enum flin_type type, uint32_t inputs)
{
    const uint32_t elements = flin_types[type].elements;
    const uint32_t most = random_below(8) == 0 ? COLS_MAX : 1024;

    p->type = type;
    p->inputs = inputs;
    p->rows = random_below(ROWS_MAX + 1);
    p->cols = random_below(most / elements + 1) * elements;
    p->row_bytes = flin_type_bytes(type, p->cols);
    p->w = place(0, p->rows * p->row_bytes, random_below(70));
    for (uint32_t r = 0; r < p->rows; r++) fill_random_blocks(p->w + r * p->row_bytes, p->cols, type, random_below);
    for (uint32_t i = 0; i < inputs; i++) {
        const float size = ldexpf(1, (int)random_below(20) - 10);

        for (uint32_t c = 0; c < p->cols; c++) p->x[i][c] = random_float() * size;
        for (uint32_t c = 0; random_below(4) == 0 && c < p->cols; c++) p->x[i][c] = c % 37 == 0 ? size : -size;
        for (uint32_t c = 0; random_below(4) == 0 && c < p->cols; c++) p->x[i][c] = size; /* largest sums */
        kernels->quantise(p->x[i], p->cols, p->levels[i]);
        p->from[i] = p->levels[i];
    }
}

static double largest(const float *x)
{
    double most = 0;

    for (uint32_t c = 0; c < FLIN_BLOCK; c++) most = fabs((double)x[c]) > most ? fabs((double)x[c]) : most;
    return most;
}

/* And how far off it may be. What is taken off is not more than a few times the largest element, of random bytes. */
static double exact_dot(const problem *p, uint32_t r, const float *x, double *bound)
{
    static float w[COLS_MAX];
    double sum = 0, magnitude = 0, levels = 0;

    flin_kernels_ref.to_float[p->type](p->w + r * p->row_bytes, p->cols, w);
    for (uint32_t c = 0; c < p->cols; c++) {
        const double level = largest(x + c / FLIN_BLOCK * FLIN_BLOCK) / FLIN_LEVEL_MAX * 0.5001;

        sum += (double)w[c] * (double)x[c];
        magnitude += 8 * largest(w + c / FLIN_BLOCK * FLIN_BLOCK) * fabs((double)x[c]);
        levels += fabs((double)w[c]) * level;
    }
    *bound = (p->cols / 8 + 8) * UNIT * (magnitude + levels) + levels +
             p->cols * 0x1p-149 * FLIN_LEVEL_MAX * 12; /* MXFP4's smallest scales times x's */
    return sum;
}

static void check_values(const problem *p, const flin_kernels *kernels, uint32_t input, const float *y)
{
    for (uint32_t r = 0; r < p->rows; r++) {
        double bound, expected = exact_dot(p, r, p->x[input], &bound);

        if (!(fabs((double)y[r] - expected) <= bound))
            fail_msg("%s, type %d, %u columns: %.9g instead of %.9g, allowed %.3g", kernels->name, (int)p->type, p->cols,
                     (double)y[r], expected, bound);
    }
}

/* Any split of the rows, any order, any company: the same bits. */
static void check_bits(const problem *p, const flin_kernels *kernels, const float *y)
{
    const uint32_t cut = random_below(p->rows + 1);
    const void *pointers[ROWS_MAX];
    float again[ROWS_MAX], bias[ROWS_MAX];

    kernels->matvec[p->type](p->w, cut, p->cols, p->from[0], NULL, again);
    kernels->matvec[p->type](p->w + cut * p->row_bytes, p->rows - cut, p->cols, p->from[0], NULL, again + cut);
    assert_same_bits(again, y, p->rows, p->type, "matvec in two parts");
    for (uint32_t r = 0; r < p->rows; r++) pointers[r] = p->w + (p->rows - 1 - r) * p->row_bytes;
    kernels->dot_rows[p->type](pointers, p->rows, p->cols, p->from[0], again);
    for (uint32_t r = 0; r < p->rows; r++) assert_same_bits(&again[p->rows - 1 - r], &y[r], 1, p->type, "dot_rows");
    for (uint32_t r = 0; r < p->rows; r++) bias[r] = random_float();
    kernels->matvec[p->type](p->w, p->rows, p->cols, p->from[0], bias, again);
    for (uint32_t r = 0; r < p->rows; r++) assert_true(again[r] == y[r] + bias[r]);
}

static void products(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (uint32_t i = 0; i < 70 * TYPES; i++) {
        float *y = (float *)(void *)place(1, ROWS_MAX * sizeof *y, 0);

        make(&one, kernels, types[i % TYPES], 1);
        y = (float *)(void *)place(1, one.rows * sizeof *y, 0);
        kernels->matvec[one.type](one.w, one.rows, one.cols, one.from[0], NULL, y);
        check_values(&one, kernels, 0, y);
        check_bits(&one, kernels, y);
    }
}

/* Several inputs: each has the bits it has alone. */
static void inputs(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (uint32_t i = 0; i < 30 * TYPES; i++) {
        float alone[ROWS_MAX], together[FLIN_INPUTS_MAX][ROWS_MAX + 1], *y[FLIN_INPUTS_MAX];

        make(&one, kernels, types[i % TYPES], 1 + random_below(FLIN_INPUTS_MAX));
        for (uint32_t k = 0; k < one.inputs; k++) {
            y[k] = together[k];
            together[k][one.rows] = 12345.0f;
        }
        kernels->matvecs[one.type](one.w, one.rows, one.cols, one.from, one.inputs, NULL, y);
        for (uint32_t k = 0; k < one.inputs; k++) {
            kernels->matvec[one.type](one.w, one.rows, one.cols, one.from[k], NULL, alone);
            assert_same_bits(together[k], alone, one.rows, one.type, "matvecs");
            assert_true(together[k][one.rows] == 12345.0f);
        }
        check_values(&one, kernels, one.inputs - 1, together[one.inputs - 1]);
    }
}

/* An Inf in x makes every product NaN; a NaN for a scale its own row's. */
static void not_finite(void **state)
{
    const flin_kernels *kernels = table_of(state);
    const uint16_t nan = 0x7e00;

    for (uint32_t i = 0; i < 30 * TYPES; i++) {
        const enum flin_type type = types[i % TYPES];
        float y[ROWS_MAX];
        uint32_t halves[2], bad;

        do make(&one, kernels, type, 1);
        while (one.rows == 0 || one.cols == 0);
        bad = random_below(one.rows);
        block_halves(type, halves);
        for (uint32_t k = 0; k < 2; k++) {
            uint8_t *block = one.w + bad * one.row_bytes +
                             random_below(one.cols / flin_types[type].elements) * flin_types[type].bytes;

            if (halves[k] == UINT32_MAX) continue;
            memcpy(block + halves[k], &nan, sizeof nan);
            kernels->matvec[type](one.w, one.rows, one.cols, one.from[0], NULL, y);
            for (uint32_t r = 0; r < one.rows; r++) assert_true(isnan(y[r]) == (r == bad));
        }
        one.x[0][random_below(one.cols)] = i % 2 ? INFINITY : NAN;
        kernels->quantise(one.x[0], one.cols, one.levels[0]);
        kernels->matvec[type](one.w, one.rows, one.cols, one.from[0], NULL, y);
        for (uint32_t r = 0; r < one.rows; r++) assert_true(isnan(y[r]));
    }
}

#ifdef FLIN_HAVE_AVX512
typedef struct variants {
    enum flin_type type;
    flin_view_dot *bw, *vnni;
} variants;

#define VARIANTS_OF(name, type)                                                                    \
    {                                                                                              \
        type, flin_avx512_dot_##name##_bw, flin_avx512_dot_##name##_vnni                           \
    }

/* The overlay takes VNNI where there is any: the same bits without it. */
static void variants_agree(void **state)
{
    static const variants all[] = {
        VARIANTS_OF(q4_1, FLIN_Q4_1),     VARIANTS_OF(q5_0, FLIN_Q5_0),     VARIANTS_OF(q5_1, FLIN_Q5_1),
        VARIANTS_OF(q2_k, FLIN_Q2_K),     VARIANTS_OF(q3_k, FLIN_Q3_K),     VARIANTS_OF(q4_k, FLIN_Q4_K),
        VARIANTS_OF(q5_k, FLIN_Q5_K),     VARIANTS_OF(q6_k, FLIN_Q6_K),     VARIANTS_OF(iq4_nl, FLIN_IQ4_NL),
        VARIANTS_OF(iq4_xs, FLIN_IQ4_XS), VARIANTS_OF(mxfp4, FLIN_MXFP4)};

    (void)state;
    if (flin_kernels_choose(FLASHINFER_KERNELS_AVX512) == NULL || !__builtin_cpu_supports("avx512vnni")) {
        print_message("SKIPPED: this CPU has no AVX-512 VNNI; its products are not tested here\n");
        skip();
    }
    for (uint32_t i = 0; i < 60 * TYPES; i++) {
        const variants *v = &all[i % TYPES];
        float bw[ROWS_MAX], vnni[ROWS_MAX];

        make(&one, &flin_kernels_avx512, v->type, 1);
        const flin_view view = {NULL, one.w, one.row_bytes, one.rows, i / TYPES % 2};
        v->bw(&view, one.cols, one.from[0], bw);
        v->vnni(&view, one.cols, one.from[0], vnni);
        assert_same_bits(bw, vnni, one.rows, v->type, "dot without VNNI");
        check_values(&one, &flin_kernels_avx512, 0, bw);
    }
}
#endif

int main(void)
{
    static uint32_t wanted[] = {FLASHINFER_KERNELS_REF, FLASHINFER_KERNELS_AVX2, FLASHINFER_KERNELS_AVX512,
                                FLASHINFER_KERNELS_NEON};
#define OF_TABLE(test, table) cmocka_unit_test_prestate(test, &wanted[table])
#define OF_EACH(test) OF_TABLE(test, 0), OF_TABLE(test, 1), OF_TABLE(test, 2), OF_TABLE(test, 3)
    const struct CMUnitTest tests[] = {
        OF_EACH(every_table_has_them),
        OF_EACH(floats_are_ggmls),
        OF_EACH(floats_are_the_references),
        OF_EACH(products),
        OF_EACH(inputs),
        OF_EACH(not_finite),
#ifdef FLIN_HAVE_AVX512
        cmocka_unit_test(variants_agree),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
