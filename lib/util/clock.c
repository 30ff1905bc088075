/*
 * clock.c - the one place that asks the system for the time.
 */
#define _GNU_SOURCE
#include "util/clock.h"

#include <time.h>

uint64_t flin_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
