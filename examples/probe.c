/*
 * probe.c - what this machine gives a model: its flash by read size and depth, its memory, its kernels.
 *
 * The lesson: measure once, save the result, give it to every open (generate --probe FILE).
 */
#include <string.h>

#include "program.h"

static const char usage[] =
    "Measures what this machine gives a model: its flash, its memory and its kernels.\n"
    "probe DIRECTORY|FILE [--json] [--save FILE] [--seconds S] [--size BYTES] [--threads N]\n"
    "       [--storage libaio|io_uring|pread|buffered]\n"
    "  DIRECTORY      where a file of random bytes is written, read and gone again\n"
    "  FILE           or a file to read, such as a model\n"
    "  --json         print the figures as JSON, not a table\n"
    "  --save         write them to a file for --probe of other programs (default: none)\n"
    "  --seconds      to take for everything (default: 5)\n"
    "  --size         of the file written, bytes such as 64M (default: 256M)\n"
    "  --threads      of the memory and kernel rates (default: one per CPU, at most 16)\n"
    "  --storage      measure this kind alone (default: every kind there is)";

static const char *const kind_names[FLASHINFER_PROBE_KINDS] = {NULL, "libaio", "pread", "buffered",
                                                               "io_uring"};
static const char *const kernel_names[] = {"", "ref", "avx2", "avx512", "neon"};

static double giga(uint64_t bytes_per_s)
{
    return (double)bytes_per_s / 1e9;
}

static const char *kind_name(uint32_t kind)
{
    return kind < FLASHINFER_PROBE_KINDS && kind_names[kind] != NULL ? kind_names[kind] : "?";
}

static const char *kernels_name(uint32_t kernels)
{
    return kernels < sizeof kernel_names / sizeof kernel_names[0] ? kernel_names[kernels] : "?";
}

static void print_row(const char *name, const uint64_t *rates)
{
    (void)printf("  %-10s", name);
    for (uint32_t depth = 0; depth < FLASHINFER_PROBE_DEPTHS; depth++) {
        if (rates[depth] != 0)
            (void)printf(" %8.3f", giga(rates[depth]));
        else
            (void)printf(" %8s", "-");
    }
    (void)printf("\n");
}

static void print_heading(const char *words, const uint32_t *depths)
{
    (void)printf("%s\n  %-10s", words, "depth");
    for (uint32_t depth = 0; depth < FLASHINFER_PROBE_DEPTHS; depth++)
        (void)printf(" %8u", depths[depth]);
    (void)printf("\n");
}

static int has_any(const uint64_t *rates)
{
    for (uint32_t depth = 0; depth < FLASHINFER_PROBE_DEPTHS; depth++)
        if (rates[depth] != 0) return 1;
    return 0;
}

static void print_table(const flashinfer_probe_result *result)
{
    char name[64];

    (void)snprintf(name, sizeof name, "random reads by %s, GB/s", kind_name(result->storage));
    print_heading(name, result->depths);
    for (uint32_t size = 0; size < FLASHINFER_PROBE_SIZES; size++) {
        (void)snprintf(name, sizeof name, "%u KiB", result->read_bytes[size] / 1024);
        print_row(name, result->read_bytes_per_s[size]);
    }
    print_heading("\nreads of 32 KiB by each kind of storage, GB/s", result->depths);
    for (uint32_t kind = 0; kind < FLASHINFER_PROBE_KINDS; kind++)
        if (has_any(result->kind_bytes_per_s[kind]))
            print_row(kind_name(kind), result->kind_bytes_per_s[kind]);
    (void)printf("\nlatency of one 4 KiB read %9.1f us, 99th percentile %.1f us\n",
                 (double)result->latency_ns / 1e3, (double)result->latency_p99_ns / 1e3);
    (void)printf("memory read               %9.2f GB/s by %u threads\n",
                 giga(result->dram_bytes_per_s), result->threads);
    (void)printf("float16 matrix x vector   %9.2f GB/s by the %s kernels\n",
                 giga(result->matvec_bytes_per_s), kernels_name(result->kernels));
    (void)printf("file read                 %9.1f MB, direct reads in multiples of %u bytes\n",
                 (double)result->file_bytes / 1e6, result->alignment);
    (void)printf("took                      %9.2f s\n", (double)result->elapsed_ns / 1e9);
    (void)printf("\nrecommended: %u lanes, depth %u, gaps up to %u bytes\n", result->io_lanes,
                 result->io_depth, result->io_gap_bytes);
}

/* {"1": 0.1, "4": null, ...} */
static void json_row(const uint64_t *rates, const uint32_t *depths)
{
    (void)printf("{");
    for (uint32_t depth = 0; depth < FLASHINFER_PROBE_DEPTHS; depth++) {
        (void)printf("%s\"%u\": ", depth != 0 ? ", " : "", depths[depth]);
        if (rates[depth] != 0)
            (void)printf("%.6f", giga(rates[depth]));
        else
            (void)printf("null");
    }
    (void)printf("}");
}

static void print_json(const flashinfer_probe_result *result)
{
    const char *comma = "";

    (void)printf("{\"device\": {\"storage\": \"%s\", \"alignment\": %u, \"file_bytes\": %llu, "
                 "\"read_gbps\": {",
                 kind_name(result->storage), result->alignment,
                 (unsigned long long)result->file_bytes);
    for (uint32_t size = 0; size < FLASHINFER_PROBE_SIZES; size++) {
        (void)printf("%s\"%u\": ", size != 0 ? ", " : "", result->read_bytes[size]);
        json_row(result->read_bytes_per_s[size], result->depths);
    }
    (void)printf("}, \"kind_gbps\": {");
    for (uint32_t kind = 0; kind < FLASHINFER_PROBE_KINDS; kind++) {
        if (!has_any(result->kind_bytes_per_s[kind])) continue;
        (void)printf("%s\"%s\": ", comma, kind_name(kind));
        json_row(result->kind_bytes_per_s[kind], result->depths);
        comma = ", ";
    }
    (void)printf("}, \"latency_us\": %.3f, \"latency_p99_us\": %.3f, \"dram_gbps\": %.3f}, ",
                 (double)result->latency_ns / 1e3, (double)result->latency_p99_ns / 1e3,
                 giga(result->dram_bytes_per_s));
    (void)printf("\"kernels\": {\"name\": \"%s\", \"threads\": %u, \"matvec_f16_gbps\": %.3f}, ",
                 kernels_name(result->kernels), result->threads, giga(result->matvec_bytes_per_s));
    (void)printf("\"recommended\": {\"lanes\": %u, \"depth\": %u, \"gap_bytes\": %u}, ",
                 result->io_lanes, result->io_depth, result->io_gap_bytes);
    (void)printf("\"seconds\": %.3f}\n", (double)result->elapsed_ns / 1e9);
}

int main(int argc, char **argv)
{
    const char *path = NULL, *save = NULL, *seconds = NULL, *size = NULL, *threads = NULL;
    const char *storage = NULL;
    int json = 0, code;
    const program_option known[] = {{"--json", NULL, &json},       {"--save", &save, NULL},
                                    {"--seconds", &seconds, NULL}, {"--size", &size, NULL},
                                    {"--threads", &threads, NULL}, {"--storage", &storage, NULL}};
    flashinfer_probe_options options;
    flashinfer_probe_result result = {.size = sizeof result};
    flashinfer_error error;
    float time = 5;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_probe_options_init(&options, sizeof options);
    code = program_parse(argc, argv, known, sizeof known / sizeof known[0], &path, 1, usage);
    if (code == 0) code = program_float("--seconds", seconds, 0.01f, 3600, &time);
    if (code == 0) code = program_bytes("--size", size, &options.file_bytes);
    if (code == 0) code = program_u32("--threads", threads, 1, 64, &options.threads);
    if (code == 0) code = program_storage(storage, &options.storage);
    if (code != 0) return code;
    options.time_ms = (uint32_t)(time * 1000);
    code = flashinfer_probe(path, &options, &result, &error);
    if (code == 0 && save != NULL) {
        program_signals_catch();
        code = flashinfer_probe_save(&result, save, &error);
        program_signals_release();
    }
    if (code == 0 && json) print_json(&result);
    if (code == 0 && !json) print_table(&result);
    return program_end(code, &error);
}
