/* Learns which bundles are wanted together while it runs a few tokens, and packs the checkpoint again in that order. A
 * real one sees some thousand tokens of typical text. */
#include <flashinfer.h>
#include <stdio.h>

static void learn(const flashinfer_trace *trace, void *user)
{
    /* it can fail for lack of memory only; then it learns less */
    (void)flashinfer_order_add(*(flashinfer_order **)user, trace, NULL);
}

static int run(const char *path, flashinfer_order **order,
               flashinfer_error *error)
{
    flashinfer_session *session = NULL;
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_info info = {.size = sizeof info};
    int code;

    flashinfer_options_init(&options, sizeof options);
    options.trace = learn;
    options.trace_user = order;
    code = flashinfer_model_open(path, &options, &model, error);
    if (code == 0) code = flashinfer_model_info(model, &info);
    if (code == 0)
        code = flashinfer_order_create(info.layer_count, info.ffn_length,
                                       order, error);
    if (code == 0) code = flashinfer_session_create(model, &session, error);
    for (int32_t token = 2; token < 20 && code == 0; token++)
        code = flashinfer_step(session, token, error);
    flashinfer_session_destroy(session);
    flashinfer_model_close(model);
    return code;
}

int main(int argc, char **argv)
{
    flashinfer_order *order = NULL;
    flashinfer_pack_options options;
    flashinfer_error error;
    int code;

    if (argc != 4) return 2; /* MODEL.gguf CHECKPOINT OUT.gguf */
    flashinfer_pack_options_init(&options, sizeof options);
    flashinfer_error_init(&error, sizeof error);
    code = run(argv[1], &order, &error);
    options.order = order;
    if (code == 0) code = flashinfer_pack(argv[2], argv[3], &options, &error);
    if (code != 0)
        fprintf(stderr, "%s\n", error.text);
    else
        printf("packed %s in order\n", argv[3]);
    flashinfer_order_destroy(order);
    return code != 0;
}
