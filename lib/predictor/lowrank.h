/*
 * lowrank.h - two thin factors whose product stands for the up (gate) matrix, or was trained to
 * name the neurons likely to fire (paper, section 3.1: rank 128, 1024 in the last layers).
 *
 * Owns: the score. Refuses: files, threads, finding the factors.
 *
 *     h = down . x                 (rank)    or its positive part: relu
 *     score = up . h + bias        (rows)    a neuron is named if its score is above 0
 *
 * Every score is one dot product in the kernels' fixed order, so threads cannot change a name.
 */
#ifndef FLIN_PREDICTOR_LOWRANK_H
#define FLIN_PREDICTOR_LOWRANK_H

#include "kernels/kernels.h"
#include "util/error.h"

#define FLIN_LOWRANK_RANK_MAX 16384u

/* One layer's factors as they lie in memory and in the file. */
typedef struct flin_lowrank {
    uint32_t rows; /* neurons */
    uint32_t cols; /* inputs d */
    uint32_t rank;
    uint32_t relu;       /* 1: only the positive part of h counts */
    enum flin_type type; /* of both factors */
    const void *down;    /* (rank, cols): blk.N.fc1.weight */
    const void *up;      /* (rows, rank): blk.N.fc2.weight */
    const float *bias;   /* (rows): blk.N.fc2.bias */
} flin_lowrank;

/* Bytes of both factors and the bias. */
uint64_t flin_lowrank_bytes(const flin_lowrank *lowrank);

/* Finite numbers everywhere? Else FLASHINFER_EFORMAT, naming layer and neuron (for `down` the
   layer). */
int flin_lowrank_check(const flin_lowrank *lowrank, const flin_kernels *kernels, int layer,
                       flashinfer_error *error);

/* For several inputs, at most FLIN_INPUTS_MAX: hidden[i][begin..end) of the rank, then
   scores[i][begin..end) of the neurons. x: (inputs) floats (cols); hidden[i]: (rank). */
void flin_lowrank_hidden(const flin_lowrank *lowrank, const flin_kernels *kernels,
                         const void *const *x, uint32_t inputs, uint32_t begin, uint32_t end,
                         float *const *hidden);
void flin_lowrank_scores(const flin_lowrank *lowrank, const flin_kernels *kernels,
                         const void *const *hidden, uint32_t inputs, uint32_t begin, uint32_t end,
                         float *const *scores);

#endif
