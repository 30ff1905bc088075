/*
 * ring.c - see ring.h. A piece goes empty -> ready -> out -> landed -> empty; a read that failed or
 * came back short is tried once more, whole; one that timed out is lost until it lands.
 */
#include "engine/ring.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "util/clock.h"

#define PIECE_BYTES (1u << 20) /* a read: drives come close to their best rate with it */
#define PIECES_LEAST 4u
#define TOTAL_SHARE 4u /* of what could stream, the ring takes no more than this part */

enum { PIECE_EMPTY, PIECE_READY, PIECE_OUT, PIECE_LANDED, PIECE_FAILED, PIECE_LOST };

/* --------------------------------------------------------------------------------------- layout */

void flin_ring_layout(flin_ring *ring, flin_arena *arena, flin_storage *storage, uint64_t row_bytes,
                      uint64_t total_bytes)
{
    const uint64_t alignment = storage->caps.alignment;
    const uint64_t least = flin_round_up(row_bytes + 2 * alignment, FLIN_PAGE_BYTES);
    uint64_t bytes = flin_round_up(total_bytes / TOTAL_SHARE / 16, FLIN_PAGE_BYTES);
    uint32_t pieces = 16;

    ring->storage = storage;
    ring->pieces_max = 0;
    if (total_bytes == 0) return;
    if (bytes > PIECE_BYTES) bytes = PIECE_BYTES;
    if (bytes < least) {
        bytes = least;
        pieces = PIECES_LEAST;
    }
    ring->piece_bytes = (uint32_t)bytes;
    ring->pieces_max = pieces;
    ring->memory = flin_arena_take(arena, bytes * pieces, FLIN_PAGE_BYTES);
}

void flin_ring_set_order(flin_ring *ring, const flin_matrix *const *order, uint32_t count,
                         uint32_t sure_count)
{
    ring->order = order;
    ring->order_count = count;
    ring->sure_count = sure_count;
    ring->pass_count = count;
    ring->next = ring->used = (flin_ring_place){0, 0};
}

/* --------------------------------------------------------------------------------------- places */

/* Move on to a matrix of the first `count` that has rows to stream. 0: there is none. */
static int settle(const flin_ring *ring, flin_ring_place *place, uint32_t count)
{
    while (place->matrix < count) {
        const flin_matrix *matrix = ring->order[place->matrix];
        if (place->row < matrix->held) place->row = matrix->held;
        if (place->row < matrix->rows) return 1;
        *place = (flin_ring_place){place->matrix + 1, 0};
    }
    return 0;
}

/* Is there more to read ahead? Behind the end of a pass comes the beginning of the next, of which
   nobody knows yet whether it uses more than every pass does. */
static int has_next(flin_ring *ring)
{
    if (!ring->ahead) {
        if (settle(ring, &ring->next, ring->pass_count)) return 1;
        ring->ahead = 1;
        ring->next = (flin_ring_place){0, 0};
    }
    return settle(ring, &ring->next, ring->sure_count);
}

/* Has the pass before used all it had, so that what is here is for the one that begins? */
static int is_at_beginning(const flin_ring *ring)
{
    flin_ring_place first = {0, 0}, used = ring->used;

    (void)settle(ring, &first, ring->order_count);
    (void)settle(ring, &used, ring->order_count);
    return first.matrix == used.matrix && first.row == used.row;
}

/* Callers may have copies. */
static int same(const flin_matrix *one, const flin_matrix *other)
{
    return one->tensor == other->tensor && one->offset == other->offset;
}

static flin_ring_piece *piece_at(flin_ring *ring, uint32_t index)
{
    return &ring->pieces[(ring->head + index) % ring->pieces_max];
}

/* ---------------------------------------------------------------------------------------- reads */

static int piece_landed(void *context, uint32_t index, int64_t result)
{
    flin_ring *ring = context;
    flin_ring_piece *piece;

    if (index >= ring->pieces_max) return -1;
    piece = &ring->pieces[index];
    if (piece->state == PIECE_LOST) {
        piece->state = PIECE_EMPTY;
        ring->storage->lost--;
        return 0;
    }
    if (piece->state != PIECE_OUT) return -1;
    ring->counts.reads++;
    if (result > (int64_t)piece->segment.bytes) result = -EPROTO;
    if (result > 0) ring->counts.bytes += (uint64_t)result;
    piece->result = result;
    piece->state = PIECE_LANDED;
    if (result >= (int64_t)piece->need) return 0;
    piece->state = piece->tries++ == 0 ? PIECE_READY : PIECE_FAILED;
    ring->counts.retries += piece->state == PIECE_READY;
    return 0;
}

/* The next run of matrix rows into the piece behind the last. */
static void fill(flin_ring *ring)
{
    const uint32_t index = (ring->head + ring->count) % ring->pieces_max;
    const flin_matrix *matrix = ring->order[ring->next.matrix];
    const uint64_t row_bytes = flin_type_bytes(matrix->type, matrix->cols);
    const uint64_t alignment = ring->storage->caps.alignment;
    const uint64_t begin = matrix->offset + ring->next.row * row_bytes;
    const uint64_t offset = flin_round_down(begin, alignment);
    const uint64_t room = (ring->piece_bytes - (begin - offset) - (alignment - 1)) / row_bytes;
    const uint32_t left = matrix->rows - ring->next.row;
    const uint32_t count = room < left ? (uint32_t)room : left;
    const uint64_t end = begin + count * row_bytes;
    flin_ring_piece *piece = &ring->pieces[index];

    *piece = (flin_ring_piece){.matrix = matrix, .first = ring->next.row, .count = count};
    piece->offset = offset;
    piece->segment.data = ring->memory + (uint64_t)index * ring->piece_bytes;
    piece->segment.bytes = (size_t)(flin_round_up(end, alignment) - offset);
    piece->lead = (uint32_t)(begin - offset);
    piece->need = (uint32_t)(end - offset);
    piece->state = PIECE_READY;
    ring->next.row += count;
    ring->count++;
}

/* Begin what is ready. */
static void submit(flin_ring *ring)
{
    for (uint32_t i = 0; i < ring->count; i++) {
        flin_ring_piece *piece = piece_at(ring, i);
        const flashinfer_storage_read read = {
            .offset = piece->offset,
            .tag = flin_storage_tag(ring->owner, (uint32_t)(piece - ring->pieces)),
            .segments = &piece->segment,
            .segment_count = 1};
        int taken;
        if (piece->state != PIECE_READY) continue;
        taken = flin_storage_submit(ring->storage, &read, 1);
        if (taken == 0) return;
        piece->state = PIECE_OUT;
        if (taken > 0) continue;
        piece->result = taken;
        piece->state = piece->tries++ == 0 ? PIECE_READY : PIECE_FAILED;
    }
}

void flin_ring_push(flin_ring *ring)
{
    const uint64_t started_ns = flin_now_ns();

    if (ring->owner == 0) return;
    (void)flin_storage_pump(ring->storage, 0);
    while (ring->count < ring->pieces_max && has_next(ring)) fill(ring);
    submit(ring);
    ring->counts.submit_ns += flin_now_ns() - started_ns;
}

/* ----------------------------------------------------------------------------------- using them */

static int join_queue(flin_ring *ring, flashinfer_error *error)
{
    const flin_storage_owner owner = {piece_landed, ring};

    if (ring->owner == 0) ring->owner = flin_storage_add_owner(ring->storage, &owner);
    return ring->owner != 0 ? 0
                            : flin_fail(error, FLASHINFER_EBUSY,
                                        "too many readers of one storage; this is a mistake of the "
                                        "library");
}

/* Reads ahead may have failed while the pass before ended by something else. What is on its way
   gets its second try in the pass that wants it. */
static int has_failed(flin_ring *ring)
{
    int failed = 0;

    for (uint32_t i = 0; i < ring->pieces_max; i++) {
        failed |= ring->pieces[i].state == PIECE_FAILED;
        ring->pieces[i].tries = 0;
    }
    return failed;
}

int flin_ring_begin(flin_ring *ring, int all, flashinfer_error *error)
{
    int code;

    if (ring->pieces_max == 0) return 0;
    if (ring->used.matrix >= ring->pass_count) ring->used = (flin_ring_place){0, 0};
    if (has_failed(ring) || ring->broken || !is_at_beginning(ring)) flin_ring_reset(ring);
    if ((code = flin_storage_check_lost(ring->storage, error)) != 0) return code;
    if ((code = join_queue(ring, error)) != 0) return code;
    ring->pass_count = all ? ring->order_count : ring->sure_count;
    ring->ahead = 0;
    flin_ring_push(ring);
    return 0;
}

static int failed(flin_ring *ring, const flin_ring_piece *piece, flashinfer_error *error)
{
    ring->broken = 1;
    return flin_storage_fail(ring->storage, flin_storage_errno(piece->result), piece->offset,
                             piece->matrix->tensor->name.data, error);
}

/* Wait until the first piece has landed. */
static int wait_for(flin_ring *ring, const flin_ring_piece *piece, flashinfer_error *error)
{
    const uint64_t started_ns = flin_now_ns();
    int code = 0;

    while (code == 0 && (piece->state == PIECE_READY || piece->state == PIECE_OUT)) {
        int came = 0;
        submit(ring);
        if (piece->state == PIECE_OUT || ring->storage->in_flight != 0)
            came = flin_storage_pump(ring->storage, 1);
        if (came <= 0 && piece->state == PIECE_OUT) ring->broken = 1;
        if (came <= 0 && piece->state == PIECE_OUT)
            code = flin_storage_fail_timeout(ring->storage, piece->offset,
                                             piece->matrix->tensor->name.data, error);
    }
    ring->counts.wait_ns += flin_now_ns() - started_ns;
    return code;
}

int flin_ring_take(flin_ring *ring, const flin_matrix *matrix, int wait, flin_run *run,
                   flashinfer_error *error)
{
    flin_ring_piece *piece;
    int code;

    *run = (flin_run){NULL, 0, 0};
    if (matrix->held >= matrix->rows || !settle(ring, &ring->used, ring->pass_count) ||
        !same(ring->order[ring->used.matrix], matrix))
        return 0;
    piece = piece_at(ring, 0);
    if (piece->state != PIECE_LANDED) flin_ring_push(ring);
    assert(ring->count != 0 && same(piece->matrix, matrix) && piece->first == ring->used.row);
    if (!wait && piece->state != PIECE_LANDED) return 0;
    if ((code = wait_for(ring, piece, error)) != 0) return code;
    if (piece->state == PIECE_FAILED) return failed(ring, piece, error);
    *run =
        (flin_run){(const uint8_t *)piece->segment.data + piece->lead, piece->first, piece->count};
    return 0;
}

void flin_ring_give_back(flin_ring *ring)
{
    flin_ring_piece *piece = piece_at(ring, 0);

    assert(ring->count != 0 && piece->state == PIECE_LANDED);
    piece->state = PIECE_EMPTY;
    ring->used.row += piece->count;
    ring->head = (ring->head + 1) % ring->pieces_max;
    ring->count--;
    (void)settle(ring, &ring->used, ring->pass_count);
    flin_ring_push(ring);
}

/* ------------------------------------------------------------------------------------ resetting */

static int is_out(const flin_ring *ring)
{
    for (uint32_t i = 0; i < ring->pieces_max; i++)
        if (ring->pieces[i].state == PIECE_OUT) return 1;
    return 0;
}

void flin_ring_reset(flin_ring *ring)
{
    uint32_t lost = 0;

    for (uint32_t i = 0; i < ring->pieces_max; i++)
        if (ring->pieces[i].state == PIECE_READY) ring->pieces[i].tries = 2; /* tried no more */
    while (is_out(ring) && flin_storage_pump(ring->storage, 1) > 0)
        ;
    for (uint32_t i = 0; i < ring->pieces_max; i++) {
        flin_ring_piece *piece = &ring->pieces[i];
        if (piece->state == PIECE_OUT) piece->state = PIECE_LOST, ring->storage->lost++;
        if (piece->state != PIECE_LOST) piece->state = PIECE_EMPTY;
        lost += piece->state == PIECE_LOST;
    }
    ring->head = ring->count = ring->ahead = ring->broken = 0;
    ring->next = ring->used = (flin_ring_place){0, 0};
    if (ring->owner == 0 || lost != 0) return;
    flin_storage_remove_owner(ring->storage, ring->owner);
    ring->owner = 0;
}
