/* Text to ids and back, with room that is asked for first. */
#include <flashinfer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    const char *text = "The bear went home.";
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_error error;
    int32_t *tokens = NULL;
    size_t count = 0, bytes = 0;
    char back[64];
    int code;

    if (argc != 2) return 2;
    flashinfer_options_init(&options, sizeof options);
    flashinfer_error_init(&error, sizeof error);
    options.flags = FLASHINFER_OPEN_METADATA; /* no weights are needed */
    if (flashinfer_model_open(argv[1], &options, &model, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    code = flashinfer_tokenize(model, text, strlen(text), 0, NULL, 0, &count,
                               &error);
    if (code == FLASHINFER_EBUFFER) { /* as expected: count is known now */
        tokens = malloc(count * sizeof *tokens);
        if (tokens == NULL) return 1;
        code = flashinfer_tokenize(model, text, strlen(text), 0, tokens,
                                   count, &count, &error);
    }
    if (code == 0)
        code = flashinfer_detokenize(model, tokens, count, back, sizeof back,
                                     &bytes, &error);
    if (code == 0)
        printf("%zu ids: %.*s\n", count, (int)bytes, back);
    else
        fprintf(stderr, "%s\n", error.text);
    free(tokens);
    flashinfer_model_close(model);
    return code != 0 || bytes != strlen(text);
}
