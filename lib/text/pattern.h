/*
 * pattern.h - the regular expressions by which texts are cut into words.
 *
 * Owns: reading an expression, matching it at a place. Knows what published tokenizers use, and no
 * more: alternatives of characters, [sets], \s, \S, \p{..}, each with ? * + {n} or {n,m}; then
 * (?!\S), $, and the group of English contractions, whatever their case. Refuses: vocabularies, and
 * every other expression.
 *
 * A match is that of a backtracking engine: the first alternative that matches, as long as it gets.
 * A byte that is not part of a UTF-8 character matches nothing, not even a negated set.
 */
#ifndef FLIN_TEXT_PATTERN_H
#define FLIN_TEXT_PATTERN_H

#include <stddef.h>
#include <stdint.h>

#define FLIN_PATTERN_SETS_MAX 48u
#define FLIN_PATTERN_ITEMS_MAX 48u
#define FLIN_PATTERN_RANGES_MAX 192u
#define FLIN_PATTERN_ALTERNATIVES_MAX 12u

#define FLIN_CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"

/* What a character may be. Beyond ASCII: one of the classes, or within one of the ranges, which
   are sorted; or none of that, if negated. */
typedef struct flin_pattern_set {
    uint64_t ascii[2];
    uint32_t classes; /* bits by enum flin_unicode_class */
    uint16_t first_range, range_count;
    uint32_t negated, reserved;
} flin_pattern_set;

typedef struct flin_pattern_range {
    uint32_t first, last;
} flin_pattern_range;

typedef struct flin_pattern_item {
    uint8_t kind;
    uint8_t set;
    uint16_t reserved;
    uint32_t least, most; /* how often; most may be UINT32_MAX */
} flin_pattern_item;

/* What several expressions are made of. */
typedef struct flin_pattern_pool {
    flin_pattern_set sets[FLIN_PATTERN_SETS_MAX];
    flin_pattern_item items[FLIN_PATTERN_ITEMS_MAX];
    flin_pattern_range ranges[FLIN_PATTERN_RANGES_MAX];
    uint32_t set_count, item_count, range_count;
} flin_pattern_pool;

typedef struct flin_pattern {
    uint16_t ends[FLIN_PATTERN_ALTERNATIVES_MAX]; /* of alternatives, in the pool's items */
    uint16_t first;                               /* item of the first alternative */
    uint16_t alternative_count;
    uint32_t mapped; /* 1: it sees bytes, as the characters of GPT-2's byte alphabet */
} flin_pattern;

/* Returns 0, or -1 for an expression beyond what is known here or a pool that is full. */
int flin_pattern_read(flin_pattern_pool *pool, const char *expression, flin_pattern *pattern);

/* Bytes of the match at the beginning of text; 0: none. The text ends where it ends: $ and (?!\S)
   hold there. *skip becomes the bytes after which the next match may begin, if there is none. */
size_t flin_pattern_match(const flin_pattern_pool *pool, const flin_pattern *pattern,
                          const uint8_t *text, size_t bytes, size_t *skip);

#endif
