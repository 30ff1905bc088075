/*
 * avx512/floats.c - kernels for AVX-512 F, BW, DQ and VL: 16 floats a vector, masks for tails.
 *
 * Owns: speed on these CPUs; every loop is meant to wait for memory, not for arithmetic. Refuses:
 * being called without flin_kernels_choose() having asked the CPU.
 *
 * Sums: a dot product keeps two vectors a row, element c in lane c % 32 of the pair; they are
 * added, halved three times and so folded, the same for every row. add_rows is one fused
 * multiply-add per element and row. Types differ only in load16() and load_tail() of rows.h: their
 * type argument is a constant wherever they are inlined. Beside it stand avx512/blocks.c (quantised
 * rows), avx512/attend.c, avx512/vectors.c (norms and the like). BF16's own dot product is not
 * used: it drops denormals and wants x in bfloat16.
 */
#include "kernels/avx512/rows.h"

/* ------------------------------------------------------------------------------------------ dot */

/* Eight rows side by side share the loads of x; so many streams are what keeps the memory busy.
   next: the eight rows after them, NULL if nothing is to be asked for. */
INLINE __m256 dot8(const void *const row[8], const void *const *next, uint32_t cols, const float *x,
                   type_t type)
{
    const uint32_t ahead = elements_ahead(cols, type);
    __m512 even[8], odd[8];
    uint32_t c = 0;

#pragma GCC unroll 8
    for (uint32_t r = 0; r < 8; r++) even[r] = odd[r] = _mm512_setzero_ps();
    for (; c + STEP <= cols; c += STEP) {
        const __m512 x0 = _mm512_loadu_ps(x + c), x1 = _mm512_loadu_ps(x + c + LANES);
        const void *const *soon = c + ahead < cols ? row : next;
        const uint32_t at = c + ahead < cols ? c + ahead : c + ahead - cols;

#pragma GCC unroll 8
        for (uint32_t r = 0; r < 8; r++) {
            if (next != NULL) prefetch32(soon[r], at, type);
            even[r] = _mm512_fmadd_ps(load16(row[r], c, type), x0, even[r]);
            odd[r] = _mm512_fmadd_ps(load16(row[r], c + LANES, type), x1, odd[r]);
        }
    }
    if (c < cols) {
        const __mmask16 mask = tail_mask(cols - c);
        const __m512 x0 = _mm512_maskz_loadu_ps(mask, x + c);

#pragma GCC unroll 8
        for (uint32_t r = 0; r < 8; r++)
            even[r] = _mm512_fmadd_ps(load_tail(row[r], c, mask, type), x0, even[r]);
        c += LANES;
    }
    if (c < cols) {
        const __mmask16 mask = tail_mask(cols - c);
        const __m512 x1 = _mm512_maskz_loadu_ps(mask, x + c);

#pragma GCC unroll 8
        for (uint32_t r = 0; r < 8; r++)
            odd[r] = _mm512_fmadd_ps(load_tail(row[r], c, mask, type), x1, odd[r]);
    }
#pragma GCC unroll 8
    for (uint32_t r = 0; r < 8; r++) even[r] = _mm512_add_ps(even[r], odd[r]);
    return fold8(even);
}

/* y[i] = row i . x */
INLINE void dot_all(const flin_view *rows, uint32_t cols, const float *x, float *y, type_t type)
{
    for (uint32_t round = 0; round < flin_view_rounds(rows); round++) {
        const void *row[FLIN_VIEW_SIDE], *next[FLIN_VIEW_SIDE];
        float sums[FLIN_VIEW_SIDE];

        flin_view_gather(rows, round, row, next);
        if (rows->asked)
            _mm256_storeu_ps(sums, dot8(row, NULL, cols, x, type));
        else
            _mm256_storeu_ps(sums, dot8(row, next, cols, x, type));
        flin_view_put(rows, round, sums, y);
    }
}

void flin_avx512_dot_f32(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    dot_all(rows, cols, x, y, FLIN_F32);
}

void flin_avx512_dot_f16(const flin_view *rows, uint32_t cols, const void *x, float *y)
{
    dot_all(rows, cols, x, y, FLIN_F16);
}

void flin_avx512_dot_bf16(const flin_view *rows, uint32_t cols, const void *x, float *y)
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
        __m512 even = _mm512_loadu_ps(y + c), odd = _mm512_loadu_ps(y + c + LANES);
        const void *const *soon = c + ahead < end ? row : next;
        const uint32_t at = c + ahead < end ? c + ahead : c + ahead - end + begin;

        for (uint32_t i = 0; i < count; i++) {
            const __m512 scale = _mm512_set1_ps(a[i]);

            if (next != NULL) prefetch32(soon[i], at, type);
            even = _mm512_fmadd_ps(scale, load16(row[i], c, type), even);
            odd = _mm512_fmadd_ps(scale, load16(row[i], c + LANES, type), odd);
        }
        _mm512_storeu_ps(y + c, even);
        _mm512_storeu_ps(y + c + LANES, odd);
    }
    for (; c < end; c += LANES) {
        const __mmask16 mask = tail_mask(end - c);
        __m512 sum = _mm512_maskz_loadu_ps(mask, y + c);

        for (uint32_t i = 0; i < count; i++)
            sum = _mm512_fmadd_ps(_mm512_set1_ps(a[i]), load_tail(row[i], c, mask, type), sum);
        _mm512_mask_storeu_ps(y + c, mask, sum);
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

void flin_avx512_add_f32(const flin_view *rows, const float *a, uint32_t begin, uint32_t end,
                         float *y)
{
    add_all(rows, a, begin, end, y, FLIN_F32);
}

void flin_avx512_add_f16(const flin_view *rows, const float *a, uint32_t begin, uint32_t end,
                         float *y)
{
    add_all(rows, a, begin, end, y, FLIN_F16);
}

void flin_avx512_add_bf16(const flin_view *rows, const float *a, uint32_t begin, uint32_t end,
                          float *y)
{
    add_all(rows, a, begin, end, y, FLIN_BF16);
}

/* ---------------------------------------------------------------------------------- conversions */

INLINE void to_float(const void *row, uint32_t cols, float *to, type_t type)
{
    uint32_t c = 0;

    for (; c + LANES <= cols; c += LANES) _mm512_storeu_ps(to + c, load16(row, c, type));
    if (c < cols) {
        __mmask16 mask = tail_mask(cols - c);
        _mm512_mask_storeu_ps(to + c, mask, load_tail(row, c, mask, type));
    }
}

static void from_float_f16(const float *x, uint32_t cols, void *row)
{
    uint16_t *to = row;

    for (uint32_t c = 0; c < cols; c += LANES) {
        __mmask16 mask = tail_mask(cols - c);
        __m512 value = _mm512_maskz_loadu_ps(mask, x + c);

        _mm256_mask_storeu_epi16(
            to + c, mask, _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
}

/* To nearest even; a NaN stays one, quiet. */
static void from_float_bf16(const float *x, uint32_t cols, void *row)
{
    uint16_t *to = row;

    for (uint32_t c = 0; c < cols; c += LANES) {
        const __mmask16 mask = tail_mask(cols - c);
        const __m512 value = _mm512_maskz_loadu_ps(mask, x + c);
        const __m512i bits = _mm512_castps_si512(value), top = _mm512_srli_epi32(bits, 16);
        const __m512i odd = _mm512_and_si512(top, _mm512_set1_epi32(1));
        const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
        __m512i upper = _mm512_srli_epi32(_mm512_add_epi32(bits, half), 16);

        upper = _mm512_mask_or_epi32(upper, _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q), top,
                                     _mm512_set1_epi32(0x40));
        _mm256_mask_storeu_epi16(to + c, mask, _mm512_cvtepi32_epi16(upper));
    }
}

/* ------------------------------------------------------------------------------------ the table */

static void matvec_f32(const void *w, uint32_t rows, uint32_t cols, const void *x,
                       const float *bias, float *y)
{
    flin_view_matvec(flin_avx512_dot_f32, FLIN_F32, w, rows, cols, x, bias, y);
}

static void matvecs_f32(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                        uint32_t inputs, const float *bias, float *const *y)
{
    flin_view_matvecs(flin_avx512_dot_f32, flin_avx512_dots_f32, FLIN_F32, w, rows, cols, x, inputs,
                      bias, y);
}

static void dot_rows_f32(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                         float *y)
{
    flin_view_scattered(flin_avx512_dot_f32, rows, count, cols, x, y);
}

static void add_rows_f32(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                         uint32_t end, float *y)
{
    const flin_view view = {rows, NULL, 0, count, 0};

    flin_avx512_add_f32(&view, a, begin, end, y);
}

static void matvec_f16(const void *w, uint32_t rows, uint32_t cols, const void *x,
                       const float *bias, float *y)
{
    flin_view_matvec(flin_avx512_dot_f16, FLIN_F16, w, rows, cols, x, bias, y);
}

static void matvecs_f16(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                        uint32_t inputs, const float *bias, float *const *y)
{
    flin_view_matvecs(flin_avx512_dot_f16, flin_avx512_dots_f16, FLIN_F16, w, rows, cols, x, inputs,
                      bias, y);
}

static void dot_rows_f16(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                         float *y)
{
    flin_view_scattered(flin_avx512_dot_f16, rows, count, cols, x, y);
}

static void add_rows_f16(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                         uint32_t end, float *y)
{
    const flin_view view = {rows, NULL, 0, count, 0};

    flin_avx512_add_f16(&view, a, begin, end, y);
}

static void matvec_bf16(const void *w, uint32_t rows, uint32_t cols, const void *x,
                        const float *bias, float *y)
{
    flin_view_matvec(flin_avx512_dot_bf16, FLIN_BF16, w, rows, cols, x, bias, y);
}

static void matvecs_bf16(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                         uint32_t inputs, const float *bias, float *const *y)
{
    flin_view_matvecs(flin_avx512_dot_bf16, flin_avx512_dots_bf16, FLIN_BF16, w, rows, cols, x,
                      inputs, bias, y);
}

static void dot_rows_bf16(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                          float *y)
{
    flin_view_scattered(flin_avx512_dot_bf16, rows, count, cols, x, y);
}

static void add_rows_bf16(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                          uint32_t end, float *y)
{
    const flin_view view = {rows, NULL, 0, count, 0};

    flin_avx512_add_bf16(&view, a, begin, end, y);
}

static void matvec_q8_0(const void *w, uint32_t rows, uint32_t cols, const void *x,
                        const float *bias, float *y)
{
    flin_view_matvec(flin_avx512_dot_q8_0, FLIN_Q8_0, w, rows, cols, x, bias, y);
}

static void matvecs_q8_0(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                         uint32_t inputs, const float *bias, float *const *y)
{
    flin_view_matvecs(flin_avx512_dot_q8_0, flin_avx512_dots_q8_0, FLIN_Q8_0, w, rows, cols, x,
                      inputs, bias, y);
}

static void dot_rows_q8_0(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                          float *y)
{
    flin_view_scattered(flin_avx512_dot_q8_0, rows, count, cols, x, y);
}

static void add_rows_q8_0(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                          uint32_t end, float *y)
{
    const flin_view view = {rows, NULL, 0, count, 0};

    flin_avx512_add_q8_0(&view, a, begin, end, y);
}

static void matvec_q4_0(const void *w, uint32_t rows, uint32_t cols, const void *x,
                        const float *bias, float *y)
{
    flin_view_matvec(flin_avx512_dot_q4_0, FLIN_Q4_0, w, rows, cols, x, bias, y);
}

static void matvecs_q4_0(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                         uint32_t inputs, const float *bias, float *const *y)
{
    flin_view_matvecs(flin_avx512_dot_q4_0, flin_avx512_dots_q4_0, FLIN_Q4_0, w, rows, cols, x,
                      inputs, bias, y);
}

static void matvec_apart(const void *w, uint32_t rows, uint32_t cols, const void *x,
                         const float *bias, float *y)
{
    flin_view_matvec(flin_avx512_dot_apart, FLIN_Q4_0_APART, w, rows, cols, x, bias, y);
}

static void matvecs_apart(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                          uint32_t inputs, const float *bias, float *const *y)
{
    flin_view_matvecs(flin_avx512_dot_apart, flin_avx512_dots_apart, FLIN_Q4_0_APART, w, rows, cols,
                      x, inputs, bias, y);
}

static void dot_rows_q4_0(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                          float *y)
{
    flin_view_scattered(flin_avx512_dot_q4_0, rows, count, cols, x, y);
}

static void add_rows_q4_0(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                          uint32_t end, float *y)
{
    const flin_view view = {rows, NULL, 0, count, 0};

    flin_avx512_add_q4_0(&view, a, begin, end, y);
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

const flin_kernels flin_kernels_avx512 = {
    .name = "avx512",
    .quantise = flin_avx512_quantise,
    .matvec = {matvec_f32, matvec_f16, matvec_bf16, matvec_q8_0, matvec_q4_0, matvec_apart,
               FLIN_QUANTS(flin_avx512_matvec)},
    .matvecs = {matvecs_f32, matvecs_f16, matvecs_bf16, matvecs_q8_0, matvecs_q4_0, matvecs_apart,
                FLIN_QUANTS(flin_avx512_matvecs)},
    .dot_rows = {dot_rows_f32, dot_rows_f16, dot_rows_bf16, dot_rows_q8_0, dot_rows_q4_0,
                 FLIN_QUANTS(flin_avx512_dot_rows)},
    .add_rows = {add_rows_f32, add_rows_f16, add_rows_bf16, add_rows_q8_0, add_rows_q4_0},
    .to_float = {to_float_f32, to_float_f16, to_float_bf16, flin_avx512_to_float_q8_0,
                 flin_avx512_to_float_q4_0, FLIN_QUANTS(flin_avx512_to_float)},
    .apart_to_float = flin_avx512_to_float_apart,
    .from_float = {flin_ref_from_float_f32, from_float_f16, from_float_bf16,
                   flin_avx512_from_float_q8_0, flin_ref_from_float_q4_0},
    .layer_norm = flin_avx512_layer_norm,
    .rms_norm = flin_avx512_rms_norm,
    .activate = {flin_avx512_relu, flin_avx512_relu2, flin_avx512_silu},
    .rotate = flin_avx512_rotate,
    .attend = {[FLIN_F32] = flin_avx512_attend_f32,
               [FLIN_F16] = flin_avx512_attend_f16,
               [FLIN_Q8_0] = flin_avx512_attend_q8_0},
    .sketch_input = flin_sketch_input_avx512,
    .sketch_mask = flin_sketch_mask_avx512,
    .sketch_masks = flin_sketch_masks_avx512,
    .sketch_scores = flin_sketch_scores_avx512,
};
