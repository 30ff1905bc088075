/*
 * synth.c - write a synthetic model: the shape of a known model, random weights, and the FFN
 * activity the paper measured on OPT-6.7B.
 *
 * For measuring speed only. Nothing was trained; what such a model says means nothing.
 */
#include <stdio.h>
#include <string.h>

#include "program.h"
#include "synth_write.h"
#include "util/pool.h"

static const char usage[] =
    "Writes a SYNTHETIC model: random weights whose FFN fires as the paper says of OPT-6.7B (3% "
    "active; 10% named are 24% cached and 2.4% loaded with a window of 4).\n"
    "synth --shape NAME | --layers L --d D --heads H --ffn F --vocab V [options] OUT.gguf\n"
    "  --shape        opt-125m, opt-1.3b, opt-6.7b, or falcon-7b: Falcon's dimensions in OPT "
    "blocks\n"
    "                 (learned positions, biases, plain ReLU FFN, full attention), not Falcon\n"
    "  --layers --d --heads --ffn --vocab   one by one, or instead of the shape's\n"
    "  --context N    positions (default the shape's, else 2048)\n"
    "  --dtype        f16 (default), f32, bf16, q8_0 or q4_0\n"
    "  --dtype-resident, --dtype-ffn   the same for a part, as pack has them\n"
    "  --sketch-bits  bits a weight has in the sketch predictor, 1 to 4 (default 3)\n"
    "  --named P      margin of the sketch such that it names P percent of the FFN, as the "
    "paper's\n"
    "                 predictor names 10 (default: the packer's margin)\n"
    "  --seed S       another model of the same kind (default 1)\n"
    "  --threads N    makes the same file (default: one per CPU, at most 16)";

typedef struct known_shape {
    const char *name;
    const char *what;
    synth_shape shape;
} known_shape;

static const known_shape known_shapes[] = {
    {"opt-125m", "OPT-125M's dimensions", {12, 768, 12, 3072, 50272, 2048}},
    {"opt-1.3b", "OPT-1.3B's dimensions", {24, 2048, 32, 8192, 50272, 2048}},
    {"opt-6.7b", "OPT-6.7B's dimensions", {32, 4096, 32, 16384, 50272, 2048}},
    {"falcon-7b", "Falcon-7B's dimensions in OPT blocks", {32, 4544, 71, 18176, 65024, 2048}},
};

typedef struct texts {
    const char *shape, *layers, *width, *heads, *neurons, *vocab, *context;
    const char *dtype, *resident, *ffn, *bits, *named, *seed, *threads;
} texts;

static const known_shape *find_shape(const char *name)
{
    for (size_t i = 0; i < sizeof known_shapes / sizeof *known_shapes; i++)
        if (strcmp(name, known_shapes[i].name) == 0) return &known_shapes[i];
    return NULL;
}

/* A shape that an option changed is no longer the known one; a longer context changes nothing. */
static int same_dimensions(const synth_shape *a, const synth_shape *b)
{
    return a->layers == b->layers && a->width == b->width && a->heads == b->heads &&
           a->neurons == b->neurons && a->vocab == b->vocab;
}

static int read_shape(const texts *given, synth_shape *shape)
{
    int code;

    if (given->shape == NULL &&
        (given->layers == NULL || given->width == NULL || given->heads == NULL ||
         given->neurons == NULL || given->vocab == NULL))
        return program_refuse("give --shape, or all of --layers --d --heads --ffn --vocab");
    code = program_u32("--layers", given->layers, 1, 1024, &shape->layers);
    if (code == 0) code = program_u32("--d", given->width, 32, 65536, &shape->width);
    if (code == 0) code = program_u32("--heads", given->heads, 1, 4096, &shape->heads);
    if (code == 0) code = program_u32("--ffn", given->neurons, 1, 1u << 20, &shape->neurons);
    if (code == 0) code = program_u32("--vocab", given->vocab, 256, 1u << 22, &shape->vocab);
    if (code == 0) code = program_u32("--context", given->context, 1, 1u << 22, &shape->context);
    if (code == 0 && shape->width % shape->heads != 0)
        code = program_refuse("--heads must divide --d");
    return code;
}

static int read_options(const texts *given, synth_options *options)
{
    static const char *const dtypes[] = {"f16", "f32", "bf16", "q8_0", "q4_0", NULL};
    static const uint32_t numbers[] = {FLASHINFER_DTYPE_F16, FLASHINFER_DTYPE_F32,
                                       FLASHINFER_DTYPE_BF16, FLASHINFER_DTYPE_Q8_0,
                                       FLASHINFER_DTYPE_Q4_0};
    float named = 0;
    uint32_t seed = 1;
    int code = program_choice("--dtype", given->dtype, dtypes, numbers, &options->dtype_resident);

    options->dtype_ffn = options->dtype_resident;
    if (code == 0)
        code = program_choice("--dtype-resident", given->resident, dtypes, numbers,
                              &options->dtype_resident);
    if (code == 0)
        code = program_choice("--dtype-ffn", given->ffn, dtypes, numbers, &options->dtype_ffn);

    if (code == 0) code = program_u32("--sketch-bits", given->bits, 1, 4, &options->sketch_bits);
    if (code == 0) code = program_float("--named", given->named, 3, 90, &named);
    if (code == 0) code = program_u32("--seed", given->seed, 0, UINT32_MAX, &seed);
    if (code == 0) code = program_u32("--threads", given->threads, 1, 64, &options->threads);
    options->named_share = named / 100.0;
    options->seed = seed;
    return code;
}

static int write_model(const char *path, const known_shape *known, synth_options *options)
{
    const synth_shape *shape = &options->shape;
    char name[96], description[320];
    synth_result result;
    flashinfer_error error;
    double begin = program_seconds(), seconds;

    flashinfer_error_init(&error, sizeof error);
    (void)snprintf(name, sizeof name, "synthetic model, %s",
                   known != NULL ? known->what : "dimensions of its own");
    (void)snprintf(description, sizeof description,
                   "SYNTHETIC: random weights, seed %llu, never trained; for measuring speed only. "
                   "%u layers of width %u, %u heads, %u FFN neurons, %u tokens, in OPT blocks; FFN "
                   "activity made to match what the paper says of OPT-6.7B",
                   (unsigned long long)options->seed, shape->layers, shape->width, shape->heads,
                   shape->neurons, shape->vocab);
    options->name = name;
    options->description = description;
    if (synth_write(path, options, &result, &error) != 0) return program_fail(&error);
    seconds = program_seconds() - begin;
    (void)printf("%s: %s\n%s\n", path, name, description);
    if (options->named_share > 0)
        (void)printf("sketch margin %.2f, to name %.1f%% of the FFN\n",
                     (double)result.sketch_margin, 100 * options->named_share);
    (void)printf("%.1f MB in %.1f s, %.0f MB/s\n", (double)result.file_bytes / 1e6, seconds,
                 (double)result.file_bytes / 1e6 / seconds);
    return fflush(stdout) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    texts given;
    const program_option known_options[] = {{"--shape", &given.shape, NULL},
                                            {"--layers", &given.layers, NULL},
                                            {"--d", &given.width, NULL},
                                            {"--heads", &given.heads, NULL},
                                            {"--ffn", &given.neurons, NULL},
                                            {"--vocab", &given.vocab, NULL},
                                            {"--context", &given.context, NULL},
                                            {"--dtype", &given.dtype, NULL},
                                            {"--dtype-resident", &given.resident, NULL},
                                            {"--dtype-ffn", &given.ffn, NULL},
                                            {"--sketch-bits", &given.bits, NULL},
                                            {"--named", &given.named, NULL},
                                            {"--seed", &given.seed, NULL},
                                            {"--threads", &given.threads, NULL}};
    const known_shape *known = NULL;
    const char *path = NULL;
    synth_options options;
    int code;

    memset(&given, 0, sizeof given);
    memset(&options, 0, sizeof options);
    options.shape.context = 2048;
    options.sketch_bits = 3;
    options.threads = flin_pool_default_count();
    code = program_parse(argc, argv, known_options, sizeof known_options / sizeof *known_options,
                         &path, 1, usage);
    if (code != 0) return code;
    if (given.shape != NULL) {
        known = find_shape(given.shape);
        if (known == NULL) return program_refuse("unknown --shape");
        options.shape = known->shape;
    }
    code = read_shape(&given, &options.shape);
    if (known != NULL && !same_dimensions(&options.shape, &known->shape)) known = NULL;
    if (code == 0) code = read_options(&given, &options);
    return code != 0 ? code : write_model(path, known, &options);
}
