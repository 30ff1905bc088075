/*
 * step.c - one token's story: embedding, then for each layer norm -> attention -> norm -> FFN, then
 * the logits. Prompts go through prefill.c, many tokens at once.
 */
#include <string.h>

#include "engine/model.h"
#include "util/clock.h"

static int canceled(flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_ECANCELED,
                     "the call was cancelled; the session stays at its position");
}

void flin_embed(flashinfer_model *model, int32_t token, uint32_t position, float *hidden)
{
    const flin_weights *weights = &model->weights;
    const flin_matrix *tokens = &weights->token_embedding,
                      *positions = &weights->position_embedding;
    float *offset = model->scratch.projected;
    const uint8_t *token_row =
        (const uint8_t *)tokens->data +
        (uint64_t)(uint32_t)token * flin_type_bytes(tokens->type, tokens->cols);
    const uint8_t *position_row =
        (const uint8_t *)positions->data +
        (uint64_t)position * flin_type_bytes(positions->type, positions->cols);

    if (weights->project_in.weight.data != NULL) {
        flin_row_to_float(model->kernels, tokens->type, token_row, tokens->cols, 0, tokens->cols,
                          model->scratch.token);
        flin_apply_linear(model, &weights->project_in, model->scratch.token, hidden);
    } else {
        flin_row_to_float(model->kernels, tokens->type, token_row, tokens->cols, 0, tokens->cols,
                          hidden);
    }
    model->kernels->to_float[positions->type](position_row, positions->cols, offset);
    for (uint32_t i = 0; i < model->shape.width; i++) hidden[i] += offset[i];
}

static void norm(const flashinfer_model *model, const flin_norm *norm, const float *x, float *y)
{
    model->kernels->layer_norm(x, norm->weight, norm->bias, model->shape.width,
                               model->shape.norm_epsilon, y);
}

static void add_residual(flashinfer_model *model)
{
    for (uint32_t i = 0; i < model->shape.width; i++)
        model->scratch.hidden[i] += model->scratch.projected[i];
}

void flin_unembed(flashinfer_session *session)
{
    flashinfer_model *model = session->model;
    const flin_weights *weights = &model->weights;
    const flin_linear output = weights->output;
    const float *x = model->scratch.hidden;

    flin_pool_expect(&model->pool, NULL);
    if (model->shape.final_norm) {
        norm(model, &weights->output_norm, x, model->scratch.normed);
        x = model->scratch.normed;
    }
    if (weights->project_out.weight.data != NULL) {
        flin_apply_linear(model, &weights->project_out, x, model->scratch.token);
        x = model->scratch.token;
    }
    flin_apply_linear(model, &output, x, session->logits);
}

/* One token through all layers; logits only where they are wanted. */
static int step(flashinfer_session *session, int32_t token, int want_logits,
                flashinfer_error *error)
{
    flashinfer_model *model = session->model;
    float *hidden = model->scratch.hidden, *normed = model->scratch.normed;
    int norm_before = model->shape.norm_before != 0;

    model->token_count++;
    model->wants_logits = want_logits;
    flin_embed(model, token, session->position, hidden);
    for (uint32_t i = 0; i < model->shape.layers; i++) {
        const flin_layer *layer = &model->weights.layers[i];
        int code;

        if (atomic_load(&session->cancelled) != 0) return canceled(error);
        if (norm_before) norm(model, &layer->attention_norms.before, hidden, normed);
        flin_attention(session, i, norm_before ? normed : hidden);
        add_residual(model);
        if (!norm_before) norm(model, &layer->attention_norms.after, hidden, hidden);

        if (norm_before) norm(model, &layer->ffn_norms.before, hidden, normed);
        code = flin_ffn(session, i, norm_before ? normed : hidden, error);
        if (code == FLASHINFER_ECANCELED) return canceled(error);
        if (code != 0) return code;
        add_residual(model);
        if (!norm_before) norm(model, &layer->ffn_norms.after, hidden, hidden);
    }
    if (want_logits) flin_unembed(session);
    return 0;
}

/* step() with its bookkeeping: position, statistics. */
static int counted_step(flashinfer_session *session, int32_t token, int want_logits,
                        flashinfer_error *error)
{
    flashinfer_model *model = session->model;
    flashinfer_stats *stats = &model->stats;
    uint64_t started_ns = flin_now_ns();
    int code = step(session, token, want_logits, error);

    stats->total_ns += flin_now_ns() - started_ns;
    stats->compute_ns = stats->total_ns - stats->predict_ns - stats->io_wait_ns - stats->memory_ns;
    if (code != 0) return code;
    session->position++;
    session->has_logits = (uint32_t)want_logits;
    stats->tokens++;
    stats->neurons += (uint64_t)model->shape.ffn * model->shape.layers;
    return 0;
}

static int check_tokens(const flashinfer_session *session, const int32_t *tokens, size_t count,
                        flashinfer_error *error)
{
    const flashinfer_model *model = session->model;

    if (count > model->config.context - session->position)
        return flin_fail(error, FLASHINFER_ECONTEXT,
                         "%zu tokens do not fit: %u of the session's %u positions are "
                         "used; rewind it or open the model with a larger context_tokens",
                         count, session->position, model->config.context);
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= model->shape.vocab)
            return flin_fail(error, FLASHINFER_ETOKEN,
                             "token %zu is %d; ids of this model are 0 to %u", i, tokens[i],
                             model->shape.vocab - 1);
    }
    return 0;
}

int flin_step(flashinfer_session *session, int32_t token, flashinfer_error *error)
{
    int code = check_tokens(session, &token, 1, error);

    if (code == 0) code = counted_step(session, token, 1, error);
    if (code == FLASHINFER_ECANCELED) atomic_store(&session->cancelled, 0);
    return code;
}

/* Callbacks that are told about single tokens or judge the predictor want every token on its
   own. */
static int wants_steps(const flin_config *config)
{
    return config->trace != NULL || config->ffn_input != NULL || config->audit_interval != 0;
}

/* How many of the `left` tokens of a prompt are run at once: as few chunks as there can be, of
   about the same size. */
static uint32_t chunk_of(const flashinfer_model *model, size_t left)
{
    size_t most = model->prefill.tokens, chunks = (left + most - 1) / most;

    return (uint32_t)((left + chunks - 1) / chunks);
}

/* A chunk with its bookkeeping; what it costs is counted apart from steps. */
static int counted_chunk(flashinfer_session *session, const int32_t *tokens, uint32_t count,
                         int want_logits, flashinfer_error *error)
{
    flashinfer_model *model = session->model;
    flashinfer_stats before = model->stats, *stats = &model->stats;
    uint64_t started_ns = flin_now_ns();
    flin_batch_counts first = flin_batch_read_counts(model->batch), last;
    int code = flin_prefill_chunk(session, tokens, count, want_logits, error);

    last = flin_batch_read_counts(model->batch);
    before.prefill_ns += flin_now_ns() - started_ns;
    before.prefill_wait_ns += stats->io_wait_ns - before.io_wait_ns;
    before.prefill_bytes += last.bytes - first.bytes;
    before.read_retries += stats->read_retries - before.read_retries + last.retries - first.retries;
    if (code == 0) before.prefill_tokens += count;
    *stats = before;
    if (code == FLASHINFER_ECANCELED) return canceled(error);
    if (code != 0) return code;
    session->position += count;
    session->has_logits = (uint32_t)want_logits;
    return 0;
}

int flin_eval(flashinfer_session *session, const int32_t *tokens, size_t count,
              flashinfer_error *error)
{
    int code = check_tokens(session, tokens, count, error);
    const flashinfer_model *model = session->model;
    int steps = wants_steps(&model->config) || count < flin_prefill_least(model);
    uint32_t now = 0;

    if (code == 0 && count != 0) session->has_logits = 0;
    for (size_t i = 0; i < count && code == 0; i += now) {
        now = steps ? 1 : chunk_of(model, count - i);
        code = flin_model_progress(session->model, "eval", i, count, error);
        if (code != 0) break;
        code = steps ? counted_step(session, tokens[i], i + 1 == count, error)
                     : counted_chunk(session, tokens + i, now, i + now == count, error);
    }
    if (code == FLASHINFER_ECANCELED) atomic_store(&session->cancelled, 0);
    return code;
}
