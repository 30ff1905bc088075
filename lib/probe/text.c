/*
 * text.c - a probe's result as a file that people can read: a line with the version, a line per
 * field, and a checksum of all that stands before it.
 *
 * Fields of later versions are skipped, fields that are missing are a damaged file.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probe/probe.h"
#include "util/hash.h"
#include "util/partial_file.h"

#define TEXT_MAX 8192u
#define VERSION 1u
#define MAGIC "flashinfer-probe "
#define SUM_BYTES (sizeof "xxh3=0123456789abcdef\n" - 1)

typedef struct field {
    const char *name;
    size_t offset;  /* in the result */
    uint32_t bytes; /* of one number: 4 or 8 */
    uint32_t count;
} field;

#define ONE(name)                                                                                  \
    {                                                                                              \
#name, offsetof(flashinfer_probe_result, name),                                            \
            sizeof(((flashinfer_probe_result *)0)->name), 1                                        \
    }
#define MANY(name, element, count)                                                                 \
    {                                                                                              \
#name, offsetof(flashinfer_probe_result, name), sizeof(element), (count)                   \
    }

static const field fields[] = {
    ONE(storage),
    ONE(alignment),
    ONE(threads),
    ONE(kernels),
    ONE(io_depth),
    ONE(io_lanes),
    ONE(io_gap_bytes),
    MANY(read_bytes, uint32_t, FLASHINFER_PROBE_SIZES),
    MANY(depths, uint32_t, FLASHINFER_PROBE_DEPTHS),
    MANY(read_bytes_per_s, uint64_t, FLASHINFER_PROBE_SIZES *FLASHINFER_PROBE_DEPTHS),
    MANY(kind_bytes_per_s, uint64_t, FLASHINFER_PROBE_KINDS *FLASHINFER_PROBE_DEPTHS),
    ONE(latency_ns),
    ONE(latency_p99_ns),
    ONE(dram_bytes_per_s),
    ONE(matvec_bytes_per_s),
    ONE(file_bytes),
    ONE(elapsed_ns),
};
#define FIELD_COUNT (sizeof fields / sizeof fields[0])

/* --------------------------------------------------------------------------------------- saving */

static uint64_t number_at(const flashinfer_probe_result *result, const field *at, uint32_t index)
{
    const uint8_t *place = (const uint8_t *)result + at->offset + (size_t)index * at->bytes;
    uint32_t narrow;
    uint64_t wide;

    if (at->bytes == sizeof wide) {
        memcpy(&wide, place, sizeof wide);
        return wide;
    }
    memcpy(&narrow, place, sizeof narrow);
    return narrow;
}

/* Returns the length; TEXT_MAX is enough for 100 numbers of 20 digits and their names. */
static size_t write_text(const flashinfer_probe_result *result, char *text)
{
    size_t used = (size_t)snprintf(text, TEXT_MAX, MAGIC "%u\n", VERSION);

    for (size_t index = 0; index < FIELD_COUNT; index++) {
        used += (size_t)snprintf(text + used, TEXT_MAX - used, "%s=", fields[index].name);
        for (uint32_t number = 0; number < fields[index].count; number++)
            used +=
                (size_t)snprintf(text + used, TEXT_MAX - used, "%s%" PRIu64, number != 0 ? " " : "",
                                 number_at(result, &fields[index], number));
        used += (size_t)snprintf(text + used, TEXT_MAX - used, "\n");
    }
    used += (size_t)snprintf(text + used, TEXT_MAX - used, "xxh3=%016" PRIx64 "\n",
                             flin_hash(text, used));
    return used;
}

int flin_probe_save(const flashinfer_probe_result *result, const char *path,
                    flashinfer_error *error)
{
    char text[TEXT_MAX];
    size_t bytes = write_text(result, text);
    flin_partial file;
    int code = flin_partial_open(&file, path, bytes, error);

    if (code == 0) code = flin_partial_write(&file, text, bytes, 0, error);
    if (code == 0) code = flin_partial_finish(&file, error);
    flin_partial_close(&file);
    return code;
}

/* -------------------------------------------------------------------------------------- loading */

static int fail_format(const char *path, flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EFORMAT,
                     "%s is not a probe's result, or not all of it; probe again", path);
}

/* The whole file, zero-terminated; *bytes 0: it is empty or too long to be one. */
static int read_file(const char *path, char *text, size_t *bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    int status = fd < 0 ? errno : 0;

    *bytes = 0;
    while (status == 0 && *bytes < TEXT_MAX) {
        ssize_t got = pread(fd, text + *bytes, TEXT_MAX - *bytes, (off_t)*bytes);

        if (got == 0) break;
        if (got > 0)
            *bytes += (size_t)got;
        else if (errno != EINTR)
            status = errno;
    }
    if (fd >= 0) (void)close(fd);
    if (*bytes == TEXT_MAX) *bytes = 0;
    text[*bytes] = '\0';
    return status;
}

/* Decimal digits and nothing else, at most `most`. Moves *at behind them. */
static int read_number(const char **at, uint64_t most, uint64_t *number)
{
    const char *digit = *at;

    *number = 0;
    for (; *digit >= '0' && *digit <= '9'; digit++) {
        uint64_t value = (uint64_t)(*digit - '0');

        if (*number > (most - value) / 10) return -1;
        *number = *number * 10 + value;
    }
    if (digit == *at) return -1;
    *at = digit;
    return 0;
}

/* "name=1 2 3\n" for this field. */
static int read_field(const char *line, const field *at, flashinfer_probe_result *result)
{
    uint8_t *place = (uint8_t *)result + at->offset;

    line += strlen(at->name) + 1;
    for (uint32_t index = 0; index < at->count; index++, place += at->bytes) {
        uint64_t most = at->bytes == 4 ? UINT32_MAX : UINT64_MAX, wide;
        uint32_t narrow;

        if (index != 0 && *line++ != ' ') return -1;
        if (read_number(&line, most, &wide) != 0) return -1;
        narrow = (uint32_t)wide;
        memcpy(place, at->bytes == 4 ? (const void *)&narrow : &wide, at->bytes);
    }
    return *line == '\n' ? 0 : -1;
}

/* Which field a line is of; FIELD_COUNT: none we know. */
static size_t field_of(const char *line)
{
    for (size_t index = 0; index < FIELD_COUNT; index++) {
        size_t bytes = strlen(fields[index].name);

        if (strncmp(line, fields[index].name, bytes) == 0 && line[bytes] == '=') return index;
    }
    return FIELD_COUNT;
}

static int read_text(const char *text, flashinfer_probe_result *result)
{
    uint32_t seen[FIELD_COUNT] = {0};

    memset(result, 0, sizeof *result);
    result->size = sizeof *result;
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        size_t index = field_of(line);

        if (index == FIELD_COUNT) continue;
        if (seen[index]++ != 0 || read_field(line, &fields[index], result) != 0) return -1;
    }
    for (size_t index = 0; index < FIELD_COUNT; index++)
        if (seen[index] == 0) return -1;
    return 0;
}

/* The sum that closes the file, against all before it. Cuts it off. */
static int check_sum(char *text, size_t bytes)
{
    char expected[SUM_BYTES + 1];
    size_t before;

    if (bytes <= SUM_BYTES) return -1;
    before = bytes - SUM_BYTES;
    (void)snprintf(expected, sizeof expected, "xxh3=%016" PRIx64 "\n", flin_hash(text, before));
    if (text[before - 1] != '\n' || memcmp(text + before, expected, SUM_BYTES) != 0) return -1;
    text[before] = '\0';
    return 0;
}

int flin_probe_load(const char *path, flashinfer_probe_result *result, flashinfer_error *error)
{
    char text[TEXT_MAX + 1];
    const char *at = text + sizeof MAGIC - 1;
    size_t bytes;
    uint64_t version;
    int status = read_file(path, text, &bytes);

    if (status != 0) return flin_fail_errno(error, FLASHINFER_EIO, status, "cannot read %s", path);
    if (strncmp(text, MAGIC, sizeof MAGIC - 1) != 0 || strlen(text) != bytes ||
        read_number(&at, UINT32_MAX, &version) != 0 || *at++ != '\n' || text[bytes - 1] != '\n')
        return fail_format(path, error);
    if (version != VERSION)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "%s is of version %" PRIu64 ", this library knows %u; probe again", path,
                         version, VERSION);
    if (check_sum(text, bytes) != 0)
        return flin_fail(error, FLASHINFER_ECORRUPT,
                         "%s has changed since it was written; probe again", path);
    return read_text(at, result) == 0 ? 0 : fail_format(path, error);
}
