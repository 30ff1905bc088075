/*
 * zipf.h - the token sequence benchmarks decode: fixed, so that runs compare and nothing loops.
 *
 * Owns: the sequence. Refuses: meaning; a synthetic model's own output would repeat itself.
 */
#ifndef BENCH_ZIPF_H
#define BENCH_ZIPF_H

#include <stddef.h>
#include <stdint.h>

/* tokens: (count) ids below vocab, id r drawn with probability proportional to 1 / (r + 1). The same
   vocab and seed give the same tokens, of which a shorter count gives the first. 0, or -1 without
   memory. */
int bench_zipf_tokens(uint32_t vocab, uint64_t seed, int32_t *tokens, size_t count);

#endif
