/*
 * wait_darwin.c - macOS and iOS have no pthread_condattr_setclock(), but waits for a span of time.
 */
#include "util/wait.h"

#include <errno.h>
#include <time.h>

#include "util/clock.h"

void flin_wait_init(pthread_cond_t *condition)
{
    pthread_cond_init(condition, NULL);
}

int flin_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline_ns)
{
    uint64_t now_ns = flin_now_ns();
    uint64_t left_ns = deadline_ns - now_ns;
    struct timespec left = {(time_t)(left_ns / 1000000000u), (long)(left_ns % 1000000000u)};

    if (now_ns >= deadline_ns) return ETIMEDOUT;
    return pthread_cond_timedwait_relative_np(condition, mutex, &left);
}
