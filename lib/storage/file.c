/*
 * file.c - a model in a file: what may be opened, which part of it, and which backend reads it.
 *
 * Owns: checks of the file, the order in which backends are tried, the truth test.
 * Refuses: reading (libaio.c, uring.c, lanes.c), what only one system has (system.h).
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "storage/backends.h"

#define TRUTH_BYTES FLIN_STORAGE_ALIGNMENT_MAX

/* An open file that was found fit: its part [base, base + length) is the model. */
typedef struct file_source {
    int fd;
    int reserved;
    const char *path;  /* NULL: the caller's descriptor */
    const char *label; /* for error texts */
    uint64_t base;
    uint64_t length;
    struct stat info;
} file_source;

/* ---------------------------------------------------------------------------- what is opened */

static int device_bytes(int fd, uint64_t *bytes)
{
    off_t before = lseek(fd, 0, SEEK_CUR);
    off_t end = lseek(fd, 0, SEEK_END);

    if (before < 0 || end < 0) return errno;
    (void)lseek(fd, before, SEEK_SET);
    *bytes = (uint64_t)end;
    return 0;
}

/* Fills info, base and length. length 0: to the end. */
static int check_source(file_source *source, uint64_t offset, uint64_t length,
                        flashinfer_error *error)
{
    uint64_t bytes = 0;
    int status = 0;

    if (fstat(source->fd, &source->info) != 0)
        return flin_fail_errno(error, FLASHINFER_EIO, errno, "cannot look at %s", source->label);
    if (S_ISDIR(source->info.st_mode))
        return flin_fail_errno(error, FLASHINFER_EIO, EISDIR,
                               "%s is a directory, not a model file; a checkpoint is packed first, "
                               "with flashinfer_pack()",
                               source->label);
    if (S_ISREG(source->info.st_mode))
        bytes = (uint64_t)source->info.st_size;
    else if (S_ISBLK(source->info.st_mode))
        status = device_bytes(source->fd, &bytes);
    else
        status = ESPIPE;
    if (status != 0)
        return flin_fail_errno(error, FLASHINFER_EIO, status,
                               "%s is neither a regular file nor a block device", source->label);
    if (bytes == 0)
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "%s is an empty file, truncated: fetch it again", source->label);
    if (offset >= bytes || length > bytes - offset)
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "truncated: %s has %" PRIu64 " bytes, the model was to be %" PRIu64
                         " at offset %" PRIu64,
                         source->label, bytes, length, offset);
    source->base = offset;
    source->length = length != 0 ? length : bytes - offset;
    return 0;
}

/* ---------------------------------------------------------------------------- how it is read */

static int is_same_file(int fd, const struct stat *info)
{
    struct stat again;

    return fstat(fd, &again) == 0 && again.st_dev == info->st_dev && again.st_ino == info->st_ino;
}

/* Direct reads of this part must be possible by what the system says. */
static int check_direct(const file_source *source, uint32_t *alignment, flashinfer_error *error)
{
    if (source->base % FLIN_STORAGE_ALIGNMENT_MAX != 0)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "no direct I/O: offset %" PRIu64 " of the model in %s is not a multiple "
                         "of %u; use storage buffered",
                         source->base, source->label, FLIN_STORAGE_ALIGNMENT_MAX);
    *alignment = flin_file_direct_alignment(source->fd, &source->info);
    if (*alignment == 0)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "no direct I/O: the file system of %s has none; use storage buffered",
                         source->label);
    if (*alignment > FLIN_STORAGE_ALIGNMENT_MAX || (*alignment & (*alignment - 1)) != 0)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "no direct I/O: %s needs alignment %u, not a power of two up to %u; use "
                         "storage buffered",
                         source->label, *alignment, FLIN_STORAGE_ALIGNMENT_MAX);
    return 0;
}

/* Out of descriptors or memory says nothing about what the file can do. */
static int reopen_code(int sys_errno)
{
    switch (sys_errno) {
    case ENOMEM:
        return FLASHINFER_ENOMEM;
    case EMFILE:
    case ENFILE:
        return FLASHINFER_EIO;
    default:
        return FLASHINFER_EUNSUPPORTED;
    }
}

/* A descriptor of our own, in *fd. Where the system refuses a new description, the caller's is
   shared, without the read-ahead advice that would change it for the caller too. */
static int open_own(const file_source *source, int direct, int *fd, flashinfer_error *error)
{
    int own = flin_file_reopen(source->fd, source->path, direct);

    /* the path may lead to another file by now, and so may a descriptor's name */
    if (own >= 0 && !is_same_file(own, &source->info)) {
        (void)close(own);
        own = -ESTALE;
    }
    if (own < 0 && direct) {
        int code = reopen_code(-own);

        return flin_fail_errno(error, code, -own, "no direct I/O: %s cannot be opened for it%s",
                               source->label,
                               code == FLASHINFER_EUNSUPPORTED ? "; use storage buffered" : "");
    }
    if (own >= 0 && !direct) flin_file_expect_random(own);
    if (own < 0) own = fcntl(source->fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return flin_fail_errno(error, FLASHINFER_EIO, errno, "cannot open %s", source->label);
    *fd = own;
    return 0;
}

/* The first block through the backend equals the same block through the page cache: some network
   and user-space file systems accept O_DIRECT and then fail or lie. Buffered reads begin at an odd
   byte, which a descriptor that was opened for direct I/O would refuse. */
static int check_truth(flin_storage *storage, const file_source *source, flashinfer_error *error)
{
    _Alignas(FLIN_STORAGE_ALIGNMENT_MAX) uint8_t truth[TRUTH_BYTES];
    _Alignas(FLIN_STORAGE_ALIGNMENT_MAX) uint8_t block[TRUTH_BYTES];
    uint64_t bytes = source->length < TRUTH_BYTES ? source->length : TRUTH_BYTES;
    uint64_t skip = storage->caps.alignment == 1 && bytes > 1;
    ssize_t got;
    int status;

    do got = pread(source->fd, truth, TRUTH_BYTES, (off_t)source->base);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return flin_fail_errno(error, FLASHINFER_EIO, errno, "cannot read %s", source->label);
    status = flin_storage_read(storage, skip, block + skip, bytes - skip, "the first block", error);
    if (status != 0) return status;
    if ((uint64_t)got < bytes || memcmp(block + skip, truth + skip, (size_t)(bytes - skip)) != 0)
        return flin_fail(error, FLASHINFER_EIO,
                         "storage %s reads other bytes from %s than the page cache has; use "
                         "storage buffered",
                         storage->name, source->label);
    return 0;
}

static int open_backend(flin_storage *storage, const file_source *source,
                        const flin_storage_config *config, uint32_t kind, flashinfer_error *error)
{
    int direct = kind != FLASHINFER_STORAGE_BUFFERED;
    flin_file_part part = {-1, 1, source->base, source->length};
    flin_storage_config resolved;
    int status;

    if ((status = flin_storage_begin(storage, config, &resolved, error)) != 0) return status;
    if (direct) status = check_direct(source, &part.alignment, error);
    if (status == 0) status = open_own(source, direct, &part.fd, error);
    if (status == 0) {
        if (kind == FLASHINFER_STORAGE_LIBAIO)
            status = flin_libaio_open(storage, &part, &resolved, error);
        else if (kind == FLASHINFER_STORAGE_URING)
            status = flin_uring_open(storage, &part, &resolved, error);
        else
            status = flin_lanes_open_file(storage, &part, direct ? "pread" : "buffered", &resolved,
                                          error);
        if (status != 0) (void)close(part.fd);
    }
    if (status == 0) status = check_truth(storage, source, error);
    if (status != 0) flin_storage_close(storage);
    return status;
}

static int open_source(flin_storage *storage, const file_source *source,
                       const flin_storage_config *config, flashinfer_error *error)
{
    static const uint32_t direct[] = {FLASHINFER_STORAGE_LIBAIO, FLASHINFER_STORAGE_URING,
                                      FLASHINFER_STORAGE_PREAD};

    if (config->kind != FLASHINFER_STORAGE_DEFAULT)
        return open_backend(storage, source, config, config->kind, error);
    for (uint32_t index = 0; index < sizeof direct / sizeof direct[0]; index++)
        if (open_backend(storage, source, config, direct[index], NULL) == 0) return 0;
    return open_backend(storage, source, config, FLASHINFER_STORAGE_BUFFERED, error);
}

int flin_storage_open_path(flin_storage *storage, const char *path,
                           const flin_storage_config *config, flashinfer_error *error)
{
    file_source source = {.fd = -1, .path = path, .label = path};
    int status;

    memset(storage, 0, sizeof *storage);
    if (path == NULL || path[0] == '\0')
        return flin_fail(error, FLASHINFER_EINVAL, "no path of a model file given");
    /* O_NONBLOCK: a FIFO of that name must be refused, not waited for */
    do source.fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    while (source.fd < 0 && errno == EINTR);
    if (source.fd < 0) return flin_fail_errno(error, FLASHINFER_EIO, errno, "cannot open %s", path);
    status = check_source(&source, 0, 0, error);
    if (status == 0) status = open_source(storage, &source, config, error);
    (void)close(source.fd);
    return status;
}

int flin_storage_open_fd(flin_storage *storage, int fd, uint64_t offset, uint64_t length,
                         const flin_storage_config *config, flashinfer_error *error)
{
    char label[32];
    file_source source = {.fd = fd, .path = NULL, .label = label};
    int flags = fcntl(fd, F_GETFL);
    int status;

    memset(storage, 0, sizeof *storage);
    (void)snprintf(label, sizeof label, "file descriptor %d", fd);
    if (flags < 0) return flin_fail_errno(error, FLASHINFER_EINVAL, errno, "%s", label);
    if ((flags & O_ACCMODE) == O_WRONLY)
        return flin_fail_errno(error, FLASHINFER_EINVAL, EBADF, "%s is not open for reading",
                               label);
    status = check_source(&source, offset, length, error);
    if (status != 0) return status;
    return open_source(storage, &source, config, error);
}
