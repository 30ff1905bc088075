/*
 * tokenise_file.c - the tokenizer of a GGUF file, by the public interface: texts to ids and back.
 *
 * usage: tokenise_file FILE.gguf [special] < texts
 *
 * Texts come and go as texts.h says. A refusal is one line on stderr and exit status 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "texts.h"

static int there_and_back(const void *tokenizer, const char *text, size_t bytes, uint32_t flags, int32_t *ids,
                          size_t *count, char *back, size_t *back_bytes, flashinfer_error *error)
{
    int code = flashinfer_tokenize(tokenizer, text, bytes, flags, ids, TEXT_ROOM, count, error);

    if (code != 0) return code;
    return flashinfer_detokenize(tokenizer, ids, *count, back, TEXT_ROOM, back_bytes, error);
}

int main(int argc, char **argv)
{
    flashinfer_error error;
    flashinfer_options options;
    flashinfer_model *model = NULL;
    int code;

    if (argc < 2 || argc > 3 || (argc == 3 && strcmp(argv[2], "special") != 0)) {
        (void)fprintf(stderr, "usage: %s FILE.gguf [special]\n", argv[0]);
        return 2;
    }
    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.flags = FLASHINFER_OPEN_METADATA;
    code = flashinfer_model_open(argv[1], &options, &model, &error);
    if (code == 0) code = tokenise_all(there_and_back, model, argc == 3 ? FLASHINFER_TOKENIZE_SPECIAL : 0, &error);
    flashinfer_model_close(model);
    if (code != 0) (void)fprintf(stderr, "%s: %s\n", flashinfer_error_name(code), error.text);
    return code != 0;
}
