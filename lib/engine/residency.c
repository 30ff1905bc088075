/*
 * residency.c - see residency.h.
 */
#include "engine/residency.h"

#include <assert.h>
#include <string.h>

#define READ_BYTES (8u << 20) /* between two looks at whether to go on */
#define LAYER_MATRICES 7u
#define MODEL_MATRICES 5u

/* ----------------------------------------------------------------------------------------- list */

typedef struct listing {
    flin_residency *residency;
    uint32_t alignment;
} listing;

static void add(listing *in, flin_matrix *matrix, enum flin_group group)
{
    flin_residency *residency = in->residency;
    const uint64_t row_bytes = flin_type_bytes(matrix->type, matrix->cols);
    const uint64_t bytes = matrix->rows * row_bytes;
    flin_resident at = {matrix, NULL, group, residency->region_bytes, 0};

    if (!flin_matrix_is_there(matrix)) return;
    at.lead = matrix->offset & (in->alignment - 1);
    residency->region_bytes += flin_round_up(at.lead + bytes, flin_page_bytes());
    if (group != FLIN_GROUP_EMBEDDING) {
        if (row_bytes > residency->row_bytes_max) residency->row_bytes_max = row_bytes;
        residency->stream_bytes += bytes;
        residency->streams++;
        residency->sure += group != FLIN_GROUP_HEAD;
    }
    assert(residency->count < residency->most);
    residency->list[residency->count++] = at;
}

/* In the order of engine/forward.c. */
static void add_layer(listing *in, flin_layer *layer)
{
    flin_attention_layer *attention = &layer->attention;

    add(in, &attention->query.weight, FLIN_GROUP_ATTENTION);
    add(in, &attention->key.weight, FLIN_GROUP_ATTENTION);
    add(in, &attention->value.weight, FLIN_GROUP_ATTENTION);
    add(in, &attention->output.weight, FLIN_GROUP_ATTENTION);
    add(in, &layer->ffn.parts[FLIN_PART_GATE], FLIN_GROUP_FFN);
    add(in, &layer->ffn.parts[FLIN_PART_UP], FLIN_GROUP_FFN);
    add(in, &layer->ffn.parts[FLIN_PART_DOWN], FLIN_GROUP_FFN);
}

void flin_residency_layout(flin_residency *residency, flin_arena *arena, const flin_shape *shape)
{
    memset(residency, 0, sizeof *residency);
    residency->most = shape->layers * LAYER_MATRICES + MODEL_MATRICES;
    residency->list = FLIN_TAKE(arena, flin_resident, residency->most);
    residency->order = FLIN_TAKE(arena, const flin_matrix *, residency->most);
}

void flin_residency_list(flin_residency *residency, flin_weights *weights, const flin_shape *shape,
                         uint32_t alignment)
{
    const int tied = weights->output.weight.tensor == weights->token_embedding.tensor;
    listing in = {residency, alignment};

    residency->count = residency->streams = residency->sure = 0;
    residency->region_bytes = residency->row_bytes_max = residency->stream_bytes = 0;
    add(&in, &weights->project_in.weight, FLIN_GROUP_ATTENTION);
    for (uint32_t i = 0; i < shape->layers; i++) add_layer(&in, &weights->layers[i]);
    add(&in, &weights->project_out.weight, FLIN_GROUP_HEAD);
    add(&in, &weights->output.weight, FLIN_GROUP_HEAD);
    if (tied) residency->list[residency->count - 1].twin = &weights->token_embedding;
    if (!tied) add(&in, &weights->token_embedding, FLIN_GROUP_EMBEDDING);
    add(&in, &weights->position_embedding, FLIN_GROUP_EMBEDDING);
    for (uint32_t i = 0; i < residency->streams; i++)
        residency->order[i] = residency->list[i].matrix;
}

/* --------------------------------------------------------------------------------------- shares */

static uint32_t rows_of(const flin_matrix *matrix, uint32_t share)
{
    return (uint32_t)(((uint64_t)matrix->rows * share + FLIN_SHARE_WHOLE - 1) / FLIN_SHARE_WHOLE);
}

/* Of the region, from where the matrix begins: nothing, or the lead and so many rows. */
static uint64_t bytes_of(const flin_resident *at, uint32_t rows)
{
    if (rows == 0) return 0;
    return at->lead + rows * flin_type_bytes(at->matrix->type, at->matrix->cols);
}

uint64_t flin_residency_bytes(const flin_residency *residency, enum flin_group group,
                              uint32_t share)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < residency->count; i++) {
        const flin_resident *at = &residency->list[i];
        if (at->group == group)
            bytes += flin_round_up(bytes_of(at, rows_of(at->matrix, share)), flin_page_bytes());
    }
    return bytes;
}

uint64_t flin_residency_held(const flin_residency *residency, const uint32_t share[FLIN_GROUPS])
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < residency->count; i++) {
        const flin_resident *at = &residency->list[i];
        bytes += rows_of(at->matrix, share[at->group]) *
                 flin_type_bytes(at->matrix->type, at->matrix->cols);
    }
    return bytes;
}

uint64_t flin_residency_streamed(const flin_residency *residency, const uint32_t share[FLIN_GROUPS])
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < residency->streams; i++) {
        const flin_resident *at = &residency->list[i];
        bytes += (at->matrix->rows - rows_of(at->matrix, share[at->group])) *
                 flin_type_bytes(at->matrix->type, at->matrix->cols);
    }
    return bytes;
}

/* ------------------------------------------------------------------------------------- resizing */

typedef struct reading {
    flin_storage *storage;
    flin_residency_progress progress;
    void *user;
    uint64_t done_bytes;
} reading;

/* Matrix rows [matrix->held, rows) from the file, a few at a time. */
static int read_rows(flin_resident *at, uint32_t rows, reading *from, flashinfer_error *error)
{
    flin_matrix *matrix = at->matrix;
    const uint64_t row_bytes = flin_type_bytes(matrix->type, matrix->cols);
    const uint64_t most = READ_BYTES / row_bytes + 1;

    while (matrix->held < rows) {
        const uint64_t left = rows - matrix->held, now = left < most ? left : most;
        /* read-only for all others, but in the model's own memory */
        uint8_t *to = (uint8_t *)(uintptr_t)matrix->data + matrix->held * row_bytes;
        int code = flin_storage_read(from->storage, matrix->offset + matrix->held * row_bytes, to,
                                     now * row_bytes, matrix->tensor->name.data, error);
        if (code != 0) return code;
        matrix->held += (uint32_t)now;
        from->done_bytes += now * row_bytes;
        if (from->progress != NULL && from->progress(from->done_bytes, from->user) != 0)
            return flin_fail(error, FLASHINFER_ECANCELED,
                             "opening the model was cancelled by the progress callback");
    }
    return 0;
}

static int resize(flin_residency *residency, flin_resident *at, uint32_t rows, reading *from,
                  flashinfer_error *error)
{
    flin_matrix *matrix = at->matrix;
    const uint64_t had = at->begin + bytes_of(at, matrix->held);
    const uint64_t wanted = at->begin + bytes_of(at, rows);
    const uint32_t before = matrix->held;
    int code;

    if (rows < matrix->held) matrix->held = rows;
    code = flin_region_resize(&residency->region, at->begin, had, wanted, "matrices", error);
    if (code != 0) {
        matrix->held = before;
        return code;
    }
    matrix->data = residency->region.base + at->begin + at->lead;
    code = read_rows(at, rows, from, error);
    if (code != 0) /* what was not read takes no memory */
        (void)flin_region_resize(&residency->region, at->begin, wanted,
                                 at->begin + bytes_of(at, matrix->held), "matrices", NULL);
    if (at->twin != NULL) *at->twin = *matrix;
    return code;
}

int flin_residency_resize(flin_residency *residency, enum flin_group group, uint32_t share,
                          flin_storage *storage, flin_residency_progress progress, void *user,
                          flashinfer_error *error)
{
    reading from = {storage, progress, user, flin_residency_held(residency, residency->share)};
    int code = 0;

    if (residency->region.base == NULL)
        code = flin_region_open(&residency->region, residency->region_bytes, "matrices", error);
    for (uint32_t i = 0; i < residency->count && code == 0; i++) {
        flin_resident *at = &residency->list[i];
        if (at->group == group)
            code = resize(residency, at, rows_of(at->matrix, share), &from, error);
    }
    if (code == 0) residency->share[group] = share;
    return code;
}

void flin_residency_close(flin_residency *residency)
{
    flin_region_close(&residency->region);
}
