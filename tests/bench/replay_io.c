/*
 * replay_io.c - one layer after another: begin its missing bundles, wait for all of them.
 */
#include "replay_io.h"

#include <string.h>

#include "cache/cache.h"
#include "storage/batch.h"
#include "util/clock.h"

#define READ_BYTES_MAX (256u * 1024u) /* as the engine merges */
#define GAP_BYTES_MAX 4096u

typedef struct reader {
    flin_storage storage;
    flin_arena arena;
    flin_batch *batch;
    flin_fetch *fetches; /* (most) */
    uint32_t *landed;    /* (most) */
    uint8_t *slots;      /* (most, slot_bytes) */
    uint32_t slot_bytes, most;
} reader;

static void lay_out(reader *at, flin_arena *arena, const bench_trace *trace)
{
    flin_batch_limits limits = {trace->neurons, READ_BYTES_MAX, GAP_BYTES_MAX, 0};

    at->batch = flin_batch_layout(arena, &at->storage, &limits);
    at->fetches = FLIN_TAKE(arena, flin_fetch, at->most);
    at->landed = FLIN_TAKE(arena, uint32_t, at->most);
    at->slots = flin_arena_take(arena, (uint64_t)at->most * at->slot_bytes, FLIN_PAGE_BYTES);
}

static int open_reader(reader *at, const bench_trace *trace, const char *path,
                       flashinfer_error *error)
{
    const flin_storage_config config = {FLASHINFER_STORAGE_DEFAULT, 64, 4, 0, 30000000000u};
    flin_arena measure;
    int code = flin_storage_open_path(&at->storage, path, &config, error);

    if (code != 0) return code;
    at->slot_bytes = (uint32_t)flin_round_up(
        trace->stride_bytes + 2 * (uint64_t)at->storage.caps.alignment, FLIN_PAGE_BYTES);
    flin_arena_measure(&measure);
    lay_out(at, &measure, trace);
    code = flin_arena_open(&at->arena, measure.used, "a layer's bundles", error);
    if (code == 0) lay_out(at, &at->arena, trace);
    if (code == 0) memset(at->slots, 1, (size_t)at->most * at->slot_bytes);
    return code;
}

static int read_record(reader *at, const bench_trace *trace, const replay_misses *misses,
                       size_t record, flashinfer_error *error)
{
    uint64_t alignment = at->storage.caps.alignment, left;
    uint32_t count = (uint32_t)(misses->first[record + 1] - misses->first[record]), landed;
    int code;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t begin = trace->bundle_offset[record % trace->layers] +
                         (uint64_t)misses->ids[misses->first[record] + i] * trace->stride_bytes;
        at->fetches[i].offset = flin_round_down(begin, alignment);
        at->fetches[i].bytes = (uint32_t)(flin_round_up(begin + trace->stride_bytes, alignment) -
                                          at->fetches[i].offset);
        at->fetches[i].data = at->slots + (size_t)i * at->slot_bytes;
    }
    code = flin_batch_begin(at->batch, at->fetches, count, error);
    for (left = count; left != 0 && code == 0; left -= landed)
        code = flin_batch_collect(at->batch, 1, at->landed, at->most, &landed, NULL, error);
    return code;
}

int replay_read(const bench_trace *trace, const char *path, const replay_misses *misses,
                uint32_t skip, uint32_t tokens, replay_io *result, flashinfer_error *error)
{
    reader at;
    uint32_t end = trace->tokens - skip < tokens ? trace->tokens : skip + tokens;
    uint64_t started_ns;
    int code;

    memset(&at, 0, sizeof at);
    memset(result, 0, sizeof *result);
    for (size_t r = 0; r < (size_t)trace->tokens * trace->layers; r++)
        if (misses->first[r + 1] - misses->first[r] > at.most)
            at.most = (uint32_t)(misses->first[r + 1] - misses->first[r]);
    if (at.most == 0) return 0;
    code = open_reader(&at, trace, path, error);
    started_ns = flin_now_ns();
    for (size_t r = (size_t)skip * trace->layers; r < (size_t)end * trace->layers && code == 0; r++)
        code = read_record(&at, trace, misses, r, error);
    result->seconds = (double)(flin_now_ns() - started_ns) / 1e9;
    if (at.batch != NULL) {
        result->reads = flin_batch_read_counts(at.batch).reads;
        result->bytes = flin_batch_read_counts(at.batch).bytes;
    }
    result->tokens = end - skip;
    flin_storage_close(&at.storage);
    flin_arena_close(&at.arena);
    return code;
}
