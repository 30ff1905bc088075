/*
 * random_blocks.h - rows of any type for tests: quantised ones of random bytes with scales that are ordinary numbers.
 */
#ifndef FLIN_TEST_RANDOM_BLOCKS_H
#define FLIN_TEST_RANDOM_BLOCKS_H

#include "kernels/quants.h"

typedef uint32_t random_below_of(uint32_t n);

/* Where a block's float16 scale is, and what is taken off; UINT32_MAX: nowhere. */
static void block_halves(enum flin_type type, uint32_t at[2])
{
    at[0] = type == FLIN_Q2_K    ? (uint32_t)FLIN_Q2_K_SCALE
            : type == FLIN_Q3_K  ? (uint32_t)FLIN_Q3_K_SCALE
            : type == FLIN_Q6_K  ? (uint32_t)FLIN_Q6_K_SCALE
            : type == FLIN_MXFP4 ? UINT32_MAX
                                 : 0;
    at[1] = type == FLIN_Q2_K                                  ? (uint32_t)FLIN_Q2_K_LESS
            : type > FLIN_Q4_0_APART && flin_quants_less(type) ? (uint32_t)FLIN_Q4_K_LESS
                                                               : UINT32_MAX;
}

/* A scale between -1 and 1, now and then 0 or a denormal. */
static void put_random_half(uint8_t *to, random_below_of *below)
{
    const uint32_t kind = below(16);
    uint16_t half = (uint16_t)(below(0x3c00) | below(2) << 15);

    if (kind == 0) half = (uint16_t)(below(2) << 15);
    if (kind == 1) half = (uint16_t)(below(0x400) | below(2) << 15);
    memcpy(to, &half, sizeof half);
}

static void fill_random_blocks(uint8_t *row, uint32_t cols, enum flin_type type,
                               random_below_of *below)
{
    const flin_type_facts *facts = &flin_types[type];
    uint32_t halves[2];

    block_halves(type, halves);
    for (uint32_t c = 0; c < cols; c += facts->elements, row += facts->bytes) {
        for (uint32_t i = 0; i < facts->bytes; i++) row[i] = (uint8_t)below(256);
        for (uint32_t i = 0; i < 2; i++)
            if (halves[i] != UINT32_MAX) put_random_half(row + halves[i], below);
        if (type == FLIN_MXFP4) *row = (uint8_t)(below(16) == 0 ? below(3) : 100 + below(30));
    }
}

#endif
