/*
 * program.c - a program as somebody wrote it when the first header came out, 0.1.0: it is compiled against the headers
 * in first/include for ever, linked to today's library and run. Owns no opinion on numbers: it looks whether every
 * struct comes back filled, none is written past its end, and a text goes on the same by eval and from a saved state.
 *
 * usage: first MODEL.gguf
 */
#include <flashinfer.h>
#include <flashinfer_backend.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD 0x5a
#define GUARD_BYTES 64

#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            (void)printf("%s:%d: %s\n", __FILE__, __LINE__, #what);                                \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

/* A struct with bytes behind it that nobody may touch. */
#define GUARDED(type)                                                                              \
    struct {                                                                                       \
        type it;                                                                                   \
        unsigned char guard[GUARD_BYTES];                                                          \
    }
#define BEGIN(record)                                                                              \
    do {                                                                                           \
        memset(&(record), 0, sizeof(record));                                                      \
        memset((record).guard, GUARD, GUARD_BYTES);                                                \
        (record).it.size = sizeof(record).it;                                                      \
    } while (0)

static int untouched(const unsigned char *guard)
{
    for (int i = 0; i < GUARD_BYTES; i++)
        if (guard[i] != GUARD) return 0;
    return 1;
}

typedef struct run {
    flashinfer_model *model;
    flashinfer_session *session;
    int32_t tokens[64];
    size_t count;
    unsigned traced, inputs, audits, progressed;
} run;

static void trace(const flashinfer_trace *trace, void *user)
{
    if (trace->size >= sizeof *trace && trace->count != 0 && trace->ids != NULL)
        ((run *)user)->traced++;
}

static void ffn_input(const flashinfer_ffn_input *input, void *user)
{
    if (input->size >= sizeof *input && input->width != 0 && input->x != NULL)
        ((run *)user)->inputs++;
}

static void audit(const flashinfer_audit *audit, void *user)
{
    if (audit->size >= sizeof *audit && audit->active != 0) ((run *)user)->audits++;
}

static int progress(const flashinfer_progress *progress, void *user)
{
    if (progress->size >= sizeof *progress && progress->stage != NULL) ((run *)user)->progressed++;
    return 0;
}

static int open_model(run *at, const char *path)
{
    GUARDED(flashinfer_options) options;
    GUARDED(flashinfer_error) error;
    GUARDED(flashinfer_plan) plan;

    BEGIN(options);
    BEGIN(error);
    BEGIN(plan);
    flashinfer_options_init(&options.it, sizeof options.it);
    flashinfer_error_init(&error.it, sizeof error.it);
    CHECK(error.it.layer == -1 && error.it.neuron == -1 && error.it.offset == -1);
    options.it.memory_budget = 1;
    CHECK(flashinfer_model_open(path, &options.it, &at->model, &error.it) == FLASHINFER_EBUDGET);
    CHECK(error.it.code == FLASHINFER_EBUDGET && error.it.text[0] != '\0');
    CHECK(strcmp(flashinfer_error_name(error.it.code), "FLASHINFER_EBUDGET") == 0);
    CHECK(flashinfer_plan_file(path, &options.it, &plan.it, &error.it) == 0);
    CHECK(plan.it.minimum_bytes > 1 && plan.it.maximum_bytes > plan.it.minimum_bytes);
    options.it.memory_budget = (plan.it.minimum_bytes + plan.it.maximum_bytes) / 2;
    options.it.threads = 1;
    options.it.context_tokens = 64;
    options.it.trace = trace;
    options.it.ffn_input = ffn_input;
    options.it.audit = audit;
    options.it.progress = progress;
    options.it.trace_user = options.it.ffn_input_user = options.it.audit_user = at;
    options.it.progress_user = at;
    options.it.audit_interval = 4;
    CHECK(flashinfer_model_open(path, &options.it, &at->model, &error.it) == 0);
    CHECK(untouched(options.guard) && untouched(error.guard) && untouched(plan.guard));
    return 0;
}

static int ask_model(run *at)
{
    GUARDED(flashinfer_info) info;
    GUARDED(flashinfer_tensor_info) tensor;
    GUARDED(flashinfer_plan) plan;
    GUARDED(flashinfer_stats) stats;
    const char *key = NULL;
    char value[80];

    BEGIN(info);
    BEGIN(tensor);
    BEGIN(plan);
    BEGIN(stats);
    CHECK(flashinfer_model_info(at->model, &info.it) == 0);
    CHECK(info.it.layer_count != 0 && info.it.vocab_count != 0 && info.it.predictors != NULL);
    CHECK(flashinfer_model_tensor(at->model, info.it.tensor_count - 1, &tensor.it) == 0);
    CHECK(tensor.it.bytes != 0 && tensor.it.name != NULL && tensor.it.name[0] != '\0');
    CHECK(flashinfer_model_metadata(at->model, 0, &key, value, sizeof value) == 0);
    CHECK(key != NULL && value[0] != '\0');
    CHECK(flashinfer_model_plan(at->model, &plan.it) == 0);
    CHECK(plan.it.planned_bytes != 0 && plan.it.planned_bytes <= plan.it.budget_bytes);
    CHECK(plan.it.slots != 0 && plan.it.page_table_bytes != 0);
    CHECK(flashinfer_model_stats(at->model, &stats.it) == 0);
    CHECK(stats.it.tokens != 0 && stats.it.predicted != 0 && stats.it.total_ns != 0);
    CHECK(untouched(info.guard) && untouched(tensor.guard) && untouched(plan.guard));
    CHECK(untouched(stats.guard));
    return 0;
}

/* Greedy, from the logits at hand; checks that text comes of it. */
static int go_on(run *at, int32_t *made, size_t count)
{
    flashinfer_sampler_options options;
    flashinfer_sampler *sampler;
    flashinfer_decoder *decoder;
    size_t bytes = 0;

    flashinfer_sampler_options_init(&options, sizeof options);
    CHECK(flashinfer_decoder_create(at->model, &decoder, NULL) == 0);
    for (size_t i = 0; i < count; i++) {
        size_t vocab = 0, piece_bytes = 0;
        const char *piece;
        const float *logits = flashinfer_logits(at->session, &vocab);
        CHECK(logits != NULL && vocab != 0);
        if (i == 0) CHECK(flashinfer_sampler_create(&options, vocab, &sampler, NULL) == 0);
        CHECK(flashinfer_sampler_sample(sampler, logits, vocab, &made[i], NULL) == 0);
        CHECK(flashinfer_decoder_push(decoder, made[i], &piece, &piece_bytes, NULL) == 0);
        CHECK(flashinfer_step(at->session, made[i], NULL) == 0);
        bytes += piece_bytes;
    }
    CHECK(bytes != 0);
    flashinfer_sampler_destroy(sampler);
    flashinfer_decoder_destroy(decoder);
    return 0;
}

static int write_text(run *at)
{
    static const char text[] = "Once upon a time there was";
    int32_t by_eval[8], from_state[8];
    size_t capacity, written = 0;
    void *state;

    CHECK(flashinfer_tokenize(at->model, text, sizeof text - 1, FLASHINFER_TOKENIZE_BOS, at->tokens,
                              64, &at->count, NULL) == 0);
    CHECK(flashinfer_session_create(at->model, &at->session, NULL) == 0);
    CHECK(flashinfer_eval(at->session, at->tokens, at->count, NULL) == 0);
    CHECK(flashinfer_session_position(at->session) == at->count);
    capacity = flashinfer_state_bytes(at->session);
    state = malloc(capacity);
    CHECK(state != NULL);
    CHECK(flashinfer_state_save(at->session, state, capacity, &written, NULL) == 0);
    CHECK(go_on(at, by_eval, 8) == 0);
    CHECK(flashinfer_session_rewind(at->session, 0, NULL) == 0);
    CHECK(flashinfer_state_load(at->session, state, written, NULL) == 0);
    CHECK(go_on(at, from_state, 8) == 0);
    CHECK(memcmp(by_eval, from_state, sizeof by_eval) == 0);
    free(state);
    CHECK(at->traced != 0 && at->inputs != 0 && at->audits != 0 && at->progressed != 0);
    return 0;
}

int main(int argc, char **argv)
{
    run at;

    memset(&at, 0, sizeof at);
    if (argc != 2) return 2;
    if (open_model(&at, argv[1]) != 0 || write_text(&at) != 0 || ask_model(&at) != 0) return 1;
    flashinfer_session_destroy(at.session);
    CHECK(flashinfer_model_close(at.model) == 0);
    (void)printf("a program of header %d.%d.%d runs on library %s\n", FLASHINFER_VERSION_MAJOR,
                 FLASHINFER_VERSION_MINOR, FLASHINFER_VERSION_PATCH, flashinfer_version());
    return 0;
}
