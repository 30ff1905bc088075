/* Runs a few tokens and says what was read from flash for them. */
#include <flashinfer.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    flashinfer_stats stats = {.size = sizeof stats};
    flashinfer_session *session = NULL;
    flashinfer_model *model;
    flashinfer_error error;
    int code;

    if (argc != 2) return 2;
    flashinfer_error_init(&error, sizeof error);
    code = flashinfer_model_open(argv[1], NULL, &model, &error);
    if (code == 0) code = flashinfer_session_create(model, &session, &error);
    if (code == 0) code = flashinfer_model_reset_stats(model);
    for (int32_t token = 2; token < 10 && code == 0; token++)
        code = flashinfer_step(session, token, &error);
    if (code == 0) code = flashinfer_model_stats(model, &stats);
    if (code == 0 && stats.predicted != 0)
        printf("%llu tokens: %.1f %% of the neurons named, %.1f %% of those "
               "in memory, %llu bytes read, %.2f ms a token\n",
               (unsigned long long)stats.tokens,
               100.0 * (double)stats.predicted / (double)stats.neurons,
               100.0 * (double)stats.resident / (double)stats.predicted,
               (unsigned long long)stats.flash_bytes,
               (double)stats.total_ns / 1e6 / (double)stats.tokens);
    if (code != 0) fprintf(stderr, "%s\n", error.text);
    flashinfer_session_destroy(session);
    flashinfer_model_close(model);
    return code != 0;
}
