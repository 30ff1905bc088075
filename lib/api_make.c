/*
 * api_make.c - the public functions that make things to run by: packed models, orders, predictors.
 * They check their arguments, take the model's lock where there is one, and call inward. No logic
 * here.
 */
#include "api.h"
#include "make/predictor_make.h"
#include "pack/order.h"
#include "pack/pack.h"
#include "util/structs.h"

/* pack ----------------------------------------------------------------------------------------- */

int flashinfer_order_create(uint32_t layers, uint32_t neurons, flashinfer_order **order,
                            flashinfer_error *error)
{
    NEED(order);
    *order = NULL;
    return flin_order_create(layers, neurons, order, error);
}

int flashinfer_order_add(flashinfer_order *order, const flashinfer_trace *trace,
                         flashinfer_error *error)
{
    const size_t first = offsetof(flashinfer_trace, ids) + sizeof trace->ids; /* of 0.1 */
    flashinfer_trace own;
    int code;

    NEED(order);
    NEED(trace);
    if (trace->size < first)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "flashinfer_trace.size is %u: set it to sizeof(flashinfer_trace)",
                         trace->size);
    memset(&own, 0, sizeof own);
    code = flin_struct_accept(trace, &own, sizeof own, "flashinfer_trace", error);
    if (code != 0) return code;
    if (own.count != 0) NEED(own.ids);
    return flin_order_add(order, &own, error);
}

void flashinfer_order_destroy(flashinfer_order *order)
{
    flin_order_destroy(order);
}

void flashinfer_pack_options_init(flashinfer_pack_options *options, size_t size)
{
    init(options, size);
}

int flashinfer_pack(const char *checkpoint, const char *path,
                    const flashinfer_pack_options *options, flashinfer_error *error)
{
    flashinfer_pack_options own;
    int code = 0;

    NEED(checkpoint);
    NEED(path);
    flashinfer_pack_options_init(&own, sizeof own);
    if (options != NULL)
        code = flin_struct_accept(options, &own, sizeof own, "flashinfer_pack_options", error);
    return code != 0 ? code : flin_pack(checkpoint, path, &own, error);
}

/* predictors ----------------------------------------------------------------------------------- */

static int create_predictor(flashinfer_model *model, int copy, flashinfer_predictor **predictor,
                            flashinfer_error *error)
{
    flashinfer_predictor *made = NULL;
    int code = flin_api_check_layer(model, 0, error);

    if (code == 0 && copy && !flin_predictor_kind_of(model->settings.predictor)->misses)
        code = flin_fail(error, FLASHINFER_EINVAL,
                         "the model was opened without a sketch or low-rank predictor");
    if (code == 0) code = flin_predictor_create(model, &made, error);
    for (uint32_t i = 0; copy && code == 0 && i < model->shape.layers; i++)
        code = flin_predictor_copy_layer(made, i, error);
    if (code == 0)
        *predictor = made;
    else
        flin_predictor_destroy(made);
    return code;
}

int flashinfer_predictor_create(flashinfer_model *model, flashinfer_predictor **predictor,
                                flashinfer_error *error)
{
    NEED(predictor);
    *predictor = NULL;
    NEED(model);
    return create_predictor(model, 0, predictor, error);
}

int flashinfer_predictor_copy(flashinfer_model *model, flashinfer_predictor **predictor,
                              flashinfer_error *error)
{
    NEED(predictor);
    *predictor = NULL;
    NEED(model);
    return create_predictor(model, 1, predictor, error);
}

void flashinfer_predictor_destroy(flashinfer_predictor *predictor)
{
    flin_predictor_destroy(predictor);
}

/* need_kind: the layer must have been set. */
static int check_made(const flashinfer_predictor *predictor, uint32_t layer, int need_kind,
                      flashinfer_error *error)
{
    if (layer >= predictor->layer_count)
        return flin_fail(error, FLASHINFER_EINVAL, "layer %u; the predictor's are 0 to %u", layer,
                         predictor->layer_count - 1);
    if (!need_kind || predictor->layers[layer].predictor.kind != 0) return 0;
    return flin_fail(error, FLASHINFER_EINVAL, "layer %u of the predictor has no kind yet", layer);
}

int flashinfer_predictor_set_sketch(flashinfer_predictor *predictor, uint32_t layer, uint32_t bits,
                                    float margin, flashinfer_error *error)
{
    flashinfer_model *model;
    int code;

    NEED(predictor);
    model = predictor->model;
    if ((code = check_made(predictor, layer, 0, error)) != 0) return code;
    ENTER(model);
    return unlock(model, flin_predictor_set_sketch(predictor, layer, bits, margin, error));
}

int flashinfer_predictor_set_lowrank(flashinfer_predictor *predictor, uint32_t layer, uint32_t rank,
                                     uint32_t relu, const float *down, const float *up,
                                     const float *bias, flashinfer_error *error)
{
    int code;

    NEED(predictor);
    NEED(down);
    NEED(up);
    NEED(bias);
    code = check_made(predictor, layer, 0, error);
    if (code != 0) return code;
    return flin_predictor_set_lowrank(predictor, layer, rank, relu, down, up, bias, error);
}

int flashinfer_predictor_bias(const flashinfer_predictor *predictor, uint32_t layer, float *bias,
                              flashinfer_error *error)
{
    int code;

    NEED(predictor);
    NEED(bias);
    code = check_made(predictor, layer, 1, error);
    if (code == 0) memcpy(bias, predictor->layers[layer].bias, predictor->neurons * sizeof *bias);
    return code;
}

int flashinfer_predictor_set_bias(flashinfer_predictor *predictor, uint32_t layer,
                                  const float *bias, flashinfer_error *error)
{
    int code;

    NEED(predictor);
    NEED(bias);
    code = check_made(predictor, layer, 1, error);
    return code != 0 ? code : flin_predictor_set_bias(predictor, layer, bias, error);
}

int flashinfer_predictor_scores(const flashinfer_predictor *predictor, uint32_t layer,
                                const float *x, float *scores, flashinfer_error *error)
{
    int code;

    NEED(predictor);
    NEED(x);
    NEED(scores);
    code = check_made(predictor, layer, 1, error);
    return code != 0 ? code : flin_predictor_scores(predictor, layer, x, scores, error);
}

int flashinfer_predictor_import(flashinfer_predictor *predictor, const char *path,
                                flashinfer_error *error)
{
    NEED(predictor);
    NEED(path);
    return flin_predictor_import(predictor, path, error);
}

uint64_t flashinfer_predictor_bytes(const flashinfer_predictor *predictor, uint32_t layer)
{
    if (predictor == NULL || layer >= predictor->layer_count) return 0;
    return flin_made_bytes(&predictor->layers[layer].predictor);
}

int flashinfer_predictor_save(const flashinfer_predictor *predictor, const char *path,
                              flashinfer_error *error)
{
    NEED(predictor);
    NEED(path);
    return flin_predictor_save(predictor, path, error);
}
