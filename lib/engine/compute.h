/*
 * compute.h - what arithmetic is done with: a table of kernels, a tile for wide passes, threads.
 */
#ifndef FLIN_ENGINE_COMPUTE_H
#define FLIN_ENGINE_COMPUTE_H

#include "kernels/gemm/gemm.h"
#include "kernels/kernels.h"
#include "util/pool.h"

#define FLIN_GRAIN 16u /* matrix rows: where threads' parts of a matrix may end */

typedef struct flin_compute {
    const flin_kernels *kernels;
    flin_tile tile;
    flin_pool pool;
} flin_compute;

#endif
