/*
 * stream.h - a layer's bundles one after the other through two buffers, one computed while the
 * other fills: mode all, exact mode's neurons that no kept row names, prompts, the audit.
 *
 * Owns: buffers, chunks. Refuses: computing. Chunks come neuron by neuron, which is also the file's
 * order unless another was learned: then each bundle is a read of its own.
 */
#ifndef FLIN_ENGINE_STREAM_H
#define FLIN_ENGINE_STREAM_H

#include "engine/fetch.h"

typedef struct flin_stream {
    uint8_t *buffers[2]; /* (buffer_bytes) */
    uint32_t buffer_bytes;
    uint32_t chunk;           /* the most bundles of a chunk */
    uint32_t *ids;            /* (chunk) the neurons at hand, ascending */
    uint32_t *all;            /* (chunk) 0, 1, 2, ...: a list of all of them */
    const uint8_t **payloads; /* (chunk) where each lies */
    uint8_t *damaged;         /* (chunk) for who checks them */
} flin_stream;

/* Bundles whose bytes are at hand until the next chunk comes. */
typedef struct flin_chunk {
    const flin_extent *extent;
    uint32_t count;
    const uint32_t *ids;
    const uint8_t *const *payloads;
} flin_chunk;

/* Called for every chunk; checksums are its business. Anything but 0 ends the stream. */
typedef int (*flin_chunk_task)(const flin_chunk *chunk, void *context, flashinfer_error *error);

/* How large chunks and buffers are. */
void flin_stream_size(flin_stream *stream, const flin_bundle *bundle, uint32_t neurons,
                      uint32_t alignment);

/* Reads that a chunk, or a layer's missing neurons, are at most. */
uint32_t flin_stream_fetches(const flin_stream *stream, uint32_t neurons);

/* Lists and buffers; the buffers, which nothing fills meanwhile, are lent to verifying: they have
   `lent_bytes` together at least. */
void flin_stream_layout_lists(flin_stream *stream, flin_arena *arena);
void flin_stream_layout_buffers(flin_stream *stream, flin_arena *arena, uint32_t lent_bytes);

/* Neurons [first, end) of a layer, in order, chunk by chunk, through task. */
int flin_stream_run(flin_stream *stream, flin_fetcher *fetcher, const flin_extent *extent,
                    uint32_t first, uint32_t end, flin_chunk_task task, void *context,
                    flashinfer_error *error);

/* Read again what stream->damaged names. */
int flin_stream_mend(flin_stream *stream, flin_fetcher *fetcher, const flin_chunk *chunk,
                     flashinfer_error *error);

#endif
