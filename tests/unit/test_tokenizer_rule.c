/*
 * test_tokenizer_rule.c - which way to cut texts a tokenizer.json has: every known one as its models
 * write it (tests/data/tokenizer/rules.json, made by tests/tools/make_splitter_cases.py), other
 * words for the same, and what is refused.
 */
#include "text_fixture.h"

#include "pack/tokenizer_rule.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const flin_split_rule *find_rule(const char *name)
{
    return flin_split_find((flin_string){name, strlen(name)});
}

static void every_rule_is_found(void **state)
{
    buffer text = read_data("rules.json");
    cJSON *rules = cJSON_ParseWithLength((const char *)text.data, text.bytes);
    const cJSON *entry;
    size_t count = 0;

    (void)state;
    assert_non_null(rules);
    cJSON_ArrayForEach(entry, rules)
    {
        flashinfer_error error = {.size = sizeof error};
        const flin_split_rule *rule = NULL;
        if (flin_tokenizer_rule(entry, &rule, &error) != 0)
            fail_msg("%s: %s", entry->string, error.text);
        if (rule != find_rule(entry->string))
            fail_msg("%s was taken for %s", entry->string, rule->names[0]);
        count++;
    }
    assert_true(count >= flin_split_rule_count);
    cJSON_Delete(rules);
    free(text.data);
}

#define BYTES "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"
#define GPT2 "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define DIGITS "{\"type\":\"Digits\",\"individual_digits\":true}"
#define SEQUENCE(parts) "{\"type\":\"Sequence\",\"pretokenizers\":[" parts "]}"
#define SPLIT(regex, how) "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"}," how "}"
#define ISOLATED "\"behavior\":\"Isolated\",\"invert\":false"
#define QWEN2                                                                                      \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "                    \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define GPT2_WORDS                                                                                 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| "                                            \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|\\\\s+"
/* falcon's expressions; where bytes are mapped decides what the last two see */
#define PUNCTUATION "{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"}"
#define NUMBERS                                                                                    \
    "{\"type\":\"Digits\",\"individual_digits\":false}," SPLIT("[0-9][0-9][0-9]", ISOLATED)
#define NFC "{\"type\":\"NFC\"}"

static int read_whole(const char *normalizer, const char *splitter, const char *model,
                      const flin_split_rule **rule, flashinfer_error *error)
{
    cJSON *whole = cJSON_CreateObject();
    int code;

    cJSON_AddItemToObject(whole, "normalizer", cJSON_Parse(normalizer));
    cJSON_AddItemToObject(whole, "pre_tokenizer", cJSON_Parse(splitter));
    cJSON_AddItemToObject(whole, "model", cJSON_Parse(model));
    assert_non_null(cJSON_GetObjectItemCaseSensitive(whole, "pre_tokenizer"));
    error->size = sizeof *error;
    code = flin_tokenizer_rule(whole, rule, error);
    cJSON_Delete(whole);
    return code;
}

static void other_words_for_the_same(void **state)
{
    static const char *const cases[][4] = {
        {"null", GPT2, "{}", "gpt-2"},
        {"null", SEQUENCE(GPT2), "{\"ignore_merges\":false}", "gpt-2"},
        {"{\"type\":\"Sequence\",\"normalizers\":[]}", GPT2, "{}", "gpt-2"},
        {"{\"type\":\"Sequence\",\"normalizers\":[" NFC "]}", GPT2, "{}", "olmo"},
        {"null", SEQUENCE(DIGITS "," GPT2), "{}", "smollm"},
        {NFC, SEQUENCE(SPLIT("\\\\p{N}", ISOLATED) "," GPT2), "{}", "command-r"},
        {"null", SEQUENCE(PUNCTUATION "," SPLIT(GPT2_WORDS, ISOLATED) "," BYTES "," NUMBERS), "{}",
         "falcon"},
        {NFC, SEQUENCE(SPLIT(QWEN2, "\"behavior\":\"Removed\",\"invert\":true") "," BYTES), "{}",
         "qwen2"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        flashinfer_error error;
        const flin_split_rule *rule = NULL;
        if (read_whole(cases[i][0], cases[i][1], cases[i][2], &rule, &error) != 0)
            fail_msg("%zu: %s", i, error.text);
        assert_ptr_equal(rule, find_rule(cases[i][3]));
    }
}

static void other_ways_are_refused(void **state)
{
    static const char *const cases[][4] = {
        {"{\"type\":\"NFKC\"}", GPT2, "{}", "a normalizer that is not NFC"},
        {"{\"type\":\"Sequence\",\"normalizers\":[" NFC "," NFC "]}", GPT2, "{}", "not NFC"},
        {"null", GPT2, "{\"ignore_merges\":true}", "with no normalizer and with ignore_merges"},
        {"null", SEQUENCE(SPLIT(QWEN2, ISOLATED) "," BYTES), "{}",
         "is that of qwen2, but with no normalizer and without ignore_merges"},
        {"null", SEQUENCE(SPLIT("a+", ISOLATED) "," BYTES), "{}", "unknown expressions"},
        {"null", SEQUENCE(SPLIT("a+", "\"behavior\":\"Removed\"") "," BYTES), "{}",
         "does not keep what it splits by"},
        {"null", "{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"Isolated\"}",
         "{}", "splits by no expression"},
        {"null", SPLIT("\\\\p{N}", ISOLATED), "{}", "is not ByteLevel"},
        {"null", SEQUENCE(GPT2 "," DIGITS), "{}", "unknown expressions"}, /* digits of bytes */
        {"null", SEQUENCE(PUNCTUATION "," SPLIT(GPT2_WORDS, ISOLATED) "," NUMBERS "," BYTES), "{}",
         "unknown expressions"},
        {"null", SEQUENCE(GPT2 "," GPT2), "{}", "ByteLevel twice"},
        {"null", "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "{}", "adds a space"},
        {"null", "{\"type\":\"ByteLevel\"}", "{}", "adds a space"},
        {"null", BYTES, "{}", "unknown expressions"},
        {"null", "{\"type\":\"Whitespace\"}", "{}", "its pre_tokenizer Whitespace is not known"},
        {"null", "{\"type\":\"Punctuation\",\"behavior\":\"Isolated\"}", "{}",
         "Punctuation is not"},
        {"null", "{}", "{}", "its pre_tokenizer without a type is not known"},
        {"null", SEQUENCE(SEQUENCE(GPT2)), "{}", "its pre_tokenizer Sequence is not known"},
        {"null", SEQUENCE(DIGITS "," DIGITS "," DIGITS "," DIGITS "," DIGITS "," DIGITS "," GPT2),
         "{}", "more parts than any known"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        flashinfer_error error;
        const flin_split_rule *rule;
        assert_int_equal(read_whole(cases[i][0], cases[i][1], cases[i][2], &rule, &error),
                         FLASHINFER_EUNSUPPORTED);
        if (strstr(error.text, cases[i][3]) == NULL)
            fail_msg("%zu: \"%s\" does not say \"%s\"", i, error.text, cases[i][3]);
    }
}

static void classes_name_rules(void **state)
{
    static const char *const cases[][2] = {
        {"{}", "gpt-2"},
        {"{\"tokenizer_class\":\"GPT2TokenizerFast\"}", "gpt-2"},
        {"{\"tokenizer_class\":\"Qwen2Tokenizer\"}", "qwen2"},
        {"{\"tokenizer_class\":\"Qwen2TokenizerSlow\"}", NULL},
        {"{\"tokenizer_class\":\"LlamaTokenizer\"}", NULL},
    };
    const flin_split_rule *rule;

    (void)state;
    assert_int_equal(flin_tokenizer_rule_of_class(NULL, &rule, NULL), 0);
    assert_ptr_equal(rule, find_rule("gpt-2"));
    for (size_t i = 0; i < COUNT(cases); i++) {
        flashinfer_error error = {.size = sizeof error};
        cJSON *settings = cJSON_Parse(cases[i][0]);
        int code = flin_tokenizer_rule_of_class(settings, &rule, &error);
        if (cases[i][1] != NULL) {
            assert_int_equal(code, 0);
            assert_ptr_equal(rule, find_rule(cases[i][1]));
        } else {
            assert_int_equal(code, FLASHINFER_EUNSUPPORTED);
            assert_non_null(strstr(error.text, "put tokenizer.json beside it"));
        }
        cJSON_Delete(settings);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rule_is_found),
        cmocka_unit_test(other_words_for_the_same),
        cmocka_unit_test(other_ways_are_refused),
        cmocka_unit_test(classes_name_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
