/*
 * predictor_make.h - making predictors, looking at what they say, and the small files they travel
 * in.
 *
 * Owns: a predictor's memory, one layer at a time. Refuses: running models, fitting factors,
 * choosing thresholds.
 */
#ifndef FLIN_PACK_PREDICTOR_MAKE_H
#define FLIN_PACK_PREDICTOR_MAKE_H

#include "plan/open.h"

/* A layer's predictor and the memory it points into. */
typedef struct flin_made_layer {
    flin_layer_predictor predictor;
    void *weights[2];    /* tiles; or down and up */
    float *bias;         /* (neurons) */
    float *column_scale; /* (width), sketch */
} flin_made_layer;

struct flashinfer_predictor {
    flashinfer_model *model;
    uint64_t identity; /* of the model */
    uint32_t layer_count;
    uint32_t width;
    uint32_t neurons;
    uint32_t relu;     /* of all low-rank layers */
    uint32_t lowranks; /* how many those are */
    uint32_t reserved;
    const flin_kernels *kernels;
    flin_made_layer *layers; /* (layer_count) */
};

int flin_predictor_create(flashinfer_model *model, flashinfer_predictor **predictor,
                          flashinfer_error *error);
void flin_predictor_destroy(flashinfer_predictor *predictor);

int flin_predictor_set_sketch(flashinfer_predictor *predictor, uint32_t layer, uint32_t bits,
                              float margin, flashinfer_error *error);
int flin_predictor_set_lowrank(flashinfer_predictor *predictor, uint32_t layer, uint32_t rank,
                               uint32_t relu, const float *down, const float *up, const float *bias,
                               flashinfer_error *error);
int flin_predictor_set_bias(flashinfer_predictor *predictor, uint32_t layer, const float *bias,
                            flashinfer_error *error);
int flin_predictor_scores(const flashinfer_predictor *predictor, uint32_t layer, const float *x,
                          float *scores, flashinfer_error *error);

/* predictor_file.c: a GGUF file of these tensors alone, docs/format.md section 10. */
int flin_predictor_save(const flashinfer_predictor *predictor, const char *path,
                        flashinfer_error *error);

/* predictor_import.c: every layer from the factors in a PowerInfer GGUF, or none. */
int flin_predictor_import(flashinfer_predictor *predictor, const char *path,
                          flashinfer_error *error);

/* Replace a layer by the one that the model itself runs by. */
int flin_predictor_copy_layer(flashinfer_predictor *predictor, uint32_t layer,
                              flashinfer_error *error);

/* Memory for a layer of this kind and size, taking the place of what it had; predictor.* is set
   but for contents. */
int flin_made_sketch(flashinfer_predictor *predictor, uint32_t layer, uint32_t bits,
                     flashinfer_error *error);
int flin_made_lowrank(flashinfer_predictor *predictor, uint32_t layer, uint32_t rank,
                      enum flin_type type, flashinfer_error *error);

/* Bytes of a layer's tensors. */
uint64_t flin_made_bytes(const flin_layer_predictor *predictor);

#endif
