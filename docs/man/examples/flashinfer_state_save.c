/* Saves a session after a prompt, loads it into another one and goes on there: the prompt is not run again, and the
 * logits are the same. The bytes may just as well go into a file. */
#include <flashinfer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    const int32_t prompt[] = {2, 300, 11, 42};
    flashinfer_session *first = NULL, *second = NULL;
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_error error;
    size_t bytes = 0, count = 0;
    void *state = NULL;
    int code, same = 0;

    if (argc != 2) return 2;
    flashinfer_options_init(&options, sizeof options);
    flashinfer_error_init(&error, sizeof error);
    options.session_count = 2;
    code = flashinfer_model_open(argv[1], &options, &model, &error);
    if (code == 0) code = flashinfer_session_create(model, &first, &error);
    if (code == 0) code = flashinfer_session_create(model, &second, &error);
    if (code == 0) code = flashinfer_eval(first, prompt, 4, &error);
    if (code == 0) {
        bytes = flashinfer_state_bytes(first);
        state = malloc(bytes);
        if (state == NULL) return 1;
        code = flashinfer_state_save(first, state, bytes, &bytes, &error);
    }
    if (code == 0) code = flashinfer_state_load(second, state, bytes, &error);
    if (code == 0) code = flashinfer_step(first, 7, &error);
    if (code == 0) code = flashinfer_step(second, 7, &error);
    if (code == 0) {
        const float *one = flashinfer_logits(first, &count);

        same = memcmp(one, flashinfer_logits(second, NULL),
                      count * sizeof *one) == 0;
        printf("%zu bytes hold %u tokens; %s logits\n", bytes,
               (unsigned)flashinfer_session_position(second) - 1,
               same ? "the same" : "other");
    } else {
        fprintf(stderr, "%s\n", error.text);
    }
    free(state);
    flashinfer_session_destroy(second);
    flashinfer_session_destroy(first);
    flashinfer_model_close(model);
    return code != 0 || !same;
}
