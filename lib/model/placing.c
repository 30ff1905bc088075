/*
 * placing.c - see placing.h.
 */
#include "model/placing.h"

#include <stdarg.h>
#include <stdio.h>

#define DIRECT_BYTES                                                                               \
    (64u * 1024u) /* tensors from here on are page-aligned, so that direct reads need no copy */

void *flin_placing_place(flin_placing *in, const flin_gguf_tensor *tensor)
{
    flin_weights *weights = in->weights;
    void *data = flin_arena_take(in->arena, tensor->bytes,
                                 tensor->bytes >= DIRECT_BYTES ? FLIN_PAGE_BYTES : 64);

    weights->load_bytes += tensor->bytes;
    if (weights->loads != NULL && weights->load_count < weights->loads_max) {
        weights->loads[weights->load_count].tensor = tensor;
        weights->loads[weights->load_count].data = data;
        weights->loads[weights->load_count].from_predictors = in->gguf != in->model;
    }
    weights->load_count++;
    return data;
}

void flin_placing_refuse(flin_placing *in, int code, const char *format, ...)
{
    char text[256];
    va_list arguments;

    if (in->code != 0) return;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    in->code = flin_fail(in->error, code, "%s", text);
}

/* What is to be done about a tensor that does not fit. */
const char *flin_placing_advice(const flin_placing *in)
{
    return in->gguf == in->model
               ? "pack the model again"
               : "the predictor file was made for another model: make one from this model";
}

const flin_gguf_tensor *flin_placing_want(flin_placing *in, const char *name, uint64_t dimension0,
                                          uint64_t dimension1)
{
    const flin_gguf_tensor *tensor = flin_gguf_find_tensor(in->gguf, name);

    if (tensor == NULL) {
        flin_placing_refuse(in, FLASHINFER_EFORMAT, "tensor %s is missing; %s", name,
                            flin_placing_advice(in));
        return NULL;
    }
    if (tensor->dimensions[0] != dimension0 || tensor->dimensions[1] != dimension1 ||
        tensor->dimensions[2] != 1 || tensor->dimensions[3] != 1) {
        flin_placing_refuse(
            in, FLASHINFER_EFORMAT, "tensor %s is [%llu, %llu], the model says [%llu, %llu]; %s",
            name, (unsigned long long)tensor->dimensions[0],
            (unsigned long long)tensor->dimensions[1], (unsigned long long)dimension0,
            (unsigned long long)dimension1, flin_placing_advice(in));
        return NULL;
    }
    return tensor;
}

const flin_gguf_tensor *flin_placing_want_type(flin_placing *in, const char *name, uint32_t type,
                                               uint64_t dimension0, uint64_t dimension1)
{
    const flin_gguf_tensor *tensor = flin_placing_want(in, name, dimension0, dimension1);
    const char *text = type == FLIN_GGUF_F32   ? "F32"
                       : type == FLIN_GGUF_I64 ? "I64"
                       : type == FLIN_GGUF_I32 ? "I32"
                                               : "I8";

    if (tensor == NULL || tensor->type == type) return tensor;
    flin_placing_refuse(in, FLASHINFER_EFORMAT, "tensor %s must be %s", name, text);
    return NULL;
}

flin_matrix flin_placing_matrix(flin_placing *in, const char *name, uint32_t rows, uint32_t cols)
{
    flin_matrix matrix = {NULL, rows, cols, rows, FLIN_F32, NULL};
    const flin_gguf_tensor *tensor = flin_placing_want(in, name, cols, rows);

    if (tensor == NULL || in->code != 0) return matrix; /* the first refusal stands */
    in->code = flin_type_from_gguf(tensor->type, name, cols, &matrix.type, in->error);
    if (in->code != 0) return matrix;
    matrix.tensor = tensor;
    if (flin_shape_is_plain(in->shape))
        matrix.held = 0;
    else
        matrix.data = flin_placing_place(in, tensor);
    return matrix;
}

const float *flin_placing_vector(flin_placing *in, const char *name, uint32_t count)
{
    const flin_gguf_tensor *tensor = flin_placing_want_type(in, name, FLIN_GGUF_F32, count, 1);

    return tensor != NULL && in->code == 0 ? flin_placing_place(in, tensor) : NULL;
}
