/*
 * hash.h - XXH3-64, the checksum of bundles, tensors, headers and saved states.
 */
#ifndef FLIN_UTIL_HASH_H
#define FLIN_UTIL_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t flin_hash(const void *data, size_t bytes);

/* The same over pieces. The state lives on the caller's stack (about 600 bytes, 64-byte
   aligned). */
typedef struct flin_hash_stream {
    _Alignas(64) unsigned char state[640];
} flin_hash_stream;

void flin_hash_begin(flin_hash_stream *stream);
void flin_hash_add(flin_hash_stream *stream, const void *data, size_t bytes);
uint64_t flin_hash_end(const flin_hash_stream *stream);

#endif
