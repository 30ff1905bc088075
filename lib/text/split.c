/*
 * split.c - the walk through a text with several expressions at once.
 */
#include "text/split.h"

#include <assert.h>
#include <string.h>

#include "util/utf8.h"

/* Every expression of the table can be read; a test tries each. */
void flin_split_read(flin_split *split, const flin_split_rule *rule)
{
    memset(split, 0, sizeof *split);
    for (uint32_t i = 0; i < FLIN_SPLIT_STAGES_MAX && rule->expressions[i] != NULL; i++) {
        flin_pattern *stage = &split->stages[split->stage_count++];
        int code = flin_pattern_read(&split->pool, rule->expressions[i], stage);
        assert(code == 0);
        (void)code;
        stage->mapped = (rule->flags & FLIN_SPLIT_MAPPED_BEHIND) != 0 && i >= 2;
    }
}

/* ---- cutting ---- */

/* Bytes of a stage's next piece: a match, or all before the next one. */
static size_t next_piece(const flin_split *split, uint32_t stage, const uint8_t *text, size_t bytes)
{
    const flin_pattern *pattern = &split->stages[stage];
    size_t at = 0, skip = 0;

    if (flin_utf8_read(text, bytes).kind != FLIN_UTF8_CHARACTER && !pattern->mapped) return 1;
    while (at < bytes) {
        size_t length = flin_pattern_match(&split->pool, pattern, text + at, bytes - at, &skip);
        if (length != 0) return at == 0 ? length : at;
        at += skip;
        if (at < bytes && !pattern->mapped && text[at] >= 128 &&
            flin_utf8_read(text + at, bytes - at).kind != FLIN_UTF8_CHARACTER)
            return at;
    }
    return at;
}

size_t flin_split_next(flin_splitter *splitter)
{
    size_t from = splitter->at, end = splitter->bytes;

    if (from == end) return 0;
    for (uint32_t stage = 0; stage < splitter->split->stage_count; stage++) {
        size_t *own = &splitter->ends[stage];
        if (*own == from)
            *own = from + next_piece(splitter->split, stage, splitter->text + from, end - from);
        end = *own;
    }
    splitter->at = end;
    return end - from;
}
