/*
 * replay_others.c - policies that the library does not have, to hold its own against.
 */
#include <stdlib.h>
#include <string.h>

#include "replay.h"

#define NEVER SIZE_MAX

/* next[i]: the record at which ids[i]'s neuron is wanted again, or NEVER; first uses: (layers * neurons), if not NULL */
static size_t *find_next_uses(const recorded_trace *trace)
{
    size_t records = (size_t)trace->tokens * trace->layers, keys;
    size_t *next = malloc((trace->first[records] + 1) * sizeof *next), *seen;

    keys = (size_t)trace->layers * trace->neurons;
    seen = malloc(keys * sizeof *seen);
    if (next == NULL || seen == NULL) {
        free(next);
        free(seen);
        return NULL;
    }
    for (size_t key = 0; key < keys; key++) seen[key] = NEVER;
    for (size_t r = records; r-- > 0;) {
        for (size_t i = trace->first[r]; i < trace->first[r + 1]; i++) {
            size_t key = r % trace->layers * trace->neurons + trace->ids[i];
            next[i] = seen[key];
            seen[key] = r;
        }
    }
    free(seen);
    return next;
}

/* ------------------------------------------------------------------------------ the paper's window */

/* The most neurons that a window of k tokens before the current one ever holds. change: (tokens + 1) */
static int64_t window_peak(const recorded_trace *trace, const size_t *next, uint32_t k,
                           int64_t *change)
{
    int64_t held = 0, peak = 0;

    memset(change, 0, (trace->tokens + 1u) * sizeof *change);
    for (size_t r = 0; r < (size_t)trace->tokens * trace->layers; r++) {
        size_t token = r / trace->layers;
        for (size_t i = trace->first[r]; i < trace->first[r + 1]; i++) {
            size_t until = token + k + 1,
                   again = next[i] == NEVER ? NEVER : next[i] / trace->layers;
            if (again < until) until = again;
            change[token]++;
            if (until < trace->tokens) change[until]--;
        }
    }
    for (uint32_t t = 0; t < trace->tokens; t++) {
        held += change[t];
        if (held > peak) peak = held;
    }
    return peak;
}

/* seen: (layers * neurons) the token after the last that wanted each, 0: none yet */
static void miss_outside(const recorded_trace *trace, uint32_t *seen, replay_misses *misses)
{
    for (size_t r = 0; r < (size_t)trace->tokens * trace->layers; r++) {
        uint32_t token = (uint32_t)(r / trace->layers);
        misses->first[r + 1] = misses->first[r];
        for (size_t i = trace->first[r]; i < trace->first[r + 1]; i++) {
            uint32_t *last = &seen[r % trace->layers * trace->neurons + trace->ids[i]];
            if (*last == 0 || misses->window == UINT32_MAX || token + 1 - *last > misses->window)
                replay_miss(misses, r, trace->ids[i]);
            *last = token + 1;
        }
    }
}

int replay_window(const recorded_trace *trace, uint32_t slots, replay_misses *misses)
{
    size_t *next = find_next_uses(trace);
    int64_t *change = malloc((trace->tokens + 1u) * sizeof *change);
    uint32_t *seen = calloc((size_t)trace->layers * trace->neurons, sizeof *seen), k = 0;
    int ready = next != NULL && change != NULL && seen != NULL;

    while (ready && k < trace->tokens && window_peak(trace, next, k, change) <= slots) k++;
    misses->window = k == 0 ? UINT32_MAX : k - 1;
    if (ready) miss_outside(trace, seen, misses);
    free(next);
    free(change);
    free(seen);
    return ready ? 0 : -1;
}

/* ----------------------------------------------------------------------------------------- S3-FIFO */

#define RING_BYTES(room) ((room) * sizeof(uint32_t))

typedef struct ring {
    uint32_t *ids; /* (room) */
    uint32_t room, head, count;
} ring;

static void push(ring *queue, uint32_t id)
{
    queue->ids[(queue->head + queue->count++) % queue->room] = id;
}

static uint32_t pop(ring *queue)
{
    uint32_t id = queue->ids[queue->head];

    queue->head = (queue->head + 1) % queue->room;
    queue->count--;
    return id;
}

enum { OUT, SMALL, MAIN };

/* One layer: a small queue for newcomers, a main one for who was wanted again, and names of who left the small one. */
typedef struct s3_fifo {
    ring small, main, ghost;
    uint8_t *place, *uses, *known, *wanted; /* (neurons) */
    uint32_t slots;
} s3_fifo;

static int s3_open(s3_fifo *cache, uint32_t neurons, uint32_t slots)
{
    memset(cache, 0, sizeof *cache);
    cache->slots = slots;
    cache->small.room = cache->main.room = cache->ghost.room = neurons + 1;
    cache->small.ids = malloc(RING_BYTES(neurons + 1u));
    cache->main.ids = malloc(RING_BYTES(neurons + 1u));
    cache->ghost.ids = malloc(RING_BYTES(neurons + 1u));
    cache->place = calloc(4, neurons);
    if (cache->place == NULL) return -1;
    cache->uses = cache->place + neurons;
    cache->known = cache->uses + neurons;
    cache->wanted = cache->known + neurons;
    return cache->small.ids != NULL && cache->main.ids != NULL && cache->ghost.ids != NULL ? 0 : -1;
}

static void s3_close(s3_fifo *cache)
{
    free(cache->small.ids);
    free(cache->main.ids);
    free(cache->ghost.ids);
    free(cache->place);
}

static void remember(s3_fifo *cache, uint32_t id)
{
    if (cache->known[id]) return;
    if (cache->ghost.count >= cache->slots) cache->known[pop(&cache->ghost)] = 0;
    push(&cache->ghost, id);
    cache->known[id] = 1;
}

/* One of the queues gives up a neuron that is not wanted now; wanted ones go round. */
static void s3_evict(s3_fifo *cache)
{
    for (;;) {
        int from_small = cache->small.count * 10 >= cache->slots || cache->main.count == 0;
        ring *queue = from_small ? &cache->small : &cache->main;
        uint32_t id = pop(queue);
        if (from_small && cache->uses[id] > 0 && !cache->wanted[id]) {
            cache->place[id] = MAIN;
            cache->uses[id] = 0;
            push(&cache->main, id);
        } else if (cache->wanted[id] || (!from_small && cache->uses[id] > 0)) {
            if (!cache->wanted[id]) cache->uses[id]--;
            cache->place[id] = MAIN;
            push(&cache->main, id);
        } else {
            cache->place[id] = OUT;
            if (from_small) remember(cache, id);
            return;
        }
    }
}

static void s3_admit(s3_fifo *cache, uint32_t id)
{
    if (cache->small.count + cache->main.count == cache->slots) s3_evict(cache);
    cache->uses[id] = 0;
    cache->place[id] = cache->known[id] ? MAIN : SMALL;
    push(cache->known[id] ? &cache->main : &cache->small, id);
}

static void s3_record(s3_fifo *cache, const recorded_trace *trace, size_t r, replay_misses *misses)
{
    size_t before = misses->first[r + 1];

    for (size_t i = trace->first[r]; i < trace->first[r + 1]; i++) {
        uint32_t id = trace->ids[i];
        if (cache->place[id] == OUT) {
            replay_miss(misses, r, id);
        } else {
            cache->wanted[id] = 1;
            if (cache->uses[id] < 3) cache->uses[id]++;
        }
    }
    /* more than fits: the rest passes through */
    for (size_t i = before; i < misses->first[r + 1]; i++) {
        uint32_t present =
            recorded_trace_count(trace, r) - (uint32_t)(misses->first[r + 1] - before);
        if (present + (i - before) < cache->slots) {
            s3_admit(cache, misses->ids[i]);
            cache->wanted[misses->ids[i]] = 1;
        }
    }
    for (size_t i = trace->first[r]; i < trace->first[r + 1]; i++) cache->wanted[trace->ids[i]] = 0;
}

int replay_s3_fifo(const recorded_trace *trace, uint32_t slots, replay_misses *misses)
{
    s3_fifo *caches = calloc(trace->layers, sizeof *caches);
    int code = caches != NULL ? 0 : -1;

    for (uint32_t i = 0; i < trace->layers && code == 0; i++)
        code = s3_open(&caches[i], trace->neurons, slots / trace->layers);
    for (size_t r = 0; r < (size_t)trace->tokens * trace->layers && code == 0; r++) {
        misses->first[r + 1] = misses->first[r];
        s3_record(&caches[r % trace->layers], trace, r, misses);
    }
    for (uint32_t i = 0; caches != NULL && i < trace->layers; i++) s3_close(&caches[i]);
    free(caches);
    return code;
}

/* ------------------------------------------------------------------------------------------ Belady */

typedef struct farthest {
    size_t at; /* record of the next use */
    uint32_t key;
} farthest;

typedef struct belady {
    farthest
        *heap; /* (count): the farthest on top; entries whose `at` is no longer the key's are old */
    size_t count;
    size_t *next;    /* (keys) */
    uint8_t *cached; /* (keys) */
    uint32_t used;
} belady;

static void heap_push(belady *cache, farthest entry)
{
    size_t at = cache->count++;

    for (; at != 0 && cache->heap[(at - 1) / 2].at < entry.at; at = (at - 1) / 2)
        cache->heap[at] = cache->heap[(at - 1) / 2];
    cache->heap[at] = entry;
}

static farthest heap_pop(belady *cache)
{
    farthest top = cache->heap[0], entry = cache->heap[--cache->count];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= cache->count) break;
        if (child + 1 < cache->count && cache->heap[child + 1].at > cache->heap[child].at) child++;
        if (cache->heap[child].at <= entry.at) break;
        cache->heap[at] = cache->heap[child];
        at = child;
    }
    cache->heap[at] = entry;
    return top;
}

/* Neurons that come and are not wanted again soon may leave at once, as if they had never taken a slot. */
static void belady_record(belady *cache, const recorded_trace *trace, const size_t *next, size_t r,
                          uint32_t slots, replay_misses *misses)
{
    size_t base = r % trace->layers * trace->neurons, before = misses->first[r + 1];

    for (size_t i = trace->first[r]; i < trace->first[r + 1]; i++) {
        size_t key = base + trace->ids[i];
        cache->next[key] = next[i]; /* its entry in the heap is now old */
        if (!cache->cached[key]) replay_miss(misses, r, trace->ids[i]);
        cache->cached[key] = 1;
        heap_push(cache, (farthest){next[i], (uint32_t)key});
    }
    cache->used += (uint32_t)(misses->first[r + 1] - before);
    while (cache->used > slots && cache->count != 0) {
        farthest victim = heap_pop(cache);
        if (!cache->cached[victim.key] || cache->next[victim.key] != victim.at) continue;
        cache->cached[victim.key] = 0;
        cache->used--;
    }
}

int replay_belady(const recorded_trace *trace, uint32_t slots, replay_misses *misses)
{
    size_t records = (size_t)trace->tokens * trace->layers;
    size_t keys = (size_t)trace->layers * trace->neurons;
    size_t *next = find_next_uses(trace);
    belady cache = {malloc((trace->first[records] + 1) * sizeof *cache.heap), 0,
                    calloc(keys, sizeof *cache.next), calloc(keys, 1), 0};
    int ready = next != NULL && cache.heap != NULL && cache.next != NULL && cache.cached != NULL;

    for (size_t r = 0; r < records && ready; r++) {
        misses->first[r + 1] = misses->first[r];
        belady_record(&cache, trace, next, r, slots, misses);
    }
    free(next);
    free(cache.heap);
    free(cache.next);
    free(cache.cached);
    return ready ? 0 : -1;
}
