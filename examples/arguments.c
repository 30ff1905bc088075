/*
 * arguments.c - command lines: options and their values, and one line for what is wrong with them.
 */
#define _GNU_SOURCE
#include "arguments.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

#define HELP_COLUMNS 96
#define NAME_BYTES_MAX 48 /* of an option that another may be meant by */

/* Of the running program, from program_parse() on. */
static const program_option *known;
static size_t known_count;
static const char *called = "", *told = "";

static const program_option common[] = {
    {"--help", NULL, NULL}, {"-h", NULL, NULL}, {"--version", NULL, NULL}};
enum { COMMON = sizeof common / sizeof common[0] };

/* ---------------------------------------------------------------------------------------- words */

const char *program_name(void)
{
    const char *slash = strrchr(called, '/');

    return slash != NULL ? slash + 1 : called;
}

const program_option *program_option_named(const char *name)
{
    for (size_t i = 0; i < known_count; i++)
        if (strcmp(known[i].name, name) == 0) return &known[i];
    return NULL;
}

/* The part of the usage after its first line, which is a sentence. */
static const char *call_of(const char *usage)
{
    const char *end = strchr(usage, '\n');

    return end != NULL ? end + 1 : usage;
}

/* Where the words for an option begin in its line; of another line where it begins. */
static size_t indent_of(const char *line, size_t bytes)
{
    size_t begin = strspn(line, " "), at = begin;

    if (begin != 2) return begin;
    while (at + 1 < bytes && (line[at] != ' ' || line[at + 1] != ' ')) at++;
    at += strspn(line + at, " ");
    return at + 1 < bytes && at < HELP_COLUMNS / 2 ? at : begin;
}

/* A line, or several where it is long. column: where it begins. */
static void print_line(const char *line, size_t bytes, size_t column)
{
    size_t indent = indent_of(line, bytes);

    for (size_t at = 0, word; at < bytes; at += word) {
        size_t gap = strspn(line + at, " ");
        word = gap + strcspn(line + at + gap, " \n");
        if (column + word > HELP_COLUMNS) {
            (void)printf("\n%*s", (int)indent, "");
            column = indent;
            at += gap;
            word -= gap;
        }
        (void)printf("%.*s", (int)word, line + at);
        column += word;
    }
    (void)printf("\n");
}

static int help(void)
{
    const char *call = call_of(told);
    size_t column;

    print_line(told, strcspn(told, "\n"), 0);
    column = (size_t)printf("\nusage: %s", program_name());
    for (const char *at = call + strcspn(call, " "); *at != '\0'; at += *at == '\n') {
        size_t bytes = strcspn(at, "\n");
        print_line(at, bytes, column);
        column = 0;
        at += bytes;
    }
    (void)printf("  -h, --help       print this\n"
                 "  --version        print the library's version\n");
    return program_end(0, NULL);
}

static int version(void)
{
    (void)printf("%s (libflashinfer) %s\n", program_name(), flashinfer_version());
    return program_end(0, NULL);
}

static int refuse(const char *format, va_list arguments)
{
    (void)vfprintf(stderr, format, arguments);
    (void)fprintf(stderr, ". See %s --help\n", called);
    return 2;
}

int program_refuse(const char *format, ...)
{
    va_list arguments;
    int code;

    va_start(arguments, format);
    code = refuse(format, arguments);
    va_end(arguments);
    return code;
}

/* ---------------------------------------------------------------------------- what may be meant */

static size_t least(size_t left, size_t right)
{
    return left < right ? left : right;
}

/* Letters to change, add, leave out or swap with the next one, to make one name of the other. */
static size_t distance(const char *left, const char *right)
{
    size_t rows[3][NAME_BYTES_MAX + 1]; /* of letters of left: two before, one before, this */
    size_t across = strlen(right);

    for (size_t j = 0; j <= across; j++) rows[1][j] = j;
    for (size_t i = 1; left[i - 1] != '\0'; i++) {
        rows[2][0] = i;
        for (size_t j = 1; j <= across; j++) {
            size_t cost = rows[1][j - 1] + (left[i - 1] != right[j - 1]);
            cost = least(cost, least(rows[1][j], rows[2][j - 1]) + 1);
            if (i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1])
                cost = least(cost, rows[0][j - 2] + 1);
            rows[2][j] = cost;
        }
        memcpy(rows[0], rows[1], sizeof rows[0]);
        memcpy(rows[1], rows[2], sizeof rows[1]);
    }
    return rows[1][across];
}

/* Without dashes in front, and with those of the house inside. */
static const char *bare(const char *name, char text[NAME_BYTES_MAX + 1])
{
    size_t length;

    name += strspn(name, "-");
    length = least(strcspn(name, "="), NAME_BYTES_MAX);
    for (size_t i = 0; i < length; i++) text[i] = name[i] == '_' ? '-' : name[i];
    text[length] = '\0';
    return text;
}

/* How far a name is from an option's; one that is the beginning or a part of the other is near. */
static size_t far(const char *given, const char *option)
{
    size_t shorter = least(strlen(given), strlen(option));
    size_t letters = distance(given, option);

    if (shorter >= 3 && strstr(option, given) == option) return least(letters, 1);
    if (shorter >= 4 && (strstr(given, option) != NULL || strstr(option, given) != NULL))
        return least(letters, 2);
    return letters;
}

/* The option that is most likely meant by a name, or NULL. */
static const char *nearest(const char *name)
{
    char given[NAME_BYTES_MAX + 1], option[NAME_BYTES_MAX + 1];
    const char *found = NULL;
    size_t best;

    (void)bare(name, given);
    best = strlen(given) / 3; /* of the letters a third may be wrong, and always one */
    if (best == 0) best = 1;
    for (size_t i = 0; i < known_count + COMMON; i++) {
        const char *other = i < known_count ? known[i].name : common[i - known_count].name;
        size_t at = far(given, bare(other, option));
        if (at > best || (at == best && found != NULL) || at >= strlen(option)) continue;
        best = at;
        found = other;
    }
    return found;
}

static int refuse_name(const char *name)
{
    const char *meant = nearest(name);
    int length = (int)strcspn(name, "=");

    if (meant == NULL) return program_refuse("%.*s is not an option", length, name);
    return program_refuse("%.*s is not an option, perhaps %s is meant", length, name, meant);
}

/* The usage's word for argument `index`, as "MODEL.gguf": of the words in its line, those that are neither an option nor
   its value nor in brackets. */
static int refuse_missing(size_t index)
{
    const char *at = call_of(told);
    size_t length = strcspn(at, " \n"); /* of the program's name */
    int after_option = 0;

    for (at += length; *at == ' '; at += length) {
        at++;
        length = strcspn(at, " \n");
        if (*at == '[' || *at == '(') length = strcspn(at, "])\n") + 1;
        if (*at != '-' && *at != '[' && *at != '(' && *at != '|' && !after_option && index-- == 0)
            break;
        after_option = *at == '-';
    }
    return program_refuse("%.*s is missing", (int)length, at);
}

/* -------------------------------------------------------------------------------------- parsing */

/* What is given to an option after "=", or NULL. */
static const char *attached(const char *argument, const char *name)
{
    size_t length = strlen(name);

    return strncmp(argument, name, length) == 0 && argument[length] == '=' ? argument + length + 1
                                                                           : NULL;
}

static const program_option *option_of(const char *argument)
{
    for (size_t i = 0; i < known_count; i++)
        if (strcmp(argument, known[i].name) == 0 || attached(argument, known[i].name) != NULL)
            return &known[i];
    return NULL;
}

/* Takes an option, and its value if that is the argument after it. Returns how many were taken, or 0 after a
   line. */
static int take(const program_option *option, const char *argument, const char *next)
{
    const char *value = attached(argument, option->name);

    if (option->flag != NULL && value != NULL)
        return program_refuse("%s takes no value", option->name), 0;
    if (option->flag != NULL) {
        *option->flag = 1;
        return 1;
    }
    if (value != NULL) {
        *option->value = value;
        return 1;
    }
    /* an option's name is never meant as a value, but by "=" */
    if (next == NULL || option_of(next) != NULL)
        return program_refuse("%s lacks its value", option->name), 0;
    *option->value = next;
    return 2;
}

/* A dash alone is a file's name, and one before a digit a minus. */
static int is_option_like(const char *argument)
{
    return argument[0] == '-' && argument[1] != '\0' && strchr("0123456789", argument[1]) == NULL;
}

static int parse(int argc, char **argv, const char **arguments, size_t fewest, size_t most)
{
    size_t given = 0;
    int only = 0; /* after "--": no more options */

    for (int i = 1, taken; i < argc; i += taken) {
        const program_option *option = only ? NULL : option_of(argv[i]);
        taken = 1;
        if (option != NULL) {
            taken = take(option, argv[i], argv[i + 1]);
            if (taken == 0) return 2;
        } else if (!only && strcmp(argv[i], "--") == 0) {
            only = 1;
        } else if (!only && is_option_like(argv[i])) {
            return refuse_name(argv[i]);
        } else if (given < most) {
            arguments[given++] = argv[i];
        } else {
            return program_refuse("%s is one argument too many", argv[i]);
        }
    }
    return given >= fewest ? 0 : refuse_missing(given);
}

/* Help is given whatever else is said. */
static void answer(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const program_option *option = option_of(argv[i]);
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) exit(help());
        if (strcmp(argv[i], "--version") == 0) exit(version());
        if (option != NULL && option->flag == NULL && attached(argv[i], option->name) == NULL)
            i++; /* its value, whatever that looks like */
    }
}

int program_parse_some(int argc, char **argv, const program_option *options, size_t option_count,
                       const char **arguments, size_t fewest, size_t most, const char *usage)
{
    (void)signal(SIGXFSZ, SIG_IGN); /* a file that may grow no further is an error of its writing */
    known = options;
    known_count = option_count;
    called = argc > 0 ? argv[0] : "";
    told = usage;
    answer(argc, argv);
    return parse(argc, argv, arguments, fewest, most);
}

int program_parse(int argc, char **argv, const program_option *options, size_t option_count,
                  const char **arguments, size_t positionals, const char *usage)
{
    return program_parse_some(argc, argv, options, option_count, arguments, positionals,
                              positionals, usage);
}

/* --------------------------------------------------------------------------------------- values */

int program_u32(const char *name, const char *text, uint32_t fewest, uint32_t most, uint32_t *value)
{
    unsigned long long number;
    char *end;

    if (text == NULL) return 0;
    errno = 0;
    number = strtoull(text, &end, 10);
    if (errno == 0 && end != text && *end == '\0' && text[0] != '-' && number >= fewest &&
        number <= most) {
        *value = (uint32_t)number;
        return 0;
    }
    return program_refuse("%s takes a whole number from %u to %u, not \"%s\"", name, fewest, most,
                          text);
}

int program_float(const char *name, const char *text, float fewest, float most, float *value)
{
    float number;
    char *end;

    if (text == NULL) return 0;
    number = strtof(text, &end);
    if (end != text && *end == '\0' && number >= fewest && number <= most) {
        *value = number;
        return 0;
    }
    return program_refuse("%s takes a number from %g to %g, not \"%s\"", name, (double)fewest,
                          (double)most, text);
}

int program_choice(const char *name, const char *text, const char *const *names,
                   const uint32_t *numbers, uint32_t *value)
{
    char all[256] = "";

    if (text == NULL) return 0;
    for (size_t i = 0; names[i] != NULL; i++) {
        size_t used = strlen(all);
        if (strcmp(text, names[i]) == 0) {
            *value = numbers[i];
            return 0;
        }
        (void)snprintf(all + used, sizeof all - used, "%s%s", used != 0 ? ", " : "", names[i]);
    }
    return program_refuse("%s is one of %s, not \"%s\"", name, all, text);
}

int program_bytes(const char *name, const char *text, uint64_t *bytes)
{
    if (text == NULL || flashinfer_budget_parse(text, 0, bytes, NULL) == 0) return 0;
    return program_refuse("%s takes bytes such as 20000000 or 64M, not \"%s\"", name, text);
}

int program_share(const char *name, const char *text, uint64_t whole_bytes, uint64_t *bytes)
{
    if (text == NULL || flashinfer_budget_parse(text, whole_bytes, bytes, NULL) == 0) return 0;
    return program_refuse("%s takes a share such as 50%% or bytes such as 20000000 or 64M, not "
                          "\"%s\"",
                          name, text);
}
