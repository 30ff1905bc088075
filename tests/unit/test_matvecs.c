/*
 * test_matvecs.c - several inputs that share the rows of a matrix: every one of them has the bits it would have alone,
 * in every table of kernels this CPU can run, whatever the shape.
 *
 * Matrices and inputs end at a page that may not be touched. Where a result is no number it is none on both sides;
 * which of several NaNs comes out is the compiler's business, which may swap factors.
 */
#define _GNU_SOURCE
#include "support.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/apart.h"
#include "kernels/inputs.h"
#include "util/half.h"

#define ROWS_MAX 40u
#define COLS_MAX 5000u
#define TYPES 6u /* F32 to Q4_0 with scales apart; test_quants.c has the others */
#define AREA_BYTES ((size_t)1 << 20)
#define GUARD 12345.0f /* where nothing may be written */

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 32) * n >> 32);
}

/* The last `bytes` before a forbidden page, or `before` bytes further down. */
static uint8_t *place(uint32_t area, size_t bytes, size_t before)
{
    static uint8_t *ends[1 + FLIN_INPUTS_MAX];
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (ends[area] == NULL) {
        uint8_t *base = mmap(NULL, AREA_BYTES + page, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(base, MAP_FAILED);
        assert_int_equal(mprotect(base + AREA_BYTES, page, PROT_NONE), 0);
        ends[area] = base + AREA_BYTES;
    }
    assert_true(bytes + before <= AREA_BYTES);
    return ends[area] - bytes - before;
}

/* ------------------------------------------------------------------------------------- problems */

/* flavour 0: ordinary; 1: zeros of either sign and denormals; 2: now and then no number */
static float random_value(uint32_t flavour)
{
    const float ordinary = (float)(int32_t)random_below(2000001) / 1e6f - 1.0f;
    const uint32_t kind = random_below(flavour == 2 ? 400 : 4);

    if (flavour == 1)
        return kind == 0 ? 0.0f : kind == 1 ? -0.0f : kind == 2 ? ordinary * 0x1p-24f : ordinary;
    if (flavour == 2 && kind < 3) return kind == 0 ? NAN : kind == 1 ? INFINITY : -INFINITY;
    return ordinary;
}

/* A matrix and inputs of it. */
typedef struct problem {
    const flin_kernels *kernels;
    enum flin_type type;
    uint32_t rows, cols, inputs;
    uint8_t *w;
    const void *x[FLIN_INPUTS_MAX]; /* as the table takes them */
    float bias[ROWS_MAX];
} problem;

static size_t bytes_of(const problem *p, uint32_t rows)
{
    return (size_t)(rows * flin_type_bytes(p->type, p->cols));
}

static void make_rows(problem *p, uint32_t flavour)
{
    static float row[COLS_MAX];
    const enum flin_type made = p->type == FLIN_Q4_0_APART ? FLIN_Q4_0 : p->type;

    p->w = place(0, bytes_of(p, p->rows), 2 * random_below(33));
    for (uint32_t r = 0; r < p->rows; r++) {
        for (uint32_t c = 0; c < p->cols; c++) row[c] = random_value(flavour);
        p->kernels->from_float[made](row, p->cols, p->w + bytes_of(p, r));
    }
    if (p->type == FLIN_Q4_0_APART) flin_apart_rows(p->w, p->rows, p->cols);
    for (uint32_t r = 0; r < p->rows; r++) p->bias[r] = random_value(0);
}

static void make_input(problem *p, uint32_t index, uint32_t flavour)
{
    static float x[COLS_MAX];
    static _Alignas(64) uint8_t levels[FLIN_INPUTS_MAX][(COLS_MAX * 4 + 512) / 64 * 64];
    float *last = (float *)(void *)place(1 + index, p->cols * sizeof *x, 0);

    for (uint32_t c = 0; c < p->cols; c++) x[c] = random_value(flavour);
    memcpy(last, x, p->cols * sizeof *x);
    p->x[index] = last;
    if (!flin_type_quantised(p->type)) return;
    assert_true(flin_levels_bytes(p->cols) <= sizeof levels[0]);
    p->kernels->quantise(x, p->cols, levels[index]);
    p->x[index] = levels[index];
}

static problem make(const flin_kernels *kernels, enum flin_type type, uint32_t rows, uint32_t cols,
                    uint32_t inputs, uint32_t flavour)
{
    problem p = {.kernels = kernels, .type = type, .rows = rows, .inputs = inputs};

    p.cols = flin_type_quantised(type) ? cols / FLIN_BLOCK * FLIN_BLOCK : cols;
    make_rows(&p, flavour);
    for (uint32_t i = 0; i < inputs; i++) make_input(&p, i, flavour);
    return p;
}

static void assert_same(const problem *p, uint32_t input, const float *together, const float *alone)
{
    for (uint32_t r = 0; r < p->rows; r++) {
        if (flin_bits_from_float(together[r]) == flin_bits_from_float(alone[r])) continue;
        if (isnan(together[r]) && isnan(alone[r])) continue;
        fail_msg("%s, type %d, %u rows, %u columns, input %u of %u: row %u is %.9g, alone %.9g",
                 p->kernels->name, (int)p->type, p->rows, p->cols, input, p->inputs, r,
                 (double)together[r], (double)alone[r]);
    }
    assert_true(together[p->rows] == GUARD);
}

/* Results of all inputs, each with a value behind it that must stay. */
typedef struct results {
    float value[FLIN_INPUTS_MAX][ROWS_MAX + 1];
    float *y[FLIN_INPUTS_MAX];
} results;

static void clear(results *to)
{
    for (uint32_t i = 0; i < FLIN_INPUTS_MAX; i++) {
        for (uint32_t r = 0; r <= ROWS_MAX; r++) to->value[i][r] = GUARD;
        to->y[i] = to->value[i];
    }
}

static void check(const problem *p)
{
    float alone[ROWS_MAX];
    results together;

    for (uint32_t biased = 0; biased < 2; biased++) {
        const float *bias = biased ? p->bias : NULL;

        clear(&together);
        p->kernels->matvecs[p->type](p->w, p->rows, p->cols, p->x, p->inputs, bias, together.y);
        for (uint32_t i = 0; i < p->inputs; i++) {
            p->kernels->matvec[p->type](p->w, p->rows, p->cols, p->x[i], bias, alone);
            assert_same(p, i, together.value[i], alone);
        }
        for (uint32_t i = p->inputs; i < FLIN_INPUTS_MAX; i++)
            assert_true(together.value[i][0] == GUARD);
    }
}

/* ---------------------------------------------------------------------------------------- tests */

static const flin_kernels *table_of(void **state)
{
    const flin_kernels *kernels = flin_kernels_choose(*(const uint32_t *)*state);

    if (kernels == NULL) {
        print_message("SKIPPED: this CPU or build has no such kernels; they are not tested here\n");
        skip();
    }
    return kernels;
}

static void every_type_has_them(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (uint32_t type = 0; type < TYPES; type++)
        assert_true((kernels->matvec[type] != NULL) == (kernels->matvecs[type] != NULL));
}

/* Every tail, and widths around the chunks that rows are taken in. */
static void each_width(void **state)
{
    static const uint32_t around[] = {256, 512, 768, 1024, 2048, 4096};
    const flin_kernels *kernels = table_of(state);

    for (uint32_t type = 0; type < TYPES; type++) {
        if (kernels->matvecs[type] == NULL) continue;
        for (uint32_t cols = 0; cols <= 600; cols += flin_type_quantised(type) ? FLIN_BLOCK : 1) {
            const problem p = make(kernels, type, 1 + cols % 17, cols,
                                   1 + random_below(FLIN_INPUTS_MAX), cols % 3);
            check(&p);
        }
        for (size_t i = 0; i < sizeof around / sizeof *around; i++)
            for (int32_t off = -64; off <= 64; off += flin_type_quantised(type) ? 32 : 13) {
                const problem p =
                    make(kernels, type, 1 + random_below(9), (uint32_t)((int32_t)around[i] + off),
                         1 + random_below(FLIN_INPUTS_MAX), random_below(3));
                check(&p);
            }
    }
}

/* Every count of rows and of inputs. */
static void each_height(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (uint32_t type = 0; type < TYPES; type++)
        for (uint32_t rows = 0; rows <= 33 && kernels->matvecs[type] != NULL; rows++)
            for (uint32_t inputs = 1; inputs <= FLIN_INPUTS_MAX; inputs++) {
                const problem p = make(kernels, type, rows, random_below(700), inputs, inputs % 3);
                check(&p);
            }
}

/* Rows that threads share: any cut gives the same. */
static void each_cut(void **state)
{
    const flin_kernels *kernels = table_of(state);

    for (uint32_t round = 0; round < 300; round++) {
        const uint32_t type = round % TYPES;
        const uint32_t inputs = 1 + random_below(FLIN_INPUTS_MAX);
        results whole, parts;

        if (kernels->matvecs[type] == NULL) continue;
        const problem p = make(kernels, type, random_below(ROWS_MAX + 1), random_below(COLS_MAX),
                               inputs, round % 2);
        const uint32_t cut = random_below(p.rows + 1);
        clear(&whole);
        clear(&parts);
        kernels->matvecs[type](p.w, p.rows, p.cols, p.x, inputs, p.bias, whole.y);
        kernels->matvecs[type](p.w, cut, p.cols, p.x, inputs, p.bias, parts.y);
        for (uint32_t i = 0; i < inputs; i++) parts.y[i] += cut;
        kernels->matvecs[type](p.w + bytes_of(&p, cut), p.rows - cut, p.cols, p.x, inputs,
                               p.bias + cut, parts.y);
        for (uint32_t i = 0; i < inputs; i++) assert_same(&p, i, parts.value[i], whole.value[i]);
    }
}

#ifdef FLIN_HAVE_AVX512
typedef struct variants {
    enum flin_type type;
    flin_view_dot *dot;
    flin_view_dots *dots;
} variants;

/* The table takes VNNI where there is any: the same bits without it. */
static void each_variant(void **state)
{
    static const variants all[] = {
        {FLIN_Q8_0, flin_avx512_dot_q8_0_bw, flin_avx512_dots_q8_0_vnni},
        {FLIN_Q4_0_APART, flin_avx512_dot_apart_bw, flin_avx512_dots_apart_vnni}};
    const flin_kernels *kernels = flin_kernels_choose(FLASHINFER_KERNELS_AVX512);

    (void)state;
    if (kernels == NULL) {
        print_message("SKIPPED: this CPU has no AVX-512\n");
        skip();
    }
    for (uint32_t round = 0; round < 900; round++) {
        const variants *v = &all[round % 2];
        const problem p = make(kernels, v->type, random_below(ROWS_MAX + 1), random_below(3000),
                               2 + random_below(FLIN_INPUTS_MAX - 1), round / 2 % 3);
        const flin_view view = {NULL, p.w, bytes_of(&p, 1), p.rows, round / 6 % 2};
        results bw, vnni;
        float alone[ROWS_MAX];

        clear(&bw);
        clear(&vnni);
        flin_view_dots_in_turn(v->dot, &view, p.cols, p.x, p.inputs, bw.y);
        if (__builtin_cpu_supports("avx512vnni")) v->dots(&view, p.cols, p.x, p.inputs, vnni.y);
        for (uint32_t i = 0; i < p.inputs; i++) {
            v->dot(&view, p.cols, p.x[i], alone);
            assert_same(&p, i, bw.value[i], alone);
            if (__builtin_cpu_supports("avx512vnni")) assert_same(&p, i, vnni.value[i], alone);
        }
    }
}
#endif

int main(void)
{
    static uint32_t wanted[] = {FLASHINFER_KERNELS_REF, FLASHINFER_KERNELS_AVX2,
                                FLASHINFER_KERNELS_AVX512, FLASHINFER_KERNELS_NEON};
#define OF_TABLE(test, table) cmocka_unit_test_prestate(test, &wanted[table])
#define OF_EACH(test) OF_TABLE(test, 0), OF_TABLE(test, 1), OF_TABLE(test, 2), OF_TABLE(test, 3)
    const struct CMUnitTest tests[] = {
        OF_EACH(every_type_has_them),   OF_EACH(each_width),
        OF_EACH(each_height),           OF_EACH(each_cut),
#ifdef FLIN_HAVE_AVX512
        cmocka_unit_test(each_variant),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
