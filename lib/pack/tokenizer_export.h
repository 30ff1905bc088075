/*
 * tokenizer_export.h - a checkpoint's tokenizer as tokenizer.ggml.* keys.
 *
 * Owns: reading tokenizer.model, or tokenizer.json, or vocab.json and merges.txt, with the small
 * files beside them. Refuses: tokenizers that are neither GPT-2's byte-level BPE nor
 * SentencePiece's BPE (FLASHINFER_EUNSUPPORTED, naming the part that differs), and tables that do
 * not fit together (FLASHINFER_ECHECKPOINT).
 */
#ifndef FLIN_PACK_TOKENIZER_EXPORT_H
#define FLIN_PACK_TOKENIZER_EXPORT_H

#include "pack/checkpoint.h"
#include "pack/gguf_write.h"

/* Token types of GGUF */
enum {
    FLIN_TOKEN_NORMAL = 1,
    FLIN_TOKEN_UNKNOWN = 2,
    FLIN_TOKEN_CONTROL = 3,
    FLIN_TOKEN_USER_DEFINED = 4,
    FLIN_TOKEN_UNUSED = 5,
    FLIN_TOKEN_BYTE = 6
};

int flin_tokenizer_export(flin_gguf_writer *writer, int directory,
                          const flin_checkpoint *checkpoint, flashinfer_error *error);

#endif
