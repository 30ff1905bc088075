/*
 * judge.h - how well a predictor names the neurons of one layer that fire, and with which thresholds it would do best.
 *
 * What decides whether a neuron fires is the sum z of its gate row where the FFN is gated, else of its up row, less the
 * activation's threshold. It is estimated from the score s as slope * s + mean, with an error of some spread; the three
 * are measured on every other window of the samples (the even ones). All neurons of a layer then get as many of their own
 * spreads as slack, which names a neuron when its chance that z is above 0 is above one bound for all. How many is read
 * off the other windows: as few as find the wanted share of what fires there.
 */
#ifndef EXAMPLES_JUDGE_H
#define EXAMPLES_JUDGE_H

#include "samples.h"

typedef struct judge {
    const samples *from;
    uint32_t layer, count, width, neurons, threads;
    float *rows;    /* (neurons, width) that decide */
    float *z;       /* (count, neurons) above 0: the neuron may fire */
    uint8_t *fires; /* (count, neurons) */
    float *scores; /* (count, neurons) of the predictor looked at, then the slack each would need */
    float *slope, *mean, *spread; /* (neurons) */
    float *firing;                /* (firing_count) slack needed by what fires, ascending */
    uint64_t firing_count;        /* on judged tokens */
} judge;

/* Where curves are looked at: 0.9 to 0.999. */
#define JUDGE_RECALLS 8u
extern const double judge_recalls[JUDGE_RECALLS];

/* What one slack gives on the judged windows. */
typedef struct judge_point {
    double recall; /* wanted, and reached */
    double share;  /* of the layer's neurons named */
    float slack;
} judge_point;

/* A layer's truth. Two windows are the least. All but close return 0, an error of the library or FLASHINFER_ENOMEM. */
int judge_open(judge *at, flashinfer_model *model, uint32_t layer, const samples *from,
               uint32_t threads, flashinfer_error *error);
void judge_close(judge *at);

/* Score every sample with a predictor's layer and measure the errors. */
int judge_look(judge *at, const flashinfer_predictor *predictor, flashinfer_error *error);

/* Of the predictor looked at: points[i].recall is wanted (at most 16), the rest is filled in. */
void judge_points(const judge *at, judge_point *points, uint32_t count);

/* Biases (neurons) for a slack. */
void judge_bias(const judge *at, float slack, float *bias);

/* Share of neurons that fire on judged tokens. */
double judge_active(const judge *at);

/* c (rows, cols) = a (rows, inner) . b (cols, inner) transposed; row-major. */
void judge_product(const float *a, const float *b, uint32_t rows, uint32_t cols, uint32_t inner,
                   float *c);

#endif
