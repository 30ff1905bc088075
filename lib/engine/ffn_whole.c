/*
 * ffn_whole.c - see ffn_whole.h.
 */
#include "engine/ffn_whole.h"

#include "engine/expect.h"
#include "engine/linear.h"

#define RUN 512u /* neurons that are activated at once */

typedef struct activate_task {
    const flin_pass *pass;
    const flin_ffn_layer *ffn;
} activate_task;

/* Neurons [begin, end) of all rows one behind the other. */
static void run_activate(void *context, uint32_t begin, uint32_t end)
{
    const activate_task *task = context;
    const flin_ffn_lists *lists = &task->pass->lists;
    const uint64_t neurons = task->ffn->neurons;
    uint8_t fires[RUN];

    for (uint64_t at = begin * (uint64_t)RUN; at < end * (uint64_t)RUN; at += RUN) {
        const uint64_t all = neurons * task->pass->count, left = at < all ? all - at : 0;
        const uint32_t count = left < RUN ? (uint32_t)left : RUN;
        if (count == 0) return;
        flin_activate(&task->ffn->activation, task->pass->compute->kernels, lists->values + at,
                      task->ffn->gated ? lists->ups + at : NULL, count, lists->values + at, fires);
    }
}

int flin_ffn_whole(flin_pass *pass, uint32_t layer, const float *x, flashinfer_error *error)
{
    const flin_ffn_layer *ffn = &pass->weights->layers[layer].ffn;
    const flin_linear gate = {ffn->parts[FLIN_PART_GATE], ffn->gate_bias};
    const flin_linear up = {ffn->parts[FLIN_PART_UP], ffn->up_bias};
    const flin_linear down = {ffn->parts[FLIN_PART_DOWN], ffn->down_bias};
    const flin_linear *const inputs[] = {ffn->gated ? &gate : &up, &up};
    const flin_linear *const outputs[] = {&down};
    float *const sums[] = {pass->lists.values, pass->lists.ups};
    const uint64_t all = (uint64_t)ffn->neurons * pass->count;
    activate_task task = {pass, ffn};
    int code = flin_linear_apply(pass, inputs, ffn->gated ? 2 : 1, x, sums, error);

    if (code != 0) return code;
    flin_linear_expect(pass, outputs, 1);
    flin_pool_split(&pass->compute->pool, (uint32_t)((all + RUN - 1) / RUN), 1, run_activate,
                    &task);
    if (flin_pass_cancelled(pass)) return FLASHINFER_ECANCELED;
    flin_expect_attention(pass, layer + 1);
    return flin_linear_apply(pass, outputs, 1, pass->lists.values, &pass->projected, error);
}
