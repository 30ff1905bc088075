/*
 * program.c - options, reports and files that the example programs have in common.
 */
#define _GNU_SOURCE
#include "program.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* What a share is of. activation: with the model's own it may not open. Returns 0, or 1 after one line on stderr. */
static int model_bytes(const char *model_path, const flashinfer_options *activation,
                       uint64_t *bytes)
{
    flashinfer_error error;
    flashinfer_options options;
    flashinfer_plan plan = {.size = sizeof plan};

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.ffn_activation = activation->ffn_activation;
    options.ffn_threshold = activation->ffn_threshold;
    if (flashinfer_plan_file(model_path, &options, &plan, &error) != 0) return program_fail(&error);
    *bytes = plan.file_bytes;
    return 0;
}

int program_budget(const char *name, const char *text, const char *model_path,
                   const flashinfer_options *options, uint64_t *bytes)
{
    uint64_t file_bytes = 0;
    int code;

    if (text != NULL && strchr(text, '%') != NULL &&
        (code = model_bytes(model_path, options, &file_bytes)) != 0)
        return code;
    return program_share(name, text, file_bytes, bytes);
}

int program_activation(const char *text, uint32_t *activation, float *threshold)
{
    static const char *const names[] = {
        "relu", "relu2", "drelu", "silu", "gelu", "gelu_tanh", "fatrelu:THRESHOLD", NULL};
    static const uint32_t numbers[] = {FLASHINFER_ACTIVATION_RELU,
                                       FLASHINFER_ACTIVATION_RELU2,
                                       FLASHINFER_ACTIVATION_DRELU,
                                       FLASHINFER_ACTIVATION_SILU,
                                       FLASHINFER_ACTIVATION_GELU,
                                       FLASHINFER_ACTIVATION_GELU_TANH,
                                       0};
    static const char fat[] = "fatrelu:";
    float number;
    char *end;

    if (text == NULL || strncmp(text, fat, sizeof fat - 1) != 0)
        return program_choice("--activation", text, names, numbers, activation);
    number = strtof(text + sizeof fat - 1, &end);
    if (end == text + sizeof fat - 1 || *end != '\0' || !(number >= 0 && number < 1e6f))
        return program_refuse("--activation fatrelu takes a threshold of at least 0 behind its "
                              "colon, such as fatrelu:0.01, not \"%s\"",
                              text);
    *activation = FLASHINFER_ACTIVATION_FATRELU;
    *threshold = number;
    return 0;
}

int program_storage(const char *text, uint32_t *storage)
{
    static const char *const names[] = {"libaio", "io_uring", "pread", "buffered", NULL};
    static const uint32_t numbers[] = {FLASHINFER_STORAGE_LIBAIO, FLASHINFER_STORAGE_URING,
                                       FLASHINFER_STORAGE_PREAD, FLASHINFER_STORAGE_BUFFERED};

    return program_choice("--storage", text, names, numbers, storage);
}

static int load_probe(program_model_options *texts, flashinfer_options *options)
{
    flashinfer_error error;

    if (texts->probe == NULL) return 0;
    flashinfer_error_init(&error, sizeof error);
    texts->measured.size = sizeof texts->measured;
    if (flashinfer_probe_load(texts->probe, &texts->measured, &error) != 0)
        return program_fail(&error);
    options->probe = &texts->measured;
    return 0;
}

static void trace_write(program_trace *trace, const void *data, size_t bytes)
{
    if (bytes != 0 && fwrite(data, bytes, 1, trace->file) != 1) trace->failed = errno;
}

static void trace_layer(const flashinfer_trace *asked, void *user)
{
    program_trace *trace = user;
    const uint32_t head[] = {asked->layer_count, asked->ffn_length, asked->bundle_stride_bytes,
                             (uint32_t)strlen(trace->model_path)};

    if (!trace->begun) {
        trace_write(trace, "FLTRACE1", 8);
        trace_write(trace, head, sizeof head);
        trace_write(trace, trace->model_path, head[3]);
        trace->begun = 1;
    }
    trace_write(trace, &asked->layer, sizeof asked->layer);
    trace_write(trace, &asked->count, sizeof asked->count);
    trace_write(trace, &asked->bundle_offset, sizeof asked->bundle_offset);
    trace_write(trace, asked->ids, asked->count * sizeof *asked->ids);
}

static int open_trace(program_model_options *texts, const char *model_path,
                      flashinfer_options *options)
{
    program_trace *trace = &texts->recording;

    if (texts->trace == NULL) return 0;
    *trace = (program_trace){fopen(texts->trace, "wb"), texts->trace, model_path, 0, 0};
    options->trace = trace_layer;
    options->trace_user = trace;
    if (trace->file != NULL) return 0;
    (void)fprintf(stderr, "cannot write %s: %s\n", texts->trace, strerror(errno));
    return 1;
}

int program_model_options_end(program_model_options *texts, int code)
{
    program_trace *trace = &texts->recording;

    if (trace->file == NULL) return code;
    if (fclose(trace->file) != 0) trace->failed = errno;
    trace->file = NULL;
    if (trace->failed == 0) return code;
    (void)fprintf(stderr, "cannot write %s: %s\n", trace->path, strerror(trace->failed));
    return code != 0 ? code : 1;
}

static const char *const predictors[] = {"exact", "sketch", "lowrank", "mixed", "all", NULL};
static const uint32_t predictor_numbers[] = {
    FLASHINFER_PREDICTOR_EXACT, FLASHINFER_PREDICTOR_SKETCH, FLASHINFER_PREDICTOR_LOWRANK,
    FLASHINFER_PREDICTOR_MIXED, FLASHINFER_PREDICTOR_ALL};

const char *program_predictor_name(uint32_t kind)
{
    for (size_t i = 0; predictors[i] != NULL; i++)
        if (predictor_numbers[i] == kind) return predictors[i];
    return "?";
}

int program_model_options_read(program_model_options *texts, const char *model_path,
                               flashinfer_options *options)
{
    static const char *const policies[] = {"window", "frequency", "balanced", NULL};
    static const uint32_t policy_numbers[] = {FLASHINFER_CACHE_WINDOW, FLASHINFER_CACHE_FREQUENCY,
                                              FLASHINFER_CACHE_BALANCED};
    static const char *const kvs[] = {"f32", "f16", "q8_0", NULL};
    static const uint32_t kv_numbers[] = {FLASHINFER_KV_F32, FLASHINFER_KV_F16, FLASHINFER_KV_Q8_0};
    int code;

    options->predictor_path = texts->predictor_file;
    if ((code = program_choice("--kv", texts->kv, kvs, kv_numbers, &options->kv_type)) != 0 ||
        (code = program_choice("--predictor", texts->predictor, predictors, predictor_numbers,
                               &options->predictor)) != 0 ||
        (code = program_choice("--policy", texts->policy, policies, policy_numbers,
                               &options->cache_policy)) != 0 ||
        (code = program_storage(texts->storage, &options->storage)) != 0 ||
        (code = program_activation(texts->activation, &options->ffn_activation,
                                   &options->ffn_threshold)) != 0 ||
        (code = program_u32("--threads", texts->threads, 1, 64, &options->threads)) != 0 ||
        (code = program_u32("--window", texts->window, 0, 1000000, &options->window_tokens)) != 0 ||
        (code = program_u32("--context", texts->context, 1, 1u << 22, &options->context_tokens)) !=
            0 ||
        (code = load_probe(texts, options)) != 0)
        return code;
    code = program_budget("--budget", texts->budget, model_path, options, &options->memory_budget);
    return code != 0 ? code : open_trace(texts, model_path, options);
}

static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
enum { ENDS = sizeof ends / sizeof ends[0] };
static struct sigaction ends_before[ENDS];
static volatile sig_atomic_t came;

static void note(int number)
{
    came = number;
}

void program_signals_catch(void)
{
    struct sigaction noting = {.sa_handler = note, .sa_flags = SA_RESTART};

    (void)sigemptyset(&noting.sa_mask);
    for (size_t i = 0; i < ENDS; i++) {
        (void)sigaction(ends[i], NULL, &ends_before[i]);
        if (ends_before[i].sa_handler != SIG_IGN) (void)sigaction(ends[i], &noting, NULL);
    }
}

int program_signal_came(void)
{
    return came != 0;
}

void program_signals_release(void)
{
    for (size_t i = 0; i < ENDS; i++) (void)sigaction(ends[i], &ends_before[i], NULL);
    if (came != 0) (void)raise(came);
}

int program_fail(const flashinfer_error *error)
{
    if (error->code == 0) {
        (void)fprintf(stderr,
                      "out of memory\n"); /* the program's own; the library names its failures */
        return 1;
    }
    (void)fprintf(stderr, "%s: ", flashinfer_error_name(error->code));
    program_say(stderr, error->text);
    (void)fputc('\n', stderr);
    return 1;
}

int program_end(int code, const flashinfer_error *error)
{
    if (code != 0) return program_fail(error);
    if (fflush(stdout) == 0 && !ferror(stdout)) return 0;
    perror("cannot write the output");
    return 1;
}

/* The figures both forms print. */
typedef struct figures {
    double rate, bytes, hits, missing, predicted;
    flashinfer_plan plan;
    flashinfer_info info;
} figures;

static figures figures_of(const program_report *report)
{
    size_t stepped = report->count - report->prompt_count;
    flashinfer_stats stats = {.size = sizeof stats};
    figures of = {.plan = {.size = sizeof of.plan}, .info = {.size = sizeof of.info}};

    (void)flashinfer_model_info(report->model, &of.info);
    (void)flashinfer_model_stats(report->model, &stats);
    (void)flashinfer_model_plan(report->model, &of.plan);
    if (stepped > 1 && report->seconds > 0) of.rate = (double)(stepped - 1) / report->seconds;
    if (stats.predicted != 0) of.hits = (double)stats.resident / (double)stats.predicted;
    if (stats.tokens == 0) return of;
    of.bytes = (double)stats.flash_bytes / (double)stats.tokens;
    of.missing = (double)stats.missing / (double)stats.tokens;
    of.predicted = (double)(stats.predicted + stats.streamed) / (double)stats.neurons;
    return of;
}

void program_report_table(const program_report *report)
{
    figures of = figures_of(report);

    (void)printf("\n\n  tokens/s             %10.1f\n", of.rate);
    (void)printf("  time to first token  %10.3f s\n", report->first_token_seconds);
    (void)printf("  flash bytes/token    %10.0f\n", of.bytes);
    if (of.info.bundle_bytes != 0) { /* else matrices are whole, and no neuron is named */
        (void)printf("  predicted neurons    %10.2f %% of the FFN\n", 100 * of.predicted);
        (void)printf("  hit rate             %10.1f %%\n", 100 * of.hits);
        (void)printf("  missed neurons       %10.1f a token, read from flash\n", of.missing);
    }
    (void)printf("  model file           %10.2f MB\n", (double)of.plan.file_bytes / 1e6);
    (void)printf("  memory budget        %10.2f MB, %.2f MB planned\n",
                 (double)of.plan.budget_bytes / 1e6, (double)of.plan.planned_bytes / 1e6);
    (void)printf("  peak process memory  %10.2f MB\n", (double)program_peak_rss_bytes() / 1e6);
}

void program_report_json(const program_report *report)
{
    figures of = figures_of(report);
    size_t bytes = 0, written = 0;
    char *text;

    (void)flashinfer_detokenize(report->model, report->tokens, report->count, NULL, 0, &bytes,
                                NULL);
    text = malloc(bytes + 1);
    if (text == NULL) return;
    (void)flashinfer_detokenize(report->model, report->tokens, report->count, text, bytes, &written,
                                NULL);
    (void)printf("{\"text\": ");
    program_json_string(stdout, text, written);
    free(text);
    (void)printf(", \"token_ids\": [");
    for (size_t i = 0; i < report->count; i++)
        (void)printf("%s%d", i != 0 ? ", " : "", report->tokens[i]);
    (void)printf("], \"tokens_per_second\": %.3f, \"time_to_first_token_s\": %.6f, ", of.rate,
                 report->first_token_seconds);
    (void)printf("\"flash_bytes_per_token\": %.1f, \"hit_rate\": %.6f, \"predicted_share\": %.6f, ",
                 of.bytes, of.hits, of.predicted);
    (void)printf("\"budget_bytes\": %llu, \"planned_bytes\": %llu, \"peak_rss_bytes\": %llu}\n",
                 (unsigned long long)of.plan.budget_bytes,
                 (unsigned long long)of.plan.planned_bytes,
                 (unsigned long long)program_peak_rss_bytes());
}

/* Length of the UTF-8 character that begins here; 0 if none does. */
static size_t character(const unsigned char *text, size_t bytes)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = text[0] < 0x80 ? 1 : text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
    uint32_t point = length == 1 ? text[0] : text[0] & (0x7fu >> length);

    if (length > bytes || (text[0] >= 0x80 && text[0] < 0xc0) || text[0] > 0xf7) return 0;
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) return 0;
        point = point << 6 | (text[i] & 0x3f);
    }
    if (point < least[length] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return 0;
    return length;
}

void program_json_string(FILE *file, const char *text, size_t bytes)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + bytes;

    (void)fputc('"', file);
    while (at < end) {
        size_t length = character(at, (size_t)(end - at));
        if (length == 0)
            (void)fputs("\\ufffd", file);
        else if (*at == '"' || *at == '\\')
            (void)fprintf(file, "\\%c", *at);
        else if (*at < 0x20)
            (void)fprintf(file, "\\u%04x", *at);
        else
            (void)fwrite(at, 1, length, file);
        at += length != 0 ? length : 1;
    }
    (void)fputc('"', file);
}

int program_tokenize(const flashinfer_model *model, const char *text, size_t bytes, size_t more,
                     int32_t **ids, size_t *count, flashinfer_error *error)
{
    const uint32_t flags = FLASHINFER_TOKENIZE_BOS;
    int code = flashinfer_tokenize(model, text, bytes, flags, NULL, 0, count, error);

    *ids = NULL;
    if (code != 0 && code != FLASHINFER_EBUFFER) return code;
    *ids = malloc((*count + more + 1) * sizeof **ids);
    if (*ids == NULL) {
        flashinfer_error_init(error, sizeof *error); /* what it says is of the first call */
        return FLASHINFER_ENOMEM;
    }
    return flashinfer_tokenize(model, text, bytes, flags, *ids, *count, count, error);
}

uint64_t program_peak_rss_bytes(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

uint32_t program_cpus(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);

    return count > 0 ? (uint32_t)count : 1;
}

double program_seconds(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

char *program_read_file(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    char *data = NULL, *grown;
    size_t capacity = 0;

    *bytes = 0;
    while (file != NULL && !feof(file) && !ferror(file)) {
        if (*bytes == capacity) {
            capacity = capacity != 0 ? capacity * 2 : 1u << 16;
            grown = realloc(data, capacity);
            if (grown == NULL) break;
            data = grown;
        }
        *bytes += fread(data + *bytes, 1, capacity - *bytes, file);
    }
    if (file != NULL && feof(file) && !ferror(file)) {
        (void)fclose(file);
        return data;
    }
    (void)fprintf(stderr, "cannot read %s: %s\n", path, strerror(errno));
    if (file != NULL) (void)fclose(file);
    free(data);
    return NULL;
}
