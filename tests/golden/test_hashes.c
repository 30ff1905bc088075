/*
 * test_hashes.c - the logits are what they were: XXH3-64 of the raw floats against values recorded once.
 *
 * usage: test_hashes HASHES F16.gguf BF16.gguf Q8_0.gguf Q4_0.gguf [--record | --all]
 *
 * Every kernel table of this CPU runs every predictor, type of keys and values, and type of weights: by steps, and as a
 * prompt. The smallest budget, half and all have the same hash: each case has one of them in turn, with --all every one. Small models add what fable-14m lacks: post-norm with
 * projections, no biases, an untied head, odd sizes.
 *
 * A line of HASHES is `KEY CASE HASH`. KEY names what else a logit's last bits depend on: kernel table, prompt tile, CPU,
 * C library. Tables of an unknown key are skipped, and counted. --record prints lines for this machine
 * (tests/tools/record_hashes takes them from an older commit).
 */
#define _GNU_SOURCE
#include <features.h>
#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif
#ifdef __x86_64__
#include <cpuid.h>
#endif

#include "kernels/gemm/gemm.h"
#include "unit/pack_fixture.h"
#include "util/hash.h"

#define TOKENS 8u  /* by steps */
#define PROMPT 33u /* long enough to be run as a chunk by every predictor */
#define CONTEXT 40u
#define LINE_BYTES 256

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        int assert_code_ = (call);                                                                 \
        if (assert_code_ != 0) fail_msg("%s: %s", #call, error.text);                              \
    } while (0)

#include "predictor_fixture.h"

typedef struct table {
    uint32_t kernels; /* FLASHINFER_KERNELS_... */
    char key[128];
} table;

static const char *const type_names[] = {"f16", "bf16", "q8_0", "q4_0"};
static const char *const kv_names[] = {"", "f32", "f16", "q8_0"};
static const char *const kinds[] = {"", "exact", "sketch", "lowrank", "all", "mixed"};

static const char *paths[4];
static int recording, whole;
static char *recorded; /* HASHES, zero-terminated */
static uint32_t compared, unknown, differing;

/* ---------------------------------------------------------------------------------------- keys */

/* Family and model, and the extensions that choose between kernels of one table. */
static void name_cpu(char *text, size_t capacity)
{
#ifdef __x86_64__
    unsigned a = 0, b = 0, c = 0, d = 0, family, model;

    (void)__get_cpuid(1, &a, &b, &c, &d);
    family = (a >> 8 & 15) + ((a >> 8 & 15) == 15 ? a >> 20 & 255 : 0);
    model = (a >> 4 & 15) | (a >> 12 & 0xf0);
    (void)snprintf(text, capacity, "x86-%u.%u%s", family, model,
                   __builtin_cpu_supports("avx512vnni") ? "+vnni" : "");
#else
    (void)snprintf(text, capacity, "not-x86");
#endif
}

static const char *name_libc(void)
{
#ifdef __GLIBC__
    return gnu_get_libc_version();
#else
    return "other";
#endif
}

/* Has anything been recorded under this key? */
static int is_known(const char *key)
{
    char line[LINE_BYTES];

    (void)snprintf(line, sizeof line, "%s ", key);
    return strstr(recorded, line) != NULL;
}

/* Tables of this CPU that there is something to compare with, or all while recording. */
static uint32_t list_tables(table tables[4])
{
    uint32_t count = 0;
    char cpu[64];

    name_cpu(cpu, sizeof cpu);
    unknown = 0;
    for (uint32_t wanted = FLASHINFER_KERNELS_REF; wanted <= FLASHINFER_KERNELS_NEON; wanted++) {
        const flin_kernels *kernels = flin_kernels_choose(wanted);
        flin_tile tile;
        if (kernels == NULL) continue;
        tile = flin_tile_choose(kernels);
        tables[count].kernels = wanted;
        (void)snprintf(tables[count].key, sizeof tables[count].key, "%s/%s/%s/libc-%s",
                       kernels->name, tile.name, cpu, name_libc());
        if (recording || is_known(tables[count].key))
            count++;
        else
            unknown++;
    }
    return count;
}

/* -------------------------------------------------------------------------------------- hashes */

/* The recorded hash of a case of a known key. */
static uint64_t find_recorded(const char *key, const char *name)
{
    char line[LINE_BYTES];
    const char *at;

    (void)snprintf(line, sizeof line, "%s %s ", key, name);
    at = strstr(recorded, line);
    if (at == NULL) fail_msg("%s has no hash of %s: record it", key, name);
    return strtoull(at + strlen(line), NULL, 16);
}

static void judge(const char *key, const char *name, uint64_t hash)
{
    uint64_t expected;

    if (recording) {
        (void)printf("%s %s %016llx\n", key, name, (unsigned long long)hash);
        return;
    }
    expected = find_recorded(key, name);
    compared++;
    if (hash == expected) return;
    differing++;
    print_error("%s %s: %016llx, recorded %016llx\n", key, name, (unsigned long long)hash,
                (unsigned long long)expected);
}

/* ------------------------------------------------------------------------------------- running */

typedef struct run {
    const char *path;
    const char *predictors; /* file of predictors, or NULL */
    uint32_t kernels, kind, kv_type;
    enum { SMALLEST, HALF, EVERYTHING } budget;
} run;

static flashinfer_model *open_run(const run *how)
{
    flashinfer_plan plan = {.size = sizeof plan};
    flashinfer_options options;
    flashinfer_error error;
    flashinfer_model *model;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.kernels = how->kernels;
    options.predictor = how->kind;
    options.predictor_path = how->predictors;
    options.kv_type = how->kv_type;
    options.threads = how->kv_type == FLASHINFER_KV_F16 ? 2 : 1; /* no bit depends on it */
    options.context_tokens = CONTEXT;
    assert_ok(flashinfer_plan_file(how->path, &options, &plan, &error));
    if (how->budget == SMALLEST) options.memory_budget = plan.minimum_bytes;
    if (how->budget == HALF) options.memory_budget = (plan.minimum_bytes + plan.maximum_bytes) / 2;
    assert_ok(flashinfer_model_open(how->path, &options, &model, &error));
    return model;
}

static int32_t token_at(uint32_t i, size_t vocab)
{
    return (int32_t)(mix(i + 1) % vocab);
}

static void add_logits(flin_hash_stream *stream, const flashinfer_session *session)
{
    size_t vocab;
    const float *logits = flashinfer_logits(session, &vocab);

    assert_non_null(logits);
    flin_hash_add(stream, logits, vocab * sizeof *logits);
}

/* hashes[0]: of the logits after each step; [1]: after a prompt and a step more */
static void hash_run(const run *how, uint32_t steps, uint32_t prompt, uint64_t hashes[2])
{
    flashinfer_info info = {.size = sizeof info};
    flashinfer_model *model = open_run(how);
    flashinfer_session *session;
    flashinfer_error error;
    flin_hash_stream stream;
    int32_t tokens[PROMPT];

    flashinfer_error_init(&error, sizeof error);
    assert_int_equal(flashinfer_model_info(model, &info), 0);
    for (uint32_t i = 0; i < PROMPT; i++) tokens[i] = token_at(i, info.vocab_count);
    assert_ok(flashinfer_session_create(model, &session, &error));
    flin_hash_begin(&stream);
    for (uint32_t i = 0; i < steps; i++) {
        assert_ok(flashinfer_step(session, tokens[i], &error));
        add_logits(&stream, session);
    }
    hashes[0] = flin_hash_end(&stream);

    assert_ok(flashinfer_session_rewind(session, 0, &error));
    flin_hash_begin(&stream);
    assert_ok(flashinfer_eval(session, tokens, prompt, &error));
    add_logits(&stream, session);
    assert_ok(flashinfer_step(session, tokens[0], &error));
    add_logits(&stream, session);
    hashes[1] = flin_hash_end(&stream);
    flashinfer_session_destroy(session);
    assert_int_equal(flashinfer_model_close(model), 0);
}

/* One case: the budgets must agree. */
static void check_run(const table *by, const char *name, run how, uint32_t steps, uint32_t prompt,
                      int all_budgets)
{
    uint64_t hashes[2], other[2];
    char full[LINE_BYTES];

    if (all_budgets) how.budget = SMALLEST;
    hash_run(&how, steps, prompt, hashes);
    for (how.budget = all_budgets ? HALF : EVERYTHING + 1; how.budget <= EVERYTHING; how.budget++) {
        hash_run(&how, steps, prompt, other);
        if (memcmp(hashes, other, sizeof other) != 0)
            fail_msg("%s %s: another budget gives other logits", by->key, name);
    }
    (void)snprintf(full, sizeof full, "%s/steps", name);
    judge(by->key, full, hashes[0]);
    (void)snprintf(full, sizeof full, "%s/prompt", name);
    judge(by->key, full, hashes[1]);
}

/* --------------------------------------------------------------------------------------- tests */

static void check_file(const table *by, const char *type, const char *path, const char *lowrank,
                       const char *mixed)
{
    uint32_t number = (uint32_t)strlen(type);

    for (uint32_t kind = FLASHINFER_PREDICTOR_EXACT; kind <= FLASHINFER_PREDICTOR_MIXED; kind++) {
        for (uint32_t kv = FLASHINFER_KV_F32; kv <= FLASHINFER_KV_Q8_0; kv++) {
            run how = {.path = path, .kernels = by->kernels, .kind = kind, .kv_type = kv};
            char name[64];
            if (kind == FLASHINFER_PREDICTOR_LOWRANK) how.predictors = lowrank;
            if (kind == FLASHINFER_PREDICTOR_MIXED) how.predictors = mixed;
            (void)snprintf(name, sizeof name, "14m-%s/%s/kv-%s", type, kinds[kind], kv_names[kv]);
            how.budget = (kind + kv + number++) % 3; /* one in turn, unless all are asked for */
            check_run(by, name, how, TOKENS, PROMPT, whole);
        }
    }
}

static void fable_14m_gives_what_it_gave(void **state)
{
    const workspace *made = *state;
    table tables[4];
    uint32_t count = list_tables(tables);

    for (uint32_t type = 0; count != 0 && type < 4; type++) {
        char lowrank[256], mixed[256];
        (void)snprintf(lowrank, sizeof lowrank, "%s/lowrank-%u.gguf", made->root, type);
        (void)snprintf(mixed, sizeof mixed, "%s/mixed-%u.gguf", made->root, type);
        make_predictors(paths[type], FLASHINFER_PREDICTOR_LOWRANK, lowrank);
        make_predictors(paths[type], FLASHINFER_PREDICTOR_MIXED, mixed);
        for (uint32_t i = 0; i < count; i++)
            check_file(&tables[i], type_names[type], paths[type], lowrank, mixed);
    }
}

static const struct variant {
    const char *name;
    recipe made;
} variants[] = {
    {"post-norm", {.post_norm = 1, .embedding_width = 32, .width = 64, .heads = 4, .neurons = 160}},
    {"no-bias", {.no_bias = 1, .plain_norms = 1, .width = 64, .heads = 2, .neurons = 96}},
    {"untied", {.untied = 1, .removed_norm = 1, .width = 96, .neurons = 130, .layers = 3}},
    {"odd", {.width = 7, .heads = 7, .neurons = 33, .source = SOURCE_F32}},
};

static void variants_give_what_they_gave(void **state)
{
    const workspace *made = *state;
    table tables[4];
    uint32_t count = list_tables(tables);

    for (size_t i = 0; count != 0 && i < sizeof variants / sizeof *variants; i++) {
        recipe complete_one = variants[i].made;
        complete_one.positions = CONTEXT;
        cook(made, &complete_one);
        pack_well(made, &plain);
        for (uint32_t j = 0; j < count; j++) {
            for (uint32_t kind = FLASHINFER_PREDICTOR_EXACT; kind <= FLASHINFER_PREDICTOR_ALL;
                 kind++) {
                char name[64];
                run how = {.path = made->path, .kernels = tables[j].kernels, .kind = kind};
                if (kind == FLASHINFER_PREDICTOR_LOWRANK) continue;
                (void)snprintf(name, sizeof name, "%s/%s", variants[i].name, kinds[kind]);
                check_run(&tables[j], name, how, TOKENS, PROMPT, 1);
            }
        }
    }
}

static void all_were_as_recorded(void **state)
{
    (void)state;
    if (recording) return;
    print_message("%u hashes as recorded; %u kernel tables of this machine are not recorded\n",
                  compared - differing, unknown);
    assert_int_equal(differing, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(fable_14m_gives_what_it_gave, make_workspace,
                                        remove_workspace),
        cmocka_unit_test_setup_teardown(variants_give_what_they_gave, make_workspace,
                                        remove_workspace),
        cmocka_unit_test(all_were_as_recorded),
    };
    FILE *file;
    int code;

    if (argc != 6 && argc != 7) return 2;
    recording = argc == 7 && strcmp(argv[6], "--record") == 0;
    whole = argc == 7 && strcmp(argv[6], "--all") == 0;
    if (argc == 7 && !recording && !whole) return 2;
    for (int i = 0; i < 4; i++) paths[i] = argv[2 + i];
    file = fopen(argv[1], "rb");
    recorded = calloc(1, 1 << 20);
    if (recorded == NULL || (file == NULL && !recording)) return 2;
    if (file != NULL) {
        (void)fread(recorded, 1, (1 << 20) - 1, file);
        (void)fclose(file);
    }
    code = cmocka_run_group_tests_name("hashes", tests, NULL, NULL);
    free(recorded);
    if (code == 0 && compared == 0 && !recording) {
        (void)printf("SKIP: nothing was recorded for this CPU and C library: %u tables\n", unknown);
        return 77;
    }
    return code;
}
