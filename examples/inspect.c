/*
 * inspect.c - what is in a model file, and whether it is whole.
 *
 * The lesson: opening only the metadata, listing tensors, asking for a plan, verifying checksums.
 */
#include <stdlib.h>
#include <string.h>

#include "program.h"

static const char usage[] =
    "Says what is in a model file, which memory budgets it can have, and whether it is whole.\n"
    "inspect MODEL.gguf [--activation NAME] [--verify] [--json]\n"
    "  MODEL.gguf     model file, made by pack\n" PROGRAM_ACTIVATION_HELP "\n"
    "  --verify       read the whole file, compare every checksum, and print a summary and the "
    "verdict\n"
    "  --json         print all of it as JSON";

/* As ggml numbers them. */
static const char *type_name(uint32_t type)
{
    static const char *const names[] = {
        [0] = "F32",   [1] = "F16",   [2] = "Q4_0",    [3] = "Q4_1",    [6] = "Q5_0",
        [7] = "Q5_1",  [8] = "Q8_0",  [10] = "Q2_K",   [11] = "Q3_K",   [12] = "Q4_K",
        [13] = "Q5_K", [14] = "Q6_K", [20] = "IQ4_NL", [23] = "IQ4_XS", [24] = "I8",
        [26] = "I32",  [27] = "I64",  [30] = "BF16",   [39] = "MXFP4"};

    return type < sizeof names / sizeof *names && names[type] != NULL ? names[type] : "?";
}

static const char *activation_name(uint32_t activation)
{
    static const char *const names[] = {"?",     "relu", "relu2", "fatrelu",
                                        "drelu", "silu", "gelu",  "gelu_tanh"};

    return names[activation < sizeof names / sizeof names[0] ? activation : 0];
}

static void print_summary(const flashinfer_info *info, const flashinfer_plan *plan)
{
    (void)printf("%s \"%s\": %u layers of %u neurons%s, width %u, %u heads of %u (%u of keys and "
                 "values), %u tokens, context %u\n",
                 info->architecture, info->name, info->layer_count, info->ffn_length,
                 info->ffn_gated ? " with gates" : "", info->embedding_length, info->head_count,
                 info->head_length, info->kv_head_count, info->vocab_count, info->context_tokens);
    (void)printf("%.1f M parameters; file %.2f MB, ", (double)info->parameter_count / 1e6,
                 (double)info->file_bytes / 1e6);
    if (info->bundle_bytes != 0)
        (void)printf("of it %.2f MB FFN bundles of %u bytes, one every %u\n",
                     (double)info->ffn_bytes / 1e6, info->bundle_bytes, info->bundle_stride_bytes);
    else
        (void)printf("not in flash layout: matrices are whole, there are no checksums\n");
    if (info->ordered) (void)printf("bundles in a learned order\n");
    (void)printf("activation %s%s", activation_name(info->ffn_activation),
                 info->ffn_sparse ? "" : ": every neuron fires");
    if (info->ffn_threshold > 0) (void)printf(" above %g", (double)info->ffn_threshold);
    (void)printf("; predictors: %s; memory budget from %.2f MB (smallest) to %.2f MB (everything "
                 "resident)\n",
                 info->predictors, (double)plan->minimum_bytes / 1e6,
                 (double)plan->maximum_bytes / 1e6);
}

static void print_contents(const flashinfer_model *model, const flashinfer_info *info)
{
    (void)printf("\n");
    for (uint32_t i = 0; i < info->metadata_count; i++) {
        const char *key;
        char value[160];
        if (flashinfer_model_metadata(model, i, &key, value, sizeof value) != 0) continue;
        for (char *at = value; *at != '\0'; at++)
            if ((unsigned char)*at < 0x20) *at = ' ';
        (void)printf("%-44s %s\n", key, value);
    }
    (void)printf("\n%-36s %-5s %-16s %14s %12s %s\n", "tensor", "type", "dimensions", "offset",
                 "bytes", "xxh3");
    for (uint32_t i = 0; i < info->tensor_count; i++) {
        flashinfer_tensor_info tensor = {.size = sizeof tensor};
        char dimensions[64];
        if (flashinfer_model_tensor(model, i, &tensor) != 0) continue;
        (void)snprintf(dimensions, sizeof dimensions, "%llu x %llu",
                       (unsigned long long)tensor.dimensions[0],
                       (unsigned long long)tensor.dimensions[1]);
        (void)printf("%-36s %-5s %-16s %14llu %12llu %016llx\n", tensor.name,
                     type_name(tensor.type), dimensions, (unsigned long long)tensor.offset,
                     (unsigned long long)tensor.bytes, (unsigned long long)tensor.xxh3);
    }
}

static void print_json(const flashinfer_model *model, const flashinfer_info *info,
                       const flashinfer_plan *plan, int verified)
{
    (void)printf("{\"architecture\": \"%s\", \"name\": ", info->architecture);
    program_json_string(stdout, info->name, strlen(info->name));
    (void)printf(
        ", \"layers\": %u, \"width\": %u, \"ffn\": %u, \"heads\": %u, \"kv_heads\": %u, "
        "\"head_width\": %u, \"gated\": %s, \"activation\": \"%s\", \"sparse\": %s, \"threshold\": "
        "%g, "
        "\"vocab\": %u, \"context\": %u, "
        "\"parameters\": %llu, \"file_bytes\": %llu, \"ffn_bytes\": %llu, \"bundle_bytes\": %u, "
        "\"bundle_stride_bytes\": %u, \"ordered\": %s, \"predictors\": \"%s\", "
        "\"minimum_budget_bytes\": %llu, "
        "\"maximum_budget_bytes\": %llu, \"verified\": %s, \"metadata\": {",
        info->layer_count, info->embedding_length, info->ffn_length, info->head_count,
        info->kv_head_count, info->head_length, info->ffn_gated ? "true" : "false",
        activation_name(info->ffn_activation), info->ffn_sparse ? "true" : "false",
        (double)info->ffn_threshold, info->vocab_count, info->context_tokens,
        (unsigned long long)info->parameter_count, (unsigned long long)info->file_bytes,
        (unsigned long long)info->ffn_bytes, info->bundle_bytes, info->bundle_stride_bytes,
        info->ordered ? "true" : "false", info->predictors, (unsigned long long)plan->minimum_bytes,
        (unsigned long long)plan->maximum_bytes, verified ? "true" : "false");
    for (uint32_t i = 0; i < info->metadata_count; i++) {
        const char *key = "";
        char value[512] = "";
        (void)flashinfer_model_metadata(model, i, &key, value, sizeof value);
        if (i != 0) (void)printf(", ");
        program_json_string(stdout, key, strlen(key));
        (void)printf(": ");
        program_json_string(stdout, value, strlen(value));
    }
    (void)printf("}, \"tensors\": [");
    for (uint32_t i = 0; i < info->tensor_count; i++) {
        flashinfer_tensor_info tensor = {.size = sizeof tensor, .name = ""};
        (void)flashinfer_model_tensor(model, i, &tensor);
        (void)printf("%s{\"name\": ", i != 0 ? ", " : "");
        program_json_string(stdout, tensor.name, strlen(tensor.name));
        (void)printf(", \"type\": \"%s\", \"dimensions\": [%llu, %llu], \"offset\": %llu, "
                     "\"bytes\": %llu, \"xxh3\": "
                     "\"%016llx\"}",
                     type_name(tensor.type), (unsigned long long)tensor.dimensions[0],
                     (unsigned long long)tensor.dimensions[1], (unsigned long long)tensor.offset,
                     (unsigned long long)tensor.bytes, (unsigned long long)tensor.xxh3);
    }
    (void)printf("]}\n");
}

/* What budgets mean for a file whose matrices are whole: all that memory lacks is read for every token. */
static void print_budgets(const char *path, flashinfer_options *options,
                          const flashinfer_plan *smallest)
{
    for (uint32_t percent = 25; percent <= 100; percent += 25) {
        flashinfer_plan plan = {.size = sizeof plan};
        options->memory_budget = smallest->file_bytes / 100 * percent;
        if (flashinfer_plan_file(path, options, &plan, NULL) != 0) return;
        (void)printf("at %3u %% of the file, %.2f MB: ", percent,
                     (double)options->memory_budget / 1e6);
        if (plan.budget_bytes < plan.minimum_bytes)
            (void)printf("too small\n");
        else
            (void)printf("%.2f MB are read for every token\n", (double)plan.streamed_bytes / 1e6);
    }
}

int main(int argc, char **argv)
{
    const char *path = NULL, *activation = NULL;
    int json = 0, verify = 0, code;
    const program_option known[] = {
        {"--verify", NULL, &verify}, {"--json", NULL, &json}, {"--activation", &activation, NULL}};
    flashinfer_options options;
    flashinfer_model *model = NULL;
    flashinfer_info info = {.size = sizeof info};
    flashinfer_plan plan = {.size = sizeof plan};
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    code = program_parse(argc, argv, known, sizeof known / sizeof known[0], &path, 1, usage);
    if (code == 0)
        code = program_activation(activation, &options.ffn_activation, &options.ffn_threshold);
    if (code != 0) return code;
    options.flags = FLASHINFER_OPEN_METADATA | FLASHINFER_OPEN_NO_TOKENIZER;
    code = flashinfer_model_open(path, &options, &model, &error);
    if (code == 0) code = flashinfer_model_info(model, &info);
    options.flags = FLASHINFER_OPEN_NO_TOKENIZER;
    if (code == 0) code = flashinfer_plan_file(path, &options, &plan, &error);
    if (code == 0 && verify) code = flashinfer_model_verify(model, &error);
    if (code == 0 && json) print_json(model, &info, &plan, verify);
    if (code == 0 && !json) print_summary(&info, &plan);
    if (code == 0 && !json && info.bundle_bytes == 0) print_budgets(path, &options, &plan);
    if (code == 0 && !json && !verify) print_contents(model, &info);
    if (code == 0 && !json && verify) (void)printf("every checksum of the file is right\n");
    (void)flashinfer_model_close(model);
    return program_end(code, &error);
}
