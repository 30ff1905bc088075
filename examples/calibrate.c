/*
 * calibrate.c - make a predictor file for a model from text: thresholds for sketches, low-rank factors in closed form,
 * and for every layer the kind and size that name the fewest neurons within a number of bytes.
 *
 * The lesson: watching a model's FFN inputs (options.ffn_input), making a predictor with the library's calls.
 */
#define _GNU_SOURCE
#include <stdlib.h>

#include "calibrate.h"
#include "program.h"
#include "windows.h"

static const char usage[] =
    "Makes a predictor file for a model from a text: what to read for which token.\n"
    "calibrate MODEL.gguf OUT.gguf --text FILE [--recall 0.995] [--size 10.7%|BYTES]\n"
    "          [--kinds both|sketch|lowrank] [--bits N] [--rank N] [--json]\n"
    "          [--tokens 4096] [--window-tokens 256]\n"
    "          [--budget 50%|BYTES] [--threads N] [--storage KIND] [--activation NAME]\n"
    "  MODEL.gguf   model file, made by pack\n"
    "  OUT.gguf     predictor file to write: give it to other programs with --predictor-file\n"
    "  --text       what the predictor is fitted to; evenly spread windows of it are run (needed)\n"
    "  --recall     share of the neurons that fire which is to be found, on text not fitted to "
    "(default: 0.995)\n"
    "  --size       of the predictor in memory, in percent of the FFN's bytes, or bytes (default: "
    "10.7%; 100% with --bits or --rank)\n"
    "  --kinds      what every layer may choose from: sketches of 1 to 4 bits, low-rank factors "
    "(default: both)\n"
    "  --bits       only sketches of so many bits a weight (default: 1 to 4, as suits the layer)\n"
    "  --rank       only factors of this rank (default: several, as suits the layer)\n"
    "  --tokens     of the text that are run; an interrupted run goes on after the last window "
    "(default: 4096)\n"
    "  --window-tokens  tokens of a window: run one after the other, then begun anew (default: "
    "256)\n"
    "  --budget     memory of the model while it runs over the text (default: all it can use)\n"
    "  --threads    compute threads (default: one for 8 MiB of FFN, at most one per CPU and 16)\n"
    "  --storage    how the file is read: libaio, io_uring, pread or buffered (default: the first "
    "of these that works on it)\n" PROGRAM_ACTIVATION_HELP "\n"
    "  --json       print the layers as JSON, not a table";

#define WHOLE_BYTES (UINT64_C(1) << 40)
#define BLAS_THREADS_WIDTH 1024u /* of the model, from which on BLAS gets more than one */

typedef struct request {
    const char *model_path, *out_path, *text_path;
    const char *size; /* of the FFN's bytes, or bytes */
    uint32_t tokens, window;
    calibrate_wish wish;
    int json;
} request;

typedef struct request_texts {
    const char *recall, *kinds, *bits, *rank, *tokens, *window;
} request_texts;

/* FNV-1a: tells one run from another, no more. */
static uint64_t mix(uint64_t key, const void *data, size_t bytes)
{
    const unsigned char *at = data;

    for (size_t i = 0; i < bytes; i++) key = (key ^ at[i]) * UINT64_C(1099511628211);
    return key;
}

/* The last tensor's checksum is one of all others. */
static uint64_t key_of(const flashinfer_model *model, const flashinfer_info *info,
                       const int32_t *ids, size_t bytes)
{
    flashinfer_tensor_info tensor = {.size = sizeof tensor};
    uint64_t key = UINT64_C(14695981039346656037);

    (void)flashinfer_model_tensor(model, info->tensor_count - 1, &tensor);
    key = mix(key, &tensor.xxh3, sizeof tensor.xxh3);
    return mix(key, ids, bytes);
}

/* Run the model over the text; the samples are complete afterwards. */
static int collect(flashinfer_model *model, const request *asked, samples *from,
                   flashinfer_error *error)
{
    flashinfer_info info = {.size = sizeof info};
    flashinfer_session *session = NULL;
    size_t count = 0;
    int32_t *ids;
    int code = windows_ids(model, asked->text_path, NULL, &ids, &count, error);

    (void)flashinfer_model_info(model, &info);
    if (code == 0 && count < 2 * (size_t)asked->window) {
        (void)fprintf(stderr, "%s: %zu tokens are too few, two windows of %u are the least\n",
                      asked->text_path, count, asked->window);
        code = 1;
    }
    from->window = asked->window;
    from->windows = asked->tokens / asked->window;
    if (code == 0 && from->windows > count / asked->window)
        from->windows = (uint32_t)(count / asked->window);
    if (code == 0)
        code = samples_open(from, &info, asked->out_path,
                            key_of(model, &info, ids, count * sizeof *ids));
    if (code == 0) code = flashinfer_session_create(model, &session, error);
    if (code == 0) code = samples_run(from, session, ids, count, error);
    flashinfer_session_destroy(session);
    free(ids);
    return code;
}

/* ---------------------------------------------------------------------------------------- report */

static void print_candidates(const calibrate_layer *layer)
{
    const char *before = "";

    for (uint32_t k = 0; k < CALIBRATE_CANDIDATES; k++) {
        const calibrate_candidate *at = &layer->candidates[k];
        if (at->kind == 0) continue;
        (void)printf("%s{\"kind\": \"%s\", \"size\": %u, \"bytes\": %llu, \"predicted\": %.6f, "
                     "\"recall\": %.6f, \"points\": [",
                     before, program_predictor_name(at->kind), at->size,
                     (unsigned long long)at->bytes, at->share, at->recall);
        for (uint32_t i = 0; i + 1 < CALIBRATE_POINTS; i++)
            (void)printf("%s[%.6f, %.6f]", i != 0 ? ", " : "", at->points[i].recall,
                         at->points[i].share);
        (void)printf("]}");
        before = ", ";
    }
}

static void print_json(const calibrate_layer *layers, uint32_t count, double seconds)
{
    (void)printf("{\"layers\": [");
    for (uint32_t i = 0; i < count; i++) {
        const calibrate_candidate *chosen = &layers[i].candidates[layers[i].chosen];
        (void)printf(
            "%s{\"layer\": %u, \"active\": %.6f, \"kind\": \"%s\", \"size\": %u, \"bytes\": "
            "%llu, \"predicted\": %.6f, \"recall\": %.6f, \"candidates\": [",
            i != 0 ? ", " : "", i, layers[i].active, program_predictor_name(chosen->kind),
            chosen->size, (unsigned long long)chosen->bytes, chosen->share, chosen->recall);
        print_candidates(&layers[i]);
        (void)printf("]}");
    }
    (void)printf("], \"seconds\": %.1f, \"peak_rss_bytes\": %llu}\n", seconds,
                 (unsigned long long)program_peak_rss_bytes());
}

static void print_table(const calibrate_layer *layers, uint32_t count, double seconds)
{
    double active = 0, named = 0;
    uint64_t bytes = 0;

    (void)printf(
        "layer  active   named  found   chosen, bytes; share named by every candidate (s3: sketch "
        "of 3 bits, l40: factors of rank 40)\n");
    for (uint32_t i = 0; i < count; i++) {
        const calibrate_candidate *chosen = &layers[i].candidates[layers[i].chosen];
        (void)printf("%5u  %5.2f%%  %5.2f%%  %5.2f%%  %s %u, %llu;", i, 100 * layers[i].active,
                     100 * chosen->share, 100 * chosen->recall,
                     program_predictor_name(chosen->kind), chosen->size,
                     (unsigned long long)chosen->bytes);
        for (uint32_t k = 0; k < CALIBRATE_CANDIDATES; k++) {
            const calibrate_candidate *at = &layers[i].candidates[k];
            if (at->kind != 0)
                (void)printf(" %c%u %.1f%%", program_predictor_name(at->kind)[0], at->size,
                             100 * at->share);
        }
        (void)printf("\n");
        active += layers[i].active / count;
        named += chosen->share / count;
        bytes += chosen->bytes;
    }
    (void)printf("mean   %5.2f%%  %5.2f%%          %.2f MB in %.1f s, at most %.0f MB of memory\n",
                 100 * active, 100 * named, (double)bytes / 1e6, seconds,
                 (double)program_peak_rss_bytes() / 1e6);
}

/* ----------------------------------------------------------------------------------------- story */

static int fit_all(flashinfer_model *model, flashinfer_predictor *predictor, const request *asked,
                   const samples *from, calibrate_layer *layers, flashinfer_error *error)
{
    int code = 0;

    for (uint32_t i = 0; i < from->layers && code == 0; i++) {
        (void)fprintf(stderr, "\rfitting layer %u of %u ", i + 1, from->layers);
        code = calibrate_fit(model, predictor, i, from, &asked->wish, &layers[i], error);
    }
    (void)fprintf(stderr, "\n");
    return code;
}

static int choose_and_save(flashinfer_model *model, flashinfer_predictor *predictor,
                           const request *asked, const samples *from, calibrate_layer *layers,
                           flashinfer_error *error)
{
    flashinfer_info info = {.size = sizeof info};
    uint64_t bytes = 0;
    int code;

    (void)flashinfer_model_info(model, &info);
    code = program_share("--size", asked->size, info.ffn_bytes, &bytes);
    if (code != 0) return code;
    if (calibrate_choose(layers, from->layers, bytes) != 0) {
        (void)fprintf(stderr, "no predictor fits %llu bytes; give a larger --size\n",
                      (unsigned long long)bytes);
        return 1;
    }
    for (uint32_t i = 0; i < from->layers && code == 0; i++)
        code = calibrate_make(model, predictor, i, from, &layers[i], error);
    if (code != 0) return code;
    program_signals_catch();
    code = flashinfer_predictor_save(predictor, asked->out_path, error);
    program_signals_release();
    return code;
}

static int calibrate(flashinfer_model *model, const request *asked, samples *from,
                     flashinfer_error *error)
{
    double since = program_seconds();
    flashinfer_predictor *predictor = NULL;
    calibrate_layer *layers = NULL;
    /* before the long part: it says so where there is nothing to predict */
    int code = flashinfer_predictor_create(model, &predictor, error);

    if (code == 0) code = collect(model, asked, from, error);
    if (code == 0) layers = calloc(from->layers, sizeof *layers);
    if (code == 0 && layers == NULL) code = FLASHINFER_ENOMEM;
    if (code == 0) code = fit_all(model, predictor, asked, from, layers, error);
    if (code == 0) code = choose_and_save(model, predictor, asked, from, layers, error);
    if (code == 0) {
        double seconds = program_seconds() - since;
        if (asked->json)
            print_json(layers, from->layers, seconds);
        else
            print_table(layers, from->layers, seconds);
    }
    flashinfer_predictor_destroy(predictor);
    for (uint32_t i = 0; layers != NULL && i < from->layers; i++) calibrate_layer_close(&layers[i]);
    free(layers);
    return code;
}

static int read_request(request *asked, const request_texts *texts)
{
    static const char *const names[] = {"both", "sketch", "lowrank", NULL};
    static const uint32_t numbers[] = {0, 1, 2};
    calibrate_wish *wish = &asked->wish;
    uint32_t kind = 0;
    float share = 0.995f;
    uint64_t bytes;
    int code;

    if (asked->text_path == NULL) return program_refuse("--text is missing");
    if ((code = program_float("--recall", texts->recall, 0.5f, 1, &share)) != 0 ||
        (code = program_choice("--kinds", texts->kinds, names, numbers, &kind)) != 0 ||
        (code = program_u32("--bits", texts->bits, 1, 4, &wish->bits)) != 0 ||
        (code = program_u32("--rank", texts->rank, 1, 16384, &wish->rank)) != 0 ||
        (code = program_u32("--tokens", texts->tokens, 32, 1u << 24, &asked->tokens)) != 0 ||
        (code = program_u32("--window-tokens", texts->window, 16, 1u << 20, &asked->window)) != 0)
        return code;
    if (asked->tokens < 2 * asked->window)
        return program_refuse("--tokens %u is less than two windows of --window-tokens %u",
                              asked->tokens, asked->window);
    wish->sketches = kind != 2;
    wish->lowranks = kind != 1;
    wish->recall = (double)share;
    if (asked->size == NULL) asked->size = wish->bits != 0 || wish->rank != 0 ? "100%" : "10.7%";
    return program_share("--size", asked->size, WHOLE_BYTES, &bytes); /* now for its form only */
}

/* BLIS reads its number of threads from the environment, before its first call. They wait for each
   other by spinning: on small matrices and a busy machine that takes many times as long as the work. */
static void use_blas_threads(const flashinfer_model *model, uint32_t threads)
{
    flashinfer_info info = {.size = sizeof info};
    char text[16];

    (void)flashinfer_model_info(model, &info);
    (void)snprintf(text, sizeof text, "%u",
                   info.embedding_length >= BLAS_THREADS_WIDTH ? threads : 1);
    (void)setenv("BLIS_NUM_THREADS", text, 0);
}

int main(int argc, char **argv)
{
    program_model_options texts = {0};
    request_texts numbers = {0};
    const char *paths[2];
    request asked = {.tokens = 4096, .window = 256};
    const program_option table[] = {{"--text", &asked.text_path, NULL},
                                    {"--recall", &numbers.recall, NULL},
                                    {"--size", &asked.size, NULL},
                                    {"--kinds", &numbers.kinds, NULL},
                                    {"--bits", &numbers.bits, NULL},
                                    {"--rank", &numbers.rank, NULL},
                                    {"--tokens", &numbers.tokens, NULL},
                                    {"--window-tokens", &numbers.window, NULL},
                                    {"--json", NULL, &asked.json},
                                    {"--budget", &texts.budget, NULL},
                                    {"--threads", &texts.threads, NULL},
                                    {"--storage", &texts.storage, NULL},
                                    {"--activation", &texts.activation, NULL}};
    flashinfer_options options;
    flashinfer_model *model = NULL;
    samples from = {0};
    flashinfer_error error;
    int code = program_parse(argc, argv, table, sizeof table / sizeof table[0], paths, 2, usage);

    if (code == 0) code = read_request(&asked, &numbers);
    if (code != 0) return code;
    asked.model_path = paths[0];
    asked.out_path = paths[1];
    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    code = program_model_options_read(&texts, asked.model_path, &options);
    if (code != 0) return code;
    asked.wish.threads = options.threads != 0 ? options.threads : program_cpus();
    options.context_tokens = asked.window;
    options.ffn_input = samples_take;
    options.ffn_input_user = &from;
    code = flashinfer_model_open(asked.model_path, &options, &model, &error);
    if (code == 0) {
        use_blas_threads(model, asked.wish.threads);
        code = calibrate(model, &asked, &from, &error);
    }
    samples_close(&from, code == 0);
    (void)flashinfer_model_close(model);
    return program_model_options_end(&texts, code > 0 ? code : program_end(code, &error));
}
