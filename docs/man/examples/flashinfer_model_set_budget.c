/* Gives memory back between two steps and takes it again; the logits do not change. */
#include <flashinfer.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    flashinfer_plan plan = {.size = sizeof plan};
    flashinfer_session *session = NULL;
    flashinfer_model *model;
    flashinfer_error error;
    float logit[3];
    int code;

    if (argc != 2) return 2;
    flashinfer_error_init(&error, sizeof error);
    code = flashinfer_model_open(argv[1], NULL, &model, &error);
    if (code == 0) code = flashinfer_session_create(model, &session, &error);
    for (int i = 0; i < 3 && code == 0; i++) {
        flashinfer_model_plan(model, &plan);
        /* the smallest that works for the second of the three */
        code = flashinfer_model_set_budget(
            model, i == 1 ? plan.minimum_bytes : plan.maximum_bytes, &error);
        if (code == 0) code = flashinfer_session_rewind(session, 0, &error);
        if (code == 0) code = flashinfer_step(session, 2, &error);
        if (code != 0) break;
        flashinfer_model_plan(model, &plan);
        logit[i] = flashinfer_logits(session, NULL)[0];
        printf("%llu bytes: logit %f\n",
               (unsigned long long)plan.planned_bytes, (double)logit[i]);
    }
    if (code != 0) fprintf(stderr, "%s\n", error.text);
    flashinfer_session_destroy(session);
    flashinfer_model_close(model);
    return code != 0 || logit[0] != logit[1] || logit[0] != logit[2];
}
