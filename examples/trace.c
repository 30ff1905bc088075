/*
 * trace.c - a trace file into memory, every number of it checked.
 */
#include "trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int get(FILE *file, void *data, size_t bytes)
{
    return bytes == 0 || fread(data, bytes, 1, file) == 1 ? 0 : -1;
}

static int read_head(FILE *file, recorded_trace *trace)
{
    char magic[8];
    uint32_t head[4];

    if (get(file, magic, sizeof magic) != 0 || memcmp(magic, "FLTRACE1", 8) != 0) return -1;
    if (get(file, head, sizeof head) != 0) return -1;
    if (head[0] == 0 || head[0] > 65536 || head[1] == 0 || head[1] > 1u << 24 || head[2] == 0 ||
        head[3] > 65536)
        return -1;
    trace->layers = head[0];
    trace->neurons = head[1];
    trace->stride_bytes = head[2];
    trace->model_path = calloc(head[3] + 1u, 1);
    trace->bundle_offset = calloc(head[0], sizeof *trace->bundle_offset);
    if (trace->model_path == NULL || trace->bundle_offset == NULL) return -1;
    return get(file, trace->model_path, head[3]);
}

/* Room for at least `wanted` units. array: where the pointer is kept */
static int grow(void *array, size_t *room, size_t wanted, size_t unit)
{
    void **place = array, *grown;
    size_t next = *room < 1024 ? 1024 : *room;

    while (next < wanted) next *= 2;
    if (next == *room) return 0;
    grown = realloc(*place, next * unit);
    if (grown == NULL) return -1;
    *place = grown;
    *room = next;
    return 0;
}

uint32_t *recorded_trace_append(recorded_trace *trace, uint32_t count)
{
    size_t begin = trace->records != 0 ? trace->first[trace->records] : 0;

    if (grow(&trace->first, &trace->record_room, trace->records + 2, sizeof *trace->first) != 0 ||
        grow(&trace->ids, &trace->id_room, begin + count, sizeof *trace->ids) != 0)
        return NULL;
    trace->first[trace->records++] = begin;
    trace->first[trace->records] = begin + count;
    trace->tokens = (uint32_t)(trace->records / trace->layers);
    return trace->ids + begin;
}

/* 1: read, 0: the end, -1: damaged */
static int read_record(FILE *file, recorded_trace *trace)
{
    uint32_t head[2], *ids;
    uint64_t offset;
    size_t got = fread(head, 1, sizeof head, file);

    if (got != sizeof head) return got == 0 && feof(file) ? 0 : -1;
    if (head[0] != trace->records % trace->layers || head[1] > trace->neurons) return -1;
    if (get(file, &offset, sizeof offset) != 0) return -1;
    trace->bundle_offset[head[0]] = offset;
    ids = recorded_trace_append(trace, head[1]);
    if (ids == NULL || get(file, ids, head[1] * sizeof *ids) != 0) return -1;
    for (uint32_t i = 0; i < head[1]; i++)
        if (ids[i] >= trace->neurons || (i != 0 && ids[i] <= ids[i - 1])) return -1;
    return 1;
}

int recorded_trace_read(recorded_trace *trace, const char *path, char *problem, size_t capacity)
{
    FILE *file = fopen(path, "rb");
    int more;

    memset(trace, 0, sizeof *trace);
    if (file == NULL) {
        (void)snprintf(problem, capacity, "cannot read %s: %s", path, strerror(errno));
        return -1;
    }
    more = read_head(file, trace) == 0 ? 1 : -1;
    while (more == 1) more = read_record(file, trace);
    (void)fclose(file);
    if (more == 0 && trace->tokens != 0) return 0;
    (void)snprintf(problem, capacity, "%s is not a whole trace, or there is no memory for it",
                   path);
    recorded_trace_close(trace);
    return -1;
}

void recorded_trace_close(recorded_trace *trace)
{
    free(trace->model_path);
    free(trace->bundle_offset);
    free(trace->ids);
    free(trace->first);
    memset(trace, 0, sizeof *trace);
}
