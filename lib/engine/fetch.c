/*
 * fetch.c - see fetch.h. Neurons are computed in neuron order always, so where bundles lie moves no
 * bit of the result.
 */
#include "engine/fetch.h"

#include "util/clock.h"
#include "util/hash.h"

void flin_fetch_layout(flin_fetcher *fetcher, flin_arena *arena, const flin_batch_limits *limits)
{
    fetcher->fetches = FLIN_TAKE(arena, flin_fetch, fetcher->fetches_max);
    fetcher->landed = FLIN_TAKE(arena, uint32_t, fetcher->fetches_max);
    if (fetcher->bundle->ordered) {
        fetcher->wanted = FLIN_TAKE(arena, uint64_t, (fetcher->neurons + 63) / 64);
        fetcher->at_place = FLIN_TAKE(arena, uint32_t, fetcher->neurons);
        fetcher->at_list = FLIN_TAKE(arena, uint32_t, fetcher->neurons);
    }
    fetcher->batch = flin_batch_layout(arena, fetcher->storage, limits);
}

void flin_fetch_sort(flin_fetcher *fetcher, const flin_bundles *bundles, const uint32_t *ids,
                     uint32_t *list, uint32_t count)
{
    uint32_t words = (fetcher->neurons + 63) / 64, next = 0;

    if (bundles->order == NULL) return; /* ascending neurons are ascending bundles */
    for (uint32_t i = 0; i < count; i++) {
        uint32_t place = bundles->order[ids[list[i]]];
        fetcher->wanted[place / 64] |= (uint64_t)1 << place % 64;
        fetcher->at_place[place] = list[i];
    }
    for (uint32_t word = 0; word < words; word++) {
        for (uint64_t bits = fetcher->wanted[word]; bits != 0; bits &= bits - 1)
            list[next++] = fetcher->at_place[word * 64 + (uint32_t)__builtin_ctzll(bits)];
        fetcher->wanted[word] = 0;
    }
}

uint8_t *flin_fetch_put(flin_fetcher *fetcher, uint32_t index, const flin_extent *extent,
                        uint32_t neuron, uint8_t *to)
{
    uint64_t begin = flin_extent_begin(extent, neuron), alignment = extent->alignment;
    flin_fetch *fetch = &fetcher->fetches[index];

    fetch->offset = flin_round_down(begin, alignment);
    fetch->bytes = (uint32_t)(flin_round_up(begin + extent->bytes, alignment) - fetch->offset);
    fetch->data = to;
    return to + (begin - fetch->offset);
}

int flin_fetch_collect(flin_fetcher *fetcher, uint32_t *landed, uint32_t *failed,
                       flashinfer_error *error)
{
    uint64_t started_ns = flin_now_ns();
    int code = flin_batch_collect(fetcher->batch, 1, fetcher->landed, fetcher->fetches_max, landed,
                                  failed, error);

    fetcher->wait_ns += flin_now_ns() - started_ns;
    return code;
}

int flin_fetch_begin(flin_fetcher *fetcher, uint32_t count, flashinfer_error *error)
{
    uint64_t started_ns = flin_now_ns();
    int code = flin_batch_begin(fetcher->batch, fetcher->fetches, count, error);

    fetcher->wait_ns += flin_now_ns() - started_ns;
    return code;
}

int flin_fetch_intact(const flin_fetcher *fetcher, const flin_extent *extent, uint32_t neuron,
                      const uint8_t *payload)
{
    const flin_bundle *bundle = fetcher->bundle;
    const uint64_t *sums =
        extent->bundles->sums +
        (uint64_t)flin_bundles_index(extent->bundles, neuron) * bundle->part_count;
    uint32_t end = extent->skip_bytes + extent->bytes;

    for (uint32_t i = 0; i < bundle->part_count; i++) {
        const flin_part *part = &bundle->parts[i];
        if (part->offset_bytes < extent->skip_bytes || part->offset_bytes >= end) continue;
        if (flin_hash(payload + part->offset_bytes - extent->skip_bytes, part->bytes) != sums[i])
            return 0;
    }
    return 1;
}

static int damaged(const flin_extent *extent, uint32_t neuron, flashinfer_error *error)
{
    uint64_t begin = flin_extent_begin(extent, neuron);

    return flin_fail_at(
        error, FLASHINFER_ECORRUPT, (int)extent->layer, neuron, (int64_t)begin,
        "layer %u neuron %u at byte %llu does not match its checksum: the file or drive is damaged",
        extent->layer, neuron, (unsigned long long)begin);
}

int flin_fetch_again(flin_fetcher *fetcher, const flin_extent *extent, uint32_t neuron,
                     uint8_t *payload, flashinfer_error *error)
{
    int code;

    fetcher->again++;
    code = flin_storage_read(fetcher->storage, flin_extent_begin(extent, neuron), payload,
                             extent->bytes, "a bundle", error);
    if (code != 0) return flin_fetch_lost(extent, neuron, code, error);
    if (flin_fetch_intact(fetcher, extent, neuron, payload)) return 0;
    return damaged(extent, neuron, error);
}

int flin_fetch_lost(const flin_extent *extent, uint32_t neuron, int code, flashinfer_error *error)
{
    if (error != NULL && error->size >= sizeof *error) {
        error->layer = (int32_t)extent->layer;
        error->neuron = neuron;
        error->offset = (int64_t)flin_extent_begin(extent, neuron);
    }
    return code;
}

/* ------------------------------------------------------------------------------ parts as floats */

/* Neurons whose bundles lie one after the other. */
static uint32_t run_of(const flin_extent *extent, uint32_t first, uint32_t count, uint32_t most)
{
    uint32_t place = flin_bundles_index(extent->bundles, first), run = 1;

    while (run < most && run < count &&
           flin_bundles_index(extent->bundles, first + run) == place + run)
        run++;
    return run;
}

int flin_fetch_part(flin_fetcher *fetcher, const flin_kernels *kernels, const flin_extent *extent,
                    const flin_part *part, uint32_t first, uint32_t count, uint32_t width,
                    uint8_t *buffer, uint32_t buffer_bytes, float *to, flashinfer_error *error)
{
    uint32_t most = buffer_bytes / extent->stride_bytes, run;
    int code = 0;

    for (uint32_t done = 0; done < count && code == 0; done += run) {
        run = run_of(extent, first + done, count - done, most);
        code = flin_storage_read(fetcher->storage, flin_extent_begin(extent, first + done), buffer,
                                 (uint64_t)(run - 1) * extent->stride_bytes + extent->bytes,
                                 "a bundle", error);
        for (uint32_t i = 0; i < run && code == 0; i++) {
            uint8_t *payload = buffer + (uint64_t)i * extent->stride_bytes;
            uint32_t neuron = first + done + i;
            if (fetcher->verify && !flin_fetch_intact(fetcher, extent, neuron, payload))
                code = flin_fetch_again(fetcher, extent, neuron, payload, error);
            kernels->to_float[part->type](payload + part->offset_bytes, width,
                                          to + (uint64_t)(done + i) * width);
        }
    }
    return code;
}
