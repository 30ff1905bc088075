/*
 * ref.c - every kernel in plain C: the meaning the overlays are tested against, and all there is on
 * a CPU without one.
 *
 * Owns: clarity. Refuses: intrinsics, assumptions about alignment beyond what kernels.h promises.
 *
 * A dot product keeps LANES partial sums, element c in lane c % LANES, and folds them as a tree:
 * that is its one fixed order, it rounds less than one long chain, and a compiler can vectorise it
 * without being allowed to reorder sums.
 */
#include "kernels/kernels.h"

#include <math.h>

#include "util/half.h"

#define LANES 8u

/* Elements are copied out because rows are only promised to be 2-byte aligned. */
static inline float element(const void *row, uint64_t c, enum flin_type type)
{
    if (type == FLIN_F16) {
        uint16_t half;
        memcpy(&half, (const uint8_t *)row + c * sizeof half, sizeof half);
        return flin_float_from_half(half);
    }
    float value;
    memcpy(&value, (const uint8_t *)row + c * sizeof value, sizeof value);
    return value;
}

static inline const void *element_at(const void *matrix, uint64_t c, enum flin_type type)
{
    return (const uint8_t *)matrix + c * (type == FLIN_F16 ? sizeof(uint16_t) : sizeof(float));
}

static inline float fold(const float lane[LANES])
{
    float a = (lane[0] + lane[4]) + (lane[1] + lane[5]);
    float b = (lane[2] + lane[6]) + (lane[3] + lane[7]);
    return a + b;
}

static inline float dot(const void *row, uint32_t cols, const float *x, enum flin_type type)
{
    float lane[LANES] = {0};
    uint32_t c = 0;

    for (; c + LANES <= cols; c += LANES)
        for (uint32_t i = 0; i < LANES; i++) lane[i] += element(row, c + i, type) * x[c + i];
    for (uint32_t i = 0; c < cols; i++, c++) lane[i] += element(row, c, type) * x[c];
    return fold(lane);
}

static inline void matvec(const void *w, uint32_t rows, uint32_t cols, const float *x,
                          const float *bias, float *y, enum flin_type type)
{
    for (uint32_t r = 0; r < rows; r++) {
        y[r] = dot(element_at(w, (uint64_t)r * cols, type), cols, x, type);
        if (bias != NULL) y[r] += bias[r];
    }
}

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
    for (uint32_t i = 0; i < count; i++) y[i] = dot(rows[i], cols, x, FLIN_F32);
}

static void dot_rows_f16(const void *const *rows, uint32_t count, uint32_t cols, const float *x,
                         float *y)
{
    for (uint32_t i = 0; i < count; i++) y[i] = dot(rows[i], cols, x, FLIN_F16);
}

static inline void add_row(const void *row, float a, uint32_t begin, uint32_t end, float *y,
                           enum flin_type type)
{
    for (uint32_t c = begin; c < end; c++) y[c] += a * element(row, c, type);
}

static void add_rows_f32(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                         uint32_t end, float *y)
{
    for (uint32_t i = 0; i < count; i++) add_row(rows[i], a[i], begin, end, y, FLIN_F32);
}

static void add_rows_f16(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                         uint32_t end, float *y)
{
    for (uint32_t i = 0; i < count; i++) add_row(rows[i], a[i], begin, end, y, FLIN_F16);
}

static void to_float_f32(const void *row, uint32_t cols, float *to)
{
    for (uint32_t c = 0; c < cols; c++) to[c] = element(row, c, FLIN_F32);
}

static void to_float_f16(const void *row, uint32_t cols, float *to)
{
    for (uint32_t c = 0; c < cols; c++) to[c] = element(row, c, FLIN_F16);
}

static void to_half(const float *x, uint32_t cols, uint16_t *to)
{
    for (uint32_t c = 0; c < cols; c++) to[c] = flin_half_from_float(x[c]);
}

static float sum(const float *x, uint32_t n)
{
    float lane[LANES] = {0};

    for (uint32_t c = 0; c < n; c++) lane[c % LANES] += x[c];
    return fold(lane);
}

static float sum_of_squares(const float *x, uint32_t n, float mean)
{
    float lane[LANES] = {0};

    for (uint32_t c = 0; c < n; c++) lane[c % LANES] += (x[c] - mean) * (x[c] - mean);
    return fold(lane);
}

static void layer_norm(const float *x, const float *weight, const float *bias, uint32_t n,
                       float eps, float *y)
{
    float mean = sum(x, n) / (float)n;
    float scale = 1.0f / sqrtf(sum_of_squares(x, n, mean) / (float)n + eps);

    for (uint32_t c = 0; c < n; c++) y[c] = (x[c] - mean) * scale * weight[c] + bias[c];
}

/* Scores become exp(score - largest); returns their sum. A NaN score makes the sum NaN, and so does
   +Inf. */
static float soften(float *scores, uint32_t count)
{
    float largest = -INFINITY;

    for (uint32_t p = 0; p < count; p++)
        if (scores[p] > largest) largest = scores[p];
    for (uint32_t p = 0; p < count; p++) scores[p] = expf(scores[p] - largest);
    return sum(scores, count);
}

static inline void attend(const float *q, const void *keys, const void *values, uint32_t count,
                          uint32_t stride, uint32_t head_dim, float *scores, float *out,
                          enum flin_type type)
{
    for (uint32_t p = 0; p < count; p++)
        scores[p] = dot(element_at(keys, (uint64_t)p * stride, type), head_dim, q, type);

    float total = soften(scores, count);

    for (uint32_t c = 0; c < head_dim; c++) out[c] = 0.0f;
    if (count == 0) return;
    for (uint32_t p = 0; p < count; p++)
        add_row(element_at(values, (uint64_t)p * stride, type), scores[p], 0, head_dim, out, type);
    for (uint32_t c = 0; c < head_dim; c++) out[c] /= total;
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

const flin_kernels flin_kernels_ref = {
    .name = "ref",
    .matvec = {[FLIN_F32] = matvec_f32, [FLIN_F16] = matvec_f16},
    .dot_rows = {[FLIN_F32] = dot_rows_f32, [FLIN_F16] = dot_rows_f16},
    .add_rows = {[FLIN_F32] = add_rows_f32, [FLIN_F16] = add_rows_f16},
    .to_float = {[FLIN_F32] = to_float_f32, [FLIN_F16] = to_float_f16},
    .to_half = to_half,
    .layer_norm = layer_norm,
    .attend = {[FLIN_F32] = attend_f32, [FLIN_F16] = attend_f16},
    .sketch_mask = flin_sketch_mask_ref,
    .sketch_scores = flin_sketch_scores_ref,
};
