/*
 * layout.h - where everything lies that does not move with the budget.
 */
#ifndef FLIN_PLAN_LAYOUT_H
#define FLIN_PLAN_LAYOUT_H

#include "engine/state.h"

/* Place everything but slots and kept matrix rows in the arena: runs twice, measured for the plan,
   then real. The model has settings, storage, gguf, shape. */
int flin_layout(flashinfer_model *model, flin_arena *arena, flin_sections *sections,
                flashinfer_error *error);

/* Tables that planning needs already: layers, and the list of what may stream. */
int flin_layout_tables(flashinfer_model *model, flashinfer_error *error);

/* What a model opened for its metadata has: the tokenizer and a buffer to verify with. */
int flin_layout_listing(flashinfer_model *model, flin_arena *arena, flashinfer_error *error);

/* Where the predictors are: a predictor file while there is one, else the model. */
const flin_gguf *flin_predictor_file(const flashinfer_model *model);

#endif
