/*
 * ablation_sweep.c - the same tokens again and again with one setting varied.
 */
#include "ablation.h"

#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "zipf.h"

#define POINTS_MAX (ABLATION_FILES_MAX + 1)

typedef struct point {
    char name[48];
    const char *path;
    flashinfer_options options;
    ablation_run run;
    uint64_t peak_bytes;   /* of the process so far: points go up in memory */
    double to_first;       /* time of a token, over the first point's */
    double *token_seconds; /* (tokens) when they take turns */
} point;

static point *add(point *points, uint32_t *count, const ablation *of, const char *name)
{
    point *at = &points[(*count)++];

    memset(at, 0, sizeof *at);
    (void)snprintf(at->name, sizeof at->name, "%s", name);
    at->path = of->path;
    at->options = of->options;
    return at;
}

static int add_budgets(point *points, uint32_t *count, const ablation *of, flashinfer_error *error)
{
    static const uint32_t percents[] = {50, 60, 75, 100};
    flashinfer_plan plan = {.size = sizeof plan};
    int code = flashinfer_plan_file(of->path, &of->options, &plan, error);
    char name[32];

    if (code != 0) return code;
    add(points, count, of, "smallest")->options.memory_budget = plan.minimum_bytes;
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        uint64_t bytes = plan.file_bytes / 100 * percents[i];
        if (bytes <= plan.minimum_bytes) continue;
        (void)snprintf(name, sizeof name, "%u%%", percents[i]);
        add(points, count, of, name)->options.memory_budget = bytes;
    }
    return 0;
}

static void add_windows(point *points, uint32_t *count, const ablation *of)
{
    static const uint32_t windows[] = {1, 2, 4, 8, 16};
    char name[32];

    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        (void)snprintf(name, sizeof name, "k=%u", windows[i]);
        add(points, count, of, name)->options.window_tokens = windows[i];
    }
    add(points, count, of, "as slots last")->options.cache_policy = FLASHINFER_CACHE_WINDOW;
}

static void add_policies(point *points, uint32_t *count, const ablation *of)
{
    add(points, count, of, "window")->options.cache_policy = FLASHINFER_CACHE_WINDOW;
    add(points, count, of, "frequency")->options.cache_policy = FLASHINFER_CACHE_FREQUENCY;
    add(points, count, of, "balanced")->options.cache_policy = FLASHINFER_CACHE_BALANCED;
}

static void add_depths(point *points, uint32_t *count, const ablation *of)
{
    static const uint32_t depths[] = {1, 4, 16, 64, 256};
    char name[32];

    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        (void)snprintf(name, sizeof name, "depth %u", depths[i]);
        add(points, count, of, name)->options.io_depth = depths[i];
    }
}

static void add_storage(point *points, uint32_t *count, const ablation *of)
{
    add(points, count, of, "libaio")->options.storage = FLASHINFER_STORAGE_LIBAIO;
    add(points, count, of, "io_uring")->options.storage = FLASHINFER_STORAGE_URING;
    add(points, count, of, "pread")->options.storage = FLASHINFER_STORAGE_PREAD;
}

static const char *last_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

static void add_files(point *points, uint32_t *count, const ablation *of)
{
    add(points, count, of, last_of(of->path));
    for (uint32_t i = 0; i < ABLATION_FILES_MAX && of->files[i] != NULL; i++)
        add(points, count, of, last_of(of->files[i]))->path = of->files[i];
}

static double per_token(uint64_t value, const point *at)
{
    return (double)value / (double)at->run.stats.tokens;
}

static void print_point(const point *at, int json, int first)
{
    const flashinfer_stats *stats = &at->run.stats;
    double rate = (double)stats->tokens / at->run.seconds;
    double predicted = (double)stats->predicted / (double)stats->neurons;
    double hits = stats->predicted != 0 ? (double)stats->resident / (double)stats->predicted : 0;
    double bytes = per_token(stats->flash_bytes, at), reads = per_token(stats->flash_reads, at);
    double stall = per_token(stats->io_wait_ns, at) / 1e6;
    double submit = per_token(stats->io_submit_ns, at) / 1e6;
    double memory = per_token(stats->memory_ns, at) / 1e6;

    if (json)
        (void)printf("%s{\"name\": \"%s\", \"budget_bytes\": %llu, \"planned_bytes\": %llu, "
                     "\"peak_rss_bytes\": %llu, \"slots\": %u, \"predicted\": %.5f, "
                     "\"hit_rate\": %.5f, \"bytes_per_token\": %.1f, \"reads_per_token\": %.1f, "
                     "\"stall_ms\": %.3f, \"submit_ms\": %.3f, \"memory_ms\": %.3f, "
                     "\"tokens_per_second\": %.4f, \"to_first\": %.4f}",
                     first ? "" : ", ", at->name, (unsigned long long)at->run.plan.budget_bytes,
                     (unsigned long long)at->run.plan.planned_bytes,
                     (unsigned long long)at->peak_bytes, at->run.plan.slots, predicted, hits, bytes,
                     reads, stall, submit, memory, rate, at->to_first);
    else
        (void)printf(
            "%-20s %10.1f %10.1f %9u %8.2f%% %7.2f%% %10.3f %10.1f %9.1f %9.1f %8.2f %9.3f "
            "%8.3f\n",
            at->name, (double)at->run.plan.planned_bytes / 1e6, (double)at->peak_bytes / 1e6,
            at->run.plan.slots, 100 * predicted, 100 * hits, bytes / 1e6, reads, stall, submit,
            memory, rate, at->to_first);
    (void)fflush(stdout);
}

static int list_points(point *points, uint32_t *count, const ablation *of, const char *kind,
                       flashinfer_error *error)
{
    if (strcmp(kind, "budget") == 0) return add_budgets(points, count, of, error);
    if (strcmp(kind, "window") == 0)
        add_windows(points, count, of);
    else if (strcmp(kind, "policy") == 0)
        add_policies(points, count, of);
    else if (strcmp(kind, "depth") == 0)
        add_depths(points, count, of);
    else if (strcmp(kind, "storage") == 0)
        add_storage(points, count, of);
    else if (strcmp(kind, "file") == 0)
        add_files(points, count, of);
    else
        return 2;
    return 0;
}

static int run_alone(const ablation *of, point *at, flashinfer_error *error)
{
    int code =
        ablation_run_model(of, at->path, &at->options, of->skip, of->tokens, &at->run, error);

    at->peak_bytes = program_peak_rss_bytes();
    return code;
}

static int no_memory(flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_ENOMEM, "no memory for the times of every token");
}

static int by_value(const void *left, const void *right)
{
    double first = *(const double *)left, second = *(const double *)right;
    return (first > second) - (first < second);
}

/* Of a point's tokens over the first point's, each against the one of the same turn. */
static double median_ratio(const point *at, const point *first, uint32_t tokens, double *ratios)
{
    for (uint32_t t = 0; t < tokens; t++)
        ratios[t] = at->token_seconds[t] / first->token_seconds[t];
    qsort(ratios, tokens, sizeof *ratios, by_value);
    return tokens % 2 == 1 ? ratios[tokens / 2] : (ratios[tokens / 2 - 1] + ratios[tokens / 2]) / 2;
}

static int step_point(const ablation *of, point *at, uint32_t token, flashinfer_error *error)
{
    double before = at->run.seconds;
    int code = ablation_run_step(&at->run, of, of->skip, token, error);

    if (token >= of->skip) at->token_seconds[token - of->skip] = at->run.seconds - before;
    return code;
}

/* All points open at once; who begins a turn rotates. */
static int run_in_turns(const ablation *of, point *points, uint32_t count, flashinfer_error *error)
{
    uint32_t open = 0;
    double *ratios = malloc(of->tokens * sizeof *ratios);
    int code = ratios != NULL ? 0 : no_memory(error);

    for (; open < count && code == 0; open++) {
        points[open].token_seconds = calloc(of->tokens, sizeof(double));
        if (points[open].token_seconds == NULL) code = no_memory(error);
        if (code == 0)
            code = ablation_run_open(&points[open].run, points[open].path, &points[open].options,
                                     error);
    }
    for (uint32_t t = 0; t < of->skip + of->tokens && code == 0; t++)
        for (uint32_t i = 0; i < count && code == 0; i++)
            code = step_point(of, &points[(t + i) % count], t, error);
    for (uint32_t i = 0; i < open; i++) {
        code = ablation_run_close(&points[i].run, code);
        points[i].peak_bytes = program_peak_rss_bytes();
    }
    for (uint32_t i = 0; i < count && code == 0; i++)
        points[i].to_first = median_ratio(&points[i], &points[0], of->tokens, ratios);
    for (uint32_t i = 0; i < open; i++) free(points[i].token_seconds);
    free(ratios);
    return code;
}

static void print_sweep_head(const char *kind, int json)
{
    if (json)
        (void)printf("{\"sweep\": \"%s\", \"points\": [", kind);
    else
        (void)printf("%-20s %10s %10s %9s %9s %8s %10s %10s %9s %9s %8s %9s %8s\n", kind,
                     "planned MB", "peak MB", "slots", "predicted", "hits", "MB/token", "reads",
                     "stall ms", "submit ms", "mem ms", "tokens/s", "to first");
}

int ablation_sweep(ablation *of, const char *kind, int json, flashinfer_error *error)
{
    point points[POINTS_MAX];
    uint32_t count = 0;
    int code = ablation_describe(of, error);

    if (code == 0) code = list_points(points, &count, of, kind, error);
    if (code == 0 && of->in_turns) code = run_in_turns(of, points, count, error);
    if (code != 0) return code;
    print_sweep_head(kind, json);
    for (uint32_t i = 0; i < count && code == 0; i++) {
        if (!of->in_turns) code = run_alone(of, &points[i], error);
        if (!of->in_turns) points[i].to_first = points[i].run.seconds / points[0].run.seconds;
        if (code == 0) print_point(&points[i], json, i == 0);
    }
    if (json) (void)printf("]}\n");
    return code;
}
