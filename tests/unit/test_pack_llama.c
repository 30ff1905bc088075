/*
 * test_pack_llama.c - packing and loading Llama checkpoints: permuted heads, bundles of three parts, sketches of the
 * gate, keys with and without their defaults, and what cannot be packed.
 *
 * Values and layout are compared by tests/tools/check_gguf.py, which shares no code with the library.
 */
#define _GNU_SOURCE
#include "packed_file.h"

#include <math.h>

#include "model/weights.h"
#include "predictor/sketch_make.h"

static const recipe variants[] = {
    {.llama = 1},
    {.llama = 1, .width = 40, .heads = 10, .kv_heads = 2, .head_width = 6, .source = SOURCE_F32},
    {.llama = 1, .width = 32, .heads = 4, .kv_heads = 1, .untied = 1, .source = SOURCE_BF16, .shards = 3},
    {.llama = 1, .width = 7, .heads = 7, .head_width = 4, .neurons = 33, .short_prefix = 1, .source = SOURCE_F32},
    {.llama = 1, .spare_head = 1, .nested_rotary = 1, .plain_tokenizer = 1},
    {.llama = 1, .activation = "relu2"},
    {.llama = 1, .activation = "drelu"},
    {.llama = 1, .activation = "fatrelu", .config = "\"hidden_act_param\":0.03125,"},
    /* several pieces of permuted rows, several batches of bundles */
    {.llama = 1, .width = 576, .heads = 9, .kv_heads = 3, .neurons = 900, .layers = 1, .source = SOURCE_F32},
};

static void test_variants(void **state)
{
    const workspace *made = *state;

    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        flashinfer_pack_options options = plain;
        cook(made, &variants[i]);
        pack_well(made, &options);
        check_all(made);
        options.dtype = FLASHINFER_DTYPE_F32;
        options.no_sketch = 1;
        pack_well(made, &options);
        check_all(made);
    }
}

static void test_types(void **state)
{
    static const uint32_t dtypes[] = {FLASHINFER_DTYPE_F16, FLASHINFER_DTYPE_BF16, FLASHINFER_DTYPE_Q8_0,
                                      FLASHINFER_DTYPE_Q4_0};
    const workspace *made = *state;

    cook(made, &(recipe){.llama = 1, .width = 64, .heads = 4, .kv_heads = 2, .head_width = 24, .neurons = 37,
                         .source = SOURCE_F32});
    for (size_t resident = 0; resident < 4; resident++) {
        for (size_t ffn = 0; ffn < 4; ffn++) {
            flashinfer_pack_options options = plain;
            options.dtype_resident = dtypes[resident];
            options.dtype_ffn = dtypes[ffn];
            pack_well(made, &options);
            check_all(made);
        }
    }
    /* the output projection reads 4 * 20 elements, no whole blocks */
    cook(made, &(recipe){.llama = 1, .width = 64, .heads = 4, .head_width = 20});
    refuse(made, &(flashinfer_pack_options){.size = sizeof plain, .dtype_resident = FLASHINFER_DTYPE_Q8_0},
           FLASHINFER_EUNSUPPORTED, "this model's have 80");
}

static void test_order(void **state)
{
    const recipe given = {.llama = 1, .neurons = 50};
    const workspace *made = *state;
    flashinfer_pack_options options = plain;
    flashinfer_order *order = NULL;
    uint64_t random = 7;

    assert_int_equal(flashinfer_order_create(2, 50, &order, NULL), 0);
    for (uint32_t record = 0; record < 400; record++) {
        uint32_t ids[8] = {0};
        flashinfer_trace asked = {.size = sizeof asked, .layer = record % 2, .layer_count = 2, .ffn_length = 50,
                                  .count = 8, .ids = ids};
        for (int at = 0; at < 8; at++) ids[at] = (uint32_t)((random = mix(random)) % 50);
        assert_int_equal(flashinfer_order_add(order, &asked, NULL), 0);
    }
    options.order = order;
    cook(made, &given);
    pack_well(made, &options);
    check_all(made);
    flashinfer_order_destroy(order);
}

/* Neurons that all fire have no use for a sketch. */
static void test_silu(void **state)
{
    const workspace *made = *state;
    packed *file;

    cook(made, &(recipe){.llama = 1, .activation = "silu"});
    pack_well(made, &plain);
    file = open_packed(made->path);
    assert_null(flin_gguf_find(&file->gguf, "flashinfer.sketch.bits"));
    assert_null(flin_gguf_find_tensor(&file->gguf, "blk.0.ffn_sketch.weight"));
    close_packed(file);
    check_all(made);
    write_text(made, "config.json",
               "{\"model_type\":\"llama\",\"vocab_size\":20,\"hidden_size\":24,\"intermediate_size\":40,"
               "\"num_hidden_layers\":2,\"num_attention_heads\":3,\"rms_norm_eps\":1e-6,"
               "\"max_position_embeddings\":16,\"tie_word_embeddings\":true}");
    pack_well(made, &plain);
    check_all(made); /* silu is what a Llama without hidden_act has */
}

/* ------------------------------------------------------------------------- loading */

static void test_shape(void **state)
{
    const workspace *made = *state;
    flin_shape shape;
    packed *file;

    cook(made, &(recipe){.llama = 1, .width = 40, .heads = 10, .kv_heads = 2, .head_width = 6, .activation = "fatrelu",
                         .config = "\"hidden_act_param\":0.03125,", .nested_rotary = 1});
    pack_well(made, &plain);
    file = open_packed(made->path);
    assert_int_equal(flin_shape_read(&file->gguf, NULL, &shape, NULL), 0);
    assert_string_equal(shape.architecture, "llama");
    assert_int_equal(shape.layers, 2);
    assert_int_equal(shape.width, 40);
    assert_int_equal(shape.token_width, 40);
    assert_int_equal(shape.ffn, 40);
    assert_int_equal(shape.heads, 10);
    assert_int_equal(shape.kv_heads, 2);
    assert_int_equal(shape.head_width, 6);
    assert_int_equal(shape.rotary.rotated, 6);
    assert_int_equal(shape.rotary.pairs, FLIN_PAIRS_NEIGHBOURS);
    assert_true(shape.rotary.base >= 500000 && shape.rotary.base <= 500000);
    assert_int_equal(shape.norm_kind, FLIN_NORM_RMS);
    assert_int_equal(shape.final_norm, 1);
    assert_int_equal(shape.gated, 1);
    assert_int_equal(shape.activation.kind, FLIN_ACTIVATION_FATRELU);
    assert_true(shape.activation.threshold >= 0.03125f && shape.activation.threshold <= 0.03125f);
    assert_int_equal(shape.bundle.part_count, 3);
    assert_int_equal(shape.bundle.index_of[FLIN_PART_GATE], 0);
    assert_int_equal(shape.bundle.index_of[FLIN_PART_UP], 1);
    assert_int_equal(shape.bundle.index_of[FLIN_PART_DOWN], 2);
    close_packed(file);
}

static int is_matrix(const flin_matrix *matrix, uint32_t rows, uint32_t cols)
{
    return matrix->data != NULL && matrix->rows == rows && matrix->cols == cols && matrix->type == FLIN_F16;
}

static int is_norm(const flin_norm *norm)
{
    return norm->kind == FLIN_NORM_RMS && norm->weight != NULL && norm->bias == NULL;
}

static void test_weights(void **state)
{
    const workspace *made = *state;
    flin_predictor_choice none = {NULL, 0, 0};
    flin_weights weights;
    flin_arena arena;
    flin_shape shape;
    packed *file;

    cook(made, &(recipe){.llama = 1, .width = 40, .heads = 10, .kv_heads = 2, .head_width = 6});
    pack_well(made, &plain);
    file = open_packed(made->path);
    none.gguf = &file->gguf;
    assert_int_equal(flin_shape_read(&file->gguf, NULL, &shape, NULL), 0);
    weights.layers = calloc(shape.layers, sizeof *weights.layers);
    assert_non_null(weights.layers);
    flin_arena_measure(&arena);
    assert_int_equal(flin_weights_layout(&weights, &arena, &file->gguf, &shape, &none, NULL), 0);
    assert_int_equal(flin_arena_open(&arena, arena.used, "weights", NULL), 0);
    assert_int_equal(flin_weights_layout(&weights, &arena, &file->gguf, &shape, &none, NULL), 0);
    assert_int_equal(flin_weights_load(&weights, &file->storage, NULL, 1, NULL, NULL, NULL), 0);
    assert_true(is_matrix(&weights.token_embedding, 20, 40));
    assert_ptr_equal(weights.output.weight.data, weights.token_embedding.data);
    assert_null(weights.output.bias);
    assert_null(weights.position_embedding.data);
    assert_null(weights.project_in.weight.data);
    assert_true(is_norm(&weights.output_norm));
    for (uint32_t i = 0; i < 2; i++) {
        const flin_layer *layer = &weights.layers[i];
        assert_true(is_norm(&layer->attention_norms.before) && is_norm(&layer->ffn_norms.before));
        assert_int_equal(layer->attention_norms.output.kind, FLIN_NORM_NONE);
        assert_int_equal(layer->attention_norms.after.kind, FLIN_NORM_NONE);
        assert_int_equal(layer->ffn_norms.after.kind, FLIN_NORM_NONE);
        assert_true(is_matrix(&layer->attention.query.weight, 60, 40));
        assert_true(is_matrix(&layer->attention.key.weight, 12, 40));
        assert_true(is_matrix(&layer->attention.value.weight, 12, 40));
        assert_true(is_matrix(&layer->attention.output.weight, 40, 60));
        assert_null(layer->attention.query.bias);
        assert_int_equal(layer->attention.kv_heads, 2);
        assert_int_equal(layer->attention.rotary.rotated, 6);
        assert_true(layer->ffn.gated && layer->ffn.neurons == 40);
        assert_true(layer->ffn.gate_bias == NULL && layer->ffn.up_bias == NULL && layer->ffn.down_bias == NULL);
        assert_non_null(layer->ffn.bundles.sums);
    }
    free(weights.layers);
    flin_arena_close(&arena);
    close_packed(file);
}

/* The sketch is what the maker makes of the gate as it is stored, and of a norm without a bias. */
static void test_sketch(void **state)
{
    enum { WIDTH = 64, NEURONS = 16 };
    static float rows[NEURONS * WIDTH], norm[WIDTH], bias[NEURONS];
    const workspace *made = *state;
    flin_sketch_maker maker;
    uint64_t tile_bytes = flin_sketch_tile_bytes(WIDTH, 3), stride;
    uint8_t *tile = malloc((size_t)tile_bytes);
    const flin_gguf_tensor *tensor;
    packed *file;

    assert_non_null(tile);
    cook(made, &(recipe){.llama = 1, .width = WIDTH, .heads = 2, .neurons = NEURONS, .source = SOURCE_F32});
    pack_well(made, &plain);
    file = open_packed(made->path);
    tensor = tensor_of(file, "blk.1.ffn_bundle.weight");
    stride = tensor->dimensions[0];
    for (uint32_t i = 0; i < NEURONS; i++)
        flin_kernels_ref.to_float[FLIN_F16](file->bytes + tensor->offset + i * stride, WIDTH, rows + i * WIDTH);
    memcpy(norm, file->bytes + tensor_of(file, "blk.1.ffn_norm.weight")->offset, sizeof norm);
    assert_int_equal(flin_sketch_maker_open(&maker, WIDTH, 3, norm, NULL, FLIN_SKETCH_MARGIN, NULL), 0);
    assert_int_equal(flin_sketch_maker_tile(&maker, rows, NULL, NEURONS, tile, bias, NULL), 0);
    tensor = tensor_of(file, "blk.1.ffn_sketch.weight");
    assert_int_equal(tensor->bytes, tile_bytes);
    assert_memory_equal(file->bytes + tensor->offset, tile, tile_bytes);
    assert_memory_equal(file->bytes + tensor_of(file, "blk.1.ffn_sketch.bias")->offset, bias, sizeof bias);
    flin_sketch_maker_close(&maker);
    close_packed(file);
    free(tile);
}

/* ------------------------------------------------------------------------- refusals */

static void test_config(void **state)
{
    static const struct {
        const char *member;
        int code;
        const char *words;
    } cases[] = {
        {"\"hidden_act\":\"gelu\",", FLASHINFER_EUNSUPPORTED, "relu, relu2, fatrelu, drelu, silu"},
        {"\"hidden_act\":\"fatrelu\",", FLASHINFER_ECHECKPOINT, "hidden_act_param"},
        {"\"hidden_act\":\"fatrelu\",\"hidden_act_param\":-1,", FLASHINFER_ECHECKPOINT, "hidden_act_param"},
        {"\"num_key_value_heads\":2,", FLASHINFER_ECHECKPOINT, "num_key_value_heads 2 does not divide"},
        {"\"num_key_value_heads\":0,", FLASHINFER_ECHECKPOINT, "num_key_value_heads"},
        {"\"num_attention_heads\":5,", FLASHINFER_ECHECKPOINT, "config.json: num_attention_heads 5 does not divide"},
        {"\"head_dim\":7,", FLASHINFER_ECHECKPOINT, "cannot turn in pairs"},
        {"\"head_dim\":6,", FLASHINFER_ECHECKPOINT, "expected [18, 24], found [24, 24]"},
        {"\"rms_norm_eps\":0,", FLASHINFER_ECHECKPOINT, "rms_norm_eps"},
        {"\"rms_norm_eps\":\"1e-5\",", FLASHINFER_ECHECKPOINT, "rms_norm_eps"},
        {"\"rms_norm_eps\":null,", FLASHINFER_ECHECKPOINT, "rms_norm_eps"},
        {"\"rope_theta\":0.5,", FLASHINFER_ECHECKPOINT, "rope_theta"},
        {"\"rope_parameters\":{\"rope_theta\":0.5},", FLASHINFER_ECHECKPOINT, "rope_theta"},
        {"\"rope_scaling\":{\"rope_type\":\"longrope\",\"factor\":8.0},", FLASHINFER_EUNSUPPORTED, "longrope"},
        {"\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2.0},", FLASHINFER_EUNSUPPORTED, "dynamic"},
        {"\"rope_scaling\":{\"type\":\"linear\"},", FLASHINFER_ECHECKPOINT, "\"linear\" without a factor"},
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":0},", FLASHINFER_ECHECKPOINT, "factor"},
        {"\"rope_scaling\":{\"type\":3},", FLASHINFER_EUNSUPPORTED, "rope_scaling.type"},
        {"\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"mscale\":1},", FLASHINFER_EUNSUPPORTED, "mscale"},
        {"\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"truncate\":false},", FLASHINFER_EUNSUPPORTED, "truncate"},
        {"\"rope_scaling\":{\"type\":\"llama3\",\"factor\":2,\"high_freq_factor\":1},", FLASHINFER_EUNSUPPORTED,
         "high_freq_factor"},
        {"\"rope_scaling\":{\"factor\":2.0},", FLASHINFER_EUNSUPPORTED, "rope_scaling"},
        {"\"rope_scaling\":7,", FLASHINFER_EUNSUPPORTED, "rope_scaling"},
        {"\"rope_parameters\":{\"rope_type\":\"yarn\"},", FLASHINFER_ECHECKPOINT, "yarn"},
        {"\"layer_types\":[\"full_attention\",\"linear_attention\"],", FLASHINFER_EUNSUPPORTED, "linear_attention"},
        {"\"layer_types\":[\"full_attention\"],", FLASHINFER_EUNSUPPORTED, "too short"},
        {"\"model_type\":\"mistral\",\"sliding_window\":0,", FLASHINFER_ECHECKPOINT, "sliding_window"},
        {"\"model_type\":\"mistral\",\"sliding_window\":4,\"layer_types\":[\"full_attention\",\"sliding_attention\"],",
         FLASHINFER_EUNSUPPORTED, "of another pattern"},
        {"\"partial_rotary_factor\":0.5,", FLASHINFER_EUNSUPPORTED, "partial_rotary_factor"},
        {"\"attention_bias\":true,", FLASHINFER_EUNSUPPORTED, "attention_bias"},
        {"\"mlp_bias\":true,", FLASHINFER_EUNSUPPORTED, "mlp_bias"},
        {"\"tie_word_embeddings\":false,", FLASHINFER_ECHECKPOINT, "lm_head.weight"},
        {"\"model_type\":\"mamba\",", FLASHINFER_EUNSUPPORTED, "sparsellama, bamboo"},
    };
    const workspace *made = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse_recipe(made, &(recipe){.llama = 1, .config = cases[i].member}, cases[i].code, cases[i].words);
    cook(made, &(recipe){.llama = 1, .config = "\"rope_scaling\":{\"rope_type\":\"default\"},"});
    pack_well(made, &plain);
}

static void test_tensors(void **state)
{
    static const char *const names[] = {
        "model.norm.weight",
        "model.layers.1.input_layernorm.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.layers.1.self_attn.q_proj.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.1.self_attn.v_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.1.mlp.gate_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
    };
    const workspace *made = *state;
    recipe bad = {.llama = 1, .source = SOURCE_F32, .poison = -INFINITY, .poison_index = 70};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        refuse_recipe(made, &(recipe){.llama = 1, .dropped = names[i]}, FLASHINFER_ECHECKPOINT, names[i]);
        refuse_recipe(made, &(recipe){.llama = 1, .widened = names[i]}, FLASHINFER_ECHECKPOINT, names[i]);
        refuse_recipe(made, &(recipe){.llama = 1, .retyped = names[i]}, FLASHINFER_EUNSUPPORTED, "dtype I16");
        if (i < 3) continue;
        bad.poisoned = names[i];
        refuse_recipe(made, &bad, FLASHINFER_ECHECKPOINT, names[i]);
    }
    refuse_recipe(made, &(recipe){.llama = 1, .dropped = "model.embed_tokens.weight"}, FLASHINFER_ECHECKPOINT,
                  "a model of the Llama family");
    refuse_recipe(made, &(recipe){.llama = 1, .spare_head = 1, .poisoned = "lm_head.weight", .poison = 2},
                  FLASHINFER_ECHECKPOINT, "tie_word_embeddings");
}

/* A model file whose keys contradict each other. */
static void test_keys(void **state)
{
    static const struct {
        const char *key;
        uint32_t number;
        int code;
        const char *words;
    } edits[] = {
        {"llama.attention.value_length", 6, FLASHINFER_EUNSUPPORTED, "llama.attention.value_length is 6"},
        {"llama.attention.head_count_kv", 2, FLASHINFER_EFORMAT, "llama.attention.head_count_kv 2 does not divide"},
        {"llama.rope.dimension_count", 3, FLASHINFER_EFORMAT, "llama.rope.dimension_count: 3 elements"},
        {"llama.rope.dimension_count", 10, FLASHINFER_EFORMAT, "of a head of 8"},
        {"llama.rope.freq_base", 0, FLASHINFER_EFORMAT, "llama.rope.freq_base"},
        {"llama.attention.layer_norm_rms_epsilon", 0x40000000, FLASHINFER_EFORMAT, "rms_epsilon"},
        {"llama.vocab_size", 0, FLASHINFER_EFORMAT, "llama.vocab_size"},
    };
    const workspace *made = *state;

    cook(made, &(recipe){.llama = 1});
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        flin_storage_config config = {.kind = FLASHINFER_STORAGE_BUFFERED, .depth = 1, .lanes = 1};
        flashinfer_error error = {.size = sizeof error};
        flin_storage storage;
        flin_shape shape;
        flin_gguf gguf;
        uint8_t header[8192];
        FILE *file;
        uint8_t *at;

        pack_well(made, &plain);
        file = fopen(made->path, "r+b");
        assert_non_null(file);
        assert_int_equal(fread(header, 1, sizeof header, file), sizeof header);
        at = memmem(header, sizeof header, edits[i].key, strlen(edits[i].key));
        assert_non_null(at);
        assert_int_equal(fseek(file, (long)(at - header) + (long)strlen(edits[i].key) + 4, SEEK_SET), 0);
        assert_int_equal(fwrite(&edits[i].number, sizeof edits[i].number, 1, file), 1);
        assert_int_equal(fclose(file), 0);
        config.timeout_ns = 30000000000u;
        assert_int_equal(flin_storage_open_path(&storage, made->path, &config, &error), 0);
        assert_int_equal(flin_gguf_open(&gguf, &storage, 0, &error), 0);
        assert_int_equal(flin_shape_read(&gguf, NULL, &shape, &error), edits[i].code);
        if (strstr(error.text, edits[i].words) == NULL) fail_msg("\"%s\" lacks %s", error.text, edits[i].words);
        flin_gguf_close(&gguf);
        flin_storage_close(&storage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORKSPACE(test_variants), IN_WORKSPACE(test_types),   IN_WORKSPACE(test_order),
        IN_WORKSPACE(test_silu),     IN_WORKSPACE(test_shape),   IN_WORKSPACE(test_weights),
        IN_WORKSPACE(test_sketch),   IN_WORKSPACE(test_config),  IN_WORKSPACE(test_tensors),
        IN_WORKSPACE(test_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
