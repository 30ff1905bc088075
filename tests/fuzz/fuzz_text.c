/*
 * fuzz_text.c - any bytes as a text, for the tokenizers of every name that tokenizer.ggml.pre may
 * have and for gemma4: ids give the text back, normalised where the tokenizer normalises.
 *
 * The vocabularies are those of tests/data/tokenizer, in the folder FLASHINFER_TEST_DATA.
 */
#define main no_main /* the fixture's headers want a test program */
#include "text_fixture.h"
#undef main

#include "text/normal.h"
#include "text/split.h"

#define KINDS_MAX 32u
#define IDS_MAX 65536u

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static fixture kinds[KINDS_MAX];
static uint32_t flags[KINDS_MAX];
static uint32_t kind_count;

static void demand(int holds)
{
    if (!holds) abort();
}

static void open_kind(reader from, const char *pre)
{
    flin_string blob = take_bytes(&from);
    const uint32_t vocab_count = take_number(&from);
    metadata keys = {{0}, 0};

    memcpy(&keys.count, blob.data, sizeof keys.count);
    put(&keys.entries, blob.data + sizeof keys.count, blob.bytes - sizeof keys.count);
    if (pre != NULL) add_text(&keys, "tokenizer.ggml.pre", pre);
    demand(open_fixture(&kinds[kind_count++], &keys, vocab_count, NULL) == 0);
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
    buffer splitters = read_data("splitters.bin"), pieces = read_data("pieces.bin");

    (void)count;
    (void)arguments;
    for (uint32_t i = 0; i < flin_split_rule_count; i++) {
        const flin_split_rule *rule = &flin_split_rules[i];
        buffer *from = (rule->flags & FLIN_SPLIT_PIECES) != 0 ? &pieces : &splitters;
        flags[kind_count] = rule->flags;
        open_kind((reader){from->data, from->data + from->bytes},
                  from == &splitters ? rule->names[0] : NULL);
    }
    free(splitters.data);
    free(pieces.data);
    return 0;
}

/* What ids of a text give back. U+2581 is a space to pieces. */
static void expect(uint32_t kind, const uint8_t *text, size_t bytes, buffer *wanted)
{
    flin_normaliser with = {{NULL, 0, NULL}, {NULL, 0, NULL}};

    if ((flags[kind] & FLIN_SPLIT_NFC) != 0)
        demand(flin_normalise(&with, text, bytes, &text, &bytes) == 0);
    for (size_t at = 0; at < bytes; at++) {
        int spaced = (flags[kind] & FLIN_SPLIT_PIECES) != 0 && bytes - at >= 3 &&
                     memcmp(text + at, "\xe2\x96\x81", 3) == 0;
        put(wanted, spaced ? (const uint8_t *)" " : text + at, 1);
        if (spaced) at += 2;
    }
    free(with.text.heap);
    free(with.codes.heap);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static int32_t ids[IDS_MAX];
    static char back[3 * IDS_MAX];

    if (3 * bytes > IDS_MAX) return 0;
    for (uint32_t kind = 0; kind < kind_count; kind++) {
        const flin_tokenizer *tokenizer = kinds[kind].tokenizer;
        buffer wanted = {0};
        size_t count, back_bytes;
        expect(kind, data, bytes, &wanted);
        demand(flin_tokenizer_encode(tokenizer, (const char *)data, bytes, 0, ids, IDS_MAX, &count,
                                     NULL) == 0);
        demand(flin_tokenizer_decode(tokenizer, ids, count, back, sizeof back, &back_bytes, NULL) ==
               0);
        demand(back_bytes == wanted.bytes &&
               (back_bytes == 0 || memcmp(back, wanted.data, back_bytes) == 0));
        free(wanted.data);
    }
    return 0;
}
