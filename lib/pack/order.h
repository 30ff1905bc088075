/*
 * order.h - in which order bundles should lie so that those wanted together can be read together.
 *
 * Owns: what tokens asked for, and the order learned from it. Refuses: files; packing moves the
 * bundles.
 */
#ifndef FLIN_PACK_ORDER_H
#define FLIN_PACK_ORDER_H

#include <stdint.h>

#include "util/error.h"

int flin_order_create(uint32_t layers, uint32_t neurons, flashinfer_order **order,
                      flashinfer_error *error);
int flin_order_add(flashinfer_order *order, const flashinfer_trace *trace, flashinfer_error *error);
void flin_order_destroy(flashinfer_order *order);

/* Does it speak of such a model? */
int flin_order_fits(const flashinfer_order *order, uint32_t layers, uint32_t neurons);

/* Called now and again while an order is learned; not 0 ends that with this code. */
typedef int (*flin_order_tick)(void *user, flashinfer_error *error);

/* rows: (neurons) the row of the layer's bundle tensor that each neuron's bundle gets. tick may be
   NULL. Takes memory for at most an eighth of the recorded bits as numbers, twice. */
int flin_order_learn(const flashinfer_order *order, uint32_t layer, uint32_t *rows,
                     flin_order_tick tick, void *user, flashinfer_error *error);

#endif
