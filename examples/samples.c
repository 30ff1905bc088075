/*
 * samples.c - see samples.h.
 */
#define _GNU_SOURCE
#include "samples.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "program.h"

#define HEAD_BYTES 4096u

/* First page of the file. */
struct samples_head {
    char magic[8];
    uint64_t key; /* of model, text and options */
    uint32_t layers, width, window, windows;
    uint32_t done;     /* windows complete */
    uint32_t position; /* tokens of the current one */
};

static const char magic[8] = {'F', 'L', 'S', 'A', 'M', 'P', 'L', '1'};

static int fail(const samples *at, const char *what)
{
    (void)fprintf(stderr, "cannot %s %s: %s\n", what, at->path, strerror(errno));
    return 1;
}

static int map(samples *at)
{
    uint64_t row = (uint64_t)at->layers * at->width * sizeof(float);
    void *mapped;

    at->mapped_bytes = HEAD_BYTES + samples_count(at) * row;
    at->fd = open(at->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (at->fd < 0) return fail(at, "open");
    if (flock(at->fd, LOCK_EX | LOCK_NB) != 0) return fail(at, "have alone");
    /* a full disk is an error now, not a signal later */
    errno = posix_fallocate(at->fd, 0, (off_t)at->mapped_bytes);
    if (errno != 0) return fail(at, "make room for");
    mapped = mmap(NULL, at->mapped_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, at->fd, 0);
    if (mapped == MAP_FAILED) return fail(at, "map");
    at->head = mapped;
    at->data = (float *)(void *)((char *)mapped + HEAD_BYTES);
    return 0;
}

int samples_open(samples *at, const flashinfer_info *info, const char *path, uint64_t key)
{
    struct samples_head head = {.key = key, .window = at->window, .windows = at->windows};

    at->layers = head.layers = info->layer_count;
    at->width = head.width = info->embedding_length;
    memcpy(head.magic, magic, sizeof magic);
    at->path = malloc(strlen(path) + sizeof ".samples");
    if (at->path == NULL) {
        (void)fprintf(stderr, "no memory\n");
        return 1;
    }
    (void)sprintf(at->path, "%s.samples", path);
    if (map(at) != 0) return 1;
    if (key == 0 || at->head->done > at->windows ||
        memcmp(&head, at->head, offsetof(struct samples_head, done)) != 0) {
        *at->head = head; /* nothing, or of another run */
    } else if (at->head->done != 0) {
        (void)fprintf(stderr, "going on after %u of %u windows (%s)\n", at->head->done, at->windows,
                      at->path);
    }
    return 0;
}

void samples_take(const flashinfer_ffn_input *input, void *user)
{
    samples *at = user;
    struct samples_head *head = at->head;
    float *to;

    if (head == NULL || head->done >= at->windows || head->position >= at->window) return;
    to = at->data +
         (((uint64_t)head->done * at->layers + input->layer) * at->window + head->position) *
             at->width;
    memcpy(to, input->x, at->width * sizeof *to);
    if (input->layer + 1 == at->layers) head->position++;
}

static void show(const samples *at, uint32_t begun, double since)
{
    uint32_t made = at->head->done - begun;

    (void)fprintf(stderr, "\rrunning the model: %u of %u tokens, %.0f s left   ",
                  at->head->done * at->window, samples_count(at),
                  made != 0 ? (program_seconds() - since) * (at->windows - at->head->done) / made
                            : 0.0);
}

void samples_begin_window(samples *at)
{
    if (at->head != NULL) at->head->position = 0;
}

void samples_end_window(samples *at)
{
    if (at->head == NULL || at->head->done >= at->windows) return;
    if (at->head->position == at->window) at->head->done++;
}

size_t samples_begin(const samples *at, uint32_t window, size_t count)
{
    return at->windows > 1 ? (count - at->window) * window / (at->windows - 1) : 0;
}

int samples_run(samples *at, flashinfer_session *session, const int32_t *ids, size_t count,
                flashinfer_error *error)
{
    struct samples_head *head = at->head;
    uint32_t begun = head->done;
    double since = program_seconds();
    int code = 0;

    while (head->done < at->windows && code == 0) {
        samples_begin_window(at);
        code = flashinfer_session_rewind(session, 0, error);
        if (code == 0)
            code = flashinfer_eval(session, ids + samples_begin(at, head->done, count), at->window,
                                   error);
        if (code != 0) break;
        samples_end_window(at);
        show(at, begun, since);
    }
    (void)fprintf(stderr, "\n");
    return code;
}

void samples_close(samples *at, int complete)
{
    if (at->head != NULL) (void)munmap(at->head, at->mapped_bytes);
    if (at->path != NULL && at->fd >= 0) (void)close(at->fd);
    if (at->path != NULL && complete) (void)unlink(at->path);
    free(at->path);
    memset(at, 0, sizeof *at);
}
