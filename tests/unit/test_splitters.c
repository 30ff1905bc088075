/*
 * test_splitters.c - every name that tokenizer.ggml.pre may have, gemma4, and NFC, against Hugging
 * Face tokenizers (tests/data/tokenizer, made by tests/tools/make_splitter_cases.py).
 *
 * With failing_heap.h it also fails the heap.
 */
#include "text_fixture.h"

#include "failing_heap.h"
#include "text/normal.h"
#include "text/split.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define LINES_MAX 400u

/* A file's first part: a vocabulary without tokenizer.ggml.pre. */
static metadata take_vocabulary(reader *from)
{
    flin_string blob = take_bytes(from);
    metadata made = {{0}, 0};

    assert_true(blob.bytes > sizeof made.count);
    memcpy(&made.count, blob.data, sizeof made.count);
    put(&made.entries, blob.data + sizeof made.count, blob.bytes - sizeof made.count);
    return made;
}

static void open_with(fixture *made, metadata *from, uint32_t vocab_count)
{
    flashinfer_error error = {.size = sizeof error};

    if (open_fixture(made, from, vocab_count, &error) != 0) fail_msg("%s", error.text);
}

/* The ids that come next in a file are those of a line, and give a text. */
static void check_line(const fixture *with, const char *name, flin_string line, flin_string back,
                       reader *from)
{
    flashinfer_error error = {.size = sizeof error};
    int32_t ids[2048];
    char text[4096];
    size_t count, bytes;
    uint32_t wanted_count = take_number(from);

    if (flin_tokenizer_encode(with->tokenizer, line.data, line.bytes, 0, ids, COUNT(ids), &count,
                              &error) != 0)
        fail_msg("%s: %s", name, error.text);
    for (size_t i = 0; i < wanted_count; i++) {
        uint32_t wanted = take_number(from);
        if (i >= count || (uint32_t)ids[i] != wanted)
            fail_msg("%s: token %zu of \"%.*s\" is not %u", name, i, (int)line.bytes, line.data,
                     wanted);
    }
    if (count != wanted_count)
        fail_msg("%s: \"%.*s\" has %zu tokens, not %u", name, (int)line.bytes, line.data, count,
                 wanted_count);
    if (flin_tokenizer_decode(with->tokenizer, ids, count, text, sizeof text, &bytes, &error) != 0)
        fail_msg("%s: %s", name, error.text);
    assert_int_equal(bytes, back.bytes);
    assert_memory_equal(text, back.data, bytes);
}

static void every_name_cuts_as_its_model_does(void **state)
{
    buffer file = read_data("splitters.bin");
    reader from = {file.data, file.data + file.bytes}, vocabulary = from;
    uint32_t vocab_count, name_count, line_count, known_count = 0;
    flin_string lines[LINES_MAX], normal[LINES_MAX];

    (void)state;
    (void)take_bytes(&from);
    vocab_count = take_number(&from);
    name_count = take_number(&from);
    line_count = take_number(&from);
    assert_in_range(line_count, 200, LINES_MAX);
    for (uint32_t i = 0; i < line_count; i++) {
        lines[i] = take_bytes(&from);
        normal[i] = take_bytes(&from);
    }
    for (uint32_t i = 0; i < name_count; i++) {
        flin_string name = take_bytes(&from);
        const flin_string *back = take_number(&from) ? normal : lines;
        reader copy = vocabulary;
        metadata written = take_vocabulary(&copy);
        char text[32] = "";
        fixture made;
        assert_true(name.bytes < sizeof text);
        memcpy(text, name.data, name.bytes);
        add_text(&written, "tokenizer.ggml.pre", text);
        open_with(&made, &written, vocab_count);
        for (uint32_t k = 0; k < line_count; k++) check_line(&made, text, lines[k], back[k], &from);
        close_fixture(&made);
    }
    assert_ptr_equal(from.at, from.end);
    for (uint32_t i = 0; i < flin_split_rule_count; i++)
        for (uint32_t k = 0; k < FLIN_SPLIT_NAMES_MAX; k++)
            known_count += flin_split_rules[i].names[k] != NULL;
    assert_int_equal(name_count, known_count - 1); /* all but gemma4 */
    free(file.data);
}

static void gemma4_merges_characters(void **state)
{
    buffer file = read_data("pieces.bin");
    reader from = {file.data, file.data + file.bytes};
    metadata written = take_vocabulary(&from);
    uint32_t vocab_count = take_number(&from), line_count = take_number(&from);
    flin_string lines[LINES_MAX];
    fixture made;

    (void)state;
    assert_in_range(line_count, 200, LINES_MAX);
    for (uint32_t i = 0; i < line_count; i++) lines[i] = take_bytes(&from);
    open_with(&made, &written, vocab_count);
    for (uint32_t i = 0; i < line_count; i++)
        check_line(&made, "gemma4", lines[i], lines[i], &from);
    assert_ptr_equal(from.at, from.end);
    close_fixture(&made);
    free(file.data);
}

/* What all vocabularies of pieces demand holds for this one too. */
static void wrong_pieces_are_refused(void **state)
{
    static const char *const tokens[][2] = {{"a", "<0x0a>"}, {"a", "no byte"}, {"", "<0x0A>"}};
    static const char *const merges[] = {"a a"};
    static const int32_t types[] = {1, 6};

    (void)state;
    for (size_t i = 0; i < COUNT(tokens); i++) {
        flashinfer_error error = {.size = sizeof error};
        metadata written = {{0}, 0};
        fixture made;
        add_text(&written, "tokenizer.ggml.model", "gemma4");
        add_texts(&written, "tokenizer.ggml.tokens", tokens[i], 2);
        add_numbers(&written, "tokenizer.ggml.token_type", types, 2);
        add_texts(&written, "tokenizer.ggml.merges", merges, 1);
        assert_int_equal(open_fixture(&made, &written, 2, &error), FLASHINFER_EFORMAT);
        assert_non_null(strstr(error.text, i < 2 ? "of type byte" : "has no text"));
        close_fixture(&made);
    }
}

/* ---- normalisation ---- */

static int normalise(const char *text, size_t bytes, buffer *to)
{
    uint64_t memory[8];
    flin_normaliser with = {{memory, 0, NULL}, {memory, 0, NULL}};
    const uint8_t *normal = NULL;
    size_t normal_bytes = 0;
    int code = flin_normalise(&with, (const uint8_t *)text, bytes, &normal, &normal_bytes);

    if (code == 0) put(to, normal, normal_bytes);
    free(with.text.heap);
    free(with.codes.heap);
    return code;
}

static void becomes(const char *text, size_t bytes, const char *wanted, size_t wanted_bytes)
{
    buffer found = {0};

    assert_int_equal(normalise(text, bytes, &found), 0);
    if (found.bytes != wanted_bytes ||
        (wanted_bytes != 0 && memcmp(found.data, wanted, wanted_bytes) != 0))
        fail_msg("\"%.*s\" becomes \"%.*s\"", (int)bytes, text, (int)found.bytes,
                 (const char *)found.data);
    free(found.data);
}

static void texts_become_normal(void **state)
{
    buffer file = read_data("normal.bin");
    reader from = {file.data, file.data + file.bytes};
    uint32_t count = take_number(&from);

    (void)state;
    assert_true(count > 1500);
    for (uint32_t i = 0; i < count; i++) {
        flin_string text = take_bytes(&from), wanted = take_bytes(&from);
        becomes(text.data, text.bytes, wanted.data, wanted.bytes);
        becomes(wanted.data, wanted.bytes, wanted.data, wanted.bytes); /* once is enough */
    }
    assert_ptr_equal(from.at, from.end);
    free(file.data);
}

/* They end what combines, and stay. */
static void bytes_that_are_no_characters_stay(void **state)
{
    (void)state;
    becomes("e\xff\xcc\x81", 4, "e\xff\xcc\x81", 4);
    becomes("\xff"
            "e\xcc\x81\xfe",
            5, "\xff\xc3\xa9\xfe", 4);
    becomes("e\xcc\x81\xcc", 4, "\xc3\xa9\xcc", 3);
    becomes("\xe1\x84\x80\xe1\x85\xa1\xe1", 7, "\xea\xb0\x80\xe1", 4);
}

/* Putting marks in order by comparing each with each would not end within any test's time limit. */
static void many_marks_take_no_quadratic_time(void **state)
{
    static const char marks[] = "\xcc\x81\xcc\xa3"; /* U+0301, U+0323: the other way round */
    buffer text = {0}, found = {0};

    (void)state;
    put(&text, "q", 1);
    for (int i = 0; i < 500000; i++) put(&text, marks, 4);
    assert_int_equal(normalise((const char *)text.data, text.bytes, &found), 0);
    assert_int_equal(found.bytes, text.bytes);
    assert_memory_equal(found.data, "q\xcc\xa3\xcc\xa3", 5);
    assert_memory_equal(found.data + found.bytes - 4, "\xcc\x81\xcc\x81", 4);
    free(text.data);
    free(found.data);
}

#ifdef FLIN_TEST_WRAP_MALLOC
static void no_memory_to_normalise(void **state)
{
    static const uint8_t texts[2][4] = {"abc", "e\xcc\x81"};
    uint64_t memory[8];
    flin_normaliser with = {{memory, 0, NULL}, {memory, 0, NULL}};
    const uint8_t *normal;
    size_t normal_bytes;
    int codes[3];

    (void)state;
    heap_fails = 1;
    codes[0] = flin_normalise(&with, texts[0], 3, &normal, &normal_bytes); /* takes none */
    codes[1] = flin_normalise(&with, texts[1], 3, &normal, &normal_bytes);
    with.text.bytes = sizeof memory;
    codes[2] = flin_normalise(&with, texts[1], 3, &normal, &normal_bytes);
    heap_fails = 0;
    assert_int_equal(codes[0], 0);
    assert_int_equal(codes[1], -1);
    assert_int_equal(codes[2], -1);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_cuts_as_its_model_does),
        cmocka_unit_test(gemma4_merges_characters),
        cmocka_unit_test(wrong_pieces_are_refused),
        cmocka_unit_test(texts_become_normal),
        cmocka_unit_test(bytes_that_are_no_characters_stay),
        cmocka_unit_test(many_marks_take_no_quadratic_time),
#ifdef FLIN_TEST_WRAP_MALLOC
        cmocka_unit_test(no_memory_to_normalise),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
