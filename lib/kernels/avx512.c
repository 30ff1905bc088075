/*
 * avx512.c - kernels for AVX-512 F, BW, DQ and VL: 16 floats a vector, masks for tails.
 *
 * Owns: speed on these CPUs; every loop is meant to wait for memory, not for arithmetic. Refuses: being called without
 * flin_kernels_choose() having asked the CPU.
 *
 * Sums: a dot product keeps two vectors a row, element c in lane c % 32 of the pair; they are added, halved three times
 * and so folded, alone or four rows at once alike. add_rows is one fused multiply-add per element and row.
 * Types differ only in load16(): its type argument is a constant wherever it is inlined.
 */
#include "kernels/kernels.h"

#include <immintrin.h>
#include <math.h>
#include <stddef.h>

#define INLINE static inline __attribute__((always_inline))
#define LANES 16u
#define STEP 32u /* elements a row advances by per round of a loop */

typedef enum flin_type type_t;

/* -------------------------------------------------------------------------------------------- rows */

INLINE uint64_t bytes_of(uint64_t elements, type_t type)
{
    return elements * (type == FLIN_F16 ? sizeof(uint16_t) : sizeof(float));
}

INLINE const uint8_t *element_at(const void *matrix, uint64_t c, type_t type)
{
    return (const uint8_t *)matrix + bytes_of(c, type);
}

INLINE __m512 load16(const void *row, uint32_t c, type_t type)
{
    const uint8_t *at = element_at(row, c, type);

    if (type == FLIN_F16) return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)at));
    return _mm512_loadu_ps(at);
}

INLINE __m512 load_tail(const void *row, uint32_t c, __mmask16 mask, type_t type)
{
    const uint8_t *at = element_at(row, c, type);

    if (type == FLIN_F16) return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, at));
    return _mm512_maskz_loadu_ps(mask, at);
}

/* Lanes below `left`. */
INLINE __mmask16 tail_mask(uint32_t left)
{
    if (left >= LANES) return 0xffff;
    return (__mmask16)((1u << left) - 1u);
}

/* Ask for the 32 elements at c of a row that will be worked on next. */
INLINE void prefetch32(const void *row, uint32_t c, type_t type)
{
    const char *at = (const char *)element_at(row, c, type);

    _mm_prefetch(at, _MM_HINT_T0);
    if (type == FLIN_F32) _mm_prefetch(at + 64, _MM_HINT_T0);
}

/* -------------------------------------------------------------------------------------------- dot */

/* Four sums at once: pairs, then pairs of pairs, then the halves. Each row's tree is the same in every place. */
INLINE __m128 fold4(__m512 a, __m512 b, __m512 c, __m512 d)
{
    __m256 a8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m256 b8 = _mm256_add_ps(_mm512_castps512_ps256(b), _mm512_extractf32x8_ps(b, 1));
    __m256 c8 = _mm256_add_ps(_mm512_castps512_ps256(c), _mm512_extractf32x8_ps(c, 1));
    __m256 d8 = _mm256_add_ps(_mm512_castps512_ps256(d), _mm512_extractf32x8_ps(d, 1));
    __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(a8, b8), _mm256_hadd_ps(c8, d8));

    return _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
}

INLINE float fold1(__m512 a)
{
    return _mm_cvtss_f32(fold4(a, a, a, a));
}

INLINE float dot1(const void *row, uint32_t cols, const float *x, type_t type)
{
    __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
    uint32_t c = 0;

    for (; c + STEP <= cols; c += STEP) {
        even = _mm512_fmadd_ps(load16(row, c, type), _mm512_loadu_ps(x + c), even);
        odd = _mm512_fmadd_ps(load16(row, c + LANES, type), _mm512_loadu_ps(x + c + LANES), odd);
    }
    if (c < cols) {
        __mmask16 mask = tail_mask(cols - c);
        even = _mm512_fmadd_ps(load_tail(row, c, mask, type), _mm512_maskz_loadu_ps(mask, x + c), even);
        c += LANES;
    }
    if (c < cols) {
        __mmask16 mask = tail_mask(cols - c);
        odd = _mm512_fmadd_ps(load_tail(row, c, mask, type), _mm512_maskz_loadu_ps(mask, x + c), odd);
    }
    return fold1(_mm512_add_ps(even, odd));
}

/* Four rows share the loads of x and keep eight sums in flight; `next` are the four rows after them. */
INLINE void dot4(const void *const row[4], const void *const next[4], uint32_t cols, const float *x,
                 float *y, type_t type)
{
    __m512 even0 = _mm512_setzero_ps(), odd0 = _mm512_setzero_ps();
    __m512 even1 = _mm512_setzero_ps(), odd1 = _mm512_setzero_ps();
    __m512 even2 = _mm512_setzero_ps(), odd2 = _mm512_setzero_ps();
    __m512 even3 = _mm512_setzero_ps(), odd3 = _mm512_setzero_ps();
    uint32_t c = 0;

    for (; c + STEP <= cols; c += STEP) {
        __m512 x0 = _mm512_loadu_ps(x + c), x1 = _mm512_loadu_ps(x + c + LANES);

        prefetch32(next[0], c, type);
        prefetch32(next[1], c, type);
        prefetch32(next[2], c, type);
        prefetch32(next[3], c, type);
        even0 = _mm512_fmadd_ps(load16(row[0], c, type), x0, even0);
        even1 = _mm512_fmadd_ps(load16(row[1], c, type), x0, even1);
        even2 = _mm512_fmadd_ps(load16(row[2], c, type), x0, even2);
        even3 = _mm512_fmadd_ps(load16(row[3], c, type), x0, even3);
        odd0 = _mm512_fmadd_ps(load16(row[0], c + LANES, type), x1, odd0);
        odd1 = _mm512_fmadd_ps(load16(row[1], c + LANES, type), x1, odd1);
        odd2 = _mm512_fmadd_ps(load16(row[2], c + LANES, type), x1, odd2);
        odd3 = _mm512_fmadd_ps(load16(row[3], c + LANES, type), x1, odd3);
    }
    if (c < cols) {
        __mmask16 mask = tail_mask(cols - c);
        __m512 x0 = _mm512_maskz_loadu_ps(mask, x + c);

        even0 = _mm512_fmadd_ps(load_tail(row[0], c, mask, type), x0, even0);
        even1 = _mm512_fmadd_ps(load_tail(row[1], c, mask, type), x0, even1);
        even2 = _mm512_fmadd_ps(load_tail(row[2], c, mask, type), x0, even2);
        even3 = _mm512_fmadd_ps(load_tail(row[3], c, mask, type), x0, even3);
        c += LANES;
    }
    if (c < cols) {
        __mmask16 mask = tail_mask(cols - c);
        __m512 x1 = _mm512_maskz_loadu_ps(mask, x + c);

        odd0 = _mm512_fmadd_ps(load_tail(row[0], c, mask, type), x1, odd0);
        odd1 = _mm512_fmadd_ps(load_tail(row[1], c, mask, type), x1, odd1);
        odd2 = _mm512_fmadd_ps(load_tail(row[2], c, mask, type), x1, odd2);
        odd3 = _mm512_fmadd_ps(load_tail(row[3], c, mask, type), x1, odd3);
    }
    _mm_storeu_ps(y, fold4(_mm512_add_ps(even0, odd0), _mm512_add_ps(even1, odd1),
                           _mm512_add_ps(even2, odd2), _mm512_add_ps(even3, odd3)));
}

/* Rows that lie at equal distances: a matrix, or one head's positions in the KV cache. */
INLINE void dot_matrix(const void *matrix, uint32_t rows, uint32_t stride, uint32_t cols,
                       const float *x, float *y, type_t type)
{
    const uint64_t row_bytes = bytes_of(stride, type);
    const uint8_t *at = matrix;
    uint32_t r = 0;

    for (; r + 4 <= rows; r += 4, at += 4 * row_bytes) {
        const uint8_t *after = rows - r >= 8 ? at + 4 * row_bytes : at;
        const void *row[4] = {at, at + row_bytes, at + 2 * row_bytes, at + 3 * row_bytes};
        const void *next[4] = {after, after + row_bytes, after + 2 * row_bytes, after + 3 * row_bytes};

        dot4(row, next, cols, x, y + r, type);
    }
    for (; r < rows; r++, at += row_bytes) y[r] = dot1(at, cols, x, type);
}

INLINE void matvec(const void *w, uint32_t rows, uint32_t cols, const float *x, const float *bias,
                   float *y, type_t type)
{
    dot_matrix(w, rows, cols, cols, x, y, type);
    if (bias == NULL) return;
    for (uint32_t r = 0; r < rows; r++) y[r] += bias[r];
}

INLINE void dot_rows(const void *const *rows, uint32_t count, uint32_t cols, const float *x,
                     float *y, type_t type)
{
    uint32_t i = 0;

    for (; i + 4 <= count; i += 4)
        dot4(rows + i, count - i >= 8 ? rows + i + 4 : rows + i, cols, x, y + i, type);
    for (; i < count; i++) y[i] = dot1(rows[i], cols, x, type);
}

/* -------------------------------------------------------------------------------------------- add */

INLINE void add1(const void *row, float a, uint32_t begin, uint32_t end, float *y, type_t type)
{
    const __m512 scale = _mm512_set1_ps(a);
    uint32_t c = begin;

    for (; c + LANES <= end; c += LANES)
        _mm512_storeu_ps(y + c, _mm512_fmadd_ps(scale, load16(row, c, type), _mm512_loadu_ps(y + c)));
    if (c < end) {
        __mmask16 mask = tail_mask(end - c);
        __m512 sum = _mm512_maskz_loadu_ps(mask, y + c);
        sum = _mm512_fmadd_ps(scale, load_tail(row, c, mask, type), sum);
        _mm512_mask_storeu_ps(y + c, mask, sum);
    }
}

/* Four rows per pass over y, added one after the other. */
INLINE void add4(const void *const row[4], const void *const next[4], const float *a, uint32_t begin,
                 uint32_t end, float *y, type_t type)
{
    const __m512 a0 = _mm512_set1_ps(a[0]), a1 = _mm512_set1_ps(a[1]);
    const __m512 a2 = _mm512_set1_ps(a[2]), a3 = _mm512_set1_ps(a[3]);
    uint32_t c = begin;

    for (; c + STEP <= end; c += STEP) {
        __m512 even = _mm512_loadu_ps(y + c), odd = _mm512_loadu_ps(y + c + LANES);

        prefetch32(next[0], c, type);
        prefetch32(next[1], c, type);
        prefetch32(next[2], c, type);
        prefetch32(next[3], c, type);
        even = _mm512_fmadd_ps(a0, load16(row[0], c, type), even);
        odd = _mm512_fmadd_ps(a0, load16(row[0], c + LANES, type), odd);
        even = _mm512_fmadd_ps(a1, load16(row[1], c, type), even);
        odd = _mm512_fmadd_ps(a1, load16(row[1], c + LANES, type), odd);
        even = _mm512_fmadd_ps(a2, load16(row[2], c, type), even);
        odd = _mm512_fmadd_ps(a2, load16(row[2], c + LANES, type), odd);
        even = _mm512_fmadd_ps(a3, load16(row[3], c, type), even);
        odd = _mm512_fmadd_ps(a3, load16(row[3], c + LANES, type), odd);
        _mm512_storeu_ps(y + c, even);
        _mm512_storeu_ps(y + c + LANES, odd);
    }
    for (; c < end; c += LANES) {
        __mmask16 mask = tail_mask(end - c);
        __m512 sum = _mm512_maskz_loadu_ps(mask, y + c);

        sum = _mm512_fmadd_ps(a0, load_tail(row[0], c, mask, type), sum);
        sum = _mm512_fmadd_ps(a1, load_tail(row[1], c, mask, type), sum);
        sum = _mm512_fmadd_ps(a2, load_tail(row[2], c, mask, type), sum);
        sum = _mm512_fmadd_ps(a3, load_tail(row[3], c, mask, type), sum);
        _mm512_mask_storeu_ps(y + c, mask, sum);
    }
}

INLINE void add_rows(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                     uint32_t end, float *y, type_t type)
{
    uint32_t i = 0;

    for (; i + 4 <= count; i += 4)
        add4(rows + i, count - i >= 8 ? rows + i + 4 : rows + i, a + i, begin, end, y, type);
    for (; i < count; i++) add1(rows[i], a[i], begin, end, y, type);
}

/* -------------------------------------------------------------------------------------------- small vectors */

INLINE void to_float(const void *row, uint32_t cols, float *to, type_t type)
{
    uint32_t c = 0;

    for (; c + LANES <= cols; c += LANES) _mm512_storeu_ps(to + c, load16(row, c, type));
    if (c < cols) {
        __mmask16 mask = tail_mask(cols - c);
        _mm512_mask_storeu_ps(to + c, mask, load_tail(row, c, mask, type));
    }
}

static void to_half(const float *x, uint32_t cols, uint16_t *to)
{
    for (uint32_t c = 0; c < cols; c += LANES) {
        __mmask16 mask = tail_mask(cols - c);
        __m512 value = _mm512_maskz_loadu_ps(mask, x + c);

        _mm256_mask_storeu_epi16(
            to + c, mask, _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
}

INLINE float sum_of(const float *x, uint32_t n)
{
    __m512 sum = _mm512_setzero_ps();

    for (uint32_t c = 0; c < n; c += LANES)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(tail_mask(n - c), x + c));
    return fold1(sum);
}

INLINE float sum_of_squares(const float *x, uint32_t n, float mean)
{
    const __m512 mean16 = _mm512_set1_ps(mean);
    __m512 sum = _mm512_setzero_ps();

    for (uint32_t c = 0; c < n; c += LANES) {
        __mmask16 mask = tail_mask(n - c);
        __m512 apart = _mm512_maskz_sub_ps(mask, _mm512_maskz_loadu_ps(mask, x + c), mean16);
        sum = _mm512_fmadd_ps(apart, apart, sum);
    }
    return fold1(sum);
}

static void layer_norm(const float *x, const float *weight, const float *bias, uint32_t n,
                       float eps, float *y)
{
    const float mean = sum_of(x, n) / (float)n;
    const __m512 mean16 = _mm512_set1_ps(mean);
    const __m512 scale = _mm512_set1_ps(1.0f / sqrtf(sum_of_squares(x, n, mean) / (float)n + eps));

    for (uint32_t c = 0; c < n; c += LANES) {
        __mmask16 mask = tail_mask(n - c);
        __m512 value = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + c), mean16);

        value = _mm512_mul_ps(value, scale);
        value = _mm512_fmadd_ps(value, _mm512_maskz_loadu_ps(mask, weight + c),
                                _mm512_maskz_loadu_ps(mask, bias + c));
        _mm512_mask_storeu_ps(y + c, mask, value);
    }
}

/* -------------------------------------------------------------------------------------------- attention */

/* exp(x) for x <= 0 to about 1 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial in r of least relative error (5e-9),
   times 2^n. NaN stays NaN; the floor lies where the result is 0 in float. */
INLINE __m512 exp16(__m512 x)
{
    const __m512 floored = _mm512_max_ps(_mm512_set1_ps(-105.0f), x); /* second operand if either is NaN */
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(floored, _mm512_set1_ps(0x1.715476p+0f)),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e43p-1f), floored); /* ln 2, high part */
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-0x1.05c61p-29f), r);            /* and the rest */

    __m512 p = _mm512_set1_ps(0x1.6a23eap-10f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.123a2ap-7f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.5558f4p-5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.55549p-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.fffffcp-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

/* Scores become exp(score - largest); returns their sum. */
static float soften(float *scores, uint32_t count)
{
    __m512 largest = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();

    for (uint32_t p = 0; p < count; p += LANES) { /* a NaN score is passed over here and counts below */
        __m512 score = _mm512_mask_loadu_ps(largest, tail_mask(count - p), scores + p);
        largest = _mm512_max_ps(score, largest);
    }
    largest = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    for (uint32_t p = 0; p < count; p += LANES) {
        __mmask16 mask = tail_mask(count - p);
        __m512 power = exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, scores + p), largest));

        sum = _mm512_mask_add_ps(sum, mask, sum, power);
        _mm512_mask_storeu_ps(scores + p, mask, power);
    }
    return fold1(sum);
}

INLINE void attend(const float *q, const void *keys, const void *values, uint32_t count,
                   uint32_t stride, uint32_t head_dim, float *scores, float *out, type_t type)
{
    const uint64_t row_bytes = bytes_of(stride, type);
    const uint8_t *at = values;
    uint32_t p = 0;

    for (uint32_t c = 0; c < head_dim; c++) out[c] = 0.0f;
    if (count == 0) return;
    dot_matrix(keys, count, stride, head_dim, q, scores, type);

    const float total = soften(scores, count);

    for (; p + 4 <= count; p += 4, at += 4 * row_bytes) {
        const uint8_t *after = count - p >= 8 ? at + 4 * row_bytes : at;
        const void *row[4] = {at, at + row_bytes, at + 2 * row_bytes, at + 3 * row_bytes};
        const void *next[4] = {after, after + row_bytes, after + 2 * row_bytes, after + 3 * row_bytes};

        add4(row, next, scores + p, 0, head_dim, out, type);
    }
    for (; p < count; p++, at += row_bytes) add1(at, scores[p], 0, head_dim, out, type);
    for (uint32_t c = 0; c < head_dim; c++) out[c] /= total;
}

/* -------------------------------------------------------------------------------------------- the table */

static void matvec_f32(const void *w, uint32_t rows, uint32_t cols, const float *x,
                       const float *bias, float *y)
{
    matvec(w, rows, cols, x, bias, y, FLIN_F32);
}

static void matvec_f16(const void *w, uint32_t rows, uint32_t cols, const float *x,
                       const float *bias, float *y)
{
    matvec(w, rows, cols, x, bias, y, FLIN_F16);
}

static void dot_rows_f32(const void *const *rows, uint32_t count, uint32_t cols, const float *x,
                         float *y)
{
    dot_rows(rows, count, cols, x, y, FLIN_F32);
}

static void dot_rows_f16(const void *const *rows, uint32_t count, uint32_t cols, const float *x,
                         float *y)
{
    dot_rows(rows, count, cols, x, y, FLIN_F16);
}

static void add_rows_f32(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                         uint32_t end, float *y)
{
    add_rows(rows, a, count, begin, end, y, FLIN_F32);
}

static void add_rows_f16(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                         uint32_t end, float *y)
{
    add_rows(rows, a, count, begin, end, y, FLIN_F16);
}

static void to_float_f32(const void *row, uint32_t cols, float *to)
{
    to_float(row, cols, to, FLIN_F32);
}

static void to_float_f16(const void *row, uint32_t cols, float *to)
{
    to_float(row, cols, to, FLIN_F16);
}

static void attend_f32(const float *q, const void *keys, const void *values, uint32_t count,
                       uint32_t stride, uint32_t head_dim, float *scores, float *out)
{
    attend(q, keys, values, count, stride, head_dim, scores, out, FLIN_F32);
}

static void attend_f16(const float *q, const void *keys, const void *values, uint32_t count,
                       uint32_t stride, uint32_t head_dim, float *scores, float *out)
{
    attend(q, keys, values, count, stride, head_dim, scores, out, FLIN_F16);
}

const flin_kernels flin_kernels_avx512 = {
    .name = "avx512",
    .matvec = {[FLIN_F32] = matvec_f32, [FLIN_F16] = matvec_f16},
    .dot_rows = {[FLIN_F32] = dot_rows_f32, [FLIN_F16] = dot_rows_f16},
    .add_rows = {[FLIN_F32] = add_rows_f32, [FLIN_F16] = add_rows_f16},
    .to_float = {[FLIN_F32] = to_float_f32, [FLIN_F16] = to_float_f16},
    .to_half = to_half,
    .layer_norm = layer_norm,
    .attend = {[FLIN_F32] = attend_f32, [FLIN_F16] = attend_f16},
    .sketch_mask = flin_sketch_mask_avx512,
};
