/*
 * ablation_measure.c - naive and hybrid are given the best there can be: the whole file is read in order at full rate, a
 * dense token is computed, and the longer of the two counts. The library is run with everything on and its questions to
 * the cache are recorded; what the rows between would have read is then read back from the file with nothing beside it.
 *
 * As in the paper, rows without overlap add up: I/O, memory management, compute.
 */
#include "ablation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache.h"
#include "replay_io.h"
#include "storage/batch.h"
#include "util/clock.h"
#include "zipf.h"

#define SEQUENTIAL_READ_BYTES (1u << 20)
#define SEQUENTIAL_READS 64u
#define READ_BACK_TOKENS 12u

static double per_token_ms(uint64_t ns, uint64_t tokens)
{
    return tokens != 0 ? (double)ns / 1e6 / (double)tokens : 0;
}

/* ------------------------------------------------------------------------------------ running the model */

int ablation_run_open(ablation_run *run, const char *path, const flashinfer_options *options,
                      flashinfer_error *error)
{
    int code;

    memset(run, 0, sizeof *run);
    run->plan.size = sizeof run->plan;
    run->stats.size = sizeof run->stats;
    code = flashinfer_model_open(path, options, &run->model, error);
    return code != 0 ? code : flashinfer_session_create(run->model, &run->session, error);
}

int ablation_run_step(ablation_run *run, const ablation *of, uint32_t skip, uint32_t index,
                      flashinfer_error *error)
{
    uint64_t started_ns = flin_now_ns();
    int code;

    if (index == skip) (void)flashinfer_model_reset_stats(run->model);
    code = flashinfer_step(run->session, of->token_ids[index], error);
    if (index >= skip) run->seconds += (double)(flin_now_ns() - started_ns) / 1e9;
    return code;
}

int ablation_run_close(ablation_run *run, int code)
{
    if (code == 0) code = flashinfer_model_plan(run->model, &run->plan);
    if (code == 0) code = flashinfer_model_stats(run->model, &run->stats);
    flashinfer_session_destroy(run->session);
    (void)flashinfer_model_close(run->model);
    run->session = NULL;
    run->model = NULL;
    return code;
}

int ablation_run_model(const ablation *of, const char *path, const flashinfer_options *options,
                       uint32_t skip, uint32_t tokens, ablation_run *run, flashinfer_error *error)
{
    int code = ablation_run_open(run, path, options, error);

    for (uint32_t t = 0; t < skip + tokens && code == 0; t++)
        code = ablation_run_step(run, of, skip, t, error);
    return ablation_run_close(run, code);
}

/* ------------------------------------------------------------------------------------------- recording */

typedef struct recorder {
    recorded_trace *trace;
    int failed;
} recorder;

static void record(const flashinfer_trace *asked, void *user)
{
    recorder *at = user;
    recorded_trace *trace = at->trace;
    uint32_t *ids;

    trace->layers = asked->layer_count;
    trace->neurons = asked->ffn_length;
    trace->stride_bytes = asked->bundle_stride_bytes;
    if (trace->bundle_offset == NULL)
        trace->bundle_offset = calloc(trace->layers, sizeof *trace->bundle_offset);
    ids = recorded_trace_append(trace, asked->count);
    if (trace->bundle_offset == NULL || ids == NULL) {
        at->failed = 1;
        return;
    }
    trace->bundle_offset[asked->layer] = asked->bundle_offset;
    memcpy(ids, asked->ids, asked->count * sizeof *ids);
}

static int no_memory(flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_ENOMEM, "no memory for the measurement's own tables");
}

static int run_ours(ablation *of, flashinfer_error *error)
{
    recorder recording = {.trace = &of->trace};
    flashinfer_options options = of->options;
    ablation_run run;
    int code;

    options.trace = record;
    options.trace_user = &recording;
    code = ablation_run_model(of, of->path, &options, of->skip, of->tokens, &run, error);
    if (code == 0 && recording.failed) code = no_memory(error);
    if (code != 0) return code;
    of->plan = run.plan;
    of->stats = run.stats;
    return 0;
}

/* -------------------------------------------------------------------------------------------- the device */

/* The whole file in order, many large reads in flight. */
static int read_sequentially(ablation *of, flashinfer_error *error)
{
    const flin_storage_config config = {FLASHINFER_STORAGE_DEFAULT, SEQUENTIAL_READS, 4, 0,
                                        60000000000u};
    flin_batch_limits limits = {SEQUENTIAL_READS, SEQUENTIAL_READ_BYTES, 0, 0};
    flin_fetch fetches[SEQUENTIAL_READS];
    uint32_t landed_list[SEQUENTIAL_READS], landed = 0;
    flin_storage storage;
    flin_arena arena, measure;
    flin_batch *batch;
    uint64_t started_ns, offset = 0, end;
    uint8_t *buffer;
    int code = flin_storage_open_path(&storage, of->path, &config, error);

    if (code != 0) return code;
    flin_arena_measure(&measure);
    (void)flin_batch_layout(&measure, &storage, &limits);
    code = flin_arena_open(&arena, measure.used + 4096 + SEQUENTIAL_READS * SEQUENTIAL_READ_BYTES,
                           "a buffer", error);
    if (code != 0) {
        flin_storage_close(&storage);
        return code;
    }
    batch = flin_batch_layout(&arena, &storage, &limits);
    buffer = flin_arena_take(&arena, SEQUENTIAL_READS * SEQUENTIAL_READ_BYTES, FLIN_PAGE_BYTES);
    memset(buffer, 1, SEQUENTIAL_READS * SEQUENTIAL_READ_BYTES);
    end = storage.caps.length_bytes / SEQUENTIAL_READ_BYTES * SEQUENTIAL_READ_BYTES;
    started_ns = flin_now_ns();
    while (offset < end && code == 0) {
        uint32_t count = 0;
        for (; count < SEQUENTIAL_READS && offset < end; count++, offset += SEQUENTIAL_READ_BYTES)
            fetches[count] = (flin_fetch){offset, buffer + (size_t)count * SEQUENTIAL_READ_BYTES,
                                          SEQUENTIAL_READ_BYTES, 0};
        code = flin_batch_begin(batch, fetches, count, error);
        for (uint32_t left = count; left != 0 && code == 0; left -= landed)
            code =
                flin_batch_collect(batch, 1, landed_list, SEQUENTIAL_READS, &landed, NULL, error);
    }
    of->sequential_bytes_per_s = (double)end * 1e9 / (double)(flin_now_ns() - started_ns);
    flin_storage_close(&storage);
    flin_arena_close(&arena);
    return code;
}

static uint64_t best_rate(const flashinfer_probe_result *probe, uint32_t size)
{
    uint64_t best = 0;

    for (uint32_t depth = 0; depth < FLASHINFER_PROBE_DEPTHS; depth++)
        if (probe->read_bytes_per_s[size][depth] > best)
            best = probe->read_bytes_per_s[size][depth];
    return best;
}

double ablation_device_rate(const flashinfer_probe_result *probe, double read_bytes)
{
    uint32_t size = 0;
    double low, high, share;

    while (size + 2 < FLASHINFER_PROBE_SIZES && read_bytes > probe->read_bytes[size + 1]) size++;
    low = (double)best_rate(probe, size);
    high = (double)best_rate(probe, size + 1);
    share = (log(read_bytes) - log(probe->read_bytes[size])) /
            (log(probe->read_bytes[size + 1]) - log(probe->read_bytes[size]));
    if (share < 0) return low * read_bytes / probe->read_bytes[size]; /* as many reads a second */
    return low + (high - low) * (share < 1 ? share : 1);
}

static void mix(uint64_t *first, uint64_t second)
{
    *first = (*first + second) / 2;
}

/* The device's rates change within minutes: the mean of before and after. */
static int probe_again(ablation *of, int first, flashinfer_error *error)
{
    flashinfer_probe_result now = {.size = sizeof now};
    flashinfer_probe_options options;
    int code;

    flashinfer_probe_options_init(&options, sizeof options);
    options.threads = of->options.threads;
    code = flashinfer_probe(of->path, &options, &now, error);

    if (code != 0 || first) {
        of->probe = now;
        return code;
    }
    for (uint32_t size = 0; size < FLASHINFER_PROBE_SIZES; size++)
        for (uint32_t depth = 0; depth < FLASHINFER_PROBE_DEPTHS; depth++)
            mix(&of->probe.read_bytes_per_s[size][depth], now.read_bytes_per_s[size][depth]);
    mix(&of->probe.dram_bytes_per_s, now.dram_bytes_per_s);
    return 0;
}

/* ----------------------------------------------------------------------------------------------- rows */

static double kv_bytes(const ablation *of)
{
    double positions = of->skip + of->tokens / 2.0;

    return 2.0 * of->info.layer_count * positions * of->info.embedding_length *
           (of->options.kv_type == FLASHINFER_KV_F16 ? 2 : 4);
}

/* What a token with predicted neurons must touch: resident weights, the predictor, KV, up rows of those predicted and
   down columns of those that fire. */
static double touched(const ablation *of)
{
    const flashinfer_stats *stats = &of->stats;
    double tokens = (double)stats->tokens, half = of->info.bundle_bytes / 2.0;

    return (double)of->plan.resident_bytes + (double)of->plan.predictor_bytes + kv_bytes(of) +
           half * (double)(stats->predicted + stats->active) / tokens;
}

static void finish_row(const ablation *of, ablation_row *row, double device_bytes_per_s)
{
    double flash_ms = 1e3 * row->bytes / device_bytes_per_s;
    double memory_ms = 1e3 * row->touched_bytes / (double)of->probe.dram_bytes_per_s;

    row->limit_ms = flash_ms > memory_ms ? flash_ms : memory_ms;
}

/* The best that streaming can do: reading at the device's full rate all the time, computing beside it. */
static void overlap(ablation_row *row)
{
    row->total_ms = row->io_ms > row->compute_ms ? row->io_ms : row->compute_ms;
    row->stall_ms = row->total_ms - row->compute_ms;
}

static int measure_dense(ablation *of, flashinfer_error *error)
{
    flashinfer_options options = of->options;
    ablation_row *hybrid = &of->rows[ABLATION_HYBRID], *naive = &of->rows[ABLATION_NAIVE];
    double rate = of->sequential_bytes_per_s, resident, device;
    ablation_run run;
    int code;

    options.predictor = FLASHINFER_PREDICTOR_ALL;
    options.memory_budget = 0;
    code = ablation_run_model(of, of->path, &options, 1, of->dense_tokens, &run, error);
    if (code != 0) return code;
    resident = (double)run.plan.resident_bytes;
    of->weight_bytes = run.plan.resident_bytes + of->info.ffn_bytes;
    device = ablation_device_rate(&of->probe, SEQUENTIAL_READ_BYTES);
    if (rate > device) device = rate;
    of->dense_stall_ms = per_token_ms(run.stats.io_wait_ns, run.stats.tokens);
    of->dense_total_ms = 1e3 * run.seconds / (double)run.stats.tokens;
    *hybrid = (ablation_row){
        .name = "hybrid",
        .dram_bytes = run.plan.planned_bytes,
        .bytes = (double)of->info.ffn_bytes,
        .read_bytes = SEQUENTIAL_READ_BYTES,
        .io_ms = 1e3 * (double)of->info.ffn_bytes / rate,
        .compute_ms = of->dense_total_ms - of->dense_stall_ms,
        .touched_bytes = (double)of->weight_bytes + kv_bytes(of),
    };
    *naive = *hybrid;
    naive->name = "naive";
    naive->dram_bytes -= run.plan.resident_bytes;
    naive->bytes += resident;
    naive->io_ms += 1e3 * resident / rate;
    overlap(hybrid);
    overlap(naive);
    finish_row(of, hybrid, device);
    finish_row(of, naive, device);
    return 0;
}

/* A row whose reads are replayed. policy as replay_run(); slots 0: nothing is kept */
static int replay_row(ablation *of, int at, const char *name, uint32_t policy, uint32_t slots,
                      int how, flashinfer_error *error)
{
    ablation_row *row = &of->rows[at];
    replay_misses misses;
    replay_io io;
    int code;

    if (replay_run(&of->trace, policy, slots, of->skip, &misses) != 0) return no_memory(error);
    of->window = misses.window;
    code = replay_read(&of->trace, of->path, &misses, of->skip, READ_BACK_TOKENS, how, &io, error);
    *row = (ablation_row){.name = name, .touched_bytes = touched(of)};
    row->dram_bytes = of->plan.planned_bytes - (uint64_t)of->plan.slots * of->plan.slot_bytes +
                      (uint64_t)slots * of->plan.slot_bytes;
    row->memory_ms = slots != 0 ? 1e3 * misses.seconds / of->trace.tokens : 0;
    replay_release(&misses);
    if (code != 0 || io.reads == 0) return code;
    row->bytes = (double)io.bytes / (double)io.tokens;
    row->read_bytes = (double)io.bytes / (double)io.reads;
    row->io_ms = row->stall_ms = 1e3 * io.seconds / (double)io.tokens;
    row->compute_ms = per_token_ms(of->stats.compute_ns + of->stats.predict_ns, of->stats.tokens);
    row->total_ms = row->io_ms + row->memory_ms + row->compute_ms;
    finish_row(of, row, ablation_device_rate(&of->probe, row->read_bytes));
    return 0;
}

/* The paper's window where it fits, else neurons stay as long as the slots last. */
static uint32_t window_policy(const ablation *of)
{
    replay_misses misses;
    uint32_t policy = FLASHINFER_CACHE_WINDOW;

    if (replay_run(&of->trace, REPLAY_PAPER_WINDOW, of->plan.slots, of->skip, &misses) != 0)
        return policy;
    if (misses.window != UINT32_MAX) policy = REPLAY_PAPER_WINDOW;
    replay_release(&misses);
    return policy;
}

static int ours_row(ablation *of, flashinfer_error *error)
{
    const flashinfer_stats *stats = &of->stats;
    ablation_row *row = &of->rows[ABLATION_OURS];
    double tokens = (double)stats->tokens;
    int code = replay_row(of, ABLATION_OURS, "ours", of->plan.cache_policy, of->plan.slots,
                          REPLAY_BUNDLED, error); /* for io_ms */

    if (code != 0) return code;
    row->bytes = (double)stats->flash_bytes / tokens;
    row->read_bytes = (double)stats->flash_bytes / (double)stats->flash_reads;
    row->memory_ms = per_token_ms(stats->memory_ns, stats->tokens);
    row->stall_ms = per_token_ms(stats->io_wait_ns, stats->tokens);
    row->submit_ms = per_token_ms(stats->io_submit_ns, stats->tokens);
    row->total_ms = per_token_ms(stats->total_ns, stats->tokens);
    finish_row(of, row, ablation_device_rate(&of->probe, row->read_bytes));
    return 0;
}

/* The text's first tokens. */
static int read_text(ablation *of, const flashinfer_model *model, uint32_t count,
                     flashinfer_error *error)
{
    size_t bytes = 0, found = 0;
    char *text = program_read_file(of->text_path, &bytes);
    int32_t *ids = text != NULL ? malloc((bytes + 2) * sizeof *ids) : NULL;
    int code = 0;

    if (text == NULL)
        code = flin_fail(error, FLASHINFER_EIO, "cannot read %s", of->text_path);
    else if (ids == NULL)
        code = no_memory(error);
    else
        code = flashinfer_tokenize(model, text, bytes, 0, ids, bytes + 2, &found, error);
    if (code == 0 && found < count)
        code = flin_fail(error, FLASHINFER_EINVAL, "%s has %zu tokens, %u are needed",
                         of->text_path, found, count);
    if (code == 0) memcpy(of->token_ids, ids, count * sizeof *ids);
    free(ids);
    free(text);
    return code;
}

static int make_tokens(ablation *of, const flashinfer_model *model, flashinfer_error *error)
{
    uint32_t count = of->skip + of->tokens;

    if (count > of->info.context_tokens)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "the model has %u positions: ask for fewer tokens",
                         of->info.context_tokens);
    of->token_ids = malloc((count + 1u) * sizeof *of->token_ids);
    if (of->token_ids == NULL) return no_memory(error);
    if (of->text_path != NULL) return read_text(of, model, count, error);
    return bench_zipf_tokens(of->info.vocab_count, 1, of->token_ids, count) == 0 ? 0
                                                                                 : no_memory(error);
}

int ablation_describe(ablation *of, flashinfer_error *error)
{
    flashinfer_options options;
    flashinfer_model *model = NULL;
    int code;

    flashinfer_options_init(&options, sizeof options);
    options.flags = FLASHINFER_OPEN_METADATA | FLASHINFER_OPEN_NO_TOKENIZER;
    of->info.size = sizeof of->info;
    code = flashinfer_model_open(of->path, &options, &model, error);
    if (code == 0) code = flashinfer_model_info(model, &of->info);
    if (code == 0) code = make_tokens(of, model, error);
    of->info.name = of->info.architecture = of->info.predictors = ""; /* the model's own */
    (void)flashinfer_model_close(model);
    if (code != 0) return code;
    of->options.context_tokens = of->skip + of->tokens;
    of->options.memory_budget = of->budget_bytes;
    of->options.predictor = FLASHINFER_PREDICTOR_SKETCH;
    return 0;
}

int ablation_measure(ablation *of, flashinfer_error *error)
{
    uint32_t policy;
    int code = ablation_describe(of, error);

    if (code == 0 && of->info.ordered)
        code =
            flin_fail(error, FLASHINFER_EINVAL,
                      "%s was packed with an order, reads are replayed neuron by neuron: compare "
                      "orders with --sweep file",
                      of->path);
    if (code == 0) code = probe_again(of, 1, error);
    if (code == 0) code = run_ours(of, error);
    if (code == 0) code = read_sequentially(of, error);
    if (code == 0) code = measure_dense(of, error);
    if (code == 0) code = probe_again(of, 0, error);
    if (code == 0) code = ours_row(of, error);
    if (code == 0)
        code = replay_row(of, ABLATION_PREDICTOR, "+predictor", FLASHINFER_CACHE_WINDOW, 0,
                          REPLAY_APART, error);
    if (code != 0) return code;
    policy = window_policy(of);
    code =
        replay_row(of, ABLATION_WINDOW, "+windowing", policy, of->plan.slots, REPLAY_APART, error);
    if (code == 0)
        code = replay_row(of, ABLATION_BUNDLE, "+bundling", policy, of->plan.slots, REPLAY_BUNDLED,
                          error);
    if (policy != REPLAY_PAPER_WINDOW) of->window = UINT32_MAX;
    return code;
}

void ablation_release(ablation *of)
{
    recorded_trace_close(&of->trace);
    free(of->token_ids);
    of->token_ids = NULL;
}
