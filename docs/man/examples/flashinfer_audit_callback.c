/* Counts what the predictor misses, in one layer of every token. */
#include <flashinfer.h>
#include <stdio.h>

typedef struct count {
    unsigned long long active, missed;
} count;

static void add(const flashinfer_audit *audit, void *user)
{
    count *sum = user;

    sum->active += audit->active;
    sum->missed += audit->missed;
}

int main(int argc, char **argv)
{
    flashinfer_session *session = NULL;
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_error error;
    count sum = {0, 0};
    int code;

    if (argc != 2) return 2;
    flashinfer_options_init(&options, sizeof options);
    flashinfer_error_init(&error, sizeof error);
    options.audit_interval = 1;
    options.audit = add;
    options.audit_user = &sum;
    code = flashinfer_model_open(argv[1], &options, &model, &error);
    if (code == 0) code = flashinfer_session_create(model, &session, &error);
    for (int32_t token = 2; token < 20 && code == 0; token++)
        code = flashinfer_step(session, token, &error);
    if (code == 0)
        printf("%llu of %llu firing neurons were not named\n", sum.missed,
               sum.active);
    else
        fprintf(stderr, "%s\n", error.text);
    flashinfer_session_destroy(session);
    flashinfer_model_close(model);
    return code != 0;
}
