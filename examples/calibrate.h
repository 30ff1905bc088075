/*
 * calibrate.h - what the parts of calibrate hand on to each other: for every layer the candidates that were tried, then
 * a choice.
 *
 *   samples.c            running the model over the text       calibrate.c          options, the story, the report
 *   judge.c              thresholds, what they would name      calibrate_fit.c      a layer's candidates
 *   calibrate_choose.c   kinds and sizes under a budget        calibrate_factors.c  low-rank factors in closed form
 */
#ifndef EXAMPLES_CALIBRATE_H
#define EXAMPLES_CALIBRATE_H

#include "judge.h"

#define CALIBRATE_SKETCHES 4u /* of 1 to 4 bits */
#define CALIBRATE_RANKS 6u    /* of width / 32 to width */
#define CALIBRATE_CANDIDATES (CALIBRATE_SKETCHES + CALIBRATE_RANKS)
#define CALIBRATE_POINTS (JUDGE_RECALLS + 1) /* of a curve; the last at the wanted recall */

/* What naming a layer's neurons would cost in one way. */
typedef struct calibrate_candidate {
    uint32_t kind; /* FLASHINFER_PREDICTOR_SKETCH or _LOWRANK; 0: not tried */
    uint32_t size; /* bits, or rank */
    uint64_t bytes;
    judge_point points[CALIBRATE_POINTS];
    double share;  /* of the layer's neurons named at the wanted recall */
    double recall; /* reached */
    float *bias;   /* (neurons) thresholds for it */
} calibrate_candidate;

typedef struct calibrate_layer {
    double active; /* share of neurons that fire */
    calibrate_candidate candidates[CALIBRATE_CANDIDATES];
    uint32_t chosen;
} calibrate_layer;

/* Which kinds to try, and how many active neurons must be found. */
typedef struct calibrate_wish {
    int sketches, lowranks;
    uint32_t bits, rank; /* only these, if not 0 */
    uint32_t threads;
    double recall;
} calibrate_wish;

/* Try every candidate on a layer. predictor: scratch, its layer is overwritten. 0, or an error of the library or
   FLASHINFER_ENOMEM; the layer is to be closed in any case. */
int calibrate_fit(flashinfer_model *model, flashinfer_predictor *predictor, uint32_t layer,
                  const samples *from, const calibrate_wish *wish, calibrate_layer *found,
                  flashinfer_error *error);

/* Make the chosen candidate the predictor's layer. */
int calibrate_make(flashinfer_model *model, flashinfer_predictor *predictor, uint32_t layer,
                   const samples *from, const calibrate_layer *found, flashinfer_error *error);

void calibrate_layer_close(calibrate_layer *layer);

/* Factors of a matrix w (neurons, width) that lose least on a layer's inputs x: the best of their rank for the sum of
   squared errors of (w - up down) (x - mean). One decomposition serves all ranks. */
typedef struct calibrate_factors {
    uint32_t width, neurons, rank_max;
    float *down; /* (rank_max, width), the most important first */
    float *up;   /* (rank_max, neurons) */
} calibrate_factors;

/* 0, FLASHINFER_ENOMEM, or FLASHINFER_EINVAL where the decomposition fails. To be closed in any case. */
int calibrate_factors_open(calibrate_factors *factors, const judge *of, uint32_t rank_max);
void calibrate_factors_close(calibrate_factors *factors);

/* Mark the candidates that name fewest neurons within bytes; -1 if not even the smallest fit. */
int calibrate_choose(calibrate_layer *layers, uint32_t count, uint64_t bytes);

#endif
