/*
 * expect.c - see expect.h.
 */
#include "engine/expect.h"

#include "engine/embed.h"
#include "engine/linear.h"

static int wants_logits(const flin_pass *pass)
{
    for (uint32_t i = 0; i < pass->count; i++)
        if (pass->rows[i].logits != NULL) return 1;
    return 0;
}

void flin_expect_attention(flin_pass *pass, uint32_t layer)
{
    const uint32_t layers = pass->shape->layers;
    const flin_attention_layer *next = &pass->weights->layers[layer % layers].attention;
    const flin_linear *const inputs[] = {&next->query, &next->key, &next->value};

    if (layer == layers && wants_logits(pass))
        flin_unembed_expect(pass);
    else
        flin_linear_expect(pass, inputs, 3);
}

void flin_expect_ffn(flin_pass *pass, uint32_t layer)
{
    const flin_layer_predictor *predictor = &pass->weights->layers[layer].predictor;
    const flin_predictor_kind *kind = flin_predictor_kind_of(predictor->kind);
    flin_ahead ahead;

    if (pass->wide || kind->ahead == NULL) return;
    ahead = kind->ahead(predictor);
    flin_pool_expect(&pass->compute->pool, &ahead);
}
