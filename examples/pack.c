/*
 * pack - turns a Hugging Face checkpoint into a model file in flash layout.
 *
 *     pack CHECKPOINT OUT.gguf [--dtype f16|f32] [--sketch-bits 1..4] [--no-sketch] [--json]
 *
 * The whole of the work is one call, flashinfer_pack(); the rest reads options and shows progress.
 * Exit code 0, 1 on failure with one line on stderr, 2 on wrong usage.
 */
#define _POSIX_C_SOURCE 200809L
#include <flashinfer.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char usage_text[] =
    "usage: pack CHECKPOINT OUT.gguf [--dtype f16|f32] [--sketch-bits 1..4] [--no-sketch] "
    "[--json]\n"
    "  CHECKPOINT     directory with config.json, model.safetensors (or shards), tokenizer.json\n"
    "  OUT.gguf       model file to write\n"
    "  --dtype        how matrices are stored (default f16)\n"
    "  --sketch-bits  bits a weight has in the sketch predictor (default 3)\n"
    "  --no-sketch    write no predictor: the file runs in exact and all mode only\n"
    "  --json         print path, bytes and seconds as JSON\n";

typedef struct arguments {
    const char *checkpoint;
    const char *path;
    flashinfer_pack_options options;
    int json;
} arguments;

/* Returns 0 if the command line makes no sense. */
static int read_arguments(int argc, char **argv, arguments *given)
{
    memset(given, 0, sizeof *given);
    flashinfer_pack_options_init(&given->options, sizeof given->options);
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--json") == 0) {
            given->json = 1;
        } else if (strcmp(argv[i], "--no-sketch") == 0) {
            given->options.no_sketch = 1;
        } else if (strcmp(argv[i], "--dtype") == 0) {
            if (strcmp(value, "f16") != 0 && strcmp(value, "f32") != 0) return 0;
            given->options.dtype =
                strcmp(value, "f16") == 0 ? FLASHINFER_DTYPE_F16 : FLASHINFER_DTYPE_F32;
            i++;
        } else if (strcmp(argv[i], "--sketch-bits") == 0) {
            if (value[0] < '1' || value[0] > '4' || value[1] != '\0') return 0;
            given->options.sketch_bits = (uint32_t)(value[0] - '0');
            i++;
        } else if (argv[i][0] == '-' && argv[i][1] != '\0') {
            return 0;
        } else if (given->checkpoint == NULL) {
            given->checkpoint = argv[i];
        } else if (given->path == NULL) {
            given->path = argv[i];
        } else {
            return 0;
        }
    }
    return given->path != NULL;
}

static int show_progress(const flashinfer_progress *progress, void *user)
{
    int *shown = user;
    int percent =
        progress->total > 0 ? (int)((double)progress->done * 100.0 / (double)progress->total) : 0;

    if (percent != *shown) (void)fprintf(stderr, "\rpacking %3d%%", percent);
    *shown = percent;
    return 0;
}

static double seconds_now(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void print_json_string(const char *text)
{
    (void)putchar('"');
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\')
            (void)printf("\\%c", byte);
        else if (byte < 0x20)
            (void)printf("\\u%04x", byte);
        else
            (void)putchar(byte);
    }
    (void)putchar('"');
}

int main(int argc, char **argv)
{
    arguments given;
    flashinfer_error error;
    struct stat status;
    int shown = -1;
    double begin = seconds_now();

    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return fputs(usage_text, stdout) < 0;
    if (!read_arguments(argc, argv, &given)) {
        (void)fputs(usage_text, stderr);
        return 2;
    }
    if (isatty(STDERR_FILENO)) {
        given.options.progress = show_progress;
        given.options.progress_user = &shown;
    }
    flashinfer_error_init(&error, sizeof error);
    int code = flashinfer_pack(given.checkpoint, given.path, &given.options, &error);
    if (shown >= 0) (void)fputs("\r             \r", stderr);
    if (code != 0) {
        (void)fprintf(stderr, "pack: %s\n", error.text);
        return 1;
    }
    if (stat(given.path, &status) != 0) {
        perror("pack");
        return 1;
    }
    double seconds = seconds_now() - begin;
    if (given.json) {
        (void)printf("{\"path\": ");
        print_json_string(given.path);
        (void)printf(", \"bytes\": %lld, \"seconds\": %.3f}\n", (long long)status.st_size, seconds);
    } else {
        (void)printf("%s: %.1f MB in %.1f s\n", given.path, (double)status.st_size / 1e6, seconds);
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
