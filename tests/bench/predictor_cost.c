/*
 * predictor_cost.c - what predictors of every kind and size cost a token: time, memory, and what a larger one saves in
 * reads, at one budget in one run. For synthetic models (synth), whose structure gives low-rank factors that really
 * predict: their columns are the layer's features, a width / 32 of them, as the paper's rank is.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"
#include "synth_weights.h"
#include "zipf.h"

static const char usage[] =
    "Measures what predictors of every kind and size cost a token, at one budget in one run.\n"
    "predictor_cost --model MODEL.gguf [options]\n"
    "  MODEL.gguf     written by synth\n"
    "  --kinds LIST   of s1 s2 s3 s4 (sketches) and lr (low-rank), with commas (default all)\n"
    "  --budget B     50% of the file, or bytes (default 50%)\n"
    "  --tokens N     measured (default 32)\n"
    "  --skip N       before those, to fill the cache (default 96)\n"
    "  --threads N    compute threads\n"
    "  --seed S       that synth was given (default 1)\n"
    "  --folder DIR   for predictor files, removed afterwards (default .)\n"
    "  --json";

#define LAST_LAYERS 4u      /* have more features, as the paper's */
#define RANK_FACTOR_LAST 8u /* 1024 where the others have 128 */
#define NAMED_SHARE 0.10

typedef struct request {
    const char *model, *kinds, *folder;
    uint32_t tokens, skip, seed;
    int json;
    flashinfer_options options;
} request;

typedef struct row {
    const char *name;
    uint64_t bytes; /* of the predictor */
    flashinfer_stats stats;
    flashinfer_plan plan;
} row;

static const char *const kinds[] = {"s1", "s2", "s3", "s4", "lr"};
#define KINDS (sizeof kinds / sizeof kinds[0])

/* ------------------------------------------------------------------------------ low-rank factors */

/* Spread of score - threshold where a score keeps three quarters of a row's variance, and the slack that lets the
   wanted share through. */
static float slack(void)
{
    double middle = synth_upper_quantile(SYNTH_ACTIVE_SHARE) * sqrt(1 + SYNTH_THRESHOLD_VARIANCE);

    return (float)(middle -
                   synth_upper_quantile(NAMED_SHARE) * sqrt(0.75 + SYNTH_THRESHOLD_VARIANCE));
}

/* down: (rank, width): the features, then random directions for what they leave. */
static void fill_down(synth_weights *weights, uint32_t rank, float *down)
{
    uint32_t width = weights->shape.width;

    memcpy(down, weights->features, (size_t)weights->rank * width * sizeof *down);
    if (rank > weights->rank) /* rows of another matrix of the same kind: independent of all */
        synth_matrix_rows(weights, SYNTH_VALUE, 1000 + weights->layer, 0, rank - weights->rank,
                          down + (size_t)weights->rank * width);
}

static float dot(const float *a, const float *b, uint32_t count)
{
    float sum[8] = {0};

    for (uint32_t i = 0; i + 8 <= count; i += 8)
        for (uint32_t k = 0; k < 8; k++) sum[k] += a[i + k] * b[i + k];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

typedef struct factors {
    float *down, *up, *bias, *rows;
} factors;

#define ROWS 64u

/* up = rows . down': the features are nearly orthogonal. Only they count, random directions would add noise. */
static int set_factors(flashinfer_model *model, flashinfer_predictor *predictor,
                       synth_weights *weights, uint32_t layer, uint32_t rank, const factors *to,
                       flashinfer_error *error)
{
    uint32_t width = weights->shape.width, neurons = weights->shape.neurons;
    int code = 0;

    synth_layer(weights, layer);
    fill_down(weights, rank, to->down);
    memset(to->up, 0, (size_t)rank * neurons * sizeof *to->up);
    for (uint32_t first = 0; first < neurons && code == 0; first += ROWS) {
        uint32_t count = neurons - first < ROWS ? neurons - first : ROWS;
        code = flashinfer_model_ffn_rows(model, layer, FLASHINFER_PART_UP, first, count, to->rows,
                                         error);
        for (uint32_t i = 0; i < count && code == 0; i++)
            for (uint32_t r = 0; r < weights->rank; r++)
                to->up[(size_t)(first + i) * rank + r] =
                    dot(to->rows + (size_t)i * width, to->down + (size_t)r * width, width);
    }
    if (code == 0) code = flashinfer_model_ffn_bias(model, layer, to->bias, error);
    for (uint32_t i = 0; i < neurons; i++) to->bias[i] += slack();
    return code != 0 ? code
                     : flashinfer_predictor_set_lowrank(predictor, layer, rank, 0, to->down, to->up,
                                                        to->bias, error);
}

/* synth writes no others, and has no factors of gate rows. */
static int check_ungated(const flashinfer_info *info, flashinfer_error *error)
{
    if (!info->ffn_gated) return 0;
    error->code = FLASHINFER_EUNSUPPORTED;
    (void)snprintf(error->text, sizeof error->text,
                   "the FFN of %s is gated: give a model written by synth", info->name);
    return error->code;
}

static int make_lowrank(const request *asked, flashinfer_model *model,
                        flashinfer_predictor *predictor, flashinfer_error *error)
{
    flashinfer_info info = {.size = sizeof info};
    synth_shape shape;
    synth_weights weights;
    factors to = {NULL, NULL, NULL, NULL};
    uint32_t most;
    int code;

    (void)flashinfer_model_info(model, &info);
    shape = (synth_shape){info.layer_count, info.embedding_length, info.head_count,
                          info.ffn_length,  info.vocab_count,      info.context_tokens};
    code = synth_weights_open(&weights, &shape, asked->seed, error);
    most = weights.rank * RANK_FACTOR_LAST;
    to.down = malloc((size_t)most * shape.width * sizeof(float));
    to.up = malloc((size_t)most * shape.neurons * sizeof(float));
    to.bias = malloc(shape.neurons * sizeof(float));
    to.rows = malloc((size_t)ROWS * shape.width * sizeof(float));
    if (to.down == NULL || to.up == NULL || to.bias == NULL || to.rows == NULL)
        code = FLASHINFER_ENOMEM;
    for (uint32_t i = 0; i < shape.layers && code == 0; i++)
        code = set_factors(model, predictor, &weights, i,
                           i + LAST_LAYERS >= shape.layers ? most : weights.rank, &to, error);
    free(to.down);
    free(to.up);
    free(to.bias);
    free(to.rows);
    synth_weights_close(&weights);
    return code;
}

/* ----------------------------------------------------------------------------------------- runs */

static int make(const request *asked, const char *kind, const char *path, row *out,
                flashinfer_error *error)
{
    flashinfer_options options = asked->options;
    flashinfer_info info = {.size = sizeof info};
    flashinfer_model *model = NULL;
    flashinfer_predictor *predictor = NULL;
    int code;

    options.memory_budget = 0;
    options.predictor = FLASHINFER_PREDICTOR_ALL; /* the least to load */
    code = flashinfer_model_open(asked->model, &options, &model, error);
    if (code == 0) (void)flashinfer_model_info(model, &info);
    if (code == 0) code = check_ungated(&info, error);
    if (code == 0) code = flashinfer_predictor_create(model, &predictor, error);
    if (code == 0 && kind[0] == 'l') code = make_lowrank(asked, model, predictor, error);
    for (uint32_t i = 0; code == 0 && kind[0] == 's' && i < info.layer_count; i++)
        code = flashinfer_predictor_set_sketch(predictor, i, (uint32_t)(kind[1] - '0'), -1, error);
    for (uint32_t i = 0; code == 0 && i < info.layer_count; i++)
        out->bytes += flashinfer_predictor_bytes(predictor, i);
    if (code == 0) code = flashinfer_predictor_save(predictor, path, error);
    flashinfer_predictor_destroy(predictor);
    (void)flashinfer_model_close(model);
    return code;
}

static int measure(const request *asked, const char *path, row *out, flashinfer_error *error)
{
    flashinfer_options options = asked->options;
    flashinfer_info info = {.size = sizeof info};
    flashinfer_model *model = NULL;
    flashinfer_session *session = NULL;
    uint32_t count = asked->skip + asked->tokens;
    int32_t *ids = malloc(count * sizeof *ids);
    int code = ids == NULL ? FLASHINFER_ENOMEM : 0;

    options.predictor_path = path;
    options.context_tokens = count;
    if (code == 0) code = flashinfer_model_open(asked->model, &options, &model, error);
    if (code == 0) (void)flashinfer_model_info(model, &info);
    if (code == 0 && bench_zipf_tokens(info.vocab_count, 1, ids, count) != 0)
        code = FLASHINFER_ENOMEM;
    if (code == 0) code = flashinfer_session_create(model, &session, error);
    for (uint32_t i = 0; i < count && code == 0; i++) {
        if (i == asked->skip) (void)flashinfer_model_reset_stats(model);
        code = flashinfer_step(session, ids[i], error);
    }
    out->stats.size = sizeof out->stats;
    out->plan.size = sizeof out->plan;
    if (code == 0) code = flashinfer_model_stats(model, &out->stats);
    if (code == 0) code = flashinfer_model_plan(model, &out->plan);
    flashinfer_session_destroy(session);
    (void)flashinfer_model_close(model);
    free(ids);
    return code;
}

static void print(const row *of, const request *asked, int first)
{
    const flashinfer_stats *stats = &of->stats;
    double tokens = (double)stats->tokens, predict = (double)stats->predict_ns / 1e6 / tokens;
    double total = (double)stats->total_ns / 1e6 / tokens;
    double named = (double)stats->predicted / (double)stats->neurons;

    if (asked->json) {
        (void)printf("%s{\"kind\": \"%s\", \"bytes\": %llu, \"named\": %.6f, \"predict_ms\": %.3f, "
                     "\"total_ms\": %.3f, \"share\": %.6f, \"gbps\": %.3f, \"slots\": %u, "
                     "\"bytes_per_token\": %.0f}",
                     first ? "[" : ", ", of->name, (unsigned long long)of->bytes, named, predict,
                     total, predict / total, (double)of->bytes / predict / 1e6, of->plan.slots,
                     (double)stats->flash_bytes / tokens);
        return;
    }
    if (first)
        (void)printf("kind   predictor MB  named   predict ms  total ms  share   GB/s  slots   "
                     "MB read/token\n");
    (void)printf("%-4s  %13.1f  %5.2f%%  %10.2f  %8.1f  %4.1f%%  %5.1f  %6u  %8.2f\n", of->name,
                 (double)of->bytes / 1e6, 100 * named, predict, total, 100 * predict / total,
                 (double)of->bytes / predict / 1e6, of->plan.slots,
                 (double)stats->flash_bytes / tokens / 1e6);
}

static int run(const request *asked, flashinfer_error *error)
{
    char path[1024];
    int first = 1, code = 0;

    (void)snprintf(path, sizeof path, "%s/predictor_cost.gguf", asked->folder);
    for (size_t i = 0; i < KINDS && code == 0; i++) {
        row out = {.name = kinds[i]};
        if (asked->kinds != NULL && strstr(asked->kinds, kinds[i]) == NULL) continue;
        code = make(asked, kinds[i], path, &out, error);
        if (code == 0) code = measure(asked, path, &out, error);
        (void)remove(path);
        if (code == 0) print(&out, asked, first);
        (void)fflush(stdout);
        first = 0;
    }
    if (asked->json && !first) (void)printf("]\n");
    return code;
}

int main(int argc, char **argv)
{
    const char *tokens = NULL, *skip = NULL, *seed = NULL;
    program_model_options texts = {.budget = "50%"};
    request asked = {.folder = ".", .tokens = 32, .skip = 96, .seed = 1};
    const program_option known[] = {{"--model", &asked.model, NULL},
                                    {"--kinds", &asked.kinds, NULL},
                                    {"--budget", &texts.budget, NULL},
                                    {"--tokens", &tokens, NULL},
                                    {"--skip", &skip, NULL},
                                    {"--seed", &seed, NULL},
                                    {"--threads", &texts.threads, NULL},
                                    {"--folder", &asked.folder, NULL},
                                    {"--json", NULL, &asked.json}};
    flashinfer_error error;
    int code = program_parse(argc, argv, known, sizeof known / sizeof known[0], NULL, 0, usage);

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&asked.options, sizeof asked.options);
    if (code == 0 && asked.model == NULL) code = program_refuse("--model is missing");
    if (code == 0) code = program_u32("--tokens", tokens, 1, 100000, &asked.tokens);
    if (code == 0) code = program_u32("--skip", skip, 0, 100000, &asked.skip);
    if (code == 0) code = program_u32("--seed", seed, 0, UINT32_MAX, &asked.seed);
    if (code == 0) code = program_model_options_read(&texts, asked.model, &asked.options);
    if (code != 0) return code;
    code = run(&asked, &error);
    return code != 0 ? program_fail(&error) : program_end(0, &error);
}
