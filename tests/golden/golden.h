/*
 * golden.h - what tests against golden data share: reading it, and how well a session predicts one of its windows.
 */
#ifndef TESTS_GOLDEN_H
#define TESTS_GOLDEN_H

#include <math.h>

#include "support.h"

#define WINDOW 512
#define WINDOWS 16

static const char *golden_dir; /* output of npz_to_raw.py */

static inline void *golden(const char *name, size_t *bytes)
{
    char path[1024];
    void *data;

    (void)snprintf(path, sizeof path, "%s/%s.raw", golden_dir, name);
    data = read_file(path, bytes);
    if (data == NULL) fail_msg("cannot read %s", path);
    return data;
}

/* A token's mean negative log likelihood, all but the first. */
static inline double window_nll(flashinfer_session *session, const int32_t *ids)
{
    flashinfer_error error;
    double sum = 0;

    flashinfer_error_init(&error, sizeof error);
    assert_ok(flashinfer_session_rewind(session, 0, &error));
    for (int i = 0; i + 1 < WINDOW; i++) {
        size_t vocab;
        const float *logits;
        double total = 0;
        assert_ok(flashinfer_step(session, ids[i], &error));
        logits = flashinfer_logits(session, &vocab);
        for (size_t v = 0; v < vocab; v++) total += exp((double)logits[v]);
        sum += log(total) - (double)logits[ids[i + 1]];
    }
    return sum / (WINDOW - 1);
}

#endif
