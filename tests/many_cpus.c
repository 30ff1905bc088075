/*
 * many_cpus.c - a machine of 64 CPUs: the linker takes this before the core's own, so that tests get the threads they ask
 * for wherever they run.
 */
#include "util/cpus.h"

uint32_t flin_cpus(void)
{
    return 64;
}
