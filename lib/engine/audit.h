/*
 * audit.h - what a predictor misses while the model runs: at every nth token some layers are
 * computed densely beside the predicted way, which changes no result.
 *
 * Owns: whose turn it is, the counts. Refuses: acting on what it finds.
 */
#ifndef FLIN_ENGINE_AUDIT_H
#define FLIN_ENGINE_AUDIT_H

#include "engine/neurons.h"
#include "engine/pass.h"

/* For the rows whose turn it is in this layer, count what the names that they were just given have
   missed. */
int flin_audit(flin_pass *pass, uint32_t layer, const flin_asking_rows *rows,
               const flin_names *names, flashinfer_error *error);

#endif
