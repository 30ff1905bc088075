/*
 * test_decoder.c - streaming text: whatever the bytes, the pieces are whole characters and add up
 * to what Python's decoder (errors="replace") makes of all bytes at once
 * (tests/data/tokenizer/decoder.bin).
 */
#include "text_fixture.h"

#include "failing_heap.h"
#include "text/decoder.h"
#include "util/utf8.h"

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

static flashinfer_decoder *new_decoder(const fixture *with)
{
    flashinfer_error error = {.size = sizeof error};
    flashinfer_decoder *decoder;

    if (flin_decoder_create(with->tokenizer, &decoder, &error) != 0) fail_msg("%s", error.text);
    return decoder;
}

/* Push one token; append its text to stream. */
static void push(flashinfer_decoder *decoder, int32_t token, buffer *stream)
{
    flashinfer_error error = {.size = sizeof error};
    const char *text;
    size_t bytes;

    if (flin_decoder_push(decoder, token, &text, &bytes, &error) != 0) fail_msg("%s", error.text);
    assert_int_equal(text[bytes], 0);
    for (size_t at = 0; at < bytes;) {
        flin_utf8 next = flin_utf8_read((const uint8_t *)text + at, bytes - at);
        assert_int_equal(next.kind, FLIN_UTF8_CHARACTER);
        at += next.bytes;
    }
    put(stream, text, bytes);
}

static void stream_equals(const fixture *with, flashinfer_decoder *decoder, flin_string bytes,
                          flin_string wanted)
{
    flashinfer_error error = {.size = sizeof error};
    buffer stream = {0};
    int32_t ids[256];
    size_t count;

    if (flin_tokenizer_encode(with->tokenizer, bytes.data, bytes.bytes, 0, ids, 256, &count,
                              &error) != 0)
        fail_msg("%s", error.text);
    for (size_t i = 0; i < count; i++) push(decoder, ids[i], &stream);
    push(decoder, -1, &stream);
    assert_int_equal(stream.bytes, wanted.bytes);
    if (wanted.bytes != 0) assert_memory_equal(stream.data, wanted.data, wanted.bytes);
    free(stream.data);
}

static void broken_text_as_python_decodes_it(void **state)
{
    buffer cases = read_data("decoder.bin");
    reader from = {cases.data, cases.data + cases.bytes};
    flashinfer_decoder *one = new_decoder(&fable), *two = new_decoder(&other);
    uint32_t count = take_number(&from);

    (void)state;
    assert_true(count >= 1000);
    while (count-- > 0) {
        flin_string bytes = take_bytes(&from), wanted = take_bytes(&from);
        stream_equals(&fable, one, bytes, wanted);
        stream_equals(&other, two, bytes, wanted);
    }
    assert_ptr_equal(from.at, from.end);
    flin_decoder_destroy(one);
    flin_decoder_destroy(two);
    free(cases.data);
}

/* Tokens of the bytes of a text, one each: byte tokens are single characters, so pieces never
 * merge. */
static int32_t byte_token(uint8_t byte)
{
    int32_t id;
    size_t count;

    /* a lone byte of a longer character is a word by itself */
    assert_int_equal(
        flin_tokenizer_encode(fable.tokenizer, (const char *)&byte, 1, 0, &id, 1, &count, NULL), 0);
    return id;
}

static void characters_are_held_back_until_whole(void **state)
{
    static const uint8_t face[] = {0xf0, 0x9f, 0x98, 0x80};
    flashinfer_decoder *decoder = new_decoder(&fable);
    const char *text;
    size_t bytes;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(flin_decoder_push(decoder, byte_token(face[i]), &text, &bytes, NULL), 0);
        assert_int_equal(bytes, 0);
        assert_string_equal(text, "");
    }
    assert_int_equal(flin_decoder_push(decoder, byte_token(face[3]), &text, NULL, NULL), 0);
    assert_string_equal(text, "\xf0\x9f\x98\x80");

    /* the beginning of a character, then something else: the former can never be completed */
    assert_int_equal(flin_decoder_push(decoder, byte_token(0xe2), &text, NULL, NULL), 0);
    assert_int_equal(flin_decoder_push(decoder, byte_token(0x82), &text, NULL, NULL), 0);
    assert_string_equal(text, "");
    assert_int_equal(flin_decoder_push(decoder, byte_token('x'), &text, NULL, NULL), 0);
    assert_string_equal(text, "\xef\xbf\xbdx");
    flin_decoder_destroy(decoder);
}

static void control_tokens_give_nothing_and_wrong_ones_change_nothing(void **state)
{
    static const int32_t wrong[] = {-2, INT32_MIN, FABLE_TOKENS, INT32_MAX};
    flashinfer_error error = {.size = sizeof error};
    flashinfer_decoder *decoder = new_decoder(&fable);
    const char *text;
    size_t bytes;

    (void)state;
    assert_int_equal(flin_decoder_push(decoder, byte_token(0xc3), &text, &bytes, &error), 0);
    assert_int_equal(flin_decoder_push(decoder, 2, &text, &bytes, &error), 0);
    assert_int_equal(bytes, 0);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(flin_decoder_push(decoder, wrong[i], &text, &bytes, &error),
                         FLASHINFER_ETOKEN);
        assert_string_equal(text, "");
        assert_int_equal(bytes, 0);
    }
    assert_int_equal(flin_decoder_push(decoder, byte_token(0xa9), &text, &bytes, &error), 0);
    assert_string_equal(text, "\xc3\xa9");
    assert_int_equal(flin_decoder_push(decoder, -1, &text, &bytes, &error), 0);
    assert_int_equal(bytes, 0);
    flin_decoder_destroy(decoder);
    flin_decoder_destroy(NULL);
}

/* Text may hold zero bytes, and the longest token fits. */
static void any_token_fits(void **state)
{
    flashinfer_decoder *decoder = new_decoder(&other);
    buffer stream = {0}, whole = {0};

    (void)state;
    for (int32_t id = 0; id < (int32_t)OTHER_TOKENS; id++) {
        char text[256];
        size_t bytes;
        assert_int_equal(
            flin_tokenizer_decode(other.tokenizer, &id, 1, text, sizeof text, &bytes, NULL), 0);
        assert_true(bytes <= flin_tokenizer_longest_bytes(other.tokenizer));
        put(&whole, text, bytes);
        push(decoder, id, &stream);
    }
    push(decoder, -1, &stream);
    assert_true(stream.bytes >= whole.bytes); /* every broken piece has become three bytes */
    assert_non_null(memchr(stream.data, 0, stream.bytes));
    free(stream.data);
    free(whole.data);
    flin_decoder_destroy(decoder);
}

#ifdef FLIN_TEST_WRAP_MALLOC
static void no_memory_for_a_decoder(void **state)
{
    flashinfer_error error = {.size = sizeof error};
    flashinfer_decoder *decoder;
    int code;

    (void)state;
    heap_fails = 1;
    code = flin_decoder_create(fable.tokenizer, &decoder, &error);
    heap_fails = 0;
    assert_int_equal(code, FLASHINFER_ENOMEM);
    assert_null(decoder);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_text_as_python_decodes_it),
        cmocka_unit_test(characters_are_held_back_until_whole),
        cmocka_unit_test(control_tokens_give_nothing_and_wrong_ones_change_nothing),
        cmocka_unit_test(any_token_fits),
#ifdef FLIN_TEST_WRAP_MALLOC
        cmocka_unit_test(no_memory_for_a_decoder),
#endif
    };
    return cmocka_run_group_tests(tests, open_both, close_both);
}
