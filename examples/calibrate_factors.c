/*
 * calibrate_factors.c - the low-rank approximation of a matrix that is best for the inputs it sees.
 *
 * With C = L L' the covariance of the inputs, the squared error of an approximation up . down is
 * |(w - up down) L|^2, so the best one of rank r keeps the first r right singular vectors V of w L:
 * up = w L V, down = V' L^-1. They are the eigenvectors of L' (w' w) L.
 */
#include <stdlib.h>
#include <string.h>

#include "calibrate.h"

/* Fortran's BLAS and LAPACK: column-major, everything by address. */
void ssyrk_(const char *, const char *, const int *, const int *, const float *, const float *,
            const int *, const float *, float *, const int *);
void dpotrf_(const char *, const int *, double *, const int *, int *);
void dtrmm_(const char *, const char *, const char *, const char *, const int *, const int *,
            const double *, const double *, const int *, double *, const int *);
void dtrsm_(const char *, const char *, const char *, const char *, const int *, const int *,
            const double *, const double *, const int *, double *, const int *);
void dsyevr_(const char *, const char *, const char *, const int *, double *, const int *,
             const double *, const double *, const int *, const int *, const double *, int *,
             double *, double *, const int *, int *, double *, const int *, int *, const int *,
             int *);

#define RIDGE 1e-3 /* of the mean variance */

/* to (width, width), both halves = rows' rows / divide, from rows (count, width) */
static int gram(const float *rows, uint32_t count, uint32_t width, double divide, double *to)
{
    const int n = (int)width, k = (int)count;
    const float one = 1, zero = 0;
    float *half = malloc((size_t)width * width * sizeof *half);

    if (half == NULL) return FLASHINFER_ENOMEM;
    ssyrk_("L", "N", &n, &k, &one, rows, &n, &zero, half, &n);
    for (uint32_t i = 0; i < width; i++)
        for (uint32_t j = i; j < width; j++)
            to[(size_t)i * width + j] = to[(size_t)j * width + i] =
                (double)half[(size_t)i * width + j] / divide;
    free(half);
    return 0;
}

/* Of the layer's inputs, with a little added to every variance: few samples leave directions unseen. */
static int covariance(const judge *of, double *to)
{
    uint32_t count = of->count, width = of->width, window = of->from->window;
    float *centred = malloc((size_t)count * width * sizeof *centred);
    double *mean = calloc(width, sizeof *mean), trace = 0;
    int code = centred == NULL || mean == NULL ? FLASHINFER_ENOMEM : 0;

    for (uint32_t i = 0; i < of->from->windows && code == 0; i++)
        memcpy(centred + (size_t)i * window * width, samples_of(of->from, i, of->layer),
               (size_t)window * width * sizeof *centred);
    for (uint32_t t = 0; t < count && code == 0; t++)
        for (uint32_t i = 0; i < width; i++)
            mean[i] += (double)centred[(size_t)t * width + i] / count;
    for (uint32_t t = 0; t < count && code == 0; t++)
        for (uint32_t i = 0; i < width; i++) centred[(size_t)t * width + i] -= (float)mean[i];
    if (code == 0) code = gram(centred, count, width, count, to);
    for (uint32_t i = 0; i < width && code == 0; i++) trace += to[(size_t)i * width + i];
    for (uint32_t i = 0; i < width && code == 0; i++)
        to[(size_t)i * width + i] += RIDGE * trace / width + 1e-30;
    free(centred);
    free(mean);
    return code;
}

/* vectors (rank_max, width): eigenvectors of the symmetric matrix, those of the largest eigenvalues first. */
static int largest(double *matrix, uint32_t width, uint32_t rank_max, double *vectors)
{
    const int n = (int)width, low = (int)(width - rank_max) + 1, high = n;
    const double none = 0;
    int found = 0, info = 0, work_count = 40 * n, index_count = 12 * n;
    double *values = malloc(width * sizeof *values),
           *work = malloc((size_t)work_count * sizeof *work);
    double *ascending = malloc((size_t)width * rank_max * sizeof *ascending);
    int *index = malloc((size_t)index_count * sizeof *index);
    int *support = malloc((size_t)width * 2 * sizeof *support);
    int code = FLASHINFER_ENOMEM;

    if (values != NULL && work != NULL && ascending != NULL && index != NULL && support != NULL) {
        dsyevr_("V", rank_max == width ? "A" : "I", "L", &n, matrix, &n, &none, &none, &low, &high,
                &none, &found, values, ascending, &n, support, work, &work_count, index,
                &index_count, &info);
        code = info == 0 && found == (int)rank_max ? 0 : FLASHINFER_EINVAL;
    }
    for (uint32_t r = 0; r < rank_max && code == 0; r++)
        memcpy(vectors + (size_t)r * width, ascending + (size_t)(rank_max - 1 - r) * width,
               width * sizeof *vectors);
    free(values);
    free(work);
    free(ascending);
    free(index);
    free(support);
    return code;
}

/* cholesky: (width, width) lower L; vectors: (rank_max, width) as rows. */
static int fill(calibrate_factors *factors, const float *w, const double *cholesky, double *vectors)
{
    const int n = (int)factors->width, r = (int)factors->rank_max;
    const double one = 1;
    size_t count = (size_t)factors->rank_max * factors->width;
    double *copy = malloc(count * sizeof *copy);
    float *lifted = malloc(count * sizeof *lifted);

    if (copy == NULL || lifted == NULL) {
        free(copy);
        free(lifted);
        return FLASHINFER_ENOMEM;
    }
    memcpy(copy, vectors, count * sizeof *copy);
    /* column-major, a column a vector: L v, then L^-T v */
    dtrmm_("L", "L", "N", "N", &n, &r, &one, cholesky, &n, copy, &n);
    dtrsm_("L", "L", "T", "N", &n, &r, &one, cholesky, &n, vectors, &n);
    for (size_t i = 0; i < count; i++) {
        lifted[i] = (float)copy[i];
        factors->down[i] = (float)vectors[i];
    }
    judge_product(lifted, w, factors->rank_max, factors->neurons, factors->width, factors->up);
    free(copy);
    free(lifted);
    return 0;
}

int calibrate_factors_open(calibrate_factors *factors, const judge *of, uint32_t rank_max)
{
    const int n = (int)of->width;
    const double one = 1;
    size_t square = (size_t)of->width * of->width;
    double *cholesky = malloc(square * sizeof *cholesky), *seen = malloc(square * sizeof *seen);
    double *vectors = malloc((size_t)rank_max * of->width * sizeof *vectors);
    int info = 0, code;

    memset(factors, 0, sizeof *factors);
    factors->width = of->width;
    factors->neurons = of->neurons;
    factors->rank_max = rank_max;
    factors->down = malloc((size_t)rank_max * of->width * sizeof(float));
    factors->up = malloc((size_t)rank_max * of->neurons * sizeof(float));
    code = cholesky == NULL || seen == NULL || vectors == NULL || factors->down == NULL ||
                   factors->up == NULL
               ? FLASHINFER_ENOMEM
               : covariance(of, cholesky);
    if (code == 0) dpotrf_("L", &n, cholesky, &n, &info);
    if (info != 0) code = FLASHINFER_EINVAL;
    if (code == 0) code = gram(of->rows, of->neurons, of->width, 1, seen);
    if (code == 0) { /* L' (w'w) L */
        dtrmm_("R", "L", "N", "N", &n, &n, &one, cholesky, &n, seen, &n);
        dtrmm_("L", "L", "T", "N", &n, &n, &one, cholesky, &n, seen, &n);
        code = largest(seen, of->width, rank_max, vectors);
    }
    if (code == 0) code = fill(factors, of->rows, cholesky, vectors);
    free(cholesky);
    free(seen);
    free(vectors);
    return code;
}

void calibrate_factors_close(calibrate_factors *factors)
{
    free(factors->down);
    free(factors->up);
    memset(factors, 0, sizeof *factors);
}
