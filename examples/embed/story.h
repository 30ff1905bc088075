/*
 * story.h - what the embedding examples share: continue a text greedily with a model that is open already.
 */
#ifndef EXAMPLES_EMBED_STORY_H
#define EXAMPLES_EMBED_STORY_H

#include <stdio.h>

#include "flashinfer.h"

#define STORY_PROMPT "Once upon a time"

/* The prompt and up to `tokens` more as one line to out. Takes a session of the model and gives it back. */
int story_tell(flashinfer_model *model, const char *prompt, unsigned tokens, FILE *out,
               flashinfer_error *error);

/* One line on stderr where code is not 0. Returns the exit code of a program. */
int story_end(int code, const flashinfer_error *error);

#endif
