/*
 * stranger.c - the table of what a file may be instead of a model, by its first bytes, and the
 * kinds of GGUF files, by their metadata.
 */
#include "model/stranger.h"

#include <stdio.h>
#include <string.h>

#include "model/gguf.h"

#define PATH_BYTES_MAX 200
#define PATH_FORMAT "%.200s"
#define VALUE_BYTES_MAX 64u /* of a metadata value that an error repeats */

/* Remedies that several have in common. */
#define PACK_FOLDER "pack the directory that it lies in with flashinfer_pack()"
#define PACK_ORIGINAL                                                                              \
    "pack the Hugging Face checkpoint that it was made from with flashinfer_pack()"
#define OPEN_AS_IT_IS "it is opened as it is; or " PACK_ORIGINAL
#define SAVE_AGAIN                                                                                 \
    "save the model as safetensors with transformers' save_pretrained() and pack that directory "  \
    "with flashinfer_pack()"
#define FETCH_AGAIN "fetch it again"

/* ------------------------------------------------------------------------------ by first bytes */

static int starts(const uint8_t *head, size_t bytes, const char *words)
{
    size_t length = strlen(words);

    for (size_t i = 0; i < length; i++) {
        if (i == bytes) return 0;
        if ((head[i] | 0x20) != (words[i] | 0x20)) return 0; /* in letters of any case */
    }
    return 1;
}

static size_t spaces(const uint8_t *head, size_t bytes)
{
    size_t count = 0;

    while (count < bytes && (head[count] == ' ' || (head[count] >= '\t' && head[count] <= '\r')))
        count++;
    return count;
}

static int holds(const uint8_t *head, size_t bytes, const char *words)
{
    size_t length = strlen(words);

    for (size_t i = 0; i + length <= bytes; i++)
        if (memcmp(head + i, words, length) == 0) return 1;
    return 0;
}

static int is_page(const uint8_t *head, size_t bytes)
{
    size_t from = spaces(head, bytes);

    return starts(head + from, bytes - from, "<!doctype html") ||
           starts(head + from, bytes - from, "<html") || starts(head + from, bytes - from, "<?xml");
}

static uint64_t little_endian(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;

    while (bytes > 0) value = value << 8 | at[--bytes];
    return value;
}

/* The length of a header, then the header, which is JSON. */
static int is_safetensors(const uint8_t *head, size_t bytes)
{
    return bytes >= 10 && little_endian(head, 8) < UINT32_MAX && head[8] == '{' &&
           (head[9] == '"' || head[9] == '}' || head[9] == ' ');
}

static int is_json(const uint8_t *head, size_t bytes)
{
    size_t from = spaces(head, bytes);

    return from < bytes && (head[from] == '{' || head[from] == '[');
}

static int is_config(const uint8_t *head, size_t bytes)
{
    return is_json(head, bytes) && holds(head, bytes, "\"model_type\"");
}

static int is_tokenizer_json(const uint8_t *head, size_t bytes)
{
    return is_json(head, bytes) &&
           (holds(head, bytes, "\"added_tokens") || holds(head, bytes, "\"tokenizer_class\""));
}

static int is_index(const uint8_t *head, size_t bytes)
{
    return is_json(head, bytes) && holds(head, bytes, "\"weight_map\"");
}

/* A protobuf message whose first field is a piece, and one of the first pieces is <unk>. */
static int is_sentencepiece(const uint8_t *head, size_t bytes)
{
    return bytes > 3 && head[0] == 0x0a && head[2] == 0x0a &&
           holds(head, bytes < 64 ? bytes : 64, "<unk>");
}

static int is_pickle(const uint8_t *head, size_t bytes)
{
    return bytes > 2 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5;
}

static int is_compressed(const uint8_t *head, size_t bytes)
{
    static const struct {
        const char *bytes;
        size_t length;
    } packers[] = {{"\x1f\x8b\x08", 3},       {"\xfd\x37zXZ", 5}, {"\x28\xb5\x2f\xfd", 4},
                   {"7z\xbc\xaf\x27\x1c", 6}, {"BZh", 3},         {"Rar!", 4}};

    for (size_t i = 0; i < sizeof packers / sizeof packers[0]; i++)
        if (bytes >= packers[i].length && memcmp(head, packers[i].bytes, packers[i].length) == 0)
            return 1;
    return 0;
}

static int is_tar(const uint8_t *head, size_t bytes)
{
    return bytes >= 262 && memcmp(head + 257, "ustar", 5) == 0;
}

/* llama.cpp's formats before GGUF: a word as a little-endian number. */
static int is_old_ggml(const uint8_t *head, size_t bytes)
{
    static const char *const words[] = {"lmgg", "fmgg", "tjgg", "algg"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (bytes >= 4 && memcmp(head, words[i], 4) == 0) return 1;
    return 0;
}

static int is_zero(const uint8_t *head, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (head[i] != 0) return 0;
    return 1;
}

static int is_text(const uint8_t *head, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (head[i] == 0x7f || (head[i] < 0x20 && (head[i] < '\t' || head[i] > '\r'))) return 0;
    return 1;
}

static int is_gguf(const uint8_t *head, size_t bytes)
{
    return bytes >= 8 && memcmp(head, "GGUF", 4) == 0;
}

static int is_big_endian(const uint8_t *head, size_t bytes)
{
    return is_gguf(head, bytes) && little_endian(head + 4, 4) > 0xffff;
}

static int is_old_gguf(const uint8_t *head, size_t bytes)
{
    return is_gguf(head, bytes) && little_endian(head + 4, 4) < FLIN_GGUF_VERSION;
}

static int has_no_tensors(const uint8_t *head, size_t bytes)
{
    return is_gguf(head, bytes) && bytes >= 16 && little_endian(head + 8, 8) == 0;
}

static int is_plain_gguf(const uint8_t *head, size_t bytes)
{
    return is_gguf(head, bytes) && !is_big_endian(head, bytes) && !is_old_gguf(head, bytes) &&
           !has_no_tensors(head, bytes);
}

#define PLAIN_GGUF 0 /* whose metadata may say more */

/* In this order: what comes first is the more special. */
static const struct rule {
    flin_stranger stranger;
    const char *begins; /* NULL: only is() says */
    int (*is)(const uint8_t *head, size_t bytes);
} rules[] = {
    [PLAIN_GGUF] = {{"a GGUF file", OPEN_AS_IT_IS}, NULL, is_plain_gguf},
    {{"a file of zeros", "its download did not finish, " FETCH_AGAIN}, NULL, is_zero},
    {{"a big-endian GGUF file", "convert it for little-endian machines, or " PACK_ORIGINAL},
     NULL,
     is_big_endian},
    {{"a GGUF file of an old version", "convert it again, to GGUF version 3, or " PACK_ORIGINAL},
     NULL,
     is_old_gguf},
    {{"a GGUF file without weights, such as a vocabulary alone", "take the file of the model"},
     NULL,
     has_no_tensors},
    {{"a model of PowerInfer", PACK_ORIGINAL}, "PWRI", NULL},
    {{"a model file of llama.cpp from before GGUF", PACK_ORIGINAL}, NULL, is_old_ggml},
    {{"a safetensors file", PACK_FOLDER}, NULL, is_safetensors},
    {{"a zip archive, as PyTorch writes its checkpoints (.bin, .pt, .pth)", SAVE_AGAIN},
     "PK\x03\x04",
     NULL},
    {{"a pickle, as PyTorch's old checkpoints are (.bin, .pt, .pth)", SAVE_AGAIN}, NULL, is_pickle},
    {{"an HDF5 file (.h5)", SAVE_AGAIN}, "\x89HDF\r\n", NULL},
    {{"a Git LFS pointer, which stands for a file that was not fetched",
      "fetch the file itself (git lfs pull)"},
     "version https://git-lfs",
     NULL},
    {{"a web page", "the download went wrong, " FETCH_AGAIN}, NULL, is_page},
    {{"what flashinfer_probe_save() wrote of a machine", "it belongs to options.probe"},
     "flashinfer-probe ",
     NULL},
    {{"a session's saved state", "it belongs to flashinfer_state_load()"}, "FLISTAT", NULL},
    {{"a tokenizer of SentencePiece", "it is a part of a checkpoint: " PACK_FOLDER},
     NULL,
     is_sentencepiece},
    {{"a tokenizer's file", "it is a part of a checkpoint: " PACK_FOLDER}, NULL, is_tokenizer_json},
    {{"the list of a checkpoint's weight files", PACK_FOLDER}, NULL, is_index},
    {{"the configuration of a checkpoint", PACK_FOLDER}, NULL, is_config},
    {{"a compressed file", "unpack it"}, NULL, is_compressed},
    {{"a tar archive", "unpack it"}, NULL, is_tar},
    {{"a JSON file", "if it is a part of a checkpoint, " PACK_FOLDER}, NULL, is_json},
    {{"a text file", "give a file that has weights"}, NULL, is_text},
};

const flin_stranger *flin_stranger_of(const uint8_t *head, size_t bytes)
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        const struct rule *rule = &rules[i];
        size_t length = rule->begins != NULL ? strlen(rule->begins) : 0;
        if (rule->begins != NULL ? bytes >= length && memcmp(head, rule->begins, length) == 0
                                 : rule->is(head, bytes))
            return &rule->stranger;
    }
    return NULL;
}

/* ------------------------------------------------------------------------- by GGUF metadata */

/* What general.type says of files that are no models. */
static const struct type {
    const char *name;
    flin_stranger stranger;
} types[] = {
    {"adapter",
     {"a LoRA adapter in GGUF form, which changes another model",
      "merge the original adapter into its model (peft's merge_and_unload()) and pack that with "
      "flashinfer_pack()"}},
    {"mmproj",
     {"the projector of a multimodal model, for images or sound",
      "text runs without it: take the file of the language model"}},
    {"imatrix",
     {"an importance matrix, which helped to quantise a model", "take the file of the model"}},
};

/* By flin_wanted: what the file was to be, and what to do with any stranger. */
static const flin_stranger wants[] = {
    [FLIN_WANTED_MODEL] = {"model file", NULL},
    [FLIN_WANTED_PREDICTOR] = {"predictor file",
                               "make one from this model with flashinfer_predictor_save()"},
    [FLIN_WANTED_POWERINFER] = {"GGUF file of PowerInfer",
                                "give one that was converted with its predictors"},
};

typedef struct asked {
    const char *name;   /* the file's path, or a word for it */
    const char *wanted; /* what it was to be */
    const char *advice; /* NULL: the stranger's own */
    int knows_gguf;     /* has said what is wrong with any GGUF file, PowerInfer's too */
} asked;

static flin_string text_of(const flin_gguf *gguf, const char *key)
{
    flin_string text = {"", 0};

    (void)flin_gguf_string(gguf, key, &text, NULL);
    if (text.bytes > VALUE_BYTES_MAX) text.bytes = VALUE_BYTES_MAX;
    return text;
}

static const flin_stranger *typed(const flin_gguf *gguf)
{
    flin_string type = text_of(gguf, "general.type");

    /* older projectors have no type, but an architecture that nothing else has */
    if (flin_string_is(text_of(gguf, "general.architecture"), "clip"))
        type = (flin_string){"mmproj", 6};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (flin_string_is(type, types[i].name)) return &types[i].stranger;
    return NULL;
}

static int refuse(const asked *of, const flin_stranger *stranger, int code, flashinfer_error *error)
{
    return flin_fail(error, code, PATH_FORMAT " is %s, not a %s: %s", of->name, stranger->what,
                     of->wanted, of->advice != NULL ? of->advice : stranger->advice);
}

/* A text that begins with what the file is lacks only its name. Others say what a file of others
   lacks. */
static int name_it(const asked *of, int ours, int code, flashinfer_error *error)
{
    const int named = strncmp(error->text, "a ", 2) == 0;

    if (!named && ours) return code;
    return flin_fail_at(error, code, error->layer, error->neuron, error->offset,
                        PATH_FORMAT " is %s%s", of->name,
                        named ? "" : "a GGUF file that does not open: ", error->text);
}

/* A part of a model that lies in several files. */
static int refuse_part(const asked *of, const flin_gguf *gguf, uint64_t parts, int code,
                       flashinfer_error *error)
{
    uint64_t number = 0;
    char what[96];
    const flin_stranger part = {what,
                                "join all parts with llama-gguf-split --merge, or " PACK_ORIGINAL};

    (void)flin_gguf_u64(gguf, "split.no", &number, NULL);
    (void)snprintf(what, sizeof what, "part %llu of %llu of a GGUF file that was split",
                   (unsigned long long)number + 1, (unsigned long long)parts);
    return refuse(of, &part, code, error);
}

static int explain_gguf(const asked *of, const flin_gguf *gguf, int code, flashinfer_error *error)
{
    static const flin_stranger model = {"a model file", ""}, other = {"a GGUF file", ""};
    const flin_stranger *stranger = typed(gguf);
    const int ours = flin_gguf_find(gguf, "flashinfer.version") != NULL;
    uint64_t parts = 0;

    /* what is wrong with one of ours has been said */
    if (flin_gguf_find(gguf, "flashinfer.predictor.version") != NULL)
        return name_it(of, 1, code, error);
    if (ours) return of->advice != NULL ? refuse(of, &model, code, error) : code;
    if (stranger != NULL) return refuse(of, stranger, code, error);
    if (of->advice != NULL) return refuse(of, &other, code, error);
    (void)flin_gguf_u64(gguf, "split.count", &parts, NULL);
    if (parts > 1) return refuse_part(of, gguf, parts, code, error);
    return name_it(of, 0, code, error);
}

/* --------------------------------------------------------------------------------- explaining */

/* Only what may come of the file's own bytes. */
static int may_be_strange(int code, const flashinfer_error *error)
{
    return (code == FLASHINFER_EFORMAT || code == FLASHINFER_EUNSUPPORTED ||
            code == FLASHINFER_ECORRUPT) &&
           error != NULL && error->size >= offsetof(flashinfer_error, text) + sizeof error->text;
}

/* A vocabulary alone opens for its metadata, and says itself what else is wrong. */
static int is_vocabulary(flin_storage *storage)
{
    flin_gguf gguf;
    int found;

    if (flin_gguf_open(&gguf, storage, 0, NULL) != 0) return 0;
    found = gguf.tensor_count == 0;
    flin_gguf_close(&gguf);
    return found;
}

static int explain(const asked *of, flin_storage *storage, int code, flashinfer_error *error)
{
    uint8_t head[FLIN_STRANGER_HEAD_BYTES];
    uint64_t bytes = storage->caps.length_bytes;
    const flin_stranger *stranger;
    flin_gguf gguf;

    if (bytes > sizeof head) bytes = sizeof head;
    if (flin_storage_read(storage, 0, head, bytes, "the first bytes", NULL) != 0) return code;
    stranger = flin_stranger_of(head, (size_t)bytes);
    if (stranger == NULL || (of->advice == NULL && is_vocabulary(storage))) return code;
    if (of->knows_gguf && bytes >= 4 &&
        (memcmp(head, "GGUF", 4) == 0 || memcmp(head, "PWRI", 4) == 0))
        return code;
    if (stranger != &rules[PLAIN_GGUF].stranger) return refuse(of, stranger, code, error);
    if (flin_gguf_open_foreign(&gguf, storage, NULL) != 0) return code;
    code = explain_gguf(of, &gguf, code, error);
    flin_gguf_close(&gguf);
    return code;
}

int flin_stranger_explain(flin_storage *storage, const char *path, enum flin_wanted wanted,
                          int code, flashinfer_error *error)
{
    const asked of = {path != NULL ? path : "this", wants[wanted].what, wants[wanted].advice,
                      wanted == FLIN_WANTED_POWERINFER};
    char name[PATH_BYTES_MAX + 1];

    if (!may_be_strange(code, error)) return code;
    (void)explain(&of, storage, code, error);
    (void)snprintf(name, sizeof name, PATH_FORMAT, of.name);
    if (wanted == FLIN_WANTED_MODEL || strncmp(error->text, name, strlen(name)) == 0) return code;
    return flin_fail_at(error, code, error->layer, error->neuron, error->offset, "%s: %s", name,
                        error->text); /* which of two files it is about */
}
