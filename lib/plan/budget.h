/*
 * budget.h - a model's claims on memory, divided at open and whenever the budget moves.
 */
#ifndef FLIN_PLAN_BUDGET_H
#define FLIN_PLAN_BUDGET_H

#include "engine/state.h"

/* Add up everything that does not move with the budget, into model->sections. model needs settings,
   storage, gguf and shape; nothing is allocated. */
int flin_budget_measure(flashinfer_model *model, flashinfer_error *error);

/* Divide a budget (0: as much as is of use). A budget below plan->minimum_bytes is no failure here:
   planned_bytes is then the minimum. share may be NULL. */
void flin_budget_divide(const flashinfer_model *model, uint64_t budget_bytes, flashinfer_plan *plan,
                        flin_share *share);

/* What opening reads from the file under the share at hand. */
uint64_t flin_budget_open_bytes(const flin_weights *weights, const flin_residency *residency,
                                const flin_share *share);

/* The one error text for a budget that is too small. */
int flin_budget_refuse(const flashinfer_plan *plan, flashinfer_error *error);

/* Give shares, slots and kept matrix rows their new sizes: what shrinks first, so that their sum
   never passes the larger of the plans. */
int flin_budget_apply(flashinfer_model *model, const flin_share *share, flashinfer_error *error);

#endif
