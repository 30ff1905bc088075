/*
 * replay.c - run the library's own cache over a trace, without bytes in its slots.
 */
#include "replay.h"

#include <stdlib.h>
#include <string.h>

#include "cache/cache.h"
#include "util/clock.h"

void replay_miss(replay_misses *misses, size_t record, uint32_t id)
{
    misses->ids[misses->first[record + 1]++] = id;
}

/* One layer's turn, in as many waves as the engine would take. */
static void run_record(flin_cache *cache, const recorded_trace *trace, size_t record,
                       replay_misses *misses)
{
    uint32_t layer = (uint32_t)(record % trace->layers),
             count = recorded_trace_count(trace, record);
    const uint32_t *ids = trace->ids + trace->first[record];
    uint32_t most = flin_cache_wave_max(cache);

    for (uint32_t begin = 0; begin < count; begin += most) {
        uint32_t end = count - begin < most ? count : begin + most;
        size_t missed = misses->first[record + 1];
        flin_cache_begin(cache, layer, record / trace->layers + 1);
        for (uint32_t i = begin; i < end; i++)
            if (flin_cache_want(cache, layer, ids[i]) == FLIN_CACHE_NONE)
                replay_miss(misses, record, ids[i]);
        flin_cache_make_room(cache, layer, (uint32_t)(misses->first[record + 1] - missed));
        for (; missed < misses->first[record + 1]; missed++)
            (void)flin_cache_admit(cache, layer, misses->ids[missed]);
    }
}

static int run_cache(const recorded_trace *trace, uint32_t policy, uint32_t slots,
                     replay_misses *misses)
{
    flin_arena measure, arena;
    flin_cache cache = {.policy = policy};
    int code;

    flin_arena_measure(&measure);
    flin_cache_layout(&cache, &measure, trace->layers, trace->neurons, 64);
    code = flin_arena_open(&arena, measure.used, "the cache's tables", NULL);
    if (code != 0) return -1;
    flin_cache_layout(&cache, &arena, trace->layers, trace->neurons, 64);
    code = flin_cache_resize(&cache, slots, NULL);
    for (size_t r = 0; r < (size_t)trace->tokens * trace->layers && code == 0; r++) {
        misses->first[r + 1] = misses->first[r];
        run_record(&cache, trace, r, misses);
    }
    flin_cache_close(&cache);
    flin_arena_close(&arena);
    return code == 0 ? 0 : -1;
}

/* Without slots. */
static int miss_all(const recorded_trace *trace, replay_misses *misses)
{
    size_t records = (size_t)trace->tokens * trace->layers;

    memcpy(misses->ids, trace->ids, trace->first[records] * sizeof *misses->ids);
    memcpy(misses->first, trace->first, (records + 1) * sizeof *misses->first);
    return 0;
}

static int run_policy(const recorded_trace *trace, uint32_t policy, uint32_t slots,
                      replay_misses *misses)
{
    if (slots == 0) return miss_all(trace, misses);
    switch (policy) {
    case REPLAY_PAPER_WINDOW:
        return replay_window(trace, slots, misses);
    case REPLAY_S3_FIFO:
        return replay_s3_fifo(trace, slots, misses);
    case REPLAY_BELADY:
        return replay_belady(trace, slots, misses);
    default:
        return run_cache(trace, policy, slots, misses);
    }
}

int replay_run(const recorded_trace *trace, uint32_t policy, uint32_t slots, uint32_t skip,
               replay_misses *misses)
{
    size_t records = (size_t)trace->tokens * trace->layers;
    size_t skipped = (size_t)(skip < trace->tokens ? skip : 0) * trace->layers;
    uint64_t started_ns;
    int code;

    memset(misses, 0, sizeof *misses);
    misses->ids = malloc((trace->first[records] + 1) * sizeof *misses->ids);
    misses->first = calloc(records + 1, sizeof *misses->first);
    if (misses->ids == NULL || misses->first == NULL) {
        replay_release(misses);
        return -1;
    }
    started_ns = flin_now_ns();
    code = run_policy(trace, policy, slots, misses);
    misses->seconds = (double)(flin_now_ns() - started_ns) / 1e9;
    misses->total = misses->first[records] - misses->first[skipped];
    misses->wanted = trace->first[records] - trace->first[skipped];
    if (code != 0) replay_release(misses);
    return code;
}

void replay_release(replay_misses *misses)
{
    free(misses->ids);
    free(misses->first);
    memset(misses, 0, sizeof *misses);
}
