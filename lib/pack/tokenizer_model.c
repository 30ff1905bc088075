/*
 * tokenizer_model.c - a bounded reader of the one protobuf message that SentencePiece writes.
 *
 * Field numbers are those of sentencepiece_model.proto. Fields not named here are skipped: they say
 * how a model was trained.
 */
#include "pack/tokenizer_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pack/json.h"
#include "pack/tokenizer_export.h"
#include "text/byte_alphabet.h"

#define FILE_NAME "tokenizer.model"

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };
enum { MODEL_PIECE = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3, MODEL_DENORMALIZER = 5 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum {
    TRAINER_KIND = 3,
    TRAINER_SPACE_IS_SUFFIX = 24,
    TRAINER_BYTE_FALLBACK = 35,
    TRAINER_BOS = 41,
    TRAINER_EOS = 42,
    TRAINER_PADDING = 43
};
enum {
    NORMALIZER_NAME = 1,
    NORMALIZER_CHARACTERS = 2,
    NORMALIZER_ADDS_SPACE = 3,
    NORMALIZER_REMOVES_SPACES = 4,
    NORMALIZER_ESCAPES_SPACES = 5
};
enum { KIND_UNIGRAM = 1, KIND_BPE = 2 };

/* ---------------------------------------------------------------------------------- wire format */

typedef struct message {
    const uint8_t *at, *end;
    const uint8_t *file; /* its first byte */
} message;

typedef struct field {
    uint32_t number, wire;
    uint64_t value;      /* of a varint or 32 bits */
    const uint8_t *data; /* (bytes), for WIRE_BYTES */
    size_t bytes;
} field;

static int damaged(const message *from, flashinfer_error *error)
{
    int64_t at = from->at - from->file;

    return flin_fail_at(error, FLASHINFER_ECHECKPOINT, -1, -1, at,
                        FILE_NAME " is not a SentencePiece model, or damaged (byte %lld)",
                        (long long)at);
}

static int take_varint(message *from, uint64_t *value, flashinfer_error *error)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && from->at < from->end; shift += 7) {
        uint8_t byte = *from->at++;
        *value |= (uint64_t)(byte & 127u) << shift;
        if (byte < 128) return 0;
    }
    return damaged(from, error);
}

/* The next field; at the end its number is 0. */
static int take_field(message *from, field *next, flashinfer_error *error)
{
    uint64_t tag, count = 0;
    int code;

    memset(next, 0, sizeof *next);
    if (from->at == from->end) return 0;
    code = take_varint(from, &tag, error);
    if (code != 0) return code;
    if (tag >> 3 == 0 || tag >> 3 > UINT32_MAX) return damaged(from, error);
    next->number = (uint32_t)(tag >> 3);
    next->wire = tag & 7;
    if (next->wire == WIRE_VARINT) return take_varint(from, &next->value, error);
    if (next->wire == WIRE_32) count = 4;
    if (next->wire == WIRE_64) count = 8;
    if (next->wire == WIRE_BYTES && (code = take_varint(from, &count, error)) != 0) return code;
    if (count > (uint64_t)(from->end - from->at) ||
        (count == 0 && next->wire != WIRE_BYTES)) /* groups: no writer uses them */
        return damaged(from, error);
    next->data = from->at;
    next->bytes = (size_t)count;
    for (unsigned i = 0; i < 4 && next->wire == WIRE_32; i++)
        next->value |= (uint64_t)next->data[i] << 8 * i;
    from->at += count;
    return 0;
}

static message inside(const message *outer, const field *of)
{
    return (message){of->data, of->data + of->bytes, outer->file};
}

/* ---------------------------------------------------------------------------------------- parts */

/* What the two specifications say, with protobuf's defaults for what they leave out. */
typedef struct specification {
    uint64_t kind;
    uint64_t space_is_suffix, byte_fallback;
    uint64_t bos, eos, padding; /* 64 bits of an int32 */
    uint64_t adds_space, removes_spaces, escapes_spaces;
    int maps_characters;
    char name[48]; /* of the normaliser, visible ASCII */
} specification;

static int read_trainer(message from, specification *into, flashinfer_error *error)
{
    const struct {
        uint32_t number;
        uint64_t *value;
    } known[] = {{TRAINER_KIND, &into->kind},
                 {TRAINER_SPACE_IS_SUFFIX, &into->space_is_suffix},
                 {TRAINER_BYTE_FALLBACK, &into->byte_fallback},
                 {TRAINER_BOS, &into->bos},
                 {TRAINER_EOS, &into->eos},
                 {TRAINER_PADDING, &into->padding}};
    field next;
    int code;

    while ((code = take_field(&from, &next, error)) == 0 && next.number != 0)
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            if (next.number != known[i].number) continue;
            if (next.wire != WIRE_VARINT) return damaged(&from, error);
            *known[i].value = next.value;
        }
    return code;
}

static void copy_name(char *name, size_t capacity, const field *from)
{
    size_t used = 0;

    for (; used + 1 < capacity && used < from->bytes; used++)
        name[used] =
            (char)(from->data[used] > ' ' && from->data[used] <= '~' ? from->data[used] : '?');
    name[used] = '\0';
}

static int read_normalizer(message from, specification *into, flashinfer_error *error)
{
    field next;
    int code;

    while ((code = take_field(&from, &next, error)) == 0 && next.number != 0) {
        int is_text = next.number == NORMALIZER_NAME || next.number == NORMALIZER_CHARACTERS;
        int is_flag =
            next.number >= NORMALIZER_ADDS_SPACE && next.number <= NORMALIZER_ESCAPES_SPACES;
        if ((is_text && next.wire != WIRE_BYTES) || (is_flag && next.wire != WIRE_VARINT))
            return damaged(&from, error);
        if (next.number == NORMALIZER_NAME) copy_name(into->name, sizeof into->name, &next);
        if (next.number == NORMALIZER_CHARACTERS) into->maps_characters |= next.bytes != 0;
        if (next.number == NORMALIZER_ADDS_SPACE) into->adds_space = next.value;
        if (next.number == NORMALIZER_REMOVES_SPACES) into->removes_spaces = next.value;
        if (next.number == NORMALIZER_ESCAPES_SPACES) into->escapes_spaces = next.value;
    }
    return code;
}

/* Its text is not terminated yet; bytes says how long it is. */
static int read_piece(message from, uint32_t id, flin_piece *piece, size_t *bytes,
                      flashinfer_error *error)
{
    field next;
    int code;

    *piece = (flin_piece){.type = FLIN_TOKEN_NORMAL};
    while ((code = take_field(&from, &next, error)) == 0 && next.number != 0) {
        uint32_t bits = (uint32_t)next.value;
        if ((next.number == PIECE_TEXT && next.wire != WIRE_BYTES) ||
            (next.number == PIECE_SCORE && next.wire != WIRE_32) ||
            (next.number == PIECE_TYPE && next.wire != WIRE_VARINT))
            return damaged(&from, error);
        if (next.number == PIECE_TEXT) {
            piece->text = (const char *)next.data;
            *bytes = next.bytes;
        }
        if (next.number == PIECE_SCORE) memcpy(&piece->score, &bits, sizeof bits);
        if (next.number == PIECE_TYPE) {
            if (next.value < FLIN_TOKEN_NORMAL || next.value > FLIN_TOKEN_BYTE)
                return flin_fail(error, FLASHINFER_ECHECKPOINT,
                                 FILE_NAME ": piece %u has the unknown type %lld", id,
                                 (long long)next.value);
            piece->type = (int32_t)next.value;
        }
    }
    if (code != 0) return code;
    if (piece->text == NULL || *bytes == 0)
        return flin_fail(error, FLASHINFER_ECHECKPOINT, FILE_NAME ": piece %u has no text", id);
    if (isnan(piece->score))
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         FILE_NAME ": the score of piece %u is not a number", id);
    return flin_text_check(piece->text, *bytes, FILE_NAME ": the text of a piece", error);
}

/* --------------------------------------------------------------------------------------- checks */

static int unsupported(const char *what, const char *name, flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EUNSUPPORTED, FILE_NAME ": %s%s cannot be packed", what,
                     name);
}

static int check_specification(const specification *from, flashinfer_error *error)
{
    static const char *const kinds[] = {"none", "unigram", "bpe", "word", "char"};
    int has_name = from->name[0] != '\0';

    if (from->kind != KIND_BPE)
        return unsupported("only model_type bpe is known; ",
                           from->kind < sizeof kinds / sizeof *kinds ? kinds[from->kind]
                                                                     : "a kind of another version",
                           error);
    if (from->maps_characters)
        return unsupported("the normalizer ", has_name ? from->name : "without a name", error);
    if (from->removes_spaces)
        return unsupported("remove_extra_whitespaces", " of its normalizer_spec", error);
    if (!from->escapes_spaces)
        return unsupported("escape_whitespaces false", " of its normalizer_spec", error);
    if (from->space_is_suffix)
        return unsupported("treat_whitespace_as_suffix", " of its trainer_spec", error);
    return 0;
}

/* All 256 bytes once, or none; duplicates are found when pieces are sorted by text. */
static int check_pieces(flin_sentencepiece *model, int byte_fallback, flashinfer_error *error)
{
    uint32_t byte_count = 0, unknown_count = 0;

    for (uint32_t id = 0; id < model->count; id++) {
        const flin_piece *piece = &model->pieces[id];
        flin_string text = {piece->text, strlen(piece->text)};
        if (piece->type == FLIN_TOKEN_BYTE && flin_piece_byte(text) < 0)
            return flin_fail(error, FLASHINFER_ECHECKPOINT,
                             FILE_NAME ": piece %u is a byte, but its text is not such as <0x0A>",
                             id);
        byte_count += piece->type == FLIN_TOKEN_BYTE;
        if (piece->type != FLIN_TOKEN_UNKNOWN) continue;
        unknown_count++;
        model->unknown = (int32_t)id;
    }
    if (unknown_count != 1)
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         FILE_NAME " has %u unknown pieces; it must be one", unknown_count);
    if (byte_count != (byte_fallback ? 256u : 0u))
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         FILE_NAME " has %u pieces for bytes; with byte_fallback %s it must be %u",
                         byte_count, byte_fallback ? "true" : "false", byte_fallback ? 256u : 0u);
    return 0;
}

/* A special id counts when its piece is a control one. */
static int control_id(const flin_sentencepiece *model, uint64_t number, const char *name,
                      int32_t *id, flashinfer_error *error)
{
    int64_t wanted = (int64_t)number;

    *id = -1;
    if (wanted < 0) return 0;
    if (wanted >= (int64_t)model->count)
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         FILE_NAME ": %s of its trainer_spec is %lld, but it has %u pieces", name,
                         (long long)wanted, model->count);
    if (model->pieces[wanted].type == FLIN_TOKEN_CONTROL) *id = (int32_t)wanted;
    return 0;
}

/* -------------------------------------------------------------------------------------- reading */

/* The specifications, and how many pieces there are. */
static int read_specification(message from, specification *into, uint32_t *count,
                              flashinfer_error *error)
{
    field next;
    int code;

    *into = (specification){.kind = KIND_UNIGRAM,
                            .bos = 1,
                            .eos = 2,
                            .padding = UINT64_MAX,
                            .adds_space = 1,
                            .removes_spaces = 1,
                            .escapes_spaces = 1};
    *count = 0;
    while ((code = take_field(&from, &next, error)) == 0 && next.number != 0) {
        specification ignored = *into;
        if (next.number > MODEL_DENORMALIZER) continue;
        if (next.wire != WIRE_BYTES) return damaged(&from, error);
        if (next.number == MODEL_PIECE && ++*count > FLIN_PIECES_MAX)
            return flin_fail(error, FLASHINFER_ECHECKPOINT, FILE_NAME " has more than %u pieces",
                             FLIN_PIECES_MAX);
        if (next.number == MODEL_TRAINER) code = read_trainer(inside(&from, &next), into, error);
        if (next.number == MODEL_NORMALIZER)
            code = read_normalizer(inside(&from, &next), into, error);
        if (next.number == MODEL_DENORMALIZER) {
            ignored.maps_characters = 0;
            code = read_normalizer(inside(&from, &next), &ignored, error);
            if (code == 0 && ignored.maps_characters)
                code = unsupported("its denormalizer_spec", "", error);
        }
        if (code != 0) return code;
    }
    if (code == 0 && *count == 0)
        code = flin_fail(error, FLASHINFER_ECHECKPOINT, FILE_NAME " has no pieces");
    return code;
}

/* Texts are terminated once nothing is read any more: what follows them is the next field. */
static int read_pieces(message from, flin_sentencepiece *model, flashinfer_error *error)
{
    size_t *lengths = malloc(model->count * sizeof *lengths);
    uint32_t id = 0;
    field next;
    int code = 0;

    model->pieces = calloc(model->count, sizeof *model->pieces);
    if (lengths == NULL || model->pieces == NULL)
        code = flin_fail(error, FLASHINFER_ENOMEM, "no memory for %u pieces of " FILE_NAME,
                         model->count);
    while (code == 0 && (code = take_field(&from, &next, error)) == 0 && next.number != 0) {
        if (next.number != MODEL_PIECE) continue;
        code = read_piece(inside(&from, &next), id, &model->pieces[id], &lengths[id], error);
        id++;
    }
    for (id = 0; code == 0 && id < model->count; id++)
        model->bytes[(model->pieces[id].text - model->bytes) + (ptrdiff_t)lengths[id]] = '\0';
    free(lengths);
    return code;
}

int flin_sentencepiece_parse(char *bytes, size_t count, flin_sentencepiece **model,
                             flashinfer_error *error)
{
    const uint8_t *file = (const uint8_t *)bytes;
    message whole = {file, file + count, file};
    specification says;
    flin_sentencepiece *made = calloc(1, sizeof *made);
    int code;

    *model = NULL;
    if (made == NULL) {
        free(bytes);
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for " FILE_NAME);
    }
    made->bytes = bytes;
    code = read_specification(whole, &says, &made->count, error);
    if (code == 0) code = check_specification(&says, error);
    if (code == 0) code = read_pieces(whole, made, error);
    if (code == 0) code = check_pieces(made, says.byte_fallback != 0, error);
    if (code == 0) code = control_id(made, says.bos, "bos_id", &made->bos, error);
    if (code == 0) code = control_id(made, says.eos, "eos_id", &made->eos, error);
    if (code == 0) code = control_id(made, says.padding, "pad_id", &made->padding, error);
    if (code == 0) {
        made->adds_space = says.adds_space != 0;
        *model = made;
    } else {
        flin_sentencepiece_free(made);
    }
    return code;
}

int flin_sentencepiece_load(int directory, flin_sentencepiece **model, flashinfer_error *error)
{
    char *bytes;
    size_t count;
    int code = flin_bytes_load(directory, FILE_NAME, 0, &bytes, &count, error);

    *model = NULL;
    if (code != 0 || bytes == NULL) return code;
    return flin_sentencepiece_parse(bytes, count, model, error);
}

void flin_sentencepiece_free(flin_sentencepiece *model)
{
    if (model == NULL) return;
    free(model->pieces);
    free(model->bytes);
    free(model);
}
