/*
 * partial_file.c - writing beside the final name, then taking it.
 *
 * A library leaves a process's signal dispositions alone, so SIGXFSZ is blocked in the writing
 * thread while it writes, and one that this brought is taken away.
 */
#define _GNU_SOURCE
#include "util/partial_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/hash.h"

#define PREFIX_BYTES (sizeof ".flin-0123456789abcdef-" - 1)
#define SUFFIX ".partial"
#define ATTEMPTS 100

/* ---------------------------------------------------------------------------- the size limit */

typedef struct held_signal {
    sigset_t before; /* the thread's mask */
    int pending;     /* one waited already: not ours to take */
} held_signal;

static void hold(held_signal *held)
{
    sigset_t limit, waiting;

    sigemptyset(&limit);
    sigaddset(&limit, SIGXFSZ);
    held->pending = sigpending(&waiting) == 0 && sigismember(&waiting, SIGXFSZ) == 1;
    (void)pthread_sigmask(SIG_BLOCK, &limit, &held->before);
}

static void release(const held_signal *held)
{
    sigset_t limit, waiting;
    int number;

    sigemptyset(&limit);
    sigaddset(&limit, SIGXFSZ);
    if (!held->pending && sigpending(&waiting) == 0 && sigismember(&waiting, SIGXFSZ) == 1)
        (void)sigwait(&limit, &number);
    (void)pthread_sigmask(SIG_SETMASK, &held->before, NULL);
}

static int write_pieces(int fd, const uint8_t *from, uint64_t bytes, uint64_t offset)
{
    while (bytes > 0) {
        size_t part = bytes < (1u << 30) ? (size_t)bytes : (size_t)1 << 30;
        ssize_t put = pwrite(fd, from, part, (off_t)offset);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return put < 0 ? errno : ENOSPC;
        from += put;
        offset += (uint64_t)put;
        bytes -= (uint64_t)put;
    }
    return 0;
}

int flin_write_all(int fd, const void *data, uint64_t bytes, uint64_t offset)
{
    held_signal held;
    int status;

    hold(&held);
    status = write_pieces(fd, data, bytes, offset);
    release(&held);
    return status;
}

/* A full disk shows now where the file system can tell; the zeros are the gaps. */
static int set_length(int fd, uint64_t bytes)
{
    held_signal held;
    int status;

    hold(&held);
    status = ftruncate(fd, (off_t)bytes) == 0 ? 0 : errno;
#ifdef __linux__
    if (status == 0 && bytes != 0 && fallocate(fd, 0, 0, (off_t)bytes) != 0 &&
        errno != EOPNOTSUPP && errno != ENOSYS)
        status = errno;
#endif
    release(&held);
    return status;
}

/* Bytes a file may have; UINT64_MAX: no limit. */
static uint64_t file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return UINT64_MAX;
    return (uint64_t)limit.rlim_cur;
}

static int fail_write(const flin_partial *file, int sys_errno, flashinfer_error *error)
{
    const uint64_t limit = file_limit();

    if (sys_errno == EFBIG && file->bytes > limit)
        return flin_fail_errno(error, FLASHINFER_EIO, sys_errno,
                               "%s needs %llu bytes, and this process may write files of %llu "
                               "(RLIMIT_FSIZE, ulimit -f): raise the limit",
                               file->path, (unsigned long long)file->bytes,
                               (unsigned long long)limit);
    if (sys_errno == ENOSPC || sys_errno == EDQUOT || sys_errno == EFBIG)
        return flin_fail_errno(error, FLASHINFER_EIO, sys_errno,
                               "%s needs %llu bytes, which its disk has no room for", file->path,
                               (unsigned long long)file->bytes);
    return flin_fail_errno(error, FLASHINFER_EIO, sys_errno, "cannot write %s", file->path);
}

/* ---------------------------------------------------------------------------- where it goes */

static int open_directory(flin_partial *file, flashinfer_error *error)
{
    const char *slash = strrchr(file->path, '/');
    char *directory;

    file->base = slash == NULL ? file->path : slash + 1;
    directory =
        slash == NULL ? strdup(".") : strndup(file->path, (size_t)(file->base - file->path));
    if (directory == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for a directory name");
    file->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(directory);
    if (file->directory >= 0) return 0;
    return flin_fail_errno(error, FLASHINFER_EIO, errno, "cannot create %s", file->path);
}

static const char *kind_of(mode_t mode)
{
    if (S_ISDIR(mode)) return "a directory";
    if (S_ISFIFO(mode)) return "a FIFO";
    if (S_ISSOCK(mode)) return "a socket";
    return "a device";
}

/* Only a regular file, a link to one or to nothing, or nothing may be replaced. */
static int check_target(const flin_partial *file, flashinfer_error *error)
{
    struct stat status;

    if (file->base[0] == '\0')
        return flin_fail(error, FLASHINFER_EINVAL, "%s names a directory; name a file to write",
                         file->path);
    if (fstatat(file->directory, file->base, &status, 0) != 0) {
        if (errno != ENAMETOOLONG) return 0;
        return flin_fail_errno(error, FLASHINFER_EIO, errno, "cannot create %s", file->path);
    }
    if (S_ISREG(status.st_mode)) return 0;
    return flin_fail(error, FLASHINFER_EINVAL,
                     "%s is %s and not a regular file; name a file to write", file->path,
                     kind_of(status.st_mode));
}

/* What the names of all unfinished files of this target begin with. */
static void name_prefix(const flin_partial *file, char prefix[PREFIX_BYTES + 1])
{
    (void)snprintf(prefix, PREFIX_BYTES + 1, ".flin-%016llx-",
                   (unsigned long long)flin_hash(file->base, strlen(file->base)));
}

/* Is it an unfinished file of this target, going by its name? */
static int is_partial(const char *name, const char *prefix)
{
    const size_t bytes = strlen(name), end = sizeof SUFFIX - 1;

    return bytes > PREFIX_BYTES + end && strncmp(name, prefix, PREFIX_BYTES) == 0 &&
           strcmp(name + bytes - end, SUFFIX) == 0;
}

/* A file that can be locked has lost its writer. Locked while it goes: a writer that has just
   made it and not locked it yet finds that out (take_name). */
static void remove_abandoned(int directory, const char *name)
{
    int fd = openat(directory, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat status;

    if (fd < 0) return;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0)
        (void)unlinkat(directory, name, 0);
    (void)close(fd);
}

/* A directory that cannot be read keeps them; that is no reason not to write. */
static void remove_all_abandoned(const flin_partial *file)
{
    int copy = openat(file->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = copy >= 0 ? fdopendir(copy) : NULL;
    char prefix[PREFIX_BYTES + 1];
    struct dirent *entry;

    if (entries == NULL) {
        if (copy >= 0) (void)close(copy);
        return;
    }
    name_prefix(file, prefix);
    while ((entry = readdir(entries)) != NULL)
        if (is_partial(entry->d_name, prefix)) remove_abandoned(file->directory, entry->d_name);
    (void)closedir(entries);
}

/* Ours alone: created, locked, and still there. 0 or an errno value; EEXIST: try another name. */
static int take_name(flin_partial *file)
{
    struct stat status;
    int locked;

    file->fd = openat(file->directory, file->name,
                      O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (file->fd < 0) return errno;
    locked = flock(file->fd, LOCK_EX | LOCK_NB) == 0;
    /* file systems without locks have nobody who could take it away either */
    if ((locked || errno != EWOULDBLOCK) && fstat(file->fd, &status) == 0 && status.st_nlink != 0)
        return 0;
    (void)close(file->fd);
    file->fd = -1;
    (void)unlinkat(file->directory, file->name, 0);
    return EEXIST;
}

static int create(flin_partial *file, flashinfer_error *error)
{
    char prefix[PREFIX_BYTES + 1];
    int status = EEXIST;

    name_prefix(file, prefix);
    for (int attempt = 0; attempt < ATTEMPTS && status == EEXIST; attempt++) {
        (void)snprintf(file->name, sizeof file->name, "%s%lx-%llx" SUFFIX, prefix, (long)getpid(),
                       (unsigned long long)(flin_now_ns() & 0xffffffffu));
        status = take_name(file);
    }
    if (status == 0) return 0;
    file->name[0] = '\0';
    return flin_fail_errno(error, FLASHINFER_EIO, status, "cannot create %s", file->path);
}

/* ---------------------------------------------------------------------------- its life */

void flin_partial_init(flin_partial *file)
{
    memset(file, 0, sizeof *file);
    file->directory = -1;
    file->fd = -1;
}

int flin_partial_open(flin_partial *file, const char *path, uint64_t bytes, flashinfer_error *error)
{
    int code, status;

    flin_partial_init(file);
    file->path = path;
    file->bytes = bytes;
    if ((code = open_directory(file, error)) != 0) return code;
    if ((code = check_target(file, error)) != 0) return code;
    remove_all_abandoned(file);
    if (bytes > file_limit()) return fail_write(file, EFBIG, error);
    if ((code = create(file, error)) != 0) return code;
    status = set_length(file->fd, bytes);
    return status != 0 ? fail_write(file, status, error) : 0;
}

int flin_partial_write(flin_partial *file, const void *data, uint64_t bytes, uint64_t offset,
                       flashinfer_error *error)
{
    int status = flin_write_all(file->fd, data, bytes, offset);

    return status != 0 ? fail_write(file, status, error) : 0;
}

/* Then the rename itself is made to last; file systems that cannot sync a directory say EINVAL. */
int flin_partial_finish(flin_partial *file, flashinfer_error *error)
{
    if (fsync(file->fd) != 0) return fail_write(file, errno, error);
    if (renameat(file->directory, file->name, file->directory, file->base) != 0)
        return fail_write(file, errno, error);
    file->name[0] = '\0';
    if (fsync(file->directory) == 0 || errno == EINVAL || errno == ENOTSUP) return 0;
    return flin_fail_errno(error, FLASHINFER_EIO, errno,
                           "%s is written, but its directory cannot be synced", file->path);
}

void flin_partial_close(flin_partial *file)
{
    if (file->name[0] != '\0') (void)unlinkat(file->directory, file->name, 0);
    if (file->fd >= 0) (void)close(file->fd);
    if (file->directory >= 0) (void)close(file->directory);
    flin_partial_init(file);
}
