/*
 * normal.h - normalisation form C of texts, for the tokenizers that ask for it.
 *
 * Owns: deciding whether a text is normal, making it so. Refuses: other forms. Characters that came
 * with Unicode 10 and later stand as they are, as in Hugging Face tokenizers. So do bytes that are
 * not part of a UTF-8 character; nothing is composed across them.
 */
#ifndef FLIN_TEXT_NORMAL_H
#define FLIN_TEXT_NORMAL_H

#include "text/scratch.h"

/* What a text was normalised with: its memory grows as needed, and is the caller's to free. */
typedef struct flin_normaliser {
    flin_scratch text;  /* the normal text */
    flin_scratch codes; /* of the characters between two that stand as they are, and their order */
} flin_normaliser;

/* *normal becomes the text itself where that is normal, else a copy in the scratch. Returns 0, or
   -1 if there is no memory. */
int flin_normalise(flin_normaliser *with, const uint8_t *text, size_t bytes, const uint8_t **normal,
                   size_t *normal_bytes);

#endif
