/*
 * avx512.c - kernels for AVX-512 F, BW, DQ and VL: 16 floats a vector, masks for tails.
 *
 * Owns: speed on these CPUs; every loop is meant to wait for memory, not for arithmetic. Refuses:
 * being called without flin_kernels_choose() having asked the CPU.
 *
 * Sums: a dot product keeps two vectors a row, element c in lane c % 32 of the pair; they are
 * added, halved three times and so folded, the same for every row. add_rows is one fused
 * multiply-add per element and row. Types differ only in load16() and load_tail(): their type
 * argument is a constant wherever they are inlined.
 */
#include "kernels/ref.h"

#include <immintrin.h>
#include <math.h>
#include <stddef.h>

#define INLINE static inline __attribute__((always_inline))
#define LANES 16u
#define STEP 32u  /* elements a row advances by per round of a loop */
#define ADDED 16u /* rows added per pass over y */
/* How far ahead rows are asked for. Measured: a page or more ahead is slower, because the hardware
   then fetches less by itself. */
#define AHEAD_BYTES 1024u

typedef enum flin_type type_t;

/* ----------------------------------------------------------------------------------------- rows */

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

    if (type == FLIN_F16)
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)at));
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

/* Rows to work on, wherever they lie: behind pointers, or at equal distances in a matrix or in one
   head's cache. */
typedef struct rows_view {
    const void *const *scattered; /* (count) or NULL */
    const uint8_t *first;
    uint64_t step_bytes;
    uint32_t count;
} rows_view;

/* Row i, or the last row instead of one beyond it. */
INLINE const void *row_at(const rows_view *rows, uint32_t i)
{
    const uint32_t at = i < rows->count ? i : rows->count - 1;

    return rows->scattered != NULL ? rows->scattered[at] : rows->first + at * rows->step_bytes;
}

/* Ask for the 32 elements at c of a row that will be worked on soon. */
INLINE void prefetch32(const void *row, uint32_t c, type_t type)
{
    const char *at = (const char *)element_at(row, c, type);

    _mm_prefetch(at, _MM_HINT_T0);
    if (type == FLIN_F32) _mm_prefetch(at + 64, _MM_HINT_T0);
}

/* ------------------------------------------------------------------------------------------ dot */

/* Four sums at once: pairs, then pairs of pairs, then the halves. Every place has the same tree. */
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

/* Elements between the place worked on and the place asked for; beyond the end of a row it is the
   next one's start. */
INLINE uint32_t elements_ahead(uint32_t cols, type_t type)
{
    const uint32_t ahead = AHEAD_BYTES / (uint32_t)bytes_of(1, type);

    return ahead < cols ? ahead : cols;
}

/* Eight rows side by side share the loads of x; so many streams are what keeps the memory busy.
   next: the eight rows after them. */
INLINE __m256 dot8(const void *const row[8], const void *const next[8], uint32_t cols,
                   const float *x, type_t type)
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
            prefetch32(soon[r], at, type);
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
    return _mm256_set_m128(fold4(even[4], even[5], even[6], even[7]),
                           fold4(even[0], even[1], even[2], even[3]));
}

/* y[i] = row i . x. The last group is filled up with its last row, which costs no memory traffic
   and keeps one order of sums for all. */
INLINE void dot_all(const rows_view *rows, uint32_t cols, const float *x, float *y, type_t type)
{
    for (uint32_t i = 0; i < rows->count; i += 8) {
        const void *row[8], *next[8];

        for (uint32_t r = 0; r < 8; r++) {
            row[r] = row_at(rows, i + r);
            next[r] = row_at(rows, i + 8 + r);
        }
        _mm256_mask_storeu_ps(y + i, (__mmask8)tail_mask(rows->count - i),
                              dot8(row, next, cols, x, type));
    }
}

INLINE void matvec(const void *w, uint32_t rows, uint32_t cols, const float *x, const float *bias,
                   float *y, type_t type)
{
    const rows_view view = {NULL, w, bytes_of(cols, type), rows};

    dot_all(&view, cols, x, y, type);
    if (bias == NULL) return;
    for (uint32_t r = 0; r < rows; r++) y[r] += bias[r];
}

INLINE void dot_rows(const void *const *rows, uint32_t count, uint32_t cols, const float *x,
                     float *y, type_t type)
{
    const rows_view view = {rows, NULL, 0, count};

    dot_all(&view, cols, x, y, type);
}

/* ------------------------------------------------------------------------------------------ add */

/* Up to ADDED rows in one pass over y, one after the other; next: as many rows after them. */
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

            prefetch32(soon[i], at, type);
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

INLINE void add_all(const rows_view *rows, const float *a, uint32_t begin, uint32_t end, float *y,
                    type_t type)
{
    for (uint32_t i = 0; i < rows->count; i += ADDED) {
        const uint32_t count = rows->count - i < ADDED ? rows->count - i : ADDED;
        const void *row[ADDED], *next[ADDED];

        for (uint32_t r = 0; r < count; r++) {
            row[r] = row_at(rows, i + r);
            next[r] = row_at(rows, i + count + r);
        }
        add_group(row, next, a + i, count, begin, end, y, type);
    }
}

INLINE void add_rows(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                     uint32_t end, float *y, type_t type)
{
    const rows_view view = {rows, NULL, 0, count};

    if (begin < end) add_all(&view, a, begin, end, y, type);
}

/* -------------------------------------------------------------------------------- small vectors */

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

/* ------------------------------------------------------------------------------------ attention */

/* exp(x) for x <= 0 to about 1 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial in r of least
   relative error (5e-9), times 2^n. NaN stays NaN; the floor lies where the result is 0 in float.
   */
INLINE __m512 exp16(__m512 x)
{
    const __m512 floored = _mm512_max_ps(_mm512_set1_ps(-105.0f), x); /* x if it is NaN */
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

/* A softmax that runs along: what was added up before a larger score came is scaled down. */
typedef struct softmax {
    float largest; /* -Inf: no score yet that counts */
    float total;
} softmax;

/* Scores (count) become exp(score - largest), out what it was by the scale it has now. */
static void soften(softmax *at, float *scores, uint32_t count, float *out, uint32_t head_dim)
{
    __m512 most = _mm512_set1_ps(at->largest), sum = _mm512_setzero_ps();
    float largest;

    /* a NaN score is passed over here and counts below */
    for (uint32_t p = 0; p < count; p += LANES) {
        __m512 score = _mm512_mask_loadu_ps(most, tail_mask(count - p), scores + p);
        most = _mm512_max_ps(score, most);
    }
    largest = _mm512_reduce_max_ps(most);
    if (largest > at->largest) {
        const float scale = _mm512_cvtss_f32(exp16(_mm512_set1_ps(at->largest - largest)));
        for (uint32_t c = 0; c < head_dim; c++) out[c] *= scale;
        at->total *= scale;
        at->largest = largest;
    }
    most = _mm512_set1_ps(largest > -INFINITY ? largest : 0.0f); /* -Inf weighs nothing */
    for (uint32_t p = 0; p < count; p += LANES) {
        __mmask16 mask = tail_mask(count - p);
        __m512 power = exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, scores + p), most));

        sum = _mm512_mask_add_ps(sum, mask, sum, power);
        _mm512_mask_storeu_ps(scores + p, mask, power);
    }
    at->total += fold1(sum);
}

INLINE void attend(const float *q, const void *keys, const void *values, uint32_t count,
                   uint32_t stride, uint32_t head_dim, float *scores, float *out, type_t type)
{
    softmax at = {-INFINITY, 0};

    for (uint32_t c = 0; c < head_dim; c++) out[c] = 0.0f;
    for (uint32_t first = 0; first < count; first += FLIN_ATTEND_POSITIONS) {
        const uint64_t skip = bytes_of((uint64_t)first * stride, type);
        const uint32_t left = count - first,
                       here = left < FLIN_ATTEND_POSITIONS ? left : FLIN_ATTEND_POSITIONS;
        const rows_view key_rows = {NULL, (const uint8_t *)keys + skip, bytes_of(stride, type),
                                    here};
        const rows_view value_rows = {NULL, (const uint8_t *)values + skip, bytes_of(stride, type),
                                      here};

        dot_all(&key_rows, head_dim, q, scores, type);
        soften(&at, scores, here, out, head_dim);
        add_all(&value_rows, scores, 0, head_dim, out, type);
    }
    for (uint32_t c = 0; count != 0 && c < head_dim; c++) out[c] /= at.total;
}

/* ------------------------------------------------------------------------------------ the table */

static void matvec_f32(const void *w, uint32_t rows, uint32_t cols, const void *x,
                       const float *bias, float *y)
{
    matvec(w, rows, cols, x, bias, y, FLIN_F32);
}

static void matvec_f16(const void *w, uint32_t rows, uint32_t cols, const void *x,
                       const float *bias, float *y)
{
    matvec(w, rows, cols, x, bias, y, FLIN_F16);
}

static void dot_rows_f32(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                         float *y)
{
    dot_rows(rows, count, cols, x, y, FLIN_F32);
}

static void dot_rows_f16(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
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
                       uint32_t stride, uint32_t head_dim, void *scratch, float *out)
{
    attend(q, keys, values, count, stride, head_dim, scratch, out, FLIN_F32);
}

static void attend_f16(const float *q, const void *keys, const void *values, uint32_t count,
                       uint32_t stride, uint32_t head_dim, void *scratch, float *out)
{
    attend(q, keys, values, count, stride, head_dim, scratch, out, FLIN_F16);
}

const flin_kernels flin_kernels_avx512 = {
    .name = "avx512",
    .quantise = flin_ref_quantise,
    .matvec = {matvec_f32, matvec_f16, flin_ref_matvec_bf16, flin_ref_matvec_q8_0,
               flin_ref_matvec_q4_0},
    .dot_rows = {dot_rows_f32, dot_rows_f16, flin_ref_dot_rows_bf16, flin_ref_dot_rows_q8_0,
                 flin_ref_dot_rows_q4_0},
    .add_rows = {add_rows_f32, add_rows_f16, flin_ref_add_rows_bf16, flin_ref_add_rows_q8_0,
                 flin_ref_add_rows_q4_0},
    .to_float = {to_float_f32, to_float_f16, flin_ref_to_float_bf16, flin_ref_to_float_q8_0,
                 flin_ref_to_float_q4_0},
    .from_float = {flin_ref_from_float_f32, from_float_f16, flin_ref_from_float_bf16,
                   flin_ref_from_float_q8_0, flin_ref_from_float_q4_0},
    .layer_norm = layer_norm,
    .rms_norm = flin_ref_rms_norm,
    .activate = {flin_ref_relu, flin_ref_relu2, flin_ref_silu},
    .rotate = flin_ref_rotate,
    .attend =
        {[FLIN_F32] = attend_f32, [FLIN_F16] = attend_f16, [FLIN_Q8_0] = flin_ref_attend_q8_0},
    .sketch_mask = flin_sketch_mask_avx512,
    .sketch_scores = flin_sketch_scores_avx512,
};
