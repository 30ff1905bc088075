/*
 * ablation.c - one command, the paper's tables: naive, hybrid, +predictor, +windowing, +bundling, ours.
 */
#include "ablation.h"

#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "Runs a model over a fixed Zipf sequence, without the page cache's help, and prints what every "
    "technique of the paper, and ours, take off a token's bytes and time.\n"
    "ablation --model FILE [--budget 50%|BYTES] [--tokens N] [--json] [options] [FILE...]\n"
    "  --tokens N      measured (default 48); --skip N before them fill the cache (default 48)\n"
    "  --dense N       measured of naive and hybrid (default 3)\n"
    "  --sweep KIND    instead: budget, window, policy, depth or storage varied, everything else "
    "equal;\n"
    "                  file: the model and the other FILEs, packed otherwise, within the same "
    "bytes\n"
    "  --in-turns      the sweep's points are open together and take turns token by token: ratios "
    "that a\n"
    "                  machine changing its speed does not spoil, for their memory added up\n"
    "  --text FILE     over a text instead, its beginning in the model's tokens\n"
    "  --plot FILE     also draw the rows (SVG)\n"
    "  --threads N  --kv f32|f16 (default f16)";

static const ablation_row *naive_of(const ablation *of)
{
    return &of->rows[ABLATION_NAIVE];
}

static void print_head(const ablation *of)
{
    (void)printf(
        "%s: %.2f GB, %u layers of width %u, %u neurons; budget %.2f GB, %u slots (%.1f%% of "
        "the FFN)\n",
        of->path, (double)of->info.file_bytes / 1e9, of->info.layer_count,
        of->info.embedding_length, of->info.ffn_length, (double)of->budget_bytes / 1e9,
        of->plan.slots,
        100.0 * of->plan.slots / ((double)of->info.layer_count * of->info.ffn_length));
    (void)printf(
        "%u tokens after %u; %.2f%% predicted, %.2f%% active, %.1f%% of those predicted found in "
        "the cache\n",
        of->tokens, of->skip, 100 * (double)of->stats.predicted / (double)of->stats.neurons,
        100 * (double)of->stats.active / (double)of->stats.neurons,
        100 * (double)of->stats.resident / (double)of->stats.predicted);
    (void)printf("device: %.3f GB/s in order;", of->sequential_bytes_per_s / 1e9);
    for (uint32_t size = 0; size < FLASHINFER_PROBE_SIZES; size++)
        (void)printf(" %u KiB %.3f", of->probe.read_bytes[size] / 1024,
                     ablation_device_rate(&of->probe, of->probe.read_bytes[size]) / 1e9);
    (void)printf("; memory %.1f GB/s\n\n", (double)of->probe.dram_bytes_per_s / 1e9);
}

static void print_table(const ablation *of)
{
    print_head(of);
    (void)printf("%-12s %8s %11s %9s %7s %8s %8s %8s %8s %8s %8s %8s %7s\n", "", "DRAM MB",
                 "MB/token", "read KiB", "GB/s", "I/O ms", "mem ms", "comp ms", "stall ms",
                 "total ms", "tokens/s", "x naive", "limit");
    for (int i = 0; i < ABLATION_ROWS; i++) {
        const ablation_row *row = &of->rows[i];
        (void)printf(
            "%-12s %8.1f %11.3f %9.1f %7.3f %8.1f %8.2f %8.1f %8.1f %8.1f %8.3f %8.2f %6.1f%%\n",
            row->name, (double)row->dram_bytes / 1e6, row->bytes / 1e6, row->read_bytes / 1024,
            row->io_ms > 0 ? row->bytes / row->io_ms / 1e6 : 0, row->io_ms, row->memory_ms,
            row->compute_ms, row->stall_ms, row->total_ms, 1e3 / row->total_ms,
            naive_of(of)->total_ms / row->total_ms, 100 * row->limit_ms / row->total_ms);
    }
    if (of->window != UINT32_MAX)
        (void)printf("\nwindow: k = %u, the longest that fits the slots\n", of->window);
    else
        (void)printf("\nwindow: no k fits the slots; neurons stay as long as the slots last\n");
    (void)printf(
        "naive, hybrid: all bytes at the rate in order, or a dense token's computing, whichever "
        "is longer\n(predictor all took %.1f ms, %.1f of them waiting)\n",
        of->dense_total_ms, of->dense_stall_ms);
    (void)printf("ours: %.0f reads a token, handing them over takes %.1f ms of one thread; others, "
                 "if any, compute meanwhile\n",
                 (double)of->stats.flash_reads / (double)of->stats.tokens,
                 of->rows[ABLATION_OURS].submit_ms);
    (void)printf("+predictor to +bundling: reads replayed alone, times added up; ours ran\n");
}

static void print_json(const ablation *of)
{
    (void)printf("{\"model\": ");
    program_json_string(stdout, of->path, strlen(of->path));
    (void)printf(", \"file_bytes\": %llu, \"budget_bytes\": %llu, \"tokens\": %u, \"slots\": %u, "
                 "\"device\": {\"read_gbps\": {",
                 (unsigned long long)of->info.file_bytes, (unsigned long long)of->budget_bytes,
                 of->tokens, of->plan.slots);
    for (uint32_t size = 0; size < FLASHINFER_PROBE_SIZES; size++)
        (void)printf("%s\"%u\": %.4f", size != 0 ? ", " : "", of->probe.read_bytes[size],
                     ablation_device_rate(&of->probe, of->probe.read_bytes[size]) / 1e9);
    (void)printf("}, \"sequential_gbps\": %.4f, \"dram_gbps\": %.3f}, \"rows\": [",
                 of->sequential_bytes_per_s / 1e9, (double)of->probe.dram_bytes_per_s / 1e9);
    for (int i = 0; i < ABLATION_ROWS; i++) {
        const ablation_row *row = &of->rows[i];
        (void)printf(
            "%s{\"name\": \"%s\", \"dram_bytes\": %llu, \"bytes_per_token\": %.1f, "
            "\"read_bytes\": %.1f, \"io_ms\": %.3f, \"memory_ms\": %.3f, "
            "\"compute_ms\": %.3f, \"stall_ms\": %.3f, \"submit_ms\": %.3f, \"total_ms\": %.3f, "
            "\"ratio_to_naive\": %.4f, \"percent_of_limit\": %.2f}",
            i != 0 ? ", " : "", row->name, (unsigned long long)row->dram_bytes, row->bytes,
            row->read_bytes, row->io_ms, row->memory_ms, row->compute_ms, row->stall_ms,
            row->submit_ms, row->total_ms, naive_of(of)->total_ms / row->total_ms,
            100 * row->limit_ms / row->total_ms);
    }
    (void)printf("]}\n");
}

static int plot(const ablation *of, const char *path)
{
    FILE *file = fopen(path, "w");
    int failed = file == NULL || ablation_plot(of, file) != 0;

    if (file != NULL && fclose(file) != 0) failed = 1;
    if (failed) (void)fprintf(stderr, "cannot write %s\n", path);
    return failed;
}

static int run(ablation *of, const char *sweep, const char *plot_path, int json)
{
    flashinfer_error error;
    int code;

    flashinfer_error_init(&error, sizeof error);
    code = sweep != NULL ? ablation_sweep(of, sweep, json, &error) : ablation_measure(of, &error);
    if (code == 0 && sweep == NULL && json) print_json(of);
    if (code == 0 && sweep == NULL && !json) print_table(of);
    ablation_release(of);
    if (code == 2) return program_refuse("unknown --sweep");
    if (code != 0) return program_end(code, &error);
    if (plot_path != NULL && sweep == NULL && plot(of, plot_path) != 0) return 1;
    return program_end(0, &error);
}

int main(int argc, char **argv)
{
    static const char *const kvs[] = {"f32", "f16", NULL};
    static const uint32_t kv_numbers[] = {FLASHINFER_KV_F32, FLASHINFER_KV_F16};
    const char *budget = "50%", *tokens = NULL, *skip = NULL, *dense = NULL, *sweep = NULL;
    const char *plot_path = NULL, *threads = NULL, *kv = NULL;
    const char *files[ABLATION_FILES_MAX] = {NULL};
    ablation of = {.tokens = 48, .skip = 48, .dense_tokens = 3, .files = files};
    int json = 0, code;
    const program_option known[] = {
        {"--model", &of.path, NULL},     {"--budget", &budget, NULL},
        {"--tokens", &tokens, NULL},     {"--skip", &skip, NULL},
        {"--dense", &dense, NULL},       {"--sweep", &sweep, NULL},
        {"--plot", &plot_path, NULL},    {"--json", NULL, &json},
        {"--threads", &threads, NULL},   {"--kv", &kv, NULL},
        {"--text", &of.text_path, NULL}, {"--in-turns", NULL, &of.in_turns}};

    flashinfer_options_init(&of.options, sizeof of.options);
    of.options.kv_type = FLASHINFER_KV_F16;
    code = program_parse_some(argc, argv, known, sizeof known / sizeof *known, files, 0,
                              ABLATION_FILES_MAX, usage);
    if (code == 0 && of.path == NULL) code = program_refuse("--model is missing");
    if (code == 0 && sweep != NULL && (plot_path != NULL || dense != NULL))
        code = program_refuse("a --sweep has neither --plot nor --dense");
    if (code == 0 && files[0] != NULL && (sweep == NULL || strcmp(sweep, "file") != 0))
        code = program_refuse("other FILEs are for --sweep file");
    if (code == 0 && of.in_turns && sweep == NULL)
        code = program_refuse("--in-turns is for a --sweep");
    if (code == 0) code = program_u32("--tokens", tokens, 1, 1u << 20, &of.tokens);
    if (code == 0) code = program_u32("--skip", skip, 1, 1u << 20, &of.skip);
    if (code == 0) code = program_u32("--dense", dense, 1, 1000, &of.dense_tokens);
    if (code == 0) code = program_u32("--threads", threads, 1, 64, &of.options.threads);
    if (code == 0) code = program_choice("--kv", kv, kvs, kv_numbers, &of.options.kv_type);
    if (code == 0)
        code = program_budget("--budget", budget, of.path, &of.options, &of.budget_bytes);
    return code != 0 ? code : run(&of, sweep, plot_path, json);
}
