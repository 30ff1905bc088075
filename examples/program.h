/*
 * program.h - what the example programs share besides the library: command lines, budgets as text, JSON strings.
 * A lesson in the API needs none of it.
 */
#ifndef EXAMPLES_PROGRAM_H
#define EXAMPLES_PROGRAM_H

#include <stdint.h>
#include <stdio.h>

#include "flashinfer.h"

/* One option: a value or, where flag is set, a switch. */
typedef struct program_option {
    const char *name;   /* "--budget" */
    const char **value; /* receives the text after it */
    int *flag;          /* or is set to 1 */
} program_option;

/* Fill options and up to `positionals` arguments. Returns 0, or 2 after one line and the usage on stderr. */
int program_parse(int argc, char **argv, const program_option *options, size_t option_count,
                  const char **arguments, size_t positionals, const char *usage);

/* The same for at least `least` and at most `most` arguments. */
int program_parse_some(int argc, char **argv, const program_option *options, size_t option_count,
                       const char **arguments, size_t least, size_t most, const char *usage);

/* One line and the usage on stderr; returns 2. A usage begins with the program's name as it lies here; what is printed
   has the name it runs by. */
int program_usage(const char *problem, const char *usage);

/* Whole number or decimal with a range; NULL text leaves *value alone. Returns 0, or 2 after one line on stderr. */
int program_u32(const char *name, const char *text, uint32_t least, uint32_t most, uint32_t *value);
int program_float(const char *name, const char *text, float least, float most, float *value);

/* Position of text among names (NULL-terminated), written to *value; NULL text leaves it alone. 0 or 2 as above. */
int program_choice(const char *name, const char *text, const char *const *names,
                   const uint32_t *numbers, uint32_t *value);

/* Bytes with an optional K, M, G or T; NULL text leaves *bytes alone. 0 or 2 as above. */
int program_bytes(const char *name, const char *text, uint64_t *bytes);

/* FLASHINFER_STORAGE_... by name. 0 or 2 as above. */
int program_storage(const char *text, uint32_t *storage);

/* "50%" of the model file, or bytes as above: flashinfer_budget_parse(). 0, 1 (no such file) or 2. */
int program_budget(const char *text, const char *model_path, uint64_t *bytes);

/*
 * A trace file: what every layer of every step asked for; tests/bench/cache_replay reads it. Little-endian:
 *
 *     char magic[8] = "FLTRACE1"; u32 layer_count, ffn_length, bundle_stride_bytes, path_bytes;
 *     char model_path[path_bytes]; then records: u32 layer, count; u64 bundle_offset; u32 ids[count]
 */
typedef struct program_trace {
    FILE *file; /* NULL: none is written */
    const char *path, *model_path;
    int begun, failed;
} program_trace;

/* The options that several programs have in common; lives as long as the library options made from it. */
typedef struct program_model_options {
    const char *budget, *predictor, *predictor_file, *storage, *threads, *policy, *window, *context,
        *kv, *probe;
    const char *trace;
    flashinfer_probe_result measured; /* of the file named by probe */
    program_trace recording;          /* to the file named by trace */
} program_model_options;

/* Their part of a program's usage. */
#define PROGRAM_MODEL_USAGE                                                                        \
    "       [--budget 50%|BYTES] [--predictor exact|sketch|lowrank|mixed|all] [--context N]\n"     \
    "       [--predictor-file FILE] [--kv f32|f16|q8_0]\n"                                         \
    "       [--policy window|frequency|balanced] [--window K] [--threads N] [--probe FILE]\n"      \
    "       [--storage libaio|io_uring|pread|buffered] [--trace FILE]"

/* And what each does. */
#define PROGRAM_MODEL_HELP                                                                         \
    "  --budget         memory of the model: a share of its file, or bytes such as 64M\n"          \
    "  --predictor      which neurons are computed (default: the file's predictor; exact: as the " \
    "dense model)\n"                                                                               \
    "  --context        positions a session has room for\n"                                        \
    "  --predictor-file  predictor made by calibrate, in place of the model file's own\n"          \
    "  --kv             element type of the KV cache\n"                                            \
    "  --policy         which neurons leave the cache first (default: balanced)\n"                 \
    "  --window         neurons unused for so many tokens leave the cache\n"                       \
    "  --threads        compute threads (default: one per CPU)\n"                                  \
    "  --probe          what probe --save measured here\n"                                         \
    "  --storage        how the file is read (default: the first of these that works on it)\n"     \
    "  --trace          write there what every layer of every token asked for"

/* Rows of a program's option table for them. */
#define PROGRAM_MODEL_OPTIONS(texts)                                                               \
    {"--budget", &(texts).budget, NULL}, {"--predictor", &(texts).predictor, NULL},                \
        {"--predictor-file", &(texts).predictor_file, NULL},                                       \
        {"--storage", &(texts).storage, NULL}, {"--threads", &(texts).threads, NULL},              \
        {"--policy", &(texts).policy, NULL}, {"--window", &(texts).window, NULL},                  \
        {"--kv", &(texts).kv, NULL}, {"--probe", &(texts).probe, NULL},                            \
        {"--trace", &(texts).trace, NULL},                                                         \
    {                                                                                              \
        "--context", &(texts).context, NULL                                                        \
    }

/* "sketch" of FLASHINFER_PREDICTOR_SKETCH, as --predictor has it. */
const char *program_predictor_name(uint32_t kind);

/* From texts to library options. 0, 1 or 2. */
int program_model_options_read(program_model_options *texts, const char *model_path,
                               flashinfer_options *options);

/* Close the trace, if any. Returns code, or 1 after one line on stderr if it could not be written. */
int program_model_options_end(program_model_options *texts, int code);

/* While a file is written, INT, TERM and HUP are only noted, so that no unfinished one stays behind. One that was noted
   ends the program in program_signals_release(), as it would have without. Those the caller ignores stay ignored. */
void program_signals_catch(void);
int program_signal_came(void); /* 1: stop now */
void program_signals_release(void);

/* One line on stderr; returns 1. */
int program_fail(const flashinfer_error *error);

/* The exit code of a program whose last call returned code: 1 too when what it printed did not arrive. */
int program_end(int code, const flashinfer_error *error);

/* What a run of generate has to tell. */
typedef struct program_report {
    flashinfer_model *model;
    const int32_t *tokens; /* (count): the prompt, then what was generated */
    size_t count, prompt_count;
    double first_token_seconds; /* prompt */
    double seconds;             /* all tokens after the first */
} program_report;

void program_report_table(const program_report *report);
void program_report_json(const program_report *report);

void program_json_string(FILE *file, const char *text, size_t bytes);

uint64_t program_peak_rss_bytes(void);
double program_seconds(void);

/* Processors this process may run on. */
uint32_t program_cpus(void);

/* A whole file into memory (free it), or NULL after one line on stderr. */
char *program_read_file(const char *path, size_t *bytes);

#endif
