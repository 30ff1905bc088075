/*
 * peer_run.c - a prompt and then token after token, one line of JSON for each, as soon as it is done.
 *
 * Tokens are a fixed Zipf sequence, so both sides are given the same ones and nothing is sampled. Lines are written out
 * at once: a run that is killed by its memory limit or its time limit has told how far it came. What the figures mean
 * is left to peer.py.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "peer_side.h"
#include "zipf.h"

#define SEED 1

typedef struct run {
    uint32_t prompt, tokens;
    double seconds, begun;
    int32_t *ids; /* (prompt + tokens) */
} run;

static double now(void)
{
    struct timespec at;

    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/* What this process made the devices read, page faults and direct reads alike; -1 where the system does not say. */
static int64_t read_bytes(void)
{
    FILE *file = fopen("/proc/self/io", "r");
    char line[128];
    int64_t bytes = -1;

    while (file != NULL && bytes < 0 && fgets(line, sizeof line, file) != NULL)
        (void)sscanf(line, "read_bytes: %" SCNd64, &bytes);
    if (file != NULL) (void)fclose(file);
    return bytes;
}

static void tell(const run *at, const char *event, float logit)
{
    (void)printf("{\"event\": \"%s\", \"seconds\": %.6f, \"read_bytes\": %" PRId64
                 ", \"logit\": %.6g}\n",
                 event, now() - at->begun, read_bytes(), (double)logit);
    (void)fflush(stdout);
}

static int go(run *at, const peer_request *asked)
{
    uint32_t vocab = 0;
    float logit = 0;

    tell(at, "begun", 0);
    if (peer_open(asked, &vocab) != 0) return 1;
    if (bench_zipf_tokens(vocab, SEED, at->ids, at->prompt + at->tokens) != 0) return 1;
    tell(at, "opened", 0);
    if (peer_eval(at->ids, at->prompt, &logit) != 0) return 1;
    tell(at, "prompt", logit);
    for (uint32_t i = 0; i < at->tokens && now() - at->begun < at->seconds; i++) {
        if (peer_eval(at->ids + at->prompt + i, 1, &logit) != 0) return 1;
        tell(at, "token", logit);
    }
    return 0;
}

static int number(const char *text, uint32_t least, uint32_t *value)
{
    char *end;
    unsigned long read = strtoul(text, &end, 10);

    *value = (uint32_t)read;
    return *text < '0' || *text > '9' || *end != '\0' || read < least || read > 1u << 20;
}

int main(int argc, char **argv)
{
    peer_request asked;
    uint32_t seconds;
    run at;
    int code;

    memset(&asked, 0, sizeof asked);
    memset(&at, 0, sizeof at);
    if (argc != 8 || number(argv[3], 1, &asked.threads) || number(argv[4], 1, &at.prompt) ||
        number(argv[5], 0, &at.tokens) || number(argv[6], 1, &asked.context_tokens) ||
        number(argv[7], 1, &seconds) || at.prompt + at.tokens > asked.context_tokens) {
        (void)fprintf(stderr,
                      "usage: %s MODEL.gguf WAY THREADS PROMPT_TOKENS TOKENS CONTEXT_TOKENS "
                      "SECONDS\n  WAY: %s\n",
                      argv[0], peer_ways);
        return 2;
    }
    asked.model = argv[1];
    asked.way = argv[2];
    at.seconds = seconds;
    at.begun = now();
    at.ids = malloc(((size_t)at.prompt + at.tokens) * sizeof *at.ids);
    code = at.ids == NULL ? 1 : go(&at, &asked);
    peer_close();
    free(at.ids);
    return code;
}
