/* Lists what is in a model file. Only its header is read, so no budget is needed. */
#include <flashinfer.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    flashinfer_info info = {.size = sizeof info};
    flashinfer_tensor_info tensor = {.size = sizeof tensor};
    flashinfer_options options;
    flashinfer_error error;
    flashinfer_model *model;
    const char *key;
    char value[80];

    if (argc != 2) return 2;
    flashinfer_options_init(&options, sizeof options);
    flashinfer_error_init(&error, sizeof error);
    options.flags = FLASHINFER_OPEN_METADATA;
    if (flashinfer_model_open(argv[1], &options, &model, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    flashinfer_model_info(model, &info);
    printf("%s: %llu parameters, runs with %s\n", info.architecture,
           (unsigned long long)info.parameter_count, info.predictors);
    for (uint32_t i = 0; i < info.metadata_count; i++)
        if (flashinfer_model_metadata(model, i, &key, value,
                                      sizeof value) == 0)
            printf("%s = %s\n", key, value);
    for (uint32_t i = 0; i < info.tensor_count; i++)
        if (flashinfer_model_tensor(model, i, &tensor) == 0)
            printf("%s: %llu bytes\n", tensor.name,
                   (unsigned long long)tensor.bytes);
    return flashinfer_model_close(model) != 0;
}
