/*
 * test_tiny.c - tiny random models of every architecture against what transformers computes: packed as F32 and F16, in
 * steps and as a prompt; the same bits alone and beside another session, within the smallest budget and all, with one
 * thread and two. Where neurons may not fire, a sketch names nearly all that do. A file whose keys say what nothing
 * computes is refused by name.
 *
 * usage: test_tiny MODELS_DIR [NAME ...]      the folders that make_tiny.py has written; NAME: only these
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/run.h"
#include "support.h"

#define BOUND 1e-4 /* of the distance of logits: a hundredth of what a wrong formula costs */

/* golden.bin: make_tiny.py says what it is. */
typedef struct golden {
    uint32_t prompt_count, position_count, greedy_count, vocab;
    const int32_t *prompt, *greedy;
    const uint32_t *positions;
    const float *logits; /* (position_count, vocab) */
    void *data;
} golden;

static char *models_dir;
static char work_dir[] = "/tmp/flashinfer-tiny-XXXXXX";
static char model_path[64];
static double worst; /* of all logits of a model */

static void load_golden(const char *folder, golden *at)
{
    char path[512];
    size_t bytes;
    const uint32_t *words;

    (void)snprintf(path, sizeof path, "%s/%s/golden.bin", models_dir, folder);
    at->data = read_file(path, &bytes);
    if (at->data == NULL) fail_msg("cannot read %s", path);
    words = at->data;
    at->prompt_count = words[0];
    at->position_count = words[1];
    at->greedy_count = words[2];
    at->vocab = words[3];
    at->prompt = (const int32_t *)words + 4;
    at->positions = words + 4 + at->prompt_count;
    at->logits = (const float *)(at->positions + at->position_count);
    at->greedy = (const int32_t *)(at->logits + (size_t)at->position_count * at->vocab);
    assert_int_equal(bytes, (const char *)(at->greedy + at->greedy_count) - (const char *)words);
}

/* ------------------------------------------------------------------------------------------------------- packing */

/* Links to a folder's files, in a folder of our own; a file `weights` there names where the others are. */
static void link_files(const char *folder, const char *checkpoint, int only_weights)
{
    char from[512], to[512];
    struct dirent *entry;
    DIR *entries;

    (void)snprintf(from, sizeof from, "%s/%s", models_dir, folder);
    entries = opendir(from);
    if (entries == NULL) fail_msg("cannot read %s", from);
    while ((entry = readdir(entries)) != NULL) {
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, "activation") == 0 ||
            (only_weights && strcmp(entry->d_name, "config.json") == 0))
            continue;
        (void)snprintf(from, sizeof from, "%s/%s/%s", models_dir, folder, entry->d_name);
        (void)snprintf(to, sizeof to, "%s/%s", checkpoint, entry->d_name);
        if (strcmp(entry->d_name, "golden.bin") != 0) assert_int_equal(symlink(from, to), 0);
    }
    (void)closedir(entries);
}

static void remove_checkpoint(const char *checkpoint)
{
    static const char *const files[] = {"config.json", "model.safetensors", "vocab.json", "merges.txt", "weights"};
    char path[512];

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", checkpoint, files[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(checkpoint), 0);
}

static void pack(const char *folder, uint32_t dtype)
{
    char checkpoint[64], path[512], *weights, *activation;
    flashinfer_pack_options options;
    flashinfer_error error;
    size_t bytes;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_pack_options_init(&options, sizeof options);
    options.dtype = dtype;
    (void)snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint", work_dir);
    assert_int_equal(mkdir(checkpoint, 0700), 0);
    link_files(folder, checkpoint, 0);
    (void)snprintf(path, sizeof path, "%s/%s/activation", models_dir, folder);
    activation = read_file(path, &bytes);
    if (activation != NULL) options.activation = (uint32_t)strtoul(activation, NULL, 10);
    free(activation);
    (void)snprintf(path, sizeof path, "%s/%s/weights", models_dir, folder);
    weights = read_file(path, &bytes);
    if (weights != NULL) {
        weights[strcspn(weights, "\n")] = '\0';
        link_files(weights, checkpoint, 1);
    }
    free(weights);
    assert_ok(flashinfer_pack(checkpoint, model_path, &options, &error));
    remove_checkpoint(checkpoint);
}

/* ------------------------------------------------------------------------------------------------------- running */

/* One way of running; budget 0: all, 1: the smallest. */
typedef struct way {
    uint32_t predictor, budget, threads, kv;
} way;

static flashinfer_model *open_way(const way *how, flashinfer_session **session)
{
    flashinfer_plan plan = {.size = sizeof plan};
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.predictor = how->predictor;
    options.threads = how->threads;
    options.kv_type = how->kv;
    options.session_count = 2;
    options.audit_interval = how->predictor == FLASHINFER_PREDICTOR_SKETCH;
    options.audit_layers = UINT32_MAX;
    assert_ok(flashinfer_plan_file(model_path, &options, &plan, &error));
    options.memory_budget = how->budget != 0 ? plan.minimum_bytes : 0;
    assert_ok(flashinfer_model_open(model_path, &options, &model, &error));
    assert_ok(flashinfer_session_create(model, session, &error));
    return model;
}

static void close_all(flashinfer_model *model, flashinfer_session *session)
{
    flashinfer_session_destroy(session);
    assert_int_equal(flashinfer_model_close(model), 0);
}

/* Logits of the positions asked for, in steps; (position_count, vocab), free them. */
static float *run_steps(const golden *at, const way *how)
{
    flashinfer_session *session;
    flashinfer_model *model = open_way(how, &session);
    float *all = malloc((size_t)at->position_count * at->vocab * sizeof *all);
    flashinfer_error error;
    uint32_t next = 0;

    flashinfer_error_init(&error, sizeof error);
    assert_non_null(all);
    for (uint32_t i = 0; i < at->prompt_count; i++) {
        size_t vocab;
        assert_ok(flashinfer_step(session, at->prompt[i], &error));
        if (next == at->position_count || at->positions[next] != i) continue;
        memcpy(all + (size_t)next++ * at->vocab, flashinfer_logits(session, &vocab), at->vocab * sizeof *all);
        assert_int_equal(vocab, at->vocab);
    }
    assert_int_equal(next, at->position_count);
    close_all(model, session);
    return all;
}

static void compare(const float *got, const float *expected, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const double distance = fabs((double)got[i] - (double)expected[i]);
        if (!(distance <= worst)) worst = distance;
    }
}

static int32_t likeliest(const float *logits, size_t vocab)
{
    size_t best = 0;

    for (size_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

/* The prompt at once, then greedily on. */
static void run_greedy(const golden *at, const way *how)
{
    flashinfer_session *session;
    flashinfer_model *model = open_way(how, &session);
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_eval(session, at->prompt, at->prompt_count, &error));
    for (uint32_t i = 0; i < at->greedy_count; i++) {
        size_t vocab;
        const float *logits = flashinfer_logits(session, &vocab);
        if (i == 0 && at->positions[at->position_count - 1] == at->prompt_count - 1)
            compare(logits, at->logits + (size_t)(at->position_count - 1) * at->vocab, at->vocab);
        assert_int_equal(likeliest(logits, vocab), at->greedy[i]);
        assert_ok(flashinfer_step(session, at->greedy[i], &error));
    }
    close_all(model, session);
}

static void every_way(const golden *at, uint32_t predictor)
{
    static const way others[] = {{.budget = 1, .threads = 1}, {.budget = 0, .threads = 2}, {.budget = 1, .threads = 2}};
    const size_t count = (size_t)at->position_count * at->vocab;
    way how = {predictor, 0, 1, FLASHINFER_KV_F32};
    float *first = run_steps(at, &how);

    compare(first, at->logits, count);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        float *again;
        how.budget = others[i].budget;
        how.threads = others[i].threads;
        again = run_steps(at, &how);
        assert_memory_equal(first, again, count * sizeof *first);
        free(again);
        run_greedy(at, &how);
    }
    free(first);
}

/* Two sessions in one pass: the first has the bits that it has alone. */
static void with_company(const golden *at)
{
    const way how = {FLASHINFER_PREDICTOR_EXACT, 0, 2, FLASHINFER_KV_F32};
    float *alone = run_steps(at, &how), *logits[2];
    flashinfer_session *sessions[2];
    flashinfer_model *model = open_way(&how, &sessions[0]);
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_session_create(model, &sessions[1], &error));
    for (uint32_t k = 0; k < 2; k++) assert_non_null(logits[k] = malloc(at->vocab * sizeof(float)));
    for (uint32_t i = 0, next = 0; i < at->prompt_count; i++) {
        const flin_row rows[2] = {{sessions[0], i, at->prompt[i], logits[0]},
                                  {sessions[1], i, at->prompt[at->prompt_count - 1 - i], logits[1]}};
        assert_ok(flin_run_narrow(model, rows, 2, &error));
        if (next < at->position_count && at->positions[next] == i)
            assert_memory_equal(logits[0], alone + (size_t)next++ * at->vocab, at->vocab * sizeof(float));
    }
    for (uint32_t k = 0; k < 2; k++) free(logits[k]);
    free(alone);
    flashinfer_session_destroy(sessions[1]);
    close_all(model, sessions[0]);
}

/* Keys and values in half the room: not the same numbers, but near, and the same bits on two threads. */
static void with_half_keys(const golden *at)
{
    const size_t count = (size_t)at->position_count * at->vocab;
    way how = {FLASHINFER_PREDICTOR_EXACT, 0, 1, FLASHINFER_KV_F16};
    float *first = run_steps(at, &how), *again;

    how.threads = 2;
    how.budget = 1;
    again = run_steps(at, &how);
    assert_memory_equal(first, again, count * sizeof *first);
    for (size_t i = 0; i < count; i++) assert_true(fabs((double)first[i] - (double)at->logits[i]) < 0.1);
    free(first);
    free(again);
}

/* A sketch made with another norm than that of the FFN's input would name others. */
static void with_sketch(const golden *at)
{
    const size_t count = (size_t)at->position_count * at->vocab;
    way how = {FLASHINFER_PREDICTOR_SKETCH, 0, 1, FLASHINFER_KV_F32};
    flashinfer_stats stats = {.size = sizeof stats};
    flashinfer_info info = {.size = sizeof info};
    flashinfer_session *session;
    flashinfer_model *model;
    flashinfer_error error;
    float *first, *again;

    flashinfer_error_init(&error, sizeof error);
    how.predictor = FLASHINFER_PREDICTOR_EXACT;
    model = open_way(&how, &session);
    assert_int_equal(flashinfer_model_info(model, &info), 0);
    close_all(model, session);
    if (!info.ffn_sparse) return;
    how.predictor = FLASHINFER_PREDICTOR_SKETCH;
    model = open_way(&how, &session);
    for (uint32_t i = 0; i < at->prompt_count; i++) assert_ok(flashinfer_step(session, at->prompt[i], &error));
    assert_int_equal(flashinfer_model_stats(model, &stats), 0);
    close_all(model, session);
    print_message("%-14s sketch misses %.2f %% of what fires, names %.0f %%\n", "",
                  100 * (double)stats.audited_missed / (double)stats.audited_active,
                  100 * (double)stats.predicted / (double)stats.neurons);
    assert_true(stats.audited_active > 0 && stats.audited_missed * 50 <= stats.audited_active);
    first = run_steps(at, &how);
    how.budget = 1;
    how.threads = 2;
    again = run_steps(at, &how);
    assert_memory_equal(first, again, count * sizeof *first);
    free(first);
    free(again);
}

/* ------------------------------------------------------------------------------------------------------ all of them */

static void one_model(const char *folder)
{
    static const struct {
        uint32_t dtype, predictor;
    } files[] = {{FLASHINFER_DTYPE_F32, FLASHINFER_PREDICTOR_ALL}, {FLASHINFER_DTYPE_F16, FLASHINFER_PREDICTOR_EXACT}};
    golden at;

    worst = 0;
    load_golden(folder, &at);
    for (size_t i = 0; i < 2; i++) {
        pack(folder, files[i].dtype);
        every_way(&at, files[i].predictor);
    }
    with_company(&at);
    with_half_keys(&at);
    with_sketch(&at);
    print_message("%-14s largest distance of a logit: %.2e\n", folder, worst);
    assert_true(worst <= BOUND);
    assert_int_equal(unlink(model_path), 0);
    free(at.data);
}

static char **names;
static int name_count;

static int is_wanted(const struct dirent *entry)
{
    for (int i = 0; i < name_count; i++)
        if (strcmp(names[i], entry->d_name) == 0) return 1;
    return name_count == 0 && entry->d_name[0] != '.';
}

static void every_architecture_matches(void **state)
{
    struct dirent **entries;
    int count = scandir(models_dir, &entries, is_wanted, alphasort);

    (void)state;
    assert_true(count > 0);
    for (int i = 0; i < count; i++) {
        one_model(entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
}

/* ------------------------------------------------------------------------------------------------------------ keys */

typedef struct edit {
    const char *folder, *key;
    const char *text;          /* what stands there instead; NULL: the number */
    uint32_t number;
    const char *words; /* of the refusal */
} edit;

static const edit edits[] = {
    {"mistral", "llama.attention.sliding_window", NULL, 0, "llama.attention.sliding_window"},
    {"qwen2-yarn", "qwen2.rope.scaling.type", "yarx", 0, "qwen2.rope.scaling.type is \"yarx\""},
    {"qwen2-yarn", "qwen2.rope.scaling.factor", NULL, 0xbf800000, "qwen2.rope.scaling.factor"},
    {"qwen3", "qwen3.attention.value_length", NULL, 6, "qwen3.attention.value_length is 6"},
    {"qwen3", "qwen3.rope.dimension_count", NULL, 9, "9 elements of a head of 8"},
    {"gemma2", "gemma2.attn_logit_softcapping", NULL, 0x7f800000, "gemma2.attn_logit_softcapping"},
    {"gemma2", "gemma2.attention.scale", NULL, 0, "gemma2.attention.scale"},
    {"gemma3", "gemma3.attention.sliding_window_pattern", NULL, 9999, "gemma3.attention.sliding_window_pattern"},
    {"gemma3", "gemma3.rope.freq_base_swa", NULL, 0, "gemma3.rope.freq_base_swa"},
    {"falcon-7b", "falcon.attention.head_count_kv", NULL, 3, "falcon.attention.head_count_kv 3 does not divide"},
    {"falcon-40b", "falcon.attention.head_count_kv", NULL, 1, "blk.0.attn_qkv.weight"},
    {"phi-2", "phi2.rope.dimension_count", NULL, 3, "phi2.rope.dimension_count"},
    {"minicpm", "minicpm.residual_scale", NULL, 0xbf800000, "minicpm.residual_scale"},
    {"nemotron", "flashinfer.ffn.activation", "silu", 0, "Nemotron models are known with"},
};

/* Behind the key stand its type and, before a text, its length. */
static void put(const edit *one)
{
    size_t bytes;
    char *data = read_file(model_path, &bytes), *at;

    assert_non_null(data);
    at = memmem(data, bytes, one->key, strlen(one->key));
    assert_non_null(at);
    at += strlen(one->key) + 4;
    if (one->text != NULL)
        memcpy(at + 8, one->text, strlen(one->text));
    else
        memcpy(at, &one->number, sizeof one->number);
    write_file(model_path, data, bytes);
    free(data);
}

static void keys_that_say_nonsense_are_refused(void **state)
{
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_error error;

    (void)state;
    if (name_count != 0) skip();
    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.verify = FLASHINFER_VERIFY_NONE; /* of sums, one of which is the header's */
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        pack(edits[i].folder, FLASHINFER_DTYPE_F32);
        put(&edits[i]);
        assert_int_not_equal(flashinfer_model_open(model_path, &options, &model, &error), 0);
        if (strstr(error.text, edits[i].words) == NULL) fail_msg("\"%s\" lacks %s", error.text, edits[i].words);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_architecture_matches),
                                       cmocka_unit_test(keys_that_say_nonsense_are_refused)};
    int failed;

    if (argc < 2 || mkdtemp(work_dir) == NULL) return 2;
    models_dir = realpath(argv[1], NULL); /* links lead there */
    if (models_dir == NULL) return 2;
    names = argv + 2;
    name_count = argc - 2;
    (void)snprintf(model_path, sizeof model_path, "%s/model.gguf", work_dir);
    failed = cmocka_run_group_tests_name("tiny", tests, NULL, NULL);
    (void)unlink(model_path);
    (void)rmdir(work_dir);
    free(models_dir);
    return failed;
}
