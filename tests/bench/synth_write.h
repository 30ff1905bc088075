/*
 * synth_write.h - a synthetic model as a file in flash layout.
 *
 * Owns: streaming the weights through the packer's own layout, GGUF writer and sketch maker, so
 * that the format is written by one piece of code. Refuses: the weights themselves, command lines.
 */
#ifndef BENCH_SYNTH_WRITE_H
#define BENCH_SYNTH_WRITE_H

#include "synth_weights.h"

typedef struct synth_options {
    synth_shape shape;
    const char *name;        /* general.name: must say that the model is synthetic */
    const char *description; /* general.description: likewise */
    uint32_t dtype_resident; /* FLASHINFER_DTYPE_...; 0: f16 */
    uint32_t dtype_ffn;      /* of bundles; likewise */
    uint32_t sketch_bits;    /* 1 to 4 */
    double named_share;      /* of the FFN that the sketch is to name; 0: the packer's margin */
    uint32_t threads;
    uint64_t seed;
} synth_options;

typedef struct synth_result {
    uint64_t file_bytes;
    float sketch_margin; /* in standard deviations of the sketch's error */
} synth_result;

/* Holds about one layer's sketch and checksums and some rows for each thread in memory, never the
   model. The same options give the same file with any number of threads. The file appears under its name when it is complete. result: may be NULL. */
int synth_write(const char *path, const synth_options *options, synth_result *result,
                flashinfer_error *error);

#endif
