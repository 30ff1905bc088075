/*
 * judge.c - see judge.h.
 */
#include "judge.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define THREADS_MAX 64u
#define POINTS_MAX 16u
#define SLOPE_MIN 1e-4 /* of spread(z) / spread(s): below, a score says nothing of its neuron */

const double judge_recalls[JUDGE_RECALLS] = {0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999};

/* Fortran's BLAS: column-major, everything by address. */
void sgemm_(const char *, const char *, const int *, const int *, const int *, const float *,
            const float *, const int *, const float *, const int *, const float *, float *,
            const int *);

void judge_product(const float *a, const float *b, uint32_t rows, uint32_t cols, uint32_t inner,
                   float *c)
{
    const int m = (int)cols, n = (int)rows, k = (int)inner;
    const float one = 1, zero = 0;

    /* row-major c is column-major c': b . a' */
    sgemm_("T", "N", &m, &n, &k, &one, b, &k, a, &k, &zero, c, &m);
}

static int is_judged(const judge *at, uint32_t sample)
{
    return sample / at->from->window % 2 != 0;
}

/* -------------------------------------------------------------------------------------- threads */

/* Part [begin, end) of the work; 0 or an error code. */
typedef int (*part_task)(void *context, uint32_t begin, uint32_t end);

typedef struct part {
    part_task task;
    void *context;
    uint32_t begin, end;
    int code;
} part;

static void *run_part(void *argument)
{
    part *at = argument;

    at->code = at->task(at->context, at->begin, at->end);
    return NULL;
}

/* All of [0, total), split over the threads; a thread that does not start has its part done here. */
static int run_parts(uint32_t threads, uint32_t total, part_task task, void *context)
{
    pthread_t ids[THREADS_MAX];
    part parts[THREADS_MAX];
    int started[THREADS_MAX] = {0}, code = 0;

    if (threads > THREADS_MAX) threads = THREADS_MAX;
    for (uint32_t i = 0; i < threads; i++) {
        parts[i] = (part){task, context, (uint32_t)((uint64_t)total * i / threads),
                          (uint32_t)((uint64_t)total * (i + 1) / threads), 0};
        if (i + 1 < threads) started[i] = pthread_create(&ids[i], NULL, run_part, &parts[i]) == 0;
        if (!started[i]) (void)run_part(&parts[i]);
    }
    for (uint32_t i = 0; i < threads; i++) {
        if (started[i]) (void)pthread_join(ids[i], NULL);
        if (code == 0) code = parts[i].code;
    }
    return code;
}

/* ---------------------------------------------------------------------------------------- truth */

static int take(judge *at)
{
    size_t cells = (size_t)at->count * at->neurons;

    at->rows = malloc((size_t)at->neurons * at->width * sizeof(float));
    at->z = malloc(cells * sizeof(float));
    at->fires = malloc(cells);
    at->scores = malloc(cells * sizeof(float));
    at->slope = malloc(at->neurons * sizeof(float));
    at->mean = malloc(at->neurons * sizeof(float));
    at->spread = malloc(at->neurons * sizeof(float));
    return at->rows == NULL || at->z == NULL || at->fires == NULL || at->scores == NULL ||
                   at->slope == NULL || at->mean == NULL || at->spread == NULL
               ? FLASHINFER_ENOMEM
               : 0;
}

/* sums (count, neurons) of rows (neurons, width) with every input */
static void sum_all(const judge *at, const float *rows, float *sums)
{
    for (uint32_t i = 0; i < at->from->windows; i++)
        judge_product(samples_of(at->from, i, at->layer), rows, at->from->window, at->neurons,
                      at->width, sums + (size_t)i * at->from->window * at->neurons);
}

/* What decides. z becomes complete. bias: (neurons) */
static int find_deciding(judge *at, flashinfer_model *model, const flashinfer_info *info,
                         float *bias, flashinfer_error *error)
{
    uint32_t deciding = info->ffn_gated ? FLASHINFER_PART_GATE : FLASHINFER_PART_UP;
    int code =
        flashinfer_model_ffn_rows(model, at->layer, deciding, 0, at->neurons, at->rows, error);

    if (code == 0) code = flashinfer_model_ffn_bias(model, at->layer, bias, error);
    if (code != 0) return code;
    sum_all(at, at->rows, at->z);
    for (size_t i = 0; i < (size_t)at->count * at->neurons; i++) {
        at->z[i] += bias[i % at->neurons] - info->ffn_threshold;
        at->fires[i] = at->z[i] > 0;
    }
    return 0;
}

/* Neurons whose other factor is cut off too fire where both are positive. scores is free for now. */
static int take_away_up(judge *at, flashinfer_model *model, flashinfer_error *error)
{
    float *rows = malloc((size_t)at->neurons * at->width * sizeof *rows);
    int code = rows == NULL ? FLASHINFER_ENOMEM : 0;

    if (code == 0)
        code = flashinfer_model_ffn_rows(model, at->layer, FLASHINFER_PART_UP, 0, at->neurons, rows,
                                         error);
    if (code == 0) sum_all(at, rows, at->scores);
    for (size_t i = 0; i < (size_t)at->count * at->neurons && code == 0; i++)
        if (!(at->scores[i] > 0)) at->fires[i] = 0;
    free(rows);
    return code;
}

static int count_firing(judge *at)
{
    for (uint32_t t = 0; t < at->count; t++) {
        const uint8_t *fires = at->fires + (size_t)t * at->neurons;
        for (uint32_t i = 0; is_judged(at, t) && i < at->neurons; i++) at->firing_count += fires[i];
    }
    at->firing = malloc((at->firing_count + 1) * sizeof(float));
    return at->firing == NULL ? FLASHINFER_ENOMEM : 0;
}

int judge_open(judge *at, flashinfer_model *model, uint32_t layer, const samples *from,
               uint32_t threads, flashinfer_error *error)
{
    flashinfer_info info = {.size = sizeof info};
    int code;

    memset(at, 0, sizeof *at);
    (void)flashinfer_model_info(model, &info);
    at->from = from;
    at->layer = layer;
    at->count = samples_count(from);
    at->width = from->width;
    at->neurons = info.ffn_length;
    at->threads = threads;
    if ((code = take(at)) != 0) return code;
    code = find_deciding(at, model, &info, at->mean, error);
    if (code == 0 && info.ffn_activation == FLASHINFER_ACTIVATION_DRELU)
        code = take_away_up(at, model, error);
    return code != 0 ? code : count_firing(at);
}

void judge_close(judge *at)
{
    free(at->rows);
    free(at->z);
    free(at->fires);
    free(at->scores);
    free(at->slope);
    free(at->mean);
    free(at->spread);
    free(at->firing);
    memset(at, 0, sizeof *at);
}

double judge_active(const judge *at)
{
    uint32_t judged = at->from->windows / 2 * at->from->window;

    return (double)at->firing_count / ((double)judged * at->neurons);
}

/* -------------------------------------------------------------------------------------- looking */

typedef struct look {
    judge *at;
    const flashinfer_predictor *predictor;
} look;

static int score_part(void *context, uint32_t begin, uint32_t end)
{
    const look *looking = context;
    judge *at = looking->at;
    uint32_t window = at->from->window;
    int code = 0;

    for (uint32_t t = begin; t < end && code == 0; t++)
        code = flashinfer_predictor_scores(looking->predictor, at->layer,
                                           samples_of(at->from, t / window, at->layer) +
                                               (size_t)(t % window) * at->width,
                                           at->scores + (size_t)t * at->neurons, NULL);
    return code;
}

/* The best line from scores to what decides, neuron by neuron. sums: 5 a neuron. */
static void fit(judge *at, uint32_t neuron, const double *sums, double count)
{
    double s = sums[0] / count, z = sums[1] / count;
    double var_s = sums[2] / count - s * s, var_z = sums[3] / count - z * z;
    double both = sums[4] / count - s * z, slope = var_s > 0 ? both / var_s : 0, rest;

    if (!(slope * slope * var_s > SLOPE_MIN * SLOPE_MIN * var_z) || slope < 0) slope = 0;
    rest = var_z - slope * both;
    at->slope[neuron] = (float)slope;
    at->mean[neuron] = (float)(z - slope * s);
    at->spread[neuron] = (float)sqrt(rest > 1e-12 ? rest : 1e-12);
}

/* Neurons [begin, end), on tokens that are not judged. */
static int fit_part(void *context, uint32_t begin, uint32_t end)
{
    judge *at = context;
    double *sums = calloc((size_t)(end - begin) * 5 + 1, sizeof *sums), count = 0;

    if (sums == NULL) return FLASHINFER_ENOMEM;
    for (uint32_t t = 0; t < at->count; t++) {
        const float *z = at->z + (size_t)t * at->neurons, *s = at->scores + (size_t)t * at->neurons;
        if (is_judged(at, t)) continue;
        count++;
        for (uint32_t i = begin; i < end; i++) {
            double *sum = sums + (size_t)(i - begin) * 5, from = (double)s[i], to = (double)z[i];
            sum[0] += from;
            sum[1] += to;
            sum[2] += from * from;
            sum[3] += to * to;
            sum[4] += from * to;
        }
    }
    for (uint32_t i = begin; i < end; i++) fit(at, i, sums + (size_t)(i - begin) * 5, count);
    free(sums);
    return 0;
}

/* Scores become the slack, in spreads, that names them. */
static int slack_part(void *context, uint32_t begin, uint32_t end)
{
    judge *at = context;

    for (uint32_t t = begin; t < end; t++) {
        float *s = at->scores + (size_t)t * at->neurons;
        for (uint32_t i = 0; i < at->neurons; i++)
            s[i] = -(at->slope[i] * s[i] + at->mean[i]) / at->spread[i];
    }
    return 0;
}

static int by_size(const void *left, const void *right)
{
    float a = *(const float *)left, b = *(const float *)right;

    return (a > b) - (a < b);
}

int judge_look(judge *at, const flashinfer_predictor *predictor, flashinfer_error *error)
{
    look looking = {at, predictor};
    uint64_t count = 0;
    int code = flashinfer_predictor_scores(predictor, at->layer, samples_of(at->from, 0, at->layer),
                                           at->scores, error); /* says what is wrong, if anything */

    if (code == 0) code = run_parts(at->threads, at->count, score_part, &looking);
    if (code == 0) code = run_parts(at->threads, at->neurons, fit_part, at);
    if (code == 0) code = run_parts(at->threads, at->count, slack_part, at);
    for (uint32_t t = 0; t < at->count && code == 0; t++) {
        const uint8_t *fires = at->fires + (size_t)t * at->neurons;
        const float *s = at->scores + (size_t)t * at->neurons;
        for (uint32_t i = 0; is_judged(at, t) && i < at->neurons; i++)
            if (fires[i]) at->firing[count++] = s[i];
    }
    qsort(at->firing, count, sizeof *at->firing, by_size);
    return code;
}

/* --------------------------------------------------------------------------------------- points */

typedef struct tally {
    const judge *at;
    const judge_point *points;
    uint32_t count;
    pthread_mutex_t mutex;
    uint64_t named[POINTS_MAX];
} tally;

static int tally_part(void *context, uint32_t begin, uint32_t end)
{
    tally *all = context;
    const judge *at = all->at;
    uint64_t named[POINTS_MAX] = {0};

    for (uint32_t t = begin; t < end; t++) {
        const float *slack = at->scores + (size_t)t * at->neurons;
        if (!is_judged(at, t)) continue;
        for (uint32_t k = 0; k < all->count; k++) {
            float bound = all->points[k].slack;
            uint32_t found = 0;
            for (uint32_t i = 0; i < at->neurons; i++) found += slack[i] <= bound;
            named[k] += found;
        }
    }
    (void)pthread_mutex_lock(&all->mutex);
    for (uint32_t k = 0; k < all->count; k++) all->named[k] += named[k];
    (void)pthread_mutex_unlock(&all->mutex);
    return 0;
}

/* The least slack that finds the wanted share of what fires. */
static void find_slack(const judge *at, judge_point *point)
{
    uint64_t count = at->firing_count;
    uint64_t wanted = (uint64_t)ceil(point->recall * (double)count);

    if (wanted < 1) wanted = 1;
    if (wanted > count) wanted = count;
    point->slack = count != 0 ? at->firing[wanted - 1] : 0;
    point->recall = count != 0 ? (double)wanted / (double)count : 1;
}

void judge_points(const judge *at, judge_point *points, uint32_t count)
{
    tally all = {.at = at, .points = points, .count = count < POINTS_MAX ? count : POINTS_MAX};
    uint32_t judged = at->from->windows / 2 * at->from->window;

    for (uint32_t k = 0; k < all.count; k++) find_slack(at, &points[k]);
    (void)pthread_mutex_init(&all.mutex, NULL);
    (void)run_parts(at->threads, at->count, tally_part, &all);
    (void)pthread_mutex_destroy(&all.mutex);
    for (uint32_t k = 0; k < all.count; k++)
        points[k].share = (double)all.named[k] / ((double)judged * at->neurons);
}

void judge_bias(const judge *at, float slack, float *bias)
{
    const float always = 1e30f;

    for (uint32_t i = 0; i < at->neurons; i++) {
        float needed = at->mean[i] + slack * at->spread[i];
        if (at->slope[i] > 0)
            bias[i] = needed / at->slope[i];
        else
            bias[i] = needed > 0 ? always : -always;
        bias[i] += 1e-5f * fabsf(bias[i]); /* the last of those found stays found */
    }
}
