/*
 * pass.c - see pass.h.
 */
#include "engine/pass.h"

#include <math.h>

#include "engine/state.h"

#define TOKENS_MIN 24u /* multiples of every tile's tokens */
#define TOKENS_MAX 528u
#define FILE_SHARE 128u  /* a wide pass's buffers take this part of the model file */
#define BUFFERS 5u       /* of (rows, width), as that share is reckoned */
#define WHOLE_BUFFERS 3u /* of (rows, ffn) in a plain file, likewise */
#define LEAST_NAMED 32u
#define LEAST_DENSE 8u

uint32_t flin_pass_least(int misses)
{
    return misses ? LEAST_NAMED : LEAST_DENSE;
}

/* Products with more rows at once round no differently, but the FFN of a layer is read once for
   each wide pass. */
static uint32_t wide_rows(uint64_t model_bytes, const flin_shape *shape)
{
    uint64_t whole = flin_shape_is_plain(shape) ? WHOLE_BUFFERS * (uint64_t)shape->ffn : 0;
    uint64_t row_bytes = (BUFFERS * (uint64_t)shape->width + whole) * sizeof(float);
    uint64_t rows = model_bytes / FILE_SHARE / row_bytes;

    rows = rows / TOKENS_MIN * TOKENS_MIN;
    return rows < TOKENS_MIN ? TOKENS_MIN : rows > TOKENS_MAX ? TOKENS_MAX : (uint32_t)rows;
}

/* Few matrix rows where the model is small. */
static uint32_t block_rows(uint32_t width, const flin_tile *tile)
{
    uint32_t rows = (uint32_t)flin_round_up(width / 16 + 1, tile->rows);

    return rows < FLIN_GEMM_ROWS_MAX ? rows : FLIN_GEMM_ROWS_MAX;
}

static float *take_floats(flin_arena *arena, uint64_t count)
{
    return flin_arena_take(arena, count * sizeof(float), FLIN_GEMM_ALIGNMENT);
}

static void layout_threads(flin_pass *pass, flin_arena *arena, uint32_t threads)
{
    flin_wide *wide = &pass->wide_buffers;
    uint32_t chunk = pass->stream->chunk;

    wide->threads = FLIN_TAKE(arena, flin_wide_thread, threads);
    for (uint32_t i = 0; i < threads; i++) {
        flin_wide_thread thread;
        thread.panels = take_floats(arena, flin_gemm_w_floats(&pass->compute->tile, wide->block));
        thread.rows = FLIN_TAKE(arena, const void *, chunk);
        thread.firing = FLIN_TAKE(arena, float, chunk);
        thread.fires = FLIN_TAKE(arena, uint8_t, chunk);
        if (wide->threads != NULL) wide->threads[i] = thread;
    }
}

/* rows: of the buffers. The widest input of a product is the residual stream's or the heads'. */
static void layout_wide(flin_pass *pass, flin_arena *arena, uint32_t rows, uint32_t threads)
{
    const flin_shape *shape = pass->shape;
    flin_wide *wide = &pass->wide_buffers;
    uint32_t chunk = pass->stream->chunk, heads = shape->heads * shape->head_width;
    uint32_t widest = shape->width > heads ? shape->width : heads;

    if (flin_shape_is_plain(shape) && shape->ffn > widest) widest = shape->ffn;
    wide->rows = FLIN_TAKE(arena, flin_row, rows);
    wide->block = block_rows(shape->width, &pass->compute->tile);
    wide->packed = take_floats(arena, flin_gemm_x_floats(&pass->compute->tile, rows, widest));
    wide->sums = FLIN_TAKE(arena, float, (uint64_t)rows *chunk);
    wide->deciders = FLIN_TAKE(arena, const void *, chunk);
    if (shape->gated) {
        wide->ups = FLIN_TAKE(arena, float, (uint64_t)rows *chunk);
        wide->up = FLIN_TAKE(arena, const void *, chunk);
    }
    wide->down = FLIN_TAKE(arena, const void *, chunk);
    wide->late = FLIN_TAKE(arena, uint8_t, (uint64_t)FLIN_LATE_ROWS * chunk);
    wide->admitted = FLIN_TAKE(arena, uint32_t, chunk);
    layout_threads(pass, arena, threads);
}

/* What all neurons of a layer come to, in a plain file. */
static void layout_whole(flin_pass *pass, flin_arena *arena, uint64_t rows)
{
    const flin_weights *weights = pass->weights;
    const flin_matrix *tables[] = {&weights->token_embedding, &weights->position_embedding};
    const uint64_t all = rows * pass->shape->ffn;
    uint64_t most = 0;

    pass->lists.values = FLIN_TAKE(arena, float, all);
    if (pass->shape->gated) pass->lists.ups = FLIN_TAKE(arena, float, all);
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t bytes = flin_type_bytes(tables[i]->type, tables[i]->cols);
        if (bytes > most) most = bytes;
    }
    pass->embedding = flin_arena_take(arena, most, 64);
}

static void layout_lists(flin_pass *pass, flin_arena *arena)
{
    flin_ffn_lists *lists = &pass->lists;
    uint32_t ffn = pass->shape->ffn;
    uint64_t all = (uint64_t)pass->rows_max * ffn;

    lists->ids = FLIN_TAKE(arena, uint32_t, ffn);
    lists->payloads = FLIN_TAKE(arena, const uint8_t *, ffn);
    lists->present = FLIN_TAKE(arena, uint32_t, ffn);
    lists->missing = FLIN_TAKE(arena, uint32_t, ffn);
    lists->landed = FLIN_TAKE(arena, uint32_t, ffn);
    lists->damaged = FLIN_TAKE(arena, uint8_t, ffn);
    lists->values = FLIN_TAKE(arena, float, all);
    lists->fires = FLIN_TAKE(arena, uint8_t, all + (pass->watch->audit_interval != 0 ? ffn : 0));
    lists->firing_rows = FLIN_TAKE(arena, const void *, ffn);
    lists->firing = FLIN_TAKE(arena, float, ffn);
    for (uint32_t i = 0; pass->watch->audit_interval != 0 && i < 2; i++)
        lists->audit[i] = FLIN_TAKE(arena, float, pass->shape->width);
}

/* The pair that turns `turns` times within the context a model was first trained with. */
static float pair_of(const flin_rotary *rotary, float turns)
{
    const double radians = (double)turns * 2 * 3.14159265358979323846;

    return (float)(rotary->rotated * log(rotary->context / radians) / (2 * log(rotary->base)));
}

/* 1: the pair turns as if contexts were not longer than at first; 0: slower by the factor. */
static float share_of(const flin_rotary *rotary, uint32_t pair)
{
    const float last = (float)rotary->rotated - 1;
    const float begin = fmaxf(floorf(pair_of(rotary, rotary->fast)), 0);
    float end = fminf(ceilf(pair_of(rotary, rotary->slow)), last), ramp;

    if (!(end > begin)) end = begin + 0.001f;
    ramp = ((float)pair - begin) / (end - begin);
    return 1.0f - fminf(fmaxf(ramp, 0.0f), 1.0f);
}

/* A frequency as contexts longer than the first one have it. */
static float stretched(const flin_rotary *rotary, uint32_t pair, float frequency)
{
    const float slow = frequency / rotary->factor;
    float share = 0;

    if (rotary->scaling == FLIN_SCALING_YARN) share = share_of(rotary, pair);
    return slow * (1.0f - share) + frequency * share;
}

/* What longer contexts do to cosines and sines (Peng et al. 2023). */
static float strength_of(const flin_rotary *rotary)
{
    const float own = rotary->strength > 0 ? rotary->strength : 1.0f;

    return rotary->scaling == FLIN_SCALING_YARN && rotary->factor > 1
               ? own * (0.1f * logf(rotary->factor) + 1.0f)
               : own;
}

/* Radians a position, as transformers reckons them, in floats. */
static void layout_angles(flin_angles *angles, flin_arena *arena, const flin_rotary *rotary,
                          uint64_t rows)
{
    const uint32_t pairs = rotary->rotated / 2;

    angles->cosines = FLIN_TAKE(arena, float, rows *pairs);
    angles->sines = FLIN_TAKE(arena, float, rows *pairs);
    angles->frequencies = FLIN_TAKE(arena, float, pairs);
    angles->strength = 1.0f;
    for (uint32_t k = 0; angles->frequencies != NULL && k < pairs; k++) {
        float *frequency = &angles->frequencies[k];
        *frequency = 1.0f / powf(rotary->base, (float)(2 * k) / (float)rotary->rotated);
        if (FLIN_MORE_ARCHITECTURES && rotary->scaling != FLIN_SCALING_NONE)
            *frequency = stretched(rotary, k, *frequency);
    }
    if (FLIN_MORE_ARCHITECTURES && rotary->scaling != FLIN_SCALING_NONE)
        angles->strength = strength_of(rotary);
}

static void layout_rotary(flin_pass *pass, flin_arena *arena, uint64_t rows)
{
    flin_rotary local = {.rotated = pass->shape->rotary.rotated, .base = pass->shape->local_base};

    layout_angles(&pass->angles[0], arena, &pass->shape->rotary, rows);
    if (FLIN_MORE_ARCHITECTURES && local.base > 0)
        layout_angles(&pass->angles[1], arena, &local, rows);
}

static void layout_narrow(flin_pass *pass, flin_arena *arena, uint32_t threads)
{
    const flin_shape *shape = pass->shape;
    uint32_t heads = shape->heads * shape->head_width, widest = shape->width;

    if (heads > widest) widest = heads;
    if (shape->token_width > widest) widest = shape->token_width;
    if (flin_shape_is_plain(shape) && shape->ffn > widest) widest = shape->ffn;
    pass->token = FLIN_TAKE(arena, float, (uint64_t)pass->rows_max * shape->token_width);
    pass->levels_bytes = (uint32_t)flin_levels_bytes(widest);
    pass->levels = flin_arena_take(arena, (uint64_t)pass->rows_max * pass->levels_bytes, 64);
    pass->attend = flin_arena_take(arena, threads * flin_attend_bytes(shape->head_width), 64);
}

void flin_pass_layout(flin_pass *pass, flin_arena *arena, uint64_t model_bytes, uint32_t threads)
{
    const flin_shape *shape = pass->shape;
    uint32_t heads = shape->heads * shape->head_width;
    uint32_t kv_heads = shape->kv_heads * shape->head_width;
    uint64_t rows = wide_rows(model_bytes, shape);

    pass->wide_buffers.rows_max = (uint32_t)rows;
    if (rows > pass->kv->context) rows = pass->kv->context; /* no chunk is longer */
    if (rows < pass->rows_max) rows = pass->rows_max;
    pass->hidden = FLIN_TAKE(arena, float, rows * shape->width);
    pass->normed = FLIN_TAKE(arena, float, rows * shape->width);
    pass->projected = FLIN_TAKE(arena, float, rows * shape->width);
    /* queries are done with when outputs come, a block's input once it has been multiplied */
    pass->query = heads <= shape->width ? pass->projected : FLIN_TAKE(arena, float, rows *heads);
    pass->key = FLIN_TAKE(arena, float, rows *kv_heads);
    pass->value = FLIN_TAKE(arena, float, rows *kv_heads);
    pass->attended = heads <= shape->width ? pass->normed : FLIN_TAKE(arena, float, rows *heads);
    layout_rotary(pass, arena, rows);
    layout_narrow(pass, arena, threads);
    if (flin_shape_is_plain(shape))
        layout_whole(pass, arena, rows);
    else
        layout_lists(pass, arena);
    layout_wide(pass, arena, (uint32_t)rows, threads);
}

/* Rows of a wide pass are one session's. */
int flin_pass_cancelled(const flin_pass *pass)
{
    for (uint32_t i = 0; i < (pass->wide ? 1 : pass->count); i++) {
        const flashinfer_session *session = pass->rows[i].session;
        if (session->call < atomic_load_explicit(&session->cancelled, memory_order_relaxed))
            return 1;
    }
    return 0;
}

int flin_pass_wants_logits(const flin_pass *pass)
{
    for (uint32_t i = 0; i < pass->count; i++)
        if (pass->rows[i].logits != NULL) return 1;
    return 0;
}

void flin_pass_inputs(flin_pass *pass, enum flin_type type, const float *x, uint32_t cols,
                      uint32_t count, const void *inputs[FLIN_INPUTS_MAX])
{
    for (uint32_t i = 0; i < count; i++) {
        void *levels = pass->levels + (uint64_t)i * pass->levels_bytes;
        inputs[i] = x + (uint64_t)i * cols;
        if (!flin_type_quantised(type)) continue;
        pass->compute->kernels->quantise(x + (uint64_t)i * cols, cols, levels);
        inputs[i] = levels;
    }
}
