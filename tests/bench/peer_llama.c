/*
 * peer_llama.c - llama.cpp as a side of peer_run.c. Built by peer.py, with the llama.cpp it has fetched and built.
 *
 * Its own defaults, with threads and context as asked and the CPU alone. In the ways "mmap", "read" and "direct" no
 * second copy of the weights in another layout is made (use_extra_bufts): it would not be mapped and could not be paged
 * out. "default" makes it where llama.cpp would.
 */
#include <llama.h>
#include <stdio.h>
#include <string.h>

#include "peer_side.h"

const char peer_ways[] = "default, mmap, read (--no-mmap) or direct";

static struct llama_model *model;
static struct llama_context *context;

static void tell_errors_only(enum ggml_log_level level, const char *text, void *user)
{
    (void)user;
    if (level == GGML_LOG_LEVEL_ERROR) (void)fputs(text, stderr);
}

static int read_way(const char *way, struct llama_model_params *params)
{
    params->use_extra_bufts = false;
    if (strcmp(way, "default") == 0)
        params->use_extra_bufts = true;
    else if (strcmp(way, "mmap") == 0)
        params->load_mode = LLAMA_LOAD_MODE_MMAP;
    else if (strcmp(way, "read") == 0)
        params->load_mode = LLAMA_LOAD_MODE_NONE;
    else if (strcmp(way, "direct") == 0)
        params->load_mode = LLAMA_LOAD_MODE_DIRECT_IO;
    else
        return fprintf(stderr, "\"%s\" is not %s\n", way, peer_ways) != 0;
    return 0;
}

int peer_open(const peer_request *asked, uint32_t *vocab_count)
{
    struct llama_model_params of_model = llama_model_default_params();
    struct llama_context_params of_context = llama_context_default_params();

    if (read_way(asked->way, &of_model) != 0) return 1;
    llama_log_set(tell_errors_only, NULL);
    llama_backend_init();
    of_model.n_gpu_layers = 0;
    of_context.n_ctx = asked->context_tokens;
    of_context.n_batch = asked->context_tokens;
    of_context.n_threads = of_context.n_threads_batch = (int32_t)asked->threads;
    model = llama_model_load_from_file(asked->model, of_model);
    if (model != NULL) context = llama_init_from_model(model, of_context);
    if (context == NULL) return fprintf(stderr, "llama.cpp did not open %s\n", asked->model) != 0;
    *vocab_count = (uint32_t)llama_vocab_n_tokens(llama_model_get_vocab(model));
    return 0;
}

int peer_eval(int32_t *tokens, uint32_t count, float *first_logit)
{
    int code = llama_decode(context, llama_batch_get_one(tokens, (int32_t)count));

    if (code != 0) return fprintf(stderr, "llama_decode returned %d\n", code) != 0;
    *first_logit = llama_get_logits(context)[0]; /* waits for the last token's */
    return 0;
}

void peer_close(void)
{
    if (context != NULL) llama_free(context);
    if (model != NULL) llama_model_free(model);
}
