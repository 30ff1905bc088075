/*
 * predictor_import.c - takes the low-rank factors out of a PowerInfer GGUF: blk.N.fc1.weight and
 * blk.N.fc2.weight.
 *
 * There a neuron counts as active if fc2 . relu(fc1 . x) is at least a threshold, here if it is
 * above one; so the threshold kept is the largest float below theirs. Every shape is checked before
 * the first number is read.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "make/predictor_make.h"
#include "model/gguf.h"
#include "model/stranger.h"
#include "pack/gguf_write.h"
#include "util/half.h"

#define THRESHOLD_KEY "powerinfer.sparse_threshold"
#define PIECE_NUMBERS 65536u /* read at once */
#define HALF_LIMIT 65520.0f  /* from here on float16 rounds to infinity */
#define ANY UINT64_MAX       /* size wanted: the rank, whatever it is */

typedef struct source {
    const char *path;
    flin_storage storage;
    flin_gguf gguf;
    const flin_kernels *kernels;
    uint8_t *piece; /* (PIECE_NUMBERS) of the file's type */
    float bias;     /* of every neuron */
    uint32_t reserved;
} source;

/* ------------------------------------------------------------------------------------- the file */

/* Files of ours have what is looked for here, or nearly so: say what they are for. */
static int refuse_own(const source *from, flashinfer_error *error)
{
    if (flin_gguf_find(&from->gguf, "flashinfer.predictor.version") != NULL)
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "%.200s is a predictor file of this library, not PowerInfer's: open the "
                         "model with it as options.predictor_path",
                         from->path);
    if (flin_gguf_find(&from->gguf, "flashinfer.version") != NULL)
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "%.200s is a model file of this library, not PowerInfer's: open it as a "
                         "model, with a predictor file as options.predictor_path if there is one",
                         from->path);
    return 0;
}

/* What has to be added for `score >= threshold` to be `score + bias > 0`: two floats add up to 0
   only if they are opposites. */
static int read_threshold(source *from, flashinfer_error *error)
{
    const flin_gguf_value *value = flin_gguf_find(&from->gguf, THRESHOLD_KEY);
    float threshold = 0;

    if (value != NULL && (value->is_array || value->type != FLIN_GGUF_VALUE_F32))
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "metadata key " THRESHOLD_KEY " is not an f32; convert the model again");
    if (value != NULL) threshold = (float)flin_gguf_element_f64(value, 0);
    from->bias = -nextafterf(threshold, -INFINITY);
    if (isfinite(threshold) && isfinite(from->bias)) return 0;
    return flin_fail(error, FLASHINFER_EFORMAT,
                     "metadata key " THRESHOLD_KEY " is %g, which no score can be compared with; "
                     "convert the model again",
                     (double)threshold);
}

static int open_source(source *from, flashinfer_error *error)
{
    flin_storage_config config = {FLASHINFER_STORAGE_BUFFERED, 0, 1, 0, 0};
    int code = flin_storage_open_path(&from->storage, from->path, &config, error);

    if (code != 0) return code;
    code = flin_gguf_open_foreign(&from->gguf, &from->storage, error);
    if (code != 0)
        return flin_stranger_explain(&from->storage, from->path, FLIN_WANTED_POWERINFER, code,
                                     error);
    code = refuse_own(from, error);
    if (code == 0) code = read_threshold(from, error);
    if (code != 0) return code;
    from->piece = malloc((size_t)PIECE_NUMBERS * sizeof(float));
    if (from->piece != NULL) return 0;
    return flin_fail(error, FLASHINFER_ENOMEM, "no memory for reading %.200s", from->path);
}

static void close_source(source *from)
{
    free(from->piece);
    flin_gguf_close(&from->gguf);
    flin_storage_close(&from->storage);
}

/* --------------------------------------------------------------------------------------- shapes */

static const flin_gguf_tensor *find(const source *from, uint32_t layer, const char *suffix)
{
    char name[FLIN_GGUF_NAME_BYTES];

    (void)snprintf(name, sizeof name, "blk.%u.%s", layer, suffix);
    return flin_gguf_find_tensor(&from->gguf, name);
}

static int missing(const source *from, uint32_t layer, uint32_t layers, const char *suffix,
                   flashinfer_error *error)
{
    for (uint32_t i = 0; i < layers; i++)
        if (find(from, i, "fc1.weight") != NULL || find(from, i, "fc2.weight") != NULL)
            return flin_fail_at(error, FLASHINFER_EFORMAT, (int)layer, -1, -1,
                                "tensor blk.%u.%s is missing: the model's %u layers each need a "
                                "predictor",
                                layer, suffix, layers);
    return flin_fail(error, FLASHINFER_EFORMAT,
                     "%.200s has no predictor tensors (blk.0.fc1.weight); give a PowerInfer GGUF, "
                     "converted with its predictors",
                     from->path);
}

/* "[320, 128]" */
static const char *shape_text(char text[96], uint32_t count, const uint64_t *dimensions)
{
    size_t used = 0;

    for (uint32_t i = 0; i < count; i++) {
        used += (size_t)snprintf(text + used, 96 - used, "%s", i == 0 ? "[" : ", ");
        if (dimensions[i] == ANY)
            used += (size_t)snprintf(text + used, 96 - used, "rank");
        else
            used +=
                (size_t)snprintf(text + used, 96 - used, "%llu", (unsigned long long)dimensions[i]);
    }
    (void)snprintf(text + used, 96 - used, "]");
    return text;
}

static int check_factor(const flin_gguf_tensor *tensor, uint32_t layer, const uint64_t wanted[2],
                        flashinfer_error *error)
{
    const uint64_t *found = tensor->dimensions;
    char text[96], other[96];

    if (found[0] == 0 || found[1] == 0 || found[2] != 1 || found[3] != 1 || found[0] != wanted[0] ||
        (wanted[1] != ANY && found[1] != wanted[1]))
        return flin_fail_at(error, FLASHINFER_EFORMAT, (int)layer, -1, -1,
                            "tensor %s is %s, but this model's predictors are %s: take those made "
                            "for this model",
                            tensor->name.data,
                            shape_text(text, tensor->dimension_count, tensor->dimensions),
                            shape_text(other, 2, wanted));
    if (tensor->type == FLIN_GGUF_F16 || tensor->type == FLIN_GGUF_F32 ||
        tensor->type == FLIN_GGUF_BF16)
        return 0;
    return flin_fail_at(error, FLASHINFER_EUNSUPPORTED, (int)layer, -1, -1,
                        "tensor %s has GGUF type %u; predictors are read as F32 (0), F16 (1) or "
                        "BF16 (30): take the file that is not quantised",
                        tensor->name.data, tensor->type);
}

static int check_layer(const source *from, const flashinfer_predictor *made, uint32_t layer,
                       flashinfer_error *error)
{
    static const char *const biases[] = {"fc1.bias", "fc2.bias"};
    const flin_gguf_tensor *fc1 = find(from, layer, "fc1.weight");
    const flin_gguf_tensor *fc2 = find(from, layer, "fc2.weight");
    uint64_t wanted[2] = {made->width, ANY};
    int code;

    if (fc1 == NULL) return missing(from, layer, made->layer_count, "fc1.weight", error);
    if (fc2 == NULL) return missing(from, layer, made->layer_count, "fc2.weight", error);
    for (uint32_t i = 0; i < 2; i++)
        if (find(from, layer, biases[i]) != NULL)
            return flin_fail_at(error, FLASHINFER_EUNSUPPORTED, (int)layer, -1, -1,
                                "there is a tensor blk.%u.%s; PowerInfer's predictors have none",
                                layer, biases[i]);
    if ((code = check_factor(fc1, layer, wanted, error)) != 0) return code;
    if (fc1->dimensions[1] > FLIN_LOWRANK_RANK_MAX)
        return flin_fail_at(error, FLASHINFER_EUNSUPPORTED, (int)layer, -1, -1,
                            "tensor %s has rank %llu; a predictor may have %u", fc1->name.data,
                            (unsigned long long)fc1->dimensions[1], FLIN_LOWRANK_RANK_MAX);
    wanted[0] = fc1->dimensions[1];
    wanted[1] = made->neurons;
    return check_factor(fc2, layer, wanted, error);
}

static int check_layers(const source *from, const flashinfer_predictor *made,
                        flashinfer_error *error)
{
    int code = 0;

    for (uint32_t i = 0; i < made->layer_count && code == 0; i++)
        code = check_layer(from, made, i, error);
    if (code != 0 || find(from, made->layer_count, "fc1.weight") == NULL) return code;
    return flin_fail_at(error, FLASHINFER_EFORMAT, (int)made->layer_count, -1, -1,
                        "there is a tensor blk.%u.fc1.weight, but this model has %u layers: take "
                        "the predictors made for this model",
                        made->layer_count, made->layer_count);
}

/* -------------------------------------------------------------------------------------- numbers */

static void widen(const source *from, uint32_t type, uint32_t count, float *to)
{
    uint16_t bits;

    if (type != FLIN_GGUF_BF16) {
        from->kernels->to_float[type == FLIN_GGUF_F16 ? FLIN_F16 : FLIN_F32](from->piece, count,
                                                                             to);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        memcpy(&bits, from->piece + i * sizeof bits, sizeof bits);
        to[i] = flin_float_from_bfloat(bits);
    }
}

static int bad_number(const flin_gguf_tensor *tensor, uint32_t layer, uint64_t index, float value,
                      flashinfer_error *error)
{
    uint64_t row = index / tensor->dimensions[0], column = index % tensor->dimensions[0];
    uint64_t offset = tensor->offset + index * (tensor->type == FLIN_GGUF_F32 ? 4 : 2);
    int64_t neuron = strstr(tensor->name.data, ".fc2.") != NULL ? (int64_t)row : -1;

    if (isfinite(value))
        return flin_fail_at(error, FLASHINFER_EUNSUPPORTED, (int)layer, neuron, (int64_t)offset,
                            "tensor %s holds %g in row %llu, column %llu, more than float16 can",
                            tensor->name.data, (double)value, (unsigned long long)row,
                            (unsigned long long)column);
    return flin_fail_at(error, FLASHINFER_EFORMAT, (int)layer, neuron, (int64_t)offset,
                        "tensor %s holds %s in row %llu, column %llu; fetch or convert the file "
                        "again",
                        tensor->name.data, isnan(value) ? "NaN" : "an infinity",
                        (unsigned long long)row, (unsigned long long)column);
}

static int read_factor(source *from, uint32_t layer, const flin_gguf_tensor *tensor, float *to,
                       flashinfer_error *error)
{
    uint64_t size = tensor->type == FLIN_GGUF_F32 ? 4 : 2, count = tensor->bytes / size;

    for (uint64_t at = 0; at < count; at += PIECE_NUMBERS) {
        uint32_t take = count - at < PIECE_NUMBERS ? (uint32_t)(count - at) : PIECE_NUMBERS;
        int code = flin_storage_read(&from->storage, tensor->offset + at * size, from->piece,
                                     take * size, tensor->name.data, error);
        if (code != 0) return code;
        widen(from, tensor->type, take, to + at);
        for (uint32_t i = 0; i < take; i++)
            if (!(fabsf(to[at + i]) < HALF_LIMIT))
                return bad_number(tensor, layer, at + i, to[at + i], error);
    }
    return 0;
}

static int import_layer(source *from, flashinfer_predictor *made, uint32_t layer,
                        flashinfer_error *error)
{
    const flin_gguf_tensor *fc1 = find(from, layer, "fc1.weight");
    const flin_gguf_tensor *fc2 = find(from, layer, "fc2.weight");
    uint32_t rank = (uint32_t)fc1->dimensions[1];
    float *down = malloc((size_t)rank * made->width * sizeof *down);
    float *up = malloc((size_t)rank * made->neurons * sizeof *up);
    float *bias = malloc(made->neurons * sizeof *bias);
    int code = 0;

    if (down == NULL || up == NULL || bias == NULL)
        code = flin_fail(error, FLASHINFER_ENOMEM, "no memory for factors of rank %u", rank);
    if (code == 0) code = read_factor(from, layer, fc1, down, error);
    if (code == 0) code = read_factor(from, layer, fc2, up, error);
    for (uint32_t i = 0; code == 0 && i < made->neurons; i++) bias[i] = from->bias;
    if (code == 0) code = flin_predictor_set_lowrank(made, layer, rank, 1, down, up, bias, error);
    free(down);
    free(up);
    free(bias);
    return code;
}

int flin_predictor_import(flashinfer_predictor *predictor, const char *path,
                          flashinfer_error *error)
{
    flashinfer_predictor *made = NULL, before;
    source from;
    int code;

    memset(&from, 0, sizeof from);
    from.path = path;
    from.kernels = predictor->kernels;
    code = open_source(&from, error);
    if (code == 0) code = check_layers(&from, predictor, error);
    if (code == 0) code = flin_predictor_create(predictor->model, &made, error);
    for (uint32_t i = 0; code == 0 && i < predictor->layer_count; i++)
        code = import_layer(&from, made, i, error);
    close_source(&from);
    if (code == 0) { /* all or nothing; what there was goes with `made` */
        before = *predictor;
        *predictor = *made;
        *made = before;
    }
    flin_predictor_destroy(made);
    return code;
}
