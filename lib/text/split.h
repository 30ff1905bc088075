/*
 * split.h - cuts text into the words that byte-level BPE works on, as GPT-2's pattern does:
 *
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *
 * Owns: that pattern. Refuses: vocabularies. A byte that is not part of a UTF-8 character is a word
 * by itself and counts as \S for the white space before it, so that every byte string can be
 * tokenised and comes back unchanged.
 */
#ifndef FLIN_TEXT_SPLIT_H
#define FLIN_TEXT_SPLIT_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the word at the beginning of text (bytes > 0). Looks ahead to the end of the word and
 * one character more. */
size_t flin_split_next(const uint8_t *text, size_t bytes);

#endif
