/* Reads a model through functions of the host: here from a file, one read at a time for every reading thread. */
#include <errno.h>
#include <fcntl.h>
#include <flashinfer_backend.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int host_caps(void *user, flashinfer_storage_caps *caps)
{
    struct stat about;

    if (fstat(*(int *)user, &about) != 0) return -errno;
    caps->alignment = 1;
    caps->length_bytes = (uint64_t)about.st_size;
    return 0;
}

static int64_t host_read(void *user, uint64_t offset, void *data,
                         size_t bytes)
{
    ssize_t got = pread(*(int *)user, data, bytes, (off_t)offset);

    return got < 0 ? -errno : got;
}

static void host_close(void *user)
{
    close(*(int *)user);
}

int main(int argc, char **argv)
{
    flashinfer_storage_ops ops = {.size = sizeof ops,
                                  .caps = host_caps,
                                  .read = host_read,
                                  .close = host_close};
    flashinfer_error error;
    flashinfer_model *model;
    int fd;

    if (argc != 2) return 2;
    fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        perror(argv[1]);
        return 1;
    }
    ops.user = &fd;
    flashinfer_error_init(&error, sizeof error);
    if (flashinfer_model_open_storage(&ops, NULL, &model, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        close(fd); /* ops.close is not called when opening failed */
        return 1;
    }
    puts("opened");
    return flashinfer_model_close(model) != 0;
}
