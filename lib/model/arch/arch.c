/*
 * arch.c - the list of architectures, and walking a descriptor's keys.
 */
#include "model/arch/arch.h"

#include <stdio.h>
#include <string.h>

/* Those that the build has: FLIN_ARCHITECTURES(ENTRY) is ENTRY(llama) ENTRY(opt) ... */
#define ENTRY(name) &flin_architecture_##name,

static const flin_architecture *const architectures[] = {FLIN_ARCHITECTURES(ENTRY)};

enum { ARCHITECTURES = sizeof architectures / sizeof architectures[0] };

const char *const flin_scaling_names[] = {"none", "linear", "yarn", NULL};

/* Append a name to "one, two". */
static void list(char *names, size_t capacity, const char *name)
{
    size_t used = strlen(names);

    (void)snprintf(names + used, capacity - used, "%s%s", used == 0 ? "" : ", ", name);
}

int flin_arch_find(flin_string name, const flin_architecture **found, flashinfer_error *error)
{
    char known[256] = "";

    for (size_t i = 0; i < ARCHITECTURES; i++) {
        *found = architectures[i];
        if (flin_string_is(name, architectures[i]->name)) return 0;
        list(known, sizeof known, architectures[i]->name);
    }
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "architecture \"%.*s\" is not supported; this version runs %s",
                     (int)(name.bytes < 64 ? name.bytes : 64), name.data, known);
}

int flin_arch_find_checkpoint(const char *model_type, const flin_architecture **found,
                              const flin_model_type **type, flashinfer_error *error)
{
    char known[256] = "";

    for (size_t i = 0; i < ARCHITECTURES; i++) {
        *found = architectures[i];
        for (*type = architectures[i]->model_types; (*type)->name != NULL; (*type)++) {
            if (strcmp((*type)->name, model_type) == 0) return 0;
            list(known, sizeof known, (*type)->name);
        }
    }
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "model_type \"%.64s\" cannot be packed; this version packs %s", model_type,
                     known);
}

int flin_arch_read_activation(const flin_architecture *architecture, const char *key,
                              flin_string name, enum flin_activation_kind *kind,
                              flashinfer_error *error)
{
    char known[128] = "";

    for (uint32_t i = 0; i < FLIN_ACTIVATION_KINDS; i++) {
        *kind = (enum flin_activation_kind)i;
        if ((architecture->activations >> i & 1) == 0) continue;
        if (flin_string_is(name, flin_activation_name(*kind))) return 0;
        list(known, sizeof known, flin_activation_name(*kind));
    }
    return flin_fail(
        error, FLASHINFER_EUNSUPPORTED, "%s \"%.*s\" is not supported; %s models are known with %s",
        key, (int)(name.bytes < 64 ? name.bytes : 64), name.data, architecture->title, known);
}

uint32_t flin_side_of(const flin_shape *shape, enum flin_side extent)
{
    switch (extent) {
    case FLIN_SIDE_WIDTH:
        return shape->width;
    case FLIN_SIDE_TOKEN_WIDTH:
        return shape->token_width;
    case FLIN_SIDE_VOCAB:
        return shape->vocab;
    case FLIN_SIDE_CONTEXT:
        return shape->context;
    case FLIN_SIDE_NEURONS:
        return shape->ffn;
    case FLIN_SIDE_QUERIES:
        return shape->heads * shape->head_width;
    case FLIN_SIDE_KEYS:
        return shape->kv_heads * shape->head_width;
    case FLIN_SIDE_FUSED:
        return (shape->heads + 2 * shape->kv_heads) * shape->head_width;
    case FLIN_SIDE_HEAD:
        return shape->head_width;
    case FLIN_SIDE_PAIRS:
        return shape->rotary.rotated / 2;
    case FLIN_SIDE_ONE:
        break;
    }
    return 1;
}

const flin_tensor_rule *flin_arch_rule(const flin_architecture *architecture, size_t field)
{
    for (const flin_tensor_rule *rule = architecture->tensors; rule->name != NULL; rule++)
        if (rule->scope == FLIN_SCOPE_MODEL && rule->field == field) return rule;
    return NULL;
}

/* ----------------------------------------------------------------------------------------- keys */

static uint32_t field_of(const flin_shape *shape, size_t field)
{
    uint32_t number;

    memcpy(&number, (const uint8_t *)shape + field, sizeof number);
    return number;
}

static int check_again(const flin_keys *keys, const flin_key_rule *rule, const flin_shape *shape,
                       double number, flashinfer_error *error)
{
    const uint32_t before = field_of(shape, rule->field);
    char name[64];

    if (before == 0 || (uint32_t)number == before) return 0;
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "%s%s is %u, which must be %u as other keys of the model have it", keys->where,
                     keys->name(keys, rule, name, sizeof name), (uint32_t)number, before);
}

static int read_key(const flin_keys *keys, const flin_key_rule *rule, flin_shape *shape,
                    flashinfer_error *error)
{
    uint8_t *field = (uint8_t *)shape + rule->field;
    double number = rule->otherwise;
    int found = 0, code = keys->number(keys, rule, &number, &found, error);

    if (code != 0) return code;
    if ((rule->flags & FLIN_KEY_AGAIN) != 0) {
        if (!found) return 0;
        if ((code = check_again(keys, rule, shape, number, error)) != 0) return code;
    }
    if (rule->kind == FLIN_KEY_F32) {
        float value = (float)number;
        memcpy(field, &value, sizeof value);
    } else {
        uint32_t value = (uint32_t)number;
        memcpy(field, &value, sizeof value);
    }
    return 0;
}

/* What the key of a field is called where it was read. */
static const char *key_name(const flin_keys *keys, const flin_shape *shape, size_t field,
                            char text[64])
{
    const flin_key_rule *rule = shape->descriptor->keys;

    while (rule->name != NULL && rule->field != field) rule++;
    return rule->name != NULL ? keys->name(keys, rule, text, 64) : "?";
}

/* Field `part` must divide field `whole`. */
static int check_divides(const flin_keys *keys, const flin_shape *shape, size_t part, size_t whole,
                         flashinfer_error *error)
{
    char part_name[64], whole_name[64];
    const uint32_t divisor = field_of(shape, part), number = field_of(shape, whole);

    if (number % divisor == 0) return 0;
    return flin_fail(error, keys->code, "%s%s %u does not divide %s %u", keys->where,
                     key_name(keys, shape, part, part_name), divisor,
                     key_name(keys, shape, whole, whole_name), number);
}

static int settle_rotary(const flin_keys *keys, flin_shape *shape, flashinfer_error *error)
{
    flin_rotary *rotary = &shape->rotary;
    char name[64];

    if (!shape->descriptor->rotates) return 0;
    rotary->pairs = shape->descriptor->pairs;
    if (rotary->scaling == FLIN_SCALING_LINEAR && !(rotary->factor > 0))
        rotary->scaling = FLIN_SCALING_NONE;
    if (!FLIN_MORE_ARCHITECTURES && rotary->scaling != FLIN_SCALING_NONE)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "this build leaves out rotary positions of type %s: build with more "
                         "-Darchitectures",
                         flin_scaling_names[rotary->scaling]);
    if (rotary->rotated == 0) rotary->rotated = shape->head_width;
    if (rotary->rotated % 2 == 0 && rotary->rotated <= shape->head_width) return 0;
    return flin_fail(error, keys->code, "%s%s: %u elements of a head of %u cannot turn in pairs",
                     keys->where, key_name(keys, shape, FLIN_FIELD(rotary.rotated), name),
                     rotary->rotated, shape->head_width);
}

/* What follows where no key said otherwise. */
static int settle(const flin_keys *keys, flin_shape *shape, flashinfer_error *error)
{
    int code = 0;

    shape->norm_kind = shape->descriptor->norm_kind;
    shape->gated = shape->descriptor->gated;
    if (shape->token_width == 0) shape->token_width = shape->width;
    if (shape->kv_heads == 0) shape->kv_heads = shape->heads;
    if (shape->head_width == 0) {
        code = check_divides(keys, shape, FLIN_FIELD(heads), FLIN_FIELD(width), error);
        shape->head_width = shape->width / shape->heads;
    }
    if (code == 0)
        code = check_divides(keys, shape, FLIN_FIELD(kv_heads), FLIN_FIELD(heads), error);
    return code != 0 ? code : settle_rotary(keys, shape, error);
}

int flin_arch_read_keys(const flin_keys *keys, flin_shape *shape, flashinfer_error *error)
{
    for (const flin_key_rule *rule = shape->descriptor->keys; rule->name != NULL; rule++) {
        int code = read_key(keys, rule, shape, error);
        if (code != 0) return code;
    }
    return settle(keys, shape, error);
}
