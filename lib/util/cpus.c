/*
 * cpus.c - systems that tell how many CPUs there are, not how many are ours.
 */
#include "util/cpus.h"

#include <unistd.h>

uint32_t flin_cpus(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);

    return online > 1 ? (uint32_t)online : 1;
}
