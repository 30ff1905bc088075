/*
 * fuzz_files.c - any bytes as the tokenizer files of a checkpoint: they are refused, or become keys.
 *
 * The input begins with a byte. Its lowest bits say which file follows: tokenizer.model,
 * tokenizer.json, or vocab.json and, behind a zero byte, merges.txt. With the highest bit one more
 * file comes first, tokenizer_config.json, up to a zero byte.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pack/tokenizer_export.h"

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static int directory = -1;
static char folder[] = "/tmp/flashinfer-fuzz-XXXXXX";

static void remove_folder(void)
{
    (void)rmdir(folder);
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
    (void)count;
    (void)arguments;
    if (mkdtemp(folder) == NULL) abort();
    directory = open(folder, O_RDONLY | O_DIRECTORY);
    if (directory < 0) abort();
    return atexit(remove_folder);
}

static void write_file(const char *name, const uint8_t *data, size_t bytes)
{
    int file = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (file < 0 || write(file, data, bytes) != (ssize_t)bytes || close(file) != 0) abort();
}

/* The file up to a zero byte; what is behind it is left. */
static void write_part(const char *name, const uint8_t **data, size_t *bytes)
{
    const uint8_t *zero = *bytes != 0 ? memchr(*data, 0, *bytes) : NULL;
    size_t part = zero != NULL ? (size_t)(zero - *data) : *bytes;

    write_file(name, *data, part);
    *data += zero != NULL ? part + 1 : part;
    *bytes -= zero != NULL ? part + 1 : part;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *const names[] = {"tokenizer_config.json", "tokenizer.model",
                                        "tokenizer.json", "vocab.json", "merges.txt"};
    flin_checkpoint facts = {.shape = {.vocab = 512}, .bos_id = -1, .eos_id = -1, .pad_id = -1};
    flin_gguf_writer writer;
    uint8_t kind;

    if (bytes == 0) return 0;
    kind = *data++;
    bytes--;
    if (kind & 0x80) write_part(names[0], &data, &bytes);
    if (kind % 3 == 0) {
        write_file(names[1], data, bytes);
    } else if (kind % 3 == 1) {
        write_file(names[2], data, bytes);
    } else {
        write_part(names[3], &data, &bytes);
        write_file(names[4], data, bytes);
    }
    flin_gguf_writer_begin(&writer);
    (void)flin_tokenizer_export(&writer, directory, &facts, NULL);
    flin_gguf_writer_close(&writer);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        (void)unlinkat(directory, names[i], 0);
    return 0;
}
