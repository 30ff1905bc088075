/*
 * test_fork.c - a child of fork() is told so by every call that would run, change or read a model of its parent's, gives
 * back what it inherited without waiting for anybody, and may open the model again; the parent runs on as if nothing was.
 *
 * usage: test_fork MODEL.gguf
 */
#define _GNU_SOURCE
#include "support.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault/host_file.h"

#define CHILD_S 10 /* what hangs ends by SIGALRM */
#define STEPS 8
#define FORK_AT 4

static const char *model_path;
static host_file file;   /* the same model for the host's callbacks */
static float *reference; /* (vocab) after STEPS steps in a process that never forks in between */
static _Atomic int closes_by_host; /* in this process */

/* Ends the child with the place of what failed. */
#define CHILD(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "child: line %d: %s\n", __LINE__, #condition);                   \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void host_close(void *user)
{
    (void)user;
    atomic_fetch_add(&closes_by_host, 1);
}

#define STORAGE_HOST 100u

static int open_by(uint32_t storage, flashinfer_progress_callback progress,
                   flashinfer_model **model, flashinfer_error *error)
{
    flashinfer_options options;
    flashinfer_storage_ops ops = {.size = sizeof ops,
                                  .user = &file,
                                  .caps = host_caps,
                                  .read = host_read,
                                  .close = host_close};

    flashinfer_options_init(&options, sizeof options);
    options.threads = 2;
    options.context_tokens = 64;
    options.session_count = 2;
    options.memory_budget = 17u << 20;
    options.progress = progress;
    if (storage == STORAGE_HOST) return flashinfer_model_open_storage(&ops, &options, model, error);
    options.storage = storage;
    return flashinfer_model_open(model_path, &options, model, error);
}

static int step_from_to(flashinfer_session *session, int from, int to, flashinfer_error *error)
{
    int code = 0;

    for (int i = from; i < to && code == 0; i++)
        code = flashinfer_step(session, 2 + 263 * i % 4000, error);
    return code;
}

static void expect_reference(const flashinfer_session *session)
{
    size_t vocab;
    const float *logits = flashinfer_logits(session, &vocab);

    assert_non_null(logits);
    assert_memory_equal(logits, reference, vocab * sizeof *logits);
}

static uint32_t count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    uint32_t count = 0;

    if (folder == NULL) return 0;
    while (readdir(folder) != NULL) count++;
    (void)closedir(folder);
    return count;
}

/* Bytes of address space, 0 where the system does not tell. */
static uint64_t mapped_bytes(void)
{
    FILE *statm = fopen("/proc/self/statm", "r");
    unsigned long long pages = 0;

    if (statm == NULL) return 0;
    if (fscanf(statm, "%llu", &pages) != 1) pages = 0;
    (void)fclose(statm);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int is_told(int code, const char *function, const flashinfer_error *error)
{
    return code == FLASHINFER_EINVAL && error->code == code &&
           strstr(error->text, function) != NULL && strstr(error->text, "forked") != NULL &&
           strstr(error->text, "open the model again") != NULL;
}

/* Everything but destroying and closing. */
static void refuse_in_child(flashinfer_model *model, flashinfer_session *session)
{
    static char state[1 << 22];
    static float rows[4096];
    const int32_t tokens[] = {2, 3, 4};
    flashinfer_session *another;
    flashinfer_stats stats = {.size = sizeof stats};
    flashinfer_plan plan = {.size = sizeof plan};
    flashinfer_error error;
    int32_t ids[8];
    size_t count;

    flashinfer_error_init(&error, sizeof error);
    CHILD(is_told(flashinfer_step(session, 2, &error), "flashinfer_step", &error));
    CHILD(is_told(flashinfer_eval(session, tokens, 3, &error), "flashinfer_eval", &error));
    CHILD(is_told(flashinfer_session_rewind(session, 0, &error), "_rewind", &error));
    CHILD(is_told(flashinfer_session_create(model, &another, &error), "_create", &error));
    CHILD(is_told(flashinfer_state_save(session, state, sizeof state, &count, &error), "_save",
                  &error));
    CHILD(is_told(flashinfer_state_load(session, state, sizeof state, &error), "_load", &error));
    CHILD(is_told(flashinfer_model_set_budget(model, 20u << 20, &error), "_set_budget", &error));
    CHILD(is_told(flashinfer_model_verify(model, &error), "_verify", &error));
    CHILD(is_told(flashinfer_model_ffn_rows(model, 0, FLASHINFER_PART_UP, 0, 1, rows, &error),
                  "_ffn_rows", &error));
    CHILD(flashinfer_model_reset_stats(model) == FLASHINFER_EINVAL);
    /* what only looks */
    CHILD(flashinfer_model_stats(model, &stats) == 0 && stats.tokens >= FORK_AT);
    CHILD(flashinfer_model_plan(model, &plan) == 0 && plan.budget_bytes == 17u << 20);
    CHILD(flashinfer_state_bytes(session) != 0);
    CHILD(flashinfer_tokenize(model, "a cat", 5, 0, ids, 8, &count, &error) == 0);
}

static void join_child(pid_t child, const char *name)
{
    int status;

    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) fail_msg("%s: the child hangs", name);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s: the child ended with %#x", name, status);
}

/* A thread sanitizer starts no thread in a child of several. */
static void run_again_in_child(uint32_t storage)
{
#if !defined(__SANITIZE_THREAD__)
    flashinfer_model *model;
    flashinfer_session *session;
    size_t vocab;

    CHILD(open_by(storage, NULL, &model, NULL) == 0);
    CHILD(flashinfer_session_create(model, &session, NULL) == 0);
    CHILD(step_from_to(session, 0, STEPS, NULL) == 0);
    (void)flashinfer_logits(session, &vocab);
    CHILD(memcmp(flashinfer_logits(session, NULL), reference, vocab * sizeof *reference) == 0);
    flashinfer_session_destroy(session);
    CHILD(flashinfer_model_close(model) == 0);
#else
    (void)storage;
#endif
}

static void run_child(uint32_t storage, flashinfer_model *model, flashinfer_session *session,
                      uint32_t descriptors)
{
    flashinfer_plan plan = {.size = sizeof plan};
    uint64_t before;
    size_t vocab;

    (void)alarm(CHILD_S);
    refuse_in_child(model, session);
    CHILD(flashinfer_session_position(session) == FORK_AT);
    CHILD(flashinfer_logits(session, &vocab) != NULL);
    CHILD(flashinfer_model_close(model) == FLASHINFER_EBUSY);
    flashinfer_session_destroy(session);
    CHILD(flashinfer_model_plan(model, &plan) == 0);
    before = mapped_bytes();
    CHILD(flashinfer_model_close(model) == 0);
    CHILD(before == 0 ||
          mapped_bytes() + plan.resident_bytes + plan.cache_bytes + plan.kv_bytes <= before);
    CHILD(count_descriptors() == descriptors);
    CHILD(atomic_load(&closes_by_host) == 0);
    run_again_in_child(storage);
    _exit(0);
}

static void children_are_told(void **state)
{
    static const struct {
        const char *name;
        uint32_t storage;
    } ways[] = {
        {"libaio", FLASHINFER_STORAGE_LIBAIO},  {"io_uring", FLASHINFER_STORAGE_URING},
        {"pread", FLASHINFER_STORAGE_PREAD},    {"buffered", FLASHINFER_STORAGE_BUFFERED},
        {"the host's callbacks", STORAGE_HOST},
    };
    flashinfer_error error;
    uint32_t checked = 0;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const uint32_t descriptors = count_descriptors();
        flashinfer_model *model;
        flashinfer_session *session;
        pid_t child;
        int code = open_by(ways[i].storage, NULL, &model, &error);

        if (code == FLASHINFER_EUNSUPPORTED) {
            print_message("%s: not here\n", ways[i].name);
            continue;
        }
        assert_ok(code);
        assert_ok(flashinfer_session_create(model, &session, &error));
        assert_ok(step_from_to(session, 0, FORK_AT, &error));
        atomic_store(&closes_by_host, 0);
        child = fork();
        if (child == 0) run_child(ways[i].storage, model, session, descriptors);
        join_child(child, ways[i].name);
        assert_ok(step_from_to(session, FORK_AT, STEPS, &error));
        expect_reference(session);
        assert_ok(flashinfer_model_verify(model, &error));
        flashinfer_session_destroy(session);
        assert_int_equal(flashinfer_model_close(model), 0);
        assert_int_equal(atomic_load(&closes_by_host), ways[i].storage == STORAGE_HOST);
        checked++;
    }
    assert_true(checked >= 2);
}

/* ------------------------------------------------------------------------------- beside a running call */

typedef struct runner {
    flashinfer_session *session;
    _Atomic int stop;
    _Atomic uint32_t rounds;
    int code;
} runner;

static void *run_rounds(void *argument)
{
    runner *at = argument;

    while (!atomic_load(&at->stop) && at->code == 0) {
        at->code = flashinfer_session_rewind(at->session, 0, NULL);
        if (at->code == 0) at->code = step_from_to(at->session, 0, STEPS, NULL);
        atomic_fetch_add(&at->rounds, 1);
    }
    return NULL;
}

/* The model's lock is held by a thread that the child does not have. */
static void a_running_call_does_not_lock_children_out(void **state)
{
    static const uint32_t storages[] = {FLASHINFER_STORAGE_DEFAULT, FLASHINFER_STORAGE_PREAD};
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (int way = 0; way < 2; way++) {
        flashinfer_model *model;
        flashinfer_session *session;
        runner at = {.code = 0};
        pthread_t thread;

        assert_ok(open_by(storages[way], NULL, &model, &error));
        assert_ok(flashinfer_session_create(model, &at.session, &error));
        assert_ok(flashinfer_session_create(model, &session, &error));
        assert_ok(step_from_to(session, 0, FORK_AT, &error));
        assert_int_equal(pthread_create(&thread, NULL, run_rounds, &at), 0);
        for (uint32_t turn = 1; turn <= 8; turn++) {
            pid_t child;

            while (atomic_load(&at.rounds) < turn) (void)usleep(500);
            (void)usleep(700 * turn);
            child = fork();
            if (child == 0) {
                (void)alarm(CHILD_S);
                refuse_in_child(model, session);
                flashinfer_session_destroy(session);
                flashinfer_session_destroy(at.session);
                CHILD(flashinfer_model_close(model) == 0);
                _exit(0);
            }
            join_child(child, "beside a running call");
        }
        atomic_store(&at.stop, 1);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(at.code, 0);
        expect_reference(at.session);
        assert_ok(step_from_to(session, FORK_AT, STEPS, &error));
        expect_reference(session);
        flashinfer_session_destroy(session);
        flashinfer_session_destroy(at.session);
        assert_int_equal(flashinfer_model_close(model), 0);
    }
}

/* ------------------------------------------------------------------------------- from a callback */

static flashinfer_model *calling_model;
static flashinfer_session *calling_session;
static uint32_t callbacks;

static int fork_in_eval(const flashinfer_progress *progress, void *user)
{
    pid_t child;

    (void)user;
    if (strcmp(progress->stage, "eval") != 0 || callbacks++ != 0) return 0;
    child = fork();
    if (child == 0) {
        (void)alarm(CHILD_S);
        refuse_in_child(calling_model, calling_session);
        flashinfer_session_destroy(calling_session);
        CHILD(flashinfer_model_close(calling_model) == 0);
        _exit(0);
    }
    join_child(child, "from a callback");
    return 0;
}

static void callbacks_may_fork(void **state)
{
    flashinfer_error error;
    int32_t tokens[STEPS];

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (int i = 0; i < STEPS; i++) tokens[i] = 2 + 263 * i % 4000;
    assert_ok(open_by(FLASHINFER_STORAGE_DEFAULT, fork_in_eval, &calling_model, &error));
    assert_ok(flashinfer_session_create(calling_model, &calling_session, &error));
    assert_ok(step_from_to(calling_session, 0, FORK_AT, &error));
    assert_ok(flashinfer_eval(calling_session, tokens + FORK_AT, STEPS - FORK_AT, &error));
    assert_true(callbacks != 0);
    expect_reference(calling_session);
    flashinfer_session_destroy(calling_session);
    assert_int_equal(flashinfer_model_close(calling_model), 0);
}

static int set_up(void **state)
{
    flashinfer_model *model;
    flashinfer_session *session;
    size_t vocab, bytes;
    const float *logits;

    (void)state;
    file.data = read_file(model_path, &bytes);
    file.bytes = bytes;
    if (file.data == NULL || open_by(FLASHINFER_STORAGE_BUFFERED, NULL, &model, NULL) != 0)
        return -1;
    if (flashinfer_session_create(model, &session, NULL) != 0) return -1;
    if (step_from_to(session, 0, STEPS, NULL) != 0) return -1;
    logits = flashinfer_logits(session, &vocab);
    reference = malloc(vocab * sizeof *reference);
    if (reference == NULL) return -1;
    memcpy(reference, logits, vocab * sizeof *reference);
    flashinfer_session_destroy(session);
    return flashinfer_model_close(model);
}

static int tear_down(void **state)
{
    (void)state;
    free(reference);
    free(file.data);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(children_are_told),
        cmocka_unit_test(a_running_call_does_not_lock_children_out),
        cmocka_unit_test(callbacks_may_fork),
    };

    if (argc != 2) return 2;
    model_path = argv[1];
    return cmocka_run_group_tests_name("fork", tests, set_up, tear_down);
}
