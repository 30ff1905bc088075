/*
 * split_rules.c - the table of ways to cut text.
 *
 * The expressions are those of the models' own tokenizer.json. llama.cpp writes some of them in
 * other words, and where that gives other tokens the model's own count (docs/format.md has a list).
 */
#include "text/split.h"

#define GPT2_WORDS                                                                                 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* llama-bpe and its relatives: how numbers are cut differs, and what a word is made of */
#define WORDS(letters, numbers, others)                                                            \
    FLIN_CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?" letters "+|" numbers "| ?" others                  \
                      "+[\\r\\n]*|" SPACES

/* gpt-4o and tekken: words of capitals, then small letters */
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(contractions, numbers)                                                               \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" contractions "|[^\\r\\n\\p{L}\\p{N}]?" UPPER      \
    "+" LOWER "*" contractions "|" numbers "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES

/* letters with case; escaped, so that no editor normalises them */
#define DEEPSEEK_LETTERS                                                                           \
    "\\s?["                                                                                        \
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293"                \
    "\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c"           \
    "\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5"               \
    "\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"               \
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59"         \
    "\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc"          \
    "\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107"                \
    "\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"           \
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee"          \
    "\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"                \
    "\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"       \
    "\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"         \
    "\U000118a0-\U000118df\U0001e900-\U0001e943"                                                   \
    "]+"

#define HAN_AND_MORE "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"

const flin_split_rule flin_split_rules[] = {
    {{"gpt-2", "phi-2"}, {GPT2_WORDS}, 0},
    {{"olmo", "mpt"}, {GPT2_WORDS}, FLIN_SPLIT_NFC},
    {{"smollm", "starcoder", "refact"}, {"\\p{N}", GPT2_WORDS}, 0},
    {{"command-r"}, {"\\p{N}", GPT2_WORDS}, FLIN_SPLIT_NFC},
    {{"llama-bpe", "llama3", "llama-v3"},
     {WORDS("\\p{L}", "\\p{N}{1,3}", "[^\\s\\p{L}\\p{N}]")},
     FLIN_SPLIT_WHOLE_WORDS | FLIN_SPLIT_BOS},
    {{"qwen2"}, {WORDS("\\p{L}", "\\p{N}", "[^\\s\\p{L}\\p{N}]")}, FLIN_SPLIT_NFC},
    {{"qwen35"}, {WORDS("[\\p{L}\\p{M}]", "\\p{N}", "[^\\s\\p{L}\\p{M}\\p{N}]")}, FLIN_SPLIT_NFC},
    {{"gpt-4o", "llama4"}, {CASED(FLIN_CONTRACTIONS "?", "\\p{N}{1,3}")}, 0},
    {{"tekken"}, {CASED("", "\\p{N}")}, FLIN_SPLIT_WHOLE_WORDS | FLIN_SPLIT_BOS},
    {{"falcon"},
     {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2_WORDS, "\\p{N}+", "[0-9][0-9][0-9]"},
     FLIN_SPLIT_MAPPED_BEHIND},
    {{"deepseek-llm"},
     {"[\r\n]", DEEPSEEK_LETTERS,
      "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", "\\s+$", HAN_AND_MORE,
      "\\p{N}"},
     0},
    {{"deepseek-coder"}, {"[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", HAN_AND_MORE, "\\p{N}"}, 0},
    {{"deepseek-v3"},
     {"\\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?"
      "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"},
     0},
    {{"gemma4"}, {NULL}, FLIN_SPLIT_PIECES | FLIN_SPLIT_BOS},
};

const uint32_t flin_split_rule_count = sizeof flin_split_rules / sizeof *flin_split_rules;

const flin_split_rule *flin_split_find(flin_string name)
{
    for (uint32_t i = 0; i < flin_split_rule_count; i++)
        for (uint32_t k = 0; k < FLIN_SPLIT_NAMES_MAX; k++) {
            const char *known = flin_split_rules[i].names[k];
            if (known != NULL && flin_string_is(name, known)) return &flin_split_rules[i];
        }
    return NULL;
}
