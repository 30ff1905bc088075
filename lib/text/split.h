/*
 * split.h - cuts text into the words that byte-level BPE works on.
 *
 * Owns: one table (split_rules.c), with a line for each way that files name in tokenizer.ggml.pre;
 * using it. Refuses: vocabularies, expressions from files.
 *
 * A way is one expression after the other. Each takes the pieces of the one before it and cuts them
 * into its matches and what lies between them. A byte that is not part of a UTF-8 character is a
 * piece by itself, so that every byte string can be tokenised and comes back unchanged.
 */
#ifndef FLIN_TEXT_SPLIT_H
#define FLIN_TEXT_SPLIT_H

#include "text/pattern.h"
#include "util/string.h"

#define FLIN_SPLIT_STAGES_MAX 6u
#define FLIN_SPLIT_NAMES_MAX 4u

enum {
    FLIN_SPLIT_NFC = 1,           /* texts are normalised first */
    FLIN_SPLIT_WHOLE_WORDS = 2,   /* a word that is a token is not merged: ignore_merges */
    FLIN_SPLIT_BOS = 4,           /* texts begin with bos where the file does not say */
    FLIN_SPLIT_MAPPED_BEHIND = 8, /* from the third expression on they see mapped bytes */
    FLIN_SPLIT_PIECES = 16        /* texts in characters, with spaces as U+2581, not in bytes */
};

typedef struct flin_split_rule {
    const char *names[FLIN_SPLIT_NAMES_MAX];        /* the first is what pack writes */
    const char *expressions[FLIN_SPLIT_STAGES_MAX]; /* as tokenizer.json has them; NULL ends */
    uint32_t flags;                                 /* FLIN_SPLIT_... */
} flin_split_rule;

extern const flin_split_rule flin_split_rules[];
extern const uint32_t flin_split_rule_count;

/* The rule of this name, or NULL. */
const flin_split_rule *flin_split_find(flin_string name);

/* The expressions of a rule, ready to be used. */
typedef struct flin_split {
    flin_pattern_pool pool;
    flin_pattern stages[FLIN_SPLIT_STAGES_MAX];
    uint32_t stage_count;
} flin_split;

void flin_split_read(flin_split *split, const flin_split_rule *rule);

/* A text that is being cut. Begin with {split, text, bytes}. */
typedef struct flin_splitter {
    const flin_split *split;
    const uint8_t *text; /* (bytes) */
    size_t bytes;
    size_t at;                          /* words before it were given */
    size_t ends[FLIN_SPLIT_STAGES_MAX]; /* of the piece that each stage is in */
} flin_splitter;

/* Bytes of the next word, which begins at `at` as it was before; 0 at the end of the text. */
size_t flin_split_next(flin_splitter *splitter);

#endif
