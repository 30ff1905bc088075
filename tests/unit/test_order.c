/*
 * test_order.c - the order of bundles: what is learned, what packing makes of it, what a reader accepts. That it moves no
 * bit of the result on a real model is in tests/engine/test_bitwise.c.
 */
#define _GNU_SOURCE
#include "pack_fixture.h"

#include <errno.h>

#include "flashinfer_backend.h"
#include "model/gguf.h"
#include "pack/order.h"

#define NEURONS 40u

static flashinfer_error error = {.size = sizeof error};

static void assert_code(int code, int expected)
{
    if (code != expected) print_error("%s\n", error.text);
    assert_int_equal(code, expected);
}

static flashinfer_order *make_order(uint32_t layers, uint32_t neurons)
{
    flashinfer_order *order = NULL;

    assert_code(flashinfer_order_create(layers, neurons, &order, &error), 0);
    return order;
}

/* A token's wish, count ids of [0, NEURONS) */
static int add(flashinfer_order *order, uint32_t layer, const uint32_t *ids, uint32_t count)
{
    flashinfer_trace asked = {.size = sizeof asked,
                              .layer = layer,
                              .layer_count = 2,
                              .ffn_length = NEURONS,
                              .count = count,
                              .ids = ids};

    return flashinfer_order_add(order, &asked, &error);
}

static void assert_permutation(const uint32_t *rows)
{
    uint32_t seen[NEURONS] = {0};

    for (uint32_t i = 0; i < NEURONS; i++) {
        assert_true(rows[i] < NEURONS);
        assert_int_equal(seen[rows[i]]++, 0);
    }
}

/* Neurons 3, 14, 25, 36 go together, and 7, 19, 31; 0 is wanted by every token. */
static void teach(flashinfer_order *order, uint32_t layer)
{
    static const uint32_t first[] = {0, 3, 14, 25, 36}, second[] = {0, 7, 19, 31}, none[] = {0};

    for (uint32_t token = 0; token < 100; token++) {
        int code = token % 10 == 0   ? add(order, layer, first, 5)
                   : token % 10 == 5 ? add(order, layer, second, 4)
                                     : add(order, layer, none, 1);
        assert_code(code, 0);
    }
}

static uint32_t spread(const uint32_t *rows, const uint32_t *ids, uint32_t count)
{
    uint32_t least = UINT32_MAX, most = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (rows[ids[i]] < least) least = rows[ids[i]];
        if (rows[ids[i]] > most) most = rows[ids[i]];
    }
    return most - least;
}

static void test_friends_become_neighbours(void **state)
{
    static const uint32_t first[] = {3, 14, 25, 36}, second[] = {7, 19, 31};
    flashinfer_order *order = make_order(2, NEURONS);
    uint32_t rows[NEURONS];

    (void)state;
    teach(order, 0);
    assert_code(flin_order_learn(order, 0, rows, NULL, NULL, &error), 0);
    assert_permutation(rows);
    assert_int_equal(rows[0], 0); /* hot: apart, in front */
    assert_int_equal(spread(rows, first, 4), 3);
    assert_int_equal(spread(rows, second, 3), 2);
    /* of layer 1 nothing is known: it stays as it is */
    assert_code(flin_order_learn(order, 1, rows, NULL, NULL, &error), 0);
    for (uint32_t i = 0; i < NEURONS; i++) assert_int_equal(rows[i], i);
    flashinfer_order_destroy(order);
}

/* Any wishes at all give a permutation, more tokens than are kept too. */
static void test_any_trace_gives_a_permutation(void **state)
{
    flashinfer_order *order = make_order(2, NEURONS);
    uint32_t ids[NEURONS], rows[NEURONS], random = 1;

    (void)state;
    for (uint32_t token = 0; token < 5000; token++) {
        uint32_t count = 0;
        for (uint32_t i = 0; i < NEURONS; i++) {
            random = random * 1664525u + 1013904223u;
            if (random >> 16 < 65536u / (i + 2)) ids[count++] = i;
        }
        assert_code(add(order, 1, ids, count), 0);
    }
    assert_code(flin_order_learn(order, 1, rows, NULL, NULL, &error), 0);
    assert_permutation(rows);
    flashinfer_order_destroy(order);
}

static int stop(void *user, flashinfer_error *ignored)
{
    (void)ignored;
    return ++*(int *)user == 2 ? FLASHINFER_ECANCELED : 0;
}

static void test_learning_can_be_stopped(void **state)
{
    flashinfer_order *order = make_order(1, 1000);
    uint32_t *rows = malloc(1000 * sizeof *rows);
    int ticks = 0;

    (void)state;
    assert_non_null(rows);
    assert_code(flin_order_learn(order, 0, rows, stop, &ticks, &error), FLASHINFER_ECANCELED);
    assert_int_equal(ticks, 2);
    free(rows);
    flashinfer_order_destroy(order);
}

static void test_misuse_is_refused(void **state)
{
    const uint32_t outside[] = {NEURONS};
    flashinfer_order *order = make_order(2, NEURONS);
    flashinfer_order *other;
    flashinfer_trace asked = {0};

    (void)state;
    assert_code(add(order, 2, outside, 0), FLASHINFER_EINVAL);
    assert_code(add(order, 0, outside, 1), FLASHINFER_EINVAL);
    assert_code(add(order, 0, NULL, 1), FLASHINFER_EINVAL);
    assert_code(flashinfer_order_add(order, &asked, &error), FLASHINFER_EINVAL);
    assert_code(flashinfer_order_add(NULL, &asked, &error), FLASHINFER_EINVAL);
    assert_code(flashinfer_order_add(order, NULL, &error), FLASHINFER_EINVAL);
    other = order;
    assert_code(flashinfer_order_create(0, 1, &other, &error), FLASHINFER_EINVAL);
    assert_null(other);
    assert_code(flashinfer_order_create(1, 0, &other, &error), FLASHINFER_EINVAL);
    assert_code(flashinfer_order_create(1, 1, NULL, &error), FLASHINFER_EINVAL);
    flashinfer_order_destroy(order);
    flashinfer_order_destroy(NULL);
}

/* ------------------------------------------------------------------------- packing with it */

static void pack_with(const workspace *made, const flashinfer_order *order)
{
    flashinfer_pack_options options = plain;

    options.order = order;
    pack_well(made, &options);
}

static void test_another_models_order_is_refused(void **state)
{
    const workspace *made = *state;
    flashinfer_pack_options options = plain;
    flashinfer_order *order = make_order(3, NEURONS);

    cook(made, &(recipe){0});
    options.order = order;
    refuse(made, &options, FLASHINFER_EINVAL, "other dimensions");
    flashinfer_order_destroy(order);
}

/* All logits of a few tokens. */
static void run(const char *path, uint32_t predictor, float *logits)
{
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_session *session;
    flashinfer_plan budget = {.size = sizeof budget};

    flashinfer_options_init(&options, sizeof options);
    options.predictor = predictor;
    options.threads = 1;
    assert_code(flashinfer_plan_file(path, &options, &budget, &error), 0);
    options.memory_budget = budget.minimum_bytes;
    assert_code(flashinfer_model_open(path, &options, &model, &error), 0);
    assert_code(flashinfer_session_create(model, &session, &error), 0);
    for (int32_t token = 0; token < 8; token++) {
        size_t vocab;
        assert_code(flashinfer_step(session, token + 4, &error), 0);
        memcpy(logits + token * 20, flashinfer_logits(session, &vocab), 20 * sizeof *logits);
        assert_int_equal(vocab, 20);
    }
    flashinfer_session_destroy(session);
    assert_int_equal(flashinfer_model_close(model), 0);
}

static void test_no_bit_moves(void **state)
{
    static const uint32_t predictors[] = {FLASHINFER_PREDICTOR_SKETCH, FLASHINFER_PREDICTOR_EXACT,
                                          FLASHINFER_PREDICTOR_ALL};
    const workspace *made = *state;
    flashinfer_order *order = make_order(2, NEURONS);
    float expected[3][8 * 20], got[8 * 20];

    cook(made, &(recipe){0});
    pack_well(made, &plain);
    for (int i = 0; i < 3; i++) run(made->path, predictors[i], expected[i]);
    teach(order, 0);
    teach(order, 1);
    pack_with(made, order);
    for (int i = 0; i < 3; i++) {
        run(made->path, predictors[i], got);
        assert_memory_equal(got, expected[i], sizeof got);
    }
    flashinfer_order_destroy(order);
}

/* ------------------------------------------------------------------------- devices of any block size */

typedef struct device {
    FILE *file;
    uint32_t alignment;
} device;

static int device_caps(void *user, flashinfer_storage_caps *caps)
{
    const device *at = user;

    caps->alignment = at->alignment;
    caps->depth = 4;
    caps->segments_max = 1;
    assert_int_equal(fseek(at->file, 0, SEEK_END), 0);
    caps->length_bytes = (uint64_t)ftell(at->file);
    return 0;
}

/* One lane: no two at a time. */
static int64_t device_read(void *user, uint64_t offset, void *data, size_t bytes)
{
    const device *at = user;

    assert_int_equal((offset | (uintptr_t)data) % at->alignment, 0);
    if (fseek(at->file, (long)offset, SEEK_SET) != 0) return -EIO;
    return (int64_t)fread(data, 1, bytes, at->file);
}

static void run_device(const char *path, uint32_t alignment, uint32_t predictor, float *logits)
{
    device at = {fopen(path, "rb"), alignment};
    flashinfer_storage_ops ops = {
        .size = sizeof ops, .user = &at, .caps = device_caps, .read = device_read};
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_session *session;

    assert_non_null(at.file);
    flashinfer_options_init(&options, sizeof options);
    options.predictor = predictor;
    options.threads = 1;
    options.io_lanes = 1;
    assert_code(flashinfer_model_open_storage(&ops, &options, &model, &error), 0);
    assert_code(flashinfer_session_create(model, &session, &error), 0);
    for (int32_t token = 0; token < 3; token++) {
        assert_code(flashinfer_step(session, token + 4, &error), 0);
        memcpy(logits + token * 20, flashinfer_logits(session, NULL), 20 * sizeof *logits);
    }
    flashinfer_session_destroy(session);
    assert_int_equal(flashinfer_model_close(model), 0);
    assert_int_equal(fclose(at.file), 0);
}

/* Bundles of 192 bytes: some lie across two blocks, many share one. */
static void test_any_block_size_reads_the_same(void **state)
{
    static const uint32_t predictors[] = {FLASHINFER_PREDICTOR_SKETCH, FLASHINFER_PREDICTOR_EXACT,
                                          FLASHINFER_PREDICTOR_ALL};
    static const uint32_t alignments[] = {512, 4096};
    const workspace *made = *state;
    flashinfer_order *order = make_order(2, NEURONS);
    float expected[3 * 20], got[3 * 20];

    cook(made, &(recipe){.width = 40, .heads = 5});
    teach(order, 0);
    teach(order, 1);
    pack_with(made, order);
    for (int i = 0; i < 3; i++) {
        run_device(made->path, 1, predictors[i], expected);
        for (int j = 0; j < 2; j++) {
            run_device(made->path, alignments[j], predictors[i], got);
            assert_memory_equal(got, expected, sizeof got);
        }
    }
    flashinfer_order_destroy(order);
}

/* ------------------------------------------------------------------------- damaged orders */

static uint64_t tensor_offset(const char *path, const char *name)
{
    flashinfer_options options;
    flashinfer_model *model;
    uint64_t offset = 0;

    flashinfer_options_init(&options, sizeof options);
    options.flags = FLASHINFER_OPEN_METADATA;
    assert_code(flashinfer_model_open(path, &options, &model, &error), 0);
    for (uint32_t i = 0; offset == 0; i++) {
        flashinfer_tensor_info tensor = {.size = sizeof tensor};
        assert_int_equal(flashinfer_model_tensor(model, i, &tensor), 0);
        if (strcmp(tensor.name, name) == 0) offset = tensor.offset;
    }
    assert_int_equal(flashinfer_model_close(model), 0);
    return offset;
}

static void poke(const char *path, uint64_t offset, const void *bytes, size_t count)
{
    FILE *file = fopen(path, "r+b");

    assert_non_null(file);
    assert_int_equal(fseek(file, (long)offset, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

static int open_unverified(const char *path)
{
    flashinfer_options options;
    flashinfer_model *model;
    int code;

    flashinfer_options_init(&options, sizeof options);
    options.verify = FLASHINFER_VERIFY_NONE;
    code = flashinfer_model_open(path, &options, &model, &error);
    assert_int_equal(flashinfer_model_close(model), 0);
    return code;
}

static void test_rows_that_are_no_permutation_are_refused(void **state)
{
    const workspace *made = *state;
    flashinfer_order *order = make_order(2, NEURONS);
    const uint32_t wrong[] = {1, NEURONS, UINT32_MAX, 0};
    uint64_t rows;

    cook(made, &(recipe){0});
    teach(order, 1);
    pack_with(made, order);
    rows = tensor_offset(made->path, "blk.1.ffn_bundle.rows");
    for (int i = 0; i < 3; i++) {
        poke(made->path, rows, &wrong[i], 4); /* neuron 0 has row 0 */
        assert_code(open_unverified(made->path), FLASHINFER_EFORMAT);
        assert_int_equal(error.layer, 1);
    }
    poke(made->path, rows, &wrong[3], 4);
    assert_code(open_unverified(made->path), 0);
    flashinfer_order_destroy(order);
}

/* A damaged bundle is called by its neuron, not by its row. */
static void test_verify_names_the_neuron(void **state)
{
    const workspace *made = *state;
    flashinfer_order *order = make_order(2, NEURONS);
    flashinfer_options options;
    flashinfer_model *model;
    uint32_t rows[NEURONS];
    uint64_t bundle;

    cook(made, &(recipe){0});
    teach(order, 0);
    pack_with(made, order);
    assert_code(flin_order_learn(order, 0, rows, NULL, NULL, &error), 0);
    assert_int_not_equal(rows[25], 25);
    bundle = tensor_offset(made->path, "blk.0.ffn_bundle.weight") + rows[25] * 128u;
    poke(made->path, bundle + 1, "\x5a", 1);
    flashinfer_options_init(&options, sizeof options);
    for (uint32_t flags = 0; flags <= FLASHINFER_OPEN_METADATA; flags += FLASHINFER_OPEN_METADATA) {
        options.flags = flags;
        assert_code(flashinfer_model_open(made->path, &options, &model, &error), 0);
        assert_code(flashinfer_model_verify(model, &error), FLASHINFER_ECORRUPT);
        assert_int_equal(error.layer, 0);
        assert_int_equal(error.neuron, 25);
        assert_int_equal(error.offset, bundle);
        assert_int_equal(flashinfer_model_close(model), 0);
    }
    flashinfer_order_destroy(order);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_friends_become_neighbours),
        cmocka_unit_test(test_any_trace_gives_a_permutation),
        cmocka_unit_test(test_learning_can_be_stopped),
        cmocka_unit_test(test_misuse_is_refused),
        IN_WORKSPACE(test_another_models_order_is_refused),
        IN_WORKSPACE(test_no_bit_moves),
        IN_WORKSPACE(test_any_block_size_reads_the_same),
        IN_WORKSPACE(test_rows_that_are_no_permutation_are_refused),
        IN_WORKSPACE(test_verify_names_the_neuron),
    };
    return cmocka_run_group_tests_name("order", tests, NULL, NULL);
}
