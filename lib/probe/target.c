/*
 * target.c - the file a probe reads. In a directory one is written: random bytes, so that no drive
 * or file system can squeeze or imagine them, really on the device before it is read, and without a
 * name, so that nothing is left behind however the process ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe/probe.h"
#include "storage/system.h"
#include "util/clock.h"
#include "util/partial_file.h"

#define CHUNK_BYTES (4u << 20) /* written, then synced: the clock is looked at between them */

static int code_of(int sys_errno)
{
    return sys_errno == ENOMEM ? FLASHINFER_ENOMEM : FLASHINFER_EIO;
}

static int fail_path(const flin_probe *probe, int sys_errno, const char *what,
                     flashinfer_error *error)
{
    return flin_fail_errno(error, code_of(sys_errno), sys_errno, "cannot %s %s", what, probe->path);
}

/* A file without a name in the directory; a negative errno value if there can be none. */
static int make_nameless(const char *directory)
{
    size_t capacity = strlen(directory) + sizeof "/.flashinfer-probe-XXXXXX";
    char *name = malloc(capacity);
    int fd;

    if (name == NULL) return -ENOMEM;
    (void)snprintf(name, capacity, "%s/.flashinfer-probe-XXXXXX", directory);
    fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0)
        fd = -errno;
    else if (unlink(name) != 0) {
        (void)close(fd);
        fd = -errno;
    }
    free(name);
    return fd;
}

static void fill_random(flin_probe *probe, uint8_t *data, size_t bytes)
{
    for (size_t at = 0; at + sizeof probe->random <= bytes; at += sizeof probe->random) {
        uint64_t word = flin_probe_random(&probe->random);

        memcpy(data + at, &word, sizeof word);
    }
}

/* As long as asked for, or what there is time for. */
static int write_file(flin_probe *probe, uint64_t until_ns, flashinfer_error *error)
{
    uint64_t length = probe->options.file_bytes, done = 0;
    uint8_t *chunk = malloc(CHUNK_BYTES);
    int status = chunk != NULL ? 0 : ENOMEM;

    while (status == 0 && done < length && (done == 0 || flin_now_ns() < until_ns)) {
        size_t bytes = length - done < CHUNK_BYTES ? (size_t)(length - done) : CHUNK_BYTES;

        fill_random(probe, chunk, bytes);
        status = flin_write_all(probe->fd, chunk, bytes, done);
        if (status == 0) status = flin_file_sync(probe->fd);
        /* memory of the page cache is not ours to keep */
        flin_file_forget(probe->fd, done, bytes);
        done += bytes;
    }
    free(chunk);
    probe->result->file_bytes = done;
    if (status == 0) return 0;
    return flin_fail_errno(error, code_of(status), status,
                           "cannot write %" PRIu64 " bytes to measure with into %s (options."
                           "file_bytes asks for fewer)",
                           length, probe->path);
}

int flin_probe_open_target(flin_probe *probe, uint64_t until_ns, flashinfer_error *error)
{
    struct stat info;
    int code;

    if ((code = flin_probe_step(probe, error)) != 0) return code;
    if (stat(probe->path, &info) != 0) return fail_path(probe, errno, "look at", error);
    if (S_ISDIR(info.st_mode)) {
        probe->fd = make_nameless(probe->path);
        if (probe->fd >= 0) return write_file(probe, until_ns, error);
        return fail_path(probe, -probe->fd, "make a file to measure with in", error);
    }
    /* O_NONBLOCK: a FIFO is refused by the storage, not waited for */
    probe->fd = open(probe->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (probe->fd < 0) return fail_path(probe, errno, "open", error);
    if (S_ISREG(info.st_mode) && info.st_size < (off_t)FLIN_PROBE_FILE_MIN)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "%s has %lld bytes; a file to measure with has at least %u", probe->path,
                         (long long)info.st_size, FLIN_PROBE_FILE_MIN);
    return 0;
}
