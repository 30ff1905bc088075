/*
 * kernels_tasks.c - what tests/bench/kernels runs.
 *
 * Owns: which bytes each kernel touches, and in which order. Refuses: timing.
 *
 * Slots lie one after another and are visited in a random order, as a cache's are: a sparse FFN takes the products of
 * gate (if any) and up of every slot of its slice, then adds up the down parts of every second one.
 */
#define _GNU_SOURCE
#include "kernels_tasks.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "plain.h"

/* ---------------------------------------------------------------------------------------- tasks */

typedef bench_vector vector;

static void read_sum(void *context, uint32_t index, uint32_t count)
{
    slice *s = context;
    uint64_t bytes = SLICE_BYTES / count / 64 * 64;
    const uint8_t *at = s->bench->buffer + s->index * SLICE_BYTES + index * bytes;

    __atomic_fetch_add(&s->bench->sink, bench_plain_sum(at, bytes), __ATOMIC_RELAXED);
}

static const void *input(const slice *s)
{
    return flin_type_quantised(s->what->type) ? (const void *)s->bench->levels : s->bench->x;
}

static void matvec(void *context, uint32_t index, uint32_t count)
{
    slice *s = context;
    enum flin_type type = s->what->type;
    const uint8_t *w = s->bench->buffer + s->index * SLICE_BYTES;
    uint32_t begin, end;

    flin_pool_share(s->rows, 4, index, count, &begin, &end);
    s->bench->kernels->matvec[type](w + begin * flin_type_bytes(type, s->what->cols), end - begin,
                                    s->what->cols, input(s), NULL, s->bench->y + begin);
}

static const void **part_of(const slice *s, uint32_t part)
{
    return s->bench->rows + part * s->bench->slots_max + s->index * s->rows;
}

/* Of all parts but the last, if there are several. */
static void dot_rows(void *context, uint32_t index, uint32_t count)
{
    slice *s = context;
    float *y[PARTS_MAX] = {s->bench->y, s->bench->gate, NULL};
    uint32_t begin, end, parts = s->what->parts > 1 ? s->what->parts - 1 : 1;

    flin_pool_share(s->rows, 4, index, count, &begin, &end);
    for (uint32_t part = 0; part < parts; part++)
        s->bench->kernels->dot_rows[s->what->type](part_of(s, part) + begin, end - begin,
                                                   s->what->cols, input(s), y[part] + begin);
    if (parts == 2)
        s->bench->kernels->activate[FLIN_SILU](y[0] + begin, y[1] + begin, end - begin,
                                               y[0] + begin);
}

static void add_rows(void *context, uint32_t index, uint32_t count)
{
    slice *s = context;
    uint32_t begin, end;

    flin_pool_share(s->what->cols, 64, index, count, &begin, &end);
    s->bench->kernels->add_rows[s->what->type](part_of(s, 0), s->bench->x, s->rows, begin, end,
                                               s->bench->y);
}

static void add_firing(void *context, uint32_t index, uint32_t count)
{
    slice *s = context;
    uint32_t begin, end;

    flin_pool_share(s->what->cols, 64, index, count, &begin, &end);
    s->bench->kernels->add_rows[s->what->type](s->bench->firing + s->index * s->rows / 2,
                                               s->bench->x, s->rows / 2, begin, end,
                                               s->bench->gate);
}

/* A slice holds keys, then values; a head's positions lie HEAD_DIM apart or one after another with
   all heads of a position together, as stride says. */
static void attend(void *context, uint32_t index, uint32_t count)
{
    slice *s = context;
    bench *b = s->bench;
    enum flin_type type = s->what->type;
    uint64_t head_bytes = flin_type_bytes(type, HEAD_DIM), begin_bytes = s->index * SLICE_BYTES;
    uint64_t step = s->what->stride == HEAD_DIM ? head_bytes * s->rows : head_bytes;
    const uint8_t *keys = b->buffer + begin_bytes, *values = keys + SLICE_BYTES / 2;
    uint32_t begin, end;

    flin_pool_share(HEADS, 1, index, count, &begin, &end);
    for (uint32_t head = begin; head < end; head++)
        b->kernels->attend[type](b->x, keys + head * step, values + head * step, s->rows,
                                 s->what->stride, HEAD_DIM, b->scratch + index * b->scratch_bytes,
                                 b->y + head * HEAD_DIM);
}

/* The same pieces of memory as dot_rows or attend, in the same order, only added up: what the memory gives for them. */
static void sum8(const uint8_t *const piece[8], uint64_t bytes, vector *sum)
{
    for (uint64_t at = 0; at + sizeof *sum <= bytes; at += sizeof *sum)
        for (uint32_t i = 0; i < 8; i++) {
            vector value;
            memcpy(&value, piece[i] + at, sizeof value);
            *sum += value;
        }
}

static void read_rows(void *context, uint32_t index, uint32_t count)
{
    slice *s = context;
    uint64_t row_bytes = flin_type_bytes(s->what->type, s->what->cols);
    uint32_t begin, end, parts = s->what->parts > 1 ? s->what->parts - 1 : 1;
    vector sum = {0};

    flin_pool_share(s->rows / 8, 1, index, count, &begin, &end);
    for (uint32_t part = 0; part < parts; part++)
        for (uint32_t i = begin; i < end; i++)
            sum8((const uint8_t *const *)(const void *)(part_of(s, part) + 8 * (uint64_t)i),
                 row_bytes, &sum);
    flin_pool_share(s->rows / 16, 1, index, count, &begin, &end);
    for (uint32_t i = begin; s->what->parts > 1 && i < end; i++)
        sum8((const uint8_t *const *)(const void *)(s->bench->firing + s->index * s->rows / 2 +
                                                    8 * (uint64_t)i),
             row_bytes, &sum);
    __atomic_fetch_add(&s->bench->sink, sum[0] ^ sum[7], __ATOMIC_RELAXED);
}

static void read_heads(void *context, uint32_t index, uint32_t count)
{
    slice *s = context;
    enum flin_type type = s->what->type;
    uint64_t head_bytes = flin_type_bytes(type, HEAD_DIM),
             far = flin_type_bytes(type, s->what->stride);
    uint64_t step = s->what->stride == HEAD_DIM ? head_bytes * s->rows : head_bytes;
    const uint8_t *start = s->bench->buffer + s->index * SLICE_BYTES, *piece[8];
    uint32_t begin, end;
    vector sum = {0};

    flin_pool_share(2 * HEADS, 1, index, count, &begin, &end);
    for (uint32_t i = begin; i < end; i++) {
        const uint8_t *first = start + i % 2 * (SLICE_BYTES / 2) + i / 2 * step;
        for (uint32_t p = 0; p + 8 <= s->rows; p += 8) {
            for (uint32_t k = 0; k < 8; k++) piece[k] = first + (p + k) * far;
            sum8(piece, head_bytes, &sum);
        }
    }
    __atomic_fetch_add(&s->bench->sink, sum[0] ^ sum[7], __ATOMIC_RELAXED);
}

void run_read_same(slice *work)
{
    flin_pool_run(&work->bench->pool, work->what->stride != 0 ? read_heads : read_rows, work);
}

void run_read_sum(slice *work)
{
    flin_pool_run(&work->bench->pool, read_sum, work);
}

void run_matvec(slice *work)
{
    flin_pool_run(&work->bench->pool, matvec, work);
}

void run_dot_rows(slice *work)
{
    flin_pool_run(&work->bench->pool, dot_rows, work);
}

void run_add_rows(slice *work)
{
    flin_pool_run(&work->bench->pool, add_rows, work);
}

void run_sparse_ffn(slice *work)
{
    flin_pool_run(&work->bench->pool, dot_rows, work);
    flin_pool_run(&work->bench->pool, add_firing, work);
}

void run_attend(slice *work)
{
    flin_pool_run(&work->bench->pool, attend, work);
}

/* --------------------------------------------------------------------------------------- set-up */

static uint64_t next_random(void)
{
    static uint64_t state = 88172645463325252u;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void shuffle_slots(bench *b, const measure *what)
{
    uint64_t row_bytes = flin_type_bytes(what->type, what->cols);
    uint64_t slot_bytes = row_bytes * what->parts, slots = b->buffer_bytes / slot_bytes;

    for (uint64_t i = 0; i < slots; i++) b->order[i] = i;
    for (uint64_t i = slots - 1; i > 0; i--) {
        uint64_t j = next_random() % (i + 1), slot = b->order[i];
        b->order[i] = b->order[j];
        b->order[j] = slot;
    }
    for (uint64_t i = 0; i < slots; i++) {
        const uint8_t *slot = b->buffer + b->order[i] * slot_bytes;
        for (uint32_t part = 0; part < what->parts; part++)
            b->rows[part * b->slots_max + i] = slot + part * row_bytes;
        if (i % 2 == 0) b->firing[i / 2] = slot + (what->parts - 1) * row_bytes;
    }
}

void prepare_slice(slice *work, bench *b, const measure *what)
{
    uint64_t row_bytes = flin_type_bytes(what->type, what->cols);

    *work = (slice){.bench = b, .what = what};
    if (what->stride != 0) {
        work->rows = (uint32_t)(SLICE_BYTES / 2 / HEADS / row_bytes);
        work->bytes = 2 * HEADS * work->rows * row_bytes;
        return;
    }
    if (what->parts == 0) {
        work->rows = (uint32_t)(SLICE_BYTES / row_bytes);
        work->bytes = work->rows * row_bytes;
        return;
    }
    shuffle_slots(b, what);
    work->rows = (uint32_t)(SLICE_BYTES / row_bytes / what->parts / 2 * 2);
    work->bytes = what->parts == 1 ? work->rows * row_bytes
                                   : (work->rows * (what->parts - 1) + work->rows / 2) * row_bytes;
}

static void *pages(uint64_t bytes, int huge)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (base == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
    if (huge) (void)madvise(base, bytes, MADV_HUGEPAGE);
#else
    (void)huge;
#endif
    return base;
}

int prepare_bench(bench *b, uint64_t buffer_bytes, int huge)
{
    uint64_t least_slot = flin_type_bytes(FLIN_Q4_0, 2048);

    b->buffer_bytes = buffer_bytes;
    b->buffer = pages(buffer_bytes, huge);
    b->slots_max = buffer_bytes / least_slot;
    b->scratch_bytes = (flin_attend_bytes(HEAD_DIM) + 63) / 64 * 64;
    b->order = malloc(b->slots_max * sizeof *b->order);
    b->rows = malloc(PARTS_MAX * b->slots_max * sizeof *b->rows);
    b->firing = malloc(b->slots_max * sizeof *b->firing);
    b->x = malloc(COLS_MAX * sizeof *b->x);
    b->y = calloc(65536, sizeof *b->y);
    b->gate = calloc(65536, sizeof *b->gate);
    b->levels = aligned_alloc(64, flin_levels_bytes(COLS_MAX));
    b->scratch = aligned_alloc(64, FLIN_POOL_THREADS_MAX * b->scratch_bytes);
    if (!b->buffer || !b->order || !b->rows || !b->firing || !b->x || !b->y || !b->gate ||
        !b->levels || !b->scratch)
        return -1;

    /* halves between 0.5 and 2 of either sign; pairs of them are ordinary floats too, and so are scales of blocks */
    for (uint64_t i = 0; i < MIB / 2; i++)
        ((uint16_t *)(void *)b->buffer)[i] = (uint16_t)(0x3800u | (next_random() & 0x87ffu));
    for (uint64_t at = MIB; at < buffer_bytes; at += MIB) memcpy(b->buffer + at, b->buffer, MIB);
    for (uint32_t i = 0; i < COLS_MAX; i++) b->x[i] = (float)(next_random() % 2001) / 1e6f - 1e-3f;
    return 0;
}
