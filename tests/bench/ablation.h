/*
 * ablation.h - the paper's tables on this machine: what each technique takes off a token's bytes and time.
 *
 *   ablation.c          command line, table, JSON
 *   ablation_measure.c  runs the model and replays what it asked for
 *   ablation_sweep.c    one setting varied, everything else equal
 *   ablation_plot.c     the rows as an SVG
 */
#ifndef BENCH_ABLATION_H
#define BENCH_ABLATION_H

#include <stdio.h>

#include "program.h"
#include "trace.h"

enum {
    ABLATION_NAIVE,  /* every weight read in order for every token, into a small buffer */
    ABLATION_HYBRID, /* attention and embeddings resident, the FFN read in order */
    ABLATION_PREDICTOR, /* of the FFN only predicted neurons, up row and down column read apart, none kept */
    ABLATION_WINDOW, /* and those of the last tokens kept */
    ABLATION_BUNDLE, /* and up row and down column in one read */
    ABLATION_OURS, /* and the default cache policy, computing while reads are under way: the library */
    ABLATION_ROWS
};

typedef struct ablation_row {
    const char *name;
    uint64_t dram_bytes;
    double bytes;      /* read from flash for a token */
    double read_bytes; /* of a read, mean */
    double io_ms;      /* those reads with nothing beside them */
    double memory_ms;  /* cache bookkeeping */
    double compute_ms; /* predictor included */
    double stall_ms;   /* time a token waits for flash: all of io_ms where nothing overlaps */
    double submit_ms;  /* in handing reads over to the kernel; 0 where it was not measured */
    double total_ms;
    double touched_bytes; /* read from memory for a token */
    double
        limit_ms; /* the larger of bytes by the device's rate and touched_bytes by the memory's */
} ablation_row;

#define ABLATION_FILES_MAX 7u

typedef struct ablation {
    const char *path;
    const char *text_path;    /* NULL: a Zipf sequence */
    const char *const *files; /* (ABLATION_FILES_MAX) to sweep over besides path, then NULL */
    uint64_t budget_bytes;
    uint32_t tokens;       /* measured */
    uint32_t skip;         /* before them, to fill the cache */
    uint32_t dense_tokens; /* measured of naive and hybrid */
    int in_turns;          /* a sweep's points are open together and take turns, token by token */
    flashinfer_options options;
    flashinfer_info info;
    flashinfer_plan plan;
    flashinfer_stats stats;        /* of the measured tokens */
    flashinfer_probe_result probe; /* mean of one before and one after */
    double sequential_bytes_per_s; /* of the whole file */
    uint32_t window;               /* k of the window rows; UINT32_MAX: as long as the slots last */
    uint64_t weight_bytes;         /* the file without predictor */
    double dense_stall_ms, dense_total_ms; /* of the library in mode all */
    recorded_trace trace;                  /* of skip and measured tokens */
    int32_t *token_ids;                    /* (skip + tokens) */
    ablation_row rows[ABLATION_ROWS];
} ablation;

/* What one run of the model gave. */
typedef struct ablation_run {
    flashinfer_plan plan;
    flashinfer_stats stats;
    double seconds; /* of the measured tokens */
    flashinfer_model *model;
    flashinfer_session *session;
} ablation_run;

/* The same in pieces: open; step the tokens one after the other, the first `skip` of them uncounted; close, whatever came
   before, which fills in plan and stats and returns code or its own failure. */
int ablation_run_open(ablation_run *run, const char *path, const flashinfer_options *options,
                      flashinfer_error *error);
int ablation_run_step(ablation_run *run, const ablation *of, uint32_t skip, uint32_t index,
                      flashinfer_error *error);
int ablation_run_close(ablation_run *run, int code);

/* Open a file with options, run skip tokens, then `tokens` that count. */
int ablation_run_model(const ablation *of, const char *path, const flashinfer_options *options,
                       uint32_t skip, uint32_t tokens, ablation_run *run, flashinfer_error *error);

/* Look into the model file, make the tokens, complete the options. */
int ablation_describe(ablation *of, flashinfer_error *error);

/* All rows. path, budget_bytes, tokens, skip and options are set; 0 or an error code, in either case ablation_release(). */
int ablation_measure(ablation *of, flashinfer_error *error);
void ablation_release(ablation *of);

/* The device's rate at a read size, from the probe. */
double ablation_device_rate(const flashinfer_probe_result *probe, double read_bytes);

/* kind: "budget", "window", "policy", "depth", "storage", "file". 0, an error code, or 2 for an unknown kind. */
int ablation_sweep(ablation *of, const char *kind, int json, flashinfer_error *error);

int ablation_plot(const ablation *of, FILE *file);

#endif
