/*
 * plain.h - reading memory and nothing else: what kernels and steps are held against.
 *
 * Owns: the fastest such loop that was found, eight streams asked for ahead; two without read up to a quarter slower.
 * Refuses: threads, clocks.
 */
#ifndef BENCH_PLAIN_H
#define BENCH_PLAIN_H

#include <stdint.h>

#define BENCH_PLAIN_STREAMS 8u

typedef uint64_t bench_vector __attribute__((vector_size(64)));

/* Reads `bytes` from `at`, 64-byte aligned, but for what is no whole number of vectors in every stream; the number keeps
   the loop alive. */
static inline uint64_t bench_plain_sum(const uint8_t *at, uint64_t bytes)
{
    const uint64_t stream =
        bytes / BENCH_PLAIN_STREAMS / sizeof(bench_vector) * sizeof(bench_vector);
    bench_vector sum[BENCH_PLAIN_STREAMS] = {{0}};

    for (uint64_t i = 0; i < stream; i += sizeof(bench_vector))
#pragma GCC unroll 8
        for (uint32_t k = 0; k < BENCH_PLAIN_STREAMS; k++) {
            const uint8_t *here = at + k * stream + i;
            __builtin_prefetch(here + 1024);
            sum[k] += *(const bench_vector *)(const void *)here;
        }
    for (uint32_t k = 1; k < BENCH_PLAIN_STREAMS; k++) sum[0] += sum[k];
    return sum[0][0] ^ sum[0][7];
}

#endif
