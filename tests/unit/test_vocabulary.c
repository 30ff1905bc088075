/*
 * test_vocabulary.c - files that hold a vocabulary and no tensors, through the public interface:
 * what opens them, what they can be used for, and what is refused.
 */
#define _GNU_SOURCE
#include "text_fixture.h"

#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static char path[] = "/tmp/flashinfer-vocabulary-XXXXXX";

static const char *const tokens[] = {"<s>", "a", "b", "ab", "\xc4\xa0"};
static const int32_t types[] = {3, 1, 1, 1, 1};
static const char *const merges[] = {"a b"};

static metadata write_keys(const char *pre)
{
    metadata made = {{0}, 0};

    add_text(&made, "general.architecture", "of no kind known here");
    add_text(&made, "general.name", "letters");
    add_text(&made, "tokenizer.ggml.model", "gpt2");
    add_text(&made, "tokenizer.ggml.pre", pre);
    add_texts(&made, "tokenizer.ggml.tokens", tokens, COUNT(tokens));
    add_numbers(&made, "tokenizer.ggml.token_type", types, COUNT(types));
    add_texts(&made, "tokenizer.ggml.merges", merges, COUNT(merges));
    add_u32(&made, "tokenizer.ggml.bos_token_id", 0);
    return made;
}

/* Takes the metadata over. */
static void write_plain(metadata *from)
{
    FILE *file = fopen(path, "wb");
    buffer header = {0};

    put_u32(&header, FLIN_GGUF_MAGIC);
    put_u32(&header, FLIN_GGUF_VERSION);
    put_u64(&header, 0);
    put_u64(&header, from->count);
    put(&header, from->entries.data, from->entries.bytes);
    assert_non_null(file);
    assert_int_equal(fwrite(header.data, 1, header.bytes, file), header.bytes);
    assert_int_equal(fclose(file), 0);
    free(header.data);
    free(from->entries.data);
}

static int open_plain(uint32_t flags, uint32_t verify, flashinfer_model **model,
                      flashinfer_error *error)
{
    flashinfer_options options;

    flashinfer_error_init(error, sizeof *error);
    flashinfer_options_init(&options, sizeof options);
    options.flags = flags;
    options.verify = verify;
    return flashinfer_model_open(path, &options, model, error);
}

static void its_texts_can_be_used(void **state)
{
    metadata keys = write_keys("llama-bpe");
    flashinfer_decoder *decoder;
    flashinfer_model *model;
    flashinfer_error error;
    flashinfer_info info;
    const char *piece;
    char text[16];
    int32_t ids[8];
    size_t count, bytes;

    (void)state;
    write_plain(&keys);
    if (open_plain(FLASHINFER_OPEN_METADATA, 0, &model, &error) != 0) fail_msg("%s", error.text);
    assert_int_equal(
        flashinfer_tokenize(model, "ab a<s>", 7, FLASHINFER_TOKENIZE_BOS, ids, 8, &count, &error),
        0);
    assert_int_equal(count, 4); /* bos, as llama-bpe has it; < s > have no tokens here */
    assert_memory_equal(ids, ((int32_t[]){0, 3, 4, 1}), 4 * sizeof *ids);
    assert_int_equal(
        flashinfer_tokenize(model, "ab<s>", 5, FLASHINFER_TOKENIZE_SPECIAL, ids, 8, &count, &error),
        0);
    assert_int_equal(count, 2);
    assert_memory_equal(ids, ((int32_t[]){3, 0}), 2 * sizeof *ids);
    assert_int_equal(
        flashinfer_detokenize(model, (int32_t[]){3, 4, 1}, 3, text, 16, &bytes, &error), 0);
    assert_int_equal(bytes, 4);
    assert_memory_equal(text, "ab a", 4);
    assert_int_equal(flashinfer_decoder_create(model, &decoder, &error), 0);
    assert_int_equal(flashinfer_decoder_push(decoder, 3, &piece, NULL, &error), 0);
    assert_string_equal(piece, "ab");
    flashinfer_decoder_destroy(decoder);
    info.size = sizeof info;
    assert_int_equal(flashinfer_model_info(model, &info), 0);
    assert_int_equal(info.vocab_count, COUNT(tokens));
    assert_int_equal(info.tensor_count, 0);
    assert_int_equal(info.bos_token, 0);
    assert_int_equal(info.layer_count, 0);
    assert_int_equal(info.dtype_ffn, FLASHINFER_DTYPE_DEFAULT);
    assert_string_equal(info.name, "letters");
    assert_string_equal(info.architecture, "");
    assert_string_equal(info.predictors, "");
    flashinfer_model_close(model);
}

static void nothing_else_can(void **state)
{
    metadata keys = write_keys("gpt-2");
    flashinfer_session *session;
    flashinfer_model *model;
    flashinfer_options options;
    flashinfer_error error;
    flashinfer_plan plan = {.size = sizeof plan};

    (void)state;
    write_plain(&keys);
    assert_int_equal(open_plain(0, 0, &model, &error), FLASHINFER_EFORMAT);
    assert_non_null(strstr(error.text, "FLASHINFER_OPEN_METADATA"));
    assert_null(model);
    assert_int_equal(open_plain(FLASHINFER_OPEN_METADATA, FLASHINFER_VERIFY_OPEN, &model, &error),
                     FLASHINFER_EUNSUPPORTED);
    assert_non_null(strstr(error.text, "no checksums"));
    flashinfer_options_init(&options, sizeof options);
    assert_int_equal(flashinfer_plan_file(path, &options, &plan, &error), FLASHINFER_EFORMAT);
    options.flags = FLASHINFER_OPEN_METADATA;
    assert_int_equal(flashinfer_plan_file(path, &options, &plan, &error), FLASHINFER_EFORMAT);
    assert_int_equal(open_plain(FLASHINFER_OPEN_METADATA, 0, &model, &error), 0);
    assert_int_equal(flashinfer_session_create(model, &session, &error), FLASHINFER_EINVAL);
    assert_int_equal(flashinfer_model_verify(model, &error), FLASHINFER_EUNSUPPORTED);
    assert_int_equal(flashinfer_model_plan(model, &plan), FLASHINFER_EINVAL);
    assert_int_equal(flashinfer_model_set_budget(model, 1, &error), FLASHINFER_EINVAL);
    flashinfer_model_close(model);
}

/* An unknown name is refused with those that are known; the file opens without text. */
static void unknown_names_are_refused(void **state)
{
    metadata keys = write_keys("gpt-5");
    flashinfer_model *model;
    flashinfer_error error;
    size_t count;

    (void)state;
    write_plain(&keys);
    assert_int_equal(open_plain(FLASHINFER_OPEN_METADATA, 0, &model, &error),
                     FLASHINFER_EUNSUPPORTED);
    assert_non_null(
        strstr(error.text, "tokenizer.ggml.pre is \"gpt-5\", this build knows gpt-2, "));
    assert_non_null(strstr(error.text, ", deepseek-v3; FLASHINFER_OPEN_NO_TOKENIZER"));
    assert_int_equal(
        open_plain(FLASHINFER_OPEN_METADATA | FLASHINFER_OPEN_NO_TOKENIZER, 0, &model, &error), 0);
    assert_int_equal(flashinfer_tokenize(model, "a", 1, 0, NULL, 0, &count, &error),
                     FLASHINFER_EUNSUPPORTED);
    flashinfer_model_close(model);
}

static void a_file_of_nothing_is_refused(void **state)
{
    metadata keys = {{0}, 0};
    flashinfer_model *model;
    flashinfer_error error;

    (void)state;
    add_text(&keys, "general.architecture", "llama");
    write_plain(&keys);
    assert_int_equal(open_plain(FLASHINFER_OPEN_METADATA, 0, &model, &error), FLASHINFER_EFORMAT);
    assert_non_null(strstr(error.text, "a GGUF file without weights"));
    keys = (metadata){{0}, 0};
    add_text(&keys, "tokenizer.ggml.tokens", "not a list");
    write_plain(&keys);
    assert_int_equal(open_plain(FLASHINFER_OPEN_METADATA, 0, &model, &error), FLASHINFER_EFORMAT);
}

static int make_path(void **state)
{
    int file = mkstemp(path);

    (void)state;
    return file < 0 || close(file) != 0;
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_texts_can_be_used),
        cmocka_unit_test(nothing_else_can),
        cmocka_unit_test(unknown_names_are_refused),
        cmocka_unit_test(a_file_of_nothing_is_refused),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
