/*
 * packed_file.h - looking into what a test packed: tensors, keys, every checksum, and the values as
 * tests/tools/check_gguf.py reads them, which shares no code with the library.
 */
#ifndef PACKED_FILE_H
#define PACKED_FILE_H

#include "pack_fixture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "model/gguf.h"
#include "pack/map.h"
#include "util/hash.h"

typedef struct packed {
    flin_gguf gguf;
    flin_storage storage;
    const uint8_t *bytes;
    size_t length;
} packed;

static inline packed *open_packed(const char *path)
{
    flin_storage_config config = {.kind = FLASHINFER_STORAGE_BUFFERED, .depth = 1, .lanes = 1};
    packed *file = calloc(1, sizeof *file);
    flashinfer_error error = {.size = sizeof error};
    struct stat status;
    int fd = open(path, O_RDONLY);
    void *bytes;

    assert_non_null(file);
    config.timeout_ns = 30000000000u;
    assert_true(fd >= 0 && fstat(fd, &status) == 0);
    file->length = (size_t)status.st_size;
    bytes = mmap(NULL, file->length, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_true(bytes != MAP_FAILED);
    (void)close(fd);
    file->bytes = bytes;
    assert_int_equal(flin_storage_open_path(&file->storage, path, &config, &error), 0);
    if (flin_gguf_open(&file->gguf, &file->storage, 1, &error) != 0) fail_msg("%s", error.text);
    return file;
}

static inline void close_packed(packed *file)
{
    flin_gguf_close(&file->gguf);
    flin_storage_close(&file->storage);
    (void)munmap((void *)(uintptr_t)file->bytes, file->length);
    free(file);
}

static inline const flin_gguf_tensor *tensor_of(const packed *file, const char *name)
{
    const flin_gguf_tensor *tensor = flin_gguf_find_tensor(&file->gguf, name);

    if (tensor == NULL) fail_msg("no tensor %s", name);
    return tensor;
}

static inline uint64_t number_of(const packed *file, const char *key)
{
    uint64_t number = 0;

    assert_int_equal(flin_gguf_u64(&file->gguf, key, &number, NULL), 0);
    return number;
}

static inline uint64_t sum_at(const packed *file, const flin_gguf_tensor *sums, uint64_t index)
{
    uint64_t sum;

    assert_true((index + 1) * sizeof sum <= sums->bytes);
    memcpy(&sum, file->bytes + sums->offset + index * sizeof sum, sizeof sum);
    return sum;
}

/* Every part of every bundle of a layer against blk.N.ffn_bundle.xxh3. */
static inline void check_bundle_sums(const packed *file, const flin_gguf_tensor *bundle)
{
    const flin_gguf_value *parts = flin_gguf_find(&file->gguf, "flashinfer.ffn.part_bytes");
    uint64_t part = flin_gguf_element_u64(parts, 0);
    const flin_gguf_tensor *sums;
    char name[64];

    (void)snprintf(name, sizeof name, "%.*s", (int)bundle->name.bytes, bundle->name.data);
    memcpy(strstr(name, "weight"), "xxh3", sizeof "xxh3");
    sums = tensor_of(file, name);
    assert_int_equal(sums->dimensions[0], parts->count);
    assert_int_equal(sums->dimensions[1], bundle->dimensions[1]);
    for (uint64_t row = 0; row < bundle->dimensions[1]; row++) {
        const uint8_t *data = file->bytes + bundle->offset + row * bundle->dimensions[0];
        for (uint64_t i = 0; i < parts->count; i++)
            assert_int_equal(sum_at(file, sums, parts->count * row + i),
                             flin_hash(data + i * part, part));
    }
    assert_int_equal(bundle->sum, flin_hash(file->bytes + sums->offset, sums->bytes));
}

static inline void check_sums(const packed *file)
{
    uint32_t count = file->gguf.tensor_count;
    const flin_gguf_tensor *sums = tensor_of(file, FLIN_SUMS_TENSOR);

    assert_ptr_equal(sums, &file->gguf.tensors[count - 1]);
    assert_int_equal(sums->bytes, (1 + count) * sizeof(uint64_t));
    assert_int_equal(sum_at(file, sums, 0), flin_hash(file->bytes, file->gguf.header_bytes));
    for (uint32_t i = 0; i + 1 < count; i++) {
        const flin_gguf_tensor *tensor = &file->gguf.tensors[i];
        assert_int_equal(tensor->offset % FLIN_GGUF_ALIGNMENT, 0);
        assert_int_equal(tensor->sum, sum_at(file, sums, 1 + i));
        if (tensor->name.bytes > 17 &&
            memcmp(tensor->name.data + tensor->name.bytes - 17, "ffn_bundle.weight", 17) == 0)
            check_bundle_sums(file, tensor);
        else
            assert_int_equal(tensor->sum, flin_hash(file->bytes + tensor->offset, tensor->bytes));
    }
    assert_int_equal(sum_at(file, sums, count),
                     flin_hash(file->bytes + sums->offset, count * sizeof(uint64_t)));
    assert_int_equal(file->length % FLIN_GGUF_ALIGNMENT, 0);
}

/* The other reader's opinion. Returns 0 if there is no python3 to ask. */
static inline int check_values(const char *path, const char *checkpoint)
{
    const char *data = getenv("FLASHINFER_TEST_DATA");
    char script[512];
    int status;
    pid_t child;

    (void)snprintf(script, sizeof script, "%s/../tools/check_gguf.py",
                   data != NULL ? data : "tests/data");
    assert_int_equal(access(script, R_OK), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)freopen("/dev/null", "w", stdout);
        (void)execlp("python3", "python3", script, path, checkpoint, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 127) return 0;
    assert_int_equal(WEXITSTATUS(status), 0);
    return 1;
}

static inline void check_all(const workspace *made)
{
    packed *file = open_packed(made->path);

    check_sums(file);
    close_packed(file);
    if (!check_values(made->path, made->checkpoint))
        print_message("[  NOTE    ] no python3: values not compared\n");
    assert_int_equal(unlink(made->path), 0);
}

#endif
