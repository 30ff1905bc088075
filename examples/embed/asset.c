/*
 * asset.c - a model inside a larger file, as an Android asset lies stored in the package that holds it.
 *
 * The lesson: flashinfer_model_open_fd() with an offset and a length. At an offset that is a multiple of 4096 reads go
 * past the page cache, at any other through it; the descriptor may be closed as soon as the model is open.
 */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "story.h"

/* A whole decimal number, or -1. */
static int number(const char *text, uint64_t *value)
{
    char *end;

    *value = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' ? 0 : -1;
}

int main(int argc, char **argv)
{
    flashinfer_options options;
    flashinfer_model *model = NULL;
    flashinfer_error error;
    uint64_t offset, length;
    int fd, code;

    if (argc < 4 || argc > 5 || number(argv[2], &offset) != 0 || number(argv[3], &length) != 0 ||
        (argc == 5 && strcmp(argv[4], "direct") != 0)) {
        (void)fprintf(stderr, "usage: asset CONTAINER OFFSET LENGTH [direct]\n");
        return 2;
    }
    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    /* asked for by name, direct reads that are not possible are an error; by default the next best is taken */
    if (argc == 5) options.storage = FLASHINFER_STORAGE_PREAD;
    fd = open(argv[1], O_RDONLY | O_CLOEXEC); /* on Android: AAsset_openFileDescriptor64() */
    if (fd < 0) {
        (void)fprintf(stderr, "cannot read %s\n", argv[1]);
        return 1;
    }
    code = flashinfer_model_open_fd(fd, offset, length, &options, &model, &error);
    (void)close(fd);
    if (code == 0) code = story_tell(model, STORY_PROMPT, 24, stdout, &error);
    (void)flashinfer_model_close(model);
    return story_end(code, &error);
}
