/*
 * pack.c - the story: read what the checkpoint says it is, check every tensor, fix the file's
 * layout, transfer.
 *
 * Nothing is written, and no callback fires, before all that can be known from the small files has
 * been checked.
 */
#define _GNU_SOURCE
#include "pack/pack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/gguf.h"
#include "model/shape.h"
#include "pack/checkpoint.h"
#include "pack/directory.h"
#include "pack/map.h"
#include "pack/order.h"
#include "pack/safetensors.h"
#include "pack/tokenizer_export.h"
#include "pack/transfer.h"
#include "predictor/sketch_make.h"

static int check_dtype(const char *field, uint32_t dtype, flashinfer_error *error)
{
    enum flin_type type;

    if (dtype == FLASHINFER_DTYPE_DEFAULT || flin_type_from_dtype(dtype, &type)) return 0;
    return flin_fail(error, FLASHINFER_EINVAL, "%s %u is unknown; use a FLASHINFER_DTYPE_...",
                     field, dtype);
}

static int check_arguments(const char *checkpoint, const char *path,
                           const flashinfer_pack_options *options, flashinfer_error *error)
{
    if (checkpoint == NULL || checkpoint[0] == '\0')
        return flin_fail(error, FLASHINFER_EINVAL, "no checkpoint directory was given");
    if (path == NULL || path[0] == '\0')
        return flin_fail(error, FLASHINFER_EINVAL, "no file to write was given");
    if (check_dtype("dtype", options->dtype, error) != 0 ||
        check_dtype("dtype_resident", options->dtype_resident, error) != 0 ||
        check_dtype("dtype_ffn", options->dtype_ffn, error) != 0)
        return FLASHINFER_EINVAL;
    if (options->sketch_bits > 4)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "sketch_bits is %u; it may be 1 to 4, or 0 for the default",
                         options->sketch_bits);
    if (options->no_sketch > 1)
        return flin_fail(error, FLASHINFER_EINVAL, "no_sketch is %u; it may be 0 or 1",
                         options->no_sketch);
    return 0;
}

/* The checkpoint's own name for the model, else its directory's. */
static void choose_name(flin_checkpoint *named, const char *directory)
{
    char *full;

    if (named->name[0] != '\0') return;
    full = realpath(directory, NULL);
    if (full != NULL) flin_checkpoint_set_name(named, full);
    free(full);
}

static int is_same_file(const struct stat *left, const struct stat *right)
{
    return left->st_dev == right->st_dev && left->st_ino == right->st_ino;
}

/* Is the file another name of one in the directory that is no model file of ours? */
static int is_in_directory(int directory, const struct stat *file)
{
    int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *entry;
    int found = 0;

    if (entries == NULL) {
        if (copy >= 0) (void)close(copy);
        return 0;
    }
    while (!found && (entry = readdir(entries)) != NULL) {
        const char *ending = strrchr(entry->d_name, '.');
        struct stat other;
        if (ending != NULL && strcmp(ending, ".gguf") == 0) continue;
        found = fstatat(directory, entry->d_name, &other, 0) == 0 && is_same_file(&other, file);
    }
    (void)closedir(entries);
    return found;
}

/* Writing over a part of the checkpoint would destroy it. */
static int check_not_source(const char *path, int directory, const flin_safetensors *source,
                            flashinfer_error *error)
{
    struct stat status;
    int is_source;

    if (stat(path, &status) != 0 || !S_ISREG(status.st_mode)) return 0;
    is_source = is_in_directory(directory, &status);
    for (uint32_t i = 0; i < source->file_count && !is_source; i++) {
        struct stat weights;
        is_source = fstat(source->files[i].fd, &weights) == 0 && is_same_file(&weights, &status);
    }
    if (!is_source) return 0;
    return flin_fail(error, FLASHINFER_EINVAL,
                     "%s is part of the checkpoint; choose another file to write", path);
}

/* Silence would look like a file that runs faster than it does. */
static void tell_of_no_sketch(const flashinfer_pack_options *options, const flin_shape *shape)
{
    char text[256];

    if (options->no_sketch || flin_activation_has_zeros(&shape->activation)) return;
    (void)snprintf(text, sizeof text,
                   "no sketch is made: every neuron fires under the activation %s, so there is "
                   "nothing to predict and every token reads all that is not in memory",
                   flin_activation_name(shape->activation.kind));
    options->log(FLASHINFER_LOG_WARNING, text, options->log_user);
}

static void tell(const flashinfer_pack_options *options, const flin_checkpoint *checkpoint,
                 const flin_gguf_writer *writer)
{
    const flin_shape *shape = &checkpoint->shape;
    char text[256];

    if (options->log == NULL) return;
    (void)snprintf(text, sizeof text,
                   "packing %s: %u layers of %u, %u FFN neurons each, %llu bytes",
                   checkpoint->name[0] != '\0' ? checkpoint->name : shape->architecture,
                   shape->layers, shape->width, shape->ffn, (unsigned long long)writer->file_bytes);
    options->log(FLASHINFER_LOG_INFO, text, options->log_user);
    tell_of_no_sketch(options, shape);
}

/* Every byte of the file, in an order that reads each weight file mostly forward. */
static int transfer_all(flin_transfer *transfer, flashinfer_error *error)
{
    const flin_packing *packing = transfer->packing;
    int code = flin_transfer_tick(transfer, 0, error);

    if (code == 0) code = flin_transfer_check_head(transfer, error);
    for (uint32_t i = 0; i < packing->tensor_count && code == 0; i++)
        code = flin_transfer_tensor(transfer, &packing->tensors[i], error);
    for (uint32_t layer = 0; layer < packing->shape.layers && code == 0; layer++) {
        if (packing->choices.sketch_bits != 0) code = flin_transfer_sketch(transfer, layer, error);
        if (code == 0) code = flin_transfer_bundles(transfer, layer, error);
    }
    return code;
}

/* All is settled: make the file. */
static int write_file(const char *path, const flin_checkpoint *checkpoint,
                      const flin_source *source, const flin_packing *packing,
                      flin_gguf_writer *writer, const flashinfer_pack_options *options,
                      flashinfer_error *error)
{
    flin_transfer transfer;
    int code = flin_gguf_writer_create(writer, path, error);

    if (code != 0) return code;
    tell(options, checkpoint, writer);
    code = flin_transfer_open(&transfer, source, packing, writer, options, error);
    if (code == 0) code = transfer_all(&transfer, error);
    flin_transfer_close(&transfer);
    return code != 0 ? code : flin_gguf_writer_finish(writer, error);
}

static flin_packing_choices choose(const flashinfer_pack_options *options)
{
    flin_packing_choices choices = {FLIN_F16, FLIN_F16, FLIN_SKETCH_BITS_DEFAULT, options->order};

    /* numbers that are 0 name no type and change none */
    (void)flin_type_from_dtype(options->dtype, &choices.resident);
    (void)flin_type_from_dtype(options->dtype, &choices.ffn);
    (void)flin_type_from_dtype(options->dtype_resident, &choices.resident);
    (void)flin_type_from_dtype(options->dtype_ffn, &choices.ffn);
    if (options->sketch_bits != 0) choices.sketch_bits = options->sketch_bits;
    if (options->no_sketch) choices.sketch_bits = 0;
    return choices;
}

static int check_order(const flashinfer_order *order, const flin_shape *shape,
                       flashinfer_error *error)
{
    if (order == NULL || flin_order_fits(order, shape->layers, shape->ffn)) return 0;
    return flin_fail(error, FLASHINFER_EINVAL,
                     "the order was learned from a model of other dimensions than this one's %u "
                     "layers of %u neurons",
                     shape->layers, shape->ffn);
}

static int pack_directory(int directory, const char *path, const char *to,
                          const flashinfer_pack_options *options, flin_safetensors *set,
                          flin_packing *packing, flin_gguf_writer *writer, flashinfer_error *error)
{
    flin_packing_choices choices = choose(options);
    flin_checkpoint checkpoint;
    int code = flin_checkpoint_load(&checkpoint, directory, error);

    if (code != 0) return code;
    choose_name(&checkpoint, path);
    if ((code = check_order(options->order, &checkpoint.shape, error)) != 0) return code;
    code = flin_safetensors_open(set, directory, error);
    if (code == 0) code = check_not_source(to, directory, set, error);
    if (code == 0)
        code = flin_packing_map(packing, &checkpoint, &set->source, &choices, writer, error);
    if (code != 0) return code;
    flin_packing_put_keys(packing, &checkpoint, writer);
    code = flin_tokenizer_export(writer, directory, &checkpoint, error);
    return code != 0 ? code
                     : write_file(to, &checkpoint, &set->source, packing, writer, options, error);
}

int flin_pack(const char *checkpoint, const char *path, const flashinfer_pack_options *options,
              flashinfer_error *error)
{
    flin_safetensors set;
    flin_packing packing;
    flin_gguf_writer writer;
    int directory;
    int code = check_arguments(checkpoint, path, options, error);

    if (code == 0) code = flin_directory_open(checkpoint, &directory, error);
    if (code != 0) return code;
    memset(&set, 0, sizeof set);
    memset(&packing, 0, sizeof packing);
    flin_gguf_writer_begin(&writer);
    code = pack_directory(directory, checkpoint, path, options, &set, &packing, &writer, error);
    flin_gguf_writer_close(&writer);
    flin_packing_release(&packing);
    flin_safetensors_close(&set);
    (void)close(directory);
    return code;
}
