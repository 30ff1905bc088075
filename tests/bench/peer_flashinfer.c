/*
 * peer_flashinfer.c - this library as a side of peer_run.c, through the public interface alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flashinfer.h"
#include "peer_side.h"

const char peer_ways[] = "BUDGET_BYTES or BUDGET_BYTES:PREDICTOR (exact, sketch, all)";

static flashinfer_model *model;
static flashinfer_session *session;

static int fail(int code, const flashinfer_error *error)
{
    (void)fprintf(stderr, "%s: %s\n", flashinfer_error_name(code), error->text);
    return 1;
}

static int read_way(const char *way, flashinfer_options *options)
{
    static const struct {
        const char *name;
        uint32_t kind;
    } known[] = {{"", FLASHINFER_PREDICTOR_DEFAULT},
                 {":exact", FLASHINFER_PREDICTOR_EXACT},
                 {":sketch", FLASHINFER_PREDICTOR_SKETCH},
                 {":all", FLASHINFER_PREDICTOR_ALL}};
    char *end;

    options->memory_budget = strtoull(way, &end, 10);
    for (size_t i = 0; end != way && i < sizeof known / sizeof *known; i++) {
        if (strcmp(end, known[i].name) != 0) continue;
        options->predictor = known[i].kind;
        return 0;
    }
    (void)fprintf(stderr, "\"%s\" is not %s\n", way, peer_ways);
    return 1;
}

int peer_open(const peer_request *asked, uint32_t *vocab_count)
{
    flashinfer_info info = {.size = sizeof info};
    flashinfer_options options;
    flashinfer_error error;
    int code;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.threads = asked->threads;
    options.context_tokens = asked->context_tokens;
    options.kv_type = FLASHINFER_KV_F16; /* llama.cpp's own default */
    if (read_way(asked->way, &options) != 0) return 1;
    code = flashinfer_model_open(asked->model, &options, &model, &error);
    if (code == 0) code = flashinfer_session_create(model, &session, &error);
    if (code == 0) code = flashinfer_model_info(model, &info);
    *vocab_count = info.vocab_count;
    return code == 0 ? 0 : fail(code, &error);
}

int peer_eval(int32_t *tokens, uint32_t count, float *first_logit)
{
    flashinfer_error error;
    int code;

    flashinfer_error_init(&error, sizeof error);
    code = flashinfer_eval(session, tokens, count, &error);
    if (code != 0) return fail(code, &error);
    *first_logit = flashinfer_logits(session, NULL)[0];
    return 0;
}

void peer_close(void)
{
    flashinfer_session_destroy(session);
    (void)flashinfer_model_close(model);
}
