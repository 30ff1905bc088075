/*
 * directory.c - see directory.h. People give a file of a checkpoint, the folder around it, or a
 * checkpoint of another form.
 */
#define _GNU_SOURCE
#include "pack/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/stranger.h"

#define CONFIG "config.json"
#define NAME_BYTES_MAX 256 /* of an entry, its end included */
#define SAVE_AGAIN "save the model as safetensors with transformers' save_pretrained() first"

/* Which entry tells what a directory without config.json is. */
static const struct form {
    const char *entry;
    const char *text; /* after its path */
} forms[] = {
    {"adapter_config.json", "holds a LoRA adapter, not a whole model: merge it into its model with "
                            "peft's merge_and_unload() and save that with save_pretrained() first"},
    {"model_index.json", "holds a pipeline of diffusers, which makes pictures, and no language "
                         "model"},
    {"params.json", "holds a checkpoint in Meta's own form: fetch the one for transformers, whose "
                    "name often ends in -hf"},
    {"snapshots", "is a folder of Hugging Face's cache: give the one below its snapshots/"},
    {"model.safetensors", "has weights but no " CONFIG ": fetch all files of the checkpoint"},
    {"model.safetensors.index.json",
     "has weights but no " CONFIG ": fetch all files of the checkpoint"},
    {"tokenizer.json", "has a tokenizer but no " CONFIG ": fetch all files of the checkpoint"},
    {"tokenizer.model", "has a tokenizer but no " CONFIG ": fetch all files of the checkpoint"},
};

/* A name in the directory below which a checkpoint lies; 0: none, else it is in name. */
static int find_inner(int directory, char *name, size_t capacity)
{
    int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = copy >= 0 ? fdopendir(copy) : NULL;
    const struct dirent *entry;
    char path[NAME_BYTES_MAX + sizeof "/" CONFIG];
    int found = 0;

    if (entries == NULL) {
        if (copy >= 0) (void)close(copy);
        return 0;
    }
    while (!found && (entry = readdir(entries)) != NULL) {
        if (entry->d_name[0] == '.' || strlen(entry->d_name) >= capacity) continue;
        (void)snprintf(path, sizeof path, "%s/" CONFIG, entry->d_name);
        found = faccessat(directory, path, F_OK, 0) == 0;
        if (found) (void)snprintf(name, capacity, "%s", entry->d_name);
    }
    (void)closedir(entries);
    return found;
}

static int refuse_directory(const char *path, int directory, flashinfer_error *error)
{
    char inner[NAME_BYTES_MAX];

    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        if (faccessat(directory, forms[i].entry, F_OK, 0) == 0)
            return flin_fail(error, FLASHINFER_ECHECKPOINT, "%.200s %s", path, forms[i].text);
    if (find_inner(directory, inner, sizeof inner))
        return flin_fail(error, FLASHINFER_ECHECKPOINT,
                         "%.200s is the folder around a checkpoint: give the one that lies in it, "
                         "%.100s",
                         path, inner);
    return flin_fail(error, FLASHINFER_ECHECKPOINT,
                     "%.200s is a directory without " CONFIG ", not a checkpoint of Hugging Face's "
                     "form, which has " CONFIG ", model.safetensors and tokenizer.json",
                     path);
}

/* The path leads to something that is no directory. */
static int refuse_file(const char *path, flashinfer_error *error)
{
    uint8_t head[FLIN_STRANGER_HEAD_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    const flin_stranger *stranger = NULL;
    struct stat status;
    ssize_t got = 0;

    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
        got = read(fd, head, sizeof head);
        if (got > 0) stranger = flin_stranger_of(head, (size_t)got);
    }
    if (fd >= 0) (void)close(fd);
    if (stranger == NULL)
        return flin_fail_errno(error, FLASHINFER_ECHECKPOINT, ENOTDIR,
                               "%.200s is a file, not the directory of a checkpoint (" CONFIG
                               ", model.safetensors, tokenizer.json)",
                               path);
    return flin_fail(error, FLASHINFER_ECHECKPOINT,
                     "%.200s is %s, not the directory of a checkpoint: %s", path, stranger->what,
                     stranger->advice);
}

int flin_directory_open(const char *path, int *directory, flashinfer_error *error)
{
    *directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*directory < 0 && errno == ENOTDIR) return refuse_file(path, error);
    if (*directory < 0 && errno == ENOENT)
        return flin_fail_errno(error, FLASHINFER_ECHECKPOINT, ENOENT,
                               "%.200s is not a directory on this machine; a checkpoint is "
                               "downloaded first, by other means",
                               path);
    if (*directory < 0)
        return flin_fail_errno(error, FLASHINFER_EIO, errno, "cannot open the checkpoint %s", path);
    if (faccessat(*directory, CONFIG, F_OK, 0) == 0 || errno != ENOENT) return 0;
    (void)refuse_directory(path, *directory, error);
    (void)close(*directory);
    *directory = -1;
    return FLASHINFER_ECHECKPOINT;
}

int flin_directory_refuse_weights(int directory, flashinfer_error *error)
{
    static const char *const others[] = {"pytorch_model.bin",
                                         "pytorch_model.bin.index.json",
                                         "consolidated.safetensors",
                                         "consolidated.00.pth",
                                         "tf_model.h5",
                                         "flax_model.msgpack"};

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (faccessat(directory, others[i], F_OK, 0) == 0)
            return flin_fail(error, FLASHINFER_ECHECKPOINT,
                             "the checkpoint has its weights as %s, and neither model.safetensors "
                             "nor model.safetensors.index.json: " SAVE_AGAIN,
                             others[i]);
    return flin_fail(error, FLASHINFER_ECHECKPOINT,
                     "the checkpoint has no weights, neither model.safetensors nor "
                     "model.safetensors.index.json: fetch all its files, or " SAVE_AGAIN);
}
