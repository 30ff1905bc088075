/*
 * decode.c - a token of a model that is wholly in memory, beside the memory's rate: the bytes a token must touch at what
 * the same threads read plainly, measured between the tokens of the same run.
 *
 * Owns: counting those bytes matrix by matrix: what a step multiplies with, once. Refuses: counting what a better method
 * need not touch, such as checksums, tables of the cache and rows of neurons that are not named.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/run.h"
#include "plain.h"
#include "program.h"
#include "util/clock.h"
#include "zipf.h"

static const char usage[] =
    "Holds a token of a model that is wholly in memory against the memory's rate.\n"
    "decode --model MODEL.gguf [--threads N] [--tokens 32] [--skip 64] [--predictor KIND]\n"
    "  [--kv f32|f16|q8_0] [--kernels ref|avx2|avx512|neon] [--budget B] [--json]\n"
    "  --skip     tokens before those that are measured, as a prompt, which fills the cache\n"
    "  --budget   bytes or a share of the file (default: everything in memory)";

#define PLAIN_PART_BYTES                                                                           \
    ((uint64_t)64 << 20) /* read after each token; all of them are beyond every cache */
#define PLAIN_PARTS 16u
#define PLAIN_BYTES (PLAIN_PARTS * PLAIN_PART_BYTES)
#define PLAIN_PIECE_BYTES ((uint64_t)128 << 10)

typedef struct request {
    const char *model;
    uint32_t tokens, skip;
    int json;
    flashinfer_options options;
} request;

/* What the tokens gave. */
typedef struct figures {
    double *step_s;  /* (tokens) of a token, waiting for flash left out */
    double *plain_s; /* (tokens) of reading a part of the buffer */
    double touched;  /* bytes a token, mean */
    flashinfer_stats stats;
} figures;

/* ------------------------------------------------------------------------------------ plain reading */

typedef struct plain {
    const uint8_t *part; /* PLAIN_PART_BYTES of the buffer */
    _Atomic uint64_t sink;
} plain;

static void run_plain(void *context, uint32_t begin, uint32_t end)
{
    plain *at = context;

    atomic_fetch_add(&at->sink, bench_plain_sum(at->part + (uint64_t)begin * PLAIN_PIECE_BYTES,
                                                (uint64_t)(end - begin) * PLAIN_PIECE_BYTES));
}

/* Shared out among the threads as the rows of matrices are. */
static double read_plainly(flashinfer_model *model, const uint8_t *buffer, uint32_t turn)
{
    plain at = {.part = buffer + turn % PLAIN_PARTS * PLAIN_PART_BYTES};
    uint64_t started_ns = flin_now_ns();

    flin_pool_split(&model->compute.pool, PLAIN_PART_BYTES / PLAIN_PIECE_BYTES, 1, run_plain, &at);
    return (double)(flin_now_ns() - started_ns) / 1e9;
}

/* --------------------------------------------------------------------------------------------- bytes */

static double matrix_bytes(const flin_matrix *matrix)
{
    return matrix->data == NULL
               ? 0
               : (double)matrix->rows * (double)flin_type_bytes(matrix->type, matrix->cols);
}

static double predictor_bytes(const flin_layer_predictor *predictor)
{
    if (predictor->kind == FLASHINFER_PREDICTOR_SKETCH)
        return (double)flin_sketch_bytes(predictor->sketch.rows, predictor->sketch.cols,
                                         predictor->sketch.bits);
    return predictor->kind != 0 ? (double)flin_lowrank_bytes(&predictor->lowrank) : 0;
}

/* Of a step at a position, of the FFN only what stats say: deciding rows of named neurons, the rest of firing ones. */
static double touched_bytes(const flashinfer_model *model, const flashinfer_stats *stats,
                            double position)
{
    const flin_weights *weights = &model->weights;
    const flin_bundle *bundle = &model->shape.bundle;
    const flin_part *decider = flin_bundle_part(bundle, flin_shape_decider(&model->shape));
    double bytes = matrix_bytes(&weights->output.weight) +
                   matrix_bytes(&weights->project_in.weight) +
                   matrix_bytes(&weights->project_out.weight);
    /* of what fires: down, and up where the gate decides */
    double rest = bundle->payload_bytes - decider->bytes;
    double tokens = (double)stats->tokens, decided = (double)stats->predicted;

    for (uint32_t i = 0; i < model->shape.layers; i++) {
        const flin_layer *layer = &weights->layers[i];
        bytes += matrix_bytes(&layer->attention.query.weight) +
                 matrix_bytes(&layer->attention.key.weight) +
                 matrix_bytes(&layer->attention.value.weight) +
                 matrix_bytes(&layer->attention.output.weight);
        bytes += predictor_bytes(&layer->predictor);
        bytes +=
            2 * position * (double)flin_type_bytes(model->settings.kv_type, model->shape.width);
    }
    if (!flin_predictor_kind_of(model->settings.predictor)->misses)
        decided = (double)stats->neurons;
    return bytes + (decided * decider->bytes + (double)stats->active * rest) / tokens;
}

/* ----------------------------------------------------------------------------------------------- run */

static double waited_s(flashinfer_model *model)
{
    flashinfer_stats stats = {.size = sizeof stats};

    (void)flashinfer_model_stats(model, &stats);
    return (double)stats.io_wait_ns / 1e9;
}

static int run_tokens(const request *asked, flashinfer_model *model, flashinfer_session *session,
                      const int32_t *ids, const uint8_t *plain_bytes, figures *out,
                      flashinfer_error *error)
{
    int code = 0;

    if (asked->skip != 0) code = flashinfer_eval(session, ids, asked->skip, error);
    if (code == 0) code = flashinfer_model_reset_stats(model);
    for (uint32_t t = 0; t < asked->tokens && code == 0; t++) {
        double before_s = waited_s(model);
        uint64_t started_ns = flin_now_ns();
        code = flashinfer_step(session, ids[asked->skip + t], error);
        out->step_s[t] = (double)(flin_now_ns() - started_ns) / 1e9 - (waited_s(model) - before_s);
        out->plain_s[t] = read_plainly(model, plain_bytes, t);
    }
    out->stats.size = sizeof out->stats;
    if (code == 0) code = flashinfer_model_stats(model, &out->stats);
    if (code == 0)
        out->touched = touched_bytes(model, &out->stats, asked->skip + asked->tokens / 2.0);
    return code;
}

static int measure(const request *asked, figures *out, flashinfer_error *error)
{
    flashinfer_model *model = NULL;
    flashinfer_session *session = NULL;
    uint32_t count = asked->skip + asked->tokens;
    int32_t *ids = malloc(count * sizeof *ids);
    uint8_t *buffer =
        mmap(NULL, PLAIN_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int code = flashinfer_model_open(asked->model, &asked->options, &model, error);

    if (code == 0 && (ids == NULL || buffer == MAP_FAILED ||
                      bench_zipf_tokens(model->shape.vocab, 1, ids, count) != 0))
        code = flin_fail(error, FLASHINFER_ENOMEM, "no memory for the measurement's own tables");
    if (code == 0) code = flashinfer_session_create(model, &session, error);
    if (code == 0) {
#ifdef MADV_HUGEPAGE
        (void)madvise(buffer, PLAIN_BYTES, MADV_HUGEPAGE);
#endif
        memset(buffer, 1, PLAIN_BYTES);
        code = run_tokens(asked, model, session, ids, buffer, out, error);
    }
    flashinfer_session_destroy(session);
    (void)flashinfer_model_close(model);
    if (buffer != MAP_FAILED) (void)munmap(buffer, PLAIN_BYTES);
    free(ids);
    return code;
}

/* -------------------------------------------------------------------------------------------- report */

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* The value that `share` of the count are below. */
static double quantile(double *values, uint32_t count, double share)
{
    qsort(values, count, sizeof *values, by_value);
    return values[(uint32_t)((count - 1) * share + 0.5)];
}

static void report(const request *asked, const figures *of)
{
    double part = (double)PLAIN_PART_BYTES, tokens = (double)of->stats.tokens;
    double median_s = quantile(of->step_s, asked->tokens, 0.5),
           best_s = quantile(of->step_s, asked->tokens, 0.1);
    double rate = part / quantile(of->plain_s, asked->tokens, 0.5),
           rate_best = part / quantile(of->plain_s, asked->tokens, 0.1);
    double percent = 100 * of->touched / median_s / rate,
           best_percent = 100 * of->touched / best_s / rate_best;
    double missing = (double)of->stats.missing / tokens;

    if (asked->json) {
        (void)printf("{\"touched_bytes\": %.0f, \"median_ms\": %.3f, \"best_ms\": %.3f, "
                     "\"dram_gb_per_s\": %.2f, \"best_dram_gb_per_s\": %.2f, \"percent\": %.1f, "
                     "\"best_percent\": %.1f, \"missing\": %.1f}\n",
                     of->touched, median_s * 1e3, best_s * 1e3, rate / 1e9, rate_best / 1e9,
                     percent, best_percent, missing);
        return;
    }
    (void)printf("%.1f MB touched a token; median %.2f ms = %.2f GB/s, plain reading %.2f GB/s: "
                 "%.1f %%\n",
                 of->touched / 1e6, median_s * 1e3, of->touched / median_s / 1e9, rate / 1e9,
                 percent);
    (void)printf("best tenth: %.2f ms = %.2f of %.2f GB/s: %.1f %%\n", best_s * 1e3,
                 of->touched / best_s / 1e9, rate_best / 1e9, best_percent);
    (void)printf("a token: predictor %.2f ms, cache %.2f ms, waiting for flash %.2f ms (left out); "
                 "%.1f neurons read\n",
                 (double)of->stats.predict_ns / 1e6 / tokens,
                 (double)of->stats.memory_ns / 1e6 / tokens,
                 (double)of->stats.io_wait_ns / 1e6 / tokens, missing);
}

int main(int argc, char **argv)
{
    const char *tokens = NULL, *skip = NULL, *threads = NULL, *budget = NULL, *kind = NULL,
               *kv = NULL, *kernels = NULL;
    static const char *const kinds[] = {"exact", "sketch", "all", NULL};
    static const uint32_t numbers[] = {FLASHINFER_PREDICTOR_EXACT, FLASHINFER_PREDICTOR_SKETCH,
                                       FLASHINFER_PREDICTOR_ALL};
    static const char *const kvs[] = {"f32", "f16", "q8_0", NULL};
    static const uint32_t kv_numbers[] = {FLASHINFER_KV_F32, FLASHINFER_KV_F16, 3};
    static const char *const tables[] = {"ref", "avx2", "avx512", "neon", NULL};
    static const uint32_t table_numbers[] = {1, 2, 3, 4}; /* FLASHINFER_KERNELS_... */
    request asked = {.tokens = 32, .skip = 64};
    const program_option known[] = {{"--model", &asked.model, NULL},
                                    {"--tokens", &tokens, NULL},
                                    {"--skip", &skip, NULL},
                                    {"--budget", &budget, NULL},
                                    {"--threads", &threads, NULL},
                                    {"--predictor", &kind, NULL},
                                    {"--kv", &kv, NULL},
                                    {"--kernels", &kernels, NULL},
                                    {"--json", NULL, &asked.json}};
    figures out = {0};
    flashinfer_error error;
    int code = program_parse(argc, argv, known, sizeof known / sizeof *known, NULL, 0, usage);

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&asked.options, sizeof asked.options);
    if (code == 0 && asked.model == NULL) code = program_refuse("--model is missing");
    if (code == 0) code = program_u32("--tokens", tokens, 1, 1u << 20, &asked.tokens);
    if (code == 0) code = program_u32("--skip", skip, 0, 1u << 20, &asked.skip);
    if (code == 0) code = program_u32("--threads", threads, 1, 64, &asked.options.threads);
    if (code == 0)
        code = program_choice("--predictor", kind, kinds, numbers, &asked.options.predictor);
    if (code == 0) code = program_choice("--kv", kv, kvs, kv_numbers, &asked.options.kv_type);
    if (code == 0)
        code = program_choice("--kernels", kernels, tables, table_numbers, &asked.options.kernels);
    if (code == 0 && budget != NULL)
        code = program_budget("--budget", budget, asked.model, &asked.options,
                              &asked.options.memory_budget);
    if (code != 0) return code;
    asked.options.context_tokens = asked.skip + asked.tokens;
    asked.options.flags = FLASHINFER_OPEN_NO_TOKENIZER;
    out.step_s = calloc(asked.tokens, sizeof *out.step_s);
    out.plain_s = calloc(asked.tokens, sizeof *out.plain_s);
    code = out.step_s == NULL || out.plain_s == NULL ? FLASHINFER_ENOMEM
                                                     : measure(&asked, &out, &error);
    if (code == 0) report(&asked, &out);
    free(out.step_s);
    free(out.plain_s);
    return code == 0 ? 0 : program_fail(&error);
}
