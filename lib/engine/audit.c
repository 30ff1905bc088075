/*
 * audit.c - what a predictor misses while the model runs: at every nth token some layers are
 * computed densely beside the predicted way, which changes no result.
 *
 * Owns: whose turn it is, the counts. Refuses: acting on what it finds.
 */
#include <math.h>
#include <string.h>

#include "engine/model.h"

/* Audited tokens take the layers in turn. */
static int is_due(const flashinfer_model *model, uint32_t layer)
{
    const flin_config *config = &model->config;
    uint32_t layers = model->shape.layers, first;

    if (config->audit_interval == 0 || !flin_uses_names(config)) return 0;
    if (model->token_count % config->audit_interval != 0) return 0;
    first = (uint32_t)(model->token_count / config->audit_interval * config->audit_layers % layers);
    return (layer + layers - first) % layers < config->audit_layers;
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

static void report(const flashinfer_model *model, uint32_t layer, uint32_t predicted,
                   const flin_audit_sums *sums)
{
    const flin_shape *shape = &model->shape;
    flashinfer_audit audit = {.size = sizeof audit,
                              .layer = layer,
                              .layer_count = shape->layers,
                              .ffn_length = shape->ffn,
                              .step = model->token_count,
                              .predicted = predicted,
                              .active = sums->found_count + sums->missed_count,
                              .missed = sums->missed_count,
                              .output_norm = norm_of(sums->found, sums->missed, shape->width),
                              .missed_norm = norm_of(sums->missed, NULL, shape->width)};

    model->config.audit(&audit, model->config.audit_user);
}

int flin_audit(flashinfer_session *session, uint32_t layer, const void *x, uint32_t predicted,
               flashinfer_error *error)
{
    flashinfer_model *model = session->model;
    flin_audit_sums sums = {0, 0, model->scratch.audit[0], model->scratch.audit[1]};
    uint64_t before;
    int code;

    if (!is_due(model, layer)) return 0;
    before = flin_batch_read_counts(model->batch).bytes;
    memset(sums.found, 0, model->shape.width * sizeof *sums.found);
    memset(sums.missed, 0, model->shape.width * sizeof *sums.missed);
    code = flin_stream_audit(session, layer, x, &sums, error);
    model->stats.audit_bytes += flin_batch_read_counts(model->batch).bytes - before;
    if (code != 0) return code;
    model->stats.audited_active += sums.found_count + sums.missed_count;
    model->stats.audited_missed += sums.missed_count;
    if (model->config.audit != NULL) report(model, layer, predicted, &sums);
    return 0;
}
