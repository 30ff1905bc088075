/*
 * file_android.c - Android: O_DIRECT as on Linux, but no system call that an application's filter
 * may not know. Such a call ends the process there instead of failing. So no statx(2), which
 * reports alignment and is newer than many devices' filters; the largest alignment there is fits
 * every file instead.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "storage/backends.h"

int flin_file_reopen(int fd, const char *path, int direct)
{
    int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | (direct ? O_DIRECT : 0);
    char link[32];
    int again;

    /* a package that was opened for us may lie where we may not open: then reads stay buffered */
    if (path == NULL) {
        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        path = link;
    }
    do again = open(path, flags);
    while (again < 0 && errno == EINTR);
    return again >= 0 ? again : -errno;
}

uint32_t flin_file_direct_alignment(int fd, const struct stat *info)
{
    (void)fd, (void)info;
    return FLIN_STORAGE_ALIGNMENT_MAX;
}

void flin_file_expect_random(int fd)
{
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
}

int flin_file_sync(int fd)
{
    return fdatasync(fd) == 0 ? 0 : errno;
}

void flin_file_forget(int fd, uint64_t offset, uint64_t bytes)
{
    (void)posix_fadvise(fd, (off_t)offset, (off_t)bytes, POSIX_FADV_DONTNEED);
}
