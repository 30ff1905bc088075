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

/* One line and the usage on stderr; returns 2. */
int program_usage(const char *problem, const char *usage);

/* Whole number or decimal with a range; NULL text leaves *value alone. Returns 0, or 2 after one line on stderr. */
int program_u32(const char *name, const char *text, uint32_t least, uint32_t most, uint32_t *value);
int program_float(const char *name, const char *text, float least, float most, float *value);

/* Position of text among names (NULL-terminated), written to *value; NULL text leaves it alone. 0 or 2 as above. */
int program_choice(const char *name, const char *text, const char *const *names,
                   const uint32_t *numbers, uint32_t *value);

/* Bytes with an optional K, M or G; NULL text leaves *bytes alone. 0 or 2 as above. */
int program_bytes(const char *name, const char *text, uint64_t *bytes);

/* FLASHINFER_STORAGE_... by name. 0 or 2 as above. */
int program_storage(const char *text, uint32_t *storage);

/* "50%" of the model file, or bytes with an optional K, M or G. 0, 1 (no such file) or 2. */
int program_budget(const char *text, const char *model_path, uint64_t *bytes);

/* The options that several programs have in common; lives as long as the library options made from it. */
typedef struct program_model_options {
    const char *budget, *predictor, *storage, *threads, *window, *context, *kv, *probe;
    flashinfer_probe_result measured; /* of the file named by probe */
} program_model_options;

/* Rows of a program's option table for them. */
#define PROGRAM_MODEL_OPTIONS(texts)                                                               \
    {"--budget", &(texts).budget, NULL}, {"--predictor", &(texts).predictor, NULL},                \
        {"--storage", &(texts).storage, NULL}, {"--threads", &(texts).threads, NULL},              \
        {"--window", &(texts).window, NULL}, {"--kv", &(texts).kv, NULL},                          \
        {"--probe", &(texts).probe, NULL},                                                         \
    {                                                                                              \
        "--context", &(texts).context, NULL                                                        \
    }

/* From texts to library options. 0, 1 or 2. */
int program_model_options_read(program_model_options *texts, const char *model_path,
                               flashinfer_options *options);

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

/* A whole file into memory (free it), or NULL after one line on stderr. */
char *program_read_file(const char *path, size_t *bytes);

#endif
