/*
 * app.c - somebody else's program: goes on from a text, greedily, with nothing but the installed library.
 *
 * usage: app MODEL.gguf TEXT TOKENS
 */
#include <flashinfer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct app {
    flashinfer_model *model;
    flashinfer_session *session;
    flashinfer_sampler *sampler;
    flashinfer_decoder *decoder;
    flashinfer_error error;
} app;

static int emit(app *at, int32_t token)
{
    const char *piece;
    int code = flashinfer_decoder_push(at->decoder, token, &piece, NULL, &at->error);

    if (code == 0) (void)fputs(piece, stdout);
    return code;
}

static int write_text(app *at, const char *text, int wanted)
{
    int32_t tokens[256];
    size_t count = 0;
    int code = flashinfer_tokenize(at->model, text, strlen(text), FLASHINFER_TOKENIZE_BOS, tokens,
                                   256, &count, &at->error);

    for (size_t i = 0; i < count && code == 0; i++) code = emit(at, tokens[i]);
    if (code == 0) code = flashinfer_eval(at->session, tokens, count, &at->error);
    for (int i = 0; i < wanted && code == 0; i++) {
        size_t vocab;
        const float *logits = flashinfer_logits(at->session, &vocab);
        int32_t token = 0;
        code = flashinfer_sampler_sample(at->sampler, logits, vocab, &token, &at->error);
        if (code == 0) code = emit(at, token);
        if (code == 0) code = flashinfer_step(at->session, token, &at->error);
    }
    return code != 0 ? code : emit(at, -1);
}

int main(int argc, char **argv)
{
    flashinfer_options options;
    flashinfer_info info;
    app at;
    int code;

    memset(&at, 0, sizeof at);
    memset(&info, 0, sizeof info);
    info.size = sizeof info;
    if (argc != 4) return 2;
    flashinfer_error_init(&at.error, sizeof at.error);
    flashinfer_options_init(&options, sizeof options);
    options.predictor = FLASHINFER_PREDICTOR_EXACT;
    code = flashinfer_model_open(argv[1], &options, &at.model, &at.error);
    if (code == 0) code = flashinfer_model_info(at.model, &info);
    if (code == 0) code = flashinfer_session_create(at.model, &at.session, &at.error);
    if (code == 0) code = flashinfer_decoder_create(at.model, &at.decoder, &at.error);
    if (code == 0) code = flashinfer_sampler_create(NULL, info.vocab_count, &at.sampler, &at.error);
    if (code == 0) code = write_text(&at, argv[2], atoi(argv[3]));
    if (code != 0) (void)fprintf(stderr, "%s\n", at.error.text);
    flashinfer_sampler_destroy(at.sampler);
    flashinfer_decoder_destroy(at.decoder);
    flashinfer_session_destroy(at.session);
    (void)flashinfer_model_close(at.model);
    return code != 0;
}
