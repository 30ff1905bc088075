/*
 * recommend.c - what a measured device asks for: how deep a queue, how many lanes, which gaps are
 * worth reading.
 */
#include "probe/probe.h"

#include <string.h>

#include "storage/backends.h"
#include "storage/batch.h"
#include "util/structs.h"

#define ENOUGH 95u           /* percent of the best; deeper queues only add waiting */
#define BUNDLE_SIZE_FIRST 1u /* 16, 32 and 64 KiB: what bundles and a few of them merged are long */
#define BUNDLE_SIZE_LAST 3u
#define GAP_STEP 512u

/* The first depth that gives nearly what the best one does; DEPTHS: nothing was measured. */
static uint32_t knee(const double *rates)
{
    double best = 0;

    for (uint32_t depth = 0; depth < FLASHINFER_PROBE_DEPTHS; depth++)
        if (rates[depth] > best) best = rates[depth];
    for (uint32_t depth = 0; depth < FLASHINFER_PROBE_DEPTHS && best > 0; depth++)
        if (rates[depth] * 100 >= best * ENOUGH) return depth;
    return FLASHINFER_PROBE_DEPTHS;
}

/* Sizes count alike: each row in parts of its best. */
static uint32_t best_depth(const flashinfer_probe_result *result)
{
    double sums[FLASHINFER_PROBE_DEPTHS] = {0};

    for (uint32_t size = BUNDLE_SIZE_FIRST; size <= BUNDLE_SIZE_LAST; size++) {
        const uint64_t *row = result->read_bytes_per_s[size];
        uint64_t best = 0;

        for (uint32_t depth = 0; depth < FLASHINFER_PROBE_DEPTHS; depth++)
            if (row[depth] > best) best = row[depth];
        for (uint32_t depth = 0; depth < FLASHINFER_PROBE_DEPTHS && best != 0; depth++)
            sums[depth] += (double)row[depth] / (double)best;
    }
    return knee(sums);
}

static uint32_t best_lanes(const flashinfer_probe_result *result)
{
    const uint64_t *row = result->kind_bytes_per_s[FLASHINFER_STORAGE_PREAD];
    double rates[FLASHINFER_PROBE_DEPTHS];
    uint32_t depth;

    for (depth = 0; depth < FLASHINFER_PROBE_DEPTHS; depth++) rates[depth] = (double)row[depth];
    depth = knee(rates);
    return depth < FLASHINFER_PROBE_DEPTHS ? result->depths[depth] : 0;
}

/* A read of s bytes costs begin + s / peak, so its rate is s / (begin + s / peak), and the bytes
   that take as long as beginning a read are s * (peak / rate - 1): the same for every s if the
   device keeps to that, else their mean over the small reads. Gaps up to that length are cheaper
   read than skipped. */
static uint32_t worthwhile_gap(const flashinfer_probe_result *result, uint32_t depth)
{
    double peak = 0, sum = 0;
    uint32_t count = 0, gap_bytes;

    for (uint32_t size = 0; size < FLASHINFER_PROBE_SIZES; size++) {
        double rate = (double)result->read_bytes_per_s[size][depth];
        if (rate > peak) peak = rate;
    }
    for (uint32_t size = 0; size < BUNDLE_SIZE_LAST; size++) {
        double rate = (double)result->read_bytes_per_s[size][depth];
        if (!(rate > 0)) continue;
        sum += (double)result->read_bytes[size] * (peak / rate - 1);
        count++;
    }
    if (count == 0) return 0;
    sum /= count;
    gap_bytes = sum < (double)FLIN_BATCH_GAP_MAX ? (uint32_t)sum : FLIN_BATCH_GAP_MAX;
    gap_bytes -= gap_bytes % GAP_STEP;
    return gap_bytes != 0 ? gap_bytes : 1;
}

void flin_probe_recommend(flashinfer_probe_result *result)
{
    uint32_t depth = best_depth(result);

    result->io_lanes = best_lanes(result);
    result->io_depth = result->io_gap_bytes = 0;
    if (depth == FLASHINFER_PROBE_DEPTHS) return;
    result->io_depth = result->depths[depth];
    result->io_gap_bytes = worthwhile_gap(result, depth);
}

static int check(const char *field, uint32_t value, uint32_t most, flashinfer_error *error)
{
    if (value <= most) return 0;
    return flin_fail(error, FLASHINFER_EINVAL, "probe.%s is %u; the most is %u", field, value,
                     most);
}

int flin_probe_apply(flashinfer_options *options, flashinfer_error *error)
{
    flashinfer_probe_result measured;
    int code;

    if (options->probe == NULL) return 0;
    memset(&measured, 0, sizeof measured);
    code = flin_struct_accept(options->probe, &measured, sizeof measured, "flashinfer_probe_result",
                              error);
    if (code == 0) code = check("io_depth", measured.io_depth, FLIN_STORAGE_DEPTH_MAX, error);
    if (code == 0) code = check("io_lanes", measured.io_lanes, FLIN_STORAGE_LANES_MAX, error);
    if (code == 0) code = check("io_gap_bytes", measured.io_gap_bytes, FLIN_BATCH_GAP_MAX, error);
    if (code != 0) return code;
    if (options->io_depth == 0) options->io_depth = measured.io_depth;
    if (options->io_lanes == 0) options->io_lanes = measured.io_lanes;
    if (options->io_gap_bytes == 0) options->io_gap_bytes = measured.io_gap_bytes;
    options->probe = NULL;
    return 0;
}
