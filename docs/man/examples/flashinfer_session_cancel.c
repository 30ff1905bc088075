/* A stop button: one thread generates, another stops it. The flag ends the loop when the button is pressed between two
 * calls, and the cancel stops a call that runs. Build it with -pthread. */
#define _POSIX_C_SOURCE 200809L
#include <flashinfer.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

typedef struct button {
    flashinfer_session *session;
    atomic_int pressed;
} button;

static void *press(void *user)
{
    const struct timespec pause = {0, 50 * 1000 * 1000};
    button *stop = user;

    nanosleep(&pause, NULL); /* the user reads */
    atomic_store(&stop->pressed, 1);
    flashinfer_session_cancel(stop->session);
    return NULL;
}

static int generate(button *stop, flashinfer_error *error)
{
    int code = flashinfer_step(stop->session, 2, error);

    while (code == 0 && !atomic_load(&stop->pressed)) {
        size_t vocab, best = 0;
        const float *logits = flashinfer_logits(stop->session, &vocab);

        for (size_t i = 1; i < vocab; i++)
            if (logits[i] > logits[best]) best = i;
        code = flashinfer_step(stop->session, (int32_t)best, error);
    }
    return code == FLASHINFER_ECANCELED || code == FLASHINFER_ECONTEXT
               ? 0
               : code;
}

int main(int argc, char **argv)
{
    button stop = {NULL, 0};
    flashinfer_model *model;
    flashinfer_error error;
    pthread_t thread;
    int code;

    if (argc != 2) return 2;
    flashinfer_error_init(&error, sizeof error);
    code = flashinfer_model_open(argv[1], NULL, &model, &error);
    if (code == 0)
        code = flashinfer_session_create(model, &stop.session, &error);
    if (code == 0 && pthread_create(&thread, NULL, press, &stop) == 0) {
        code = generate(&stop, &error);
        pthread_join(thread, NULL); /* before the session goes */
        printf("stopped after %u tokens\n",
               (unsigned)flashinfer_session_position(stop.session));
    }
    if (code != 0) fprintf(stderr, "%s\n", error.text);
    flashinfer_session_destroy(stop.session);
    flashinfer_model_close(model);
    return code != 0;
}
