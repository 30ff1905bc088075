/*
 * cancel.c - a stop button: one thread generates, another one stops it.
 *
 * The lesson: flashinfer_session_cancel() may come from any thread; the running call returns FLASHINFER_ECANCELED and
 * the session goes on from where it stands. A cancel that finds no call running does nothing, so a loop of calls needs a
 * flag of its own, and a button may be pressed too late or too often.
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "story.h"

typedef struct button {
    flashinfer_session *session;
    uint32_t at;         /* pressed when the session has so many tokens */
    _Atomic int pressed; /* by the button's thread, before it cancels: stops the loop */
    _Atomic int over;    /* by the other: nothing left to stop */
} button;

/* The user's finger. The position may be asked for beside a running call, so a host can also show it. */
static void *press(void *user)
{
    button *stop = user;
    const struct timespec pause = {0, 200000};

    while (!atomic_load(&stop->over) && flashinfer_session_position(stop->session) < stop->at)
        (void)nanosleep(&pause, NULL);
    atomic_store(&stop->pressed, 1);
    while (!atomic_load(
        &stop->over)) { /* once more where it met the loop between its look and its call */
        flashinfer_session_cancel(stop->session);
        (void)nanosleep(&pause, NULL);
    }
    return NULL;
}

/* Greedy, without an end of its own. */
static int generate(button *stop, flashinfer_error *error)
{
    flashinfer_session *session = stop->session;
    int code = 0;

    while (code == 0 && !atomic_load(&stop->pressed)) {
        size_t vocab, best = 0;
        const float *logits = flashinfer_logits(session, &vocab);

        for (size_t i = 1; i < vocab; i++)
            if (logits[i] > logits[best]) best = i;
        code = flashinfer_step(session, (int32_t)best, error);
    }
    return code;
}

static int run(flashinfer_model *model, uint32_t at, flashinfer_error *error)
{
    button stop = {.at = at};
    flashinfer_session *session;
    pthread_t thread;
    int32_t prompt[64];
    size_t count;
    int code = flashinfer_session_create(model, &session, error);

    if (code == 0)
        code = flashinfer_tokenize(model, STORY_PROMPT, strlen(STORY_PROMPT),
                                   FLASHINFER_TOKENIZE_BOS, prompt, 64, &count, error);
    if (code == 0) code = flashinfer_eval(session, prompt, count, error);
    stop.session = session;
    if (code == 0 && pthread_create(&thread, NULL, press, &stop) == 0) {
        code = generate(&stop, error);
        atomic_store(&stop.over, 1);
        (void)pthread_join(thread, NULL);
        (void)printf("stopped at position %u\n", flashinfer_session_position(session));
    }
    if (code == FLASHINFER_ECANCELED)
        code = 0;                        /* no failure here; 0: it was pressed between two steps */
    flashinfer_session_destroy(session); /* this one could go on as well */
    return code != 0 ? code : story_tell(model, STORY_PROMPT, 24, stdout, error);
}

int main(int argc, char **argv)
{
    flashinfer_model *model = NULL;
    flashinfer_error error;
    int at = argc == 3 ? atoi(argv[2]) : 0, code;

    if (at < 1) {
        (void)fprintf(stderr, "usage: cancel MODEL.gguf POSITION\n");
        return 2;
    }
    flashinfer_error_init(&error, sizeof error);
    code = flashinfer_model_open(argv[1], NULL, &model, &error);
    if (code == 0) code = run(model, (uint32_t)at, &error);
    (void)flashinfer_model_close(model);
    return story_end(code, &error);
}
