/*
 * test_tokenizer.c - splitting, encoding and decoding against Hugging Face tokenizers
 * (tests/data/tokenizer, made by tests/tools/make_tokenizer_cases.py), over every kind of byte
 * string, and with vocabularies that are wrong.
 *
 * With failing_heap.h it also fails the heap.
 */
#include "text_fixture.h"

#include "failing_heap.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static fixture fable, other;

static int open_both(void **state)
{
    (void)state;
    open_data_fixture(&fable, "fable-vocab.bin", FABLE_TOKENS);
    open_data_fixture(&other, "other-vocab.bin", OTHER_TOKENS);
    return 0;
}

static int close_both(void **state)
{
    (void)state;
    close_fixture(&fable);
    close_fixture(&other);
    return 0;
}

/* ---- against Hugging Face ---- */

static void check_case(const fixture *with, flin_string line, uint32_t flags, reader *from,
                       uint32_t number)
{
    flashinfer_error error = {.size = sizeof error};
    int32_t ids[4096];
    char text[8192];
    size_t count, bytes;
    int code = flin_tokenizer_encode(with->tokenizer, line.data, line.bytes, flags, ids, COUNT(ids),
                                     &count, &error);

    if (code != 0) fail_msg("case %u: %s", number, error.text);
    if (count != take_number(from))
        fail_msg("case %u: wrong number of tokens for %.*s", number, (int)line.bytes, line.data);
    for (size_t i = 0; i < count; i++)
        if ((uint32_t)ids[i] != take_number(from))
            fail_msg("case %u: token %zu differs in %.*s", number, i, (int)line.bytes, line.data);
    if (flags != 0) return; /* control tokens give no bytes */
    code = flin_tokenizer_decode(with->tokenizer, ids, count, text, sizeof text, &bytes, &error);
    if (code != 0) fail_msg("case %u: %s", number, error.text);
    assert_int_equal(bytes, line.bytes);
    assert_memory_equal(text, line.data, bytes);
}

static void ids_equal_those_of_hugging_face(void **state)
{
    buffer cases = read_data("cases.bin");
    reader from = {cases.data, cases.data + cases.bytes};
    uint32_t count = take_number(&from);

    (void)state;
    assert_true(count >= 5000);
    for (uint32_t number = 0; number < count; number++) {
        uint32_t flags = take_number(&from) ? FLASHINFER_TOKENIZE_SPECIAL : 0;
        flin_string line = take_bytes(&from);
        check_case(&fable, line, flags, &from, number);
        check_case(&other, line, flags, &from, number);
    }
    assert_ptr_equal(from.at, from.end);
    free(cases.data);
}

/* ---- all byte strings ---- */

static void comes_back(const fixture *with, const uint8_t *bytes, size_t count)
{
    flashinfer_error error = {.size = sizeof error};
    int32_t ids[256];
    uint8_t back[256];
    size_t id_count = 0, back_bytes = 0;

    if (flin_tokenizer_encode(with->tokenizer, (const char *)bytes, count, 0, ids, COUNT(ids),
                              &id_count, &error) != 0 ||
        flin_tokenizer_decode(with->tokenizer, ids, id_count, (char *)back, sizeof back,
                              &back_bytes, &error) != 0)
        fail_msg("%s", error.text);
    assert_int_equal(back_bytes, count);
    assert_memory_equal(back, bytes, count);
}

static void any_bytes_come_back(void **state)
{
    static const uint8_t likely[] = {' ', ' ', 'a', '\'', 's', '\n', 0xe2, 0x80, 0xa8, 0xf0, 0x9f};
    uint64_t random = 1;
    uint8_t bytes[200];

    (void)state;
    for (unsigned pair = 0; pair < 65536; pair++) {
        bytes[0] = (uint8_t)(pair >> 8);
        bytes[1] = (uint8_t)pair;
        comes_back(&fable, bytes, 2);
    }
    for (int round = 0; round < 6000; round++) {
        size_t count = random_number(&random) % sizeof bytes;
        uint32_t salt = random_number(&random) % 4;
        for (size_t i = 0; i < count; i++)
            bytes[i] = random_number(&random) % 4 < salt
                           ? likely[random_number(&random) % sizeof likely]
                           : (uint8_t)random_number(&random);
        comes_back(&fable, bytes, count);
        comes_back(&other, bytes, count);
    }
}

/* A quadratic merge would not end within any test's time limit. */
static void long_words_take_no_quadratic_time(void **state)
{
    const size_t bytes = 1u << 18;
    char *text = malloc(bytes), *back = malloc(bytes);
    int32_t *ids = malloc(bytes * sizeof *ids);
    flashinfer_error error = {.size = sizeof error};
    uint64_t random = 7;

    (void)state;
    assert_non_null(text);
    assert_non_null(back);
    assert_non_null(ids);
    for (int round = 0; round < 3; round++) {
        size_t count = 0, back_bytes = 0;
        for (size_t i = 0; i < bytes; i++)
            text[i] = round == 0   ? 'a'
                      : round == 1 ? ' '
                                   : (char)('a' + random_number(&random) % 26);
        if (flin_tokenizer_encode(fable.tokenizer, text, bytes, 0, ids, bytes, &count, &error) !=
                0 ||
            flin_tokenizer_decode(fable.tokenizer, ids, count, back, bytes, &back_bytes, &error) !=
                0)
            fail_msg("%s", error.text);
        assert_int_equal(back_bytes, bytes);
        assert_memory_equal(back, text, bytes);
    }
    free(text);
    free(back);
    free(ids);
}

/* ---- arguments ---- */

static void buffers_may_be_too_small(void **state)
{
    flashinfer_error error = {.size = sizeof error};
    int32_t ids[8] = {-7, -7, -7, -7, -7, -7, -7, -7}, all[8];
    char text[4] = "....";
    size_t count, bytes;

    (void)state;
    assert_int_equal(
        flin_tokenizer_encode(fable.tokenizer, "a b c d", 7, 0, NULL, 0, &count, &error),
        FLASHINFER_EBUFFER);
    assert_int_equal(count, 4);
    assert_non_null(strstr(error.text, "4 tokens"));
    assert_int_equal(flin_tokenizer_encode(fable.tokenizer, "a b c d", 7, 0, all, 4, &count, NULL),
                     0);
    assert_int_equal(flin_tokenizer_encode(fable.tokenizer, "a b c d", 7, 0, ids, 2, &count, NULL),
                     FLASHINFER_EBUFFER);
    assert_memory_equal(ids, all, 2 * sizeof *ids);
    assert_int_equal(ids[2], -7);
    assert_int_equal(flin_tokenizer_encode(fable.tokenizer, NULL, 0, 0, NULL, 0, &count, &error),
                     0);
    assert_int_equal(count, 0);

    assert_int_equal(flin_tokenizer_decode(fable.tokenizer, all, 4, NULL, 0, &bytes, &error),
                     FLASHINFER_EBUFFER);
    assert_int_equal(bytes, 7);
    assert_int_equal(flin_tokenizer_decode(fable.tokenizer, all, 4, text, 3, &bytes, &error),
                     FLASHINFER_EBUFFER);
    assert_memory_equal(text, "a b.", 4);
    assert_int_equal(flin_tokenizer_decode(fable.tokenizer, NULL, 0, NULL, 0, &bytes, &error), 0);
    assert_int_equal(bytes, 0);
}

static void special_tokens(void **state)
{
    static const int32_t mixed[] = {2, 0, 1, 3};
    flashinfer_error error = {.size = sizeof error};
    int32_t ids[16];
    char text[16];
    size_t count, bytes;

    (void)state;
    assert_int_equal(flin_tokenizer_bos(fable.tokenizer), 2);
    assert_int_equal(flin_tokenizer_eos(fable.tokenizer), 2);
    assert_true(flin_tokenizer_adds_bos(fable.tokenizer));
    assert_int_equal(flin_tokenizer_bos(other.tokenizer), -1);
    assert_int_equal(flin_tokenizer_eos(other.tokenizer), 0);
    assert_false(flin_tokenizer_adds_bos(other.tokenizer));

    assert_int_equal(flin_tokenizer_encode(fable.tokenizer, "", 0, FLASHINFER_TOKENIZE_BOS, ids, 16,
                                           &count, &error),
                     0);
    assert_int_equal(count, 1);
    assert_int_equal(ids[0], 2);
    assert_int_equal(flin_tokenizer_encode(other.tokenizer, "", 0, FLASHINFER_TOKENIZE_BOS, ids, 16,
                                           &count, &error),
                     0);
    assert_int_equal(count, 0);
    assert_int_equal(flin_tokenizer_encode(fable.tokenizer, "<s>", 3, FLASHINFER_TOKENIZE_SPECIAL,
                                           ids, 16, &count, &error),
                     0);
    assert_int_equal(count, 1);
    assert_int_equal(ids[0], 0);
    assert_int_equal(flin_tokenizer_encode(fable.tokenizer, "<s>", 3, 0, ids, 16, &count, &error),
                     0);
    for (size_t i = 0; i < count; i++) assert_true(ids[i] > 3);
    assert_int_equal(flin_tokenizer_decode(fable.tokenizer, mixed, 4, text, 16, &bytes, &error), 0);
    assert_int_equal(bytes, 0);
}

static void wrong_arguments(void **state)
{
    flashinfer_error error = {.size = sizeof error};
    int32_t ids[4] = {5, -1, 5, 4096};
    char text[4];
    size_t count = 9, bytes = 9;

    (void)state;
    assert_int_equal(flin_tokenizer_encode(fable.tokenizer, "a", 1, 4, ids, 4, &count, &error),
                     FLASHINFER_EINVAL);
    assert_int_equal(count, 0);
    assert_int_equal(flin_tokenizer_encode(fable.tokenizer, "a", (size_t)INT32_MAX + 1, 0, ids, 4,
                                           &count, &error),
                     FLASHINFER_EINVAL);
    assert_int_equal(flin_tokenizer_decode(fable.tokenizer, ids, 4, text, 4, &bytes, &error),
                     FLASHINFER_ETOKEN);
    assert_non_null(strstr(error.text, "token -1 at index 1"));
    assert_int_equal(bytes, 0);
    assert_int_equal(flin_tokenizer_decode(fable.tokenizer, ids + 2, 2, text, 4, &bytes, &error),
                     FLASHINFER_ETOKEN);
}

/* ---- small vocabularies ---- */

/* What is said of a vocabulary; a NULL list is left out of the file. */
typedef struct spec {
    const char *model, *pre;
    const char *const *tokens;
    const int32_t *types;
    const char *const *merges;
    size_t token_count, type_count, merge_count;
} spec;

static metadata write_spec(const spec *from)
{
    metadata made = {{0}, 0};

    if (from->model != NULL) add_text(&made, "tokenizer.ggml.model", from->model);
    if (from->pre != NULL) add_text(&made, "tokenizer.ggml.pre", from->pre);
    if (from->tokens != NULL)
        add_texts(&made, "tokenizer.ggml.tokens", from->tokens, from->token_count);
    if (from->types != NULL)
        add_numbers(&made, "tokenizer.ggml.token_type", from->types, from->type_count);
    if (from->merges != NULL)
        add_texts(&made, "tokenizer.ggml.merges", from->merges, from->merge_count);
    return made;
}

static const char *const small_tokens[] = {"<x>",
                                           "a",
                                           "b",
                                           "c",
                                           "ab",
                                           "bc",
                                           "abc",
                                           "aa",
                                           "\xc4\xa0",
                                           "\xc4\xa0\x61",
                                           "<0x7A>",
                                           "hi there",
                                           "hi there you",
                                           "",
                                           "<x>y",
                                           "\xe5\xad\x97",
                                           "<u>"};
static const int32_t small_types[] = {3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 6, 4, 4, 5, 3, 4, 2};
static const char *const small_merges[] = {"b c", "a b", "a a", "\xc4\xa0 a", "a bc"};
static const spec small = {"gpt2",
                           "gpt-2",
                           small_tokens,
                           small_types,
                           small_merges,
                           COUNT(small_tokens),
                           COUNT(small_types),
                           COUNT(small_merges)};

static void encodes_as(const fixture *with, const char *text, uint32_t flags, const char *wanted)
{
    flashinfer_error error = {.size = sizeof error};
    int32_t ids[64];
    char shown[512] = "";
    size_t count, used = 0;

    if (flin_tokenizer_encode(with->tokenizer, text, strlen(text), flags, ids, 64, &count,
                              &error) != 0)
        fail_msg("%s: %s", text, error.text);
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(shown + used, sizeof shown - used, "%d ", ids[i]);
    assert_string_equal(shown, wanted);
}

static void open_spec(fixture *made, const spec *from)
{
    flashinfer_error error = {.size = sizeof error};
    metadata written = write_spec(from);

    if (open_fixture(made, &written, (uint32_t)from->token_count, &error) != 0)
        fail_msg("%s", error.text);
}

static void merges_go_by_rank_then_from_the_left(void **state)
{
    fixture made;

    (void)state;
    open_spec(&made, &small);
    encodes_as(&made, "abc", 0, "6 "); /* b c first, then a bc */
    encodes_as(&made, "abab", 0, "4 4 ");
    encodes_as(&made, "aaa", 0, "7 1 "); /* leftmost pair */
    encodes_as(&made, "aaab", 0, "7 4 ");
    encodes_as(&made, " a", 0, "9 ");
    encodes_as(&made, "a a", 0, "1 9 ");
    encodes_as(&made, "z", 0, "10 "); /* <0x7A> */
    close_fixture(&made);
}

static void added_tokens_are_found_leftmost_and_longest(void **state)
{
    static const int32_t ids[] = {11, 10, 15, 13, 16, 12};
    fixture made;
    char text[64];
    size_t bytes;

    (void)state;
    open_spec(&made, &small);
    encodes_as(&made, "ahi therea", 0, "1 11 1 "); /* user-defined: without being asked for */
    encodes_as(&made, "hi there you", 0, "12 ");
    encodes_as(&made, "\xe5\xad\x97\x61", 0, "15 1 ");
    encodes_as(&made, "a<x>a", FLASHINFER_TOKENIZE_SPECIAL, "1 0 1 ");
    encodes_as(&made, "<x>ya<u>", FLASHINFER_TOKENIZE_SPECIAL, "14 1 16 ");
    assert_int_equal(flin_tokenizer_decode(made.tokenizer, ids, COUNT(ids), text, 64, &bytes, NULL),
                     0);
    text[bytes] = 0;
    assert_string_equal(text, "hi therez\xe5\xad\x97hi there you");
    close_fixture(&made);
}

/* It is left out, and what stood beside it merges. No token that means unknown takes its place: that
   may be a control token. */
static void a_byte_without_token(void **state)
{
    metadata with_unknown = write_spec(&small);
    flashinfer_error error = {.size = sizeof error};
    fixture made;

    (void)state;
    open_spec(&made, &small);
    encodes_as(&made, "abq", 0, "4 ");
    encodes_as(&made, "aqb", 0, "4 ");
    encodes_as(&made, "q", 0, "");
    close_fixture(&made);

    add_u32(&with_unknown, "tokenizer.ggml.unknown_token_id", 16);
    assert_int_equal(open_fixture(&made, &with_unknown, COUNT(small_tokens), &error), 0);
    encodes_as(&made, "abq\xff", 0, "4 ");
    close_fixture(&made);
}

/* Of a pair listed twice the later rank counts; a merge that would make or use a control token is
 * as if absent. */
static void odd_merges(void **state)
{
    static const char *const tokens[] = {"a", "b", "c", "ab", "bc", "cc", "abcc"};
    static const char *const merges[] = {"a b", "b c", "c c", "a b", "ab cc"};
    static const int32_t types[] = {1, 1, 1, 1, 1, 3, 1};
    spec odd = {"gpt2", "gpt-2", tokens, NULL, merges, COUNT(tokens), COUNT(types), COUNT(merges)};
    fixture made;

    (void)state;
    open_spec(&made, &odd);
    encodes_as(&made, "abc", 0, "0 4 "); /* b c is now before a b */
    encodes_as(&made, "abcc", 0, "0 4 2 ");
    encodes_as(&made, "cc", 0, "5 ");
    close_fixture(&made);

    odd.types = types; /* cc is control */
    open_spec(&made, &odd);
    encodes_as(&made, "cc", 0, "2 2 ");
    encodes_as(&made, "cc", FLASHINFER_TOKENIZE_SPECIAL, "5 ");
    close_fixture(&made);
}

/* ---- wrong files ---- */

static void refused(metadata *from, uint32_t vocab_count, int code, const char *text)
{
    flashinfer_error error = {.size = sizeof error};
    fixture made;

    assert_int_equal(open_fixture(&made, from, vocab_count, &error), code);
    if (strstr(error.text, text) == NULL) fail_msg("\"%s\" does not say \"%s\"", error.text, text);
    assert_null(strchr(error.text, '\n'));
    close_fixture(&made);
}

static void refused_spec(spec from, int code, const char *text)
{
    metadata written = write_spec(&from);
    refused(&written, COUNT(small_tokens), code, text);
}

static void wrong_lists_are_refused(void **state)
{
    static const char *const bad_merges[][2] = {{"ab", "merge 0"},        {"", "merge 0"},
                                                {"a b c", "merge 0"},     {" b", "merge 0"},
                                                {"a ", "merge 0"},        {"a q", "joins a token"},
                                                {"q a", "joins a token"}, {"c c", "makes a token"}};
    const char *tokens[COUNT(small_tokens)];
    int32_t types[COUNT(small_types)];
    char longest[600];
    spec from = small;

    (void)state;
    for (size_t i = 0; i < COUNT(bad_merges); i++) {
        from.merges = &bad_merges[i][0];
        from.merge_count = 1;
        refused_spec(from, FLASHINFER_EFORMAT, bad_merges[i][1]);
    }
    memcpy(tokens, small_tokens, sizeof tokens);
    from = small;
    from.tokens = tokens;
    tokens[7] = "ab";
    refused_spec(from, FLASHINFER_EFORMAT, "tokens 4 and 7");
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = 0;
    tokens[7] = "aa";
    tokens[0] = longest;
    refused_spec(from, FLASHINFER_EFORMAT, "token 0 is a control");
    memcpy(types, small_types, sizeof types);
    from = small;
    from.types = types;
    types[3] = 7;
    refused_spec(from, FLASHINFER_EFORMAT, "token 3 has the unknown type 7");
    types[3] = -1;
    refused_spec(from, FLASHINFER_EFORMAT, "token 3 has the unknown type -1");
}

static void wrong_keys_are_refused(void **state)
{
    static const int32_t numbers[COUNT(small_tokens)] = {0};
    metadata written;
    spec from;

    (void)state;
#define CHANGED(field, value, code, text)                                                          \
    from = small;                                                                                  \
    from.field = value;                                                                            \
    refused_spec(from, code, text)
    CHANGED(model, NULL, FLASHINFER_EFORMAT, "tokenizer.ggml.model");
    CHANGED(model, "bert", FLASHINFER_EUNSUPPORTED,
            "tokenizer.ggml.model is \"bert\", this build knows gpt2, llama, gemma4;");
    CHANGED(pre, NULL, FLASHINFER_EUNSUPPORTED, "tokenizer.ggml.pre is missing");
    CHANGED(pre, "default", FLASHINFER_EUNSUPPORTED,
            "tokenizer.ggml.pre is \"default\", this build knows gpt-2, phi-2, olmo");
    CHANGED(pre, "gemma4", FLASHINFER_EUNSUPPORTED, "deepseek-v3;");
    CHANGED(pre, "line\nbreak \xff and a very long name that goes on", FLASHINFER_EUNSUPPORTED,
            "\"line?break ? and");
    CHANGED(tokens, NULL, FLASHINFER_EFORMAT, "tokenizer.ggml.tokens");
    CHANGED(token_count, 3, FLASHINFER_EFORMAT, "3 elements");
    CHANGED(type_count, 3, FLASHINFER_EFORMAT, "3 elements");
    CHANGED(merges, NULL, FLASHINFER_EFORMAT, "tokenizer.ggml.merges");
#undef CHANGED
    from = small;
    from.tokens = NULL;
    written = write_spec(&from);
    add_numbers(&written, "tokenizer.ggml.tokens", numbers, COUNT(numbers));
    refused(&written, COUNT(small_tokens), FLASHINFER_EFORMAT, "not an array of strings");
    from = small;
    from.types = NULL;
    written = write_spec(&from);
    add_texts(&written, "tokenizer.ggml.token_type", small_tokens, COUNT(small_tokens));
    refused(&written, COUNT(small_tokens), FLASHINFER_EFORMAT, "32-bit numbers");
    written = write_spec(&from);
    add_text(&written, "tokenizer.ggml.token_type", "normal");
    refused(&written, COUNT(small_tokens), FLASHINFER_EFORMAT, "not an array");
}

static void wrong_values_are_refused(void **state)
{
    static const char *const ids[] = {"bos", "eos", "unknown", "padding"};
    metadata written;
    char key[64];

    (void)state;
    for (size_t i = 0; i < COUNT(ids); i++) {
        (void)snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", ids[i]);
        written = write_spec(&small);
        add_u32(&written, key, COUNT(small_tokens));
        refused(&written, COUNT(small_tokens), FLASHINFER_EFORMAT, key);
        written = write_spec(&small);
        add_text(&written, key, "1");
        refused(&written, COUNT(small_tokens), FLASHINFER_EFORMAT, key);
    }
    written = write_spec(&small);
    add_bool(&written, "tokenizer.ggml.add_bos_token", 1);
    refused(&written, COUNT(small_tokens), FLASHINFER_EFORMAT, "bos_token_id is missing");
    written = write_spec(&small);
    add_u32(&written, "tokenizer.ggml.add_bos_token", 0);
    refused(&written, COUNT(small_tokens), FLASHINFER_EFORMAT, "not a truth value");
    written = write_spec(&small);
    add_bool(&written, "tokenizer.ggml.add_space_prefix", 1);
    refused(&written, COUNT(small_tokens), FLASHINFER_EUNSUPPORTED, "add_space_prefix");
    written = write_spec(&small);
    refused(&written, 5, FLASHINFER_EFORMAT, "vocabulary of 5");
}

/* ---- failing heap ---- */

#ifdef FLIN_TEST_WRAP_MALLOC
static void no_memory_for_a_long_word(void **state)
{
    flashinfer_error error = {.size = sizeof error};
    char text[500];
    int32_t ids[500];
    size_t count = 9;
    int code, short_code;

    (void)state;
    memset(text, 'a', sizeof text);
    heap_fails = 1;
    code = flin_tokenizer_encode(fable.tokenizer, text, sizeof text, 0, ids, 500, &count, &error);
    short_code =
        flin_tokenizer_encode(fable.tokenizer, "no long word", 12, 0, ids, 500, &count, NULL);
    heap_fails = 0;
    assert_int_equal(code, FLASHINFER_ENOMEM);
    assert_non_null(strstr(error.text, "500 bytes"));
    assert_int_equal(short_code, 0);
    assert_int_equal(count, 3);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_equal_those_of_hugging_face),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(long_words_take_no_quadratic_time),
        cmocka_unit_test(buffers_may_be_too_small),
        cmocka_unit_test(special_tokens),
        cmocka_unit_test(wrong_arguments),
        cmocka_unit_test(merges_go_by_rank_then_from_the_left),
        cmocka_unit_test(added_tokens_are_found_leftmost_and_longest),
        cmocka_unit_test(a_byte_without_token),
        cmocka_unit_test(odd_merges),
        cmocka_unit_test(wrong_lists_are_refused),
        cmocka_unit_test(wrong_keys_are_refused),
        cmocka_unit_test(wrong_values_are_refused),
#ifdef FLIN_TEST_WRAP_MALLOC
        cmocka_unit_test(no_memory_for_a_long_word),
#endif
    };
    return cmocka_run_group_tests(tests, open_both, close_both);
}
