/*
 * test_threads.c - asking for more threads than there are CPUs is harmless: as fast as with a thread for each, the same
 * logits bit for bit, and the log and the plan say what is used.
 *
 * usage: test_threads MODEL.gguf
 */
#include "support.h"

#include <time.h>

#include "util/cpus.h"

#define TOKENS 20
#define ROUNDS_LEAST 7
#define TRY_S 60 /* other work on the machine disturbs most rounds, not all */
#define COUNTS 3

static const char *model_path;

static void keep_warning(int level, const char *text, void *user)
{
    if (level == FLASHINFER_LOG_WARNING) (void)snprintf(user, 256, "%s", text);
}

static flashinfer_model *open_with(uint32_t threads, char *warning)
{
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.threads = threads;
    options.context_tokens = 64;
    options.log = keep_warning;
    options.log_user = warning;
    warning[0] = '\0';
    assert_ok(flashinfer_model_open(model_path, &options, &model, &error));
    return model;
}

static double now_s(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Seconds for the same tokens from position 0 on. */
static double run(flashinfer_session *session)
{
    flashinfer_error error;
    double began = now_s();

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_session_rewind(session, 0, &error));
    for (int32_t i = 0; i < TOKENS; i++)
        assert_ok(flashinfer_step(session, 2 + 263 * i % 4000, &error));
    return now_s() - began;
}

/* Of the least times of any round; [0]: a thread for each CPU. */
static int is_harmless(const double *least_s)
{
    for (int i = 1; i < COUNTS; i++)
        if (least_s[i] > 1.5 * least_s[0]) return 0;
    return 1;
}

static void more_threads_than_cpus_are_harmless(void **state)
{
    const uint32_t cpus = flin_cpus();
    const uint32_t counts[COUNTS] = {cpus < 64 ? cpus : 64, 8, 32};
    flashinfer_model *models[COUNTS];
    flashinfer_session *sessions[COUNTS];
    flashinfer_plan plans[COUNTS];
    double least_s[COUNTS] = {0}, until_s = now_s() + TRY_S;
    char warning[256], expected[64];
    flashinfer_error error;

    (void)state;
    flashinfer_error_init(&error, sizeof error);
    for (int i = 0; i < COUNTS; i++) {
        models[i] = open_with(counts[i], warning);
        (void)snprintf(expected, sizeof expected, "%u compute threads were asked for", counts[i]);
        assert_int_equal(strstr(warning, expected) != NULL, counts[i] > cpus);
        plans[i].size = sizeof plans[i];
        assert_int_equal(flashinfer_model_plan(models[i], &plans[i]), 0);
        if (counts[i] > cpus) assert_int_equal(plans[i].thread_bytes, plans[0].thread_bytes);
        assert_ok(flashinfer_session_create(models[i], &sessions[i], &error));
    }
    for (int round = 0; round < ROUNDS_LEAST || (!is_harmless(least_s) && now_s() < until_s);
         round++)
        for (int i = 0; i < COUNTS; i++) {
            double took_s = run(sessions[i]);
            if (round == 0 || took_s < least_s[i]) least_s[i] = took_s;
        }
    for (int i = 0; i < COUNTS; i++) {
        size_t vocab;
        const float *all = flashinfer_logits(sessions[0], &vocab),
                    *own = flashinfer_logits(sessions[i], NULL);
        print_message("%u threads: %.0f tokens/s\n", counts[i], TOKENS / least_s[i]);
        assert_memory_equal(own, all, vocab * sizeof *all);
    }
    assert_true(cpus >= 32 || is_harmless(least_s));
    for (int i = 0; i < COUNTS; i++) {
        flashinfer_session_destroy(sessions[i]);
        assert_int_equal(flashinfer_model_close(models[i]), 0);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(more_threads_than_cpus_are_harmless)};

    if (argc != 2) return 2;
    model_path = argv[1];
    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
