/*
 * program.h - what the example programs share besides the library: command lines (arguments.h), errors in a program's words
 * (words.c), budgets as text, JSON strings. A lesson in the API needs none of it.
 */
#ifndef EXAMPLES_PROGRAM_H
#define EXAMPLES_PROGRAM_H

#include <stdint.h>
#include <stdio.h>

#include "arguments.h"
#include "flashinfer.h"

/* FLASHINFER_STORAGE_... by name; NULL text leaves it alone. 0, or 2 after a line. */
int program_storage(const char *text, uint32_t *storage);

/* "50%" of the model file, or bytes with an optional K, M, G or T: flashinfer_budget_parse(). options: what the file is to be
   opened with, of which the activation is looked at. 0, 1 (no such file) or 2. */
int program_budget(const char *name, const char *text, const char *model_path,
                   const flashinfer_options *options, uint64_t *bytes);

/* FLASHINFER_ACTIVATION_... by name; fatrelu is said with its threshold, fatrelu:0.01. NULL text leaves both alone. 0, or 2
   after a line. */
int program_activation(const char *text, uint32_t *activation, float *threshold);

/* Of --activation, in a program's help. */
#define PROGRAM_ACTIVATION_NAMES "relu, relu2, drelu, fatrelu:THRESHOLD, silu, gelu or gelu_tanh"
#define PROGRAM_ACTIVATION_HELP                                                                    \
    "  --activation     what the FFN of a GGUF file not made by pack computes, where the file "    \
    "says it wrong or not at all: " PROGRAM_ACTIVATION_NAMES " (default: what the file says)"

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
        *kv, *probe, *activation;
    const char *trace;
    flashinfer_probe_result measured; /* of the file named by probe */
    program_trace recording;          /* to the file named by trace */
} program_model_options;

/* Their part of a program's usage. */
#define PROGRAM_MODEL_USAGE                                                                        \
    "       [--budget 50%|BYTES] [--predictor exact|sketch|lowrank|mixed|all] [--context N]\n"     \
    "       [--predictor-file FILE] [--kv f32|f16|q8_0]\n"                                         \
    "       [--policy window|frequency|balanced] [--window K] [--threads N] [--probe FILE]\n"      \
    "       [--storage libaio|io_uring|pread|buffered] [--trace FILE] [--activation NAME]"

/* And what each does, but for --budget, --context and --kv, whose defaults are the program's. */
#define PROGRAM_MODEL_HELP                                                                         \
    "  --predictor      which neurons are computed; exact: as the dense model (default: the one "  \
    "in the file, else exact)\n"                                                                   \
    "  --predictor-file  predictor that calibrate made of this model (default: the one in the "    \
    "model's file)\n"                                                                              \
    "  --policy         which neurons leave the cache first (default: balanced)\n"                 \
    "  --window         neurons unused for so many tokens leave the cache, under --policy window " \
    "(default: 0, as many as there is room for)\n"                                                 \
    "  --threads        compute threads (default: one for 8 MiB of FFN, at most one per CPU and "  \
    "16)\n"                                                                                        \
    "  --probe          file by probe --save, of how this machine reads best (default: none)\n"    \
    "  --storage        how the file is read (default: the first of these that works on it)\n"     \
    "  --trace          file to write with what every layer of every token asked for (default: "   \
    "none)\n" PROGRAM_ACTIVATION_HELP

/* Rows of a program's option table for them. */
#define PROGRAM_MODEL_OPTIONS(texts)                                                               \
    {"--budget", &(texts).budget, NULL}, {"--predictor", &(texts).predictor, NULL},                \
        {"--predictor-file", &(texts).predictor_file, NULL},                                       \
        {"--storage", &(texts).storage, NULL}, {"--threads", &(texts).threads, NULL},              \
        {"--policy", &(texts).policy, NULL}, {"--window", &(texts).window, NULL},                  \
        {"--kv", &(texts).kv, NULL}, {"--probe", &(texts).probe, NULL},                            \
        {"--trace", &(texts).trace, NULL}, {"--activation", &(texts).activation, NULL},            \
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

/* A text of the library's in the program's words: options and programs instead of fields and functions. */
void program_say(FILE *file, const char *text);

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

/* The ids of a text, from bos on, with room for `more` behind them; free() them. Returns a code of the library's. */
int program_tokenize(const flashinfer_model *model, const char *text, size_t bytes, size_t more,
                     int32_t **ids, size_t *count, flashinfer_error *error);

/* Processors this process may run on. */
uint32_t program_cpus(void);

/* A whole file into memory (free it), or NULL after one line on stderr. */
char *program_read_file(const char *path, size_t *bytes);

#endif
