/*
 * texts.h - what the programs that tokenise texts from a pipe share.
 *
 * Texts come as "BYTES\n" and so many bytes. For each two lines go out: its ids, and "BYTES\n" with the text that the ids
 * give.
 */
#ifndef TESTS_TOOLS_TEXTS_H
#define TESTS_TOOLS_TEXTS_H

#include <stdio.h>
#include <stdlib.h>

#include "flashinfer.h"

#define TEXT_BYTES_MAX (64u << 20)
#define TEXT_ROOM (3 * (size_t)TEXT_BYTES_MAX + 16) /* of ids, and of bytes that come back */

/* A text's ids into ids (TEXT_ROOM), then what they give into back (TEXT_ROOM). Returns 0 or a code with the error. */
typedef int (*text_there_and_back)(const void *tokenizer, const char *text, size_t bytes, uint32_t flags, int32_t *ids,
                                   size_t *count, char *back, size_t *back_bytes, flashinfer_error *error);

/* One text; 0 at the end of the input. */
static inline int next_text(char *text, size_t *bytes)
{
    unsigned long count;

    if (scanf("%lu", &count) != 1) return 0;
    if (getchar() != '\n' || count > TEXT_BYTES_MAX) exit(2);
    if (fread(text, 1, count, stdin) != count) exit(2);
    *bytes = count;
    return 1;
}

static inline int tokenise_all(text_there_and_back call, const void *tokenizer, uint32_t flags, flashinfer_error *error)
{
    char *text = malloc(TEXT_ROOM), *back = malloc(TEXT_ROOM);
    int32_t *ids = malloc(TEXT_ROOM * sizeof *ids);
    size_t bytes, count, back_bytes;
    int code = 0;

    if (text == NULL || back == NULL || ids == NULL) exit(2);
    while (code == 0 && next_text(text, &bytes)) {
        code = call(tokenizer, text, bytes, flags, ids, &count, back, &back_bytes, error);
        if (code != 0) break;
        for (size_t i = 0; i < count; i++) (void)printf("%s%d", i == 0 ? "" : " ", ids[i]);
        (void)printf("\n%zu\n", back_bytes);
        (void)fwrite(back, 1, back_bytes, stdout);
        (void)putchar('\n');
    }
    free(text);
    free(back);
    free(ids);
    return code;
}

#endif
