/*
 * home.c - systems without pages that a child does not inherit: the number of the process.
 */
#define _POSIX_C_SOURCE 200809L
#include "util/home.h"

#include <string.h>
#include <unistd.h>

int flin_home_open(flin_home *home, flashinfer_error *error)
{
    (void)error;
    memset(home, 0, sizeof *home);
    home->process = getpid();
    return 0;
}

int flin_home_left(const flin_home *home)
{
    return home->process != getpid();
}

void flin_home_close(flin_home *home)
{
    memset(home, 0, sizeof *home);
}
