/*
 * describe.h - what is said about a model: info, log.
 */
#ifndef FLIN_PLAN_DESCRIBE_H
#define FLIN_PLAN_DESCRIBE_H

#include "engine/state.h"

/* Count parameters, name predictors, read the model's name: what info says beside the shape. */
int flin_describe(flashinfer_model *model, flashinfer_error *error);

void flin_model_info(const flashinfer_model *model, flashinfer_info *info);

/* The plan in a line of the host's log. */
void flin_describe_plan(const flashinfer_model *model);

#endif
