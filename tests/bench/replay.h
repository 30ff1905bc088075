/*
 * replay.h - what a cache would have missed of a trace, under the library's policies and under others they are held against.
 *
 *   replay.c         the library's cache itself, and the two below on a trace
 *   replay_others.c  the paper's window with memory of its own size, S3-FIFO, Belady's optimum
 */
#ifndef BENCH_REPLAY_H
#define BENCH_REPLAY_H

#include "flashinfer.h"
#include "trace.h"

/* Policies beside FLASHINFER_CACHE_... */
enum {
    REPLAY_PAPER_WINDOW =
        100, /* the longest window that never needs more than the slots, layers as they need */
    REPLAY_S3_FIFO = 101, /* equal slots for every layer */
    REPLAY_BELADY =
        102 /* who is wanted last leaves first, over all layers: nothing can be better */
};

typedef struct replay_misses {
    uint32_t *ids;  /* missing neurons, record after record */
    size_t *first;  /* (records + 1) */
    uint64_t total; /* after the skipped tokens */
    uint64_t wanted;
    uint32_t
        window; /* REPLAY_PAPER_WINDOW: its k; no k fits: UINT32_MAX, and everything is missing */
    double seconds; /* spent by the policy, on all tokens */
} replay_misses;

/* 0, or -1 without memory. skip: tokens at the start that fill the cache and are not counted. */
int replay_run(const recorded_trace *trace, uint32_t policy, uint32_t slots, uint32_t skip,
               replay_misses *misses);
void replay_release(replay_misses *misses);

/* For replay_others.c: called for each record's missing ids, ascending. */
int replay_window(const recorded_trace *trace, uint32_t slots, replay_misses *misses);
int replay_s3_fifo(const recorded_trace *trace, uint32_t slots, replay_misses *misses);
int replay_belady(const recorded_trace *trace, uint32_t slots, replay_misses *misses);
void replay_miss(replay_misses *misses, size_t record, uint32_t id);

#endif
