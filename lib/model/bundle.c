/*
 * bundle.c - see bundle.h.
 */
#include "model/bundle.h"

#include <string.h>

flin_extent flin_extent_of(const flin_bundle *bundle, const flin_bundles *bundles, uint32_t layer,
                           uint32_t without, uint32_t alignment)
{
    flin_extent extent = {bundles,  layer, bundle->stride_bytes, 0, bundle->payload_bytes,
                          alignment};
    const flin_part *part;

    if (without == FLIN_PART_ROLES) return extent;
    part = flin_bundle_part(bundle, without);
    if (part->offset_bytes == 0)
        extent.skip_bytes = part->bytes;
    else if (part->offset_bytes + part->bytes != bundle->payload_bytes)
        return extent; /* between others: fetched with them */
    extent.bytes -= part->bytes;
    return extent;
}

uint32_t flin_extent_slot_bytes(const flin_extent *extent, uint32_t neurons)
{
    uint64_t alignment = extent->alignment, most = 0;

    for (uint32_t neuron = 0; neuron < neurons; neuron++) {
        uint64_t begin = flin_extent_begin(extent, neuron);
        uint64_t bytes =
            flin_round_up(begin + extent->bytes, alignment) - flin_round_down(begin, alignment);
        if (bytes > most) most = bytes;
    }
    return (uint32_t)flin_round_up(most, 64);
}

int flin_bundles_check(const flin_bundles *bundles, uint32_t layer, uint32_t neurons,
                       uint32_t *seen, flashinfer_error *error)
{
    const uint32_t *order = bundles->order;

    if (order == NULL) return 0;
    memset(seen, 0, neurons * sizeof *seen);
    for (uint32_t i = 0; i < neurons; i++) {
        if (order[i] < neurons && seen[order[i]]++ == 0) continue;
        return flin_fail_at(error, FLASHINFER_EFORMAT, (int)layer, i, -1,
                            "blk.%u.ffn_bundle.rows gives neuron %u row %u, which is %s: pack "
                            "the model again",
                            layer, i, order[i],
                            order[i] < neurons ? "taken" : "outside the tensor");
    }
    return 0;
}
