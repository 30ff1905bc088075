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
}

static void count_parameters(flashinfer_model *model)
{
    const flin_gguf *gguf = &model->gguf;
    uint64_t bytes, elements;

    for (uint32_t i = 0; i < gguf->tensor_count; i++) {
        const flin_gguf_tensor *tensor = &gguf->tensors[i];
        if (strstr(tensor->name.data, "_sketch.") != NULL ||
            strstr(tensor->name.data, ".fc") != NULL)
            continue; /* made of the weights, not one of them */
        if (tensor->type != FLIN_GGUF_I8 && tensor->type != FLIN_GGUF_I32 &&
            tensor->type != FLIN_GGUF_I64 && flin_gguf_type_size(tensor->type, &bytes, &elements))
            model->parameter_count += tensor->bytes / bytes * elements;
    }
    model->parameter_count += (uint64_t)model->shape.layers * model->shape.ffn *
                              model->shape.bundle.part_count * model->shape.width;
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

int flin_describe(flashinfer_model *model, flashinfer_error *error)
{
    count_parameters(model);
    name_kinds(model);
    return read_name(model, error);
}

/* The type of token embeddings, as a FLASHINFER_DTYPE_...; every matrix that stays in memory is
   packed with it. */
static uint32_t dtype_resident(const flashinfer_model *model)
{
    const flin_gguf_tensor *tokens = flin_gguf_find_tensor(&model->gguf, "token_embd.weight");
    enum flin_type type;

    if (tokens == NULL ||
        flin_type_from_gguf(tokens->type, "token_embd.weight", FLIN_BLOCK, &type, NULL) != 0)
        return FLASHINFER_DTYPE_DEFAULT;
    return flin_type_to_dtype(type);
}

void flin_model_info(const flashinfer_model *model, flashinfer_info *info)
{
    const flin_shape *shape = &model->shape;

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
    info->dtype_resident = dtype_resident(model);
    info->dtype_ffn = flin_type_to_dtype(shape->bundle.parts[FLIN_PART_UP].type);
}
