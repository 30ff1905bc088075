/*
 * windows.h - what programs that run a model over a text share: token ids from a file, and how surprising one was.
 */
#ifndef EXAMPLES_WINDOWS_H
#define EXAMPLES_WINDOWS_H

#include "flashinfer.h"

/* The ids of a text file, tokenized, or (text_path NULL) of a file of int32 ids. Free *ids, whatever is returned:
   0, an error of the library, or 1 after a line on stderr. */
int windows_ids(const flashinfer_model *model, const char *text_path, const char *ids_path,
                int32_t **ids, size_t *count, flashinfer_error *error);

/* log of the sum of exp(logits): logits minus this are log probabilities. */
double windows_log_sum(const float *logits, size_t vocab);

/* -log softmax(logits)[token] */
double windows_surprise(const float *logits, size_t vocab, int32_t token);

#endif
