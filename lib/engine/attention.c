/*
 * attention.c - see attention.h. Threads share matrix rows of the projections and heads of the
 * attention, so each number is computed by one thread in one order.
 */
#include "engine/attention.h"

#include "engine/capped.h"
#include "engine/expect.h"
#include "engine/linear.h"
#include "engine/norm.h"
#include "engine/state.h"

#define WIDE_ROWS 16u /* queries of a head that a thread takes at once */

typedef struct heads_task {
    flin_pass *pass;
    const flin_attention_layer *attention;
    uint32_t layer;
    /* each head's new keys and values join the cache right before its queries meet them */
    int appends;
} heads_task;

/* ------------------------------------------------------------------------------ keys and values */

/* A row's key and value of a head go where they lie in its session. */
static void append(const heads_task *task, uint32_t head, uint32_t row)
{
    const flin_pass *pass = task->pass;
    const flin_row *at = &pass->rows[row];
    const uint32_t width = task->attention->head_width;
    const uint64_t from = ((uint64_t)row * task->attention->kv_heads + head) * width;
    const uint64_t to = flin_kv_offset(pass->kv, task->layer, head) +
                        at->position * flin_type_bytes(pass->kv->type, width);

    pass->compute->kernels->from_float[pass->kv->type](pass->key + from, width,
                                                       at->session->keys + to);
    pass->compute->kernels->from_float[pass->kv->type](pass->value + from, width,
                                                       at->session->values + to);
}

static void run_append(void *context, uint32_t index, uint32_t count)
{
    const heads_task *task = context;
    uint32_t begin, end;

    flin_pool_share(task->attention->kv_heads, 1, index, count, &begin, &end);
    for (uint32_t head = begin; head < end; head++)
        for (uint32_t row = 0; row < task->pass->count; row++) append(task, head, row);
}

/* ---------------------------------------------------------------------------------------- heads */

static void attend(const heads_task *task, uint32_t head, uint32_t row, void *scratch)
{
    const flin_pass *pass = task->pass;
    const flin_attention_layer *attention = task->attention;
    const flin_row *at = &pass->rows[row];
    const uint32_t width = attention->head_width, end = at->position + 1;
    const uint32_t kv_head = head / (attention->heads / attention->kv_heads);
    const uint32_t met =
        attention->window != 0 && attention->window < end ? attention->window : end;
    const uint64_t offset = flin_kv_offset(pass->kv, task->layer, kv_head) +
                            (end - met) * flin_type_bytes(pass->kv->type, width);
    const uint64_t column = ((uint64_t)row * attention->heads + head) * width;
    const uint8_t *keys = at->session->keys + offset, *values = at->session->values + offset;
    float *query = pass->query + column, *out = pass->attended + column;

    for (uint32_t i = 0; i < width; i++) query[i] *= attention->scale;
    if (FLIN_MORE_ARCHITECTURES && attention->cap > 0)
        flin_attend_capped(pass->compute->kernels, pass->kv->type, attention->cap, query, keys,
                           values, met, width, scratch, out);
    else
        pass->compute->kernels->attend[pass->kv->type](query, keys, values, met, width, width,
                                                       scratch, out);
}

/* Head by head: its keys and values stay in a core's cache for all rows of a session. */
static void run_heads(void *context, uint32_t index, uint32_t count)
{
    const heads_task *task = context;
    const flin_pass *pass = task->pass;
    uint32_t together = pass->wide ? WIDE_ROWS : pass->count;
    uint32_t groups = (pass->count + together - 1) / together, begin, end;
    void *scratch = pass->attend + index * flin_attend_bytes(task->attention->head_width);

    flin_pool_share(task->attention->heads * groups, 1, index, count, &begin, &end);
    for (uint32_t item = begin; item < end; item++) {
        uint32_t first = item % groups * together, head = item / groups;
        if (pass->wide && flin_pass_cancelled(pass)) return;
        for (uint32_t i = first; task->appends && i < pass->count; i++) append(task, head, i);
        for (uint32_t i = first; i < pass->count && i < first + together; i++)
            attend(task, head, i, scratch);
    }
}

/* --------------------------------------------------------------------------------------- rotary */

static void run_rotate(void *context, uint32_t index, uint32_t count)
{
    const heads_task *task = context;
    const flin_pass *pass = task->pass;
    const flin_attention_layer *attention = task->attention;
    const flin_rotary *rotary = &attention->rotary;
    const flin_angles *angles = &pass->angles[attention->local];
    uint64_t turned = rotary->rotated / 2;
    uint32_t begin, end;

    flin_pool_share(pass->count, 1, index, count, &begin, &end);
    for (uint64_t row = begin; row < end; row++) {
        const float *cosines = angles->cosines + row * turned,
                    *sines = angles->sines + row * turned;
        pass->compute->kernels->rotate(pass->query + row * attention->heads * attention->head_width,
                                       attention->heads, attention->head_width, rotary->rotated,
                                       cosines, sines, rotary->pairs);
        pass->compute->kernels->rotate(
            pass->key + row * attention->kv_heads * attention->head_width, attention->kv_heads,
            attention->head_width, rotary->rotated, cosines, sines, rotary->pairs);
    }
}

static void each(flin_pass *pass, flin_pool_task task, heads_task *heads)
{
    if (pass->wide)
        flin_pool_run(&pass->compute->pool, task, heads);
    else
        task(heads, 0, 1);
}

/* Every head of queries and keys is a row of its own. */
static void norm_heads(flin_pass *pass, const flin_attention_layer *attention)
{
    flin_norm_rows(pass, &attention->query_norm, pass->query, pass->query,
                   pass->count * attention->heads);
    flin_norm_rows(pass, &attention->key_norm, pass->key, pass->key,
                   pass->count * attention->kv_heads);
}

int flin_attention(flin_pass *pass, uint32_t layer, const float *x, flashinfer_error *error)
{
    const flin_attention_layer *attention = &pass->weights->layers[layer].attention;
    const flin_linear *const inputs[] = {&attention->query, &attention->key, &attention->value};
    const flin_linear *const output = &attention->output;
    float *const outputs[] = {pass->query, pass->key, pass->value};
    const int alone = !pass->wide && attention->heads == attention->kv_heads;
    heads_task heads = {pass, attention, layer, alone};
    int code;

    flin_pool_expect(&pass->compute->pool, NULL);
    if ((code = flin_linear_apply(pass, inputs, 3, x, outputs, error)) != 0) return code;
    flin_linear_expect(pass, &output, 1);
    if (FLIN_MORE_ARCHITECTURES) norm_heads(pass, attention);
    if (attention->rotary.rotated != 0) each(pass, run_rotate, &heads);
    if (!alone) each(pass, run_append, &heads);
    if (flin_pass_cancelled(pass)) return FLASHINFER_ECANCELED;
    flin_pool_run(&pass->compute->pool, run_heads, &heads);
    flin_expect_ffn(pass, layer);
    return flin_linear_apply(pass, &output, 1, pass->attended, &pass->projected, error);
}
