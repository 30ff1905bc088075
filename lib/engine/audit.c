/*
 * audit.c - see audit.h.
 */
#include "engine/audit.h"

#include <math.h>
#include <string.h>

#include "engine/dense.h"

/* Of the neurons that fire: how many were named and how many not, and what they add. */
typedef struct audit_sums {
    flin_pass *pass;
    flin_asking_rows rows; /* the one audited */
    const uint64_t *mask;
    uint32_t found_count, missed_count;
    float *found;  /* (width) */
    float *missed; /* (width) */
} audit_sums;

/* Audited tokens take the layers in turn. */
static int is_due(const flin_watch *watch, uint64_t step, uint32_t layers, uint32_t layer)
{
    uint32_t first;

    if (step % watch->audit_interval != 0) return 0;
    first = (uint32_t)(step / watch->audit_interval * watch->audit_layers % layers);
    return (layer + layers - first) % layers < watch->audit_layers;
}

/* y += what those of the chunk's neurons add that fire and are, or are not, named. */
static uint32_t add(const audit_sums *sums, const flin_chunk *chunk, flin_neurons neurons,
                    int named, float *y)
{
    const flin_sum_lists lists = {sums->pass->lists.firing_rows, sums->pass->lists.firing};
    uint8_t *fires = neurons.fires + neurons.step; /* beside what fires at all */

    for (uint32_t i = 0; i < chunk->count; i++)
        fires[i] = neurons.fires[i] && flin_mask_has(sums->mask, chunk->ids[i]) == named;
    neurons.fires = fires;
    return flin_neurons_sum(sums->pass->compute, &neurons, 1, chunk->count, &lists, y);
}

static int take_chunk(const flin_chunk *chunk, void *context, flashinfer_error *error)
{
    audit_sums *sums = context;
    const flin_neurons neurons = flin_dense_neurons(sums->pass, chunk);
    int code;

    if (flin_pass_cancelled(sums->pass)) return FLASHINFER_ECANCELED;
    code = flin_dense_activate(sums->pass, chunk, &neurons, &sums->rows, error);
    if (code != 0) return code;
    sums->missed_count += add(sums, chunk, neurons, 0, sums->missed);
    sums->found_count += add(sums, chunk, neurons, 1, sums->found);
    return 0;
}

/* |x + y|; y may be NULL */
static double norm_of(const float *x, const float *y, uint32_t count)
{
    double sum = 0;

    for (uint32_t i = 0; i < count; i++) {
        double value = (double)x[i] + (y != NULL ? (double)y[i] : 0);
        sum += value * value;
    }
    return sqrt(sum);
}

static uint32_t count_bits(const uint64_t *mask, uint32_t words)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < words; i++) count += (uint32_t)__builtin_popcountll(mask[i]);
    return count;
}

static void report(const audit_sums *sums, uint32_t layer, uint64_t step, uint32_t words)
{
    const flin_pass *pass = sums->pass;
    const flin_shape *shape = pass->shape;
    flashinfer_audit audit = {.size = sizeof audit,
                              .layer = layer,
                              .layer_count = shape->layers,
                              .ffn_length = shape->ffn,
                              .step = step,
                              .predicted = count_bits(sums->mask, words),
                              .active = sums->found_count + sums->missed_count,
                              .missed = sums->missed_count,
                              .output_norm = norm_of(sums->found, sums->missed, shape->width),
                              .missed_norm = norm_of(sums->missed, NULL, shape->width)};

    if (pass->watch->audit != NULL) pass->watch->audit(&audit, pass->watch->audit_user);
}

static int audit_row(flin_pass *pass, uint32_t layer, uint32_t row, const flin_asking_rows *rows,
                     const flin_names *names, flashinfer_error *error)
{
    audit_sums sums = {.pass = pass,
                       .rows = {.count = 1, .x = {rows->x[row]}},
                       .mask = names->masks + (uint64_t)row * names->words,
                       .found = pass->lists.audit[0],
                       .missed = pass->lists.audit[1]};
    int code;

    memset(sums.found, 0, pass->shape->width * sizeof *sums.found);
    memset(sums.missed, 0, pass->shape->width * sizeof *sums.missed);
    code = flin_stream_run(pass->stream, pass->fetcher, &pass->whole[layer], 0, pass->shape->ffn,
                           take_chunk, &sums, error);
    if (code != 0) return code;
    pass->tally.audited_active += sums.found_count + sums.missed_count;
    pass->tally.audited_missed += sums.missed_count;
    report(&sums, layer, pass->step + row + 1, names->words);
    return 0;
}

int flin_audit(flin_pass *pass, uint32_t layer, const flin_asking_rows *rows,
               const flin_names *names, flashinfer_error *error)
{
    const flin_watch *watch = pass->watch;
    const uint32_t kind = pass->weights->layers[layer].predictor.kind;
    flin_batch_counts before, after;
    int code = 0;

    if (watch->audit_interval == 0 || !flin_predictor_kind_of(kind)->misses) return 0;
    before = flin_batch_read_counts(pass->fetcher->batch);
    for (uint32_t row = 0; row < pass->count && code == 0; row++)
        if (is_due(watch, pass->step + row + 1, pass->shape->layers, layer))
            code = audit_row(pass, layer, row, rows, names, error);
    after = flin_batch_read_counts(pass->fetcher->batch);
    pass->tally.audit_bytes += after.bytes - before.bytes;
    pass->tally.audit_reads += after.reads - before.reads;
    return code;
}
