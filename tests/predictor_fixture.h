/*
 * predictor_fixture.h - predictor files for tests: the deciding matrix itself as two factors.
 *
 * The includer has assert_ok().
 */
#ifndef TESTS_PREDICTOR_FIXTURE_H
#define TESTS_PREDICTOR_FIXTURE_H

#include <stdlib.h>

#include "flashinfer.h"

/* The up matrix itself as two factors, in every layer (low-rank) or in every other one (mixed). */
static inline void make_predictors(const char *model_path, uint32_t kind, const char *path)
{
    flashinfer_info info = {.size = sizeof info};
    flashinfer_predictor *predictor;
    flashinfer_model *model;
    flashinfer_error error;
    size_t width;
    float *identity, *up, *bias;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_model_open(model_path, NULL, &model, &error));
    assert_int_equal(flashinfer_model_info(model, &info), 0);
    assert_ok(flashinfer_predictor_create(model, &predictor, &error));
    width = info.embedding_length;
    identity = calloc(width * width, sizeof *identity);
    up = malloc(info.ffn_length * width * sizeof *up);
    bias = malloc(info.ffn_length * sizeof *bias);
    assert_true(identity != NULL && up != NULL && bias != NULL);
    for (size_t i = 0; i < width; i++) identity[i * width + i] = 1;
    for (uint32_t layer = 0; layer < info.layer_count; layer++) {
        if (kind == FLASHINFER_PREDICTOR_MIXED && layer % 2 == 0) continue;
        assert_ok(flashinfer_model_ffn_rows(model, layer, FLASHINFER_PART_UP, 0, info.ffn_length,
                                            up, &error));
        assert_ok(flashinfer_model_ffn_bias(model, layer, bias, &error));
        assert_ok(flashinfer_predictor_set_lowrank(predictor, layer, (uint32_t)width, 0, identity,
                                                   up, bias, &error));
    }
    for (uint32_t layer = 0; kind == FLASHINFER_PREDICTOR_MIXED && layer < info.layer_count;
         layer += 2) {
        assert_ok(flashinfer_predictor_set_sketch(predictor, layer, 3, -1, &error));
    }
    assert_ok(flashinfer_predictor_save(predictor, path, &error));
    flashinfer_predictor_destroy(predictor);
    assert_int_equal(flashinfer_model_close(model), 0);
    free(identity);
    free(up);
    free(bias);
}

#endif
