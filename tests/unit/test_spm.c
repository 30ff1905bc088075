/*
 * test_spm.c - SentencePiece's BPE on hand-made tables: what merges first, what has no token, the
 * space before a text, tokens that are found first, and files that are wrong. Against SentencePiece
 * itself: tests/programs/test_spm.py.
 *
 * With failing_heap.h it also fails the heap.
 */
#include "text_fixture.h"

#include <math.h>

#include "failing_heap.h"
#include "text/decoder.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define TOKENS_MAX 400u
#define US "\xe2\x96\x81" /* U+2581 */

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER = 4, UNUSED = 5, BYTE = 6 };

/* A vocabulary that is being written. */
typedef struct table {
    const char *texts[TOKENS_MAX];
    int32_t types[TOKENS_MAX];
    float scores[TOKENS_MAX];
    char names[256][8];
    size_t count;
} table;

static int32_t add(table *to, const char *text, int32_t type, float score)
{
    assert_true(to->count < TOKENS_MAX);
    to->texts[to->count] = text;
    to->types[to->count] = type;
    to->scores[to->count] = score;
    return (int32_t)to->count++;
}

/* <unk>, <s>, </s>; then a few letters and pieces. With bytes they come last, from BYTES on. */
enum { UNK, BOS, EOS, SPACE, A, B, C, AB, BC, ABC, AA, SPACE_A, BYTES };

static void begin(table *to, int with_bytes)
{
    memset(to, 0, sizeof *to);
    add(to, "<unk>", UNKNOWN, 0);
    add(to, "<s>", CONTROL, 0);
    add(to, "</s>", CONTROL, 0);
    add(to, US, NORMAL, -100);
    add(to, "a", NORMAL, -101);
    add(to, "b", NORMAL, -102);
    add(to, "c", NORMAL, -103);
    add(to, "ab", NORMAL, -2);
    add(to, "bc", NORMAL, -1);
    add(to, "abc", NORMAL, -3);
    add(to, "aa", NORMAL, -4);
    assert_int_equal(add(to, US "a", NORMAL, -5), SPACE_A);
    for (int byte = 0; with_bytes && byte < 256; byte++) {
        (void)snprintf(to->names[byte], sizeof to->names[byte], "<0x%02X>", (unsigned)byte);
        add(to, to->names[byte], BYTE, 0);
    }
}

static metadata write_arrays(const table *from)
{
    metadata made = {{0}, 0};

    add_text(&made, "tokenizer.ggml.model", "llama");
    add_texts(&made, "tokenizer.ggml.tokens", from->texts, from->count);
    add_floats(&made, "tokenizer.ggml.scores", from->scores, from->count);
    add_numbers(&made, "tokenizer.ggml.token_type", from->types, from->count);
    return made;
}

static void open_metadata(fixture *made, metadata *from, size_t count)
{
    flashinfer_error error = {.size = sizeof error};

    if (open_fixture(made, from, (uint32_t)count, &error) != 0) fail_msg("%s", error.text);
}

static void open_table(fixture *made, const table *from)
{
    metadata written = write_arrays(from);
    open_metadata(made, &written, from->count);
}

/* Without the space before a text. */
static void open_bare(fixture *made, const table *from)
{
    metadata written = write_arrays(from);
    add_bool(&written, "tokenizer.ggml.add_space_prefix", 0);
    open_metadata(made, &written, from->count);
}

static size_t encode(const fixture *with, const char *text, size_t bytes, uint32_t flags,
                     int32_t *ids)
{
    flashinfer_error error = {.size = sizeof error};
    size_t count;

    if (flin_tokenizer_encode(with->tokenizer, text, bytes, flags, ids, 64, &count, &error) != 0)
        fail_msg("%s: %s", text, error.text);
    return count;
}

#define END (-9)

/* wanted ends with END */
static void encodes_as(const fixture *with, const char *text, uint32_t flags, const int32_t *wanted)
{
    int32_t ids[64];
    size_t count = encode(with, text, strlen(text), flags, ids);

    for (size_t i = 0; i < count; i++)
        if (ids[i] != wanted[i]) fail_msg("token %zu of \"%s\" is %d", i, text, ids[i]);
    if (wanted[count] != END) fail_msg("\"%s\" has only %zu tokens", text, count);
}

#define ENCODES(with, text, flags, ...)                                                            \
    encodes_as(with, text, flags, (const int32_t[]){__VA_ARGS__, END})

static void decodes_as(const fixture *with, const char *wanted, const int32_t *ids)
{
    char text[64];
    size_t bytes, count = 0;

    while (ids[count] != END) count++;
    assert_int_equal(
        flin_tokenizer_decode(with->tokenizer, ids, count, text, sizeof text - 1, &bytes, NULL), 0);
    text[bytes] = 0;
    assert_string_equal(text, wanted);
}

#define DECODES(with, wanted, ...) decodes_as(with, wanted, (const int32_t[]){__VA_ARGS__, END})

/* ---- merging ---- */

static void the_highest_score_merges_first(void **state)
{
    table from;
    fixture made;

    (void)state;
    begin(&from, 1);
    open_bare(&made, &from);
    ENCODES(&made, "abc", 0, ABC); /* bc, then a and bc */
    ENCODES(&made, "abab", 0, AB, AB);
    ENCODES(&made, "aab", 0, A, AB); /* not aa and b */
    ENCODES(&made, "aaa", 0, AA, A); /* the left one of two alike */
    ENCODES(&made, "aaaaa", 0, AA, AA, A);
    ENCODES(&made, " a a", 0, SPACE_A, SPACE_A);
    ENCODES(&made, " ab", 0, SPACE, AB);
    close_fixture(&made);

    from.scores[SPACE_A] = 7.5f; /* any number is a score */
    from.scores[AA] = INFINITY;
    open_bare(&made, &from);
    ENCODES(&made, " ab", 0, SPACE_A, B);
    ENCODES(&made, " aab", 0, SPACE, AA, B);
    close_fixture(&made);
}

static void equal_scores_merge_from_the_left(void **state)
{
    table from;
    fixture made;

    (void)state;
    begin(&from, 1);
    from.scores[AB] = -0.0f; /* the two zeros are one */
    from.scores[BC] = 0.0f;
    open_bare(&made, &from);
    ENCODES(&made, "abc", 0, ABC);
    ENCODES(&made, "bcbc", 0, BC, BC);
    ENCODES(&made, "abcbc", 0, ABC, BC);
    close_fixture(&made);
    from.texts[ABC] = "x";
    open_bare(&made, &from);
    ENCODES(&made, "abc", 0, AB, C);
    from.scores[AB] = -1e-30f;
    close_fixture(&made);
    open_bare(&made, &from);
    ENCODES(&made, "abc", 0, A, BC);
    close_fixture(&made);
}

/* Only normal tokens are made: text cannot steer a model. */
static void other_types_are_never_made(void **state)
{
    static const int32_t types[] = {CONTROL, UNKNOWN, UNUSED};
    table from;
    fixture made;

    (void)state;
    for (size_t i = 0; i < COUNT(types); i++) {
        begin(&from, 1);
        from.types[ABC] = types[i];
        open_bare(&made, &from);
        ENCODES(&made, "abc", 0, A, BC);
        if (types[i] != UNUSED) ENCODES(&made, "abc", FLASHINFER_TOKENIZE_SPECIAL, ABC);
        DECODES(&made, "a", ABC, A);
        close_fixture(&made);
    }
    begin(&from, 1);
    open_bare(&made, &from);
    ENCODES(&made, "<0", 0, BYTES + '<', BYTES + '0');
    ENCODES(&made, "<s>", FLASHINFER_TOKENIZE_SPECIAL, BOS);
    ENCODES(&made, "<s>", 0, BYTES + '<', BYTES + 's', BYTES + '>');
    close_fixture(&made);
}

/* Pieces with spaces inside: then no text may be cut into words. */
static void pieces_may_hold_spaces(void **state)
{
    table from;
    fixture made;
    int32_t inside, two;

    (void)state;
    begin(&from, 1);
    two = add(&from, US US, NORMAL, -6);
    open_bare(&made, &from);
    ENCODES(&made, "a  b", 0, A, two, B);
    ENCODES(&made, "a   a", 0, A, two, SPACE_A);
    close_fixture(&made);
    inside = add(&from, "a" US, NORMAL, -0.5f);
    open_bare(&made, &from);
    ENCODES(&made, "a b", 0, inside, B);
    ENCODES(&made, "a a", 0, inside, A);
    close_fixture(&made);
}

/* A quadratic merge would not end within any test's time limit. */
static void long_texts_take_no_quadratic_time(void **state)
{
    const size_t bytes = 1u << 18;
    char *text = malloc(bytes), *back = malloc(bytes);
    int32_t *ids = malloc(bytes * sizeof *ids);
    flashinfer_error error = {.size = sizeof error};
    uint64_t random = 7;
    table from;
    fixture made;

    (void)state;
    assert_non_null(text);
    assert_non_null(back);
    assert_non_null(ids);
    begin(&from, 1);
    add(&from, "a" US "b", NORMAL, -7); /* no words */
    add(&from, US US, NORMAL, -8);
    add(&from, US US US US, NORMAL, -9);
    open_table(&made, &from);
    for (int round = 0; round < 3; round++) {
        size_t count = 0, back_bytes = 0;
        for (size_t i = 0; i < bytes; i++)
            text[i] = round == 0 ? 'a' : round == 1 ? ' ' : "abc "[random_number(&random) % 4];
        if (flin_tokenizer_encode(made.tokenizer, text, bytes, 0, ids, bytes, &count, &error) !=
                0 ||
            flin_tokenizer_decode(made.tokenizer, ids, count, back, bytes, &back_bytes, &error) !=
                0)
            fail_msg("%s", error.text);
        assert_int_equal(back_bytes, bytes);
        assert_memory_equal(back, text, bytes);
    }
    close_fixture(&made);
    free(text);
    free(back);
    free(ids);
}

/* ---- characters without a token ---- */

static void any_bytes_come_back(void **state)
{
    static const uint8_t likely[] = {' ', ' ', 'a', 'b', 'c', '\n', 0xe2, 0x96, 0x80, 0xf0, 0x9f};
    uint64_t random = 3;
    table from;
    fixture made;

    (void)state;
    begin(&from, 1);
    open_table(&made, &from);
    for (int round = 0; round < 20000; round++) {
        flashinfer_error error = {.size = sizeof error};
        char text[60], back[60];
        int32_t ids[200];
        size_t bytes = random_number(&random) % sizeof text, count, back_bytes;
        for (size_t i = 0; i < bytes; i++)
            text[i] = random_number(&random) % 3 != 0
                          ? (char)likely[random_number(&random) % sizeof likely]
                          : (char)random_number(&random);
        if (flin_tokenizer_encode(made.tokenizer, text, bytes, 0, ids, COUNT(ids), &count,
                                  &error) != 0 ||
            flin_tokenizer_decode(made.tokenizer, ids, count, back, sizeof back, &back_bytes,
                                  &error) != 0)
            fail_msg("%s", error.text);
        if (bytes >= 3) { /* this character alone comes back as a space */
            for (size_t i = 0; i + 3 <= bytes; i++)
                if (memcmp(text + i, US, 3) == 0) back_bytes = SIZE_MAX;
            if (back_bytes == SIZE_MAX) continue;
        }
        assert_int_equal(back_bytes, bytes);
        assert_memory_equal(back, text, bytes);
    }
    close_fixture(&made);
}

static void characters_without_a_token(void **state)
{
    table from;
    fixture made;
    int32_t wide;

    (void)state;
    begin(&from, 1);
    wide = add(&from, "\xe5\xad\x97", NORMAL, -200);
    open_bare(&made, &from);
    ENCODES(&made, "a\xc3\xa9\x62", 0, A, BYTES + 0xc3, BYTES + 0xa9, B);
    ENCODES(&made, "\xe5\xad\x97\xe5\xad", 0, wide, BYTES + 0xe5, BYTES + 0xad);
    DECODES(&made, "\xc3\xa9", BYTES + 0xc3, BYTES + 0xa9);
    ENCODES(&made, US "a", 0, SPACE_A); /* the character itself reads as a space */
    close_fixture(&made);

    begin(&from, 0); /* no bytes: one unknown token for all in a row */
    open_table(&made, &from);
    ENCODES(&made, "xyz", 0, SPACE, UNK);
    ENCODES(&made, "xyabz\xff", 0, SPACE, UNK, AB, UNK);
    ENCODES(&made, "x y", 0, SPACE, UNK, SPACE, UNK);
    DECODES(&made, "ab", SPACE, UNK, AB);
    close_fixture(&made);
}

/* ---- spaces ---- */

static void a_space_stands_before_a_text(void **state)
{
    int32_t ids[64];
    table from;
    fixture made;

    (void)state;
    begin(&from, 1);
    open_table(&made, &from);
    ENCODES(&made, "a", 0, SPACE_A);
    ENCODES(&made, " a", 0, SPACE, SPACE_A);
    ENCODES(&made, "b", 0, SPACE, B);
    ENCODES(&made, "b", FLASHINFER_TOKENIZE_BOS, BOS, SPACE, B);
    assert_int_equal(encode(&made, "", 0, 0, ids), 0); /* but not before nothing */
    assert_int_equal(encode(&made, "", 0, FLASHINFER_TOKENIZE_BOS, ids), 1);
    /* control tokens part texts */
    ENCODES(&made, "a<s>a</s></s> a", FLASHINFER_TOKENIZE_SPECIAL, SPACE_A, BOS, SPACE_A, EOS, EOS,
            SPACE, SPACE_A);

    DECODES(&made, "a", SPACE_A);
    DECODES(&made, "a a", SPACE_A, SPACE_A);
    DECODES(&made, " a", SPACE, SPACE_A);
    DECODES(&made, "b", SPACE, B);
    DECODES(&made, "b a", B, SPACE_A);
    DECODES(&made, "a", BOS, EOS, SPACE_A);
    DECODES(&made, " a", BYTES + ' ', A);
    DECODES(&made, "", SPACE);
    close_fixture(&made);
    open_bare(&made, &from);
    DECODES(&made, " a", SPACE_A);
    close_fixture(&made);
}

static void pushes(flashinfer_decoder *decoder, int32_t token, const char *wanted)
{
    const char *text;

    assert_int_equal(flin_decoder_push(decoder, token, &text, NULL, NULL), 0);
    assert_string_equal(text, wanted);
}

/* A stream may go on with a text: only what follows the bos token begins one. */
static void streams_keep_their_first_space(void **state)
{
    flashinfer_error error = {.size = sizeof error};
    flashinfer_decoder *decoder;
    table from;
    fixture made;

    (void)state;
    begin(&from, 1);
    open_table(&made, &from);
    assert_int_equal(flin_decoder_create(made.tokenizer, &decoder, &error), 0);
    for (int again = 0; again < 2; again++) {
        pushes(decoder, SPACE_A, " a");
        pushes(decoder, BOS, "");
        pushes(decoder, SPACE_A, " a");
        pushes(decoder, -1, "");
        pushes(decoder, EOS, "");
        pushes(decoder, BOS, "");
        pushes(decoder, SPACE_A, "a");
        pushes(decoder, SPACE_A, " a");
        pushes(decoder, BYTES + 0xc3, "");
        pushes(decoder, BYTES + 0xa9, "\xc3\xa9");
        pushes(decoder, BYTES + 0xe2, "");
        pushes(decoder, -1, "\xef\xbf\xbd");
        pushes(decoder, BOS, "");
        pushes(decoder, SPACE, "");
        pushes(decoder, SPACE, " ");
        pushes(decoder, -1, "");
        pushes(decoder, BOS, "");
        pushes(decoder, -1, ""); /* the next text is another one */
    }
    pushes(decoder, SPACE, " ");
    flin_decoder_destroy(decoder);
    close_fixture(&made);
}

/* ---- tokens that are found first ---- */

static void user_defined_tokens_are_found_first(void **state)
{
    table from;
    fixture made;
    int32_t bca, two, three, cc;

    (void)state;
    begin(&from, 1);
    bca = add(&from, "bca", USER, 0);
    two = add(&from, "  ", USER, 0); /* as llama.cpp writes it */
    three = add(&from, US US "b", USER, 0);
    cc = add(&from, "<s>c", USER, 0);
    open_bare(&made, &from);
    ENCODES(&made, "abcab", 0, A, bca, B);
    ENCODES(&made, "abc", 0, ABC);
    ENCODES(&made, "a   a", 0, A, two, SPACE_A);
    ENCODES(&made, "a  ba", 0, A, three, A);
    ENCODES(&made, "a<s>c", 0, A, cc);
    ENCODES(&made, "a<s>c", FLASHINFER_TOKENIZE_SPECIAL, A, BOS, C); /* control tokens first */
    DECODES(&made, "bca    b", bca, two, three);
    close_fixture(&made);
    open_table(&made, &from); /* the space before a text counts */
    ENCODES(&made, " b", 0, three);
    ENCODES(&made, "bca", 0, SPACE, bca);
    DECODES(&made, "   b", two, three);
    DECODES(&made, " b", three);
    close_fixture(&made);
}

/* ---- keys ---- */

static void usual_values_of_keys(void **state)
{
    metadata written;
    table from;
    fixture made;

    (void)state;
    begin(&from, 1);
    open_table(&made, &from);
    assert_int_equal(flin_tokenizer_bos(made.tokenizer), BOS);
    assert_int_equal(flin_tokenizer_eos(made.tokenizer), EOS);
    assert_true(flin_tokenizer_adds_bos(made.tokenizer));
    close_fixture(&made);

    from.types[BOS] = from.types[EOS] = NORMAL; /* not special: no usual ids */
    open_table(&made, &from);
    assert_int_equal(flin_tokenizer_bos(made.tokenizer), -1);
    assert_int_equal(flin_tokenizer_eos(made.tokenizer), -1);
    assert_false(flin_tokenizer_adds_bos(made.tokenizer));
    close_fixture(&made);

    begin(&from, 1);
    written = write_arrays(&from);
    add_text(&written, "tokenizer.ggml.pre", "default");
    add_u32(&written, "tokenizer.ggml.bos_token_id", EOS);
    add_u32(&written, "tokenizer.ggml.eos_token_id", BOS);
    add_bool(&written, "tokenizer.ggml.add_bos_token", 0);
    open_metadata(&made, &written, from.count);
    assert_int_equal(flin_tokenizer_bos(made.tokenizer), EOS);
    assert_int_equal(flin_tokenizer_eos(made.tokenizer), BOS);
    assert_false(flin_tokenizer_adds_bos(made.tokenizer));
    close_fixture(&made);
}

static void refused(metadata *from, size_t vocab_count, int code, const char *text)
{
    flashinfer_error error = {.size = sizeof error};
    fixture made;

    assert_int_equal(open_fixture(&made, from, (uint32_t)vocab_count, &error), code);
    if (strstr(error.text, text) == NULL) fail_msg("\"%s\" does not say \"%s\"", error.text, text);
    assert_null(strchr(error.text, '\n'));
    close_fixture(&made);
}

static void refused_table(const table *from, const char *text)
{
    metadata written = write_arrays(from);
    refused(&written, from->count, FLASHINFER_EFORMAT, text);
}

static void wrong_tables_are_refused(void **state)
{
    table from;

    (void)state;
    begin(&from, 1);
    from.scores[AB] = NAN;
    refused_table(&from, "element 7 of tokenizer.ggml.scores");
    begin(&from, 1);
    from.texts[AB] = "aa";
    refused_table(&from, "tokens 7 and 10 of tokenizer.ggml.tokens");
    begin(&from, 1);
    from.texts[AB] = "";
    refused_table(&from, "token 7 of tokenizer.ggml.tokens has no text");
    from.types[AB] = UNUSED;
    from.texts[ABC] = "<0xG0>";
    from.types[ABC] = BYTE;
    refused_table(&from, "token 9 of tokenizer.ggml.tokens is of type byte");
    begin(&from, 1);
    from.texts[BYTES + 11] = "<0x0a>"; /* beside <0x0A> */
    refused_table(&from, "is of type byte, but its text is not such as <0x0A>");
    begin(&from, 1);
    from.types[BYTES + 10] = NORMAL;
    refused_table(&from, "255 tokens as bytes");
    begin(&from, 1);
    from.types[AB] = 7;
    refused_table(&from, "token 7 has the unknown type 7");
    begin(&from, 0);
    from.types[UNK] = CONTROL;
    refused_table(&from, "tokenizer.ggml.unknown_token_id is missing");
}

/* One of the three arrays left out, or too short; then flags and names. */
static void wrong_keys_are_refused(void **state)
{
    static const char *const keys[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.scores",
                                       "tokenizer.ggml.token_type"};
    metadata written;
    table from;

    (void)state;
    begin(&from, 1);
    for (size_t i = 0; i < 2 * COUNT(keys); i++) {
        size_t counts[3] = {from.count, from.count, from.count};
        counts[i / 2] = i % 2 != 0 ? from.count - 1 : 0;
        written = (metadata){{0}, 0};
        add_text(&written, "tokenizer.ggml.model", "llama");
        if (counts[0] != 0) add_texts(&written, keys[0], from.texts, counts[0]);
        if (counts[1] != 0) add_floats(&written, keys[1], from.scores, counts[1]);
        if (counts[2] != 0) add_numbers(&written, keys[2], from.types, counts[2]);
        refused(&written, from.count, FLASHINFER_EFORMAT, keys[i / 2]);
    }
    written = (metadata){{0}, 0};
    add_text(&written, "tokenizer.ggml.model", "llama");
    add_texts(&written, keys[0], from.texts, from.count);
    add_numbers(&written, keys[1], from.types, from.count);
    refused(&written, from.count, FLASHINFER_EFORMAT, "scores is not an array of 32-bit floating");

    written = write_arrays(&from);
    add_text(&written, "tokenizer.ggml.pre", "gpt-2");
    refused(&written, from.count, FLASHINFER_EUNSUPPORTED, "knows only \"default\" with");
    written = write_arrays(&from);
    add_bool(&written, "tokenizer.ggml.remove_extra_whitespaces", 1);
    refused(&written, from.count, FLASHINFER_EUNSUPPORTED, "remove_extra_whitespaces");
    written = write_arrays(&from);
    add_u32(&written, "tokenizer.ggml.add_space_prefix", 1);
    refused(&written, from.count, FLASHINFER_EFORMAT, "add_space_prefix is not a truth value");
    written = write_arrays(&from);
    add_u32(&written, "tokenizer.ggml.unknown_token_id", (uint32_t)from.count);
    refused(&written, from.count, FLASHINFER_EFORMAT, "unknown_token_id names a token outside");
    from.types[BOS] = NORMAL;
    written = write_arrays(&from);
    add_bool(&written, "tokenizer.ggml.add_bos_token", 1);
    refused(&written, from.count, FLASHINFER_EFORMAT, "bos_token_id is missing");
}

/* ---- failing heap ---- */

#ifdef FLIN_TEST_WRAP_MALLOC
/* Texts of up to 512 bytes and words of up to 96 characters need no heap. */
static void no_memory_for_a_long_text(void **state)
{
    static const struct {
        size_t bytes;
        int code;
        const char *words;
    } cases[] = {{1000, FLASHINFER_ENOMEM, "a text of 1000 bytes"},
                 {300, FLASHINFER_ENOMEM, "a word of 303 bytes"},
                 {80, 0, ""}};
    table from;
    fixture made;

    (void)state;
    begin(&from, 1);
    open_table(&made, &from);
    for (size_t i = 0; i < COUNT(cases); i++) {
        flashinfer_error error = {.size = sizeof error};
        char text[1000];
        int32_t ids[1000];
        size_t count = 9;
        int code;
        memset(text, 'a', sizeof text);
        heap_fails = 1;
        code = flin_tokenizer_encode(made.tokenizer, text, cases[i].bytes, 0, ids, COUNT(ids),
                                     &count, &error);
        heap_fails = 0;
        assert_int_equal(code, cases[i].code);
        if (code != 0) assert_int_equal(count, 0);
        assert_non_null(strstr(error.text, cases[i].words));
    }
    close_fixture(&made);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_highest_score_merges_first),
        cmocka_unit_test(equal_scores_merge_from_the_left),
        cmocka_unit_test(other_types_are_never_made),
        cmocka_unit_test(pieces_may_hold_spaces),
        cmocka_unit_test(long_texts_take_no_quadratic_time),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(characters_without_a_token),
        cmocka_unit_test(a_space_stands_before_a_text),
        cmocka_unit_test(streams_keep_their_first_space),
        cmocka_unit_test(user_defined_tokens_are_found_first),
        cmocka_unit_test(usual_values_of_keys),
        cmocka_unit_test(wrong_tables_are_refused),
        cmocka_unit_test(wrong_keys_are_refused),
#ifdef FLIN_TEST_WRAP_MALLOC
        cmocka_unit_test(no_memory_for_a_long_text),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
