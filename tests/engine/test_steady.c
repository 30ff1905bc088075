/*
 * test_steady.c - once it runs, a model allocates nothing and asks the system for nothing but reads and wake-ups.
 *
 * Every way of storage runs in a child process that, after a few steps, has the kernel trap every other system call, and
 * counts calls of the allocator (this program is linked with --wrap for those).
 *
 * usage: test_steady MODEL.gguf
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define WARM_STEPS 6
#define STEPS 10

enum { FINE, NOT_HERE, FAILED, ALLOCATED, TRAPPED }; /* what a child exits with */

static const char *model_path;
static int nothing_checked; /* no storage here, or no trap: the test is skipped */

/* ------------------------------------------------------------------------------------------ the allocator */

static _Atomic uint32_t allocations;

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__real_realloc(void *data, size_t bytes);
void *__wrap_realloc(void *data, size_t bytes);
int __real_posix_memalign(void **data, size_t alignment, size_t bytes);
int __wrap_posix_memalign(void **data, size_t alignment, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __real_calloc(count, bytes);
}

void *__wrap_realloc(void *data, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __real_realloc(data, bytes);
}

int __wrap_posix_memalign(void **data, size_t alignment, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __real_posix_memalign(data, alignment, bytes);
}

/* ------------------------------------------------------------------------------------------ system calls */

static _Atomic uint32_t trapped;
static _Atomic int *trapped_number; /* shared with the parent */

/* The call did not happen; its caller is told so. */
static void on_trap(int signal_number, siginfo_t *info, void *context)
{
    ucontext_t *at = context;

    (void)signal_number;
    if (atomic_fetch_add(&trapped, 1) == 0) atomic_store(trapped_number, info->si_syscall);
#if defined(__x86_64__)
    at->uc_mcontext.gregs[REG_RAX] = -ENOSYS;
#elif defined(__aarch64__)
    at->uc_mcontext.regs[0] = (unsigned long)-ENOSYS;
#endif
}

#define ALLOW(number)                                                                              \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1),                                           \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* All threads of the process, from now on for good. Returns 0 where the kernel has no such filter. */
static int trap_everything_else(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(__NR_io_submit), /* reads */
        ALLOW(__NR_io_getevents),
        ALLOW(__NR_io_pgetevents),
        ALLOW(__NR_io_uring_enter),
        ALLOW(__NR_pread64),
        ALLOW(__NR_preadv),
        ALLOW(__NR_futex), /* wake-ups */
        ALLOW(__NR_restart_syscall),
        ALLOW(__NR_clock_gettime), /* where the clock has no fast way */
        ALLOW(__NR_rt_sigreturn),  /* this test's own */
        ALLOW(__NR_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {sizeof rules / sizeof rules[0], rules};
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_trap;
    action.sa_flags = SA_SIGINFO;
    if (sigaction(SIGSYS, &action, NULL) != 0) return 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 0;
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

/* ------------------------------------------------------------------------------------------ the child */

typedef struct way {
    const char *name;
    uint32_t storage, predictor, threads;
} way;

static int steps(flashinfer_session *session, int from, int to)
{
    for (int i = from; i < to; i++)
        if (flashinfer_step(session, 2 + 263 * i % 4000, NULL) != 0) return FAILED;
    return FINE;
}

static int run_child(const way *how)
{
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_session *session;
    flashinfer_error error;
    uint32_t before;
    int code;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.storage = how->storage;
    options.predictor = how->predictor;
    options.threads = how->threads;
    options.context_tokens = 64;
    options.memory_budget = 17u << 20;
    code = flashinfer_model_open(model_path, &options, &model, &error);
    if (code == FLASHINFER_EUNSUPPORTED) return NOT_HERE;
    if (code != 0 || flashinfer_session_create(model, &session, &error) != 0) return FAILED;
    if (steps(session, 0, WARM_STEPS) != FINE) return FAILED;
    if (!trap_everything_else()) return NOT_HERE;
    /* the trap works */
    if (dup(STDERR_FILENO) != -1 || errno != ENOSYS || atomic_exchange(&trapped, 0) != 1)
        return FAILED;
    before = atomic_load(&allocations);
    code = steps(session, WARM_STEPS, WARM_STEPS + STEPS);
    if (atomic_load(&trapped) != 0) return TRAPPED;
    return atomic_load(&allocations) != before ? ALLOCATED : code;
}

/* Returns 1 if there was something to check. */
static int check_way(const way *how)
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) _exit(run_child(how));
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status)) fail_msg("%s: ended by signal %d", how->name, WTERMSIG(status));
    status = WEXITSTATUS(status);
    if (status == NOT_HERE) print_message("%s: not here\n", how->name);
    if (status == FAILED)
        fail_msg("%s: the model does not run, or the trap does not work", how->name);
    if (status == ALLOCATED) fail_msg("%s: a step allocated memory", how->name);
    if (status == TRAPPED)
        fail_msg("%s: a step made system call %d", how->name, atomic_load(trapped_number));
    return status == FINE;
}

static void steps_only_read_and_wake(void **state)
{
    const way ways[] = {
        {"libaio", FLASHINFER_STORAGE_LIBAIO, FLASHINFER_PREDICTOR_SKETCH, 2},
        {"libaio, one thread", FLASHINFER_STORAGE_LIBAIO, FLASHINFER_PREDICTOR_SKETCH, 1},
        {"libaio, exact", FLASHINFER_STORAGE_LIBAIO, FLASHINFER_PREDICTOR_EXACT, 2},
        {"libaio, all", FLASHINFER_STORAGE_LIBAIO, FLASHINFER_PREDICTOR_ALL, 2},
        {"io_uring", FLASHINFER_STORAGE_URING, FLASHINFER_PREDICTOR_SKETCH, 2},
        {"pread", FLASHINFER_STORAGE_PREAD, FLASHINFER_PREDICTOR_SKETCH, 2},
        {"buffered", FLASHINFER_STORAGE_BUFFERED, FLASHINFER_PREDICTOR_SKETCH, 2},
    };

    int checked = 0;

    (void)state;
    trapped_number = mmap(NULL, sizeof *trapped_number, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true((void *)trapped_number != MAP_FAILED);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) checked += check_way(&ways[i]);
    (void)munmap((void *)trapped_number, sizeof *trapped_number);
    nothing_checked = checked == 0;
    if (nothing_checked) skip();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(steps_only_read_and_wake)};
    int code;

    if (argc != 2) return 2;
    model_path = argv[1];
    code = cmocka_run_group_tests_name("steady", tests, NULL, NULL);
    return code == 0 && nothing_checked ? 77 : code;
}
