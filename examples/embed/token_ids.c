/*
 * token_ids.c - numbers in, numbers out: a host with a tokenizer of its own, or with none.
 *
 * The lesson: FLASHINFER_OPEN_NO_TOKENIZER, flashinfer_eval() on ids, flashinfer_logits(). Also opens files whose tokenizer
 * this library does not know.
 */
#include <stdlib.h>

#include "../arguments.h"
#include "story.h"

#define IDS_MAX 256

static int32_t likeliest(const flashinfer_session *session)
{
    size_t count, best = 0;
    const float *logits = flashinfer_logits(session, &count); /* (count), the session's */

    for (size_t i = 1; i < count; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

static int go_on(flashinfer_session *session, const int32_t *ids, size_t id_count, int wanted,
                 flashinfer_error *error)
{
    int code = flashinfer_eval(session, ids, id_count, error);

    while (code == 0) {
        int32_t next = likeliest(session);
        (void)printf("%d%s", next, --wanted != 0 ? " " : "\n");
        if (wanted == 0) break;
        code = flashinfer_step(session, next, error);
    }
    return code;
}

static const char usage[] = "Goes on from token ids, in ids, without a tokenizer.\n"
                            "token_ids MODEL.gguf COUNT ID...\n"
                            "  MODEL.gguf   model file\n"
                            "  COUNT        how many ids more\n"
                            "  ID           to go on from";

int main(int argc, char **argv)
{
    const char *given[IDS_MAX + 3] = {NULL}; /* the last stays NULL */
    uint32_t wanted = 0;
    size_t count = 0;
    int32_t ids[IDS_MAX];
    flashinfer_options options;
    flashinfer_model *model = NULL;
    flashinfer_session *session = NULL;
    flashinfer_error error;
    int code;

    if (program_parse_some(argc, argv, NULL, 0, given, 3, IDS_MAX + 2, usage) != 0 ||
        program_u32("COUNT", given[1], 1, INT32_MAX, &wanted) != 0)
        return 2;
    for (const char **text = given + 2; *text != NULL; text++) {
        char *end;
        long id = strtol(*text, &end, 10);
        if (*end != '\0' || end == *text || id < INT32_MIN || id > INT32_MAX)
            return program_refuse("\"%s\" is not a token id", *text);
        ids[count++] = (int32_t)id;
    }
    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.flags = FLASHINFER_OPEN_NO_TOKENIZER;
    code = flashinfer_model_open(given[0], &options, &model, &error);
    if (code == 0) code = flashinfer_session_create(model, &session, &error);
    if (code == 0) code = go_on(session, ids, count, (int)wanted, &error);
    flashinfer_session_destroy(session);
    (void)flashinfer_model_close(model);
    return story_end(code, &error);
}
