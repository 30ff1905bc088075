/*
 * tokenizer_export.c - from the tokenizer files of a checkpoint to the arrays of a model file:
 * which kind of tokenizer they are, and byte-level BPE.
 *
 * tokenizer.model is SentencePiece's, and so is a tokenizer.json that falls back to bytes
 * (tokenizer_spm.c). All others are byte-level BPE or refused. Its tokenizer.json is the whole
 * truth when it is there. Without it vocab.json and merges.txt hold the tables. How texts are cut
 * then, and which tokens are special, stands in tokenizer_config.json, special_tokens_map.json and
 * added_tokens.json, all optional.
 */
#define _GNU_SOURCE
#include "pack/tokenizer_export.h"

#include <stdlib.h>
#include <string.h>

#include "pack/tokenizer_model.h"
#include "pack/tokenizer_rule.h"
#include "pack/tokenizer_spm.h"
#include "pack/tokenizer_vocabulary.h"

/* --------------------------------------------------------------------------------------- tables */

/* merges.txt: one merge a line, after a line "#version: ..." */
static int read_merge_lines(flin_vocabulary *vocab, const char *text, size_t text_bytes,
                            flashinfer_error *error)
{
    const char *at = text;
    const char *end = at + text_bytes;
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
        int is_version = at == text && bytes >= 8 && memcmp(at, "#version", 8) == 0;
        if (bytes > 0 && at[bytes - 1] == '\r') bytes--;
        if (bytes > 0 && !is_version) code = flin_vocabulary_split_merge(vocab, at, bytes, error);
        at = next;
    }
    return code;
}

/* ------------------------------------------------------------------------------ what we can run */

static int check_algorithm(const cJSON *whole, flashinfer_error *error)
{
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(whole, "model");

    if (flin_json_text(model, "type") != NULL && !flin_json_is_type(model, "BPE"))
        return flin_tokenizer_unsupported("its model is not BPE", error);
    if (flin_json_is_set(model, "dropout"))
        return flin_tokenizer_unsupported("its model drops merges at random", error);
    if (flin_json_is_set(model, "continuing_subword_prefix") ||
        flin_json_is_set(model, "end_of_word_suffix"))
        return flin_tokenizer_unsupported("its model marks parts of words", error);
    if (flin_json_is_set(model, "byte_fallback"))
        return flin_tokenizer_unsupported("its model uses byte_fallback", error);
    return 0;
}

static int read_settings(flin_vocabulary *vocab, flashinfer_error *error)
{
    int adds_prefix_space = 0;
    int code;

    vocab->adds_bos = 0;
    if (vocab->whole != NULL) return flin_vocabulary_read_processor(vocab, error);
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

/* --------------------------------------------------------------------------------------- export */

static void put_all(flin_gguf_writer *writer, const flin_vocabulary *vocab,
                    const flin_split_rule *rule)
{
    flin_gguf_put_string(writer, "tokenizer.ggml.model", "gpt2");
    flin_gguf_put_string(writer, "tokenizer.ggml.pre", rule->names[0]);
    flin_vocabulary_put_tokens(writer, vocab);
    flin_gguf_put_string_array(writer, "tokenizer.ggml.merges", vocab->merge_count);
    for (uint32_t i = 0; i < vocab->merge_count; i++) {
        const flin_text_merge *pair = &vocab->merges[i];
        const char *pieces[3] = {pair->left.data, " ", pair->right.data};
        size_t bytes[3] = {pair->left.bytes, 1, pair->right.bytes};
        flin_gguf_put_item(writer, pieces, bytes, 3);
    }
    flin_vocabulary_put_ids(writer, vocab);
}

/* table: the vocabulary; lines: merges.txt, NULL where tokenizer.json has the merges. */
static int read_tables(flin_vocabulary *vocab, const cJSON *table, const char *lines,
                       size_t lines_bytes, const flin_split_rule **rule, flashinfer_error *error)
{
    int code = flin_vocabulary_reserve(vocab, error);

    if (code == 0 && vocab->whole != NULL) code = check_algorithm(vocab->whole, error);
    if (code == 0)
        code = vocab->whole != NULL ? flin_tokenizer_rule(vocab->whole, rule, error)
                                    : flin_tokenizer_rule_of_class(vocab->settings, rule, error);
    if (code == 0) code = flin_vocabulary_place_table(vocab, table, FLIN_TOKEN_NORMAL, error);
    if (code == 0) code = flin_vocabulary_place_added(vocab, error);
    if (code == 0 && vocab->used == 0)
        code = flin_fail(error, FLASHINFER_ECHECKPOINT, "%s has no tokens", vocab->file);
    if (code == 0) code = flin_vocabulary_sort(vocab, error);
    if (code != 0) return code;
    flin_vocabulary_read_specials(vocab);
    code = lines == NULL ? flin_vocabulary_read_merges(vocab, error)
                         : read_merge_lines(vocab, lines, lines_bytes, error);
    return code != 0 ? code : read_settings(vocab, error);
}

static int export_plain(flin_gguf_writer *writer, flin_vocabulary *vocab, int directory,
                        flashinfer_error *error)
{
    const flin_split_rule *rule = NULL;
    cJSON *plain = NULL;
    char *lines = NULL;
    size_t lines_bytes = 0;
    int code = flin_json_load(directory, "vocab.json", 0, &plain, error);

    vocab->file = "vocab.json";
    if (code == 0 && plain == NULL)
        code = flin_fail(error, FLASHINFER_ECHECKPOINT,
                         "the checkpoint has neither tokenizer.model nor tokenizer.json nor "
                         "vocab.json");
    if (code == 0) code = flin_text_load(directory, "merges.txt", 1, &lines, &lines_bytes, error);
    if (code == 0) code = read_tables(vocab, plain, lines, lines_bytes, &rule, error);
    if (code == 0) put_all(writer, vocab, rule);
    free(lines);
    cJSON_Delete(plain);
    return code;
}

static int export_whole(flin_gguf_writer *writer, flin_vocabulary *vocab, flashinfer_error *error)
{
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(vocab->whole, "model");
    const cJSON *table = cJSON_GetObjectItemCaseSensitive(model, "vocab");
    const flin_split_rule *rule = NULL;
    int code = read_tables(vocab, table, NULL, 0, &rule, error);

    if (code == 0) put_all(writer, vocab, rule);
    return code;
}

int flin_tokenizer_export(flin_gguf_writer *writer, int directory,
                          const flin_checkpoint *checkpoint, flashinfer_error *error)
{
    flin_vocabulary vocab;
    flin_sentencepiece *model = NULL;
    int code;

    flin_vocabulary_begin(&vocab, checkpoint);
    code = flin_vocabulary_load(&vocab, directory, error);
    if (code == 0) code = flin_sentencepiece_load(directory, &model, error);
    if (code != 0) {
    } else if (model != NULL) {
        code = flin_spm_export_model(writer, &vocab, model, error);
    } else if (vocab.whole == NULL) {
        code = export_plain(writer, &vocab, directory, error);
    } else if (flin_spm_is_whole(&vocab)) {
        code = flin_spm_export_whole(writer, &vocab, error);
    } else {
        code = export_whole(writer, &vocab, error);
    }
    flin_vocabulary_end(&vocab);
    flin_sentencepiece_free(model);
    return code;
}
