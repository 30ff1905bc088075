/*
 * checkpoint.c - config.json by the keys of the architecture's descriptor, with the defaults that
 * transformers gives to keys that are left out.
 */
#include "pack/checkpoint.h"

#include <string.h>

#include "pack/json.h"

#define FILE_NAME "config.json"

/* ------------------------------------------------------------------------ keys for a descriptor */

typedef struct json_keys {
    flin_config_keys config; /* first: its functions get this */
    const cJSON *json;
} json_keys;

static const cJSON *root_of(const flin_keys *keys)
{
    return ((const json_keys *)keys)->json;
}

/* The object that a path such as "rope_parameters.rope_theta" leads into; *key: its last part. */
static const cJSON *object_of(const cJSON *json, const char *path, const char **key)
{
    const char *dot;
    char outer[64];

    for (*key = path; (dot = strchr(*key, '.')) != NULL; *key = dot + 1) {
        const size_t bytes = (size_t)(dot - *key);
        if (bytes >= sizeof outer) return NULL;
        memcpy(outer, *key, bytes);
        outer[bytes] = '\0';
        json = cJSON_GetObjectItemCaseSensitive(json, outer);
    }
    return json;
}

/* Is it there, and not null? */
static int is_given(const flin_keys *keys, const char *path)
{
    const char *key;
    const cJSON *object = object_of(root_of(keys), path, &key);
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    return item != NULL && !cJSON_IsNull(item);
}

/* The name under which the rule's number is given, or its first. */
static const char *chosen_name(const flin_keys *keys, const flin_key_rule *rule)
{
    const char *other = rule->sources[1];

    return other != NULL && !is_given(keys, rule->sources[0]) && is_given(keys, other)
               ? other
               : rule->sources[0];
}

static const char *name_of(const flin_keys *keys, const flin_key_rule *rule, char *text,
                           size_t capacity)
{
    (void)text;
    (void)capacity;
    return rule->sources[0] != NULL ? chosen_name(keys, rule) : rule->name;
}

static int read_float(const cJSON *object, const char *key, const flin_key_rule *rule,
                      double *number, flashinfer_error *error)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    if (item == NULL)
        return flin_fail(error, FLASHINFER_ECHECKPOINT, FILE_NAME " has no \"%s\"", key);
    *number = cJSON_GetNumberValue(item);
    if (cJSON_IsNumber(item) && *number > rule->least && *number < rule->most) return 0;
    return flin_fail(error, FLASHINFER_ECHECKPOINT,
                     FILE_NAME ": \"%s\" must be a number between %g and %g", key, rule->least,
                     rule->most);
}

/* Without anything that stands for it. */
static int is_needed(const flin_key_rule *rule)
{
    const uint32_t counted = (rule->flags & FLIN_KEY_COUNTED) != 0 && !(rule->otherwise > 0);

    return counted || (rule->flags & FLIN_KEY_REQUIRED) != 0;
}

static int read_number(const flin_keys *keys, const flin_key_rule *rule, double *number, int *found,
                       flashinfer_error *error)
{
    const char *path, *key;
    const cJSON *object;
    uint32_t whole = 0;
    int flag = 0, code;

    *found = 0;
    if (rule->sources[0] == NULL) return 0;
    path = chosen_name(keys, rule);
    object = object_of(root_of(keys), path, &key);
    if ((rule->flags & FLIN_KEY_NULLED) != 0 &&
        cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(object, key))) {
        *number = 0;
        return 0;
    }
    if (!is_needed(rule) && !is_given(keys, path)) return 0;
    *found = 1;
    if (rule->kind == FLIN_KEY_F32) return read_float(object, key, rule, number, error);
    if (rule->kind == FLIN_KEY_BOOL) {
        code = flin_json_flag(object, FILE_NAME, key, 0, &flag, error);
        *number = flag;
        return code;
    }
    code = flin_json_u32(object, FILE_NAME, key, (uint32_t)rule->least, (uint32_t)rule->most, NULL,
                         &whole, error);
    *number = whole;
    return code;
}

static int read_flag(const flin_config_keys *config, const char *key, int otherwise, int *flag,
                     flashinfer_error *error)
{
    const char *last;
    const cJSON *object = object_of(root_of(&config->keys), key, &last);

    return flin_json_flag(object, FILE_NAME, last, otherwise, flag, error);
}

/* A text of config.json as it may stand in an error; else NULL. */
static const char *plain_text(const cJSON *item)
{
    const char *text = cJSON_GetStringValue(item);

    return text != NULL && flin_json_is_plain(text) ? text : NULL;
}

static const char *read_text(const flin_config_keys *config, const char *path)
{
    const char *key;
    const cJSON *object = object_of(root_of(&config->keys), path, &key);

    return plain_text(cJSON_GetObjectItemCaseSensitive(object, key));
}

/* Asked in order, so that a list is walked over and over only where it is long. */
static const char *read_entry(const flin_config_keys *config, const char *path, uint32_t index)
{
    const char *key;
    const cJSON *object = object_of(root_of(&config->keys), path, &key);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, key);

    return cJSON_IsArray(list) ? plain_text(cJSON_GetArrayItem(list, (int)index)) : NULL;
}

/* ------------------------------------------------------------------------------------ the story */

static int find_architecture(const cJSON *json, flin_shape *shape, const flin_model_type **found,
                             flashinfer_error *error)
{
    const char *type = flin_json_text(json, "model_type");

    if (!cJSON_IsObject(json))
        return flin_fail(error, FLASHINFER_ECHECKPOINT, FILE_NAME " is not a JSON object");
    if (type == NULL || !flin_json_is_plain(type))
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         FILE_NAME " has no \"model_type\", so it is not one that transformers "
                                   "wrote: save the model with save_pretrained() first");
    if (flin_arch_find_checkpoint(type, &shape->descriptor, found, error) != 0)
        return FLASHINFER_EUNSUPPORTED;
    shape->architecture = shape->descriptor->name;
    return 0;
}

/* Weights as integers of another method's: their tensors have names of its own. */
static int refuse_quantised(const cJSON *json, flashinfer_error *error)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, "quantization_config");
    const char *method = flin_json_text(item, "quant_method");

    if (item == NULL || cJSON_IsNull(item)) return 0;
    if (method == NULL || !flin_json_is_plain(method)) method = "?";
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "the checkpoint is quantised (quant_method \"%.32s\"), which cannot be "
                     "packed: take the one that it was made from and choose types when packing",
                     method);
}

/* transformers has several names for some. */
static const char *one_name(const char *text)
{
    static const char *const others[][2] = {
        {"gelu_new", "gelu_tanh"}, {"gelu_pytorch_tanh", "gelu_tanh"}, {"swish", "silu"}};

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strcmp(text, others[i][0]) == 0) return others[i][1];
    return text;
}

/* What the code of the model type computes, or else config.json says. Only a key that is there but
   no text is "?". */
static int read_activation(const cJSON *json, const flin_model_type *type, flin_shape *shape,
                           flashinfer_error *error)
{
    const flin_architecture *architecture = shape->descriptor;
    const char *key = architecture->activation_key;
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
    const char *text = cJSON_GetStringValue(item);

    if (item == NULL) text = architecture->activation_otherwise;
    if (type->activation != NULL) text = type->activation;
    if (text == NULL || !flin_json_is_plain(text)) text = "?";
    text = one_name(text);
    return flin_arch_read_activation(architecture, key, (flin_string){text, strlen(text)},
                                     &shape->activation.kind, error);
}

/* What the caller of pack says instead: a known number. */
static int override_activation(const flin_choice *choice, flin_shape *shape,
                               flashinfer_error *error)
{
    enum flin_activation_kind kind = 0;
    const char *name;

    while (flin_activation_number(kind) != choice->activation) kind++;
    name = flin_activation_name(kind);
    shape->activation.threshold = kind == FLIN_ACTIVATION_FATRELU ? choice->threshold : 0;
    return flin_arch_read_activation(shape->descriptor, "activation",
                                     (flin_string){name, strlen(name)}, &shape->activation.kind,
                                     error);
}

/* A token id: a number, null, or a list whose first entry counts. */
static int read_token(const cJSON *json, const char *key, uint32_t vocab, int32_t *id,
                      flashinfer_error *error)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
    uint64_t number;

    *id = -1;
    if (cJSON_IsArray(item)) item = item->child;
    if (item == NULL || cJSON_IsNull(item)) return 0;
    if (!flin_json_integer(item, vocab - 1, &number))
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         FILE_NAME ": \"%s\" is no id in a vocabulary of %u tokens", key, vocab);
    *id = (int32_t)number;
    return 0;
}

/* The keys of the architecture. json: the object that has them. */
static int read_shape(flin_checkpoint *checkpoint, const cJSON *json, const flin_model_type *type,
                      const flin_choice *choice, flashinfer_error *error)
{
    const json_keys from = {{{FLASHINFER_ECHECKPOINT, FILE_NAME ": ", read_number, name_of},
                             is_given,
                             read_flag,
                             read_text,
                             read_entry},
                            json};
    flin_shape *shape = &checkpoint->shape;
    int code = choice->activation == 0 ? read_activation(json, type, shape, error) : 0;

    if (code == 0) code = flin_arch_read_keys(&from.config.keys, shape, error);
    if (type->looks_at_all) shape->window = 0;
    if (code == 0)
        code = shape->descriptor->read_config(&from.config, shape, &checkpoint->facts, error);
    if (code == 0 && shape->descriptor->settle_shape != NULL)
        shape->descriptor->settle_shape(shape);
    if (code == 0 && choice->activation != 0) code = override_activation(choice, shape, error);
    return code;
}

static int read_all(flin_checkpoint *checkpoint, const cJSON *json, const flin_choice *choice,
                    flashinfer_error *error)
{
    flin_shape *shape = &checkpoint->shape;
    const flin_model_type *type;
    const cJSON *inner = json;
    int code = find_architecture(json, shape, &type, error);

    if (code == 0) code = refuse_quantised(json, error);
    if (code == 0 && type->inner != NULL) {
        inner = cJSON_GetObjectItemCaseSensitive(json, type->inner);
        if (!cJSON_IsObject(inner))
            code = flin_fail(error, FLASHINFER_ECHECKPOINT, FILE_NAME " has no object \"%s\"",
                             type->inner);
    }
    if (code == 0) code = read_shape(checkpoint, inner, type, choice, error);
    if (code == 0)
        code = read_token(json, "bos_token_id", shape->vocab, &checkpoint->bos_id, error);
    if (code == 0)
        code = read_token(json, "eos_token_id", shape->vocab, &checkpoint->eos_id, error);
    if (code == 0)
        code = read_token(json, "pad_token_id", shape->vocab, &checkpoint->pad_id, error);
    if (code == 0 && flin_json_text(json, "_name_or_path") != NULL)
        flin_checkpoint_set_name(checkpoint, flin_json_text(json, "_name_or_path"));
    return code;
}

void flin_checkpoint_set_name(flin_checkpoint *checkpoint, const char *path)
{
    size_t end = strlen(path);
    size_t begin;

    while (end > 0 && path[end - 1] == '/') end--;
    for (begin = end; begin > 0 && path[begin - 1] != '/'; begin--) {
    }
    checkpoint->name[0] = '\0';
    if (end - begin == 0 || end - begin >= sizeof checkpoint->name) return;
    for (size_t i = begin; i < end; i++)
        if ((unsigned char)path[i] < 0x20 || (unsigned char)path[i] > 0x7e) return;
    if (path[begin] == '.') return;
    memcpy(checkpoint->name, path + begin, end - begin);
    checkpoint->name[end - begin] = '\0';
}

int flin_checkpoint_load(flin_checkpoint *checkpoint, int directory, const flin_choice *choice,
                         flashinfer_error *error)
{
    cJSON *json;
    int code = flin_json_load(directory, FILE_NAME, 1, &json, error);

    memset(checkpoint, 0, sizeof *checkpoint);
    if (code != 0) return code;
    code = read_all(checkpoint, json, choice, error);
    cJSON_Delete(json);
    return code;
}
