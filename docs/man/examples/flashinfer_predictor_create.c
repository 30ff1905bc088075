/* Makes a sketch of 2 bits for every layer, saves it as a predictor file and opens the model with it. */
#include <flashinfer.h>
#include <stdio.h>

static int make(const char *path, const char *out, flashinfer_error *error)
{
    flashinfer_info info = {.size = sizeof info};
    flashinfer_predictor *made = NULL;
    flashinfer_model *model;
    uint64_t bytes = 0;
    int code = flashinfer_model_open(path, NULL, &model, error);

    if (code == 0) code = flashinfer_model_info(model, &info);
    if (code == 0) code = flashinfer_predictor_create(model, &made, error);
    for (uint32_t layer = 0; layer < info.layer_count && code == 0; layer++) {
        /* -1: the margin that suits so many bits */
        code = flashinfer_predictor_set_sketch(made, layer, 2, -1, error);
        bytes += flashinfer_predictor_bytes(made, layer);
    }
    if (code == 0) code = flashinfer_predictor_save(made, out, error);
    if (code == 0)
        printf("%llu bytes in memory\n", (unsigned long long)bytes);
    flashinfer_predictor_destroy(made);
    flashinfer_model_close(model);
    return code;
}

int main(int argc, char **argv)
{
    flashinfer_options options;
    flashinfer_error error;
    flashinfer_model *model;
    int code;

    if (argc != 3) return 2; /* MODEL.gguf PREDICTOR.gguf */
    flashinfer_options_init(&options, sizeof options);
    flashinfer_error_init(&error, sizeof error);
    options.predictor_path = argv[2];
    code = make(argv[1], argv[2], &error);
    if (code == 0)
        code = flashinfer_model_open(argv[1], &options, &model, &error);
    if (code != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    puts("opened with it");
    return flashinfer_model_close(model) != 0;
}
