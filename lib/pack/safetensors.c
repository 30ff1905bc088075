/*
 * safetensors.c - opening a checkpoint's tensor files and reading from them.
 */
#define _GNU_SOURCE
#include "pack/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pack/directory.h"
#include "pack/json.h"
#include "util/half.h"

#define SINGLE_NAME "model.safetensors"
#define INDEX_NAME "model.safetensors.index.json"

/* Which file an index says a tensor is in. Both strings live in the index. */
typedef struct placement {
    const char *file;
    const char *tensor;
} placement;

static const uint32_t type_bytes[] = {4, 2, 2, 0};

/* ----------------------------------------------------------------------------- one header entry */

static uint32_t type_of(const char *name)
{
    if (strcmp(name, "F32") == 0) return FLIN_SAFETENSORS_F32;
    if (strcmp(name, "F16") == 0) return FLIN_SAFETENSORS_F16;
    if (strcmp(name, "BF16") == 0) return FLIN_SAFETENSORS_BF16;
    return FLIN_SAFETENSORS_OTHER;
}

static int bad_entry(const char *file, const cJSON *entry, const char *why, flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_ECHECKPOINT, "%s: tensor %.128s: %s", file, entry->string,
                     why);
}

/* Fills dimensions; *elements gets their product. */
static int read_shape(flin_safetensor *tensor, const cJSON *shape, uint64_t *elements)
{
    uint64_t product = 1;
    uint32_t count = 0;

    if (!cJSON_IsArray(shape)) return 0;
    for (const cJSON *item = shape->child; item != NULL; item = item->next, count++) {
        uint64_t size;
        if (!flin_json_integer(item, UINT64_MAX, &size)) return 0;
        if (size != 0 && product > (1ull << 53) / size) return 0;
        product *= size;
        if (count < FLIN_SOURCE_DIMENSIONS_MAX) tensor->base.dimensions[count] = size;
        if (count > FLIN_SOURCE_DIMENSIONS_MAX) count = FLIN_SOURCE_DIMENSIONS_MAX;
    }
    tensor->base.dimension_count = count;
    *elements = product;
    return 1;
}

static int read_entry(flin_safetensor *tensor, const char *file, const cJSON *entry,
                      uint64_t data_bytes, uint64_t data_offset, flashinfer_error *error)
{
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(entry, "data_offsets");
    const char *type = flin_json_text(entry, "dtype");
    uint64_t begin, end, elements;

    memset(tensor, 0, sizeof *tensor);
    if (type == NULL) return bad_entry(file, entry, "it has no dtype", error);
    tensor->base.name = entry->string;
    tensor->base.type_name = type;
    tensor->type = type_of(type);
    tensor->base.readable = tensor->type != FLIN_SAFETENSORS_OTHER;
    if (!read_shape(tensor, cJSON_GetObjectItemCaseSensitive(entry, "shape"), &elements))
        return bad_entry(file, entry, "its shape is missing or impossible", error);
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !flin_json_integer(offsets->child, UINT64_MAX, &begin) ||
        !flin_json_integer(offsets->child->next, UINT64_MAX, &end) || begin > end)
        return bad_entry(file, entry, "its data_offsets are missing or impossible", error);
    if (end > data_bytes)
        return flin_fail_at(error, FLASHINFER_ECHECKPOINT, -1, -1, (int64_t)(data_offset + begin),
                            "%s: tensor %.128s: its data ends %llu bytes past the end of the file; "
                            "is the file truncated?",
                            file, entry->string, (unsigned long long)(end - data_bytes));
    tensor->offset = data_offset + begin;
    tensor->bytes = end - begin;
    if (tensor->type != FLIN_SAFETENSORS_OTHER &&
        elements * type_bytes[tensor->type] != tensor->bytes)
        return bad_entry(file, entry, "its data_offsets do not fit its shape and dtype", error);
    return 0;
}

/* ------------------------------------------------------------------------------------- one file */

static int compare_offsets(const void *left, const void *right)
{
    const flin_safetensor *a = left;
    const flin_safetensor *b = right;

    if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
    return (a->bytes > b->bytes) - (a->bytes < b->bytes); /* empty ones first */
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(((const flin_safetensor *)left)->base.name,
                  ((const flin_safetensor *)right)->base.name);
}

static int compare_placements(const void *left, const void *right)
{
    const placement *a = left;
    const placement *b = right;
    int order = strcmp(a->file, b->file);

    return order != 0 ? order : strcmp(a->tensor, b->tensor);
}

/* Two tensors of one file must not share bytes. Sorts the file's part of the table. */
static int check_overlap(const char *file, flin_safetensor *tensors, uint32_t count,
                         flashinfer_error *error)
{
    qsort(tensors, count, sizeof *tensors, compare_offsets);
    for (uint32_t i = 1; i < count; i++)
        if (tensors[i - 1].offset + tensors[i - 1].bytes > tensors[i].offset)
            return flin_fail_at(error, FLASHINFER_ECHECKPOINT, -1, -1, (int64_t)tensors[i].offset,
                                "%s: tensors %.128s and %.128s overlap", file,
                                tensors[i - 1].base.name, tensors[i].base.name);
    return 0;
}

/* Read exactly bytes at offset; the end of the file before that is ECHECKPOINT. */
static int read_exactly(const flin_safetensors_file *file, uint64_t offset, void *to,
                        uint64_t bytes, flashinfer_error *error)
{
    uint8_t *data = to;

    while (bytes > 0) {
        size_t part = bytes < (1u << 30) ? (size_t)bytes : (size_t)1 << 30;
        ssize_t got = pread(file->fd, data, part, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return flin_fail_errno(error, FLASHINFER_EIO, errno, "cannot read %s", file->name);
        if (got == 0)
            return flin_fail_at(error, FLASHINFER_ECHECKPOINT, -1, -1, (int64_t)offset,
                                "%s is truncated: it ends before byte %llu", file->name,
                                (unsigned long long)(offset + bytes));
        data += got;
        offset += (uint64_t)got;
        bytes -= (uint64_t)got;
    }
    return 0;
}

/* Parse the file's header; *data_offset and *data_bytes get the extent of its data. */
static int read_header(flin_safetensors_file *file, uint64_t *data_offset, uint64_t *data_bytes,
                       flashinfer_error *error)
{
    struct stat status;
    uint8_t length[8];
    uint64_t bytes = 0;
    char *text;
    int code;

    if (fstat(file->fd, &status) != 0)
        return flin_fail_errno(error, FLASHINFER_EIO, errno, "cannot read %s", file->name);
    code = read_exactly(file, 0, length, sizeof length, error);
    if (code != 0) return code;
    for (int i = 7; i >= 0; i--) bytes = bytes << 8 | length[i];
    if (bytes < 2 || bytes > FLIN_SAFETENSORS_HEADER_BYTES_MAX)
        return flin_fail(
            error, FLASHINFER_ECHECKPOINT,
            "%s is no safetensors file: its header would be %llu bytes long (at most %u)",
            file->name, (unsigned long long)bytes, FLIN_SAFETENSORS_HEADER_BYTES_MAX);
    if ((uint64_t)status.st_size < 8 + bytes)
        return flin_fail(error, FLASHINFER_ECHECKPOINT, "%s is truncated within its header",
                         file->name);
    text = malloc((size_t)bytes + 1);
    if (text == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for the header of %s", file->name);
    text[bytes] = '\0';
    code = read_exactly(file, 8, text, bytes, error);
    if (code == 0) code = flin_json_parse(text, (size_t)bytes, file->name, &file->header, error);
    free(text);
    if (code != 0) return code;
    if (!cJSON_IsObject(file->header))
        return flin_fail(error, FLASHINFER_ECHECKPOINT, "%s: its header is not a JSON object",
                         file->name);
    *data_offset = 8 + bytes;
    *data_bytes = (uint64_t)status.st_size - *data_offset;
    return 0;
}

static int reserve(flin_safetensors *set, uint32_t extra, flashinfer_error *error)
{
    uint64_t needed = (uint64_t)set->tensor_count + extra + 1; /* never an empty table */
    flin_safetensor *grown;

    if (needed <= set->tensor_capacity) return 0;
    grown = needed <= UINT32_MAX ? realloc(set->tensors, (size_t)needed * sizeof *grown) : NULL;
    if (grown == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for a table of %llu tensors",
                         (unsigned long long)needed);
    set->tensors = grown;
    set->tensor_capacity = (uint32_t)needed;
    return 0;
}

/* Append a file and its tensors; with placements only those the index puts into this file. */
static int add_file(flin_safetensors *set, int directory, const char *name,
                    const placement *placements, uint32_t placement_count, flashinfer_error *error)
{
    flin_safetensors_file *file = &set->files[set->file_count];
    uint32_t first = set->tensor_count;
    uint64_t data_offset = 0;
    uint64_t data_bytes = 0;
    int code;

    file->name = name;
    code = flin_checkpoint_open(directory, name, 1, &file->fd, error);
    if (code != 0) return code;
    set->file_count++;
    code = read_header(file, &data_offset, &data_bytes, error);
    if (code == 0) code = reserve(set, (uint32_t)cJSON_GetArraySize(file->header), error);
    if (code != 0) return code;
    for (const cJSON *entry = file->header->child; entry != NULL; entry = entry->next) {
        flin_safetensor *tensor = &set->tensors[set->tensor_count];
        if (strcmp(entry->string, "__metadata__") == 0) continue;
        if (!flin_json_is_plain(entry->string))
            return flin_fail(error, FLASHINFER_ECHECKPOINT,
                             "%s: a tensor's name is empty or has control characters", name);
        code = read_entry(tensor, name, entry, data_bytes, data_offset, error);
        if (code != 0) return code;
        tensor->file = set->file_count - 1;
        set->tensor_count++;
    }
    code = check_overlap(name, set->tensors + first, set->tensor_count - first, error);
    if (code != 0 || placements == NULL) return code;

    uint32_t kept = first;
    for (uint32_t i = first; i < set->tensor_count; i++) {
        placement key = {name, set->tensors[i].base.name};
        if (bsearch(&key, placements, placement_count, sizeof key, compare_placements) != NULL)
            set->tensors[kept++] = set->tensors[i];
    }
    set->tensor_count = kept;
    return 0;
}

/* --------------------------------------------------------------------------------------- shards */

static const flin_source_tensor *find(const flin_source *source, const char *name)
{
    const flin_safetensors *set = (const flin_safetensors *)source;
    const flin_safetensor *found;
    flin_safetensor key;

    if (set->tensor_count == 0) return NULL;
    memset(&key, 0, sizeof key);
    key.base.name = name;
    found = bsearch(&key, set->tensors, set->tensor_count, sizeof key, compare_names);
    return found != NULL ? &found->base : NULL;
}

/* A shard lies in the checkpoint directory itself: no path may lead out of it. */
static int is_plain_name(const char *name)
{
    return name != NULL && flin_json_is_plain(name) && name[0] != '.' && strlen(name) < 256 &&
           strchr(name, '/') == NULL;
}

/* The index as pairs sorted by file, then tensor; free() them. */
static int read_placements(const cJSON *index, placement **placements, uint32_t *count,
                           flashinfer_error *error)
{
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(index, "weight_map");
    uint32_t total;
    uint32_t used = 0;

    *placements = NULL;
    if (!cJSON_IsObject(map) || map->child == NULL)
        return flin_fail(error, FLASHINFER_ECHECKPOINT, INDEX_NAME " has no \"weight_map\"");
    total = (uint32_t)cJSON_GetArraySize(map);
    *placements = malloc((size_t)total * sizeof **placements);
    if (*placements == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for " INDEX_NAME);
    for (const cJSON *entry = map->child; entry != NULL; entry = entry->next) {
        const char *file = cJSON_GetStringValue(entry);
        if (!is_plain_name(file) || !flin_json_is_plain(entry->string))
            return flin_fail(error, FLASHINFER_ECHECKPOINT,
                             INDEX_NAME ": tensor %.128s is in no file of the checkpoint directory",
                             entry->string);
        (*placements)[used++] = (placement){file, entry->string};
    }
    qsort(*placements, total, sizeof **placements, compare_placements);
    *count = total;
    return 0;
}

static int open_shards(flin_safetensors *set, int directory, flashinfer_error *error)
{
    placement *placements;
    uint32_t count = 0;
    uint32_t shards = 0;
    int code = read_placements(set->index, &placements, &count, error);

    for (uint32_t i = 0; i < count; i++)
        shards += i == 0 || strcmp(placements[i - 1].file, placements[i].file) != 0;
    if (code == 0 && shards > FLIN_SAFETENSORS_SHARDS_MAX)
        code = flin_fail(error, FLASHINFER_ECHECKPOINT,
                         INDEX_NAME " names %u files; at most %u are opened", shards,
                         FLIN_SAFETENSORS_SHARDS_MAX);
    if (code == 0) {
        set->files = calloc(shards, sizeof *set->files);
        if (set->files == NULL)
            code = flin_fail(error, FLASHINFER_ENOMEM, "no memory for %u shards", shards);
    }
    for (uint32_t i = 0; i < count && code == 0; i++)
        if (i == 0 || strcmp(placements[i - 1].file, placements[i].file) != 0)
            code = add_file(set, directory, placements[i].file, placements, count, error);
    if (code == 0) qsort(set->tensors, set->tensor_count, sizeof *set->tensors, compare_names);
    for (uint32_t i = 0; i < count && code == 0; i++)
        if (find(&set->source, placements[i].tensor) == NULL)
            code = flin_fail(error, FLASHINFER_ECHECKPOINT,
                             "%s has no tensor %.128s, which " INDEX_NAME " puts there",
                             placements[i].file, placements[i].tensor);
    free(placements);
    return code;
}

/* ------------------------------------------------------------------------------------- elements */

static int bad_element(const flin_safetensor *tensor, uint64_t index, float value, float limit,
                       flashinfer_error *error)
{
    int64_t offset = (int64_t)(tensor->offset + index * type_bytes[tensor->type]);
    char place[96];

    flin_source_element(&tensor->base, index, place, sizeof place);
    if (isfinite(value))
        return flin_fail_at(error, FLASHINFER_ECHECKPOINT, -1, -1, offset,
                            "tensor %.128s holds %g at %s, its type in the file goes to %g; pack "
                            "with --dtype f32",
                            tensor->base.name, (double)value, place, (double)limit);
    return flin_fail_at(error, FLASHINFER_ECHECKPOINT, -1, -1, offset,
                        "tensor %.128s holds %s at %s", tensor->base.name,
                        isnan(value) ? "NaN" : "an infinity", place);
}

/* Widen in place: the count 2-byte values lie in the second half of `to`, so reading stays ahead of
 * writing. */
static void widen(uint32_t type, uint32_t count, float *to)
{
    const uint8_t *from = (const uint8_t *)to + (size_t)count * 2;

    for (uint32_t i = 0; i < count; i++) {
        uint16_t bits;
        float value;
        memcpy(&bits, from + (size_t)i * 2, sizeof bits);
        value = type == FLIN_SAFETENSORS_F16 ? flin_float_from_half(bits)
                                             : flin_float_from_bfloat(bits);
        memcpy((uint8_t *)to + (size_t)i * 4, &value, sizeof value);
    }
}

static int read_floats(const flin_source *source, const flin_source_tensor *what, uint64_t first,
                       uint32_t count, float limit, float *to, flashinfer_error *error)
{
    const flin_safetensors *set = (const flin_safetensors *)source;
    const flin_safetensor *tensor = (const flin_safetensor *)what;
    uint32_t size = type_bytes[tensor->type];
    uint8_t *raw = (uint8_t *)to + (size_t)count * (4 - size);
    int code = read_exactly(&set->files[tensor->file], tensor->offset + first * size, raw,
                            (uint64_t)count * size, error);

    if (code != 0) return code;
    if (size == 2) widen(tensor->type, count, to);
    for (uint32_t i = 0; i < count; i++)
        if (!(fabsf(to[i]) <= limit)) return bad_element(tensor, first + i, to[i], limit, error);
    return 0;
}

static void expect(const flin_source *source, const flin_source_tensor *what)
{
#ifdef POSIX_FADV_WILLNEED
    const flin_safetensors *set = (const flin_safetensors *)source;
    const flin_safetensor *tensor = (const flin_safetensor *)what;

    (void)posix_fadvise(set->files[tensor->file].fd, (off_t)tensor->offset, (off_t)tensor->bytes,
                        POSIX_FADV_WILLNEED);
#else
    (void)source;
    (void)what;
#endif
}

/* -------------------------------------------------------------------------------------- the set */

static int open_set(flin_safetensors *set, int directory, flashinfer_error *error)
{
    int code;

    if (faccessat(directory, SINGLE_NAME, F_OK, 0) == 0) {
        set->files = calloc(1, sizeof *set->files);
        if (set->files == NULL)
            return flin_fail(error, FLASHINFER_ENOMEM, "no memory for " SINGLE_NAME);
        code = add_file(set, directory, SINGLE_NAME, NULL, 0, error);
    } else {
        code = flin_json_load(directory, INDEX_NAME, 0, &set->index, error);
        if (code == 0 && set->index == NULL) return flin_directory_refuse_weights(directory, error);
        if (code == 0) code = open_shards(set, directory, error);
    }
    if (code != 0) return code;
    if (set->tensor_count == 0)
        return flin_fail(error, FLASHINFER_ECHECKPOINT, "the checkpoint has no tensors");
    qsort(set->tensors, set->tensor_count, sizeof *set->tensors, compare_names);
    for (uint32_t i = 1; i < set->tensor_count; i++)
        if (strcmp(set->tensors[i - 1].base.name, set->tensors[i].base.name) == 0)
            return flin_fail(error, FLASHINFER_ECHECKPOINT,
                             "the checkpoint has tensor %.128s twice", set->tensors[i].base.name);
    return 0;
}

int flin_safetensors_open(flin_safetensors *set, int directory, flashinfer_error *error)
{
    int code;

    memset(set, 0, sizeof *set);
    set->source = (flin_source){find, read_floats, expect};
    code = open_set(set, directory, error);
    if (code != 0) flin_safetensors_close(set);
    return code;
}

void flin_safetensors_close(flin_safetensors *set)
{
    for (uint32_t i = 0; i < set->file_count; i++) {
        (void)close(set->files[i].fd);
        cJSON_Delete(set->files[i].header);
    }
    free(set->files);
    free(set->tensors);
    cJSON_Delete(set->index);
    memset(set, 0, sizeof *set);
}
