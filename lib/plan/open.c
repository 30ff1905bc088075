/*
 * open.c - opening a model step by step (metadata, plan, memory, weights, threads), changing its
 * budget, closing it. Whatever fails, flin_model_close() releases exactly what was taken so far.
 */
#define _GNU_SOURCE
#include "plan/open.h"

#include <stdlib.h>

#include "engine/run.h"
#include "model/plain.h"
#include "model/stranger.h"
#include "model/verify.h"
#include "plan/arrange.h"
#include "plan/budget.h"
#include "plan/describe.h"
#include "plan/layout.h"
#include "plan/options.h"

/* A predictor file beside the model: its header. */
static int open_predictors(flashinfer_model *model, const flashinfer_options *options,
                           flashinfer_error *error)
{
    flin_storage_config config = {FLASHINFER_STORAGE_PREAD, 0, 1, 0,
                                  options->io_timeout_ms * UINT64_C(1000000)};
    uint64_t version = 0;
    int code;

    if (options->predictor_path == NULL) return 0;
    code =
        flin_storage_open_path(&model->predictor_storage, options->predictor_path, &config, error);
    if (code != 0) {
        config.kind = FLASHINFER_STORAGE_BUFFERED;
        code = flin_storage_open_path(&model->predictor_storage, options->predictor_path, &config,
                                      error);
    }
    if (code != 0) return code;
    code = flin_gguf_open(&model->predictor_gguf, &model->predictor_storage,
                          options->verify != FLASHINFER_VERIFY_NONE, error);
    if (code == 0)
        code = flin_gguf_u64_or(&model->predictor_gguf, "flashinfer.predictor.version", 0, &version,
                                error);
    if (code == 0 && version != FLIN_PREDICTOR_VERSION)
        code = flin_fail(error, version == 0 ? FLASHINFER_EFORMAT : FLASHINFER_EUNSUPPORTED,
                         "%s is no predictor file of version %u (flashinfer.predictor.version); "
                         "make one from this model",
                         options->predictor_path, FLIN_PREDICTOR_VERSION);
    return flin_stranger_explain(&model->predictor_storage, options->predictor_path,
                                 FLIN_WANTED_PREDICTOR, code, error);
}

/* A predictor knows another model's neurons by the same numbers: using it would be wrong without
   a sign. */
static int check_identity(const flashinfer_model *model, flashinfer_error *error)
{
    uint64_t made_for;
    int code;

    if (model->predictor_gguf.header == NULL) return 0;
    code = flin_gguf_u64(&model->predictor_gguf, "flashinfer.predictor.model", &made_for, error);
    if (code != 0 || made_for == flin_weights_identity(&model->weights, &model->shape)) return code;
    return flin_fail(error, FLASHINFER_EFORMAT,
                     "the predictor file was made for another model; make one from this model");
}

static void close_predictors(flashinfer_model *model)
{
    flin_gguf_close(&model->predictor_gguf);
    flin_storage_close(&model->predictor_storage);
}

/* A file without tensors: its vocabulary can be used, and nothing else. */
static int open_vocabulary(flashinfer_model *model, const flashinfer_options *options,
                           flashinfer_error *error)
{
    uint64_t count = flin_gguf_find(&model->gguf, FLIN_TOKENS_KEY)->count;

    if ((options->flags & FLASHINFER_OPEN_METADATA) == 0)
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "the file has a vocabulary and no tensors: it can only tokenise, opened "
                         "with FLASHINFER_OPEN_METADATA");
    model->settings.flags = options->flags;
    model->settings.verify = options->verify;
    model->shape.architecture = "";
    model->shape.vocab = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
    return flin_describe(model, error);
}

/* Header, shape, configuration. */
static int open_metadata(flashinfer_model *model, const flashinfer_options *options,
                         flashinfer_error *error)
{
    int verify = options->verify != FLASHINFER_VERIFY_NONE;
    flin_activation_rule wanted;
    int code = flin_gguf_open(&model->gguf, &model->storage, verify, error);

    if (code != 0) return code;
    if (FLIN_PLAIN && model->gguf.tensor_count == 0) return open_vocabulary(model, options, error);
    if (options->ffn_activation != 0) {
        code =
            flin_plain_activation(options->ffn_activation, options->ffn_threshold, &wanted, error);
        if (code != 0) return code;
    }
    code = flin_shape_read(&model->gguf, options->ffn_activation != 0 ? &wanted : NULL,
                           &model->shape, error);
    if (code != 0) return code;
    if ((code = open_predictors(model, options, error)) != 0) return code;
    code = flin_settings_resolve(&model->settings, options, flin_predictor_file(model),
                                 &model->shape, model->storage.caps.length_bytes, error);
    if (code != 0) return code;
    return flin_describe(model, error);
}

static int weights_progress(uint64_t done_bytes, uint64_t total_bytes, void *user)
{
    const flashinfer_model *model = user;

    (void)total_bytes; /* shares of matrices come after it */
    return flin_progress(&model->settings, "open", done_bytes,
                         flin_budget_open_bytes(&model->weights, &model->residency, &model->share),
                         NULL);
}

/* The fixed arena and what goes into it from the file. */
static int open_fixed(flashinfer_model *model, flashinfer_error *error)
{
    flin_sections sections;
    uint64_t bytes = 0;
    int code = flin_layout_tables(model, error);

    if (code == 0) code = flin_budget_measure(model, error);
    if (code != 0) return code;
    flin_budget_divide(model, model->settings.budget_bytes, &model->plan, &model->share);
    if (model->plan.budget_bytes < model->plan.minimum_bytes)
        return flin_budget_refuse(&model->plan, error);
    bytes = model->sections.resident + model->sections.predictor + model->sections.cache +
            model->sections.kv + model->sections.scratch + model->sections.io +
            model->sections.tokenizer;
    code = flin_arena_open(&model->fixed, bytes, "weights and buffers", error);
    if (code != 0) return code;
    if ((code = flin_layout(model, &model->fixed, &sections, error)) != 0) return code;
    code = flin_weights_load(&model->weights, &model->storage, &model->predictor_storage,
                             model->settings.verify != FLASHINFER_VERIFY_NONE, error,
                             weights_progress, model);
    return code != 0 ? code : check_identity(model, error);
}

static int check_layers(const flashinfer_model *model, flashinfer_error *error)
{
    int code = 0;

    for (uint32_t i = 0;
         i < model->shape.layers && code == 0 && !flin_shape_is_plain(&model->shape); i++) {
        const flin_layer *layer = &model->weights.layers[i];
        const flin_predictor_kind *kind = flin_predictor_kind_of(layer->predictor.kind);
        /* the list is free while nothing runs */
        code = flin_bundles_check(&layer->ffn.bundles, i, model->shape.ffn, model->pass.lists.ids,
                                  error);
        if (code == 0 && kind->check != NULL)
            code = kind->check(&layer->predictor, model->compute.kernels, (int)i, error);
    }
    return code;
}

/* What FLASHINFER_OPEN_METADATA holds: the tokenizer and a buffer to verify with. */
static int open_listing(flashinfer_model *model, flashinfer_error *error)
{
    flin_arena measure;
    int code;

    flin_arena_measure(&measure);
    code = flin_layout_listing(model, &measure, error);
    if (code == 0) code = flin_arena_open(&model->fixed, measure.used, "the tokenizer", error);
    return code != 0 ? code : flin_layout_listing(model, &model->fixed, error);
}

int flin_model_open(flashinfer_model *model, const flashinfer_options *options,
                    flashinfer_error *error)
{
    int code = open_metadata(model, options, error);

    if (code != 0) return code;
    if ((model->settings.flags & FLASHINFER_OPEN_METADATA) != 0) {
        code = open_listing(model, error);
    } else {
        code = open_fixed(model, error);
        if (code == 0) code = check_layers(model, error);
        close_predictors(model);
        if (code == 0) code = flin_pool_open(&model->compute.pool, model->settings.threads, error);
        if (code == 0 && !flin_shape_is_plain(&model->shape))
            flin_arrange(&model->compute, &model->weights, model->shape.layers);
        if (code == 0) code = flin_budget_apply(model, &model->share, error);
        if (code == 0) flin_describe_plan(model);
        model->opened = code == 0;
    }
    if (code == 0 && model->settings.verify == FLASHINFER_VERIFY_OPEN)
        code = flin_model_verify(model, error);
    return code;
}

/* One that tells a callback that calls back from another thread. */
static int open_mutex(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t kind;
    int code = pthread_mutexattr_init(&kind);

    if (code != 0) return code;
    (void)pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK);
    code = pthread_mutex_init(mutex, &kind);
    (void)pthread_mutexattr_destroy(&kind);
    return code;
}

int flin_model_create(const flashinfer_options *options, flashinfer_model **created,
                      flashinfer_error *error)
{
    flashinfer_model *model = calloc(1, sizeof *model);
    int code = 0;

    if (model == NULL || open_mutex(&model->mutex) != 0)
        code = flin_fail(error, FLASHINFER_ENOMEM, "cannot allocate a model handle");
    else if ((code = flin_home_open(&model->home, error)) != 0)
        pthread_mutex_destroy(&model->mutex);
    if (code != 0) {
        free(model);
        return code;
    }
    flin_settings_begin(&model->settings, options);
    *created = model;
    return 0;
}

int flin_model_plan_only(flashinfer_model *model, const flashinfer_options *options,
                         flashinfer_plan *plan, flashinfer_error *error)
{
    int code = open_metadata(model, options, error);

    if (FLIN_PLAIN && code == 0 && model->gguf.tensor_count == 0)
        code = flin_fail(error, FLASHINFER_EFORMAT, "the file has no tensors");
    if (code == 0) code = flin_layout_tables(model, error);
    if (code == 0) code = flin_budget_measure(model, error);
    if (code == 0) flin_budget_divide(model, model->settings.budget_bytes, plan, NULL);
    return code;
}

void flin_model_close(flashinfer_model *model)
{
    const int left = flin_home_left(&model->home);

    if (left)
        flin_pool_forget(&model->compute.pool);
    else
        flin_pool_close(&model->compute.pool);
    close_predictors(model);
    /* before memory that reads may still land in */
    if (left)
        flin_storage_forget(&model->storage);
    else
        flin_storage_close(&model->storage);
    flin_cache_close(&model->cache);
    flin_residency_close(&model->residency);
    for (uint32_t i = 0; model->weights.layers != NULL && i < model->shape.layers; i++)
        flin_arena_close(&model->weights.layers[i].predictor.kept.memory);
    flin_arena_close(&model->fixed);
    flin_arena_close(&model->tables);
    flin_gguf_close(&model->gguf);
    if (!left) pthread_mutex_destroy(&model->mutex); /* else someone who is not here may hold it */
    flin_home_close(&model->home);
    free(model);
}

int flin_model_set_budget(flashinfer_model *model, uint64_t budget_bytes, flashinfer_error *error)
{
    flashinfer_plan plan;
    flin_share share;
    int code;

    if ((model->settings.flags & FLASHINFER_OPEN_METADATA) != 0)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "the model was opened for its metadata only: it has no budget");
    flin_budget_divide(model, budget_bytes, &plan, &share);
    if (plan.budget_bytes < plan.minimum_bytes) return flin_budget_refuse(&plan, error);
    /* slots may move: no read that timed out may still land in them */
    if ((code = flin_storage_check_lost(&model->storage, error)) != 0) return code;
    code = flin_budget_apply(model, &share, error);
    if (code != 0) {
        (void)flin_budget_apply(model, &model->share, NULL);
        return code;
    }
    model->settings.budget_bytes = budget_bytes;
    model->plan = plan;
    model->share = share;
    return 0;
}

int flin_model_part(flashinfer_model *model, uint32_t layer, uint32_t role, uint32_t first,
                    uint32_t count, float *to, flashinfer_error *error)
{
    if (flin_shape_is_plain(&model->shape))
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "the model file is not in flash layout: its neurons cannot be read one by "
                         "one; pack the model first, with flashinfer_pack()");
    return flin_fetch_part(&model->fetcher, model->compute.kernels, &model->whole[layer],
                           flin_bundle_part(&model->shape.bundle, role), first, count,
                           model->shape.width, model->verify, model->verify_bytes, to, error);
}

static int tell_verified(uint64_t done_bytes, uint64_t total_bytes, void *user,
                         flashinfer_error *error)
{
    return flin_progress(user, "verify", done_bytes, total_bytes, error);
}

int flin_model_verify(flashinfer_model *model, flashinfer_error *error)
{
    const flin_verification in = {.storage = &model->storage,
                                  .gguf = &model->gguf,
                                  .shape = &model->shape,
                                  .buffer = model->verify,
                                  .buffer_bytes = model->verify_bytes,
                                  .progress = tell_verified,
                                  .user = &model->settings};

    if (flin_shape_is_plain(&model->shape))
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "the model file is not in flash layout and has no checksums: there is "
                         "nothing to compare it with");
    return flin_verify_file(&in, error);
}
