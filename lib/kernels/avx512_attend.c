/*
 * avx512_attend.c - one head of attention with AVX-512, its softmax running along.
 *
 * Owns: the softmax, and when memory is asked for keys and values. Refuses: products (the dot and add functions of this
 * overlay).
 *
 * A cache that keeps all heads of a position together has the positions of one head a power of two apart: few of
 * their lines fit the first cache at a time, and the hardware sees no stream. So rows are asked for some positions ahead,
 * into the second cache, from keys on to values and from values to the next keys.
 */
#include <math.h>

#include "kernels/avx512.h"

#define KEYS 8u        /* of one call */
#define ROWS_AHEAD 16u /* measured: more or fewer are slower, and so is the first cache */

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

/* One head's cache and what goes through it. */
typedef struct head {
    const uint8_t *keys, *values;
    uint64_t step_bytes, row_bytes;
    uint32_t count, dim;
    flin_rows_dot *dot;
    flin_rows_add *add;
} head;

static head head_of(const void *keys, const void *values, uint32_t count, uint32_t stride,
                    uint32_t head_dim, type_t type)
{
    head h = {keys,
              values,
              flin_type_bytes(type, stride),
              flin_type_bytes(type, head_dim),
              count,
              head_dim,
              NULL,
              NULL};

    h.dot = type == FLIN_F32   ? flin_avx512_dot_f32
            : type == FLIN_F16 ? flin_avx512_dot_f16
                               : flin_avx512_dot_q8_0;
    h.add = type == FLIN_F32   ? flin_avx512_add_f32
            : type == FLIN_F16 ? flin_avx512_add_f16
                               : flin_avx512_add_q8_0;
    return h;
}

/* Keys and values are gone through in turn, a block of positions of each. Asks for `count` rows of that order from
   `from` on. */
INLINE void ask(const head *h, uint64_t from, uint32_t count)
{
    const uint64_t block = from / (2 * FLIN_ATTEND_POSITIONS),
                   at = from % (2 * FLIN_ATTEND_POSITIONS);
    const int is_key = at < FLIN_ATTEND_POSITIONS;
    const uint64_t position = block * FLIN_ATTEND_POSITIONS + at % FLIN_ATTEND_POSITIONS;
    const uint8_t *rows = is_key ? h->keys : h->values;

    for (uint64_t p = position; p < position + count && p < h->count; p++)
        for (uint64_t byte = 0; byte < h->row_bytes; byte += 64)
            _mm_prefetch((const char *)rows + p * h->step_bytes + byte, _MM_HINT_T1);
}

/* q: floats or levels */
static void attend(const head *h, const void *q, float *scores, float *out)
{
    softmax at = {-INFINITY, 0};

    for (uint32_t c = 0; c < h->dim; c++) out[c] = 0.0f;
    ask(h, 0, ROWS_AHEAD);
    for (uint32_t first = 0; first < h->count; first += FLIN_ATTEND_POSITIONS) {
        const uint32_t left = h->count - first,
                       here = left < FLIN_ATTEND_POSITIONS ? left : FLIN_ATTEND_POSITIONS;

        for (uint32_t p = 0; p < here; p += KEYS) {
            const flin_rows rows = {NULL, h->keys + (first + p) * h->step_bytes, h->step_bytes,
                                    here - p < KEYS ? here - p : KEYS, 1};
            ask(h, 2 * (uint64_t)first + p + ROWS_AHEAD, KEYS);
            h->dot(&rows, h->dim, q, scores + p);
        }
        soften(&at, scores, here, out, h->dim);
        for (uint32_t p = 0; p < here; p += ADDED) {
            const flin_rows rows = {NULL, h->values + (first + p) * h->step_bytes, h->step_bytes,
                                    here - p < ADDED ? here - p : ADDED, 1};
            ask(h, 2 * (uint64_t)first + FLIN_ATTEND_POSITIONS + p + ROWS_AHEAD, ADDED);
            h->add(&rows, scores + p, 0, h->dim, out);
        }
    }
    for (uint32_t c = 0; h->count != 0 && c < h->dim; c++) out[c] /= at.total;
}

void flin_avx512_attend_f32(const float *q, const void *keys, const void *values, uint32_t count,
                            uint32_t stride, uint32_t head_dim, void *scratch, float *out)
{
    const head h = head_of(keys, values, count, stride, head_dim, FLIN_F32);

    attend(&h, q, scratch, out);
}

void flin_avx512_attend_f16(const float *q, const void *keys, const void *values, uint32_t count,
                            uint32_t stride, uint32_t head_dim, void *scratch, float *out)
{
    const head h = head_of(keys, values, count, stride, head_dim, FLIN_F16);

    attend(&h, q, scratch, out);
}

void flin_avx512_attend_q8_0(const float *q, const void *keys, const void *values, uint32_t count,
                             uint32_t stride, uint32_t head_dim, void *scratch, float *out)
{
    const head h = head_of(keys, values, count, stride, head_dim, FLIN_Q8_0);
    float *levels = (float *)scratch + FLIN_ATTEND_POSITIONS;

    flin_avx512_quantise(q, head_dim, levels);
    attend(&h, levels, scratch, out);
}
