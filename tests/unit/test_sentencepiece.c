/*
 * test_sentencepiece.c - tokenizer.model and a tokenizer.json of its kind: what is packed of them,
 * and each fault alone with its code and words. Against SentencePiece itself:
 * tests/programs/test_spm.py.
 */
#define _GNU_SOURCE
#include "text_fixture.h"

#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "failing_heap.h"
#include "pack/tokenizer_export.h"
#include "pack/tokenizer_model.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define US "\xe2\x96\x81" /* U+2581 */
#define VOCAB 300u

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER = 4, UNUSED = 5, BYTE = 6 };

/* ---- writing protobuf ---- */

static void put_varint(buffer *to, uint64_t value)
{
    uint8_t byte;

    for (; value >= 128; value >>= 7) {
        byte = (uint8_t)(value | 128);
        put(to, &byte, 1);
    }
    byte = (uint8_t)value;
    put(to, &byte, 1);
}

static void put_number(buffer *to, uint32_t field, uint64_t value)
{
    put_varint(to, field << 3);
    put_varint(to, value);
}

static void put_bytes(buffer *to, uint32_t field, const void *data, size_t bytes)
{
    put_varint(to, field << 3 | 2);
    put_varint(to, bytes);
    put(to, data, bytes);
}

static void put_piece(buffer *to, const char *text, float score, int32_t type)
{
    buffer piece = {0};

    put_bytes(&piece, 1, text, strlen(text));
    put_varint(&piece, 2 << 3 | 5);
    put(&piece, &score, sizeof score);
    if (type != NORMAL) put_number(&piece, 3, (uint64_t)type);
    put_bytes(to, 1, piece.data, piece.bytes);
    free(piece.data);
}

/* Flags of the specifications: 0 and 1, anything else is left out. */
typedef struct model_recipe {
    uint64_t kind; /* 2: BPE; 9: left out */
    int byte_fallback, suffix;
    int adds_space, removes, escapes;
    const char *name, *characters, *denormalizer;
    int64_t bos;
    int no_unknown, two_unknown, wrong_byte, bytes_short;
    const char *piece; /* stands for "ab" */
    float score;
    int32_t type;
} model_recipe;

static const model_recipe usual = {.kind = 2,
                                   .byte_fallback = 1,
                                   .suffix = 9,
                                   .adds_space = 9,
                                   .escapes = 9,
                                   .name = "identity",
                                   .bos = 1,
                                   .piece = "ab",
                                   .score = -2,
                                   .type = NORMAL};

static void put_specifications(buffer *to, const model_recipe *from)
{
    buffer trainer = {0}, normalizer = {0}, other = {0};

    if (from->kind != 9) put_number(&trainer, 3, from->kind);
    put_number(&trainer, 4, 4096); /* some that are skipped, one of them far out */
    put_bytes(&trainer, 1, "text.txt", 8);
    put_number(&trainer, 99999999, UINT64_MAX);
    if (from->suffix != 9) put_number(&trainer, 24, (uint64_t)from->suffix);
    if (from->byte_fallback != 9) put_number(&trainer, 35, (uint64_t)from->byte_fallback);
    put_number(&trainer, 41, (uint64_t)from->bos);
    put_number(&trainer, 43, UINT64_MAX); /* -1 */
    put_bytes(to, 2, trainer.data, trainer.bytes);
    if (from->name != NULL) put_bytes(&normalizer, 1, from->name, strlen(from->name));
    if (from->characters != NULL)
        put_bytes(&normalizer, 2, from->characters, strlen(from->characters));
    if (from->adds_space != 9) put_number(&normalizer, 3, (uint64_t)from->adds_space);
    if (from->removes != 9) put_number(&normalizer, 4, (uint64_t)from->removes);
    if (from->escapes != 9) put_number(&normalizer, 5, (uint64_t)from->escapes);
    put_bytes(to, 3, normalizer.data, normalizer.bytes);
    if (from->denormalizer != NULL) {
        put_bytes(&other, 2, from->denormalizer, strlen(from->denormalizer));
        put_bytes(to, 5, other.data, other.bytes);
    }
    free(trainer.data);
    free(normalizer.data);
    free(other.data);
}

/* 0 to 2 special, 3 to 8 pieces, 9 a user-defined one, then the bytes */
enum { SPACE = 3, A, B, AB, SPACE_A, SPACE_AB, TOOL, FIRST_BYTE };

static buffer cook_model(const model_recipe *from)
{
    buffer made = {0};
    char name[8];

    put_piece(&made, "<unk>", 0, from->no_unknown ? CONTROL : UNKNOWN);
    put_piece(&made, "<s>", 0, from->two_unknown ? UNKNOWN : CONTROL);
    put_piece(&made, "</s>", 0, CONTROL);
    put_piece(&made, US, -10, NORMAL);
    put_piece(&made, "a", -11, NORMAL);
    put_piece(&made, "b", -12, NORMAL);
    put_piece(&made, from->piece, from->score, from->type);
    put_piece(&made, US "a", -3, NORMAL);
    put_piece(&made, US "ab", -4, NORMAL);
    put_piece(&made, "<tool>", 0, USER);
    for (int byte = from->bytes_short; from->byte_fallback != 0 && byte < 256; byte++) {
        (void)snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        put_piece(&made, from->wrong_byte && byte == 20 ? "<0x0a>" : name, 0, BYTE);
    }
    put_specifications(&made, from);
    return made;
}

/* ---- a checkpoint ---- */

typedef struct checkpoint {
    char folder[64];
    char out[96];
    int directory;
} checkpoint;

static const char *const file_names[] = {"tokenizer.model", "tokenizer.json",
                                         "tokenizer_config.json", "added_tokens.json"};

static int make_checkpoint(void **state)
{
    static checkpoint made;

    (void)snprintf(made.folder, sizeof made.folder, "/tmp/flin-spm-XXXXXX");
    assert_non_null(mkdtemp(made.folder));
    (void)snprintf(made.out, sizeof made.out, "%s/out.gguf", made.folder);
    made.directory = open(made.folder, O_RDONLY | O_DIRECTORY);
    assert_true(made.directory >= 0);
    *state = &made;
    return 0;
}

static int remove_checkpoint(void **state)
{
    checkpoint *made = *state;

    for (size_t i = 0; i < COUNT(file_names); i++)
        (void)unlinkat(made->directory, file_names[i], 0);
    (void)unlink(made->out);
    (void)close(made->directory);
    (void)rmdir(made->folder);
    return 0;
}

static void write_in(const checkpoint *made, const char *name, const void *data, size_t bytes)
{
    int fd = openat(made->directory, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    assert_true(fd >= 0);
    if (bytes != 0) assert_int_equal(write(fd, data, bytes), bytes);
    (void)close(fd);
}

static void write_model(const checkpoint *made, const model_recipe *from)
{
    buffer cooked = cook_model(from);

    write_in(made, "tokenizer.model", cooked.data, cooked.bytes);
    free(cooked.data);
}

static void write_json(const checkpoint *made, const char *name, const char *text)
{
    write_in(made, name, text, strlen(text));
}

static int pack(const checkpoint *made, uint32_t vocab_count, flashinfer_error *error)
{
    flin_checkpoint facts = {
        .shape = {.vocab = vocab_count}, .bos_id = -1, .eos_id = -1, .pad_id = -1};
    const float nothing = 0;
    flin_gguf_writer writer;
    uint32_t tensor;
    int code;

    flin_gguf_writer_begin(&writer);
    flin_gguf_put_u32(&writer, "general.alignment", FLIN_GGUF_ALIGNMENT);
    code = flin_tokenizer_export(&writer, made->directory, &facts, error);
    if (code == 0) {
        tensor = flin_gguf_add_tensor(&writer, "nothing", FLIN_GGUF_F32, 1, 0);
        assert_int_equal(flin_gguf_writer_create(&writer, made->out, error), 0);
        flin_gguf_write_begin(&writer, tensor, 1);
        assert_int_equal(flin_gguf_write(&writer, &nothing, sizeof nothing, error), 0);
        flin_gguf_write_end(&writer);
        assert_int_equal(flin_gguf_writer_finish(&writer, error), 0);
    }
    flin_gguf_writer_close(&writer);
    return code;
}

static void refuse(const checkpoint *made, uint32_t vocab_count, int code, const char *words)
{
    flashinfer_error error = {.size = sizeof error};

    assert_int_equal(pack(made, vocab_count, &error), code);
    if (strstr(error.text, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error.text, words);
    assert_null(strchr(error.text, '\n'));
}

static void refuse_model(const checkpoint *made, const model_recipe *from, int code,
                         const char *words)
{
    write_model(made, from);
    refuse(made, VOCAB, code, words);
}

/* A packed tokenizer, opened. */
typedef struct opened {
    flin_storage storage;
    flin_gguf gguf;
    flin_arena arena;
    flin_tokenizer *tokenizer;
} opened;

static void open_packed(const checkpoint *made, opened *to, uint32_t vocab_count)
{
    flashinfer_error error = {.size = sizeof error};
    flin_storage_config config = {0};

    if (pack(made, vocab_count, &error) != 0) fail_msg("%s", error.text);
    assert_int_equal(flin_storage_open_path(&to->storage, made->out, &config, &error), 0);
    assert_int_equal(flin_gguf_open(&to->gguf, &to->storage, 1, &error), 0);
    flin_arena_measure(&to->arena);
    if (flin_tokenizer_layout(&to->arena, &to->gguf, vocab_count, &to->tokenizer, &error) != 0)
        fail_msg("%s", error.text);
    assert_int_equal(flin_arena_open(&to->arena, to->arena.used, "it", &error), 0);
    if (flin_tokenizer_layout(&to->arena, &to->gguf, vocab_count, &to->tokenizer, &error) != 0)
        fail_msg("%s", error.text);
}

static void close_packed(opened *from)
{
    flin_arena_close(&from->arena);
    flin_gguf_close(&from->gguf);
    flin_storage_close(&from->storage);
}

static void encodes_as(const opened *with, const char *text, uint32_t flags, const char *wanted)
{
    flashinfer_error error = {.size = sizeof error};
    int32_t ids[64];
    char shown[256] = "";
    size_t count, used = 0;

    if (flin_tokenizer_encode(with->tokenizer, text, strlen(text), flags, ids, 64, &count,
                              &error) != 0)
        fail_msg("%s: %s", text, error.text);
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(shown + used, sizeof shown - used, "%d ", ids[i]);
    assert_string_equal(shown, wanted);
}

static int32_t type_of(const opened *with, uint32_t id)
{
    const flin_gguf_value *types = flin_gguf_find(&with->gguf, "tokenizer.ggml.token_type");
    return (int32_t)flin_gguf_element_u64(types, id);
}

/* ---- tokenizer.model ---- */

static void a_model_is_packed(void **state)
{
    const checkpoint *made = *state;
    opened file;
    uint64_t number;

    write_model(made, &usual);
    open_packed(made, &file, VOCAB);
    encodes_as(&file, "ab", 0, "8 ");
    encodes_as(&file, "aab", 0, "7 6 ");
    encodes_as(&file, " a<tool>b", 0, "3 7 9 5 ");
    encodes_as(&file, "z</s>", FLASHINFER_TOKENIZE_BOS | FLASHINFER_TOKENIZE_SPECIAL, "1 3 132 2 ");
    assert_int_equal(flin_tokenizer_bos(file.tokenizer), 1);
    assert_int_equal(flin_tokenizer_eos(file.tokenizer), 2);
    assert_int_equal(flin_gguf_u64(&file.gguf, "tokenizer.ggml.unknown_token_id", &number, NULL),
                     0);
    assert_int_equal(number, 0);
    assert_null(flin_gguf_find(&file.gguf, "tokenizer.ggml.padding_token_id"));
    assert_int_equal(type_of(&file, VOCAB - 1), UNUSED); /* [PAD299] */
    close_packed(&file);
}

static void small_files_say_more(void **state)
{
    const checkpoint *made = *state;
    model_recipe from = usual;
    opened file;

    from.adds_space = 0;
    from.byte_fallback = 0;
    write_model(made, &from);
    write_json(made, "added_tokens.json", "{\"<x>\":12,\"b\":5}");
    write_json(made, "tokenizer_config.json",
               "{\"add_bos_token\":false,\"eos_token\":\"<x>\",\"pad_token\":\"<unk>\"}");
    open_packed(made, &file, 20);
    encodes_as(&file, "aab", FLASHINFER_TOKENIZE_BOS, "4 4 5 "); /* b is found first now */
    encodes_as(&file, "zz<x>", FLASHINFER_TOKENIZE_SPECIAL, "0 12 ");
    assert_int_equal(flin_tokenizer_eos(file.tokenizer), 12);
    assert_int_equal(type_of(&file, 12), CONTROL);
    assert_int_equal(type_of(&file, 0), UNKNOWN);
    assert_int_equal(type_of(&file, 11), UNUSED);
    close_packed(&file);

    write_json(made, "tokenizer_config.json",
               "{\"add_prefix_space\":true,\"added_tokens_decoder\":{\"11\":{\"content\":\"<y>\","
               "\"special\":true},\"9\":{\"content\":\"<tool>\",\"special\":true}}}");
    open_packed(made, &file, 20);
    encodes_as(&file, "a<y><tool>", FLASHINFER_TOKENIZE_BOS | FLASHINFER_TOKENIZE_SPECIAL,
               "1 7 11 9 ");
    close_packed(&file);

    /* tokenizer.json beside it only says what is added and special */
    write_json(made, "tokenizer.json",
               "{\"added_tokens\":[{\"id\":13,\"content\":\"<z>\",\"special\":true}],"
               "\"model\":{\"type\":\"Unigram\"},\"post_processor\":null}");
    open_packed(made, &file, 20);
    encodes_as(&file, "<z>a", FLASHINFER_TOKENIZE_BOS | FLASHINFER_TOKENIZE_SPECIAL, "13 7 ");
    close_packed(&file);
    write_json(made, "tokenizer.json",
               "{\"added_tokens\":[{\"id\":5,\"content\":\"<z>\",\"special\":true}]}");
    refuse(made, 20, FLASHINFER_ECHECKPOINT, "two tokens have id 5");
}

static void foreign_models_are_refused(void **state)
{
    const checkpoint *made = *state;
    const int unsupported = FLASHINFER_EUNSUPPORTED;
    model_recipe from;

#define CHANGED(field, value, code, words)                                                         \
    from = usual;                                                                                  \
    from.field = value;                                                                            \
    refuse_model(made, &from, code, words)
    CHANGED(kind, 1, unsupported, "unigram");
    CHANGED(kind, 9, unsupported, "unigram");
    CHANGED(kind, 3, unsupported, "word");
    CHANGED(kind, 77, unsupported, "another version");
    CHANGED(suffix, 1, unsupported, "treat_whitespace_as_suffix");
    CHANGED(removes, 1, unsupported, "remove_extra_whitespaces");
    CHANGED(removes, 9, unsupported, "remove_extra_whitespaces");
    CHANGED(escapes, 0, unsupported, "escape_whitespaces");
    CHANGED(characters, "xyz", unsupported, "the normalizer identity");
    CHANGED(denormalizer, "xyz", unsupported, "denormalizer_spec");
    from = usual;
    from.characters = "xyz";
    from.name = "nmt_nf\nkc";
    refuse_model(made, &from, unsupported, "the normalizer nmt_nf?kc");
}

static void broken_models_are_refused(void **state)
{
    const checkpoint *made = *state;
    const int broken = FLASHINFER_ECHECKPOINT;
    model_recipe from;

    CHANGED(no_unknown, 1, broken, "0 unknown pieces");
    CHANGED(two_unknown, 1, broken, "2 unknown pieces");
    CHANGED(wrong_byte, 1, broken, "piece 30 is a byte");
    CHANGED(bytes_short, 1, broken, "255 pieces for bytes");
    CHANGED(byte_fallback, 9, broken, "256 pieces for bytes; with byte_fallback false");
    CHANGED(bos, 5000, broken, "bos_id");
    CHANGED(piece, "", broken, "piece 6 has no text");
    CHANGED(piece, "\xff", broken, "not UTF-8");
    CHANGED(piece, "a", broken, "ids 4 and 6 are the same token");
    CHANGED(score, NAN, broken, "score of piece 6");
    CHANGED(type, 7, broken, "piece 6 has the unknown type 7");
    CHANGED(type, -1, broken, "piece 6 has the unknown type");
#undef CHANGED
    write_model(made, &usual);
    refuse(made, FIRST_BYTE + 255, broken, "266 pieces, more than the model's vocab_size 265");
    write_json(made, "tokenizer.model", "");
    refuse(made, VOCAB, broken, "has no pieces");
    write_json(made, "tokenizer.model", "{\"this\": \"is another file\"}");
    refuse(made, VOCAB, broken, "not a SentencePiece model");
    write_json(made, "tokenizer.model", "version https://git-lfs.github.com/spec/v1\n");
    refuse(made, VOCAB, broken, "not a SentencePiece model");
}

/* Whatever stands in the file, it is read within its bounds: sanitizers watch. */
static int parses(const uint8_t *bytes, size_t count)
{
    flashinfer_error error = {.size = sizeof error};
    flin_sentencepiece *model;
    char *copy = malloc(count + 1);
    int code;

    assert_non_null(copy);
    if (count != 0) memcpy(copy, bytes, count);
    copy[count] = '\0';
    code = flin_sentencepiece_parse(copy, count, &model, &error);
    assert_true((code == 0) == (model != NULL));
    if (code != 0) assert_true(error.text[0] != '\0');
    flin_sentencepiece_free(model);
    return code;
}

static void damaged_models_are_read_in_bounds(void **state)
{
    buffer whole = cook_model(&usual);
    uint64_t random = 11;
    int refusals = 0;

    (void)state;
    assert_int_equal(parses(whole.data, whole.bytes), 0);
    for (size_t count = 0; count < whole.bytes; count++) parses(whole.data, count);
    for (int round = 0; round < 30000; round++) {
        uint8_t kept[3];
        size_t places[3];
        for (int i = 0; i < 3; i++) {
            places[i] = random_number(&random) % whole.bytes;
            kept[i] = whole.data[places[i]];
            whole.data[places[i]] =
                random_number(&random) % 3 == 0 ? 0xff : (uint8_t)random_number(&random);
        }
        refusals += parses(whole.data, whole.bytes) != 0;
        for (int i = 3; i-- > 0;) whole.data[places[i]] = kept[i];
    }
    assert_true(refusals > 1000);
    free(whole.data);
}

static void hostile_varints_are_refused(void **state)
{
    static const uint8_t endless[] = {0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
    static const uint8_t cut[] = {0x0a, 0x80};
    static const uint8_t huge[] = {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff,
                                   0xff, 0xff, 0xff, 0xff, 0x01};
    static const uint8_t long_by_one[] = {0x0a, 0x02, 'a'};
    static const uint8_t group[] = {0x33, 0x34};
    static const uint8_t zero_field[] = {0x02, 0x00};
    static const uint8_t short_float[] = {0x0a, 0x03, 0x15, 0x00, 0x00};

    (void)state;
    assert_int_equal(parses(endless, sizeof endless), FLASHINFER_ECHECKPOINT);
    assert_int_equal(parses(cut, sizeof cut), FLASHINFER_ECHECKPOINT);
    assert_int_equal(parses(huge, sizeof huge), FLASHINFER_ECHECKPOINT);
    assert_int_equal(parses(long_by_one, sizeof long_by_one), FLASHINFER_ECHECKPOINT);
    assert_int_equal(parses(group, sizeof group), FLASHINFER_ECHECKPOINT);
    assert_int_equal(parses(zero_field, sizeof zero_field), FLASHINFER_ECHECKPOINT);
    assert_true(parses(short_float, sizeof short_float) != 0);
}

/* ---- tokenizer.json ---- */

/* 0 to 2 special, then 3 U+2581, 4 a, 5 b, 6 ab, 7 U+2581 a, 8 U+2581 ab, 9 on the bytes. */
typedef struct json_recipe {
    const char *type, *normalizer, *splitter, *processor, *added, *merges, *extra, *piece;
    int bytes_short;
} json_recipe;

#define PREPEND "{\"type\":\"Prepend\",\"prepend\":\"" US "\"}"
#define REPLACE "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" US "\"}"
#define ADDED_SPECIAL                                                                              \
    "{\"id\":0,\"content\":\"<unk>\",\"special\":true},{\"id\":1,\"content\":\"<s>\","             \
    "\"special\":true},{\"id\":2,\"content\":\"</s>\",\"special\":true}"
#define TEMPLATE                                                                                   \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},"            \
    "{\"Sequence\":{\"id\":\"A\"}}]}"

static const json_recipe whole = {"BPE",
                                  "{\"type\":\"Sequence\",\"normalizers\":[" PREPEND "," REPLACE
                                  "]}",
                                  "null",
                                  TEMPLATE,
                                  ADDED_SPECIAL,
                                  "[\"a b\",\"" US " a\",[\"" US "\",\"ab\"],\"" US "a b\"]",
                                  "",
                                  "ab",
                                  0};

static void write_whole(const checkpoint *made, const json_recipe *from)
{
    buffer text = {0};
    char piece[128];

#define TEXT(string) put(&text, string, strlen(string))
    TEXT("{\"added_tokens\":[");
    TEXT(from->added);
    TEXT("],\"normalizer\":");
    TEXT(from->normalizer);
    TEXT(",\"pre_tokenizer\":");
    TEXT(from->splitter);
    TEXT(",\"post_processor\":");
    TEXT(from->processor);
    TEXT(",\"model\":{\"type\":\"");
    TEXT(from->type);
    TEXT("\",\"unk_token\":\"<unk>\",\"byte_fallback\":true,");
    TEXT(from->extra);
    TEXT("\"merges\":");
    TEXT(from->merges);
    TEXT(",\"vocab\":{\"<unk>\":0,\"<s>\":1,\"</s>\":2,\"" US "\":3,\"a\":4,\"b\":5,\"");
    TEXT(from->piece);
    TEXT("\":6,\"" US "a\":7,\"" US "ab\":8");
    for (int byte = from->bytes_short; byte < 256; byte++) {
        (void)snprintf(piece, sizeof piece, ",\"<0x%02X>\":%d", (unsigned)byte, byte + 9);
        TEXT(piece);
    }
    TEXT("}}}");
#undef TEXT
    write_in(made, "tokenizer.json", text.data, text.bytes);
    free(text.data);
}

static void a_whole_tokenizer_is_packed(void **state)
{
    static const char *const normalizers[] = {NULL, REPLACE, "null", "null", "null", REPLACE};
    static const char *const splitters[] = {
        NULL,
        "{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"MergedWithPrevious\"}",
        "{\"type\":\"Metaspace\",\"replacement\":\"" US "\",\"prepend_scheme\":\"always\"}",
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Metaspace\",\"replacement\":\"" US
        "\",\"add_prefix_space\":true}]}",
        "{\"type\":\"Metaspace\",\"replacement\":\"" US "\",\"prepend_scheme\":\"never\","
        "\"split\":false}",
        "null"};
    static const int adds[] = {1, 0, 1, 1, 0, 0};
    const checkpoint *made = *state;
    json_recipe from = whole;
    opened file;

    for (size_t i = 0; i < COUNT(adds); i++) {
        if (normalizers[i] != NULL) from.normalizer = normalizers[i];
        if (splitters[i] != NULL) from.splitter = splitters[i];
        write_whole(made, &from);
        open_packed(made, &file, VOCAB);
        encodes_as(&file, "ab", FLASHINFER_TOKENIZE_BOS, adds[i] ? "1 8 " : "1 6 ");
        encodes_as(&file, "z ab", 0, adds[i] ? "3 131 8 " : "131 8 ");
        encodes_as(&file, "</s>ab", FLASHINFER_TOKENIZE_SPECIAL, adds[i] ? "2 8 " : "2 6 ");
        assert_int_equal(type_of(&file, 0), UNKNOWN);
        assert_int_equal(type_of(&file, 9), BYTE);
        close_packed(&file);
    }
    from = whole;
    from.processor = "null";
    write_whole(made, &from);
    open_packed(made, &file, VOCAB);
    encodes_as(&file, "ab", FLASHINFER_TOKENIZE_BOS, "8 ");
    close_packed(&file);
    write_json(made, "tokenizer_config.json", "{\"add_bos_token\":true,\"bos_token\":\"</s>\"}");
    open_packed(made, &file, VOCAB);
    encodes_as(&file, "ab", FLASHINFER_TOKENIZE_BOS, "2 8 ");
    close_packed(&file);
}

static void refuse_whole(const checkpoint *made, const json_recipe *from, int code,
                         const char *words)
{
    write_whole(made, from);
    refuse(made, VOCAB, code, words);
}

static void foreign_wholes_are_refused(void **state)
{
    static const char *const normalized =
        ADDED_SPECIAL ",{\"id\":290,\"content\":\"<t>\",\"special\":false,\"normalized\":true}";
    const checkpoint *made = *state;
    const int unsupported = FLASHINFER_EUNSUPPORTED;
    json_recipe from;
    opened file;

#define CHANGED(field, value, code, words)                                                         \
    from = whole;                                                                                  \
    from.field = value;                                                                            \
    refuse_whole(made, &from, code, words)
    CHANGED(type, "Unigram", unsupported, "not BPE");
    CHANGED(extra, "\"dropout\":0.5,", unsupported, "at random");
    CHANGED(extra, "\"ignore_merges\":true,", unsupported, "ignore_merges");
    CHANGED(extra, "\"continuing_subword_prefix\":\"##\",", unsupported, "parts of words");
    CHANGED(normalizer, "{\"type\":\"NFKC\"}", unsupported, "its normalizer NFKC is not");
    CHANGED(normalizer, "{\"type\":\"Prepend\",\"prepend\":\"_\"}", unsupported, "Prepend");
    CHANGED(normalizer, "7", unsupported, "without a type");
    CHANGED(normalizer, PREPEND, unsupported, "writes spaces as U+2581");
    CHANGED(splitter, "{\"type\":\"Whitespace\"}", unsupported, "its pre_tokenizer Whitespace is");
    CHANGED(processor, "{\"type\":\"Roberta\"}", unsupported, "post_processor");
    CHANGED(added, normalized, unsupported, "put tokenizer.model beside it");
    from.normalizer = REPLACE;
    refuse_whole(made, &from, unsupported, "normalized");
    from.added = ADDED_SPECIAL ",{\"id\":290,\"content\":\"a b\",\"special\":false}";
    write_whole(made, &from);
    open_packed(made, &file, VOCAB);
    encodes_as(&file, "aa b", 0, "4 290 ");
    close_packed(&file);
}

static void merges_without_scores_are_refused(void **state)
{
    const checkpoint *made = *state;
    const int unsupported = FLASHINFER_EUNSUPPORTED, broken = FLASHINFER_ECHECKPOINT;
    json_recipe from;

    /* U+2581 ab is made of U+2581 a and b too */
    CHANGED(merges, "[\"a b\",\"" US " a\",\"" US " ab\"]", unsupported,
            "token 8 of its first 4 bytes");
    CHANGED(merges, "[\"" US " ab\",\"a b\",\"" US " a\",\"" US "a b\"]", unsupported,
            "merge 4 makes token 8");
    CHANGED(merges, "[]", unsupported, "no merge makes token 6");
    CHANGED(merges, "[\"a c\"]", broken, "merge 1");
    CHANGED(merges, "7", broken, "no merges");
    CHANGED(piece, "a" US "b", broken, "merge 1");
    CHANGED(bytes_short, 1, broken, "255 tokens for bytes");
    from = whole; /* a piece with a space inside, and words */
    from.normalizer = "null";
    from.splitter = "{\"type\":\"Metaspace\",\"replacement\":\"" US "\"}";
    from.piece = "a" US;
    refuse_whole(made, &from, unsupported, "tokens have some inside");
#undef CHANGED
}

#ifdef FLIN_TEST_WRAP_MALLOC
static void no_memory_for_a_model(void **state)
{
    flashinfer_error error = {.size = sizeof error};
    const checkpoint *made = *state;
    buffer cooked = cook_model(&usual);
    flin_sentencepiece *model;
    char *copy = malloc(cooked.bytes + 1);
    int code, parse_code;

    assert_non_null(copy);
    memcpy(copy, cooked.data, cooked.bytes);
    write_model(made, &usual);
    heap_fails = 1;
    parse_code = flin_sentencepiece_parse(copy, cooked.bytes, &model, NULL);
    code = pack(made, VOCAB, &error);
    heap_fails = 0;
    assert_int_equal(parse_code, FLASHINFER_ENOMEM);
    assert_int_equal(code, FLASHINFER_ENOMEM);
    free(cooked.data);
}
#endif

#define WITH_CHECKPOINT(test)                                                                      \
    cmocka_unit_test_setup_teardown(test, make_checkpoint, remove_checkpoint)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CHECKPOINT(a_model_is_packed),
        WITH_CHECKPOINT(small_files_say_more),
        WITH_CHECKPOINT(foreign_models_are_refused),
        WITH_CHECKPOINT(broken_models_are_refused),
        cmocka_unit_test(damaged_models_are_read_in_bounds),
        cmocka_unit_test(hostile_varints_are_refused),
        WITH_CHECKPOINT(a_whole_tokenizer_is_packed),
        WITH_CHECKPOINT(foreign_wholes_are_refused),
        WITH_CHECKPOINT(merges_without_scores_are_refused),
#ifdef FLIN_TEST_WRAP_MALLOC
        WITH_CHECKPOINT(no_memory_for_a_model),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
