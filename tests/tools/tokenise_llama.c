/*
 * tokenise_llama.c - the same as tokenise_file.c by llama.cpp, to compare with. Built by
 * compare_vocabularies.py, with the llama.cpp that it is given.
 *
 * usage: tokenise_llama FILE.gguf [special] < texts
 *
 * It calls what llama-tokenize calls, for thousands of texts in one run. The texts that ids give are
 * not asked for: every second line is empty.
 */
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES_MAX (64u << 20)

static void tell_errors_only(enum ggml_log_level level, const char *text, void *user)
{
    (void)user;
    if (level == GGML_LOG_LEVEL_ERROR) (void)fputs(text, stderr);
}

static void tokenise(const struct llama_vocab *vocab, int finds_special)
{
    char *text = malloc(TEXT_BYTES_MAX);
    llama_token *ids = malloc(TEXT_BYTES_MAX * sizeof *ids);
    unsigned long count;

    if (text == NULL || ids == NULL) exit(2);
    while (scanf("%lu", &count) == 1) {
        int32_t found;
        if (getchar() != '\n' || count > TEXT_BYTES_MAX) exit(2);
        if (fread(text, 1, count, stdin) != count) exit(2);
        found = llama_tokenize(vocab, text, (int32_t)count, ids, (int32_t)TEXT_BYTES_MAX, false,
                               finds_special);
        if (found < 0) exit(3);
        for (int32_t i = 0; i < found; i++) (void)printf("%s%d", i == 0 ? "" : " ", ids[i]);
        (void)printf("\n0\n\n");
    }
    free(text);
    free(ids);
}

int main(int argc, char **argv)
{
    struct llama_model_params params = llama_model_default_params();
    struct llama_model *model;

    if (argc < 2) return 2;
    llama_log_set(tell_errors_only, NULL);
    llama_backend_init();
    params.vocab_only = true;
    model = llama_model_load_from_file(argv[1], params);
    if (model == NULL) return 1;
    tokenise(llama_model_get_vocab(model), argc > 2 && strcmp(argv[2], "special") == 0);
    llama_model_free(model);
    return 0;
}
