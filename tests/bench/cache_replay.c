/*
 * cache_replay.c - recorded traces against cache policies at equal memory: what each would have had to read, and how long
 * reading it takes.
 */
#include <stdlib.h>
#include <string.h>

#include "program.h"
#include "replay_io.h"

static const char usage[] =
    "Replays what generate --trace or perplexity --trace recorded, under every cache policy.\n"
    "cache_replay TRACE... [options]\n"
    "  --budget B    slots that this memory budget gives the model (default 50%)\n"
    "  --context N   positions of the KV cache within that budget (default: the model's)\n"
    "  --slots N     so many slots over all layers instead\n"
    "  --skip N      tokens that fill the cache and are not counted (default 64)\n"
    "  --read N      tokens whose misses are read from the model file (default 128; 0: none)\n"
    "  --model FILE  instead of the model that the trace names\n"
    "  --json";

#define TRACES_MAX 16
#define POLICIES 7

static const struct {
    const char *name;
    uint32_t policy;
} policies[POLICIES] = {
    {"paper's window", REPLAY_PAPER_WINDOW},
    {"window, filled", FLASHINFER_CACHE_WINDOW},
    {"S3-FIFO", REPLAY_S3_FIFO},
    {"frequency", FLASHINFER_CACHE_FREQUENCY},
    {"balanced", FLASHINFER_CACHE_BALANCED},
    {"Belady", REPLAY_BELADY},
};

typedef struct request {
    const char *budget, *model;
    uint32_t context, slots, skip, read;
    int json;
} request;

typedef struct row {
    const char *name;
    double hit_rate, missing, bytes, policy_ms; /* of a token */
    double io_ms, reads;                        /* of a token; negative: not read */
    double to_window, to_belady;                /* missing neurons, ratios */
    uint32_t window;
} row;

static int find_slots(const request *asked, const recorded_trace *trace, uint32_t *slots)
{
    const char *path = asked->model != NULL ? asked->model : trace->model_path;
    flashinfer_plan plan = {.size = sizeof plan};
    flashinfer_options options;
    flashinfer_error error;
    int code;

    *slots = asked->slots;
    if (*slots != 0) return 0;
    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.context_tokens = asked->context;
    code = program_budget("--budget", asked->budget, path, &options, &options.memory_budget);
    if (code != 0) return code;
    if (flashinfer_plan_file(path, &options, &plan, &error) != 0) return program_fail(&error);
    if (plan.budget_bytes >= plan.minimum_bytes && plan.slots != 0) {
        *slots = plan.slots;
        return 0;
    }
    (void)fprintf(stderr, "%s has no cache with this budget; give --slots\n", path);
    return 1;
}

/* Reads are replayed as from a file whose bundles lie neuron by neuron. */
static int check_order(const char *path)
{
    flashinfer_info info = {.size = sizeof info};
    flashinfer_model *model;
    flashinfer_options options;
    flashinfer_error error;
    int code;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.flags = FLASHINFER_OPEN_METADATA | FLASHINFER_OPEN_NO_TOKENIZER;
    code = flashinfer_model_open(path, &options, &model, &error);
    if (code == 0) code = flashinfer_model_info(model, &info);
    (void)flashinfer_model_close(model);
    if (code != 0) return program_fail(&error);
    if (!info.ordered) return 0;
    (void)fprintf(stderr, "%s was packed with an order: use --read 0, or --model without one\n",
                  path);
    return 1;
}

static int replay(const request *asked, const recorded_trace *trace, uint32_t slots,
                  uint32_t policy, row *out)
{
    const char *path = asked->model != NULL ? asked->model : trace->model_path;
    double tokens = trace->tokens - asked->skip;
    replay_misses misses;
    replay_io io = {0};
    flashinfer_error error;
    int code = 0;

    flashinfer_error_init(&error, sizeof error);
    if (replay_run(trace, policy, slots, asked->skip, &misses) != 0) {
        (void)fprintf(stderr, "no memory to replay\n");
        return 1;
    }
    if (asked->read != 0 && misses.window != UINT32_MAX)
        code = replay_read(trace, path, &misses, asked->skip, asked->read, REPLAY_BUNDLED, &io,
                           &error);
    out->hit_rate = 1 - (double)misses.total / (double)misses.wanted;
    out->missing = (double)misses.total / tokens;
    out->bytes = out->missing * trace->stride_bytes;
    out->policy_ms = 1e3 * misses.seconds / trace->tokens;
    out->window = misses.window;
    out->io_ms = io.tokens != 0 ? 1e3 * io.seconds / (double)io.tokens : -1;
    out->reads = io.tokens != 0 ? (double)io.reads / (double)io.tokens : -1;
    replay_release(&misses);
    return code == 0 ? 0 : program_fail(&error);
}

static void print_table(const recorded_trace *trace, const char *path, uint32_t slots,
                        const row *rows)
{
    (void)printf("%s: %u tokens, %u layers of %u neurons, bundles of %u bytes\n%u slots, %.1f%% of "
                 "the FFN\n\n",
                 path, trace->tokens, trace->layers, trace->neurons, trace->stride_bytes, slots,
                 100.0 * slots / ((double)trace->layers * trace->neurons));
    (void)printf("%-20s %8s %10s %10s %9s %9s %8s %8s %8s\n", "policy", "hits", "missing", "bytes",
                 "to paper", "to Belady", "reads", "I/O ms", "CPU ms");
    for (int i = 0; policies[i].name != NULL; i++) {
        const row *of = &rows[i];
        char name[64];
        (void)snprintf(name, sizeof name, of->window != 0 ? "%s k=%u" : "%s", of->name, of->window);
        if (of->window == UINT32_MAX) {
            (void)printf("%-20s not even one token's neurons fit\n", of->name);
            continue;
        }
        (void)printf("%-20s %7.2f%% %10.1f %10.0f ", name, 100 * of->hit_rate, of->missing,
                     of->bytes);
        if (rows[0].window != UINT32_MAX)
            (void)printf("%9.3f ", of->to_window);
        else
            (void)printf("%9s ", "-");
        (void)printf("%9.3f ", of->to_belady);
        if (of->io_ms >= 0)
            (void)printf("%8.1f %8.2f", of->reads, of->io_ms);
        else
            (void)printf("%8s %8s", "-", "-");
        (void)printf(" %8.3f\n", of->policy_ms);
    }
    (void)printf("\n");
}

static void json_number(const char *name, double value, int known)
{
    if (known)
        (void)printf(", \"%s\": %.6g", name, value);
    else
        (void)printf(", \"%s\": null", name);
}

static void print_json(const recorded_trace *trace, const char *path, uint32_t slots,
                       const row *rows)
{
    (void)printf("{\"trace\": ");
    program_json_string(stdout, path, strlen(path));
    (void)printf(", \"tokens\": %u, \"layers\": %u, \"neurons\": %u, \"bundle_bytes\": %u, "
                 "\"slots\": %u, \"rows\": [",
                 trace->tokens, trace->layers, trace->neurons, trace->stride_bytes, slots);
    for (int i = 0; policies[i].name != NULL; i++) {
        const row *of = &rows[i];
        int fits = of->window != UINT32_MAX;
        (void)printf("%s{\"name\": \"%s\"", i != 0 ? ", " : "", of->name);
        json_number("window", of->window, i == 0 && fits);
        json_number("hit_rate", of->hit_rate, fits);
        json_number("missing_per_token", of->missing, fits);
        json_number("bytes_per_token", of->bytes, fits);
        json_number("ratio_to_paper_window", of->to_window, fits && rows[0].window != UINT32_MAX);
        json_number("ratio_to_belady", of->to_belady, fits);
        json_number("reads_per_token", of->reads, of->io_ms >= 0);
        json_number("io_ms", of->io_ms, of->io_ms >= 0);
        json_number("policy_ms", of->policy_ms, fits);
        (void)printf("}");
    }
    (void)printf("]}");
}

static int run_trace(const request *asked, const char *path, int is_first)
{
    recorded_trace trace;
    row rows[POLICIES] = {{0}};
    char problem[512];
    uint32_t slots = 0;
    int code, last = 0;

    if (recorded_trace_read(&trace, path, problem, sizeof problem) != 0) {
        (void)fprintf(stderr, "%s\n", problem);
        return 1;
    }
    code = find_slots(asked, &trace, &slots);
    if (code == 0 && asked->read != 0)
        code = check_order(asked->model != NULL ? asked->model : trace.model_path);
    if (code == 0 && asked->skip >= trace.tokens) {
        (void)fprintf(stderr, "%s has %u tokens: --skip fewer\n", path, trace.tokens);
        code = 1;
    }
    for (int i = 0; policies[i].name != NULL && code == 0; i++, last++) {
        rows[i].name = policies[i].name;
        code = replay(asked, &trace, slots, policies[i].policy, &rows[i]);
    }
    for (int i = 0; code == 0 && i < last; i++) {
        rows[i].to_window = rows[i].missing / rows[0].missing;
        rows[i].to_belady = rows[i].missing / rows[last - 1].missing;
    }
    if (asked->json && code == 0) {
        (void)printf(is_first ? "" : ", ");
        print_json(&trace, path, slots, rows);
    } else if (code == 0) {
        print_table(&trace, path, slots, rows);
    }
    recorded_trace_close(&trace);
    return code;
}

int main(int argc, char **argv)
{
    const char *paths[TRACES_MAX] = {NULL}, *slots = NULL, *skip = NULL, *reads = NULL;
    const char *context = NULL;
    request asked = {.budget = "50%", .skip = 64, .read = 128};
    const program_option known[] = {
        {"--budget", &asked.budget, NULL}, {"--context", &context, NULL},
        {"--slots", &slots, NULL},         {"--skip", &skip, NULL},
        {"--read", &reads, NULL},          {"--json", NULL, &asked.json},
        {"--model", &asked.model, NULL}};
    int code = program_parse_some(argc, argv, known, sizeof known / sizeof *known, paths, 1,
                                  TRACES_MAX, usage);

    if (code == 0) code = program_u32("--slots", slots, 1, UINT32_MAX, &asked.slots);
    if (code == 0) code = program_u32("--context", context, 1, 1u << 22, &asked.context);
    if (code == 0) code = program_u32("--skip", skip, 0, 1u << 30, &asked.skip);
    if (code == 0) code = program_u32("--read", reads, 0, 1u << 30, &asked.read);
    if (code == 0 && asked.json) (void)printf("{\"traces\": [");
    for (int i = 0; i < TRACES_MAX && paths[i] != NULL && code == 0; i++)
        code = run_trace(&asked, paths[i], i == 0);
    if (code == 0 && asked.json) (void)printf("]}\n");
    return code != 0 ? code : fflush(stdout) == 0 ? 0 : 1;
}
