/*
 * home.h - is this still the process that something was made in, or a child forked from it?
 *
 * Owns: a mark that fork() does not hand on. Refuses: handlers run by fork(), which would outlive
 * the library.
 *
 * home_linux.c: a page that reads as zeros in a child. home.c elsewhere: the number of the process.
 * The build chooses.
 */
#ifndef FLIN_UTIL_HOME_H
#define FLIN_UTIL_HOME_H

#include <stdint.h>
#include <sys/types.h>

#include "util/error.h"

typedef struct flin_home {
    uint32_t *mark; /* 1 at home, 0 in a child; NULL: the number decides */
    uint64_t bytes; /* mapped: part of the plan */
    pid_t process;
} flin_home;

int flin_home_open(flin_home *home, flashinfer_error *error);

/* Was this process forked since? No system call where there is a mark. */
int flin_home_left(const flin_home *home);

void flin_home_close(flin_home *home); /* a zeroed one is fine; in a child too */

#endif
