/*
 * attend.h - one head of attention out of an overlay's own dot product, sum of rows and softmax.
 *
 * Owns: the order of positions, and when memory is asked for keys and values. Refuses: arithmetic.
 *
 * Keys and values of a head are two streams of short rows, one after the other: too few for the
 * hardware to keep the memory busy. So positions are gone through in blocks of about the same size,
 * each as four runs side by side, and rows are asked for well ahead, from a block's keys on to its
 * values. The order depends on the number of positions alone.
 */
#ifndef FLIN_KERNELS_ATTEND_H
#define FLIN_KERNELS_ATTEND_H

#include <math.h>

#include "kernels/view.h"

#define FLIN_ATTEND_SIDES 4u
#define FLIN_ATTEND_KEYS 8u    /* of one call */
#define FLIN_ATTEND_VALUES 16u /* of one call */
/* Rows asked for ahead; measured: 16 to 96 differ little, two or eight runs and the second cache
   are slower. */
#define FLIN_ATTEND_AHEAD 32u
/* Bytes of a row; longer ones are faster by what dot products and sums ask for themselves. */
#define FLIN_ATTEND_SHORT 256u

/* A softmax that runs along: what was added up before a larger score came is scaled down. */
typedef struct flin_softmax {
    float largest; /* -Inf: no score yet that counts */
    float total;
} flin_softmax;

/* What an overlay brings along; soften: scores (count) become exp(score - largest), out what it
   was by the scale it has now. */
typedef struct flin_attend_by {
    flin_view_dot *dot;
    flin_view_add *add;
    void (*soften)(flin_softmax *at, float *scores, uint32_t count, float *out, uint32_t head_dim);
} flin_attend_by;

typedef struct flin_head {
    const uint8_t *keys, *values;
    uint64_t step_bytes, row_bytes;
    uint32_t dim;
} flin_head;

/* Rows of positions [first, first + count) in the order they are taken in: the first of every
   run, the second of every run, and so on. */
static inline void flin_attend_order(const flin_head *h, const uint8_t *rows, uint32_t first,
                                     uint32_t count, const void **order)
{
    const uint32_t run = (count + FLIN_ATTEND_SIDES - 1) / FLIN_ATTEND_SIDES;

    for (uint32_t at = 0; at < run; at++)
        for (uint32_t p = at; p < count; p += run)
            *order++ = rows + (uint64_t)(first + p) * h->step_bytes;
}

/* Ask for rows [from, from + count) of an order that has `end`. */
static inline void flin_attend_ask(const flin_head *h, const void *const *order, uint32_t from,
                                   uint32_t count, uint32_t end)
{
    for (uint32_t p = from; p < from + count && p < end; p++)
        for (uint64_t byte = 0; byte < h->row_bytes; byte += 64)
            __builtin_prefetch((const uint8_t *)order[p] + byte);
}

/* Positions [first, first + count): at most FLIN_ATTEND_POSITIONS. Rows are handed to the
   overlay a few at a time if they are asked for here. */
static inline void flin_attend_block(const flin_attend_by *by, const flin_head *h, const void *q,
                                     uint32_t first, uint32_t count, flin_softmax *at,
                                     float *scores, float *out)
{
    const uint32_t asks = h->row_bytes <= FLIN_ATTEND_SHORT;
    const uint32_t keys = asks ? FLIN_ATTEND_KEYS : count,
                   values = asks ? FLIN_ATTEND_VALUES : count;
    const void *order[2 * FLIN_ATTEND_POSITIONS];

    flin_attend_order(h, h->keys, first, count, order);
    flin_attend_order(h, h->values, first, count, order + count);
    if (asks) flin_attend_ask(h, order, 0, FLIN_ATTEND_AHEAD, 2 * count);
    for (uint32_t p = 0; p < count; p += keys) {
        const flin_view rows = {order + p, NULL, 0, count - p < keys ? count - p : keys, asks};
        if (asks) flin_attend_ask(h, order, p + FLIN_ATTEND_AHEAD, keys, 2 * count);
        by->dot(&rows, h->dim, q, scores + p);
    }
    by->soften(at, scores, count, out, h->dim);
    for (uint32_t p = 0; p < count; p += values) {
        const flin_view rows = {order + count + p, NULL, 0, count - p < values ? count - p : values,
                                asks};
        if (asks) flin_attend_ask(h, order, count + p + FLIN_ATTEND_AHEAD, values, 2 * count);
        by->add(&rows, scores + p, 0, h->dim, out);
    }
}

/* q: floats or levels */
static inline void flin_attend(const flin_attend_by *by, enum flin_type type, const void *q,
                               const void *keys, const void *values, uint32_t count,
                               uint32_t stride, uint32_t head_dim, float *scores, float *out)
{
    const flin_head h = {keys, values, flin_type_bytes(type, stride),
                         flin_type_bytes(type, head_dim), head_dim};
    const uint32_t blocks = (count + FLIN_ATTEND_POSITIONS - 1) / FLIN_ATTEND_POSITIONS;
    flin_softmax at = {-INFINITY, 0};

    for (uint32_t c = 0; c < head_dim; c++) out[c] = 0.0f;
    for (uint32_t i = 0, first = 0; i < blocks; i++) {
        const uint32_t left = count - first, here = (left + blocks - i - 1) / (blocks - i);
        flin_attend_block(by, &h, q, first, here, &at, scores, out);
        first += here;
    }
    for (uint32_t c = 0; count != 0 && c < head_dim; c++) out[c] /= at.total;
}

#endif
