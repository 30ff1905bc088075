/*
 * order.c - a chain through each layer's neurons: next to each lies the one most often wanted by
 * the same tokens (largest Jaccard index), as far as it is not placed yet.
 *
 * Neurons that many tokens want stay in the cache and are hardly ever read, so they stand apart, at
 * the front, by use. The chain is through the others.
 */
#include "pack/order.h"

#include <stdlib.h>
#include <string.h>

#define TOKENS_MAX 4096u /* of a layer that are learned from */
#define TICK_NEURONS 64u
#define HOT_SHARE 8u /* hot: wanted by more than one token in so many */

struct flashinfer_order {
    uint32_t layers;
    uint32_t neurons;
    uint32_t words;   /* of 64 neurons */
    uint32_t *tokens; /* (layers) recorded */
    uint64_t **asked; /* (layers) (TOKENS_MAX, words) a bit per neuron; NULL: nothing recorded */
};

/* ------------------------------------------------------------------------------------ recording */

int flin_order_create(uint32_t layers, uint32_t neurons, flashinfer_order **order,
                      flashinfer_error *error)
{
    flashinfer_order *created;

    if (layers == 0 || layers > 65536 || neurons == 0 || neurons > 1u << 24)
        return flin_fail(error, FLASHINFER_EINVAL, "no model has %u layers of %u neurons", layers,
                         neurons);
    created = calloc(1, sizeof *created);
    if (created != NULL) {
        created->layers = layers;
        created->neurons = neurons;
        created->words = (neurons + 63) / 64;
        created->tokens = calloc(layers, sizeof *created->tokens);
        created->asked = calloc(layers, sizeof *created->asked);
        *order = created;
        if (created->tokens != NULL && created->asked != NULL) return 0;
    }
    flin_order_destroy(created);
    *order = NULL;
    return flin_fail(error, FLASHINFER_ENOMEM, "no memory to learn an order of %u layers", layers);
}

void flin_order_destroy(flashinfer_order *order)
{
    if (order == NULL) return;
    for (uint32_t i = 0; order->asked != NULL && i < order->layers; i++) free(order->asked[i]);
    free(order->asked);
    free(order->tokens);
    free(order);
}

static int check_trace(const flashinfer_order *order, const flashinfer_trace *trace,
                       flashinfer_error *error)
{
    if (trace->layer_count != order->layers || trace->ffn_length != order->neurons ||
        trace->layer >= order->layers)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "the trace is of layer %u of %u with %u neurons, the order is for %u "
                         "layers of %u",
                         trace->layer, trace->layer_count, trace->ffn_length, order->layers,
                         order->neurons);
    for (uint32_t i = 0; i < trace->count; i++)
        if (trace->ids[i] >= order->neurons)
            return flin_fail(error, FLASHINFER_EINVAL, "the trace names neuron %u of %u",
                             trace->ids[i], order->neurons);
    return 0;
}

int flin_order_add(flashinfer_order *order, const flashinfer_trace *trace, flashinfer_error *error)
{
    int code = check_trace(order, trace, error);
    uint64_t *row;

    if (code != 0 || order->tokens[trace->layer] == TOKENS_MAX) return code;
    if (order->asked[trace->layer] == NULL)
        order->asked[trace->layer] = calloc(TOKENS_MAX, order->words * sizeof(uint64_t));
    if (order->asked[trace->layer] == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for what %u tokens asked for",
                         TOKENS_MAX);
    row = order->asked[trace->layer] + (size_t)order->tokens[trace->layer]++ * order->words;
    for (uint32_t i = 0; i < trace->count; i++)
        row[trace->ids[i] / 64] |= (uint64_t)1 << trace->ids[i] % 64;
    return 0;
}

int flin_order_fits(const flashinfer_order *order, uint32_t layers, uint32_t neurons)
{
    return order->layers == layers && order->neurons == neurons;
}

/* ------------------------------------------------------------------------------------ the chain */

/* A sparse matrix: row i is ids[first[i]] .. ids[first[i + 1] - 1]. */
typedef struct lists {
    size_t *first;
    uint32_t *ids;
} lists;

typedef struct chain {
    uint32_t neurons;
    uint32_t tokens;
    uint32_t *uses;     /* (neurons) tokens that asked */
    uint32_t *by_use;   /* (neurons) the most wanted first */
    uint32_t *together; /* (neurons) tokens that asked for it and the last placed; 0 in between */
    uint32_t *touched;  /* (neurons) those whose together is not 0 */
    uint32_t *rows;     /* (neurons) result; UINT32_MAX: not placed */
    uint32_t placed;
    lists of_token;  /* its neurons, hot ones left out */
    lists of_neuron; /* its tokens; none if hot */
} chain;

static int is_hot(const chain *at, uint32_t neuron)
{
    return at->uses[neuron] > at->tokens / HOT_SHARE;
}

/* The neuron that most often goes with `last`, or at->neurons if none does. */
static uint32_t best_friend(chain *at, uint32_t last)
{
    uint32_t count = 0, best = at->neurons;
    double most = 0;

    for (size_t t = at->of_neuron.first[last]; t < at->of_neuron.first[last + 1]; t++) {
        uint32_t token = at->of_neuron.ids[t];
        for (size_t i = at->of_token.first[token]; i < at->of_token.first[token + 1]; i++) {
            uint32_t neuron = at->of_token.ids[i];
            if (at->rows[neuron] != UINT32_MAX) continue;
            if (at->together[neuron]++ == 0) at->touched[count++] = neuron;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t neuron = at->touched[i], both = at->together[neuron];
        double share = (double)both / (at->uses[last] + at->uses[neuron] - both);
        if (share > most || (share >= most && neuron < best)) {
            most = share;
            best = neuron;
        }
        at->together[neuron] = 0;
    }
    return best;
}

/* The next of the chain, or the most wanted of those left. */
static uint32_t next_of(chain *at, uint32_t last, uint32_t *searched)
{
    uint32_t neuron = at->neurons;

    if (last != at->neurons && !is_hot(at, last)) neuron = best_friend(at, last);
    while (neuron == at->neurons) {
        uint32_t wanted = at->by_use[(*searched)++];
        if (at->rows[wanted] == UINT32_MAX) neuron = wanted;
    }
    return neuron;
}

static int run_chain(chain *at, flin_order_tick tick, void *user, flashinfer_error *error)
{
    uint32_t neuron = at->neurons, searched = 0;
    int code = 0;

    while (at->placed < at->neurons && code == 0) {
        neuron = next_of(at, neuron, &searched);
        at->rows[neuron] = at->placed++;
        if (tick != NULL && at->placed % TICK_NEURONS == 0) code = tick(user, error);
    }
    return code;
}

/* A counting sort; equals stay in order. counts: (tokens + 2) zeros */
static void sort_by_use(chain *at, uint32_t *counts)
{
    for (uint32_t i = 0; i < at->neurons; i++) counts[at->tokens - at->uses[i] + 1]++;
    for (uint32_t i = 0; i <= at->tokens; i++) counts[i + 1] += counts[i];
    for (uint32_t i = 0; i < at->neurons; i++) at->by_use[counts[at->tokens - at->uses[i]]++] = i;
}

static int is_asked(const uint64_t *row, uint32_t neuron)
{
    return (int)(row[neuron / 64] >> neuron % 64 & 1);
}

static void count_uses(chain *at, const uint64_t *asked, uint32_t words)
{
    for (uint32_t token = 0; token < at->tokens; token++)
        for (uint32_t i = 0; i < at->neurons; i++)
            at->uses[i] += (uint32_t)is_asked(asked + (size_t)token * words, i);
}

/* Both lists from the bits; their ids have room for every use. */
static void list_uses(chain *at, const uint64_t *asked, uint32_t words)
{
    size_t next = 0;

    for (uint32_t i = 0; i < at->neurons; i++) {
        at->of_neuron.first[i] = next;
        next += is_hot(at, i) ? 0 : at->uses[i];
    }
    at->of_neuron.first[at->neurons] = next;
    next = 0;
    for (uint32_t token = 0; token < at->tokens; token++) {
        at->of_token.first[token] = next;
        for (uint32_t i = 0; i < at->neurons; i++) {
            if (is_hot(at, i) || !is_asked(asked + (size_t)token * words, i)) continue;
            at->of_token.ids[next++] = i;
            at->of_neuron.ids[at->of_neuron.first[i] + at->together[i]++] = token;
        }
    }
    at->of_token.first[at->tokens] = next;
    memset(at->together, 0, at->neurons * sizeof *at->together);
}

static void release(chain *at)
{
    free(at->uses);
    free(at->by_use);
    free(at->together);
    free(at->touched);
    free(at->of_token.first);
    free(at->of_token.ids);
    free(at->of_neuron.first);
    free(at->of_neuron.ids);
}

/* Everything but the lists' ids, whose number is not known yet. */
static int take_tables(chain *at)
{
    at->uses = calloc(at->neurons, sizeof *at->uses);
    at->by_use = calloc(at->neurons, sizeof *at->by_use);
    at->together = calloc(at->neurons, sizeof *at->together);
    at->touched = calloc(at->neurons, sizeof *at->touched);
    at->of_token.first = calloc((size_t)at->tokens + 1, sizeof(size_t));
    at->of_neuron.first = calloc((size_t)at->neurons + 1, sizeof(size_t));
    return at->uses != NULL && at->by_use != NULL && at->together != NULL && at->touched != NULL &&
           at->of_token.first != NULL && at->of_neuron.first != NULL;
}

static int take_lists(chain *at)
{
    size_t uses = 1;

    for (uint32_t i = 0; i < at->neurons; i++) uses += is_hot(at, i) ? 0 : at->uses[i];
    at->of_token.ids = malloc(uses * sizeof *at->of_token.ids);
    at->of_neuron.ids = malloc(uses * sizeof *at->of_neuron.ids);
    return at->of_token.ids != NULL && at->of_neuron.ids != NULL;
}

int flin_order_learn(const flashinfer_order *order, uint32_t layer, uint32_t *rows,
                     flin_order_tick tick, void *user, flashinfer_error *error)
{
    const uint64_t *asked = order->asked[layer];
    chain at = {.neurons = order->neurons, .tokens = order->tokens[layer], .rows = rows};
    uint32_t *counts = calloc((size_t)at.tokens + 2, sizeof *counts);
    int ok = counts != NULL && take_tables(&at), code = 0;

    for (uint32_t i = 0; i < at.neurons; i++) rows[i] = UINT32_MAX;
    if (ok) count_uses(&at, asked, order->words);
    if (ok) ok = take_lists(&at);
    if (ok) {
        sort_by_use(&at, counts);
        list_uses(&at, asked, order->words);
        code = run_chain(&at, tick, user, error);
    } else {
        code = flin_fail_at(error, FLASHINFER_ENOMEM, (int)layer, -1, -1,
                            "no memory to learn the order of %u neurons", order->neurons);
    }
    free(counts);
    release(&at);
    return code;
}
