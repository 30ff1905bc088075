/*
 * device.c - the flash: every kind of storage at one read size, the fastest of them at every size
 * and depth.
 *
 * Reads go through the storage's queue as a model's do, to random places, past the page cache where
 * that is possible. A measurement ends with its share of the time; one that would take much longer
 * than that, as far as those before it tell, is left out. All are done in rounds and the best of
 * each is kept: what happens elsewhere on the machine comes in bursts, and a burst spoils a round,
 * not a number.
 */
#include "probe/probe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/clock.h"

#define DEPTH_MAX 64u
#define KIND_SIZE 2u /* place of 32 KiB, at which kinds are compared */
#define SAMPLES_MAX 8192u
#define SUBMIT_MAX 32u
#define TIMEOUT_NS 10000000000u
#define ROUNDS 3u
#define FASTER_BY 105u /* percent: a later kind must be that much faster to be taken */
#define SHARE_MIN_NS                                                                               \
    5000000u               /* also when the time is used up, so that every number means something */
#define OVERRUN_MAX 2u     /* shares of time a measurement may be expected to take */
#define TRIAL_NS 20000000u /* and one that is shorter than this is always tried, */
#define TRIAL_BYTES (2u << 20) /* or has less than this in flight: one burst must not decide */

static const uint32_t read_bytes[FLASHINFER_PROBE_SIZES] = {4096,      16384,      32768,
                                                            64 * 1024, 256 * 1024, 1024 * 1024};
static const uint32_t depths[FLASHINFER_PROBE_DEPTHS] = {1, 4, 16, DEPTH_MAX};

/* In the order of preference among equals; the page cache only if nothing else works. */
static const uint32_t kinds[] = {FLASHINFER_STORAGE_LIBAIO, FLASHINFER_STORAGE_URING,
                                 FLASHINFER_STORAGE_PREAD};
#define KIND_COUNT (sizeof kinds / sizeof kinds[0])

typedef struct device {
    flin_probe *probe;
    flin_storage storage;
    uint64_t until_ns;   /* of all measurements */
    uint32_t cells_left; /* that share the time */

    /* the measurement under way */
    uint32_t bytes;
    uint32_t owner;
    uint32_t free_count;
    uint32_t sample_count;
    int32_t failed; /* errno value of a read; -1: too short */
    uint64_t done_bytes;
    uint64_t failed_offset;
    uint32_t free_slots[DEPTH_MAX];
    uint64_t offsets[DEPTH_MAX];
    uint64_t begun_ns[DEPTH_MAX];
    uint64_t *samples; /* (SAMPLES_MAX) times of single reads of the first size; NULL: not these */
} device;

static int read_landed(void *context, uint32_t slot, int64_t result)
{
    device *at = context;

    if (slot >= DEPTH_MAX) return -1;
    if (result != (int64_t)at->bytes) {
        at->failed = result < 0 ? (int32_t)-result : -1;
        at->failed_offset = at->offsets[slot];
    }
    at->done_bytes += at->bytes;
    if (at->samples != NULL && at->bytes == read_bytes[0] && at->sample_count < SAMPLES_MAX)
        at->samples[at->sample_count++] = flin_now_ns() - at->begun_ns[slot];
    at->free_slots[at->free_count++] = slot;
    return 0;
}

/* Begin as many reads as are not in flight. Returns 0 or a negative errno value. */
static int begin_reads(device *at)
{
    uint64_t places = at->storage.caps.length_bytes / at->bytes;
    uint64_t now_ns = flin_now_ns();

    while (at->free_count != 0) {
        flashinfer_storage_segment segments[SUBMIT_MAX];
        flashinfer_storage_read reads[SUBMIT_MAX];
        uint32_t count = at->free_count < SUBMIT_MAX ? at->free_count : SUBMIT_MAX;
        int taken;

        for (uint32_t index = 0; index < count; index++) {
            uint32_t slot = at->free_slots[at->free_count - 1 - index];
            uint64_t place = flin_probe_random(&at->probe->random) % places;

            at->offsets[slot] = place * at->bytes;
            at->begun_ns[slot] = now_ns;
            segments[index].data = at->probe->memory.base + (size_t)slot * at->bytes;
            segments[index].bytes = at->bytes;
            reads[index] = (flashinfer_storage_read){
                at->offsets[slot], flin_storage_tag(at->owner, slot), &segments[index], 1, 0};
        }
        taken = flin_storage_submit(&at->storage, reads, count);
        if (taken <= 0) return taken;
        at->free_count -= (uint32_t)taken;
    }
    return 0;
}

/* Keep depth reads of so many bytes in flight until the time, then wait for the last. Returns 0
   or an error; the storage is to be closed after one, since reads may still be out. */
static int keep_reading(device *at, uint64_t until_ns, flashinfer_error *error)
{
    flin_storage *storage = &at->storage;
    int came = 1;

    do {
        int status = begin_reads(at);

        if (status == 0) came = flin_storage_pump(storage, 1);
        if (status < 0) return flin_storage_fail(storage, -status, 0, "a probe", error);
    } while (came > 0 && at->failed == 0 && flin_now_ns() < until_ns);
    while (came > 0 && storage->in_flight != 0) came = flin_storage_pump(storage, 1);
    if (came == 0) return flin_storage_fail_timeout(storage, 0, "a probe", error);
    if (came < 0) return flin_storage_fail(storage, -came, 0, "a probe", error);
    if (at->failed == 0) return 0;
    return flin_storage_fail(storage, at->failed > 0 ? at->failed : 0, at->failed_offset, "a probe",
                             error);
}

/* Would so many bytes in flight take much longer than there is time, at the rate to reckon with? */
static int would_overrun(uint64_t bytes, uint64_t rate, uint64_t share_ns)
{
    double least_ns = rate != 0 ? (double)bytes * 1e9 / (double)rate : 0;

    return bytes >= TRIAL_BYTES && least_ns > TRIAL_NS &&
           least_ns > (double)OVERRUN_MAX * (double)share_ns;
}

/* One number: bytes per second at one size and depth, to *rate if it is more than there.
   expected: the rate to reckon with; 0: unknown. */
static int measure(device *at, uint32_t bytes, uint32_t depth, uint64_t expected, uint64_t *rate,
                   flashinfer_error *error)
{
    const flin_storage_owner owner = {read_landed, at};
    uint64_t begin_ns = flin_now_ns(), took_ns, now, share_ns;
    int code = flin_probe_step(at->probe, error);

    if (code != 0) return code;
    share_ns = begin_ns < at->until_ns ? (at->until_ns - begin_ns) / at->cells_left : 0;
    if (share_ns < SHARE_MIN_NS) share_ns = SHARE_MIN_NS;
    at->cells_left--;
    if (bytes > at->storage.caps.length_bytes) return 0;
    if (would_overrun((uint64_t)bytes * depth, expected, share_ns)) return 0;
    at->bytes = bytes;
    at->free_count = depth;
    at->failed = 0;
    at->done_bytes = 0;
    for (uint32_t slot = 0; slot < depth; slot++) at->free_slots[slot] = slot;
    at->owner = flin_storage_add_owner(&at->storage, &owner);
    code = keep_reading(at, begin_ns + share_ns, error);
    took_ns = flin_now_ns() - begin_ns;
    if (code != 0) return code; /* its owner stays: reads may still land */
    flin_storage_remove_owner(&at->storage, at->owner);
    now = took_ns != 0 ? (uint64_t)((double)at->done_bytes * 1e9 / (double)took_ns) : 0;
    if (now > *rate) *rate = now;
    return 0;
}

/* Measurements there is no need of leave their time to the others. */
static void skip_row(device *at)
{
    at->cells_left -= FLASHINFER_PROBE_DEPTHS;
    at->probe->steps += FLASHINFER_PROBE_DEPTHS;
}

static int open_kind(device *at, uint32_t kind, flashinfer_error *error)
{
    flin_storage_config config = {kind, DEPTH_MAX, DEPTH_MAX, 0, TIMEOUT_NS};

    return flin_storage_open_fd(&at->storage, at->probe->fd, 0, 0, &config, error);
}

static uint64_t best_of(const uint64_t *rates)
{
    uint64_t best = 0;

    for (uint32_t index = 0; index < FLASHINFER_PROBE_DEPTHS; index++)
        if (rates[index] > best) best = rates[index];
    return best;
}

/* Depths from `first` on at one size. expected: as above, until this row knows better. */
static int measure_row(device *at, uint32_t bytes, uint32_t first, uint64_t expected,
                       uint64_t *rates, flashinfer_error *error)
{
    int code = 0;

    for (uint32_t index = first; index < FLASHINFER_PROBE_DEPTHS && code == 0; index++) {
        code = measure(at, bytes, depths[index], expected, &rates[index], error);
        if (best_of(rates) > expected) expected = best_of(rates);
    }
    return code;
}

/* One round over the kinds there are. One that cannot be opened is none. */
static int measure_kinds(device *at, flashinfer_error *error)
{
    uint32_t asked = at->probe->options.storage;
    int code = 0;

    for (uint32_t index = 0; index < KIND_COUNT && code == 0; index++) {
        uint32_t kind = kinds[index];

        if ((asked != 0 && asked != kind) || open_kind(at, kind, NULL) != 0) {
            skip_row(at);
            continue;
        }
        code = measure_row(at, read_bytes[KIND_SIZE], 0, 0,
                           at->probe->result->kind_bytes_per_s[kind], error);
        flin_storage_close(&at->storage);
    }
    return code;
}

/* The fastest. Without any: the one asked for, or the page cache; opening it says why if it
   cannot be. */
static uint32_t choose_kind(const device *at)
{
    const flashinfer_probe_result *result = at->probe->result;
    uint32_t chosen = at->probe->options.storage;
    uint64_t best = 0;

    for (uint32_t index = 0; index < KIND_COUNT; index++) {
        uint64_t now = best_of(result->kind_bytes_per_s[kinds[index]]);

        if (now == 0 || now * 100 < best * FASTER_BY) continue;
        best = now;
        chosen = kinds[index];
    }
    return chosen != 0 ? chosen : FLASHINFER_STORAGE_BUFFERED;
}

/* One round over every size and depth but the row that is known. The first read size alone gives
   the latency. */
static int measure_table(device *at, flashinfer_error *error)
{
    flashinfer_probe_result *result = at->probe->result;
    uint64_t(*table)[FLASHINFER_PROBE_DEPTHS] = result->read_bytes_per_s;
    const uint64_t *known = result->kind_bytes_per_s[result->storage];
    uint64_t *samples = at->samples;
    int code = measure(at, read_bytes[0], depths[0], 0, &table[0][0], error);

    at->samples = NULL;
    for (uint32_t size = 0; size < FLASHINFER_PROBE_SIZES && code == 0; size++) {
        /* what a size gives is no less than what a smaller one does */
        uint64_t expected = size != 0 ? best_of(table[size - 1]) : table[0][0];

        if (size == KIND_SIZE && best_of(known) != 0) {
            memcpy(table[size], known, sizeof table[size]);
            skip_row(at);
            continue;
        }
        code = measure_row(at, read_bytes[size], size == 0, expected, table[size], error);
    }
    at->samples = samples;
    return code;
}

static int order(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

/* At least one round; the others as long as there is time. */
static int repeat(device *at, int (*round)(device *at, flashinfer_error *error),
                  flashinfer_error *error)
{
    int code = round(at, error);

    for (uint32_t again = 1; again < ROUNDS && code == 0 && flin_now_ns() < at->until_ns; again++)
        code = round(at, error);
    return code;
}

static int measure_all(device *at, flashinfer_error *error)
{
    flashinfer_probe_result *result = at->probe->result;
    int code = repeat(at, measure_kinds, error);

    if (code != 0) return code;
    at->cells_left = ROUNDS * FLASHINFER_PROBE_SIZES * FLASHINFER_PROBE_DEPTHS;
    result->storage = choose_kind(at);
    code = open_kind(at, result->storage, error);
    if (code != 0) return code;
    result->alignment = at->storage.caps.alignment;
    result->file_bytes = at->storage.caps.length_bytes;
    code = repeat(at, measure_table, error);
    flin_storage_close(&at->storage); /* before the memory that reads land in */
    if (code != 0 || at->sample_count == 0) return code;
    qsort(at->samples, at->sample_count, sizeof *at->samples, order);
    result->latency_ns = at->samples[at->sample_count / 2];
    result->latency_p99_ns = at->samples[(uint64_t)at->sample_count * 99 / 100];
    return 0;
}

uint32_t flin_probe_device_steps(void)
{
    return ROUNDS * (uint32_t)(KIND_COUNT + FLASHINFER_PROBE_SIZES) * FLASHINFER_PROBE_DEPTHS;
}

int flin_probe_measure_device(flin_probe *probe, uint64_t until_ns, flashinfer_error *error)
{
    device at;
    int code;

    memset(&at, 0, sizeof at);
    at.probe = probe;
    at.until_ns = until_ns;
    at.cells_left = flin_probe_device_steps();
    at.samples = malloc(SAMPLES_MAX * sizeof *at.samples);
    if (at.samples == NULL)
        return flin_fail(error, FLASHINFER_ENOMEM, "cannot allocate a probe's samples");
    memcpy(probe->result->read_bytes, read_bytes, sizeof read_bytes);
    memcpy(probe->result->depths, depths, sizeof depths);
    /* touched now, not while the clock runs */
    memset(probe->memory.base, 0x5a, FLIN_PROBE_READS_BYTES);
    code = measure_all(&at, error);
    free(at.samples);
    return code;
}
