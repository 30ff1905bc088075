/*
 * tokenizer_vocabulary.c - tokens by id and by text, merges, and which tokens are special.
 */
#include "pack/tokenizer_vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"

/* The only fields of a checkpoint that tokenizers need. */
void flin_vocabulary_begin(flin_vocabulary *vocab, const flin_checkpoint *checkpoint)
{
    memset(vocab, 0, sizeof *vocab);
    vocab->count = checkpoint->shape.vocab;
    vocab->bos = checkpoint->bos_id;
    vocab->eos = checkpoint->eos_id;
    vocab->padding = checkpoint->pad_id;
    vocab->unknown = -1;
    vocab->adds_bos = -1;
}

int flin_vocabulary_load(flin_vocabulary *vocab, int directory, flashinfer_error *error)
{
    int code = flin_json_load(directory, "tokenizer.json", 0, &vocab->whole, error);

    vocab->file = "tokenizer.json";
    if (code == 0)
        code = flin_json_load(directory, "tokenizer_config.json", 0, &vocab->settings, error);
    if (code == 0)
        code = flin_json_load(directory, "special_tokens_map.json", 0, &vocab->specials, error);
    if (code == 0 && vocab->whole == NULL)
        code = flin_json_load(directory, "added_tokens.json", 0, &vocab->added, error);
    return code;
}

void flin_vocabulary_end(flin_vocabulary *vocab)
{
    free(vocab->tokens);
    free(vocab->types);
    free(vocab->sorted);
    free(vocab->merges);
    cJSON_Delete(vocab->whole);
    cJSON_Delete(vocab->settings);
    cJSON_Delete(vocab->specials);
    cJSON_Delete(vocab->added);
}

int flin_vocabulary_reserve(flin_vocabulary *vocab, flashinfer_error *error)
{
    vocab->tokens = calloc(vocab->count, sizeof *vocab->tokens);
    vocab->types = malloc(vocab->count * sizeof *vocab->types);
    if (vocab->tokens == NULL || vocab->types == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for %u tokens", vocab->count);
    for (uint32_t id = 0; id < vocab->count; id++) vocab->types[id] = FLIN_TOKEN_UNUSED;
    return 0;
}

/* --------------------------------------------------------------------------------------- tokens */

int flin_vocabulary_place(flin_vocabulary *vocab, const char *text, uint32_t id, int32_t type,
                          flashinfer_error *error)
{
    if (text == NULL || text[0] == '\0')
        return flin_fail(error, FLASHINFER_ECHECKPOINT, "%s: a token without text", vocab->file);
    if (id >= vocab->count)
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         "%s: a token's id is not below the model's vocab_size %u", vocab->file,
                         vocab->count);
    if (vocab->tokens[id] != NULL && strcmp(vocab->tokens[id], text) != 0)
        return flin_fail(error, FLASHINFER_ECHECKPOINT, "%s: two tokens have id %u", vocab->file,
                         id);
    vocab->used += vocab->tokens[id] == NULL;
    vocab->tokens[id] = text;
    if (vocab->types[id] != FLIN_TOKEN_BYTE && vocab->types[id] != FLIN_TOKEN_UNKNOWN)
        vocab->types[id] = type;
    return 0;
}

/* The id as a number of a file. */
static int place(flin_vocabulary *vocab, const char *text, const cJSON *number, int32_t type,
                 flashinfer_error *error)
{
    uint64_t id;

    if (!flin_json_integer(number, vocab->count - 1, &id)) id = vocab->count;
    return flin_vocabulary_place(vocab, text, (uint32_t)id, type, error);
}

int flin_vocabulary_place_table(flin_vocabulary *vocab, const cJSON *table, int32_t type,
                                flashinfer_error *error)
{
    int code = 0;

    if (!cJSON_IsObject(table))
        return flin_fail(error, FLASHINFER_ECHECKPOINT, "%s has no vocabulary", vocab->file);
    for (const cJSON *entry = table->child; entry != NULL && code == 0; entry = entry->next)
        code = place(vocab, entry->string, entry, type, error);
    return code;
}

/* added_tokens of tokenizer.json: [{"id", "content", "special", ...}] */
static int place_list(flin_vocabulary *vocab, const cJSON *list, flashinfer_error *error)
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
static int place_decoder(flin_vocabulary *vocab, const cJSON *table, flashinfer_error *error)
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

int flin_vocabulary_place_added(flin_vocabulary *vocab, flashinfer_error *error)
{
    const char *file = vocab->file;
    int code = 0;

    if (vocab->whole != NULL) {
        vocab->file = "tokenizer.json";
        code = place_list(vocab, cJSON_GetObjectItemCaseSensitive(vocab->whole, "added_tokens"),
                          error);
    }
    if (vocab->added != NULL) {
        vocab->file = "added_tokens.json";
        code = flin_vocabulary_place_table(vocab, vocab->added, FLIN_TOKEN_USER_DEFINED, error);
    }
    if (code == 0 && vocab->whole == NULL) {
        vocab->file = "tokenizer_config.json";
        code = place_decoder(
            vocab, cJSON_GetObjectItemCaseSensitive(vocab->settings, "added_tokens_decoder"),
            error);
    }
    if (code == 0) vocab->file = file;
    return code;
}

/* ----------------------------------------------------------------------------------- looking up */

static int compare_texts(const void *left, const void *right)
{
    return strcmp(((const flin_named_token *)left)->text, ((const flin_named_token *)right)->text);
}

int flin_vocabulary_sort(flin_vocabulary *vocab, flashinfer_error *error)
{
    uint32_t used = 0;

    vocab->sorted = malloc((size_t)vocab->used * sizeof *vocab->sorted);
    if (vocab->sorted == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for %u tokens", vocab->used);
    for (uint32_t id = 0; id < vocab->count; id++)
        if (vocab->tokens[id] != NULL)
            vocab->sorted[used++] = (flin_named_token){vocab->tokens[id], (int32_t)id};
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
int32_t flin_vocabulary_find_joined(const flin_vocabulary *vocab, flin_string left,
                                    flin_string right)
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

static int32_t find(const flin_vocabulary *vocab, const char *text)
{
    flin_string whole = {text, strlen(text)};
    flin_string nothing = {"", 0};

    return flin_vocabulary_find_joined(vocab, whole, nothing);
}

/* --------------------------------------------------------------------------------------- merges */

static int add_merge(flin_vocabulary *vocab, flin_string left, flin_string right,
                     flashinfer_error *error)
{
    flin_string nothing = {"", 0};

    if (left.bytes == 0 || right.bytes == 0 || memchr(left.data, ' ', left.bytes) != NULL ||
        memchr(right.data, ' ', right.bytes) != NULL)
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         "merge %u of the tokenizer is not two tokens", vocab->merge_count + 1);
    if (flin_vocabulary_find_joined(vocab, left, nothing) < 0 ||
        flin_vocabulary_find_joined(vocab, right, nothing) < 0 ||
        flin_vocabulary_find_joined(vocab, left, right) < 0)
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         "merge %u of the tokenizer joins or makes a token that is not in %s",
                         vocab->merge_count + 1, vocab->file);
    vocab->merges[vocab->merge_count++] = (flin_text_merge){left, right};
    return 0;
}

/* "a b" cut at its space */
int flin_vocabulary_split_merge(flin_vocabulary *vocab, const char *line, size_t bytes,
                                flashinfer_error *error)
{
    const char *space = memchr(line, ' ', bytes);
    size_t left = space != NULL ? (size_t)(space - line) : bytes;
    size_t skip = space != NULL ? left + 1 : bytes;

    return add_merge(vocab, (flin_string){line, left}, (flin_string){line + skip, bytes - skip},
                     error);
}

int flin_vocabulary_read_merges(flin_vocabulary *vocab, flashinfer_error *error)
{
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(vocab->whole, "model");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(model, "merges"), *entry;
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
            code = flin_vocabulary_split_merge(vocab, text, strlen(text), error);
        else if (left != NULL && right != NULL && cJSON_GetArraySize(entry) == 2)
            code = add_merge(vocab, (flin_string){left, strlen(left)},
                             (flin_string){right, strlen(right)}, error);
        else
            code = add_merge(vocab, (flin_string){"", 0}, (flin_string){"", 0}, error);
        if (code != 0) return code;
    }
    return 0;
}

/* ------------------------------------------------------------------------------- special tokens */

/* "text" or {"content": "text"}; NULL if neither */
static const char *token_text(const cJSON *item)
{
    const char *text = cJSON_GetStringValue(item);

    return text != NULL ? text : flin_json_text(item, "content");
}

static void make_control(flin_vocabulary *vocab, int32_t id)
{
    if (id >= 0 && vocab->tokens[id] != NULL && vocab->types[id] != FLIN_TOKEN_UNKNOWN)
        vocab->types[id] = FLIN_TOKEN_CONTROL;
}

/* The id a file gives to "bos_token" and the like; what it names becomes a control token. */
static int32_t special(flin_vocabulary *vocab, const cJSON *file, const char *key)
{
    const char *text = token_text(cJSON_GetObjectItemCaseSensitive(file, key));
    int32_t id = text != NULL ? find(vocab, text) : -1;

    make_control(vocab, id);
    return id;
}

static int32_t choose_special(flin_vocabulary *vocab, const char *key, int32_t fallback)
{
    int32_t mapped = special(vocab, vocab->specials, key);
    int32_t set = special(vocab, vocab->settings, key);
    int32_t id = set >= 0 ? set : mapped >= 0 ? mapped : fallback;

    make_control(vocab, id);
    return id;
}

void flin_vocabulary_read_specials(flin_vocabulary *vocab)
{
    const cJSON *files[2] = {vocab->settings, vocab->specials};
    const cJSON *entry;

    vocab->bos = choose_special(vocab, "bos_token", vocab->bos);
    vocab->eos = choose_special(vocab, "eos_token", vocab->eos);
    vocab->unknown = choose_special(vocab, "unk_token", vocab->unknown);
    vocab->padding = choose_special(vocab, "pad_token", vocab->padding);
    (void)choose_special(vocab, "sep_token", -1);
    (void)choose_special(vocab, "cls_token", -1);
    (void)choose_special(vocab, "mask_token", -1);
    for (int i = 0; i < 2; i++)
        cJSON_ArrayForEach(entry,
                           cJSON_GetObjectItemCaseSensitive(files[i], "additional_special_tokens"))
        {
            const char *text = token_text(entry);
            int32_t id = text != NULL ? find(vocab, text) : -1;
            make_control(vocab, id);
        }
}

/* ------------------------------------------------------------------------------ post_processor */

int flin_json_is_type(const cJSON *object, const char *type)
{
    const char *found = flin_json_text(object, "type");
    return found != NULL && strcmp(found, type) == 0;
}

int flin_json_is_set(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    if (cJSON_IsString(item)) return item->valuestring[0] != '\0';
    if (cJSON_IsNumber(item)) return item->valuedouble < 0 || item->valuedouble > 0;
    return item != NULL && !cJSON_IsNull(item) && !cJSON_IsFalse(item);
}

int flin_tokenizer_unsupported(const char *what, flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "tokenizer.json: %s; byte-level BPE and SentencePiece's BPE can be packed",
                     what);
}

/* A template is [text], or [token, text]: then the token is what texts begin with. */
static int read_template(flin_vocabulary *vocab, const cJSON *processor, flashinfer_error *error)
{
    const cJSON *first =
        cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(processor, "single"), 0);
    const cJSON *token = cJSON_GetObjectItemCaseSensitive(first, "SpecialToken");
    const cJSON *text = token != NULL ? first->next : first;
    const char *name = flin_json_text(token, "id");
    int32_t id;

    if (text == NULL || text->next != NULL ||
        cJSON_GetObjectItemCaseSensitive(text, "Sequence") == NULL)
        return flin_tokenizer_unsupported(
            "its post_processor adds more than a token before the text", error);
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

static int read_processor(flin_vocabulary *vocab, const cJSON *processor, int nested,
                          flashinfer_error *error)
{
    const cJSON *entry;
    int code = 0;

    if (processor == NULL || cJSON_IsNull(processor) || flin_json_is_type(processor, "ByteLevel"))
        return 0;
    if (flin_json_is_type(processor, "TemplateProcessing"))
        return read_template(vocab, processor, error);
    if (!flin_json_is_type(processor, "Sequence") || nested)
        return flin_tokenizer_unsupported("its post_processor is unknown", error);
    cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(processor, "processors"))
    {
        code = read_processor(vocab, entry, 1, error);
        if (code != 0) return code;
    }
    return 0;
}

int flin_vocabulary_read_processor(flin_vocabulary *vocab, flashinfer_error *error)
{
    return read_processor(vocab, cJSON_GetObjectItemCaseSensitive(vocab->whole, "post_processor"),
                          0, error);
}

/* -------------------------------------------------------------------------------------- writing */

static void put_id(flin_gguf_writer *writer, const char *key, int32_t id)
{
    if (id >= 0) flin_gguf_put_u32(writer, key, (uint32_t)id);
}

void flin_vocabulary_put_tokens(flin_gguf_writer *writer, const flin_vocabulary *vocab)
{
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
}

void flin_vocabulary_put_ids(flin_gguf_writer *writer, const flin_vocabulary *vocab)
{
    put_id(writer, "tokenizer.ggml.bos_token_id", vocab->bos);
    put_id(writer, "tokenizer.ggml.eos_token_id", vocab->eos);
    put_id(writer, "tokenizer.ggml.unknown_token_id", vocab->unknown);
    put_id(writer, "tokenizer.ggml.padding_token_id", vocab->padding);
    flin_gguf_put_bool(writer, "tokenizer.ggml.add_bos_token", vocab->adds_bos);
}
