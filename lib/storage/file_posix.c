/*
 * file_posix.c - systems of which we know no more than POSIX: every read goes through the page
 * cache.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "storage/backends.h"

int flin_file_reopen(int fd, const char *path, int direct)
{
    int again;

    (void)fd;
    if (direct) return -ENOTSUP;
    if (path == NULL) return -ENOENT;
    again = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    return again >= 0 ? again : -errno;
}

uint32_t flin_file_direct_alignment(int fd, const struct stat *info)
{
    (void)fd, (void)info;
    return 0;
}

void flin_file_expect_random(int fd)
{
    (void)fd;
}

int flin_file_sync(int fd)
{
    return fsync(fd) == 0 ? 0 : errno;
}

void flin_file_forget(int fd, uint64_t offset, uint64_t bytes)
{
    (void)fd, (void)offset, (void)bytes;
}
