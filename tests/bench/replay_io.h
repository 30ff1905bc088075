/*
 * replay_io.h - read what a policy missed, in the engine's own way, and say what it took.
 */
#ifndef BENCH_REPLAY_IO_H
#define BENCH_REPLAY_IO_H

#include "replay.h"
#include "util/error.h"

typedef struct replay_io {
    double seconds; /* nothing else running */
    uint64_t reads, bytes;
    uint64_t tokens;
} replay_io;

/* How bundles are read. */
enum {
    REPLAY_BUNDLED, /* each in one read, neighbours merged: the engine's way */
    REPLAY_APART    /* up row and down column in two reads that never touch, as without bundling */
};

/* Reads the missing bundles of at most `tokens` tokens after the skipped ones from the trace's model file (or path),
   layer by layer, direct I/O where the device has it. */
int replay_read(const recorded_trace *trace, const char *path, const replay_misses *misses,
                uint32_t skip, uint32_t tokens, int how, replay_io *result,
                flashinfer_error *error);

#endif
