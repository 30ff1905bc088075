/*
 * file_linux.c - what Linux has for reading past the page cache: O_DIRECT, how it must be aligned,
 * a second description of a file that is already open.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "storage/backends.h"

/* statx(2) reports direct I/O limits since Linux 6.1. Headers often are older than the kernel, so
   the record is read by position: it is kernel ABI, 64 words of 32 bits. */
#define STATX_WORDS 64
#define STATX_WORD_MASK 0
#define STATX_WORD_MEMORY_ALIGN 38
#define STATX_WORD_OFFSET_ALIGN 39
#define STATX_WANT_DIOALIGN 0x2000u

int flin_file_reopen(int fd, const char *path, int direct)
{
    int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | (direct ? O_DIRECT : 0);
    char link[32];
    int again;

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
    uint32_t words[STATX_WORDS];
    int logical_bytes = 0;

    memset(words, 0, sizeof words);
    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_WANT_DIOALIGN, words) == 0 &&
        (words[STATX_WORD_MASK] & STATX_WANT_DIOALIGN) != 0) {
        uint32_t memory = words[STATX_WORD_MEMORY_ALIGN];
        uint32_t offset = words[STATX_WORD_OFFSET_ALIGN];

        if (memory == 0 || offset == 0) return 0;
        return memory > offset ? memory : offset;
    }
    if (S_ISBLK(info->st_mode) && ioctl(fd, BLKSSZGET, &logical_bytes) == 0 && logical_bytes > 0)
        return (uint32_t)logical_bytes;
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
