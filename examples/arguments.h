/*
 * arguments.h - command lines of the example programs. A wrong one costs one line on stderr, which names the word and
 * where help is; the program then ends with 2.
 *
 * A usage is the text of --help: a line that says what the program does; how it is called, beginning with its name as it
 * lies here; a line for every argument and option, with its default. --help, -h and --version are every program's.
 */
#ifndef EXAMPLES_ARGUMENTS_H
#define EXAMPLES_ARGUMENTS_H

#include <stddef.h>
#include <stdint.h>

/* One option: a value or, where flag is set, a switch. */
typedef struct program_option {
    const char *name;   /* "--budget" */
    const char **value; /* receives the text after it, or after "=" */
    int *flag;          /* or is set to 1 */
} program_option;

/* Fill options and `positionals` arguments. Returns 0, or 2 after a line. options and usage are kept in mind until the
   program ends. */
int program_parse(int argc, char **argv, const program_option *options, size_t option_count,
                  const char **arguments, size_t positionals, const char *usage);

/* The same for at least `fewest` and at most `most` arguments. */
int program_parse_some(int argc, char **argv, const program_option *options, size_t option_count,
                       const char **arguments, size_t fewest, size_t most, const char *usage);

/* After program_parse(): the name the program runs by, an option of its table or NULL. */
const char *program_name(void);
const program_option *program_option_named(const char *name);

/* The line, without a point at its end; where help is comes after it. Returns 2. */
int program_refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Values. NULL text leaves the result alone; returns 0, or 2 after a line. */

int program_u32(const char *name, const char *text, uint32_t fewest, uint32_t most,
                uint32_t *value);
int program_float(const char *name, const char *text, float fewest, float most, float *value);

/* numbers[i] of the name (NULL-terminated) that text is. */
int program_choice(const char *name, const char *text, const char *const *names,
                   const uint32_t *numbers, uint32_t *value);

/* Bytes with an optional K, M, G or T. */
int program_bytes(const char *name, const char *text, uint64_t *bytes);

/* "50%" of whole_bytes, or bytes as above: flashinfer_budget_parse(). */
int program_share(const char *name, const char *text, uint64_t whole_bytes, uint64_t *bytes);

#endif
