/*
 * embed.c - see embed.h. Both ends have the arithmetic of narrow passes, in wide ones too: few of a
 * prompt's rows want logits, and embeddings are copied more than computed.
 */
#include "engine/embed.h"

#include <math.h>
#include <string.h>

#include "engine/linear.h"
#include "engine/norm.h"

static const uint8_t *matrix_row(const flin_matrix *matrix, uint64_t row)
{
    return (const uint8_t *)matrix->data + row * flin_type_bytes(matrix->type, matrix->cols);
}

/* Rows [first, first + count): at most rows_max. */
static void embed_tokens(flin_pass *pass, uint32_t first, uint32_t count)
{
    const flin_weights *weights = pass->weights;
    const flin_matrix *tokens = &weights->token_embedding;
    const int projected = weights->project_in.weight.data != NULL;
    const uint32_t width = pass->shape->width;
    float *to[FLIN_INPUTS_MAX];

    for (uint32_t i = 0; i < count; i++) {
        to[i] = pass->hidden + (uint64_t)(first + i) * width;
        flin_row_to_float(pass->compute->kernels, tokens->type,
                          matrix_row(tokens, (uint32_t)pass->rows[first + i].token), tokens->cols,
                          0, tokens->cols,
                          projected ? pass->token + (uint64_t)i * tokens->cols : to[i]);
    }
    if (projected) flin_linear_narrow(pass, &weights->project_in, pass->token, count, to);
}

static void scale(float *x, uint32_t count, float factor)
{
    for (uint32_t i = 0; i < count; i++) x[i] *= factor;
}

static void add_position(flin_pass *pass, uint32_t row)
{
    const flin_matrix *positions = &pass->weights->position_embedding;
    float *hidden = pass->hidden + (uint64_t)row * pass->shape->width, *offset = pass->projected;

    pass->compute->kernels->to_float[positions->type](
        matrix_row(positions, pass->rows[row].position), positions->cols, offset);
    for (uint32_t i = 0; i < pass->shape->width; i++) hidden[i] += offset[i];
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

void flin_embed(flin_pass *pass)
{
    for (uint32_t first = 0; first < pass->count; first += pass->rows_max)
        embed_tokens(pass, first,
                     pass->count - first < pass->rows_max ? pass->count - first : pass->rows_max);
    for (uint32_t i = 0; i < pass->count; i++) {
        if (FLIN_MORE_ARCHITECTURES && pass->shape->embedding_scale > 0)
            scale(pass->hidden + (uint64_t)i * pass->shape->width, pass->shape->width,
                  pass->shape->embedding_scale);
        if (pass->weights->position_embedding.data != NULL) add_position(pass, i);
        for (uint32_t k = 0; k < 2 && pass->angles[k].frequencies != NULL; k++)
            turn_to_position(pass, &pass->angles[k], i);
    }
}

/* --------------------------------------------------------------------------------------- logits */

static const flin_linear *first_linear(const flin_weights *weights)
{
    return weights->project_out.weight.data != NULL ? &weights->project_out : &weights->output;
}

void flin_unembed_expect(flin_pass *pass)
{
    const flin_linear *linear = first_linear(pass->weights);

    flin_linear_expect(pass, &linear, 1);
}

/* The `count` rows listed, at most rows_max. */
static void unembed(flin_pass *pass, const uint32_t *list, uint32_t count)
{
    const flin_weights *weights = pass->weights;
    const flin_shape *shape = pass->shape;
    const uint64_t width = shape->width;
    float *to[FLIN_INPUTS_MAX] = {NULL};
    const float *x = pass->normed;

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
    if (weights->project_out.weight.data != NULL) {
        for (uint32_t i = 0; i < count; i++) to[i] = pass->token + (uint64_t)i * shape->token_width;
        flin_linear_narrow(pass, &weights->project_out, x, count, to);
        x = pass->token;
    }
    for (uint32_t i = 0; i < count; i++) to[i] = pass->rows[list[i]].logits;
    flin_linear_narrow(pass, &weights->output, x, count, to);
    for (uint32_t i = 0; FLIN_MORE_ARCHITECTURES && shape->logit_cap > 0 && i < count; i++)
        for (uint32_t v = 0; v < shape->vocab; v++)
            to[i][v] = shape->logit_cap * tanhf(to[i][v] / shape->logit_cap);
}

void flin_unembed(flin_pass *pass)
{
    uint32_t list[FLIN_INPUTS_MAX], count = 0;

    flin_pool_expect(&pass->compute->pool, NULL);
    for (uint32_t i = 0; i < pass->count; i++) {
        if (pass->rows[i].logits == NULL) continue;
        list[count++] = i;
        if (count < pass->rows_max) continue;
        unembed(pass, list, count);
        count = 0;
    }
    if (count != 0) unembed(pass, list, count);
}
