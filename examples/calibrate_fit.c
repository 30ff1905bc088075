/*
 * calibrate_fit.c - a layer's candidates: sketches of every size, low-rank factors of several ranks, judged alike.
 */
#include <stdlib.h>
#include <string.h>

#include "calibrate.h"

static int try_one(judge *by, const flashinfer_predictor *predictor, double recall,
                   calibrate_candidate *candidate, flashinfer_error *error)
{
    judge_point *wanted = &candidate->points[CALIBRATE_POINTS - 1];
    int code = judge_look(by, predictor, error);

    if (code != 0) return code;
    for (uint32_t k = 0; k + 1 < CALIBRATE_POINTS; k++)
        candidate->points[k].recall = judge_recalls[k];
    wanted->recall = recall;
    judge_points(by, candidate->points, CALIBRATE_POINTS);
    candidate->bytes = flashinfer_predictor_bytes(predictor, by->layer);
    candidate->share = wanted->share;
    candidate->recall = wanted->recall;
    candidate->bias = malloc(by->neurons * sizeof *candidate->bias);
    if (candidate->bias == NULL) return FLASHINFER_ENOMEM;
    judge_bias(by, wanted->slack, candidate->bias);
    return 0;
}

static int try_sketches(judge *by, flashinfer_predictor *predictor, const calibrate_wish *wish,
                        calibrate_layer *found, flashinfer_error *error)
{
    int code = 0;

    for (uint32_t bits = 1; bits <= CALIBRATE_SKETCHES && code == 0; bits++) {
        calibrate_candidate *candidate = &found->candidates[bits - 1];
        if (wish->bits != 0 && wish->bits != bits) continue;
        candidate->kind = FLASHINFER_PREDICTOR_SKETCH;
        candidate->size = bits;
        code = flashinfer_predictor_set_sketch(predictor, by->layer, bits, 0, error);
        if (code == 0) code = try_one(by, predictor, wish->recall, candidate, error);
    }
    return code;
}

/* The rank of a candidate, 0 for none. */
static uint32_t rank_of(const calibrate_wish *wish, uint32_t width, uint32_t candidate)
{
    static const uint32_t parts[CALIBRATE_RANKS] = {32, 16, 8, 4, 2, 1};

    if (wish->rank != 0) return candidate != 0 ? 0 : wish->rank < width ? wish->rank : width;
    return width / parts[candidate];
}

/* The predictor's layer from the first `rank` of the factors. */
static int set_factors(flashinfer_predictor *predictor, uint32_t layer,
                       const calibrate_factors *factors, uint32_t rank, const float *bias,
                       flashinfer_error *error)
{
    float *up = malloc((size_t)rank * factors->neurons * sizeof *up);
    float *zeros = calloc(factors->neurons, sizeof *zeros);
    int code = FLASHINFER_ENOMEM;

    if (up != NULL && zeros != NULL) {
        for (uint32_t r = 0; r < rank; r++)
            for (uint32_t i = 0; i < factors->neurons; i++)
                up[(size_t)i * rank + r] = factors->up[(size_t)r * factors->neurons + i];
        code = flashinfer_predictor_set_lowrank(predictor, layer, rank, 0, factors->down, up,
                                                bias != NULL ? bias : zeros, error);
    }
    free(up);
    free(zeros);
    return code;
}

static int try_lowranks(judge *by, flashinfer_predictor *predictor, const calibrate_wish *wish,
                        calibrate_layer *found, flashinfer_error *error)
{
    calibrate_factors factors;
    uint32_t most = wish->rank != 0 && wish->rank < by->width ? wish->rank : by->width;
    int code = calibrate_factors_open(&factors, by, most);

    for (uint32_t k = 0; k < CALIBRATE_RANKS && code == 0; k++) {
        calibrate_candidate *candidate = &found->candidates[CALIBRATE_SKETCHES + k];
        uint32_t rank = rank_of(wish, by->width, k);
        if (rank == 0) continue;
        candidate->kind = FLASHINFER_PREDICTOR_LOWRANK;
        candidate->size = rank;
        code = set_factors(predictor, by->layer, &factors, rank, NULL, error);
        if (code == 0) code = try_one(by, predictor, wish->recall, candidate, error);
    }
    calibrate_factors_close(&factors);
    return code;
}

int calibrate_fit(flashinfer_model *model, flashinfer_predictor *predictor, uint32_t layer,
                  const samples *from, const calibrate_wish *wish, calibrate_layer *found,
                  flashinfer_error *error)
{
    judge by;
    int code = judge_open(&by, model, layer, from, wish->threads, error);

    if (code == 0) found->active = judge_active(&by);
    if (code == 0 && wish->sketches) code = try_sketches(&by, predictor, wish, found, error);
    if (code == 0 && wish->lowranks) code = try_lowranks(&by, predictor, wish, found, error);
    judge_close(&by);
    return code;
}

/* Factors are many bytes: those of the chosen rank are made once more instead of keeping all. */
static int make_factors(flashinfer_model *model, flashinfer_predictor *predictor, uint32_t layer,
                        const samples *from, const calibrate_candidate *chosen,
                        flashinfer_error *error)
{
    calibrate_factors factors;
    judge by;
    int code = judge_open(&by, model, layer, from, 1, error);

    if (code == 0) {
        code = calibrate_factors_open(&factors, &by, chosen->size);
        if (code == 0)
            code = set_factors(predictor, layer, &factors, chosen->size, chosen->bias, error);
        calibrate_factors_close(&factors);
    }
    judge_close(&by);
    return code;
}

int calibrate_make(flashinfer_model *model, flashinfer_predictor *predictor, uint32_t layer,
                   const samples *from, const calibrate_layer *found, flashinfer_error *error)
{
    const calibrate_candidate *chosen = &found->candidates[found->chosen];
    int code;

    if (chosen->kind == FLASHINFER_PREDICTOR_LOWRANK)
        return make_factors(model, predictor, layer, from, chosen, error);
    code = flashinfer_predictor_set_sketch(predictor, layer, chosen->size, 0, error);
    return code != 0 ? code : flashinfer_predictor_set_bias(predictor, layer, chosen->bias, error);
}

void calibrate_layer_close(calibrate_layer *layer)
{
    for (uint32_t k = 0; k < CALIBRATE_CANDIDATES; k++) free(layer->candidates[k].bias);
    memset(layer, 0, sizeof *layer);
}
