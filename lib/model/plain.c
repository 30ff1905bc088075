/*
 * plain.c - see plain.h.
 */
#include "model/plain.h"

#include <stdio.h>
#include <string.h>

#include "model/arch/arch.h"
#include "model/names.h"

/* ----------------------------------------------------------------------------------- activation */

static char lower(char letter)
{
    return letter >= 'A' && letter <= 'Z' ? (char)(letter - 'A' + 'a') : letter;
}

static int begins_with(const char *text, size_t bytes, const char *word)
{
    size_t i = 0;

    while (word[i] != '\0' && i < bytes && lower(text[i]) == word[i]) i++;
    return word[i] == '\0';
}

/* A word of that kind in the text; NULL: none. */
static const char *hint_in(flin_string text)
{
    static const char *const hints[] = {"relu",   "prosparse", "turbosparse",
                                        "bamboo", "minicpm-s", "sparselm"};

    for (size_t at = 0; at < text.bytes; at++)
        for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++)
            if (begins_with(text.data + at, text.bytes - at, hints[i])) return hints[i];
    return NULL;
}

/* Does the file call itself a relative whose FFN has a ReLU? Converters drop which. */
static const char *find_hint(const flin_gguf *gguf, const char **key)
{
    static const char *const keys[] = {
        "general.name",        "general.basename",          "general.finetune",
        "general.description", "general.base_model.0.name", "general.base_model.0.repo_url",
        "general.source.url",  "general.repo_url"};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        flin_string text = {"", 0};
        const char *hint;
        *key = keys[i];
        if (flin_gguf_find(gguf, keys[i]) == NULL) continue;
        if (flin_gguf_string(gguf, keys[i], &text, NULL) != 0) continue;
        if ((hint = hint_in(text)) != NULL) return hint;
    }
    return NULL;
}

static int has_zeros(const flin_architecture *architecture)
{
    return (architecture->activations & ((1u << FLIN_ACTIVATION_SILU) - 1)) != 0;
}

/* Without a word to the contrary the format means what the architecture mostly has. */
static int default_activation(const flin_gguf *gguf, flin_shape *shape, flashinfer_error *error)
{
    const char *name = shape->descriptor->activation_otherwise, *key = NULL, *hint = NULL;
    const flin_string text = {name, strlen(name)};
    int code = flin_arch_read_activation(shape->descriptor, "activation", text,
                                         &shape->activation.kind, error);

    if (code != 0) return code;
    if (!flin_activation_has_zeros(&shape->activation) && has_zeros(shape->descriptor))
        hint = find_hint(gguf, &key);
    if (hint == NULL) return 0;
    return flin_fail(
        error, FLASHINFER_EUNSUPPORTED,
        "the file does not say its activation, and %s has \"%s\" in it: models of this "
        "architecture have %s unless they say otherwise, and with the wrong one all "
        "words are wrong; say which it is in options.ffn_activation",
        key, hint, name);
}

int flin_plain_activation(uint32_t number, float threshold, flin_activation_rule *activation,
                          flashinfer_error *error)
{
    *activation = (flin_activation_rule){FLIN_ACTIVATION_KINDS, threshold};
    for (uint32_t i = 0; i < FLIN_ACTIVATION_KINDS; i++)
        if (flin_activation_number((enum flin_activation_kind)i) == number)
            activation->kind = (enum flin_activation_kind)i;
    if (activation->kind == FLIN_ACTIVATION_KINDS)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "options.ffn_activation is %u, which is not one of its values", number);
    if (!(threshold >= 0 && threshold < (float)FLIN_THRESHOLD_MAX) ||
        (threshold > 0 && activation->kind != FLIN_ACTIVATION_FATRELU))
        return flin_fail(error, FLASHINFER_EINVAL,
                         "options.ffn_threshold is %g; it is fatrelu's, at least 0 and below %g, "
                         "and 0 for others",
                         (double)threshold, FLIN_THRESHOLD_MAX);
    return 0;
}

static int settle_activation(const flin_gguf *gguf, flin_shape *shape, flashinfer_error *error)
{
    char key[96];
    flin_string name;
    int code;

    (void)snprintf(key, sizeof key, "%s.hidden_activation", shape->architecture);
    if (flin_gguf_find(gguf, key) == NULL) return default_activation(gguf, shape, error);
    code = flin_gguf_string(gguf, key, &name, error);
    if (code == 0)
        code =
            flin_arch_read_activation(shape->descriptor, key, name, &shape->activation.kind, error);
    if (code == 0 && shape->activation.kind == FLIN_ACTIVATION_FATRELU)
        return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                         "%s is fatrelu, whose threshold the file does not have: say both in "
                         "options.ffn_activation and ffn_threshold",
                         key);
    return code;
}

/* ---------------------------------------------------------------------------------------- words */

/* As many as the embedding has matrix rows: few architectures have a key for it. */
static void count_words(const flin_gguf *gguf, flin_shape *shape)
{
    const flin_tensor_rule *rule =
        flin_arch_rule(shape->descriptor, offsetof(flin_weights, token_embedding));
    const flin_gguf_tensor *tensor;
    char name[FLIN_TENSOR_NAME_BYTES];

    if (rule == NULL || shape->vocab != 0) return;
    tensor = flin_gguf_find_tensor(gguf, flin_tensor_name(name, -1, rule->name, ".weight"));
    if (tensor != NULL && tensor->dimensions[1] <= FLIN_VOCAB_MAX)
        shape->vocab = (uint32_t)tensor->dimensions[1];
}

int flin_plain_settle(const flin_gguf *gguf, flin_shape *shape, const flin_activation_rule *wanted,
                      flashinfer_error *error)
{
    const char *name;

    count_words(gguf, shape);
    if (shape->vocab == 0)
        return flin_fail(error, FLASHINFER_EFORMAT,
                         "the file has no token embedding and no number of words: it is no whole "
                         "model; convert it again");
    if (wanted == NULL) return settle_activation(gguf, shape, error);
    shape->activation = *wanted;
    name = flin_activation_name(wanted->kind);
    return flin_arch_read_activation(shape->descriptor, "options.ffn_activation",
                                     (flin_string){name, strlen(name)}, &shape->activation.kind,
                                     error);
}
