/*
 * test_cancel.c - a cancel stops the calls it finds, running or waiting for their turn, and never one that is made later:
 * too late, from callbacks, from a signal handler, from other threads, in prompts of many chunks, beside other sessions.
 *
 * usage: test_cancel MODEL.gguf
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "support.h"

#include "engine/state.h"

#define PROMPT 200 /* several chunks */
#define CHUNKS_MAX 32u

static const char *model_path;
static int32_t prompt[PROMPT];

typedef struct scene {
    flashinfer_model *model;
    flashinfer_session *session, *other;
    flashinfer_error error;
    void (*act)(struct scene *host); /* in a callback; NULL: nothing is done there */
    uint64_t at;                     /* progress: when so many tokens are done; audit: the layer */
    uint32_t acted, start_count;
    uint64_t *starts; /* (CHUNKS_MAX) receives where chunks of a prompt begin; NULL: nothing */
} scene;

static scene *here; /* for the signal handler */

static void act_at(scene *host, uint64_t at)
{
    if (host->act == NULL || at != host->at || host->acted != 0) return;
    host->acted++;
    host->act(host);
}

static int on_progress(const flashinfer_progress *progress, void *user)
{
    scene *host = user;

    if (strcmp(progress->stage, "eval") != 0) return 0;
    act_at(host, progress->done);
    if (host->starts != NULL && host->start_count < CHUNKS_MAX)
        host->starts[host->start_count++] = progress->done;
    return 0;
}

static void on_audit(const flashinfer_audit *audit, void *user)
{
    act_at(user, audit->layer);
}

static void on_audit_of_the_last_layer(const flashinfer_audit *audit, void *user)
{
    if (audit->layer + 1 == audit->layer_count) on_audit(audit, user);
}

static void open_host(scene *host, flashinfer_audit_callback audit)
{
    flashinfer_options options;

    memset(host, 0, sizeof *host);
    flashinfer_error_init(&host->error, sizeof host->error);
    flashinfer_options_init(&options, sizeof options);
    options.threads = 2;
    options.context_tokens = 256;
    options.session_count = 2;
    options.progress = on_progress;
    options.progress_user = host;
    options.audit = audit;
    options.audit_user = host;
    options.audit_interval = audit != NULL;
    options.audit_layers = 64;
    if (flashinfer_model_open(model_path, &options, &host->model, &host->error) != 0 ||
        flashinfer_session_create(host->model, &host->session, &host->error) != 0 ||
        flashinfer_session_create(host->model, &host->other, &host->error) != 0)
        fail_msg("%s", host->error.text);
}

static void close_host(scene *host)
{
    flashinfer_session_destroy(host->session);
    flashinfer_session_destroy(host->other);
    assert_int_equal(flashinfer_model_close(host->model), 0);
}

static void expect(scene *host, int code, int wanted)
{
    if (code != wanted) fail_msg("%d, not %d: %s", code, wanted, host->error.text);
}

static int eval(scene *host, uint32_t count)
{
    return flashinfer_eval(host->session, prompt, count, &host->error);
}

static int step(scene *host, flashinfer_session *session)
{
    return flashinfer_step(session, 300, &host->error);
}

static void cancel(scene *host)
{
    flashinfer_session_cancel(host->session);
}

static void one_that_finds_no_call_does_nothing(void **state)
{
    scene host;

    (void)state;
    open_host(&host, NULL);
    cancel(&host); /* before any call */
    expect(&host, step(&host, host.session), 0);
    cancel(&host);
    cancel(&host);
    expect(&host, eval(&host, PROMPT), 0);
    assert_non_null(flashinfer_logits(host.session, NULL));
    cancel(&host);
    expect(&host, flashinfer_session_rewind(host.session, 0, &host.error), 0);
    expect(&host, flashinfer_eval(host.session, prompt, 0, &host.error), 0);
    expect(&host, flashinfer_step(host.session, -1, &host.error), FLASHINFER_ETOKEN);
    cancel(&host);
    expect(&host, eval(&host, 4), 0);
    cancel(&host);
    flashinfer_session_destroy(host.session); /* the place is another session's then */
    expect(&host, flashinfer_session_create(host.model, &host.session, &host.error), 0);
    expect(&host, step(&host, host.session), 0);
    assert_int_equal(flashinfer_session_position(host.session), 1);
    flashinfer_session_cancel(NULL);
    close_host(&host);
}

/* In the callback before each of a prompt's chunks in turn. */
static void a_prompt_of_many_chunks_ends_where_it_comes(void **state)
{
    scene host;
    uint64_t starts[CHUNKS_MAX];
    uint32_t chunks;

    (void)state;
    open_host(&host, NULL);
    host.starts = starts;
    expect(&host, eval(&host, PROMPT), 0);
    chunks = host.start_count;
    assert_in_range(chunks, 2, CHUNKS_MAX);
    host.starts = NULL;
    for (uint32_t i = 0; i < chunks; i++) {
        host.act = cancel;
        host.at = starts[i];
        host.acted = 0;
        expect(&host, flashinfer_session_rewind(host.session, 0, &host.error), 0);
        expect(&host, eval(&host, PROMPT), FLASHINFER_ECANCELED);
        assert_int_equal(host.acted, 1);
        assert_int_equal(flashinfer_session_position(host.session), starts[i]);
        assert_null(flashinfer_logits(host.session, NULL));
        /* the rest of the prompt is another call, which nothing stops */
        expect(&host, eval(&host, PROMPT - (uint32_t)starts[i]), 0);
        assert_int_equal(flashinfer_session_position(host.session), PROMPT);
    }
    print_message("%u chunks\n", chunks);
    close_host(&host);
}

/* In an audit's callback: in the first layer there is much left to stop, in the last one nothing. */
static void from_a_callback_of_a_step(void **state)
{
    scene host;

    (void)state;
    open_host(&host, on_audit);
    host.act = cancel;
    expect(&host, step(&host, host.session), FLASHINFER_ECANCELED);
    assert_int_equal(flashinfer_session_position(host.session), 0);
    expect(&host, step(&host, host.session), 0);
    assert_int_equal(host.acted, 1);
    close_host(&host);

    open_host(&host, on_audit_of_the_last_layer);
    for (host.at = 0; host.acted == 0; host.at++) {
        host.act = cancel;
        expect(&host, flashinfer_session_rewind(host.session, 0, &host.error), 0);
        expect(&host, step(&host, host.session), 0);
    }
    assert_int_equal(flashinfer_session_position(host.session), 1);
    expect(&host, step(&host, host.session), 0); /* it came too late, and is forgotten */
    assert_int_equal(flashinfer_session_position(host.session), 2);
    close_host(&host);
}

static void on_signal(int number)
{
    (void)number;
    flashinfer_session_cancel(here->session);
}

static void raise_signal(scene *host)
{
    here = host;
    (void)raise(SIGUSR1);
}

static void from_a_signal_handler(void **state)
{
    struct sigaction mine = {.sa_handler = on_signal}, before;
    scene host;

    (void)state;
    open_host(&host, on_audit);
    assert_int_equal(sigaction(SIGUSR1, &mine, &before), 0);
    host.act = raise_signal;
    expect(&host, step(&host, host.session), FLASHINFER_ECANCELED);
    raise_signal(&host); /* no call runs */
    expect(&host, step(&host, host.session), 0);
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
    close_host(&host);
}

/* The running call's callback cancels the other session, which runs nothing, then its own. */
static void cancel_the_other(scene *host)
{
    flashinfer_session_cancel(host->other);
}

static void other_sessions_go_on(void **state)
{
    scene host;

    (void)state;
    open_host(&host, on_audit);
    host.act = cancel_the_other;
    expect(&host, step(&host, host.session), 0);
    expect(&host, step(&host, host.other), 0);
    host.acted = 0;
    host.act = cancel;
    expect(&host, step(&host, host.session), FLASHINFER_ECANCELED);
    expect(&host, step(&host, host.other), 0);
    close_host(&host);
}

static void *step_the_other(void *user)
{
    scene *host = user;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    return (void *)(intptr_t)flashinfer_step(host->other, 300, &error);
}

static pthread_t waiting;

/* In a callback, so the model is busy: a call on the other session waits for its turn and is cancelled there. */
static void let_one_wait_and_cancel_it(scene *host)
{
    const struct timespec pause = {0, 100000};

    assert_int_equal(pthread_create(&waiting, NULL, step_the_other, host), 0);
    while (atomic_load(&host->other->called) == 0) (void)nanosleep(&pause, NULL);
    flashinfer_session_cancel(host->other);
}

static void a_call_that_waits_is_stopped_too(void **state)
{
    scene host;
    void *code;

    (void)state;
    open_host(&host, on_audit);
    host.act = let_one_wait_and_cancel_it;
    expect(&host, step(&host, host.session), 0);
    assert_int_equal(pthread_join(waiting, &code), 0);
    assert_int_equal((int)(intptr_t)code, FLASHINFER_ECANCELED);
    assert_int_equal(flashinfer_session_position(host.other), 0);
    expect(&host, step(&host, host.other), 0);
    close_host(&host);
}

typedef struct presses {
    flashinfer_session *session;
    uint32_t count;
    _Atomic int over;
} presses;

static void *press_often(void *user)
{
    const struct timespec pause = {0, 2000000};
    presses *button = user;

    while (!atomic_load(&button->over)) {
        flashinfer_session_cancel(button->session);
        button->count++;
        (void)nanosleep(&pause, NULL);
    }
    return NULL;
}

/* Two buttons pressed at any moment: every press stops at most the call it finds, and once they rest nothing is left. */
static void many_at_any_moment(void **state)
{
    scene host;
    uint32_t stopped = 0;

    (void)state;
    open_host(&host, NULL);
    for (uint32_t round = 0; round < 30; round++) {
        presses buttons[2] = {{.session = host.session}, {.session = host.session}};
        pthread_t threads[2];
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, press_often, &buttons[i]), 0);
        for (uint32_t i = 0; i < 8; i++) {
            int code = i % 4 == 3 ? eval(&host, 40) : step(&host, host.session);
            if (code != 0) assert_int_equal(code, FLASHINFER_ECANCELED);
            stopped += code != 0;
        }
        for (int i = 0; i < 2; i++) atomic_store(&buttons[i].over, 1);
        for (int i = 0; i < 2; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
        expect(&host, flashinfer_session_rewind(host.session, 0, &host.error), 0);
        expect(&host, step(&host, host.session), 0);
        expect(&host, eval(&host, 40), 0);
        expect(&host, flashinfer_session_rewind(host.session, 0, &host.error), 0);
    }
    assert_true(stopped > 0);
    print_message("%u of %u calls stopped\n", stopped, 30 * 8);
    close_host(&host);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_finds_no_call_does_nothing),
        cmocka_unit_test(a_prompt_of_many_chunks_ends_where_it_comes),
        cmocka_unit_test(from_a_callback_of_a_step),
        cmocka_unit_test(from_a_signal_handler),
        cmocka_unit_test(other_sessions_go_on),
        cmocka_unit_test(a_call_that_waits_is_stopped_too),
        cmocka_unit_test(many_at_any_moment),
    };

    if (argc != 2) return 2;
    model_path = argv[1];
    for (uint32_t i = 0; i < PROMPT; i++) prompt[i] = (int32_t)(5 + i * 37 % 900);
    return cmocka_run_group_tests_name("cancel", tests, NULL, NULL);
}
