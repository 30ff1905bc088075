/*
 * test_pack_types.c - packing in bfloat16, Q8_0 and Q4_0: blocks byte by byte, every pair of types for what stays in
 * memory and for bundles, what each refuses, and sketches of the weights as they are stored.
 */
#define _GNU_SOURCE
#include "packed_file.h"

#include <float.h>
#include <math.h>

#include "kernels/kernels.h"
#include "pack/pack.h"

static flashinfer_pack_options in_types(uint32_t resident, uint32_t ffn)
{
    flashinfer_pack_options options = plain;

    options.dtype_resident = resident;
    options.dtype_ffn = ffn;
    return options;
}

/* The blocks of docs/format.md: an up row 1, 2 ... 32, and a down column 1, 3 ... 63. */
static void test_blocks(void **state)
{
    static const uint8_t q8_0[68] = {
        0x08, 0x34, 0x04, 0x08, 0x0c, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30,
        0x34, 0x38, 0x3c, 0x40, 0x43, 0x47, 0x4b, 0x4f, 0x53, 0x57, 0x5b, 0x5f, 0x63, 0x67,
        0x6b, 0x6f, 0x73, 0x77, 0x7b, 0x7f, 0xf0, 0x37, 0x02, 0x06, 0x0a, 0x0e, 0x12, 0x16,
        0x1a, 0x1e, 0x22, 0x26, 0x2a, 0x2e, 0x32, 0x36, 0x3a, 0x3e, 0x43, 0x47, 0x4b, 0x4f,
        0x53, 0x57, 0x5b, 0x5f, 0x63, 0x67, 0x6b, 0x6f, 0x73, 0x77, 0x7b, 0x7f};
    static const uint8_t q4_0[36] = {0x00, 0xc4, 0x48, 0x48, 0x37, 0x37, 0x37, 0x37, 0x26,
                                     0x26, 0x26, 0x26, 0x15, 0x15, 0x15, 0x15, 0x04, 0x04,
                                     0xe0, 0xc7, 0x48, 0x48, 0x37, 0x37, 0x37, 0x37, 0x26,
                                     0x26, 0x26, 0x26, 0x15, 0x15, 0x15, 0x15, 0x04, 0x04};
    static const uint8_t bf16[8] = {0x80, 0x3f, 0x00, 0x40, 0x40, 0x40, 0x80, 0x40};
    const struct {
        const uint8_t *bytes;
        size_t count;
        uint32_t dtype, type, stride;
    } cases[] = {{q8_0, sizeof q8_0, FLASHINFER_DTYPE_Q8_0, FLIN_GGUF_Q8_0, 128},
                 {q4_0, sizeof q4_0, FLASHINFER_DTYPE_Q4_0, FLIN_GGUF_Q4_0, 64},
                 {bf16, sizeof bf16, FLASHINFER_DTYPE_BF16, FLIN_GGUF_BF16, 128}};
    const workspace *made = *state;

    cook(made, &(recipe){.width = 32, .neurons = 2, .layers = 1, .heads = 1, .counting = 1});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        flashinfer_pack_options options = in_types(0, cases[i].dtype);
        const flin_gguf_tensor *tensor;
        packed *file;
        pack_well(made, &options);
        file = open_packed(made->path);
        tensor = tensor_of(file, "blk.0.ffn_bundle.weight");
        assert_int_equal(tensor->dimensions[0], cases[i].stride);
        assert_memory_equal(file->bytes + tensor->offset, cases[i].bytes, cases[i].count);
        close_packed(file);
        options = in_types(cases[i].dtype, 0); /* row 0 of a resident matrix is 1, 2 ... too */
        pack_well(made, &options);
        file = open_packed(made->path);
        tensor = tensor_of(file, "blk.0.attn_k.weight");
        assert_int_equal(tensor->type, cases[i].type);
        assert_memory_equal(file->bytes + tensor->offset, cases[i].bytes, cases[i].count / 2);
        close_packed(file);
    }
}

static const uint32_t dtypes[] = {FLASHINFER_DTYPE_F32, FLASHINFER_DTYPE_F16, FLASHINFER_DTYPE_BF16,
                                  FLASHINFER_DTYPE_Q8_0, FLASHINFER_DTYPE_Q4_0};
#define DTYPES (sizeof dtypes / sizeof dtypes[0])

/* Every pair. check_all compares each byte with what another reader makes of the checkpoint. */
static void test_pairs(void **state)
{
    static const uint32_t file_types[DTYPES] = {0, 1, 32, 7, 2};
    const workspace *made = *state;

    cook(made, &(recipe){.width = 64,
                         .heads = 2,
                         .neurons = 37,
                         .embedding_width = 32,
                         .post_norm = 1,
                         .untied = 1,
                         .source = SOURCE_F32});
    for (size_t resident = 0; resident < DTYPES; resident++) {
        for (size_t ffn = 0; ffn < DTYPES; ffn++) {
            flashinfer_pack_options options = in_types(dtypes[resident], dtypes[ffn]);
            packed *file;
            pack_well(made, &options);
            file = open_packed(made->path);
            assert_int_equal(number_of(file, "general.file_type"), file_types[resident]);
            close_packed(file);
            check_all(made);
        }
    }
}

/* Checkpoints of other types, several batches of rows, an order of bundles. */
static void test_sources(void **state)
{
    static const recipe recipes[] = {
        {.width = 32, .heads = 1, .source = SOURCE_F16},
        {.width = 96, .heads = 3, .source = SOURCE_BF16, .spare_head = 1},
        {.width = 256, .heads = 4, .neurons = 1300, .layers = 1, .source = SOURCE_F32},
    };
    const workspace *made = *state;

    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        cook(made, &recipes[i]);
        for (size_t dtype = 2; dtype < DTYPES; dtype++) {
            recipe whole = complete(&recipes[i]);
            flashinfer_pack_options options = plain;
            flashinfer_order *order = NULL;
            assert_int_equal(flashinfer_order_create(whole.layers, whole.neurons, &order, NULL), 0);
            options.dtype = dtypes[dtype];
            options.order = i == 0 ? order : NULL;
            pack_well(made, &options);
            check_all(made);
            flashinfer_order_destroy(order);
        }
    }
}

/* Logits of three tokens by steps, and of a prompt of 20 whose last are the same. */
static void logits_of(const char *path, uint32_t kernels, uint32_t vocab, float *logits)
{
    int32_t tokens[20];
    flashinfer_options options;
    flashinfer_model *model;
    flashinfer_session *session;
    flashinfer_error error;

    flashinfer_error_init(&error, sizeof error);
    flashinfer_options_init(&options, sizeof options);
    options.kernels = kernels;
    options.threads = 2;
    options.predictor = FLASHINFER_PREDICTOR_EXACT;
    options.flags = FLASHINFER_OPEN_NO_TOKENIZER;
    assert_int_equal(flashinfer_model_open(path, &options, &model, &error), 0);
    assert_int_equal(flashinfer_session_create(model, &session, &error), 0);
    for (int32_t i = 0; i < 20; i++) tokens[i] = i * 7 % (int32_t)vocab;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(flashinfer_step(session, tokens[i], &error), 0);
        memcpy(logits + i * vocab, flashinfer_logits(session, NULL), vocab * sizeof *logits);
    }
    assert_int_equal(flashinfer_session_rewind(session, 0, &error), 0);
    assert_int_equal(flashinfer_eval(session, tokens, 20, &error), 0);
    memcpy(logits + 3 * vocab, flashinfer_logits(session, NULL), vocab * sizeof *logits);
    flashinfer_session_destroy(session);
    assert_int_equal(flashinfer_model_close(model), 0);
}

/* However kernels want resident matrices to lie in memory, every one of them: tied or not, with projections, of whole spans
   and rests. */
static void test_layouts_in_memory(void **state)
{
    static const recipe recipes[] = {
        {.width = 1056, .heads = 33, .embedding_width = 544, .post_norm = 1, .untied = 1},
        {.width = 96, .heads = 3, .embedding_width = 1184},
        {.width = 160, .heads = 5, .untied = 1},
    };
    static const uint32_t tables[] = {FLASHINFER_KERNELS_AVX512, FLASHINFER_KERNELS_AVX2,
                                      FLASHINFER_KERNELS_NEON};
    enum { VOCAB = 70 };
    static float expected[4 * VOCAB], logits[4 * VOCAB];
    const workspace *made = *state;

    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        flashinfer_pack_options options = in_types(FLASHINFER_DTYPE_Q4_0, FLASHINFER_DTYPE_F16);
        recipe whole = recipes[i];
        float most = 0;
        whole.vocab = VOCAB;
        whole.layers = 1;
        whole.positions = 32;
        whole.source = SOURCE_F32;
        cook(made, &whole);
        pack_well(made, &options);
        logits_of(made->path, FLASHINFER_KERNELS_REF, VOCAB, expected);
        for (size_t k = 0; k < 4 * VOCAB; k++) most = fmaxf(most, fabsf(expected[k]));
        assert_true(isfinite(most) && most > 1e-4f);
        for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
            if (flin_kernels_choose(tables[t]) == NULL) continue;
            logits_of(made->path, tables[t], VOCAB, logits);
            for (size_t k = 0; k < 4 * VOCAB; k++)
                assert_true(fabsf(logits[k] - expected[k]) <= most * 1e-3f);
        }
    }
}

/* One dtype for all, and then one of the two otherwise. */
static void test_choices(void **state)
{
    const workspace *made = *state;
    flashinfer_pack_options options = plain;
    packed *file;

    options.dtype = FLASHINFER_DTYPE_Q4_0;
    options.dtype_resident = FLASHINFER_DTYPE_BF16;
    cook(made, &(recipe){.width = 32, .heads = 1, .layers = 1});
    pack_well(made, &options);
    file = open_packed(made->path);
    assert_int_equal(tensor_of(file, "token_embd.weight")->type, FLIN_GGUF_BF16);
    assert_int_equal(tensor_of(file, "position_embd.weight")->type, FLIN_GGUF_BF16);
    assert_int_equal(
        flin_gguf_element_u64(flin_gguf_find(&file->gguf, "flashinfer.ffn.part_types"), 1),
        FLIN_GGUF_Q4_0);
    close_packed(file);
    options.dtype_resident = FLASHINFER_DTYPE_Q8_0;
    pack_well(made, &options);
    file = open_packed(made->path);
    assert_int_equal(tensor_of(file, "token_embd.weight")->type, FLIN_GGUF_Q8_0);
    assert_int_equal(tensor_of(file, "position_embd.weight")->type, FLIN_GGUF_F16);
    assert_int_equal(tensor_of(file, "blk.0.attn_norm.weight")->type, FLIN_GGUF_F32);
    close_packed(file);
    assert_int_equal(unlink(made->path), 0);
    options.dtype_resident = 6;
    refuse(made, &options, FLASHINFER_EINVAL, "dtype_resident 6");
    options = in_types(0, 77);
    refuse(made, &options, FLASHINFER_EINVAL, "dtype_ffn 77");
}

/* Rows that are no whole blocks are refused where they would be quantised, and only there. */
static void test_widths(void **state)
{
    static const char words[] = "whole blocks of 32 elements";
    const workspace *made = *state;

    for (size_t i = 3; i < DTYPES; i++) {
        flashinfer_pack_options both = plain, resident = in_types(dtypes[i], 0),
                                ffn = in_types(0, dtypes[i]);
        both.dtype = dtypes[i];
        cook(made, &(recipe){.width = 24});
        refuse(made, &both, FLASHINFER_EUNSUPPORTED, words);
        refuse(made, &resident, FLASHINFER_EUNSUPPORTED, words);
        refuse(made, &ffn, FLASHINFER_EUNSUPPORTED, "24");
        cook(made, &(recipe){.width = 64, .heads = 2, .embedding_width = 40, .post_norm = 1});
        refuse(made, &both, FLASHINFER_EUNSUPPORTED, words);
        refuse(made, &resident, FLASHINFER_EUNSUPPORTED, "40");
        pack_well(made, &ffn); /* bundles are 64 wide */
        check_all(made);
    }
}

/* The largest number that a type holds is packed; the next one is refused and named. */
static void test_limits(void **state)
{
    static const struct {
        const char *name;
        uint32_t dtype;
        float largest;
    } cases[] = {
        {"model.decoder.layers.0.fc2.weight", FLASHINFER_DTYPE_Q8_0, 65504.0f * 127},
        {"model.decoder.layers.0.fc2.weight", FLASHINFER_DTYPE_Q4_0, 65504.0f * 8},
        {"model.decoder.layers.0.fc1.weight", FLASHINFER_DTYPE_Q8_0, 65504.0f * 127},
        {"model.decoder.layers.0.fc1.weight", FLASHINFER_DTYPE_BF16, 0x1.fep127f},
        {"model.decoder.embed_tokens.weight", FLASHINFER_DTYPE_Q4_0, 65504.0f * 8},
        {"model.decoder.embed_tokens.weight", FLASHINFER_DTYPE_BF16, 0x1.fep127f},
        {"model.decoder.embed_positions.weight", FLASHINFER_DTYPE_Q8_0, 65504.0f}, /* F16 */
    };
    const workspace *made = *state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int sign = -1; sign <= 1; sign += 2) {
            recipe large = {.width = 32,
                            .heads = 1,
                            .layers = 1,
                            .source = SOURCE_F32,
                            .poisoned = cases[i].name,
                            .poison_index = 70};
            flashinfer_pack_options options = plain;
            options.dtype = cases[i].dtype;
            options.no_sketch = 1;
            large.poison = (float)sign * cases[i].largest;
            cook(made, &large);
            pack_well(made, &options);
            check_all(made);
            large.poison = (float)sign * nextafterf(cases[i].largest, INFINITY);
            cook(made, &large);
            refuse(made, &options, FLASHINFER_ECHECKPOINT, cases[i].name);
            refuse(made, &options, FLASHINFER_ECHECKPOINT, "--dtype f32");
        }
    }
}

/* What fires is decided by the weights as they are stored: a checkpoint that holds just those has the same sketches, the
   one they were rounded from has others. */
static void test_sketches(void **state)
{
    static const enum flin_type types[DTYPES] = {FLIN_F32, FLIN_F16, FLIN_BF16, FLIN_Q8_0,
                                                 FLIN_Q4_0};
    const workspace *made = *state;

    for (size_t i = 1; i < DTYPES; i++) {
        recipe whole = {.width = 64, .heads = 2, .source = SOURCE_F32};
        const flashinfer_pack_options stored = in_types(FLASHINFER_DTYPE_F32, dtypes[i]),
                                      wide = in_types(FLASHINFER_DTYPE_F32, FLASHINFER_DTYPE_F32);
        uint64_t sums[3];
        for (size_t step = 0; step < 3; step++) {
            packed *file;
            whole.rounded = step == 1 ? types[i] : FLIN_F32;
            cook(made, &whole);
            pack_well(made, step == 0 ? &stored : &wide);
            file = open_packed(made->path);
            sums[step] = tensor_of(file, "blk.1.ffn_sketch.weight")->sum;
            close_packed(file);
        }
        assert_int_equal(sums[0], sums[1]);
        assert_int_not_equal(sums[0], sums[2]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORKSPACE(test_blocks),   IN_WORKSPACE(test_pairs),
        IN_WORKSPACE(test_sources),  IN_WORKSPACE(test_choices),
        IN_WORKSPACE(test_widths),   IN_WORKSPACE(test_limits),
        IN_WORKSPACE(test_sketches), IN_WORKSPACE(test_layouts_in_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
