/*
 * logprobs.c - see logprobs.h. Sums run over all logits in order of ids, in double precision.
 */
#include "text/logprobs.h"

#include <math.h>

#define COUNT_MAX (1u << 24)

/* What every logit is measured by: the largest, and the logarithm of the sum of
   exp(logit - most). */
typedef struct scale {
    double most, log_sum;
} scale;

/* NaN counts as never. */
static float clean(float logit)
{
    return isnan(logit) ? -INFINITY : logit;
}

/* Where there are logits of +infinity, they share all there is. */
static double share_of(float logit, double most)
{
    if (most == INFINITY) return logit == INFINITY;
    return exp((double)logit - most);
}

static scale measure(const float *logits, size_t count)
{
    double sum = 0;
    float most = -INFINITY;

    for (size_t i = 0; i < count; i++)
        if (clean(logits[i]) > most) most = logits[i];
    if (most == -INFINITY) return (scale){-INFINITY, 0};
    for (size_t i = 0; i < count; i++) sum += share_of(clean(logits[i]), most);
    return (scale){most, log(sum)};
}

static float logprob_of(scale by, float logit)
{
    if (by.most == INFINITY) return logit == INFINITY ? (float)-by.log_sum : -INFINITY;
    return (float)((double)logit - by.most - by.log_sum);
}

/* Larger logit first, lower id among equals. While they are sorted, entries have logits. */
static int is_before(const flashinfer_logprob *a, const flashinfer_logprob *b)
{
    return a->logprob > b->logprob || (a->logprob == b->logprob && a->token < b->token);
}

/* Let top[root] sink in the heap of count entries, the last in order on top. */
static void sink(flashinfer_logprob *top, size_t root, size_t count)
{
    const flashinfer_logprob moving = top[root];

    for (;;) {
        size_t child = 2 * root + 1;
        if (child >= count) break;
        if (child + 1 < count && is_before(&top[child], &top[child + 1])) child++;
        if (!is_before(&moving, &top[child])) break;
        top[root] = top[child];
        root = child;
    }
    top[root] = moving;
}

/* The first top_count of all tokens, in order. */
static void keep_first(const float *logits, size_t count, flashinfer_logprob *top, size_t top_count)
{
    for (size_t i = 0; i < top_count; i++)
        top[i] = (flashinfer_logprob){(int32_t)i, clean(logits[i])};
    for (size_t root = top_count / 2; root-- > 0;) sink(top, root, top_count);
    for (size_t i = top_count; i < count && top_count != 0; i++) {
        const flashinfer_logprob next = {(int32_t)i, clean(logits[i])};
        if (!is_before(&next, &top[0])) continue;
        top[0] = next;
        sink(top, 0, top_count);
    }
    for (size_t left = top_count; left > 1;) {
        const flashinfer_logprob last = top[0];
        top[0] = top[--left];
        top[left] = last;
        sink(top, 0, left);
    }
}

int flin_logprobs(const float *logits, size_t count, flashinfer_logprob *asked, size_t asked_count,
                  flashinfer_logprob *top, size_t top_count, flashinfer_error *error)
{
    scale by;

    if (count == 0 || count > COUNT_MAX)
        return flin_fail(error, FLASHINFER_EINVAL, "%zu logits were given, must be 1 to %u", count,
                         COUNT_MAX);
    if (top_count > count)
        return flin_fail(error, FLASHINFER_EINVAL, "the likeliest %zu tokens of %zu were asked for",
                         top_count, count);
    for (size_t i = 0; i < asked_count; i++)
        if (asked[i].token < 0 || (size_t)asked[i].token >= count)
            return flin_fail(error, FLASHINFER_ETOKEN, "asked[%zu] is token %d; logits are of %zu",
                             i, asked[i].token, count);
    by = measure(logits, count);
    if (by.most == -INFINITY)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "no token has a probability: all %zu logits are NaN or -infinity", count);
    for (size_t i = 0; i < asked_count; i++)
        asked[i].logprob = logprob_of(by, clean(logits[asked[i].token]));
    keep_first(logits, count, top, top_count);
    for (size_t i = 0; i < top_count; i++) top[i].logprob = logprob_of(by, top[i].logprob);
    return 0;
}
