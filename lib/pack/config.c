/*
 * config.c - config.json of an OPT checkpoint, with the defaults transformers gives to keys that
 * are left out.
 */
#include "pack/config.h"

#include <string.h>

#include "pack/json.h"

#define FILE_NAME "config.json"

static int check_kind(const cJSON *json, flashinfer_error *error)
{
    const char *type = flin_json_text(json, "model_type");
    const cJSON *activation = cJSON_GetObjectItemCaseSensitive(json, "activation_function");
    const char *function = cJSON_GetStringValue(activation);

    if (!cJSON_IsObject(json))
        return flin_fail(error, FLASHINFER_ECHECKPOINT, FILE_NAME " is not a JSON object");
    if (type == NULL || !flin_json_is_plain(type))
        return flin_fail(error, FLASHINFER_ECHECKPOINT, FILE_NAME " has no \"model_type\"");
    if (strcmp(type, "opt") != 0)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "model_type \"%.64s\" cannot be packed; this version packs \"opt\"", type);
    if (activation != NULL && (function == NULL || strcmp(function, "relu") != 0))
        return flin_fail(
            error, FLASHINFER_EUNSUPPORTED,
            "activation_function \"%.64s\" cannot be packed: only \"relu\" leaves neurons at zero",
            function != NULL && flin_json_is_plain(function) ? function : "?");
    return 0;
}

/* A token id: a number, null, or a list whose first entry counts. */
static int read_token(const cJSON *json, const char *key, uint32_t vocab_count, int32_t *id,
                      flashinfer_error *error)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
    uint64_t number;

    *id = -1;
    if (cJSON_IsArray(item)) item = item->child;
    if (item == NULL || cJSON_IsNull(item)) return 0;
    if (!flin_json_integer(item, vocab_count - 1, &number))
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         FILE_NAME ": \"%s\" is no id in a vocabulary of %u tokens", key,
                         vocab_count);
    *id = (int32_t)number;
    return 0;
}

static int read_sizes(flin_config *config, const cJSON *json, flashinfer_error *error)
{
    int code = flin_json_u32(json, FILE_NAME, "vocab_size", 1, FLIN_CONFIG_VOCAB_MAX, NULL,
                             &config->vocab_count, error);

    if (code == 0)
        code = flin_json_u32(json, FILE_NAME, "hidden_size", 1, FLIN_CONFIG_WIDTH_MAX, NULL,
                             &config->width, error);
    if (code == 0)
        code = flin_json_u32(json, FILE_NAME, "word_embed_proj_dim", 1, FLIN_CONFIG_WIDTH_MAX,
                             &config->width, &config->embedding_width, error);
    if (code == 0)
        code = flin_json_u32(json, FILE_NAME, "ffn_dim", 1, FLIN_CONFIG_NEURONS_MAX, NULL,
                             &config->neuron_count, error);
    if (code == 0)
        code = flin_json_u32(json, FILE_NAME, "num_hidden_layers", 1, FLIN_CONFIG_LAYERS_MAX, NULL,
                             &config->layer_count, error);
    if (code == 0)
        code = flin_json_u32(json, FILE_NAME, "num_attention_heads", 1, FLIN_CONFIG_HEADS_MAX, NULL,
                             &config->head_count, error);
    if (code == 0)
        code = flin_json_u32(json, FILE_NAME, "max_position_embeddings", 1,
                             FLIN_CONFIG_POSITIONS_MAX, NULL, &config->position_count, error);
    if (code == 0 && config->width % config->head_count != 0)
        code = flin_fail(error, FLASHINFER_ECHECKPOINT,
                         FILE_NAME ": num_attention_heads %u does not divide hidden_size %u",
                         config->head_count, config->width);
    return code;
}

static int read_variants(flin_config *config, const cJSON *json, flashinfer_error *error)
{
    int removed = 0;
    int code =
        flin_json_flag(json, FILE_NAME, "do_layer_norm_before", 1, &config->norm_before, error);

    if (code == 0)
        code = flin_json_flag(json, FILE_NAME, "_remove_final_layer_norm", 0, &removed, error);
    if (code == 0)
        code = flin_json_flag(json, FILE_NAME, "layer_norm_elementwise_affine", 1,
                              &config->norm_affine, error);
    if (code == 0)
        code = flin_json_flag(json, FILE_NAME, "enable_bias", 1, &config->has_bias, error);
    if (code == 0)
        code = flin_json_flag(json, FILE_NAME, "tie_word_embeddings", 1, &config->tied, error);
    config->final_norm = config->norm_before && !removed;
    if (code == 0)
        code = read_token(json, "bos_token_id", config->vocab_count, &config->bos_id, error);
    if (code == 0)
        code = read_token(json, "eos_token_id", config->vocab_count, &config->eos_id, error);
    if (code == 0)
        code = read_token(json, "pad_token_id", config->vocab_count, &config->pad_id, error);
    return code;
}

void flin_config_set_name(flin_config *config, const char *path)
{
    size_t end = strlen(path);
    size_t begin;

    while (end > 0 && path[end - 1] == '/') end--;
    for (begin = end; begin > 0 && path[begin - 1] != '/'; begin--) {
    }
    config->name[0] = '\0';
    if (end - begin == 0 || end - begin >= sizeof config->name) return;
    for (size_t i = begin; i < end; i++)
        if ((unsigned char)path[i] < 0x20 || (unsigned char)path[i] > 0x7e) return;
    if (path[begin] == '.') return;
    memcpy(config->name, path + begin, end - begin);
    config->name[end - begin] = '\0';
}

int flin_config_load(flin_config *config, int directory, flashinfer_error *error)
{
    cJSON *json;
    int code = flin_json_load(directory, FILE_NAME, 1, &json, error);

    memset(config, 0, sizeof *config);
    if (code != 0) return code;
    code = check_kind(json, error);
    if (code == 0) code = read_sizes(config, json, error);
    if (code == 0) code = read_variants(config, json, error);
    if (code == 0 && flin_json_text(json, "_name_or_path") != NULL)
        flin_config_set_name(config, flin_json_text(json, "_name_or_path"));
    cJSON_Delete(json);
    return code;
}
