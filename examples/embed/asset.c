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

#include "../arguments.h"
#include "story.h"

/* A whole decimal number, or -1. */
static int number(const char *text, uint64_t *value)
{
    char *end;

    *value = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' ? 0 : -1;
}

static const char usage[] =
    "Tells a story by a model that lies inside a larger file.\n"
    "asset CONTAINER OFFSET LENGTH [direct]\n"
    "  CONTAINER   the larger file\n"
    "  OFFSET      byte of it at which the model begins\n"
    "  LENGTH      bytes of the model\n"
    "  direct      refuse reads through the page cache (default: take what works)";

int main(int argc, char **argv)
{
    const char *given[4] = {NULL};
    flashinfer_options options;
    flashinfer_model *model = NULL;
    flashinfer_error error;
    uint64_t offset, length;
    int fd, code;

    if (program_parse_some(argc, argv, NULL, 0, given, 3, 4, usage) != 0) return 2;
    if (number(given[1], &offset) != 0)
        return program_refuse("OFFSET is a whole number, not \"%s\"", given[1]);
    if (number(given[2], &length) != 0)
        return program_refuse("LENGTH is a whole number, not \"%s\"", given[2]);
    if (given[3] != NULL && strcmp(given[3], "direct") != 0)
        return program_refuse("\"%s\" stands where only \"direct\" may", given[3]);
    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    /* asked for by name, direct reads that are not possible are an error; by default the next best is taken */
    if (given[3] != NULL) options.storage = FLASHINFER_STORAGE_PREAD;
    fd = open(given[0], O_RDONLY | O_CLOEXEC); /* on Android: AAsset_openFileDescriptor64() */
    if (fd < 0) {
        (void)fprintf(stderr, "cannot read %s\n", given[0]);
        return 1;
    }
    code = flashinfer_model_open_fd(fd, offset, length, &options, &model, &error);
    (void)close(fd);
    if (code == 0) code = story_tell(model, STORY_PROMPT, 24, stdout, &error);
    (void)flashinfer_model_close(model);
    return story_end(code, &error);
}
