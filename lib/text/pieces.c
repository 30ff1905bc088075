/*
 * pieces.c - vocabularies whose tokens are characters and not bytes, with U+2581 for spaces: what
 * SentencePiece and the tokenizers that follow it have in common, whatever merges.
 */
#include <string.h>

#include "text/tables.h"

static const uint8_t underline[3] = {0xe2, 0x96, 0x81}; /* U+2581 */

uint8_t flin_piece_kind(uint64_t type, flin_string text)
{
    int is_matched = flin_tokenizer_is_matched(type, text.bytes);

    switch (type) {
    case FLIN_TYPE_NORMAL:
        return FLIN_GIVES_MAPPED | FLIN_MERGEABLE;
    case FLIN_TYPE_USER_DEFINED:
        return (uint8_t)(FLIN_GIVES_MAPPED | (is_matched ? FLIN_MATCHED_ALWAYS : 0) |
                         (memchr(text.data, ' ', text.bytes) != NULL ? FLIN_SPACED : 0));
    case FLIN_TYPE_CONTROL:
    case FLIN_TYPE_UNKNOWN:
        return FLIN_GIVES_NOTHING | (is_matched ? FLIN_MATCHED_SPECIAL : 0);
    case FLIN_TYPE_BYTE:
        return FLIN_GIVES_BYTE;
    default:
        return FLIN_GIVES_NOTHING;
    }
}

int flin_space_text(flin_encoding *encoding, const uint8_t *text, size_t bytes,
                    const uint8_t **spaced, size_t *spaced_bytes)
{
    size_t needed_bytes = bytes, used = 0;
    uint8_t *to;

    for (size_t i = 0; i < bytes; i++) needed_bytes += text[i] == ' ' ? sizeof underline - 1 : 0;
    if (encoding->tokenizer->adds_space) needed_bytes += sizeof underline;
    to = flin_scratch_reserve(&encoding->spaced, needed_bytes);
    if (to == NULL)
        return flin_fail(encoding->error, FLASHINFER_ENOMEM,
                         "no memory to tokenise a text of %zu bytes; break it up", bytes);
    if (encoding->tokenizer->adds_space) {
        memcpy(to, underline, sizeof underline);
        used = sizeof underline;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == ' ') {
            memcpy(to + used, underline, sizeof underline);
            used += sizeof underline;
        } else {
            to[used++] = text[i];
        }
    }
    *spaced = to;
    *spaced_bytes = used;
    return 0;
}
