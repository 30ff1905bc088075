/*
 * neurons.c - see neurons.h.
 */
#include "engine/neurons.h"

#include <stdatomic.h>

#include "util/clock.h"

#define GROUP 64u /* neurons handed to a kernel at once, for each row */
#define GROUP_MAX (GROUP * FLIN_INPUTS_MAX)
#define GROUP_MIN 4u
#define SUM_GROUP 2048u  /* neurons that all rows add before the next ones */
#define COLUMN_GRAIN 64u /* columns: what kernels ask of a split */
#define PARALLEL_MIN 8u  /* lists shorter than this are not worth waking threads for */

typedef struct activate_task {
    const flin_kernels *kernels;
    const flin_neurons *neurons;
    const flin_asking_rows *rows; /* NULL: only verify */
    const uint32_t *list;
    uint32_t count;
    uint32_t group; /* neurons a thread takes at once */
    const flin_fetcher *checker;
    flin_beside *beside;
    uint64_t told_ns;              /* telling the cache took so long */
    _Atomic uint32_t next;         /* of list, not taken by any thread yet */
    _Atomic uint64_t exhausted_ns; /* when a thread first found nothing to take; 0: none has */
    uint64_t handed_over_ns;       /* when all reads the queue took at first were in it */
} activate_task;

int flin_neurons_need_no_bytes(const flin_neurons *neurons, const flin_asking_rows *rows)
{
    return rows->sums != NULL && !neurons->ffn->gated;
}

/* ------------------------------------------------------------------------------------ one group */

/* Some neurons of the list in one row, on their way from sums to values. */
typedef struct group {
    uint32_t count;
    uint32_t index[GROUP_MAX]; /* in the list's arrays */
    float sums[GROUP_MAX];
} group;

/* out = dot products of one part of the group's bundles with x, bias included. */
static void multiply(const activate_task *task, const group *at, uint32_t role, const float *bias,
                     const void *x, float *out)
{
    const flin_neurons *neurons = task->neurons;
    const flin_part *part = flin_bundle_part(neurons->bundle, role);
    const uint32_t offset = part->offset_bytes - neurons->extent->skip_bytes;
    const void *rows[GROUP_MAX];

    for (uint32_t i = 0; i < at->count; i++) rows[i] = neurons->payloads[at->index[i]] + offset;
    task->kernels->dot_rows[part->type](rows, at->count, neurons->width, x, out);
    for (uint32_t i = 0; bias != NULL && i < at->count; i++)
        out[i] += bias[neurons->ids[at->index[i]]];
}

/* The list's neurons that the row named. The others do not fire in it. */
static void choose(const activate_task *task, uint32_t row, const uint32_t *list, uint32_t count,
                   group *at)
{
    const flin_neurons *neurons = task->neurons;
    const flin_asking_rows *rows = task->rows;
    const uint64_t *mask = rows->masks != NULL ? rows->masks + (uint64_t)row * rows->words : NULL;
    uint8_t *fires = neurons->fires + row * neurons->step;

    at->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        fires[list[i]] = 0;
        if (mask == NULL || flin_mask_has(mask, neurons->ids[list[i]]))
            at->index[at->count++] = list[i];
    }
}

static void decide(const activate_task *task, uint32_t row, group *at)
{
    const flin_neurons *neurons = task->neurons;
    const flin_asking_rows *rows = task->rows;
    const flin_ffn_layer *ffn = neurons->ffn;

    if (rows->sums == NULL) {
        multiply(task, at, ffn->gated ? FLIN_PART_GATE : FLIN_PART_UP, flin_ffn_decider_bias(ffn),
                 rows->x[row], at->sums);
        return;
    }
    for (uint32_t i = 0; i < at->count; i++)
        at->sums[i] = rows->sums[(uint64_t)row * rows->neurons + neurons->ids[at->index[i]]];
}

/* Only neurons whose gate opens are multiplied with up. */
static void keep_open(const flin_ffn_layer *ffn, group *at)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < at->count; i++) {
        at->index[kept] = at->index[i];
        at->sums[kept] = at->sums[i];
        kept += flin_activation_fires(&ffn->activation, at->sums[i]) != 0;
    }
    at->count = kept;
}

static void activate_row(const activate_task *task, uint32_t row, const uint32_t *list,
                         uint32_t count)
{
    const flin_neurons *neurons = task->neurons;
    const flin_ffn_layer *ffn = neurons->ffn;
    float *values = neurons->values + row * neurons->step, ups[GROUP_MAX], out[GROUP_MAX];
    uint8_t *fires = neurons->fires + row * neurons->step, fired[GROUP_MAX];
    group at;

    choose(task, row, list, count, &at);
    decide(task, row, &at);
    if (ffn->gated) {
        keep_open(ffn, &at);
        multiply(task, &at, FLIN_PART_UP, ffn->up_bias, task->rows->x[row], ups);
    }
    flin_activate(&ffn->activation, task->kernels, at.sums, ffn->gated ? ups : NULL, at.count, out,
                  fired);
    for (uint32_t i = 0; i < at.count; i++) {
        values[at.index[i]] = out[i];
        fires[at.index[i]] = fired[i];
    }
}

/* Row after row, so that all but the first find the weights in a core's cache. */
static void run_group(const activate_task *task, uint32_t at, uint32_t count)
{
    const flin_neurons *neurons = task->neurons;

    for (uint32_t i = at; task->checker != NULL && i < at + count; i++) {
        uint32_t index = task->list[i];
        neurons->damaged[index] = (uint8_t)!flin_fetch_intact(
            task->checker, neurons->extent, neurons->ids[index], neurons->payloads[index]);
    }
    for (uint32_t row = 0; task->rows != NULL && row < task->rows->count; row++)
        activate_row(task, row, task->list + at, count);
}

/* ----------------------------------------------------------------------------------- all groups */

static void tell_cache(activate_task *task)
{
    uint64_t started_ns = flin_now_ns();

    flin_cache_use(task->beside->cache, task->neurons->extent->layer, task->neurons->ids,
                   task->beside->used);
    task->told_ns = flin_now_ns() - started_ns;
}

/* Threads take groups as they come: one of them may be busy with reads, or with the cache. */
static void run_activate(void *context, uint32_t index, uint32_t count)
{
    activate_task *task = context;
    const flin_beside *beside = task->beside;
    flin_batch *reads = index == 0 && beside != NULL ? beside->reads : NULL;
    uint64_t none = 0;
    uint32_t at;

    (void)count;
    if (index == 0 && beside != NULL && beside->cache != NULL) tell_cache(task);
    if (reads != NULL) {
        flin_batch_push(reads);
        task->handed_over_ns = flin_now_ns();
    }
    while ((at = atomic_fetch_add(&task->next, task->group)) < task->count) {
        run_group(task, at, task->count - at < task->group ? task->count - at : task->group);
        if (reads != NULL) flin_batch_push(reads);
    }
    if (beside != NULL && beside->reads != NULL)
        (void)atomic_compare_exchange_strong(&task->exhausted_ns, &none, flin_now_ns());
}

/* A lone thread computes nothing while it hands over or tells; several do until nothing is left. */
static uint64_t idle_ns(const activate_task *task, int alone, uint64_t started_ns)
{
    uint64_t beside_ns = alone ? started_ns : atomic_load(&task->exhausted_ns);

    if (task->beside->reads == NULL) return alone ? task->told_ns : 0;
    return task->handed_over_ns > beside_ns ? task->handed_over_ns - beside_ns : 0;
}

uint32_t flin_neurons_activate(flin_compute *compute, const flin_neurons *neurons,
                               const flin_asking_rows *rows, const uint32_t *list, uint32_t count,
                               const flin_fetcher *checker, flin_beside *beside)
{
    activate_task task = {.kernels = compute->kernels,
                          .neurons = neurons,
                          .rows = rows,
                          .list = list,
                          .count = count,
                          .checker = checker,
                          .beside = beside};
    uint32_t threads = count < PARALLEL_MIN ? 1 : compute->pool.count, damaged = 0;
    uint32_t most = GROUP * (rows != NULL ? rows->count : 1); /* rows seldom name the same ones */
    uint64_t started_ns = beside != NULL ? flin_now_ns() : 0;

    task.group = count / (threads * 2);
    if (task.group < GROUP_MIN) task.group = GROUP_MIN;
    if (task.group > most) task.group = most;
    if (threads <= 1)
        run_activate(&task, 0, 1);
    else
        flin_pool_run(&compute->pool, run_activate, &task);
    for (uint32_t i = 0; checker != NULL && i < count; i++) damaged += neurons->damaged[list[i]];
    if (beside != NULL) beside->idle_ns = idle_ns(&task, threads <= 1, started_ns);
    return damaged;
}

int flin_neurons_check(flin_compute *compute, flin_fetcher *fetcher, flin_stream *stream,
                       const flin_chunk *chunk, flashinfer_error *error)
{
    const flin_neurons neurons = {.bundle = fetcher->bundle,
                                  .extent = chunk->extent,
                                  .ids = chunk->ids,
                                  .payloads = chunk->payloads,
                                  .damaged = stream->damaged};

    if (!fetcher->verify || flin_neurons_activate(compute, &neurons, NULL, stream->all,
                                                  chunk->count, fetcher, NULL) == 0)
        return 0;
    return flin_stream_mend(stream, fetcher, chunk, error);
}

/* ----------------------------------------------------------------------------------------- sums */

typedef struct sum_task {
    const flin_kernels *kernels;
    const flin_neurons *neurons;
    const flin_sum_lists *lists; /* one row: what fires */
    uint32_t rows;
    uint32_t count;  /* of neurons; one row: of the lists */
    uint32_t offset; /* of down in a payload */
    enum flin_type type;
    float *y;
} sum_task;

static void run_sum(void *context, uint32_t index, uint32_t count)
{
    const sum_task *task = context;
    uint32_t begin, end;

    flin_pool_share(task->neurons->width, COLUMN_GRAIN, index, count, &begin, &end);
    if (begin == end) return;
    task->kernels->add_rows[task->type](task->lists->rows, task->lists->values, task->count, begin,
                                        end, task->y);
}

/* A few neurons in one row. */
static void add_group(const sum_task *task, uint32_t row, uint32_t first, uint32_t count,
                      uint32_t begin, uint32_t end)
{
    const flin_neurons *neurons = task->neurons;
    const uint8_t *fires = neurons->fires + row * neurons->step;
    const float *values = neurons->values + row * neurons->step;
    const void *columns[SUM_GROUP];
    float factors[SUM_GROUP];
    uint32_t firing = 0;

    for (uint32_t i = first; i < first + count; i++) {
        columns[firing] = neurons->payloads[i] + task->offset;
        factors[firing] = values[i];
        firing += fires[i];
    }
    if (firing != 0)
        task->kernels->add_rows[task->type](columns, factors, firing, begin, end,
                                            task->y + (uint64_t)row * neurons->width);
}

/* A few neurons for all rows, then the next few: columns that several rows add are loaded once. */
static void run_sums(void *context, uint32_t index, uint32_t count)
{
    const sum_task *task = context;
    uint32_t begin, end;

    flin_pool_share(task->neurons->width, COLUMN_GRAIN, index, count, &begin, &end);
    for (uint32_t first = 0; begin != end && first < task->count; first += SUM_GROUP)
        for (uint32_t row = 0; row < task->rows; row++)
            add_group(task, row, first,
                      task->count - first < SUM_GROUP ? task->count - first : SUM_GROUP, begin,
                      end);
}

static uint32_t sum_one(flin_compute *compute, sum_task *task, uint32_t count)
{
    const flin_neurons *neurons = task->neurons;
    const flin_sum_lists *lists = task->lists;

    /* no branch: it would be guessed wrong every third time */
    for (uint32_t i = 0; i < count; i++) {
        lists->values[task->count] = neurons->values[i];
        lists->rows[task->count] = neurons->payloads[i] + task->offset;
        task->count += neurons->fires[i];
    }
    if (task->count == 0) return 0;
    if (task->count < PARALLEL_MIN)
        run_sum(task, 0, 1);
    else
        flin_pool_run(&compute->pool, run_sum, task);
    return task->count;
}

uint32_t flin_neurons_sum(flin_compute *compute, const flin_neurons *neurons, uint32_t rows,
                          uint32_t count, const flin_sum_lists *lists, float *y)
{
    const flin_part *down = flin_bundle_part(neurons->bundle, FLIN_PART_DOWN);
    sum_task task = {
        compute->kernels, neurons, lists, rows, 0, down->offset_bytes - neurons->extent->skip_bytes,
        down->type,       y};
    uint32_t fired = 0;

    if (rows == 1) return sum_one(compute, &task, count);
    task.count = count;
    flin_pool_run(&compute->pool, run_sums, &task);
    for (uint32_t row = 0; row < rows; row++)
        for (uint32_t i = 0; i < count; i++) fired += neurons->fires[row * neurons->step + i];
    return fired;
}
