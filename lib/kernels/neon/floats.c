/*
 * neon/floats.c - kernels for aarch64, whose every CPU has NEON: 4 floats a vector, two vectors at
 * a time, copied tails.
 *
 * Owns: rows of floats, float16 and bfloat16, and all that is no matrix. Refuses: quantised rows
 * (neon/blocks.c). Written without a CPU to measure on: no row is asked for ahead, because what
 * that gives or costs depends on the CPU.
 *
 * Sums: a dot product keeps two vectors a row, element c in lane c % 8 of the pair; they are added
 * and folded as a tree, the same for every row. add_rows is one fused multiply-add per element and
 * row. Types differ only in load8() of rows.h: its type argument is a constant wherever it is
 * inlined.
 */
#include "kernels/neon/rows.h"

#include <math.h>

#include "kernels/ref/shared.h"

#define ADDED 16u /* rows added per pass over y */

/* ------------------------------------------------------------------------------------------ dot */

/* Eight rows side by side share the loads of x, and their sums, which take 16 of 32 registers,
   do not wait for each other. */
INLINE void dot8(const uint8_t *const row[8], uint32_t cols, const float *x, type_t type,
                 float32x4_t y[2])
{
    eight sum[8];
    uint32_t c = 0;

#pragma GCC unroll 8
    for (uint32_t r = 0; r < 8; r++) sum[r] = (eight){{vdupq_n_f32(0), vdupq_n_f32(0)}};
    for (; c + LANES <= cols; c += LANES) {
        const eight x8 = load8(x, c, FLIN_F32);

#pragma GCC unroll 8
        for (uint32_t r = 0; r < 8; r++) sum[r] = multiply_add(sum[r], load8(row[r], c, type), x8);
    }
    if (c < cols) {
        const eight x8 = load_part(x, c, cols, FLIN_F32);

#pragma GCC unroll 8
        for (uint32_t r = 0; r < 8; r++)
            sum[r] = multiply_add(sum[r], load_part(row[r], c, cols, type), x8);
    }
    y[0] = fold4(sum);
    y[1] = fold4(sum + 4);
}

/* y[i] = row i . x. The last group is filled up with its last row, which costs no memory traffic
   and keeps one order of sums for all. */
INLINE void dot_all(const rows_view *rows, uint32_t cols, const float *x, float *y, type_t type)
{
    for (uint32_t i = 0; i < rows->count; i += 8) {
        const uint8_t *row[8];
        float32x4_t sums[2];

        for (uint32_t r = 0; r < 8; r++) row[r] = row_at(rows, i + r);
        dot8(row, cols, x, type, sums);
        store_part(y, i, rows->count, (eight){{sums[0], sums[1]}});
    }
}

INLINE void matvec(const void *w, uint32_t rows, uint32_t cols, const float *x, const float *bias,
                   float *y, type_t type)
{
    const rows_view view = {NULL, w, flin_type_bytes(type, cols), rows};

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

INLINE eight add_scaled(eight sum, eight row, float a)
{
    return (eight){
        {vfmaq_n_f32(sum.val[0], row.val[0], a), vfmaq_n_f32(sum.val[1], row.val[1], a)}};
}

/* Up to ADDED rows in one pass over y, one after the other; 32 columns stay in registers. */
INLINE void add_group(const uint8_t *const *row, const float *a, uint32_t count, uint32_t begin,
                      uint32_t end, float *y, type_t type)
{
    uint32_t c = begin;

    for (; c + 4 * LANES <= end; c += 4 * LANES) {
        eight sum[4];

#pragma GCC unroll 4
        for (uint32_t k = 0; k < 4; k++) sum[k] = load8(y, c + k * LANES, FLIN_F32);
        for (uint32_t i = 0; i < count; i++) {
#pragma GCC unroll 4
            for (uint32_t k = 0; k < 4; k++)
                sum[k] = add_scaled(sum[k], load8(row[i], c + k * LANES, type), a[i]);
        }
#pragma GCC unroll 4
        for (uint32_t k = 0; k < 4; k++) store_part(y, c + k * LANES, end, sum[k]);
    }
    for (; c < end; c += LANES) {
        eight sum = load_part(y, c, end, FLIN_F32);

        for (uint32_t i = 0; i < count; i++)
            sum = add_scaled(sum, load_part(row[i], c, end, type), a[i]);
        store_part(y, c, end, sum);
    }
}

INLINE void add_all(const rows_view *rows, const float *a, uint32_t begin, uint32_t end, float *y,
                    type_t type)
{
    for (uint32_t i = 0; i < rows->count; i += ADDED) {
        const uint32_t count = rows->count - i < ADDED ? rows->count - i : ADDED;
        const uint8_t *row[ADDED];

        for (uint32_t r = 0; r < count; r++) row[r] = row_at(rows, i + r);
        add_group(row, a + i, count, begin, end, y, type);
    }
}

INLINE void add_rows(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                     uint32_t end, float *y, type_t type)
{
    const rows_view view = {rows, NULL, 0, count};

    add_all(&view, a, begin, end, y, type);
}

/* ---------------------------------------------------------------------------------- conversions */

INLINE void to_float(const void *row, uint32_t cols, float *to, type_t type)
{
    for (uint32_t c = 0; c < cols; c += LANES)
        store_part(to, c, cols, load_part(row, c, cols, type));
}

/* Rounded to nearest even. NaN keeps its sign and stays one. */
INLINE uint16x4_t bfloats_of(float32x4_t x)
{
    const uint32x4_t bits = vreinterpretq_u32_f32(x), odd = vshrq_n_u32(vshlq_n_u32(bits, 15), 31);
    const uint16x4_t rounded =
        vshrn_n_u32(vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd), 16);
    const uint16x4_t quiet = vorr_u16(vshrn_n_u32(bits, 16), vdup_n_u16(0x40));

    return vbsl_u16(vmovn_u32(vceqq_f32(x, x)), rounded, quiet);
}

INLINE void from_float(const float *x, uint32_t cols, void *row, type_t type)
{
    uint16_t *to = row;

    for (uint32_t c = 0; c < cols; c += LANES) {
        const eight value = load_part(x, c, cols, FLIN_F32);
        uint16_t halves[LANES];

        if (type == FLIN_F16)
            vst1q_u16(halves, vreinterpretq_u16_f16(
                                  vcvt_high_f16_f32(vcvt_f16_f32(value.val[0]), value.val[1])));
        else
            vst1q_u16(halves, vcombine_u16(bfloats_of(value.val[0]), bfloats_of(value.val[1])));
        memcpy(to + c, halves, (cols - c < LANES ? cols - c : LANES) * sizeof halves[0]);
    }
}

/* ---------------------------------------------------------------------------------------- norms */

static float sum_of(const float *x, uint32_t n)
{
    eight sum = {{vdupq_n_f32(0), vdupq_n_f32(0)}};

    for (uint32_t c = 0; c < n; c += LANES) {
        const eight value = load_part(x, c, n, FLIN_F32);
        sum.val[0] = vaddq_f32(sum.val[0], value.val[0]);
        sum.val[1] = vaddq_f32(sum.val[1], value.val[1]);
    }
    return fold1(sum);
}

INLINE eight minus(eight a, float32x4_t b)
{
    return (eight){{vsubq_f32(a.val[0], b), vsubq_f32(a.val[1], b)}};
}

static float sum_of_squares(const float *x, uint32_t n, float mean)
{
    eight sum = {{vdupq_n_f32(0), vdupq_n_f32(0)}};

    for (uint32_t c = 0; c < n; c += LANES) {
        const eight apart = minus(load_rest(x, c, n, mean), vdupq_n_f32(mean));
        sum = multiply_add(sum, apart, apart);
    }
    return fold1(sum);
}

static void layer_norm(const float *x, const float *weight, const float *bias, uint32_t n,
                       float eps, float *y)
{
    const float mean = sum_of(x, n) / (float)n;
    const float scale = 1.0f / sqrtf(sum_of_squares(x, n, mean) / (float)n + eps);

    for (uint32_t c = 0; c < n; c += LANES) {
        eight value = minus(load_part(x, c, n, FLIN_F32), vdupq_n_f32(mean));

        value.val[0] = vmulq_n_f32(value.val[0], scale);
        value.val[1] = vmulq_n_f32(value.val[1], scale);
        value =
            multiply_add(load_part(bias, c, n, FLIN_F32), value, load_part(weight, c, n, FLIN_F32));
        store_part(y, c, n, value);
    }
}

static void rms_norm(const float *x, const float *weight, uint32_t n, float eps, float *y)
{
    const float scale = 1.0f / sqrtf(sum_of_squares(x, n, 0.0f) / (float)n + eps);

    for (uint32_t c = 0; c < n; c += LANES) {
        eight value = load_part(x, c, n, FLIN_F32);
        const eight by = load_part(weight, c, n, FLIN_F32);

        value.val[0] = vmulq_f32(vmulq_n_f32(value.val[0], scale), by.val[0]);
        value.val[1] = vmulq_f32(vmulq_n_f32(value.val[1], scale), by.val[1]);
        store_part(y, c, n, value);
    }
}

/* --------------------------------------------------------------------- activations and rotation */

/* exp(x) for x <= 0 to about 1 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial in r of least
   relative error (5e-9), times 2^n. NaN stays NaN; results below the normal range of float are 0.
   */
INLINE float32x4_t exp4(float32x4_t x)
{
    const float32x4_t least = vdupq_n_f32(-87.33654f);
    const float32x4_t floored = vmaxq_f32(least, x); /* NaN if x is */
    const float32x4_t n = vrndnq_f32(vmulq_n_f32(floored, 0x1.715476p+0f));
    const int32x4_t exponent = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
    float32x4_t r = vfmsq_n_f32(floored, n, 0x1.62e43p-1f); /* ln 2, high part */
    r = vfmaq_n_f32(r, n, 0x1.05c61p-29f);                  /* and the rest */

    float32x4_t p = vdupq_n_f32(0x1.6a23eap-10f);
    p = vfmaq_f32(vdupq_n_f32(0x1.123a2ap-7f), p, r);
    p = vfmaq_f32(vdupq_n_f32(0x1.5558f4p-5f), p, r);
    p = vfmaq_f32(vdupq_n_f32(0x1.55549p-3f), p, r);
    p = vfmaq_f32(vdupq_n_f32(0x1.fffffcp-2f), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
    p = vmulq_f32(p, vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(p), vcltq_f32(x, least)));
}

/* x / (1 + exp(-x)), with e = exp(-|x|), which is never too large: x e / (1 + e) below 0 */
INLINE float32x4_t silu4(float32x4_t x)
{
    const float32x4_t e = exp4(vnegq_f32(vabsq_f32(x))), one = vdupq_n_f32(1.0f);
    const float32x4_t top = vmulq_f32(x, vbslq_f32(vcltzq_f32(x), e, one));

    return vdivq_f32(top, vaddq_f32(one, e));
}

INLINE float32x4_t activate4(float32x4_t x, enum flin_activation kind)
{
    const float32x4_t fired = vmaxq_f32(x, vdupq_n_f32(0)); /* NaN if x is */

    if (kind == FLIN_SILU) return silu4(x);
    return kind == FLIN_RELU ? fired : vmulq_f32(fired, fired);
}

INLINE void activate(const float *x, const float *up, uint32_t n, float *y,
                     enum flin_activation kind)
{
    for (uint32_t c = 0; c < n; c += LANES) {
        eight value = load_part(x, c, n, FLIN_F32);

        value.val[0] = activate4(value.val[0], kind);
        value.val[1] = activate4(value.val[1], kind);
        if (up != NULL) {
            const eight by = load_part(up, c, n, FLIN_F32);
            value.val[0] = vmulq_f32(value.val[0], by.val[0]);
            value.val[1] = vmulq_f32(value.val[1], by.val[1]);
        }
        store_part(y, c, n, value);
    }
}

INLINE float32x4x2_t turn(float32x4x2_t pair, float32x4_t cosine, float32x4_t sine)
{
    return (float32x4x2_t){{vfmsq_f32(vmulq_f32(pair.val[0], cosine), pair.val[1], sine),
                            vfmaq_f32(vmulq_f32(pair.val[0], sine), pair.val[1], cosine)}};
}

/* One head; half: pairs of elements. */
INLINE void rotate_head(float *x, uint32_t half, const float *cosines, const float *sines,
                        enum flin_pairs pairs)
{
    uint32_t k = 0;

    for (; k + 4 <= half; k += 4) {
        const float32x4_t cosine = vld1q_f32(cosines + k), sine = vld1q_f32(sines + k);

        if (pairs == FLIN_PAIRS_NEIGHBOURS) {
            vst2q_f32(x + 2 * k, turn(vld2q_f32(x + 2 * k), cosine, sine));
        } else {
            const float32x4x2_t pair = {{vld1q_f32(x + k), vld1q_f32(x + k + half)}};
            const float32x4x2_t turned = turn(pair, cosine, sine);
            vst1q_f32(x + k, turned.val[0]);
            vst1q_f32(x + k + half, turned.val[1]);
        }
    }
    for (; k < half; k++) { /* what turn() does, one by one */
        float *a = pairs == FLIN_PAIRS_HALVES ? &x[k] : &x[2 * k];
        float *b = pairs == FLIN_PAIRS_HALVES ? &x[k + half] : &x[2 * k + 1];
        const float left = *a, right = *b;

        *a = fmaf(-right, sines[k], left * cosines[k]);
        *b = fmaf(right, cosines[k], left * sines[k]);
    }
}

static void rotate(float *x, uint32_t heads, uint32_t head_dim, uint32_t rotated,
                   const float *cosines, const float *sines, enum flin_pairs pairs)
{
    for (uint32_t head = 0; head < heads; head++, x += head_dim) {
        if (pairs == FLIN_PAIRS_HALVES)
            rotate_head(x, rotated / 2, cosines, sines, FLIN_PAIRS_HALVES);
        else
            rotate_head(x, rotated / 2, cosines, sines, FLIN_PAIRS_NEIGHBOURS);
    }
}

/* ------------------------------------------------------------------------------------ attention */

/* A NaN score is passed over here and counts in the sum. */
static float largest_of(const float *scores, uint32_t count)
{
    float32x4_t most = vdupq_n_f32(-INFINITY);

    for (uint32_t p = 0; p < count; p += LANES) {
        const eight score = load_rest(scores, p, count, -INFINITY);
        most = vmaxnmq_f32(vmaxnmq_f32(most, score.val[0]), score.val[1]);
    }
    return vmaxnmvq_f32(most);
}

void flin_neon_soften(softmax *at, float *scores, uint32_t count, float *out, uint32_t head_dim)
{
    const float here = largest_of(scores, count);
    const float largest = here > at->largest ? here : at->largest;
    const float32x4_t most = vdupq_n_f32(largest > -INFINITY ? largest : 0.0f);
    eight sum = {{vdupq_n_f32(0), vdupq_n_f32(0)}};

    if (largest > at->largest) {
        const float scale = vgetq_lane_f32(exp4(vdupq_n_f32(at->largest - largest)), 0);
        for (uint32_t c = 0; c < head_dim; c++) out[c] *= scale;
        at->total *= scale;
        at->largest = largest;
    }
    for (uint32_t p = 0; p < count; p += LANES) {
        eight power = minus(load_rest(scores, p, count, -INFINITY), most); /* exp(-Inf) is 0 */

        power.val[0] = exp4(power.val[0]);
        power.val[1] = exp4(power.val[1]);
        sum.val[0] = vaddq_f32(sum.val[0], power.val[0]);
        sum.val[1] = vaddq_f32(sum.val[1], power.val[1]);
        store_part(scores, p, count, power);
    }
    at->total += fold1(sum);
}

INLINE void attend(const float *q, const void *keys, const void *values, uint32_t count,
                   uint32_t stride, uint32_t head_dim, float *scores, float *out, type_t type)
{
    const uint64_t step = flin_type_bytes(type, stride);
    softmax at = {-INFINITY, 0};

    for (uint32_t c = 0; c < head_dim; c++) out[c] = 0.0f;
    for (uint32_t first = 0; first < count; first += FLIN_ATTEND_POSITIONS) {
        const uint32_t left = count - first,
                       here = left < FLIN_ATTEND_POSITIONS ? left : FLIN_ATTEND_POSITIONS;
        const rows_view key_rows = {NULL, (const uint8_t *)keys + first * step, step, here};
        const rows_view value_rows = {NULL, (const uint8_t *)values + first * step, step, here};

        dot_all(&key_rows, head_dim, q, scores, type);
        flin_neon_soften(&at, scores, here, out, head_dim);
        add_all(&value_rows, scores, 0, head_dim, out, type);
    }
    for (uint32_t c = 0; count != 0 && c < head_dim; c++) out[c] /= at.total;
}

/* ----------------------------------------------------------------------------------- the tables */

static void matvec_f32(const void *w, uint32_t rows, uint32_t cols, const void *x,
                       const float *bias, float *y)
{
    matvec(w, rows, cols, x, bias, y, FLIN_F32);
}

static void matvecs_f32(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                        uint32_t inputs, const float *bias, float *const *y)
{
    if (inputs == 1)
        matvec_f32(w, rows, cols, x[0], bias, y[0]);
    else
        flin_neon_matvecs_f32(w, rows, cols, x, inputs, bias, y);
}

static void matvec_f16(const void *w, uint32_t rows, uint32_t cols, const void *x,
                       const float *bias, float *y)
{
    matvec(w, rows, cols, x, bias, y, FLIN_F16);
}

static void matvecs_f16(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                        uint32_t inputs, const float *bias, float *const *y)
{
    if (inputs == 1)
        matvec_f16(w, rows, cols, x[0], bias, y[0]);
    else
        flin_neon_matvecs_f16(w, rows, cols, x, inputs, bias, y);
}

static void matvec_bf16(const void *w, uint32_t rows, uint32_t cols, const void *x,
                        const float *bias, float *y)
{
    matvec(w, rows, cols, x, bias, y, FLIN_BF16);
}

static void matvecs_bf16(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                         uint32_t inputs, const float *bias, float *const *y)
{
    if (inputs == 1)
        matvec_bf16(w, rows, cols, x[0], bias, y[0]);
    else
        flin_neon_matvecs_bf16(w, rows, cols, x, inputs, bias, y);
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

static void dot_rows_bf16(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                          float *y)
{
    dot_rows(rows, count, cols, x, y, FLIN_BF16);
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

static void add_rows_bf16(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                          uint32_t end, float *y)
{
    add_rows(rows, a, count, begin, end, y, FLIN_BF16);
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

static void from_float_f16(const float *x, uint32_t cols, void *row)
{
    from_float(x, cols, row, FLIN_F16);
}

static void from_float_bf16(const float *x, uint32_t cols, void *row)
{
    from_float(x, cols, row, FLIN_BF16);
}

static void relu(const float *x, const float *up, uint32_t n, float *y)
{
    activate(x, up, n, y, FLIN_RELU);
}

static void relu2(const float *x, const float *up, uint32_t n, float *y)
{
    activate(x, up, n, y, FLIN_RELU2);
}

static void silu(const float *x, const float *up, uint32_t n, float *y)
{
    activate(x, up, n, y, FLIN_SILU);
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

const flin_kernels flin_kernels_neon = {
    .name = "neon",
    .quantise = flin_neon_quantise,
    .matvec = {matvec_f32, matvec_f16, matvec_bf16, flin_neon_matvec_q8_0, flin_neon_matvec_q4_0,
               FLIN_QUANTS(flin_neon_matvec)},
    .matvecs = {matvecs_f32, matvecs_f16, matvecs_bf16, flin_neon_matvecs_q8_0,
                flin_neon_matvecs_q4_0, FLIN_QUANTS(flin_neon_matvecs)},
    .dot_rows = {dot_rows_f32, dot_rows_f16, dot_rows_bf16, flin_neon_dot_rows_q8_0,
                 flin_neon_dot_rows_q4_0, FLIN_QUANTS(flin_neon_dot_rows)},
    .add_rows = {add_rows_f32, add_rows_f16, add_rows_bf16, flin_neon_add_rows_q8_0,
                 flin_neon_add_rows_q4_0},
    .to_float = {to_float_f32, to_float_f16, to_float_bf16, flin_neon_to_float_q8_0,
                 flin_neon_to_float_q4_0, FLIN_QUANTS(flin_neon_to_float)},
    .from_float = {flin_ref_from_float_f32, from_float_f16, from_float_bf16,
                   flin_neon_from_float_q8_0, flin_ref_from_float_q4_0},
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .activate = {relu, relu2, silu},
    .rotate = rotate,
    .attend =
        {[FLIN_F32] = attend_f32, [FLIN_F16] = attend_f16, [FLIN_Q8_0] = flin_neon_attend_q8_0},
    .sketch_input = flin_sketch_input,
    .sketch_mask = flin_sketch_mask_neon,
    .sketch_scores = flin_sketch_scores_neon,
};

const flin_kernels flin_kernels_neon_dotprod = {
    .name = "neon",
    .quantise = flin_dotprod_quantise,
    .matvec = {matvec_f32, matvec_f16, matvec_bf16, flin_dotprod_matvec_q8_0,
               flin_dotprod_matvec_q4_0, FLIN_QUANTS(flin_dotprod_matvec)},
    .matvecs = {matvecs_f32, matvecs_f16, matvecs_bf16, flin_dotprod_matvecs_q8_0,
                flin_dotprod_matvecs_q4_0, FLIN_QUANTS(flin_dotprod_matvecs)},
    .dot_rows = {dot_rows_f32, dot_rows_f16, dot_rows_bf16, flin_dotprod_dot_rows_q8_0,
                 flin_dotprod_dot_rows_q4_0, FLIN_QUANTS(flin_dotprod_dot_rows)},
    .add_rows = {add_rows_f32, add_rows_f16, add_rows_bf16, flin_neon_add_rows_q8_0,
                 flin_neon_add_rows_q4_0},
    .to_float = {to_float_f32, to_float_f16, to_float_bf16, flin_neon_to_float_q8_0,
                 flin_neon_to_float_q4_0, FLIN_QUANTS(flin_neon_to_float)},
    .from_float = {flin_ref_from_float_f32, from_float_f16, from_float_bf16,
                   flin_neon_from_float_q8_0, flin_ref_from_float_q4_0},
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .activate = {relu, relu2, silu},
    .rotate = rotate,
    .attend =
        {[FLIN_F32] = attend_f32, [FLIN_F16] = attend_f16, [FLIN_Q8_0] = flin_dotprod_attend_q8_0},
    .sketch_input = flin_sketch_input,
    .sketch_mask = flin_sketch_mask_neon_dotprod,
    .sketch_scores = flin_sketch_scores_neon_dotprod,
};
