/*
 * residency.h - which matrix rows of a plain file memory holds: of every matrix the first ones, as
 * large a share of each as the budget allows.
 *
 * Owns: their memory, filling it from the file, the order in which the others stream. Refuses:
 * deciding on shares (plan/budget.c).
 *
 * Matrices of a group have the same share, so that every layer streams about as much: reading and
 * computing then overlap in each.
 */
#ifndef FLIN_ENGINE_RESIDENCY_H
#define FLIN_ENGINE_RESIDENCY_H

#include "engine/ring.h"
#include "util/region.h"

/* In the order in which they get memory. */
enum flin_group {
    FLIN_GROUP_ATTENTION,
    FLIN_GROUP_HEAD,
    FLIN_GROUP_FFN,
    FLIN_GROUP_EMBEDDING, /* of which a token reads one matrix row */
    FLIN_GROUPS
};

#define FLIN_SHARE_WHOLE 1024u /* a share of so many parts is all */

typedef struct flin_resident {
    flin_matrix *matrix;
    flin_matrix *twin; /* the same matrix in another part of the model; NULL: none */
    enum flin_group group;
    uint64_t begin; /* in the region */
    uint64_t lead;  /* bytes before the data, so that reads need no copy */
} flin_resident;

typedef struct flin_residency {
    flin_region region;
    flin_resident *list; /* (count) in the order of use, embeddings last */
    uint32_t count, most;
    uint32_t streams;            /* of them, what may stream: all but embeddings */
    uint32_t sure;               /* of them, what every pass uses: all but the head */
    const flin_matrix **order;   /* (streams) */
    uint64_t region_bytes;       /* all of them, whole */
    uint64_t row_bytes_max;      /* of what may stream */
    uint64_t stream_bytes;       /* of what may stream, whole */
    uint32_t share[FLIN_GROUPS]; /* what is in memory */
} flin_residency;

/* Tables for a model of that shape, from an arena (measuring or real). */
void flin_residency_layout(flin_residency *residency, flin_arena *arena, const flin_shape *shape);

/* List the matrices of a plain file, once weights are laid out. */
void flin_residency_list(flin_residency *residency, flin_weights *weights, const flin_shape *shape,
                         uint32_t alignment);

/* Bytes of a group with that share, in whole pages. */
uint64_t flin_residency_bytes(const flin_residency *residency, enum flin_group group,
                              uint32_t share);

/* Bytes of the file that memory holds, given every group's share. */
uint64_t flin_residency_held(const flin_residency *residency, const uint32_t share[FLIN_GROUPS]);

/* Bytes that a token reads from the file, given every group's share. */
uint64_t flin_residency_streamed(const flin_residency *residency,
                                 const uint32_t share[FLIN_GROUPS]);

/* Called between reads with the bytes that memory holds of all groups; not 0 cancels. */
typedef int (*flin_residency_progress)(uint64_t done_bytes, void *user);

/* Hold that share of a group: less gives memory back, more reads from the file. On failure what was
   held before is held, or less. The ring must be empty. */
int flin_residency_resize(flin_residency *residency, enum flin_group group, uint32_t share,
                          flin_storage *storage, flin_residency_progress progress, void *user,
                          flashinfer_error *error);

void flin_residency_close(flin_residency *residency);

#endif
