/*
 * test_sampler.c - every stage of sampling against what it is defined to do, distributions against
 * the exact ones, and sequences of tokens against an independent computation with 60 decimal
 * digits; copies and saved states, which go on alike.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "failing_heap.h"
#include "text/sampler.h"
#include "util/hash.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define VOCAB 50

static flashinfer_sampler_options defaults(void)
{
    flashinfer_sampler_options options;

    memset(&options, 0xee, sizeof options);
    flin_sampler_options_init(&options, sizeof options);
    return options;
}

static flashinfer_sampler *new_sampler(const flashinfer_sampler_options *options,
                                       size_t vocab_count)
{
    flashinfer_error error = {.size = sizeof error};
    flashinfer_sampler *sampler;

    if (flin_sampler_create(options, vocab_count, &sampler, &error) != 0)
        fail_msg("%s", error.text);
    return sampler;
}

static int32_t next(flashinfer_sampler *sampler, const float *logits, size_t count)
{
    flashinfer_error error = {.size = sizeof error};
    int32_t token = -1;

    if (flin_sampler_sample(sampler, logits, count, &token, &error) != 0)
        fail_msg("%s", error.text);
    assert_in_range(token, 0, count - 1);
    return token;
}

/* Multiples of 1/512 in -4 to 4, so equal ones occur. */
static void make_logits(float *logits, size_t count)
{
    uint64_t state = 5;

    for (size_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        logits[i] = (float)((state >> 33) % 4096) / 512.0f - 4.0f;
    }
}

static void greedy_takes_the_lowest_of_the_largest(void **state)
{
    float logits[] = {NAN, -1, 3, -INFINITY, 3, 2.5f, -0.0f, 0.0f};
    flashinfer_sampler *sampler = new_sampler(NULL, COUNT(logits));

    (void)state;
    assert_int_equal(next(sampler, logits, COUNT(logits)), 2);
    assert_int_equal(next(sampler, logits, 2), 1);
    logits[2] = logits[4] = logits[5] = -2;
    assert_int_equal(next(sampler, logits, COUNT(logits)), 6); /* -0 and 0 are equal */
    logits[5] = logits[7] = INFINITY;
    assert_int_equal(next(sampler, logits, COUNT(logits)), 5);
    flin_sampler_destroy(sampler);
    flin_sampler_destroy(NULL);
}

static void infinite_and_undefined_logits(void **state)
{
    float logits[] = {NAN, -INFINITY, -INFINITY, NAN};
    flashinfer_sampler_options options = defaults();
    flashinfer_error error = {.size = sizeof error};
    flashinfer_sampler *sampler;
    int32_t token = 77;

    (void)state;
    options.temperature = 1;
    sampler = new_sampler(&options, COUNT(logits));
    assert_int_equal(flin_sampler_sample(sampler, logits, COUNT(logits), &token, &error),
                     FLASHINFER_EINVAL);
    assert_non_null(strstr(error.text, "all 4 logits"));
    assert_int_equal(token, 77);
    logits[2] = -1e30f;
    for (int i = 0; i < 50; i++) assert_int_equal(next(sampler, logits, COUNT(logits)), 2);
    logits[1] = -3.0e38f;
    logits[2] = 3.0e38f;
    for (int i = 0; i < 50; i++) assert_int_equal(next(sampler, logits, COUNT(logits)), 2);
    logits[0] = logits[3] = INFINITY;
    for (int i = 0; i < 50; i++) assert_int_equal(next(sampler, logits, COUNT(logits)), 0);
    flin_sampler_destroy(sampler);
}

/* The tokens and sizes below were computed apart from this code: exact exponentials, the published
 * generators. */
static void the_same_tokens_on_every_machine(void **state)
{
    static const struct {
        uint64_t seed;
        float temperature;
        uint32_t top_k;
        float top_p, min_p;
        int32_t tokens[16];
    } cases[] = {
        {1u, 1, 0, 0, 0, {45, 12, 7, 45, 7, 47, 6, 6, 47, 47, 44, 46, 25, 45, 4, 46}},
        {42u, 0.7f, 8, 0, 0, {13, 38, 46, 47, 47, 13, 4, 38, 47, 46, 38, 12, 38, 45, 46, 46}},
        {7u, 1.5f, 0, 0.9f, 0, {45, 33, 11, 12, 36, 38, 47, 46, 6, 47, 36, 25, 36, 45, 25, 15}},
        {123456789012345u,
         0.8f,
         20,
         0.8f,
         0.05f,
         {46, 4, 4, 46, 45, 12, 7, 7, 46, 46, 12, 46, 47, 46, 44, 45}},
        {3u, 2, 0, 0, 0.1f, {46, 45, 12, 38, 33, 29, 12, 46, 12, 46, 45, 47, 46, 7, 7, 7}},
    };
    float logits[VOCAB];

    (void)state;
    make_logits(logits, VOCAB);
    for (size_t c = 0; c < COUNT(cases); c++) {
        flashinfer_sampler_options options = defaults();
        flashinfer_sampler *sampler;
        options.seed = cases[c].seed;
        options.temperature = cases[c].temperature;
        options.top_k = cases[c].top_k;
        options.top_p = cases[c].top_p;
        options.min_p = cases[c].min_p;
        sampler = new_sampler(&options, VOCAB);
        for (size_t i = 0; i < COUNT(cases[c].tokens); i++)
            assert_int_equal(next(sampler, logits, VOCAB), cases[c].tokens[i]);
        flin_sampler_destroy(sampler);
    }
}

#define DRAWS 8000

/* Draw many times; every frequency must be within six standard deviations of the probability
   wanted, and a token whose probability is 0 must never come. */
static void has_distribution(const flashinfer_sampler_options *options, const float *logits,
                             const double *wanted, size_t count)
{
    flashinfer_sampler *sampler = new_sampler(options, count);
    unsigned *drawn = calloc(count, sizeof *drawn);

    assert_non_null(drawn);
    for (int i = 0; i < DRAWS; i++) drawn[next(sampler, logits, count)]++;
    for (size_t i = 0; i < count; i++) {
        double deviation = sqrt(DRAWS * wanted[i] * (1 - wanted[i]));
        if (wanted[i] == 0 ? drawn[i] != 0 : fabs(drawn[i] - DRAWS * wanted[i]) > 6 * deviation + 1)
            fail_msg("token %zu was drawn %u times, %g expected", i, drawn[i], DRAWS * wanted[i]);
    }
    free(drawn);
    flin_sampler_destroy(sampler);
}

static int rank_of(const float *logits, size_t count, size_t token)
{
    int rank = 0;

    for (size_t i = 0; i < count; i++)
        rank += logits[i] > logits[token] || (logits[i] == logits[token] && i < token);
    return rank;
}

/* The definition, step by step: top-k, temperature, top-p, min-p. */
static void expected(const flashinfer_sampler_options *options, const float *logits, double *wanted,
                     size_t count)
{
    double total = 0, reached = 0, most = -1e9;
    size_t order[VOCAB];
    int closed = 0;

    assert_true(count <= VOCAB);
    for (size_t i = 0; i < count; i++) {
        order[rank_of(logits, count, i)] = i;
        most = fmax(most, (double)logits[i]);
    }
    for (size_t i = 0; i < count; i++) {
        int kept = options->top_k == 0 || (uint32_t)rank_of(logits, count, i) < options->top_k;
        wanted[i] = kept ? exp(((double)logits[i] - most) / (double)options->temperature) : 0;
        total += wanted[i];
    }
    for (size_t rank = 0; rank < count; rank++) {
        double weight = wanted[order[rank]];
        if (closed || weight < (double)options->min_p) wanted[order[rank]] = 0;
        reached += weight;
        closed = closed || (options->top_p > 0 && options->top_p < 1 &&
                            reached >= (double)options->top_p * total);
    }
    total = 0;
    for (size_t i = 0; i < count; i++) total += wanted[i];
    for (size_t i = 0; i < count; i++) wanted[i] /= total;
}

static void distributions_are_those_defined(void **state)
{
    static const struct {
        float temperature;
        uint32_t top_k;
        float top_p, min_p;
    } cases[] = {{1, 0, 0, 0},           {0.5f, 0, 1, 0},  {3, 0, 0, 0},        {1, 5, 0, 0},
                 {1, VOCAB, 0, 0},       {1, 0, 0.5f, 0},  {0.8f, 0, 0.95f, 0}, {1, 0, 0, 0.2f},
                 {1.3f, 12, 0.8f, 0.1f}, {1, 0, 1e-9f, 0}, {1e-6f, 0, 0, 0},    {1, 0, 0, 1},
                 {1e30f, 3, 0, 0}};
    float logits[VOCAB];
    double wanted[VOCAB];

    (void)state;
    make_logits(logits, VOCAB);
    for (size_t c = 0; c < COUNT(cases); c++) {
        flashinfer_sampler_options options = defaults();
        options.seed = c;
        options.temperature = cases[c].temperature;
        options.top_k = cases[c].top_k;
        options.top_p = cases[c].top_p;
        options.min_p = cases[c].min_p;
        expected(&options, logits, wanted, VOCAB);
        has_distribution(&options, logits, wanted, VOCAB);
    }
}

/* Equal logits at the edge of top-k and of the nucleus: the lower ids stay. */
static void ties_at_an_edge(void **state)
{
    static const float logits[6] = {0, 1, 0, 1, 0, 0};
    static const double top_3[6] = {0.15536240, 0.42231880, 0, 0.42231880, 0, 0};
    flashinfer_sampler_options options = defaults();
    float equal[VOCAB] = {0};
    double wanted[VOCAB] = {0};

    (void)state;
    options.temperature = 1;
    options.top_k = 3;
    has_distribution(&options, logits, top_3, 6);
    options.top_k = 0;
    options.top_p = 0.5f;
    for (size_t i = 0; i < VOCAB / 2; i++) wanted[i] = 2.0 / VOCAB;
    has_distribution(&options, equal, wanted, VOCAB);
}

static void repetition_is_punished_once_and_forgotten(void **state)
{
    static const float logits[] = {4, 3.9f, -1, 3.8f};
    static const float negative[] = {-1, -1.5f, -3, -1.9f};
    flashinfer_sampler_options options = defaults();
    flashinfer_sampler *sampler;

    (void)state;
    options.repetition_penalty = 2;
    options.repetition_tokens = 2;
    sampler = new_sampler(&options, 4);
    assert_int_equal(next(sampler, logits, 4), 0);
    assert_int_equal(next(sampler, logits, 4), 1);
    assert_int_equal(next(sampler, logits, 4), 3);
    assert_int_equal(next(sampler, logits, 4), 0); /* two tokens ago is forgotten */
    assert_int_equal(flin_sampler_accept(sampler, 0, NULL), 0);
    assert_int_equal(flin_sampler_accept(sampler, 0, NULL), 0);
    assert_int_equal(next(sampler, negative, 4), 1); /* -1 doubled is -2 */
    assert_int_equal(flin_sampler_accept(sampler, 0, NULL), 0);
    assert_int_equal(flin_sampler_accept(sampler, 0, NULL), 0);
    assert_int_equal(next(sampler, (const float[]){5, 2.4f, 2, 1}, 4),
                     0); /* once, not twice: 2.5 */
    flin_sampler_destroy(sampler);

    options.repetition_penalty = 1;
    sampler = new_sampler(&options, 4);
    for (int i = 0; i < 3; i++) assert_int_equal(next(sampler, logits, 4), 0);
    flin_sampler_destroy(sampler);

    options.repetition_penalty = 2;
    options.repetition_tokens = 0; /* 64 */
    sampler = new_sampler(&options, 4);
    assert_int_equal(flin_sampler_accept(sampler, 0, NULL), 0);
    for (int i = 0; i < 63; i++) assert_int_equal(flin_sampler_accept(sampler, 2, NULL), 0);
    assert_int_equal(next(sampler, logits, 4), 1);
    assert_int_equal(next(sampler, logits, 4), 0);
    flin_sampler_destroy(sampler);
}

static void biases_are_added_first(void **state)
{
    static const flashinfer_logit_bias biases[] = {{3, 2.5f}, {0, -INFINITY}, {2, -1}};
    static const float logits[] = {9, 2, 3.5f, 0, NAN};
    flashinfer_sampler_options options = defaults();
    double wanted[5] = {0, 0.2689414214, 0, 0.7310585786, 0}; /* of 2 and 3: not of 2 and 2.5 / 2 */
    flashinfer_sampler *sampler;

    (void)state;
    options.logit_biases = biases;
    options.logit_bias_count = COUNT(biases);
    sampler = new_sampler(&options, 5);
    for (int i = 0; i < 3; i++) assert_int_equal(next(sampler, logits, 5), 2); /* 2, 2.5, 2.5 */
    flin_sampler_destroy(sampler);

    options.repetition_penalty = 5; /* of what the bias has made */
    options.repetition_tokens = 1;
    sampler = new_sampler(&options, 5);
    assert_int_equal(next(sampler, logits, 5), 2);
    assert_int_equal(next(sampler, logits, 5), 3);
    assert_int_equal(next(sampler, logits, 5), 2);
    assert_int_equal(next(sampler, logits, 2), 1);
    flin_sampler_destroy(sampler);

    options = defaults();
    options.temperature = 1;
    options.logit_biases = (const flashinfer_logit_bias[]){{3, 3}, {0, -INFINITY}, {2, -INFINITY}};
    options.logit_bias_count = 3;
    has_distribution(&options, logits, wanted, 5);
}

static void wrong_biases_are_refused(void **state)
{
    static const struct {
        flashinfer_logit_bias list[2];
        int code;
        const char *words;
    } cases[] = {
        {{{0, 1}, {4, 1}}, FLASHINFER_ETOKEN, "logit_biases[1] is for token 4"},
        {{{-1, 1}, {0, 1}}, FLASHINFER_ETOKEN, "logit_biases[0] is for token -1"},
        {{{0, 1}, {1, NAN}}, FLASHINFER_EINVAL, "logit_biases[1].bias is nan"},
        {{{0, INFINITY}, {1, 1}}, FLASHINFER_EINVAL, "logit_biases[0].bias is inf"},
        {{{2, 0}, {2, 0}}, FLASHINFER_EINVAL, "logit_biases[1] is a second one for token 2"}};
    flashinfer_error error = {.size = sizeof error};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        flashinfer_sampler_options options = defaults();
        flashinfer_sampler *sampler;
        options.logit_biases = cases[i].list;
        options.logit_bias_count = 2;
        assert_int_equal(flin_sampler_create(&options, 4, &sampler, &error), cases[i].code);
        assert_null(sampler);
        if (strstr(error.text, cases[i].words) == NULL) fail_msg("%s", error.text);
    }
}

/* ---- copies and saved states ---- */

#define REMEMBERED 5u

static flashinfer_sampler *new_whole_sampler(uint64_t seed)
{
    static const flashinfer_logit_bias biases[] = {{7, 1}};
    flashinfer_sampler_options options = defaults();

    options.seed = seed;
    options.temperature = 1.2f;
    options.top_k = 40;
    options.repetition_penalty = 1.3f;
    options.repetition_tokens = REMEMBERED;
    options.logit_biases = biases;
    options.logit_bias_count = 1;
    return new_sampler(&options, VOCAB);
}

static void go_on_alike(flashinfer_sampler *one, flashinfer_sampler *two)
{
    float logits[VOCAB];

    make_logits(logits, VOCAB);
    for (int i = 0; i < 40; i++)
        assert_int_equal(next(one, logits, VOCAB), next(two, logits, VOCAB));
}

/* After any number of tokens: less than it remembers, as many, more. */
static void copies_and_states_go_on_alike(void **state)
{
    float logits[VOCAB];

    (void)state;
    make_logits(logits, VOCAB);
    for (uint32_t before = 0; before < 3 * REMEMBERED; before++) {
        flashinfer_sampler *sampler = new_whole_sampler(8), *other = new_whole_sampler(9), *copy;
        flashinfer_error error = {.size = sizeof error};
        unsigned char saved[128], again[128];
        size_t bytes, written;
        for (uint32_t i = 0; i < before; i++) (void)next(sampler, logits, VOCAB);
        for (uint32_t i = 0; i < 7; i++) (void)next(other, logits, VOCAB);
        assert_int_equal(flin_sampler_copy(sampler, &copy, &error), 0);
        assert_int_equal(flin_sampler_state_save(sampler, NULL, 0, &bytes, &error),
                         FLASHINFER_EBUFFER);
        assert_int_equal(bytes, 56 + 4 * (before < REMEMBERED ? before : REMEMBERED) + 8);
        assert_int_equal(flin_sampler_state_save(sampler, saved, bytes - 1, &written, &error),
                         FLASHINFER_EBUFFER);
        assert_int_equal(written, bytes);
        assert_int_equal(flin_sampler_state_save(sampler, saved, sizeof saved, &written, &error),
                         0);
        assert_int_equal(written, bytes);
        assert_int_equal(flin_sampler_state_load(other, saved, bytes, &error), 0);
        assert_int_equal(flin_sampler_state_save(other, again, sizeof again, &written, &error), 0);
        assert_int_equal(written, bytes);
        assert_memory_equal(saved, again, bytes);
        go_on_alike(sampler, other);
        assert_int_equal(flin_sampler_state_load(sampler, saved, bytes, &error), 0);
        flin_sampler_destroy(other);
        go_on_alike(sampler, copy);
        flin_sampler_destroy(sampler);
        (void)next(copy, logits, VOCAB); /* it has memory of its own */
        flin_sampler_destroy(copy);
    }
}

static void refuses_state(flashinfer_sampler *sampler, const void *state, size_t bytes)
{
    flashinfer_error error = {.size = sizeof error};
    unsigned char before[128], after[128];
    size_t written;

    assert_int_equal(flin_sampler_state_save(sampler, before, sizeof before, &written, NULL), 0);
    assert_int_equal(flin_sampler_state_load(sampler, state, bytes, &error), FLASHINFER_ESTATE);
    assert_int_equal(error.code, FLASHINFER_ESTATE);
    assert_int_equal(flin_sampler_state_save(sampler, after, sizeof after, &written, NULL), 0);
    assert_memory_equal(before, after, written);
}

/* A number of a state is changed, and its checksum with it. */
static void refuses_number(flashinfer_sampler *sampler, const unsigned char *state, size_t bytes,
                           size_t at, uint64_t number, size_t number_bytes)
{
    unsigned char changed[128];
    uint64_t sum;

    memcpy(changed, state, bytes);
    memcpy(changed + at, &number, number_bytes);
    sum = flin_hash(changed, bytes - sizeof sum);
    memcpy(changed + bytes - sizeof sum, &sum, sizeof sum);
    refuses_state(sampler, changed, bytes);
}

static void foreign_and_damaged_states_are_refused(void **state)
{
    flashinfer_sampler *sampler = new_whole_sampler(8), *plain = new_sampler(NULL, VOCAB);
    unsigned char saved[128], none[128];
    size_t bytes, none_bytes;
    float logits[VOCAB];

    (void)state;
    make_logits(logits, VOCAB);
    for (uint32_t i = 0; i < 8; i++) (void)next(sampler, logits, VOCAB);
    assert_int_equal(flin_sampler_state_save(sampler, saved, sizeof saved, &bytes, NULL), 0);
    assert_int_equal(flin_sampler_state_save(plain, none, sizeof none, &none_bytes, NULL), 0);
    for (size_t i = 0; i < bytes; i++) {
        saved[i] ^= 16;
        refuses_state(sampler, saved, bytes);
        saved[i] ^= 16;
        refuses_state(sampler, saved, i);
    }
    refuses_state(sampler, none, none_bytes);
    refuses_state(plain, saved, bytes);
    /* a right checksum is no proof: magic, a state that never changes, vocabulary, tokens, counts */
    refuses_number(sampler, saved, bytes, 0, 0, 1);
    refuses_number(sampler, saved, bytes, 40, VOCAB + 1, 4);
    refuses_number(sampler, saved, bytes, 44, REMEMBERED + 1, 4);
    refuses_number(sampler, saved, bytes, 48, REMEMBERED + 1, 4);
    refuses_number(sampler, saved, bytes, 48, REMEMBERED - 1, 4);
    refuses_number(sampler, saved, bytes, 56, VOCAB, 4);
    refuses_number(sampler, saved, bytes, 56, UINT64_MAX, 4);
    memset(none + 8, 0, 32);
    refuses_number(plain, none, none_bytes, 8, 0, 8);
    assert_int_equal(flin_sampler_state_load(sampler, saved, bytes, NULL), 0);
    flin_sampler_destroy(sampler);
    flin_sampler_destroy(plain);
}

static void wrong_options_are_refused(void **state)
{
    flashinfer_error error = {.size = sizeof error};
    flashinfer_sampler_options options;
    flashinfer_sampler *sampler;

    (void)state;
#define REFUSED(field, value)                                                                      \
    options = defaults();                                                                          \
    options.field = value;                                                                         \
    error.text[0] = 0;                                                                             \
    assert_int_equal(flin_sampler_create(&options, 4, &sampler, &error), FLASHINFER_EINVAL);       \
    assert_null(sampler);                                                                          \
    assert_non_null(strstr(error.text, #field))
    REFUSED(temperature, -0.1f);
    REFUSED(temperature, NAN);
    REFUSED(temperature, INFINITY);
    REFUSED(top_p, -0.1f);
    REFUSED(top_p, 1.1f);
    REFUSED(top_p, NAN);
    REFUSED(min_p, -1);
    REFUSED(min_p, 2);
    REFUSED(min_p, NAN);
    REFUSED(repetition_penalty, -1);
    REFUSED(repetition_penalty, NAN);
    REFUSED(repetition_penalty, INFINITY);
    REFUSED(repetition_tokens, UINT32_MAX);
    REFUSED(logit_bias_count, 1); /* and no list */
#undef REFUSED
    assert_int_equal(flin_sampler_create(NULL, 0, &sampler, &error), FLASHINFER_EINVAL);
    assert_int_equal(
        flin_sampler_create(NULL, (size_t)FLIN_SAMPLER_VOCAB_MAX + 1, &sampler, &error),
        FLASHINFER_EINVAL);
    assert_int_equal(flin_sampler_create(NULL, SIZE_MAX, &sampler, &error), FLASHINFER_EINVAL);
}

static void wrong_arguments_are_refused(void **state)
{
    static const float logits[5] = {0};
    flashinfer_error error = {.size = sizeof error};
    flashinfer_sampler *sampler = new_sampler(NULL, 4);
    int32_t token;

    (void)state;
    assert_int_equal(flin_sampler_sample(sampler, logits, 5, &token, &error), FLASHINFER_EINVAL);
    assert_int_equal(flin_sampler_sample(sampler, logits, 0, &token, &error), FLASHINFER_EINVAL);
    assert_int_equal(flin_sampler_accept(sampler, -1, &error), FLASHINFER_ETOKEN);
    assert_int_equal(flin_sampler_accept(sampler, 4, &error), FLASHINFER_ETOKEN);
    assert_int_equal(flin_sampler_accept(sampler, 3, &error), 0);
    flin_sampler_destroy(sampler);
}

/* Through the public functions, which only check and call inward. */
static void missing_arguments_are_refused(void **state)
{
    flashinfer_error error = {.size = sizeof error};
    flashinfer_sampler *sampler = new_sampler(NULL, 4), *copy = sampler;
    unsigned char saved[128];
    size_t written = 77;

    (void)state;
    assert_int_equal(flashinfer_sampler_copy(NULL, &copy, &error), FLASHINFER_EINVAL);
    assert_null(copy);
    assert_int_equal(flashinfer_sampler_copy(sampler, NULL, &error), FLASHINFER_EINVAL);
    assert_non_null(strstr(error.text, "copy is NULL"));
    assert_int_equal(flashinfer_sampler_state_save(NULL, saved, 128, &written, &error),
                     FLASHINFER_EINVAL);
    assert_int_equal(written, 0);
    assert_int_equal(flashinfer_sampler_state_save(sampler, NULL, 128, &written, &error),
                     FLASHINFER_EINVAL);
    assert_non_null(strstr(error.text, "buffer is NULL"));
    assert_int_equal(flashinfer_sampler_state_save(sampler, saved, 128, NULL, &error),
                     FLASHINFER_EINVAL);
    assert_int_equal(flashinfer_sampler_state_save(sampler, NULL, 0, &written, &error),
                     FLASHINFER_EBUFFER);
    assert_int_equal(written, 64);
    assert_int_equal(flashinfer_sampler_state_load(NULL, saved, 64, &error), FLASHINFER_EINVAL);
    assert_int_equal(flashinfer_sampler_state_load(sampler, NULL, 64, &error), FLASHINFER_EINVAL);
    flashinfer_sampler_destroy(sampler);
}

static void options_init_writes_only_what_the_caller_has(void **state)
{
    flashinfer_sampler_options options;

    (void)state;
    memset(&options, 0xee, sizeof options);
    flin_sampler_options_init(&options, 16);
    assert_int_equal(options.size, 16);
    assert_int_equal(options.top_k, 0);
    assert_true(options.seed == 0);
    assert_true(options.logit_bias_count == 0xeeeeeeee);
    flin_sampler_options_init(NULL, sizeof options);
}

#ifdef FLIN_TEST_WRAP_MALLOC
static void no_memory_for_a_sampler_and_none_later(void **state)
{
    float logits[VOCAB];
    flashinfer_sampler_options options = defaults();
    flashinfer_error error = {.size = sizeof error};
    flashinfer_sampler *sampler, *copy;
    int32_t token;
    int code;

    (void)state;
    make_logits(logits, VOCAB);
    heap_fails = 1;
    code = flin_sampler_create(NULL, VOCAB, &sampler, &error);
    heap_fails = 0;
    assert_int_equal(code, FLASHINFER_ENOMEM);
    assert_null(sampler);
    options.temperature = 1;
    options.top_k = 10;
    options.top_p = 0.9f;
    options.min_p = 0.1f;
    options.repetition_penalty = 1.1f;
    sampler = new_sampler(&options, VOCAB);
    heap_fails = 1;
    code = flin_sampler_copy(sampler, &copy, &error);
    heap_fails = 0;
    assert_int_equal(code, FLASHINFER_ENOMEM);
    assert_null(copy);
    heap_fails = 1;
    code = flin_sampler_sample(sampler, logits, VOCAB, &token, &error);
    heap_fails = 0;
    assert_int_equal(code, 0);
    flin_sampler_destroy(sampler);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_lowest_of_the_largest),
        cmocka_unit_test(infinite_and_undefined_logits),
        cmocka_unit_test(the_same_tokens_on_every_machine),
        cmocka_unit_test(distributions_are_those_defined),
        cmocka_unit_test(ties_at_an_edge),
        cmocka_unit_test(repetition_is_punished_once_and_forgotten),
        cmocka_unit_test(biases_are_added_first),
        cmocka_unit_test(wrong_biases_are_refused),
        cmocka_unit_test(copies_and_states_go_on_alike),
        cmocka_unit_test(foreign_and_damaged_states_are_refused),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(missing_arguments_are_refused),
        cmocka_unit_test(options_init_writes_only_what_the_caller_has),
#ifdef FLIN_TEST_WRAP_MALLOC
        cmocka_unit_test(no_memory_for_a_sampler_and_none_later),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
