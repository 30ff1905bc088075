/*
 * stream.c - see stream.h.
 */
#include "engine/stream.h"

#include <assert.h>

#define PIECE_BYTES (256u * 1024u) /* a chunk is read in pieces, so that several are in flight */
#define CHUNK_BYTES_MIN (64u * 1024u)
#define CHUNK_BYTES_MAX (8u << 20) /* prompts: enough neurons for every thread's products */

/* Neurons [first, first + count) on their way into one of the two buffers. */
typedef struct filling {
    uint32_t first, count;
    uint32_t buffer;
    uint64_t begin, end; /* rounded, in the file; 0 if each bundle is a read of its own */
} filling;

/* ---------------------------------------------------------------------------------------- sizes */

/* Bytes of a buffer that one bundle takes. */
static uint32_t unit_of(const flin_bundle *bundle, uint32_t alignment)
{
    if (!bundle->ordered) return bundle->stride_bytes;
    return (uint32_t)flin_round_up((uint64_t)bundle->stride_bytes + alignment - 1, alignment);
}

/* Chunks of about a sixty-fourth of a layer: big enough for sequential speed, small beside any
   sensible budget. */
void flin_stream_size(flin_stream *stream, const flin_bundle *bundle, uint32_t neurons,
                      uint32_t alignment)
{
    uint64_t unit = unit_of(bundle, alignment), bytes = unit * neurons / 64;

    if (bytes < CHUNK_BYTES_MIN) bytes = CHUNK_BYTES_MIN;
    if (bytes > CHUNK_BYTES_MAX) bytes = CHUNK_BYTES_MAX;
    stream->chunk = (uint32_t)(bytes / unit);
    if (stream->chunk == 0) stream->chunk = 1;
    if (stream->chunk > neurons) stream->chunk = neurons;
    stream->buffer_bytes = (uint32_t)flin_round_up(
        (uint64_t)stream->chunk * unit + 2 * (uint64_t)alignment, FLIN_PAGE_BYTES);
}

uint32_t flin_stream_fetches(const flin_stream *stream, uint32_t neurons)
{
    uint32_t pieces = stream->buffer_bytes / PIECE_BYTES + 1;

    return pieces > neurons ? pieces : neurons;
}

void flin_stream_layout_lists(flin_stream *stream, flin_arena *arena)
{
    stream->ids = FLIN_TAKE(arena, uint32_t, stream->chunk);
    stream->all = FLIN_TAKE(arena, uint32_t, stream->chunk);
    stream->payloads = FLIN_TAKE(arena, const uint8_t *, stream->chunk);
    stream->damaged = FLIN_TAKE(arena, uint8_t, stream->chunk);
    for (uint32_t i = 0; stream->all != NULL && i < stream->chunk; i++) stream->all[i] = i;
}

void flin_stream_layout_buffers(flin_stream *stream, flin_arena *arena, uint32_t lent_bytes)
{
    uint64_t bytes = 2 * (uint64_t)stream->buffer_bytes;
    uint8_t *base =
        flin_arena_take(arena, bytes > lent_bytes ? bytes : lent_bytes, FLIN_PAGE_BYTES);

    stream->buffers[0] = base;
    stream->buffers[1] = base != NULL ? base + stream->buffer_bytes : NULL;
}

/* --------------------------------------------------------------------------------------- chunks */

static filling fill_from(const flin_stream *stream, const flin_bundle *bundle,
                         const flin_extent *extent, uint32_t first, uint32_t end, uint32_t buffer)
{
    filling at = {first, end - first, buffer, 0, 0};
    uint64_t begin = flin_extent_begin(extent, first);

    if (at.count > stream->chunk) at.count = stream->chunk;
    if (bundle->ordered) return at;
    at.begin = flin_round_down(begin, extent->alignment);
    at.end = flin_round_up(begin + (uint64_t)at.count * extent->stride_bytes, extent->alignment);
    assert(at.end - at.begin <= stream->buffer_bytes);
    return at;
}

/* A chunk in one piece of the file. */
static uint32_t list_pieces(const flin_stream *stream, flin_fetcher *fetcher, const filling *at)
{
    uint32_t count = 0;

    for (uint64_t offset = at->begin; offset < at->end; offset += PIECE_BYTES) {
        uint64_t bytes = at->end - offset < PIECE_BYTES ? at->end - offset : PIECE_BYTES;
        fetcher->fetches[count].offset = offset;
        fetcher->fetches[count].data = stream->buffers[at->buffer] + (offset - at->begin);
        fetcher->fetches[count++].bytes = (uint32_t)bytes;
    }
    return count;
}

/* A chunk of bundles from all over the layer, each to a place of one unit. fetcher->at_list
   receives which of them each read is. */
static uint32_t list_bundles(flin_stream *stream, flin_fetcher *fetcher, const flin_extent *extent,
                             const filling *at)
{
    uint32_t unit = unit_of(fetcher->bundle, extent->alignment);
    uint32_t *list = fetcher->at_list;

    for (uint32_t i = 0; i < at->count; i++) {
        stream->ids[i] = at->first + i;
        list[i] = i;
    }
    flin_fetch_sort(fetcher, extent->bundles, stream->ids, list, at->count);
    for (uint32_t i = 0; i < at->count; i++)
        (void)flin_fetch_put(fetcher, i, extent, at->first + list[i],
                             stream->buffers[at->buffer] + (uint64_t)list[i] * unit);
    return at->count;
}

static int begin_filling(flin_stream *stream, flin_fetcher *fetcher, const flin_extent *extent,
                         const filling *at, flashinfer_error *error)
{
    uint32_t count = fetcher->bundle->ordered ? list_bundles(stream, fetcher, extent, at)
                                              : list_pieces(stream, fetcher, at);

    return flin_fetch_begin(fetcher, count, error);
}

/* The neuron a failed read was for; of a piece of many, the one it begins in. */
static uint32_t neuron_of(const flin_fetcher *fetcher, const flin_extent *extent, const filling *at,
                          uint32_t failed)
{
    uint64_t first = flin_extent_begin(extent, at->first);
    uint64_t offset = fetcher->fetches[failed].offset;

    if (fetcher->bundle->ordered) return at->first + fetcher->at_list[failed];
    return offset > first ? at->first + (uint32_t)((offset - first) / extent->stride_bytes)
                          : at->first;
}

/* Wait until the chunk is there. */
static int finish_filling(flin_fetcher *fetcher, const flin_extent *extent, const filling *at,
                          flashinfer_error *error)
{
    uint32_t landed, failed = 0;
    int code;

    do {
        code = flin_fetch_collect(fetcher, &landed, &failed, error);
    } while (code == 0 && landed != 0);
    if (code == 0) return 0;
    if (error != NULL && error->size >= sizeof *error) {
        error->layer = (int32_t)extent->layer;
        error->neuron = neuron_of(fetcher, extent, at, failed);
    }
    return code;
}

/* Where the chunk's bundles lie in their buffer. */
static flin_chunk hand_out(flin_stream *stream, const flin_bundle *bundle,
                           const flin_extent *extent, const filling *at)
{
    uint32_t unit = unit_of(bundle, extent->alignment);
    const uint8_t *buffer = stream->buffers[at->buffer];

    for (uint32_t i = 0; i < at->count; i++) {
        stream->ids[i] = at->first + i;
        stream->payloads[i] =
            bundle->ordered ? buffer + (uint64_t)i * unit + flin_extent_lead(extent, at->first + i)
                            : buffer + (flin_extent_begin(extent, at->first + i) - at->begin);
    }
    return (flin_chunk){extent, at->count, stream->ids, stream->payloads};
}

int flin_stream_run(flin_stream *stream, flin_fetcher *fetcher, const flin_extent *extent,
                    uint32_t first, uint32_t end, flin_chunk_task task, void *context,
                    flashinfer_error *error)
{
    filling now, next;
    flin_chunk chunk;
    int code;

    if (first >= end) return 0;
    now = fill_from(stream, fetcher->bundle, extent, first, end, 0);
    code = begin_filling(stream, fetcher, extent, &now, error);
    while (code == 0) {
        uint32_t reached = now.first + now.count;
        code = finish_filling(fetcher, extent, &now, error);
        if (code != 0) break;
        if (reached < end) {
            next = fill_from(stream, fetcher->bundle, extent, reached, end, now.buffer ^ 1);
            code = begin_filling(stream, fetcher, extent, &next, error);
            if (code != 0) break;
        }
        chunk = hand_out(stream, fetcher->bundle, extent, &now);
        code = task(&chunk, context, error);
        if (code != 0 || reached >= end) break;
        now = next;
    }
    if (code != 0) flin_batch_abandon(fetcher->batch);
    return code;
}

int flin_stream_mend(flin_stream *stream, flin_fetcher *fetcher, const flin_chunk *chunk,
                     flashinfer_error *error)
{
    int code = 0;

    for (uint32_t i = 0; i < chunk->count && code == 0; i++) {
        /* payloads point into our own buffers */
        uint8_t *payload = stream->buffers[0] + (chunk->payloads[i] - stream->buffers[0]);
        if (stream->damaged[i])
            code = flin_fetch_again(fetcher, chunk->extent, chunk->ids[i], payload, error);
    }
    return code;
}
