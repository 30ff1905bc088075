/*
 * perplexity.c - how well a model predicts a text, and how much of what fires its predictor finds.
 *
 * The lesson: logits after every step, rewinding a session for the next window, the audit's counters.
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "program.h"
#include "windows.h"

#define AUDIT_INTERVAL 7u /* tokens; with one layer a time, coprime to most layer counts */

static const char usage[] =
    "Says how well a model predicts a text, and how much of what fires its predictor finds.\n"
    "perplexity MODEL.gguf (--text FILE | --ids FILE [--window-tokens 512]) [--audit N]\n"
    "       [--limit WINDOWS] [--json]\n" PROGRAM_MODEL_USAGE "\n"
    "  MODEL.gguf       model file, made by pack\n"
    "  --text           text to predict (this or --ids is needed)\n"
    "  --ids            its token ids instead: little-endian int32 (this or --text is needed)\n"
    "  --window-tokens  tokens of a window: predicted one by one, then begun anew (default: 512)\n"
    "  --audit          every Nth token is also computed without predictor, to count what was "
    "missed; 0: none (default: 7)\n"
    "  --limit          stop after so many windows (default: at the end of the text)\n"
    "  --json           print figures as JSON\n"
    "  --budget         memory of the model: a share of its file, or bytes such as 64M (default: "
    "all it can use)\n"
    "  --context        tokens a session has room for (default: --window-tokens)\n"
    "  --kv             type of the KV cache (default: f32; f16 where the budget is too small for "
    "that)\n" PROGRAM_MODEL_HELP;

typedef struct request {
    const char *text_path, *ids_path; /* one of the two */
    uint32_t window_tokens, windows;
    int json;
    const char *kv; /* element type of the KV cache */
} request;

typedef struct score {
    double nll; /* sum over tokens */
    uint64_t tokens;
} score;

/* Every token but the first, each from those before it. */
static int score_window(flashinfer_session *session, const int32_t *ids, size_t count, score *total,
                        flashinfer_error *error)
{
    int code = flashinfer_session_rewind(session, 0, error);

    for (size_t i = 0; i + 1 < count && code == 0; i++) {
        const float *logits;
        size_t vocab;
        code = flashinfer_step(session, ids[i], error);
        if (code != 0) return code;
        logits = flashinfer_logits(session, &vocab);
        if (ids[i + 1] < 0 || (size_t)ids[i + 1] >= vocab)
            return flashinfer_step(session, ids[i + 1], error);
        total->nll += windows_surprise(logits, vocab, ids[i + 1]);
        total->tokens++;
    }
    return code;
}

static void report(flashinfer_model *model, const score *total, const request *asked)
{
    flashinfer_stats stats = {.size = sizeof stats};
    double nll = total->nll / (double)total->tokens, recall = 1, share;

    (void)flashinfer_model_stats(model, &stats);
    share = (double)(stats.predicted + stats.streamed) / (double)stats.neurons;
    if (stats.audited_active != 0)
        recall = 1 - (double)stats.audited_missed / (double)stats.audited_active;
    if (asked->json)
        (void)printf("{\"nll\": %.6f, \"perplexity\": %.6f, \"tokens\": %llu, \"recall\": %.6f, "
                     "\"predicted_share\": "
                     "%.6f, \"active_share\": %.6f, \"flash_bytes_per_token\": %.1f, "
                     "\"kv\": \"%s\", \"peak_rss_bytes\": %llu}\n",
                     nll, exp(nll), (unsigned long long)total->tokens, recall, share,
                     (double)stats.active / (double)stats.neurons,
                     (double)stats.flash_bytes / (double)stats.tokens, asked->kv,
                     (unsigned long long)program_peak_rss_bytes());
    else
        (void)printf("perplexity %.4f (nll %.6f over %llu tokens), recall %.4f, predicted %.2f %% "
                     "of the FFN, active %.2f %% (KV cache %s)\n",
                     exp(nll), nll, (unsigned long long)total->tokens, recall, 100 * share,
                     100 * (double)stats.active / (double)stats.neurons, asked->kv);
}

/* For who watches. */
static void show_progress(size_t done, size_t windows, uint32_t most)
{
    if (!isatty(STDERR_FILENO)) return;
    (void)fprintf(stderr, "\rwindow %zu of %zu", done + 1, windows < most ? windows : most);
}

static int run(flashinfer_model *model, const request *asked, flashinfer_error *error)
{
    flashinfer_session *session = NULL;
    int32_t *ids = NULL;
    size_t count = 0, window = asked->window_tokens;
    score total = {0, 0};
    int code = windows_ids(model, asked->text_path, asked->ids_path, &ids, &count, error);

    if (code == 0) code = flashinfer_session_create(model, &session, error);
    for (size_t at = 0; at + 1 < count && code == 0 && at / window < asked->windows; at += window) {
        show_progress(at / window, count / window + 1, asked->windows);
        code = score_window(session, ids + at, count - at < window ? count - at : window, &total,
                            error);
    }
    if (isatty(STDERR_FILENO)) (void)fputs("\r\033[K", stderr);
    if (code == 0 && total.tokens == 0) {
        (void)fprintf(stderr, "fewer than two tokens to score\n");
        code = 1;
    } else if (code == 0) {
        report(model, &total, asked);
    }
    flashinfer_session_destroy(session);
    free(ids);
    return code;
}

/* A window of many tokens in float32 may be more than a small budget holds: then half the bytes per element. */
static int choose_kv(const char *path, flashinfer_options *options, flashinfer_error *error)
{
    flashinfer_plan plan = {.size = sizeof plan};
    int code;

    if (options->kv_type != FLASHINFER_KV_DEFAULT) return 0;
    code = flashinfer_plan_file(path, options, &plan, error);
    options->kv_type = options->memory_budget != 0 && plan.minimum_bytes > options->memory_budget
                           ? FLASHINFER_KV_F16
                           : FLASHINFER_KV_F32;
    return code;
}

static int check_context(const char *text, uint32_t window_tokens)
{
    uint32_t context = window_tokens;
    int code = program_u32("--context", text, 1, 1u << 22, &context);

    if (code != 0 || context >= window_tokens) return code;
    return program_refuse("--context %u is less than --window-tokens %u", context, window_tokens);
}

int main(int argc, char **argv)
{
    const char *path = NULL, *window = NULL, *audit = NULL, *limit = NULL;
    program_model_options texts = {0};
    request asked = {.window_tokens = 512, .windows = UINT32_MAX};
    int code;
    const program_option known[] = {
        PROGRAM_MODEL_OPTIONS(texts),     {"--text", &asked.text_path, NULL},
        {"--ids", &asked.ids_path, NULL}, {"--window-tokens", &window, NULL},
        {"--audit", &audit, NULL},        {"--limit", &limit, NULL},
        {"--json", NULL, &asked.json}};
    flashinfer_options options;
    flashinfer_model *model = NULL;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.audit_interval = AUDIT_INTERVAL;
    code = program_parse(argc, argv, known, sizeof known / sizeof known[0], &path, 1, usage);
    if (code == 0 && (asked.text_path == NULL) == (asked.ids_path == NULL))
        code =
            program_refuse(asked.text_path == NULL ? "--text or --ids is missing"
                                                   : "--text and --ids are given, one is enough");
    if (code == 0) code = program_u32("--window-tokens", window, 2, 1u << 22, &asked.window_tokens);
    if (code == 0) code = program_u32("--audit", audit, 0, 1000000, &options.audit_interval);
    if (code == 0) code = program_u32("--limit", limit, 1, UINT32_MAX, &asked.windows);
    if (code == 0) code = check_context(texts.context, asked.window_tokens);
    if (code == 0) code = program_model_options_read(&texts, path, &options);
    if (code != 0) return code;
    if (options.context_tokens == 0) options.context_tokens = asked.window_tokens;
    code = choose_kv(path, &options, &error);
    asked.kv = options.kv_type == FLASHINFER_KV_Q8_0  ? "q8_0"
               : options.kv_type == FLASHINFER_KV_F16 ? "f16"
                                                      : "f32";
    if (code == 0) code = flashinfer_model_open(path, &options, &model, &error);
    if (code == 0) code = run(model, &asked, &error);
    (void)flashinfer_model_close(model);
    return program_model_options_end(&texts, code > 0 ? code : program_end(code, &error));
}
