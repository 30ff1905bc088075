/*
 * zipf.c - Zipf's law with exponent 1 by inverting its distribution function.
 */
#include "zipf.h"

#include <stdlib.h>

/* SplitMix64 */
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int bench_zipf_tokens(uint32_t vocab, uint64_t seed, int32_t *tokens, size_t count)
{
    double *below = malloc(((size_t)vocab + 1) * sizeof *below); /* sum of 1 / (r + 1) up to r */

    if (below == NULL) return -1;
    below[0] = 0;
    for (uint32_t i = 0; i < vocab; i++) below[i + 1] = below[i] + 1.0 / (i + 1.0);
    for (size_t i = 0; i < count; i++) {
        double at = (double)(next(&seed) >> 11) * 0x1p-53 * below[vocab];
        uint32_t low = 0, high = vocab - 1;
        while (low < high) { /* the last r whose tokens begin at or before `at` */
            uint32_t middle = low + (high - low + 1) / 2;
            if (below[middle] <= at)
                low = middle;
            else
                high = middle - 1;
        }
        tokens[i] = (int32_t)low;
    }
    free(below);
    return 0;
}
