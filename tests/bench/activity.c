/*
 * activity.c - how a model's FFN fires over a fixed sequence of tokens, beside the paper's figures.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "activity_measure.h"
#include "program.h"
#include "zipf.h"

static const char usage[] =
    "Runs tokens drawn by Zipf's law, always the same, and prints shares of the FFN, means over "
    "tokens: in the set, cached (in it now or in the window before), newly loaded.\n"
    "activity MODEL.gguf [options]\n"
    "  --tokens N   how many (default 256)\n"
    "  --skip N     at the start that do not count (default 32)\n"
    "  --window K   tokens before the current one whose neurons stay cached (default 4)\n"
    "  --named P    percent of the FFN that a lowered threshold names (default 10)\n"
    "  --threads N  compute threads\n"
    "  --seed S     another sequence (default 1)\n"
    "  --layers     also print every layer";

typedef struct target {
    const char *what;
    double wanted, found;
} target;

static void print_set(const char *what, const activity_set *set)
{
    (void)printf("%-34s %7.2f%% %7.2f%% %7.2f%%\n", what, 100 * set->share, 100 * set->cached,
                 100 * set->loaded);
}

static void print_layers(const activity_result *result)
{
    (void)printf("%5s | %21s | %21s | %21s | %7s | %s\n", "", "active cached loaded",
                 "named cached loaded", "sketch cached loaded", "recall", "like layer before");
    for (uint32_t i = 0; i < result->layer_count; i++) {
        const activity_layer *layer = &result->layers[i];
        const activity_set *sets[] = {&layer->active, &layer->named, &layer->sketch};
        (void)printf("%5u |", i);
        for (int k = 0; k < 3; k++)
            (void)printf(" %6.2f %6.2f %6.2f  |", 100 * sets[k]->share, 100 * sets[k]->cached,
                         100 * sets[k]->loaded);
        (void)printf(" %6.2f%% | %.4f\n", 100 * layer->sketch_recall, layer->similarity);
    }
}

static void print_result(const activity_result *result)
{
    const activity_layer *mean = &result->mean;
    const target targets[] = {{"active", 3.0, 100 * mean->active.share},
                              {"named, cached", 24.0, 100 * mean->named.cached},
                              {"named, newly loaded", 2.4, 100 * mean->named.loaded}};

    (void)printf("%-34s %8s %8s %8s\n", "share of the FFN", "in set", "cached", "loaded");
    print_set("active", &mean->active);
    print_set("named by a lowered threshold", &mean->named);
    if (result->has_sketch) {
        print_set("named by the sketch", &mean->sketch);
        (void)printf("the sketch names %.2f%% of the active neurons\n", 100 * mean->sketch_recall);
    }
    if (result->layer_count > 1)
        (void)printf("FFN inputs of neighbouring layers: cosine %.4f\n", mean->similarity);
    (void)printf("\n%-34s %8s %8s\n", "the paper's OPT-6.7B, window of 4", "paper", "here");
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        (void)printf("%-34s %7.2f%% %7.2f%%  %+.0f%%\n", targets[i].what, targets[i].wanted,
                     targets[i].found, 100 * (targets[i].found / targets[i].wanted - 1));
}

static int print_model(const char *path, uint32_t *vocab, uint32_t *context,
                       flashinfer_error *error)
{
    flashinfer_options options;
    flashinfer_model *model = NULL;
    flashinfer_info info = {.size = sizeof info};
    int code;

    flashinfer_options_init(&options, sizeof options);
    options.flags = FLASHINFER_OPEN_METADATA | FLASHINFER_OPEN_NO_TOKENIZER;
    code = flashinfer_model_open(path, &options, &model, error);
    if (code == 0) code = flashinfer_model_info(model, &info);
    if (code != 0) return code;
    *vocab = info.vocab_count;
    *context = info.context_tokens;
    (void)printf("%s \"%s\": %u layers of %u neurons, width %u\n", path, info.name,
                 info.layer_count, info.ffn_length, info.embedding_length);
    return flashinfer_model_close(model);
}

static int measure(const char *path, const activity_options *options, uint32_t count, uint32_t seed,
                   int each_layer)
{
    activity_result result;
    flashinfer_error error;
    uint32_t vocab = 0, context = 0;
    int32_t *tokens = NULL;
    int code;

    flashinfer_error_init(&error, sizeof error);
    code = print_model(path, &vocab, &context, &error);
    if (code != 0) return program_fail(&error);
    if (count > context) count = context;
    tokens = malloc(count * sizeof *tokens);
    if (tokens == NULL || bench_zipf_tokens(vocab, seed, tokens, count) != 0) {
        (void)fprintf(stderr, "no memory for %u tokens\n", count);
        free(tokens);
        return 1;
    }
    code = activity_measure(path, tokens, count, options, &result, &error);
    free(tokens);
    if (code != 0) return program_fail(&error);
    (void)printf("%u tokens, the first %u not counted; cached: of this token or the %u before\n\n",
                 count, options->skip_tokens, options->window_tokens);
    if (each_layer) print_layers(&result);
    print_result(&result);
    activity_release(&result);
    return fflush(stdout) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    const char *path = NULL, *count_text = NULL, *skip = NULL, *window = NULL, *named = NULL;
    const char *threads = NULL, *seed_text = NULL;
    int each_layer = 0, code;
    const program_option known[] = {{"--tokens", &count_text, NULL}, {"--skip", &skip, NULL},
                                    {"--window", &window, NULL},     {"--named", &named, NULL},
                                    {"--threads", &threads, NULL},   {"--seed", &seed_text, NULL},
                                    {"--layers", NULL, &each_layer}};
    activity_options options = {.window_tokens = 4, .skip_tokens = 32};
    uint32_t count = 256, seed = 1;
    float percent = 10;

    code = program_parse(argc, argv, known, sizeof known / sizeof *known, &path, 1, usage);
    if (code == 0) code = program_u32("--tokens", count_text, 1, 1u << 20, &count);
    if (code == 0) code = program_u32("--skip", skip, 0, 1u << 20, &options.skip_tokens);
    if (code == 0) code = program_u32("--window", window, 0, 1024, &options.window_tokens);
    if (code == 0) code = program_float("--named", named, 0.01f, 100, &percent);
    if (code == 0) code = program_u32("--threads", threads, 1, 64, &options.threads);
    if (code == 0) code = program_u32("--seed", seed_text, 0, UINT32_MAX, &seed);
    if (code != 0) return code;
    options.named_share = percent / 100.0;
    return measure(path, &options, count, seed, each_layer);
}
