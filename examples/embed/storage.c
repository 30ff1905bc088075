/*
 * storage.c - a model only the host can reach: here one that was cut into parts, as downloads and asset packs are.
 *
 * The lesson: fill a flashinfer_storage_ops with caps and read and open with flashinfer_model_open_storage(). All
 * else is as with a file: budget, cache, checksums, errors.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../arguments.h"
#include "flashinfer_backend.h"
#include "story.h"

#define PARTS_MAX 64

typedef struct parts {
    uint32_t count;
    int fds[PARTS_MAX];
    uint64_t ends[PARTS_MAX]; /* bytes of the model up to and with this part */
} parts;

static int caps(void *user, flashinfer_storage_caps *caps)
{
    const parts *model = user;

    caps->alignment = 1; /* pread takes any offset */
    caps->depth = 64;
    caps->segments_max = 8;
    caps->length_bytes = model->ends[model->count - 1];
    return 0;
}

/* Called from several of the library's threads at once: it must not change what it shares with itself. A read may
   begin in one part and end in another. */
static int64_t read_parts(void *user, uint64_t offset, void *data, size_t bytes)
{
    const parts *model = user;
    size_t done = 0;
    uint32_t part = 0;

    while (done < bytes) {
        uint64_t at = offset + done;
        while (part < model->count && at >= model->ends[part]) part++;
        if (part == model->count) break;
        uint64_t begin = part != 0 ? model->ends[part - 1] : 0;
        uint64_t left = model->ends[part] - at;
        size_t wanted = left < bytes - done ? (size_t)left : bytes - done;
        ssize_t got = pread(model->fds[part], (char *)data + done, wanted, (off_t)(at - begin));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -errno; /* the library reads once more, then fails with this errno */
        if (got == 0) return -EIO;  /* a part became shorter */
        done += (size_t)got;
    }
    return (int64_t)done;
}

/* Called once by flashinfer_model_close(); never by an open that failed. */
static void close_parts(void *user)
{
    parts *model = user;

    for (uint32_t i = 0; i < model->count; i++) (void)close(model->fds[i]);
    model->count = 0;
}

/* paths: NULL after the last, unless there are PARTS_MAX */
static int open_parts(parts *model, const char *const *paths)
{
    uint64_t end = 0;

    for (int i = 0; i < PARTS_MAX && paths[i] != NULL; i++) {
        struct stat info;
        int fd = open(paths[i], O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
            (void)fprintf(stderr, "cannot read %s\n", paths[i]);
            if (fd >= 0) (void)close(fd);
            return 1;
        }
        model->fds[model->count] = fd;
        model->ends[model->count++] = end += (uint64_t)info.st_size;
    }
    return 0;
}

static const char usage[] = "Tells a story by a model that was cut into parts.\n"
                            "storage PART...\n"
                            "  PART   the parts in their order";

int main(int argc, char **argv)
{
    const char *given[PARTS_MAX] = {NULL};
    parts mine = {0};
    flashinfer_storage_ops ops;
    flashinfer_model *model = NULL;
    flashinfer_error error;
    int code;

    if (program_parse_some(argc, argv, NULL, 0, given, 1, PARTS_MAX, usage) != 0) return 2;
    flashinfer_error_init(&error, sizeof error);
    memset(&ops, 0, sizeof ops);
    ops.size = sizeof ops;
    ops.user = &mine;
    ops.caps = caps;
    ops.read = read_parts;
    ops.close = close_parts;
    if (open_parts(&mine, given) != 0) {
        close_parts(&mine);
        return 1;
    }
    code = flashinfer_model_open_storage(&ops, NULL, &model, &error);
    if (code != 0) close_parts(&mine);
    if (code == 0) code = story_tell(model, STORY_PROMPT, 24, stdout, &error);
    (void)flashinfer_model_close(model);
    return story_end(code, &error);
}
