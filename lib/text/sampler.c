/*
 * sampler.c - bias, penalty, top-k, temperature, top-p, min-p, then one draw.
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

#include "util/hash.h"

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
    float *biases; /* (vocab_count) added to logits; NULL: none */
    size_t bytes;  /* of all this: one piece of memory */
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
        float logit = sampler->biases != NULL ? logits[i] + sampler->biases[i] : logits[i];
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
    if (options->logit_bias_count != 0 && options->logit_biases == NULL)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "sampler option logit_bias_count is %u, and logit_biases is NULL",
                         options->logit_bias_count);
    return 0;
}

/* (vocab_count) biases of the list. A token has one at most: NaN while it has none. */
static int set_biases(const flashinfer_logit_bias *list, uint32_t count, float *biases,
                      size_t vocab_count, flashinfer_error *error)
{
    for (size_t i = 0; i < vocab_count; i++) biases[i] = NAN;
    for (uint32_t i = 0; i < count; i++) {
        if (list[i].token < 0 || (size_t)list[i].token >= vocab_count)
            return flin_fail(error, FLASHINFER_ETOKEN,
                             "logit_biases[%u] is for token %d, outside the sampler's vocabulary "
                             "of %zu",
                             i, list[i].token, vocab_count);
        if (!(list[i].bias < INFINITY))
            return flin_fail(error, FLASHINFER_EINVAL,
                             "logit_biases[%u].bias is %g, must be finite or -infinity", i,
                             (double)list[i].bias);
        if (!isnan(biases[list[i].token]))
            return flin_fail(error, FLASHINFER_EINVAL,
                             "logit_biases[%u] is a second one for token %d", i, list[i].token);
        biases[list[i].token] = list[i].bias;
    }
    for (size_t i = 0; i < vocab_count; i++)
        if (isnan(biases[i])) biases[i] = 0;
    return 0;
}

/* Does it remember tokens? */
static int punishes(const flashinfer_sampler_options *options)
{
    return options->repetition_penalty != 0 && options->repetition_penalty != 1;
}

/* Bytes of a sampler with all its lists. */
static size_t bytes_of(const flashinfer_sampler_options *options, size_t vocab_count)
{
    size_t bytes = sizeof(flashinfer_sampler) + vocab_count * sizeof(struct candidate);

    if (punishes(options)) bytes += (vocab_count + options->repetition_tokens) * sizeof(uint32_t);
    if (options->logit_bias_count != 0) bytes += vocab_count * sizeof(float);
    return bytes;
}

/* Where the lists lie: behind the struct, in this order. */
static void place_lists(flashinfer_sampler *sampler)
{
    uint32_t *at;

    sampler->candidates = (struct candidate *)(sampler + 1);
    at = (uint32_t *)(sampler->candidates + sampler->vocab_count);
    if (punishes(&sampler->options)) {
        sampler->recent_counts = at;
        sampler->recent = (int32_t *)(at + sampler->vocab_count);
        at += sampler->vocab_count + sampler->options.repetition_tokens;
    }
    if (sampler->options.logit_bias_count != 0) sampler->biases = (float *)at;
}

static int no_memory(size_t vocab_count, flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_ENOMEM, "no memory for a sampler for %zu tokens",
                     vocab_count);
}

int flin_sampler_create(const flashinfer_sampler_options *options, size_t vocab_count,
                        flashinfer_sampler **sampler, flashinfer_error *error)
{
    flashinfer_sampler_options own;
    flashinfer_sampler *made;
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
    made = calloc(1, bytes_of(&own, vocab_count));
    if (made == NULL) return no_memory(vocab_count, error);
    made->options = own;
    made->options.logit_biases = NULL; /* the caller's */
    made->vocab_count = vocab_count;
    made->bytes = bytes_of(&own, vocab_count);
    for (size_t i = 0; i < 4; i++) made->random[i] = spread(&own.seed);
    place_lists(made);
    if (made->biases != NULL)
        code = set_biases(own.logit_biases, own.logit_bias_count, made->biases, vocab_count, error);
    if (code == 0)
        *sampler = made;
    else
        free(made);
    return code;
}

int flin_sampler_copy(const flashinfer_sampler *sampler, flashinfer_sampler **copy,
                      flashinfer_error *error)
{
    flashinfer_sampler *made = malloc(sampler->bytes);

    *copy = made;
    if (made == NULL) return no_memory(sampler->vocab_count, error);
    memcpy(made, sampler, sampler->bytes);
    place_lists(made);
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

/* ---- saved states ---- */

/* This header, the remembered tokens, the oldest first, then XXH3-64 of all of it. */
typedef struct state_header {
    char magic[8];
    uint64_t random[4];
    uint32_t vocab_count;
    uint32_t recent_most; /* 0: it remembers none */
    uint32_t recent_used;
    uint32_t reserved;
} state_header;

static const char state_magic[8] = {'F', 'L', 'I', 'S', 'A', 'M', 'P', '1'};

static state_header header_of(const flashinfer_sampler *sampler)
{
    state_header header;

    memset(&header, 0, sizeof header);
    memcpy(header.magic, state_magic, sizeof state_magic);
    memcpy(header.random, sampler->random, sizeof header.random);
    header.vocab_count = (uint32_t)sampler->vocab_count;
    header.recent_most = sampler->recent != NULL ? sampler->options.repetition_tokens : 0;
    header.recent_used = sampler->recent_used;
    return header;
}

static size_t state_bytes(uint32_t recent_used)
{
    return sizeof(state_header) + recent_used * sizeof(int32_t) + sizeof(uint64_t);
}

int flin_sampler_state_save(const flashinfer_sampler *sampler, void *buffer, size_t capacity,
                            size_t *written, flashinfer_error *error)
{
    const state_header header = header_of(sampler);
    const uint32_t used = header.recent_used, most = header.recent_most;
    uint8_t *at = buffer;
    uint64_t sum;

    *written = state_bytes(used);
    if (capacity < *written)
        return flin_fail(error, FLASHINFER_EBUFFER,
                         "the sampler's state needs %zu bytes, the buffer has %zu", *written,
                         capacity);
    memcpy(at, &header, sizeof header);
    at += sizeof header;
    for (uint32_t i = 0; i < used; i++, at += sizeof(int32_t))
        memcpy(at, &sampler->recent[(sampler->recent_next + most - used + i) % most],
               sizeof(int32_t));
    sum = flin_hash(buffer, *written - sizeof sum);
    memcpy(at, &sum, sizeof sum);
    return 0;
}

/* A checksum is no proof: a number that would never change, or a token that is none, is refused. */
static int makes_sense(const state_header *header, const uint8_t *tokens)
{
    if ((header->random[0] | header->random[1] | header->random[2] | header->random[3]) == 0)
        return 0;
    for (uint32_t i = 0; i < header->recent_used; i++) {
        uint32_t token;
        memcpy(&token, tokens + i * sizeof token, sizeof token);
        if (token >= header->vocab_count) return 0;
    }
    return 1;
}

/* Is it a whole state of a sampler like this one? *header receives its beginning. */
static int check_state(const flashinfer_sampler *sampler, const uint8_t *state, size_t bytes,
                       state_header *header)
{
    const state_header own = header_of(sampler);
    uint64_t sum;

    if (bytes < state_bytes(0)) return 0;
    memcpy(header, state, sizeof *header);
    memcpy(&sum, state + bytes - sizeof sum, sizeof sum);
    return memcmp(header->magic, own.magic, sizeof own.magic) == 0 &&
           header->vocab_count == own.vocab_count && header->recent_most == own.recent_most &&
           header->recent_used <= header->recent_most &&
           bytes == state_bytes(header->recent_used) &&
           sum == flin_hash(state, bytes - sizeof sum) &&
           makes_sense(header, state + sizeof *header);
}

int flin_sampler_state_load(flashinfer_sampler *sampler, const void *buffer, size_t bytes,
                            flashinfer_error *error)
{
    const uint8_t *at = (const uint8_t *)buffer + sizeof(state_header);
    state_header header;

    if (!check_state(sampler, buffer, bytes, &header))
        return flin_fail(error, FLASHINFER_ESTATE,
                         "the saved state cannot be loaded: it is damaged, or from a sampler with "
                         "another vocab_count or that remembers another number of tokens");
    memcpy(sampler->random, header.random, sizeof header.random);
    sampler->recent_used = sampler->recent_next = 0;
    if (sampler->recent != NULL)
        memset(sampler->recent_counts, 0, sampler->vocab_count * sizeof *sampler->recent_counts);
    for (uint32_t i = 0; i < header.recent_used; i++, at += sizeof(int32_t)) {
        int32_t token;
        memcpy(&token, at, sizeof token);
        remember(sampler, token);
    }
    return 0;
}

void flin_sampler_destroy(flashinfer_sampler *sampler)
{
    free(sampler);
}
