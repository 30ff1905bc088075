/*
 * windows.c - see windows.h.
 */
#include "windows.h"

#include <math.h>
#include <stdlib.h>

#include "program.h"

int windows_ids(const flashinfer_model *model, const char *text_path, const char *ids_path,
                int32_t **ids, size_t *count, flashinfer_error *error)
{
    const char *path = text_path != NULL ? text_path : ids_path;
    size_t bytes;
    char *data = program_read_file(path, &bytes);
    int code;

    *ids = NULL;
    if (data == NULL) return 1;
    if (text_path == NULL) {
        *ids = (int32_t *)(void *)data;
        *count = bytes / sizeof **ids;
        if (bytes % sizeof **ids == 0) return 0;
        (void)fprintf(stderr, "%s: %zu bytes are not a whole number of int32 ids\n", path, bytes);
        return 1;
    }
    code = program_tokenize(model, data, bytes, 0, ids, count, error);
    free(data);
    return code;
}

double windows_log_sum(const float *logits, size_t vocab)
{
    double most = (double)logits[0], sum = 0;

    for (size_t i = 1; i < vocab; i++)
        if ((double)logits[i] > most) most = (double)logits[i];
    for (size_t i = 0; i < vocab; i++) sum += exp((double)logits[i] - most);
    return most + log(sum);
}

double windows_surprise(const float *logits, size_t vocab, int32_t token)
{
    return windows_log_sum(logits, vocab) - (double)logits[token];
}
