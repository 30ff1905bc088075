/*
 * dense.h - neurons that are computed without being named: a layer's bundles from flash, chunk
 * after chunk, for the rows of a narrow pass.
 */
#ifndef FLIN_ENGINE_DENSE_H
#define FLIN_ENGINE_DENSE_H

#include "engine/neurons.h"
#include "engine/pass.h"

/* projected += what neurons [first, ffn) add in every row. */
int flin_dense_run(flin_pass *pass, uint32_t layer, uint32_t first, const flin_asking_rows *rows,
                   flashinfer_error *error);

/* A chunk's bundles as neurons; values and fires are the pass's. */
flin_neurons flin_dense_neurons(flin_pass *pass, const flin_chunk *chunk);

/* Activations of all of a chunk's neurons, damaged bundles read again. */
int flin_dense_activate(flin_pass *pass, const flin_chunk *chunk, const flin_neurons *neurons,
                        const flin_asking_rows *rows, flashinfer_error *error);

#endif
