/*
 * text_fixture.h - tokenizers for the tests of lib/text, built the way a model's is: from a GGUF
 * file, here one that only exists in memory.
 *
 * Owns: writing such a file entry by entry, opening it, reading tests/data/tokenizer. Refuses:
 * testing anything.
 */
#ifndef TEXT_FIXTURE_H
#define TEXT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text/tokenizer.h"

typedef struct buffer {
    uint8_t *data;
    size_t bytes, capacity;
} buffer;

static inline void put(buffer *to, const void *data, size_t bytes)
{
    if (to->bytes + bytes > to->capacity) {
        to->capacity = 2 * (to->bytes + bytes) + 256;
        to->data = realloc(to->data, to->capacity);
        assert_non_null(to->data);
    }
    if (bytes != 0) memcpy(to->data + to->bytes, data, bytes);
    to->bytes += bytes;
}

static inline void put_u32(buffer *to, uint32_t value)
{
    put(to, &value, sizeof value);
}

static inline void put_u64(buffer *to, uint64_t value)
{
    put(to, &value, sizeof value);
}

static inline void put_string(buffer *to, const char *text)
{
    put_u64(to, strlen(text));
    put(to, text, strlen(text));
}

/* Metadata entries of a file that is being written. */
typedef struct metadata {
    buffer entries;
    uint64_t count;
} metadata;

static inline void begin_entry(metadata *to, const char *key, uint32_t type)
{
    put_string(&to->entries, key);
    put_u32(&to->entries, type);
    to->count++;
}

static inline void add_text(metadata *to, const char *key, const char *text)
{
    begin_entry(to, key, FLIN_GGUF_VALUE_STRING);
    put_string(&to->entries, text);
}

static inline void add_u32(metadata *to, const char *key, uint32_t value)
{
    begin_entry(to, key, FLIN_GGUF_VALUE_U32);
    put_u32(&to->entries, value);
}

static inline void add_bool(metadata *to, const char *key, uint8_t value)
{
    begin_entry(to, key, FLIN_GGUF_VALUE_BOOL);
    put(&to->entries, &value, 1);
}

static inline void add_texts(metadata *to, const char *key, const char *const *texts, size_t count)
{
    begin_entry(to, key, FLIN_GGUF_VALUE_ARRAY);
    put_u32(&to->entries, FLIN_GGUF_VALUE_STRING);
    put_u64(&to->entries, count);
    for (size_t i = 0; i < count; i++) put_string(&to->entries, texts[i]);
}

static inline void add_numbers(metadata *to, const char *key, const int32_t *numbers, size_t count)
{
    begin_entry(to, key, FLIN_GGUF_VALUE_ARRAY);
    put_u32(&to->entries, FLIN_GGUF_VALUE_I32);
    put_u64(&to->entries, count);
    put(&to->entries, numbers, count * sizeof *numbers);
}

static inline void add_floats(metadata *to, const char *key, const float *numbers, size_t count)
{
    begin_entry(to, key, FLIN_GGUF_VALUE_ARRAY);
    put_u32(&to->entries, FLIN_GGUF_VALUE_F32);
    put_u64(&to->entries, count);
    put(&to->entries, numbers, count * sizeof *numbers);
}

typedef struct fixture {
    buffer file;
    flin_storage storage;
    flin_gguf gguf;
    flin_arena arena;
    flin_tokenizer *tokenizer;
    uint32_t vocab_count;
} fixture;

/* A file of this metadata and the one tensor that every model file has. */
static inline void write_file(buffer *file, const metadata *from)
{
    static const uint8_t zeros[64];

    put_u32(file, FLIN_GGUF_MAGIC);
    put_u32(file, FLIN_GGUF_VERSION);
    put_u64(file, 1);
    put_u64(file, from->count);
    put(file, from->entries.data, from->entries.bytes);
    put_string(file, FLIN_SUMS_TENSOR);
    put_u32(file, 1);
    put_u64(file, 2);
    put_u32(file, FLIN_GGUF_I64);
    put_u64(file, 0);
    put(file, zeros, (32 - file->bytes % 32) % 32 + 16);
}

/* Takes the metadata over. Returns what flin_tokenizer_layout() returns; close it in any case. */
static inline int open_fixture(fixture *made, metadata *from, uint32_t vocab_count,
                               flashinfer_error *error)
{
    flin_storage_config config = {0};
    flin_arena measure;
    int code;

    memset(made, 0, sizeof *made);
    made->vocab_count = vocab_count;
    write_file(&made->file, from);
    free(from->entries.data);
    memset(from, 0, sizeof *from);
    assert_int_equal(
        flin_storage_open_memory(&made->storage, made->file.data, made->file.bytes, &config, error),
        0);
    assert_int_equal(flin_gguf_open(&made->gguf, &made->storage, 0, error), 0);
    flin_arena_measure(&measure);
    code = flin_tokenizer_layout(&measure, &made->gguf, vocab_count, &made->tokenizer, error);
    assert_null(made->tokenizer);
    if (code != 0) return code;
    assert_int_equal(flin_arena_open(&made->arena, measure.used, "a tokenizer", error), 0);
    code = flin_tokenizer_layout(&made->arena, &made->gguf, vocab_count, &made->tokenizer, error);
    if (code != 0) assert_null(made->tokenizer);
    assert_true(made->arena.used == measure.used);
    return code;
}

static inline void close_fixture(fixture *made)
{
    flin_arena_close(&made->arena);
    flin_gguf_close(&made->gguf);
    flin_storage_close(&made->storage);
    free(made->file.data);
}

/* A file of tests/data/tokenizer. */
static inline buffer read_data(const char *name)
{
    const char *folder = getenv("FLASHINFER_TEST_DATA");
    buffer contents = {0};
    char path[1024];
    uint8_t block[4096];
    size_t got;
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/tokenizer/%s", folder != NULL ? folder : "tests/data",
                   name);
    file = fopen(path, "rb");
    if (file == NULL) fail_msg("cannot open %s: set FLASHINFER_TEST_DATA", path);
    while ((got = fread(block, 1, sizeof block, file)) > 0) put(&contents, block, got);
    (void)fclose(file);
    return contents;
}

static inline void open_data_fixture(fixture *made, const char *name, uint32_t vocab_count)
{
    buffer contents = read_data(name);
    metadata from = {{0}, 0};
    flashinfer_error error = {.size = sizeof error};

    assert_true(contents.bytes > sizeof from.count);
    memcpy(&from.count, contents.data, sizeof from.count);
    put(&from.entries, contents.data + sizeof from.count, contents.bytes - sizeof from.count);
    free(contents.data);
    if (open_fixture(made, &from, vocab_count, &error) != 0) fail_msg("%s", error.text);
}

#define FABLE_TOKENS 4096u /* in fable-vocab.bin */
#define OTHER_TOKENS 1505u /* in other-vocab.bin */

/* Reading cases: varints and byte strings with a varint length. */
typedef struct reader {
    const uint8_t *at, *end;
} reader;

static inline uint32_t take_number(reader *from)
{
    uint32_t number = 0;

    for (unsigned shift = 0;; shift += 7) {
        assert_true(from->at < from->end && shift < 32);
        number |= (uint32_t)(*from->at & 127u) << shift;
        if (*from->at++ < 128) return number;
    }
}

static inline flin_string take_bytes(reader *from)
{
    flin_string taken = {NULL, take_number(from)};

    assert_true(taken.bytes <= (size_t)(from->end - from->at));
    taken.data = (const char *)from->at;
    from->at += taken.bytes;
    return taken;
}

/* The tests' own random numbers: a linear congruential generator. */
static inline uint32_t random_number(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

#endif
