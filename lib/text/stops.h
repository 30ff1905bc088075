/*
 * stops.h - stop strings in a text that comes in pieces.
 *
 * Owns: the strings, and the end of the text so far that may be the beginning of one: it is held
 * back until the next pieces tell. Refuses: tokens, and text that is no UTF-8.
 */
#ifndef FLIN_TEXT_STOPS_H
#define FLIN_TEXT_STOPS_H

#include <stddef.h>

#include "util/error.h"

typedef struct flin_stops flin_stops;

/* texts: (count), copied; text_bytes: (count), NULL: they end with a zero. piece_bytes: of the
   longest piece. before: what was in its place, whose held text comes first; NULL: nothing. All
   memory is taken here. */
int flin_stops_create(const char *const *texts, const size_t *text_bytes, size_t count,
                      size_t piece_bytes, const flin_stops *before, flin_stops **stops,
                      flashinfer_error *error);

/* The next piece of whole characters; with at_end nothing is held back. *text: what can be shown,
   with a zero behind it, until the next call: up to the first stop string to be complete, and
   nothing after it until the end. Of those that end together the longest counts. */
void flin_stops_push(flin_stops *stops, const char *piece, size_t piece_bytes, int at_end,
                     const char **text, size_t *text_bytes);

/* Which string stopped the text: its index; -1: none. Stands after the end until the next push. */
int32_t flin_stops_found(const flin_stops *stops);

void flin_stops_destroy(flin_stops *stops); /* NULL is fine */

#endif
