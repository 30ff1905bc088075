/*
 * decoder.h - token ids to text while they arrive, never cutting a UTF-8 character in two, and
 * never showing part of a stop string.
 *
 * Owns: flashinfer_decoder, the at most three bytes that wait for the rest of their character, and
 * whether a text has begun. Stop strings are stops.h's.
 * Refuses: vocabularies.
 */
#ifndef FLIN_TEXT_DECODER_H
#define FLIN_TEXT_DECODER_H

#include "text/tokenizer.h"

/* As flashinfer_decoder_...(): the tokenizer must outlive the decoder. All memory is taken here,
   from the heap: about four times the longest token. */
int flin_decoder_create(const flin_tokenizer *tokenizer, flashinfer_decoder **decoder,
                        flashinfer_error *error);

/* A stream may be the middle of a text, so its first space is given, unless the bos token came
   before it: then the space that the tokenizer puts before a text is left out.
   Token -1 gives what is left and makes the decoder as new. A refused token changes nothing; *text
 * is then "". */
int flin_decoder_push(flashinfer_decoder *decoder, int32_t token, const char **text,
                      size_t *text_bytes, flashinfer_error *error);

/* Stop strings in place of those before, count 0: none. A failure changes nothing. */
int flin_decoder_set_stops(flashinfer_decoder *decoder, const char *const *texts,
                           const size_t *text_bytes, size_t count, flashinfer_error *error);
int32_t flin_decoder_stopped(const flashinfer_decoder *decoder);

void flin_decoder_destroy(flashinfer_decoder *decoder); /* NULL is fine */

#endif
