/*
 * pack.c - turn a Hugging Face checkpoint into a model file in flash layout.
 *
 * The lesson: the whole of the work is one call, flashinfer_pack(); the rest reads options and shows progress.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "program.h"
#include "trace.h"

static const char usage[] =
    "Makes a model file of a Hugging Face checkpoint.\n"
    "pack CHECKPOINT OUT.gguf [--dtype TYPE] [--dtype-resident TYPE] [--dtype-ffn TYPE]\n"
    "     [--sketch-bits 1..4] [--no-sketch] [--order TRACE] [--activation NAME] [--json]\n"
    "  CHECKPOINT     directory with config.json, model.safetensors (or shards), tokenizer.json\n"
    "  OUT.gguf       model file to write\n"
    "  --dtype        how matrices are stored: f16, f32, bf16, q8_0 or q4_0 (default: f16)\n"
    "  --dtype-resident   those that stay in memory: embeddings, attention, head (default: "
    "--dtype)\n"
    "  --dtype-ffn    those that are read from flash, neuron by neuron (default: --dtype)\n"
    "  --sketch-bits  bits a weight has in the sketch, which names the neurons to read (default: "
    "3)\n"
    "  --no-sketch    write no sketch: the file runs with the predictors exact and all only\n"
    "  --order        trace of generate --trace or perplexity --trace: neurons that its tokens\n"
    "                 wanted together lie together (default: none, the checkpoint's order)\n"
    "  --activation   what the FFN computes, where config.json says another than its authors'\n"
    "                 code: " PROGRAM_ACTIVATION_NAMES "\n"
    "                 (default: what config.json says)\n"
    "  --json         print path, bytes and seconds as JSON";

static int show_progress(const flashinfer_progress *progress, void *user)
{
    int *shown = user;
    int percent =
        progress->total > 0 ? (int)((double)progress->done * 100.0 / (double)progress->total) : 0;

    if (percent != *shown && isatty(STDERR_FILENO))
        (void)fprintf(stderr, "\rpacking %3d%%", percent);
    *shown = percent;
    return program_signal_came();
}

static int report(const char *path, double seconds, int json)
{
    struct stat status;

    if (stat(path, &status) != 0) {
        perror(path);
        return 1;
    }
    if (json) {
        (void)printf("{\"path\": ");
        program_json_string(stdout, path, strlen(path));
        (void)printf(", \"bytes\": %lld, \"seconds\": %.3f}\n", (long long)status.st_size, seconds);
    } else {
        (void)printf("%s: %.1f MB in %.1f s\n", path, (double)status.st_size / 1e6, seconds);
    }
    return program_end(0, NULL);
}

static void show_warning(int level, const char *text, void *user)
{
    (void)user;
    if (level > FLASHINFER_LOG_WARNING) return;
    program_say(stderr, text);
    (void)fputc('\n', stderr);
}

/* Everything the trace has, into a new order. */
static int learn(const recorded_trace *trace, flashinfer_order **order, flashinfer_error *error)
{
    flashinfer_trace asked = {.size = sizeof asked,
                              .layer_count = trace->layers,
                              .ffn_length = trace->neurons,
                              .bundle_stride_bytes = trace->stride_bytes};
    int code = flashinfer_order_create(trace->layers, trace->neurons, order, error);

    for (size_t i = 0; i < trace->records && code == 0; i++) {
        asked.layer = (uint32_t)(i % trace->layers);
        asked.step = i / trace->layers + 1;
        asked.count = recorded_trace_count(trace, i);
        asked.ids = trace->ids + trace->first[i];
        code = flashinfer_order_add(*order, &asked, error);
    }
    return code;
}

static int read_order(const char *path, flashinfer_order **order)
{
    recorded_trace trace;
    flashinfer_error error;
    char problem[512];
    int code = 0;

    if (path == NULL) return 0;
    flashinfer_error_init(&error, sizeof error);
    if (recorded_trace_read(&trace, path, problem, sizeof problem) != 0) {
        (void)fprintf(stderr, "%s\n", problem);
        return 1;
    }
    if (learn(&trace, order, &error) != 0) code = program_fail(&error);
    recorded_trace_close(&trace);
    return code;
}

int main(int argc, char **argv)
{
    static const char *const dtypes[] = {"f16", "f32", "bf16", "q8_0", "q4_0", NULL};
    static const uint32_t dtype_numbers[] = {FLASHINFER_DTYPE_F16, FLASHINFER_DTYPE_F32,
                                             FLASHINFER_DTYPE_BF16, FLASHINFER_DTYPE_Q8_0,
                                             FLASHINFER_DTYPE_Q4_0};
    const char *paths[2] = {NULL, NULL}, *dtype = NULL, *resident = NULL, *ffn = NULL;
    const char *bits = NULL, *trace = NULL, *activation = NULL;
    int json = 0, no_sketch = 0, shown = -1, code;
    const program_option known[] = {
        {"--dtype", &dtype, NULL},   {"--dtype-resident", &resident, NULL},
        {"--dtype-ffn", &ffn, NULL}, {"--sketch-bits", &bits, NULL},
        {"--order", &trace, NULL},   {"--no-sketch", NULL, &no_sketch},
        {"--json", NULL, &json},     {"--activation", &activation, NULL}};
    flashinfer_pack_options options;
    flashinfer_order *order = NULL;
    flashinfer_error error;
    double begin = program_seconds();

    flashinfer_error_init(&error, sizeof error);
    flashinfer_pack_options_init(&options, sizeof options);
    code = program_parse(argc, argv, known, sizeof known / sizeof known[0], paths, 2, usage);
    if (code == 0) code = program_choice("--dtype", dtype, dtypes, dtype_numbers, &options.dtype);
    if (code == 0)
        code = program_choice("--dtype-resident", resident, dtypes, dtype_numbers,
                              &options.dtype_resident);
    if (code == 0)
        code = program_choice("--dtype-ffn", ffn, dtypes, dtype_numbers, &options.dtype_ffn);
    if (code == 0) code = program_u32("--sketch-bits", bits, 1, 4, &options.sketch_bits);
    if (code == 0)
        code = program_activation(activation, &options.activation, &options.activation_threshold);
    if (code == 0) code = read_order(trace, &order);
    if (code != 0) {
        flashinfer_order_destroy(order);
        return code;
    }
    options.order = order;
    options.no_sketch = (uint32_t)no_sketch;
    options.log = show_warning;
    options.progress = show_progress;
    options.progress_user = &shown;
    program_signals_catch();
    code = flashinfer_pack(paths[0], paths[1], &options, &error);
    flashinfer_order_destroy(order);
    if (shown >= 0 && isatty(STDERR_FILENO)) (void)fputs("\r             \r", stderr);
    program_signals_release();
    if (code != 0) return program_fail(&error);
    return report(paths[1], program_seconds() - begin, json);
}
