/* Goes on with a text: samples a token, prints what it completes, runs it. */
#include <flashinfer.h>
#include <stdio.h>
#include <string.h>

typedef struct story {
    flashinfer_model *model;
    flashinfer_session *session;
    flashinfer_sampler *sampler;
    flashinfer_decoder *decoder;
} story;

static int tell(story *at, const char *prompt, flashinfer_error *error)
{
    flashinfer_info info = {.size = sizeof info};
    int32_t tokens[64], token;
    size_t count = 0, vocab;
    const char *piece;
    int code = flashinfer_model_info(at->model, &info);

    if (code == 0)
        code = flashinfer_tokenize(at->model, prompt, strlen(prompt),
                                   FLASHINFER_TOKENIZE_BOS, tokens, 64,
                                   &count, error);
    if (code == 0) code = flashinfer_eval(at->session, tokens, count, error);
    for (size_t i = 0; i < count && code == 0; i++)
        code = flashinfer_sampler_accept(at->sampler, tokens[i], error);
    printf("%s", prompt);
    for (int i = 0; i < 20 && code == 0; i++) {
        const float *logits = flashinfer_logits(at->session, &vocab);

        code = flashinfer_sampler_sample(at->sampler, logits, vocab, &token,
                                         error);
        if (code != 0 || token == info.eos_token) break;
        code = flashinfer_decoder_push(at->decoder, token, &piece, NULL,
                                       error);
        if (code == 0) printf("%s", piece);
        if (code == 0) code = flashinfer_step(at->session, token, error);
    }
    if (code == 0) /* what is left of an unfinished character */
        code = flashinfer_decoder_push(at->decoder, -1, &piece, NULL, error);
    if (code == 0) printf("%s\n", piece);
    return code;
}

int main(int argc, char **argv)
{
    flashinfer_info info = {.size = sizeof info};
    flashinfer_sampler_options sampling;
    flashinfer_error error;
    story at = {0};
    int code;

    if (argc != 2) return 2;
    flashinfer_error_init(&error, sizeof error);
    flashinfer_sampler_options_init(&sampling, sizeof sampling);
    sampling.temperature = 0.8f;
    sampling.top_k = 40;
    sampling.repetition_penalty = 1.1f;
    sampling.seed = 7;
    code = flashinfer_model_open(argv[1], NULL, &at.model, &error);
    if (code == 0) code = flashinfer_model_info(at.model, &info);
    if (code == 0)
        code = flashinfer_session_create(at.model, &at.session, &error);
    if (code == 0)
        code = flashinfer_decoder_create(at.model, &at.decoder, &error);
    if (code == 0)
        code = flashinfer_sampler_create(&sampling, info.vocab_count,
                                         &at.sampler, &error);
    if (code == 0) code = tell(&at, "Once upon a time", &error);
    if (code != 0) fprintf(stderr, "%s\n", error.text);
    flashinfer_sampler_destroy(at.sampler);
    flashinfer_decoder_destroy(at.decoder);
    flashinfer_session_destroy(at.session);
    flashinfer_model_close(at.model);
    return code != 0;
}
