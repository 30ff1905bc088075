/*
 * tokenise_lines.c - a checkpoint's tokenizer on its own: packed into a file without a model, read
 * back, and put to work.
 *
 * usage: tokenise_lines CHECKPOINT VOCAB_COUNT FILE.gguf [special] < texts
 *
 * Texts come and go as texts.h says. A refusal is one line on stderr and exit status 1.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pack/tokenizer_export.h"
#include "text/tokenizer.h"
#include "texts.h"

static int pack(const char *checkpoint, uint32_t vocab_count, const char *path,
                flashinfer_error *error)
{
    flin_checkpoint facts = {
        .shape = {.vocab = vocab_count}, .bos_id = -1, .eos_id = -1, .pad_id = -1};
    int directory = open(checkpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const float nothing = 0;
    flin_gguf_writer writer;
    uint32_t tensor;
    int code;

    if (directory < 0) return flin_fail(error, FLASHINFER_EIO, "cannot open %s", checkpoint);
    flin_gguf_writer_begin(&writer);
    flin_gguf_put_u32(&writer, "general.alignment", FLIN_GGUF_ALIGNMENT);
    code = flin_tokenizer_export(&writer, directory, &facts, error);
    tensor = flin_gguf_add_tensor(&writer, "nothing", FLIN_GGUF_F32, 1, 0); /* no file is without */
    if (code == 0) code = flin_gguf_writer_create(&writer, path, error);
    if (code == 0) {
        flin_gguf_write_begin(&writer, tensor, 1);
        code = flin_gguf_write(&writer, &nothing, sizeof nothing, error);
        flin_gguf_write_end(&writer);
    }
    if (code == 0) code = flin_gguf_writer_finish(&writer, error);
    flin_gguf_writer_close(&writer);
    (void)close(directory);
    return code;
}

static int there_and_back(const void *tokenizer, const char *text, size_t bytes, uint32_t flags, int32_t *ids,
                          size_t *count, char *back, size_t *back_bytes, flashinfer_error *error)
{
    int code = flin_tokenizer_encode(tokenizer, text, bytes, flags, ids, TEXT_ROOM, count, error);

    if (code != 0) return code;
    return flin_tokenizer_decode(tokenizer, ids, *count, back, TEXT_ROOM, back_bytes, error);
}

static int work(const char *path, uint32_t vocab_count, uint32_t flags, flashinfer_error *error)
{
    flin_storage_config config = {0};
    flin_storage storage;
    flin_gguf gguf;
    flin_arena arena;
    flin_tokenizer *tokenizer;
    int code = flin_storage_open_path(&storage, path, &config, error);

    if (code != 0) return code;
    code = flin_gguf_open(&gguf, &storage, 1, error);
    flin_arena_measure(&arena);
    if (code == 0) code = flin_tokenizer_layout(&arena, &gguf, vocab_count, &tokenizer, error);
    if (code == 0) code = flin_arena_open(&arena, arena.used, "a tokenizer", error);
    if (code == 0) code = flin_tokenizer_layout(&arena, &gguf, vocab_count, &tokenizer, error);
    if (code == 0) code = tokenise_all(there_and_back, tokenizer, flags, error);
    if (code == 0) flin_arena_close(&arena);
    flin_gguf_close(&gguf);
    flin_storage_close(&storage);
    return code;
}

int main(int argc, char **argv)
{
    flashinfer_error error = {.size = sizeof error};
    uint32_t vocab_count, flags;
    int code;

    if (argc < 4 || argc > 5 || (argc == 5 && strcmp(argv[4], "special") != 0)) {
        (void)fprintf(stderr, "usage: %s CHECKPOINT VOCAB_COUNT FILE.gguf [special]\n", argv[0]);
        return 2;
    }
    vocab_count = (uint32_t)strtoul(argv[2], NULL, 10);
    flags = argc == 5 ? FLASHINFER_TOKENIZE_SPECIAL : 0;
    code = pack(argv[1], vocab_count, argv[3], &error);
    if (code == 0) code = work(argv[3], vocab_count, flags, &error);
    if (code != 0) (void)fprintf(stderr, "%s: %s\n", flashinfer_error_name(code), error.text);
    return code != 0;
}
