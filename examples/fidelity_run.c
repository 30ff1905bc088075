/*
 * fidelity_run.c - the exact model and its rivals, token by token side by side; afterwards the curves.
 */
#include <math.h>
#include <string.h>

#include "fidelity.h"
#include "program.h"
#include "windows.h"

static size_t likeliest(const float *logits, size_t vocab)
{
    size_t best = 0;

    for (size_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/* Kullback-Leibler divergence, in nats. logs: of the sums of exponentials. */
static double divergence(const float *exact, double exact_log, const float *other, double other_log,
                         size_t vocab)
{
    double sum = 0;

    for (size_t i = 0; i < vocab; i++) {
        double log_p = (double)exact[i] - exact_log, log_q = (double)other[i] - other_log;
        sum += exp(log_p) * (log_p - log_q);
    }
    return sum;
}

/* One token through all models, the next one scored. */
static int compare(fidelity *at, int32_t token, int32_t next, flashinfer_error *error)
{
    int code = flashinfer_step(at->exact.session, token, error);
    const float *exact;
    size_t vocab;
    double exact_log;

    if (code != 0) return code;
    exact = flashinfer_logits(at->exact.session, &vocab);
    if (next < 0 || (size_t)next >= vocab) return flashinfer_step(at->exact.session, next, error);
    exact_log = windows_log_sum(exact, vocab);
    at->exact.nll += exact_log - (double)exact[next];
    for (uint32_t i = 0; i < at->count; i++) {
        fidelity_subject *subject = &at->subjects[i];
        const float *logits;
        double logits_log;
        code = flashinfer_step(subject->session, token, error);
        if (code != 0) return code;
        logits = flashinfer_logits(subject->session, NULL);
        logits_log = windows_log_sum(logits, vocab);
        subject->nll += logits_log - (double)logits[next];
        subject->kl += divergence(exact, exact_log, logits, logits_log, vocab);
        subject->same_top += likeliest(logits, vocab) == likeliest(exact, vocab);
    }
    at->tokens++;
    return 0;
}

static int run_window(fidelity *at, const int32_t *ids, size_t count, flashinfer_error *error)
{
    int code = flashinfer_session_rewind(at->exact.session, 0, error);

    for (uint32_t i = 0; i < at->count && code == 0; i++)
        code = flashinfer_session_rewind(at->subjects[i].session, 0, error);
    for (size_t i = 0; i + 1 < count && code == 0; i++)
        code = compare(at, ids[i], ids[i + 1], error);
    return code;
}

int fidelity_run(fidelity *at, const int32_t *ids, size_t count, uint32_t window_tokens,
                 uint32_t windows, flashinfer_error *error)
{
    uint64_t all = (count + window_tokens - 1) / window_tokens;
    double since = program_seconds();
    int code = 0;

    if (all > windows) all = windows;
    for (uint64_t i = 0; i < all && code == 0; i++) {
        size_t begin = (size_t)i * window_tokens, left = count - begin;
        size_t length = left < window_tokens ? left : window_tokens;
        if (length < 2) break;
        samples_begin_window(&at->inputs);
        code = run_window(at, ids + begin, length, error);
        samples_end_window(&at->inputs);
        (void)fprintf(stderr, "\rwindow %llu of %llu, %.0f s left   ", (unsigned long long)i + 1,
                      (unsigned long long)all,
                      (program_seconds() - since) * (double)(all - i - 1) / (double)(i + 1));
    }
    (void)fprintf(stderr, "\n");
    return code;
}

/* --------------------------------------------------------------------------------------- curves */

static int add_points(fidelity *at, fidelity_subject *subject, judge *by,
                      const flashinfer_predictor *predictor, flashinfer_error *error)
{
    judge_point points[JUDGE_RECALLS];
    int code = judge_look(by, predictor, error);

    if (code != 0) return code;
    for (uint32_t k = 0; k < JUDGE_RECALLS; k++) points[k].recall = judge_recalls[k];
    judge_points(by, points, JUDGE_RECALLS);
    for (uint32_t k = 0; k < JUDGE_RECALLS; k++) {
        subject->curve[k][0] += points[k].recall / at->info.layer_count;
        subject->curve[k][1] += points[k].share / at->info.layer_count;
    }
    return 0;
}

int fidelity_curves(fidelity *at, uint32_t threads, flashinfer_error *error)
{
    flashinfer_predictor *predictors[FIDELITY_SUBJECTS] = {NULL};
    int code = 0;

    for (uint32_t i = 0; i < at->count && code == 0; i++)
        code = flashinfer_predictor_copy(at->subjects[i].model, &predictors[i], error);
    for (uint32_t layer = 0; layer < at->info.layer_count && code == 0; layer++) {
        judge by;
        code = judge_open(&by, at->exact.model, layer, &at->inputs, threads, error);
        for (uint32_t i = 0; i < at->count && code == 0; i++)
            code = add_points(at, &at->subjects[i], &by, predictors[i], error);
        judge_close(&by);
        (void)fprintf(stderr, "\rcurves: layer %u of %u ", layer + 1, at->info.layer_count);
    }
    (void)fprintf(stderr, "\n");
    for (uint32_t i = 0; i < at->count; i++) flashinfer_predictor_destroy(predictors[i]);
    return code;
}

/* ---------------------------------------------------------------------------------------- sums */

fidelity_layer fidelity_sum(const fidelity *at, const fidelity_subject *subject)
{
    fidelity_layer sum = {0};

    for (uint32_t i = 0; i < at->info.layer_count; i++) {
        const fidelity_layer *layer = &subject->layers[i];
        sum.steps += layer->steps;
        sum.predicted += layer->predicted;
        sum.active += layer->active;
        sum.missed += layer->missed;
        sum.output_square += layer->output_square;
        sum.missed_square += layer->missed_square;
    }
    return sum;
}

double fidelity_recall(const fidelity_layer *layer)
{
    return layer->active != 0 ? 1 - (double)layer->missed / (double)layer->active : 1;
}
