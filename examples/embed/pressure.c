/*
 * pressure.c - memory is short elsewhere: give some back while the model runs, take it again when it is quiet.
 *
 * The lesson: flashinfer_model_set_budget() from any thread, between two steps; the text does not change. What tells of
 * pressure is the host's matter. Here: a pressure file of Linux (/proc/pressure/memory, or memory.pressure of a control
 * group), or "-": every byte on standard input is one call for memory, as from onTrimMemory() or a memory warning.
 */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../arguments.h"
#include "story.h"

#define STALL                                                                                      \
    "some 100000 2000000" /* tell when tasks stood still for memory for 100 ms within 2 s */
#define QUIET_MS 3000     /* so long without pressure: grow again */

typedef struct watch {
    flashinfer_model *model;
    int fd;       /* of the source */
    short events; /* what poll() is to tell of it */
    int stop;     /* read end of a pipe that is closed at the end */
    int failed;
} watch;

static double resident_mb(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (file == NULL) return 0;
    if (fscanf(file, "%*s %ld", &pages) != 1) pages = 0;
    (void)fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

/* A quarter less, never below what works; or a quarter more, never above what helps. */
static void change(watch *at, int less)
{
    flashinfer_plan plan = {.size = sizeof plan};
    uint64_t budget;

    (void)flashinfer_model_plan(at->model, &plan);
    budget = less ? plan.planned_bytes / 4 * 3 : plan.planned_bytes / 4 * 5;
    if (budget < plan.minimum_bytes) budget = plan.minimum_bytes;
    if (budget > plan.maximum_bytes) budget = plan.maximum_bytes;
    if (budget / 4096 == plan.planned_bytes / 4096) return;
    if (flashinfer_model_set_budget(at->model, budget, NULL) != 0) {
        at->failed = 1;
        return;
    }
    (void)fprintf(stderr, "%s: budget %.2f MB -> %.2f MB, process now %.2f MB\n",
                  less ? "pressure" : "quiet", (double)plan.planned_bytes / 1e6,
                  (double)budget / 1e6, resident_mb());
}

/* One call for memory. 0: the source has ended. */
static int take(const watch *at)
{
    char byte;

    return at->events == POLLPRI || read(at->fd, &byte, 1) == 1;
}

static void *watch_main(void *user)
{
    watch *at = user;
    struct pollfd fds[2] = {{at->fd, at->events, 0}, {at->stop, POLLIN, 0}};

    for (;;) {
        int ready = poll(fds, 2, QUIET_MS);

        if (ready == 0) change(at, 0);
        if (ready <= 0) continue;
        if ((fds[0].revents & at->events) != 0 && take(at))
            change(at, 1);
        else if (fds[0].revents != 0)
            fds[0].fd = -1;
        else if (fds[1].revents != 0)
            return NULL;
    }
}

static int watch_source(watch *at, const char *source)
{
    at->events = strcmp(source, "-") == 0 ? POLLIN : POLLPRI;
    at->fd = at->events == POLLIN ? 0 : open(source, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (at->fd >= 0 && (at->events == POLLIN || write(at->fd, STALL, sizeof STALL) > 0)) return 0;
    (void)fprintf(stderr, "cannot watch %s; \"-\" takes standard input\n", source);
    return 1;
}

static const char usage[] =
    "Tells a story, and gives memory back while others are short of it.\n"
    "pressure MODEL.gguf SOURCE|- [SECONDS]\n"
    "  MODEL.gguf   model file\n"
    "  SOURCE       a pressure file of Linux, such as /proc/pressure/memory; -: every byte on "
    "standard input is a call for memory\n"
    "  SECONDS      tell it again and again for so long (default: 0, once)";

int main(int argc, char **argv)
{
    const char *given[3] = {NULL};
    uint32_t seconds = 0;
    watch at = {0};
    flashinfer_error error;
    pthread_t thread;
    int pipe_fds[2], code;
    time_t until;

    if (program_parse_some(argc, argv, NULL, 0, given, 2, 3, usage) != 0 ||
        program_u32("SECONDS", given[2], 0, 1000000, &seconds) != 0)
        return 2;
    until = time(NULL) + seconds;
    flashinfer_error_init(&error, sizeof error);
    if (watch_source(&at, given[1]) != 0 || pipe(pipe_fds) != 0) return 1;
    at.stop = pipe_fds[0];
    code = flashinfer_model_open(given[0], NULL, &at.model, &error);
    if (code == 0 && pthread_create(&thread, NULL, watch_main, &at) != 0)
        code = FLASHINFER_ETHREAD;
    else if (code == 0) {
        do code = story_tell(at.model, STORY_PROMPT, 200, stdout, &error);
        while (code == 0 && time(NULL) < until);
        (void)close(pipe_fds[1]);
        (void)pthread_join(thread, NULL);
    }
    (void)flashinfer_model_close(at.model);
    return at.failed ? 1 : story_end(code, &error);
}
