/*
 * predictor_make.c - see predictor_make.h.
 */
#define _POSIX_C_SOURCE 200809L
#include "make/predictor_make.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "predictor/sketch_make.h"

/* What leaves neurons out is wrong where all of them count. */
static int check_sparse(const flin_activation_rule *activation, flashinfer_error *error)
{
    if (flin_activation_has_zeros(activation)) return 0;
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "every neuron of this model fires: its activation is %s, which has no zeros "
                     "to predict; run it with the predictors exact or all",
                     flin_activation_name(activation->kind));
}

int flin_predictor_create(flashinfer_model *model, flashinfer_predictor **predictor,
                          flashinfer_error *error)
{
    int code = check_sparse(&model->shape.activation, error);
    flashinfer_predictor *made = code == 0 ? calloc(1, sizeof *made) : NULL;

    if (code != 0) return code;
    if (made != NULL) made->layers = calloc(model->shape.layers, sizeof *made->layers);
    if (made == NULL || made->layers == NULL) {
        free(made);
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for a predictor of %u layers",
                         model->shape.layers);
    }
    made->model = model;
    made->identity = flin_weights_identity(&model->weights, &model->shape);
    made->layer_count = model->shape.layers;
    made->width = model->shape.width;
    made->neurons = model->shape.ffn;
    made->kernels = model->compute.kernels;
    *predictor = made;
    return 0;
}

static void forget(flashinfer_predictor *predictor, uint32_t layer)
{
    flin_made_layer *made = &predictor->layers[layer];

    if (made->predictor.kind == FLASHINFER_PREDICTOR_LOWRANK) predictor->lowranks--;
    free(made->weights[0]);
    free(made->weights[1]);
    free(made->bias);
    free(made->column_scale);
    memset(made, 0, sizeof *made);
}

void flin_predictor_destroy(flashinfer_predictor *predictor)
{
    if (predictor == NULL) return;
    for (uint32_t i = 0; i < predictor->layer_count; i++) forget(predictor, i);
    free(predictor->layers);
    free(predictor);
}

uint64_t flin_made_bytes(const flin_layer_predictor *predictor)
{
    const flin_sketch *sketch = &predictor->sketch;

    if (predictor->kind == FLASHINFER_PREDICTOR_LOWRANK)
        return flin_lowrank_bytes(&predictor->lowrank);
    if (predictor->kind != FLASHINFER_PREDICTOR_SKETCH) return 0;
    return flin_sketch_bytes(sketch->rows, sketch->cols, sketch->bits) +
           sizeof(float) * ((uint64_t)sketch->rows + sketch->cols);
}

/* Both kinds are multiples of 64 bytes long, as vectors like it. Not by aligned_alloc(), which
   Android lacks before version 9. */
static void *take(uint64_t bytes)
{
    void *memory = NULL;

    if (posix_memalign(&memory, 64, flin_round_up(bytes != 0 ? bytes : 1, 64)) != 0) return NULL;
    return memory;
}

static int keep(flashinfer_predictor *predictor, uint32_t layer, const flin_made_layer *made,
                int complete, flashinfer_error *error)
{
    if (!complete) {
        free(made->weights[0]);
        free(made->weights[1]);
        free(made->bias);
        free(made->column_scale);
        return flin_fail(error, FLASHINFER_ENOMEM,
                         "no memory for a predictor of layer %u (%llu bytes)", layer,
                         (unsigned long long)flin_made_bytes(&made->predictor));
    }
    forget(predictor, layer);
    predictor->layers[layer] = *made;
    if (made->predictor.kind == FLASHINFER_PREDICTOR_LOWRANK) predictor->lowranks++;
    return 0;
}

int flin_made_sketch(flashinfer_predictor *predictor, uint32_t layer, uint32_t bits,
                     flashinfer_error *error)
{
    flin_made_layer made;
    flin_sketch *sketch = &made.predictor.sketch;

    memset(&made, 0, sizeof made);
    if (bits < 1 || bits > 4)
        return flin_fail(error, FLASHINFER_EINVAL, "a sketch of %u bits; it may have 1 to 4", bits);
    made.predictor.kind = FLASHINFER_PREDICTOR_SKETCH;
    sketch->rows = predictor->neurons;
    sketch->cols = predictor->width;
    sketch->bits = bits;
    sketch->tiles = made.weights[0] = take(flin_sketch_bytes(sketch->rows, sketch->cols, bits));
    sketch->bias = made.bias = malloc(sketch->rows * sizeof(float));
    sketch->column_scale = made.column_scale = malloc(sketch->cols * sizeof(float));
    return keep(predictor, layer, &made,
                made.weights[0] != NULL && made.bias != NULL && made.column_scale != NULL, error);
}

int flin_made_lowrank(flashinfer_predictor *predictor, uint32_t layer, uint32_t rank,
                      enum flin_type type, flashinfer_error *error)
{
    flin_made_layer made;
    flin_lowrank *lowrank = &made.predictor.lowrank;

    memset(&made, 0, sizeof made);
    if (rank < 1 || rank > FLIN_LOWRANK_RANK_MAX)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "a low-rank predictor of rank %u; it may have 1 to %u", rank,
                         FLIN_LOWRANK_RANK_MAX);
    made.predictor.kind = FLASHINFER_PREDICTOR_LOWRANK;
    lowrank->rows = predictor->neurons;
    lowrank->cols = predictor->width;
    lowrank->rank = rank;
    lowrank->type = type;
    lowrank->down = made.weights[0] = take((uint64_t)rank * flin_type_bytes(type, lowrank->cols));
    lowrank->up = made.weights[1] = take((uint64_t)rank * flin_type_bytes(type, lowrank->rows));
    lowrank->bias = made.bias = malloc(lowrank->rows * sizeof(float));
    return keep(predictor, layer, &made,
                made.weights[0] != NULL && made.weights[1] != NULL && made.bias != NULL, error);
}

/* --------------------------------------------------------------------------------------- sketch */

/* All tiles of the layer, from the model's own rows. rows: (FLIN_SKETCH_TILE_ROWS, width). */
static int make_tiles(flashinfer_predictor *predictor, uint32_t layer, flin_sketch_maker *maker,
                      float *rows, flashinfer_error *error)
{
    flin_made_layer *made = &predictor->layers[layer];
    const flin_shape *shape = &predictor->model->shape;
    const float *bias = flin_ffn_decider_bias(&predictor->model->weights.layers[layer].ffn);
    const uint32_t decider = flin_shape_decider(shape);
    uint8_t *tile = made->weights[0];

    for (uint32_t first = 0; first < predictor->neurons; first += FLIN_SKETCH_TILE_ROWS) {
        uint32_t left = predictor->neurons - first,
                 count = left < FLIN_SKETCH_TILE_ROWS ? left : FLIN_SKETCH_TILE_ROWS;
        int code = flin_model_part(predictor->model, layer, decider, first, count, rows, error);
        if (code == 0)
            code = flin_sketch_maker_tile(maker, rows, bias != NULL ? bias + first : NULL, count,
                                          tile, made->bias + first, error);
        if (code != 0) return code;
        tile += flin_sketch_tile_bytes(predictor->width, made->predictor.sketch.bits);
    }
    memcpy(made->column_scale, maker->column_scale, predictor->width * sizeof(float));
    return 0;
}

int flin_predictor_set_sketch(flashinfer_predictor *predictor, uint32_t layer, uint32_t bits,
                              float margin, flashinfer_error *error)
{
    /* behind attention, as in post-norm models, margins are only a start */
    const flin_norm *norm = flin_layer_ffn_input(&predictor->model->weights.layers[layer]);
    float *rows = malloc((size_t)FLIN_SKETCH_TILE_ROWS * predictor->width * sizeof *rows);
    flin_sketch_maker maker;
    int code;

    memset(&maker, 0, sizeof maker);
    if (rows == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for rows of %u inputs",
                         predictor->width);
    code = flin_made_sketch(predictor, layer, bits, error);
    if (code == 0)
        code = flin_sketch_maker_open(&maker, predictor->width, bits, norm->weight, norm->bias,
                                      margin < 0 ? FLIN_SKETCH_MARGIN : margin, error);
    maker.threshold = predictor->model->shape.activation.threshold;
    if (code == 0) code = make_tiles(predictor, layer, &maker, rows, error);
    if (code != 0) forget(predictor, layer);
    flin_sketch_maker_close(&maker);
    free(rows);
    return code;
}

/* -------------------------------------------------------------------------------------- lowrank */

/* Round count numbers to float16; returns the index of the first that does not fit, or count. */
static uint64_t to_half(const flin_kernels *kernels, const float *from, uint64_t count,
                        uint16_t *to)
{
    for (uint64_t at = 0; at < count; at++) {
        if (!(fabsf(from[at]) < 65520.0f)) return at;
        kernels->from_float[FLIN_F16](from + at, 1, to + at);
    }
    return count;
}

static int not_a_number(uint32_t layer, int64_t neuron, const char *what, flashinfer_error *error)
{
    return flin_fail_at(error, FLASHINFER_EINVAL, (int)layer, neuron, -1,
                        "layer %u: the low-rank %s does not fit float16 (neuron %lld)", layer, what,
                        (long long)neuron);
}

int flin_predictor_set_bias(flashinfer_predictor *predictor, uint32_t layer, const float *bias,
                            flashinfer_error *error)
{
    for (uint32_t i = 0; i < predictor->neurons; i++)
        if (!isfinite(bias[i]))
            return flin_fail_at(error, FLASHINFER_EINVAL, (int)layer, i, -1,
                                "layer %u: the bias of neuron %u is not a number", layer, i);
    memcpy(predictor->layers[layer].bias, bias, predictor->neurons * sizeof *bias);
    return 0;
}

static int fill_lowrank(flashinfer_predictor *predictor, uint32_t layer, const float *down,
                        const float *up, const float *bias, flashinfer_error *error)
{
    flin_made_layer *made = &predictor->layers[layer];
    uint32_t rank = made->predictor.lowrank.rank;
    uint64_t down_count = (uint64_t)rank * predictor->width, bad;
    uint64_t up_count = (uint64_t)rank * predictor->neurons;

    if (to_half(predictor->kernels, down, down_count, made->weights[0]) != down_count)
        return not_a_number(layer, -1, "first factor", error);
    bad = to_half(predictor->kernels, up, up_count, made->weights[1]);
    if (bad != up_count) return not_a_number(layer, (int64_t)(bad / rank), "second factor", error);
    for (uint32_t i = 0; i < predictor->neurons; i++)
        if (!isfinite(bias[i])) return not_a_number(layer, i, "bias", error);
    memcpy(made->bias, bias, predictor->neurons * sizeof *bias);
    return 0;
}

int flin_predictor_set_lowrank(flashinfer_predictor *predictor, uint32_t layer, uint32_t rank,
                               uint32_t relu, const float *down, const float *up, const float *bias,
                               flashinfer_error *error)
{
    int was = predictor->layers[layer].predictor.kind == FLASHINFER_PREDICTOR_LOWRANK;
    int code;

    if (relu > 1) return flin_fail(error, FLASHINFER_EINVAL, "relu is %u; it may be 0 or 1", relu);
    if (predictor->lowranks > (uint32_t)was && relu != predictor->relu)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "relu is %u, but other layers have it %u: one file has one", relu,
                         predictor->relu);
    code = flin_made_lowrank(predictor, layer, rank, FLIN_F16, error);
    if (code != 0) return code;
    predictor->relu = relu;
    predictor->layers[layer].predictor.lowrank.relu = relu;
    code = fill_lowrank(predictor, layer, down, up, bias, error);
    if (code != 0) forget(predictor, layer);
    return code;
}

/* --------------------------------------------------------------------------------------- scores */

static int score_lowrank(const flashinfer_predictor *predictor, const flin_lowrank *made,
                         const float *x, float *scores, flashinfer_error *error)
{
    flin_lowrank lowrank = *made;
    float *hidden = malloc(lowrank.rank * sizeof *hidden);
    const void *inputs[1];

    if (hidden == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for rank %u", lowrank.rank);
    lowrank.bias = NULL;
    inputs[0] = x;
    flin_lowrank_hidden(&lowrank, predictor->kernels, inputs, 1, 0, lowrank.rank, &hidden);
    inputs[0] = hidden;
    flin_lowrank_scores(&lowrank, predictor->kernels, inputs, 1, 0, lowrank.rows, &scores);
    free(hidden);
    return 0;
}

int flin_predictor_scores(const flashinfer_predictor *predictor, uint32_t layer, const float *x,
                          float *scores, flashinfer_error *error)
{
    const flin_layer_predictor *made = &predictor->layers[layer].predictor;
    int8_t *levels;
    float scale;

    if (made->kind == FLASHINFER_PREDICTOR_LOWRANK)
        return score_lowrank(predictor, &made->lowrank, x, scores, error);
    levels = malloc(flin_round_up(predictor->width, FLIN_SKETCH_BLOCK));
    if (levels == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for %u inputs", predictor->width);
    scale = predictor->kernels->sketch_input(&made->sketch, x, levels);
    predictor->kernels->sketch_scores(&made->sketch, levels, scale, 0, predictor->neurons, scores);
    free(levels);
    return 0;
}
