/*
 * synth_write.c - lay out, then stream.
 *
 * The packer lays out a checkpoint from the names and shapes of its tensors alone. So it is shown
 * the table of a checkpoint that has no data, and what it would then read is made up here.
 */
#include "synth_write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "model/gguf.h"
#include "model/shape.h"
#include "pack/map.h"
#include "pack/tokenizer_export.h"
#include "predictor/sketch_make.h"
#include "text/byte_alphabet.h"
#include "util/pool.h"

#define ROWS FLIN_SKETCH_TILE_ROWS /* of every matrix, made at a time */
#define BYTE_TOKENS 256u
#define NAME_BYTES 64u
#define SYNTH_PARTS 2u /* up, down */
#define TILES_PER_THREAD 8u

typedef struct synth_file {
    const synth_options *options;
    flin_checkpoint checkpoint;
    flin_source source;          /* no files, only tensors' names and shapes */
    flin_source_tensor *tensors; /* (tensor_count) by name */
    size_t tensor_count;
    char (*names)[NAME_BYTES];
    flin_packing packing;
    flin_gguf_writer writer;
    synth_weights weights;
    const flin_kernels *kernels;
    flin_pool pool;
    flin_sketch_maker *makers; /* (threads) */
    uint32_t batch_tiles;      /* made between two writes */
    float margin;              /* of the sketch */
    float *rows;               /* (threads, ROWS, width) */
    uint8_t *bytes;            /* (batch_tiles, ROWS, stride) bundles, or rows in the file's type */
    float *means;              /* (batch_tiles, width) */
    float *down_bias;          /* (width) of the layer */
    uint64_t *sums;            /* (neurons, parts) of the layer */
    uint8_t *tiles;            /* sketch of the layer */
    float *sketch_bias;        /* (neurons rounded up to ROWS) */
} synth_file;

/* --------------------------------------------------------------------------------- a checkpoint */

static void add_tensor(synth_file *file, const char *name, uint64_t rows, uint64_t columns)
{
    size_t index = file->tensor_count++;
    flin_source_tensor *tensor = &file->tensors[index];

    (void)snprintf(file->names[index], NAME_BYTES, "decoder.%s", name);
    *tensor = (flin_source_tensor){.name = file->names[index],
                                   .type_name = "F32",
                                   .readable = 1,
                                   .dimension_count = 2,
                                   .dimensions = {rows, columns}};
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const flin_source_tensor *)a)->name, ((const flin_source_tensor *)b)->name);
}

static const flin_source_tensor *find(const flin_source *source, const char *name)
{
    const synth_file *file =
        (const synth_file *)((const char *)source - offsetof(synth_file, source));
    const flin_source_tensor key = {.name = name};

    return bsearch(&key, file->tensors, file->tensor_count, sizeof key, by_name);
}

/* Matrices only: absent norms and biases are filled with ones and zeros. */
static int describe(synth_file *file, flashinfer_error *error)
{
    static const char *const projections[] = {"q_proj", "k_proj", "v_proj", "out_proj"};
    const synth_shape *shape = &file->options->shape;
    size_t count = 2 + (size_t)shape->layers * 6;
    char name[NAME_BYTES - 16];

    file->source.find = find;
    file->tensors = calloc(count, sizeof *file->tensors);
    file->names = calloc(count, sizeof *file->names);
    if (file->tensors == NULL || file->names == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for %zu names", count);
    add_tensor(file, "embed_tokens.weight", shape->vocab, shape->width);
    add_tensor(file, "embed_positions.weight", shape->context + 2, shape->width); /* OPT's 2 */
    for (uint32_t layer = 0; layer < shape->layers; layer++) {
        for (size_t i = 0; i < sizeof projections / sizeof *projections; i++) {
            (void)snprintf(name, sizeof name, "layers.%u.self_attn.%s.weight", layer,
                           projections[i]);
            add_tensor(file, name, shape->width, shape->width);
        }
        (void)snprintf(name, sizeof name, "layers.%u.fc1.weight", layer);
        add_tensor(file, name, shape->neurons, shape->width);
        (void)snprintf(name, sizeof name, "layers.%u.fc2.weight", layer);
        add_tensor(file, name, shape->width, shape->neurons);
    }
    qsort(file->tensors, count, sizeof *file->tensors, by_name);
    return 0;
}

static void configure(synth_file *file)
{
    const synth_shape *shape = &file->options->shape;
    flin_checkpoint *checkpoint = &file->checkpoint;

    memset(checkpoint, 0, sizeof *checkpoint);
    checkpoint->shape = (flin_shape){.architecture = "opt",
                                     .descriptor = &flin_architecture_opt,
                                     .layers = shape->layers,
                                     .width = shape->width,
                                     .token_width = shape->width,
                                     .ffn = shape->neurons,
                                     .heads = shape->heads,
                                     .kv_heads = shape->heads,
                                     .head_width = shape->width / shape->heads,
                                     .vocab = shape->vocab,
                                     .context = shape->context,
                                     .norm_before = 1,
                                     .final_norm = 1,
                                     .norm_kind = FLIN_NORM_LAYER,
                                     .norm_epsilon = 1e-5f};
    /* a checkpoint without norms and biases: they are filled with ones and zeros */
    checkpoint->facts = (flin_facts){.tied = 1, .no_norms = 1, .no_biases = 1};
    checkpoint->bos_id = checkpoint->eos_id = checkpoint->pad_id = -1;
    (void)snprintf(checkpoint->name, sizeof checkpoint->name, "%s", file->options->name);
}

/* ------------------------------------------------------------------------------------ tokenizer */

/* The character that stands for a byte in GPT-2's alphabet, as UTF-8 of one or two bytes. */
static size_t spell(uint32_t byte, char *text)
{
    uint32_t code = 0;

    while (flin_byte_of_character(code) != (int)byte) code++;
    if (code < 0x80) {
        text[0] = (char)code;
        return 1;
    }
    text[0] = (char)(0xc0 | code >> 6);
    text[1] = (char)(0x80 | (code & 0x3f));
    return 2;
}

/* The first 256 ids are the bytes, the others unused; nothing is merged. */
static int put_tokenizer(synth_file *file, flashinfer_error *error)
{
    uint32_t vocab = file->options->shape.vocab;
    int32_t *types = malloc(vocab * sizeof *types);

    if (types == NULL) return flin_fail(error, FLASHINFER_ENOMEM, "no memory for %u tokens", vocab);
    flin_gguf_put_string(&file->writer, "tokenizer.ggml.model", "gpt2");
    flin_gguf_put_string(&file->writer, "tokenizer.ggml.pre", "gpt-2");
    flin_gguf_put_string_array(&file->writer, "tokenizer.ggml.tokens", vocab);
    for (uint32_t id = 0; id < vocab; id++) {
        char text[24];
        const char *piece = text;
        size_t bytes =
            id < BYTE_TOKENS ? spell(id, text) : (size_t)snprintf(text, sizeof text, "[PAD%u]", id);
        flin_gguf_put_item(&file->writer, &piece, &bytes, 1);
        types[id] = id < BYTE_TOKENS ? FLIN_TOKEN_NORMAL : FLIN_TOKEN_UNUSED;
    }
    flin_gguf_put_array(&file->writer, "tokenizer.ggml.token_type", FLIN_GGUF_VALUE_I32, vocab,
                        types, sizeof *types);
    flin_gguf_put_string_array(&file->writer, "tokenizer.ggml.merges", 0);
    flin_gguf_put_bool(&file->writer, "tokenizer.ggml.add_bos_token", 0);
    free(types);
    return 0;
}

/* ----------------------------------------------------------------------------- resident tensors */

static int write_whole(synth_file *file, uint32_t target, const void *data, uint64_t bytes,
                       flashinfer_error *error)
{
    int code;

    flin_gguf_write_begin(&file->writer, target, 1);
    code = flin_gguf_write(&file->writer, data, bytes, error);
    if (code == 0) flin_gguf_write_end(&file->writer);
    return code;
}

static int is_named(const synth_file *file, const flin_packing_tensor *tensor, const char *ending)
{
    const char *name = file->writer.tensors[tensor->target].name;
    size_t bytes = strlen(name), ending_bytes = strlen(ending);

    return bytes >= ending_bytes && strcmp(name + bytes - ending_bytes, ending) == 0;
}

static int write_matrix(synth_file *file, const flin_packing_tensor *tensor,
                        flashinfer_error *error)
{
    static const char *const endings[SYNTH_MATRIX_COUNT] = {
        "token_embd.weight", "position_embd.weight", "attn_q.weight",
        "attn_k.weight",     "attn_v.weight",        "attn_output.weight"};
    uint32_t width = file->packing.shape.width,
             layer = tensor->layer < 0 ? 0 : (uint32_t)tensor->layer;
    uint64_t rows = tensor->count / width;
    int matrix = 0, code = 0;

    while (!is_named(file, tensor, endings[matrix])) matrix++;
    flin_gguf_write_begin(&file->writer, tensor->target, 1);
    for (uint64_t first = 0; first < rows && code == 0; first += ROWS) {
        uint32_t count = rows - first < ROWS ? (uint32_t)(rows - first) : ROWS;
        synth_matrix_rows(&file->weights, (enum synth_matrix)matrix, layer, (uint32_t)first, count,
                          file->rows);
        file->kernels->from_float[tensor->type](file->rows, count * width, file->bytes);
        code = flin_gguf_write(&file->writer, file->bytes,
                               flin_type_bytes(tensor->type, (uint64_t)count * width), error);
    }
    if (code == 0) flin_gguf_write_end(&file->writer);
    return code;
}

static int write_vector(synth_file *file, const flin_packing_tensor *tensor,
                        flashinfer_error *error)
{
    float *values = malloc((size_t)tensor->count * sizeof *values);
    int code;

    if (values == NULL) return flin_fail(error, FLASHINFER_ENOMEM, "no memory for a vector");
    for (uint64_t i = 0; i < tensor->count; i++) values[i] = tensor->fill;
    code = write_whole(file, tensor->target, values, tensor->count * sizeof *values, error);
    free(values);
    return code;
}

/* ------------------------------------------------------------------------------------------ FFN */

/* Tiles [first_tile, first_tile + tile_count) of the layer: ROWS neurons each, but for the last. */
typedef struct batch_task {
    synth_file *file;
    uint32_t first_tile, tile_count;
    _Atomic uint32_t next; /* of them, to be made by whoever is free */
    _Atomic int code;
} batch_task;

/* One tile: bundles with their checksums, their part of the sketch, their mean output. */
static int make_tile(synth_file *file, uint32_t tile, uint32_t place, uint32_t thread)
{
    const flin_packing *packing = &file->packing;
    const flin_shape *shape = &packing->shape;
    size_t part = (size_t)shape->bundle.parts[0].bytes, stride = (size_t)shape->bundle.stride_bytes;
    uint64_t tile_bytes = flin_sketch_tile_bytes(shape->width, packing->choices.sketch_bits);
    uint32_t first = tile * ROWS, left = shape->ffn - first;
    uint32_t count = left < ROWS ? left : ROWS;
    float *rows = file->rows + (size_t)thread * ROWS * shape->width;
    uint8_t *bytes = file->bytes + (size_t)place * ROWS * stride;
    enum flin_type type = packing->choices.ffn;
    int code;

    synth_up_rows(&file->weights, first, count, rows);
    for (uint32_t i = 0; i < count; i++) { /* the sketch is of what is stored */
        float *row = rows + (size_t)i * shape->width;
        file->kernels->from_float[type](row, shape->width, bytes + i * stride);
        file->kernels->to_float[type](bytes + i * stride, shape->width, row);
    }
    code = flin_sketch_maker_tile(&file->makers[thread], rows, file->weights.up_bias + first, count,
                                  file->tiles + tile * tile_bytes, file->sketch_bias + first, NULL);
    synth_down_columns(&file->weights, first, count, rows,
                       file->means + (size_t)place * shape->width);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *bundle = bytes + i * stride;
        uint64_t *sums = file->sums + (size_t)(first + i) * SYNTH_PARTS;
        file->kernels->from_float[type](rows + (size_t)i * shape->width, shape->width,
                                        bundle + part);
        memset(bundle + 2 * part, 0, stride - 2 * part);
        sums[0] = flin_hash(bundle, part);
        sums[1] = flin_hash(bundle + part, part);
    }
    return code;
}

static void make_batch(void *context, uint32_t index, uint32_t count)
{
    batch_task *task = context;
    uint32_t place;

    (void)count;
    while ((place = atomic_fetch_add(&task->next, 1)) < task->tile_count) {
        int code = make_tile(task->file, task->first_tile + place, place, index);
        if (code != 0) atomic_store(&task->code, code);
    }
}

/* Bundles in file order, and the down bias that takes the mean of their sum away. */
static int write_bundles(synth_file *file, uint32_t target, flashinfer_error *error)
{
    const flin_packing *packing = &file->packing;
    const flin_shape *shape = &packing->shape;
    uint32_t tiles = (shape->ffn + ROWS - 1) / ROWS, most = file->batch_tiles;

    memset(file->down_bias, 0, shape->width * sizeof(float));
    flin_gguf_write_begin(&file->writer, target, 0);
    for (uint32_t tile = 0; tile < tiles; tile += most) {
        batch_task task = {file, tile, tiles - tile < most ? tiles - tile : most, 0, 0};
        uint32_t left = shape->ffn - tile * ROWS;
        uint32_t rows = left < task.tile_count * ROWS ? left : task.tile_count * ROWS;
        int code;
        flin_pool_run(&file->pool, make_batch, &task);
        code = atomic_load(&task.code);
        if (code != 0) return flin_fail(error, code, "a row cannot be sketched");
        for (size_t i = 0; i < (size_t)task.tile_count * shape->width; i++)
            file->down_bias[i % shape->width] -= file->means[i];
        code =
            flin_gguf_write(&file->writer, file->bytes, rows * shape->bundle.stride_bytes, error);
        if (code != 0) return code;
    }
    flin_gguf_write_end(&file->writer);
    return 0;
}

/* The biases of the FFN, which the loop over resident tensors left for here. */
static int write_biases(synth_file *file, uint32_t layer, flashinfer_error *error)
{
    const flin_packing *packing = &file->packing;
    int code = 0;

    for (uint32_t i = 0; i < packing->tensor_count && code == 0; i++) {
        const flin_packing_tensor *tensor = &packing->tensors[i];
        if (tensor->layer != (int32_t)layer) continue;
        if (is_named(file, tensor, "ffn_up.bias"))
            code = write_whole(file, tensor->target, file->weights.up_bias,
                               tensor->count * sizeof(float), error);
        else if (is_named(file, tensor, "ffn_down.bias"))
            code = write_whole(file, tensor->target, file->down_bias, tensor->count * sizeof(float),
                               error);
    }
    return code;
}

static int write_ffn(synth_file *file, uint32_t layer, flashinfer_error *error)
{
    const flin_packing *packing = &file->packing;
    const flin_shape *shape = &packing->shape;
    const flin_packing_ffn *ffn = &packing->ffns[layer];
    uint64_t neurons = shape->ffn;
    int code;

    synth_layer(&file->weights, layer);
    code = write_bundles(file, ffn->bundle, error);
    if (code == 0)
        code = write_whole(file, ffn->bundle_sums, file->sums,
                           neurons * SYNTH_PARTS * sizeof *file->sums, error);
    file->writer.tensors[ffn->bundle].sum = file->writer.tensors[ffn->bundle_sums].sum;
    if (code == 0)
        code = write_whole(
            file, ffn->sketch_weight, file->tiles,
            flin_sketch_bytes(shape->ffn, shape->width, packing->choices.sketch_bits), error);
    if (code == 0)
        code =
            write_whole(file, ffn->sketch_bias, file->sketch_bias, neurons * sizeof(float), error);
    if (code == 0)
        code = write_whole(file, ffn->sketch_scale, file->makers[0].column_scale,
                           shape->width * sizeof(float), error);
    return code != 0 ? code : write_biases(file, layer, error);
}

/* --------------------------------------------------------------------------------------- margin */

/* Standard deviation of the sketch's error of a pre-activation, from a tile of real rows: a margin
   of 1 raises a bias by just that. */
static int measure_error(synth_file *file, double *spread, flashinfer_error *error)
{
    uint32_t count = file->packing.shape.ffn < ROWS ? file->packing.shape.ffn : ROWS;
    flin_sketch_maker maker;
    int code = flin_sketch_maker_open(&maker, file->packing.shape.width,
                                      file->packing.choices.sketch_bits, NULL, NULL, 1.0f, error);

    if (code != 0) return code;
    synth_layer(&file->weights, 0);
    synth_up_rows(&file->weights, 0, count, file->rows);
    code = flin_sketch_maker_tile(&maker, file->rows, NULL, count, file->tiles, file->sketch_bias,
                                  error);
    flin_sketch_maker_close(&maker);
    *spread = 0;
    for (uint32_t i = 0; i < count && code == 0; i++)
        *spread += (double)file->sketch_bias[i] / count;
    return code;
}

/* The margin with which the sketch names the wanted share: score - threshold is normal with mean -m
   and variance 1 + S + error. */
static int choose_margin(synth_file *file, flashinfer_error *error)
{
    double middle = synth_upper_quantile(SYNTH_ACTIVE_SHARE) * sqrt(1 + SYNTH_THRESHOLD_VARIANCE);
    double wanted = file->options->named_share, spread, margin;
    int code;

    file->margin = FLIN_SKETCH_MARGIN;
    if (wanted <= 0) return 0;
    code = measure_error(file, &spread, error);
    if (code != 0) return code;
    margin = (middle -
              synth_upper_quantile(wanted) * sqrt(1 + SYNTH_THRESHOLD_VARIANCE + spread * spread)) /
             spread;
    if (margin < 0)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "a sketch of %u bits that names only %.2g%% would miss firing neurons",
                         file->options->sketch_bits, 100 * wanted);
    file->margin = (float)margin;
    return 0;
}

/* ------------------------------------------------------------------------------------ the story */

static int allocate(synth_file *file, flashinfer_error *error)
{
    const flin_packing *packing = &file->packing;
    const flin_shape *shape = &packing->shape;
    size_t neurons = shape->ffn, width = shape->width, threads = file->options->threads;
    size_t sketch_bytes =
        (size_t)flin_sketch_bytes(shape->ffn, shape->width, packing->choices.sketch_bits);

    size_t batch = threads * TILES_PER_THREAD, rows = ROWS * width * sizeof(float);
    size_t bundles = batch * ROWS * (size_t)shape->bundle.stride_bytes;

    file->batch_tiles = (uint32_t)batch;
    file->makers = calloc(threads, sizeof *file->makers);
    file->rows = malloc(threads * ROWS * width * sizeof(float));
    file->bytes = malloc(bundles > rows ? bundles : rows);
    file->means = malloc(file->batch_tiles * width * sizeof(float));
    file->down_bias = malloc(width * sizeof(float));
    file->sums = malloc(neurons * SYNTH_PARTS * sizeof *file->sums);
    file->tiles = malloc(sketch_bytes);
    file->sketch_bias = malloc((neurons + ROWS) * sizeof(float));
    if (file->makers == NULL || file->rows == NULL || file->bytes == NULL || file->means == NULL ||
        file->down_bias == NULL || file->sums == NULL || file->tiles == NULL ||
        file->sketch_bias == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for a layer's sketch and checksums");
    return flin_pool_open(&file->pool, (uint32_t)threads, error);
}

/* The norms' weights are 1 and their biases 0. */
static int open_makers(synth_file *file, flashinfer_error *error)
{
    int code = 0;

    for (uint32_t i = 0; i < file->options->threads && code == 0; i++)
        code = flin_sketch_maker_open(&file->makers[i], file->packing.shape.width,
                                      file->packing.choices.sketch_bits, NULL, NULL, file->margin,
                                      error);
    return code;
}

static int lay_out(synth_file *file, const char *path, flashinfer_error *error)
{
    const synth_options *options = file->options;
    flin_packing_choices choices = {FLIN_F16, FLIN_F16, options->sketch_bits, NULL};
    int code = describe(file, error);

    (void)flin_type_from_dtype(options->dtype_resident, &choices.resident);
    (void)flin_type_from_dtype(options->dtype_ffn, &choices.ffn);
    configure(file);
    if (code == 0)
        code = flin_packing_map(&file->packing, &file->checkpoint, &file->source, &choices,
                                &file->writer, error);
    if (code != 0) return code;
    flin_packing_put_keys(&file->packing, &file->checkpoint, &file->writer);
    flin_gguf_put_string(&file->writer, "general.description", options->description);
    code = put_tokenizer(file, error);
    return code != 0 ? code : flin_gguf_writer_create(&file->writer, path, error);
}

static int write_all(synth_file *file, flashinfer_error *error)
{
    const flin_packing *packing = &file->packing;
    const flin_shape *shape = &packing->shape;
    int code = 0;

    for (uint32_t i = 0; i < packing->tensor_count && code == 0; i++) {
        const flin_packing_tensor *tensor = &packing->tensors[i];
        if (tensor->source != NULL)
            code = write_matrix(file, tensor, error);
        else if (!is_named(file, tensor, "ffn_up.bias") && !is_named(file, tensor, "ffn_down.bias"))
            code = write_vector(file, tensor, error);
    }
    for (uint32_t layer = 0; layer < shape->layers && code == 0; layer++)
        code = write_ffn(file, layer, error);
    return code != 0 ? code : flin_gguf_writer_finish(&file->writer, error);
}

static void release(synth_file *file)
{
    for (uint32_t i = 0; file->makers != NULL && i < file->options->threads; i++)
        flin_sketch_maker_close(&file->makers[i]);
    free(file->makers);
    free(file->means);
    free(file->down_bias);
    flin_pool_close(&file->pool);
    flin_gguf_writer_close(&file->writer);
    flin_packing_release(&file->packing);
    synth_weights_close(&file->weights);
    free(file->tensors);
    free(file->names);
    free(file->rows);
    free(file->bytes);
    free(file->sums);
    free(file->tiles);
    free(file->sketch_bias);
}

int synth_write(const char *path, const synth_options *options, synth_result *result,
                flashinfer_error *error)
{
    synth_file file;
    int code;

    memset(&file, 0, sizeof file);
    file.options = options;
    file.kernels = flin_kernels_choose(FLASHINFER_KERNELS_DEFAULT);
    flin_gguf_writer_begin(&file.writer);
    code = synth_weights_open(&file.weights, &options->shape, options->seed, error);
    if (code == 0) code = lay_out(&file, path, error);
    if (code == 0) code = allocate(&file, error);
    if (code == 0) code = choose_margin(&file, error);
    if (code == 0) code = open_makers(&file, error);
    if (code == 0) code = write_all(&file, error);
    if (code == 0 && result != NULL) {
        result->file_bytes = file.writer.file_bytes;
        result->sketch_margin = file.margin;
    }
    release(&file);
    return code;
}
