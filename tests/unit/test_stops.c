/*
 * test_stops.c - stop strings: whatever the pieces, what is shown is the text up to the first string to be complete, no
 * part of one is ever shown, and nothing is held back that could not be the beginning of one. Beside a plain search in
 * the whole text; then through a decoder with a tokenizer's own tokens.
 */
#include "text_fixture.h"

#include "failing_heap.h"
#include "text/decoder.h"
#include "text/stops.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static fixture fable;

static int open_tokenizer(void **state)
{
    (void)state;
    open_data_fixture(&fable, "fable-vocab.bin", FABLE_TOKENS);
    return 0;
}

static int close_tokenizer(void **state)
{
    (void)state;
    close_fixture(&fable);
    return 0;
}

static flin_stops *new_stops(const char *const *texts, size_t count, size_t piece_bytes)
{
    flashinfer_error error = {.size = sizeof error};
    flin_stops *stops;

    if (flin_stops_create(texts, NULL, count, piece_bytes, NULL, &stops, &error) != 0)
        fail_msg("%s", error.text);
    return stops;
}

/* Where the first stop string to be complete begins and which it is; the text's end and -1 without one. */
static size_t search(const char *text, const char *const *texts, size_t count, int32_t *found)
{
    *found = -1;
    for (size_t end = 1; text[end - 1] != '\0'; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < count; i++) {
            size_t bytes = strlen(texts[i]);
            if (bytes > end || bytes <= longest || memcmp(text + end - bytes, texts[i], bytes) != 0)
                continue;
            longest = bytes;
            *found = (int32_t)i;
        }
        if (*found >= 0) return end - longest;
    }
    return strlen(text);
}

/* May a text that ends like this go on to a stop string that begins `held` bytes before its end? */
static int is_begun(const char *end, size_t held, const char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(texts[i]) > held && memcmp(end - held, texts[i], held) == 0) return 1;
    return 0;
}

static uint64_t random_state = 9;

static uint32_t below(uint32_t bound)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % bound;
}

/* Few letters, so that strings often begin, and often overlap. */
static void make_text(char *text, size_t letters)
{
    static const char *const alphabet[] = {"a", "b", "\xc3\xa9"};

    text[0] = '\0';
    for (size_t i = 0; i < letters; i++) (void)strcat(text, alphabet[below(3)]);
}

static void check_pieces(flin_stops *stops, const char *text, const char *const *texts,
                         size_t count)
{
    const size_t bytes = strlen(text);
    char shown[256] = "";
    size_t at = 0, used = 0, wanted;
    int32_t found;

    wanted = search(text, texts, count, &found);
    while (at < bytes) {
        size_t piece = below(7), more;
        const char *given;
        if (piece > bytes - at) piece = bytes - at;
        while (at + piece < bytes && ((unsigned char)text[at + piece] & 0xc0) == 0x80) piece++;
        flin_stops_push(stops, text + at, piece, 0, &given, &more);
        at += piece;
        assert_int_equal(given[more], 0);
        (void)memcpy(shown + used, given, more);
        used += more;
        assert_true(used <= wanted);
        assert_memory_equal(shown, text, used);
        if (flin_stops_found(stops) >= 0) assert_int_equal(used, wanted);
        if (flin_stops_found(stops) < 0 && used < at)
            assert_true(is_begun(text + at, at - used, texts, count));
    }
    {
        const char *given;
        size_t more;
        flin_stops_push(stops, "", 0, 1, &given, &more);
        (void)memcpy(shown + used, given, more);
        used += more;
    }
    assert_int_equal(used, wanted);
    assert_memory_equal(shown, text, used);
    assert_int_equal(flin_stops_found(stops), found);
}

static void any_text_in_any_pieces(void **state)
{
    uint32_t stopped = 0;

    (void)state;
    for (uint32_t round = 0; round < 3000; round++) {
        char made[4][32], text[128];
        const char *texts[4];
        size_t count = 1 + below(4);
        flin_stops *stops;
        for (size_t i = 0; i < count; i++) {
            make_text(made[i], 1 + below(7));
            texts[i] = made[i];
        }
        stops = new_stops(texts, count, 16);
        for (int again = 0; again < 3; again++) { /* a text after the other */
            make_text(text, below(50));
            check_pieces(stops, text, texts, count);
            stopped += flin_stops_found(stops) >= 0;
        }
        flin_stops_destroy(stops);
    }
    assert_in_range(stopped, 1000, 8999);
    flin_stops_destroy(NULL);
}

/* ---- through a decoder ---- */

static flashinfer_decoder *new_decoder(void)
{
    flashinfer_error error = {.size = sizeof error};
    flashinfer_decoder *decoder;

    if (flin_decoder_create(fable.tokenizer, &decoder, &error) != 0) fail_msg("%s", error.text);
    return decoder;
}

static void set_stops(flashinfer_decoder *decoder, const char *const *texts, size_t count)
{
    flashinfer_error error = {.size = sizeof error};

    if (flin_decoder_set_stops(decoder, texts, NULL, count, &error) != 0)
        fail_msg("%s", error.text);
}

/* Push a text's tokens; what is shown is appended. */
static void push_text(flashinfer_decoder *decoder, const char *text, buffer *shown)
{
    int32_t ids[128];
    size_t count;

    assert_int_equal(
        flin_tokenizer_encode(fable.tokenizer, text, strlen(text), 0, ids, 128, &count, NULL), 0);
    for (size_t i = 0; i < count; i++) {
        const char *given;
        size_t bytes;
        assert_int_equal(flin_decoder_push(decoder, ids[i], &given, &bytes, NULL), 0);
        assert_int_equal(strlen(given), bytes);
        put(shown, given, bytes);
    }
}

static void push_end(flashinfer_decoder *decoder, buffer *shown)
{
    const char *given;
    size_t bytes;

    assert_int_equal(flin_decoder_push(decoder, -1, &given, &bytes, NULL), 0);
    put(shown, given, bytes);
}

static void expect_shown(buffer *shown, const char *wanted)
{
    put(shown, "", 1);
    assert_string_equal((const char *)shown->data, wanted);
    shown->bytes = 0;
}

static void text_of_tokens_stops(void **state)
{
    static const char *const texts[] = {"\n\n", "upon a t", "the end\xe2\x80\xa6"};
    flashinfer_decoder *decoder = new_decoder();
    buffer shown = {0};

    (void)state;
    assert_int_equal(flin_decoder_stopped(decoder), -1);
    set_stops(decoder, texts, COUNT(texts));
    push_text(decoder, "Once upon a", &shown);
    expect_shown(&shown, "Once "); /* the rest may be the beginning of one */
    push_text(decoder, " dragon", &shown);
    expect_shown(&shown, "upon a dragon");
    push_text(decoder, ", once upon a time there was", &shown);
    expect_shown(&shown, ", once ");
    assert_int_equal(flin_decoder_stopped(decoder), 1);
    push_text(decoder, "nothing more\n\n", &shown);
    push_end(decoder, &shown);
    expect_shown(&shown, "");
    assert_int_equal(flin_decoder_stopped(decoder), 1);
    /* another stream */
    push_text(decoder, "One line\nand the end", &shown);
    assert_int_equal(flin_decoder_stopped(decoder), -1);
    push_end(decoder, &shown);
    expect_shown(&shown, "One line\nand the end");
    push_text(decoder, "so the end\xe2\x80\xa6 not", &shown);
    assert_int_equal(flin_decoder_stopped(decoder), 2);
    expect_shown(&shown, "so ");
    push_end(decoder, &shown);
    /* none any more */
    set_stops(decoder, NULL, 0);
    assert_int_equal(flin_decoder_stopped(decoder), -1);
    push_text(decoder, "upon a time\n\n", &shown);
    expect_shown(&shown, "upon a time\n\n");
    free(shown.data);
    flin_decoder_destroy(decoder);
}

/* Text that is held back is not lost when others are set, and counts for them. */
static void strings_can_be_replaced(void **state)
{
    static const char *const first[] = {"upon a time"}, *const second[] = {"on a cloud"},
                             *const third[] = {"pon"};
    flashinfer_decoder *decoder = new_decoder();
    buffer shown = {0};

    (void)state;
    set_stops(decoder, first, 1);
    push_text(decoder, "Once upon a", &shown);
    expect_shown(&shown, "Once ");
    set_stops(decoder, second, 1);
    push_text(decoder, " cloud", &shown);
    expect_shown(&shown, "up");
    assert_int_equal(flin_decoder_stopped(decoder), 0);
    set_stops(decoder, first, 1); /* goes on */
    assert_int_equal(flin_decoder_stopped(decoder), -1);
    push_text(decoder, "Once upon", &shown);
    expect_shown(&shown, "Once ");
    set_stops(decoder, third, 1); /* in what is held back already */
    push_text(decoder, " a", &shown);
    expect_shown(&shown, "u");
    assert_int_equal(flin_decoder_stopped(decoder), 0);
    push_end(decoder, &shown);
    set_stops(decoder, first, 1);
    push_text(decoder, "Once upon", &shown);
    set_stops(decoder, NULL, 0);
    push_text(decoder, " a", &shown);
    expect_shown(&shown, "Once upon a");
    free(shown.data);
    flin_decoder_destroy(decoder);
}

static void lengths_may_be_given(void **state)
{
    static const char *const texts[] = {"a\0b", "xyz"};
    static const size_t bytes[] = {3, 1};
    flashinfer_error error = {.size = sizeof error};
    const char *given;
    flin_stops *stops;
    size_t more;

    (void)state;
    assert_int_equal(flin_stops_create(texts, bytes, 2, 16, NULL, &stops, &error), 0);
    flin_stops_push(stops, "1a\0c", 4, 0, &given, &more);
    assert_int_equal(more, 4);
    flin_stops_push(stops, "2a\0", 3, 0, &given, &more);
    assert_int_equal(more, 1);
    flin_stops_push(stops, "bc", 2, 0, &given, &more);
    assert_int_equal(more, 0);
    assert_int_equal(flin_stops_found(stops), 0);
    flin_stops_push(stops, "", 0, 1, &given, &more);
    flin_stops_push(stops, "3xyz", 4, 0, &given, &more);
    assert_string_equal(given, "3");
    assert_int_equal(flin_stops_found(stops), 1);
    flin_stops_destroy(stops);
}

static void wrong_strings_are_refused(void **state)
{
    static const struct {
        const char *const texts[2];
        const char *words;
    } cases[] = {{{"fine", ""}, "stop string 1 is empty"},
                 {{"fine", NULL}, "stop string 1 is NULL"},
                 {{"\xc3", "fine"}, "stop string 0 is not UTF-8 at byte 0"},
                 {{"fine", "ab\x80"}, "stop string 1 is not UTF-8 at byte 2"},
                 {{"fine", "\xed\xa0\x80"}, "stop string 1 is not UTF-8 at byte 0"}};
    static const char *const good[] = {"upon"};
    flashinfer_error error = {.size = sizeof error};
    flashinfer_decoder *decoder = new_decoder();
    buffer shown = {0};

    (void)state;
    set_stops(decoder, good, 1);
    push_text(decoder, "Once up", &shown);
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(flin_decoder_set_stops(decoder, cases[i].texts, NULL, 2, &error),
                         FLASHINFER_EINVAL);
        if (strstr(error.text, cases[i].words) == NULL) fail_msg("%s", error.text);
    }
    assert_int_equal(flin_decoder_set_stops(decoder, good, NULL, (size_t)INT32_MAX + 1, &error),
                     FLASHINFER_EINVAL);
    /* nothing has changed */
    push_text(decoder, "on", &shown);
    expect_shown(&shown, "Once ");
    assert_int_equal(flin_decoder_stopped(decoder), 0);
    free(shown.data);
    flin_decoder_destroy(decoder);
}

/* Through the public functions, which only check and call inward. */
static void missing_arguments_are_refused(void **state)
{
    static const char *const texts[] = {"end"};
    flashinfer_error error = {.size = sizeof error};
    flashinfer_decoder *decoder = new_decoder();

    (void)state;
    assert_int_equal(flashinfer_decoder_set_stops(NULL, texts, NULL, 1, &error), FLASHINFER_EINVAL);
    assert_non_null(strstr(error.text, "decoder is NULL"));
    assert_int_equal(flashinfer_decoder_set_stops(decoder, NULL, NULL, 1, &error),
                     FLASHINFER_EINVAL);
    assert_non_null(strstr(error.text, "texts is NULL"));
    assert_int_equal(flashinfer_decoder_set_stops(decoder, NULL, NULL, 0, &error), 0);
    assert_int_equal(flashinfer_decoder_set_stops(decoder, texts, NULL, 1, NULL), 0);
    assert_int_equal(flashinfer_decoder_stopped(decoder), -1);
    assert_int_equal(flashinfer_decoder_stopped(NULL), -1);
    flashinfer_decoder_destroy(decoder);
}

#ifdef FLIN_TEST_WRAP_MALLOC
static void no_memory_for_strings_and_none_later(void **state)
{
    static const char *const texts[] = {"upon"}, *const others[] = {"time"};
    flashinfer_error error = {.size = sizeof error};
    flashinfer_decoder *decoder = new_decoder();
    const char *given;
    buffer shown = {0};
    size_t bytes;
    int code;

    (void)state;
    set_stops(decoder, texts, 1);
    push_text(decoder, "Once up", &shown);
    heap_fails = 1;
    code = flin_decoder_set_stops(decoder, others, NULL, 1, &error);
    heap_fails = 0;
    assert_int_equal(code, FLASHINFER_ENOMEM);
    for (int32_t id = 5; id < (int32_t)FABLE_TOKENS; id++) { /* any token fits */
        heap_fails = 1;
        code = flin_decoder_push(decoder, id, &given, &bytes, &error);
        heap_fails = 0;
        assert_int_equal(code, 0);
        if (flin_decoder_stopped(decoder) >= 0) push_end(decoder, &shown);
    }
    free(shown.data);
    flin_decoder_destroy(decoder);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_text_in_any_pieces),
        cmocka_unit_test(text_of_tokens_stops),
        cmocka_unit_test(strings_can_be_replaced),
        cmocka_unit_test(lengths_may_be_given),
        cmocka_unit_test(wrong_strings_are_refused),
        cmocka_unit_test(missing_arguments_are_refused),
#ifdef FLIN_TEST_WRAP_MALLOC
        cmocka_unit_test(no_memory_for_strings_and_none_later),
#endif
    };
    return cmocka_run_group_tests(tests, open_tokenizer, close_tokenizer);
}
