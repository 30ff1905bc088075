/*
 * expect.c - see expect.h.
 */
#include "engine/expect.h"

#include "engine/embed.h"
#include "engine/linear.h"

void flin_expect_attention(flin_pass *pass, uint32_t layer)
{
    const uint32_t layers = pass->shape->layers;
    const flin_attention_layer *next = &pass->weights->layers[layer % layers].attention;
    const flin_linear *const inputs[] = {&next->query, &next->key, &next->value};

    if (layer == layers && flin_pass_wants_logits(pass))
        flin_unembed_expect(pass);
    else
        flin_linear_expect(pass, inputs, 3);
}

static void expect_whole(flin_pass *pass, const flin_ffn_layer *ffn)
{
    const flin_linear gate = {ffn->parts[FLIN_PART_GATE], NULL};
    const flin_linear up = {ffn->parts[FLIN_PART_UP], NULL};
    const flin_linear *const inputs[] = {ffn->gated ? &gate : &up, &up};

    flin_linear_expect(pass, inputs, ffn->gated ? 2 : 1);
}

void flin_expect_ffn(flin_pass *pass, uint32_t layer)
{
    const flin_layer_predictor *predictor = &pass->weights->layers[layer].predictor;
    const flin_predictor_kind *kind;
    flin_ahead ahead;

    if (flin_shape_is_plain(pass->shape)) {
        expect_whole(pass, &pass->weights->layers[layer].ffn);
        return;
    }
    kind = flin_predictor_kind_of(predictor->kind);
    if (pass->wide || kind->ahead == NULL) return;
    ahead = kind->ahead(predictor);
    flin_pool_expect(&pass->compute->pool, &ahead);
}
