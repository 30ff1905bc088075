/*
 * peer_side.h - what peer_run.c asks of an engine, so that both are driven and timed by the same code.
 *
 * Each program links one side: peer_flashinfer.c or peer_llama.c. A side has one model and one sequence.
 * Every function returns 0, or 1 after one line on stderr.
 */
#ifndef TESTS_BENCH_PEER_SIDE_H
#define TESTS_BENCH_PEER_SIDE_H

#include <stdint.h>

typedef struct peer_request {
    const char *model;
    const char *way; /* how weights get into memory; each side has words of its own */
    uint32_t threads, context_tokens;
} peer_request;

extern const char peer_ways[]; /* for the usage */

int peer_open(const peer_request *asked, uint32_t *vocab_count);

/* Logits are those after the last token, and complete when this returns. */
int peer_eval(int32_t *tokens, uint32_t count, float *first_logit);

void peer_close(void);

#endif
