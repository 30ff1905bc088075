/*
 * trace.h - a recorded trace: which neurons every layer of every step asked for (generate --trace, perplexity --trace).
 *
 * Owns: the file's format (examples/program.h) and its checks. Refuses: policies, timing.
 */
#ifndef EXAMPLES_TRACE_H
#define EXAMPLES_TRACE_H

#include <stddef.h>
#include <stdint.h>

typedef struct recorded_trace {
    char *model_path;
    uint32_t layers, neurons, stride_bytes;
    uint32_t tokens;         /* whole ones: all layers recorded */
    uint64_t *bundle_offset; /* (layers) in the model file */
    uint32_t *ids;           /* all of them, one record after the other */
    size_t *
        first; /* (tokens * layers + 1) record r, token by token, is ids [first[r], first[r + 1]) */
    size_t records;              /* so far, of those begun tokens too */
    size_t record_room, id_room; /* allocated */
} recorded_trace;

/* 0, or -1 with one line in problem. */
int recorded_trace_read(recorded_trace *trace, const char *path, char *problem, size_t capacity);
/* Another record of count ids, which the caller fills in; layers must be set. NULL: no memory. */
uint32_t *recorded_trace_append(recorded_trace *trace, uint32_t count);

void recorded_trace_close(recorded_trace *trace);

static inline uint32_t recorded_trace_count(const recorded_trace *trace, size_t record)
{
    return (uint32_t)(trace->first[record + 1] - trace->first[record]);
}

#endif
