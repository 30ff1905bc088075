/*
 * tokenizer_export.c - from the tokenizer files of a checkpoint to the arrays of a model file.
 *
 * tokenizer.json is the whole truth when it is there. Without it vocab.json and merges.txt hold the
 * tables, and which tokens are special stands in tokenizer_config.json, special_tokens_map.json and
 * added_tokens.json, all optional.
 */
#define _GNU_SOURCE
#include "pack/tokenizer_export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"
#include "pack/json.h"

typedef struct merge {
    flin_string left;
    flin_string right;
} merge;

typedef struct named_token {
    const char *text;
    int32_t id;
} named_token;

/* Texts live in the JSON documents and in merges_text. */
typedef struct vocabulary {
    uint32_t count; /* ids, those without a token included */
    uint32_t used;  /* ids with a token */
    uint32_t merge_count;
    const char *file;                   /* holds the vocabulary, for error texts */
    const char **tokens;                /* (count) NULL: no token has this id */
    int32_t *types;                     /* (count) FLIN_TOKEN_... */
    named_token *sorted;                /* (used) by text */
    merge *merges;                      /* (merge_count) */
    int32_t bos, eos, unknown, padding; /* -1: none */
    int adds_bos;
    cJSON *whole;    /* tokenizer.json, or NULL */
    cJSON *plain;    /* vocab.json, or NULL */
    cJSON *settings; /* tokenizer_config.json, or NULL */
    cJSON *specials; /* special_tokens_map.json, or NULL */
    cJSON *added;    /* added_tokens.json, or NULL */
    char *merges_text;
    size_t merges_bytes;
} vocabulary;

/* --------------------------------------------------------------------------------------- tokens */

static int load_files(vocabulary *vocab, int directory, flashinfer_error *error)
{
    int code = flin_json_load(directory, "tokenizer.json", 0, &vocab->whole, error);

    vocab->file = "tokenizer.json";
    if (code == 0)
        code = flin_json_load(directory, "tokenizer_config.json", 0, &vocab->settings, error);
    if (code == 0)
        code = flin_json_load(directory, "special_tokens_map.json", 0, &vocab->specials, error);
    if (code != 0 || vocab->whole != NULL) return code;
    vocab->file = "vocab.json";
    code = flin_json_load(directory, "vocab.json", 0, &vocab->plain, error);
    if (code == 0 && vocab->plain == NULL)
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         "the checkpoint has neither tokenizer.json nor vocab.json");
    if (code == 0) code = flin_json_load(directory, "added_tokens.json", 0, &vocab->added, error);
    if (code == 0)
        code = flin_text_load(directory, "merges.txt", 1, &vocab->merges_text, &vocab->merges_bytes,
                              error);
    return code;
}

static int place(vocabulary *vocab, const char *text, const cJSON *number, int32_t type,
                 flashinfer_error *error)
{
    uint64_t id;

    if (text == NULL || text[0] == '\0')
        return flin_fail(error, FLASHINFER_ECHECKPOINT, "%s: a token without text", vocab->file);
    if (!flin_json_integer(number, vocab->count - 1, &id))
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         "%s: a token's id is not below the model's vocab_size %u", vocab->file,
                         vocab->count);
    if (vocab->tokens[id] != NULL && strcmp(vocab->tokens[id], text) != 0)
        return flin_fail(error, FLASHINFER_ECHECKPOINT, "%s: two tokens have id %u", vocab->file,
                         (unsigned)id);
    vocab->used += vocab->tokens[id] == NULL;
    vocab->tokens[id] = text;
    vocab->types[id] = type;
    return 0;
}

static int place_table(vocabulary *vocab, const cJSON *table, int32_t type, flashinfer_error *error)
{
    int code = 0;

    if (!cJSON_IsObject(table))
        return flin_fail(error, FLASHINFER_ECHECKPOINT, "%s has no vocabulary", vocab->file);
    for (const cJSON *entry = table->child; entry != NULL && code == 0; entry = entry->next)
        code = place(vocab, entry->string, entry, type, error);
    return code;
}

/* added_tokens of tokenizer.json: [{"id", "content", "special", ...}] */
static int place_added(vocabulary *vocab, const cJSON *list, flashinfer_error *error)
{
    const cJSON *entry;
    int code = 0;

    cJSON_ArrayForEach(entry, list)
    {
        const cJSON *special = cJSON_GetObjectItemCaseSensitive(entry, "special");
        code = place(vocab, flin_json_text(entry, "content"),
                     cJSON_GetObjectItemCaseSensitive(entry, "id"),
                     cJSON_IsTrue(special) ? FLIN_TOKEN_CONTROL : FLIN_TOKEN_USER_DEFINED, error);
        if (code != 0) return code;
    }
    return 0;
}

/* Decimal digits as a number item; -1, which no id is, for anything else. */
static cJSON number_of(const char *digits)
{
    double value = digits != NULL && digits[0] != '\0' ? 0 : -1;
    cJSON number;

    for (size_t i = 0; value >= 0 && digits[i] != '\0'; i++)
        value = digits[i] >= '0' && digits[i] <= '9' && i < 9 ? value * 10 + (digits[i] - '0') : -1;
    memset(&number, 0, sizeof number);
    number.type = cJSON_Number;
    number.valuedouble = value;
    return number;
}

/* added_tokens_decoder of tokenizer_config.json: {"id": {"content", "special", ...}} */
static int place_decoder(vocabulary *vocab, const cJSON *table, flashinfer_error *error)
{
    const cJSON *entry;

    cJSON_ArrayForEach(entry, table)
    {
        const cJSON *special = cJSON_GetObjectItemCaseSensitive(entry, "special");
        cJSON number = number_of(entry->string);
        int code =
            place(vocab, flin_json_text(entry, "content"), &number,
                  cJSON_IsTrue(special) ? FLIN_TOKEN_CONTROL : FLIN_TOKEN_USER_DEFINED, error);
        if (code != 0) return code;
    }
    return 0;
}

static int read_tokens(vocabulary *vocab, flashinfer_error *error)
{
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(vocab->whole, "model");
    const cJSON *table =
        vocab->whole != NULL ? cJSON_GetObjectItemCaseSensitive(model, "vocab") : vocab->plain;
    int code = place_table(vocab, table, FLIN_TOKEN_NORMAL, error);

    if (code != 0) return code;
    if (vocab->whole != NULL)
        return place_added(vocab, cJSON_GetObjectItemCaseSensitive(vocab->whole, "added_tokens"),
                           error);
    if (vocab->added != NULL) {
        vocab->file = "added_tokens.json";
        code = place_table(vocab, vocab->added, FLIN_TOKEN_USER_DEFINED, error);
    }
    if (code == 0) {
        vocab->file = "tokenizer_config.json";
        code = place_decoder(
            vocab, cJSON_GetObjectItemCaseSensitive(vocab->settings, "added_tokens_decoder"),
            error);
    }
    vocab->file = "vocab.json";
    return code;
}

/* ----------------------------------------------------------------------------------- looking up */

static int compare_texts(const void *left, const void *right)
{
    return strcmp(((const named_token *)left)->text, ((const named_token *)right)->text);
}

static int sort_tokens(vocabulary *vocab, flashinfer_error *error)
{
    uint32_t used = 0;

    vocab->sorted = malloc((size_t)vocab->used * sizeof *vocab->sorted);
    if (vocab->sorted == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for %u tokens", vocab->used);
    for (uint32_t id = 0; id < vocab->count; id++)
        if (vocab->tokens[id] != NULL)
            vocab->sorted[used++] = (named_token){vocab->tokens[id], (int32_t)id};
    qsort(vocab->sorted, used, sizeof *vocab->sorted, compare_texts);
    for (uint32_t i = 1; i < used; i++)
        if (strcmp(vocab->sorted[i - 1].text, vocab->sorted[i].text) == 0)
            return flin_fail(error, FLASHINFER_ECHECKPOINT, "%s: ids %d and %d are the same token",
                             vocab->file, (int)vocab->sorted[i - 1].id, (int)vocab->sorted[i].id);
    return 0;
}

/* Order of a token against the text left + right. */
static int compare_joined(const char *token, flin_string left, flin_string right)
{
    int order = strncmp(token, left.data, left.bytes);

    if (order == 0) order = strncmp(token + left.bytes, right.data, right.bytes);
    if (order == 0) order = token[left.bytes + right.bytes] != '\0';
    return order;
}

/* Id of the token left + right, -1 if there is none. */
static int32_t find_joined(const vocabulary *vocab, flin_string left, flin_string right)
{
    uint32_t low = 0;
    uint32_t high = vocab->used;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = compare_joined(vocab->sorted[middle].text, left, right);
        if (order == 0) return vocab->sorted[middle].id;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

static int32_t find(const vocabulary *vocab, const char *text)
{
    flin_string whole = {text, strlen(text)};
    flin_string nothing = {"", 0};

    return find_joined(vocab, whole, nothing);
}

/* --------------------------------------------------------------------------------------- merges */

static int add_merge(vocabulary *vocab, flin_string left, flin_string right,
                     flashinfer_error *error)
{
    flin_string nothing = {"", 0};

    if (left.bytes == 0 || right.bytes == 0 || memchr(left.data, ' ', left.bytes) != NULL ||
        memchr(right.data, ' ', right.bytes) != NULL)
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         "merge %u of the tokenizer is not two tokens", vocab->merge_count + 1);
    if (find_joined(vocab, left, nothing) < 0 || find_joined(vocab, right, nothing) < 0 ||
        find_joined(vocab, left, right) < 0)
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         "merge %u of the tokenizer joins or makes a token that is not in %s",
                         vocab->merge_count + 1, vocab->file);
    vocab->merges[vocab->merge_count++] = (merge){left, right};
    return 0;
}

/* "a b" cut at its space */
static int split_merge(vocabulary *vocab, const char *line, size_t bytes, flashinfer_error *error)
{
    const char *space = memchr(line, ' ', bytes);
    size_t left = space != NULL ? (size_t)(space - line) : bytes;
    size_t skip = space != NULL ? left + 1 : bytes;

    return add_merge(vocab, (flin_string){line, left}, (flin_string){line + skip, bytes - skip},
                     error);
}

static int read_merge_list(vocabulary *vocab, const cJSON *list, flashinfer_error *error)
{
    const cJSON *entry;
    int code = 0;

    if (!cJSON_IsArray(list))
        return flin_fail(error, FLASHINFER_ECHECKPOINT, "tokenizer.json has no merges");
    vocab->merges = malloc(((size_t)cJSON_GetArraySize(list) + 1) * sizeof *vocab->merges);
    if (vocab->merges == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for the tokenizer's merges");
    cJSON_ArrayForEach(entry, list)
    {
        const char *text = cJSON_GetStringValue(entry);
        const char *left = cJSON_GetStringValue(cJSON_GetArrayItem(entry, 0));
        const char *right = cJSON_GetStringValue(cJSON_GetArrayItem(entry, 1));
        if (text != NULL)
            code = split_merge(vocab, text, strlen(text), error);
        else if (left != NULL && right != NULL && cJSON_GetArraySize(entry) == 2)
            code = add_merge(vocab, (flin_string){left, strlen(left)},
                             (flin_string){right, strlen(right)}, error);
        else
            code = add_merge(vocab, (flin_string){"", 0}, (flin_string){"", 0}, error);
        if (code != 0) return code;
    }
    return 0;
}

/* merges.txt: one merge a line, after a line "#version: ..." */
static int read_merge_lines(vocabulary *vocab, flashinfer_error *error)
{
    const char *at = vocab->merges_text;
    const char *end = at + vocab->merges_bytes;
    size_t lines = 1;
    int code = 0;

    for (const char *newline = at;
         (newline = memchr(newline, '\n', (size_t)(end - newline))) != NULL; newline++)
        lines++;
    vocab->merges = malloc(lines * sizeof *vocab->merges);
    if (vocab->merges == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for the tokenizer's merges");
    while (at < end && code == 0) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t bytes = (size_t)((newline != NULL ? newline : end) - at);
        const char *next = newline != NULL ? newline + 1 : end;
        int is_version = at == vocab->merges_text && bytes >= 8 && memcmp(at, "#version", 8) == 0;
        if (bytes > 0 && at[bytes - 1] == '\r') bytes--;
        if (bytes > 0 && !is_version) code = split_merge(vocab, at, bytes, error);
        at = next;
    }
    return code;
}

/* ------------------------------------------------------------------------------- special tokens */

/* "text" or {"content": "text"}; NULL if neither */
static const char *token_text(const cJSON *item)
{
    const char *text = cJSON_GetStringValue(item);

    return text != NULL ? text : flin_json_text(item, "content");
}

/* The id a file gives to "bos_token" and the like; what it names becomes a control token. */
static int32_t special(vocabulary *vocab, const cJSON *file, const char *key)
{
    const char *text = token_text(cJSON_GetObjectItemCaseSensitive(file, key));
    int32_t id = text != NULL ? find(vocab, text) : -1;

    if (id >= 0) vocab->types[id] = FLIN_TOKEN_CONTROL;
    return id;
}

/* The settings come first, then the map, then the number in config.json. */
static int32_t choose_special(vocabulary *vocab, const char *key, int32_t fallback)
{
    int32_t mapped = special(vocab, vocab->specials, key);
    int32_t set = special(vocab, vocab->settings, key);
    int32_t id = set >= 0 ? set : mapped >= 0 ? mapped : fallback;

    if (id >= 0 && vocab->tokens[id] != NULL) vocab->types[id] = FLIN_TOKEN_CONTROL;
    return id;
}

static void read_specials(vocabulary *vocab, const flin_checkpoint *checkpoint)
{
    const cJSON *files[2] = {vocab->settings, vocab->specials};
    const cJSON *entry;

    vocab->bos = choose_special(vocab, "bos_token", checkpoint->bos_id);
    vocab->eos = choose_special(vocab, "eos_token", checkpoint->eos_id);
    vocab->unknown = choose_special(vocab, "unk_token", -1);
    vocab->padding = choose_special(vocab, "pad_token", checkpoint->pad_id);
    (void)choose_special(vocab, "sep_token", -1);
    (void)choose_special(vocab, "cls_token", -1);
    (void)choose_special(vocab, "mask_token", -1);
    for (int i = 0; i < 2; i++)
        cJSON_ArrayForEach(entry,
                           cJSON_GetObjectItemCaseSensitive(files[i], "additional_special_tokens"))
        {
            const char *text = token_text(entry);
            int32_t id = text != NULL ? find(vocab, text) : -1;
            if (id >= 0) vocab->types[id] = FLIN_TOKEN_CONTROL;
        }
}

/* ------------------------------------------------------------------------------ what we can run */

static int unsupported(const char *what, flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "tokenizer.json: %s; only GPT-2's byte-level BPE can be packed", what);
}

static int is_type(const cJSON *object, const char *type)
{
    const char *found = flin_json_text(object, "type");
    return found != NULL && strcmp(found, type) == 0;
}

/* Neither missing, null, false, zero nor an empty text. */
static int is_set(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    if (cJSON_IsString(item)) return item->valuestring[0] != '\0';
    if (cJSON_IsNumber(item)) return item->valuedouble < 0 || item->valuedouble > 0;
    return item != NULL && !cJSON_IsNull(item) && !cJSON_IsFalse(item);
}

static int check_algorithm(const cJSON *whole, flashinfer_error *error)
{
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(whole, "model");
    const cJSON *splitter = cJSON_GetObjectItemCaseSensitive(whole, "pre_tokenizer");
    const cJSON *parts = cJSON_GetObjectItemCaseSensitive(splitter, "pretokenizers");

    if (flin_json_text(model, "type") != NULL && !is_type(model, "BPE"))
        return unsupported("its model is not BPE", error);
    if (is_set(model, "dropout")) return unsupported("its model drops merges at random", error);
    if (is_set(model, "continuing_subword_prefix") || is_set(model, "end_of_word_suffix"))
        return unsupported("its model marks parts of words", error);
    if (is_set(model, "byte_fallback") || is_set(model, "ignore_merges"))
        return unsupported("its model uses byte_fallback or ignore_merges", error);
    if (is_set(whole, "normalizer")) return unsupported("it has a normalizer", error);
    if (is_type(splitter, "Sequence") && cJSON_GetArraySize(parts) == 1) splitter = parts->child;
    if (!is_type(splitter, "ByteLevel"))
        return unsupported("its pre_tokenizer is not ByteLevel", error);
    if (!cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(splitter, "add_prefix_space")))
        return unsupported("its pre_tokenizer adds a space before the text", error);
    if (cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(splitter, "use_regex")))
        return unsupported("its pre_tokenizer does not split words", error);
    return 0;
}

/* A template is [text], or [token, text]: then the token is what texts begin with. */
static int read_template(vocabulary *vocab, const cJSON *processor, flashinfer_error *error)
{
    const cJSON *first =
        cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(processor, "single"), 0);
    const cJSON *token = cJSON_GetObjectItemCaseSensitive(first, "SpecialToken");
    const cJSON *text = token != NULL ? first->next : first;
    const char *name = flin_json_text(token, "id");
    int32_t id;

    if (text == NULL || text->next != NULL ||
        cJSON_GetObjectItemCaseSensitive(text, "Sequence") == NULL)
        return unsupported("its post_processor adds more than a token before the text", error);
    if (token == NULL) return 0;
    id = name != NULL ? find(vocab, name) : -1;
    if (id < 0)
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         "tokenizer.json: its post_processor adds a token that is not in"
                         " the vocabulary");
    vocab->bos = id;
    vocab->types[id] = FLIN_TOKEN_CONTROL;
    vocab->adds_bos = 1;
    return 0;
}

static int read_processor(vocabulary *vocab, const cJSON *processor, int nested,
                          flashinfer_error *error)
{
    const cJSON *entry;
    int code = 0;

    if (processor == NULL || cJSON_IsNull(processor) || is_type(processor, "ByteLevel")) return 0;
    if (is_type(processor, "TemplateProcessing")) return read_template(vocab, processor, error);
    if (!is_type(processor, "Sequence") || nested)
        return unsupported("its post_processor is unknown", error);
    cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(processor, "processors"))
    {
        code = read_processor(vocab, entry, 1, error);
        if (code != 0) return code;
    }
    return 0;
}

static int read_settings(vocabulary *vocab, flashinfer_error *error)
{
    int adds_prefix_space = 0;
    int code;

    if (vocab->whole != NULL)
        return read_processor(
            vocab, cJSON_GetObjectItemCaseSensitive(vocab->whole, "post_processor"), 0, error);
    code = flin_json_flag(vocab->settings, "tokenizer_config.json", "add_prefix_space", 0,
                          &adds_prefix_space, error);
    if (code == 0)
        code = flin_json_flag(vocab->settings, "tokenizer_config.json", "add_bos_token", 1,
                              &vocab->adds_bos, error);
    if (code == 0 && adds_prefix_space)
        code = flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "tokenizer_config.json: add_prefix_space is true, which cannot be packed");
    if (code == 0 && vocab->bos < 0) vocab->adds_bos = 0;
    return code;
}

/* -------------------------------------------------------------------------------------- writing */

static void put_id(flin_gguf_writer *writer, const char *key, int32_t id)
{
    if (id >= 0) flin_gguf_put_u32(writer, key, (uint32_t)id);
}

static void put_all(flin_gguf_writer *writer, const vocabulary *vocab)
{
    flin_gguf_put_string(writer, "tokenizer.ggml.model", "gpt2");
    flin_gguf_put_string(writer, "tokenizer.ggml.pre", "gpt-2");
    flin_gguf_put_string_array(writer, "tokenizer.ggml.tokens", vocab->count);
    for (uint32_t id = 0; id < vocab->count; id++) {
        char filler[24];
        const char *text = vocab->tokens[id];
        size_t bytes;
        if (text == NULL) {
            (void)snprintf(filler, sizeof filler, "[PAD%u]", id);
            text = filler;
        }
        bytes = strlen(text);
        flin_gguf_put_item(writer, &text, &bytes, 1);
    }
    flin_gguf_put_array(writer, "tokenizer.ggml.token_type", FLIN_GGUF_VALUE_I32, vocab->count,
                        vocab->types, sizeof *vocab->types);
    flin_gguf_put_string_array(writer, "tokenizer.ggml.merges", vocab->merge_count);
    for (uint32_t i = 0; i < vocab->merge_count; i++) {
        const merge *pair = &vocab->merges[i];
        const char *pieces[3] = {pair->left.data, " ", pair->right.data};
        size_t bytes[3] = {pair->left.bytes, 1, pair->right.bytes};
        flin_gguf_put_item(writer, pieces, bytes, 3);
    }
    put_id(writer, "tokenizer.ggml.bos_token_id", vocab->bos);
    put_id(writer, "tokenizer.ggml.eos_token_id", vocab->eos);
    put_id(writer, "tokenizer.ggml.unknown_token_id", vocab->unknown);
    put_id(writer, "tokenizer.ggml.padding_token_id", vocab->padding);
    flin_gguf_put_bool(writer, "tokenizer.ggml.add_bos_token", vocab->adds_bos);
}

static void release(vocabulary *vocab)
{
    free(vocab->tokens);
    free(vocab->types);
    free(vocab->sorted);
    free(vocab->merges);
    free(vocab->merges_text);
    cJSON_Delete(vocab->whole);
    cJSON_Delete(vocab->plain);
    cJSON_Delete(vocab->settings);
    cJSON_Delete(vocab->specials);
    cJSON_Delete(vocab->added);
}

static int read_all(vocabulary *vocab, int directory, const flin_checkpoint *checkpoint,
                    flashinfer_error *error)
{
    const cJSON *model;
    int code = load_files(vocab, directory, error);

    if (code != 0) return code;
    vocab->tokens = calloc(vocab->count, sizeof *vocab->tokens);
    vocab->types = malloc(vocab->count * sizeof *vocab->types);
    if (vocab->tokens == NULL || vocab->types == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for %u tokens", vocab->count);
    for (uint32_t id = 0; id < vocab->count; id++) vocab->types[id] = FLIN_TOKEN_UNUSED;
    if (vocab->whole != NULL) code = check_algorithm(vocab->whole, error);
    if (code == 0) code = read_tokens(vocab, error);
    if (code == 0 && vocab->used == 0)
        code = flin_fail(error, FLASHINFER_ECHECKPOINT, "%s has no tokens", vocab->file);
    if (code == 0) code = sort_tokens(vocab, error);
    if (code != 0) return code;
    read_specials(vocab, checkpoint);
    model = cJSON_GetObjectItemCaseSensitive(vocab->whole, "model");
    code = vocab->whole != NULL
               ? read_merge_list(vocab, cJSON_GetObjectItemCaseSensitive(model, "merges"), error)
               : read_merge_lines(vocab, error);
    return code != 0 ? code : read_settings(vocab, error);
}

int flin_tokenizer_export(flin_gguf_writer *writer, int directory,
                          const flin_checkpoint *checkpoint, flashinfer_error *error)
{
    vocabulary vocab;
    int code;

    memset(&vocab, 0, sizeof vocab);
    vocab.count = checkpoint->shape.vocab;
    code = read_all(&vocab, directory, checkpoint, error);
    if (code == 0) put_all(writer, &vocab);
    release(&vocab);
    return code;
}
