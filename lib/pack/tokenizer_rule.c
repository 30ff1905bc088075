/*
 * tokenizer_rule.c - see tokenizer_rule.h. A pre_tokenizer is read as the expressions that it cuts
 * by, one after the other; Digits and Punctuation are such expressions too. Then the table of
 * lib/text is looked through for the same ones.
 */
#include "pack/tokenizer_rule.h"

#include <stdio.h>
#include <string.h>

#include "pack/tokenizer_vocabulary.h"

typedef struct way {
    const char *expressions[FLIN_SPLIT_STAGES_MAX];
    uint32_t count;
    uint32_t before_bytes; /* expressions that see text; those behind see mapped bytes */
    int maps_bytes;
    uint32_t flags; /* FLIN_SPLIT_NFC and _WHOLE_WORDS */
} way;

static const char *expression_of(const char *name, uint32_t stage)
{
    return flin_split_find((flin_string){name, strlen(name)})->expressions[stage];
}

static int is_true(const cJSON *object, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static int add_expression(way *found, const char *expression, flashinfer_error *error)
{
    if (found->count == FLIN_SPLIT_STAGES_MAX)
        return flin_tokenizer_unsupported("its pre_tokenizer has more parts than any known", error);
    found->expressions[found->count++] = expression;
    return 0;
}

/* Matches are pieces, and so is what lies between them. "Removed" with invert keeps the matches
   alone, which is the same where they are all of the text. */
static int read_split(const cJSON *part, way *found, flashinfer_error *error)
{
    const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(part, "pattern");
    const char *expression = flin_json_text(pattern, "Regex");
    const char *behavior = flin_json_text(part, "behavior");
    const char *wanted = is_true(part, "invert") ? "Removed" : "Isolated";

    if (expression == NULL)
        return flin_tokenizer_unsupported("its pre_tokenizer splits by no expression", error);
    if (behavior == NULL || strcmp(behavior, wanted) != 0)
        return flin_tokenizer_unsupported("its pre_tokenizer does not keep what it splits by",
                                          error);
    return add_expression(found, expression, error);
}

static int read_byte_level(const cJSON *part, way *found, flashinfer_error *error)
{
    if (found->maps_bytes)
        return flin_tokenizer_unsupported("its pre_tokenizer is ByteLevel twice", error);
    if (!cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(part, "add_prefix_space")))
        return flin_tokenizer_unsupported("its pre_tokenizer adds a space before the text", error);
    if (!cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(part, "use_regex"))) {
        int code = add_expression(found, expression_of("gpt-2", 0), error);
        if (code != 0) return code;
    }
    found->maps_bytes = 1;
    found->before_bytes = found->count;
    return 0;
}

static int read_part(const cJSON *part, int nested, way *found, flashinfer_error *error)
{
    const char *type = flin_json_text(part, "type"), *behavior = flin_json_text(part, "behavior");
    const cJSON *entry;
    char what[96];

    if (type != NULL && strcmp(type, "Sequence") == 0 && !nested) {
        cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(part, "pretokenizers"))
        {
            int code = read_part(entry, 1, found, error);
            if (code != 0) return code;
        }
        return 0;
    }
    if (type != NULL && strcmp(type, "Split") == 0) return read_split(part, found, error);
    if (type != NULL && strcmp(type, "ByteLevel") == 0) return read_byte_level(part, found, error);
    if (type != NULL && strcmp(type, "Digits") == 0)
        return add_expression(found,
                              is_true(part, "individual_digits") ? expression_of("smollm", 0)
                                                                 : expression_of("falcon", 2),
                              error);
    if (type != NULL && strcmp(type, "Punctuation") == 0 && behavior != NULL &&
        strcmp(behavior, "Contiguous") == 0)
        return add_expression(found, expression_of("falcon", 0), error);
    (void)snprintf(what, sizeof what, "its pre_tokenizer %.32s is not known",
                   type != NULL && flin_json_is_plain(type) ? type : "without a type");
    return flin_tokenizer_unsupported(what, error);
}

static int read_normalizer(const cJSON *node, way *found, flashinfer_error *error)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(node, "normalizers");

    if (node == NULL || cJSON_IsNull(node)) return 0;
    if (flin_json_is_type(node, "Sequence") && cJSON_IsArray(list)) {
        if (list->child == NULL) return 0;
        if (list->child->next == NULL) node = list->child;
    }
    if (!flin_json_is_type(node, "NFC"))
        return flin_tokenizer_unsupported("it has a normalizer that is not NFC", error);
    found->flags |= FLIN_SPLIT_NFC;
    return 0;
}

/* Two expressions that say the same: line breaks may stand there themselves or as \\r and \\n. */
static int is_same(const char *one, const char *two)
{
    while (*one != '\0' && *two != '\0') {
        char left = *one++, right = *two++;
        if (left == '\\' && (*one == 'r' || *one == 'n')) left = *one++ == 'r' ? '\r' : '\n';
        if (right == '\\' && (*two == 'r' || *two == 'n')) right = *two++ == 'r' ? '\r' : '\n';
        if (left != right) return 0;
    }
    return *one == *two;
}

static int has_expressions(const flin_split_rule *rule, const way *found)
{
    uint32_t count = 0, before_bytes;

    for (; count < FLIN_SPLIT_STAGES_MAX && rule->expressions[count] != NULL; count++)
        if (count == found->count || !is_same(rule->expressions[count], found->expressions[count]))
            return 0;
    before_bytes = (rule->flags & FLIN_SPLIT_MAPPED_BEHIND) != 0 ? 2 : count;
    return count != 0 && count == found->count && before_bytes == found->before_bytes;
}

int flin_tokenizer_rule(const cJSON *whole, const flin_split_rule **rule, flashinfer_error *error)
{
    const uint32_t compared = FLIN_SPLIT_NFC | FLIN_SPLIT_WHOLE_WORDS;
    const char *like = NULL;
    way found = {{NULL}, 0, 0, 0, 0};
    char what[160];
    int code =
        read_normalizer(cJSON_GetObjectItemCaseSensitive(whole, "normalizer"), &found, error);

    if (code == 0)
        code =
            read_part(cJSON_GetObjectItemCaseSensitive(whole, "pre_tokenizer"), 0, &found, error);
    if (code != 0) return code;
    if (!found.maps_bytes)
        return flin_tokenizer_unsupported("its pre_tokenizer is not ByteLevel", error);
    if (flin_json_is_set(cJSON_GetObjectItemCaseSensitive(whole, "model"), "ignore_merges"))
        found.flags |= FLIN_SPLIT_WHOLE_WORDS;
    for (uint32_t i = 0; i < flin_split_rule_count; i++) {
        *rule = &flin_split_rules[i];
        if (!has_expressions(*rule, &found)) continue;
        if (((*rule)->flags & compared) == found.flags) return 0;
        like = (*rule)->names[0];
    }
    if (like == NULL)
        return flin_tokenizer_unsupported("its pre_tokenizer splits words by unknown expressions",
                                          error);
    (void)snprintf(what, sizeof what,
                   "its pre_tokenizer is that of %s, but with %s normalizer and %s ignore_merges",
                   like, found.flags & FLIN_SPLIT_NFC ? "the" : "no",
                   found.flags & FLIN_SPLIT_WHOLE_WORDS ? "with" : "without");
    return flin_tokenizer_unsupported(what, error);
}

int flin_tokenizer_rule_of_class(const cJSON *settings, const flin_split_rule **rule,
                                 flashinfer_error *error)
{
    static const char *const known[][2] = {{"GPT2Tokenizer", "gpt-2"},
                                           {"CodeGenTokenizer", "gpt-2"},
                                           {"GPTNeoXTokenizer", "olmo"},
                                           {"Qwen2Tokenizer", "qwen2"},
                                           {"CohereTokenizer", "command-r"}};
    const char *class = flin_json_text(settings, "tokenizer_class");
    const char *name = class == NULL ? "gpt-2" : NULL;

    for (size_t i = 0; name == NULL && i < sizeof known / sizeof *known; i++) {
        size_t bytes = strlen(known[i][0]);
        if (strncmp(class, known[i][0], bytes) == 0 &&
            (class[bytes] == '\0' || strcmp(class + bytes, "Fast") == 0))
            name = known[i][1];
    }
    if (name == NULL)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "tokenizer_config.json: tokenizer_class %.64s does not say how texts are "
                         "cut; put tokenizer.json beside it",
                         flin_json_is_plain(class) ? class : "?");
    *rule = flin_split_find((flin_string){name, strlen(name)});
    return 0;
}
