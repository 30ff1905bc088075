/*
 * probe.h - what this machine gives: flash by read size and depth, memory, kernels; and what
 * follows for a model's options.
 *
 *   probe.c      one probe from beginning to end; its time is shared out here
 *   target.c     the file that is read, written first if a directory was given
 *   rates.c      memory and kernels
 *   device.c     flash, through the same backends a model reads through
 *   recommend.c  from a result to depth, lanes and gap, and into the options of a model
 *   text.c       a result as a file
 *
 * Refuses: remembering anything between calls; deciding for a host that set an option itself.
 */
#ifndef FLIN_PROBE_PROBE_H
#define FLIN_PROBE_PROBE_H

#include "storage/storage.h"
#include "util/arena.h"

#define FLIN_PROBE_FILE_MIN (1024u * 1024u) /* the longest read that is measured */

#define FLIN_PROBE_READS_BYTES (64ull << 20) /* of memory: 64 of them at a time */

/* A probe under way. */
typedef struct flin_probe {
    flashinfer_probe_options options; /* defaults resolved */
    flashinfer_probe_result *result;
    const char *path;
    flin_arena memory; /* what reads land in and the memory rates read */
    int fd;            /* the file that is read; -1 before */
    uint32_t steps;    /* measurements begun */
    uint32_t steps_total;
    uint32_t reserved;
    uint64_t begin_ns;
    uint64_t random; /* state */
} flin_probe;

/* The whole probe. options: checked, defaults not resolved. result is only changed by success. */
int flin_probe_run(const char *path, const flashinfer_probe_options *options,
                   flashinfer_probe_result *result, flashinfer_error *error);

/* Tell the host that the next measurement begins; FLASHINFER_ECANCELED if it wants to stop. */
int flin_probe_step(flin_probe *probe, flashinfer_error *error);

static inline uint64_t flin_probe_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Open the file, or make it, until about until_ns; fills probe->fd and result->file_bytes. */
int flin_probe_open_target(flin_probe *probe, uint64_t until_ns, flashinfer_error *error);

/* dram_bytes_per_s, matvec_bytes_per_s, threads, kernels. */
int flin_probe_measure_rates(flin_probe *probe, uint64_t until_ns, flashinfer_error *error);

/* Everything that is read from the file. */
int flin_probe_measure_device(flin_probe *probe, uint64_t until_ns, flashinfer_error *error);
uint32_t flin_probe_device_steps(void);

/* io_depth, io_lanes and io_gap_bytes from what was measured. */
void flin_probe_recommend(flashinfer_probe_result *result);

/* options->probe, if any, becomes the default of what the caller left open, and NULL. */
int flin_probe_apply(flashinfer_options *options, flashinfer_error *error);

int flin_probe_save(const flashinfer_probe_result *result, const char *path,
                    flashinfer_error *error);
int flin_probe_load(const char *path, flashinfer_probe_result *result, flashinfer_error *error);

#endif
