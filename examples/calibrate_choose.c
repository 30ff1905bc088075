/*
 * calibrate_choose.c - layers differ in what another byte of predictor buys: every step goes to the layer whose next
 * larger candidate takes away the most named neurons a byte, until the bytes are spent.
 */
#include "calibrate.h"

/* The first to start from: the fewest bytes. */
static uint32_t smallest(const calibrate_layer *layer)
{
    uint32_t best = CALIBRATE_CANDIDATES;

    for (uint32_t k = 0; k < CALIBRATE_CANDIDATES; k++) {
        const calibrate_candidate *at = &layer->candidates[k];
        if (at->kind == 0) continue;
        if (best == CALIBRATE_CANDIDATES || at->bytes < layer->candidates[best].bytes ||
            (at->bytes == layer->candidates[best].bytes &&
             at->share < layer->candidates[best].share))
            best = k;
    }
    return best;
}

/* Named neurons that a step takes away, per byte; 0: none. */
static double gain(const calibrate_layer *layer, uint32_t to, uint64_t spare)
{
    const calibrate_candidate *now = &layer->candidates[layer->chosen],
                              *next = &layer->candidates[to];

    if (next->kind == 0 || next->share >= now->share) return 0;
    if (next->bytes <= now->bytes) return 1e30; /* better for less */
    if (next->bytes - now->bytes > spare) return 0;
    return (now->share - next->share) / (double)(next->bytes - now->bytes);
}

int calibrate_choose(calibrate_layer *layers, uint32_t count, uint64_t bytes)
{
    uint64_t spent = 0;

    for (uint32_t i = 0; i < count; i++) {
        layers[i].chosen = smallest(&layers[i]);
        spent += layers[i].candidates[layers[i].chosen].bytes;
    }
    if (spent > bytes) return -1;
    for (;;) {
        uint32_t best_layer = 0, best_to = 0;
        double best = 0;
        for (uint32_t i = 0; i < count; i++) {
            for (uint32_t k = 0; k < CALIBRATE_CANDIDATES; k++) {
                double found = gain(&layers[i], k, bytes - spent);
                if (found <= best) continue;
                best = found;
                best_layer = i;
                best_to = k;
            }
        }
        if (best <= 0) return 0;
        spent -= layers[best_layer].candidates[layers[best_layer].chosen].bytes;
        layers[best_layer].chosen = best_to;
        spent += layers[best_layer].candidates[best_to].bytes;
    }
}
