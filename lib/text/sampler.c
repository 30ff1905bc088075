/*
 * sampler.c - penalty, top-k, temperature, top-p, min-p, then one draw.
 *
 * Probabilities are whole numbers. Only a logit's distance from the largest one and the thresholds
 * of top-p and min-p are computed in floating point, each by single operations that IEEE 754 rounds
 * alike everywhere; the rest is integer arithmetic. So neither libm, nor fused multiply-add, nor
 * the order of a sum can change a token. All memory is taken by create.
 */
#include "text/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHT_BITS 38u /* weight of the likeliest token is 2^38; 2^24 of them fit a uint64_t */
#define REPETITION_TOKENS_DEFAULT 64u
#define REPETITION_TOKENS_MAX (1u << 24)

struct candidate {
    uint64_t weight;
    float logit;
    int32_t token;
};

struct flashinfer_sampler {
    flashinfer_sampler_options options;
    size_t vocab_count;
    uint64_t random[4];           /* state of the generator */
    struct candidate *candidates; /* (vocab_count) */
    uint32_t *recent_counts;      /* (vocab_count) of each token in recent; NULL: no penalty */
    int32_t *recent;              /* (repetition_tokens) ring of tokens */
    uint32_t recent_used;
    uint32_t recent_next;
};

/* ---- random numbers ---- */

/* splitmix64 spreads a seed over the state (Steele, Lea, Flood 2014). */
static uint64_t spread(uint64_t *state)
{
    uint64_t mixed = *state += 0x9e3779b97f4a7c15u;

    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

static uint64_t rotate(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

/* xoshiro256** 1.0 (Blackman, Vigna 2018). */
static uint64_t random_next(uint64_t state[4])
{
    uint64_t result = rotate(state[1] * 5, 7) * 9, shifted = state[1] << 17;

    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate(state[3], 45);
    return result;
}

/* Uniform in [0, bound), bound > 0: the top bits of a number, drawn again while out of range. */
static uint64_t random_below(uint64_t state[4], uint64_t bound)
{
    unsigned bits = 1;
    uint64_t drawn;

    while (bits < 64 && (bound - 1) >> bits != 0) bits++;
    do drawn = random_next(state) >> (64 - bits);
    while (drawn >= bound);
    return drawn;
}

/* ---- weights ---- */

/* 2^(fraction / 2^32) in units of 2^-30, for fraction < 2^32: the series of 2^x by Horner's rule,
 * right to 2^-28. */
static uint64_t exp2_fraction(uint64_t fraction)
{
    /* round(2^30 * ln(2)^k / k!), k from 10 down to 0 */
    static const uint32_t terms[] = {8,        109,      1419,      16377,     165394,    1431680,
                                     10327387, 59597083, 257941248, 744261118, 1073741824};
    uint64_t sum = 0;

    for (size_t k = 0; k < sizeof terms / sizeof *terms; k++)
        sum = terms[k] + (sum * fraction >> 32);
    return sum;
}

/* exp((logit - most) / temperature) in units of 2^-WEIGHT_BITS, rounded down; logit <= most. */
static uint64_t weight_of(float logit, float most, float temperature)
{
    static const double log2_e = 0x1.71547652b82fep+0;
    double distance = ((double)most - (double)logit) / (double)temperature; /* >= 0 */
    double halvings = distance * log2_e;
    uint64_t fixed, whole, fraction;

    if (!(halvings < (double)WEIGHT_BITS + 1)) return 0;
    fixed = (uint64_t)(halvings * 0x1p32); /* 2^-halvings is wanted */
    whole = fixed >> 32;
    fraction = fixed & 0xffffffffu;
    if (fraction != 0) { /* 2^-(w + f) = 2^(1 - f) / 2^(w + 1) */
        whole += 1;
        fraction = ((uint64_t)1 << 32) - fraction;
    }
    return exp2_fraction(fraction) << (WEIGHT_BITS - 30) >> whole;
}

/* ---- candidates ---- */

/* The order of candidates: larger logit first, lower id among equals. */
static int is_before(const struct candidate *a, const struct candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->token < b->token);
}

/* Let candidates[root] sink in the heap of count candidates, the first in order on top. */
static void sink(struct candidate *candidates, size_t root, size_t count)
{
    struct candidate moving = candidates[root];

    for (;;) {
        size_t child = 2 * root + 1;
        if (child >= count) break;
        if (child + 1 < count && is_before(&candidates[child + 1], &candidates[child])) child++;
        if (!is_before(&candidates[child], &moving)) break;
        candidates[root] = candidates[child];
        root = child;
    }
    candidates[root] = moving;
}

/* Bring the first `wanted` of count candidates to the end of the array, the very first last: so a
   heap that shrinks from the end can stop early. Returns how many stand there. */
static size_t sort_tail(struct candidate *candidates, size_t count, size_t wanted)
{
    size_t left = count;

    for (size_t root = count / 2; root-- > 0;) sink(candidates, root, count);
    while (left > 0 && count - left < wanted) {
        struct candidate top = candidates[0];
        candidates[0] = candidates[--left];
        candidates[left] = top;
        if (left > 0) sink(candidates, 0, left);
    }
    return count - left;
}

/* Every token that can be chosen, with its penalty; in order of ids. */
static size_t gather(const flashinfer_sampler *sampler, const float *logits, size_t count)
{
    float penalty = sampler->options.repetition_penalty;
    size_t used = 0;

    for (size_t i = 0; i < count; i++) {
        float logit = logits[i];
        if (sampler->recent_counts != NULL && sampler->recent_counts[i] != 0)
            logit = logit > 0 ? logit / penalty : logit * penalty;
        if (!(logit > -INFINITY)) continue; /* NaN too */
        sampler->candidates[used].logit = logit;
        sampler->candidates[used].token = (int32_t)i;
        used++;
    }
    return used;
}

static const struct candidate *likeliest(const struct candidate *candidates, size_t count)
{
    const struct candidate *best = candidates;

    for (size_t i = 1; i < count; i++)
        if (is_before(&candidates[i], best)) best = &candidates[i];
    return best;
}

/* Drop what lies beyond the nucleus or below min_p: weight 0. candidates: (count), the likeliest
 * last if sorted. */
static uint64_t drop_unlikely(const flashinfer_sampler_options *options,
                              struct candidate *candidates, size_t count, int sorted)
{
    uint64_t total = 0, nucleus = UINT64_MAX, least, reached = 0;

    for (size_t i = 0; i < count; i++) total += candidates[i].weight;
    if (sorted) nucleus = (uint64_t)((double)total * (double)options->top_p);
    least = (uint64_t)((double)options->min_p * (double)((uint64_t)1 << WEIGHT_BITS));
    total = 0;
    for (size_t i = count; i-- > 0;) {
        struct candidate *candidate = &candidates[i];
        if ((sorted && reached != 0 && reached >= nucleus) || candidate->weight < least) {
            candidate->weight = 0;
            continue;
        }
        reached += candidate->weight;
        total += candidate->weight;
    }
    return total;
}

static int32_t draw(flashinfer_sampler *sampler, struct candidate *candidates, size_t count)
{
    const flashinfer_sampler_options *options = &sampler->options;
    int nucleus = options->top_p > 0 && options->top_p < 1;
    float most = likeliest(candidates, count)->logit;
    size_t kept = count, wanted = count, i = 0;
    uint64_t point;

    if (options->top_k != 0 && options->top_k < count) wanted = options->top_k;
    if (wanted < count || nucleus) {
        kept = sort_tail(candidates, count, wanted);
        candidates += count - kept;
    }
    for (size_t k = 0; k < kept; k++)
        candidates[k].weight = weight_of(candidates[k].logit, most, options->temperature);
    point = random_below(sampler->random, drop_unlikely(options, candidates, kept, nucleus));
    while (point >= candidates[i].weight) point -= candidates[i++].weight;
    return candidates[i].token;
}

/* ---- the sampler ---- */

void flin_sampler_options_init(flashinfer_sampler_options *options, size_t size)
{
    if (options == NULL || size < sizeof options->size || size > UINT32_MAX) return;
    memset(options, 0, size);
    options->size = (uint32_t)size;
}

static int out_of_range(const char *field, float value, const char *range, flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EINVAL, "sampler option %s is %g, must be %s", field,
                     (double)value, range);
}

static int check_options(const flashinfer_sampler_options *options, flashinfer_error *error)
{
    if (!(options->temperature >= 0) || isinf(options->temperature))
        return out_of_range("temperature", options->temperature, "finite and at least 0", error);
    if (!(options->top_p >= 0 && options->top_p <= 1))
        return out_of_range("top_p", options->top_p, "in 0 to 1", error);
    if (!(options->min_p >= 0 && options->min_p <= 1))
        return out_of_range("min_p", options->min_p, "in 0 to 1", error);
    if (!(options->repetition_penalty >= 0) || isinf(options->repetition_penalty))
        return out_of_range("repetition_penalty", options->repetition_penalty,
                            "finite and at least 0", error);
    if (options->repetition_tokens > REPETITION_TOKENS_MAX)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "sampler option repetition_tokens is %u, at most %u are remembered",
                         options->repetition_tokens, REPETITION_TOKENS_MAX);
    if (options->reserved != 0)
        return flin_fail(error, FLASHINFER_EINVAL, "sampler option reserved is not 0");
    return 0;
}

int flin_sampler_create(const flashinfer_sampler_options *options, size_t vocab_count,
                        flashinfer_sampler **sampler, flashinfer_error *error)
{
    flashinfer_sampler_options own;
    flashinfer_sampler *made;
    size_t recent_bytes = 0;
    int code;

    *sampler = NULL;
    flin_sampler_options_init(&own, sizeof own);
    if (options != NULL) own = *options;
    code = check_options(&own, error);
    if (code != 0) return code;
    if (vocab_count == 0 || vocab_count > FLIN_SAMPLER_VOCAB_MAX)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "a sampler for %zu tokens was asked for, must be 1 to %u", vocab_count,
                         FLIN_SAMPLER_VOCAB_MAX);
    if (own.repetition_tokens == 0) own.repetition_tokens = REPETITION_TOKENS_DEFAULT;
    if (own.repetition_penalty != 0 && own.repetition_penalty != 1)
        recent_bytes = (vocab_count + own.repetition_tokens) * sizeof(uint32_t);
    made = calloc(1, sizeof *made + vocab_count * sizeof *made->candidates + recent_bytes);
    if (made == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "no memory for a sampler for %zu tokens",
                         vocab_count);
    made->options = own;
    made->vocab_count = vocab_count;
    for (size_t i = 0; i < 4; i++) made->random[i] = spread(&own.seed);
    made->candidates = (struct candidate *)(made + 1);
    if (recent_bytes != 0) {
        made->recent_counts = (uint32_t *)(made->candidates + vocab_count);
        made->recent = (int32_t *)(made->recent_counts + vocab_count);
    }
    *sampler = made;
    return 0;
}

/* Remember a token in place of the oldest one. */
static void remember(flashinfer_sampler *sampler, int32_t token)
{
    int32_t *place;

    if (sampler->recent == NULL) return;
    place = &sampler->recent[sampler->recent_next];
    if (sampler->recent_used == sampler->options.repetition_tokens)
        sampler->recent_counts[*place]--;
    else
        sampler->recent_used++;
    *place = token;
    sampler->recent_counts[token]++;
    sampler->recent_next = (sampler->recent_next + 1) % sampler->options.repetition_tokens;
}

int flin_sampler_sample(flashinfer_sampler *sampler, const float *logits, size_t count,
                        int32_t *token, flashinfer_error *error)
{
    const struct candidate *best;
    size_t used;

    if (count == 0 || count > sampler->vocab_count)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "%zu logits were given to a sampler for %zu tokens", count,
                         sampler->vocab_count);
    used = gather(sampler, logits, count);
    if (used == 0)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "no token can be chosen: all %zu logits are NaN or -infinity", count);
    best = likeliest(sampler->candidates, used);
    if (sampler->options.temperature == 0 || best->logit == INFINITY)
        *token = best->token;
    else
        *token = draw(sampler, sampler->candidates, used);
    remember(sampler, *token);
    return 0;
}

int flin_sampler_accept(flashinfer_sampler *sampler, int32_t token, flashinfer_error *error)
{
    if (token < 0 || (size_t)token >= sampler->vocab_count)
        return flin_fail(error, FLASHINFER_ETOKEN,
                         "token %d is outside the sampler's vocabulary of %zu", token,
                         sampler->vocab_count);
    remember(sampler, token);
    return 0;
}

void flin_sampler_destroy(flashinfer_sampler *sampler)
{
    free(sampler);
}
