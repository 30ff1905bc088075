/*
 * ref/floats.c - kernels in plain C, with ref/blocks.c and ref/vectors.c all of them: the meaning
 * the overlays are tested against, and all there is on a CPU without one.
 *
 * Owns: clarity. Refuses: intrinsics, assumptions about alignment beyond what kernels.h promises.
 *
 * A dot product keeps LANES partial sums, element c in lane c % LANES, and folds them as a tree:
 * that is its one fixed order, it rounds less than one long chain, and a compiler can vectorise it
 * without being allowed to reorder sums.
 */
#include "kernels/ref/shared.h"

#include <math.h>

#include "util/half.h"

#define LANES 8u

/* Elements are copied out because rows are only promised to be 2-byte aligned. */
static inline float element(const void *row, uint64_t c, enum flin_type type)
{
    if (type == FLIN_F16 || type == FLIN_BF16) {
        uint16_t half;
        memcpy(&half, (const uint8_t *)row + c * sizeof half, sizeof half);
        return type == FLIN_F16 ? flin_float_from_half(half) : flin_float_from_bfloat(half);
    }
    float value;
    memcpy(&value, (const uint8_t *)row + c * sizeof value, sizeof value);
    return value;
}

static inline const void *element_at(const void *matrix, uint64_t c, enum flin_type type)
{
    return (const uint8_t *)matrix + flin_type_bytes(type, c);
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

static void matvec_f32(const void *w, uint32_t rows, uint32_t cols, const void *x,
                       const float *bias, float *y)
{
    matvec(w, rows, cols, x, bias, y, FLIN_F32);
}

static void matvecs_f32(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                        uint32_t inputs, const float *bias, float *const *y)
{
    for (uint32_t i = 0; i < inputs; i++) matvec_f32(w, rows, cols, x[i], bias, y[i]);
}

static void matvec_f16(const void *w, uint32_t rows, uint32_t cols, const void *x,
                       const float *bias, float *y)
{
    matvec(w, rows, cols, x, bias, y, FLIN_F16);
}

static void matvecs_f16(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                        uint32_t inputs, const float *bias, float *const *y)
{
    for (uint32_t i = 0; i < inputs; i++) matvec_f16(w, rows, cols, x[i], bias, y[i]);
}

void flin_ref_matvec_bf16(const void *w, uint32_t rows, uint32_t cols, const void *x,
                          const float *bias, float *y)
{
    matvec(w, rows, cols, x, bias, y, FLIN_BF16);
}

void flin_ref_matvecs_bf16(const void *w, uint32_t rows, uint32_t cols, const void *const *x,
                           uint32_t inputs, const float *bias, float *const *y)
{
    for (uint32_t i = 0; i < inputs; i++) flin_ref_matvec_bf16(w, rows, cols, x[i], bias, y[i]);
}

static void dot_rows_f32(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                         float *y)
{
    for (uint32_t i = 0; i < count; i++) y[i] = dot(rows[i], cols, x, FLIN_F32);
}

static void dot_rows_f16(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                         float *y)
{
    for (uint32_t i = 0; i < count; i++) y[i] = dot(rows[i], cols, x, FLIN_F16);
}

void flin_ref_dot_rows_bf16(const void *const *rows, uint32_t count, uint32_t cols, const void *x,
                            float *y)
{
    for (uint32_t i = 0; i < count; i++) y[i] = dot(rows[i], cols, x, FLIN_BF16);
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

void flin_ref_add_rows_bf16(const void *const *rows, const float *a, uint32_t count, uint32_t begin,
                            uint32_t end, float *y)
{
    for (uint32_t i = 0; i < count; i++) add_row(rows[i], a[i], begin, end, y, FLIN_BF16);
}

static void to_float_f32(const void *row, uint32_t cols, float *to)
{
    for (uint32_t c = 0; c < cols; c++) to[c] = element(row, c, FLIN_F32);
}

static void to_float_f16(const void *row, uint32_t cols, float *to)
{
    for (uint32_t c = 0; c < cols; c++) to[c] = element(row, c, FLIN_F16);
}

void flin_ref_to_float_bf16(const void *row, uint32_t cols, float *to)
{
    for (uint32_t c = 0; c < cols; c++) to[c] = element(row, c, FLIN_BF16);
}

void flin_ref_from_float_f32(const float *x, uint32_t cols, void *row)
{
    memcpy(row, x, cols * sizeof *x);
}

static void from_float_f16(const float *x, uint32_t cols, void *row)
{
    uint16_t *to = row;

    for (uint32_t c = 0; c < cols; c++) to[c] = flin_half_from_float(x[c]);
}

void flin_ref_from_float_bf16(const float *x, uint32_t cols, void *row)
{
    uint16_t *to = row;

    for (uint32_t c = 0; c < cols; c++) to[c] = flin_bfloat_from_float(x[c]);
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

/* A softmax that runs along: what was added up before a larger score came is scaled down. */
typedef struct softmax {
    float largest; /* -Inf: no score yet that counts */
    float total;
} softmax;

/* Scores (count) become exp(score - largest), out what it was by the scale it has now. A NaN
   score makes the total NaN, and so does +Inf. */
static void soften(softmax *at, float *scores, uint32_t count, float *out, uint32_t head_dim)
{
    float largest = at->largest, scale;

    for (uint32_t p = 0; p < count; p++)
        if (scores[p] > largest) largest = scores[p];
    if (largest > at->largest) {
        scale = expf(at->largest - largest); /* 0 at first */
        for (uint32_t c = 0; c < head_dim; c++) out[c] *= scale;
        at->total *= scale;
        at->largest = largest;
    }
    for (uint32_t p = 0; p < count; p++) /* none is larger than -Inf: they weigh nothing */
        scores[p] = scores[p] == -INFINITY ? 0.0f : expf(scores[p] - largest);
    at->total += sum(scores, count);
}

static float score_of(const void *key, uint32_t head_dim, const float *q, const void *levels,
                      enum flin_type type)
{
    return type == FLIN_Q8_0 ? flin_ref_dot_q8_0(key, head_dim, levels)
                             : dot(key, head_dim, q, type);
}

static inline void attend(const float *q, const void *keys, const void *values, uint32_t count,
                          uint32_t stride, uint32_t head_dim, void *scratch, float *out,
                          enum flin_type type)
{
    float *scores = scratch;
    void *levels = scores + FLIN_ATTEND_POSITIONS;
    softmax at = {-INFINITY, 0};

    for (uint32_t c = 0; c < head_dim; c++) out[c] = 0.0f;
    if (type == FLIN_Q8_0) flin_ref_quantise(q, head_dim, levels);
    for (uint32_t first = 0; first < count; first += FLIN_ATTEND_POSITIONS) {
        uint32_t here =
            count - first < FLIN_ATTEND_POSITIONS ? count - first : FLIN_ATTEND_POSITIONS;
        for (uint32_t p = 0; p < here; p++)
            scores[p] = score_of(element_at(keys, (uint64_t)(first + p) * stride, type), head_dim,
                                 q, levels, type);
        soften(&at, scores, here, out, head_dim);
        for (uint32_t p = 0; p < here; p++) {
            const void *row = element_at(values, (uint64_t)(first + p) * stride, type);
            if (type == FLIN_Q8_0)
                flin_ref_add_rows_q8_0(&row, &scores[p], 1, 0, head_dim, out);
            else
                add_row(row, scores[p], 0, head_dim, out, type);
        }
    }
    for (uint32_t c = 0; count != 0 && c < head_dim; c++) out[c] /= at.total;
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

void flin_ref_attend_q8_0(const float *q, const void *keys, const void *values, uint32_t count,
                          uint32_t stride, uint32_t head_dim, void *scratch, float *out)
{
    attend(q, keys, values, count, stride, head_dim, scratch, out, FLIN_Q8_0);
}

const flin_kernels flin_kernels_ref = {
    .name = "ref",
    .quantise = flin_ref_quantise,
    .matvec = {matvec_f32, matvec_f16, flin_ref_matvec_bf16, flin_ref_matvec_q8_0,
               flin_ref_matvec_q4_0, FLIN_QUANTS(flin_ref_matvec)},
    .matvecs = {matvecs_f32, matvecs_f16, flin_ref_matvecs_bf16, flin_ref_matvecs_q8_0,
                flin_ref_matvecs_q4_0, FLIN_QUANTS(flin_ref_matvecs)},
    .dot_rows = {dot_rows_f32, dot_rows_f16, flin_ref_dot_rows_bf16, flin_ref_dot_rows_q8_0,
                 flin_ref_dot_rows_q4_0, FLIN_QUANTS(flin_ref_dot_rows)},
    .add_rows = {add_rows_f32, add_rows_f16, flin_ref_add_rows_bf16, flin_ref_add_rows_q8_0,
                 flin_ref_add_rows_q4_0},
    .to_float = {to_float_f32, to_float_f16, flin_ref_to_float_bf16, flin_ref_to_float_q8_0,
                 flin_ref_to_float_q4_0, FLIN_QUANTS(flin_ref_to_float)},
    .from_float = {flin_ref_from_float_f32, from_float_f16, flin_ref_from_float_bf16,
                   flin_ref_from_float_q8_0, flin_ref_from_float_q4_0},
    .layer_norm = layer_norm,
    .rms_norm = flin_ref_rms_norm,
    .activate = {flin_ref_relu, flin_ref_relu2, flin_ref_silu},
    .rotate = flin_ref_rotate,
    .attend =
        {[FLIN_F32] = attend_f32, [FLIN_F16] = attend_f16, [FLIN_Q8_0] = flin_ref_attend_q8_0},
    .sketch_input = flin_sketch_input,
    .sketch_mask = flin_sketch_mask_ref,
    .sketch_scores = flin_sketch_scores_ref,
};
