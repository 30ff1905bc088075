/*
 * tokenise_file.c - the tokenizer of a GGUF file, by the public interface: texts to ids and back.
 *
 * usage: tokenise_file FILE.gguf [special] < texts
 *
 * Texts come as "BYTES\n" and so many bytes. For each two lines go out: its ids, and "BYTES\n" with
 * the text that the ids give. A refusal is one line on stderr and exit status 1.
 */
#include <flashinfer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES_MAX (64u << 20)

/* One text; 0 at the end of the input. */
static int next_text(char *text, size_t *bytes)
{
    unsigned long count;

    if (scanf("%lu", &count) != 1) return 0;
    if (getchar() != '\n' || count > TEXT_BYTES_MAX) exit(2);
    if (fread(text, 1, count, stdin) != count) exit(2);
    *bytes = count;
    return 1;
}

static int tokenise(const flashinfer_model *model, uint32_t flags, flashinfer_error *error)
{
    size_t room = 3 * (size_t)TEXT_BYTES_MAX + 16, bytes, count, back_bytes;
    char *text = malloc(room), *back = malloc(room);
    int32_t *ids = malloc(room * sizeof *ids);
    int code = 0;

    if (text == NULL || back == NULL || ids == NULL) exit(2);
    while (code == 0 && next_text(text, &bytes)) {
        code = flashinfer_tokenize(model, text, bytes, flags, ids, room, &count, error);
        if (code == 0)
            code = flashinfer_detokenize(model, ids, count, back, room, &back_bytes, error);
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

int main(int argc, char **argv)
{
    flashinfer_error error;
    flashinfer_options options;
    flashinfer_model *model = NULL;
    int code;

    if (argc < 2 || argc > 3 || (argc == 3 && strcmp(argv[2], "special") != 0)) {
        (void)fprintf(stderr, "usage: %s FILE.gguf [special]\n", argv[0]);
        return 2;
    }
    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.flags = FLASHINFER_OPEN_METADATA;
    code = flashinfer_model_open(argv[1], &options, &model, &error);
    if (code == 0) code = tokenise(model, argc == 3 ? FLASHINFER_TOKENIZE_SPECIAL : 0, &error);
    flashinfer_model_close(model);
    if (code != 0) (void)fprintf(stderr, "%s: %s\n", flashinfer_error_name(code), error.text);
    return code != 0;
}
