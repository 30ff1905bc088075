/*
 * logits.c - what every build must compute alike: logits after single tokens by this machine's best kernels, and after
 * a prompt of token ids by plain C (prompts by other kernels round as BLIS does where that is built in), with the default
 * and the exact predictor, written to standard output as they lie in memory.
 *
 * usage: logits MODEL.gguf
 */
#include <flashinfer.h>
#include <stdio.h>

#define PROMPT 48 /* enough for flashinfer_eval() to run many at once */
#define STEPS 6

static int write_logits(const flashinfer_session *session)
{
    size_t count = 0;
    const float *logits = flashinfer_logits(session, &count);

    return logits != NULL && fwrite(logits, sizeof *logits, count, stdout) == count ? 0 : 1;
}

static int run(flashinfer_model *model, uint32_t vocab_count, int prompt, flashinfer_error *error)
{
    flashinfer_session *session;
    int32_t tokens[PROMPT];
    int code = flashinfer_session_create(model, &session, error);

    if (code != 0) return code;
    for (uint32_t i = 0; i < PROMPT; i++) tokens[i] = (int32_t)((i * 37 + 11) % vocab_count);
    for (int i = 0; i < STEPS && code == 0; i++) {
        code = flashinfer_step(session, tokens[i], error);
        if (code == 0) code = write_logits(session);
    }
    if (code == 0 && prompt) {
        code = flashinfer_session_rewind(session, 0, error);
        if (code == 0) code = flashinfer_eval(session, tokens, PROMPT, error);
        if (code == 0) code = write_logits(session);
    }
    flashinfer_session_destroy(session);
    return code;
}

int main(int argc, char **argv)
{
    static const uint32_t predictors[] = {FLASHINFER_PREDICTOR_DEFAULT, FLASHINFER_PREDICTOR_EXACT};
    flashinfer_info info = {.size = sizeof info};
    flashinfer_options options;
    flashinfer_error error;
    int code = argc == 2 ? 0 : 2;

    flashinfer_error_init(&error, sizeof error);
    for (int i = 0; i < 4 && code == 0; i++) {
        flashinfer_model *model;
        flashinfer_options_init(&options, sizeof options);
        options.memory_budget = 24u << 20;
        options.threads = 2;
        options.context_tokens = 64;
        options.predictor = predictors[i / 2];
        options.kernels = i % 2 != 0 ? FLASHINFER_KERNELS_REF : FLASHINFER_KERNELS_DEFAULT;
        code = flashinfer_model_open(argv[1], &options, &model, &error);
        if (code == 0) code = flashinfer_model_info(model, &info);
        if (code == 0) code = run(model, info.vocab_count, i % 2, &error);
        (void)flashinfer_model_close(model);
    }
    if (code != 0) (void)fprintf(stderr, "%d: %s\n", code, error.text);
    return code != 0;
}
