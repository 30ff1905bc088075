/*
 * fuzz_vocabulary.c - any bytes as a GGUF file: it is refused, or its tokenizer takes any text.
 *
 * The input is a byte that says how long the text is, the text, and the file. What opens must lay
 * out the same bytes twice, tokenise without reading past anything, and give ids of its vocabulary.
 */
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"

#define IDS_MAX 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void demand(int holds)
{
    if (!holds) abort();
}

static void use(const flin_tokenizer *tokenizer, uint32_t vocab_count, const uint8_t *text,
                size_t bytes)
{
    static int32_t ids[IDS_MAX];
    static char back[1u << 16];

    for (uint32_t flags = 0; flags < 4; flags++) {
        size_t count = 0, back_bytes;
        int code = flin_tokenizer_encode(tokenizer, (const char *)text, bytes, flags, ids, IDS_MAX,
                                         &count, NULL);
        if (code != 0) continue;
        for (size_t i = 0; i < count; i++) demand(ids[i] >= 0 && (uint32_t)ids[i] < vocab_count);
        code = flin_tokenizer_decode(tokenizer, ids, count, back, sizeof back, &back_bytes, NULL);
        demand(code == 0 || code == FLASHINFER_EBUFFER);
    }
}

static void open_tokenizer(const flin_gguf *gguf, const uint8_t *text, size_t bytes)
{
    const flin_gguf_value *tokens = flin_gguf_find(gguf, "tokenizer.ggml.tokens");
    const uint32_t count = tokens->count < (1u << 20) ? (uint32_t)tokens->count : 0;
    flin_tokenizer *tokenizer;
    flin_arena arena;
    uint64_t needed;

    flin_arena_measure(&arena);
    if (flin_tokenizer_layout(&arena, gguf, count, &tokenizer, NULL) != 0) return;
    needed = arena.used;
    if (needed > (64u << 20) || flin_arena_open(&arena, needed, "a tokenizer", NULL) != 0) return;
    if (flin_tokenizer_layout(&arena, gguf, count, &tokenizer, NULL) == 0) {
        demand(arena.used == needed);
        use(tokenizer, count, text, bytes);
    }
    flin_arena_close(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    flin_storage_config config = {0};
    flin_storage storage;
    flin_gguf gguf;
    size_t text_bytes;

    if (bytes == 0 || (text_bytes = data[0]) + 1 > bytes) return 0;
    if (flin_storage_open_memory(&storage, data + 1 + text_bytes, bytes - 1 - text_bytes, &config,
                                 NULL) != 0)
        return 0;
    if (flin_gguf_open(&gguf, &storage, 0, NULL) == 0) {
        if (gguf.tensor_count == 0) open_tokenizer(&gguf, data + 1, text_bytes);
        flin_gguf_close(&gguf);
    }
    flin_storage_close(&storage);
    return 0;
}
