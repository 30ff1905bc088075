/*
 * pack_fixture.h - checkpoints for the tests of lib/pack: small OPT and Llama models written by the
 * test itself, whole or with one chosen fault.
 *
 * Owns: a temporary folder, writing config.json, safetensors and tokenizer files from a recipe,
 * packing them. Refuses: looking into what was packed.
 */
#ifndef PACK_FIXTURE_H
#define PACK_FIXTURE_H

#include <dirent.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/ref/shared.h"
#include "pack/pack.h"
#include "util/half.h"

typedef struct buffer {
    uint8_t *data;
    size_t bytes, capacity;
} buffer;

static inline void put(buffer *to, const void *data, size_t bytes)
{
    if (to->bytes + bytes > to->capacity) {
        to->capacity = 2 * (to->bytes + bytes) + 256;
        to->data = realloc(to->data, to->capacity);
        assert_non_null(to->data);
    }
    if (bytes != 0) memcpy(to->data + to->bytes, data, bytes);
    to->bytes += bytes;
}

static inline void put_text(buffer *to, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline void put_text(buffer *to, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    int bytes;

    va_start(arguments, format);
    bytes = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    assert_true(bytes >= 0 && (size_t)bytes < sizeof text);
    put(to, text, (size_t)bytes);
}

/* ------------------------------------------------------------------------- folders */

typedef struct workspace {
    char root[160];
    char checkpoint[176]; /* root/model */
    char output[176];     /* root/out: nothing else is written there */
    char path[192];       /* root/out/model.gguf */
} workspace;

static inline int remove_entry(const char *path, const struct stat *status, int type,
                               struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

static inline void remove_tree(const char *directory)
{
    (void)nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static inline int make_workspace(void **state)
{
    const char *temporary = getenv("TMPDIR");
    workspace *made = calloc(1, sizeof *made);

    if (made == NULL) return -1;
    (void)snprintf(made->root, sizeof made->root, "%.120s/flin-pack-XXXXXX",
                   temporary != NULL ? temporary : "/tmp");
    if (mkdtemp(made->root) == NULL) return -1;
    (void)snprintf(made->checkpoint, sizeof made->checkpoint, "%s/model", made->root);
    (void)snprintf(made->output, sizeof made->output, "%s/out", made->root);
    (void)snprintf(made->path, sizeof made->path, "%s/model.gguf", made->output);
    *state = made;
    return mkdir(made->checkpoint, 0755) != 0 || mkdir(made->output, 0755) != 0;
}

static inline int remove_workspace(void **state)
{
    workspace *made = *state;

    remove_tree(made->root);
    free(made);
    return 0;
}

static inline void write_file(const workspace *made, const char *name, const void *data,
                              size_t bytes)
{
    char path[512];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s", made->checkpoint, name);
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static inline void write_text(const workspace *made, const char *name, const char *text)
{
    write_file(made, name, text, strlen(text));
}

static inline void remove_file(const workspace *made, const char *name)
{
    char path[512];

    (void)snprintf(path, sizeof path, "%s/%s", made->checkpoint, name);
    assert_int_equal(unlink(path), 0);
}

static inline uint32_t count_outputs(const workspace *made)
{
    DIR *stream = opendir(made->output);
    uint32_t count = 0;
    struct dirent *entry;

    assert_non_null(stream);
    while ((entry = readdir(stream)) != NULL)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    (void)closedir(stream);
    return count;
}

/* ------------------------------------------------------------------------- recipes */

enum { SOURCE_F16, SOURCE_BF16, SOURCE_F32 };

/* Zero everywhere is a pre-norm model in one float16 file with tokenizer.json. Names of tensors are
 * complete. */
typedef struct recipe {
    uint32_t width, embedding_width, neurons, layers, heads, vocab, positions; /* 0: see below */
    uint32_t source;                                                           /* SOURCE_... */
    uint32_t shards;                                                           /* 0: one file */
    int plain_tokenizer; /* vocab.json and merges.txt */
    int paired_merges;   /* [["a", "b"]] instead of ["a b"] */
    int post_norm, removed_norm, no_bias, plain_norms, untied, spare_head, short_prefix;
    int counting;         /* element i of every tensor is i + 1 */
    const char *config;   /* members put before all others of config.json, each ending in a comma */
    const char *dropped;  /* tensor left out */
    const char *widened;  /* tensor with one column too many */
    const char *retyped;  /* tensor that claims to be I16 */
    const char *poisoned; /* tensor whose element poison_index is poison */
    uint64_t poison_index;
    float poison;
    int llama;                     /* a Llama model; the next four are only its */
    uint32_t kv_heads, head_width; /* 0: heads, width / heads */
    const char *activation;        /* NULL: relu */
    int nested_rotary;             /* rope_parameters, as transformers 5 writes them */
    enum flin_type
        rounded; /* rows of fc1.weight are what this type keeps of them; 0: as they are */
} recipe;

static inline uint32_t or_else(uint32_t value, uint32_t otherwise)
{
    return value != 0 ? value : otherwise;
}

static inline recipe complete(const recipe *given)
{
    recipe made = *given;

    made.width = or_else(made.width, 24);
    made.embedding_width = or_else(made.embedding_width, made.width);
    made.neurons = or_else(made.neurons, 40);
    made.layers = or_else(made.layers, 2);
    made.heads = or_else(made.heads, 3);
    made.kv_heads = or_else(made.kv_heads, made.heads);
    made.head_width = or_else(made.head_width, made.width / made.heads);
    made.vocab = or_else(made.vocab, 20);
    made.positions = or_else(made.positions, 16);
    return made;
}

static inline uint64_t mix(uint64_t value)
{
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
}

static inline float value_of(const recipe *made, const char *name, uint64_t index);

static inline float rounded_value(const recipe *made, const char *name, uint64_t index)
{
    recipe plain = *made;
    uint8_t block[FLIN_BLOCK * sizeof(float)];
    float values[FLIN_BLOCK];

    plain.rounded = FLIN_F32;
    for (uint32_t i = 0; i < FLIN_BLOCK; i++)
        values[i] = value_of(&plain, name, index / FLIN_BLOCK * FLIN_BLOCK + i);
    flin_kernels_ref.from_float[made->rounded](values, FLIN_BLOCK, block);
    flin_kernels_ref.to_float[made->rounded](block, FLIN_BLOCK, values);
    return values[index % FLIN_BLOCK];
}

/* In (-1, 1), of all magnitudes down to float16's subnormals, with more digits than float16 keeps.
 */
static inline float value_of(const recipe *made, const char *name, uint64_t index)
{
    uint64_t seed = 0;
    double value;

    if (made->poisoned != NULL && strcmp(made->poisoned, name) == 0 && made->poison_index == index)
        return made->poison;
    if (made->rounded != FLIN_F32 && strstr(name, ".fc1.weight") != NULL)
        return rounded_value(made, name, index);
    if (made->counting) return (float)(index + 1);
    if (strcmp(name, "lm_head.weight") == 0 && made->spare_head)
        name = made->llama          ? "model.embed_tokens.weight"
               : made->short_prefix ? "decoder.embed_tokens.weight"
                                    : "model.decoder.embed_tokens.weight";
    for (const char *at = name; *at != '\0'; at++) seed = mix(seed + (unsigned char)*at);
    seed = mix(seed ^ index);
    value = (double)(int64_t)(seed >> 11) / (double)(1ll << 52) - 1.0;
    return (float)(index % 7 == 3 ? value / (double)(1ull << (seed & 31)) : value);
}

typedef struct shard {
    buffer header, data;
} shard;

typedef struct model_writer {
    const recipe *made;
    shard *shards;
    buffer map; /* weight_map */
    uint32_t shard_count, tensor_count;
} model_writer;

/* rows 0: a vector */
static inline void add_tensor(model_writer *writer, const char *name, uint64_t rows,
                              uint64_t columns)
{
    static const char *const types[] = {"F16", "BF16", "F32"};
    const recipe *made = writer->made;
    uint32_t index = writer->tensor_count % writer->shard_count;
    shard *to = &writer->shards[index];
    const char *type = types[made->source];
    size_t begin = to->data.bytes;
    uint64_t count;

    if (made->dropped != NULL && strcmp(made->dropped, name) == 0) return;
    if (made->widened != NULL && strcmp(made->widened, name) == 0) columns++;
    if (made->retyped != NULL && strcmp(made->retyped, name) == 0) type = "I16";
    count = (rows == 0 ? 1 : rows) * columns;
    for (uint64_t i = 0; i < count; i++) {
        float value = value_of(made, name, i);
        uint16_t half = made->source == SOURCE_F16 ? flin_half_from_float(value)
                                                   : flin_bfloat_from_float(value);
        if (made->source == SOURCE_F32)
            put(&to->data, &value, sizeof value);
        else
            put(&to->data, &half, sizeof half);
    }
    put_text(&to->header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[",
             to->header.bytes == 0 ? "{" : ",", name, type);
    if (rows != 0) put_text(&to->header, "%llu,", (unsigned long long)rows);
    put_text(&to->header, "%llu],\"data_offsets\":[%zu,%zu]}", (unsigned long long)columns, begin,
             to->data.bytes);
    put_text(&writer->map, "%s\"%s\":\"model-%u.safetensors\"",
             writer->tensor_count == 0 ? "" : ",", name, index);
    writer->tensor_count++;
}

static inline void add_named(model_writer *writer, int32_t layer, const char *name, uint64_t rows,
                             uint64_t columns)
{
    const recipe *made = writer->made;
    const char *prefix = made->llama          ? made->short_prefix ? "" : "model."
                         : made->short_prefix ? "decoder."
                                              : "model.decoder.";
    char full[128];

    if (layer < 0)
        (void)snprintf(full, sizeof full, "%s%s", prefix, name);
    else
        (void)snprintf(full, sizeof full, "%slayers.%d.%s", prefix, layer, name);
    add_tensor(writer, full, rows, columns);
}

static inline void add_norm(model_writer *writer, int32_t layer, const char *name)
{
    char full[64];

    if (writer->made->plain_norms) return;
    (void)snprintf(full, sizeof full, "%s.weight", name);
    add_named(writer, layer, full, 0, writer->made->width);
    (void)snprintf(full, sizeof full, "%s.bias", name);
    add_named(writer, layer, full, 0, writer->made->width);
}

static inline void add_linear(model_writer *writer, int32_t layer, const char *name, uint64_t rows,
                              uint64_t columns)
{
    char full[64];

    (void)snprintf(full, sizeof full, "%s.weight", name);
    add_named(writer, layer, full, rows, columns);
    (void)snprintf(full, sizeof full, "%s.bias", name);
    if (!writer->made->no_bias) add_named(writer, layer, full, 0, rows);
}

static inline void add_llama_layer(model_writer *writer, int32_t layer)
{
    const recipe *made = writer->made;
    uint64_t queries = made->heads * made->head_width, keys = made->kv_heads * made->head_width;

    add_named(writer, layer, "mlp.down_proj.weight", made->width, made->neurons);
    add_named(writer, layer, "mlp.gate_proj.weight", made->neurons, made->width);
    add_named(writer, layer, "mlp.up_proj.weight", made->neurons, made->width);
    add_named(writer, layer, "self_attn.q_proj.weight", queries, made->width);
    add_named(writer, layer, "self_attn.k_proj.weight", keys, made->width);
    add_named(writer, layer, "self_attn.v_proj.weight", keys, made->width);
    add_named(writer, layer, "self_attn.o_proj.weight", made->width, queries);
    add_named(writer, layer, "input_layernorm.weight", 0, made->width);
    add_named(writer, layer, "post_attention_layernorm.weight", 0, made->width);
}

static inline void add_llama_tensors(model_writer *writer)
{
    const recipe *made = writer->made;

    add_named(writer, -1, "embed_tokens.weight", made->vocab, made->width);
    for (int32_t layer = 0; layer < (int32_t)made->layers; layer++) add_llama_layer(writer, layer);
    add_named(writer, -1, "norm.weight", 0, made->width);
    if (made->untied || made->spare_head)
        add_tensor(writer, "lm_head.weight", made->vocab, made->width);
}

static inline void add_tensors(model_writer *writer)
{
    static const char *const projections[] = {"self_attn.v_proj", "self_attn.out_proj",
                                              "self_attn.q_proj", "self_attn.k_proj"};
    const recipe *made = writer->made;

    add_named(writer, -1, "embed_tokens.weight", made->vocab, made->embedding_width);
    add_named(writer, -1, "embed_positions.weight", made->positions + 2, made->width);
    if (made->embedding_width != made->width) {
        add_named(writer, -1, "project_in.weight", made->width, made->embedding_width);
        add_named(writer, -1, "project_out.weight", made->embedding_width, made->width);
    }
    for (int32_t layer = 0; layer < (int32_t)made->layers; layer++) {
        add_linear(writer, layer, "fc1", made->neurons, made->width);
        for (int i = 0; i < 4; i++)
            add_linear(writer, layer, projections[i], made->width, made->width);
        add_norm(writer, layer, "self_attn_layer_norm");
        add_norm(writer, layer, "final_layer_norm");
        add_linear(writer, layer, "fc2", made->width, made->neurons);
    }
    if (!made->post_norm && !made->removed_norm) add_norm(writer, -1, "final_layer_norm");
    if (made->untied || made->spare_head)
        add_tensor(writer, "lm_head.weight", made->vocab, made->embedding_width);
}

static inline void write_safetensors(const workspace *made, const char *name, const char *header,
                                     size_t header_bytes, const void *data, size_t data_bytes)
{
    buffer file = {NULL, 0, 0};
    uint64_t length = header_bytes;

    put(&file, &length, sizeof length);
    put(&file, header, header_bytes);
    put(&file, data, data_bytes);
    write_file(made, name, file.data, file.bytes);
    free(file.data);
}

static inline void write_weights(const workspace *made, const recipe *whole)
{
    model_writer writer = {.made = whole, .shard_count = or_else(whole->shards, 1)};

    writer.shards = calloc(writer.shard_count, sizeof *writer.shards);
    assert_non_null(writer.shards);
    put_text(&writer.map, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
    if (whole->llama)
        add_llama_tensors(&writer);
    else
        add_tensors(&writer);
    put_text(&writer.map, "}}");
    for (uint32_t i = 0; i < writer.shard_count; i++) {
        char name[64] = "model.safetensors";
        shard *one = &writer.shards[i];
        put_text(&one->header, ",\"__metadata__\":{\"format\":\"pt\"}}   ");
        if (whole->shards != 0) (void)snprintf(name, sizeof name, "model-%u.safetensors", i);
        write_safetensors(made, name, (char *)one->header.data, one->header.bytes, one->data.data,
                          one->data.bytes);
        free(one->header.data);
        free(one->data.data);
    }
    if (whole->shards != 0)
        write_file(made, "model.safetensors.index.json", writer.map.data, writer.map.bytes);
    free(writer.map.data);
    free(writer.shards);
}

static inline void write_llama_config(const workspace *made, const recipe *whole)
{
    buffer text = {NULL, 0, 0};

    put_text(&text, "{%s\"model_type\":\"llama\",\"vocab_size\":%u,\"hidden_size\":%u,",
             whole->config != NULL ? whole->config : "", whole->vocab, whole->width);
    put_text(&text, "\"intermediate_size\":%u,\"num_hidden_layers\":%u,", whole->neurons,
             whole->layers);
    put_text(&text, "\"num_attention_heads\":%u,\"hidden_act\":\"%s\",", whole->heads,
             whole->activation != NULL ? whole->activation : "relu");
    if (whole->kv_heads != whole->heads)
        put_text(&text, "\"num_key_value_heads\":%u,", whole->kv_heads);
    if (whole->head_width != whole->width / whole->heads)
        put_text(&text, "\"head_dim\":%u,", whole->head_width);
    if (whole->nested_rotary)
        put_text(&text, "\"rope_parameters\":{\"rope_theta\":500000.0,\"rope_type\":\"default\"},");
    if (!whole->untied) put_text(&text, "\"tie_word_embeddings\":true,");
    put_text(&text, "\"max_position_embeddings\":%u,\"rms_norm_eps\":1e-06,\"rope_scaling\":null,",
             whole->positions);
    put_text(&text, "\"bos_token_id\":2,\"eos_token_id\":2,\"attention_bias\":false}");
    write_file(made, "config.json", text.data, text.bytes);
    free(text.data);
}

static inline void write_config(const workspace *made, const recipe *whole)
{
    buffer text = {NULL, 0, 0};

    put_text(&text, "{%s\"model_type\":\"opt\",\"vocab_size\":%u,\"hidden_size\":%u,",
             whole->config != NULL ? whole->config : "", whole->vocab, whole->width);
    if (whole->embedding_width != whole->width)
        put_text(&text, "\"word_embed_proj_dim\":%u,", whole->embedding_width);
    put_text(&text, "\"ffn_dim\":%u,\"num_hidden_layers\":%u,\"num_attention_heads\":%u,",
             whole->neurons, whole->layers, whole->heads);
    put_text(&text, "\"max_position_embeddings\":%u,\"activation_function\":\"relu\",",
             whole->positions);
    if (whole->post_norm) put_text(&text, "\"do_layer_norm_before\":false,");
    if (whole->removed_norm) put_text(&text, "\"_remove_final_layer_norm\":true,");
    if (whole->no_bias) put_text(&text, "\"enable_bias\":false,");
    if (whole->plain_norms) put_text(&text, "\"layer_norm_elementwise_affine\":false,");
    if (whole->untied) put_text(&text, "\"tie_word_embeddings\":false,");
    put_text(&text, "\"bos_token_id\":2,\"eos_token_id\":2,\"pad_token_id\":1}");
    write_file(made, "config.json", text.data, text.bytes);
    free(text.data);
}

#define TEST_VOCAB                                                                                 \
    "{\"<s>\":0,\"<pad>\":1,\"</"                                                                  \
    "s>\":2,\"<unk>\":3,\"a\":4,\"b\":5,\"c\":6,\"d\":7,\"ab\":8,\"cd\":9,"                        \
    "\"abcd\":10,\"\\u0120\":11,\"\xc4\xa0"                                                        \
    "a\":12}"

#define TEST_TOKENIZER(merges, processor)                                                          \
    "{\"version\":\"1.0\",\"added_tokens\":["                                                      \
    "{\"id\":0,\"content\":\"<s>\",\"special\":true},{\"id\":1,\"content\":\"<pad>\",\"special\":" \
    "true},"                                                                                       \
    "{\"id\":2,\"content\":\"</"                                                                   \
    "s>\",\"special\":true},{\"id\":3,\"content\":\"<unk>\",\"special\":true},"                    \
    "{\"id\":14,\"content\":\"<tool>\",\"special\":false}],"                                       \
    "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"    \
    "\"use_regex\":true},\"post_processor\":" processor ","                                        \
    "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"vocab\":" TEST_VOCAB ",\"merges\":" merges     \
    "}}"

#define TEST_TEMPLATE                                                                              \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"</"                  \
    "s>\",\"type_id\":0}},"                                                                        \
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]}"

static const char merges_joined[] =
    TEST_TOKENIZER("[\"a b\",\"c d\",\"ab cd\",\"\\u0120 a\"]", TEST_TEMPLATE);
static const char merges_paired[] = TEST_TOKENIZER(
    "[[\"a\",\"b\"],[\"c\",\"d\"],[\"ab\",\"cd\"],[\"\\u0120\",\"a\"]]", TEST_TEMPLATE);

static inline void write_tokenizer(const workspace *made, const recipe *whole)
{
    if (!whole->plain_tokenizer) {
        write_text(made, "tokenizer.json", whole->paired_merges ? merges_paired : merges_joined);
        return;
    }
    write_text(made, "vocab.json", TEST_VOCAB);
    write_text(made, "merges.txt", "#version: 0.2\na b\nc d\r\nab cd\n\n\xc4\xa0 a\n");
    write_text(made, "added_tokens.json", "{\"<tool>\":14}");
    write_text(made, "special_tokens_map.json",
               "{\"bos_token\":\"</s>\",\"eos_token\":{\"content\":\"</s>\",\"lstrip\":false},"
               "\"unk_token\":\"<unk>\",\"pad_token\":\"<pad>\"}");
}

/* A complete checkpoint. What an earlier recipe left in the folder is removed. */
static inline void cook(const workspace *made, const recipe *given)
{
    recipe whole = complete(given);

    remove_tree(made->checkpoint);
    assert_int_equal(mkdir(made->checkpoint, 0755), 0);
    if (whole.llama)
        write_llama_config(made, &whole);
    else
        write_config(made, &whole);
    write_weights(made, &whole);
    write_tokenizer(made, &whole);
}

/* ------------------------------------------------------------------------- packing */

static const flashinfer_pack_options plain = {.size = sizeof plain};

static inline int pack(const workspace *made, const flashinfer_pack_options *options,
                       flashinfer_error *error)
{
    memset(error, 0, sizeof *error);
    error->size = sizeof *error;
    return flin_pack(made->checkpoint, made->path, options, error);
}

static inline void pack_well(const workspace *made, const flashinfer_pack_options *options)
{
    flashinfer_error error;
    int code = pack(made, options, &error);

    if (code != 0) print_error("%s\n", error.text);
    assert_int_equal(code, 0);
    assert_int_equal(count_outputs(made), 1);
}

/* The refusal has this code, one line of text with these words, and leaves nothing in the output
 * folder. */
static inline void refuse(const workspace *made, const flashinfer_pack_options *options,
                          int expected, const char *words)
{
    flashinfer_error error;
    int code = pack(made, options, &error);

    if (code != expected || strstr(error.text, words) == NULL)
        print_error("%s (%d) instead of %s\n", error.text, code, words);
    assert_int_equal(code, expected);
    assert_int_equal(error.code, expected);
    assert_non_null(strstr(error.text, words));
    assert_null(strchr(error.text, '\n'));
    assert_int_equal(count_outputs(made), 0);
    assert_int_equal(flin_pack(made->checkpoint, made->path, options, NULL), expected);
}

static inline void refuse_recipe(const workspace *made, const recipe *given, int expected,
                                 const char *words)
{
    cook(made, given);
    refuse(made, &plain, expected, words);
}

static inline void refuse_tokenizer(const workspace *made, const char *text, int code,
                                    const char *words)
{
    write_text(made, "tokenizer.json", text);
    refuse(made, &plain, code, words);
}

/* tokenizer.json with one piece of it replaced. */
static inline void refuse_edited(const workspace *made, const char *old, const char *new, int code,
                                 const char *words)
{
    char text[4096];
    const char *at = strstr(merges_joined, old);

    assert_non_null(at);
    (void)snprintf(text, sizeof text, "%.*s%s%s", (int)(at - merges_joined), merges_joined, new,
                   at + strlen(old));
    refuse_tokenizer(made, text, code, words);
}

#define IN_WORKSPACE(test) cmocka_unit_test_setup_teardown(test, make_workspace, remove_workspace)

#endif
