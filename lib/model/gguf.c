/*
 * gguf.c - parses a GGUF header. One parser runs twice over the header bytes: first to find where
 * the header ends and how many entries it has, then to fill the tables. Every length is checked
 * against the file before it is used.
 */
#include "model/gguf.h"

#include <string.h>

#include "model/arch/arch.h"
#include "util/hash.h"

#define FIRST_READ_BYTES (64u * 1024u)
#define NAME_BYTES_MAX 65535u
#define EMPTY UINT32_MAX

/* Reads little-endian values out of the bytes at hand. `starved` means: fine so far, but more
   bytes are needed. */
typedef struct cursor {
    const uint8_t *start;
    uint64_t position;
    uint64_t available; /* bytes at hand */
    uint64_t length;    /* bytes of the file */
    int foreign;        /* not of our making: gguf.h */
    int starved;
    int code; /* 0 or the failure recorded in error */
    flashinfer_error *error;
} cursor;

static int stopped(const cursor *at)
{
    return at->starved || at->code != 0;
}

static void malformed(cursor *at, const char *what)
{
    if (at->code != 0) return;
    at->code = flin_fail_at(at->error, FLASHINFER_EFORMAT, -1, -1, (int64_t)at->position,
                            "not a valid GGUF header: %s at byte %llu", what,
                            (unsigned long long)at->position);
}

/* Pointer to the next `bytes` bytes, or NULL when stopped. */
static const uint8_t *take(cursor *at, uint64_t bytes)
{
    const uint8_t *data;

    if (stopped(at)) return NULL;
    if (bytes > at->length - at->position) {
        malformed(at, "it ends before its header does (truncated file?)");
        return NULL;
    }
    if (at->position + bytes > FLIN_GGUF_HEADER_BYTES_MAX) {
        malformed(at, "the header is larger than 256 MiB");
        return NULL;
    }
    if (bytes > at->available - at->position) {
        at->starved = 1;
        return NULL;
    }
    data = at->start + at->position;
    at->position += bytes;
    return data;
}

static uint32_t take_u32(cursor *at)
{
    const uint8_t *data = take(at, 4);
    uint32_t value = 0;
    if (data != NULL) memcpy(&value, data, sizeof value);
    return value;
}

static uint64_t take_u64(cursor *at)
{
    const uint8_t *data = take(at, 8);
    uint64_t value = 0;
    if (data != NULL) memcpy(&value, data, sizeof value);
    return value;
}

static flin_string take_string(cursor *at)
{
    flin_string string = {NULL, 0};
    uint64_t bytes = take_u64(at);
    const uint8_t *data = take(at, bytes);

    if (data == NULL) return string;
    string.data = (const char *)data;
    string.bytes = (size_t)bytes;
    return string;
}

static uint64_t value_bytes(uint32_t type)
{
    switch (type) {
    case FLIN_GGUF_VALUE_U8:
    case FLIN_GGUF_VALUE_I8:
    case FLIN_GGUF_VALUE_BOOL:
        return 1;
    case FLIN_GGUF_VALUE_U16:
    case FLIN_GGUF_VALUE_I16:
        return 2;
    case FLIN_GGUF_VALUE_U32:
    case FLIN_GGUF_VALUE_I32:
    case FLIN_GGUF_VALUE_F32:
        return 4;
    case FLIN_GGUF_VALUE_U64:
    case FLIN_GGUF_VALUE_I64:
    case FLIN_GGUF_VALUE_F64:
        return 8;
    default:
        return 0; /* strings have no fixed size; the rest is unknown */
    }
}

/* The elements of a value: `count` of `type`. Strings are walked to check each. */
static void take_elements(cursor *at, flin_gguf_value *value)
{
    uint64_t begin = at->position;

    value->data = at->start + at->position;
    if (value->type == FLIN_GGUF_VALUE_STRING) {
        for (uint64_t i = 0; i < value->count && !stopped(at); i++) (void)take_string(at);
    } else {
        uint64_t bytes = value_bytes(value->type);
        if (bytes == 0) {
            malformed(at, "unknown metadata value type");
            return;
        }
        if (value->count > at->length / bytes) {
            malformed(at, "array count larger than the file");
            return;
        }
        (void)take(at, bytes * value->count);
    }
    value->bytes = at->position - begin;
}

static void take_value(cursor *at, flin_gguf_value *value)
{
    memset(value, 0, sizeof *value);
    value->key = take_string(at);
    if (!stopped(at) && (value->key.bytes == 0 || value->key.bytes > NAME_BYTES_MAX))
        malformed(at, "metadata key with an impossible length");
    value->type = take_u32(at);
    value->count = 1;
    if (stopped(at)) return;
    if (value->type == FLIN_GGUF_VALUE_ARRAY) {
        value->is_array = 1;
        value->type = take_u32(at);
        value->count = take_u64(at);
        if (!stopped(at) && value->type == FLIN_GGUF_VALUE_ARRAY) malformed(at, "nested array");
    }
    if (!stopped(at)) take_elements(at, value);
}

const char *flin_gguf_type_name(uint64_t type)
{
    static const char names[][8] = {
        "f32",     "f16",   "q4_0",   "q4_1",  "",      "",       "q5_0", "q5_1",    "q8_0",
        "q8_1",    "q2_k",  "q3_k",   "q4_k",  "q5_k",  "q6_k",   "q8_k", "iq2_xxs", "iq2_xs",
        "iq3_xxs", "iq1_s", "iq4_nl", "iq3_s", "iq2_s", "iq4_xs", "i8",   "i16",     "i32",
        "i64",     "f64",   "iq1_m",  "bf16",  "",      "",       "",     "tq1_0",   "tq2_0",
        "",        "",      "",       "mxfp4", "nvfp4", "q1_0"};

    return type < sizeof names / sizeof *names && *names[type] != 0 ? names[type] : "unknown";
}

int flin_gguf_refuse_type(uint64_t type, const char *what, flashinfer_error *error)
{
    const int all = FLIN_TYPES_KNOWN > FLIN_Q4_1;

    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "%s has GGUF type %llu (%s), which this build does not compute with%s", what,
                     (unsigned long long)type, flin_gguf_type_name(type),
                     all ? "" : "; one with -Dquants=enabled knows more");
}

int flin_gguf_type_size(uint32_t type, uint64_t *bytes, uint64_t *elements)
{
    for (uint32_t i = 0; i < FLIN_TYPES_KNOWN; i++) {
        if (flin_types[i].gguf != type) continue;
        *bytes = flin_types[i].bytes;
        *elements = flin_types[i].elements;
        return 1;
    }
    *elements = 1;
    *bytes = type == FLIN_GGUF_F64 ? 8 : 1u << (type - FLIN_GGUF_I8) % 4; /* I8 to I64 in order */
    return type >= FLIN_GGUF_I8 && type <= FLIN_GGUF_F64;
}

static void size_tensor(cursor *at, flin_gguf_tensor *tensor)
{
    uint64_t unit_bytes, unit_elements, units;

    /* of no use to us; whether that is a reason to refuse the file is decided with all of it at
       hand */
    if (!flin_gguf_type_size(tensor->type, &unit_bytes, &unit_elements)) return;
    if (tensor->dimensions[0] % unit_elements != 0) {
        malformed(at, "tensor row is not a whole number of blocks");
        return;
    }
    units = tensor->dimensions[0] / unit_elements;
    for (uint32_t i = 1; i < 4; i++) {
        if (tensor->dimensions[i] != 0 && units > UINT64_MAX / 64 / tensor->dimensions[i]) {
            malformed(at, "tensor dimensions overflow");
            return;
        }
        units *= tensor->dimensions[i];
    }
    if (units > at->length / unit_bytes) {
        malformed(at, "tensor larger than the file (truncated file?)");
        return;
    }
    tensor->bytes = units * unit_bytes;
}

static void take_tensor(cursor *at, flin_gguf_tensor *tensor)
{
    memset(tensor, 0, sizeof *tensor);
    tensor->name = take_string(at);
    if (!stopped(at) && (tensor->name.bytes == 0 || tensor->name.bytes > NAME_BYTES_MAX))
        malformed(at, "tensor name with an impossible length");
    tensor->dimension_count = take_u32(at);
    if (!stopped(at) && (tensor->dimension_count == 0 || tensor->dimension_count > 4))
        malformed(at, "tensor with an impossible number of dimensions");
    for (uint32_t i = 0; i < 4; i++) tensor->dimensions[i] = 1;
    for (uint32_t i = 0; i < tensor->dimension_count && !stopped(at); i++)
        tensor->dimensions[i] = take_u64(at);
    tensor->type = take_u32(at);
    tensor->offset = take_u64(at); /* from data_offset; made absolute by place_tensors() */
    if (!stopped(at)) size_tensor(at, tensor);
}

static void check_version(cursor *at, uint32_t version)
{
    if (version == FLIN_GGUF_VERSION) return;
    if (!at->foreign)
        at->code = flin_fail_at(
            at->error, FLASHINFER_EFORMAT, -1, -1, 4,
            "GGUF version %u; this library reads version %u, little-endian: convert or "
            "pack the model again",
            version, FLIN_GGUF_VERSION);
    else if (version != FLIN_GGUF_VERSION_FOREIGN)
        at->code =
            flin_fail_at(at->error, FLASHINFER_EFORMAT, -1, -1, 4,
                         "GGUF version %u; versions %u and %u, little-endian, can be read: convert "
                         "the file again",
                         version, FLIN_GGUF_VERSION_FOREIGN, FLIN_GGUF_VERSION);
}

/* Magic, version, counts. */
static void take_preamble(cursor *at, flin_gguf *gguf)
{
    uint32_t magic = take_u32(at), version;
    uint64_t tensors, values;

    if (!stopped(at) && magic != FLIN_GGUF_MAGIC &&
        !(at->foreign && magic == FLIN_GGUF_MAGIC_POWERINFER)) {
        at->code =
            flin_fail_at(at->error, FLASHINFER_EFORMAT, -1, -1, 0,
                         "not a GGUF file: it begins with %08x instead of \"GGUF\"; a checkpoint "
                         "is packed first, with flashinfer_pack()",
                         magic);
    }
    version = take_u32(at);
    if (!stopped(at)) check_version(at, version);
    tensors = take_u64(at);
    values = take_u64(at);
    if (stopped(at)) return;
    if (tensors > FLIN_GGUF_ENTRIES_MAX || values > FLIN_GGUF_ENTRIES_MAX) {
        malformed(at, "impossible number of tensors or metadata entries");
        return;
    }
    gguf->tensor_count = (uint32_t)tensors;
    gguf->value_count = (uint32_t)values;
}

/* Names are handed to callers, so they get a zero byte at their end. */
static void keep_name(flin_gguf *gguf, flin_string *name)
{
    if (gguf->names != NULL) {
        char *copy = gguf->names + gguf->name_bytes;
        memcpy(copy, name->data, name->bytes);
        copy[name->bytes] = '\0';
        name->data = copy;
    }
    gguf->name_bytes += name->bytes + 1;
}

/* The whole header; the tables are filled only when they exist. */
static void take_header(cursor *at, flin_gguf *gguf)
{
    flin_gguf_value value;
    flin_gguf_tensor tensor;

    take_preamble(at, gguf);
    gguf->name_bytes = 0;
    for (uint32_t i = 0; i < gguf->value_count && !stopped(at); i++) {
        take_value(at, &value);
        keep_name(gguf, &value.key);
        if (gguf->values != NULL) gguf->values[i] = value;
    }
    for (uint32_t i = 0; i < gguf->tensor_count && !stopped(at); i++) {
        take_tensor(at, &tensor);
        keep_name(gguf, &tensor.name);
        if (gguf->tensors != NULL) gguf->tensors[i] = tensor;
    }
    gguf->header_bytes = at->position;
}

static cursor begin(const flin_gguf *gguf, const flin_storage *storage, uint64_t available,
                    flashinfer_error *error)
{
    cursor at = {0};

    at.start = gguf->arena.base;
    at.available = available;
    at.length = storage->caps.length_bytes;
    at.foreign = gguf->foreign != 0;
    at.error = error;
    return at;
}

/* Read as much of the file as the header turns out to need, into the arena. */
static int read_header(flin_gguf *gguf, flin_storage *storage, flashinfer_error *error)
{
    uint64_t length = storage->caps.length_bytes;
    uint64_t have = 0, want = FIRST_READ_BYTES;
    int code = flin_arena_open(&gguf->arena, want, "the model file's header", error);

    if (code != 0) return code;
    for (;;) {
        cursor at;
        if (want > length) want = length;
        code = flin_arena_resize(&gguf->arena, want, "the model file's header", error);
        if (code != 0) return code;
        code = flin_storage_read(storage, have, gguf->arena.base + have, want - have, "the header",
                                 error);
        if (code != 0) return code;
        have = want;
        at = begin(gguf, storage, have, error);
        take_header(&at, gguf);
        if (at.code != 0) return at.code;
        if (!at.starved) return 0;
        want = have * 2;
    }
}

static uint32_t index_slots(uint32_t count)
{
    uint32_t slots = 4;
    while (slots < count * 2) slots *= 2;
    return slots;
}

/* Lay the tables out behind the header bytes; called measuring and real. */
static void layout_tables(flin_gguf *gguf, flin_arena *arena)
{
    (void)flin_arena_take(arena, gguf->header_bytes, 64);
    gguf->values = FLIN_TAKE(arena, flin_gguf_value, gguf->value_count);
    gguf->tensors = FLIN_TAKE(arena, flin_gguf_tensor, gguf->tensor_count);
    gguf->value_index = FLIN_TAKE(arena, uint32_t, index_slots(gguf->value_count));
    gguf->tensor_index = FLIN_TAKE(arena, uint32_t, index_slots(gguf->tensor_count));
    gguf->names = FLIN_TAKE(arena, char, gguf->name_bytes);
    gguf->value_index_mask = index_slots(gguf->value_count) - 1;
    gguf->tensor_index_mask = index_slots(gguf->tensor_count) - 1;
}

static flin_string name_of(const flin_gguf *gguf, int tensors, uint32_t entry)
{
    return tensors ? gguf->tensors[entry].name : gguf->values[entry].key;
}

/* Place of a name in its table: where it is, or the empty entry where it would be. */
static uint32_t *index_entry(const flin_gguf *gguf, int tensors, const char *name, size_t bytes)
{
    uint32_t *table = tensors ? gguf->tensor_index : gguf->value_index;
    uint32_t mask = tensors ? gguf->tensor_index_mask : gguf->value_index_mask;
    uint32_t slot = (uint32_t)flin_hash(name, bytes) & mask;

    while (table[slot] != EMPTY) {
        flin_string other = name_of(gguf, tensors, table[slot]);
        if (other.bytes == bytes && memcmp(other.data, name, bytes) == 0) break;
        slot = (slot + 1) & mask;
    }
    return &table[slot];
}

const flin_gguf_value *flin_gguf_find(const flin_gguf *gguf, const char *key)
{
    uint32_t entry = *index_entry(gguf, 0, key, strlen(key));
    return entry == EMPTY ? NULL : &gguf->values[entry];
}

const flin_gguf_tensor *flin_gguf_find_tensor(const flin_gguf *gguf, const char *name)
{
    uint32_t entry = *index_entry(gguf, 1, name, strlen(name));
    return entry == EMPTY ? NULL : &gguf->tensors[entry];
}

static int index_names(flin_gguf *gguf, int tensors, flashinfer_error *error)
{
    uint32_t count = tensors ? gguf->tensor_count : gguf->value_count;
    uint32_t *table = tensors ? gguf->tensor_index : gguf->value_index;
    uint32_t mask = tensors ? gguf->tensor_index_mask : gguf->value_index_mask;

    memset(table, 0xff, ((size_t)mask + 1) * sizeof *table);
    for (uint32_t i = 0; i < count; i++) {
        flin_string name = name_of(gguf, tensors, i);
        uint32_t *entry = index_entry(gguf, tensors, name.data, name.bytes);
        if (*entry != EMPTY) {
            return flin_fail(error, FLASHINFER_EFORMAT,
                             "not a valid GGUF header: %s %.*s appears twice",
                             tensors ? "tensor" : "metadata key", (int)name.bytes, name.data);
        }
        *entry = i;
    }
    return 0;
}

/* Tensor offsets become absolute and are checked against the file. */
static int place_tensors(flin_gguf *gguf, uint64_t length, flashinfer_error *error)
{
    uint64_t alignment;
    int code = flin_gguf_u64_or(gguf, "general.alignment", 32, &alignment, error);

    if (code != 0) return code;
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > (1u << 20)) {
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "general.alignment is %llu; it must be a power of two up to 1 MiB",
                         (unsigned long long)alignment);
    }
    gguf->data_offset = flin_round_up(gguf->header_bytes, alignment);
    gguf->data_end = gguf->data_offset;
    for (uint32_t i = 0; i < gguf->tensor_count; i++) {
        flin_gguf_tensor *tensor = &gguf->tensors[i];
        if (tensor->offset % alignment != 0 || gguf->data_offset > length ||
            tensor->offset > length - gguf->data_offset ||
            tensor->bytes > length - gguf->data_offset - tensor->offset) {
            return flin_fail_at(error, FLASHINFER_EFORMAT, -1, -1, (int64_t)length,
                                "tensor %.*s lies outside the file of %llu bytes (truncated?); "
                                "%s it again",
                                (int)tensor->name.bytes, tensor->name.data,
                                (unsigned long long)length,
                                gguf->foreign ? "fetch or convert" : "copy or pack");
        }
        tensor->offset += gguf->data_offset;
        if (tensor->offset + tensor->bytes > gguf->data_end)
            gguf->data_end = tensor->offset + tensor->bytes;
    }
    return 0;
}

static int corrupt_header(flashinfer_error *error, uint64_t offset, const char *what)
{
    return flin_fail_at(
        error, FLASHINFER_ECORRUPT, -1, -1, (int64_t)offset,
        "the %s does not match its checksum: the file is damaged, copy or pack it again", what);
}

/* Fill tensors[].sum and compare the two sums that cover everything the rest relies on. */
static int read_sums(flin_gguf *gguf, flin_storage *storage, int verify, flashinfer_error *error)
{
    const flin_gguf_tensor *sums = flin_gguf_find_tensor(gguf, FLIN_SUMS_TENSOR);
    uint64_t batch[256], index = 0;
    flin_hash_stream stream;

    if (sums == NULL || sums->type != FLIN_GGUF_I64 ||
        sums->bytes != 8 * ((uint64_t)gguf->tensor_count + 1)) {
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "not a model file in flash layout: tensor %s is missing or "
                         "misshapen; make one with flashinfer_pack()",
                         FLIN_SUMS_TENSOR);
    }
    flin_hash_begin(&stream);
    while (index <= gguf->tensor_count) {
        uint64_t count = gguf->tensor_count + 1 - index;
        int code;
        if (count > 256) count = 256;
        code = flin_storage_read(storage, sums->offset + 8 * index, batch, 8 * count,
                                 FLIN_SUMS_TENSOR, error);
        if (code != 0) return code;
        if (index == 0 && verify && batch[0] != flin_hash(gguf->header, gguf->header_bytes))
            return corrupt_header(error, 0, "header");
        for (uint64_t i = 0; i < count; i++, index++) {
            if (index > 0) gguf->tensors[index - 1].sum = batch[i];
            if (index < gguf->tensor_count) flin_hash_add(&stream, &batch[i], 8);
        }
    }
    /* the sums tensor comes last in the table, so its own sum is the last element and covers all
       others */
    if (sums != &gguf->tensors[gguf->tensor_count - 1])
        return flin_fail(error, FLASHINFER_EFORMAT, "tensor %s is not the last of the file",
                         FLIN_SUMS_TENSOR);
    if (verify && sums->sum != flin_hash_end(&stream))
        return corrupt_header(error, sums->offset, "table of checksums");
    return 0;
}

static int is_ours(const flin_gguf *gguf)
{
    return flin_gguf_find_tensor(gguf, FLIN_SUMS_TENSOR) != NULL ||
           flin_gguf_find(gguf, "flashinfer.version") != NULL;
}

/* A file of others says what it is before anything is said of its tensors. */
static int check_plain(const flin_gguf *gguf, flashinfer_error *error)
{
    const flin_architecture *found;
    flin_string architecture = {"", 0};
    int code;

    (void)flin_gguf_string(gguf, "general.architecture", &architecture, NULL);
    if (architecture.bytes == 0)
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "a GGUF file without general.architecture: it does not say which model it "
                         "holds; convert it again");
    code = flin_arch_find(architecture, &found, error);
    if (code != 0 || FLIN_PLAIN) return code;
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "a GGUF file that is not in flash layout: this build of the library was made "
                     "without those; build it with -Dplain=enabled");
}

static int check_types(const flin_gguf *gguf, flashinfer_error *error)
{
    for (uint32_t i = 0; i < gguf->tensor_count; i++) {
        const flin_gguf_tensor *tensor = &gguf->tensors[i];
        uint64_t bytes, elements;
        if (!flin_gguf_type_size(tensor->type, &bytes, &elements))
            return flin_gguf_refuse_type(tensor->type, tensor->name.data, error);
    }
    return 0;
}

static int open_tables(flin_gguf *gguf, flin_storage *storage, int verify, flashinfer_error *error)
{
    flin_arena measure;
    cursor at;
    int code = read_header(gguf, storage, error);

    if (code != 0) return code;
    flin_arena_measure(&measure);
    layout_tables(gguf, &measure);
    code = flin_arena_resize(&gguf->arena, measure.used, "the model file's header", error);
    if (code != 0) return code;
    layout_tables(gguf, &gguf->arena);
    gguf->header = gguf->arena.base;
    at = begin(gguf, storage, gguf->header_bytes, error);
    take_header(&at, gguf);
    if (at.code != 0) return at.code;
    if ((code = index_names(gguf, 0, error)) != 0) return code;
    if ((code = index_names(gguf, 1, error)) != 0) return code;
    if (gguf->tensor_count == 0) {
        if (FLIN_PLAIN && !gguf->foreign && flin_gguf_find(gguf, FLIN_TOKENS_KEY) != NULL) return 0;
        return flin_fail(error, FLASHINFER_EFORMAT, "the file has no tensors");
    }
    if (!gguf->foreign && !is_ours(gguf)) {
        if ((code = check_plain(gguf, error)) != 0) return code;
        gguf->foreign = 1;
    }
    if (!gguf->foreign && (code = check_types(gguf, error)) != 0) return code;
    if ((code = place_tensors(gguf, storage->caps.length_bytes, error)) != 0) return code;
    return gguf->foreign ? 0 : read_sums(gguf, storage, verify, error);
}

static int open_file(flin_gguf *gguf, flin_storage *storage, int foreign, int verify,
                     flashinfer_error *error)
{
    int code;

    memset(gguf, 0, sizeof *gguf);
    gguf->foreign = foreign != 0;
    code = open_tables(gguf, storage, verify, error);
    if (code != 0) flin_gguf_close(gguf);
    return code;
}

int flin_gguf_open(flin_gguf *gguf, flin_storage *storage, int verify, flashinfer_error *error)
{
    return open_file(gguf, storage, 0, verify, error);
}

int flin_gguf_open_foreign(flin_gguf *gguf, flin_storage *storage, flashinfer_error *error)
{
    return open_file(gguf, storage, 1, 0, error);
}

void flin_gguf_close(flin_gguf *gguf)
{
    flin_arena_close(&gguf->arena);
    memset(gguf, 0, sizeof *gguf);
}
