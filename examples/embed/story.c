/*
 * story.c - the part of a host that is the same wherever the model comes from: prompt in, text out.
 */
#include "story.h"

#include <string.h>

#define PROMPT_TOKENS_MAX 256

/* Print the text a token completes; -1 ends the stream. */
static int emit(flashinfer_decoder *decoder, int32_t token, FILE *out, flashinfer_error *error)
{
    const char *piece;
    int code = flashinfer_decoder_push(decoder, token, &piece, NULL, error);

    if (code == 0) (void)fputs(piece, out);
    return code;
}

static int go_on(flashinfer_session *session, flashinfer_decoder *decoder,
                 flashinfer_sampler *sampler, int32_t eos, unsigned tokens, FILE *out,
                 flashinfer_error *error)
{
    int code = 0;

    for (unsigned i = 0; i < tokens && code == 0; i++) {
        size_t vocab;
        const float *logits = flashinfer_logits(session, &vocab);
        int32_t token = eos;

        code = flashinfer_sampler_sample(sampler, logits, vocab, &token, error);
        if (code != 0 || token == eos) break;
        code = emit(decoder, token, out, error);
        if (code == 0 && i + 1 < tokens) code = flashinfer_step(session, token, error);
    }
    if (code == 0) code = emit(decoder, -1, out, error);
    (void)fputc('\n', out);
    return code;
}

int story_tell(flashinfer_model *model, const char *prompt, unsigned tokens, FILE *out,
               flashinfer_error *error)
{
    flashinfer_info info = {.size = sizeof info};
    flashinfer_session *session = NULL;
    flashinfer_decoder *decoder = NULL;
    flashinfer_sampler *sampler = NULL;
    int32_t ids[PROMPT_TOKENS_MAX];
    size_t count = 0;
    int code = flashinfer_model_info(model, &info);

    if (code == 0) code = flashinfer_session_create(model, &session, error);
    if (code == 0) code = flashinfer_decoder_create(model, &decoder, error);
    if (code == 0) code = flashinfer_sampler_create(NULL, info.vocab_count, &sampler, error);
    if (code == 0)
        code = flashinfer_tokenize(model, prompt, strlen(prompt), FLASHINFER_TOKENIZE_BOS, ids,
                                   PROMPT_TOKENS_MAX, &count, error);
    for (size_t i = 0; i < count && code == 0; i++) code = emit(decoder, ids[i], out, error);
    if (code == 0) code = flashinfer_eval(session, ids, count, error);
    if (code == 0) code = go_on(session, decoder, sampler, info.eos_token, tokens, out, error);
    flashinfer_sampler_destroy(sampler);
    flashinfer_decoder_destroy(decoder);
    flashinfer_session_destroy(session);
    return code;
}

int story_end(int code, const flashinfer_error *error)
{
    if (code == 0 && fflush(stdout) == 0 && !ferror(stdout)) return 0;
    if (code == 0)
        (void)fprintf(stderr, "cannot write the output\n");
    else
        (void)fprintf(stderr, "%s: %s\n", flashinfer_error_name(code),
                      error->code != 0 ? error->text : flashinfer_error_describe(code));
    return 1;
}
