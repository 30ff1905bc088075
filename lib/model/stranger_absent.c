/*
 * stranger_absent.c - a build without the names of strangers: every error keeps its first words.
 */
#include "model/stranger.h"

const flin_stranger *flin_stranger_of(const uint8_t *head, size_t bytes)
{
    (void)head;
    (void)bytes;
    return NULL;
}

int flin_stranger_explain(flin_storage *storage, const char *path, enum flin_wanted wanted,
                          int code, flashinfer_error *error)
{
    (void)storage;
    (void)path;
    (void)wanted;
    (void)error;
    return code;
}
