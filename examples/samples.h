/*
 * samples.h - FFN inputs of windows spread evenly over a text, as a model that runs over it has them.
 *
 * They lie in a mapped file, so memory stays bounded by what is looked at, and an interrupted run goes on after the last
 * window.
 */
#ifndef EXAMPLES_SAMPLES_H
#define EXAMPLES_SAMPLES_H

#include "flashinfer.h"

typedef struct samples {
    uint32_t layers, width;
    uint32_t window, windows; /* tokens in a row; how many such pieces of the text */
    int fd;
    char *path;
    struct samples_head *head; /* mapped */
    uint64_t mapped_bytes;
    float *data; /* (windows, layers, window, width) */
} samples;

static inline uint32_t samples_count(const samples *at)
{
    return at->windows * at->window;
}

/* One layer's inputs in one window: (window, width). */
static inline const float *samples_of(const samples *at, uint32_t window, uint32_t layer)
{
    return at->data + ((uint64_t)window * at->layers + layer) * at->window * at->width;
}

/* Where window number `window` begins in a text of count tokens. */
size_t samples_begin(const samples *at, uint32_t window, size_t count);

/* path: ".samples" is appended. key: of model, text and options: samples of another are not gone on with, nor any if it
   is 0. at->window and at->windows are set, at is else zero. 0, or 1 after a line on stderr. */
int samples_open(samples *at, const flashinfer_info *info, const char *path, uint64_t key);

/* An ffn_input callback; user: the samples. */
void samples_take(const flashinfer_ffn_input *input, void *user);

/* For a caller that runs the model itself: tokens of a window follow; they were all there. An ended window that is short
   of tokens does not count. Nothing to do for a zeroed one. */
void samples_begin_window(samples *at);
void samples_end_window(samples *at);

/* Run the model over the windows of ids (count) that are not there yet, with progress on stderr. */
int samples_run(samples *at, flashinfer_session *session, const int32_t *ids, size_t count,
                flashinfer_error *error);

/* Unmap; complete: the file is of no more use. A zeroed one is fine. */
void samples_close(samples *at, int complete);

#endif
