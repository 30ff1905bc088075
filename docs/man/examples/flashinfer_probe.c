/* Measures the device that a model lies on, keeps the result, and opens the model with what suits the device. */
#include <flashinfer.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    flashinfer_probe_result result = {.size = sizeof result};
    flashinfer_probe_options measuring;
    flashinfer_options options;
    flashinfer_error error;
    flashinfer_model *model;
    int code;

    if (argc != 3) return 2; /* MODEL.gguf RESULT */
    flashinfer_probe_options_init(&measuring, sizeof measuring);
    flashinfer_options_init(&options, sizeof options);
    flashinfer_error_init(&error, sizeof error);
    measuring.time_ms = 500;
    code = flashinfer_probe_load(argv[2], &result, NULL);
    if (code != 0) { /* the first time */
        code = flashinfer_probe(argv[1], &measuring, &result, &error);
        if (code == 0) code = flashinfer_probe_save(&result, argv[2], &error);
    }
    options.probe = &result;
    if (code == 0)
        code = flashinfer_model_open(argv[1], &options, &model, &error);
    if (code != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    for (int i = 0; i < FLASHINFER_PROBE_SIZES; i++)
        printf("%7u bytes, %u in flight: %.0f MB/s\n",
               (unsigned)result.read_bytes[i], (unsigned)result.depths[2],
               (double)result.read_bytes_per_s[i][2] / 1e6);
    return flashinfer_model_close(model) != 0;
}
