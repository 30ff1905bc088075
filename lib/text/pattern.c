/*
 * pattern.c - see pattern.h. Reading comes first, then matching: by recursion over the items of an
 * alternative, of which there are few, with loops over text.
 */
#include "text/pattern.h"

#include <string.h>

#include "text/byte_alphabet.h"
#include "text/unicode.h"
#include "util/utf8.h"

#define ANY_NUMBER UINT32_MAX
#define NO_MATCH SIZE_MAX
#define BIT(class) (1u << FLIN_UNICODE_##class)
#define LETTERS (BIT(UPPER) | BIT(LOWER) | BIT(TITLE) | BIT(MODIFIER) | BIT(OTHER_LETTER))

enum { ITEM_SET, ITEM_CONTRACTION, ITEM_NOT_BEFORE_TEXT, ITEM_END };

/* ---- reading ---- */

typedef struct reader {
    flin_pattern_pool *pool;
    const char *at;
    int failed;
} reader;

static int starts_with(const reader *from, const char *text)
{
    return strncmp(from->at, text, strlen(text)) == 0;
}

/* Ranges of a set are kept in order, since they are looked up by halving; none lies within
   another. */
static void add_range(reader *from, flin_pattern_set *set, uint32_t first, uint32_t last)
{
    flin_pattern_pool *pool = from->pool;
    flin_pattern_range *ranges = pool->ranges + set->first_range;
    uint32_t at = set->range_count;

    if (pool->range_count == FLIN_PATTERN_RANGES_MAX) {
        from->failed = 1;
        return;
    }
    for (; at > 0 && ranges[at - 1].first > first; at--) ranges[at] = ranges[at - 1];
    ranges[at] = (flin_pattern_range){first, last};
    pool->range_count++;
    set->range_count++;
    if ((at > 0 && ranges[at - 1].last >= last) ||
        (at + 1u < set->range_count && ranges[at + 1].last <= last))
        from->failed = 1;
}

static void add_characters(reader *from, flin_pattern_set *set, uint32_t first, uint32_t last)
{
    if (first > last) from->failed = 1;
    for (uint32_t code = first; code <= last && code < 128; code++)
        set->ascii[code / 64] |= UINT64_C(1) << code % 64;
    if (last >= 128 && first <= last) add_range(from, set, first < 128 ? 128 : first, last);
}

static void add_classes(flin_pattern_set *set, uint32_t classes)
{
    set->classes |= classes;
    for (uint32_t code = 0; code < 128; code++)
        if (classes >> flin_unicode_ascii[code] & 1)
            set->ascii[code / 64] |= UINT64_C(1) << code % 64;
}

/* \p{..} after the backslash */
static uint32_t read_category(reader *from)
{
    static const struct {
        const char *name;
        uint32_t classes;
    } known[] = {{"p{L}", LETTERS},     {"p{Lu}", BIT(UPPER)},    {"p{Ll}", BIT(LOWER)},
                 {"p{Lt}", BIT(TITLE)}, {"p{Lm}", BIT(MODIFIER)}, {"p{Lo}", BIT(OTHER_LETTER)},
                 {"p{M}", BIT(MARK)},   {"p{N}", BIT(NUMBER)},    {"p{P}", BIT(PUNCTUATION)},
                 {"p{S}", BIT(SYMBOL)}};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!starts_with(from, known[i].name)) continue;
        from->at += strlen(known[i].name);
        return known[i].classes;
    }
    from->failed = 1;
    return 0;
}

/* A character by itself, or behind a backslash. */
static uint32_t read_character(reader *from)
{
    flin_utf8 next;

    if (*from->at == '\\') {
        from->at++;
        if (*from->at == 'r' || *from->at == 'n') return *from->at++ == 'r' ? '\r' : '\n';
        if (strchr("[]\\-$+^|.*?(){}/", *from->at) == NULL) from->failed = 1;
    }
    next = flin_utf8_read((const uint8_t *)from->at, strlen(from->at));
    if (next.kind != FLIN_UTF8_CHARACTER) {
        from->failed = 1;
        return 0;
    }
    from->at += next.bytes;
    return next.code;
}

/* One element of a set, or a set of one element. */
static void read_element(reader *from, flin_pattern_set *set, int takes_ranges)
{
    uint32_t first, last;

    if (starts_with(from, "\\s")) {
        from->at += 2;
        add_classes(set, BIT(SPACE));
    } else if (starts_with(from, "\\p")) {
        from->at++;
        add_classes(set, read_category(from));
    } else {
        first = last = read_character(from);
        if (takes_ranges && from->at[0] == '-' && from->at[1] != ']') {
            from->at++;
            last = read_character(from);
        }
        if (!from->failed) add_characters(from, set, first, last);
    }
}

/* Returns the place of the set in the pool; sets that are alike share one. */
static uint8_t read_set(reader *from)
{
    flin_pattern_pool *pool = from->pool;
    flin_pattern_set set = {.first_range = (uint16_t)pool->range_count};

    if (*from->at == '[') {
        from->at++;
        if (*from->at == '^') {
            set.negated = 1;
            from->at++;
        }
        while (*from->at != ']' && *from->at != '\0' && !from->failed) read_element(from, &set, 1);
        if (*from->at++ != ']') from->failed = 1;
    } else {
        read_element(from, &set, 0);
    }
    for (int i = 0; set.negated && i < 2; i++) set.ascii[i] = ~set.ascii[i];
    for (uint32_t i = 0; i < pool->set_count && set.range_count == 0; i++) {
        set.first_range = pool->sets[i].first_range;
        if (memcmp(&set, &pool->sets[i], sizeof set) == 0) return (uint8_t)i;
    }
    if (pool->set_count == FLIN_PATTERN_SETS_MAX) {
        from->failed = 1;
        return 0;
    }
    pool->sets[pool->set_count] = set;
    return (uint8_t)pool->set_count++;
}

static uint32_t read_number(reader *from)
{
    uint32_t number = 0;

    if (*from->at < '0' || *from->at > '9') from->failed = 1;
    while (*from->at >= '0' && *from->at <= '9' && number < 1000)
        number = number * 10 + (uint32_t)(*from->at++ - '0');
    return number;
}

static void read_repeats(reader *from, flin_pattern_item *item)
{
    item->least = item->most = 1;
    if (*from->at == '{') {
        from->at++;
        item->least = item->most = read_number(from);
        if (*from->at == ',') {
            from->at++;
            item->most = read_number(from);
        }
        if (*from->at++ != '}') from->failed = 1;
        return;
    }
    if (*from->at != '?' && *from->at != '*' && *from->at != '+') return;
    if (*from->at != '+') item->least = 0;
    if (*from->at != '?') item->most = ANY_NUMBER;
    from->at++;
}

static void read_item(reader *from)
{
    flin_pattern_pool *pool = from->pool;
    flin_pattern_item item = {.kind = ITEM_SET};

    if (starts_with(from, FLIN_CONTRACTIONS)) {
        from->at += sizeof FLIN_CONTRACTIONS - 1;
        item.kind = ITEM_CONTRACTION;
    } else if (starts_with(from, "(?!\\S)")) {
        from->at += sizeof "(?!\\S)" - 1;
        item.kind = ITEM_NOT_BEFORE_TEXT;
    } else if (*from->at == '$') {
        from->at++;
        item.kind = ITEM_END;
    } else {
        if (strchr("()*+?{.^", *from->at) != NULL) from->failed = 1;
        item.set = read_set(from);
    }
    if (!from->failed) read_repeats(from, &item);
    if (from->failed || pool->item_count == FLIN_PATTERN_ITEMS_MAX ||
        (item.kind == ITEM_CONTRACTION && item.most != 1)) {
        from->failed = 1;
        return;
    }
    pool->items[pool->item_count++] = item;
}

int flin_pattern_read(flin_pattern_pool *pool, const char *expression, flin_pattern *pattern)
{
    reader from = {pool, expression, 0};

    memset(pattern, 0, sizeof *pattern);
    pattern->first = (uint16_t)pool->item_count;
    for (;;) {
        while (!from.failed && *from.at != '|' && *from.at != '\0') read_item(&from);
        if (from.failed || pattern->alternative_count == FLIN_PATTERN_ALTERNATIVES_MAX) return -1;
        pattern->ends[pattern->alternative_count++] = (uint16_t)pool->item_count;
        if (*from.at == '\0') return 0;
        from.at++;
    }
}

/* ---- matching ---- */

typedef struct subject {
    const flin_pattern_pool *pool;
    const uint8_t *text; /* (bytes) */
    size_t bytes;
    uint32_t mapped;
} subject;

static int in_ranges(const flin_pattern_pool *pool, const flin_pattern_set *set, uint32_t code)
{
    const flin_pattern_range *ranges = pool->ranges + set->first_range;
    uint32_t low = 0, high = set->range_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (code < ranges[middle].first)
            high = middle;
        else if (code > ranges[middle].last)
            low = middle + 1;
        else
            return 1;
    }
    return 0;
}

/* Bytes of the character at a place if it is in the set, else 0. */
static size_t take(const subject *of, const flin_pattern_set *set, size_t at)
{
    uint32_t code, length = 1;

    if (at == of->bytes) return 0;
    code = of->text[at];
    if (of->mapped) {
        code = flin_character_of_byte((uint8_t)code);
    } else if (code >= 128) {
        flin_utf8 next = flin_utf8_read(of->text + at, of->bytes - at);
        if (next.kind != FLIN_UTF8_CHARACTER) return 0;
        code = next.code;
        length = next.bytes;
    }
    if (code < 128) return set->ascii[code / 64] >> code % 64 & 1 ? length : 0;
    if (set->classes >> flin_unicode_class_of(code) & 1) return set->negated ? 0 : length;
    if (set->range_count != 0 && in_ranges(of->pool, set, code)) return set->negated ? 0 : length;
    return set->negated ? length : 0;
}

/* Where the character before a place begins; that place follows one. */
static size_t step_back(const subject *of, size_t at)
{
    at--;
    while (!of->mapped && (of->text[at] & 0xc0) == 0x80) at--;
    return at;
}

/* A letter at a place, in lower case; U+017F is an s in another case. */
static uint32_t letter_at(const subject *of, size_t at, size_t *bytes)
{
    uint8_t byte = at < of->bytes ? of->text[at] : 0;

    *bytes = 1;
    if (byte >= 'A' && byte <= 'Z') return byte - 'A' + 'a';
    if (byte != 0xc5 || at + 1 == of->bytes || of->text[at + 1] != 0xbf) return byte;
    *bytes = 2;
    return 's';
}

/* Bytes of 's 't 'm 'd 're 've 'll at a place; 0 if none of them is there. */
static size_t contraction(const subject *of, size_t at)
{
    size_t first_bytes, second_bytes;
    uint32_t first, second;

    if (at == of->bytes || of->text[at] != '\'') return 0;
    first = letter_at(of, at + 1, &first_bytes);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return 1 + first_bytes;
    second = letter_at(of, at + 2, &second_bytes);
    if ((first == 'r' || first == 'v') && second == 'e') return 3;
    return first == 'l' && second == 'l' ? 3 : 0;
}

static int stands_before_text(const subject *of, size_t at)
{
    static const flin_pattern_set space = {.ascii = {0x100003e00u, 0}, .classes = BIT(SPACE)};

    return at != of->bytes && take(of, &space, at) == 0;
}

static size_t match_items(const subject *of, uint32_t item, uint32_t end, size_t at);

/* As many characters as there are, then fewer until the rest matches too. */
static size_t match_set(const subject *of, uint32_t item, uint32_t end, size_t at)
{
    const flin_pattern_item *wanted = &of->pool->items[item];
    const flin_pattern_set *set = &of->pool->sets[wanted->set];
    size_t count = 0, length;

    while (count < wanted->most && (length = take(of, set, at)) != 0) {
        at += length;
        count++;
    }
    while (count >= wanted->least) {
        size_t found = item + 1 == end ? at : match_items(of, item + 1, end, at);
        if (found != NO_MATCH || count == 0) return found;
        at = step_back(of, at);
        count--;
    }
    return NO_MATCH;
}

/* Where a match of items[item, end) ends that begins at a place. */
static size_t match_items(const subject *of, uint32_t item, uint32_t end, size_t at)
{
    const flin_pattern_item *wanted = &of->pool->items[item];
    size_t length;

    if (item == end) return at;
    switch (wanted->kind) {
    case ITEM_CONTRACTION:
        length = contraction(of, at);
        if (length == 0 && wanted->least != 0) return NO_MATCH;
        return match_items(of, item + 1, end, at + length);
    case ITEM_NOT_BEFORE_TEXT:
        return stands_before_text(of, at) ? NO_MATCH : match_items(of, item + 1, end, at);
    case ITEM_END:
        return at != of->bytes ? NO_MATCH : match_items(of, item + 1, end, at);
    default:
        return match_set(of, item, end, at);
    }
}

/* Where an expression is X+$ and there is no match, there is none before the end of all X. */
static size_t run_of(const subject *of, const flin_pattern *pattern)
{
    const flin_pattern_item *items = of->pool->items + pattern->first;
    size_t at = 0, length;

    if (pattern->alternative_count != 1 || pattern->ends[0] != pattern->first + 2u ||
        items[0].kind != ITEM_SET || items[0].most != ANY_NUMBER || items[1].kind != ITEM_END)
        return 0;
    while ((length = take(of, &of->pool->sets[items[0].set], at)) != 0) at += length;
    return at;
}

size_t flin_pattern_match(const flin_pattern_pool *pool, const flin_pattern *pattern,
                          const uint8_t *text, size_t bytes, size_t *skip)
{
    const subject of = {pool, text, bytes, pattern->mapped};
    uint32_t item = pattern->first;

    for (uint32_t i = 0; i < pattern->alternative_count; item = pattern->ends[i++]) {
        size_t end = match_items(&of, item, pattern->ends[i], 0);
        if (end != NO_MATCH && end != 0) return end;
    }
    *skip = run_of(&of, pattern);
    if (*skip == 0) {
        flin_utf8 next = flin_utf8_read(text, bytes);
        *skip = pattern->mapped || next.kind != FLIN_UTF8_CHARACTER ? 1 : next.bytes;
    }
    return 0;
}
