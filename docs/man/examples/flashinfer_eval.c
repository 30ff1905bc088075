/* Runs a prompt and prints the likeliest next token. */
#include <flashinfer.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    const char *prompt = "Once upon a time there was a little";
    flashinfer_session *session = NULL;
    flashinfer_model *model;
    flashinfer_error error;
    int32_t tokens[64];
    char text[64];
    size_t count = 0, bytes = 0;
    int code;

    if (argc != 2) return 2;
    flashinfer_error_init(&error, sizeof error);
    code = flashinfer_model_open(argv[1], NULL, &model, &error);
    if (code == 0) code = flashinfer_session_create(model, &session, &error);
    if (code == 0)
        code = flashinfer_tokenize(model, prompt, strlen(prompt),
                                   FLASHINFER_TOKENIZE_BOS, tokens, 64,
                                   &count, &error);
    if (code == 0) code = flashinfer_eval(session, tokens, count, &error);
    if (code == 0) {
        size_t vocab;
        const float *logits = flashinfer_logits(session, &vocab);
        int32_t best = 0;

        for (size_t i = 1; i < vocab; i++)
            if (logits[i] > logits[best]) best = (int32_t)i;
        code = flashinfer_detokenize(model, &best, 1, text, sizeof text,
                                     &bytes, &error);
    }
    if (code == 0)
        printf("%s:%.*s\n", prompt, (int)bytes, text);
    else
        fprintf(stderr, "%s\n", error.text);
    flashinfer_session_destroy(session);
    flashinfer_model_close(model);
    return code != 0;
}
