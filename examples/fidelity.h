/*
 * fidelity.h - what the parts of fidelity hand on to each other.
 *
 *   fidelity.c       options, the story, the report       samples.c   FFN inputs kept for the curves
 *   fidelity_run.c   all models over the text             judge.c     what thresholds could make of each predictor
 *   fidelity_plot.c  the curves as SVG
 */
#ifndef EXAMPLES_FIDELITY_H
#define EXAMPLES_FIDELITY_H

#include <stdio.h>

#include "judge.h"

#define FIDELITY_SUBJECTS 8u

/* What the audit saw of one layer. */
typedef struct fidelity_layer {
    uint64_t steps, predicted, active, missed;
    double output_square, missed_square; /* sums over steps of squared norms */
} fidelity_layer;

/* A model running by one predictor, compared with the exact one. */
typedef struct fidelity_subject {
    const char *name; /* path of a predictor file, or "own": the model file's */
    flashinfer_model *model;
    flashinfer_session *session;
    flashinfer_plan plan;
    flashinfer_stats stats;
    uint64_t predictor_bytes;       /* weights and thresholds, all layers */
    fidelity_layer *layers;         /* (layer_count) */
    double nll;                     /* sum over tokens */
    double kl;                      /* of the exact distribution from this one, sum over tokens */
    uint64_t same_top;              /* tokens whose likeliest next token is the exact one's */
    double curve[JUDGE_RECALLS][2]; /* recall, share of neurons named: mean over layers */
} fidelity_subject;

typedef struct fidelity {
    flashinfer_info info;
    fidelity_subject exact; /* layers, kl and same_top unused */
    fidelity_subject subjects[FIDELITY_SUBJECTS];
    uint32_t count;
    uint64_t tokens; /* scored */
    samples inputs;  /* for the curves; no path: not asked for */
} fidelity;

/* Run everything over windows of window_tokens ids. */
int fidelity_run(fidelity *at, const int32_t *ids, size_t count, uint32_t window_tokens,
                 uint32_t windows, flashinfer_error *error);

/* Fill every subject's curve from at->inputs. */
int fidelity_curves(fidelity *at, uint32_t threads, flashinfer_error *error);

/* 0, or -1 if the file took not all. */
int fidelity_plot(const fidelity *at, FILE *file);

/* Sums over layers. */
fidelity_layer fidelity_sum(const fidelity *at, const fidelity_subject *subject);

/* Share of active neurons that were named; 1 if none was active. */
double fidelity_recall(const fidelity_layer *layer);

#endif
