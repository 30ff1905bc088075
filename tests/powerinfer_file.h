/*
 * powerinfer_file.h - writes GGUF files as PowerInfer's converter does, and as it never would: metadata, tensors and
 * their data are put together by hand, so that every part can be spoilt.
 */
#ifndef TESTS_POWERINFER_FILE_H
#define TESTS_POWERINFER_FILE_H

#include "support.h"
#include "util/half.h"

#define GGUF_MAGIC "GGUF"
#define POWERINFER_MAGIC "PWRI"

enum { TYPE_F32 = 0, TYPE_F16 = 1, TYPE_Q4_0 = 2, TYPE_Q6_K = 14, TYPE_IQ3_S = 21, TYPE_BF16 = 30 };

typedef struct bytes_made {
    char *data;
    size_t count, capacity;
} bytes_made;

typedef struct gguf_made {
    bytes_made values, table, data;
    uint64_t value_count, tensor_count;
    uint32_t alignment;
} gguf_made;

static inline void put(bytes_made *made, const void *data, size_t bytes)
{
    if (made->count + bytes > made->capacity) {
        made->capacity = (made->count + bytes) * 2;
        made->data = realloc(made->data, made->capacity);
        assert_non_null(made->data);
    }
    if (bytes != 0) memcpy(made->data + made->count, data, bytes);
    made->count += bytes;
}

static inline void put_u32(bytes_made *made, uint32_t value)
{
    put(made, &value, sizeof value);
}

static inline void put_u64(bytes_made *made, uint64_t value)
{
    put(made, &value, sizeof value);
}

static inline void put_text(bytes_made *made, const char *text)
{
    put_u64(made, strlen(text));
    put(made, text, strlen(text));
}

static inline void pad(bytes_made *made, size_t at, uint32_t alignment)
{
    while ((at + made->count) % alignment != 0) put(made, "", 1);
}

/* type: of GGUF's metadata, 4 u32, 6 f32, 8 string (bytes 0) */
static inline void add_value(gguf_made *made, const char *key, uint32_t type, const void *data,
                             size_t bytes)
{
    put_text(&made->values, key);
    put_u32(&made->values, type);
    if (type == 8)
        put_text(&made->values, data);
    else
        put(&made->values, data, bytes);
    made->value_count++;
}

static inline void add_tensor(gguf_made *made, const char *name, uint32_t type, uint32_t count,
                              const uint64_t *dimensions, const void *data, size_t bytes)
{
    pad(&made->data, 0, made->alignment);
    put_text(&made->table, name);
    put_u32(&made->table, count);
    put(&made->table, dimensions, count * sizeof *dimensions);
    put_u32(&made->table, type);
    put_u64(&made->table, made->data.count);
    put(&made->data, data, bytes);
    made->tensor_count++;
}

/* The whole file, the caller's to free; *header is where the tensor table ends. */
static inline char *gguf_finish(gguf_made *made, const char *magic, uint32_t version,
                                size_t *header, size_t *bytes)
{
    bytes_made file = {0};

    put(&file, magic, 4);
    put_u32(&file, version);
    put_u64(&file, made->tensor_count);
    put_u64(&file, made->value_count);
    put(&file, made->values.data, made->values.count);
    put(&file, made->table.data, made->table.count);
    *header = file.count;
    pad(&file, 0, made->alignment);
    put(&file, made->data.data, made->data.count);
    *bytes = file.count;
    free(made->values.data);
    free(made->table.data);
    free(made->data.data);
    memset(made, 0, sizeof *made);
    return file.data;
}

/* count floats as a tensor of this type holds them, the caller's to free. */
static inline void *narrow(uint32_t type, const float *from, size_t count, size_t *bytes)
{
    uint16_t *halves = malloc(count * sizeof(float));

    assert_non_null(halves);
    *bytes = count * (type == TYPE_F32 ? 4 : 2);
    if (type == TYPE_F32)
        memcpy(halves, from, *bytes);
    else
        for (size_t i = 0; i < count; i++)
            halves[i] =
                type == TYPE_F16 ? flin_half_from_float(from[i]) : flin_bfloat_from_float(from[i]);
    return halves;
}

static inline void add_matrix(gguf_made *made, const char *name, uint32_t type, uint64_t columns,
                              uint64_t rows, const float *from)
{
    uint64_t dimensions[2] = {columns, rows};
    size_t bytes;
    void *data = narrow(type, from, (size_t)(columns * rows), &bytes);

    add_tensor(made, name, type, 2, dimensions, data, bytes);
    free(data);
}

/* A small number that float16 and bfloat16 have too, another for every seed. */
static inline float some_number(uint32_t seed)
{
    seed = (seed + 1) * 2654435761u;
    seed ^= seed >> 15;
    seed *= 2246822519u;
    return (float)((int32_t)(seed >> 20 & 255) - 128) / 64.0f;
}

static inline float *some_numbers(size_t count, uint32_t seed)
{
    float *numbers = malloc(count * sizeof *numbers);

    assert_non_null(numbers);
    for (size_t i = 0; i < count; i++) numbers[i] = some_number(seed * 1000003u + (uint32_t)i);
    return numbers;
}

#endif
