/*
 * run.c - see run.h.
 */
#include "engine/run.h"

#include "engine/forward.h"
#include "util/clock.h"

int flin_progress(const flin_settings *settings, const char *stage, uint64_t done, uint64_t total,
                  flashinfer_error *error)
{
    flashinfer_progress progress = {sizeof progress, 0, stage, done, total};

    if (settings->progress == NULL || settings->progress(&progress, settings->progress_user) == 0)
        return 0;
    return flin_fail(error, FLASHINFER_ECANCELED, "cancelled by the progress callback (%s)", stage);
}

/* ----------------------------------------------------------------------------------- statistics */

/* What a pass did, and how long it took. */
typedef struct outcome {
    flin_tally tally;
    flin_batch_counts reads;
    uint64_t again, wait_ns, total_ns;
} outcome;

static void count_narrow(flashinfer_stats *stats, const outcome *of)
{
    const flin_tally *tally = &of->tally;

    stats->predicted += tally->predicted;
    stats->active += tally->active;
    stats->resident += tally->resident;
    stats->missing += tally->missing;
    stats->streamed += tally->streamed;
    stats->waves += tally->waves;
    stats->audited_active += tally->audited_active;
    stats->audited_missed += tally->audited_missed;
    stats->audit_bytes += tally->audit_bytes;
    stats->flash_bytes += of->reads.bytes - tally->audit_bytes;
    stats->flash_reads += of->reads.reads - tally->audit_reads;
    stats->read_retries += of->reads.retries + of->again;
    stats->io_submit_ns += of->reads.submit_ns;
    stats->predict_ns += tally->predict_ns;
    stats->memory_ns += tally->memory_ns;
    stats->io_wait_ns += of->wait_ns;
    stats->total_ns += of->total_ns;
    stats->compute_ns = stats->total_ns - stats->predict_ns - stats->io_wait_ns - stats->memory_ns;
}

/* What prompts cost is counted apart from steps. */
static void count_wide(flashinfer_stats *stats, const outcome *of)
{
    stats->prefill_ns += of->total_ns;
    stats->prefill_wait_ns += of->wait_ns;
    stats->prefill_bytes += of->reads.bytes;
    stats->read_retries += of->reads.retries + of->again;
}

/* Run the pass that is set up. */
static int run(flin_pass *pass, outcome *of, flashinfer_error *error)
{
    const flin_fetcher *fetcher = pass->fetcher;
    const flin_batch_counts before = flin_batch_read_counts(fetcher->batch);
    const uint64_t again = fetcher->again, wait_ns = fetcher->wait_ns, started_ns = flin_now_ns();
    const flin_ring_counts ring = pass->ring->counts;
    int code = flin_forward(pass, error);

    of->total_ns = flin_now_ns() - started_ns;
    of->reads = flin_batch_read_counts(fetcher->batch);
    of->reads.reads -= before.reads;
    of->reads.bytes -= before.bytes;
    of->reads.retries -= before.retries;
    of->reads.submit_ns -= before.submit_ns;
    of->again = fetcher->again - again;
    of->wait_ns = fetcher->wait_ns - wait_ns + pass->tally.handing_ns;
    of->reads.reads += pass->ring->counts.reads - ring.reads;
    of->reads.bytes += pass->ring->counts.bytes - ring.bytes;
    of->reads.retries += pass->ring->counts.retries - ring.retries;
    of->reads.submit_ns += pass->ring->counts.submit_ns - ring.submit_ns;
    of->wait_ns += pass->ring->counts.wait_ns - ring.wait_ns;
    of->tally = pass->tally;
    if (code == FLASHINFER_ECANCELED)
        return flin_fail(error, code, "the call was cancelled; the session stays at its position");
    return code;
}

static void begin(flashinfer_model *model, const flin_row *rows, uint32_t count, int wide)
{
    flin_pass *pass = &model->pass;

    pass->rows = rows;
    pass->count = count;
    pass->wide = (uint32_t)wide;
    pass->step = model->token_count;
    pass->tally = (flin_tally){0};
    model->token_count += count;
}

/* --------------------------------------------------------------------------------------- passes */

int flin_run_narrow(flashinfer_model *model, const flin_row *rows, uint32_t count,
                    flashinfer_error *error)
{
    outcome of;
    int code;

    begin(model, rows, count, 0);
    code = run(&model->pass, &of, error);
    count_narrow(&model->stats, &of);
    if (code != 0) return code;
    for (uint32_t i = 0; i < count; i++) {
        rows[i].session->position = rows[i].position + 1;
        rows[i].session->has_logits = rows[i].logits != NULL;
    }
    model->stats.tokens += count;
    model->stats.neurons += (uint64_t)count * model->shape.ffn * model->shape.layers;
    return 0;
}

/* A chunk of a prompt; logits: after its last token, or NULL. */
static int run_wide(flashinfer_session *session, const int32_t *tokens, uint32_t count,
                    float *logits, flashinfer_error *error)
{
    flashinfer_model *model = session->model;
    flin_row *rows = model->pass.wide_buffers.rows;
    outcome of;
    int code;

    for (uint32_t i = 0; i < count; i++)
        rows[i] =
            (flin_row){session, session->position + i, tokens[i], i + 1 == count ? logits : NULL};
    begin(model, rows, count, 1);
    code = run(&model->pass, &of, error);
    count_wide(&model->stats, &of);
    if (code != 0) return code;
    model->stats.prefill_tokens += count;
    session->position += count;
    session->has_logits = logits != NULL;
    return 0;
}

static int run_one(flashinfer_session *session, int32_t token, float *logits,
                   flashinfer_error *error)
{
    const flin_row row = {session, session->position, token, logits};

    return flin_run_narrow(session->model, &row, 1, error);
}

/* ------------------------------------------------------------------------------- steps, prompts */

static int check_tokens(const flashinfer_session *session, const int32_t *tokens, size_t count,
                        flashinfer_error *error)
{
    const uint32_t context = session->model->kv.context, vocab = session->model->shape.vocab;

    if (count > context - session->position)
        return flin_fail(error, FLASHINFER_ECONTEXT,
                         "%zu tokens do not fit: %u of the session's %u positions are "
                         "used; rewind it or open the model with a larger context_tokens",
                         count, session->position, context);
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= vocab)
            return flin_fail(error, FLASHINFER_ETOKEN,
                             "token %zu is %d; ids of this model are 0 to %u", i, tokens[i],
                             vocab - 1);
    }
    return 0;
}

int flin_step(flashinfer_session *session, uint64_t call, int32_t token, flashinfer_error *error)
{
    int code = check_tokens(session, &token, 1, error);

    session->call = call;
    return code != 0 ? code : run_one(session, token, session->logits, error);
}

/* Callbacks that are told about single tokens or judge the predictor want every token on its
   own. */
static int wants_steps(const flin_watch *watch)
{
    return watch->trace != NULL || watch->ffn_input != NULL || watch->audit_interval != 0;
}

/* How many of the `left` tokens of a prompt are run at once: as few chunks as there can be, of
   about the same size. */
static uint32_t chunk_of(uint32_t most, size_t left)
{
    size_t chunks = (left + most - 1) / most;

    return (uint32_t)((left + chunks - 1) / chunks);
}

int flin_eval(flashinfer_session *session, uint64_t call, const int32_t *tokens, size_t count,
              flashinfer_error *error)
{
    const flin_settings *settings = &session->model->settings;
    const uint32_t most = session->model->pass.wide_buffers.rows_max;
    const int misses = (int)flin_predictor_kind_of(settings->predictor)->misses;
    const int steps = wants_steps(&settings->watch) || count < flin_pass_least(misses);
    int code = check_tokens(session, tokens, count, error);
    uint32_t now = 0;

    session->call = call;
    if (code == 0 && count != 0) session->has_logits = 0;
    for (size_t i = 0; i < count && code == 0; i += now) {
        float *logits;
        now = steps ? 1 : chunk_of(most, count - i);
        logits = i + now == count ? session->logits : NULL;
        code = flin_progress(settings, "eval", i, count, error);
        if (code != 0) break;
        code = steps ? run_one(session, tokens[i], logits, error)
                     : run_wide(session, tokens + i, now, logits, error);
    }
    return code;
}
