/*
 * dense.c - see dense.h.
 */
#include "engine/dense.h"

flin_neurons flin_dense_neurons(flin_pass *pass, const flin_chunk *chunk)
{
    const flin_ffn_layer *ffn = &pass->weights->layers[chunk->extent->layer].ffn;

    return (flin_neurons){ffn,
                          pass->fetcher->bundle,
                          chunk->extent,
                          chunk->ids,
                          chunk->payloads,
                          pass->stream->damaged,
                          ffn->neurons,
                          pass->lists.values,
                          pass->lists.fires,
                          pass->shape->width};
}

int flin_dense_activate(flin_pass *pass, const flin_chunk *chunk, const flin_neurons *neurons,
                        const flin_asking_rows *rows, flashinfer_error *error)
{
    const flin_fetcher *checker = pass->fetcher->verify ? pass->fetcher : NULL;
    const uint32_t *all = pass->stream->all;
    int code;

    if (flin_neurons_activate(pass->compute, neurons, rows, all, chunk->count, checker, NULL) == 0)
        return 0;
    code = flin_stream_mend(pass->stream, pass->fetcher, chunk, error);
    if (code == 0)
        (void)flin_neurons_activate(pass->compute, neurons, rows, all, chunk->count, NULL, NULL);
    return code;
}

typedef struct dense_task {
    flin_pass *pass;
    const flin_asking_rows *rows;
} dense_task;

static int take_chunk(const flin_chunk *chunk, void *context, flashinfer_error *error)
{
    const dense_task *task = context;
    flin_pass *pass = task->pass;
    const flin_sum_lists lists = {pass->lists.firing_rows, pass->lists.firing};
    const flin_neurons neurons = flin_dense_neurons(pass, chunk);
    int code;

    if (flin_pass_cancelled(pass)) return FLASHINFER_ECANCELED;
    code = flin_dense_activate(pass, chunk, &neurons, task->rows, error);
    if (code != 0) return code;
    pass->tally.streamed += (uint64_t)chunk->count * pass->count;
    pass->tally.active += flin_neurons_sum(pass->compute, &neurons, pass->count, chunk->count,
                                           &lists, pass->projected);
    return 0;
}

int flin_dense_run(flin_pass *pass, uint32_t layer, uint32_t first, const flin_asking_rows *rows,
                   flashinfer_error *error)
{
    flin_asking_rows all = *rows;
    dense_task task = {pass, &all};

    all.masks = NULL;
    all.sums = NULL;
    return flin_stream_run(pass->stream, pass->fetcher, &pass->whole[layer], first,
                           pass->shape->ffn, take_chunk, &task, error);
}
