/*
 * attend.h - one head of attention out of an overlay's own dot product, sum of rows and softmax.
 *
 * Owns: the order of positions, and when memory is asked for keys and values. Refuses: arithmetic.
 *
 * Keys and values of a head are two streams of short rows in turn, which the hardware is slow to follow; where a cache
 * keeps all heads of a position together it sees none at all. So rows are asked for some positions ahead, into the
 * second cache, from keys on to values and from values to the next keys.
 */
#ifndef FLIN_KERNELS_ATTEND_H
#define FLIN_KERNELS_ATTEND_H

#include <math.h>

#include "kernels/view.h"

#define FLIN_ATTEND_KEYS 8u    /* of one call */
#define FLIN_ATTEND_VALUES 16u /* of one call */
/* Rows asked for ahead; measured: more or fewer are slower, and so is the first cache. */
#define FLIN_ATTEND_AHEAD 16u
/* Bytes of a row; longer ones are faster by what dot products and sums ask for themselves. */
#define FLIN_ATTEND_SHORT 256u

/* A softmax that runs along: what was added up before a larger score came is scaled down. */
typedef struct flin_softmax {
    float largest; /* -Inf: no score yet that counts */
    float total;
} flin_softmax;

/* What an overlay brings along; soften: scores (count) become exp(score - largest), out what it was by the scale it
   has now. */
typedef struct flin_attend_by {
    flin_view_dot *dot;
    flin_view_add *add;
    void (*soften)(flin_softmax *at, float *scores, uint32_t count, float *out, uint32_t head_dim);
} flin_attend_by;

typedef struct flin_head {
    const uint8_t *keys, *values;
    uint64_t step_bytes, row_bytes;
    uint32_t count, dim;
} flin_head;

/* Keys and values are gone through in turn, a block of positions of each. Asks for `count` rows of that order from
   `from` on. */
static inline void flin_attend_ask(const flin_head *h, uint64_t from, uint32_t count)
{
    const uint64_t block = from / (2 * FLIN_ATTEND_POSITIONS);
    const uint64_t at = from % (2 * FLIN_ATTEND_POSITIONS);
    const uint64_t position = block * FLIN_ATTEND_POSITIONS + at % FLIN_ATTEND_POSITIONS;
    const uint8_t *rows = at < FLIN_ATTEND_POSITIONS ? h->keys : h->values;

    for (uint64_t p = position; p < position + count && p < h->count; p++)
        for (uint64_t byte = 0; byte < h->row_bytes; byte += 64)
            __builtin_prefetch(rows + p * h->step_bytes + byte, 0, 2);
}

/* `most` rows from `position` on, or as many as are left. */
static inline flin_view flin_head_rows(const flin_head *h, const uint8_t *rows, uint32_t position,
                                       uint32_t left, uint32_t most, uint32_t asked)
{
    const flin_view view = {NULL, rows + (uint64_t)position * h->step_bytes, h->step_bytes,
                            left < most ? left : most, asked};

    return view;
}

/* q: floats or levels */
static inline void flin_attend(const flin_attend_by *by, enum flin_type type, const void *q,
                               const void *keys, const void *values, uint32_t count,
                               uint32_t stride, uint32_t head_dim, float *scores, float *out)
{
    const flin_head h = {
        keys,  values,  flin_type_bytes(type, stride), flin_type_bytes(type, head_dim),
        count, head_dim};
    const uint32_t asks = h.row_bytes <= FLIN_ATTEND_SHORT;
    const uint32_t keys_step = asks ? FLIN_ATTEND_KEYS : FLIN_ATTEND_POSITIONS;
    const uint32_t values_step = asks ? FLIN_ATTEND_VALUES : FLIN_ATTEND_POSITIONS;
    flin_softmax at = {-INFINITY, 0};

    for (uint32_t c = 0; c < head_dim; c++) out[c] = 0.0f;
    if (asks) flin_attend_ask(&h, 0, FLIN_ATTEND_AHEAD);
    for (uint32_t first = 0; first < count; first += FLIN_ATTEND_POSITIONS) {
        const uint32_t left = count - first,
                       here = left < FLIN_ATTEND_POSITIONS ? left : FLIN_ATTEND_POSITIONS;
        const uint64_t soon = 2 * (uint64_t)first + FLIN_ATTEND_AHEAD;

        for (uint32_t p = 0; p < here; p += keys_step) {
            const flin_view rows = flin_head_rows(&h, h.keys, first + p, here - p, keys_step, asks);
            if (asks) flin_attend_ask(&h, soon + p, keys_step);
            by->dot(&rows, head_dim, q, scores + p);
        }
        by->soften(&at, scores, here, out, head_dim);
        for (uint32_t p = 0; p < here; p += values_step) {
            const flin_view rows =
                flin_head_rows(&h, h.values, first + p, here - p, values_step, asks);
            if (asks) flin_attend_ask(&h, soon + FLIN_ATTEND_POSITIONS + p, values_step);
            by->add(&rows, scores + p, 0, head_dim, out);
        }
    }
    for (uint32_t c = 0; count != 0 && c < head_dim; c++) out[c] /= at.total;
}

#endif
