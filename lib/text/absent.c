/*
 * absent.c - stands in for the tokenizer and the decoder in builds made without them, so that the
 * ABI stays whole. Models open as always; their text calls are refused.
 */
#include "text/decoder.h"

int flin_tokenizer_refuse(flashinfer_error *error)
{
    return flin_fail(error, FLASHINFER_EUNSUPPORTED,
                     "this build of the library was made without tokenizer; build it with "
                     "-Dtokenizer=enabled");
}

int flin_tokenizer_layout(flin_arena *arena, const flin_gguf *gguf, uint32_t vocab_count,
                          flin_tokenizer **tokenizer, flashinfer_error *error)
{
    (void)arena;
    (void)gguf;
    (void)vocab_count;
    (void)error;
    *tokenizer = NULL;
    return 0;
}

int flin_tokenizer_encode(const flin_tokenizer *tokenizer, const char *text, size_t text_bytes,
                          uint32_t flags, int32_t *tokens, size_t capacity, size_t *count,
                          flashinfer_error *error)
{
    (void)tokenizer;
    (void)text;
    (void)text_bytes;
    (void)flags;
    (void)tokens;
    (void)capacity;
    (void)count;
    return flin_tokenizer_refuse(error);
}

int flin_tokenizer_decode(const flin_tokenizer *tokenizer, const int32_t *tokens, size_t count,
                          char *text, size_t capacity, size_t *text_bytes, flashinfer_error *error)
{
    (void)tokenizer;
    (void)tokens;
    (void)count;
    (void)text;
    (void)capacity;
    (void)text_bytes;
    return flin_tokenizer_refuse(error);
}

int32_t flin_tokenizer_bos(const flin_tokenizer *tokenizer)
{
    (void)tokenizer;
    return -1;
}

int32_t flin_tokenizer_eos(const flin_tokenizer *tokenizer)
{
    (void)tokenizer;
    return -1;
}

int flin_tokenizer_adds_bos(const flin_tokenizer *tokenizer)
{
    (void)tokenizer;
    return 0;
}

int flin_decoder_create(const flin_tokenizer *tokenizer, flashinfer_decoder **decoder,
                        flashinfer_error *error)
{
    (void)tokenizer;
    (void)decoder;
    return flin_tokenizer_refuse(error);
}

int flin_decoder_push(flashinfer_decoder *decoder, int32_t token, const char **text,
                      size_t *text_bytes, flashinfer_error *error)
{
    (void)decoder;
    (void)token;
    *text = "";
    if (text_bytes != NULL) *text_bytes = 0;
    return flin_tokenizer_refuse(error);
}

int flin_decoder_set_stops(flashinfer_decoder *decoder, const char *const *texts,
                           const size_t *text_bytes, size_t count, flashinfer_error *error)
{
    (void)decoder;
    (void)texts;
    (void)text_bytes;
    (void)count;
    return flin_tokenizer_refuse(error);
}

int32_t flin_decoder_stopped(const flashinfer_decoder *decoder)
{
    (void)decoder;
    return -1;
}

void flin_decoder_destroy(flashinfer_decoder *decoder)
{
    (void)decoder;
}
