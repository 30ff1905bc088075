/*
 * tokenizer_rule.h - which of the known ways to cut texts a tokenizer.json has.
 *
 * Owns: reading its normalizer, pre_tokenizer and ignore_merges. Refuses: vocabularies; and all
 * that no name of tokenizer.ggml.pre stands for (FLASHINFER_EUNSUPPORTED, naming the part).
 */
#ifndef FLIN_PACK_TOKENIZER_RULE_H
#define FLIN_PACK_TOKENIZER_RULE_H

#include "pack/json.h"
#include "text/split.h"

/* The rule whose expressions it has, in whatever words. */
int flin_tokenizer_rule(const cJSON *whole, const flin_split_rule **rule, flashinfer_error *error);

/* The same without a tokenizer.json, by tokenizer_class of tokenizer_config.json; settings may be
   NULL. What names no class is GPT-2's. */
int flin_tokenizer_rule_of_class(const cJSON *settings, const flin_split_rule **rule,
                                 flashinfer_error *error);

#endif
