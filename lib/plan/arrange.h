/*
 * arrange.h - resident matrices in the layout that the kernels are fastest with: Q4_0 with scales
 * apart from weights, where a table has products with such rows.
 *
 * Files keep GGUF's blocks, and so do bundles, which are read into their slots as they are. No
 * result depends on it, bit for bit.
 */
#ifndef FLIN_PLAN_ARRANGE_H
#define FLIN_PLAN_ARRANGE_H

#include "engine/compute.h"
#include "model/weights.h"

/* In place; once, after they were checked. */
void flin_arrange(flin_compute *compute, flin_weights *weights, uint32_t layers);

#endif
