/*
 * rows.c - what a narrow pass of several rows takes beside one of a single row: sessions in one pass, in turns.
 *
 * Every round runs passes of 1, 2, 4 and 8 rows, one of each session; printed are medians over the rounds, what they
 * moved from flash, and the ratio to one row.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/run.h"
#include "program.h"
#include "util/clock.h"
#include "zipf.h"

static const char usage[] =
    "Measures what a pass over several sessions takes beside one over a single session.\n"
    "rows --model MODEL.gguf [--threads N] [--rounds 12] [--skip 32] [--predictor "
    "exact|sketch|all] [--budget B]\n"
    "  --skip     tokens of every session before those that are measured\n"
    "  --budget   bytes or a share of the file (default: everything in memory)";

#define SIZES 4u
#define ROWS_MAX 8u

static const uint32_t sizes[SIZES] = {1, 2, 4, 8};

typedef struct request {
    const char *model;
    uint32_t rounds, skip;
    flashinfer_options options;
} request;

typedef struct figures {
    double *pass_s[SIZES]; /* (rounds) */
    double read_bytes[SIZES], named[SIZES], predict_s[SIZES], cache_s[SIZES];
} figures;

static int run_pass(flashinfer_model *model, flashinfer_session *const *sessions, uint32_t count,
                    const int32_t *ids, double *seconds, flashinfer_error *error)
{
    flin_row rows[ROWS_MAX];
    uint64_t started_ns = flin_now_ns();
    int code;

    for (uint32_t i = 0; i < count; i++)
        rows[i] = (flin_row){sessions[i], sessions[i]->position, ids[i], sessions[i]->logits};
    code = flin_run_narrow(model, rows, count, error);
    *seconds = (double)(flin_now_ns() - started_ns) / 1e9;
    return code;
}

static int run_rounds(const request *asked, flashinfer_model *model,
                      flashinfer_session *const *sessions, const int32_t *ids, figures *out,
                      flashinfer_error *error)
{
    int code = 0;

    for (uint32_t i = 0; i < ROWS_MAX && code == 0 && asked->skip != 0; i++)
        code = flashinfer_eval(sessions[i], ids + i * asked->skip, asked->skip, error);
    ids += ROWS_MAX * asked->skip;
    for (uint32_t round = 0; round < asked->rounds && code == 0; round++) {
        for (uint32_t size = 0; size < SIZES && code == 0; size++) {
            flashinfer_stats before = model->stats;
            code = run_pass(model, sessions, sizes[size], ids, &out->pass_s[size][round], error);
            out->read_bytes[size] +=
                (double)(model->stats.flash_bytes - before.flash_bytes) / asked->rounds;
            out->predict_s[size] +=
                (double)(model->stats.predict_ns - before.predict_ns) / 1e9 / asked->rounds;
            out->cache_s[size] +=
                (double)(model->stats.memory_ns - before.memory_ns) / 1e9 / asked->rounds;
            out->named[size] += (double)(model->stats.predicted - before.predicted) /
                                (double)(model->stats.neurons - before.neurons) / asked->rounds;
            ids += sizes[size];
        }
    }
    return code;
}

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void report(const request *asked, figures *of)
{
    double one = 0;

    for (uint32_t size = 0; size < SIZES; size++) {
        double median;
        qsort(of->pass_s[size], asked->rounds, sizeof(double), by_value);
        median = of->pass_s[size][asked->rounds / 2];
        if (size == 0) one = median;
        (void)printf("%u rows  %8.2f ms  %5.2f of one row's  predictor %.2f, cache %.2f ms  %6.1f "
                     "MB read  %5.2f %% named a row\n",
                     sizes[size], median * 1e3, median / one, of->predict_s[size] * 1e3,
                     of->cache_s[size] * 1e3, of->read_bytes[size] / 1e6, 100 * of->named[size]);
    }
}

static int measure(request *asked, figures *out, flashinfer_error *error)
{
    uint32_t count = ROWS_MAX * asked->skip + asked->rounds * 15;
    flashinfer_session *sessions[ROWS_MAX] = {NULL};
    flashinfer_model *model = NULL;
    int32_t *ids = malloc(count * sizeof *ids);
    int code;

    asked->options.context_tokens = asked->skip + asked->rounds * SIZES;
    asked->options.session_count = ROWS_MAX;
    asked->options.flags = FLASHINFER_OPEN_NO_TOKENIZER;
    code = flashinfer_model_open(asked->model, &asked->options, &model, error);
    if (code == 0 && (ids == NULL || bench_zipf_tokens(model->shape.vocab, 1, ids, count) != 0))
        code = flin_fail(error, FLASHINFER_ENOMEM, "no memory for the measurement's own tables");
    for (uint32_t i = 0; i < ROWS_MAX && code == 0; i++)
        code = flashinfer_session_create(model, &sessions[i], error);
    if (code == 0) code = run_rounds(asked, model, sessions, ids, out, error);
    for (uint32_t i = 0; i < ROWS_MAX; i++) flashinfer_session_destroy(sessions[i]);
    (void)flashinfer_model_close(model);
    free(ids);
    return code;
}

int main(int argc, char **argv)
{
    static const char *const kinds[] = {"exact", "sketch", "all", NULL};
    static const uint32_t numbers[] = {FLASHINFER_PREDICTOR_EXACT, FLASHINFER_PREDICTOR_SKETCH,
                                       FLASHINFER_PREDICTOR_ALL};
    const char *rounds = NULL, *skip = NULL, *threads = NULL, *budget = NULL, *kind = NULL;
    request asked = {.rounds = 12, .skip = 32};
    const program_option known[] = {{"--model", &asked.model, NULL}, {"--rounds", &rounds, NULL},
                                    {"--skip", &skip, NULL},         {"--budget", &budget, NULL},
                                    {"--threads", &threads, NULL},   {"--predictor", &kind, NULL}};
    figures out = {0};
    flashinfer_error error;
    int code = program_parse(argc, argv, known, sizeof known / sizeof *known, NULL, 0, usage);

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&asked.options, sizeof asked.options);
    if (code == 0 && asked.model == NULL) code = program_refuse("--model is missing");
    if (code == 0) code = program_u32("--rounds", rounds, 1, 1u << 16, &asked.rounds);
    if (code == 0) code = program_u32("--skip", skip, 0, 1u << 16, &asked.skip);
    if (code == 0) code = program_u32("--threads", threads, 1, 64, &asked.options.threads);
    if (code == 0)
        code = program_choice("--predictor", kind, kinds, numbers, &asked.options.predictor);
    if (code == 0 && budget != NULL)
        code = program_budget("--budget", budget, asked.model, &asked.options,
                              &asked.options.memory_budget);
    if (code != 0) return code;
    for (uint32_t size = 0; size < SIZES; size++) {
        out.pass_s[size] = calloc(asked.rounds, sizeof(double));
        if (out.pass_s[size] == NULL) return FLASHINFER_ENOMEM;
    }
    code = measure(&asked, &out, &error);
    if (code == 0) report(&asked, &out);
    for (uint32_t size = 0; size < SIZES; size++) free(out.pass_s[size]);
    return code == 0 ? 0 : program_fail(&error);
}
