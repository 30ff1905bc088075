/*
 * test_pack_refusals.c - checkpoints that cannot be packed: each fault alone, its code, its words,
 * and that nothing is left behind.
 */
#define _GNU_SOURCE
#include "pack_fixture.h"

#include <math.h>

static void test_foreign_tokenizers(void **state)
{
    const workspace *made = *state;
    const int unsupported = FLASHINFER_EUNSUPPORTED;

    cook(made, &(recipe){0});
    refuse_edited(made, "\"type\":\"BPE\"", "\"type\":\"Unigram\"", unsupported, "not BPE");
    refuse_edited(made, "\"dropout\":null", "\"dropout\":0.1", unsupported, "at random");
    refuse_edited(made, "\"dropout\":null", "\"end_of_word_suffix\":\"</w>\"", unsupported,
                  "parts of words");
    refuse_edited(made, "\"dropout\":null", "\"byte_fallback\":true", unsupported, "byte_fallback");
    refuse_edited(made, "\"normalizer\":null", "\"normalizer\":{\"type\":\"NFKC\"}", unsupported,
                  "normalizer");
    refuse_edited(made, "\"type\":\"ByteLevel\"", "\"type\":\"Split\"", unsupported,
                  "splits by no expression");
    refuse_edited(made, "\"add_prefix_space\":false", "\"add_prefix_space\":true", unsupported,
                  "a space");
    refuse_edited(made, "\"use_regex\":true", "\"use_regex\":false", unsupported,
                  "unknown expressions");
    refuse_edited(made, "TemplateProcessing", "RobertaProcessing", unsupported, "post_processor");
    refuse_edited(made, "{\"Sequence\"", "{\"SpecialToken\":{\"id\":\"</s>\"}},{\"Sequence\"",
                  unsupported, "post_processor");
    cook(made, &(recipe){.plain_tokenizer = 1});
    write_text(made, "tokenizer_config.json", "{\"add_prefix_space\":true}");
    refuse(made, &plain, unsupported, "add_prefix_space");
}

static void test_broken_tokenizers(void **state)
{
    const workspace *made = *state;
    const int broken = FLASHINFER_ECHECKPOINT;

    cook(made, &(recipe){0});
    refuse_edited(made, "\"abcd\":10", "\"abcd\":9", broken, "two tokens have id 9");
    refuse_edited(made, "\"abcd\":10", "\"abcd\":20", broken, "vocab_size 20");
    refuse_edited(made, "\"abcd\":10", "\"abcd\":-1", broken, "vocab_size");
    refuse_edited(made, "\"abcd\":10", "\"abcd\":10,\"abcd\":13", broken, "same token");
    refuse_edited(made, "\"abcd\":10", "\"\":10", broken, "without text");
    refuse_edited(made, "\"abcd\":10", "\"ab\\u0000cd\":10", broken, "U+0000");
    refuse_edited(made, "\"abcd\":10", "\"\xff\":10", broken, "not UTF-8");
    refuse_edited(made, "\"id\":14", "\"id\":1e300", broken, "vocab_size");
    refuse_edited(made, "\"id\":14", "\"id\":4", broken, "two tokens have id 4");
    refuse_edited(made, "\"a b\"", "\"ab\"", broken, "merge 1");
    refuse_edited(made, "\"a b\"", "\"a  b\"", broken, "merge 1");
    refuse_edited(made, "\"c d\"", "\"c e\"", broken, "merge 2");
    refuse_edited(made, "\"c d\"", "[\"c\"]", broken, "merge 2");
    refuse_edited(made, "\"c d\"", "7", broken, "merge 2");
    refuse_edited(made, "\"merges\":", "\"mergers\":", broken, "no merges");
    refuse_edited(made, "\"vocab\":", "\"words\":", broken, "no vocabulary");
    refuse_edited(made, "\"SpecialToken\":{\"id\":\"</s>\"", "\"SpecialToken\":{\"id\":\"<?>\"",
                  broken, "post_processor");
    refuse_tokenizer(made, "{", broken, "not valid JSON");
    remove_file(made, "tokenizer.json");
    refuse(made, &plain, broken, "nor tokenizer.json nor vocab.json");
    write_text(made, "vocab.json", TEST_VOCAB);
    refuse(made, &plain, broken, "merges.txt");
    write_text(made, "merges.txt", "#version: 0.2\na b\nnonsense\n");
    refuse(made, &plain, broken, "merge 2");
    write_text(made, "merges.txt", "a b");
    write_text(made, "added_tokens.json", "{\"<x>\":99}");
    refuse(made, &plain, broken, "added_tokens.json");
    remove_file(made, "added_tokens.json");
    write_text(made, "tokenizer_config.json",
               "{\"added_tokens_decoder\":{\"x\":{\"content\":\"y\"}}}");
    refuse(made, &plain, broken, "tokenizer_config.json");
    write_text(made, "tokenizer_config.json", "{\"add_bos_token\":\"yes\"}");
    refuse(made, &plain, broken, "add_bos_token");
    remove_file(made, "tokenizer_config.json");
    pack_well(made, &plain);
}

/* ------------------------------------------------------------------------- config.json */

static void test_config(void **state)
{
    static const struct {
        const char *member;
        int code;
        const char *words;
    } cases[] = {
        {"\"model_type\":\"mamba\",", FLASHINFER_EUNSUPPORTED, "mamba"},
        {"\"model_type\":7,", FLASHINFER_ECHECKPOINT, "model_type"},
        {"\"activation_function\":\"gelu\",", FLASHINFER_EUNSUPPORTED, "gelu"},
        {"\"activation_function\":null,", FLASHINFER_EUNSUPPORTED, "activation_function"},
        {"\"hidden_size\":0,", FLASHINFER_ECHECKPOINT, "hidden_size"},
        {"\"hidden_size\":-24,", FLASHINFER_ECHECKPOINT, "hidden_size"},
        {"\"hidden_size\":24.5,", FLASHINFER_ECHECKPOINT, "hidden_size"},
        {"\"hidden_size\":1e30,", FLASHINFER_ECHECKPOINT, "hidden_size"},
        {"\"hidden_size\":1e999,", FLASHINFER_ECHECKPOINT, "hidden_size"},
        {"\"hidden_size\":\"24\",", FLASHINFER_ECHECKPOINT, "hidden_size"},
        {"\"hidden_size\":4294967320,", FLASHINFER_ECHECKPOINT, "hidden_size"},
        {"\"num_attention_heads\":5,", FLASHINFER_ECHECKPOINT, "does not divide"},
        {"\"num_attention_heads\":0,", FLASHINFER_ECHECKPOINT, "num_attention_heads"},
        {"\"num_hidden_layers\":0,", FLASHINFER_ECHECKPOINT, "num_hidden_layers"},
        {"\"num_hidden_layers\":100000,", FLASHINFER_ECHECKPOINT, "num_hidden_layers"},
        {"\"num_hidden_layers\":3,", FLASHINFER_ECHECKPOINT, "layers.2"},
        {"\"ffn_dim\":0,", FLASHINFER_ECHECKPOINT, "ffn_dim"},
        {"\"ffn_dim\":1e9,", FLASHINFER_ECHECKPOINT, "ffn_dim"},
        {"\"vocab_size\":0,", FLASHINFER_ECHECKPOINT, "vocab_size"},
        {"\"vocab_size\":null,", FLASHINFER_ECHECKPOINT, "vocab_size"},
        {"\"max_position_embeddings\":0,", FLASHINFER_ECHECKPOINT, "max_position_embeddings"},
        {"\"max_position_embeddings\":17,", FLASHINFER_ECHECKPOINT,
         "expected [19, 24], found [18, 24]"},
        {"\"word_embed_proj_dim\":0,", FLASHINFER_ECHECKPOINT, "word_embed_proj_dim"},
        {"\"enable_bias\":1,", FLASHINFER_ECHECKPOINT, "enable_bias"},
        {"\"do_layer_norm_before\":\"no\",", FLASHINFER_ECHECKPOINT, "do_layer_norm_before"},
        {"\"bos_token_id\":20,", FLASHINFER_ECHECKPOINT, "bos_token_id"},
        {"\"eos_token_id\":[-1],", FLASHINFER_ECHECKPOINT, "eos_token_id"},
        {"\"tie_word_embeddings\":false,", FLASHINFER_ECHECKPOINT, "lm_head.weight"},
        {"\"hidden_size\":NaN,", FLASHINFER_ECHECKPOINT, "hidden_size"},
        {"\"hidden_size\":-Infinity,", FLASHINFER_ECHECKPOINT, "hidden_size"},
        {"\"unread\":NaNs,", FLASHINFER_ECHECKPOINT, "not valid JSON"},
        {"\"unread\":1NaN,", FLASHINFER_ECHECKPOINT, "not valid JSON"},
    };
    const workspace *made = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse_recipe(made, &(recipe){.config = cases[i].member}, cases[i].code, cases[i].words);
}

/* Python writes numbers that JSON does not have. Where nobody reads them they stand in no one's way. */
static void test_not_numbers(void **state)
{
    const workspace *made = *state;

    cook(made,
         &(recipe){.config = "\"a\":NaN,\"b\":[Infinity, -Infinity ,NaN],\"c\":\"\\\":NaN\","});
    pack_well(made, &plain);
}

static void test_config_file(void **state)
{
    const workspace *made = *state;
    buffer deep = {NULL, 0, 0};
    char path[512];

    cook(made, &(recipe){0});
    for (int i = 0; i < 100000; i++) put(&deep, "[", 1);
    write_file(made, "config.json", deep.data, deep.bytes);
    free(deep.data);
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "nested too deep");
    write_text(made, "config.json", "[1]");
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "config.json");
    write_text(made, "config.json", "");
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "not valid JSON");
    write_text(made, "config.json", "{\"model_type\":\"opt\"} x");
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "not valid JSON");
    write_file(made, "config.json", "{}\0", 3);
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "not UTF-8");
    write_text(made, "config.json", "{\"model_type\":\"op\nt\"}");
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "config.json");
    write_text(made, "config.json", "{\"model_type\":\"opt\"}");
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "\"max_position_embeddings\"");
    (void)snprintf(path, sizeof path, "%s/config.json", made->checkpoint);
    assert_int_equal(truncate(path, (off_t)1 << 33), 0); /* sparse: costs nothing */
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "bytes long");
    remove_file(made, "config.json");
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "config.json");
    assert_int_equal(mkfifo(path, 0600), 0);
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "regular file");
}

/* ------------------------------------------------------------------------- tensors */

static void test_tensors(void **state)
{
    static const char *const names[] = {
        "model.decoder.embed_positions.weight",
        "model.decoder.final_layer_norm.bias",
        "model.decoder.layers.1.self_attn.q_proj.weight",
        "model.decoder.layers.0.self_attn.k_proj.bias",
        "model.decoder.layers.1.self_attn.v_proj.weight",
        "model.decoder.layers.0.self_attn.out_proj.weight",
        "model.decoder.layers.0.self_attn_layer_norm.weight",
        "model.decoder.layers.1.final_layer_norm.bias",
        "model.decoder.layers.1.fc1.weight",
        "model.decoder.layers.0.fc1.bias",
        "model.decoder.layers.1.fc2.weight",
        "model.decoder.layers.0.fc2.bias",
    };
    const workspace *made = *state;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        refuse_recipe(made, &(recipe){.dropped = names[i]}, FLASHINFER_ECHECKPOINT, names[i]);
        refuse_recipe(made, &(recipe){.widened = names[i]}, FLASHINFER_ECHECKPOINT, names[i]);
        refuse_recipe(made, &(recipe){.retyped = names[i]}, FLASHINFER_EUNSUPPORTED, "dtype I16");
    }
    refuse_recipe(made, &(recipe){.widened = names[10]}, FLASHINFER_ECHECKPOINT,
                  "expected [24, 40], found [24, 41]");
    refuse_recipe(made, &(recipe){.widened = names[9]}, FLASHINFER_ECHECKPOINT,
                  "expected [40], found [41]");
    refuse_recipe(made, &(recipe){.dropped = "model.decoder.embed_tokens.weight"},
                  FLASHINFER_ECHECKPOINT, "embed_tokens");
    refuse_recipe(made,
                  &(recipe){.embedding_width = 8, .dropped = "model.decoder.project_in.weight"},
                  FLASHINFER_ECHECKPOINT, "project_in");
    refuse_recipe(made, &(recipe){.untied = 1, .dropped = "lm_head.weight"}, FLASHINFER_ECHECKPOINT,
                  "lm_head");
    refuse_recipe(
        made,
        &(recipe){.spare_head = 1, .poisoned = "lm_head.weight", .poison_index = 479, .poison = 2},
        FLASHINFER_ECHECKPOINT, "tie_word_embeddings");
}

static void test_poison(void **state)
{
    static const struct {
        const char *name;
        uint64_t index;
        const char *place;
    } cases[] = {
        {"model.decoder.embed_tokens.weight", 0, "[0, 0]"},
        {"model.decoder.embed_positions.weight", 18 * 24 - 1, "[17, 23]"},
        {"model.decoder.layers.1.self_attn.k_proj.weight", 24 * 5 + 7, "[5, 7]"},
        {"model.decoder.layers.0.self_attn_layer_norm.bias", 23, "[23]"},
        {"model.decoder.layers.0.fc1.bias", 39, "[39]"},
        {"model.decoder.layers.1.fc1.weight", 40 * 24 - 1, "[39, 23]"},
        {"model.decoder.layers.1.fc2.weight", 40 * 11 + 12, "[11, 12]"},
    };
    const workspace *made = *state;
    flashinfer_pack_options wide = plain;
    flashinfer_error error;

    wide.dtype = FLASHINFER_DTYPE_F32;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        recipe bad = {.source = SOURCE_F32,
                      .poisoned = cases[i].name,
                      .poison_index = cases[i].index,
                      .poison = NAN};
        cook(made, &bad);
        refuse(made, &plain, FLASHINFER_ECHECKPOINT, cases[i].name);
        refuse(made, &plain, FLASHINFER_ECHECKPOINT, cases[i].place);
        refuse(made, &wide, FLASHINFER_ECHECKPOINT, "NaN");
        bad.source = SOURCE_F16;
        bad.poison = -INFINITY;
        cook(made, &bad);
        refuse(made, &plain, FLASHINFER_ECHECKPOINT, "infinity");
        bad.source = SOURCE_BF16;
        cook(made, &bad);
        refuse(made, &wide, FLASHINFER_ECHECKPOINT, cases[i].place);
    }
    assert_int_equal(pack(made, &wide, &error), FLASHINFER_ECHECKPOINT);
    assert_int_equal(error.layer, 1);
    assert_true(error.offset > 0);
}

/* ------------------------------------------------------------------------- safetensors files */

static void refuse_header(const workspace *made, const char *header, const char *words)
{
    static const uint8_t data[64];

    write_safetensors(made, "model.safetensors", header, strlen(header), data, sizeof data);
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, words);
}

#define ENTRY(name, type, shape, begin, end)                                                       \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void test_headers(void **state)
{
    const workspace *made = *state;
    buffer deep = {NULL, 0, 0};

    cook(made, &(recipe){0});
    refuse_header(made, "{}", "no tensors");
    refuse_header(made, "[1]", "not a JSON object");
    refuse_header(made, "{\"a\":", "not valid JSON");
    refuse_header(made, "{\"a\":1}", "no dtype");
    refuse_header(made, "{" ENTRY("a", "F16", "[2]", "0", "8") "}", "do not fit");
    refuse_header(made, "{" ENTRY("a", "F16", "[32]", "64", "0") "}", "data_offsets");
    refuse_header(made, "{" ENTRY("a", "F16", "[32]", "-64", "0") "}", "data_offsets");
    refuse_header(made, "{" ENTRY("a", "F16", "[32]", "0.5", "64.5") "}", "data_offsets");
    refuse_header(made, "{" ENTRY("a", "F16", "[40]", "0", "80") "}", "truncated");
    refuse_header(made,
                  "{" ENTRY("a", "F16", "[32]", "18446744073709551552", "18446744073709551616") "}",
                  "data_offsets");
    refuse_header(made, "{" ENTRY("a", "F16", "[-2]", "0", "4") "}", "shape");
    refuse_header(made, "{" ENTRY("a", "F16", "[4294967296,4294967296,4294967296]", "0", "0") "}",
                  "shape");
    refuse_header(made, "{" ENTRY("a", "F16", "\"[]\"", "0", "4") "}", "shape");
    refuse_header(
        made, "{" ENTRY("a", "F16", "[8]", "0", "16") "," ENTRY("b", "F16", "[8]", "15", "31") "}",
        "overlap");
    refuse_header(
        made, "{" ENTRY("a", "F16", "[8]", "0", "16") "," ENTRY("a", "F16", "[8]", "16", "32") "}",
        "twice");
    refuse_header(made, "{" ENTRY("a\\nb", "F16", "[8]", "0", "16") "}", "control characters");
    refuse_header(
        made, "{" ENTRY("model.decoder.embed_tokens.weight", "F16", "[1,1,1,1,1,8]", "0", "16") "}",
        "more than 4 dimensions");
    refuse_header(made, "{" ENTRY("model.decoder.embed_tokens.weight", "F16", "[]", "0", "2") "}",
                  "found []");
    refuse_header(made,
                  "{" ENTRY("model.decoder.embed_tokens.weight", "F16", "[0,24]", "0", "0") "}",
                  "expected [20, 24], found [0, 24]");
    for (int i = 0; i < 20000; i++) put(&deep, "{\"a\":", 5);
    put(&deep, "", 1);
    refuse_header(made, (char *)deep.data, "nested too deep");
    free(deep.data);
}

static void test_truncated(void **state)
{
    const workspace *made = *state;
    char path[512];
    struct stat status;
    uint64_t length = (uint64_t)1 << 60;

    cook(made, &(recipe){.layers = 1});
    (void)snprintf(path, sizeof path, "%s/model.safetensors", made->checkpoint);
    assert_int_equal(stat(path, &status), 0);
    for (off_t part = 15; part >= 0; part--) {
        assert_int_equal(truncate(path, status.st_size * part / 16), 0);
        refuse(made, &plain, FLASHINFER_ECHECKPOINT, "model.safetensors");
    }
    write_file(made, "model.safetensors", &length, sizeof length);
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "no safetensors file");
    length = 1;
    write_file(made, "model.safetensors", &length, sizeof length);
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "no safetensors file");
    remove_file(made, "model.safetensors");
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "neither model.safetensors nor");
}

static void test_shards(void **state)
{
    static const char index[] = "model.safetensors.index.json";
    const workspace *made = *state;

    cook(made, &(recipe){.shards = 2});
    remove_file(made, "model-1.safetensors");
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "model-1.safetensors");
    cook(made, &(recipe){.shards = 2});
    write_text(made, index, "{\"weight_map\":{\"a\":\"../model-0.safetensors\"}}");
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "no file of the checkpoint directory");
    write_text(made, index, "{\"weight_map\":{\"a\":7}}");
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "no file of the checkpoint directory");
    write_text(made, index, "{\"weight_map\":{\"a\":\"model-0.safetensors\"}}");
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "no tensor a,");
    write_text(made, index, "{\"weight_map\":{}}");
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "weight_map");
    write_text(made, index, "{}");
    refuse(made, &plain, FLASHINFER_ECHECKPOINT, "weight_map");
    write_text(made, index,
               "{\"weight_map\":{\"model.decoder.embed_tokens.weight\":\"model-0.safetensors\"}}");
    refuse(made, &plain, FLASHINFER_ECHECKPOINT,
           "embed_positions"); /* what the map leaves out is not there */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORKSPACE(test_foreign_tokenizers),
        IN_WORKSPACE(test_broken_tokenizers),
        IN_WORKSPACE(test_config),
        IN_WORKSPACE(test_config_file),
        IN_WORKSPACE(test_not_numbers),
        IN_WORKSPACE(test_tensors),
        IN_WORKSPACE(test_poison),
        IN_WORKSPACE(test_headers),
        IN_WORKSPACE(test_truncated),
        IN_WORKSPACE(test_shards),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
