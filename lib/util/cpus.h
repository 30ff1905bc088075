/*
 * cpus.h - how many CPUs this process may use at once.
 *
 * cpus_linux.c, or cpus.c where a system tells only how many there are; the build chooses.
 */
#ifndef FLIN_UTIL_CPUS_H
#define FLIN_UTIL_CPUS_H

#include <stdint.h>

#define FLIN_CPUS_NO_LIMIT UINT32_MAX

/* At least 1: those the calling thread may run on, no more than its control group pays for. Asks
   the system, so not while a model runs. */
uint32_t flin_cpus(void);

/* Linux: what a control group's cpu.max ("QUOTA PERIOD", "max PERIOD") pays for, rounded up;
   FLIN_CPUS_NO_LIMIT where it says nothing. */
uint32_t flin_cpus_of_quota(const char *text);

#endif
