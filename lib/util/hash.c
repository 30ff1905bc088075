/*
 * hash.c - the one place that includes xxHash, compiled in so that the library needs no libxxhash
 * at run time.
 */
#include "util/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

_Static_assert(sizeof(XXH3_state_t) <= sizeof(((flin_hash_stream *)0)->state),
               "flin_hash_stream is too small");

uint64_t flin_hash(const void *data, size_t bytes)
{
    return XXH3_64bits(data, bytes);
}

static XXH3_state_t *state_of(flin_hash_stream *stream)
{
    return (XXH3_state_t *)(void *)stream->state;
}

void flin_hash_begin(flin_hash_stream *stream)
{
    XXH3_INITSTATE(state_of(stream));
    (void)XXH3_64bits_reset(state_of(stream));
}

void flin_hash_add(flin_hash_stream *stream, const void *data, size_t bytes)
{
    (void)XXH3_64bits_update(state_of(stream), data, bytes);
}

uint64_t flin_hash_end(const flin_hash_stream *stream)
{
    return XXH3_64bits_digest((const XXH3_state_t *)(const void *)stream->state);
}
