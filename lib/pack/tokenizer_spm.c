/*
 * tokenizer_spm.c - keys of SentencePiece's BPE, and when the merges of a tokenizer.json are one.
 *
 * SentencePiece merges any two neighbours whose union is a piece, the highest score first; a
 * tokenizer.json lists every pair that may merge, by rank. The two are the same when all pairs that
 * make a piece are listed, one after the other: then the score of a piece is minus the place of
 * its pairs. Everything else is refused, since no scores could say it.
 */
#include "pack/tokenizer_spm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"
#include "text/byte_alphabet.h"
#include "util/utf8.h"

#define UNDERLINE "\xe2\x96\x81" /* U+2581 */

/* -------------------------------------------------------------------------------------- writing */

static void put_all(flin_gguf_writer *writer, const flin_vocabulary *vocab, const float *scores,
                    int adds_space)
{
    flin_gguf_put_string(writer, "tokenizer.ggml.model", "llama");
    flin_gguf_put_string(writer, "tokenizer.ggml.pre", "default");
    flin_vocabulary_put_tokens(writer, vocab);
    flin_gguf_put_array(writer, "tokenizer.ggml.scores", FLIN_GGUF_VALUE_F32, vocab->count, scores,
                        sizeof *scores);
    flin_vocabulary_put_ids(writer, vocab);
    flin_gguf_put_bool(writer, "tokenizer.ggml.add_space_prefix", adds_space);
}

static float *new_scores(const flin_vocabulary *vocab, flashinfer_error *error)
{
    float *scores = calloc(vocab->count, sizeof *scores);

    if (scores == NULL)
        (void)flin_fail(error, FLASHINFER_ENOMEM, "no memory for %u scores", vocab->count);
    return scores;
}

/* bos before a text and the space before it, where the small files say so; bos is usual. */
static int read_settings(flin_vocabulary *vocab, int *adds_space, flashinfer_error *error)
{
    int code = 0;

    if (vocab->whole != NULL) code = flin_vocabulary_read_processor(vocab, error);
    if (code == 0)
        code = flin_json_flag(vocab->settings, "tokenizer_config.json", "add_bos_token",
                              vocab->adds_bos, &vocab->adds_bos, error);
    if (code == 0)
        code = flin_json_flag(vocab->settings, "tokenizer_config.json", "add_prefix_space",
                              *adds_space, adds_space, error);
    if (vocab->adds_bos < 0) vocab->adds_bos = vocab->whole == NULL;
    if (vocab->bos < 0) vocab->adds_bos = 0;
    return code;
}

/* ------------------------------------------------------------------------------ tokenizer.model */

int flin_spm_export_model(flin_gguf_writer *writer, flin_vocabulary *vocab,
                          const flin_sentencepiece *model, flashinfer_error *error)
{
    int adds_space = model->adds_space;
    float *scores = NULL;
    int code = flin_vocabulary_reserve(vocab, error);

    vocab->file = "tokenizer.model";
    if (code == 0 && model->count > vocab->count)
        code = flin_fail(error, FLASHINFER_ECHECKPOINT,
                         "tokenizer.model has %u pieces, more than the model's vocab_size %u",
                         model->count, vocab->count);
    if (code == 0 && (scores = new_scores(vocab, error)) == NULL) code = FLASHINFER_ENOMEM;
    for (uint32_t id = 0; id < model->count && code == 0; id++) {
        const flin_piece *piece = &model->pieces[id];
        code = flin_vocabulary_place(vocab, piece->text, id, piece->type, error);
        scores[id] = piece->score;
    }
    if (code == 0) code = flin_vocabulary_place_added(vocab, error);
    if (code == 0) code = flin_vocabulary_sort(vocab, error);
    if (code == 0) {
        if (vocab->bos < 0) vocab->bos = model->bos;
        if (vocab->eos < 0) vocab->eos = model->eos;
        if (vocab->padding < 0) vocab->padding = model->padding;
        flin_vocabulary_read_specials(vocab);
        vocab->unknown = model->unknown;
        code = read_settings(vocab, &adds_space, error);
    }
    if (code == 0) put_all(writer, vocab, scores, adds_space);
    free(scores);
    return code;
}

/* ------------------------------------------------------------------------------- tokenizer.json */

/* What its parts do with a text. */
typedef struct whole_parts {
    int adds_space;
    int writes_spaces; /* as U+2581 */
    int splits;        /* before every U+2581 */
} whole_parts;

static int member_is(const cJSON *object, const char *key, const char *wanted)
{
    const char *text = flin_json_text(object, key);
    return text != NULL && strcmp(text, wanted) == 0;
}

static int unsupported_part(const char *part, const cJSON *node, flashinfer_error *error)
{
    const char *type = flin_json_text(node, "type");
    char what[96];

    (void)snprintf(what, sizeof what, "its %s %.32s is not one of SentencePiece's", part,
                   type != NULL && flin_json_is_plain(type) ? type : "without a type");
    return flin_tokenizer_unsupported(what, error);
}

int flin_spm_is_whole(const flin_vocabulary *vocab)
{
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(vocab->whole, "model");
    const cJSON *splitter = cJSON_GetObjectItemCaseSensitive(vocab->whole, "pre_tokenizer");

    return flin_json_is_set(model, "byte_fallback") && !flin_json_is_type(splitter, "ByteLevel");
}

static int check_model(const cJSON *model, flashinfer_error *error)
{
    if (!flin_json_is_type(model, "BPE"))
        return flin_tokenizer_unsupported("its model is not BPE", error);
    if (flin_json_is_set(model, "dropout"))
        return flin_tokenizer_unsupported("its model drops merges at random", error);
    if (flin_json_is_set(model, "continuing_subword_prefix") ||
        flin_json_is_set(model, "end_of_word_suffix"))
        return flin_tokenizer_unsupported("its model marks parts of words", error);
    if (flin_json_is_set(model, "ignore_merges"))
        return flin_tokenizer_unsupported("its model uses ignore_merges", error);
    return 0;
}

static int read_normalizer(const cJSON *node, int nested, whole_parts *parts,
                           flashinfer_error *error)
{
    const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(node, "pattern"), *entry;
    int code = 0;

    if (node == NULL || cJSON_IsNull(node)) return 0;
    if (flin_json_is_type(node, "Prepend") && member_is(node, "prepend", UNDERLINE)) {
        parts->adds_space = 1;
        return 0;
    }
    if (flin_json_is_type(node, "Replace") && member_is(pattern, "String", " ") &&
        member_is(node, "content", UNDERLINE)) {
        parts->writes_spaces = 1;
        return 0;
    }
    if (!flin_json_is_type(node, "Sequence") || nested)
        return unsupported_part("normalizer", node, error);
    cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(node, "normalizers"))
    {
        code = read_normalizer(entry, 1, parts, error);
        if (code != 0) return code;
    }
    return 0;
}

/* Metaspace puts no space before a text that begins with one; SentencePiece, which it stands for,
   does. */
static int read_splitter(const cJSON *node, whole_parts *parts, flashinfer_error *error)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(node, "pretokenizers");
    const cJSON *pattern;
    int is_metaspace;

    if (flin_json_is_type(node, "Sequence") && cJSON_GetArraySize(list) == 1) node = list->child;
    if (node == NULL || cJSON_IsNull(node)) return 0;
    pattern = cJSON_GetObjectItemCaseSensitive(node, "pattern");
    is_metaspace =
        flin_json_is_type(node, "Metaspace") && member_is(node, "replacement", UNDERLINE);
    if (is_metaspace) {
        const char *scheme = flin_json_text(node, "prepend_scheme");
        const cJSON *adds = cJSON_GetObjectItemCaseSensitive(node, "add_prefix_space");
        const cJSON *splits = cJSON_GetObjectItemCaseSensitive(node, "split");
        if (scheme != NULL ? strcmp(scheme, "never") != 0 : !cJSON_IsFalse(adds))
            parts->adds_space = 1;
        parts->writes_spaces = 1;
        parts->splits = !cJSON_IsFalse(splits);
        return 0;
    }
    /* at spaces, of which none are left */
    if (parts->writes_spaces && flin_json_is_type(node, "Split") &&
        member_is(pattern, "String", " "))
        return 0;
    return unsupported_part("pre_tokenizer", node, error);
}

/* Added tokens that are text: found as SentencePiece finds its own only where no space comes before
   a text, and none may eat the spaces beside it. */
static int check_added(const cJSON *list, const whole_parts *parts, flashinfer_error *error)
{
    static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
    const cJSON *entry;

    cJSON_ArrayForEach(entry, list)
    {
        if (flin_json_is_set(entry, "special")) continue;
        if (parts->adds_space)
            return flin_tokenizer_unsupported(
                "it has added tokens that are not special, and a space before texts; put "
                "tokenizer.model beside it",
                error);
        for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
            if (flin_json_is_set(entry, flags[i]))
                return flin_tokenizer_unsupported(
                    "an added token that is not special is single_word, lstrip, rstrip or "
                    "normalized",
                    error);
    }
    return 0;
}

/* Types that only the texts tell: bytes, and the unknown token. */
static int type_tokens(flin_vocabulary *vocab, const whole_parts *parts, flashinfer_error *error)
{
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(vocab->whole, "model");
    const char *unknown = flin_json_text(model, "unk_token");
    uint32_t byte_count = 0;

    for (uint32_t id = 0; id < vocab->count; id++) {
        flin_string text = {vocab->tokens[id], 0};
        if (text.data == NULL) continue;
        text.bytes = strlen(text.data);
        if (flin_piece_byte(text) >= 0) {
            vocab->types[id] = FLIN_TOKEN_BYTE;
            byte_count++;
        } else if (unknown != NULL && strcmp(text.data, unknown) == 0) {
            vocab->types[id] = FLIN_TOKEN_UNKNOWN;
            vocab->unknown = (int32_t)id;
        } else if (parts->splits && strstr(text.data + 1, UNDERLINE) != NULL) {
            return flin_tokenizer_unsupported(
                "its pre_tokenizer splits texts at spaces, but tokens have some inside", error);
        }
    }
    if (byte_count == 256) return 0;
    return flin_fail(error, FLASHINFER_ECHECKPOINT,
                     "tokenizer.json has %u tokens for bytes; with byte_fallback it must be 256",
                     byte_count);
}

/* ------------------------------------------------------------------- merges that scores can say */

static int compare_pairs(const void *left, const void *right)
{
    uint64_t one = *(const uint64_t *)left, two = *(const uint64_t *)right;
    return (one > two) - (one < two);
}

static int is_normal(const flin_vocabulary *vocab, int32_t id)
{
    return id >= 0 && vocab->types[id] == FLIN_TOKEN_NORMAL;
}

/* Pairs of ids that merge, sorted, and the score of what each makes. A merge with a token that is
   not normal is as if absent, as for GPT-2. */
static int score_merges(const flin_vocabulary *vocab, float *scores, uint64_t *pairs,
                        size_t *pair_count, flashinfer_error *error)
{
    const flin_string nothing = {"", 0};
    uint32_t made = 0; /* pieces so far: scores 0, -1, -2, ... */
    int32_t last = -1;

    *pair_count = 0;
    for (uint32_t i = 0; i < vocab->merge_count; i++) {
        const flin_text_merge *merge = &vocab->merges[i];
        int32_t left = flin_vocabulary_find_joined(vocab, merge->left, nothing);
        int32_t right = flin_vocabulary_find_joined(vocab, merge->right, nothing);
        int32_t piece = flin_vocabulary_find_joined(vocab, merge->left, merge->right);
        if (!is_normal(vocab, left) || !is_normal(vocab, right) || !is_normal(vocab, piece))
            continue;
        pairs[(*pair_count)++] = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
        if (piece == last) continue;
        if (scores[piece] < 1) /* was made before, see below */
            return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                             "tokenizer.json: merge %u makes token %d, as an earlier merge does, "
                             "but merges of other tokens lie between; SentencePiece has no such "
                             "order",
                             i + 1, (int)piece);
        scores[piece] = -(float)made++;
        last = piece;
    }
    qsort(pairs, *pair_count, sizeof *pairs, compare_pairs);
    return 0;
}

/* Every way to make a piece of two must be a merge. */
static int check_cuts(const flin_vocabulary *vocab, uint32_t id, const uint64_t *pairs,
                      size_t pair_count, flashinfer_error *error)
{
    const char *text = vocab->tokens[id];
    const flin_string nothing = {"", 0};
    size_t bytes = strlen(text), first_bytes = 0;

    for (size_t at = 0; at < bytes;) {
        flin_utf8 next = flin_utf8_read((const uint8_t *)text + at, bytes - at);
        flin_string left = {text, at}, right = {text + at, bytes - at};
        int32_t left_id, right_id;
        uint64_t pair;
        int is_left, is_right;
        at += next.bytes;
        if (left.bytes == 0) {
            first_bytes = next.bytes;
            continue;
        }
        left_id = flin_vocabulary_find_joined(vocab, left, nothing);
        right_id = flin_vocabulary_find_joined(vocab, right, nothing);
        is_left = left.bytes == first_bytes || is_normal(vocab, left_id);
        is_right = right.bytes == next.bytes || is_normal(vocab, right_id);
        if (!is_left || !is_right) continue;
        pair = (uint64_t)(uint32_t)left_id << 32 | (uint32_t)right_id;
        if (left_id < 0 || right_id < 0 ||
            bsearch(&pair, pairs, pair_count, sizeof *pairs, compare_pairs) == NULL)
            return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                             "tokenizer.json: no merge makes token %u of its first %zu bytes and "
                             "the rest, as SentencePiece would; such merges cannot be packed",
                             id, left.bytes);
    }
    return 0;
}

/* Scores of all tokens. While merges are read, 1 means that no merge has made the token yet. */
static int make_scores(const flin_vocabulary *vocab, float *scores, flashinfer_error *error)
{
    uint64_t *pairs = malloc((vocab->merge_count + (size_t)1) * sizeof *pairs);
    size_t pair_count = 0;
    int code;

    if (pairs == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for the tokenizer's merges");
    for (uint32_t id = 0; id < vocab->count; id++) scores[id] = 1;
    code = score_merges(vocab, scores, pairs, &pair_count, error);
    for (uint32_t id = 0; id < vocab->count; id++) {
        if (scores[id] > 0) scores[id] = 0;
        if (code == 0 && is_normal(vocab, (int32_t)id))
            code = check_cuts(vocab, id, pairs, pair_count, error);
    }
    free(pairs);
    return code;
}

/* Tokens with their types, special ones too, then merges. */
static int read_whole(flin_vocabulary *vocab, whole_parts *parts, flashinfer_error *error)
{
    const cJSON *whole = vocab->whole;
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(whole, "model");
    const cJSON *normalizer = cJSON_GetObjectItemCaseSensitive(whole, "normalizer");
    const cJSON *splitter = cJSON_GetObjectItemCaseSensitive(whole, "pre_tokenizer");
    const cJSON *tokens = cJSON_GetObjectItemCaseSensitive(model, "vocab");
    const cJSON *added = cJSON_GetObjectItemCaseSensitive(whole, "added_tokens");
    int code = check_model(model, error);

    if (code == 0) code = read_normalizer(normalizer, 0, parts, error);
    if (code == 0) code = read_splitter(splitter, parts, error);
    if (code == 0 && !parts->writes_spaces)
        code = flin_tokenizer_unsupported("nothing in it writes spaces as U+2581", error);
    if (code == 0) code = check_added(added, parts, error);
    if (code == 0) code = flin_vocabulary_reserve(vocab, error);
    if (code == 0) code = flin_vocabulary_place_table(vocab, tokens, FLIN_TOKEN_NORMAL, error);
    if (code == 0) code = type_tokens(vocab, parts, error);
    if (code == 0) code = flin_vocabulary_place_added(vocab, error);
    if (code == 0) code = flin_vocabulary_sort(vocab, error);
    if (code != 0) return code;
    flin_vocabulary_read_specials(vocab);
    return flin_vocabulary_read_merges(vocab, error);
}

int flin_spm_export_whole(flin_gguf_writer *writer, flin_vocabulary *vocab, flashinfer_error *error)
{
    whole_parts parts = {0};
    float *scores = NULL;
    int code = read_whole(vocab, &parts, error);

    if (code == 0) code = read_settings(vocab, &parts.adds_space, error);
    if (code == 0 && (scores = new_scores(vocab, error)) == NULL) code = FLASHINFER_ENOMEM;
    if (code == 0) code = make_scores(vocab, scores, error);
    if (code == 0) put_all(writer, vocab, scores, parts.adds_space);
    free(scores);
    return code;
}
