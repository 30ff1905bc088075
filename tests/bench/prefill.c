/*
 * prefill.c - time to the first token of a prompt beside what cannot be beaten: the FFN's bytes at the rate the file is
 * read in sequence, and the dense model's arithmetic at the rate BLIS multiplies matrices, both measured in the same run.
 */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/run.h"
#include "program.h"
#include "storage/batch.h"
#include "util/clock.h"

#ifdef FLIN_HAVE_BLIS
#include <blis.h>
#endif

static const char usage[] =
    "Prints seconds to the first token of a prompt and the larger of both limits.\n"
    "prefill --model MODEL.gguf [--tokens 512] [--budget 50%] [--threads N] [--predictor KIND]\n"
    "  [--rounds N]  prompts, each in a model opened anew (default 1)\n"
    "  [--cancel N]  then N more of the first's length, each cancelled at another moment: how long "
    "until it ends";

#define PIECE_BYTES (256u << 10)
#define PIECES 64u
#define READ_BYTES_MAX (2ull << 30)
#define SIDE 1536 /* of the matrices that BLIS multiplies */
#define PRODUCTS 4

typedef struct request {
    const char *model;
    uint32_t tokens;
    uint32_t cancels;
    flashinfer_options options;
} request;

/* ----------------------------------------------------------------------------------------- limits */

typedef struct reader {
    flin_storage storage;
    flin_arena arena;
    flin_batch *batch;
    flin_fetch *fetches; /* (PIECES) */
    uint32_t *landed;    /* (PIECES) */
    uint8_t *data;       /* (PIECES, PIECE_BYTES) */
} reader;

static void lay_out(reader *at, flin_arena *arena)
{
    flin_batch_limits limits = {PIECES, PIECE_BYTES, 0, 0};

    at->batch = flin_batch_layout(arena, &at->storage, &limits);
    at->fetches = FLIN_TAKE(arena, flin_fetch, PIECES);
    at->landed = FLIN_TAKE(arena, uint32_t, PIECES);
    at->data = flin_arena_take(arena, (uint64_t)PIECES * PIECE_BYTES, FLIN_PAGE_BYTES);
}

static int read_run(reader *at, uint64_t offset, flashinfer_error *error)
{
    uint32_t landed;
    int code;

    for (uint32_t i = 0; i < PIECES; i++)
        at->fetches[i] = (flin_fetch){offset + (uint64_t)i * PIECE_BYTES,
                                      at->data + (size_t)i * PIECE_BYTES, PIECE_BYTES, 0};
    code = flin_batch_begin(at->batch, at->fetches, PIECES, error);
    do {
        if (code == 0)
            code = flin_batch_collect(at->batch, 1, at->landed, PIECES, &landed, NULL, error);
    } while (code == 0 && landed != 0);
    return code;
}

/* Bytes a second of reading the file from its start, at most 2 GiB of it. */
static int measure_reads(const request *asked, double *rate, flashinfer_error *error)
{
    flin_storage_config config = {asked->options.storage, 64, 4, 0, 60000000000u};
    reader at;
    flin_arena measured;
    uint64_t length, begun_ns = 0, done = 0;
    int code;

    memset(&at, 0, sizeof at);
    code = flin_storage_open_path(&at.storage, asked->model, &config, error);
    flin_arena_measure(&measured);
    if (code == 0) lay_out(&at, &measured);
    if (code == 0) code = flin_arena_open(&at.arena, measured.used, "reads", error);
    if (code == 0) {
        lay_out(&at, &at.arena);
        memset(at.data, 1, (size_t)PIECES * PIECE_BYTES);
        begun_ns = flin_now_ns();
        length = at.storage.caps.length_bytes;
        if (length > READ_BYTES_MAX) length = READ_BYTES_MAX;
        for (; code == 0 && done + PIECES * PIECE_BYTES <= length; done += PIECES * PIECE_BYTES)
            code = read_run(&at, done, error);
        *rate = (double)done / (double)(flin_now_ns() - begun_ns) * 1e9;
    }
    flin_storage_close(&at.storage);
    flin_arena_close(&at.arena);
    return code;
}

/* FLOP/s of BLIS's sgemm on square matrices, the best of a few; 0: no BLIS in this build. */
static double measure_blis(uint32_t threads)
{
    double best = 0;
#ifdef FLIN_HAVE_BLIS
    size_t bytes = (size_t)SIDE * SIDE * sizeof(float);
    float *a = malloc(bytes), *b = malloc(bytes), *c = malloc(bytes), one = 1, none = 0;
    rntm_t runtime = BLIS_RNTM_INITIALIZER;

    bli_init();
    bli_rntm_set_num_threads((dim_t)threads, &runtime);
    for (size_t i = 0; a != NULL && b != NULL && i < (size_t)SIDE * SIDE; i++)
        a[i] = b[i] = (float)(i % 97) / 97;
    for (int i = 0; a != NULL && b != NULL && c != NULL && i < PRODUCTS; i++) {
        uint64_t begun_ns = flin_now_ns();
        double rate;
        bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, SIDE, SIDE, SIDE, &one, a, SIDE, 1, b,
                     SIDE, 1, &none, c, SIDE, 1, NULL, &runtime);
        rate = 2.0 * SIDE * SIDE * SIDE / (double)(flin_now_ns() - begun_ns) * 1e9;
        if (rate > best) best = rate;
    }
    free(a);
    free(b);
    free(c);
#else
    (void)threads;
#endif
    return best;
}

/* Of the dense model's matrices, for all tokens; logits for the last. */
static double flops(const flashinfer_info *info, uint32_t tokens)
{
    double width = info->embedding_length, layer = 4 * width * width + 2 * width * info->ffn_length;

    return 2 * (tokens * layer * info->layer_count + width * info->vocab_count);
}

/* ------------------------------------------------------------------------------------------- runs */

typedef struct result {
    double seconds, wait_seconds, bytes, flops;
    double cancel_median_s, cancel_worst_s;
} result;

/* --------------------------------------------------------------------------------------- cancelling */

typedef struct cancelling {
    flashinfer_session *session;
    double after_s;
    uint64_t cancelled_ns;
} cancelling;

static void *cancel_later(void *context)
{
    cancelling *at = context;
    struct timespec wait = {(time_t)at->after_s, (long)((at->after_s - floor(at->after_s)) * 1e9)};

    (void)nanosleep(&wait, NULL);
    at->cancelled_ns = flin_now_ns();
    flashinfer_session_cancel(at->session);
    return NULL;
}

/* Seconds from cancelling to the end of the call; 0: it was over before. */
static int cancel_once(const request *asked, flashinfer_session *session, const int32_t *tokens,
                       double after_s, double *seconds, flashinfer_error *error)
{
    cancelling at = {session, after_s, 0};
    uint64_t ended_ns;
    pthread_t thread;
    int code = flashinfer_session_rewind(session, 0, error);

    if (code != 0) return code;
    if (pthread_create(&thread, NULL, cancel_later, &at) != 0) return FLASHINFER_ETHREAD;
    code = flashinfer_eval(session, tokens, asked->tokens, error);
    ended_ns = flin_now_ns();
    (void)pthread_join(thread, NULL);
    *seconds = 0;
    if (code != 0) *seconds = (double)(ended_ns - at.cancelled_ns) / 1e9;
    return code == FLASHINFER_ECANCELED ? 0 : code;
}

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Moments all over the first eight tenths of what the whole prompt took. */
static int cancel_often(const request *asked, flashinfer_session *session, const int32_t *tokens,
                        result *out, flashinfer_error *error)
{
    double *seconds = calloc(asked->cancels, sizeof *seconds);
    int code = seconds == NULL ? FLASHINFER_ENOMEM : 0;

    for (uint32_t i = 0; i < asked->cancels && code == 0; i++)
        code = cancel_once(asked, session, tokens, out->seconds * 0.8 * (i + 0.5) / asked->cancels,
                           &seconds[i], error);
    if (code == 0) {
        qsort(seconds, asked->cancels, sizeof *seconds, by_value);
        out->cancel_median_s = seconds[asked->cancels / 2];
        out->cancel_worst_s = seconds[asked->cancels - 1];
    }
    free(seconds);
    return code;
}

/* -------------------------------------------------------------------------------------------- prompts */

static int evaluate(const request *asked, flashinfer_model *model, result *out,
                    flashinfer_error *error)
{
    flashinfer_session *session = NULL;
    flashinfer_stats stats = {.size = sizeof stats};
    flashinfer_info info = {.size = sizeof info};
    int32_t *tokens = malloc(asked->tokens * sizeof *tokens);
    uint64_t begun_ns;
    int code = tokens == NULL ? FLASHINFER_ENOMEM : flashinfer_model_info(model, &info);

    for (uint32_t i = 0; tokens != NULL && i < asked->tokens; i++)
        tokens[i] = (int32_t)(5 + i * 7919u % (info.vocab_count - 5));
    if (code == 0) code = flashinfer_session_create(model, &session, error);
    begun_ns = flin_now_ns();
    if (code == 0) code = flashinfer_eval(session, tokens, asked->tokens, error);
    out->seconds = (double)(flin_now_ns() - begun_ns) / 1e9;
    if (code == 0) code = flashinfer_model_stats(model, &stats);
    out->wait_seconds = (double)stats.prefill_wait_ns / 1e9;
    out->bytes = (double)stats.prefill_bytes;
    out->flops = flops(&info, asked->tokens);
    if (code == 0 && asked->cancels != 0) code = cancel_often(asked, session, tokens, out, error);
    flashinfer_session_destroy(session);
    free(tokens);
    return code;
}

static int run_round(const request *asked, flashinfer_error *error)
{
    flashinfer_model *model = NULL;
    result out = {0};
    double rate = 0, peak, flash, compute, limit;
    int code = measure_reads(asked, &rate, error);

    peak = measure_blis(asked->options.threads);
    if (code == 0) code = flashinfer_model_open(asked->model, &asked->options, &model, error);
    if (code == 0) code = evaluate(asked, model, &out, error);
    (void)flashinfer_model_close(model);
    if (code != 0) return code;
    flash = rate > 0 ? out.bytes / rate : 0;
    compute = peak > 0 ? out.flops / peak : 0;
    limit = flash > compute ? flash : compute;
    (void)printf("%u tokens in %.2f s (%.1f tokens/s), %.2f s waiting for flash; %.0f MB read\n",
                 asked->tokens, out.seconds, asked->tokens / out.seconds, out.wait_seconds,
                 out.bytes / 1e6);
    (void)printf("limits: flash %.2f s (%.2f GB/s in sequence), arithmetic %.2f s (BLIS %.0f "
                 "GFLOP/s); time / limit %.2f\n",
                 flash, rate / 1e9, compute, peak / 1e9, limit > 0 ? out.seconds / limit : 0);
    if (asked->cancels != 0)
        (void)printf("cancelled %u times: median %.1f ms, longest %.1f ms\n", asked->cancels,
                     out.cancel_median_s * 1e3, out.cancel_worst_s * 1e3);
    return 0;
}

int main(int argc, char **argv)
{
    const char *tokens = NULL, *rounds = NULL, *threads = NULL, *budget = "50%", *kind = NULL,
               *cancels = NULL;
    static const char *const kinds[] = {"exact", "sketch", "all", NULL};
    static const uint32_t numbers[] = {FLASHINFER_PREDICTOR_EXACT, FLASHINFER_PREDICTOR_SKETCH,
                                       FLASHINFER_PREDICTOR_ALL};
    request asked = {.tokens = 512};
    const program_option known[] = {{"--model", &asked.model, NULL}, {"--tokens", &tokens, NULL},
                                    {"--budget", &budget, NULL},     {"--threads", &threads, NULL},
                                    {"--predictor", &kind, NULL},    {"--rounds", &rounds, NULL},
                                    {"--cancel", &cancels, NULL}};
    uint32_t count = 1;
    flashinfer_error error;
    int code = program_parse(argc, argv, known, sizeof known / sizeof *known, NULL, 0, usage);

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&asked.options, sizeof asked.options);
    if (code == 0 && asked.model == NULL) code = program_refuse("--model is missing");
    if (code == 0) code = program_u32("--tokens", tokens, 8, 1u << 20, &asked.tokens);
    if (code == 0) code = program_u32("--rounds", rounds, 1, 1000, &count);
    if (code == 0) code = program_u32("--cancel", cancels, 1, 1000, &asked.cancels);
    if (code == 0) code = program_u32("--threads", threads, 1, 64, &asked.options.threads);
    if (code == 0)
        code = program_choice("--predictor", kind, kinds, numbers, &asked.options.predictor);
    if (code == 0)
        code = program_budget("--budget", budget, asked.model, &asked.options,
                              &asked.options.memory_budget);
    if (code != 0) return code;
    if (asked.options.threads == 0) asked.options.threads = flin_pool_default_count();
    asked.options.context_tokens = asked.tokens + 1;
    for (uint32_t i = 0; i < count && code == 0; i++) code = run_round(&asked, &error);
    if (code == 0) return 0;
    (void)fprintf(stderr, "%s: %s\n", flashinfer_error_name(code), error.text);
    return 1;
}
