/*
 * storage_fixture.h - what the storage and batch tests share: a file of known bytes, every backend
 * over it, and a host whose asynchronous callbacks watch that the library keeps the contract.
 */
#ifndef FLIN_TESTS_STORAGE_FIXTURE_H
#define FLIN_TESTS_STORAGE_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "storage/batch.h"
#include "storage/storage.h"

#define FILE_BYTES (1024u * 1024u + 4096u + 777u) /* its end is aligned to nothing */
#define HOST_DEPTH_MAX 64
#define SHORT_TIMEOUT_NS 150000000u /* a busy machine may lose healthy reads to it too */

typedef struct fixture {
    uint8_t *truth; /* (FILE_BYTES) */
    char directory[256];
    char path[300];
} fixture;

static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline void write_file(const char *path, const uint8_t *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static inline int fixture_open(void **state)
{
    fixture *made = calloc(1, sizeof *made);
    const char *temporary = getenv("TMPDIR");
    uint64_t seed = 88172645463325252u;

    made->truth = malloc(FILE_BYTES);
    for (size_t index = 0; index < FILE_BYTES; index++)
        made->truth[index] = (uint8_t)(random_next(&seed) >> 32);
    (void)snprintf(made->directory, sizeof made->directory, "%s/flin-storage-XXXXXX",
                   temporary != NULL ? temporary : "/tmp");
    if (mkdtemp(made->directory) == NULL) return -1;
    (void)snprintf(made->path, sizeof made->path, "%s/model", made->directory);
    write_file(made->path, made->truth, FILE_BYTES);
    *state = made;
    return 0;
}

static inline int fixture_close(void **state)
{
    fixture *made = *state;

    (void)unlink(made->path);
    (void)rmdir(made->directory);
    free(made->truth);
    free(made);
    return 0;
}

/* ------------------------------------------------------------------------- a watching host */

typedef struct host_read {
    uint64_t offset;
    uint64_t tag;
    uint32_t segment_count;
    uint32_t reserved;
    flashinfer_storage_segment segments[32];
} host_read;

/* Asynchronous reads of memory, completed last first. */
typedef struct host {
    const uint8_t *data;
    uint64_t bytes;
    flashinfer_storage_caps caps;
    uint32_t take_max;   /* reads one submit() takes; 0: all */
    uint32_t busy;       /* submit() calls still answered with -EAGAIN */
    uint32_t holding;    /* reads are kept back */
    uint32_t wrong_tags; /* completions of reads nobody submitted, given first */
    uint32_t in_flight;
    uint32_t in_flight_max;
    uint32_t reads;      /* taken */
    uint32_t segments;   /* of all reads taken */
    uint32_t violations; /* of flashinfer_backend.h */
    uint32_t closed;
    host_read queue[HOST_DEPTH_MAX];
} host;

static inline int host_caps(void *user, flashinfer_storage_caps *caps)
{
    uint32_t size = caps->size;

    *caps = ((host *)user)->caps;
    caps->size = size;
    return 0;
}

/* Nothing that is out lands where another read does: not in memory nobody looks at either. */
static inline int host_overlaps(const host *self, const flashinfer_storage_segment *segment)
{
    for (uint32_t index = 0; index < self->in_flight; index++) {
        const host_read *read = &self->queue[index];

        for (uint32_t at = 0; at < read->segment_count; at++) {
            const uint8_t *begin = read->segments[at].data;

            if ((const uint8_t *)segment->data < begin + read->segments[at].bytes &&
                begin < (const uint8_t *)segment->data + segment->bytes)
                return 1;
        }
    }
    return 0;
}

static inline void host_check(host *self, const flashinfer_storage_read *read)
{
    uint64_t mask = self->caps.alignment - 1;
    uint64_t bytes = 0;

    if (read->segment_count == 0 || read->segment_count > self->caps.segments_max)
        self->violations++;
    for (uint32_t index = 0; index < read->segment_count; index++) {
        const flashinfer_storage_segment *segment = &read->segments[index];

        if ((((uintptr_t)segment->data | segment->bytes) & mask) != 0 || segment->bytes == 0)
            self->violations++;
        if (host_overlaps(self, segment)) self->violations++;
        for (uint32_t before = 0; before < index; before++)
            if (read->segments[before].data == segment->data) self->violations++;
        bytes += segment->bytes;
    }
    if ((read->offset & mask) != 0 || read->offset + bytes > self->bytes + mask) self->violations++;
}

static inline int host_submit(void *user, const flashinfer_storage_read *reads, uint32_t count)
{
    host *self = user;

    if (self->busy != 0) {
        self->busy--;
        return -EAGAIN;
    }
    if (self->take_max != 0 && count > self->take_max) count = self->take_max;
    for (uint32_t index = 0; index < count; index++) {
        host_read *place = &self->queue[self->in_flight];

        host_check(self, &reads[index]);
        if (self->in_flight >= self->caps.depth || reads[index].segment_count > 32) {
            self->violations++;
            return (int)index;
        }
        place->offset = reads[index].offset;
        place->tag = reads[index].tag;
        place->segment_count = reads[index].segment_count;
        memcpy(place->segments, reads[index].segments,
               place->segment_count * sizeof place->segments[0]);
        self->in_flight++;
        self->reads++;
        self->segments += place->segment_count;
    }
    if (self->in_flight > self->in_flight_max) self->in_flight_max = self->in_flight;
    return (int)count;
}

static inline int64_t host_fill(const host *self, const host_read *read)
{
    uint64_t offset = read->offset;

    for (uint32_t index = 0; index < read->segment_count && offset < self->bytes; index++) {
        uint64_t bytes = read->segments[index].bytes;

        if (bytes > self->bytes - offset) bytes = self->bytes - offset;
        memcpy(read->segments[index].data, self->data + offset, bytes);
        offset += bytes;
    }
    return (int64_t)(offset - read->offset);
}

static inline int host_wait(void *user, uint32_t minimum, uint64_t timeout_ns,
                            flashinfer_storage_completion *completions, uint32_t capacity)
{
    host *self = user;
    uint32_t count = 0;

    if (self->wrong_tags != 0 && capacity != 0) {
        self->wrong_tags--;
        completions[0].tag = 0x1234567800000003u + self->wrong_tags;
        completions[0].result = 4096;
        return 1;
    }
    if (self->holding) {
        if (minimum != 0) (void)usleep((useconds_t)(timeout_ns / 1000));
        return 0;
    }
    while (count < capacity && self->in_flight != 0) {
        host_read *last = &self->queue[--self->in_flight];

        completions[count].tag = last->tag;
        completions[count++].result = host_fill(self, last);
    }
    return (int)count;
}

static inline void host_closed(void *user)
{
    ((host *)user)->closed++;
}

static inline int64_t host_read_alone(void *user, uint64_t offset, void *data, size_t bytes)
{
    const host *self = user;

    if (offset > self->bytes) return -EINVAL;
    if (bytes > self->bytes - offset) bytes = (size_t)(self->bytes - offset);
    memcpy(data, self->data + offset, bytes);
    return (int64_t)bytes;
}

static inline host make_host(const fixture *made, uint32_t alignment, uint32_t depth,
                             uint32_t segments_max)
{
    host self = {.data = made->truth, .bytes = FILE_BYTES};

    self.caps.alignment = alignment;
    self.caps.depth = depth;
    self.caps.segments_max = segments_max;
    self.caps.length_bytes = FILE_BYTES;
    return self;
}

static inline flashinfer_storage_ops host_ops(host *self)
{
    flashinfer_storage_ops ops = {.size = sizeof ops, .user = self};

    ops.caps = host_caps;
    ops.submit = host_submit;
    ops.wait = host_wait;
    ops.close = host_closed;
    return ops;
}

static inline flashinfer_storage_ops host_read_ops(host *self)
{
    flashinfer_storage_ops ops = {.size = sizeof ops, .user = self};

    ops.caps = host_caps;
    ops.read = host_read_alone;
    ops.close = host_closed;
    return ops;
}

static inline void open_host(flin_storage *storage, host *self, uint64_t timeout_ns)
{
    flin_storage_config config = {.timeout_ns = timeout_ns};
    flashinfer_storage_ops ops = host_ops(self);

    assert_int_equal(flin_storage_open_ops(storage, &ops, &config, NULL), 0);
}

/* ------------------------------------------------------------------------- every backend */

enum {
    BACKEND_LIBAIO,
    BACKEND_PREAD,
    BACKEND_BUFFERED,
    BACKEND_URING,
    BACKEND_MEMORY,
    BACKEND_HOST,
    BACKEND_HOST_READ,
    BACKEND_COUNT
};

static inline const char *backend_name(uint32_t backend)
{
    static const char *const names[] = {"libaio", "pread", "buffered", "io_uring",
                                        "memory", "host",  "host"};

    return names[backend];
}

/* Returns 0 where this file system or build has no such backend; any other failure fails the test.
   self is only used by the host backends. */
static inline int open_backend(flin_storage *storage, const fixture *made, uint32_t backend,
                               host *self, uint32_t depth)
{
    flin_storage_config config = {.depth = depth, .lanes = depth < 3 ? depth : 3};
    flashinfer_error error = {.size = sizeof error};
    flashinfer_storage_ops ops;
    int status;

    switch (backend) {
    case BACKEND_MEMORY:
        status = flin_storage_open_memory(storage, made->truth, FILE_BYTES, &config, &error);
        break;
    case BACKEND_HOST:
    case BACKEND_HOST_READ:
        *self = make_host(made, backend == BACKEND_HOST ? 512 : 1, depth, 5);
        ops = backend == BACKEND_HOST ? host_ops(self) : host_read_ops(self);
        status = flin_storage_open_ops(storage, &ops, &config, &error);
        break;
    default:
        config.kind = FLASHINFER_STORAGE_LIBAIO + backend;
        status = flin_storage_open_path(storage, made->path, &config, &error);
        if (status == FLASHINFER_EUNSUPPORTED && backend != BACKEND_BUFFERED) {
            print_message("not here: %s\n", error.text);
            return 0;
        }
        break;
    }
    if (status != 0) print_error("%s\n", error.text);
    assert_int_equal(status, 0);
    assert_string_equal(storage->name, backend_name(backend));
    assert_true(storage->held_bytes >= FLIN_STORAGE_BOUNCE_BYTES);
    assert_true(storage->caps.length_bytes == FILE_BYTES);
    return 1;
}

#endif
