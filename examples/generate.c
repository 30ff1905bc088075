/*
 * generate.c - continue a text with a model that is larger than the memory it is given.
 *
 * The lesson: open with a budget, create a session, eval the prompt, then sample, decode, step until enough.
 */
#include <stdlib.h>
#include <string.h>

#include "program.h"

static const char usage[] =
    "Goes on from a prompt, with a model that may be larger than the memory it is given.\n"
    "generate MODEL.gguf --prompt TEXT [--tokens N] [--temperature T] [--top-k K] [--top-p P]\n"
    "       [--seed S] [--json]\n" PROGRAM_MODEL_USAGE "\n"
    "  MODEL.gguf       model file, made by pack\n"
    "  --prompt         text to go on from (needed)\n"
    "  --tokens         how many tokens more (default: 64)\n"
    "  --temperature    0: the likeliest token each time; higher: more surprising (default: 0)\n"
    "  --top-k          draw among the K likeliest; 0: among all (default: 0)\n"
    "  --top-p          draw among the likeliest that make up a share P; 0: among all (default: "
    "0)\n"
    "  --seed           same seed, same text (default: 0)\n"
    "  --json           print tokens and figures as JSON, not the text and a table\n"
    "  --budget         memory of the model: a share of its file, or bytes such as 64M (default: "
    "50%)\n"
    "  --context        tokens a session has room for (default: what prompt and --tokens need)\n"
    "  --kv             type of the KV cache (default: f32)\n" PROGRAM_MODEL_HELP;

typedef struct run {
    flashinfer_model *model;
    flashinfer_session *session;
    flashinfer_decoder *decoder;
    flashinfer_sampler *sampler;
    int32_t *tokens; /* the prompt, then what was generated */
    size_t prompt_count, count, wanted;
    double started, first, finished; /* seconds */
    int json;
} run;

/* Print the text a token completes; -1 ends the stream. */
static int emit(run *at, int32_t token, flashinfer_error *error)
{
    const char *piece;
    int code = flashinfer_decoder_push(at->decoder, token, &piece, NULL, error);

    if (code == 0 && !at->json && fputs(piece, stdout) >= 0) (void)fflush(stdout);
    return code;
}

/* The prompt's ids, from the metadata alone: how long it is decides the context to plan for. *positions: the model's. */
static int tokenize(run *at, const char *path, const char *prompt, const flashinfer_options *asked,
                    uint32_t *positions, flashinfer_error *error)
{
    flashinfer_info info = {.size = sizeof info};
    flashinfer_options options;
    int code;

    flashinfer_options_init(&options, sizeof options);
    options.flags = FLASHINFER_OPEN_METADATA;
    options.ffn_activation = asked->ffn_activation;
    options.ffn_threshold = asked->ffn_threshold;
    code = flashinfer_model_open(path, &options, &at->model, error);
    if (code == 0)
        code = program_tokenize(at->model, prompt, strlen(prompt), at->wanted, &at->tokens,
                                &at->prompt_count, error);
    if (code == 0) code = flashinfer_model_info(at->model, &info);
    *positions = info.context_tokens;
    (void)flashinfer_model_close(at->model);
    at->model = NULL;
    return code;
}

/* Room for the prompt and what is to come: that much, unless the caller wants another. */
static int choose_context(const run *at, uint32_t positions, uint32_t *context)
{
    const size_t needed = at->prompt_count + at->wanted;

    if (needed > positions) {
        (void)fprintf(
            stderr,
            "the prompt's %zu tokens and --tokens %zu are more than the %u that the model "
            "can hold\n",
            at->prompt_count, at->wanted, positions);
        return 1;
    }
    if (*context == 0) *context = (uint32_t)needed;
    if (*context >= needed) return 0;
    (void)fprintf(stderr, "--context %u is less than the prompt's %zu tokens and --tokens %zu\n",
                  *context, at->prompt_count, at->wanted);
    return 1;
}

static int generate(run *at, int32_t eos, flashinfer_error *error)
{
    size_t end = at->prompt_count + at->wanted;
    int code = 0;

    for (size_t i = 0; i < at->prompt_count && code == 0; i++)
        code = emit(at, at->tokens[i], error);
    at->started = program_seconds();
    if (code == 0) code = flashinfer_eval(at->session, at->tokens, at->prompt_count, error);
    at->first = program_seconds();
    for (at->count = at->prompt_count; code == 0 && at->count < end;) {
        size_t vocab;
        const float *logits = flashinfer_logits(at->session, &vocab);
        int32_t token = eos;
        code = flashinfer_sampler_sample(at->sampler, logits, vocab, &token, error);
        if (code != 0 || token == eos) break;
        at->tokens[at->count++] = token;
        code = emit(at, token, error);
        if (code == 0 && at->count < end) code = flashinfer_step(at->session, token, error);
    }
    at->finished = program_seconds();
    return code != 0 ? code : emit(at, -1, error);
}

static int run_model(run *at, const char *path, const flashinfer_options *options,
                     const flashinfer_sampler_options *sampling, flashinfer_error *error)
{
    flashinfer_info info = {.size = sizeof info};
    int code = flashinfer_model_open(path, options, &at->model, error);

    if (code == 0) code = flashinfer_model_info(at->model, &info);
    if (code == 0) code = flashinfer_session_create(at->model, &at->session, error);
    if (code == 0) code = flashinfer_decoder_create(at->model, &at->decoder, error);
    if (code == 0)
        code = flashinfer_sampler_create(sampling, info.vocab_count, &at->sampler, error);
    if (code == 0) code = generate(at, info.eos_token, error);
    if (code == 0) {
        program_report report = {at->model,
                                 at->tokens,
                                 at->count,
                                 at->prompt_count,
                                 at->first - at->started,
                                 at->finished - at->first};
        if (at->json)
            program_report_json(&report);
        else
            program_report_table(&report);
    }
    flashinfer_sampler_destroy(at->sampler);
    flashinfer_decoder_destroy(at->decoder);
    flashinfer_session_destroy(at->session);
    (void)flashinfer_model_close(at->model);
    return code;
}

int main(int argc, char **argv)
{
    const char *model = NULL, *prompt = NULL, *tokens = NULL, *temperature = NULL, *top_k = NULL;
    const char *top_p = NULL, *seed = NULL;
    program_model_options texts = {.budget = "50%"};
    run at = {.wanted = 64};
    const program_option known[] = {
        PROGRAM_MODEL_OPTIONS(texts), {"--prompt", &prompt, NULL},
        {"--tokens", &tokens, NULL},  {"--temperature", &temperature, NULL},
        {"--top-k", &top_k, NULL},    {"--top-p", &top_p, NULL},
        {"--seed", &seed, NULL},      {"--json", NULL, &at.json}};
    flashinfer_options options;
    flashinfer_sampler_options sampling;
    flashinfer_error error;
    uint32_t wanted = 64, seed_number = 0, positions = 0;
    int code = program_parse(argc, argv, known, sizeof known / sizeof known[0], &model, 1, usage);

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    flashinfer_sampler_options_init(&sampling, sizeof sampling);
    if (code == 0 && prompt == NULL) code = program_refuse("--prompt is missing");
    if (code == 0) code = program_u32("--tokens", tokens, 1, 1000000, &wanted);
    if (code == 0)
        code = program_float("--temperature", temperature, 0, 100, &sampling.temperature);
    if (code == 0) code = program_u32("--top-k", top_k, 0, 1u << 24, &sampling.top_k);
    if (code == 0) code = program_float("--top-p", top_p, 0, 1, &sampling.top_p);
    if (code == 0) code = program_u32("--seed", seed, 0, UINT32_MAX, &seed_number);
    if (code == 0) code = program_model_options_read(&texts, model, &options);
    if (code != 0) return code;
    sampling.seed = seed_number;
    at.wanted = wanted;
    code = tokenize(&at, model, prompt, &options, &positions, &error);
    if (code == 0) code = choose_context(&at, positions, &options.context_tokens);
    if (code == 0) code = run_model(&at, model, &options, &sampling, &error);
    free(at.tokens);
    return program_model_options_end(&texts, code > 0 ? code : program_end(code, &error));
}
