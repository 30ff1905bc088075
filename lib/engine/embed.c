/*
 * embed.c - see embed.h. Both ends have the arithmetic of narrow passes, in wide ones too: few of a
 * prompt's rows want logits, and embeddings are copied more than computed.
 */
#include "engine/embed.h"

#include <math.h>
#include <string.h>

#include "engine/linear.h"
#include "engine/norm.h"

/* A matrix row, from the file where memory does not hold it: then it stands until the next. */
static int matrix_row(const flin_pass *pass, const flin_matrix *matrix, uint64_t row,
                      const uint8_t **data, flashinfer_error *error)
{
    const uint64_t bytes = flin_type_bytes(matrix->type, matrix->cols);

    *data = pass->embedding;
    if (flin_matrix_streams(matrix) != 0 && row >= matrix->held)
        return flin_storage_read(pass->ring->storage, matrix->offset + row * bytes, pass->embedding,
                                 bytes, matrix->tensor->name.data, error);
    *data = (const uint8_t *)matrix->data + row * bytes;
    return 0;
}

/* Rows [first, first + count): at most rows_max. */
static int embed_tokens(flin_pass *pass, uint32_t first, uint32_t count, flashinfer_error *error)
{
    const flin_weights *weights = pass->weights;
    const flin_matrix *tokens = &weights->token_embedding;
    const int projected = flin_matrix_is_there(&weights->project_in.weight);
    const uint32_t width = pass->shape->width;
    float *to[FLIN_INPUTS_MAX];

    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *data;
        int code = matrix_row(pass, tokens, (uint32_t)pass->rows[first + i].token, &data, error);
        if (code != 0) return code;
        to[i] = pass->hidden + (uint64_t)(first + i) * width;
        flin_row_to_float(pass->compute->kernels, tokens->type, data, tokens->cols, 0, tokens->cols,
                          projected ? pass->token + (uint64_t)i * tokens->cols : to[i]);
    }
    if (!projected) return 0;
    return flin_linear_narrow(pass, &weights->project_in, pass->token, count, to, error);
}

static void scale(float *x, uint32_t count, float factor)
{
    for (uint32_t i = 0; i < count; i++) x[i] *= factor;
}

static int add_position(flin_pass *pass, uint32_t row, flashinfer_error *error)
{
    const flin_matrix *positions = &pass->weights->position_embedding;
    float *hidden = pass->hidden + (uint64_t)row * pass->shape->width, *offset = pass->projected;
    const uint8_t *data;
    int code = matrix_row(pass, positions, pass->rows[row].position, &data, error);

    if (code != 0) return code;
    pass->compute->kernels->to_float[positions->type](data, positions->cols, offset);
    for (uint32_t i = 0; i < pass->shape->width; i++) hidden[i] += offset[i];
    return 0;
}

/* How far each pair of a head turns at the row's position; as transformers reckons it, in
   floats. A model may say pair by pair what turns slower. */
static void turn_to_position(flin_pass *pass, const flin_angles *angles, uint32_t row)
{
    const uint32_t pairs = pass->shape->rotary.rotated / 2;
    const float *slowdown = pass->weights->rotary_slowdown;
    float *cosines = angles->cosines + (uint64_t)row * pairs,
          *sines = angles->sines + (uint64_t)row * pairs;

    for (uint32_t k = 0; k < pairs; k++) {
        float angle = (float)pass->rows[row].position * angles->frequencies[k];
        if (slowdown != NULL) angle /= slowdown[k];
        cosines[k] = cosf(angle) * angles->strength;
        sines[k] = sinf(angle) * angles->strength;
    }
}

int flin_embed(flin_pass *pass, flashinfer_error *error)
{
    const int has_positions = flin_matrix_is_there(&pass->weights->position_embedding);
    int code = 0;

    for (uint32_t first = 0; first < pass->count && code == 0; first += pass->rows_max)
        code = embed_tokens(
            pass, first,
            pass->count - first < pass->rows_max ? pass->count - first : pass->rows_max, error);
    for (uint32_t i = 0; i < pass->count && code == 0; i++) {
        if (FLIN_MORE_ARCHITECTURES && pass->shape->embedding_scale > 0)
            scale(pass->hidden + (uint64_t)i * pass->shape->width, pass->shape->width,
                  pass->shape->embedding_scale);
        if (has_positions) code = add_position(pass, i, error);
        for (uint32_t k = 0; k < 2 && pass->angles[k].frequencies != NULL; k++)
            turn_to_position(pass, &pass->angles[k], i);
    }
    return code;
}

/* --------------------------------------------------------------------------------------- logits */

static const flin_linear *first_linear(const flin_weights *weights)
{
    return flin_matrix_is_there(&weights->project_out.weight) ? &weights->project_out
                                                              : &weights->output;
}

void flin_unembed_expect(flin_pass *pass)
{
    const flin_linear *linear = first_linear(pass->weights);

    flin_linear_expect(pass, &linear, 1);
}

/* The `count` rows listed, at most rows_max. */
static int unembed(flin_pass *pass, const uint32_t *list, uint32_t count, flashinfer_error *error)
{
    const flin_weights *weights = pass->weights;
    const flin_shape *shape = pass->shape;
    const uint64_t width = shape->width;
    float *to[FLIN_INPUTS_MAX] = {NULL};
    const float *x = pass->normed;
    int code = 0;

    for (uint32_t i = 0; i < count; i++) {
        const float *hidden = pass->hidden + list[i] * width;
        float *row = pass->normed + i * width;
        if (weights->output_norm.kind == FLIN_NORM_NONE)
            memcpy(row, hidden, width * sizeof *row);
        else
            flin_norm_rows(pass, &weights->output_norm, hidden, row, 1);
        if (FLIN_MORE_ARCHITECTURES && shape->logit_scale > 0)
            scale(row, shape->width, 1.0f / shape->logit_scale);
    }
    if (flin_matrix_is_there(&weights->project_out.weight)) {
        for (uint32_t i = 0; i < count; i++) to[i] = pass->token + (uint64_t)i * shape->token_width;
        code = flin_linear_narrow(pass, &weights->project_out, x, count, to, error);
        if (code != 0) return code;
        x = pass->token;
    }
    for (uint32_t i = 0; i < count; i++) to[i] = pass->rows[list[i]].logits;
    code = flin_linear_narrow(pass, &weights->output, x, count, to, error);
    for (uint32_t i = 0; FLIN_MORE_ARCHITECTURES && code == 0 && shape->logit_cap > 0 && i < count;
         i++)
        for (uint32_t v = 0; v < shape->vocab; v++)
            to[i][v] = shape->logit_cap * tanhf(to[i][v] / shape->logit_cap);
    return code;
}

int flin_unembed(flin_pass *pass, flashinfer_error *error)
{
    uint32_t list[FLIN_INPUTS_MAX], count = 0;
    int code = 0;

    flin_pool_expect(&pass->compute->pool, NULL);
    for (uint32_t i = 0; i < pass->count && code == 0; i++) {
        if (pass->rows[i].logits == NULL) continue;
        list[count++] = i;
        if (count < pass->rows_max) continue;
        code = unembed(pass, list, count, error);
        count = 0;
    }
    if (count != 0 && code == 0) code = unembed(pass, list, count, error);
    return code;
}
