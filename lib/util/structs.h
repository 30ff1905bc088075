/*
 * structs.h - public structs whose first field is their size: accepting an older or newer caller's,
 * answering it.
 */
#ifndef FLIN_UTIL_STRUCTS_H
#define FLIN_UTIL_STRUCTS_H

#include "util/error.h"

/* Copy the caller's struct over the defaults in own (own_bytes). Fields the caller does not know
   keep their defaults; a longer struct is fine as long as its unknown tail is zero. */
int flin_struct_accept(const void *user, void *own, size_t own_bytes, const char *name,
                       flashinfer_error *error);

/* Copy as much of own as the caller's struct has room for; the caller's size field stays. */
int flin_struct_answer(void *user, const void *own, size_t own_bytes);

#endif
