/* Opens a model and tells all that the record says when that fails. */
#include <flashinfer.h>
#include <stdio.h>

static void tell(const flashinfer_error *error)
{
    fprintf(stderr, "%s (%s): %s\n", flashinfer_error_name(error->code),
            flashinfer_error_describe(error->code), error->text);
    if (error->sys_errno != 0)
        fprintf(stderr, "errno %d\n", error->sys_errno);
    if (error->layer >= 0)
        fprintf(stderr, "layer %d, neuron %lld\n", (int)error->layer,
                (long long)error->neuron);
    if (error->offset >= 0)
        fprintf(stderr, "byte %lld\n", (long long)error->offset);
}

int main(int argc, char **argv)
{
    flashinfer_model *model;
    flashinfer_error error;

    if (argc != 2) return 2;
    flashinfer_error_init(&error, sizeof error);
    if (flashinfer_model_open(argv[1], NULL, &model, &error) != 0) {
        tell(&error);
        return 1;
    }
    puts("opened");
    return flashinfer_model_close(model) != 0;
}
