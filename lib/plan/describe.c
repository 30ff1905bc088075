/*
 * describe.c - see describe.h.
 */
#include "plan/describe.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "plan/layout.h"

static void tell(const flin_settings *settings, int level, const char *format, ...)
    FLIN_PRINTF(3, 4);

static void tell(const flin_settings *settings, int level, const char *format, ...)
{
    char text[512];
    va_list arguments;

    if (settings->log == NULL) return;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    settings->log(level, text, settings->log_user);
}

void flin_describe_plan(const flashinfer_model *model)
{
    const flashinfer_plan *plan = &model->plan;

    tell(&model->settings, FLASHINFER_LOG_INFO,
         "%s: %u layers, budget %llu, planned %llu: resident %llu, predictor %llu, cache "
         "%llu (%u slots of "
         "%u bytes a layer), KV %llu; storage %s, kernels %s, %u threads",
         model->shape.architecture, model->shape.layers, (unsigned long long)plan->budget_bytes,
         (unsigned long long)plan->planned_bytes, (unsigned long long)plan->resident_bytes,
         (unsigned long long)plan->predictor_bytes, (unsigned long long)plan->cache_bytes,
         plan->slots_per_layer, plan->slot_bytes, (unsigned long long)plan->kv_bytes,
         model->storage.name, model->compute.kernels->name, model->settings.threads);
    if (model->settings.threads_asked > model->settings.threads)
        tell(&model->settings, FLASHINFER_LOG_WARNING,
             "%u compute threads were asked for (options.threads), %u are used: this process may "
             "use so many CPUs",
             model->settings.threads_asked, model->settings.threads);
}

/* What the files at hand can be run with. */
static void name_kinds(flashinfer_model *model)
{
    const flin_gguf *gguf = flin_predictor_file(model);
    uint32_t layers = model->shape.layers;

    if (flin_shape_is_plain(&model->shape)) {
        (void)snprintf(model->kinds, sizeof model->kinds, "all");
        return;
    }
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

int flin_describe(flashinfer_model *model, flashinfer_error *error)
{
    model->parameter_count = flin_weights_parameters(&model->gguf, &model->shape);
    if (model->shape.layers != 0) name_kinds(model);
    return read_name(model, error);
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
    if (shape->descriptor == NULL) return; /* a vocabulary alone */
    info->ordered = shape->bundle.ordered;
    info->dtype_resident = flin_weights_resident_type(&model->gguf, shape, &resident)
                               ? flin_type_to_dtype(resident)
                               : FLASHINFER_DTYPE_DEFAULT;
    info->dtype_ffn = flin_type_to_dtype(shape->bundle.parts[0].type); /* all parts are alike */
    info->ffn_gated = shape->gated;
    info->ffn_activation = flin_activation_number(shape->activation.kind);
    info->ffn_sparse = (uint32_t)flin_activation_has_zeros(&shape->activation);
    info->ffn_threshold = shape->activation.threshold;
    info->kv_head_count = shape->kv_heads;
    info->head_length = shape->head_width;
}
