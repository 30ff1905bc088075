/*
 * tokenizer_spm.h - SentencePiece's BPE as tokenizer.ggml.* keys: model "llama".
 *
 * Owns: tokens and scores, from tokenizer.model or from a tokenizer.json that was made from one.
 * Refuses: a tokenizer.json whose merges no scores can say.
 */
#ifndef FLIN_PACK_TOKENIZER_SPM_H
#define FLIN_PACK_TOKENIZER_SPM_H

#include "pack/tokenizer_model.h"
#include "pack/tokenizer_vocabulary.h"

/* Is tokenizer.json of this kind? Then flin_spm_export_whole() says what is wrong with it. */
int flin_spm_is_whole(const flin_vocabulary *vocab);

/* From tokenizer.model; the other files only say what is added and special. */
int flin_spm_export_model(flin_gguf_writer *writer, flin_vocabulary *vocab,
                          const flin_sentencepiece *model, flashinfer_error *error);

int flin_spm_export_whole(flin_gguf_writer *writer, flin_vocabulary *vocab,
                          flashinfer_error *error);

#endif
