/*
 * budget_text.h - a budget as people write it.
 *
 * Owns: what such a text means, to the byte. Refuses: locales, spaces, exponents, floating point.
 */
#ifndef FLIN_PLAN_BUDGET_TEXT_H
#define FLIN_PLAN_BUDGET_TEXT_H

#include "util/error.h"

/* As flashinfer_budget_parse(). */
int flin_budget_parse(const char *text, uint64_t file_bytes, uint64_t *budget_bytes,
                      flashinfer_error *error);

#endif
