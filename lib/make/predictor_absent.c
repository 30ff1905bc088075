/*
 * predictor_absent.c - stands in for making predictors in builds made without it, so that the ABI
 * stays whole. Models run by the predictors in their files and by predictor files all the same.
 */
#include "make/predictor_make.h"

static int refuse(flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "this build of the library was made without predictor_making; build it with "
                     "-Dpredictor_making=enabled");
}

int flin_predictor_create(flashinfer_model *model, flashinfer_predictor **predictor,
                          flashinfer_error *error)
{
    (void)model;
    (void)predictor;
    return refuse(error);
}

void flin_predictor_destroy(flashinfer_predictor *predictor)
{
    (void)predictor;
}

int flin_predictor_copy_layer(flashinfer_predictor *predictor, uint32_t layer,
                              flashinfer_error *error)
{
    (void)predictor;
    (void)layer;
    return refuse(error);
}

int flin_predictor_set_sketch(flashinfer_predictor *predictor, uint32_t layer, uint32_t bits,
                              float margin, flashinfer_error *error)
{
    (void)predictor;
    (void)layer;
    (void)bits;
    (void)margin;
    return refuse(error);
}

int flin_predictor_set_lowrank(flashinfer_predictor *predictor, uint32_t layer, uint32_t rank,
                               uint32_t relu, const float *down, const float *up, const float *bias,
                               flashinfer_error *error)
{
    (void)predictor;
    (void)layer;
    (void)rank;
    (void)relu;
    (void)down;
    (void)up;
    (void)bias;
    return refuse(error);
}

int flin_predictor_set_bias(flashinfer_predictor *predictor, uint32_t layer, const float *bias,
                            flashinfer_error *error)
{
    (void)predictor;
    (void)layer;
    (void)bias;
    return refuse(error);
}

int flin_predictor_scores(const flashinfer_predictor *predictor, uint32_t layer, const float *x,
                          float *scores, flashinfer_error *error)
{
    (void)predictor;
    (void)layer;
    (void)x;
    (void)scores;
    return refuse(error);
}

int flin_predictor_save(const flashinfer_predictor *predictor, const char *path,
                        flashinfer_error *error)
{
    (void)predictor;
    (void)path;
    return refuse(error);
}

int flin_predictor_import(flashinfer_predictor *predictor, const char *path,
                          flashinfer_error *error)
{
    (void)predictor;
    (void)path;
    return refuse(error);
}

uint64_t flin_made_bytes(const flin_layer_predictor *predictor)
{
    (void)predictor;
    return 0;
}
