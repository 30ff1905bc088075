/*
 * capped.c - see capped.h. Positions are taken in order, FLIN_ATTEND_POSITIONS at a time; what was
 * added up before a larger score came is scaled down.
 */
#include "engine/capped.h"

#include <math.h>

#define TOGETHER 64u /* rows handed to a kernel at once */

typedef struct softmax {
    float largest;
    float total;
} softmax;

/* Pointers to rows [first, first + count). */
static void point_at(const void *base, uint64_t row_bytes, uint32_t first, uint32_t count,
                     const void **rows)
{
    for (uint32_t i = 0; i < count; i++) rows[i] = (const uint8_t *)base + (first + i) * row_bytes;
}

/* Scores (count) become exp(score - largest), out what it was by the scale it has now. */
static void soften(softmax *at, float cap, float *scores, uint32_t count, float *out,
                   uint32_t width)
{
    float largest = at->largest, scale;

    for (uint32_t i = 0; i < count; i++) {
        scores[i] = cap * tanhf(scores[i] / cap);
        if (scores[i] > largest) largest = scores[i];
    }
    scale = expf(at->largest - largest);
    for (uint32_t c = 0; c < width; c++) out[c] *= scale;
    at->total *= scale;
    at->largest = largest;
    for (uint32_t i = 0; i < count; i++) {
        scores[i] = expf(scores[i] - largest);
        at->total += scores[i];
    }
}

void flin_attend_capped(const flin_kernels *kernels, enum flin_type type, float cap, const float *q,
                        const void *keys, const void *values, uint32_t count, uint32_t width,
                        void *scratch, float *out)
{
    const uint64_t row_bytes = flin_type_bytes(type, width);
    float *scores = scratch;
    void *levels = scores + FLIN_ATTEND_POSITIONS;
    const void *x = flin_type_quantised(type) ? levels : q, *rows[TOGETHER];
    softmax at = {-cap, 0}; /* no score is less */

    if (flin_type_quantised(type)) kernels->quantise(q, width, levels);
    for (uint32_t c = 0; c < width; c++) out[c] = 0;
    for (uint32_t first = 0, here; first < count; first += here) {
        here = count - first < FLIN_ATTEND_POSITIONS ? count - first : FLIN_ATTEND_POSITIONS;
        for (uint32_t i = 0, some; i < here; i += some) {
            some = here - i < TOGETHER ? here - i : TOGETHER;
            point_at(keys, row_bytes, first + i, some, rows);
            kernels->dot_rows[type](rows, some, width, x, scores + i);
        }
        soften(&at, cap, scores, here, out, width);
        for (uint32_t i = 0, some; i < here; i += some) {
            some = here - i < TOGETHER ? here - i : TOGETHER;
            point_at(values, row_bytes, first + i, some, rows);
            kernels->add_rows[type](rows, scores + i, some, 0, width, out);
        }
    }
    for (uint32_t c = 0; count != 0 && c < width; c++) out[c] /= at.total;
}
