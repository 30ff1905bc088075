/*
 * model.c - opening a model step by step (metadata, plan, memory, weights, threads), changing its
 * budget, closing it. Whatever fails, flin_model_close() releases exactly what was taken so far.
 */
#define _GNU_SOURCE
#include "engine/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int flin_model_progress(flashinfer_model *model, const char *stage, uint64_t done, uint64_t total,
                        flashinfer_error *error)
{
    flashinfer_progress progress = {sizeof progress, 0, stage, done, total};

    if (model->config.progress == NULL ||
        model->config.progress(&progress, model->config.progress_user) == 0)
        return 0;
    return flin_fail(error, FLASHINFER_ECANCELED, "cancelled by the progress callback (%s)", stage);
}

void flin_model_log(const flashinfer_model *model, int level, const char *format, ...)
{
    char text[512];
    va_list arguments;

    if (model->config.log == NULL) return;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    model->config.log(level, text, model->config.log_user);
}

static void log_plan(const flashinfer_model *model)
{
    const flashinfer_plan *plan = &model->plan;

    flin_model_log(model, FLASHINFER_LOG_INFO,
                   "%s: %u layers, budget %llu, planned %llu: resident %llu, predictor %llu, cache "
                   "%llu (%u slots of "
                   "%u bytes a layer), KV %llu; storage %s, kernels %s, %u threads",
                   model->shape.architecture, model->shape.layers,
                   (unsigned long long)plan->budget_bytes, (unsigned long long)plan->planned_bytes,
                   (unsigned long long)plan->resident_bytes,
                   (unsigned long long)plan->predictor_bytes, (unsigned long long)plan->cache_bytes,
                   plan->slots_per_layer, plan->slot_bytes, (unsigned long long)plan->kv_bytes,
                   model->storage.name, model->kernels->name, model->config.threads);
}

/* What the files at hand can be run with. */
static void name_kinds(flashinfer_model *model)
{
    const flin_gguf *gguf = flin_predictor_file(model);
    uint32_t layers = model->shape.layers;

    (void)snprintf(model->kinds, sizeof model->kinds, "exact,%s%s%sall",
                   flin_weights_have(gguf, layers, FLASHINFER_PREDICTOR_SKETCH) ? "sketch," : "",
                   flin_weights_have(gguf, layers, FLASHINFER_PREDICTOR_LOWRANK) ? "lowrank," : "",
                   flin_weights_predictor(gguf, layers) == FLASHINFER_PREDICTOR_MIXED ? "mixed,"
                                                                                      : "");
}

static int read_name(flashinfer_model *model, flashinfer_error *error)
{
    flin_string name;
    int code = flin_gguf_string_or(&model->gguf, "general.name", "", &name, error);

    if (code == 0)
        (void)snprintf(model->name, sizeof model->name, "%.*s", (int)(name.bytes & 0xffff),
                       name.data);
    return code;
}

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
    if (code != 0) return code;
    code = flin_gguf_u64_or(&model->predictor_gguf, "flashinfer.predictor.version", 0, &version,
                            error);
    if (code == 0 && version != FLIN_PREDICTOR_VERSION)
        code = flin_fail(error, version == 0 ? FLASHINFER_EFORMAT : FLASHINFER_EUNSUPPORTED,
                         "%s is no predictor file of version %u (flashinfer.predictor.version)",
                         options->predictor_path, FLIN_PREDICTOR_VERSION);
    return code;
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

/* Files of all architectures can be listed and verified; these can be run. */
static int check_runs(const flin_shape *shape, flashinfer_error *error)
{
    if (!shape->gated && shape->norm_kind == FLIN_NORM_LAYER && shape->rotary.rotated == 0)
        return 0;
    return flin_fail(
        error, FLASHINFER_EUNSUPPORTED,
        "models of architecture %s can be packed, listed and verified, but not yet run",
        shape->architecture);
}

/* Header, shape, configuration. */
static int open_metadata(flashinfer_model *model, const flashinfer_options *options,
                         flashinfer_error *error)
{
    int verify = options->verify != FLASHINFER_VERIFY_NONE;
    int code = flin_gguf_open(&model->gguf, &model->storage, verify, error);

    if (code != 0) return code;
    if ((code = flin_shape_read(&model->gguf, &model->shape, error)) != 0) return code;
    if ((options->flags & FLASHINFER_OPEN_METADATA) == 0 &&
        (code = check_runs(&model->shape, error)) != 0)
        return code;
    if ((code = open_predictors(model, options, error)) != 0) return code;
    code = flin_config_resolve(&model->config, options, flin_predictor_file(model), &model->shape,
                               error);
    if (code != 0) return code;
    model->kernels = flin_kernels_choose(model->config.kernels);
    model->parameter_count = flin_weights_parameters(&model->gguf, &model->shape);
    name_kinds(model);
    return read_name(model, error);
}

static int weights_progress(uint64_t done_bytes, uint64_t total_bytes, void *user)
{
    return flin_model_progress(user, "open", done_bytes, total_bytes, NULL);
}

/* The fixed arena and what goes into it from the file. */
static int open_fixed(flashinfer_model *model, flashinfer_error *error)
{
    flin_sections sections;
    uint64_t bytes = 0;
    int code = flin_plan_measure(model, error);

    if (code != 0) return code;
    flin_plan_divide(model, model->config.budget_bytes, &model->plan, &model->share);
    if (model->plan.budget_bytes < model->plan.minimum_bytes)
        return flin_plan_refuse(&model->plan, error);
    bytes = model->sections.resident + model->sections.predictor + model->sections.cache +
            model->sections.kv + model->sections.scratch + model->sections.io +
            model->sections.tokenizer;
    code = flin_arena_open(&model->fixed, bytes, "weights and buffers", error);
    if (code != 0) return code;
    if ((code = flin_layout(model, &model->fixed, &sections, error)) != 0) return code;
    code = flin_weights_load(&model->weights, &model->storage, &model->predictor_storage,
                             model->config.verify != FLASHINFER_VERIFY_NONE, error,
                             weights_progress, model);
    return code != 0 ? code : check_identity(model, error);
}

static int check_predictors(const flashinfer_model *model, flashinfer_error *error)
{
    int code = 0;

    if (!flin_uses_names(&model->config)) return 0;
    for (uint32_t i = 0; i < model->shape.layers && code == 0; i++)
        code = flin_layer_predictor_check(&model->weights.layers[i].predictor, model->kernels,
                                          (int)i, error);
    return code;
}

/* Exact mode: keep `count` up rows of a layer; new ones are read from their bundles. */
static int resize_rows(flashinfer_model *model, uint32_t layer, uint32_t count,
                       flashinfer_error *error)
{
    flin_rows *rows = &model->rows[layer];
    uint32_t had = rows->count;
    uint64_t bytes;
    int code = 0;

    rows->row_bytes = model->shape.bundle.parts[FLIN_PART_UP].bytes;
    rows->type = model->shape.bundle.parts[FLIN_PART_UP].type;
    bytes = (uint64_t)count * rows->row_bytes;
    if (count < had) rows->count = count;
    if (count == 0)
        flin_arena_close(&rows->memory);
    else if (rows->memory.base == NULL)
        code = flin_arena_open(&rows->memory, bytes, "up rows", error);
    else
        code = flin_arena_resize(&rows->memory, bytes, "up rows", error);
    if (code == 0 && count > had) code = flin_stream_rows(model, layer, had, count, error);
    if (code == 0) rows->count = count;
    return code;
}

/* Give slots and rows their new sizes: what shrinks first, so that their sum never passes the
   larger of the plans. */
static int apply_share(flashinfer_model *model, flin_share share, flashinfer_error *error)
{
    uint32_t slots = model->cache.slots;
    int code = 0;

    if (share.slots < slots) code = flin_cache_resize(&model->cache, share.slots, error);
    for (uint32_t i = 0; i < model->shape.layers && code == 0 && flin_uses_rows(&model->config);
         i++)
        code = resize_rows(model, i, share.rows, error);
    if (code == 0 && share.slots > slots)
        code = flin_cache_resize(&model->cache, share.slots, error);
    return code;
}

/* What FLASHINFER_OPEN_METADATA holds: the tokenizer and a buffer to verify with. */
static int open_listing(flashinfer_model *model, flashinfer_error *error)
{
    flin_arena measure;
    int code;

    flin_arena_measure(&measure);
    flin_layout_verify(model, &measure);
    if ((code = flin_layout_tokenizer(model, &measure, error)) != 0) return code;
    if ((code = flin_arena_open(&model->fixed, measure.used, "the tokenizer", error)) != 0)
        return code;
    flin_layout_verify(model, &model->fixed);
    return flin_layout_tokenizer(model, &model->fixed, error);
}

int flin_model_open(flashinfer_model *model, const flashinfer_options *options,
                    flashinfer_error *error)
{
    int code = open_metadata(model, options, error);

    if (code != 0) return code;
    if ((model->config.flags & FLASHINFER_OPEN_METADATA) != 0) {
        code = open_listing(model, error);
    } else {
        code = open_fixed(model, error);
        if (code == 0) code = flin_rows_check(model, error);
        if (code == 0) code = check_predictors(model, error);
        close_predictors(model);
        if (code == 0) code = flin_pool_open(&model->pool, model->config.threads, error);
        if (code == 0) flin_arrange(model);
        if (code == 0) code = apply_share(model, model->share, error);
        if (code == 0) log_plan(model);
    }
    if (code == 0 && model->config.verify == FLASHINFER_VERIFY_OPEN)
        code = flin_verify(model, error);
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

    if (model == NULL || open_mutex(&model->mutex) != 0) {
        free(model);
        return flin_fail(error, FLASHINFER_ENOMEM, "cannot allocate a model handle");
    }
    model->config.log = options->log;
    model->config.log_user = options->log_user;
    model->config.progress = options->progress;
    model->config.progress_user = options->progress_user;
    model->config.trace = options->trace;
    model->config.trace_user = options->trace_user;
    model->config.ffn_input = options->ffn_input;
    model->config.ffn_input_user = options->ffn_input_user;
    model->config.audit = options->audit;
    model->config.audit_user = options->audit_user;
    *created = model;
    return 0;
}

int flin_model_plan_only(flashinfer_model *model, const flashinfer_options *options,
                         flashinfer_plan *plan, flashinfer_error *error)
{
    int code = open_metadata(model, options, error);

    if (code == 0) code = flin_plan_measure(model, error);
    if (code == 0) flin_plan_divide(model, model->config.budget_bytes, plan, NULL);
    return code;
}

void flin_model_close(flashinfer_model *model)
{
    flin_pool_close(&model->pool);
    close_predictors(model);
    flin_storage_close(&model->storage); /* before memory that reads may still land in */
    flin_cache_close(&model->cache);
    for (uint32_t i = 0;
         model->fixed.base != NULL && model->rows != NULL && i < model->shape.layers; i++)
        flin_arena_close(&model->rows[i].memory);
    flin_arena_close(&model->fixed);
    flin_gguf_close(&model->gguf);
    pthread_mutex_destroy(&model->mutex);
    free(model);
}

int flin_model_set_budget(flashinfer_model *model, uint64_t budget_bytes, flashinfer_error *error)
{
    flashinfer_plan plan;
    flin_share share;
    int code;

    if ((model->config.flags & FLASHINFER_OPEN_METADATA) != 0)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "the model was opened for its metadata only: it has no budget");
    flin_plan_divide(model, budget_bytes, &plan, &share);
    if (plan.budget_bytes < plan.minimum_bytes) return flin_plan_refuse(&plan, error);
    /* slots may move: no read that timed out may still land in them */
    if ((code = flin_storage_check_lost(&model->storage, error)) != 0) return code;
    code = apply_share(model, share, error);
    if (code != 0) {
        (void)apply_share(model, model->share, NULL);
        return code;
    }
    model->config.budget_bytes = budget_bytes;
    model->plan = plan;
    model->share = share;
    return 0;
}

void flin_model_info(const flashinfer_model *model, flashinfer_info *info)
{
    const flin_shape *shape = &model->shape;
    enum flin_type resident;

    memset(info, 0, sizeof *info);
    info->size = sizeof *info;
    info->layer_count = shape->layers;
    info->embedding_length = shape->width;
    info->ffn_length = shape->ffn;
    info->head_count = shape->heads;
    info->vocab_count = shape->vocab;
    info->context_tokens = shape->context;
    info->tensor_count = model->gguf.tensor_count;
    info->metadata_count = model->gguf.value_count;
    info->bundle_bytes = shape->bundle.payload_bytes;
    info->bundle_stride_bytes = shape->bundle.stride_bytes;
    info->bos_token = model->tokenizer != NULL ? flin_tokenizer_bos(model->tokenizer) : -1;
    info->eos_token = model->tokenizer != NULL ? flin_tokenizer_eos(model->tokenizer) : -1;
    info->add_bos = model->tokenizer != NULL && flin_tokenizer_adds_bos(model->tokenizer);
    info->parameter_count = model->parameter_count;
    info->file_bytes = model->storage.caps.length_bytes;
    info->ffn_bytes = (uint64_t)shape->layers * shape->ffn * shape->bundle.payload_bytes;
    info->architecture = shape->architecture;
    info->name = model->name;
    info->predictors = model->kinds;
    info->ordered = shape->bundle.ordered;
    info->dtype_resident = flin_weights_resident_type(&model->gguf, shape, &resident)
                               ? flin_type_to_dtype(resident)
                               : FLASHINFER_DTYPE_DEFAULT;
    info->dtype_ffn = flin_type_to_dtype(shape->bundle.parts[FLIN_PART_UP].type);
}
