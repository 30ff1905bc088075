/*
 * rates.c - how fast all threads together read memory, and multiply a matrix that lies in it.
 *
 * The best of several passes counts: what disturbs a pass is not the memory's limit.
 */
#include "probe/probe.h"

#include <stdatomic.h>
#include <string.h>

#include "kernels/kernels.h"
#include "util/clock.h"
#include "util/pool.h"

#define COLUMNS 4096u /* of the matrix: the width of a 7B model */
#define ROW_BYTES (COLUMNS * 2u)
#define LANES 8u /* sums side by side, so that adding does not wait */
#define STREAMS 8u
#define AHEAD_BYTES 1024u
#define ROW_GRAIN 16u /* rows: parts are cut at multiples of it */
#define PIECE_ROWS (FLIN_PROBE_READS_BYTES / ROW_BYTES)

typedef struct rates {
    uint8_t *memory;
    uint32_t rows;     /* of ROW_BYTES */
    uint32_t fill_row; /* where fill() begins; it fills PIECE_ROWS */
    const flin_kernels *kernels;
    float x[COLUMNS];
    float *y;             /* (rows) */
    _Atomic uint64_t sum; /* so that reading cannot be left out */
} rates;

/* Halves of either sign between 1/4 and 1/2: no denormals, no infinities. */
static void fill(void *context, uint32_t index, uint32_t count)
{
    const rates *at = context;
    uint64_t state = 88172645463325252u + index;
    uint8_t *piece = at->memory + (uint64_t)at->fill_row * ROW_BYTES;
    uint32_t begin, end;

    flin_pool_share(PIECE_ROWS, 1, index, count, &begin, &end);
    for (uint64_t place = (uint64_t)begin * ROW_BYTES; place < (uint64_t)end * ROW_BYTES;
         place += sizeof state) {
        uint64_t word = (flin_probe_random(&state) & 0x83ff83ff83ff83ffu) | 0x3400340034003400u;

        memcpy(piece + place, &word, sizeof word);
    }
}

/* Memory costs time to touch for the first time: as much of it is used as there is time for. */
static void fill_until(flin_pool *pool, rates *at, uint32_t rows_max, uint64_t until_ns)
{
    at->rows = 0;
    do {
        at->fill_row = at->rows;
        flin_pool_run(pool, fill, at);
        at->rows += (uint32_t)PIECE_ROWS;
    } while (at->rows + PIECE_ROWS <= rows_max && flin_now_ns() < until_ns);
}

/* As many streams as matrices are read in: with fewer, memory waits for the cores. */
static void read_rows(void *context, uint32_t begin, uint32_t end)
{
    rates *at = context;
    const uint64_t stream = (uint64_t)(end - begin) * (ROW_BYTES / STREAMS);
    const uint8_t *first = at->memory + (uint64_t)begin * ROW_BYTES;
    uint64_t sums[LANES] = {0};

    for (uint64_t place = 0; place < stream; place += sizeof sums)
        for (uint32_t k = 0; k < STREAMS; k++) {
            const uint8_t *here = first + k * stream + place;
            const uint64_t *words = (const uint64_t *)(const void *)here;
            __builtin_prefetch(here + AHEAD_BYTES);
            for (uint32_t lane = 0; lane < LANES; lane++) sums[lane] += words[lane];
        }
    for (uint32_t lane = 1; lane < LANES; lane++) sums[0] += sums[lane];
    atomic_fetch_add(&at->sum, sums[0]);
}

static void multiply(void *context, uint32_t begin, uint32_t end)
{
    const rates *at = context;

    at->kernels->matvec[FLIN_F16](at->memory + (uint64_t)begin * ROW_BYTES, end - begin, COLUMNS,
                                  at->x, NULL, at->y + begin);
}

static uint64_t best_rate(flin_pool *pool, flin_pool_part task, rates *at, uint64_t until_ns)
{
    uint64_t bytes = (uint64_t)at->rows * ROW_BYTES, best_ns = UINT64_MAX;

    do {
        uint64_t begin_ns = flin_now_ns(), took_ns;

        flin_pool_split(pool, at->rows, ROW_GRAIN, task, at);
        took_ns = flin_now_ns() - begin_ns;
        if (took_ns < best_ns) best_ns = took_ns;
    } while (flin_now_ns() < until_ns);
    return best_ns != 0 ? (uint64_t)((double)bytes * 1e9 / (double)best_ns) : 0;
}

static uint32_t number_of(const flin_kernels *kernels)
{
    for (uint32_t wanted = FLASHINFER_KERNELS_NEON; wanted > FLASHINFER_KERNELS_REF; wanted--)
        if (flin_kernels_choose(wanted) == kernels) return wanted;
    return FLASHINFER_KERNELS_REF;
}

int flin_probe_measure_rates(flin_probe *probe, uint64_t until_ns, flashinfer_error *error)
{
    flashinfer_probe_result *result = probe->result;
    flin_arena own = {NULL, 0, 0};
    flin_pool pool;
    rates *at;
    uint64_t begin_ns = flin_now_ns();
    uint64_t part_ns = begin_ns < until_ns ? (until_ns - begin_ns) / 3 : 0;
    uint32_t rows = (uint32_t)(probe->memory.capacity / ROW_BYTES);
    int code = flin_probe_step(probe, error);

    if (code != 0) return code;
    code = flin_arena_open(&own, sizeof *at + 64 + rows * sizeof(float), "a probe", error);
    if (code != 0) return code;
    at = FLIN_TAKE(&own, rates, 1);
    at->y = FLIN_TAKE(&own, float, rows);
    at->memory = probe->memory.base;
    at->kernels = flin_kernels_choose(FLASHINFER_KERNELS_DEFAULT);
    for (uint32_t column = 0; column < COLUMNS; column++) at->x[column] = (float)(column % 17) - 8;
    memset(&pool, 0, sizeof pool);
    code = flin_pool_open(&pool, probe->options.threads, error);
    if (code == 0) {
        fill_until(&pool, at, rows, begin_ns + part_ns);
        result->dram_bytes_per_s = best_rate(&pool, read_rows, at, begin_ns + 2 * part_ns);
        result->matvec_bytes_per_s = best_rate(&pool, multiply, at, until_ns);
        result->threads = probe->options.threads;
        result->kernels = number_of(at->kernels);
    }
    flin_pool_close(&pool);
    flin_arena_close(&own);
    return code;
}
