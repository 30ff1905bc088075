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
    uint32_t gap_bytes;
} reader;

static void lay_out(reader *at, flin_arena *arena)
{
    flin_batch_limits limits = {at->most, READ_BYTES_MAX, at->gap_bytes, 0};

    at->batch = flin_batch_layout(arena, &at->storage, &limits);
    at->fetches = FLIN_TAKE(arena, flin_fetch, at->most);
    at->landed = FLIN_TAKE(arena, uint32_t, at->most);
    at->slots = flin_arena_take(arena, (uint64_t)at->most * at->slot_bytes, FLIN_PAGE_BYTES);
}

static int open_reader(reader *at, const recorded_trace *trace, const char *path,
                       flashinfer_error *error)
{
    const flin_storage_config config = {FLASHINFER_STORAGE_DEFAULT, 64, 4, 0, 30000000000u};
    flin_arena measure;
    int code = flin_storage_open_path(&at->storage, path, &config, error);

    if (code != 0) return code;
    at->slot_bytes = (uint32_t)flin_round_up(
        trace->stride_bytes + 2 * (uint64_t)at->storage.caps.alignment, FLIN_PAGE_BYTES);
    flin_arena_measure(&measure);
    lay_out(at, &measure);
    code = flin_arena_open(&at->arena, measure.used, "a layer's bundles", error);
    if (code == 0) lay_out(at, &at->arena);
    if (code == 0) memset(at->slots, 1, (size_t)at->most * at->slot_bytes);
    return code;
}

static void add_fetch(reader *at, uint32_t *count, uint64_t begin, uint64_t end)
{
    uint64_t alignment = at->storage.caps.alignment;
    flin_fetch *fetch = &at->fetches[*count];

    fetch->offset = flin_round_down(begin, alignment);
    fetch->bytes = (uint32_t)(flin_round_up(end, alignment) - fetch->offset);
    fetch->data = at->slots + (size_t)*count * at->slot_bytes;
    ++*count;
}

/* The halves of a layer's bundles, or whole ones: halves 0 up rows, 1 down columns, 2 both. */
static void add_layer(reader *at, const recorded_trace *trace, const replay_misses *misses,
                      size_t record, uint32_t layer, int halves, uint32_t *count)
{
    uint64_t stride = trace->stride_bytes, half = stride / 2;

    for (size_t i = misses->first[record]; i < misses->first[record + 1]; i++) {
        uint64_t begin = trace->bundle_offset[layer] + misses->ids[i] * stride;
        add_fetch(at, count, begin + (halves == 1 ? half : 0),
                  begin + (halves == 0 ? half : stride));
    }
}

/* Fetches of one record, in file order. Apart, the down columns come from a neighbouring layer, where they lie as far
   from the up rows as in a file without bundles. */
static uint32_t list_fetches(reader *at, const recorded_trace *trace, const replay_misses *misses,
                             size_t record, int how)
{
    uint32_t layer = (uint32_t)(record % trace->layers), first = layer, second = layer + 1;
    uint32_t count = 0;

    if (how == REPLAY_BUNDLED) {
        add_layer(at, trace, misses, record, layer, 2, &count);
        return count;
    }
    if (second == trace->layers && layer != 0) {
        first = layer - 1;
        second = layer;
    }
    add_layer(at, trace, misses, record, first, 0, &count);
    add_layer(at, trace, misses, record, second < trace->layers ? second : first, 1, &count);
    return count;
}

static int fetch_all(reader *at, uint32_t count, flashinfer_error *error)
{
    uint32_t landed = 0;
    int code = flin_batch_begin(at->batch, at->fetches, count, error);

    for (uint32_t left = count; left != 0 && code == 0; left -= landed)
        code = flin_batch_collect(at->batch, 1, at->landed, at->most, &landed, NULL, error);
    return code;
}

int replay_read(const recorded_trace *trace, const char *path, const replay_misses *misses,
                uint32_t skip, uint32_t tokens, int how, replay_io *result, flashinfer_error *error)
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
    at.gap_bytes = how == REPLAY_APART ? 0 : GAP_BYTES_MAX;
    at.most *= how == REPLAY_APART ? 2 : 1;
    if (at.most == 0) return 0;
    code = open_reader(&at, trace, path, error);
    started_ns = flin_now_ns();
    for (size_t r = (size_t)skip * trace->layers; r < (size_t)end * trace->layers && code == 0; r++)
        code = fetch_all(&at, list_fetches(&at, trace, misses, r, how), error);
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
