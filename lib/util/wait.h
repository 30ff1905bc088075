/*
 * wait.h - condition variables with a deadline by flin_now_ns(), which setting the wall clock does
 * not move.
 *
 * wait.c, or wait_darwin.c where condition variables know the wall clock only; the build chooses.
 */
#ifndef FLIN_UTIL_WAIT_H
#define FLIN_UTIL_WAIT_H

#include <pthread.h>
#include <stdint.h>

void flin_wait_init(pthread_cond_t *condition);

/* As pthread_cond_timedwait(): 0 when woken, for whatever reason, else an errno value such as
   ETIMEDOUT. */
int flin_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline_ns);

#endif
