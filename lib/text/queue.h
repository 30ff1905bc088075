/*
 * queue.h - numbers in line, smallest first: a binary heap in memory of the caller's.
 *
 * Owns: the order. Refuses: memory; the caller has room for what it pushes.
 */
#ifndef FLIN_TEXT_QUEUE_H
#define FLIN_TEXT_QUEUE_H

#include <stddef.h>
#include <stdint.h>

static inline void flin_queue_push(uint64_t *queue, size_t *count, uint64_t number)
{
    size_t at = (*count)++;

    while (at > 0 && queue[(at - 1) / 2] > number) {
        queue[at] = queue[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    queue[at] = number;
}

/* Take the smallest of *count > 0 numbers out. */
static inline uint64_t flin_queue_pop(uint64_t *queue, size_t *count)
{
    uint64_t top = queue[0], moving = queue[--*count];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= *count) break;
        if (child + 1 < *count && queue[child + 1] < queue[child]) child++;
        if (queue[child] >= moving) break;
        queue[at] = queue[child];
        at = child;
    }
    queue[at] = moving;
    return top;
}

#endif
