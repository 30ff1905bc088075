/*
 * probe.c - one probe from beginning to end.
 */
#include "probe/probe.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/pool.h"

#define TIME_DEFAULT_MS 5000u
#define FILE_DEFAULT_BYTES (256ull << 20)

/* When, in hundredths of the time, what is done. */
#define FILE_BY 33u
#define DEVICE_BY 82u
#define RATES_BY 96u

/* Memory: more than caches hold where they say how much that is. */
#define MEMORY_MIN FLIN_PROBE_READS_BYTES
#define MEMORY_DEFAULT (128ull << 20)
#define MEMORY_MAX (512ull << 20)
#define MEMORY_PER_MS (128ull << 10) /* touching it costs time too */

static int resolve(flashinfer_probe_options *options, flashinfer_error *error)
{
    if (options->threads == 0) options->threads = flin_pool_default_count();
    if (options->threads > FLIN_POOL_THREADS_MAX)
        return flin_fail(error, FLASHINFER_EINVAL, "options.threads is %u; the most is %u",
                         options->threads, FLIN_POOL_THREADS_MAX);
    if (options->storage > FLASHINFER_STORAGE_URING)
        return flin_fail(error, FLASHINFER_EINVAL, "unknown storage kind %u", options->storage);
    if (options->time_ms == 0) options->time_ms = TIME_DEFAULT_MS;
    if (options->file_bytes == 0) options->file_bytes = FILE_DEFAULT_BYTES;
    if (options->file_bytes < FLIN_PROBE_FILE_MIN || options->file_bytes > (uint64_t)INT64_MAX)
        return flin_fail(error, FLASHINFER_EINVAL,
                         "options.file_bytes is %" PRIu64 "; it may be %u to %" PRIu64,
                         options->file_bytes, FLIN_PROBE_FILE_MIN, (uint64_t)INT64_MAX);
    return 0;
}

static uint64_t cache_bytes(void)
{
#ifdef _SC_LEVEL3_CACHE_SIZE
    long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);

    if (bytes > 0) return (uint64_t)bytes;
#endif
    return 0;
}

/* Less memory than wanted still measures something. */
static int take_memory(flin_probe *probe, flashinfer_error *error)
{
    uint64_t bytes = 2 * cache_bytes();
    uint64_t most = probe->options.time_ms * MEMORY_PER_MS;
    int code;

    if (most > MEMORY_MAX) most = MEMORY_MAX;
    if (bytes < MEMORY_DEFAULT) bytes = MEMORY_DEFAULT;
    if (bytes > most) bytes = most;
    if (bytes < MEMORY_MIN) bytes = MEMORY_MIN;
    do {
        code = flin_arena_open(&probe->memory, bytes, "a probe", error);
        bytes /= 2;
    } while (code != 0 && bytes >= MEMORY_MIN);
    return code;
}

int flin_probe_step(flin_probe *probe, flashinfer_error *error)
{
    flashinfer_progress progress = {sizeof progress, 0, "probe", probe->steps++,
                                    probe->steps_total};

    if (probe->options.progress == NULL ||
        probe->options.progress(&progress, probe->options.progress_user) == 0)
        return 0;
    return flin_fail(error, FLASHINFER_ECANCELED, "cancelled by the progress callback (probe)");
}

static uint64_t at_share(const flin_probe *probe, uint32_t percent)
{
    return probe->begin_ns + probe->options.time_ms * UINT64_C(10000) * percent;
}

int flin_probe_run(const char *path, const flashinfer_probe_options *options,
                   flashinfer_probe_result *result, flashinfer_error *error)
{
    flashinfer_probe_result measured;
    flin_probe probe = {.options = *options, .result = &measured, .path = path, .fd = -1};
    int code = resolve(&probe.options, error);

    if (code != 0) return code;
    memset(&measured, 0, sizeof measured);
    measured.size = sizeof measured;
    probe.begin_ns = flin_now_ns();
    probe.random = probe.begin_ns | 1;
    probe.steps_total = 2 + flin_probe_device_steps();

    code = flin_probe_open_target(&probe, at_share(&probe, FILE_BY), error);
    if (code == 0) code = take_memory(&probe, error);
    if (code == 0) code = flin_probe_measure_device(&probe, at_share(&probe, DEVICE_BY), error);
    if (code == 0) code = flin_probe_measure_rates(&probe, at_share(&probe, RATES_BY), error);
    if (code == 0) {
        flin_probe_recommend(&measured);
        measured.elapsed_ns = flin_now_ns() - probe.begin_ns;
        *result = measured;
    }
    flin_arena_close(&probe.memory);
    if (probe.fd >= 0) (void)close(probe.fd);
    return code;
}
