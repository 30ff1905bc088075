/*
 * reads.c - how fast the library's storage reads a file: random reads of one size at one depth, through the same batch
 * that the engine uses. tests/bench/fio.py holds it against fio.
 */
#include <stdlib.h>
#include <string.h>

#include "program.h"
#include "storage/batch.h"
#include "util/clock.h"

static const char usage[] =
    "Reads a file at random and prints bytes and reads per second as JSON.\n"
    "reads FILE [--storage libaio|io_uring|pread|buffered] [--size BYTES] "
    "[--depth N] [--lanes N] [--seconds S]\n"
    "  random reads of SIZE (default 32K), DEPTH in flight (default 64), "
    "LANES threads of pread (default 4)";

#define FETCHES_MIN 256u

typedef struct reader {
    flin_storage storage;
    flin_arena arena;
    flin_batch *batch;
    flin_fetch *fetches; /* (count) */
    uint32_t *landed;    /* (count) */
    uint8_t *data;       /* (count, size) */
    uint32_t count, size;
    uint64_t random;
} reader;

static void lay_out(reader *at, flin_arena *arena)
{
    flin_batch_limits limits = {at->count, at->size, 0, 0};

    at->batch = flin_batch_layout(arena, &at->storage, &limits);
    at->fetches = FLIN_TAKE(arena, flin_fetch, at->count);
    at->landed = FLIN_TAKE(arena, uint32_t, at->count);
    at->data = flin_arena_take(arena, (uint64_t)at->count * at->size, FLIN_PAGE_BYTES);
}

static int open_reader(reader *at, const char *path, const flin_storage_config *config,
                       flashinfer_error *error)
{
    flin_arena measure;
    int code = flin_storage_open_path(&at->storage, path, config, error);

    if (code != 0) return code;
    if (at->size % at->storage.caps.alignment != 0 || at->size > at->storage.caps.length_bytes)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "--size must be a multiple of %u and no more than the file",
                         at->storage.caps.alignment);
    flin_arena_measure(&measure);
    lay_out(at, &measure);
    code = flin_arena_open(&at->arena, measure.used, "reads", error);
    if (code != 0) return code;
    lay_out(at, &at->arena);
    memset(at->data, 1, (size_t)at->count * at->size);
    return 0;
}

static uint64_t next_random(reader *at)
{
    at->random ^= at->random << 13;
    at->random ^= at->random >> 7;
    at->random ^= at->random << 17;
    return at->random;
}

static int by_offset(const void *left, const void *right)
{
    const flin_fetch *first = left, *second = right;
    return (first->offset > second->offset) - (first->offset < second->offset);
}

/* One batch of random reads, ascending as the engine's are. */
static int read_batch(reader *at, flashinfer_error *error)
{
    uint64_t places = at->storage.caps.length_bytes / at->size;
    uint32_t landed = 0;
    int code;

    for (uint32_t i = 0; i < at->count; i++)
        at->fetches[i] = (flin_fetch){next_random(at) % places * at->size,
                                      at->data + (size_t)i * at->size, at->size, 0};
    qsort(at->fetches, at->count, sizeof *at->fetches, by_offset);
    code = flin_batch_begin(at->batch, at->fetches, at->count, error);
    for (uint32_t left = at->count; left != 0 && code == 0; left -= landed)
        code = flin_batch_collect(at->batch, 1, at->landed, at->count, &landed, NULL, error);
    return code;
}

static int measure(reader *at, float seconds, flashinfer_error *error)
{
    uint64_t begin_ns = flin_now_ns(), end_ns = begin_ns + (uint64_t)(1e9 * (double)seconds);
    flin_batch_counts counts;
    double took;
    int code = 0;

    while (code == 0 && flin_now_ns() < end_ns) code = read_batch(at, error);
    if (code != 0) return code;
    took = (double)(flin_now_ns() - begin_ns) / 1e9;
    counts = flin_batch_read_counts(at->batch);
    (void)printf("{\"storage\": \"%s\", \"size\": %u, \"bytes_per_s\": %.0f, \"reads_per_s\": "
                 "%.1f, \"submit_share\": %.4f}\n",
                 at->storage.name, at->size, (double)counts.bytes / took,
                 (double)counts.reads / took, (double)counts.submit_ns / 1e9 / took);
    return 0;
}

int main(int argc, char **argv)
{
    const char *path = NULL, *kind = NULL, *size = NULL, *depth = NULL, *lanes = NULL;
    const char *seconds = NULL;
    const program_option known[] = {{"--storage", &kind, NULL},
                                    {"--size", &size, NULL},
                                    {"--depth", &depth, NULL},
                                    {"--lanes", &lanes, NULL},
                                    {"--seconds", &seconds, NULL}};
    flin_storage_config config = {FLASHINFER_STORAGE_DEFAULT, 64, 4, 0, 60000000000u};
    reader at = {.random = 0x9e3779b97f4a7c15u};
    uint64_t bytes = 32u << 10;
    flashinfer_error error;
    float time = 2;
    int code = program_parse(argc, argv, known, sizeof known / sizeof *known, &path, 1, usage);

    flashinfer_error_init(&error, sizeof error);
    if (code == 0) code = program_storage(kind, &config.kind);
    if (code == 0) code = program_bytes("--size", size, &bytes);
    if (code == 0) code = program_u32("--depth", depth, 1, 256, &config.depth);
    if (code == 0) code = program_u32("--lanes", lanes, 1, 256, &config.lanes);
    if (code == 0) code = program_float("--seconds", seconds, 0.01f, 600, &time);
    if (code == 0 && (bytes == 0 || bytes > 16u << 20))
        code = program_refuse("--size must lie between 1 and 16M");
    if (code != 0) return code;
    at.size = (uint32_t)bytes;
    at.count = 4 * config.depth > FETCHES_MIN ? 4 * config.depth : FETCHES_MIN;
    code = open_reader(&at, path, &config, &error);
    if (code == 0) code = measure(&at, time, &error);
    flin_storage_close(&at.storage);
    flin_arena_close(&at.arena);
    return program_end(code, &error);
}
