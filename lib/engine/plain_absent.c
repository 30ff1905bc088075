/*
 * plain_absent.c - stands in for ring, residency and whole FFNs in builds made without plain files,
 * which refuse them when they are opened: none of this is ever reached with one.
 */
#include "engine/ffn_whole.h"
#include "engine/residency.h"

int flin_ring_begin(flin_ring *ring, int all, flashinfer_error *error)
{
    (void)ring;
    (void)all;
    (void)error;
    return 0;
}

int flin_ring_take(flin_ring *ring, const flin_matrix *matrix, int wait, flin_run *run,
                   flashinfer_error *error)
{
    (void)ring;
    (void)matrix;
    (void)wait;
    (void)error;
    *run = (flin_run){NULL, 0, 0};
    return FLASHINFER_EUNSUPPORTED;
}

void flin_ring_give_back(flin_ring *ring)
{
    (void)ring;
}

void flin_ring_reset(flin_ring *ring)
{
    (void)ring;
}

int flin_ffn_whole(flin_pass *pass, uint32_t layer, const float *x, flashinfer_error *error)
{
    (void)pass;
    (void)layer;
    (void)x;
    (void)error;
    return FLASHINFER_EUNSUPPORTED;
}

void flin_ring_layout(flin_ring *ring, flin_arena *arena, flin_storage *storage, uint64_t row_bytes,
                      uint64_t total_bytes)
{
    (void)ring;
    (void)arena;
    (void)storage;
    (void)row_bytes;
    (void)total_bytes;
}

void flin_ring_set_order(flin_ring *ring, const flin_matrix *const *order, uint32_t count,
                         uint32_t sure_count)
{
    (void)ring;
    (void)order;
    (void)count;
    (void)sure_count;
}

void flin_residency_layout(flin_residency *residency, flin_arena *arena, const flin_shape *shape)
{
    (void)residency;
    (void)arena;
    (void)shape;
}

void flin_residency_list(flin_residency *residency, flin_weights *weights, const flin_shape *shape,
                         uint32_t alignment)
{
    (void)residency;
    (void)weights;
    (void)shape;
    (void)alignment;
}

uint64_t flin_residency_bytes(const flin_residency *residency, enum flin_group group,
                              uint32_t share)
{
    (void)residency;
    (void)group;
    (void)share;
    return 0;
}

uint64_t flin_residency_held(const flin_residency *residency, const uint32_t share[FLIN_GROUPS])
{
    (void)residency;
    (void)share;
    return 0;
}

uint64_t flin_residency_streamed(const flin_residency *residency, const uint32_t share[FLIN_GROUPS])
{
    (void)residency;
    (void)share;
    return 0;
}

int flin_residency_resize(flin_residency *residency, enum flin_group group, uint32_t share,
                          flin_storage *storage, flin_residency_progress progress, void *user,
                          flashinfer_error *error)
{
    (void)residency;
    (void)group;
    (void)share;
    (void)storage;
    (void)progress;
    (void)user;
    (void)error;
    return 0;
}

void flin_residency_close(flin_residency *residency)
{
    (void)residency;
}
