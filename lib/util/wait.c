/*
 * wait.c - POSIX: the condition variable itself counts by the monotonic clock.
 */
#define _GNU_SOURCE
#include "util/wait.h"

#include <time.h>

void flin_wait_init(pthread_cond_t *condition)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

int flin_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline_ns)
{
    struct timespec deadline = {(time_t)(deadline_ns / 1000000000u),
                                (long)(deadline_ns % 1000000000u)};

    return pthread_cond_timedwait(condition, mutex, &deadline);
}
