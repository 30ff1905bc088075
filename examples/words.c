/*
 * words.c - the library's words in a program's: what it says of options and functions becomes the options and programs that
 * a user has. This is the one place that knows which is which; tests/programs/test_words.py asks it for all of them.
 */
#include <ctype.h>
#include <string.h>

#include "program.h"

#define OPTIONS 3

/* A word of the library's, and the options that may stand behind it: the first that was given, else the first that the program
   has. */
typedef struct option_word {
    const char *word; /* with or without "options." in front, unless it has that itself */
    const char *form; /* of the option's name; NULL: "%s" */
    const char *options[OPTIONS];
    const char
        *elsewhere; /* where the program has none of them: another that has; NULL: the word stays */
} option_word;

static const option_word option_words[] = {
    {"memory_budget", NULL, {"--budget", "--exact-budget"}, NULL},
    {"memory budget", NULL, {"--budget", "--exact-budget"}, NULL},
    {"context_tokens", NULL, {"--context", "--window-tokens"}, NULL},
    {"a shorter context", "a shorter %s", {"--context", "--window-tokens"}, NULL},
    {"kv_type", NULL, {"--kv"}, NULL},
    {"float16 KV", "%s f16", {"--kv"}, NULL},
    {"FLASHINFER_KV_F16", "%s f16", {"--kv"}, NULL},
    {"options.threads", NULL, {"--threads"}, NULL},
    {"options.predictor", NULL, {"--predictor"}, NULL},
    {"the predictor exact", "%s exact", {"--predictor"}, NULL},
    {"the exact predictor", "%s exact", {"--predictor"}, NULL},
    {"predictor_path", NULL, {"--predictor-file"}, "--predictor-file of generate"},
    {"cache_policy", NULL, {"--policy"}, NULL},
    {"window_tokens", NULL, {"--window"}, NULL},
    {"options.storage", NULL, {"--storage"}, NULL},
    {"storage libaio", "%s libaio", {"--storage"}, NULL},
    {"storage io_uring", "%s io_uring", {"--storage"}, NULL},
    {"storage pread", "%s pread", {"--storage"}, NULL},
    {"storage buffered", "%s buffered", {"--storage"}, NULL},
    {"audit_interval", NULL, {"--audit"}, NULL},
    {"options.probe", NULL, {"--probe"}, "--probe of generate"},
    {"options.trace", NULL, {"--trace"}, NULL},
    {"file_bytes", NULL, {"--size"}, NULL},
    {"time_ms", NULL, {"--seconds"}, NULL},
    {"dtype_resident", NULL, {"--dtype-resident"}, NULL},
    {"dtype_ffn", NULL, {"--dtype-ffn"}, NULL},
    {"dtype", NULL, {"--dtype"}, NULL},
    {"sketch_bits", NULL, {"--sketch-bits"}, NULL},
    {"no_sketch", NULL, {"--no-sketch"}, NULL},
    {"options.ffn_activation and ffn_threshold", "%s fatrelu:0.01", {"--activation"}, NULL},
    {"ffn_activation", NULL, {"--activation"}, NULL},
    {"ffn_threshold", NULL, {"--activation"}, NULL},
    {"options.activation", NULL, {"--activation"}, NULL},
    {"activation_threshold", NULL, {"--activation"}, NULL},
    {"options.order", NULL, {"--order"}, NULL},
    {"temperature", NULL, {"--temperature"}, NULL},
    {"top_k", NULL, {"--top-k"}, NULL},
    {"top_p", NULL, {"--top-p"}, NULL},
    {"options.seed", NULL, {"--seed"}, NULL},
};

/* Functions and flags, and the program that calls them, by its name here. */
static const struct program_word {
    const char *word, *program, *after;
} program_words[] = {
    {"flashinfer_pack()", "pack", ""},
    {"flashinfer_predictor_save()", "calibrate", ""},
    {"flashinfer_probe_save()", "probe", " --save"},
    {"FLASHINFER_OPEN_NO_TOKENIZER", "inspect", ""},
};

static int goes_on(char at)
{
    return isalnum((unsigned char)at) || at == '_' || at == '/' || at == '-';
}

/* Bytes of the word at the beginning of text, or 0. Paths have no words in them. */
static size_t match(const char *text, const char *word)
{
    static const char prefix[] = "options.";
    size_t skipped = 0, bytes = strlen(word);

    if (strncmp(word, prefix, sizeof prefix - 1) != 0 &&
        strncmp(text, prefix, sizeof prefix - 1) == 0)
        skipped = sizeof prefix - 1;
    if (strncmp(text + skipped, word, bytes) != 0 || goes_on(text[skipped + bytes])) return 0;
    return skipped + bytes;
}

/* The option that stands behind a word in this program, or NULL. */
static const char *option_for(const option_word *word)
{
    const char *first = NULL;

    for (size_t i = 0; i < OPTIONS && word->options[i] != NULL; i++) {
        const program_option *option = program_option_named(word->options[i]);
        if (option == NULL) continue;
        if (option->flag != NULL || *option->value != NULL) return option->name;
        if (first == NULL) first = option->name;
    }
    return first;
}

/* Writes what stands for the word at the beginning of text; returns the word's bytes, or 0. */
static size_t say_option(FILE *file, const char *text)
{
    for (size_t i = 0; i < sizeof option_words / sizeof option_words[0]; i++) {
        const option_word *word = &option_words[i];
        size_t bytes = match(text, word->word);
        const char *option = bytes != 0 ? option_for(word) : NULL;
        const char *form = word->form != NULL ? word->form : "%s";
        const char *place = strstr(form, "%s");
        if (option != NULL)
            (void)fprintf(file, "%.*s%s%s", (int)(place - form), form, option, place + 2);
        else if (bytes != 0 && word->elsewhere != NULL)
            (void)fputs(word->elsewhere, file);
        else
            continue;
        return bytes;
    }
    return 0;
}

static size_t say_program(FILE *file, const char *text)
{
    static const char installed[] = "flashinfer-";
    int prefixed = strncmp(program_name(), installed, sizeof installed - 1) == 0;

    for (size_t i = 0; i < sizeof program_words / sizeof program_words[0]; i++) {
        size_t bytes = match(text, program_words[i].word);
        if (bytes == 0) continue;
        (void)fprintf(file, "%s%s%s", prefixed ? installed : "", program_words[i].program,
                      program_words[i].after);
        return bytes;
    }
    return 0;
}

void program_say(FILE *file, const char *text)
{
    char before = ' ';

    while (*text != '\0') {
        size_t bytes = goes_on(before) || before == '.' ? 0 : say_option(file, text);
        if (bytes == 0 && !goes_on(before)) bytes = say_program(file, text);
        if (bytes == 0) {
            (void)fputc(*text, file);
            bytes = 1;
        }
        before = text[bytes - 1];
        text += bytes;
    }
}
