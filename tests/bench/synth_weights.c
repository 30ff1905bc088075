/*
 * synth_weights.c - see synth_weights.h for what the numbers are meant to do.
 *
 * Every row has a random stream of its own, so rows can be made in any order and in pieces.
 */
#include "synth_weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FEATURES_PER_ROW 4u
#define NOISE_VARIANCE 0.25    /* of an up row: what no feature explains */
#define FFN_VARIANCE 0.4       /* all FFN outputs together; the embeddings have 1 */
#define ATTENTION_VARIANCE 0.4 /* all attention outputs together, at the first position */
#define SCORE_SPREAD 0.5       /* of attention scores: nearly uniform */
#define RANK_MIN 32u

/* Streams of random numbers besides the matrices' */
enum { STREAM_FEATURE = SYNTH_MATRIX_COUNT, STREAM_UP, STREAM_CHOICE, STREAM_DOWN, STREAM_ORDER };

/* --------------------------------------------------------------------------------------- chance */

#define GOLDEN 0x9e3779b97f4a7c15u

/* SplitMix64 (Steele, Lea, Flood 2014): number `index` of the stream `key` is mix(key + index *
   GOLDEN). */
static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t stream_of(const synth_weights *weights, uint32_t stream, uint32_t layer,
                          uint32_t row)
{
    uint64_t place = (uint64_t)stream << 48 ^ (uint64_t)layer << 32 ^ row;
    return mix(mix(weights->seed + GOLDEN) + mix(place + GOLDEN));
}

/* Sums of four bytes: near enough to normal for weights, of which hundreds are summed, and cheap.
   A word gives two, from its even and its odd bytes. */
static void fill_normal(uint64_t key, float spread, uint32_t count, float *to)
{
    const uint64_t even = 0x00ff00ff00ff00ffu, sum = 0x0001000100010001u;
    const float scale = spread / 147.80054f; /* sqrt(4 (256^2 - 1) / 12) */

    for (uint32_t i = 0; i + 1 < count; i += 2) {
        uint64_t word = mix(key += GOLDEN);
        to[i] = (float)((int32_t)((word & even) * sum >> 48) - 510) * scale;
        to[i + 1] = (float)((int32_t)((word >> 8 & even) * sum >> 48) - 510) * scale;
    }
    if (count % 2 != 0)
        to[count - 1] = (float)((int32_t)((mix(key + GOLDEN) & even) * sum >> 48) - 510) * scale;
}

/* ------------------------------------------------------------------------------- distributions */

static double upper_share(double z)
{
    return 0.5 * erfc(z / sqrt(2.0));
}

double synth_upper_quantile(double share)
{
    double low = -9, high = 9;

    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (upper_share(middle) > share)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

/* Thresholds at the middle of equal shares of their distribution, the same in every layer. For z
   normal and a = max(0, z - t): E a = phi(t) - t Q(t), E a^2 = (1 + t^2) Q(t) - t phi(t). */
static void set_thresholds(synth_weights *weights)
{
    uint32_t count = weights->shape.neurons;
    double spread = sqrt(SYNTH_THRESHOLD_VARIANCE), variance = 0;
    double middle = synth_upper_quantile(SYNTH_ACTIVE_SHARE) * sqrt(1 + SYNTH_THRESHOLD_VARIANCE);

    for (uint32_t i = 0; i < count; i++) {
        double below = (i + 0.5) / count;
        double t = middle - spread * synth_upper_quantile(below);
        double density = exp(-t * t / 2) / sqrt(2 * acos(-1.0)), share = upper_share(t);
        double mean = density - t * share;
        weights->threshold[i] = (float)t;
        weights->mean[i] = (float)mean;
        variance += (1 + t * t) * share - t * density - mean * mean;
    }
    weights->down_spread = (float)sqrt(FFN_VARIANCE / weights->shape.layers / variance);
}

/* --------------------------------------------------------------------------------- open, close */

static uint32_t rank_for(uint32_t width)
{
    uint32_t rank = width / 32 > RANK_MIN ? width / 32 : RANK_MIN;

    return rank < width ? rank : width;
}

int synth_weights_open(synth_weights *weights, const synth_shape *shape, uint64_t seed,
                       flashinfer_error *error)
{
    size_t neurons = shape->neurons, width = shape->width;

    memset(weights, 0, sizeof *weights);
    weights->shape = *shape;
    weights->seed = seed;
    weights->rank = rank_for(shape->width);
    weights->threshold = malloc(neurons * sizeof(float));
    weights->mean = malloc(neurons * sizeof(float));
    weights->rank_of = malloc(neurons * sizeof(uint32_t));
    weights->up_bias = malloc(neurons * sizeof(float));
    weights->features = malloc(weights->rank * width * sizeof(float));
    weights->position = malloc(width * sizeof(float));
    if (weights->threshold == NULL || weights->mean == NULL || weights->rank_of == NULL ||
        weights->up_bias == NULL || weights->features == NULL || weights->position == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for a layer of %u neurons of %u",
                         shape->neurons, shape->width);
    set_thresholds(weights);
    return 0;
}

void synth_weights_close(synth_weights *weights)
{
    free(weights->threshold);
    free(weights->mean);
    free(weights->rank_of);
    free(weights->up_bias);
    free(weights->features);
    free(weights->position);
    memset(weights, 0, sizeof *weights);
}

/* ----------------------------------------------------------------------------- resident weights */

/* Spread of a matrix's elements. Inputs of attention have spread 1, and so have values. */
static float spread_of(const synth_shape *shape, enum synth_matrix matrix)
{
    double sum_spread = 1 / sqrt(shape->width); /* of a weight, so that a row's output has 1 */

    switch (matrix) {
    case SYNTH_TOKENS:
        return (float)sqrt(1 - SYNTH_POSITION_VARIANCE);
    case SYNTH_QUERY:
    case SYNTH_KEY:
        return (float)(sqrt(SCORE_SPREAD) * sum_spread);
    case SYNTH_OUTPUT:
        return (float)(sqrt(ATTENTION_VARIANCE / shape->layers) * sum_spread);
    default:
        return (float)sum_spread;
    }
}

/* A random walk drawn back to zero: correlation exp(-k / T) between positions k apart. */
static void walk(synth_weights *weights, uint32_t row, float *to)
{
    uint32_t width = weights->shape.width;
    double keep = row == 0 ? 0 : exp(-1 / SYNTH_POSITION_TOKENS);
    double step = sqrt(SYNTH_POSITION_VARIANCE * (1 - keep * keep));

    if (row == 0) memset(weights->position, 0, width * sizeof(float));
    fill_normal(stream_of(weights, SYNTH_POSITIONS, 0, row), (float)step, width, to);
    for (uint32_t i = 0; i < width; i++) to[i] += (float)keep * weights->position[i];
    memcpy(weights->position, to, width * sizeof(float));
}

void synth_matrix_rows(synth_weights *weights, enum synth_matrix matrix, uint32_t layer,
                       uint32_t first, uint32_t count, float *rows)
{
    uint32_t width = weights->shape.width;
    float spread = spread_of(&weights->shape, matrix);

    for (uint32_t i = 0; i < count; i++) {
        float *row = rows + (size_t)i * width;
        if (matrix == SYNTH_POSITIONS)
            walk(weights, first + i, row);
        else
            fill_normal(stream_of(weights, matrix, layer, first + i), spread, width, row);
    }
}

/* ------------------------------------------------------------------------------------------ FFN */

void synth_layer(synth_weights *weights, uint32_t layer)
{
    uint32_t neurons = weights->shape.neurons, width = weights->shape.width;
    uint64_t key = stream_of(weights, STREAM_ORDER, layer, 0);
    float spread = (float)(1 / sqrt(width));

    weights->layer = layer;
    for (uint32_t i = 0; i < neurons; i++) weights->rank_of[i] = i;
    for (uint32_t i = neurons - 1; i > 0; i--) { /* shuffle: hot neurons lie anywhere */
        uint32_t other = (uint32_t)((mix(key += GOLDEN) >> 32) * (i + 1) >> 32);
        uint32_t kept = weights->rank_of[i];
        weights->rank_of[i] = weights->rank_of[other];
        weights->rank_of[other] = kept;
    }
    for (uint32_t i = 0; i < neurons; i++)
        weights->up_bias[i] = -weights->threshold[weights->rank_of[i]];
    for (uint32_t i = 0; i < weights->rank; i++)
        fill_normal(stream_of(weights, STREAM_FEATURE, layer, i), spread, width,
                    weights->features + (size_t)i * width);
}

static float square_sum(const float *row, uint32_t count)
{
    float sums[8] = {0}, sum = 0;
    uint32_t i = 0;

    for (; i + 8 <= count; i += 8)
        for (uint32_t k = 0; k < 8; k++) sums[k] += row[i + k] * row[i + k];
    for (; i < count; i++) sum += row[i] * row[i];
    for (uint32_t k = 0; k < 8; k++) sum += sums[k];
    return sum;
}

/* Features with random signs, added to the noise in the row; then the row gets length 1. */
static void up_row(const synth_weights *weights, uint32_t neuron, float *row)
{
    uint32_t width = weights->shape.width;
    uint64_t choice = mix(stream_of(weights, STREAM_CHOICE, weights->layer, neuron));
    const float *feature[FEATURES_PER_ROW];
    float weight[FEATURES_PER_ROW], scale;

    for (uint32_t k = 0; k < FEATURES_PER_ROW; k++, choice >>= 16) {
        uint32_t index = (uint32_t)((choice & 0x7fff) * weights->rank >> 15);
        feature[k] = weights->features + (size_t)index * width;
        weight[k] = (float)sqrt((1 - NOISE_VARIANCE) / FEATURES_PER_ROW);
        if (choice & 0x8000) weight[k] = -weight[k];
    }
    fill_normal(stream_of(weights, STREAM_UP, weights->layer, neuron),
                (float)sqrt(NOISE_VARIANCE / width), width, row);
    for (uint32_t i = 0; i < width; i++)
        row[i] += weight[0] * feature[0][i] + weight[1] * feature[1][i] +
                  (weight[2] * feature[2][i] + weight[3] * feature[3][i]);
    scale = 1 / sqrtf(square_sum(row, width));
    for (uint32_t i = 0; i < width; i++) row[i] *= scale;
}

void synth_up_rows(const synth_weights *weights, uint32_t first, uint32_t count, float *rows)
{
    for (uint32_t i = 0; i < count; i++)
        up_row(weights, first + i, rows + (size_t)i * weights->shape.width);
}

void synth_down_columns(const synth_weights *weights, uint32_t first, uint32_t count,
                        float *columns, float *mean)
{
    uint32_t width = weights->shape.width;

    memset(mean, 0, width * sizeof *mean);
    for (uint32_t i = 0; i < count; i++) {
        float *column = columns + (size_t)i * width;
        float activation = weights->mean[weights->rank_of[first + i]];
        fill_normal(stream_of(weights, STREAM_DOWN, weights->layer, first + i),
                    weights->down_spread, width, column);
        for (uint32_t k = 0; k < width; k++) mean[k] += activation * column[k];
    }
}
