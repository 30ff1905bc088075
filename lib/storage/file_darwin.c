/*
 * file_darwin.c - macOS and iOS: F_NOCACHE stands for O_DIRECT. It is a wish about a descriptor,
 * not a rule about alignment: reads that are not aligned work and are cached. F_RDADVISE is left
 * alone: reads are exact and wanted now.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/param.h>
#include <unistd.h>

#include "storage/backends.h"

/* The descriptor of a caller leads back to its path, where it has one and this process may open
   it. */
int flin_file_reopen(int fd, const char *path, int direct)
{
    char name[MAXPATHLEN];
    int again;

    if (path == NULL) {
        if (fcntl(fd, F_GETPATH, name) != 0) return -errno;
        path = name;
    }
    do again = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    while (again < 0 && errno == EINTR);
    if (again < 0) return -errno;
    if (direct && (fcntl(again, F_NOCACHE, 1) != 0 || fcntl(again, F_RDAHEAD, 0) != 0)) {
        int problem = errno;

        (void)close(again);
        return -problem;
    }
    return again;
}

/* Nothing asks the file system what it needs; a block that fits all of them. */
uint32_t flin_file_direct_alignment(int fd, const struct stat *info)
{
    (void)fd, (void)info;
    return FLIN_STORAGE_ALIGNMENT_MAX;
}

void flin_file_expect_random(int fd)
{
    (void)fcntl(fd, F_RDAHEAD, 0);
}

/* fsync() leaves the bytes in the drive's memory there. */
int flin_file_sync(int fd)
{
    if (fcntl(fd, F_FULLFSYNC) == 0) return 0;
    return fsync(fd) == 0 ? 0 : errno;
}

/* There is no such wish for a part of a file; what is written from now on is not kept. */
void flin_file_forget(int fd, uint64_t offset, uint64_t bytes)
{
    (void)offset, (void)bytes;
    (void)fcntl(fd, F_NOCACHE, 1);
}
