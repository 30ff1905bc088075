/*
 * failing_heap.h - a heap that can be told to fail. For programs linked with
 * -Wl,--wrap=malloc,--wrap=calloc and compiled with FLIN_TEST_WRAP_MALLOC; without those the tests
 * that need it are left out.
 */
#ifndef FAILING_HEAP_H
#define FAILING_HEAP_H

#ifdef FLIN_TEST_WRAP_MALLOC
#include <stddef.h>

static int heap_fails; /* set it around the call under test only: cmocka needs the heap too */

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    return heap_fails ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return heap_fails ? NULL : __real_calloc(count, bytes);
}
#endif

#endif
