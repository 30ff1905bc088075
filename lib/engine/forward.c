/*
 * forward.c - the story of a pass: embedding, then for each layer attention and FFN, each between
 * its norms and added to the residual stream, then the logits. Which norms there are, and whether
 * the FFN sees what attention adds, is data of the layer.
 */
#include "engine/forward.h"

#include "engine/attention.h"
#include "engine/embed.h"
#include "engine/ffn.h"
#include "engine/norm.h"

/* What a block gets: the residual stream, or its norm. */
static const float *input_of(flin_pass *pass, const flin_norms *norms)
{
    if (norms->before.kind == FLIN_NORM_NONE) return pass->hidden;
    flin_norm_rows(pass, &norms->before, pass->hidden, pass->normed, pass->count);
    return pass->normed;
}

static void run_add(void *context, uint32_t index, uint32_t count)
{
    const flin_pass *pass = context;
    const uint64_t width = pass->shape->width;
    const float scale = pass->shape->residual_scale;
    uint32_t begin, end;

    flin_pool_share(pass->count, 1, index, count, &begin, &end);
    if (FLIN_MORE_ARCHITECTURES && scale > 0)
        for (uint64_t i = begin * width; i < end * width; i++) pass->projected[i] *= scale;
    for (uint64_t i = begin * width; i < end * width; i++) pass->hidden[i] += pass->projected[i];
}

/* A block's outputs join the residual stream. */
static void join(flin_pass *pass, const flin_norms *norms)
{
    flin_norm_rows(pass, &norms->output, pass->projected, pass->projected, pass->count);
    if (pass->wide)
        flin_pool_run(&pass->compute->pool, run_add, pass);
    else
        run_add(pass, 0, 1);
    flin_norm_rows(pass, &norms->after, pass->hidden, pass->hidden, pass->count);
}

int flin_forward(flin_pass *pass, flashinfer_error *error)
{
    int code = 0;

    if (flin_shape_is_plain(pass->shape))
        code = flin_ring_begin(pass->ring, flin_pass_wants_logits(pass), error);
    if (code == 0) code = flin_embed(pass, error);

    for (uint32_t i = 0; i < pass->shape->layers && code == 0; i++) {
        const flin_layer *layer = &pass->weights->layers[i];
        const float *x = NULL;

        if (flin_pass_cancelled(pass)) return FLASHINFER_ECANCELED;
        code = flin_attention(pass, i, input_of(pass, &layer->attention_norms), error);
        if (code == 0 && flin_pass_cancelled(pass)) return FLASHINFER_ECANCELED;
        if (code != 0) break;
        /* attention's input is done with, and what it adds is not there yet */
        if (layer->parallel) x = input_of(pass, &layer->ffn_norms);
        join(pass, &layer->attention_norms);

        if (!layer->parallel) x = input_of(pass, &layer->ffn_norms);
        code = flin_ffn(pass, i, x, error);
        if (code == 0) join(pass, &layer->ffn_norms);
    }
    return code != 0 ? code : flin_unembed(pass, error);
}
