/*
 * shape.c - a shape from a model file's metadata: the architecture's keys, and those that every
 * architecture shares, flashinfer.* (docs/format.md).
 */
#include "model/shape.h"

#include <stdio.h>
#include <string.h>

#include "model/arch/arch.h"
#include "model/names.h"
#include "model/plain.h"

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

uint32_t flin_type_to_gguf(enum flin_type type)
{
    return flin_types[type].gguf;
}

uint32_t flin_type_to_dtype(enum flin_type type)
{
    return flin_types[type].dtype;
}

const char *flin_type_name(enum flin_type type)
{
    return flin_gguf_type_name(flin_types[type].gguf);
}

int flin_type_from_dtype(uint32_t dtype, enum flin_type *type)
{
    for (uint32_t i = 0; i < FLIN_TYPES_PACKED; i++) {
        if (flin_types[i].dtype != dtype) continue;
        *type = (enum flin_type)i;
        return 1;
    }
    return 0;
}

int flin_type_from_gguf(uint64_t gguf_type, const char *what, uint32_t cols, enum flin_type *type,
                        flashinfer_error *error)
{
    for (uint32_t i = 0; i < FLIN_TYPES_KNOWN; i++) {
        const uint32_t elements = flin_types[i].elements;

        if (flin_types[i].gguf != gguf_type) continue;
        *type = (enum flin_type)i;
        if (cols % elements == 0) return 0;
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "%s is %s with rows of %u elements, which are no whole blocks of %u", what,
                         flin_type_name(*type), cols, elements);
    }
    return flin_gguf_refuse_type(gguf_type, what, error);
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
    const flin_bundle *bundle = &shape->bundle;
    uint32_t end = 0;

    for (uint32_t i = 0; i < bundle->part_count; i++) {
        const flin_part *part = &bundle->parts[i];
        if (part->bytes != flin_type_bytes(part->type, shape->width) || part->offset_bytes != end)
            return flin_fail(error, FLASHINFER_EFORMAT,
                             "flashinfer.ffn.part_offsets or part_bytes does not fit a "
                             "width of %u; pack the model again",
                             shape->width);
        end += part->bytes;
        if (part->type != bundle->parts[0].type)
            return flin_fail(error, FLASHINFER_EUNSUPPORTED, "bundle parts of different types");
    }
    return 0;
}

/* Which role each part has: every role that the FFN needs once, no other. */
static int read_roles(const flin_gguf_value *names, flin_shape *shape, flashinfer_error *error)
{
    static const char *const roles[] = {"up", "down", "gate"};
    flin_bundle *bundle = &shape->bundle;
    const uint8_t *cursor = names->data;
    uint32_t known = shape->gated ? 3 : 2;

    for (uint32_t role = 0; role < FLIN_PART_ROLES; role++)
        bundle->index_of[role] = FLIN_PART_ROLES;
    bundle->part_count = (uint32_t)names->count;
    for (uint32_t i = 0; i < bundle->part_count; i++) {
        flin_string name = flin_gguf_next_string(&cursor);
        uint32_t role = 0;
        while (role < known && !flin_string_is(name, roles[role])) role++;
        if (role == known || bundle->index_of[role] != FLIN_PART_ROLES)
            return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                             "flashinfer.ffn.parts is not made of %s, each once",
                             shape->gated ? "gate, up and down" : "up and down");
        bundle->index_of[role] = i;
        bundle->parts[i].role = role;
    }
    return 0;
}

/* Of those that are packed. */
static int read_part_type(uint64_t gguf_type, uint32_t cols, flin_part *part,
                          flashinfer_error *error)
{
    static const char what[] = "flashinfer.ffn.part_types";
    int code = flin_type_from_gguf(gguf_type, what, 0, &part->type, error);

    if (code == 0 && part->type >= FLIN_TYPES_PACKED)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "%s has GGUF type %u (%s), which bundles cannot have", what,
                         flin_type_to_gguf(part->type), flin_type_name(part->type));
    return code != 0 ? code : flin_type_from_gguf(gguf_type, what, cols, &part->type, error);
}

static int read_bundle(const flin_gguf *gguf, flin_shape *shape, flashinfer_error *error)
{
    const uint32_t count = shape->gated ? 3 : 2;
    const flin_gguf_value *names = flin_gguf_find(gguf, "flashinfer.ffn.parts");
    const flin_gguf_value *part_types = number_array(gguf, "flashinfer.ffn.part_types", count);
    const flin_gguf_value *offsets = number_array(gguf, "flashinfer.ffn.part_offsets", count);
    const flin_gguf_value *sizes = number_array(gguf, "flashinfer.ffn.part_bytes", count);
    flin_bundle *bundle = &shape->bundle;
    int code;

    if (names == NULL || !names->is_array || names->type != FLIN_GGUF_VALUE_STRING ||
        names->count != count || part_types == NULL || offsets == NULL || sizes == NULL)
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "the flashinfer.ffn.part* keys are missing or not arrays of %u", count);
    code = read_roles(names, shape, error);
    for (uint32_t i = 0; i < count && code == 0; i++) {
        flin_part *part = &bundle->parts[i];
        uint64_t offset = flin_gguf_element_u64(offsets, i),
                 bytes = flin_gguf_element_u64(sizes, i);
        code = read_part_type(flin_gguf_element_u64(part_types, i), shape->width, part, error);
        if (code == 0 && (offset > (1u << 30) || bytes > (1u << 30)))
            code = flin_fail(error, FLASHINFER_EFORMAT,
                             "flashinfer.ffn.part_offsets or part_bytes is out of range");
        part->offset_bytes = (uint32_t)offset;
        part->bytes = (uint32_t)bytes;
        bundle->payload_bytes = part->offset_bytes + part->bytes;
    }
    if (code == 0) code = check_parts(shape, error);
    return code != 0 ? code
                     : flin_shape_number(gguf, "flashinfer.ffn.stride", bundle->payload_bytes,
                                         1u << 30, &bundle->stride_bytes, error);
}

static int refuse_predictor_file(const flin_gguf *gguf, flashinfer_error *error)
{
    flin_string name = {"", 0};

    (void)flin_gguf_string(gguf, "general.name", &name, NULL);
    return flin_fail(error, FLASHINFER_EFORMAT,
                     "a predictor file, made for the model \"%.*s\", and no model: open the file "
                     "of that model and give this one with it, as options.predictor_path",
                     (int)(name.bytes < 128 ? name.bytes : 128), name.data);
}

/* Of a file in flash layout; a plain one has none. */
static int read_version(const flin_gguf *gguf, flin_shape *shape, flashinfer_error *error)
{
    uint64_t version;

    if (flin_gguf_find(gguf, "flashinfer.predictor.version") != NULL)
        return refuse_predictor_file(gguf, error);
    if (gguf->foreign) return 0;
    if (flin_gguf_find(gguf, "flashinfer.version") == NULL)
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "a GGUF file with checksums, but not in flash layout (no "
                         "flashinfer.version): make one from the checkpoint with "
                         "flashinfer_pack()");
    if (flin_gguf_u64(gguf, "flashinfer.version", &version, error) != 0) return FLASHINFER_EFORMAT;
    if (version != VERSION_PLAIN && version != VERSION_ORDERED)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "flash layout version %llu; this library reads versions %u and %u",
                         (unsigned long long)version, VERSION_PLAIN, VERSION_ORDERED);
    shape->bundle.ordered = version == VERSION_ORDERED;
    return 0;
}

/* ---------------------------------------------------------------------- the architecture's keys */

#define KEY_BYTES 96

typedef struct gguf_keys {
    flin_keys keys; /* first: its functions get this */
    const flin_gguf *gguf;
    const char *architecture;
} gguf_keys;

static const char *full_name(const flin_keys *keys, const flin_key_rule *rule, char *text,
                             size_t capacity)
{
    const gguf_keys *from = (const gguf_keys *)keys;

    (void)snprintf(text, capacity, "%s.%s", from->architecture, rule->name);
    return text;
}

/* Which of a rule's texts the file has. */
static int read_choice(const flin_gguf *gguf, const flin_key_rule *rule, const char *key,
                       double *number, flashinfer_error *error)
{
    flin_string text;
    int code = flin_gguf_string(gguf, key, &text, error);

    for (uint32_t i = 0; code == 0 && rule->texts[i] != NULL; i++) {
        *number = i;
        if (flin_string_is(text, rule->texts[i])) return 0;
    }
    return code != 0 ? code
                     : flin_fail(error, FLASHINFER_EUNSUPPORTED,
                                 "%s is \"%.*s\", which this version does not compute", key,
                                 (int)(text.bytes < 64 ? text.bytes : 64), text.data);
}

static int read_number(const flin_keys *keys, const flin_key_rule *rule, double *number, int *found,
                       flashinfer_error *error)
{
    const flin_gguf *gguf = ((const gguf_keys *)keys)->gguf;
    const uint32_t needed =
        FLIN_KEY_REQUIRED | FLIN_KEY_DEFAULTED | (gguf->foreign ? 0 : FLIN_KEY_COUNTED);
    char key[KEY_BYTES];
    uint32_t whole = 0;
    uint64_t flag = 0;
    int code = 0;

    (void)full_name(keys, rule, key, sizeof key);
    *found = (rule->flags & needed) != 0 || flin_gguf_find(gguf, key) != NULL;
    if (!*found && (rule->flags & FLIN_KEY_COUNTED) != 0) *number = 0;
    if (!*found) return 0;
    if (rule->kind == FLIN_KEY_TEXT) return read_choice(gguf, rule, key, number, error);
    if (rule->kind == FLIN_KEY_F32) {
        code = flin_gguf_f64(gguf, key, number, error);
        if (code == 0 && !(*number > rule->least && *number < rule->most))
            code = flin_fail(error, FLASHINFER_EFORMAT, "%s must lie between %g and %g", key,
                             rule->least, rule->most);
        return code;
    }
    if (rule->kind == FLIN_KEY_BOOL) {
        code = flin_gguf_u64(gguf, key, &flag, error);
        *number = flag != 0;
        return code;
    }
    code = flin_shape_number(gguf, key, (uint32_t)rule->least, (uint32_t)rule->most, &whole, error);
    *number = whole;
    return code;
}

/* A final norm that the architecture does not always have is there if the file has it. */
static uint32_t has_final_norm(const flin_gguf *gguf, const flin_architecture *architecture)
{
    const flin_tensor_rule *rule =
        flin_arch_rule(architecture, offsetof(flin_weights, output_norm));
    char name[FLIN_TENSOR_NAME_BYTES];

    if (rule == NULL || rule->wanted == NULL) return rule != NULL;
    return flin_gguf_find_tensor(gguf, flin_tensor_name(name, -1, rule->name, ".weight")) != NULL;
}

static int read_activation(const flin_gguf *gguf, flin_shape *shape, flashinfer_error *error)
{
    flin_string name;
    double threshold = 0;
    int code = flin_gguf_string(gguf, "flashinfer.ffn.activation", &name, error);

    if (code == 0)
        code = flin_arch_read_activation(shape->descriptor, "flashinfer.ffn.activation", name,
                                         &shape->activation.kind, error);
    if (code != 0 || shape->activation.kind != FLIN_ACTIVATION_FATRELU) return code;
    code = flin_gguf_f64(gguf, "flashinfer.ffn.activation_threshold", &threshold, error);
    if (code == 0 && !(threshold >= 0 && threshold < FLIN_THRESHOLD_MAX))
        code = flin_fail(error, FLASHINFER_EFORMAT,
                         "flashinfer.ffn.activation_threshold must be at least 0 and below %g",
                         FLIN_THRESHOLD_MAX);
    shape->activation.threshold = (float)threshold;
    return code;
}

int flin_shape_read(const flin_gguf *gguf, const flin_activation_rule *wanted, flin_shape *shape,
                    flashinfer_error *error)
{
    gguf_keys from = {{FLASHINFER_EFORMAT, "", read_number, full_name}, gguf, NULL};
    flin_string name;
    int code;

    memset(shape, 0, sizeof *shape);
    code = read_version(gguf, shape, error);
    if (code == 0) code = flin_gguf_string(gguf, "general.architecture", &name, error);
    if (code == 0) code = flin_arch_find(name, &shape->descriptor, error);
    if (code != 0) return code;
    shape->architecture = from.architecture = shape->descriptor->name;
    code = flin_arch_read_keys(&from.keys, shape, error);
    if (code != 0) return code;
    shape->final_norm = has_final_norm(gguf, shape->descriptor);
    if (FLIN_MORE_ARCHITECTURES)
        shape->norm_pairs =
            flin_gguf_find_tensor(gguf, "blk.0." FLIN_TENSOR_SECOND_NORM ".weight") != NULL;
    if (shape->descriptor->settle_shape != NULL) shape->descriptor->settle_shape(shape);
    if (gguf->foreign) return flin_plain_settle(gguf, shape, wanted, error);
    code = read_activation(gguf, shape, error);
    if (code == 0 && wanted != NULL)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "options.ffn_activation is set, but the model is in flash layout and says "
                         "its activation: do not set it");
    return code != 0 ? code : read_bundle(gguf, shape, error);
}
