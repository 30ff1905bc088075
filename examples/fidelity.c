/*
 * fidelity.c - what predictors lose: the exact model and models that run by predictors, side by side over a text.
 *
 * The lesson: several models in one program, the audit's callback, logits compared.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fidelity.h"
#include "program.h"
#include "windows.h"

static const char usage[] =
    "Compares a predicted model with the exact one: which neurons are missed, and what that "
    "weighs.\n"
    "fidelity MODEL.gguf [PREDICTOR.gguf|own ...] (--text FILE | --ids FILE)\n"
    "         [--window-tokens 512] [--limit WINDOWS] [--audit 8] [--plot FILE.svg] [--json]\n"
    "         [--budget 50%|BYTES] [--exact-budget 50%|BYTES] [--threads N] [--storage KIND]\n"
    "         [--activation NAME]\n"
    "  MODEL.gguf     model file, made by pack\n"
    "  PREDICTOR      predictor files to look at, or own: the one in the model's file (default: "
    "own)\n"
    "  --text         text to predict (this or --ids is needed)\n"
    "  --ids          its token ids instead: little-endian int32 (this or --text is needed)\n"
    "  --window-tokens  tokens of a window: predicted one by one, then begun anew (default: 512)\n"
    "  --limit        stop after so many windows (default: at the end of the text)\n"
    "  --audit        every Nth token all layers are also computed without predictor, to count "
    "what was missed (default: 8)\n"
    "  --plot         SVG picture to write: neurons named against neurons found, every predictor "
    "with its best thresholds on this text (default: none)\n"
    "  --json         print figures as JSON, not a table\n"
    "  --budget       memory of each predicted model (default: all it can use)\n"
    "  --exact-budget  memory of the exact model (default: all it can use)\n"
    "  --threads      compute threads (default: one for 8 MiB of FFN, at most one per CPU and 16)\n"
    "  --storage      how files are read: libaio, io_uring, pread or buffered (default: the first "
    "of these that works on them)\n" PROGRAM_ACTIVATION_HELP;

#define PLOT_TOKENS 4096u /* whose inputs the curves are made from */

typedef struct request {
    const char *model_path, *text_path, *ids_path, *plot_path, *exact_budget;
    const char *paths[1 + FIDELITY_SUBJECTS];
    uint32_t window_tokens, windows;
    int json;
    flashinfer_options options; /* of the predicted models */
} request;

static void take_audit(const flashinfer_audit *audit, void *user)
{
    fidelity_layer *layer = &((fidelity_subject *)user)->layers[audit->layer];

    layer->steps++;
    layer->predicted += audit->predicted;
    layer->active += audit->active;
    layer->missed += audit->missed;
    layer->output_square += audit->output_norm * audit->output_norm;
    layer->missed_square += audit->missed_norm * audit->missed_norm;
}

/* ---------------------------------------------------------------------------------------- report */

/* Weight of what was missed: its norm over the whole's, both root mean squares. */
static double missed_weight(const fidelity_layer *layer)
{
    return layer->output_square > 0 ? sqrt(layer->missed_square / layer->output_square) : 0;
}

static double share(uint64_t part, const fidelity *at, const fidelity_layer *layer)
{
    return layer->steps != 0 ? (double)part / ((double)layer->steps * (double)at->info.ffn_length)
                             : 0;
}

static void print_layer_json(const fidelity *at, const fidelity_layer *layer)
{
    (void)printf(
        "\"active\": %.6f, \"predicted\": %.6f, \"recall\": %.6f, \"false_negatives\": %llu, "
        "\"missed_weight\": %.6f",
        share(layer->active, at, layer), share(layer->predicted, at, layer), fidelity_recall(layer),
        (unsigned long long)layer->missed, missed_weight(layer));
}

static void print_model_json(const fidelity *at, const fidelity_subject *subject)
{
    double nll = subject->nll / (double)at->tokens;

    (void)printf("\"nll\": %.6f, \"perplexity\": %.6f, \"flash_bytes_per_token\": %.1f", nll,
                 exp(nll), (double)subject->stats.flash_bytes / (double)subject->stats.tokens);
}

static void print_subject_json(const fidelity *at, const fidelity_subject *subject, int curves)
{
    fidelity_layer sum = fidelity_sum(at, subject);
    double tokens = (double)at->tokens;

    (void)printf("{\"name\": ");
    program_json_string(stdout, subject->name, strlen(subject->name));
    (void)printf(", \"kind\": \"%s\", \"bytes\": %llu, \"share_of_ffn_bytes\": %.6f, ",
                 program_predictor_name(subject->plan.predictor),
                 (unsigned long long)subject->predictor_bytes,
                 (double)subject->predictor_bytes / (double)at->info.ffn_bytes);
    print_layer_json(at, &sum);
    (void)printf(", \"kl\": %.8f, \"top1_agreement\": %.6f, ", subject->kl / tokens,
                 (double)subject->same_top / tokens);
    print_model_json(at, subject);
    (void)printf(", \"perplexity_ratio\": %.6f, \"layers\": [",
                 exp((subject->nll - at->exact.nll) / tokens));
    for (uint32_t i = 0; i < at->info.layer_count; i++) {
        (void)printf("%s{\"layer\": %u, ", i != 0 ? ", " : "", i);
        print_layer_json(at, &subject->layers[i]);
        (void)printf("}");
    }
    (void)printf("]");
    for (uint32_t k = 0; curves && k < JUDGE_RECALLS; k++)
        (void)printf("%s[%.6f, %.6f]%s", k == 0 ? ", \"curve\": [" : ", ", subject->curve[k][0],
                     subject->curve[k][1], k + 1 == JUDGE_RECALLS ? "]" : "");
    (void)printf("}");
}

static void print_json(const fidelity *at, int curves)
{
    (void)printf("{\"tokens\": %llu, \"exact\": {", (unsigned long long)at->tokens);
    print_model_json(at, &at->exact);
    (void)printf("}, \"predictors\": [");
    for (uint32_t i = 0; i < at->count; i++) {
        if (i != 0) (void)printf(", ");
        print_subject_json(at, &at->subjects[i], curves);
    }
    (void)printf("], \"peak_rss_bytes\": %llu}\n", (unsigned long long)program_peak_rss_bytes());
}

static void print_row(const fidelity *at, const char *name, const fidelity_layer *layer)
{
    (void)printf("%6s  %6.2f%%  %8.2f%%  %6.2f%%  %15llu  %12.4f%%\n", name,
                 100 * share(layer->active, at, layer), 100 * share(layer->predicted, at, layer),
                 100 * fidelity_recall(layer), (unsigned long long)layer->missed,
                 100 * missed_weight(layer));
}

static void print_subject(const fidelity *at, const fidelity_subject *subject)
{
    fidelity_layer sum = fidelity_sum(at, subject);
    double tokens = (double)at->tokens;

    (void)printf("\n%s: %s, %.2f MB, %.2f%% of the FFN's bytes\n", subject->name,
                 program_predictor_name(subject->plan.predictor),
                 (double)subject->predictor_bytes / 1e6,
                 100 * (double)subject->predictor_bytes / (double)at->info.ffn_bytes);
    (void)printf(" layer   active  predicted   recall  false negatives  missed weight\n");
    for (uint32_t i = 0; i < at->info.layer_count; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "%u", i);
        print_row(at, name, &subject->layers[i]);
    }
    print_row(at, "all", &sum);
    (void)printf(
        "perplexity %.4f (%+.3f%%), KL divergence %.6f nats, top-1 agreement %.2f%%, %.0f bytes "
        "of flash a token\n",
        exp(subject->nll / tokens), 100 * (exp((subject->nll - at->exact.nll) / tokens) - 1),
        subject->kl / tokens, 100 * (double)subject->same_top / tokens,
        (double)subject->stats.flash_bytes / (double)subject->stats.tokens);
}

static void print_report(const fidelity *at)
{
    (void)printf("exact: perplexity %.4f over %llu tokens, %.0f bytes of flash a token\n",
                 exp(at->exact.nll / (double)at->tokens), (unsigned long long)at->tokens,
                 (double)at->exact.stats.flash_bytes / (double)at->exact.stats.tokens);
    for (uint32_t i = 0; i < at->count; i++) print_subject(at, &at->subjects[i]);
}

/* ----------------------------------------------------------------------------------------- story */

static int open_exact(fidelity *at, const request *asked, flashinfer_error *error)
{
    flashinfer_options options = asked->options;
    int code;

    options.predictor = FLASHINFER_PREDICTOR_EXACT;
    options.memory_budget = 0;
    options.audit_interval = 0;
    options.ffn_input = samples_take;
    options.ffn_input_user = &at->inputs;
    code = program_budget("--exact-budget", asked->exact_budget, asked->model_path, &options,
                          &options.memory_budget);
    if (code != 0) return code;
    code = flashinfer_model_open(asked->model_path, &options, &at->exact.model, error);
    if (code != 0) return code;
    (void)flashinfer_model_info(at->exact.model, &at->info);
    return flashinfer_session_create(at->exact.model, &at->exact.session, error);
}

static int count_bytes(fidelity *at, fidelity_subject *subject, flashinfer_error *error)
{
    flashinfer_predictor *predictor;
    int code = flashinfer_predictor_copy(subject->model, &predictor, error);

    for (uint32_t i = 0; i < at->info.layer_count && code == 0; i++)
        subject->predictor_bytes += flashinfer_predictor_bytes(predictor, i);
    flashinfer_predictor_destroy(predictor);
    return code;
}

static int open_subject(fidelity *at, const request *asked, const char *name,
                        flashinfer_error *error)
{
    fidelity_subject *subject = &at->subjects[at->count];
    flashinfer_options options = asked->options;
    int code;

    at->count++;
    subject->name = name;
    subject->plan.size = sizeof subject->plan;
    subject->layers = calloc(at->info.layer_count, sizeof *subject->layers);
    if (subject->layers == NULL) return FLASHINFER_ENOMEM;
    if (strcmp(name, "own") != 0) options.predictor_path = name;
    options.audit_layers = at->info.layer_count;
    options.audit = take_audit;
    options.audit_user = subject;
    code = flashinfer_model_open(asked->model_path, &options, &subject->model, error);
    if (code != 0) return code;
    (void)flashinfer_model_plan(subject->model, &subject->plan);
    if (subject->plan.predictor == FLASHINFER_PREDICTOR_EXACT) {
        (void)fprintf(stderr, "%s has no predictor: %s\n", asked->model_path,
                      at->info.ffn_sparse ? "make one with calibrate, or pack the model again"
                                          : "all its neurons fire, so there is none to make");
        return 1;
    }
    code = count_bytes(at, subject, error);
    return code != 0 ? code : flashinfer_session_create(subject->model, &subject->session, error);
}

static int open_all(fidelity *at, const request *asked, flashinfer_error *error)
{
    int code = open_exact(at, asked, error);

    if (code == 0 && asked->paths[1] == NULL) return open_subject(at, asked, "own", error);
    for (uint32_t i = 1; i <= FIDELITY_SUBJECTS && code == 0 && asked->paths[i] != NULL; i++)
        code = open_subject(at, asked, asked->paths[i], error);
    return code;
}

/* A step's FFN inputs are those of all tokens of a window but the last, which is only scored. */
static int open_inputs(fidelity *at, const request *asked, size_t count)
{
    samples *inputs = &at->inputs;
    uint64_t full = count / asked->window_tokens;

    if (asked->plot_path == NULL) return 0;
    inputs->window = asked->window_tokens - 1;
    inputs->windows = PLOT_TOKENS / inputs->window;
    if (inputs->windows > asked->windows) inputs->windows = asked->windows;
    if (inputs->windows > full) inputs->windows = (uint32_t)full;
    if (inputs->windows >= 2) return samples_open(inputs, &at->info, asked->plot_path, 0);
    (void)fprintf(stderr,
                  "curves need two windows of %u tokens: give a longer text or --window-tokens\n",
                  asked->window_tokens);
    return 1;
}

static int plot(const fidelity *at, const char *path)
{
    FILE *file = fopen(path, "w");
    int failed = file == NULL || fidelity_plot(at, file) != 0;

    if (file != NULL && fclose(file) != 0) failed = 1;
    if (failed) perror(path);
    return failed;
}

static int run(fidelity *at, const request *asked, flashinfer_error *error)
{
    int32_t *ids = NULL;
    size_t count = 0;
    int code = windows_ids(at->exact.model, asked->text_path, asked->ids_path, &ids, &count, error);

    if (code == 0) code = open_inputs(at, asked, count);
    if (code == 0) code = fidelity_run(at, ids, count, asked->window_tokens, asked->windows, error);
    free(ids);
    if (code == 0 && at->tokens == 0) {
        (void)fprintf(stderr, "fewer than two tokens to score\n");
        code = 1;
    }
    if (code != 0) return code;
    at->exact.stats.size = sizeof at->exact.stats;
    (void)flashinfer_model_stats(at->exact.model, &at->exact.stats);
    for (uint32_t i = 0; i < at->count; i++) {
        at->subjects[i].stats.size = sizeof at->subjects[i].stats;
        (void)flashinfer_model_stats(at->subjects[i].model, &at->subjects[i].stats);
    }
    if (asked->plot_path != NULL) {
        uint32_t threads = asked->options.threads != 0 ? asked->options.threads : program_cpus();
        code = fidelity_curves(at, threads, error);
        if (code == 0) code = plot(at, asked->plot_path);
    }
    if (code != 0) return code;
    if (asked->json)
        print_json(at, asked->plot_path != NULL);
    else
        print_report(at);
    return 0;
}

static void close_subject(fidelity_subject *subject)
{
    flashinfer_session_destroy(subject->session);
    (void)flashinfer_model_close(subject->model);
    free(subject->layers);
}

static void close_all(fidelity *at)
{
    close_subject(&at->exact);
    for (uint32_t i = 0; i < at->count; i++) close_subject(&at->subjects[i]);
    samples_close(&at->inputs, 1);
}

int main(int argc, char **argv)
{
    const char *window = NULL, *limit = NULL, *audit = NULL;
    program_model_options texts = {0};
    request asked = {.window_tokens = 512, .windows = UINT32_MAX};
    const program_option known[] = {
        {"--text", &asked.text_path, NULL},  {"--ids", &asked.ids_path, NULL},
        {"--window-tokens", &window, NULL},  {"--limit", &limit, NULL},
        {"--audit", &audit, NULL},           {"--plot", &asked.plot_path, NULL},
        {"--json", NULL, &asked.json},       {"--budget", &texts.budget, NULL},
        {"--threads", &texts.threads, NULL}, {"--exact-budget", &asked.exact_budget, NULL},
        {"--storage", &texts.storage, NULL}, {"--activation", &texts.activation, NULL}};
    fidelity at = {.info = {.size = sizeof at.info}};
    flashinfer_error error;
    int code;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&asked.options, sizeof asked.options);
    asked.options.audit_interval = 8;
    code = program_parse_some(argc, argv, known, sizeof known / sizeof known[0], asked.paths, 1,
                              1 + FIDELITY_SUBJECTS, usage);
    if (code == 0 && (asked.text_path == NULL) == (asked.ids_path == NULL))
        code =
            program_refuse(asked.text_path == NULL ? "--text or --ids is missing"
                                                   : "--text and --ids are given, one is enough");
    if (code == 0) code = program_u32("--window-tokens", window, 2, 1u << 22, &asked.window_tokens);
    if (code == 0) code = program_u32("--limit", limit, 1, UINT32_MAX, &asked.windows);
    if (code == 0) code = program_u32("--audit", audit, 1, 1000000, &asked.options.audit_interval);
    if (code == 0) code = program_model_options_read(&texts, asked.paths[0], &asked.options);
    if (code != 0) return code;
    asked.model_path = asked.paths[0];
    asked.options.context_tokens = asked.window_tokens;
    code = open_all(&at, &asked, &error);
    if (code == 0) code = run(&at, &asked, &error);
    close_all(&at);
    return code > 0 ? code : program_end(code, &error);
}
