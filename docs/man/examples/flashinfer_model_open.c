/* Opens a model within three quarters of its file's size, and says how that is divided. A budget that cannot
 * work is an error whose text names the smallest that does. */
#include <flashinfer.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    flashinfer_plan plan = {.size = sizeof plan};
    flashinfer_options options;
    flashinfer_error error;
    flashinfer_model *model;
    int code;

    if (argc != 2) return 2;
    flashinfer_options_init(&options, sizeof options);
    flashinfer_error_init(&error, sizeof error);
    options.context_tokens = 128;
    code = flashinfer_plan_file(argv[1], &options, &plan, &error);
    if (code == 0) {
        options.memory_budget = plan.file_bytes / 4 * 3;
        code = flashinfer_model_open(argv[1], &options, &model, &error);
    }
    if (code != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    flashinfer_model_plan(model, &plan);
    printf("%llu of %llu bytes, %llu of them for %u neurons in memory\n",
           (unsigned long long)plan.planned_bytes,
           (unsigned long long)plan.budget_bytes,
           (unsigned long long)plan.cache_bytes, (unsigned)plan.slots);
    return flashinfer_model_close(model) != 0;
}
