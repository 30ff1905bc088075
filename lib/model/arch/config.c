/*
 * config.c - see config.h. Formulas are those of transformers.
 */
#include "model/arch/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int flin_config_refuse(const char *key, const char *value, flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "config.json: \"%s\" is %.64s, which this version cannot pack", key, value);
}

int flin_config_expect(const flin_config_keys *config, const char *key, int expected,
                       flashinfer_error *error)
{
    int flag = expected;
    int code = config->flag(config, key, expected, &flag, error);

    if (code == 0 && flag != expected)
        return flin_config_refuse(key, flag ? "true" : "false", error);
    return code;
}

int flin_config_number(const flin_config_keys *config, const char *key, const char *other,
                       double least, double most, double *number, flashinfer_error *error)
{
    const flin_key_rule rule = {
        .name = key, .sources = {key, other}, .kind = FLIN_KEY_F32, .least = least, .most = most};
    int found;

    return config->keys.number(&config->keys, &rule, number, &found, error);
}

/* --------------------------------------------------------------------------------------- rotary */

#define PATH_BYTES 96

/* "rope_scaling." or "rope_parameters.KIND", and the key; what is given first counts. */
static int number_in(const flin_config_keys *config, const char *kind, const char *key,
                     double least, double most, double *number, flashinfer_error *error)
{
    char old[PATH_BYTES], new[PATH_BYTES];

    (void)snprintf(old, sizeof old, "rope_scaling.%s", key);
    (void)snprintf(new, sizeof new, "rope_parameters.%s%s", kind, key);
    return flin_config_number(config, old, new, least, most, number, error);
}

static int find_type(const flin_config_keys *config, const char *kind, const char **type,
                     flashinfer_error *error)
{
    static const char *const keys[] = {"rope_type", "type"};
    char path[PATH_BYTES];

    *type = NULL;
    for (uint32_t i = 0; i < 4 && *type == NULL; i++) {
        if (i < 2)
            (void)snprintf(path, sizeof path, "rope_scaling.%s", keys[i]);
        else
            (void)snprintf(path, sizeof path, "rope_parameters.%s%s", kind, keys[i - 2]);
        if (!config->is_given(&config->keys, path)) continue;
        *type = config->text(config, path);
        if (*type == NULL) return flin_config_refuse(path, "no text", error);
    }
    if (*type == NULL && config->is_given(&config->keys, "rope_scaling"))
        return flin_config_refuse("rope_scaling", "of no type", error);
    if (*type == NULL) *type = "default";
    return 0;
}

static int read_yarn(const flin_config_keys *config, const char *kind, flin_rotary *rotary,
                     flashinfer_error *error)
{
    static const char *const unknown[] = {"rope_scaling.mscale", "rope_scaling.mscale_all_dim",
                                          "rope_parameters.mscale",
                                          "rope_parameters.mscale_all_dim"};
    double fast = 32, slow = 1, strength = 0;
    int code = number_in(config, kind, "beta_fast", 0, 1e6, &fast, error);

    if (code == 0) code = number_in(config, kind, "beta_slow", 0, 1e6, &slow, error);
    if (code == 0) code = number_in(config, kind, "attention_factor", 0, 1e6, &strength, error);
    for (size_t i = 0; code == 0 && i < sizeof unknown / sizeof unknown[0]; i++)
        if (config->is_given(&config->keys, unknown[i]))
            code = flin_config_refuse(unknown[i], "given", error);
    if (code == 0) code = flin_config_expect(config, "rope_scaling.truncate", 1, error);
    if (code == 0) code = flin_config_expect(config, "rope_parameters.truncate", 1, error);
    rotary->fast = (float)fast;
    rotary->slow = (float)slow;
    rotary->strength = (float)(strength / (1 + 0.1 * log(rotary->factor)));
    return code;
}

static int read_llama3(const flin_config_keys *config, const char *kind, flin_rotary *rotary,
                       flashinfer_error *error)
{
    double low = 1, high = 4;
    int code = number_in(config, kind, "low_freq_factor", 0, 1e6, &low, error);

    if (code == 0) code = number_in(config, kind, "high_freq_factor", 0, 1e6, &high, error);
    rotary->low = (float)low;
    rotary->high = (float)high;
    return code == 0 && !(high > low)
               ? flin_config_refuse("high_freq_factor", "not above low_freq_factor", error)
               : code;
}

/* Do files of the architecture say pair by pair what turns slower? */
static int has_slowdown(const flin_architecture *architecture)
{
    return flin_arch_rule(architecture, offsetof(flin_weights, rotary_slowdown)) != NULL;
}

static int read_scaling(const flin_config_keys *config, const char *kind, flin_shape *shape,
                        flashinfer_error *error)
{
    static const char *const types[] = {"default", "linear", "yarn", "llama3", NULL};
    flin_rotary *rotary = &shape->rotary;
    double factor = 0, context = shape->context;
    const char *type;
    int code = find_type(config, kind, &type, error);

    if (code != 0) return code;
    for (rotary->scaling = 0; types[rotary->scaling] != NULL; rotary->scaling++)
        if (strcmp(types[rotary->scaling], type) == 0) break;
    if (types[rotary->scaling] == NULL ||
        (rotary->scaling == FLIN_SCALING_LLAMA3 && !has_slowdown(shape->descriptor)) ||
        (rotary->scaling != FLIN_SCALING_LLAMA3 && rotary->scaling != FLIN_SCALING_NONE &&
         !FLIN_MORE_ARCHITECTURES))
        return flin_config_refuse("rope_type", type, error);
    if (rotary->scaling == FLIN_SCALING_NONE) return 0;
    code = number_in(config, kind, "factor", 0, 1e6, &factor, error);
    if (code == 0 && !(factor > 0))
        code = flin_fail(error, FLASHINFER_ECHECKPOINT,
                         "config.json: a rope_type of \"%s\" without a factor", type);
    if (code == 0)
        code = number_in(config, kind, "original_max_position_embeddings", 0, FLIN_CONTEXT_MAX,
                         &context, error);
    rotary->factor = (float)factor;
    rotary->context = (uint32_t)context;
    if (code == 0 && rotary->scaling == FLIN_SCALING_YARN)
        code = read_yarn(config, kind, rotary, error);
    if (code == 0 && rotary->scaling == FLIN_SCALING_LLAMA3)
        code = read_llama3(config, kind, rotary, error);
    if (rotary->scaling == FLIN_SCALING_LINEAR) rotary->context = 0;
    return code;
}

int flin_config_rotary(const flin_config_keys *config, const char *kind, double share,
                       flin_shape *shape, flashinfer_error *error)
{
    char nested[PATH_BYTES];
    int code;

    (void)snprintf(nested, sizeof nested, "rope_parameters.%spartial_rotary_factor", kind);
    code = flin_config_number(config, "partial_rotary_factor", nested, 0, 2, &share, error);
    if (code != 0) return code;
    if (!(share <= 1)) return flin_config_refuse("partial_rotary_factor", "above 1", error);
    shape->rotary.rotated = (uint32_t)(share * shape->head_width);
    if (shape->rotary.rotated % 2 != 0 || shape->rotary.rotated == 0)
        return flin_config_refuse("partial_rotary_factor", "no even part of a head", error);
    return read_scaling(config, kind, shape, error);
}

float flin_config_slowdown(const flin_shape *shape, uint32_t index)
{
    const flin_rotary *rotary = &shape->rotary;
    const double turn = 2 * 3.14159265358979323846, context = rotary->context;
    const double wave = turn * pow(rotary->base, 2.0 * index / rotary->rotated);
    double smooth;

    if (wave < context / rotary->high) return 1;
    if (wave > context / rotary->low) return rotary->factor;
    smooth = (context / wave - rotary->low) / (rotary->high - rotary->low);
    return (float)(1 / ((1 - smooth) / rotary->factor + smooth));
}

int flin_config_whole_rotary(const flin_config_keys *config, flin_shape *shape,
                             flashinfer_error *error)
{
    int code = flin_config_rotary(config, "", 1, shape, error);

    if (code == 0 && shape->rotary.rotated != shape->head_width)
        code = flin_config_refuse("partial_rotary_factor", "not 1", error);
    return code;
}

/* --------------------------------------------------------------------------------------- others */

int flin_config_layers(const flin_config_keys *config, flin_shape *shape, flashinfer_error *error)
{
    uint32_t windows = 0, period = 0;

    if (!config->is_given(&config->keys, "layer_types")) return 0;
    for (uint32_t i = 0; i < shape->layers; i++) {
        const char *type = config->entry(config, "layer_types", i);
        if (type != NULL && strcmp(type, "sliding_attention") == 0)
            windows++;
        else if (type == NULL || strcmp(type, "full_attention") != 0)
            return flin_config_refuse("layer_types", type != NULL ? type : "too short", error);
        else if (period == 0)
            period = i + 1;
    }
    if (windows == 0) shape->window = 0;
    shape->window_period = period;
    for (uint32_t i = 0; shape->window != 0 && i < shape->layers; i++) {
        const char *type = config->entry(config, "layer_types", i);
        if ((strcmp(type, "sliding_attention") == 0) != (flin_shape_window(shape, i) != 0))
            return flin_config_refuse("layer_types", "of another pattern", error);
    }
    return 0;
}

int flin_config_late_window(const flin_config_keys *config, flin_shape *shape,
                            flashinfer_error *error)
{
    double first = shape->layers;
    int used = 0, code = config->flag(config, "use_sliding_window", 0, &used, error);

    if (code != 0) return code;
    if (!used) {
        shape->window = 0;
        return 0;
    }
    code = flin_config_number(config, "max_window_layers", NULL, -1, 1e9, &first, error);
    if (code != 0) return code;
    if (first > 0 && first < shape->layers)
        return flin_config_refuse("max_window_layers", "neither 0 nor all layers", error);
    if (first >= shape->layers) shape->window = 0;
    return flin_config_layers(config, shape, error);
}

int flin_config_threshold(const flin_config_keys *config, flin_shape *shape,
                          flashinfer_error *error)
{
    static const flin_key_rule rule = {.name = "hidden_act_param",
                                       .sources = {"hidden_act_param", NULL},
                                       .kind = FLIN_KEY_F32,
                                       .most = FLIN_THRESHOLD_MAX,
                                       .flags = FLIN_KEY_REQUIRED};
    double threshold = 0;
    int found, code = 0;

    if (shape->activation.kind == FLIN_ACTIVATION_FATRELU)
        code = config->keys.number(&config->keys, &rule, &threshold, &found, error);
    shape->activation.threshold = (float)threshold;
    return code;
}
