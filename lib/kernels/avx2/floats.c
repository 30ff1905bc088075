/*
 * avx2/floats.c - kernels for AVX2, FMA and F16C: 8 floats a vector, copied or masked tails.
 *
 * Owns: speed on these CPUs; every loop is meant to wait for memory, not for arithmetic. Refuses:
 * being called without flin_kernels_choose() having asked the CPU.
 *
 * Sums: a dot product keeps one vector a row, element c in lane c % 8; it is folded as a tree, the
 * same for every row. add_rows is one fused multiply-add per element and row. Types differ only in
 * load8() and load_tail() of rows.h: their type argument is a constant wherever they are inlined.
 * Beside it stand avx2/blocks.c (quantised rows), avx2/attend.c, avx2/vectors.c (norms and the
 * like).
 */
#include "kernels/avx2/rows.h"

/* ------------------------------------------------------------------------------------------ dot */

/* Eight rows side by side share the loads of x; so many streams are what keeps the memory busy.
   next: the eight rows after them, NULL if nothing is to be asked for. */
INLINE __m256 dot8(const void *const row[8], const void *const *next, uint32_t cols, const float *x,
                   type_t type)
{
    const uint32_t ahead = elements_ahead(cols, type);
    __m256 sum[8];
    uint32_t c = 0;

#pragma GCC unroll 8
    for (uint32_t r = 0; r < 8; r++) sum[r] = _mm256_setzero_ps();
    for (; c + STEP <= cols; c += STEP) {
        const void *const *soon = c + ahead < cols ? row : next;
        const uint32_t at = c + ahead < cols ? c + ahead : c + ahead - cols;

#pragma GCC unroll 8
        for (uint32_t r = 0; r < 8 && next != NULL; r++) prefetch32(soon[r], at, type);
        for (uint32_t i = c; i < c + STEP; i += LANES) {
            const __m256 x8 = _mm256_loadu_ps(x + i);

#pragma GCC unroll 8
            for (uint32_t r = 0; r < 8; r++)
                sum[r] = _mm256_fmadd_ps(load8(row[r], i, type), x8, sum[r]);
        }
    }
    for (; c < cols; c += LANES) {
        const __m256 x8 = load_part(x, c, cols, FLIN_F32);

#pragma GCC unroll 8
        for (uint32_t r = 0; r < 8; r++)
            sum[r] = _mm256_fmadd_ps(load_part(row[r], c, cols, type), x8, sum[r]);
    }
    return fold8(sum);
}

/* y[i] = row i . x */
INLINE void dot_all(const flin_view *rows, uint32_t cols, const float *x, float *y, type_t type)
{
    for (uint32_t round = 0; round < flin_view_rounds(rows); round++) {
        const void *row[FLIN_VIEW_SIDE], *next[FLIN_VIEW_SIDE];
        float sums[FLIN_VIEW_SIDE];

        flin_view_gather(rows, round, row, next);
        _mm256_storeu_ps(sums, dot8(row, rows->asked ? NULL : next, cols, x, type));
        flin_view_put(rows, round, sums, y);
    }
}

void flin_avx2_dot_f32(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    dot_all(rows, cols, x, y, FLIN_F32);
}

void flin_avx2_dot_f16(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    dot_all(rows, cols, x, y, FLIN_F16);
}

void flin_avx2_dot_bf16(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    dot_all(rows, cols, x, y, FLIN_BF16);
}

/* ------------------------------------------------------------------------------------------ add */

/* Up to ADDED rows in one pass over y, one after the other; next: as many rows after them, NULL
   if nothing is to be asked for. */
INLINE void add_group(const void *const *row, const void *const *next, const float *a,
                      uint32_t count, uint32_t begin, uint32_t end, float *y, type_t type)
{
    const uint32_t ahead = elements_ahead(end - begin, type);
    uint32_t c = begin;

    for (; c + STEP <= end; c += STEP) {
        __m256 y0 = _mm256_loadu_ps(y + c), y1 = _mm256_loadu_ps(y + c + LANES);
        __m256 y2 = _mm256_loadu_ps(y + c + 2 * LANES), y3 = _mm256_loadu_ps(y + c + 3 * LANES);
        const void *const *soon = c + ahead < end ? row : next;
        const uint32_t at = c + ahead < end ? c + ahead : c + ahead - end + begin;

        for (uint32_t i = 0; i < count; i++) {
            const __m256 scale = _mm256_set1_ps(a[i]);

            if (next != NULL) prefetch32(soon[i], at, type);
            y0 = _mm256_fmadd_ps(scale, load8(row[i], c, type), y0);
            y1 = _mm256_fmadd_ps(scale, load8(row[i], c + LANES, type), y1);
            y2 = _mm256_fmadd_ps(scale, load8(row[i], c + 2 * LANES, type), y2);
            y3 = _mm256_fmadd_ps(scale, load8(row[i], c + 3 * LANES, type), y3);
        }
        _mm256_storeu_ps(y + c, y0);
        _mm256_storeu_ps(y + c + LANES, y1);
        _mm256_storeu_ps(y + c + 2 * LANES, y2);
        _mm256_storeu_ps(y + c + 3 * LANES, y3);
    }
    for (; c < end; c += LANES) {
        __m256 sum = load_part(y, c, end, FLIN_F32);

        for (uint32_t i = 0; i < count; i++)
            sum = _mm256_fmadd_ps(_mm256_set1_ps(a[i]), load_part(row[i], c, end, type), sum);
        store_part(y, c, end, sum);
    }
}

INLINE void add_all(const flin_view *rows, const float *a, uint32_t begin, uint32_t end, float *y,
                    type_t type)
{
    for (uint32_t i = 0; i < rows->count && begin < end; i += ADDED) {
        const uint32_t count = rows->count - i < ADDED ? rows->count - i : ADDED;
        const void *row[ADDED], *next[ADDED];

        for (uint32_t r = 0; r < count; r++) {
            row[r] = flin_row_at(rows, i + r);
            next[r] = flin_row_at(rows, i + count + r);
        }
        if (rows->asked)
            add_group(row, NULL, a + i, count, begin, end, y, type);
        else
            add_group(row, next, a + i, count, begin, end, y, type);
    }
}

void flin_avx2_add_f32(const flin_view *rows, const float *a, uint32_t begin, uint32_t end,
                       float *y)
{
    add_all(rows, a, begin, end, y, FLIN_F32);
}

void flin_avx2_add_f16(const flin_view *rows, const float *a, uint32_t begin, uint32_t end,
                       float *y)
{
    add_all(rows, a, begin, end, y, FLIN_F16);
}

void flin_avx2_add_bf16(const flin_view *rows, const float *a, uint32_t begin, uint32_t end,
                        float *y)
{
    add_all(rows, a, begin, end, y, FLIN_BF16);
}

/* ---------------------------------------------------------------------------------- conversions */

INLINE void to_float(const void *row, uint32_t cols, float *to, type_t type)
{
    uint32_t c = 0;

    for (; c + LANES <= cols; c += LANES) _mm256_storeu_ps(to + c, load8(row, c, type));
    if (c < cols) store_part(to, c, cols, load_tail(row, c, cols, type));
}

static void from_float_f16(const float *x, uint32_t cols, void *row)
{
    uint16_t *to = row;

    for (uint32_t c = 0; c < cols; c += LANES) {
        const uint32_t count = cols - c < LANES ? cols - c : LANES;
        uint16_t halves[LANES];

        _mm_storeu_si128((void *)halves,
                         _mm256_cvtps_ph(load_part(x, c, cols, FLIN_F32),
                                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
        memcpy(to + c, halves, count * sizeof halves[0]);
    }
}

/* To nearest even; a NaN stays one, quiet. */
INLINE __m128i bfloats(__m256 value)
{
    const __m256i bits = _mm256_castps_si256(value), top = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(top, _mm256_set1_epi32(1));
    const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i quiet = _mm256_or_si256(top, _mm256_set1_epi32(0x40));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    __m256i upper = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);

    upper = _mm256_blendv_epi8(upper, quiet, nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1));
}

static void from_float_bf16(const float *x, uint32_t cols, void *row)
{
    uint16_t *to = row, halves[LANES];
    uint32_t c = 0;

    for (; c + LANES <= cols; c += LANES)
        _mm_storeu_si128((void *)(to + c), bfloats(_mm256_loadu_ps(x + c)));
    if (c == cols) return;
    _mm_storeu_si128((void *)halves, bfloats(load_floats(x, c, cols)));
    memcpy(to + c, halves, (cols - c) * sizeof halves[0]);
}

/* ------------------------------------------------------------------------------------ the table */

static void matvec_f32(const void *w, uint32_t rows, uint32_t cols, const void *x,
                       const float *bias, float *y)
{
    flin_view_matvec(flin_avx2_dot_f32, FLIN_F32, w, rows, cols, x, bias, y);
}

static void matvecs_f32(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                        uint32_t inputs, const float *bias, float *const *y)
{
    flin_view_matvecs(flin_avx2_dot_f32, flin_avx2_dots_f32, FLIN_F32, w, rows, cols, x, inputs,
                      bias, y);
}

static void dot_rows_f32(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                         float *y)
{
    flin_view_scattered(flin_avx2_dot_f32, rows, count, cols, x, y);
}

static void add_rows_f32(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                         uint32_t end, float *y)
{
    const flin_view view = {rows, NULL, 0, count, 0};

    flin_avx2_add_f32(&view, a, begin, end, y);
}

static void matvec_f16(const void *w, uint32_t rows, uint32_t cols, const void *x,
                       const float *bias, float *y)
{
    flin_view_matvec(flin_avx2_dot_f16, FLIN_F16, w, rows, cols, x, bias, y);
}

static void matvecs_f16(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                        uint32_t inputs, const float *bias, float *const *y)
{
    flin_view_matvecs(flin_avx2_dot_f16, flin_avx2_dots_f16, FLIN_F16, w, rows, cols, x, inputs,
                      bias, y);
}

static void dot_rows_f16(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                         float *y)
{
    flin_view_scattered(flin_avx2_dot_f16, rows, count, cols, x, y);
}

static void add_rows_f16(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                         uint32_t end, float *y)
{
    const flin_view view = {rows, NULL, 0, count, 0};

    flin_avx2_add_f16(&view, a, begin, end, y);
}

static void matvec_bf16(const void *w, uint32_t rows, uint32_t cols, const void *x,
                        const float *bias, float *y)
{
    flin_view_matvec(flin_avx2_dot_bf16, FLIN_BF16, w, rows, cols, x, bias, y);
}

static void matvecs_bf16(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                         uint32_t inputs, const float *bias, float *const *y)
{
    flin_view_matvecs(flin_avx2_dot_bf16, flin_avx2_dots_bf16, FLIN_BF16, w, rows, cols, x, inputs,
                      bias, y);
}

static void dot_rows_bf16(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                          float *y)
{
    flin_view_scattered(flin_avx2_dot_bf16, rows, count, cols, x, y);
}

static void add_rows_bf16(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                          uint32_t end, float *y)
{
    const flin_view view = {rows, NULL, 0, count, 0};

    flin_avx2_add_bf16(&view, a, begin, end, y);
}

static void matvec_q8_0(const void *w, uint32_t rows, uint32_t cols, const void *x,
                        const float *bias, float *y)
{
    flin_view_matvec(flin_avx2_dot_q8_0, FLIN_Q8_0, w, rows, cols, x, bias, y);
}

static void matvecs_q8_0(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                         uint32_t inputs, const float *bias, float *const *y)
{
    flin_view_matvecs(flin_avx2_dot_q8_0, flin_avx2_dots_q8_0, FLIN_Q8_0, w, rows, cols, x, inputs,
                      bias, y);
}

static void dot_rows_q8_0(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                          float *y)
{
    flin_view_scattered(flin_avx2_dot_q8_0, rows, count, cols, x, y);
}

static void add_rows_q8_0(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                          uint32_t end, float *y)
{
    const flin_view view = {rows, NULL, 0, count, 0};

    flin_avx2_add_q8_0(&view, a, begin, end, y);
}

static void matvec_q4_0(const void *w, uint32_t rows, uint32_t cols, const void *x,
                        const float *bias, float *y)
{
    flin_view_matvec(flin_avx2_dot_q4_0, FLIN_Q4_0, w, rows, cols, x, bias, y);
}

static void matvecs_q4_0(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                         uint32_t inputs, const float *bias, float *const *y)
{
    flin_view_matvecs(flin_avx2_dot_q4_0, flin_avx2_dots_q4_0, FLIN_Q4_0, w, rows, cols, x, inputs,
                      bias, y);
}

static void dot_rows_q4_0(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                          float *y)
{
    flin_view_scattered(flin_avx2_dot_q4_0, rows, count, cols, x, y);
}

static void add_rows_q4_0(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                          uint32_t end, float *y)
{
    const flin_view view = {rows, NULL, 0, count, 0};

    flin_avx2_add_q4_0(&view, a, begin, end, y);
}

static void to_float_f32(const void *row, uint32_t cols, float *to)
{
    to_float(row, cols, to, FLIN_F32);
}

static void to_float_f16(const void *row, uint32_t cols, float *to)
{
    to_float(row, cols, to, FLIN_F16);
}

static void to_float_bf16(const void *row, uint32_t cols, float *to)
{
    to_float(row, cols, to, FLIN_BF16);
}

const flin_kernels flin_kernels_avx2 = {
    .name = "avx2",
    .quantise = flin_avx2_quantise,
    .matvec = {matvec_f32, matvec_f16, matvec_bf16, matvec_q8_0, matvec_q4_0,
               FLIN_QUANTS(flin_avx2_matvec)},
    .matvecs = {matvecs_f32, matvecs_f16, matvecs_bf16, matvecs_q8_0, matvecs_q4_0,
                FLIN_QUANTS(flin_avx2_matvecs)},
    .dot_rows = {dot_rows_f32, dot_rows_f16, dot_rows_bf16, dot_rows_q8_0, dot_rows_q4_0,
                 FLIN_QUANTS(flin_avx2_dot_rows)},
    .add_rows = {add_rows_f32, add_rows_f16, add_rows_bf16, add_rows_q8_0, add_rows_q4_0},
    .to_float = {to_float_f32, to_float_f16, to_float_bf16, flin_avx2_to_float_q8_0,
                 flin_avx2_to_float_q4_0, FLIN_QUANTS(flin_avx2_to_float)},
    .from_float = {flin_ref_from_float_f32, from_float_f16, from_float_bf16,
                   flin_avx2_from_float_q8_0, flin_ref_from_float_q4_0},
    .layer_norm = flin_avx2_layer_norm,
    .rms_norm = flin_avx2_rms_norm,
    .activate = {flin_avx2_relu, flin_avx2_relu2, flin_avx2_silu},
    .rotate = flin_avx2_rotate,
    .attend = {[FLIN_F32] = flin_avx2_attend_f32,
               [FLIN_F16] = flin_avx2_attend_f16,
               [FLIN_Q8_0] = flin_avx2_attend_q8_0},
    .sketch_input = flin_sketch_input_avx2,
    .sketch_mask = flin_sketch_mask_avx2,
    .sketch_scores = flin_sketch_scores_avx2,
};
