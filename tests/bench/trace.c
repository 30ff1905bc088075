/*
 * trace.c - a trace file into memory, every number of it checked.
 */
#include "trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct reading {
    FILE *file;
    size_t records, record_room, ids, id_room;
} reading;

static int get(reading *at, void *data, size_t bytes)
{
    return bytes == 0 || fread(data, bytes, 1, at->file) == 1 ? 0 : -1;
}

static int read_head(reading *at, bench_trace *trace)
{
    char magic[8];
    uint32_t head[4];

    if (get(at, magic, sizeof magic) != 0 || memcmp(magic, "FLTRACE1", 8) != 0) return -1;
    if (get(at, head, sizeof head) != 0) return -1;
    if (head[0] == 0 || head[0] > 65536 || head[1] == 0 || head[1] > 1u << 24 || head[2] == 0 ||
        head[3] > 65536)
        return -1;
    trace->layers = head[0];
    trace->neurons = head[1];
    trace->stride_bytes = head[2];
    trace->model_path = calloc(head[3] + 1u, 1);
    trace->bundle_offset = calloc(head[0], sizeof *trace->bundle_offset);
    if (trace->model_path == NULL || trace->bundle_offset == NULL) return -1;
    return get(at, trace->model_path, head[3]);
}

static int grow(void *array, size_t *room, size_t wanted, size_t unit)
{
    void **place = array;
    size_t next = *room < 1024 ? 1024 : *room;
    void *grown;

    while (next < wanted) next *= 2;
    if (next == *room) return 0;
    grown = realloc(*place, next * unit);
    if (grown == NULL) return -1;
    *place = grown;
    *room = next;
    return 0;
}

/* 1: read, 0: the end, -1: damaged */
static int read_record(reading *at, bench_trace *trace)
{
    uint32_t head[2];
    uint64_t offset;
    uint32_t *ids;

    if (get(at, head, sizeof head) != 0) return feof(at->file) ? 0 : -1;
    if (head[0] != at->records % trace->layers || head[1] > trace->neurons) return -1;
    if (get(at, &offset, sizeof offset) != 0) return -1;
    trace->bundle_offset[head[0]] = offset;
    if (grow(&trace->first, &at->record_room, at->records + 2, sizeof *trace->first) != 0 ||
        grow(&trace->ids, &at->id_room, at->ids + head[1], sizeof *trace->ids) != 0)
        return -1;
    ids = trace->ids + at->ids;
    if (get(at, ids, head[1] * sizeof *ids) != 0) return -1;
    for (uint32_t i = 0; i < head[1]; i++)
        if (ids[i] >= trace->neurons || (i != 0 && ids[i] <= ids[i - 1])) return -1;
    trace->first[at->records++] = at->ids;
    at->ids += head[1];
    trace->first[at->records] = at->ids;
    return 1;
}

int bench_trace_read(bench_trace *trace, const char *path, char *problem, size_t capacity)
{
    reading at = {.file = fopen(path, "rb")};
    int more;

    memset(trace, 0, sizeof *trace);
    if (at.file == NULL) {
        (void)snprintf(problem, capacity, "cannot read %s: %s", path, strerror(errno));
        return -1;
    }
    more = read_head(&at, trace) == 0 ? 1 : -1;
    while (more == 1) more = read_record(&at, trace);
    (void)fclose(at.file);
    if (more == 0) trace->tokens = (uint32_t)(at.records / trace->layers);
    if (more == 0 && trace->tokens != 0) return 0;
    (void)snprintf(problem, capacity, "%s is not a whole trace, or there is no memory for it",
                   path);
    bench_trace_close(trace);
    return -1;
}

void bench_trace_close(bench_trace *trace)
{
    free(trace->model_path);
    free(trace->bundle_offset);
    free(trace->ids);
    free(trace->first);
    memset(trace, 0, sizeof *trace);
}
