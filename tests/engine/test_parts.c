/*
 * test_parts.c - bundles may hold their parts in any order: a file whose bundles are rearranged gives the same bits, by
 * steps and by prompt, with every predictor, at the smallest budget and with all in memory.
 *
 * usage: test_parts MODEL.gguf...     files that are not here are skipped
 */
#define _GNU_SOURCE
#include <unistd.h>

#include "support.h"

#include "model/gguf.h"
#include "model/shape.h"

#define TOKENS 6u
#define PROMPT 33u

static const char *model_path;

/* A model file in memory, with what its header says. */
typedef struct image {
    uint8_t *bytes;
    size_t length;
    flin_storage storage;
    flin_gguf gguf;
    flin_shape shape;
} image;

static void open_image(image *of)
{
    flin_storage_config config = {
        .kind = FLASHINFER_STORAGE_BUFFERED, .depth = 1, .lanes = 1, .timeout_ns = 30000000000u};
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    memset(of, 0, sizeof *of);
    of->bytes = read_file(model_path, &of->length);
    assert_non_null(of->bytes);
    assert_ok(flin_storage_open_path(&of->storage, model_path, &config, &error));
    assert_ok(flin_gguf_open(&of->gguf, &of->storage, 1, &error));
    assert_ok(flin_shape_read(&of->gguf, NULL, &of->shape, &error));
}

static void close_image(image *of)
{
    flin_gguf_close(&of->gguf);
    flin_storage_close(&of->storage);
    free(of->bytes);
}

/* Items of `bytes` each, `count` of them in a row, in the order given. */
static void rearrange(uint8_t *at, size_t bytes, const uint32_t *order, uint32_t count)
{
    uint8_t *copy = malloc(bytes * count);

    assert_non_null(copy);
    memcpy(copy, at, bytes * count);
    for (uint32_t i = 0; i < count; i++) memcpy(at + i * bytes, copy + order[i] * bytes, bytes);
    free(copy);
}

/* The names of the parts, which are together as long in any order. */
static void rename_parts(const image *of, const uint32_t *order)
{
    static const char *const names[] = {"up", "down", "gate"};
    const flin_gguf_value *value = flin_gguf_find(&of->gguf, "flashinfer.ffn.parts");
    uint8_t *at;

    assert_non_null(value);
    at = of->bytes + (value->data - of->gguf.header);
    for (uint32_t i = 0; i < of->shape.bundle.part_count; i++) {
        const char *name = names[of->shape.bundle.parts[order[i]].role];
        uint64_t bytes = strlen(name);
        memcpy(at, &bytes, sizeof bytes);
        memcpy(at + sizeof bytes, name, bytes);
        at += sizeof bytes + bytes;
    }
}

static void write_rearranged(const image *from, const uint32_t *order, const char *path)
{
    image to = *from;
    const flin_bundle *bundle = &from->shape.bundle;

    to.bytes = malloc(from->length);
    assert_non_null(to.bytes);
    memcpy(to.bytes, from->bytes, from->length);
    rename_parts(&to, order);
    for (uint32_t layer = 0; layer < from->shape.layers; layer++) {
        char name[64];
        const flin_gguf_tensor *bundles, *sums;
        (void)snprintf(name, sizeof name, "blk.%u.ffn_bundle.weight", layer);
        bundles = flin_gguf_find_tensor(&from->gguf, name);
        (void)snprintf(name, sizeof name, "blk.%u.ffn_bundle.xxh3", layer);
        sums = flin_gguf_find_tensor(&from->gguf, name);
        assert_true(bundles != NULL && sums != NULL);
        for (uint64_t i = 0; i < from->shape.ffn; i++) {
            rearrange(to.bytes + bundles->offset + i * bundle->stride_bytes, bundle->parts[0].bytes,
                      order, bundle->part_count);
            rearrange(to.bytes + sums->offset + i * bundle->part_count * sizeof(uint64_t),
                      sizeof(uint64_t), order, bundle->part_count);
        }
    }
    write_file(path, to.bytes, to.length);
    free(to.bytes);
}

/* Logits after each step and after a prompt: (TOKENS + 1, vocab). */
static float *run(const char *path, uint32_t predictor, int smallest, size_t *bytes)
{
    flashinfer_options options;
    flashinfer_plan plan = {.size = sizeof plan};
    flashinfer_model *model;
    flashinfer_session *session;
    flashinfer_error error;
    int32_t tokens[PROMPT];
    float *all = NULL;
    size_t vocab = 0;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.predictor = predictor;
    options.threads = 2;
    options.context_tokens = PROMPT;
    options.verify = FLASHINFER_VERIFY_NONE; /* the header's own sum is of the file as it was */
    assert_ok(flashinfer_plan_file(path, &options, &plan, &error));
    if (smallest) options.memory_budget = plan.minimum_bytes;
    assert_ok(flashinfer_model_open(path, &options, &model, &error));
    assert_ok(flashinfer_session_create(model, &session, &error));
    for (uint32_t i = 0; i < PROMPT; i++) tokens[i] = (int32_t)(i * 97 + 5);
    for (uint32_t i = 0; i <= TOKENS; i++) {
        if (i == TOKENS) {
            assert_ok(flashinfer_session_rewind(session, 0, &error));
            assert_ok(flashinfer_eval(session, tokens, PROMPT, &error));
        } else {
            assert_ok(flashinfer_step(session, tokens[i], &error));
        }
        (void)flashinfer_logits(session, &vocab);
        if (all == NULL) all = malloc((TOKENS + 1) * vocab * sizeof *all);
        assert_non_null(all);
        memcpy(all + i * vocab, flashinfer_logits(session, NULL), vocab * sizeof *all);
    }
    *bytes = (TOKENS + 1) * vocab * sizeof *all;
    flashinfer_session_destroy(session);
    assert_int_equal(flashinfer_model_close(model), 0);
    return all;
}

static void check_order(const image *from, const uint32_t *order, const char *path)
{
    write_rearranged(from, order, path);
    for (uint32_t predictor = FLASHINFER_PREDICTOR_EXACT; predictor <= FLASHINFER_PREDICTOR_ALL;
         predictor++) {
        if (predictor == FLASHINFER_PREDICTOR_LOWRANK) continue;
        for (int smallest = 0; smallest < 2; smallest++) {
            size_t bytes;
            float *expected = run(model_path, predictor, smallest, &bytes);
            float *got = run(path, predictor, smallest, &bytes);
            assert_memory_equal(expected, got, bytes);
            free(expected);
            free(got);
        }
    }
}

static void parts_may_lie_in_any_order(void **state)
{
    static const uint32_t two[][3] = {{1, 0}},
                          three[][3] = {{0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    char path[] = "/tmp/flin-parts-XXXXXX";
    int file = mkstemp(path);
    image from;
    size_t count;

    (void)state;
    assert_true(file >= 0);
    (void)close(file);
    open_image(&from);
    for (uint32_t i = 0; i < from.shape.bundle.part_count; i++)
        assert_int_equal(from.shape.bundle.parts[i].bytes, from.shape.bundle.parts[0].bytes);
    count = from.shape.bundle.part_count == 2 ? sizeof two / sizeof two[0]
                                              : sizeof three / sizeof three[0];
    for (size_t i = 0; i < count; i++)
        check_order(&from, from.shape.bundle.part_count == 2 ? two[i] : three[i], path);
    close_image(&from);
    (void)remove(path);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(parts_may_lie_in_any_order)};
    int failed = 0;

    if (argc < 2) return 2;
    for (int i = 1; i < argc; i++) {
        FILE *model = fopen(argv[i], "rb");
        if (model == NULL) {
            (void)printf("SKIP: %s is not here\n", argv[i]);
            continue;
        }
        (void)fclose(model);
        model_path = argv[i];
        failed += cmocka_run_group_tests_name(model_path, tests, NULL, NULL);
    }
    return failed != 0;
}
