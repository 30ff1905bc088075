/*
 * clock.h - monotonic time for statistics and time limits.
 */
#ifndef FLIN_UTIL_CLOCK_H
#define FLIN_UTIL_CLOCK_H

#include <stdint.h>

uint64_t flin_now_ns(void);

#endif
