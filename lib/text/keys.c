/*
 * keys.c - reads and checks the tokenizer.ggml.* keys. Every refusal names its key.
 */
#include "text/keys.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/byte_alphabet.h"

#define MERGES_MAX (1u << 27)
#define MATCHED_BYTES_MAX 512u /* of a control or user-defined token: bounds the search in a text */
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* tokenizer.ggml.model */
static const struct {
    const char *name;
    uint32_t model;
    int has_pieces;
    const char *rule; /* in the table of split.c; NULL: as tokenizer.ggml.pre says */
} models[] = {{"gpt2", FLIN_TOKENIZER_BPE, 0, NULL},
              {"llama", FLIN_TOKENIZER_SPM, 1, NULL},
              {"gemma4", FLIN_TOKENIZER_BPE, 1, "gemma4"}};

static void append_name(char *text, size_t capacity, const char *name)
{
    size_t used = strlen(text);

    (void)snprintf(text + used, capacity - used, "%s%s", used == 0 ? "" : ", ", name);
}

/* A name from a file that is not known here. */
static int unknown_name(const char *key, flin_string name, const char *known,
                        flashinfer_error *error)
{
    char shown[32];
    size_t bytes = name.bytes < sizeof shown - 1 ? name.bytes : sizeof shown - 1;

    for (size_t i = 0; i < bytes; i++)
        shown[i] = (char)(name.data[i] >= ' ' && name.data[i] <= '~' ? name.data[i] : '?');
    shown[bytes] = 0;
    return flin_fail(
        error, FLASHINFER_EUNSUPPORTED,
        "%s is \"%s\", this build knows %s; FLASHINFER_OPEN_NO_TOKENIZER opens the model without "
        "text",
        key, shown, known);
}

static int read_model(const flin_gguf *gguf, flin_tokenizer_keys *keys, const char **rule,
                      flashinfer_error *error)
{
    static const char *const key = "tokenizer.ggml.model";
    char known[64] = "";
    flin_string name;
    int code = flin_gguf_string(gguf, key, &name, error);

    if (code != 0) return code;
    for (size_t i = 0; i < COUNT(models); i++) {
        if (flin_string_is(name, models[i].name)) {
            keys->model = models[i].model;
            keys->has_pieces = models[i].has_pieces;
            *rule = models[i].rule;
            return 0;
        }
        append_name(known, sizeof known, models[i].name);
    }
    return unknown_name(key, name, known, error);
}

/* How texts are cut. Every name of the table may stand in a file, but for those of models. */
static int read_rule(const flin_gguf *gguf, flin_tokenizer_keys *keys, flashinfer_error *error)
{
    static const char *const key = "tokenizer.ggml.pre";
    char known[256] = "";
    flin_string name;
    int code;

    if (flin_gguf_find(gguf, key) == NULL)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "%s is missing: the file is older than this key and does not say how to "
                         "cut texts into words; convert the model again, or open it without text "
                         "(FLASHINFER_OPEN_NO_TOKENIZER)",
                         key);
    code = flin_gguf_string(gguf, key, &name, error);
    if (code != 0) return code;
    keys->rule = flin_split_find(name);
    if (keys->rule != NULL && (keys->rule->flags & FLIN_SPLIT_PIECES) == 0) return 0;
    for (uint32_t i = 0; i < flin_split_rule_count; i++)
        for (uint32_t k = 0; k < FLIN_SPLIT_NAMES_MAX; k++)
            if (flin_split_rules[i].names[k] != NULL &&
                (flin_split_rules[i].flags & FLIN_SPLIT_PIECES) == 0)
                append_name(known, sizeof known, flin_split_rules[i].names[k]);
    return unknown_name(key, name, known, error);
}

/* SentencePiece cuts nothing, and files say so or nothing. */
static int check_no_rule(const flin_gguf *gguf, flashinfer_error *error)
{
    static const char *const key = "tokenizer.ggml.pre";
    flin_string name;
    int code = flin_gguf_string_or(gguf, key, "default", &name, error);

    if (code != 0 || flin_string_is(name, "default")) return code;
    return unknown_name(key, name, "only \"default\" with the model llama", error);
}

static int read_names(const flin_gguf *gguf, flin_tokenizer_keys *keys, flashinfer_error *error)
{
    const char *rule = NULL;
    int code = read_model(gguf, keys, &rule, error);

    if (code != 0) return code;
    if (keys->model == FLIN_TOKENIZER_SPM) return check_no_rule(gguf, error);
    if (rule == NULL) return read_rule(gguf, keys, error);
    keys->rule = flin_split_find((flin_string){rule, strlen(rule)});
    return 0;
}

static int bad_key(const char *key, const char *what, flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EFORMAT, "metadata key %s %s; pack the model again", key,
                     what);
}

static int bad_token(uint32_t id, const char *what, flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EFORMAT,
                     "token %u of tokenizer.ggml.tokens %s; pack the model again", id, what);
}

static int find_array(const flin_gguf *gguf, const char *key, uint32_t type, uint64_t count_max,
                      const flin_gguf_value **array, flashinfer_error *error)
{
    const flin_gguf_value *value = flin_gguf_find(gguf, key);

    if (value == NULL || !value->is_array) return bad_key(key, "is missing or not an array", error);
    if (value->type != type)
        return bad_key(key,
                       type == FLIN_GGUF_VALUE_STRING ? "is not an array of strings"
                       : type == FLIN_GGUF_VALUE_F32
                           ? "is not an array of 32-bit floating-point numbers"
                           : "is not an array of 32-bit numbers",
                       error);
    if (value->count > count_max || value->bytes > UINT32_MAX)
        return bad_key(key, "has more elements than any tokenizer needs", error);
    *array = value;
    return 0;
}

/* An array with one element for every token. */
static int find_list(const flin_gguf *gguf, const char *key, uint32_t type, uint32_t vocab_count,
                     const flin_gguf_value **array, flashinfer_error *error)
{
    int code = find_array(gguf, key, type, INT32_MAX, array, error);

    if (code != 0 || (*array)->count == vocab_count) return code;
    return flin_fail(error, FLASHINFER_EFORMAT,
                     "metadata key %s has %llu elements for a vocabulary of %u; pack it again", key,
                     (unsigned long long)(*array)->count, vocab_count);
}

/* A token id under an optional key; unchanged if absent. */
static int read_id(const flin_gguf *gguf, const char *key, uint32_t vocab_count, int32_t *id,
                   flashinfer_error *error)
{
    uint64_t number;
    int code;

    if (flin_gguf_find(gguf, key) == NULL) return 0;
    code = flin_gguf_u64(gguf, key, &number, error);
    if (code != 0) return code;
    if (number >= vocab_count) return bad_key(key, "names a token outside the vocabulary", error);
    *id = (int32_t)number;
    return 0;
}

/* A truth value under an optional key; unchanged if absent. */
static int read_flag(const flin_gguf *gguf, const char *key, int *flag, flashinfer_error *error)
{
    const flin_gguf_value *value = flin_gguf_find(gguf, key);

    if (value == NULL) return 0;
    if (value->is_array || value->type != FLIN_GGUF_VALUE_BOOL)
        return bad_key(key, "is not a truth value", error);
    *flag = value->data[0] != 0;
    return 0;
}

uint64_t flin_tokenizer_keys_type(const flin_tokenizer_keys *keys, uint32_t id)
{
    return keys->types != NULL ? flin_gguf_element_u64(keys->types, id) : FLIN_TYPE_NORMAL;
}

int flin_tokenizer_is_matched(uint64_t type, size_t bytes)
{
    return bytes != 0 && (type == FLIN_TYPE_CONTROL || type == FLIN_TYPE_USER_DEFINED ||
                          type == FLIN_TYPE_UNKNOWN);
}

/* What vocabularies of pieces demand of each besides. */
static int check_piece(const flin_tokenizer_keys *keys, uint32_t id, uint64_t type,
                       flin_string text, flashinfer_error *error)
{
    if (text.bytes == 0 && type != FLIN_TYPE_UNUSED && type != FLIN_TYPE_UNDEFINED)
        return bad_token(id, "has no text", error);
    if (type == FLIN_TYPE_BYTE && flin_piece_byte(text) < 0)
        return bad_token(id, "is of type byte, but its text is not such as <0x0A>", error);
    if (keys->scores != NULL && isnan(flin_gguf_element_f64(keys->scores, id)))
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "element %u of tokenizer.ggml.scores is not a number; pack the model "
                         "again",
                         id);
    return 0;
}

/* Check every token's type and count those that are found in text. */
static int check_tokens(flin_tokenizer_keys *keys, flashinfer_error *error)
{
    const uint8_t *cursor = keys->tokens->data;
    int code;

    for (uint32_t id = 0; id < keys->vocab_count; id++) {
        uint64_t type = flin_tokenizer_keys_type(keys, id);
        flin_string text = flin_gguf_next_string(&cursor);
        if (type > FLIN_TYPE_BYTE)
            return flin_fail(error, FLASHINFER_EFORMAT,
                             "token %u has the unknown type %lld; pack the model again", id,
                             (long long)type);
        if (keys->has_pieces && (code = check_piece(keys, id, type, text, error)) != 0) return code;
        keys->byte_count += type == FLIN_TYPE_BYTE;
        if (!flin_tokenizer_is_matched(type, text.bytes)) continue;
        if (text.bytes > MATCHED_BYTES_MAX)
            return flin_fail(error, FLASHINFER_EFORMAT,
                             "token %u is a control or user-defined token of %zu bytes, %u are the "
                             "most; pack the model again",
                             id, text.bytes, MATCHED_BYTES_MAX);
        keys->matched_count++;
    }
    return 0;
}

static int read_arrays(const flin_gguf *gguf, flin_tokenizer_keys *keys, flashinfer_error *error)
{
    static const char *const types = "tokenizer.ggml.token_type";
    int is_spm = keys->model == FLIN_TOKENIZER_SPM;
    int code;

    if ((code = find_list(gguf, "tokenizer.ggml.tokens", FLIN_GGUF_VALUE_STRING, keys->vocab_count,
                          &keys->tokens, error)) != 0)
        return code;
    if (is_spm)
        code = find_list(gguf, "tokenizer.ggml.scores", FLIN_GGUF_VALUE_F32, keys->vocab_count,
                         &keys->scores, error);
    else
        code = find_array(gguf, "tokenizer.ggml.merges", FLIN_GGUF_VALUE_STRING, MERGES_MAX,
                          &keys->merges, error);
    if (code == 0 && (is_spm || flin_gguf_find(gguf, types) != NULL))
        code = find_list(gguf, types, FLIN_GGUF_VALUE_I32, keys->vocab_count, &keys->types, error);
    return code != 0 ? code : check_tokens(keys, error);
}

/* Files may leave the special ids of "llama" out: they are 0, 1 and 2 then, if those are. */
static int32_t usual_id(const flin_tokenizer_keys *keys, uint32_t id, uint64_t type)
{
    if (keys->model != FLIN_TOKENIZER_SPM || id >= keys->vocab_count) return -1;
    return flin_tokenizer_keys_type(keys, id) == type ? (int32_t)id : -1;
}

static int read_ids(const flin_gguf *gguf, flin_tokenizer_keys *keys, flashinfer_error *error)
{
    int32_t padding = -1;
    struct {
        const char *key;
        int32_t *id, usual;
    } ids[] = {
        {"tokenizer.ggml.bos_token_id", &keys->bos, usual_id(keys, 1, FLIN_TYPE_CONTROL)},
        {"tokenizer.ggml.eos_token_id", &keys->eos, usual_id(keys, 2, FLIN_TYPE_CONTROL)},
        {"tokenizer.ggml.unknown_token_id", &keys->unknown, usual_id(keys, 0, FLIN_TYPE_UNKNOWN)},
        {"tokenizer.ggml.padding_token_id", &padding, -1}};

    for (size_t i = 0; i < COUNT(ids); i++) {
        int code;
        *ids[i].id = ids[i].usual;
        code = read_id(gguf, ids[i].key, keys->vocab_count, ids[i].id, error);
        if (code != 0) return code;
    }
    return 0;
}

/* Flags that decide what becomes of a text; those that nothing here does are refused. */
static int read_flags(const flin_gguf *gguf, flin_tokenizer_keys *keys, flashinfer_error *error)
{
    int is_spm = keys->model == FLIN_TOKENIZER_SPM, removes = 0, code;

    keys->adds_bos = keys->bos >= 0 && (is_spm || (keys->rule->flags & (FLIN_SPLIT_BOS)) != 0);
    keys->adds_space = is_spm;
    if ((code = read_flag(gguf, "tokenizer.ggml.add_bos_token", &keys->adds_bos, error)) != 0 ||
        (code = read_flag(gguf, "tokenizer.ggml.add_space_prefix", &keys->adds_space, error)) !=
            0 ||
        (code = read_flag(gguf, "tokenizer.ggml.remove_extra_whitespaces", &removes, error)) != 0)
        return code;
    if (removes || (keys->adds_space && !is_spm))
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "tokenizer.ggml.%s is true, which this build does not know; "
                         "FLASHINFER_OPEN_NO_TOKENIZER opens the model without text",
                         removes ? "remove_extra_whitespaces" : "add_space_prefix");
    if (keys->adds_bos && keys->bos < 0)
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "tokenizer.ggml.add_bos_token is true but tokenizer.ggml.bos_token_id is "
                         "missing; pack the model again");
    return 0;
}

/* Whatever a text holds must become tokens: all bytes have one, or there is an unknown token. */
static int check_fallback(const flin_tokenizer_keys *keys, flashinfer_error *error)
{
    if (keys->model != FLIN_TOKENIZER_SPM || keys->byte_count == 256) return 0;
    if (keys->byte_count != 0)
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "tokenizer.ggml.token_type marks %u tokens as bytes, which must be all "
                         "256 or none; pack the model again",
                         keys->byte_count);
    if (keys->unknown >= 0) return 0;
    return bad_key("tokenizer.ggml.unknown_token_id",
                   "is missing, and the vocabulary has no tokens of bytes", error);
}

int flin_tokenizer_keys_read(const flin_gguf *gguf, uint32_t vocab_count, flin_tokenizer_keys *keys,
                             flashinfer_error *error)
{
    int code;

    memset(keys, 0, sizeof *keys);
    keys->vocab_count = vocab_count;
    code = read_names(gguf, keys, error);
    if (code == 0) code = read_arrays(gguf, keys, error);
    if (code == 0) code = read_ids(gguf, keys, error);
    if (code == 0) code = read_flags(gguf, keys, error);
    return code != 0 ? code : check_fallback(keys, error);
}
