/*
 * shape.c - architecture look-up and the keys every architecture shares: flashinfer.* (docs/format.md).
 */
#include "model/shape.h"

#include <string.h>

static const flin_architecture *const architectures[] = {&flin_architecture_opt};

#define VERSION_PLAIN 1u
#define VERSION_ORDERED 2u /* bundles may lie in another order than their neurons */

int flin_shape_number(const flin_gguf *gguf, const char *key, uint32_t least, uint32_t most,
                      uint32_t *number, flashinfer_error *error)
{
    uint64_t value;
    int code = flin_gguf_u64(gguf, key, &value, error);

    if (code != 0) return code;
    if (value < least || value > most) {
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "metadata key %s is %llu; it must lie in %u to %u", key,
                         (unsigned long long)value, least, most);
    }
    *number = (uint32_t)value;
    return 0;
}

int flin_type_from_gguf(uint64_t gguf_type, const char *what, enum flin_type *type,
                        flashinfer_error *error)
{
    switch (gguf_type) {
    case FLIN_GGUF_F32:
        *type = FLIN_F32;
        return 0;
    case FLIN_GGUF_F16:
        *type = FLIN_F16;
        return 0;
    default:
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "%s has GGUF type %llu; this version computes with F32 and "
                         "F16",
                         what, (unsigned long long)gguf_type);
    }
}

static const flin_gguf_value *number_array(const flin_gguf *gguf, const char *key, uint32_t count)
{
    const flin_gguf_value *value = flin_gguf_find(gguf, key);

    if (value == NULL || !value->is_array || value->count != count) return NULL;
    if (value->type == FLIN_GGUF_VALUE_STRING || value->type == FLIN_GGUF_VALUE_F32 ||
        value->type == FLIN_GGUF_VALUE_F64)
        return NULL;
    return value;
}

static int check_parts(const flin_shape *shape, flashinfer_error *error)
{
    uint32_t end = 0;

    for (uint32_t i = 0; i < shape->part_count; i++) {
        const flin_part *part = &shape->parts[i];
        if (part->bytes != flin_type_bytes(part->type, shape->width) || part->offset_bytes != end)
            return flin_fail(error, FLASHINFER_EFORMAT,
                             "flashinfer.ffn.part_offsets or part_bytes does not fit a "
                             "width of %u; pack the model again",
                             shape->width);
        end += part->bytes;
    }
    if (shape->parts[FLIN_PART_UP].type != shape->parts[FLIN_PART_DOWN].type)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED, "bundle parts of different types");
    return 0;
}

static int read_bundle(const flin_gguf *gguf, flin_shape *shape, flashinfer_error *error)
{
    const flin_gguf_value *names = flin_gguf_find(gguf, "flashinfer.ffn.parts");
    const flin_gguf_value *types = number_array(gguf, "flashinfer.ffn.part_types", 2);
    const flin_gguf_value *offsets = number_array(gguf, "flashinfer.ffn.part_offsets", 2);
    const flin_gguf_value *sizes = number_array(gguf, "flashinfer.ffn.part_bytes", 2);
    const uint8_t *cursor;
    int code;

    if (names == NULL || !names->is_array || names->type != FLIN_GGUF_VALUE_STRING ||
        names->count != 2 || types == NULL || offsets == NULL || sizes == NULL)
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "the flashinfer.ffn.part* keys are missing or not arrays of two");
    cursor = names->data;
    if (!flin_string_is(flin_gguf_next_string(&cursor), "up") ||
        !flin_string_is(flin_gguf_next_string(&cursor), "down"))
        return flin_fail(error, FLASHINFER_EUNSUPPORTED, "flashinfer.ffn.parts is not [up, down]");
    shape->part_count = 2;
    for (uint32_t i = 0; i < 2; i++) {
        flin_part *part = &shape->parts[i];
        uint64_t offset = flin_gguf_element_u64(offsets, i),
                 bytes = flin_gguf_element_u64(sizes, i);
        code = flin_type_from_gguf(flin_gguf_element_u64(types, i), "flashinfer.ffn.part_types",
                                   &part->type, error);
        if (code != 0) return code;
        if (offset > (1u << 30) || bytes > (1u << 30))
            return flin_fail(error, FLASHINFER_EFORMAT,
                             "flashinfer.ffn.part_offsets or part_bytes is out of range");
        part->offset_bytes = (uint32_t)offset;
        part->bytes = (uint32_t)bytes;
        shape->payload_bytes = part->offset_bytes + part->bytes;
    }
    code = check_parts(shape, error);
    if (code != 0) return code;
    return flin_shape_number(gguf, "flashinfer.ffn.stride", shape->payload_bytes, 1u << 30,
                             &shape->stride_bytes, error);
}

static int read_version(const flin_gguf *gguf, flin_shape *shape, flashinfer_error *error)
{
    uint64_t version;

    if (flin_gguf_find(gguf, "flashinfer.version") == NULL)
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "a GGUF file, but not in flash layout (no flashinfer.version): "
                         "make one from the checkpoint with flashinfer_pack()");
    if (flin_gguf_u64(gguf, "flashinfer.version", &version, error) != 0) return FLASHINFER_EFORMAT;
    if (version != VERSION_PLAIN && version != VERSION_ORDERED)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "flash layout version %llu; this library reads versions %u and %u",
                         (unsigned long long)version, VERSION_PLAIN, VERSION_ORDERED);
    shape->ordered = version == VERSION_ORDERED;
    return 0;
}

int flin_shape_read(const flin_gguf *gguf, flin_shape *shape, flashinfer_error *error)
{
    flin_string name;
    int code;

    memset(shape, 0, sizeof *shape);
    code = read_version(gguf, shape, error);
    if (code != 0) return code;
    code = flin_gguf_string(gguf, "general.architecture", &name, error);
    if (code != 0) return code;
    for (size_t i = 0; i < sizeof architectures / sizeof architectures[0]; i++) {
        if (!flin_string_is(name, architectures[i]->name)) continue;
        shape->architecture = architectures[i]->name;
        code = architectures[i]->read_shape(gguf, shape, error);
        return code != 0 ? code : read_bundle(gguf, shape, error);
    }
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "architecture \"%.*s\" is not supported; this version runs opt",
                     (int)(name.bytes < 64 ? name.bytes : 64), name.data);
}
