/*
 * storage.c - the queue in front of every backend, reads of any alignment, the host's callbacks.
 *
 * Owns: which read belongs to whom, how many are out, what became of those that timed out.
 * Refuses: files and devices (file.c), merging (batch.c).
 */
#define _POSIX_C_SOURCE 200809L
#include "storage/storage.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "storage/backends.h"
#include "util/arena.h"
#include "util/clock.h"

#define DEFAULT_DEPTH 64u
#define DEFAULT_LANES 4u
#define DEFAULT_TIMEOUT_NS 30000000000u
#define TIMEOUT_NS_MAX (1ull << 60) /* 36 years: sums with the clock do not overflow */
#define SLICE_BYTES (FLIN_STORAGE_BOUNCE_BYTES / FLIN_STORAGE_PIECES)
#define PIECE_BYTES_MAX (1024u * 1024u)
#define COMPLETIONS_MAX 64u

_Static_assert(SLICE_BYTES >= 2 * FLIN_STORAGE_ALIGNMENT_MAX, "a slice holds a block and its edge");

/* A piece goes free -> ready -> out -> landed -> free (or ready once more); out -> lost -> free. */
enum { PIECE_FREE, PIECE_READY, PIECE_OUT, PIECE_LANDED, PIECE_LOST };

/* ------------------------------------------------------------------------------ begin and close */

static int piece_landed(void *context, uint32_t index, int64_t result)
{
    flin_storage *storage = context;
    flin_storage_piece *piece;

    if (index >= FLIN_STORAGE_PIECES) return -1;
    piece = &storage->pieces[index];
    if (piece->state == PIECE_LOST) {
        piece->state = PIECE_FREE;
        storage->lost--;
        return 0;
    }
    if (piece->state != PIECE_OUT) return -1;
    piece->result = result;
    piece->state = PIECE_LANDED;
    return 0;
}

int flin_storage_begin(flin_storage *storage, const flin_storage_config *config,
                       flin_storage_config *resolved, flashinfer_error *error)
{
    void *bounce = NULL;

    memset(storage, 0, sizeof *storage);
    *resolved = *config;
    if (resolved->kind > FLASHINFER_STORAGE_URING)
        return flin_fail(error, FLASHINFER_EINVAL, "unknown storage kind %u", resolved->kind);
    if (resolved->depth > FLIN_STORAGE_DEPTH_MAX)
        return flin_fail(error, FLASHINFER_EINVAL, "io_depth %u is more than %u", resolved->depth,
                         FLIN_STORAGE_DEPTH_MAX);
    if (resolved->lanes > FLIN_STORAGE_LANES_MAX)
        return flin_fail(error, FLASHINFER_EINVAL, "io_lanes %u is more than %u", resolved->lanes,
                         FLIN_STORAGE_LANES_MAX);
    if (resolved->depth == 0) resolved->depth = DEFAULT_DEPTH;
    if (resolved->lanes == 0) resolved->lanes = DEFAULT_LANES;
    if (resolved->timeout_ns == 0) resolved->timeout_ns = DEFAULT_TIMEOUT_NS;
    if (resolved->timeout_ns > TIMEOUT_NS_MAX) resolved->timeout_ns = TIMEOUT_NS_MAX;
    if (posix_memalign(&bounce, FLIN_PAGE_BYTES, FLIN_STORAGE_BOUNCE_BYTES) != 0)
        return flin_fail(error, FLASHINFER_ENOMEM, "cannot allocate %u bytes to read through",
                         FLIN_STORAGE_BOUNCE_BYTES);
    storage->bounce = bounce;
    storage->held_bytes = FLIN_STORAGE_BOUNCE_BYTES;
    storage->timeout_ns = resolved->timeout_ns;
    storage->owners[0].landed = piece_landed;
    storage->owners[0].context = storage;
    return 0;
}

void flin_storage_close(flin_storage *storage)
{
    while (storage->in_flight != 0)
        if (flin_storage_pump(storage, 1) <= 0) break;
    if (storage->ops.close != NULL) storage->ops.close(storage->ops.user);
    if (storage->host_close != NULL) storage->host_close(storage->host_user);
    free(storage->bounce);
    memset(storage, 0, sizeof *storage);
}

void flin_storage_forget(flin_storage *storage)
{
    if (storage->forget != NULL) storage->forget(storage->forget_user);
    free(storage->bounce);
    memset(storage, 0, sizeof *storage);
}

/* ------------------------------------------------------------------------------------ the queue */

uint32_t flin_storage_add_owner(flin_storage *storage, const flin_storage_owner *owner)
{
    for (uint32_t place = 1; place < FLIN_STORAGE_OWNERS_MAX; place++) {
        if (storage->owners[place].context != NULL) continue;
        storage->owners[place] = *owner;
        return place;
    }
    return 0;
}

void flin_storage_remove_owner(flin_storage *storage, uint32_t place)
{
    assert(place > 0 && place < FLIN_STORAGE_OWNERS_MAX);
    storage->owners[place].landed = NULL;
    storage->owners[place].context = NULL;
}

int flin_storage_submit(flin_storage *storage, const flashinfer_storage_read *reads, uint32_t count)
{
    uint32_t room = storage->caps.depth - storage->in_flight;
    int taken;

    if (count > room) count = room;
    if (count == 0) return 0;
    taken = storage->ops.submit(storage->ops.user, reads, count);
    if (taken == -EAGAIN || taken == -EINTR) taken = 0;
    /* a backend that takes nothing while it has nothing to do never will */
    if (taken == 0 && storage->in_flight == 0) return -EAGAIN;
    if (taken < 0) return taken;
    if ((uint32_t)taken > count) taken = (int)count;
    storage->in_flight += (uint32_t)taken;
    return taken;
}

/* Hand one completion to its owner. Returns 1, or 0 for a tag that is not out: the backend's
   mistake, ignored. */
static int dispatch(flin_storage *storage, const flashinfer_storage_completion *completion)
{
    uint64_t place = completion->tag >> 32;
    const flin_storage_owner *owner;

    if (place >= FLIN_STORAGE_OWNERS_MAX || storage->in_flight == 0) return 0;
    owner = &storage->owners[place];
    if (owner->context == NULL) return 0;
    if (owner->landed(owner->context, (uint32_t)completion->tag, completion->result) != 0) return 0;
    storage->in_flight--;
    return 1;
}

int flin_storage_pump(flin_storage *storage, uint32_t minimum)
{
    flashinfer_storage_completion completions[COMPLETIONS_MAX];
    uint64_t now_ns = flin_now_ns();
    uint64_t deadline_ns = now_ns + storage->timeout_ns;
    int accepted = 0;

    if (storage->in_flight == 0) return 0;
    do {
        /* a wait cut short, by a signal or by the backend's own clock, goes on until the time */
        uint64_t wait_ns = minimum != 0 ? deadline_ns - now_ns : 0;
        int count =
            storage->ops.wait(storage->ops.user, minimum, wait_ns, completions, COMPLETIONS_MAX);

        if (count == -EINTR || count == -EAGAIN) count = 0;
        if (count < 0) return count;
        if (count > (int)COMPLETIONS_MAX) return -EPROTO;
        for (int index = 0; index < count; index++)
            accepted += dispatch(storage, &completions[index]);
        if (minimum == 0 || accepted != 0) break;
        now_ns = flin_now_ns();
    } while (now_ns < deadline_ns);
    return accepted;
}

uint32_t flin_storage_reap(flin_storage *storage)
{
    while (storage->lost != 0)
        if (flin_storage_pump(storage, 0) <= 0) break;
    return storage->lost;
}

int flin_storage_check_lost(flin_storage *storage, flashinfer_error *error)
{
    if (flin_storage_reap(storage) == 0) return 0;
    return flin_fail(error, FLASHINFER_ETIMEDOUT,
                     "%u reads that timed out are still out (%s) and keep their memory: try later, "
                     "or close the model",
                     storage->lost, storage->name);
}

/* The place of a failure goes into the record too, where the caller's record has it. */
static int with_offset(flashinfer_error *error, uint64_t offset, int code)
{
    if (error != NULL && error->size >= offsetof(flashinfer_error, text))
        error->offset = (int64_t)offset;
    return code;
}

int flin_storage_fail(const flin_storage *storage, int sys_errno, uint64_t offset, const char *what,
                      flashinfer_error *error)
{
    int code;

    if (sys_errno == 0)
        code = flin_fail(error, FLASHINFER_EIO,
                         "reading %s at offset %" PRIu64 " (%s): storage ends before byte %" PRIu64
                         " it had when opened; the file changed or the device is damaged",
                         what, offset, storage->name, storage->caps.length_bytes);
    else
        code =
            flin_fail_errno(error, FLASHINFER_EIO, sys_errno,
                            "reading %s at offset %" PRIu64 " failed twice (%s); check the device",
                            what, offset, storage->name);
    return with_offset(error, offset, code);
}

int flin_storage_fail_timeout(const flin_storage *storage, uint64_t offset, const char *what,
                              flashinfer_error *error)
{
    int code = flin_fail(
        error, FLASHINFER_ETIMEDOUT,
        "reading %s at offset %" PRIu64 " (%s): no answer within %" PRIu64
        " ms; %u reads are still out and keep their memory: try later, or close the model",
        what, offset, storage->name, storage->timeout_ns / 1000000u, storage->lost);

    return with_offset(error, offset, code);
}

/* ---------------------------------------------------------------------------- synchronous reads */

typedef struct transfer {
    uint64_t offset; /* next byte no piece covers yet */
    uint64_t left;
    uint8_t *data; /* where it goes */
} transfer;

/* Cover the next bytes of the transfer: an aligned run directly, the rest through the slice. */
static void plan_piece(flin_storage *storage, uint32_t index, transfer *rest)
{
    flin_storage_piece *piece = &storage->pieces[index];
    uint32_t alignment = storage->caps.alignment;
    uint32_t skip = (uint32_t)(rest->offset % alignment);
    int congruent = ((uint64_t)(uintptr_t)rest->data - rest->offset) % alignment == 0;
    uint64_t take;

    memset(piece, 0, sizeof *piece);
    piece->offset = rest->offset - skip;
    piece->state = PIECE_READY;
    if (congruent && skip == 0 && rest->left >= alignment) {
        take = flin_round_down(rest->left, alignment);
        if (take > PIECE_BYTES_MAX) take = PIECE_BYTES_MAX;
        piece->data = rest->data;
        piece->bytes = piece->need = (uint32_t)take;
    } else {
        take = (congruent ? alignment : SLICE_BYTES) - skip;
        if (take > rest->left) take = rest->left;
        piece->data = storage->bounce + (size_t)index * SLICE_BYTES;
        piece->copy = rest->data;
        piece->skip = skip;
        piece->need = skip + (uint32_t)take;
        piece->bytes = (uint32_t)flin_round_up(piece->need, alignment);
    }
    rest->offset += take;
    rest->data += take;
    rest->left -= take;
}

static void submit_piece(flin_storage *storage, uint32_t index)
{
    flin_storage_piece *piece = &storage->pieces[index];
    flashinfer_storage_segment segment = {piece->data, piece->bytes};
    flashinfer_storage_read read = {piece->offset, flin_storage_tag(0, index), &segment, 1, 0};
    int taken;

    piece->state = PIECE_OUT; /* before the call: nothing lands while we are not in pump() */
    taken = flin_storage_submit(storage, &read, 1);
    if (taken == 1) return;
    piece->state = taken == 0 ? PIECE_READY : PIECE_LANDED;
    piece->result = taken;
}

/* A landed piece is copied out, made ready for its second try, or (returns 1) failed for good. */
static int settle_piece(flin_storage *storage, uint32_t index)
{
    flin_storage_piece *piece = &storage->pieces[index];

    if (piece->result >= (int64_t)piece->need && piece->result <= (int64_t)piece->bytes) {
        if (piece->copy != NULL)
            memcpy(piece->copy, piece->data + piece->skip, piece->need - piece->skip);
        piece->state = PIECE_FREE;
        return 0;
    }
    if (piece->result > (int64_t)piece->bytes) piece->result = -EPROTO;
    if (piece->tries++ != 0) return 1;
    piece->state = PIECE_READY;
    return 0;
}

/* After a failure: wait for what is out; what does not come is lost. Everything else is free. */
static void stop_pieces(flin_storage *storage)
{
    for (;;) {
        uint32_t out = 0;

        for (uint32_t index = 0; index < FLIN_STORAGE_PIECES; index++)
            out += storage->pieces[index].state == PIECE_OUT;
        if (out == 0 || flin_storage_pump(storage, 1) <= 0) break;
    }
    for (uint32_t index = 0; index < FLIN_STORAGE_PIECES; index++) {
        flin_storage_piece *piece = &storage->pieces[index];

        if (piece->state == PIECE_OUT) {
            piece->state = PIECE_LOST;
            storage->lost++;
        } else if (piece->state != PIECE_LOST) {
            piece->state = PIECE_FREE;
        }
    }
}

/* One round over the pieces: settle, plan, submit. *busy: pieces not free; *again: some can go on
   without waiting. Returns the index of a piece that failed, or -1. */
static int advance(flin_storage *storage, transfer *rest, uint32_t *busy, uint32_t *again)
{
    *busy = *again = 0;
    for (uint32_t index = 0; index < FLIN_STORAGE_PIECES; index++) {
        flin_storage_piece *piece = &storage->pieces[index];

        if (piece->state == PIECE_LANDED && settle_piece(storage, index) != 0) return (int)index;
        if (piece->state == PIECE_FREE && rest->left != 0) plan_piece(storage, index, rest);
        if (piece->state == PIECE_READY) submit_piece(storage, index);
        *busy += piece->state != PIECE_FREE;
        *again += piece->state == PIECE_LANDED;
    }
    return -1;
}

/* Where the first piece that is out begins, for the error text. */
static uint64_t first_out(const flin_storage *storage, uint64_t otherwise)
{
    for (uint32_t index = 0; index < FLIN_STORAGE_PIECES; index++)
        if (storage->pieces[index].state == PIECE_OUT) return storage->pieces[index].offset;
    return otherwise;
}

int flin_storage_read(flin_storage *storage, uint64_t offset, void *data, uint64_t bytes,
                      const char *what, flashinfer_error *error)
{
    uint64_t length = storage->caps.length_bytes;
    transfer rest = {offset, bytes, data};
    uint32_t busy, again;
    int status;

    if (offset > length || bytes > length - offset)
        return with_offset(error, offset,
                           flin_fail(error, FLASHINFER_EFORMAT,
                                     "truncated: %s needs %" PRIu64 " bytes at offset %" PRIu64
                                     ", the file has %" PRIu64 "; copy or pack it again",
                                     what, bytes, offset, length));
    if ((status = flin_storage_check_lost(storage, error)) != 0) return status;
    for (;;) {
        int failed = advance(storage, &rest, &busy, &again);

        if (failed >= 0) {
            int64_t result = storage->pieces[failed].result;
            uint64_t place = storage->pieces[failed].offset;

            stop_pieces(storage);
            return flin_storage_fail(storage, flin_storage_errno(result), place, what, error);
        }
        if (busy == 0 && rest.left == 0) return 0;
        if (again == 0 && busy != 0) {
            int came = flin_storage_pump(storage, 1);

            if (came <= 0) {
                uint64_t place = first_out(storage, offset);

                stop_pieces(storage);
                if (came < 0)
                    return flin_storage_fail(storage, flin_storage_errno(came), place, what, error);
                return flin_storage_fail_timeout(storage, place, what, error);
            }
        }
    }
}

/* ------------------------------------------------------------------------- the host's callbacks */

static int check_ops(const flashinfer_storage_ops *ops, flashinfer_storage_ops *copy,
                     flashinfer_error *error)
{
    const unsigned char *tail = (const unsigned char *)ops;
    const size_t first = offsetof(flashinfer_storage_ops, close) + sizeof ops->close; /* of 0.1 */
    int asynchronous;

    if (ops == NULL || ops->size < first)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "storage ops: size must be sizeof(flashinfer_storage_ops)");
    for (size_t index = sizeof *ops; index < ops->size; index++)
        if (tail[index] != 0)
            return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                             "storage ops: made for a newer library; this one is %d.%d",
                             FLASHINFER_VERSION_MAJOR, FLASHINFER_VERSION_MINOR);
    memset(copy, 0, sizeof *copy);
    memcpy(copy, ops, ops->size < sizeof *copy ? ops->size : sizeof *copy);
    asynchronous = ops->submit != NULL && ops->wait != NULL;
    if (ops->caps == NULL) return flin_fail(error, FLASHINFER_EINVAL, "storage ops: no caps()");
    if (!asynchronous && (ops->submit != NULL || ops->wait != NULL))
        return flin_fail(error, FLASHINFER_EINVAL,
                         "storage ops: submit() and wait() come together or not at all");
    if (!asynchronous && ops->read == NULL)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "storage ops: give submit() and wait(), or read()");
    return 0;
}

static int check_caps(const flashinfer_storage_caps *caps, int asynchronous,
                      flashinfer_error *error)
{
    uint32_t alignment = caps->alignment;

    if (alignment == 0 || (alignment & (alignment - 1)) != 0 ||
        alignment > FLIN_STORAGE_ALIGNMENT_MAX)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "storage caps: alignment %u is not a power of two from 1 to %u", alignment,
                         FLIN_STORAGE_ALIGNMENT_MAX);
    if (asynchronous && caps->depth == 0)
        return flin_fail(error, FLASHINFER_EINVAL, "storage caps: depth must be at least 1");
    if (asynchronous && caps->segments_max == 0)
        return flin_fail(error, FLASHINFER_EINVAL, "storage caps: segments_max must be at least 1");
    if (caps->length_bytes == 0)
        return flin_fail(error, FLASHINFER_EFORMAT, "truncated: the host's storage is empty");
    if (caps->length_bytes > (uint64_t)INT64_MAX - FLIN_STORAGE_ALIGNMENT_MAX)
        return flin_fail(error, FLASHINFER_EINVAL, "storage caps: length_bytes is out of range");
    return 0;
}

int flin_storage_open_ops(flin_storage *storage, const flashinfer_storage_ops *ops,
                          const flin_storage_config *config, flashinfer_error *error)
{
    flashinfer_storage_caps caps = {.size = sizeof caps};
    flashinfer_storage_ops host;
    flin_storage_config resolved;
    int asynchronous, status;

    memset(storage, 0, sizeof *storage);
    if ((status = check_ops(ops, &host, error)) != 0) return status;
    asynchronous = host.submit != NULL;
    status = host.caps(host.user, &caps);
    if (status != 0)
        return flin_fail_errno(error, FLASHINFER_EIO, status < 0 ? flin_storage_errno(status) : EIO,
                               "storage ops: caps() failed");
    if ((status = check_caps(&caps, asynchronous, error)) != 0) return status;
    if ((status = flin_storage_begin(storage, config, &resolved, error)) != 0) return status;
    if (asynchronous) {
        storage->ops = host;
        storage->ops.close = NULL;
        storage->caps = caps;
        if (storage->caps.depth > FLIN_STORAGE_DEPTH_MAX)
            storage->caps.depth = FLIN_STORAGE_DEPTH_MAX;
        storage->name = "host";
    } else {
        status = flin_lanes_open_host(storage, &host, &caps, &resolved, error);
    }
    if (status != 0) {
        flin_storage_close(storage);
        return status;
    }
    storage->host_close = host.close;
    storage->host_user = host.user;
    return 0;
}
