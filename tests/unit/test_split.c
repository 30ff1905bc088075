/*
 * test_split.c - every way to cut texts that the table knows, on hand-made texts; what the little
 * regular expressions may be; classes of characters. Against the real expressions, by Hugging Face
 * tokenizers: test_splitters.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text/split.h"
#include "text/unicode.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static flin_split *read_rule(const char *name)
{
    const flin_split_rule *rule = flin_split_find((flin_string){name, strlen(name)});
    flin_split *split = malloc(sizeof *split);

    assert_non_null(split);
    if (rule == NULL) fail_msg("no rule %s", name);
    flin_split_read(split, rule);
    return split;
}

/* words: expected ones, each followed by '|' */
static void splits_into(const char *name, const char *text, size_t bytes, const char *words)
{
    flin_split *split = read_rule(name);
    flin_splitter splitter = {.split = split, .text = (const uint8_t *)text, .bytes = bytes};
    char joined[512];
    size_t used = 0, length;

    while ((length = flin_split_next(&splitter)) != 0) {
        assert_true(splitter.at <= bytes);
        memcpy(joined + used, text + splitter.at - length, length);
        used += length;
        joined[used++] = '|';
    }
    assert_int_equal(splitter.at, bytes);
    joined[used] = 0;
    assert_string_equal(joined, words);
    free(split);
}

static void words_are_those_of_the_expressions(void **state)
{
    static const struct {
        const char *name, *text, *words;
    } cases[] = {
        {"gpt-2", "it's they're I'LL we've'd ''s", "it|'s| they|'re| I|'|LL| we|'ve|'d| ''|s|"},
        {"gpt-2", "a  b   c\n\n d \t", "a| | b|  | c|\n\n| d| \t|"},
        {"gpt-2", "a\n\nb", "a|\n|\n|b|"},
        {"gpt-2", "x1 22y -3.5%", "x|1| 22|y| -|3|.|5|%|"},
        {"phi-2", "\xc2\xa0\xc2\xa0z \xc2\xa0", "\xc2\xa0|\xc2\xa0|z| \xc2\xa0|"},
        {"gpt-2", "\xff\xfe a\xe2\x82", "\xff|\xfe| a|\xe2|\x82|"},
        {"gpt-2", "!\xff' \xff  \xed\xa0\x80", "!|\xff|'| |\xff| | |\xed|\xa0|\x80|"},
        {"smollm", "a 12 3", "a| |1|2| |3|"},
        {"llama-bpe", "I'LL 12345 it'\xc5\xbfs x(a)\r\n\n  y",
         "I|'LL| |123|45| it|'\xc5\xbf|s| x|(a|)\r\n\n| | y|"},
        {"llama-bpe", "a   \n  \n b", "a|   \n  \n| b|"},
        {"qwen2", "v12 e\xcc\x81", "v|1|2| e|\xcc\x81|"},
        {"qwen35", "v12 e\xcc\x81", "v|1|2| e\xcc\x81|"},
        {"gpt-4o", "HelloWORLDwide'S A/b//\n1234", "Hello|WORLDwide'S| A|/b|//\n|123|4|"},
        {"tekken", "HelloWORLDwide'S 12", "Hello|WORLDwide|'S| |1|2|"},
        {"falcon", "a 1234, m\xd0\xbc\xd0\xb8", "a| |123|4|,| m\xd0|\xbc|\xd0\xb8|"},
        {"deepseek-llm", "a  b 12\n x  ", "a| | b| |1|2|\n| x|  |"},
        {"deepseek-coder", "a  b, 12\n\n", "a| | b|,| |1|2|\n|\n|"},
        {"deepseek-v3", "ab.cd 1234\x01\x02 e", "ab|.cd| |123|4|\x01\x02| e|"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        splits_into(cases[i].name, cases[i].text, strlen(cases[i].text), cases[i].words);
    splits_into("gpt-2", "a\0b", 3, "a|");
}

/* Whatever bytes there are, words are not empty and make up the text. */
static void all_rules_cut_all_bytes(void **state)
{
    static const char pieces[][8] = {" ",  "  ", "a", "B",  "1",    "22",   ",",        "'s",
                                     "\n", "\r", "/", "\t", "\xff", "\xe2", "\xe5\xad", "\xd0\xbc"};
    uint32_t random = 1;

    (void)state;
    for (uint32_t rule = 0; rule < flin_split_rule_count; rule++) {
        flin_split *split = read_rule(flin_split_rules[rule].names[0]);
        for (int round = 0; round < 3000; round++) {
            char text[256] = "";
            flin_splitter splitter = {.split = split, .text = (const uint8_t *)text};
            size_t length, sum = 0;
            for (uint32_t i = (random = random * 1664525u + 1013904223u) >> 28; i > 0; i--)
                strcat(text, pieces[(random = random * 1664525u + 1013904223u) >> 28]);
            splitter.bytes = strlen(text);
            while ((length = flin_split_next(&splitter)) != 0) sum += length;
            assert_int_equal(sum, splitter.bytes);
            assert_int_equal(splitter.at, splitter.bytes);
        }
        free(split);
    }
}

/* Names are told apart, and each is found. */
static void names_are_found(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < flin_split_rule_count; i++)
        for (uint32_t k = 0; k < FLIN_SPLIT_NAMES_MAX; k++) {
            const char *name = flin_split_rules[i].names[k];
            if (name == NULL) continue;
            assert_ptr_equal(flin_split_find((flin_string){name, strlen(name)}),
                             &flin_split_rules[i]);
        }
    assert_null(flin_split_find((flin_string){"gpt-20", 6}));
    assert_null(flin_split_find((flin_string){"", 0}));
}

/* A run that is looked through again for each of its characters would not end within any test's
   time limit. */
static void long_runs_take_no_quadratic_time(void **state)
{
    static const char *const runs[] = {
        " ",  "a",  "A",    "1",        "\n",           " \n",
        "\t", "'s", "\x01", "\xcc\x81", "\xe5\xad\x97", "A\xe5\xad\x97"};
    const size_t bytes = 1u << 19;
    char *text = malloc(bytes + 1);

    (void)state;
    assert_non_null(text);
    for (uint32_t rule = 0; rule < flin_split_rule_count; rule++) {
        flin_split *split = read_rule(flin_split_rules[rule].names[0]);
        for (size_t run = 0; run < COUNT(runs); run++) {
            size_t length = strlen(runs[run]);
            flin_splitter splitter = {.split = split, .text = (const uint8_t *)text};
            while (splitter.bytes + length <= bytes) {
                memcpy(text + splitter.bytes, runs[run], length);
                splitter.bytes += length;
            }
            text[splitter.bytes++] = 'x';
            while (flin_split_next(&splitter) != 0) continue;
            assert_int_equal(splitter.at, splitter.bytes);
        }
        free(split);
    }
    free(text);
}

/* ---- expressions ---- */

static void expressions_match_as_they_should(void **state)
{
    static const struct {
        const char *expression, *text;
        size_t bytes;
    } cases[] = {
        {"a", "ab", 1},
        {"a|ab", "ab", 1}, /* the first alternative, not the longest */
        {"ab|a", "ab", 2},
        {"a*b", "aab", 3},
        {"a*ab", "aab", 3}, /* gives one back */
        {"a{2}", "aaa", 2},
        {"a{2,3}", "aaaa", 3},
        {"a{2,3}", "a", 0},
        {"a?b", "b", 1},
        {"[a-c\\]\\-]+", "a-]cd", 4},
        {"[^a\\s]+", "b\xe5\xad\x97 a", 4},
        {"[^a]+", "b\xff", 1}, /* no byte that is no character */
        {"\\s+(?!\\S)", "  a", 1},
        {"\\s+(?!\\S)", "  ", 2},
        {"\\s+(?!\\S)", " a", 0},
        {"\\s+$", "  ", 2},
        {"\\s+$", "  a", 0},
        {"\\p{Lu}\\p{Ll}", "Ab", 2},
        {"\\p{N}\\p{P}\\p{S}\\p{M}", "1!+\xcc\x81", 5},
        {"\\p{Lt}\\p{Lm}\\p{Lo}", "\xc7\x85\xca\xb0\xe5\xad\x97", 7},
        {"x(?i:'s|'t|'re|'ve|'m|'ll|'d)?y", "x'LLy", 5},
        {"x(?i:'s|'t|'re|'ve|'m|'ll|'d)?y", "xy", 2},
        {"[\u3000-\u3002\u0100-\u0200]+", "\u0150\u3001\u3003", 5}, /* in any order */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        flin_pattern_pool *pool = calloc(1, sizeof *pool);
        const uint8_t *text = (const uint8_t *)cases[i].text;
        flin_pattern pattern;
        size_t skip = 0, found;
        assert_non_null(pool);
        if (flin_pattern_read(pool, cases[i].expression, &pattern) != 0)
            fail_msg("%s cannot be read", cases[i].expression);
        found = flin_pattern_match(pool, &pattern, text, strlen(cases[i].text), &skip);
        if (found != cases[i].bytes)
            fail_msg("%s matches %zu bytes of \"%s\"", cases[i].expression, found, cases[i].text);
        assert_true(found != 0 || skip != 0);
        free(pool);
    }
}

static void other_expressions_are_not_read(void **state)
{
    static const char *const cases[] = {"(a)",        "(?=a)", "a.b",
                                        "^a",         "[a",    "a{",
                                        "a{x}",       "a{2,",  "\\d",
                                        "\\p{Han}",   "\\w",   "*a",
                                        "[b-a]",      "a\\",   "(?i:'x)",
                                        "[\xff]",     "\xff",  "(?!\\s)a",
                                        "[a-\\p{L}]", "[\\S]", "[\u0100-\u0200\u0110-\u0120]"};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        flin_pattern_pool *pool = calloc(1, sizeof *pool);
        flin_pattern pattern;
        assert_non_null(pool);
        if (flin_pattern_read(pool, cases[i], &pattern) == 0) fail_msg("%s was read", cases[i]);
        free(pool);
    }
}

/* A pool that is full is told, not written past. */
static void long_expressions_are_not_read(void **state)
{
    char expression[1024] = "";
    flin_pattern_pool *pool = calloc(1, sizeof *pool);
    flin_pattern pattern;

    (void)state;
    assert_non_null(pool);
    for (int i = 0; i < 60; i++) (void)strcat(expression, "a");
    assert_int_equal(flin_pattern_read(pool, expression, &pattern), -1);
    memset(pool, 0, sizeof *pool);
    expression[0] = 0;
    for (int i = 0; i < 20; i++) (void)strcat(expression, "a|");
    assert_int_equal(flin_pattern_read(pool, expression, &pattern), -1);
    memset(pool, 0, sizeof *pool);
    (void)strcpy(expression, "[");
    for (unsigned i = 0; i < 250; i++) /* U+0100, U+0102, ... */
        (void)snprintf(expression + 1 + 2 * i, 3, "%c%c", (char)(0xc4 + 2 * i / 64),
                       (char)(0x80 + 2 * i % 64));
    (void)strcat(expression, "]");
    assert_int_equal(flin_pattern_read(pool, expression, &pattern), -1);
    free(pool);
}

/* ---- characters ---- */

static void unicode_classes_at_run_ends(void **state)
{
    static const struct {
        uint32_t code;
        enum flin_unicode_class wanted;
    } cases[] = {
        {0, FLIN_UNICODE_OTHER},
        {'a', FLIN_UNICODE_LOWER},
        {'A', FLIN_UNICODE_UPPER},
        {'9', FLIN_UNICODE_NUMBER},
        {'!', FLIN_UNICODE_PUNCTUATION},
        {'+', FLIN_UNICODE_SYMBOL},
        {0x85, FLIN_UNICODE_SPACE},
        {0xa0, FLIN_UNICODE_SPACE},
        {0xaa, FLIN_UNICODE_OTHER_LETTER},
        {0xb2, FLIN_UNICODE_NUMBER},
        {0xd7, FLIN_UNICODE_SYMBOL},
        {0x1c, FLIN_UNICODE_OTHER},
        {0x1c5, FLIN_UNICODE_TITLE},
        {0x2b0, FLIN_UNICODE_MODIFIER},
        {0x301, FLIN_UNICODE_MARK},
        {0x3000, FLIN_UNICODE_SPACE},
        {0x200b, FLIN_UNICODE_OTHER},
        {0x4e00, FLIN_UNICODE_OTHER_LETTER},
        {0x9fff, FLIN_UNICODE_OTHER_LETTER},
        {0x10d40, FLIN_UNICODE_NUMBER},
        {0x323af, FLIN_UNICODE_OTHER_LETTER},
        {0x323b0, FLIN_UNICODE_OTHER},
        {0xe0100, FLIN_UNICODE_MARK},
        {0x10ffff, FLIN_UNICODE_OTHER},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_int_equal(flin_unicode_class_of(cases[i].code), cases[i].wanted);
    for (uint32_t i = 1; i < flin_unicode_run_count; i++)
        assert_true(flin_unicode_runs[i] >> 4 > flin_unicode_runs[i - 1] >> 4);
    for (uint32_t code = 0; code < 128; code++) /* the short table agrees with the long one */
        assert_int_equal(flin_unicode_ascii[code],
                         flin_unicode_run(flin_unicode_runs, flin_unicode_run_count, 4, code) & 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_those_of_the_expressions),
        cmocka_unit_test(all_rules_cut_all_bytes),
        cmocka_unit_test(names_are_found),
        cmocka_unit_test(long_runs_take_no_quadratic_time),
        cmocka_unit_test(expressions_match_as_they_should),
        cmocka_unit_test(other_expressions_are_not_read),
        cmocka_unit_test(long_expressions_are_not_read),
        cmocka_unit_test(unicode_classes_at_run_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
